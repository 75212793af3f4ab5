//! Every query there is, one file per resource. How a query is written stands in the crate's documentation.

pub mod access;
pub mod audit;
pub mod consent;
pub mod identity;
pub mod item;
pub mod keys;
pub mod lease;
pub mod object;
pub mod replica;
pub mod residency;
pub mod scoped;
pub mod session;
pub mod staging;
pub mod statement;
pub mod throttle;
pub mod transfer;
