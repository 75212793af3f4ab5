//! Sealing: keys, AES-256-GCM with associated data, objects in chunks, the way between regions,
//! HPKE, signatures, blind indexes, and the traits behind which a key service and a store of wrapped
//! keys stand. No I/O.
//!
//! Everything runs on aws-lc-rs; randomness comes from [`domicile_types::Ctx`] except inside HPKE,
//! whose library takes no seed.

pub mod aad;
pub mod blind;
pub mod hash;
pub mod hpke;
pub mod key;
pub mod object;
pub mod seal;
pub mod service;
pub mod sign;
pub mod travel;
pub mod wrapped;

pub use hash::{Sha256, hmac, sha256};
pub use key::Key32;
pub use seal::{open, seal};
pub use service::{DataKey, KeyContext, KeyInfo, KeyService, Purpose};
pub use sign::SigningKey;
pub use wrapped::{RecordKeyRow, SubjectKeys, SubjectSecret, TransferKey, WrappedKey, WrappedKeys};
pub use zeroize::Zeroizing;
