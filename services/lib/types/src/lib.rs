//! The words every crate shares: identifiers, regions, time, error codes, the caller of a request,
//! and the seams (`Ctx`) through which time, randomness and injected faults come in.
//!
//! No I/O beyond asking the operating system for time and randomness, and that only in
//! [`ctx::SystemClock`] and [`ctx::SystemRng`].

pub mod caller;
pub mod codes;
pub mod ctx;
pub mod error;
pub mod ids;
pub mod item;
pub mod phi;
pub mod region;
pub mod time;

pub use caller::{Actor, AuditScope, Role};
pub use codes::{Class, Code};
pub use ctx::{Clock, Ctx, Faults, Rng, SystemClock, SystemRng, When};
pub use error::{Error, Result};
pub use ids::*;
pub use item::{Idempotency, ItemHeader, KINDS, Visibility};
pub use phi::Phi;
pub use region::RegionId;
pub use time::Timestamp;
