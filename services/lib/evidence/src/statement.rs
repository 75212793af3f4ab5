//! Signed statements: what each step of a transfer leaves behind, in two lanes that see each other.

use domicile_types::error::{Error, Result};
use domicile_types::ids::TransferId;
use domicile_types::time::Timestamp;
use domicile_types::{Code, RegionId};

use crate::cbor::{Reader, Writer};
use crate::entry::{StatementRef, seen, step, uuid};
use crate::event::EventType;
use crate::invalid::Invalid;
use crate::keys::{PublicKey, Signer};

pub use crate::statement::body::{AbortReason, Body};

mod body;

const WHAT: &str = "statement";
/// Says what the signed bytes are, so that no other signed thing can pass for one.
const DOMAIN: &str = "domicile/statement";
/// The format's version.
pub const VERSION: u16 = 1;

macro_rules! steps {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $text:literal, $event:ident;)*) => {
        /// A step that leaves a statement. Numbers are signed: they are never reused.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Step { $( $(#[$doc])* $name, )* }

        impl Step {
            /// Every step.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The stable number.
            #[must_use]
            pub const fn number(self) -> u16 {
                match self { $(Self::$name => $number),* }
            }

            /// The name, in tables and on screens.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text),* }
            }

            /// The audit event of taking the step.
            #[must_use]
            pub const fn event(self) -> EventType {
                match self { $(Self::$name => EventType::$event),* }
            }
        }
    };
}

steps! {
    /// The client has asked.
    Requested = 1, "requested", TransferRequested;
    /// Source: the offer stands; destination: it would take the record.
    Preflighted = 2, "preflighted", TransferPreflighted;
    /// The client has consented.
    Consented = 3, "consented", TransferConsented;
    /// Destination: the attempt's key; source: the copy is open.
    Copying = 4, "copying", TransferCopying;
    /// The record is held still.
    Frozen = 5, "frozen", TransferFrozen;
    /// The record is writable again; the copy goes on.
    Unfrozen = 6, "unfrozen", TransferUnfrozen;
    /// Everything up to the final revision is at the destination.
    Staged = 7, "staged", TransferStaged;
    /// The transfer is complete.
    Released = 8, "released", TransferReleased;
    /// The destination serves the record.
    Adopted = 9, "adopted", TransferAdopted;
    /// Everything is sealed under the destination's own keys.
    Rekeyed = 10, "rekeyed", TransferRekeyed;
    /// The source has erased the record.
    Shredded = 11, "shredded", TransferShredded;
    /// The source has ended the attempt.
    Aborting = 12, "aborting", TransferAborting;
    /// The destination has purged the attempt.
    Aborted = 13, "aborted", TransferAborted;
}

impl Step {
    /// Finds a step by its number.
    #[must_use]
    pub fn from_number(number: u16) -> Option<Self> {
        Self::ALL.iter().copied().find(|step| step.number() == number)
    }

    /// Finds a step by its name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|step| step.name() == name)
    }
}

/// What is signed: a step's place in its lane and the digest of what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// The format's version.
    pub version: u16,
    /// The transfer.
    pub transfer: TransferId,
    /// The subject's attempt counter.
    pub attempt: u64,
    /// The region that states.
    pub origin: RegionId,
    /// The number in the origin's lane of this transfer, from 1.
    pub sequence: u64,
    /// The step.
    pub step: Step,
    /// When, by the origin's clock.
    pub at: Timestamp,
    /// SHA-256 of the body.
    pub body_digest: [u8; 32],
    /// The digest of the statement before it in its lane; zeros for the first.
    pub prev: [u8; 32],
    /// The last statement seen of the other lane: its number and digest. May lag, never goes back.
    pub seen: Option<(u64, [u8; 32])>,
}

impl Statement {
    /// The statement's one encoding: the bytes that are signed.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        Writer::new()
            .put(0, DOMAIN)
            .put(1, self.version)
            .put(2, self.transfer.as_bytes())
            .put(3, self.attempt)
            .put(4, self.origin.as_str())
            .put(5, self.sequence)
            .put(6, self.step.number())
            .put(7, self.at)
            .put(8, self.body_digest)
            .put(9, self.prev)
            .maybe(10, self.seen.map(|(sequence, _)| sequence))
            .maybe(11, self.seen.map(|(_, digest)| digest))
            .encode()
    }

    /// Reads a statement; only its one encoding is accepted.
    ///
    /// # Errors
    /// When the bytes are not a statement of this version.
    pub fn decode(bytes: &[u8]) -> Result<Self, Invalid> {
        let mut map = Reader::decode(WHAT, bytes)?;
        if map.text(0, 64)? != DOMAIN {
            return Err(Invalid::form(WHAT, "not a statement"));
        }
        let version = map.unsigned(1)?;
        if version != VERSION {
            return Err(Invalid::form(WHAT, "another version"));
        }
        let statement = Self {
            version,
            transfer: uuid(&mut map, 2).map(TransferId::from_uuid)?,
            attempt: map.unsigned(3)?,
            origin: map.parsed(4, |text| RegionId::new(text).ok())?,
            sequence: map.unsigned(5)?,
            step: step(&mut map, 6)?,
            at: map.timestamp(7)?,
            body_digest: map.fixed(8)?,
            prev: map.fixed(9)?,
            seen: seen(&mut map, 10, 11)?,
        };
        map.finish()?;
        Ok(statement)
    }

    /// SHA-256 of the statement's bytes.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        crate::sha256(&self.encode())
    }

    /// What an audit entry holds of it.
    #[must_use]
    pub fn reference(&self) -> StatementRef {
        StatementRef {
            transfer: self.transfer,
            attempt: self.attempt,
            origin: self.origin.clone(),
            sequence: self.sequence,
            step: self.step,
            digest: self.digest(),
            prev: self.prev,
            seen: self.seen,
        }
    }
}

