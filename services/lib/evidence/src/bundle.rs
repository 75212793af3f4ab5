//! A bundle: one file with everything an offline verifier needs, written and read as a stream.
//!
//! After the magic line come frames: one byte of kind, four bytes of length (big-endian), content.
//! Their order: header, policy, checkpoints of rising size (the last is the head), then for every 256
//! leaves their hashes and the entries themselves, then statements, then the end with the counts. So
//! both sides need memory for one frame and the tree's edge only.

use domicile_types::RegionId;
use domicile_types::ids::TransferId;
use domicile_types::time::Timestamp;

use crate::cbor::{Reader, Value, Writer};
use crate::entry::uuid;
use crate::invalid::{Fault, Invalid};
use crate::keys::VerifierKey;
use crate::merkle::Hash;
use crate::policy::LogKeys;
use crate::statement::SignedStatement;

const WHAT: &str = "bundle";
/// The first bytes of every bundle.
pub const MAGIC: &[u8] = b"domicile-bundle 1\n";
/// The most bytes a frame's content may have.
pub const MAX_FRAME: usize = 1 << 20;
/// The most leaf hashes in one frame: one full tile's.
pub const TILE: usize = 256;
/// The most checkpoints a bundle holds, the head among them.
pub const MAX_CHECKPOINTS: usize = 1024;

/// Whose log it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The region.
    pub region: RegionId,
    /// Its keys, as the region says; a policy pins the right ones.
    pub keys: LogKeys,
    /// Its peers' keys, as the region has them pinned.
    pub peers: Vec<(RegionId, LogKeys)>,
    /// The transfer the bundle is about.
    pub transfer: Option<TransferId>,
    /// The head's size.
    pub size: u64,
    /// When it was made, by the region's clock.
    pub made_at: Timestamp,
}

impl Header {
    fn encode(&self) -> Vec<u8> {
        let peers = self.peers.iter().map(|(region, keys)| keys_value(region, keys)).collect::<Vec<_>>();
        Writer::new()
            .put(1, keys_value(&self.region, &self.keys))
            .put(2, peers)
            .maybe(3, self.transfer.as_ref().map(TransferId::as_bytes))
            .put(4, self.size)
            .put(5, self.made_at)
            .encode()
    }

    fn decode(bytes: &[u8]) -> Result<Self, Invalid> {
        let mut map = Reader::decode(WHAT, bytes)?;
        let (region, keys) = keys_of(map.value(1)?)?;
        let header = Self {
            region,
            keys,
            peers: map.array(2)?.into_iter().map(keys_of).collect::<Result<_, _>>()?,
            transfer: map.maybe(3, uuid)?.map(TransferId::from_uuid),
            size: map.unsigned(4)?,
            made_at: map.timestamp(5)?,
        };
        map.finish()?;
        Ok(header)
    }
}

fn keys_value(region: &RegionId, keys: &LogKeys) -> Value {
    Writer::new()
        .put(1, region.as_str())
        .put(2, keys.checkpoint.to_string())
        .put(3, keys.statement.to_string())
        .into()
}

fn keys_of(value: Value) -> Result<(RegionId, LogKeys), Invalid> {
    let mut map = Reader::of(WHAT, value)?;
    let region = map.parsed(1, |text| RegionId::new(text).ok())?;
    let checkpoint = VerifierKey::parse(&map.text(2, 512)?)?;
    let statement = VerifierKey::parse(&map.text(3, 512)?)?;
    map.finish()?;
    Ok((region, LogKeys { checkpoint, statement }))
}

/// One piece of a bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// Whose log it is; the first frame.
    Header(Box<Header>),
    /// The region's signed policy, a note.
    Policy(String),
    /// A signed checkpoint, a note.
    Checkpoint(String),
    /// Leaf hashes, at most [`TILE`].
    Hashes {
        /// The first leaf's index.
        first: u64,
        /// The hashes.
        hashes: Vec<Hash>,
    },
    /// An entry.
    Entry {
        /// Its index.
        index: u64,
        /// Deterministic CBOR.
        bytes: Vec<u8>,
    },
    /// A statement of a transfer.
    Statement(SignedStatement),
    /// The last frame.
    End {
        /// How many entries.
        entries: u64,
        /// How many statements.
        statements: u64,
    },
}

impl Frame {
    const fn kind(&self) -> u8 {
        match self {
            Self::Header(_) => 1,
            Self::Policy(_) => 2,
            Self::Checkpoint(_) => 3,
            Self::Hashes { .. } => 4,
            Self::Entry { .. } => 5,
            Self::Statement(_) => 6,
            Self::End { .. } => 7,
        }
    }

