//! One entry of a region's audit log. Deterministic CBOR with integer keys, about 300 bytes; never
//! PHI, never free text (P8).

use std::fmt;

use domicile_types::ids::{EventId, ItemId, RequestId, TransferId};
use domicile_types::time::Timestamp;
use domicile_types::{Class, Code, RegionId, Role};
use uuid::Uuid;

use crate::cbor::{Reader, Value, Writer};
use crate::event::{EventType, Purpose};
use crate::invalid::Invalid;
use crate::statement::Step;

const WHAT: &str = "entry";
const STATEMENT: &str = "entry statement";
/// The format's version.
pub const VERSION: u16 = 1;
/// The most bytes an entry may have.
pub const MAX_BYTES: usize = 4096;

/// The resource of an `audit.void` entry by which the sequencer declares a writer's number lost.
pub const LOST_NUMBER: &str = "lost_number";

/// A pseudonym of a person: an HMAC under a key kept for this alone.
pub type Pseudonym = [u8; 16];

/// What became of the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was done.
    Ok,
    /// The caller was not allowed, with the error's code.
    Denied(ErrorCode),
    /// It was not done, with the error's code.
    Failed(ErrorCode),
}

impl Outcome {
    /// The outcome of a request that ended so.
    #[must_use]
    pub fn of(result: Result<(), Code>) -> Self {
        match result {
            Ok(()) => Self::Ok,
            Err(code) => match code.class() {
                Class::PermissionDenied | Class::Unauthenticated => Self::Denied(code.into()),
                _ => Self::Failed(code.into()),
            },
        }
    }

    const fn number(&self) -> u16 {
        match self {
            Self::Ok => 0,
            Self::Denied(_) => 1,
            Self::Failed(_) => 2,
        }
    }

    const fn code(&self) -> Option<&ErrorCode> {
        match self {
            Self::Ok => None,
            Self::Denied(code) | Self::Failed(code) => Some(code),
        }
    }
}

/// The text of a stable error code, such as `DOM-TRANSFER-007`. An entry may hold a code of a later
/// release, so this is its form and no closed list.
#[derive(Clone, PartialEq, Eq)]
pub struct ErrorCode(String);

impl ErrorCode {
    /// Reads `DOM-` capitals `-` three digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (area, number) = text.strip_prefix("DOM-")?.split_once('-')?;
        let area = (1..=16).contains(&area.len()) && area.bytes().all(|b| b.is_ascii_uppercase());
        let number = number.len() == 3 && number.bytes().all(|b| b.is_ascii_digit());
        (area && number).then(|| Self(text.to_owned()))
    }

    /// The code's text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<Code> for ErrorCode {
    fn from(code: Code) -> Self {
        Self(code.as_str().to_owned())
    }
}

impl fmt::Debug for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The statement of a transfer step that an entry stands for: its place in its lane and its digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatementRef {
    /// The transfer.
    pub transfer: TransferId,
    /// The attempt.
    pub attempt: u64,
    /// The region that made the statement.
    pub origin: RegionId,
    /// Its number in the origin's lane, from 1.
    pub sequence: u64,
    /// The step.
    pub step: Step,
    /// SHA-256 of the statement.
    pub digest: [u8; 32],
    /// The digest of the statement before it in its lane; zeros for the first.
    pub prev: [u8; 32],
    /// The last statement its origin had seen of the other lane.
    pub seen: Option<(u64, [u8; 32])>,
}

impl StatementRef {
    fn to_value(&self) -> Value {
        Writer::new()
            .put(1, self.transfer.as_bytes())
            .put(2, self.attempt)
            .put(3, self.origin.as_str())
            .put(4, self.sequence)
            .put(5, self.step.number())
            .put(6, self.digest)
            .put(7, self.prev)
            .maybe(8, self.seen.map(|(sequence, _)| sequence))
            .maybe(9, self.seen.map(|(_, digest)| digest))
            .into()
    }

