//! Regions, coordinators, clients and operators in simulated time over a simulated network, standing on a
//! [`TransferStore`](domicile_transfer_protocol::TransferStore) in memory; and the suite that holds this
//! store to those on SQL.

pub mod conformance;
pub mod memory;
mod sim;

pub use sim::{Outcome, simulate};
