//! The move of one record between two regions, as pure functions: what each region's row may become,
//! what it signs, what the coordinator asks for next. No I/O, no clock, no randomness.
//!
//! - [`Source`] and [`Destination`] are the rows of the two regions; their methods take the facts of
//!   one database transaction and answer with a change to commit, or refuse.
//! - [`plan::next`] compares both rows and names the coordinator's next action.
//! - [`TransferStore`] names the operations a region's store offers; SQL and in-memory stores implement it.

pub mod destination;
pub mod digest;
pub mod lanes;
pub mod manifest;
pub mod numbers;
pub mod plan;
pub mod release;
pub mod rows;
pub mod source;
pub mod state;
pub mod store;
pub mod versions;

pub use destination::{Destination, DestinationChange, DestinationFacts};
pub use digest::Digest;
pub use lanes::{Lanes, Received};
pub use numbers::Numbers;
pub use source::{ConsentFacts, ResidencyFacts, Source, SourceChange, SourceFacts};
pub use state::State;
pub use store::TransferStore;
pub use versions::Versions;
