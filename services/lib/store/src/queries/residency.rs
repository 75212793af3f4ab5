//! Where a record is at home, and its counters.
//!
//! Every write of a record begins here: [`write_begin`] raises the revision in the row a freeze changes,
//! so revisions follow commit order and no write is in flight once a record is frozen.

use std::time::Duration;

use domicile_types::{AccountId, Code, Error, PracticeId, RegionId, Result, SubjectId, Timestamp};

use crate::queries::scoped::{Binds, Reader};
use crate::{FromRow, Row, Tx, values};

/// When a write to a frozen record may be tried again.
const FROZEN_RETRY: Duration = Duration::from_millis(100);
/// When a request to an arriving record may be tried again.
const ARRIVING_RETRY: Duration = Duration::from_millis(200);

/// What a region may do with a record. At most one region is [`Standing::Active`] for a subject, ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Standing {
    /// Reads and writes.
    Active,
    /// Reads; the control rows stay writable.
    Frozen,
    /// Nothing is served yet.
    Incoming,
    /// Reads, until the destination has adopted.
    Released,
    /// Moved away: a tombstone.
    Departed,
}

impl Standing {
    /// The name in the table.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "Active",
            Self::Frozen => "Frozen",
            Self::Incoming => "Incoming",
            Self::Released => "Released",
            Self::Departed => "Departed",
        }
    }

    /// Finds a standing by its name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Active, Self::Frozen, Self::Incoming, Self::Released, Self::Departed]
            .into_iter()
            .find(|standing| standing.as_str() == name)
    }
}

/// Who chose the record's region (P18).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RegionChoice {
    /// The client, before anything was sent.
    Client,
    /// The practice; the client's choice is awaited.
    PracticeDefault,
}

impl RegionChoice {
    /// The name in the table.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::PracticeDefault => "practice_default",
        }
    }

    /// Finds a choice by its name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Client, Self::PracticeDefault].into_iter().find(|choice| choice.as_str() == name)
    }
}

/// A record's residency in this region.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Residence {
    /// Whose record.
    pub subject: SubjectId,
    /// How often it has moved, plus one; only rises.
    pub epoch: u64,
    /// What this region may do with it.
    pub standing: Standing,
    /// Where it went, from Released on.
    pub moved_to: Option<RegionId>,
    /// The counter of the record's writes.
    pub revision: u64,
    /// The counter of its control rows.
    pub control_revision: u64,
    /// The counter of its transfers.
    pub attempt: u64,
    /// The counter of its freezes within the attempt.
    pub freeze: u64,
    /// Who chose the region.
    pub choice: RegionChoice,
    /// When the row was made.
    pub created_at: Timestamp,
    /// When the standing changed.
    pub changed_at: Timestamp,
}

impl FromRow for Residence {
    fn from_row(row: &Row) -> Result<Self> {
        let misfit = |column: &str| Error::new(Code::Internal).at(format!("residency.{column}"));
        let standing: String = row.get("standing")?;
        let choice: String = row.get("region_choice")?;
        Ok(Self {
            subject: row.get("subject_id")?,
            epoch: row.get("epoch")?,
            standing: Standing::parse(&standing).ok_or_else(|| misfit("standing"))?,
            moved_to: row.maybe("moved_to")?,
            revision: row.get("revision")?,
            control_revision: row.get("control_revision")?,
            attempt: row.get("attempt")?,
            freeze: row.get("freeze_number")?,
            choice: RegionChoice::parse(&choice).ok_or_else(|| misfit("region_choice"))?,
            created_at: row.get("created_at")?,
            changed_at: row.get("changed_at")?,
        })
    }
}

/// The right to write a record in this transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Writing {
    /// The last of the reserved revisions; with one reserved, the revision to write.
    pub revision: u64,
    /// The record's epoch here.
    pub epoch: u64,
}

struct Raised(Writing);

impl FromRow for Raised {
    fn from_row(row: &Row) -> Result<Self> {
        Ok(Self(Writing { revision: row.get("revision")?, epoch: row.get("epoch")? }))
    }
}

