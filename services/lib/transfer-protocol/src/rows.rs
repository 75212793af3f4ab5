//! Rows as they pass between a region's store and the mover.

use std::collections::BTreeMap;

use domicile_types::{
    AccountId, ConsentId, GrantId, ItemHeader, ItemId, ObjectId, PageId, PracticeId, RegionId, SubjectId,
    Timestamp, TransferId,
};
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::release::{Head, hex_bytes};

/// What a record holds, for the offer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// By kind: the highest schema version, versions of items, payload bytes.
    pub kinds: BTreeMap<String, KindTotal>,
    /// Objects.
    pub objects: u64,
    /// Their plaintext bytes.
    pub object_bytes: u64,
    /// Practices in the record.
    pub practices: Vec<PracticeId>,
    /// Whether a legal hold covers it.
    pub held: bool,
    /// Psychotherapy notes (45 CFR 164.501).
    pub psychotherapy: u64,
    /// Uploads that have not finished.
    pub uploads_open: u64,
}

/// What a record holds of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KindTotal {
    /// The highest schema version.
    pub schema: u16,
    /// Versions of items.
    pub rows: u64,
    /// Payload bytes.
    pub bytes: u64,
}

impl Totals {
    /// Versions of items of every kind.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.kinds.values().map(|kind| kind.rows).sum()
    }

    /// Payload and object bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.kinds.values().map(|kind| kind.bytes).sum::<u64>() + self.object_bytes
    }
}

/// A row of the source's feed.
#[derive(Clone)]
pub struct FeedRow {
    /// The header.
    pub header: ItemHeader,
    /// The payload as the source has it sealed.
    pub sealed: Vec<u8>,
}

/// A piece of the source's feed.
#[derive(Clone)]
pub struct Feed {
    /// Rows by revision.
    pub rows: Vec<FeedRow>,
    /// The revision up to which the feed is complete with these rows.
    pub cursor: u64,
    /// The record's revision.
    pub revision: u64,
}

/// What the source stores of a row it has sealed for the way.
#[derive(Clone, Copy, Debug)]
pub struct SentRow {
    /// The item.
    pub item: ItemId,
    /// Its version.
    pub version: u32,
    /// The record's revision at this version.
    pub revision: u64,
    /// SHA-256 over its travel ciphertext.
    pub digest: Digest,
    /// Payload bytes, for the progress.
    pub bytes: u64,
}

/// What either side stores of an object on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SentObject {
    /// The object.
    pub object: ObjectId,
    /// Sealed chunks.
    pub chunks: u32,
    /// SHA-256 over the chunks' digests and the length.
    pub digest: Digest,
    /// Plaintext length in bytes.
    pub length: u64,
}

/// An object of the record, as the source has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SourceObject {
    /// The object.
    pub object: ObjectId,
    /// Whose.
    pub subject: SubjectId,
    /// Which practice's; `None` for the client's own.
    pub practice: Option<PracticeId>,
    /// Plaintext length in bytes.
    pub length: u64,
    /// Chunks.
    pub chunks: u32,
    /// The version of the record key.
    pub key_version: u32,
    /// Which file holds the content; `None` for one that was uploaded here.
    pub copy: Option<uuid::Uuid>,
}

/// A page at the destination.
#[derive(Clone, Debug)]
pub struct StagedPage {
    /// The page.
    pub page: PageId,
    /// Its head.
    pub head: Head,
}

/// A row at the destination, sealed.
#[derive(Clone)]
pub struct StagedRow {
    /// The item.
    pub item: ItemId,
    /// Its version.
    pub version: u32,
    /// The record's revision at this version.
    pub revision: u64,
    /// Its page.
    pub page: PageId,
    /// Its position in the page, from 0; its chunks are `2 * position` and `2 * position + 1`.
    pub position: u32,
    /// Whether it is the page's last.
    pub last: bool,
    /// SHA-256 over its travel ciphertext.
    pub digest: Digest,
    /// The sealed header.
    pub sealed_header: Vec<u8>,
    /// The sealed payload; empty where only headers were asked for.
    pub sealed_payload: Vec<u8>,
    /// The object it refers to.
    pub object: Option<ObjectId>,
}

/// An object at the destination, sealed for the way.
#[derive(Clone, Debug)]
pub struct StagedObject {
    /// What is known of it.
    pub sent: SentObject,
    /// Its stream's head.
    pub head: Head,
}

/// What the destination holds of an attempt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StagedTotals {
    /// Rows.
    pub rows: u64,
    /// Sealed bytes of rows.
    pub bytes: u64,
    /// Objects.
    pub objects: u64,
}

/// A row of the adopted record: its header, its payload still in travel form.
#[derive(Clone)]
pub struct AdoptedRow {
    /// The header, as the source sealed it.
    pub header: ItemHeader,
    /// Whether it is the item's newest version.
    pub current: bool,
}

/// A row to be sealed again.
#[derive(Clone)]
pub struct TravellingRow {
    /// The header in this region's table.
    pub header: ItemHeader,
    /// The row as staged.
    pub staged: StagedRow,
}

/// A row sealed again.
#[derive(Clone)]
pub struct RekeyedRow {
    /// The item.
    pub item: ItemId,
    /// Its version.
    pub version: u32,
    /// The version of this region's record key.
    pub key_version: u32,
    /// SHA-256 of the sealed payload.
    pub digest: Digest,
    /// The sealed payload.
    pub sealed: Vec<u8>,
}

