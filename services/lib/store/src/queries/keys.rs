//! Wrapped keys, in the key store's own database.

use domicile_crypto::{Purpose, RecordKeyRow, SubjectKeys, SubjectSecret, TransferKey, WrappedKey};
use domicile_types::{Code, Error, PracticeId, Result, SubjectId, TransferId};
use uuid::Uuid;

use crate::{FromRow, Row, Tx, values};

/// Whose keys: a practice's, or clients' own, which have the nil id.
fn owner(practice: Option<PracticeId>) -> Uuid {
    practice.map_or_else(Uuid::nil, PracticeId::uuid)
}

struct Key(WrappedKey);

impl FromRow for Key {
    fn from_row(row: &Row) -> Result<Self> {
        Ok(Self(WrappedKey { version: row.get("version")?, wrapped: row.get("wrapped")? }))
    }
}

struct Place(RecordKeyRow);

impl FromRow for Place {
    fn from_row(row: &Row) -> Result<Self> {
        let practice: Uuid = row.get("practice_id")?;
        let practice = (!practice.is_nil()).then(|| PracticeId::from_uuid(practice));
        Ok(Self(RecordKeyRow { practice, version: row.get("version")?, uses: row.get("uses")? }))
    }
}

/// What must stand after an insert that found its place taken.
fn stands<T>(found: Option<T>) -> Result<T> {
    found.ok_or_else(|| Error::new(Code::Conflict).at("key"))
}

/// A practice's wrapping key: this version, or the newest.
pub(crate) async fn practice_key_get(
    tx: &Tx,
    practice: Option<PracticeId>,
    version: Option<u32>,
) -> Result<Option<WrappedKey>> {
    let sql = "SELECT version, wrapped FROM practice_key \
               WHERE practice_id = $1 AND ($2 IS NULL OR version = $2) ORDER BY version DESC LIMIT 1";
    Ok(tx.one::<Key>(sql, values![owner(practice), version]).await?.map(|key| key.0))
}

/// Adds a practice's wrapping key unless that version stands; answers with the one that stands.
pub(crate) async fn practice_key_add(
    tx: &Tx,
    practice: Option<PracticeId>,
    key: &WrappedKey,
) -> Result<WrappedKey> {
    let sql = "INSERT INTO practice_key (practice_id, version, wrapped, created_at) VALUES ($1, $2, $3, $4) \
               ON CONFLICT DO NOTHING";
    tx.execute(sql, values![owner(practice), key.version, &key.wrapped, tx.now()]).await?;
    stands(practice_key_get(tx, practice, Some(key.version)).await?)
}

/// A record key: this version, or the newest.
pub(crate) async fn record_key_get(
    tx: &Tx,
    subject: SubjectId,
    practice: Option<PracticeId>,
    version: Option<u32>,
) -> Result<Option<WrappedKey>> {
    let sql = "SELECT version, wrapped FROM record_key \
               WHERE subject_id = $1 AND practice_id = $2 AND ($3 IS NULL OR version = $3) \
               ORDER BY version DESC LIMIT 1";
    Ok(tx.one::<Key>(sql, values![subject, owner(practice), version]).await?.map(|key| key.0))
}

/// Adds a record key with no uses unless that version stands; answers with the one that stands.
pub(crate) async fn record_key_add(
    tx: &Tx,
    subject: SubjectId,
    practice: Option<PracticeId>,
    key: &WrappedKey,
) -> Result<WrappedKey> {
    let sql = "INSERT INTO record_key (subject_id, practice_id, version, wrapped, uses, created_at) \
               VALUES ($1, $2, $3, $4, 0, $5) ON CONFLICT DO NOTHING";
    tx.execute(sql, values![subject, owner(practice), key.version, &key.wrapped, tx.now()]).await?;
    stands(record_key_get(tx, subject, practice, Some(key.version)).await?)
}

/// Adds uses to a record key's count; answers with the total, `None` without such a key.
pub(crate) async fn record_key_use(
    tx: &Tx,
    subject: SubjectId,
    practice: Option<PracticeId>,
    version: u32,
    uses: u64,
) -> Result<Option<u64>> {
    let sql = "UPDATE record_key SET uses = uses + $4 \
               WHERE subject_id = $1 AND practice_id = $2 AND version = $3 RETURNING uses AS value";
    tx.scalar(sql, values![subject, owner(practice), version, uses]).await
}

/// Where a subject's record keys stand.
pub(crate) async fn record_key_list(tx: &Tx, subject: SubjectId) -> Result<Vec<RecordKeyRow>> {
    let sql = "SELECT practice_id, version, uses FROM record_key WHERE subject_id = $1 \
               ORDER BY practice_id, version";
    let rows = tx.all::<Place>(sql, values![subject]).await?;
    Ok(rows.into_iter().map(|place| place.0).collect())
}

