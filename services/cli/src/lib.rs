//! The command line of clients, practitioners, operators, compliance staff and scripts, and the
//! client helpers it stands on. It talks to regions over gRPC and to files; it holds no key and no
//! database.

pub mod app;
pub mod client;
pub mod commands;
pub mod failure;
pub mod files;
pub mod json;
pub mod output;
pub mod page;
pub mod place;
pub mod progress;
pub mod secrets;
pub mod sessions;
pub mod text;
pub mod upload;
pub mod when;

pub use app::{App, Global};
pub use client::Client;
pub use commands::Command;
pub use failure::{EXIT_CODES, Failure, Result};
pub use output::Output;
