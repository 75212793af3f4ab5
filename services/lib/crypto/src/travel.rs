//! Sealing on the way between two regions, suite 1 (transfer.md, "Sealing on the way").
//!
//! Every page, object and control tail is its own stream under a fresh random salt:
//! `k_enc || k_commit = HKDF-SHA512(K_t, salt, header)`. Chunks are AES-256-GCM under `k_enc` with a
//! counter nonce that carries the last-flag (STREAM, Hoang et al. 2015); `k_commit` stands beside the
//! header, so that a stream opens under one key only. Associated data of a chunk: the header's digest,
//! the position, and what travels in clear beside it.

mod header;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hkdf;
use domicile_types::{Code, Ctx, Error, Result};
use zeroize::Zeroizing;

pub use self::header::{SUITE, TravelHeader, Unit};
use crate::{Key32, seal, sha256};

/// Bytes a chunk grows by: the tag.
pub const OVERHEAD: usize = seal::TAG_LEN;

/// What stands before a stream's chunks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TravelHead {
    /// The encoded [`TravelHeader`].
    pub header: Vec<u8>,
    /// Random, fresh for every stream.
    pub salt: [u8; 32],
    /// Commits the stream to one key.
    pub commitment: [u8; 32],
}

impl TravelHead {
    /// A head from the parts of a message or a row.
    ///
    /// # Errors
    /// [`Code::ChunkDamaged`] when salt or commitment are not 32 bytes.
    pub fn from_parts(header: Vec<u8>, salt: &[u8], commitment: &[u8]) -> Result<Self> {
        let salt = salt.try_into().map_err(|_| damaged("salt"))?;
        let commitment = commitment.try_into().map_err(|_| damaged("commitment"))?;
        Ok(Self { header, salt, commitment })
    }
}

fn damaged(place: &str) -> Error {
    Error::new(Code::ChunkDamaged).at(place)
}

/// A stream's keys.
struct Keys {
    enc: Key32,
    commitment: [u8; 32],
    header_digest: [u8; 32],
}

struct SixtyFour;

impl hkdf::KeyType for SixtyFour {
    fn len(&self) -> usize {
        64
    }
}

impl Keys {
    fn derive(travel_key: &Key32, salt: &[u8; 32], header: &[u8]) -> Result<Self> {
        let internal = |_| Error::new(Code::Internal).at("travel key");
        let mut both = Zeroizing::new([0_u8; 64]);
        let prk = hkdf::Salt::new(hkdf::HKDF_SHA512, salt).extract(travel_key.expose());
        prk.expand(&[header], SixtyFour).and_then(|okm| okm.fill(both.as_mut_slice())).map_err(internal)?;
        let (enc, commit) = both.split_at(32);
        let mut commitment = [0; 32];
        commitment.copy_from_slice(commit);
        Ok(Self { enc: Key32::from_slice(enc)?, commitment, header_digest: sha256(header) })
    }

    fn aad(&self, position: u32, associated: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(36 + associated.len());
        out.extend_from_slice(&self.header_digest);
        out.extend_from_slice(&position.to_be_bytes());
        out.extend_from_slice(associated);
        out
    }

    fn open(
        &self,
        position: u32,
        last: bool,
        associated: &[u8],
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>> {
        seal::open_with(&self.enc, nonce(position, last), &self.aad(position, associated), sealed)
            .map_err(|()| damaged("chunk"))
    }
}

/// Seven zero bytes (the key is the stream's own), the position, the last-flag.
fn nonce(position: u32, last: bool) -> [u8; 12] {
    let mut nonce = [0; 12];
    nonce[7..11].copy_from_slice(&position.to_be_bytes());
    nonce[11] = u8::from(last);
    nonce
}

/// Counts a stream's chunks and knows whether the last has passed.
#[derive(Default)]
struct Progress {
    next: u64,
    finished: bool,
}

impl Progress {
    fn position(&self) -> Option<u32> {
        if self.finished { None } else { u32::try_from(self.next).ok() }
    }

    fn passed(&mut self, last: bool) {
        self.next += 1;
        self.finished = last;
    }
}

/// Seals one stream.
pub struct Sealer {
    keys: Keys,
    progress: Progress,
}

impl Sealer {
    /// Begins a stream under a fresh salt.
    ///
    /// # Errors
    /// [`Code::Internal`] when the keys cannot be derived.
    pub fn new(travel_key: &Key32, header: &TravelHeader, ctx: &Ctx) -> Result<(Self, TravelHead)> {
        let salt: [u8; 32] = ctx.random();
        let header = header.encode();
        let keys = Keys::derive(travel_key, &salt, &header)?;
        let head = TravelHead { header, salt, commitment: keys.commitment };
        Ok((Self { keys, progress: Progress::default() }, head))
    }

    /// Seals the next chunk, bound to its position and to `associated`, what travels in clear beside it.
    ///
    /// # Errors
    /// [`Code::TooLarge`] past 2^32 chunks or after the last.
    pub fn seal_next(&mut self, plain: &[u8], associated: &[u8], last: bool) -> Result<Vec<u8>> {
        let position = self.progress.position().ok_or_else(|| Error::new(Code::TooLarge).at("stream"))?;
        let aad = self.keys.aad(position, associated);
        let sealed = seal::seal_with(&self.keys.enc, nonce(position, last), &aad, plain)?;
        self.progress.passed(last);
        Ok(sealed)
    }
}

/// Opens one stream.
pub struct Opener {
    keys: Keys,
    progress: Progress,
}

impl Opener {
    /// Begins to open a stream that must have exactly the expected header.
    ///
    /// # Errors
    /// [`Code::ChunkDamaged`] when the header is another, or the key is not the one committed to.
    pub fn new(travel_key: &Key32, head: &TravelHead, expected: &TravelHeader) -> Result<Self> {
        if head.header != expected.encode() {
            return Err(damaged("header"));
        }
        let keys = Keys::derive(travel_key, &head.salt, &head.header)?;
        verify_slices_are_equal(&keys.commitment, &head.commitment).map_err(|_| damaged("commitment"))?;
        Ok(Self { keys, progress: Progress::default() })
    }

    /// Opens the next chunk in order.
    ///
    /// # Errors
    /// [`Code::ChunkDamaged`] when it is not exactly the next one, with this last-flag and `associated`.
    pub fn open_next(&mut self, sealed: &[u8], associated: &[u8], last: bool) -> Result<Zeroizing<Vec<u8>>> {
        let position = self.progress.position().ok_or_else(|| damaged("chunk"))?;
        let plain = self.keys.open(position, last, associated, sealed)?;
        self.progress.passed(last);
        Ok(plain)
    }

    /// Opens the chunk at a position, for one row out of a page.
    ///
    /// # Errors
    /// [`Code::ChunkDamaged`] when it is not exactly that one.
    pub fn open_at(
        &self,
        position: u32,
        last: bool,
        associated: &[u8],
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>> {
        self.keys.open(position, last, associated, sealed)
    }

    /// Ends a stream read in order.
    ///
    /// # Errors
    /// [`Code::ChunkDamaged`] when its last chunk has not come: it was cut short.
    pub fn finish(self) -> Result<()> {
        if self.progress.finished { Ok(()) } else { Err(damaged("end")) }
    }
}
