//! The protocol's own rows and statements, each distinct one kept once for the whole run, so that a state of
//! the model holds a small number instead of a row and nothing of a row is left out.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Deref;
use std::sync::{LazyLock, PoisonError, RwLock};

use domicile_evidence::keys::{PublicKey, Signer};
use domicile_evidence::statement::{Body, SignedStatement, Statement, VERSION};
use domicile_transfer_protocol::{Destination, Digest, Lanes, Numbers, Received, Source};
use domicile_types::{AccountId, ConsentId, RegionId, SubjectId, Timestamp, TransferId};
use uuid::Uuid;

use crate::restore::Saved;

/// The instant at which everything happens until a deadline is over.
pub(crate) const NOW: Timestamp = Timestamp::from_micros(1_000_000);
/// The offer every transfer makes.
pub(crate) const OFFER: Digest = Digest([3; 32]);
/// What every consent binds, hashed.
pub(crate) const CONSENT: Digest = Digest([8; 32]);

/// The two regions' names; an index into it names a region in the model.
pub(crate) const NAMES: [&str; 2] = ["eu", "ca"];

static REGIONS: LazyLock<[RegionId; 2]> =
    LazyLock::new(|| NAMES.map(|name| RegionId::new(name).expect("a region's name")));
static SOURCES: LazyLock<Interner<Source>> = LazyLock::new(Interner::default);
static DESTINATIONS: LazyLock<Interner<Destination>> = LazyLock::new(Interner::default);
static SAVED: LazyLock<Interner<Saved>> = LazyLock::new(Interner::default);
static STATEMENTS: LazyLock<RwLock<HashMap<Digest, &'static Received>>> = LazyLock::new(RwLock::default);

/// A region by its index.
pub(crate) fn region(index: usize) -> &'static RegionId {
    &REGIONS[index]
}

/// The one subject.
pub(crate) fn subject() -> SubjectId {
    SubjectId::from_uuid(Uuid::from_u128(1))
}

/// The one account.
pub(crate) fn account() -> AccountId {
    AccountId::from_uuid(Uuid::from_u128(2))
}

/// The id of a transfer by its index.
pub(crate) fn transfer(index: usize) -> TransferId {
    TransferId::from_uuid(Uuid::from_u128(0x100 + index as u128))
}

/// The id of a transfer's consent.
pub(crate) fn consent(index: usize) -> ConsentId {
    ConsentId::from_uuid(Uuid::from_u128(0x200 + index as u128))
}

/// A small number out of a large one; nothing in the model counts further.
pub(crate) fn small(number: u64) -> u8 {
    u8::try_from(number).expect("the model's numbers are small")
}

/// A kept row: equal when it is the same one.
pub(crate) struct Kept<T: 'static>(&'static T);

impl<T> Clone for Kept<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Kept<T> {}
impl<T> PartialEq for Kept<T> {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self.0, other.0)
    }
}
impl<T> Eq for Kept<T> {}
impl<T> Hash for Kept<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_usize(std::ptr::from_ref(self.0).addr());
    }
}
impl<T> Deref for Kept<T> {
    type Target = T;
    fn deref(&self) -> &T {
        self.0
    }
}

/// Rows by a hash of what tells most of them apart; equality decides.
struct Interner<T: 'static>(RwLock<HashMap<u64, Vec<Kept<T>>>>);

impl<T> Default for Interner<T> {
    fn default() -> Self {
        Self(RwLock::default())
    }
}

impl Kept<Source> {
    /// Its lanes.
    pub(crate) fn lanes(self) -> &'static Lanes {
        &self.0.lanes
    }
}

impl Kept<Destination> {
    /// Its lanes.
    pub(crate) fn lanes(self) -> &'static Lanes {
        &self.0.lanes
    }
}

impl<T: PartialEq> Interner<T> {
    fn keep(&self, key: u64, row: T) -> Kept<T> {
        let same =
            |known: &HashMap<u64, Vec<Kept<T>>>| known.get(&key)?.iter().copied().find(|kept| *kept.0 == row);
        if let Some(kept) = same(&self.0.read().unwrap_or_else(PoisonError::into_inner)) {
            return kept;
        }
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(kept) = same(&known) {
            return kept;
        }
        let kept = Kept(&*Box::leak(Box::new(row)));
        known.entry(key).or_default().push(kept);
        kept
    }
}

