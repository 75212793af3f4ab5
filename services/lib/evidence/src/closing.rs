//! A proof that one entry is under one signed checkpoint: what a region shows the other when a
//! transfer closes.

use crate::checkpoint::Checkpoint;
use crate::entry::Entry;
use crate::invalid::Invalid;
use crate::keys::VerifierKey;
use crate::merkle::{Hash, leaf_hash, verify_inclusion};

/// An entry, its place, and the way from it to a signed root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClosingProof {
    /// The signed checkpoint, a note.
    pub checkpoint: String,
    /// The entry's index.
    pub index: u64,
    /// The entry's bytes.
    pub entry: Vec<u8>,
    /// RFC 6962 inclusion proof, leaf to root.
    pub proof: Vec<Hash>,
}

impl ClosingProof {
    /// Checks all of it against the log's pinned key.
    ///
    /// # Errors
    /// When the checkpoint is not the log's, the entry is not under it, or is no entry of that log.
    pub fn verify(&self, log: &VerifierKey) -> Result<(Checkpoint, Entry), Invalid> {
        let checkpoint = Checkpoint::verify(&self.checkpoint, log)?;
        let leaf = leaf_hash(&self.entry);
        verify_inclusion(&leaf, self.index, checkpoint.size, &self.proof, &checkpoint.root)?;
        let entry = Entry::decode(&self.entry)?;
        if entry.origin == checkpoint.origin {
            Ok((checkpoint, entry))
        } else {
            Err(Invalid::form("entry", "another log's"))
        }
    }
}
