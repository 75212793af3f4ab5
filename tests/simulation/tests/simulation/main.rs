//! The store in memory, and the simulation that stands on it.

#![cfg(test)]

mod seeds;
mod store;