fn key(fields: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    fields.hash(&mut hasher);
    hasher.finish()
}

/// Keeps a source row. Instants that no decision of the model turns on are all the same one: the model
/// says by an action of its own when a deadline is over.
pub(crate) fn keep_source(mut row: Source, numbers: &Numbers) -> Kept<Source> {
    (row.requested_at, row.changed_at) = (NOW, NOW);
    row.freeze_not_before = Timestamp::EPOCH;
    row.freeze_deadline = row.freeze_deadline.map(|_| NOW.plus(numbers.freeze_budget));
    row.deadline = row.deadline.map(|_| end(numbers));
    let lanes = (row.lanes.own_tip(), row.lanes.peer_tip(), row.lanes.acknowledged());
    let freezes = (row.freeze, row.freeze_tries, row.mismatches, row.final_revision);
    let staged = row.staged.as_ref().map(|staged| staged.root);
    let key = key((row.state, lanes, freezes, row.token, row.paused, staged, row.keys_to_destroy));
    SOURCES.keep(key, row)
}

/// Keeps a destination row.
pub(crate) fn keep_destination(mut row: Destination) -> Kept<Destination> {
    (row.requested_at, row.changed_at) = (NOW, NOW);
    let lanes = (row.lanes.own_tip(), row.lanes.peer_tip(), row.lanes.acknowledged());
    let staged = row.staged.as_ref().map(|staged| staged.root);
    let key = key((row.state, lanes, row.token, row.cursor, row.revision, row.compare, staged));
    DESTINATIONS.keep(key, row)
}

/// Keeps a backup.
pub(crate) fn keep_saved(saved: Saved) -> Kept<Saved> {
    SAVED.keep(key(saved), saved)
}

/// The end of every deadline but a freeze's budget.
pub(crate) fn end(numbers: &Numbers) -> Timestamp {
    NOW.plus(numbers.consent_valid)
}

/// Signatures are verified before a statement becomes a [`Received`]; here they are all the same bytes.
struct Nobody;

impl Signer for Nobody {
    fn sign(&self, _: &[u8]) -> [u8; 64] {
        [0; 64]
    }
    fn public(&self) -> PublicKey {
        PublicKey::new([0; 32])
    }
}

/// Whose statement it is, and of which transfer.
#[derive(Clone, Copy)]
pub(crate) struct Stating {
    /// The transfer's index.
    pub(crate) transfer: usize,
    /// The attempt.
    pub(crate) attempt: u64,
    /// The region's index.
    pub(crate) origin: usize,
}

/// A region's next statement, added to its lane, as the store's `emit` does. `again` makes the statement of
/// a region that lost its database another one than before.
pub(crate) fn state(whose: Stating, lanes: &mut Lanes, body: &Body, again: u8) {
    let draft = Statement {
        version: VERSION,
        transfer: transfer(whose.transfer),
        attempt: whose.attempt,
        origin: region(whose.origin).clone(),
        sequence: lanes.own_sequence() + 1,
        step: body.step(),
        at: Timestamp::from_micros(NOW.micros() + i64::from(again)),
        body_digest: [0; 32],
        prev: lanes.own_tip(),
        seen: lanes.seen(),
    };
    let signed = SignedStatement::sign(&Nobody, draft, body);
    let digest = Digest(domicile_evidence::sha256(&signed.statement));
    lanes.push_own(digest);
    let known = STATEMENTS.read().unwrap_or_else(PoisonError::into_inner).contains_key(&digest);
    if !known {
        let read = signed.read().expect("what was just signed can be read");
        let received = Received { signed, statement: read.statement, body: read.body, digest };
        let mut all = STATEMENTS.write().unwrap_or_else(PoisonError::into_inner);
        all.entry(digest).or_insert_with(|| &*Box::leak(Box::new(received)));
    }
}

/// One statement of a lane, by the lane's last digest and the statement's number from 1.
pub(crate) fn stated(lanes: &Lanes, sequence: u64) -> Option<&'static Received> {
    if sequence == 0 || sequence > lanes.own_sequence() {
        return None;
    }
    let all = STATEMENTS.read().unwrap_or_else(PoisonError::into_inner);
    let mut at = *all.get(&Digest(lanes.own_tip()))?;
    while at.statement.sequence > sequence {
        at = all.get(&Digest(at.statement.prev))?;
    }
    Some(at)
}
