//! The way in and out of a process, over real TLS on loopback.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test may fail")]

mod access;
mod audit;
mod certificates;
mod lifetime;
mod limits;
mod services;
mod tls;
mod world;
