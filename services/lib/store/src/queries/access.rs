//! Care relationships, grants of access and legal holds: control rows, which stay writable while a
//! record is frozen. Each change begins with [`residency::control_touch`](super::residency::control_touch).

use domicile_transfer_protocol::rows::{CareRow, GrantRow, HoldRow};
use domicile_types::{AccountId, GrantId, PracticeId, Result, SubjectId, Timestamp};

use crate::{Column as _, FromRow, OnConflict, Row, Tx, values};

impl FromRow for CareRow {
    fn from_row(row: &Row) -> Result<Self> {
        Ok(Self {
            practitioner: row.get("practitioner_id")?,
            practice: row.get("practice_id")?,
            started_at: row.get("started_at")?,
            ended_at: row.maybe("ended_at")?,
        })
    }
}

impl FromRow for GrantRow {
    fn from_row(row: &Row) -> Result<Self> {
        Ok(Self {
            grant: row.get("grant_id")?,
            practitioner: row.get("practitioner_id")?,
            item: row.maybe("item_id")?,
            given_by: row.get("given_by")?,
            given_at: row.get("given_at")?,
            expires_at: row.get("expires_at")?,
            revoked_at: row.maybe("revoked_at")?,
        })
    }
}

impl FromRow for HoldRow {
    fn from_row(row: &Row) -> Result<Self> {
        Ok(Self {
            reference: row.get("reference")?,
            placed_by: row.get("placed_by")?,
            placed_at: row.get("placed_at")?,
            released_at: row.maybe("released_at")?,
        })
    }
}

/// Opens a care relationship. `false` when one with this practitioner is open.
///
/// # Errors
/// As [`Tx::execute`].
pub async fn care_open(
    tx: &Tx,
    subject: SubjectId,
    practitioner: AccountId,
    practice: PracticeId,
    at: Timestamp,
) -> Result<bool> {
    let sql = "INSERT INTO care_relationship (subject_id, practitioner_id, practice_id, started_at) \
               SELECT $1, $2, $3, $4 WHERE NOT EXISTS (SELECT 1 FROM care_relationship c \
               WHERE c.subject_id = $1 AND c.practitioner_id = $2 AND c.ended_at IS NULL)";
    Ok(tx.execute(sql, values![subject, practitioner, practice, at]).await? == 1)
}

/// Ends the open care relationship with a practitioner, of one practice where given. `false` when none is open.
///
/// # Errors
/// As [`Tx::execute`].
pub async fn care_close(
    tx: &Tx,
    subject: SubjectId,
    practitioner: AccountId,
    practice: Option<PracticeId>,
    at: Timestamp,
) -> Result<bool> {
    let (sql, mut values) = (
        "UPDATE care_relationship SET ended_at = $3 \
         WHERE subject_id = $1 AND practitioner_id = $2 AND ended_at IS NULL",
        values![subject, practitioner, at],
    );
    let ended = match practice {
        None => tx.execute(sql, values).await?,
        Some(practice) => {
            values.extend(values![practice]);
            tx.execute(&format!("{sql} AND practice_id = $4"), values).await?
        }
    };
    Ok(ended > 0)
}

/// Every care relationship of the record: open ones first, then the newest.
///
/// # Errors
/// As [`Tx::all`].
pub async fn care_list(tx: &Tx, subject: SubjectId) -> Result<Vec<CareRow>> {
    let sql = "SELECT practitioner_id, practice_id, started_at, ended_at FROM care_relationship \
               WHERE subject_id = $1 ORDER BY CASE WHEN ended_at IS NULL THEN 0 ELSE 1 END, \
               started_at DESC, practitioner_id";
    tx.all(sql, values![subject]).await
}

/// Whether a practice cares for the client now.
///
/// # Errors
/// As [`Tx::scalar`].
pub async fn care_of_practice(tx: &Tx, subject: SubjectId, practice: PracticeId) -> Result<bool> {
    let sql = "SELECT COUNT(*) AS value FROM care_relationship \
               WHERE subject_id = $1 AND practice_id = $2 AND ended_at IS NULL";
    Ok(tx.scalar::<i64>(sql, values![subject, practice]).await?.unwrap_or(0) > 0)
}

/// The practices whose items or open care relationships are in the record, by id.
///
/// # Errors
/// As [`Tx::rows`].
pub async fn practices(tx: &Tx, subject: SubjectId) -> Result<Vec<PracticeId>> {
    let sql = "SELECT practice_id FROM care_relationship WHERE subject_id = $1 AND ended_at IS NULL \
               UNION SELECT practice_id FROM item WHERE subject_id = $1 AND practice_id IS NOT NULL \
               ORDER BY practice_id";
    let rows = tx.rows(sql, values![subject]).await?;
    Ok(rows
        .iter()
        .map(|row| PracticeId::read(row, "practice_id"))
        .collect::<Result<Vec<_>>>()?
        .into_iter()
        .flatten()
        .collect())
}

