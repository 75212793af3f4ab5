//! Transfers' rows: queryable columns beside the protocol's own row, which is kept as JSON.

use domicile_transfer_protocol::store::{Listing, Row as TransferRow};
use domicile_transfer_protocol::{Destination, Source};
use domicile_types::{AccountId, Code, Error, Result, SubjectId, Timestamp, TransferId};
use uuid::Uuid;

use crate::{FromRow, Row, Tx, values};

/// At most this many are listed.
const LISTED: u32 = 500;

struct Stored(TransferRow);

impl FromRow for Stored {
    fn from_row(row: &Row) -> Result<Self> {
        let damaged =
            |cause: serde_json::Error| Error::new(Code::Internal).at("transfer.detail").because(cause);
        let (role, detail): (String, String) = (row.get("role")?, row.get("detail")?);
        let token: u64 = row.get("token")?;
        Ok(Self(if role == "source" {
            let mut source: Source = serde_json::from_str(&detail).map_err(damaged)?;
            source.token = source.token.max(token);
            TransferRow::Source(Box::new(source))
        } else {
            TransferRow::Destination(Box::new(serde_json::from_str(&detail).map_err(damaged)?))
        }))
    }
}

/// One transfer.
///
/// # Errors
/// As [`Tx::one`].
pub async fn find(tx: &Tx, transfer: TransferId) -> Result<Option<TransferRow>> {
    let sql = "SELECT role, detail, token FROM transfer WHERE transfer_id = $1";
    Ok(tx.one::<Stored>(sql, values![transfer]).await?.map(|stored| stored.0))
}

/// One transfer, locked until the transaction ends.
///
/// # Errors
/// As [`Tx::one`].
pub async fn lock(tx: &Tx, transfer: TransferId) -> Result<Option<TransferRow>> {
    let sql = format!("SELECT role, detail, token FROM transfer WHERE transfer_id = $1{}", tx.for_update());
    Ok(tx.one::<Stored>(&sql, values![transfer]).await?.map(|stored| stored.0))
}

/// Every transfer that does not rest, by id.
///
/// # Errors
/// As [`Tx::all`].
pub async fn open(tx: &Tx) -> Result<Vec<TransferRow>> {
    let sql = "SELECT role, detail, token FROM transfer WHERE open ORDER BY transfer_id";
    Ok(tx.all::<Stored>(sql, values![]).await?.into_iter().map(|stored| stored.0).collect())
}

/// Transfers for people, newest first.
///
/// # Errors
/// As [`Tx::all`].
pub async fn list(tx: &Tx, listing: Listing, resting: bool) -> Result<Vec<TransferRow>> {
    let rows: Vec<Stored> = match listing {
        Listing::Subject(subject) => {
            let sql = "SELECT role, detail, token FROM transfer WHERE subject_id = $1 AND (open OR $2) \
                       ORDER BY requested_at DESC LIMIT $3";
            tx.all(sql, values![subject, resting, LISTED]).await?
        }
        Listing::Everything => {
            let sql = "SELECT role, detail, token FROM transfer WHERE (open OR $1) \
                       ORDER BY requested_at DESC LIMIT $2";
            tx.all(sql, values![resting, LISTED]).await?
        }
    };
    Ok(rows.into_iter().map(|stored| stored.0).collect())
}

/// The transfer an idempotency key of this subject made.
///
/// # Errors
/// As [`Tx::one`].
pub async fn by_key(tx: &Tx, subject: SubjectId, key: &str) -> Result<Option<TransferRow>> {
    let sql = "SELECT role, detail, token FROM transfer WHERE subject_id = $1 AND idem_key = $2";
    Ok(tx.one::<Stored>(sql, values![subject, key]).await?.map(|stored| stored.0))
}