    fn from_value(value: Value) -> Result<Self, Invalid> {
        let mut map = Reader::of(STATEMENT, value)?;
        let read = Self {
            transfer: uuid(&mut map, 1).map(TransferId::from_uuid)?,
            attempt: map.unsigned(2)?,
            origin: map.parsed(3, |text| RegionId::new(text).ok())?,
            sequence: map.unsigned(4)?,
            step: step(&mut map, 5)?,
            digest: map.fixed(6)?,
            prev: map.fixed(7)?,
            seen: seen(&mut map, 8, 9)?,
        };
        map.finish()?;
        Ok(read)
    }
}

/// Reads a UUID's sixteen bytes.
pub(crate) fn uuid(map: &mut Reader, key: u64) -> Result<Uuid, Invalid> {
    map.fixed(key).map(Uuid::from_bytes)
}

/// Reads a step's number.
pub(crate) fn step(map: &mut Reader, key: u64) -> Result<Step, Invalid> {
    let number = map.unsigned(key)?;
    Step::from_number(number).ok_or(Invalid::form(STATEMENT, "no such step"))
}

/// Reads the last statement seen of the other lane: both fields or neither.
pub(crate) fn seen(map: &mut Reader, number: u64, digest: u64) -> Result<Option<(u64, [u8; 32])>, Invalid> {
    if !map.has(number) && !map.has(digest) {
        return Ok(None);
    }
    Ok(Some((map.unsigned(number)?, map.fixed(digest)?)))
}

/// One entry of the audit log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The log's origin, as its checkpoints name it.
    pub origin: String,
    /// What happened.
    pub event: EventType,
    /// The event's id; a repeated id is the same event.
    pub event_id: EventId,
    /// Random, so that an entry cannot be guessed from its hash.
    pub nonce: [u8; 16],
    /// When the writer wrote it, by its own clock.
    pub written_at: Timestamp,
    /// When the sequencer took it in; absent in the outbox.
    pub sequenced_at: Option<Timestamp>,
    /// Which process wrote it.
    pub writer: Uuid,
    /// How often that writer has started.
    pub writer_epoch: u64,
    /// The writer's own counter within its epoch, from 1: a gap is visible.
    pub writer_sequence: u64,
    /// Who acted; absent when nobody was signed in or the region itself acted.
    pub actor: Option<Pseudonym>,
    /// In which role.
    pub role: Role,
    /// What for.
    pub purpose: Purpose,
    /// Whose record.
    pub subject: Option<Pseudonym>,
    /// The kind of thing it was about: lower-case letters and underscores, at most 32.
    pub resource: Option<String>,
    /// Which item.
    pub item: Option<ItemId>,
    /// Which transfer.
    pub transfer: Option<TransferId>,
    /// What became of it.
    pub outcome: Outcome,
    /// The version of the policy in force.
    pub policy_version: u32,
    /// The request it belongs to.
    pub request: Option<RequestId>,
    /// HMAC of the detail that lies apart from the log and can be erased.
    pub detail_commit: Option<[u8; 32]>,
    /// The statement it stands for.
    pub statement: Option<StatementRef>,
}

impl Entry {
    /// The entry as the sequencer takes it in at `at`.
    #[must_use]
    pub fn with_sequenced(mut self, at: Timestamp) -> Self {
        self.sequenced_at = Some(at);
        self
    }