/// Writes care relationships as they came with a record.
///
/// # Errors
/// As [`Tx::execute`].
pub async fn care_insert_many(tx: &Tx, subject: SubjectId, care: &[CareRow]) -> Result<()> {
    let columns = ["subject_id", "practitioner_id", "practice_id", "started_at", "ended_at"];
    let rows = care
        .iter()
        .map(|row| values![subject, row.practitioner, row.practice, row.started_at, row.ended_at])
        .collect();
    tx.insert_many("care_relationship", &columns, rows, OnConflict::Ignore).await.map(drop)
}

/// Gives grants, or writes them as they came with a record.
///
/// # Errors
/// As [`Tx::execute`].
pub async fn grant_insert_many(tx: &Tx, subject: SubjectId, grants: &[GrantRow]) -> Result<()> {
    let columns = [
        "grant_id",
        "subject_id",
        "practitioner_id",
        "item_id",
        "given_by",
        "given_at",
        "expires_at",
        "revoked_at",
    ];
    let rows = grants
        .iter()
        .map(|row| {
            values![
                row.grant,
                subject,
                row.practitioner,
                row.item,
                row.given_by,
                row.given_at,
                row.expires_at,
                row.revoked_at
            ]
        })
        .collect();
    tx.insert_many("access_grant", &columns, rows, OnConflict::Ignore).await.map(drop)
}

/// One grant of the record.
///
/// # Errors
/// As [`Tx::one`].
pub async fn grant_get(tx: &Tx, subject: SubjectId, grant: GrantId) -> Result<Option<GrantRow>> {
    let sql = "SELECT grant_id, practitioner_id, item_id, given_by, given_at, expires_at, revoked_at \
               FROM access_grant WHERE subject_id = $1 AND grant_id = $2";
    tx.one(sql, values![subject, grant]).await
}

/// Ends a grant; one that has ended stays as it is.
///
/// # Errors
/// As [`Tx::execute`].
pub async fn grant_revoke(tx: &Tx, subject: SubjectId, grant: GrantId, at: Timestamp) -> Result<()> {
    let sql = "UPDATE access_grant SET revoked_at = $3 \
               WHERE subject_id = $1 AND grant_id = $2 AND revoked_at IS NULL";
    tx.execute(sql, values![subject, grant, at]).await.map(drop)
}

/// Every grant of the record, newest first.
///
/// # Errors
/// As [`Tx::all`].
pub async fn grant_list(tx: &Tx, subject: SubjectId) -> Result<Vec<GrantRow>> {
    let sql = "SELECT grant_id, practitioner_id, item_id, given_by, given_at, expires_at, revoked_at \
               FROM access_grant WHERE subject_id = $1 ORDER BY given_at DESC, grant_id";
    tx.all(sql, values![subject]).await
}

/// Places a legal hold. `false` when one of this reference stands.
///
/// # Errors
/// As [`Tx::execute`].
pub async fn hold_place(
    tx: &Tx,
    subject: SubjectId,
    reference: &str,
    by: AccountId,
    at: Timestamp,
) -> Result<bool> {
    let sql = "INSERT INTO legal_hold (subject_id, reference, placed_by, placed_at) \
               SELECT $1, $2, $3, $4 WHERE NOT EXISTS (SELECT 1 FROM legal_hold h \
               WHERE h.subject_id = $1 AND h.reference = $2 AND h.released_at IS NULL)";
    Ok(tx.execute(sql, values![subject, reference, by, at]).await? == 1)
}

/// Releases a legal hold; one released before stays as it was. `false` when there is none of this reference.
///
/// # Errors
/// As [`Tx::execute`].
pub async fn hold_release(tx: &Tx, subject: SubjectId, reference: &str, at: Timestamp) -> Result<bool> {
    let sql = "UPDATE legal_hold SET released_at = COALESCE(released_at, $3) WHERE subject_id = $1 AND reference = $2";
    Ok(tx.execute(sql, values![subject, reference, at]).await? > 0)
}

/// Whether any legal hold stands.
///
/// # Errors
/// As [`Tx::scalar`].
pub async fn held(tx: &Tx, subject: SubjectId) -> Result<bool> {
    let sql = "SELECT COUNT(*) AS value FROM legal_hold WHERE subject_id = $1 AND released_at IS NULL";
    Ok(tx.scalar::<i64>(sql, values![subject]).await?.unwrap_or(0) > 0)
}

/// Every hold of the record, released ones too, in the order they were placed.
///
/// # Errors
/// As [`Tx::all`].
pub async fn hold_list(tx: &Tx, subject: SubjectId) -> Result<Vec<HoldRow>> {
    let sql = "SELECT reference, placed_by, placed_at, released_at FROM legal_hold \
               WHERE subject_id = $1 ORDER BY placed_at, reference";
    tx.all(sql, values![subject]).await
}

/// Writes holds as they came with a record.
///
/// # Errors
/// As [`Tx::execute`].
pub async fn hold_insert_many(tx: &Tx, subject: SubjectId, holds: &[HoldRow]) -> Result<()> {
    let columns = ["subject_id", "reference", "placed_by", "placed_at", "released_at"];
    let rows = holds
        .iter()
        .map(|row| values![subject, row.reference.clone(), row.placed_by, row.placed_at, row.released_at])
        .collect();
    tx.insert_many("legal_hold", &columns, rows, OnConflict::Ignore).await.map(drop)
}
