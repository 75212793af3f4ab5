//! Large sealed objects: what is known of each; the content lies in the object store.

use std::time::Duration;

use domicile_types::{Code, Error, ItemId, ObjectId, PracticeId, Result, SubjectId, Timestamp, TransferId};
use uuid::Uuid;

use crate::{FromRow, OnConflict, Row, Tx, values};

/// No upload takes longer: one that is pending since before has ended with the process it ran in.
pub const UPLOAD_TIME: Duration = Duration::from_secs(3_600);

/// Whether an object's content is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ObjectState {
    /// Registered before its first byte; an upload is under way, or was left behind.
    Pending,
    /// Described by an item.
    Complete,
}

impl ObjectState {
    /// The name in the table.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Complete => "complete",
        }
    }
}

/// One object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// The object.
    pub object: ObjectId,
    /// Whose.
    pub subject: SubjectId,
    /// The item that describes it; none while it is pending.
    pub item: Option<ItemId>,
    /// Which practice's; `None` for the client's own.
    pub practice: Option<PracticeId>,
    /// Plaintext length in bytes.
    pub length: u64,
    /// Sealed chunks.
    pub chunks: u32,
    /// The version of the record key.
    pub key_version: u32,
    /// Whether the content is there.
    pub state: ObjectState,
    /// Whether the content is still as it travelled, under the transfer's staging prefix.
    pub travelling: bool,
    /// The transfer that brought it.
    pub transfer: Option<TransferId>,
    /// Which file holds the content, for one that came with a transfer; `None` for an upload's.
    pub copy: Option<Uuid>,
    /// When it was registered.
    pub registered_at: Timestamp,
}

impl FromRow for Object {
    fn from_row(row: &Row) -> Result<Self> {
        let state: String = row.get("state")?;
        let state = match state.as_str() {
            "pending" => ObjectState::Pending,
            "complete" => ObjectState::Complete,
            _ => return Err(Error::new(Code::Internal).at("object.state")),
        };
        Ok(Self {
            object: row.get("object_id")?,
            subject: row.get("subject_id")?,
            item: row.maybe("item_id")?,
            practice: row.maybe("practice_id")?,
            length: row.get("length")?,
            chunks: row.get("chunks")?,
            key_version: row.get("key_version")?,
            state,
            travelling: row.get("travelling")?,
            transfer: row.maybe("transfer_id")?,
            copy: row.maybe("copy_id")?,
            registered_at: row.get("registered_at")?,
        })
    }
}

const COLUMNS: &[&str] = &[
    "object_id",
    "subject_id",
    "item_id",
    "practice_id",
    "length",
    "chunks",
    "key_version",
    "state",
    "travelling",
    "transfer_id",
    "copy_id",
    "registered_at",
];

/// Registers objects as given: an upload's intent, or what an adoption brought.
///
/// # Errors
/// [`Code::Conflict`] when one is known, else as [`Tx::execute`].
pub async fn insert_many(tx: &Tx, objects: Vec<Object>) -> Result<()> {
    let rows = objects
        .into_iter()
        .map(|object| {
            values![
                object.object,
                object.subject,
                object.item,
                object.practice,
                object.length,
                object.chunks,
                object.key_version,
                object.state.as_str(),
                object.travelling,
                object.transfer,
                object.copy,
                object.registered_at,
            ]
        })
        .collect();
    tx.insert_many("object", COLUMNS, rows, OnConflict::Fail).await.map(drop)
}

/// The upload is whole and its item written. `false` when the intent is gone.
///
/// # Errors
/// As [`Tx::execute`].
pub async fn complete(tx: &Tx, subject: SubjectId, object: ObjectId, item: ItemId) -> Result<bool> {
    let sql = "UPDATE object SET state = 'complete', item_id = $3 \
               WHERE subject_id = $1 AND object_id = $2 AND state = 'pending'";
    Ok(tx.execute(sql, values![subject, object, item]).await? == 1)
}

