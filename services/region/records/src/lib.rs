//! Clients' records of one region: items, large objects, FHIR bundles, who has access, legal holds.
//!
//! [`Records`] is the service's logic, [`grpc`] puts it behind gRPC. Payloads are sealed before they
//! reach the store; what a reader may see is decided in the store's queries and, on PostgreSQL, again by
//! row-level security.

mod app;
pub mod grpc;
pub mod kinds;
pub mod outside;
mod ports;
mod wire;

pub use app::{Parts, Records, Settings};
pub use ports::TravelReader;
