//! Large content: sealed in chunks of 1 MiB, each under a nonce of its own and bound to its place.

use domicile_types::{Code, Ctx, Error, ObjectId, PracticeId, RegionId, Result, SubjectId};
use zeroize::Zeroizing;

use crate::seal::{self, OVERHEAD};
use crate::{Key32, aad};

/// Plaintext bytes of every chunk but the last.
pub const CHUNK: usize = 1 << 20;

/// Sealed bytes of every chunk but the last.
pub const SEALED_CHUNK: usize = CHUNK + OVERHEAD;

/// Chunks of an object of this many plaintext bytes; an empty object has one empty chunk.
///
/// # Errors
/// [`Code::TooLarge`] past 2^32 - 1 chunks.
pub fn chunks(length: u64) -> Result<u32> {
    let chunks = length.div_ceil(CHUNK as u64).max(1);
    u32::try_from(chunks).map_err(|_| Error::new(Code::TooLarge).at("object"))
}

/// Sealed bytes of an object of this many plaintext bytes.
///
/// # Errors
/// [`Code::TooLarge`] past 2^32 - 1 chunks.
pub fn sealed_length(length: u64) -> Result<u64> {
    Ok(length + u64::from(chunks(length)?) * OVERHEAD as u64)
}

/// Where the sealed chunk `index` begins in the stored object.
#[must_use]
pub const fn sealed_offset(index: u32) -> u64 {
    index as u64 * SEALED_CHUNK as u64
}

/// What an object's chunks are bound to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectPlace {
    /// The region that holds it.
    pub region: RegionId,
    /// Whose record.
    pub subject: SubjectId,
    /// The practice whose record key seals it; `None` for the client's own.
    pub practice: Option<PracticeId>,
    /// The object.
    pub object: ObjectId,
    /// The record key's version.
    pub key_version: u32,
}

impl ObjectPlace {
    fn aad(&self, index: u32, last: bool) -> Vec<u8> {
        aad::object_chunk(
            &self.region,
            self.subject,
            self.practice,
            self.object,
            self.key_version,
            index,
            last,
        )
    }
}

/// Seals one object, chunk after chunk. Each chunk is one use of the record key.
#[derive(Debug)]
pub struct ObjectSealer {
    key: Key32,
    place: ObjectPlace,
    next: u32,
    finished: bool,
}

impl ObjectSealer {
    /// Begins an object.
    #[must_use]
    pub const fn new(key: Key32, place: ObjectPlace) -> Self {
        Self { key, place, next: 0, finished: false }
    }

    /// Seals the next chunk: exactly [`CHUNK`] bytes, or up to that many for the last.
    ///
    /// # Errors
    /// [`Code::InvalidRequest`] for a chunk of another length or past the last; [`Code::TooLarge`] past
    /// 2^32 - 1 chunks.
    pub fn seal_next(&mut self, ctx: &Ctx, plain: &[u8], last: bool) -> Result<Vec<u8>> {
        let fits = plain.len() == CHUNK || (last && plain.len() < CHUNK);
        if self.finished || !fits {
            return Err(Error::new(Code::InvalidRequest).at("chunk"));
        }
        let sealed = seal::seal(&self.key, ctx, &self.place.aad(self.next, last), plain)?;
        self.next = self.next.checked_add(1).ok_or_else(|| Error::new(Code::TooLarge).at("object"))?;
        self.finished = last;
        Ok(sealed)
    }

    /// Chunks sealed so far.
    #[must_use]
    pub const fn sealed(&self) -> u32 {
        self.next
    }
}

/// Opens the chunks of one object, in any order.
#[derive(Debug)]
pub struct ObjectOpener {
    key: Key32,
    place: ObjectPlace,
}

impl ObjectOpener {
    /// An opener for an object.
    #[must_use]
    pub const fn new(key: Key32, place: ObjectPlace) -> Self {
        Self { key, place }
    }

    /// Opens chunk `index` of an object of `chunks` chunks.
    ///
    /// # Errors
    /// [`Code::ContentDamaged`] when it is not exactly that chunk of that object.
    pub fn open(&self, index: u32, chunks: u32, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>> {
        let last = index.checked_add(1) == Some(chunks);
        let plain = seal::open(&self.key, &self.place.aad(index, last), sealed)?;
        if last || plain.len() == CHUNK { Ok(plain) } else { Err(Error::new(Code::ContentDamaged)) }
    }
}