    fn content(&self) -> Vec<u8> {
        match self {
            Self::Header(header) => header.encode(),
            Self::Policy(note) | Self::Checkpoint(note) => note.as_bytes().to_vec(),
            Self::Hashes { first, hashes } => {
                let mut content = first.to_be_bytes().to_vec();
                hashes.iter().for_each(|hash| content.extend_from_slice(hash));
                content
            }
            Self::Entry { index, bytes } => {
                let mut content = index.to_be_bytes().to_vec();
                content.extend_from_slice(bytes);
                content
            }
            Self::Statement(signed) => Writer::new()
                .put(1, signed.statement.as_slice())
                .put(2, signed.body.as_slice())
                .put(3, signed.signature)
                .encode(),
            Self::End { entries, statements } => Writer::new().put(1, *entries).put(2, *statements).encode(),
        }
    }

    /// The frame as it stands in the file.
    ///
    /// # Errors
    /// When its content is longer than [`MAX_FRAME`].
    pub fn encode(&self) -> Result<Vec<u8>, Invalid> {
        let content = self.content();
        let length = u32::try_from(content.len()).ok().filter(|_| content.len() <= MAX_FRAME);
        let length = length.ok_or(Invalid::new(WHAT, Fault::TooLarge))?;
        let mut out = Vec::with_capacity(content.len() + 5);
        out.push(self.kind());
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(&content);
        Ok(out)
    }

    fn decode(kind: u8, content: &[u8]) -> Result<Self, Invalid> {
        match kind {
            1 => Header::decode(content).map(|header| Self::Header(Box::new(header))),
            2 => text(content).map(Self::Policy),
            3 => text(content).map(Self::Checkpoint),
            4 => hashes(content),
            5 => {
                let (index, bytes) = number(content)?;
                Ok(Self::Entry { index, bytes: bytes.to_vec() })
            }
            6 => statement(content).map(Self::Statement),
            7 => {
                let mut map = Reader::decode(WHAT, content)?;
                let end = Self::End { entries: map.unsigned(1)?, statements: map.unsigned(2)? };
                map.finish()?;
                Ok(end)
            }
            _ => Err(Invalid::form(WHAT, "an unknown frame")),
        }
    }
}

fn text(content: &[u8]) -> Result<String, Invalid> {
    String::from_utf8(content.to_vec()).map_err(|_| Invalid::form(WHAT, "a note is not UTF-8"))
}

fn number(content: &[u8]) -> Result<(u64, &[u8]), Invalid> {
    let (number, rest) = content.split_first_chunk::<8>().ok_or(Invalid::form(WHAT, "a frame is short"))?;
    Ok((u64::from_be_bytes(*number), rest))
}

fn hashes(content: &[u8]) -> Result<Frame, Invalid> {
    let (first, rest) = number(content)?;
    let (hashes, left) = rest.as_chunks::<32>();
    let fits = left.is_empty() && (1..=TILE).contains(&hashes.len());
    if fits {
        Ok(Frame::Hashes { first, hashes: hashes.to_vec() })
    } else {
        Err(Invalid::form(WHAT, "a tile does not fit"))
    }
}

fn statement(content: &[u8]) -> Result<SignedStatement, Invalid> {
    let mut map = Reader::decode(WHAT, content)?;
    let signed = SignedStatement { statement: map.bytes(1)?, body: map.bytes(2)?, signature: map.fixed(3)? };
    map.finish()?;
    Ok(signed)
}

/// Takes a bundle apart as its bytes come in; holds at most one frame and what was pushed last.
#[derive(Debug, Default)]
pub struct BundleReader {
    buffer: Vec<u8>,
    at: usize,
    begun: bool,
}

impl BundleReader {
    /// A reader at the start of a bundle.
    #[must_use]
    pub const fn new() -> Self {
        Self { buffer: Vec::new(), at: 0, begun: false }
    }

    /// Gives it the next bytes of the file, in pieces of any length.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.at);
        self.at = 0;
        self.buffer.extend_from_slice(bytes);
    }

    fn rest(&self) -> &[u8] {
        self.buffer.get(self.at..).unwrap_or_default()
    }

    /// The next frame, or `None` until more bytes are pushed.
    ///
    /// # Errors
    /// When the bytes are no bundle. Nothing after it can be read.
    pub fn frame(&mut self) -> Result<Option<Frame>, Invalid> {
        if !self.begun {
            let Some(magic) = self.rest().get(..MAGIC.len()) else { return Ok(None) };
            if magic != MAGIC {
                return Err(Invalid::form(WHAT, "not a bundle of this version"));
            }
            self.begun = true;
            self.at += MAGIC.len();
        }
        let Some((head, rest)) = self.rest().split_first_chunk::<5>() else { return Ok(None) };
        let [kind, length @ ..] = *head;
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        if length > MAX_FRAME {
            return Err(Invalid::new(WHAT, Fault::TooLarge));
        }
        let Some(content) = rest.get(..length) else { return Ok(None) };
        let frame = Frame::decode(kind, content)?;
        self.at += 5 + length;
        Ok(Some(frame))
    }

    /// Whether every byte pushed has been read.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.begun && self.rest().is_empty()
    }
}
