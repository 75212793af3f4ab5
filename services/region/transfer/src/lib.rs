//! Transfers of one region, in both roles, with their consents.
//!
//! [`Transfers`] is the executor of `transfer-protocol`: it gathers facts, lets the pure functions
//! decide inside the store's transactions, and does what cannot be in a transaction (keys, sealing,
//! objects, the other region) before or after it. Every step may be repeated and may be cut off anywhere.

pub mod app;
pub mod arriving;
pub mod grpc;
pub mod jobs;
pub mod ports;

mod convert;

pub use app::{Options, Parts, Transfers};
