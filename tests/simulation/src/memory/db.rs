//! The tables of one region, in memory. Cloned for each transaction, so that a refused one leaves nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use domicile_evidence::entry::Entry;
use domicile_evidence::statement::SignedStatement;
use domicile_transfer_protocol::Digest;
use domicile_transfer_protocol::rows::{
    CareRow, ConsentEventRow, ConsentRow, GrantRow, HoldRow, SentObject, SentRow, StagedObject, StagedPage,
    StagedRow,
};
use domicile_transfer_protocol::source::Standing;
use domicile_transfer_protocol::store::Row;
use domicile_types::{
    AccountId, ConsentId, ItemHeader, ItemId, ObjectId, PageId, PracticeId, RegionId, SubjectId, Timestamp,
    TransferId,
};
use uuid::Uuid;

/// Everything one region's database holds of records and transfers.
#[derive(Clone, Default)]
pub struct Db {
    /// Where records are at home.
    pub homes: BTreeMap<SubjectId, Home>,
    /// Items, each version a row.
    pub items: BTreeMap<(ItemId, u32), Arc<Item>>,
    /// Objects.
    pub objects: BTreeMap<ObjectId, Object>,
    /// Accounts.
    pub accounts: BTreeMap<AccountId, Account>,
    /// Care relationships by subject, practitioner and beginning.
    pub care: BTreeMap<(SubjectId, AccountId, Timestamp), CareRow>,
    /// Grants.
    pub grants: BTreeMap<domicile_types::GrantId, (SubjectId, GrantRow)>,
    /// Legal holds by subject, reference and time.
    pub holds: BTreeMap<(SubjectId, String, Timestamp), HoldRow>,
    /// Consents.
    pub consents: BTreeMap<ConsentId, (SubjectId, ConsentRow)>,
    /// Their history.
    pub consent_events: BTreeMap<(ConsentId, u32), (SubjectId, ConsentEventRow)>,
    /// Transfers.
    pub transfers: BTreeMap<TransferId, Arc<Transfer>>,
    /// Statements of both lanes.
    pub statements: BTreeMap<(TransferId, RegionId, u64), Arc<SignedStatement>>,
    /// Checkpoints kept with transfers.
    pub checkpoints: BTreeMap<TransferId, BTreeMap<String, Timestamp>>,
    /// Tombstones of ended attempts.
    pub tombstones: BTreeMap<TransferId, u64>,
    /// Digests of rows sent.
    pub sent_rows: BTreeMap<(TransferId, ItemId, u32), SentRow>,
    /// Digests of objects sent.
    pub sent_objects: BTreeMap<(TransferId, ObjectId), SentObject>,
    /// Pages that have arrived.
    pub staged_pages: BTreeMap<PageId, (TransferId, StagedPage)>,
    /// Rows that have arrived.
    pub staged_rows: BTreeMap<(TransferId, ItemId, u32), Arc<StagedRow>>,
    /// Objects that have arrived.
    pub staged_objects: BTreeMap<(TransferId, ObjectId), StagedObject>,
    /// Leases on transfers' work.
    pub jobs: BTreeMap<TransferId, Job>,
    /// Who may be told where a record went.
    pub entitled: BTreeSet<(SubjectId, &'static str, Uuid)>,
    /// Forwarding locators.
    pub locators: BTreeMap<[u8; 32], (RegionId, Timestamp)>,
    /// The audit log, in order; an entry is taken into it with the change it tells of.
    pub log: Vec<Arc<Entry>>,
    /// How many transactions have changed anything.
    pub commits: u64,
}

/// A record's residency.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Home {
    /// How often the record has moved, plus one.
    pub epoch: u64,
    /// What this region may do with it.
    pub standing: Standing,
    /// Where it went.
    pub moved_to: Option<RegionId>,
    /// The counter of the record's writes.
    pub revision: u64,
    /// The counter of its control rows.
    pub control_revision: u64,
    /// The counter of its transfers.
    pub attempt: u64,
    /// The counter of its freezes within the attempt.
    pub freeze: u64,
    /// `client` or `practice_default`.
    pub choice: &'static str,
    /// When the standing changed.
    pub changed_at: Timestamp,
}

/// One version of an item.
#[derive(Clone)]
pub struct Item {
    /// The header.
    pub header: ItemHeader,
    /// Whether it is the newest.
    pub current: bool,
    /// The sealed payload; `None` while it is still in travel form.
    pub sealed: Option<Vec<u8>>,
}

