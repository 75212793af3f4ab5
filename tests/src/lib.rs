//! The harness of the tests that need more than one crate, and the tests themselves under `tests/`.

pub mod abuse;
pub mod aws;
pub mod canaries;
pub mod clock;
pub mod kill;
pub mod netns;
pub mod people;
pub mod postgres;
pub mod production;
pub mod records;
pub mod region;
pub mod stores;
pub mod world;
