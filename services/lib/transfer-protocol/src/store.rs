//! The named operations a region's store offers to its transfers. Each is one transaction; a decision
//! is a pure function of the facts that transaction saw, locked in the order consent, transfer, residency.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use domicile_evidence::statement::SignedStatement;
use domicile_types::{
    AuditScope, Code, Error, ItemId, ObjectId, PageId, RegionId, Result, SubjectId, Timestamp, TransferId,
};
use uuid::Uuid;

use crate::destination::{Destination, DestinationChange, DestinationFacts};
use crate::digest::Digest;
use crate::lanes::Received;
use crate::manifest::{Manifest, RowEntry};
use crate::rows::{
    AdoptedRow, ConsentEventRow, ConsentRow, ControlRows, Feed, FeedRow, Progress, RekeyedRow, Remains,
    SentObject, SentRow, SourceObject, StagedObject, StagedPage, StagedRow, StagedTotals, Totals,
    TravellingRow,
};
use crate::source::{Source, SourceChange, SourceFacts, Unsent};

/// A decision over the source's facts; `None` changes nothing.
pub type SourceDecision = Arc<dyn Fn(&SourceFacts) -> Result<Option<SourceChange>> + Send + Sync>;

/// A decision over the destination's facts; `None` changes nothing.
pub type DestinationDecision =
    Arc<dyn Fn(&DestinationFacts) -> Result<Option<DestinationChange>> + Send + Sync>;

/// Who drives a step, and which attempt it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Driver {
    /// The attempt.
    pub attempt: u64,
    /// The fencing token.
    pub token: u64,
}

impl Driver {
    /// Refuses a driver of another attempt or behind the highest token seen.
    ///
    /// # Errors
    /// [`Code::AttemptStale`], [`Code::TokenStale`].
    pub fn check(self, attempt: u64, token: u64) -> Result<()> {
        if self.attempt != attempt {
            Err(Error::new(Code::AttemptStale))
        } else if self.token < token {
            Err(Error::new(Code::TokenStale))
        } else {
            Ok(())
        }
    }
}

/// The lease on one transfer's work in a region: one task of one process holds it at a time, and what it
/// changes is refused once another has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Work {
    /// The transfer.
    pub transfer: TransferId,
    /// Who holds it: a name for this one holding.
    pub holder: Uuid,
    /// The fencing token.
    pub token: u64,
}

/// A transfer in either role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Row {
    /// This region is the source.
    Source(Box<Source>),
    /// This region is the destination.
    Destination(Box<Destination>),
}

/// What a request for a transfer names.
#[derive(Clone, Debug)]
pub struct Request {
    /// A fresh id.
    pub transfer: TransferId,
    /// Whose record.
    pub subject: SubjectId,
    /// Who asks.
    pub account: domicile_types::AccountId,
    /// Where to.
    pub to: RegionId,
    /// The caller's idempotency key.
    pub idempotency: String,
}

/// A consent with its first line of history, to be written with the Consented step.
#[derive(Clone, Debug)]
pub struct NewConsent {
    /// The row.
    pub row: ConsentRow,
    /// Whose record.
    pub subject: SubjectId,
}

/// Which transfers to list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listing {
    /// One subject's, newest first.
    Subject(SubjectId),
    /// Every transfer of the region, newest first.
    Everything,
}

