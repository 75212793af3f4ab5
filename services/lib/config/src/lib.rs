//! Typed settings, and the regions' policies.
//!
//! A process reads one TOML file and, over it, the environment (`DOMICILE__SECTION__KEY`). Everything
//! is parsed and checked before anything binds or opens: a key nobody knows, a value that does not
//! fit and a value that is missing are refused, each with the key's name and never with its value.

pub mod cloud;
pub mod coordinator;
mod load;
pub mod policy;
pub mod records;
pub mod region;
mod secret;
pub mod shared;
mod spiffe;
pub mod telemetry;
pub mod transfer;
mod units;

pub use coordinator::CoordinatorSettings;
pub use policy::{Policies, RegionPolicy};
pub use records::RecordSettings;
pub use region::RegionSettings;
pub use secret::Secret;
pub use shared::{Environment, Limits, LogSettings, OperatorContact, PeersListener, PeopleListener};
pub use spiffe::SpiffeId;
pub use telemetry::TelemetrySettings;
pub use transfer::TransferSettings;