/// A statement with its body and its origin's signature, as it is stored and carried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedStatement {
    /// The statement's bytes.
    pub statement: Vec<u8>,
    /// The body's bytes.
    pub body: Vec<u8>,
    /// Ed25519 over `statement`.
    pub signature: [u8; 64],
}

/// A statement whose signature, encoding and body have been checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// The statement.
    pub statement: Statement,
    /// What it says.
    pub body: Body,
    /// SHA-256 of the statement's bytes.
    pub digest: [u8; 32],
}

impl SignedStatement {
    /// Signs a statement about `body`. The statement's `step` and `body_digest` are set from the body.
    #[must_use]
    pub fn sign(signer: &dyn Signer, mut statement: Statement, body: &Body) -> Self {
        let body_bytes = body.encode();
        statement.step = body.step();
        statement.body_digest = crate::sha256(&body_bytes);
        let bytes = statement.encode();
        let signature = signer.sign(&bytes);
        Self { statement: bytes, body: body_bytes, signature }
    }

    /// Wraps parts that came from outside; `None` when the signature is not 64 bytes.
    #[must_use]
    pub fn from_parts(statement: Vec<u8>, body: Vec<u8>, signature: &[u8]) -> Option<Self> {
        Some(Self { statement, body, signature: signature.try_into().ok()? })
    }

    /// Checks signature, encodings and the body's digest.
    ///
    /// # Errors
    /// [`Code::StatementInvalid`] when one of them does not fit.
    pub fn verify(&self, key: &PublicKey) -> Result<Verified> {
        self.check(key).map_err(Invalid::in_statement)
    }

    fn check(&self, key: &PublicKey) -> Result<Verified, Invalid> {
        key.verify(WHAT, &self.statement, &self.signature)?;
        self.read()
    }

    /// Reads what it says without asking who signed it: for a region's own stored statements.
    ///
    /// # Errors
    /// When an encoding or the body's digest does not fit.
    pub fn read(&self) -> Result<Verified, Invalid> {
        let statement = Statement::decode(&self.statement)?;
        if crate::sha256(&self.body) != statement.body_digest {
            return Err(Invalid::form(WHAT, "the body is not the signed one"));
        }
        let body = Body::decode(statement.step, &self.body)?;
        Ok(Verified { digest: crate::sha256(&self.statement), statement, body })
    }
}

/// One region's statements of one attempt, as far as they are known: what must come next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lane {
    /// The transfer.
    pub transfer: TransferId,
    /// The attempt.
    pub attempt: u64,
    /// Whose lane it is.
    pub origin: RegionId,
    /// The number of the last statement; 0 for none.
    pub last_sequence: u64,
    /// The digest of the last statement; zeros for none.
    pub last_digest: [u8; 32],
    /// What the last statement had seen of the other lane.
    pub last_seen: Option<(u64, [u8; 32])>,
}

impl Lane {
    /// An empty lane.
    #[must_use]
    pub const fn new(transfer: TransferId, attempt: u64, origin: RegionId) -> Self {
        Self { transfer, attempt, origin, last_sequence: 0, last_digest: [0; 32], last_seen: None }
    }

    /// The lane with one more statement.
    ///
    /// # Errors
    /// [`Code::StatementInvalid`] when the statement is another transfer's, attempt's or region's, does
    /// not follow the last one, or has seen less of the other lane than the one before.
    pub fn accept(&self, statement: &Statement, digest: [u8; 32]) -> Result<Self> {
        let refuse = |why: &'static str| Err(Error::new(Code::StatementInvalid).at(why));
        if statement.transfer != self.transfer || statement.attempt != self.attempt {
            return refuse("transfer");
        }
        if statement.origin != self.origin {
            return refuse("origin");
        }
        if Some(statement.sequence) != self.last_sequence.checked_add(1) {
            return refuse("sequence");
        }
        if statement.prev != self.last_digest {
            return refuse("prev");
        }
        if !advances(self.last_seen, statement.seen) {
            return refuse("seen");
        }
        Ok(Self {
            transfer: self.transfer,
            attempt: self.attempt,
            origin: self.origin.clone(),
            last_sequence: statement.sequence,
            last_digest: digest,
            last_seen: statement.seen,
        })
    }

    /// The next statement of this lane, to be signed with its body; `other` is the other lane as known.
    #[must_use]
    pub fn next(&self, body: &Body, at: Timestamp, other: &Self) -> Statement {
        let seen = (other.last_sequence > 0).then_some((other.last_sequence, other.last_digest));
        Statement {
            version: VERSION,
            transfer: self.transfer,
            attempt: self.attempt,
            origin: self.origin.clone(),
            sequence: self.last_sequence.saturating_add(1),
            step: body.step(),
            at,
            body_digest: crate::sha256(&body.encode()),
            prev: self.last_digest,
            seen,
        }
    }
}

/// Whether `next` has seen at least what `last` had.
fn advances(last: Option<(u64, [u8; 32])>, next: Option<(u64, [u8; 32])>) -> bool {
    match (last, next) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some((before, digest)), Some((now, same))) => now > before || (now == before && same == digest),
    }
}
