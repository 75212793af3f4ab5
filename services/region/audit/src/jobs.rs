//! Work that nobody asks for.

mod order;
pub mod sequencer;
mod tree;

pub(crate) use tree::inclusion;
