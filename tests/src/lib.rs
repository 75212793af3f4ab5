//! The harness of the tests that need more than one crate, and the tests themselves under `tests/`.

pub mod postgres;
pub mod stores;