/// A practitioner who writes in a client's record, for the practice of an open care relationship.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Carer {
    /// The practitioner.
    pub practitioner: AccountId,
    /// Their practice.
    pub practice: PracticeId,
}

const COLUMNS: &str = "r.subject_id, r.epoch, r.standing, r.moved_to, r.revision, r.control_revision, \
                       r.attempt, r.freeze_number, r.region_choice, r.created_at, r.changed_at";

/// An open care relationship of the carer `($2, $3)` with the client `$1`.
const CARED: &str = "EXISTS (SELECT 1 FROM care_relationship c WHERE c.subject_id = $1 \
                     AND c.practitioner_id = $2 AND c.practice_id = $3 AND c.ended_at IS NULL)";

/// A new record, at home here at epoch 1. `false` when the subject is known already.
///
/// # Errors
/// As [`Tx::execute`].
pub async fn open(tx: &Tx, subject: SubjectId, choice: RegionChoice, now: Timestamp) -> Result<bool> {
    let sql = "INSERT INTO residency (subject_id, epoch, standing, revision, control_revision, attempt, \
               freeze_number, region_choice, created_at, changed_at) \
               VALUES ($1, 1, 'Active', 0, 0, 0, 0, $2, $3, $4) ON CONFLICT DO NOTHING";
    Ok(tx.execute(sql, values![subject, choice.as_str(), now, now]).await? == 1)
}

/// The residency, whatever the standing.
///
/// # Errors
/// As [`Tx::one`].
pub async fn get(tx: &Tx, subject: SubjectId) -> Result<Option<Residence>> {
    tx.one(&format!("SELECT {COLUMNS} FROM residency r WHERE r.subject_id = $1"), values![subject]).await
}

/// The residency, locked until the transaction ends. Consents and transfers are locked before it.
///
/// # Errors
/// As [`Tx::one`].
pub async fn lock(tx: &Tx, subject: SubjectId) -> Result<Option<Residence>> {
    let sql = format!("SELECT {COLUMNS} FROM residency r WHERE r.subject_id = $1{}", tx.for_update());
    tx.one(&sql, values![subject]).await
}

/// Writes the whole row: every column as given. The caller holds the [`lock`].
///
/// # Errors
/// [`Code::NotFound`] when there is no such row, else as [`Tx::execute`].
pub async fn set(tx: &Tx, home: &Residence) -> Result<()> {
    let sql = "UPDATE residency SET epoch = $2, standing = $3, moved_to = $4, revision = $5, \
               control_revision = $6, attempt = $7, freeze_number = $8, region_choice = $9, changed_at = $10 \
               WHERE subject_id = $1";
    let values = values![
        home.subject,
        home.epoch,
        home.standing.as_str(),
        home.moved_to.as_ref(),
        home.revision,
        home.control_revision,
        home.attempt,
        home.freeze,
        home.choice.as_str(),
        home.changed_at,
    ];
    match tx.execute(sql, values).await? {
        0 => Err(Error::new(Code::NotFound)),
        _ => Ok(()),
    }
}

/// Inserts the whole row, or writes it over the tombstone of a record that comes back.
///
/// # Errors
/// As [`Tx::execute`].
pub async fn put(tx: &Tx, home: &Residence) -> Result<()> {
    let sql = "INSERT INTO residency (subject_id, epoch, standing, moved_to, revision, control_revision, \
               attempt, freeze_number, region_choice, created_at, changed_at) \
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) \
               ON CONFLICT (subject_id) DO UPDATE SET epoch = excluded.epoch, standing = excluded.standing, \
               moved_to = excluded.moved_to, revision = excluded.revision, \
               control_revision = excluded.control_revision, attempt = excluded.attempt, \
               freeze_number = excluded.freeze_number, region_choice = excluded.region_choice, \
               changed_at = excluded.changed_at";
    let values = values![
        home.subject,
        home.epoch,
        home.standing.as_str(),
        home.moved_to.as_ref(),
        home.revision,
        home.control_revision,
        home.attempt,
        home.freeze,
        home.choice.as_str(),
        home.created_at,
        home.changed_at,
    ];
    tx.execute(sql, values).await.map(drop)
}