/// How far the source has sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Rows sent.
    pub rows_done: u64,
    /// Rows in all.
    pub rows_total: u64,
    /// Objects sent.
    pub objects_done: u64,
    /// Objects in all.
    pub objects_total: u64,
    /// Payload and object bytes sent.
    pub bytes_done: u64,
    /// Payload and object bytes in all.
    pub bytes_total: u64,
}

/// What is left of a subject at the source: the scan after erasure.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Remains {
    /// Rows by table; only tables with any.
    pub tables: BTreeMap<String, u64>,
}

/// The control rows: everything that moves and is not an item. No `Debug`: it holds an e-mail address.
#[derive(Clone, Serialize, Deserialize)]
pub struct ControlRows {
    /// Whose record.
    pub subject: SubjectId,
    /// The subject's counter of transfers.
    pub attempt: u64,
    /// `client` or `practice_default`.
    pub region_choice: String,
    /// The record's revision.
    pub revision: u64,
    /// The control rows' revision.
    pub control_revision: u64,
    /// The client's account.
    pub account: Option<AccountRow>,
    /// Care relationships.
    pub care: Vec<CareRow>,
    /// Grants.
    pub grants: Vec<GrantRow>,
    /// Legal holds, released ones too.
    pub holds: Vec<HoldRow>,
    /// Consents.
    pub consents: Vec<ConsentRow>,
    /// Their history.
    pub events: Vec<ConsentEventRow>,
    /// Secrets that travel: purpose to key.
    pub secrets: Vec<SecretRow>,
    /// Objects of the record.
    pub objects: Vec<ObjectRow>,
}

/// The client's account. Everything in it is sealed on the way.
#[derive(Clone, Serialize, Deserialize)]
pub struct AccountRow {
    /// The account.
    pub account: AccountId,
    /// The normalised e-mail address, when one is known.
    pub email: Option<String>,
    /// The name, when one is known.
    pub name: Option<String>,
    /// The Argon2id hash in PHC form.
    pub password_phc: Option<String>,
    /// SHA-256 of the invitation code.
    pub invite_hash: Option<String>,
    /// When the invitation expires.
    pub invite_expires: Option<Timestamp>,
    /// `invited`, `active` or `closed`.
    pub state: String,
    /// When it was made.
    pub created_at: Timestamp,
}

/// A care relationship.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CareRow {
    /// The practitioner.
    pub practitioner: AccountId,
    /// Their practice.
    pub practice: PracticeId,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
}

/// A grant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrantRow {
    /// The grant.
    pub grant: GrantId,
    /// To whom.
    pub practitioner: AccountId,
    /// For one item, or the record.
    pub item: Option<ItemId>,
    /// Who gave it.
    pub given_by: AccountId,
    /// When.
    pub given_at: Timestamp,
    /// When it ends.
    pub expires_at: Timestamp,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
}

/// A legal hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldRow {
    /// Its reference.
    pub reference: String,
    /// Who placed it.
    pub placed_by: AccountId,
    /// When.
    pub placed_at: Timestamp,
    /// When it was released.
    pub released_at: Option<Timestamp>,
}

/// A consent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsentRow {
    /// The consent.
    pub consent: ConsentId,
    /// Who gave it.
    pub account: AccountId,
    /// What for.
    pub purpose: String,
    /// The transfer it is for.
    pub transfer: Option<TransferId>,
    /// The attempt it is for.
    pub attempt: u64,
    /// From.
    pub source: RegionId,
    /// To.
    pub destination: Option<RegionId>,
    /// The offer's digest.
    pub offer: Option<Digest>,
    /// SHA-256 of everything it binds.
    pub digest: Digest,
    /// The text's version.
    pub notice_version: String,
    /// The text's language.
    pub locale: String,
    /// SHA-256 of the text.
    pub notice: Digest,
    /// `active`, `withdrawn`, `expired` or `completed`.
    pub status: String,
    /// When it was given.
    pub given_at: Timestamp,
    /// Until when it holds.
    pub expires_at: Timestamp,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// Whether a forwarding locator is wanted.
    pub locator: bool,
}

/// A line of a consent's history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsentEventRow {
    /// The consent.
    pub consent: ConsentId,
    /// Its line, from 1.
    pub sequence: u32,
    /// `given`, `withdrawn`, `expired` or `completed`.
    pub event: String,
    /// Who; `None` for the region's own work.
    pub actor: Option<AccountId>,
    /// In which role.
    pub role: String,
    /// When.
    pub at: Timestamp,
}

/// A secret that travels with the record. No `Debug`.
#[derive(Clone, Serialize, Deserialize)]
pub struct SecretRow {
    /// Its purpose, such as `fingerprint` or `pseudonym:eu`.
    pub purpose: String,
    /// The key.
    #[serde(with = "hex_bytes")]
    pub key: Vec<u8>,
}

/// An object's row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectRow {
    /// The object.
    pub object: ObjectId,
    /// The describing item.
    pub item: Option<ItemId>,
    /// Which practice's.
    pub practice: Option<PracticeId>,
    /// Plaintext length in bytes.
    pub length: u64,
    /// Chunks.
    pub chunks: u32,
}