/// A subject's secret.
pub(crate) async fn subject_secret_get(
    tx: &Tx,
    subject: SubjectId,
    secret: SubjectSecret,
) -> Result<Option<Vec<u8>>> {
    let sql = "SELECT wrapped AS value FROM subject_secret WHERE subject_id = $1 AND purpose = $2";
    tx.scalar(sql, values![subject, secret.as_str()]).await
}

/// Adds a subject's secret unless one stands; answers with the one that stands.
pub(crate) async fn subject_secret_add(
    tx: &Tx,
    subject: SubjectId,
    secret: SubjectSecret,
    wrapped: &[u8],
) -> Result<Vec<u8>> {
    let sql = "INSERT INTO subject_secret (subject_id, purpose, wrapped) VALUES ($1, $2, $3) \
               ON CONFLICT DO NOTHING";
    tx.execute(sql, values![subject, secret.as_str(), wrapped]).await?;
    stands(subject_secret_get(tx, subject, secret).await?)
}

/// Puts a subject's secret in the place of any that stands.
pub(crate) async fn subject_secret_put(
    tx: &Tx,
    subject: SubjectId,
    secret: SubjectSecret,
    wrapped: &[u8],
) -> Result<()> {
    let sql = "INSERT INTO subject_secret (subject_id, purpose, wrapped) VALUES ($1, $2, $3) \
               ON CONFLICT (subject_id, purpose) DO UPDATE SET wrapped = excluded.wrapped";
    tx.execute(sql, values![subject, secret.as_str(), wrapped]).await.map(drop)
}

/// A transfer's key.
pub(crate) async fn transfer_key_get(
    tx: &Tx,
    transfer: TransferId,
    key: TransferKey,
) -> Result<Option<Vec<u8>>> {
    let sql = "SELECT wrapped AS value FROM transfer_key WHERE transfer_id = $1 AND purpose = $2";
    tx.scalar(sql, values![transfer, key.purpose().as_str()]).await
}

/// Adds a transfer's key unless one stands; answers with the one that stands.
pub(crate) async fn transfer_key_add(
    tx: &Tx,
    transfer: TransferId,
    key: TransferKey,
    wrapped: &[u8],
) -> Result<Vec<u8>> {
    let sql = "INSERT INTO transfer_key (transfer_id, purpose, wrapped, created_at) VALUES ($1, $2, $3, $4) \
               ON CONFLICT DO NOTHING";
    tx.execute(sql, values![transfer, key.purpose().as_str(), wrapped, tx.now()]).await?;
    stands(transfer_key_get(tx, transfer, key).await?)
}

/// Destroys a transfer's key; whether there was one.
pub(crate) async fn transfer_key_destroy(tx: &Tx, transfer: TransferId, key: TransferKey) -> Result<bool> {
    let sql = "DELETE FROM transfer_key WHERE transfer_id = $1 AND purpose = $2";
    Ok(tx.execute(sql, values![transfer, key.purpose().as_str()]).await? > 0)
}

/// A key of the region.
pub(crate) async fn region_key_get(tx: &Tx, purpose: Purpose) -> Result<Option<Vec<u8>>> {
    tx.scalar("SELECT wrapped AS value FROM region_key WHERE purpose = $1", values![purpose.as_str()]).await
}

/// Adds a key of the region unless one stands; answers with the one that stands.
pub(crate) async fn region_key_add(tx: &Tx, purpose: Purpose, wrapped: &[u8]) -> Result<Vec<u8>> {
    let sql =
        "INSERT INTO region_key (purpose, wrapped, created_at) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";
    tx.execute(sql, values![purpose.as_str(), wrapped, tx.now()]).await?;
    stands(region_key_get(tx, purpose).await?)
}

/// Destroys those of the record keys and secrets of a subject that still stand; how many.
pub(crate) async fn subject_destroy(tx: &Tx, subject: SubjectId, keys: &SubjectKeys) -> Result<u64> {
    let mut gone = 0;
    for wrapped in keys.iter() {
        for table in ["record_key", "subject_secret"] {
            let sql = format!("DELETE FROM {table} WHERE subject_id = $1 AND wrapped = $2");
            gone += tx.execute(&sql, values![subject, wrapped]).await?;
        }
    }
    Ok(gone)
}

/// The record keys and secrets of a subject, as they stand.
pub(crate) async fn subject_keys(tx: &Tx, subject: SubjectId) -> Result<SubjectKeys> {
    let sql = "SELECT wrapped FROM record_key WHERE subject_id = $1 \
               UNION ALL SELECT wrapped FROM subject_secret WHERE subject_id = $1";
    let rows = tx.rows(sql, values![subject]).await?;
    rows.iter().map(|row| row.get("wrapped")).collect()
}

/// How many record keys and secrets of a subject there are.
pub(crate) async fn subject_count(tx: &Tx, subject: SubjectId) -> Result<u64> {
    let sql = "SELECT (SELECT COUNT(*) FROM record_key WHERE subject_id = $1) \
               + (SELECT COUNT(*) FROM subject_secret WHERE subject_id = $1) AS value";
    Ok(tx.scalar(sql, values![subject]).await?.unwrap_or(0))
}