/// An object's row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// Whose.
    pub subject: SubjectId,
    /// The describing item.
    pub item: Option<ItemId>,
    /// Which practice's.
    pub practice: Option<PracticeId>,
    /// Plaintext length in bytes.
    pub length: u64,
    /// Chunks.
    pub chunks: u32,
    /// The version of the record key.
    pub key_version: u32,
    /// Whether the content is there.
    pub complete: bool,
    /// Whether it is still as it travelled.
    pub travelling: bool,
    /// The transfer that brought it.
    pub transfer: Option<TransferId>,
    /// Which file holds it.
    pub copy: Option<Uuid>,
    /// When it was registered.
    pub registered_at: Timestamp,
}

/// An account's row.
#[derive(Clone)]
pub struct Account {
    /// The client's record.
    pub subject: Option<SubjectId>,
    /// The e-mail address's blind index.
    pub email_index: Option<[u8; 32]>,
    /// The sealed e-mail address.
    pub email_sealed: Option<Vec<u8>>,
    /// The sealed name.
    pub name_sealed: Option<Vec<u8>>,
    /// The password's hash.
    pub password_phc: Option<String>,
    /// SHA-256 of the invitation, as hexadecimal text.
    pub invite_hash: Option<String>,
    /// When it expires.
    pub invite_expires: Option<Timestamp>,
    /// `invited`, `active` or `closed`.
    pub state: String,
    /// When it was made.
    pub created_at: Timestamp,
}

/// A transfer's row, with the columns beside the protocol's own.
#[derive(Clone)]
pub struct Transfer {
    /// The protocol's row.
    pub row: Row,
    /// The fencing token, as leases raise it.
    pub token: u64,
    /// Who drives it, and until when.
    pub lease: Option<(Uuid, Timestamp)>,
    /// The caller's idempotency key.
    pub key: Option<String>,
    /// The offer.
    pub offer: Option<String>,
    /// The sealed key release.
    pub key_release: Option<Vec<u8>>,
    /// The client's account, as far as it is known here.
    pub account: Option<AccountId>,
}

/// A lease on a transfer's work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Job {
    /// Who holds it.
    pub holder: Uuid,
    /// The fencing token.
    pub token: u64,
    /// Until when.
    pub until: Timestamp,
}

impl Db {
    /// The items of a record, by item and version.
    pub fn items_of(&self, subject: SubjectId) -> impl Iterator<Item = &Arc<Item>> {
        self.items.values().filter(move |item| item.header.subject_id == subject)
    }

    /// Whether a legal hold stands.
    #[must_use]
    pub fn held(&self, subject: SubjectId) -> bool {
        self.holds.iter().any(|((whose, ..), hold)| *whose == subject && hold.released_at.is_none())
    }

    /// The rows a transfer has staged.
    pub fn staged_of(&self, transfer: TransferId) -> impl Iterator<Item = &Arc<StagedRow>> {
        self.staged_rows.iter().filter(move |((of, ..), _)| *of == transfer).map(|(_, row)| row)
    }

    /// The objects a transfer has staged, by id.
    pub fn staged_objects_of(&self, transfer: TransferId) -> impl Iterator<Item = &StagedObject> {
        self.staged_objects.iter().filter(move |((of, _), _)| *of == transfer).map(|(_, object)| object)
    }

    /// The digests of rows a transfer has sent.
    pub fn sent_of(&self, transfer: TransferId) -> impl Iterator<Item = &SentRow> {
        self.sent_rows.iter().filter(move |((of, ..), _)| *of == transfer).map(|(_, row)| row)
    }

    /// The statement digests that the audit log names, by transfer and origin.
    #[must_use]
    pub fn logged(&self, transfer: TransferId, origin: &RegionId) -> Vec<(u64, Digest)> {
        let statements = self.log.iter().filter_map(|entry| entry.statement.as_ref());
        let ours = statements.filter(|of| of.transfer == transfer && of.origin == *origin);
        ours.map(|of| (of.sequence, Digest(of.digest))).collect()
    }
}

impl Transfer {
    /// Whose record, as far as it is known here.
    #[must_use]
    pub fn subject(&self) -> Option<SubjectId> {
        match &self.row {
            Row::Source(row) => Some(row.subject),
            Row::Destination(row) => row.subject,
        }
    }

    /// Where it stands.
    #[must_use]
    pub fn state(&self) -> domicile_transfer_protocol::State {
        match &self.row {
            Row::Source(row) => row.state,
            Row::Destination(row) => row.state,
        }
    }

    /// The row with the token that leases have raised.
    #[must_use]
    pub fn shown(&self) -> Row {
        match self.row.clone() {
            Row::Source(mut row) => {
                row.token = row.token.max(self.token);
                Row::Source(row)
            }
            row @ Row::Destination(_) => row,
        }
    }
}
