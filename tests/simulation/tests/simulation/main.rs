//! The store in memory, and the simulation that stands on it.

#![cfg(test)]
#![expect(clippy::unwrap_used, clippy::panic, reason = "what is not as expected fails the test")]

mod seeds;
mod store;