/// A region's store, as its transfers see it.
#[async_trait]
pub trait TransferStore: Clone + Send + Sync + 'static {
    /// Takes the lease on a transfer's work for some time; `None` while another holds it.
    async fn work_take(&self, transfer: TransferId, holder: Uuid, lasts: Duration) -> Result<Option<Work>>;
    /// Renews it; `false` when it is another's, or was.
    async fn work_renew(&self, work: Work, lasts: Duration) -> Result<bool>;
    /// Gives it back.
    async fn work_end(&self, work: Work) -> Result<()>;
    /// Whether anybody holds it, in any process.
    async fn work_held(&self, transfer: TransferId) -> Result<bool>;
    /// The same store, whose changes are refused with [`Code::TokenStale`] once the lease is another's.
    #[must_use]
    fn under(&self, work: Work) -> Self;

    /// Transfers in either role that do not rest, by id.
    async fn open(&self) -> Result<Vec<Row>>;
    /// One transfer.
    async fn find(&self, transfer: TransferId) -> Result<Option<Row>>;
    /// Transfers for people: at most 500, newest first.
    async fn list(&self, listing: Listing, resting: bool) -> Result<Vec<Row>>;
    /// Takes or renews the lease; the fencing token, or `None` when another holder has it.
    async fn lease(&self, transfer: TransferId, holder: Uuid) -> Result<Option<u64>>;
    /// Statements of one lane past a sequence number, in order.
    async fn statements(
        &self,
        transfer: TransferId,
        origin: RegionId,
        after: u64,
    ) -> Result<Vec<SignedStatement>>;
    /// Keeps the other log's checkpoint with the transfer, and the audit entry that says so.
    async fn keep_checkpoint(&self, transfer: TransferId, note: String) -> Result<()>;
    /// Checkpoints kept with the transfer.
    async fn checkpoints(&self, transfer: TransferId) -> Result<Vec<String>>;

    /// A new transfer from here, or the one this idempotency key already made.
    async fn request(&self, request: Request, scope: Option<Arc<AuditScope>>) -> Result<Source>;
    /// Decides over a source row in one transaction.
    async fn decide_source(
        &self,
        name: &'static str,
        transfer: TransferId,
        driver: Option<Driver>,
        scope: Option<Arc<AuditScope>>,
        decision: SourceDecision,
    ) -> Result<Source>;
    /// Consented: the decision and the consent's rows in one transaction.
    async fn consent(
        &self,
        transfer: TransferId,
        consent: NewConsent,
        scope: Option<Arc<AuditScope>>,
        decision: SourceDecision,
    ) -> Result<(Source, SignedStatement)>;
    /// Every consent of a subject with its history.
    async fn consents(&self, subject: SubjectId) -> Result<(Vec<ConsentRow>, Vec<ConsentEventRow>)>;
    /// The offer as kept.
    async fn offer(&self, transfer: TransferId) -> Result<Option<String>>;
    /// Source rows whose deadline, consent or freeze budget is over, or that have stood still too long.
    async fn due(&self, now: Timestamp) -> Result<Vec<TransferId>>;

    /// The record's revision in this region.
    async fn revision(&self, subject: SubjectId) -> Result<u64>;
    /// The record's epoch in this region.
    async fn epoch(&self, subject: SubjectId) -> Result<u64>;
    /// What a record holds.
    async fn totals(&self, subject: SubjectId) -> Result<Totals>;
    /// The record's rows past a revision: at most `rows` rows and about `bytes` payload bytes.
    async fn feed(&self, subject: SubjectId, after: u64, rows: u32, bytes: u64) -> Result<Feed>;
    /// Named rows of the record.
    async fn feed_only(&self, subject: SubjectId, only: Vec<(ItemId, u32)>) -> Result<Vec<FeedRow>>;
    /// One object of the record.
    async fn source_object(&self, subject: SubjectId, object: ObjectId) -> Result<Option<SourceObject>>;
    /// Stores the digests of rows about to be sent, a range of revisions or rows that were named; refuses
    /// unless rows may be sent now.
    async fn record_sent(&self, transfer: TransferId, rows: Vec<SentRow>, named: bool) -> Result<()>;
    /// Stores the digest of an object; refuses unless rows may be sent now.
    async fn record_sent_object(&self, transfer: TransferId, object: SentObject) -> Result<()>;
    /// What has not been sent yet.
    async fn unsent(&self, transfer: TransferId) -> Result<Unsent>;
    /// The live tables joined to the stored digests; a row or object without one is an error.
    async fn source_manifest(&self, transfer: TransferId) -> Result<Manifest>;
    /// Digests stored for the way, for a destination that compares.
    async fn sent_rows(&self, transfer: TransferId) -> Result<Vec<RowEntry>>;
    /// How far copying is.
    async fn progress(&self, transfer: TransferId) -> Result<Progress>;
    /// The control rows as they are now; e-mail, name and secrets are filled in by the caller.
    async fn control_rows(&self, subject: SubjectId) -> Result<ControlRows>;
    /// The sealed e-mail address and name of the subject's account.
    async fn account_sealed(&self, subject: SubjectId) -> Result<Option<SealedAccount>>;
    /// The key release, once Released stands.
    async fn key_release(&self, transfer: TransferId) -> Result<Option<Vec<u8>>>;
    /// Erases up to `limit` rows of the subject and of the transfer's digests; how many went.
    async fn erase(&self, transfer: TransferId, limit: u32) -> Result<u64>;
    /// What is left of the subject beyond what the data map declares to stay.
    async fn remains(&self, subject: SubjectId) -> Result<Remains>;
    /// Drops the digests of an ended attempt.
    async fn forget_sent(&self, transfer: TransferId) -> Result<()>;

    /// A transfer that comes here; the row that is already there when it is known.
    async fn invite(&self, received: Received, decision: DestinationDecision) -> Result<Destination>;
    /// Decides over a destination row in one transaction.
    async fn decide_destination(
        &self,
        name: &'static str,
        transfer: TransferId,
        driver: Option<Driver>,
        decision: DestinationDecision,
    ) -> Result<Destination>;
    /// Takes in a page with its rows and moves the cursor, in one transaction.
    async fn stage(
        &self,
        transfer: TransferId,
        page: StagedPage,
        rows: Vec<StagedRow>,
        range: Option<(u64, u64)>,
        decision: DestinationDecision,
    ) -> Result<Destination>;
    /// Takes in an object.
    async fn stage_object(&self, transfer: TransferId, object: StagedObject) -> Result<()>;
    /// Objects that staged rows refer to and that are not here yet.
    async fn missing_objects(&self, transfer: TransferId) -> Result<Vec<ObjectId>>;
    /// Staged objects.
    async fn staged_objects(&self, transfer: TransferId) -> Result<Vec<StagedObject>>;
    /// What is staged, as a manifest.
    async fn staged_manifest(&self, transfer: TransferId) -> Result<(Manifest, StagedTotals)>;
    /// Drops staged rows.
    async fn drop_staged(&self, transfer: TransferId, rows: Vec<(ItemId, u32)>) -> Result<()>;
    /// Item ids that exist here and do not belong to what this subject left behind.
    async fn collisions(&self, transfer: TransferId) -> Result<u64>;
    /// Staged pages.
    async fn staged_pages(&self, transfer: TransferId) -> Result<Vec<StagedPage>>;
    /// Staged rows without their payloads.
    async fn staged_headers(&self, transfer: TransferId) -> Result<Vec<StagedRow>>;
    /// Adopted: every row, the control rows, the residency and the statement in one transaction.
    async fn adopt(
        &self,
        transfer: TransferId,
        adoption: Adoption,
        decision: DestinationDecision,
    ) -> Result<Destination>;
    /// Adopted rows whose payload is still in travel form: of the first page, by id, past `after`; at most `limit`.
    async fn travelling(
        &self,
        transfer: TransferId,
        after: Option<PageId>,
        limit: u32,
    ) -> Result<Vec<TravellingRow>>;
    /// Stores rows sealed again and drops their travel form.
    async fn rekey(&self, transfer: TransferId, rows: Vec<RekeyedRow>) -> Result<()>;
    /// Adopted objects whose content is still in travel form.
    async fn travelling_objects(&self, transfer: TransferId) -> Result<Vec<(SourceObject, StagedObject)>>;
    /// Whether anything of the adopted record is still in travel form.
    async fn any_travelling(&self, transfer: TransferId) -> Result<bool>;
    /// An object's content is sealed again, in a file of its own.
    async fn rekey_object(
        &self,
        transfer: TransferId,
        object: ObjectId,
        key_version: u32,
        copy: Uuid,
    ) -> Result<()>;
    /// Which files of a record its objects are in.
    async fn object_copies(&self, subject: SubjectId) -> Result<Vec<(ObjectId, Option<Uuid>)>>;
    /// Erases up to `limit` staged rows, pages and objects; how many went.
    async fn purge(&self, transfer: TransferId, limit: u32) -> Result<u64>;
    /// A backup that covers everything committed so far: its digest. Waits until there is one.
    async fn backed_up(&self, transfer: TransferId) -> Result<Digest>;
}

/// The account's sealed fields, to be opened by who holds the keys.
#[derive(Clone)]
pub struct SealedAccount {
    /// The account.
    pub account: domicile_types::AccountId,
    /// The sealed e-mail address.
    pub email: Option<Vec<u8>>,
    /// The sealed name.
    pub name: Option<Vec<u8>>,
}

/// Everything adoption writes.
#[derive(Clone)]
pub struct Adoption {
    /// The rows.
    pub rows: Arc<Vec<AdoptedRow>>,
    /// The control rows.
    pub control: Arc<ControlRows>,
    /// The record's epoch here.
    pub epoch: u64,
    /// The account's e-mail address, sealed under this region's keys.
    pub email_sealed: Option<Vec<u8>>,
    /// The account's name, sealed under this region's keys.
    pub name_sealed: Option<Vec<u8>>,
    /// The e-mail address's blind index in this region.
    pub email_index: Option<[u8; 32]>,
}