/// Whether the subject has an open transfer here in either role; one that is aborting does not count.
///
/// # Errors
/// As [`Tx::scalar`].
pub async fn any_open(tx: &Tx, subject: SubjectId) -> Result<bool> {
    let sql = "SELECT COUNT(*) AS value FROM transfer WHERE subject_id = $1 AND open AND state <> 'aborting'";
    Ok(tx.scalar::<i64>(sql, values![subject]).await?.unwrap_or(0) > 0)
}

/// Source rows whose deadline, consent or freeze budget is over, or that have stood still too long past
/// the point of no return (`stood` is the instant before which a change counts as long ago).
///
/// # Errors
/// As [`Tx::all`].
pub async fn due(tx: &Tx, now: Timestamp, stood: Timestamp) -> Result<Vec<TransferId>> {
    struct Id(TransferId);
    impl FromRow for Id {
        fn from_row(row: &Row) -> Result<Self> {
            row.get("transfer_id").map(Self)
        }
    }
    let sql = "SELECT transfer_id FROM transfer WHERE open AND role = 'source' AND (deadline <= $1 \
               OR freeze_deadline <= $1 OR (stuck_cause IS NULL AND changed_at <= $2 \
               AND state IN ('released', 'adopted', 'rekeyed', 'shredded')))";
    Ok(tx.all::<Id>(sql, values![now, stood]).await?.into_iter().map(|id| id.0).collect())
}

/// Takes or renews the lease: the token, or `None` when another holds it.
///
/// # Errors
/// As [`Tx::scalar`].
pub async fn lease(tx: &Tx, transfer: TransferId, holder: Uuid, until: Timestamp) -> Result<Option<u64>> {
    let sql = "UPDATE transfer SET lease_until = $3, lease_holder = $2, \
               token = CASE WHEN lease_holder IS NOT DISTINCT FROM $2 AND lease_until >= $4 THEN token ELSE token + 1 END \
               WHERE transfer_id = $1 AND role = 'source' AND (lease_holder IS NULL OR lease_holder = $2 OR lease_until < $4) \
               RETURNING token AS value";
    tx.scalar(sql, values![transfer, holder, until, tx.now()]).await
}

/// Inserts a transfer as its source. The caller has checked that none is open.
///
/// # Errors
/// As [`Tx::execute`].
pub async fn insert_source(tx: &Tx, row: &Source, key: &str) -> Result<()> {
    let sql = "INSERT INTO transfer (transfer_id, attempt, role, subject_id, account_id, source, destination, state, \
               open, paused, freeze_number, token, requested_at, changed_at, deadline, detail, idem_key) \
               VALUES ($1, $2, 'source', $3, $4, $5, $6, $7, TRUE, FALSE, 0, 0, $8, $9, $10, $11, $12)";
    let values = values![
        row.transfer,
        row.attempt,
        row.subject,
        row.account,
        &row.from,
        &row.to,
        row.state.as_str(),
        row.requested_at,
        row.changed_at,
        row.deadline,
        detail(row)?,
        key,
    ];
    tx.execute(sql, values).await.map(drop)
}

/// Writes a source row. The caller holds the [`lock`].
///
/// # Errors
/// As [`Tx::execute`].
pub async fn save_source(tx: &Tx, row: &Source) -> Result<()> {
    let sql = "UPDATE transfer SET state = $2, open = $3, abort_reason = $4, paused = $5, stuck_cause = $6, \
               freeze_number = $7, freeze_deadline = $8, epoch = $9, root = $10, consent_id = $11, \
               changed_at = $12, deadline = $13, detail = $14 WHERE transfer_id = $1";
    let values = values![
        row.transfer,
        row.state.as_str(),
        !row.state.rests(),
        row.abort.map(|reason| reason.name()),
        row.paused,
        row.stuck.clone(),
        row.freeze,
        row.freeze_deadline,
        row.epoch,
        row.staged.as_ref().map(|staged| staged.root.0),
        row.consent.as_ref().map(|consent| consent.id),
        row.changed_at,
        row.deadline,
        detail(row)?,
    ];
    tx.execute(sql, values).await.map(drop)
}

