//! What comes from outside, wrong in every way.
//!
//! [`world`] makes small real values with the product's own code, always the same ones; [`damage`] changes
//! each of their bytes and counts what was answered; [`story`] has every statement of a transfer. [`targets`]
//! are the entry points of the fuzz targets, [`seeds`] what their corpora begin with.

#![expect(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

pub mod damage;
pub mod seeds;
pub mod story;
pub mod targets;
pub mod world;