/// One object of the record.
///
/// # Errors
/// As [`Tx::one`].
pub async fn get(tx: &Tx, subject: SubjectId, object: ObjectId) -> Result<Option<Object>> {
    let sql = format!("SELECT {} FROM object WHERE subject_id = $1 AND object_id = $2", COLUMNS.join(", "));
    tx.one(&sql, values![subject, object]).await
}

/// Every object of the record in one state, by id.
///
/// # Errors
/// As [`Tx::all`].
pub async fn list(tx: &Tx, subject: SubjectId, state: ObjectState) -> Result<Vec<Object>> {
    let sql = format!(
        "SELECT {} FROM object WHERE subject_id = $1 AND state = $2 ORDER BY object_id",
        COLUMNS.join(", ")
    );
    tx.all(&sql, values![subject, state.as_str()]).await
}

/// Which file each object of the record is in.
///
/// # Errors
/// As [`Tx::rows`].
pub async fn copies(tx: &Tx, subject: SubjectId) -> Result<Vec<(ObjectId, Option<Uuid>)>> {
    let rows =
        tx.rows("SELECT object_id, copy_id FROM object WHERE subject_id = $1", values![subject]).await?;
    rows.iter().map(|row| Ok((row.get("object_id")?, row.maybe("copy_id")?))).collect()
}

/// Uploads of the record that are under way.
///
/// # Errors
/// As [`Tx::scalar`].
pub async fn open_uploads(tx: &Tx, subject: SubjectId) -> Result<u64> {
    let sql = "SELECT COUNT(*) AS value FROM object \
               WHERE subject_id = $1 AND state = 'pending' AND registered_at >= $2";
    Ok(tx.scalar(sql, values![subject, tx.now().minus(UPLOAD_TIME)]).await?.unwrap_or(0))
}

/// Uploads of the record that ended without saying so.
///
/// # Errors
/// As [`Tx::rows`].
pub async fn stale_uploads(tx: &Tx, subject: SubjectId) -> Result<Vec<ObjectId>> {
    let sql = "SELECT object_id FROM object \
               WHERE subject_id = $1 AND state = 'pending' AND registered_at < $2";
    let rows = tx.rows(sql, values![subject, tx.now().minus(UPLOAD_TIME)]).await?;
    rows.iter().map(|row| row.get("object_id")).collect()
}

/// Objects of the record whose content is still as it travelled, by id.
///
/// # Errors
/// As [`Tx::all`].
pub async fn travelling(tx: &Tx, subject: SubjectId) -> Result<Vec<Object>> {
    let sql = format!(
        "SELECT {} FROM object WHERE subject_id = $1 AND travelling ORDER BY object_id",
        COLUMNS.join(", ")
    );
    tx.all(&sql, values![subject]).await
}

/// The content is sealed again under this region's record key, in a file of its own. `false` when it was
/// done before.
///
/// # Errors
/// As [`Tx::execute`].
pub async fn resealed(
    tx: &Tx,
    subject: SubjectId,
    object: ObjectId,
    key_version: u32,
    copy: Uuid,
) -> Result<bool> {
    let sql = "UPDATE object SET travelling = FALSE, transfer_id = NULL, key_version = $3, copy_id = $4 \
               WHERE subject_id = $1 AND object_id = $2 AND travelling";
    Ok(tx.execute(sql, values![subject, object, key_version, copy]).await? == 1)
}

/// Forgets an upload that did not end well. `false` when it is complete or gone.
///
/// # Errors
/// As [`Tx::execute`].
pub async fn forget(tx: &Tx, subject: SubjectId, object: ObjectId) -> Result<bool> {
    let sql = "DELETE FROM object WHERE subject_id = $1 AND object_id = $2 AND state = 'pending'";
    Ok(tx.execute(sql, values![subject, object]).await? == 1)
}