/// Inserts a transfer as its destination; `false` when it is known.
///
/// # Errors
/// As [`Tx::execute`].
pub async fn insert_destination(tx: &Tx, row: &Destination) -> Result<bool> {
    let sql = "INSERT INTO transfer (transfer_id, attempt, role, source, destination, state, open, paused, \
               freeze_number, token, requested_at, changed_at, detail) \
               VALUES ($1, $2, 'destination', $3, $4, $5, TRUE, FALSE, 0, 0, $6, $7, $8) ON CONFLICT DO NOTHING";
    let values = values![
        row.transfer,
        row.attempt,
        &row.from,
        &row.to,
        row.state.as_str(),
        row.requested_at,
        row.changed_at,
        detail(row)?,
    ];
    Ok(tx.execute(sql, values).await? == 1)
}

/// Writes a destination row. The caller holds the [`lock`].
///
/// # Errors
/// As [`Tx::execute`].
pub async fn save_destination(tx: &Tx, row: &Destination, account: Option<AccountId>) -> Result<()> {
    let sql = "UPDATE transfer SET state = $2, open = $3, abort_reason = $4, stuck_cause = $5, freeze_number = $6, \
               epoch = $7, root = $8, consent_id = $9, subject_id = $10, changed_at = $11, detail = $12, token = $13, \
               account_id = COALESCE($14, account_id) WHERE transfer_id = $1";
    let values = values![
        row.transfer,
        row.state.as_str(),
        !row.state.rests(),
        row.abort.map(|reason| reason.name()),
        row.refused.clone(),
        row.frozen.map_or(0, |frozen| frozen.freeze),
        row.released.map(|released| released.epoch),
        row.staged.as_ref().map(|staged| staged.root.0),
        row.consent.as_ref().map(|consent| consent.id),
        row.subject,
        row.changed_at,
        detail(row)?,
        row.token,
        account,
    ];
    tx.execute(sql, values).await.map(drop)
}

/// Keeps the offer.
///
/// # Errors
/// As [`Tx::execute`].
pub async fn keep_offer(tx: &Tx, transfer: TransferId, offer: &str) -> Result<()> {
    let sql = "UPDATE transfer SET offer = $2 WHERE transfer_id = $1";
    tx.execute(sql, values![transfer, offer]).await.map(drop)
}

/// The offer as kept.
///
/// # Errors
/// As [`Tx::scalar`].
pub async fn offer(tx: &Tx, transfer: TransferId) -> Result<Option<String>> {
    tx.scalar("SELECT offer AS value FROM transfer WHERE transfer_id = $1", values![transfer]).await
}

/// Keeps the sealed key release, or drops it.
///
/// # Errors
/// As [`Tx::execute`].
pub async fn keep_release(tx: &Tx, transfer: TransferId, release: Option<Vec<u8>>) -> Result<()> {
    let sql = "UPDATE transfer SET key_release = $2 WHERE transfer_id = $1";
    tx.execute(sql, values![transfer, release]).await.map(drop)
}

/// The sealed key release.
///
/// # Errors
/// As [`Tx::scalar`].
pub async fn release(tx: &Tx, transfer: TransferId) -> Result<Option<Vec<u8>>> {
    tx.scalar("SELECT key_release AS value FROM transfer WHERE transfer_id = $1", values![transfer]).await
}

/// Leaves a tombstone that refuses late messages of an attempt.
///
/// # Errors
/// As [`Tx::execute`].
pub async fn bury(tx: &Tx, transfer: TransferId, attempt: u64) -> Result<()> {
    let sql = "INSERT INTO transfer_tombstone (transfer_id, attempt, at) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";
    tx.execute(sql, values![transfer, attempt, tx.now()]).await.map(drop)
}

fn detail<T: serde::Serialize>(row: &T) -> Result<String> {
    serde_json::to_string(row).map_err(|cause| Error::new(Code::Internal).because(cause))
}
