//! The header of a stream: deterministic CBOR (RFC 8949 §4.2.1), one map with integer keys.

use domicile_types::{Code, ConsentId, Error, ObjectId, PageId, RegionId, Result, TransferId};

/// HPKE with P-521, AES-256-GCM in STREAM mode, HKDF-SHA512 with key commitment.
pub const SUITE: u16 = 1;

/// What one stream carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// A page of rows.
    Page(PageId),
    /// One object.
    Object(ObjectId),
    /// The control rows of the key release.
    Control,
}

/// What a stream is bound to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TravelHeader {
    /// The transfer.
    pub transfer: TransferId,
    /// The subject's attempt.
    pub attempt: u64,
    /// The region it leaves.
    pub source: RegionId,
    /// The region it goes to.
    pub destination: RegionId,
    /// What the stream carries.
    pub unit: Unit,
    /// The consent it rests on.
    pub consent: ConsentId,
    /// The digest of that consent.
    pub consent_digest: [u8; 32],
}

impl TravelHeader {
    /// The header's bytes: equal headers give equal bytes, different ones different bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let (unit, id) = match &self.unit {
            Unit::Page(page) => (1, Some(page.as_bytes())),
            Unit::Object(object) => (2, Some(object.as_bytes())),
            Unit::Control => (3, None),
        };
        let mut out = Cbor(Vec::with_capacity(160));
        out.map(if id.is_some() { 9 } else { 8 });
        out.entry(1).uint(u64::from(SUITE));
        out.entry(2).bytes(self.transfer.as_bytes());
        out.entry(3).uint(self.attempt);
        out.entry(4).text(self.source.as_str());
        out.entry(5).text(self.destination.as_str());
        out.entry(6).uint(unit);
        if let Some(id) = id {
            out.entry(7).bytes(id);
        }
        out.entry(8).bytes(self.consent.as_bytes());
        out.entry(9).bytes(&self.consent_digest);
        out.0
    }

    /// Reads a header that came from outside; only the bytes [`Self::encode`] would write are taken.
    ///
    /// # Errors
    /// [`Code::ChunkDamaged`] for any other bytes, also for an unknown suite.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let refused = || Error::new(Code::ChunkDamaged).at("header");
        let header = Reader(bytes).header().ok_or_else(refused)?;
        if header.encode() == bytes { Ok(header) } else { Err(refused()) }
    }
}

const UINT: u8 = 0;
const BYTES: u8 = 2;
const TEXT: u8 = 3;
const MAP: u8 = 5;

/// Writes the four kinds of value a header has.
struct Cbor(Vec<u8>);

impl Cbor {
    fn head(&mut self, major: u8, value: u64) {
        let major = major << 5;
        let bytes = value.to_be_bytes();
        match value {
            0..=23 => self.0.push(major | bytes[7]),
            24..=0xFF => self.0.extend([major | 24, bytes[7]]),
            0x100..=0xFFFF => {
                self.0.push(major | 25);
                self.0.extend_from_slice(&bytes[6..]);
            }
            0x1_0000..=0xFFFF_FFFF => {
                self.0.push(major | 26);
                self.0.extend_from_slice(&bytes[4..]);
            }
            _ => {
                self.0.push(major | 27);
                self.0.extend_from_slice(&bytes);
            }
        }
    }

    fn map(&mut self, entries: u64) {
        self.head(MAP, entries);
    }

    fn entry(&mut self, key: u64) -> &mut Self {
        self.head(UINT, key);
        self
    }

    fn uint(&mut self, value: u64) {
        self.head(UINT, value);
    }

    fn bytes(&mut self, value: &[u8]) {
        self.head(BYTES, value.len() as u64);
        self.0.extend_from_slice(value);
    }

    fn text(&mut self, value: &str) {
        self.head(TEXT, value.len() as u64);
        self.0.extend_from_slice(value.as_bytes());
    }
}

/// Reads them back. It may take a longer form of a number: the caller encodes again and compares.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn header(mut self) -> Option<TravelHeader> {
        let entries = self.head(MAP)?;
        self.keyed(1, |r| r.head(UINT)).filter(|suite| *suite == u64::from(SUITE))?;
        let transfer = TransferId::from_slice(self.keyed(2, Self::bytes)?)?;
        let attempt = self.keyed(3, |r| r.head(UINT))?;
        let source = self.keyed(4, Self::region)?;
        let destination = self.keyed(5, Self::region)?;
        let unit = match (self.keyed(6, |r| r.head(UINT))?, entries) {
            (1, 9) => Unit::Page(PageId::from_slice(self.keyed(7, Self::bytes)?)?),
            (2, 9) => Unit::Object(ObjectId::from_slice(self.keyed(7, Self::bytes)?)?),
            (3, 8) => Unit::Control,
            _ => return None,
        };
        let consent = ConsentId::from_slice(self.keyed(8, Self::bytes)?)?;
        let consent_digest = self.keyed(9, Self::bytes)?.try_into().ok()?;
        Some(TravelHeader { transfer, attempt, source, destination, unit, consent, consent_digest })
    }

    fn keyed<T>(&mut self, key: u64, value: impl FnOnce(&mut Self) -> Option<T>) -> Option<T> {
        if self.head(UINT)? == key { value(self) } else { None }
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn head(&mut self, major: u8) -> Option<u64> {
        let first = *self.take(1)?.first()?;
        if first >> 5 != major {
            return None;
        }
        let follow = match first & 0x1F {
            small @ 0..=23 => return Some(u64::from(small)),
            24 => 1,
            25 => 2,
            26 => 4,
            27 => 8,
            _ => return None,
        };
        Some(self.take(follow)?.iter().fold(0, |value, byte| value << 8 | u64::from(*byte)))
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.head(BYTES)?).ok()?;
        self.take(length)
    }

    fn region(&mut self) -> Option<RegionId> {
        let length = usize::try_from(self.head(TEXT)?).ok()?;
        RegionId::new(std::str::from_utf8(self.take(length)?).ok()?).ok()
    }
}
