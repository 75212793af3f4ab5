//! The Merkle tree of RFC 6962 §2 over hashes that somebody else stores.
//!
//! Stored are the roots of complete subtrees only: node `(level, index)` covers the leaves
//! `index << level` to `(index + 1) << level`. A proof is made in two strokes, so that the caller may
//! fetch as it likes: a plan lists the nodes it needs, then combines their hashes.

use aws_lc_rs::digest;

use crate::invalid::Invalid;

const WHAT: &str = "tree";
const PROOF: &str = "proof";

/// A SHA-256 hash.
pub type Hash = [u8; 32];

/// The root of the empty tree: SHA-256 of nothing.
#[must_use]
pub fn empty_root() -> Hash {
    crate::sha256(&[])
}

/// The hash of a leaf: SHA-256(0x00 ‖ entry).
#[must_use]
pub fn leaf_hash(entry: &[u8]) -> Hash {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(&[0]);
    context.update(entry);
    finish(context)
}

/// The hash of an inner node: SHA-256(0x01 ‖ left ‖ right).
#[must_use]
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(&[1]);
    context.update(left);
    context.update(right);
    finish(context)
}

fn finish(context: digest::Context) -> Hash {
    let mut out = [0; 32];
    out.copy_from_slice(context.finish().as_ref());
    out
}

/// The place of a complete subtree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Coordinate {
    /// Its height: it covers 2^level leaves; at most 63.
    pub level: u8,
    /// Its number from the left at this level.
    pub index: u64,
}

/// A complete subtree with its hash, to be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Node {
    /// Where.
    pub at: Coordinate,
    /// Its root.
    pub hash: Hash,
}

/// The right edge of a tree: the complete subtrees it falls into, largest first. Enough to append and
/// to tell the root.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frontier {
    size: u64,
    hashes: Vec<Hash>,
}

impl Frontier {
    /// The empty tree's.
    #[must_use]
    pub const fn new() -> Self {
        Self { size: 0, hashes: Vec::new() }
    }

    /// Which nodes to load for a tree of this size, in order.
    #[must_use]
    pub fn coordinates(size: u64) -> Vec<Coordinate> {
        complete(0, size)
    }

    /// The frontier of a tree of this size from its nodes, in the order of
    /// [`Frontier::coordinates`].
    ///
    /// # Errors
    /// When the number of hashes is not the size's.
    pub fn load(size: u64, hashes: Vec<Hash>) -> Result<Self, Invalid> {
        let expected = usize::try_from(size.count_ones()).ok();
        if expected == Some(hashes.len()) {
            Ok(Self { size, hashes })
        } else {
            Err(Invalid::form(WHAT, "the stored nodes are not the size's"))
        }
    }

    /// How many leaves.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// The root.
    #[must_use]
    pub fn root(&self) -> Hash {
        fold(&self.hashes).unwrap_or_else(empty_root)
    }

    /// Appends a leaf and returns the nodes that became complete, the leaf's own first.
    ///
    /// # Errors
    /// When the tree has 2^63 leaves.
    pub fn append(&mut self, leaf: Hash) -> Result<Vec<Node>, Invalid> {
        if self.size >= 1 << 63 {
            return Err(Invalid::new(WHAT, crate::Fault::TooLarge));
        }
        let mut node = Node { at: Coordinate { level: 0, index: self.size }, hash: leaf };
        let mut nodes = vec![node];
        while node.at.index & 1 == 1 {
            let Some(left) = self.hashes.pop() else {
                return Err(Invalid::form(WHAT, "the frontier is damaged"));
            };
            let at = Coordinate { level: node.at.level + 1, index: node.at.index >> 1 };
            node = Node { at, hash: node_hash(&left, &node.hash) };
            nodes.push(node);
        }
        self.hashes.push(node.hash);
        self.size += 1;
        Ok(nodes)
    }
}

/// The root over subtrees of falling size: the last two are joined first.
fn fold(hashes: &[Hash]) -> Option<Hash> {
    hashes.iter().rev().copied().reduce(|right, left| node_hash(&left, &right))
}

/// The complete subtrees that make up the leaves `from..to`, where `from` is a multiple of the
/// largest power of two that is at least `to - from`: every range a proof asks for is.
fn complete(from: u64, to: u64) -> Vec<Coordinate> {
    let mut coordinates = Vec::new();
    let mut at = from;
    while at < to {
        let level = (to - at).ilog2();
        // A `u64` has 64 bits: the level fits.
        let Ok(small) = u8::try_from(level) else { break };
        coordinates.push(Coordinate { level: small, index: at >> level });
        at += 1 << level;
    }
    coordinates
}

/// How to make a proof: the nodes it needs, grouped by the hash they combine to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProofPlan(Vec<Vec<Coordinate>>);

