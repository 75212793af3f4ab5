//! The manifest: one digest a row and one an object, and the Merkle root over them that both regions
//! compute on their own.

use domicile_evidence::merkle;
use domicile_types::{Code, Error, ItemId, ObjectId, Result};

use crate::digest::Digest;

/// One sealed row, as both sides know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RowEntry {
    /// The item.
    pub item: ItemId,
    /// Its version.
    pub version: u32,
    /// The record's revision at this version.
    pub revision: u64,
    /// SHA-256 over its travel ciphertext.
    pub digest: Digest,
}

/// One sealed object, as both sides know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ObjectEntry {
    /// The object.
    pub object: ObjectId,
    /// Sealed chunks.
    pub chunks: u32,
    /// SHA-256 over the chunks' digests and the length.
    pub digest: Digest,
}

/// Everything that must be the same on both sides.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manifest {
    /// Every version of every item.
    pub rows: Vec<RowEntry>,
    /// Every object.
    pub objects: Vec<ObjectEntry>,
}

impl Manifest {
    /// The Merkle root (RFC 6962 hashing) over rows ordered by item and version, then objects ordered
    /// by id; the order in which they were gathered does not matter.
    ///
    /// # Errors
    /// [`Code::Internal`] past 2^63 leaves.
    pub fn root(&mut self) -> Result<Digest> {
        self.rows.sort_unstable();
        self.objects.sort_unstable();
        let leaves = self.rows.iter().map(row_leaf).chain(self.objects.iter().map(object_leaf));
        let mut frontier = merkle::Frontier::new();
        for leaf in leaves {
            frontier.append(leaf).map_err(|cause| Error::new(Code::Internal).because(cause))?;
        }
        Ok(Digest(frontier.root()))
    }
}

fn row_leaf(row: &RowEntry) -> [u8; 32] {
    let mut leaf = Vec::with_capacity(1 + 16 + 4 + 8 + 32);
    leaf.push(b'r');
    leaf.extend_from_slice(row.item.as_bytes());
    leaf.extend_from_slice(&row.version.to_be_bytes());
    leaf.extend_from_slice(&row.revision.to_be_bytes());
    leaf.extend_from_slice(row.digest.as_bytes());
    merkle::leaf_hash(&leaf)
}

fn object_leaf(object: &ObjectEntry) -> [u8; 32] {
    let mut leaf = Vec::with_capacity(1 + 16 + 4 + 32);
    leaf.push(b'o');
    leaf.extend_from_slice(object.object.as_bytes());
    leaf.extend_from_slice(&object.chunks.to_be_bytes());
    leaf.extend_from_slice(object.digest.as_bytes());
    merkle::leaf_hash(&leaf)
}
