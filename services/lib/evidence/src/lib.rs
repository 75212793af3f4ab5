//! What lets somebody else check the region's word: deterministic encoding, the audit log's entries
//! and Merkle tree, signed notes and checkpoints, statements of a transfer, enrolments, and the
//! verifier that needs files alone.
//!
//! No I/O, public keys only, and no panic on any input: every byte that comes from outside is
//! answered with [`Invalid`].

pub mod bundle;
pub mod cbor;
pub mod checkpoint;
pub mod closing;
pub mod enrolment;
pub mod entry;
pub mod event;
pub mod invalid;
pub mod keys;
pub mod merkle;
pub mod note;
pub mod policy;
pub mod report;
pub mod statement;
pub mod verify;
pub mod writers;

pub use invalid::{Fault, Invalid};

/// SHA-256 of `data` (FIPS 180-4).
#[must_use]
pub fn sha256(data: &[u8]) -> [u8; 32] {
    let mut out = [0_u8; 32];
    out.copy_from_slice(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, data).as_ref());
    out
}