/// Begins a write of the record: reserves `reserve` revisions (0 only takes the lock), in the row a
/// freeze changes.
///
/// # Errors
/// [`Code::RecordFrozen`] and [`Code::RecordArriving`] with a time to try again, [`Code::RecordMoved`]
/// with region and epoch, [`Code::NotFound`].
pub async fn write_begin(tx: &Tx, subject: SubjectId, reserve: u64) -> Result<Writing> {
    let sql = "UPDATE residency SET revision = revision + $2 WHERE subject_id = $1 AND standing = 'Active' \
               RETURNING revision, epoch";
    match tx.one::<Raised>(sql, values![subject, reserve]).await? {
        Some(Raised(writing)) => Ok(writing),
        None => Err(unwritable(get(tx, subject).await?)),
    }
}

/// As [`write_begin`], for a practitioner: the open care relationship is checked in the same statement (P10).
///
/// # Errors
/// As [`write_begin`]; without the relationship [`Code::NotFound`], as though there were no record.
pub async fn write_begin_as(tx: &Tx, subject: SubjectId, carer: Carer, reserve: u64) -> Result<Writing> {
    let sql = format!(
        "UPDATE residency SET revision = revision + $4 WHERE subject_id = $1 AND standing = 'Active' \
         AND {CARED} RETURNING revision, epoch"
    );
    let values = values![subject, carer.practitioner, carer.practice, reserve];
    if let Some(Raised(writing)) = tx.one::<Raised>(&sql, values).await? {
        return Ok(writing);
    }
    Err(unwritable(cared_for(tx, subject, carer).await?))
}

/// Whether a write of the record could begin now, for the client or a carer; takes no lock.
///
/// # Errors
/// As [`write_begin_as`].
pub async fn write_check(tx: &Tx, subject: SubjectId, carer: Option<Carer>) -> Result<Residence> {
    let home = match carer {
        None => get(tx, subject).await?,
        Some(carer) => cared_for(tx, subject, carer).await?,
    };
    match home {
        Some(home) if home.standing == Standing::Active => Ok(home),
        other => Err(unwritable(other)),
    }
}

async fn cared_for(tx: &Tx, subject: SubjectId, carer: Carer) -> Result<Option<Residence>> {
    let sql = format!("SELECT {COLUMNS} FROM residency r WHERE r.subject_id = $1 AND {CARED}");
    tx.one(&sql, values![subject, carer.practitioner, carer.practice]).await
}

/// Begins a change of the record's control rows (consents, grants, holds, care): raises their counter,
/// which is allowed while the record is frozen. Answers the counter.
///
/// # Errors
/// [`Code::RecordArriving`] while Released, [`Code::RecordMoved`] afterwards, [`Code::NotFound`].
pub async fn control_touch(tx: &Tx, subject: SubjectId) -> Result<u64> {
    let sql = "UPDATE residency SET control_revision = control_revision + 1 WHERE subject_id = $1 \
               AND standing IN ('Active', 'Frozen') RETURNING control_revision AS value";
    match tx.scalar(sql, values![subject]).await? {
        Some(revision) => Ok(revision),
        None => Err(unwritable(get(tx, subject).await?)),
    }
}

/// Whether a reader is served: Active and Frozen records are, a Released one for `served` after its release.
///
/// # Errors
/// [`Code::RecordArriving`], [`Code::RecordMoved`]; [`Code::NotFound`] also for a reader without access.
pub async fn read_check(tx: &Tx, subject: SubjectId, reader: Reader, served: Duration) -> Result<Residence> {
    let mut binds = Binds::new(subject, tx.now());
    let access = binds.access(reader);
    let sql = format!("SELECT {COLUMNS} FROM residency r WHERE r.subject_id = $1 AND {access}");
    let home: Option<Residence> = tx.one(&sql, binds.values()).await?;
    let home = home.ok_or_else(|| Error::new(Code::NotFound))?;
    serves(home.standing, home.moved_to.as_ref(), home.epoch, home.changed_at, tx.now(), served)?;
    Ok(home)
}

