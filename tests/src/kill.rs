//! The kill matrix: real processes killed at every effect of every step, once, twice and while they
//! recover; after each, the databases and both audit logs are asked for every invariant of a transfer.

pub mod arena;
pub mod cell;
pub mod cluster;
pub mod database;
pub mod failpoints;
pub mod invariants;
pub mod journey;
pub mod matrix;
pub mod points;
pub mod recorded;
pub mod results;
pub mod steering;
pub mod strike;
pub mod takeover;