impl ProofPlan {
    /// A plan to prove that leaf `index` is in the tree of `size` leaves (RFC 6962 §2.1.1).
    ///
    /// # Errors
    /// When there is no such leaf.
    pub fn inclusion(index: u64, size: u64) -> Result<Self, Invalid> {
        if index >= size || size > 1 << 63 {
            return Err(Invalid::form(PROOF, "no such leaf in a tree of this size"));
        }
        let (mut from, mut to) = (0, size);
        let mut ranges = Vec::new();
        while to - from > 1 {
            let middle = from + split(to - from);
            if index < middle {
                ranges.push((middle, to));
                to = middle;
            } else {
                ranges.push((from, middle));
                from = middle;
            }
        }
        ranges.reverse();
        Ok(Self::of(&ranges))
    }

    /// A plan to prove that the tree of `size` leaves begins with the tree of `old` (RFC 6962 §2.1.2).
    ///
    /// # Errors
    /// When `old` is 0 or greater than `size`.
    pub fn consistency(old: u64, size: u64) -> Result<Self, Invalid> {
        if old == 0 || old > size || size > 1 << 63 {
            return Err(Invalid::form(PROOF, "no such pair of sizes"));
        }
        let (mut from, mut to) = (0, size);
        let mut ranges = Vec::new();
        while old != to {
            let middle = from + split(to - from);
            if old <= middle {
                ranges.push((middle, to));
                to = middle;
            } else {
                ranges.push((from, middle));
                from = middle;
            }
        }
        if from > 0 {
            ranges.push((from, to));
        }
        ranges.reverse();
        Ok(Self::of(&ranges))
    }

    fn of(ranges: &[(u64, u64)]) -> Self {
        Self(ranges.iter().map(|(from, to)| complete(*from, *to)).collect())
    }

    /// Every node needed, in the order [`ProofPlan::combine`] takes their hashes.
    #[must_use]
    pub fn coordinates(&self) -> Vec<Coordinate> {
        self.0.iter().flatten().copied().collect()
    }

    /// The proof from the nodes' hashes.
    ///
    /// # Errors
    /// When the number of hashes is not the plan's.
    pub fn combine(&self, hashes: &[Hash]) -> Result<Vec<Hash>, Invalid> {
        let mut rest = hashes;
        let mut proof = Vec::with_capacity(self.0.len());
        for group in &self.0 {
            let (taken, left) =
                rest.split_at_checked(group.len()).ok_or(Invalid::form(PROOF, "nodes are missing"))?;
            proof.push(fold(taken).ok_or(Invalid::form(PROOF, "nodes are missing"))?);
            rest = left;
        }
        if rest.is_empty() { Ok(proof) } else { Err(Invalid::form(PROOF, "nodes are left over")) }
    }
}

/// The largest power of two below `size`, which is at least 2.
fn split(size: u64) -> u64 {
    1 << size.saturating_sub(1).max(1).ilog2()
}

/// Checks that `leaf` is number `index` of the tree of `size` leaves with this root (RFC 9162
/// §2.1.3.2).
///
/// # Errors
/// When the proof does not lead to the root.
pub fn verify_inclusion(
    leaf: &Hash,
    index: u64,
    size: u64,
    proof: &[Hash],
    root: &Hash,
) -> Result<(), Invalid> {
    let wrong = Invalid::form(PROOF, "does not lead to the root");
    if index >= size {
        return Err(wrong);
    }
    let (mut node, mut last, mut hash) = (index, size - 1, *leaf);
    for sibling in proof {
        if last == 0 {
            return Err(wrong);
        }
        if node & 1 == 1 || node == last {
            hash = node_hash(sibling, &hash);
            while node & 1 == 0 && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            hash = node_hash(&hash, sibling);
        }
        node >>= 1;
        last >>= 1;
    }
    if last == 0 && hash == *root { Ok(()) } else { Err(wrong) }
}

/// Checks that the tree of `size` leaves with root `root` begins with the tree of `old` leaves with
/// root `old_root` (RFC 9162 §2.1.4.2).
///
/// # Errors
/// When the proof does not lead to both roots.
pub fn verify_consistency(
    old: u64,
    old_root: &Hash,
    size: u64,
    root: &Hash,
    proof: &[Hash],
) -> Result<(), Invalid> {
    let wrong = Invalid::form(PROOF, "does not lead to both roots");
    let settled = |good: bool| if good { Ok(()) } else { Err(wrong) };
    if old > size {
        return Err(wrong);
    }
    if old == size {
        return settled(proof.is_empty() && old_root == root);
    }
    if old == 0 {
        return settled(proof.is_empty() && *old_root == empty_root());
    }
    let (first, rest) = if old.is_power_of_two() {
        (*old_root, proof)
    } else {
        let (first, rest) = proof.split_first().ok_or(wrong)?;
        (*first, rest)
    };
    let (mut node, mut last) = (old - 1, size - 1);
    while node & 1 == 1 {
        node >>= 1;
        last >>= 1;
    }
    let (mut before, mut after) = (first, first);
    for sibling in rest {
        if last == 0 {
            return Err(wrong);
        }
        if node & 1 == 1 || node == last {
            before = node_hash(sibling, &before);
            after = node_hash(sibling, &after);
            while node & 1 == 0 && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            after = node_hash(&after, sibling);
        }
        node >>= 1;
        last >>= 1;
    }
    settled(last == 0 && before == *old_root && after == *root)
}