/// The part of [`read_check`] that needs no database.
///
/// # Errors
/// [`Code::RecordArriving`], [`Code::RecordMoved`].
pub fn serves(
    standing: Standing,
    moved_to: Option<&RegionId>,
    epoch: u64,
    changed_at: Timestamp,
    now: Timestamp,
    served: Duration,
) -> Result<()> {
    match standing {
        Standing::Active | Standing::Frozen => Ok(()),
        // The destination has adopted: its word counts, however fresh the release.
        Standing::Released if moved_to.is_some() => Err(moved(moved_to, epoch)),
        Standing::Released if now <= changed_at.plus(served) => Ok(()),
        Standing::Released | Standing::Incoming => Err(arriving()),
        Standing::Departed => Err(moved(moved_to, epoch)),
    }
}

/// Why a record cannot be written.
fn unwritable(home: Option<Residence>) -> Error {
    let Some(home) = home else { return Error::new(Code::NotFound) };
    match home.standing {
        // Active: it changed between two statements of this transaction; the same request may succeed.
        Standing::Active | Standing::Frozen => Error::new(Code::RecordFrozen).retry_after(FROZEN_RETRY),
        Standing::Incoming => arriving(),
        Standing::Released if home.moved_to.is_none() => arriving(),
        Standing::Released | Standing::Departed => moved(home.moved_to.as_ref(), home.epoch),
    }
}

fn arriving() -> Error {
    Error::new(Code::RecordArriving).retry_after(ARRIVING_RETRY)
}

fn moved(to: Option<&RegionId>, epoch: u64) -> Error {
    let error = Error::new(Code::RecordMoved);
    match to {
        Some(region) => error.moved_to(region.clone(), epoch),
        None => error,
    }
}

/// Who may be told where a moved record is: kept as hashes beside the tombstone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entitled {
    /// A practice that cared for the client.
    Practice(PracticeId),
    /// An account, the client's own.
    Account(AccountId),
    /// A session, by its token's SHA-256.
    Session([u8; 32]),
}

impl Entitled {
    /// The name in the table.
    #[must_use]
    pub const fn kind(self) -> &'static str {
        match self {
            Self::Practice(_) => "practice",
            Self::Account(_) => "account",
            Self::Session(_) => "session",
        }
    }

    /// What the table keeps: an id's hash is bound to the subject, so that two tombstones cannot be joined by it.
    #[must_use]
    pub fn hash(self, subject: SubjectId) -> [u8; 32] {
        let id = match self {
            Self::Practice(practice) => *practice.as_bytes(),
            Self::Account(account) => *account.as_bytes(),
            Self::Session(hash) => return hash,
        };
        domicile_crypto::sha256(&[b"domicile/entitled/1".as_slice(), subject.as_bytes(), &id].concat())
    }
}

/// Keeps who may be told where a moved record is.
///
/// # Errors
/// As [`Tx::execute`].
pub async fn entitle(tx: &Tx, subject: SubjectId, who: &[Entitled]) -> Result<()> {
    let rows = who.iter().map(|who| values![subject, who.kind(), who.hash(subject)]).collect();
    let columns = ["subject_id", "kind", "hash"];
    tx.insert_many("tombstone_entitled", &columns, rows, crate::OnConflict::Ignore).await.map(drop)
}

/// Where a moved record is, for one who may know; `None` for anybody else, and for a record that has
/// not moved. Those who may know are noted as the erasure begins, so the answer stays the same while
/// the rows that made them known are going.
///
/// # Errors
/// As [`Tx::one`].
pub async fn departed(tx: &Tx, subject: SubjectId, who: &[Entitled]) -> Result<Option<Residence>> {
    for who in who {
        let sql = format!(
            "SELECT {COLUMNS} FROM residency r JOIN tombstone_entitled t ON t.subject_id = r.subject_id \
             WHERE r.subject_id = $1 AND r.standing IN ('Released', 'Departed') \
               AND r.moved_to IS NOT NULL AND t.kind = $2 AND t.hash = $3"
        );
        let home = tx.one(&sql, values![subject, who.kind(), who.hash(subject)]).await?;
        if home.is_some() {
            return Ok(home);
        }
    }
    Ok(None)
}