    /// The entry's one encoding.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        Writer::new()
            .put(1, VERSION)
            .put(2, self.origin.as_str())
            .put(3, self.event.number())
            .put(4, self.event_id.as_bytes())
            .put(5, self.nonce)
            .put(6, self.written_at)
            .maybe(7, self.sequenced_at)
            .put(8, self.writer.as_bytes())
            .put(9, self.writer_epoch)
            .put(10, self.writer_sequence)
            .maybe(11, self.actor)
            .put(12, self.role.as_str())
            .put(13, self.purpose.number())
            .maybe(14, self.subject)
            .maybe(15, self.resource.as_deref())
            .maybe(16, self.item.as_ref().map(ItemId::as_bytes))
            .maybe(17, self.transfer.as_ref().map(TransferId::as_bytes))
            .put(18, self.event.action().number())
            .put(19, self.outcome.number())
            .maybe(20, self.outcome.code().map(ErrorCode::as_str))
            .put(21, self.policy_version)
            .maybe(22, self.request.as_ref().map(RequestId::as_bytes))
            .maybe(23, self.detail_commit)
            .maybe(24, self.statement.as_ref().map(StatementRef::to_value))
            .encode()
    }

    /// Reads an entry; only its one encoding is accepted.
    ///
    /// # Errors
    /// When the bytes are not an entry of this version, or not as [`Entry::encode`] writes it.
    pub fn decode(bytes: &[u8]) -> Result<Self, Invalid> {
        if bytes.len() > MAX_BYTES {
            return Err(Invalid::new(WHAT, crate::Fault::TooLarge));
        }
        let mut map = Reader::decode(WHAT, bytes)?;
        if map.unsigned::<u16>(1)? != VERSION {
            return Err(Invalid::form(WHAT, "another version"));
        }
        let event = map.unsigned(3)?;
        let event = EventType::from_number(event).ok_or(Invalid::form(WHAT, "no such event"))?;
        if map.unsigned::<u16>(18)? != event.action().number() {
            return Err(Invalid::form(WHAT, "the action is not the event's"));
        }
        let entry = Self::fields(&mut map, event)?;
        map.finish()?;
        let same = entry.encode() == bytes;
        if same { Ok(entry) } else { Err(Invalid::form(WHAT, "does not encode to the same bytes")) }
    }

    fn fields(map: &mut Reader, event: EventType) -> Result<Self, Invalid> {
        let purpose = map.unsigned(13)?;
        Ok(Self {
            origin: map.parsed(2, |text| crate::keys::valid_name(text).then(|| text.to_owned()))?,
            event,
            event_id: uuid(map, 4).map(EventId::from_uuid)?,
            nonce: map.fixed(5)?,
            written_at: map.timestamp(6)?,
            sequenced_at: map.maybe(7, Reader::timestamp)?,
            writer: uuid(map, 8)?,
            writer_epoch: map.unsigned(9)?,
            writer_sequence: map.unsigned(10)?,
            actor: map.maybe(11, Reader::fixed)?,
            role: map.parsed(12, Role::parse)?,
            purpose: Purpose::from_number(purpose).ok_or(Invalid::form(WHAT, "no such purpose"))?,
            subject: map.maybe(14, Reader::fixed)?,
            resource: map.maybe(15, |map, key| map.parsed(key, resource))?,
            item: map.maybe(16, uuid)?.map(ItemId::from_uuid),
            transfer: map.maybe(17, uuid)?.map(TransferId::from_uuid),
            outcome: outcome(map)?,
            policy_version: map.unsigned(21)?,
            request: map.maybe(22, uuid)?.map(RequestId::from_uuid),
            detail_commit: map.maybe(23, Reader::fixed)?,
            statement: map.maybe(24, Reader::value)?.map(StatementRef::from_value).transpose()?,
        })
    }
}

fn resource(text: &str) -> Option<String> {
    let fits = (1..=32).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    fits.then(|| text.to_owned())
}

fn outcome(map: &mut Reader) -> Result<Outcome, Invalid> {
    match map.unsigned::<u16>(19)? {
        0 => Ok(Outcome::Ok),
        1 => map.parsed(20, ErrorCode::parse).map(Outcome::Denied),
        2 => map.parsed(20, ErrorCode::parse).map(Outcome::Failed),
        _ => Err(Invalid::form(WHAT, "no such outcome")),
    }
}
