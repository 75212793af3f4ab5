//! Keys at work: key services on AWS KMS and on a local key file, the keyring that makes, finds and forgets
//! keys, and signing keys in sealed files.
//!
//! A key is committed in the key store before its first use and destroyed after its last; no call to
//! the key service sits inside a database transaction (data-model.md, "Keys").

pub mod aws;
pub mod keyring;
pub mod local;
pub mod measured;
mod private_file;
pub mod signing;

#[cfg(any(test, feature = "testing"))]
pub mod conformance;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

pub use aws::AwsKeys;
pub use domicile_crypto::{SubjectSecret, TransferKey};
pub use keyring::{Keyring, KeysAtRest, RegionKey};
pub use local::LocalKeys;
pub use measured::Measured;
