//! What travels: digests at the source, sealed rows and objects at the destination.

use domicile_transfer_protocol::Digest;
use domicile_transfer_protocol::manifest::{ObjectEntry, RowEntry};
use domicile_transfer_protocol::release::Head;
use domicile_transfer_protocol::rows::{
    Progress, RekeyedRow, SentObject, SentRow, StagedObject, StagedPage, StagedRow,
};
use domicile_transfer_protocol::source::Unsent;
use domicile_types::{ItemId, ObjectId, PageId, Result, SubjectId, TransferId};

use crate::{Backend, Bind as _, FromRow, OnConflict, Row, Tx, bulk, values};

struct Entry(RowEntry);

impl FromRow for Entry {
    fn from_row(row: &Row) -> Result<Self> {
        Ok(Self(RowEntry {
            item: row.get("item_id")?,
            version: row.get("version")?,
            revision: row.get("revision")?,
            digest: Digest(row.get("digest")?),
        }))
    }
}

struct Object(ObjectEntry);

impl FromRow for Object {
    fn from_row(row: &Row) -> Result<Self> {
        Ok(Self(ObjectEntry {
            object: row.get("object_id")?,
            chunks: row.get("chunks")?,
            digest: Digest(row.get("digest")?),
        }))
    }
}

impl FromRow for StagedPage {
    fn from_row(row: &Row) -> Result<Self> {
        Ok(Self { page: row.get("page_id")?, head: head(row)? })
    }
}

fn head(row: &Row) -> Result<Head> {
    Ok(Head { header: row.get("header")?, salt: row.get("salt")?, commitment: row.get("commitment")? })
}

impl FromRow for StagedRow {
    fn from_row(row: &Row) -> Result<Self> {
        Ok(Self {
            item: row.get("item_id")?,
            version: row.get("version")?,
            revision: row.get("revision")?,
            page: row.get("page_id")?,
            position: row.get("position")?,
            last: row.get("last")?,
            digest: Digest(row.get("digest")?),
            sealed_header: row.get("sealed_header")?,
            sealed_payload: row.maybe("sealed_payload")?.unwrap_or_default(),
            object: row.maybe("object_id")?,
        })
    }
}

impl FromRow for StagedObject {
    fn from_row(row: &Row) -> Result<Self> {
        Ok(Self {
            sent: SentObject {
                object: row.get("object_id")?,
                chunks: row.get("chunks")?,
                digest: Digest(row.get("digest")?),
                length: row.get("length")?,
            },
            head: head(row)?,
        })
    }
}

/// Source: stores the digests of rows about to be sent. Rows sent again take their new digest: by their
/// range of revisions, or one by one where they were named.
///
/// # Errors
/// As [`Tx::execute`].
pub async fn sent_put(tx: &Tx, transfer: TransferId, rows: &[SentRow], named: bool) -> Result<()> {
    let (first, last) =
        (rows.iter().map(|row| row.revision).min(), rows.iter().map(|row| row.revision).max());
    if named {
        for row in rows {
            let sql = "DELETE FROM sent_row WHERE transfer_id = $1 AND item_id = $2 AND version = $3";
            tx.execute(sql, values![transfer, row.item, row.version]).await?;
        }
    } else if let (Some(first), Some(last)) = (first, last) {
        let sql = "DELETE FROM sent_row WHERE transfer_id = $1 AND revision >= $2 AND revision <= $3";
        tx.execute(sql, values![transfer, first, last]).await?;
    }
    let columns = ["transfer_id", "item_id", "version", "revision", "digest", "bytes"];
    let values =
        |row: &SentRow| values![transfer, row.item, row.version, row.revision, row.digest.0, row.bytes];
    tx.insert_many("sent_row", &columns, rows.iter().map(values).collect(), OnConflict::Fail).await.map(drop)
}

/// Source: stores the digest of an object.
///
/// # Errors
/// As [`Tx::execute`].
pub async fn sent_object_put(tx: &Tx, transfer: TransferId, object: &SentObject) -> Result<()> {
    let sql = "INSERT INTO sent_object (transfer_id, object_id, chunks, digest, length) VALUES ($1, $2, $3, $4, $5) \
               ON CONFLICT (transfer_id, object_id) DO UPDATE SET chunks = excluded.chunks, \
               digest = excluded.digest, length = excluded.length";
    let values = values![transfer, object.object, object.chunks, object.digest.0, object.length];
    tx.execute(sql, values).await.map(drop)
}

/// Source: digests stored so far.
///
/// # Errors
/// As [`Tx::all`].
pub async fn sent_rows(tx: &Tx, transfer: TransferId) -> Result<Vec<RowEntry>> {
    let sql = "SELECT item_id, version, revision, digest FROM sent_row WHERE transfer_id = $1";
    Ok(tx.all::<Entry>(sql, values![transfer]).await?.into_iter().map(|entry| entry.0).collect())
}

/// How many revisions behind the last one sent is too far to count rows for.
const FAR: u64 = 1_000;

/// Source: what has no digest yet; far behind, or while an object has none, as many rows as there are revisions
/// past the last one sent. Every row of the record has one digest at most, and rows are never removed while it is
/// here, so counting suffices; what it could miss, the comparison of the roots finds.
///
/// # Errors
/// As [`Tx::scalar`].
pub async fn unsent(tx: &Tx, transfer: TransferId, subject: SubjectId) -> Result<Unsent> {
    let objects = "SELECT COUNT(*) AS value FROM object o WHERE o.subject_id = $1 AND o.state = 'complete' AND NOT EXISTS \
                   (SELECT 1 FROM sent_object s WHERE s.transfer_id = $2 AND s.object_id = o.object_id)";
    let objects: u64 = tx.scalar(objects, values![subject, transfer]).await?.unwrap_or(0);
    let rows = "SELECT CASE WHEN $4 OR r.revision > s.revision + $3 THEN r.revision - s.revision \
                ELSE (SELECT COUNT(*) FROM item WHERE subject_id = $1) \
                   - (SELECT COUNT(*) FROM sent_row WHERE transfer_id = $2) END AS value \
                FROM residency r, (SELECT COALESCE(MAX(revision), 0) AS revision FROM sent_row \
                WHERE transfer_id = $2) s WHERE r.subject_id = $1";
    let rows = tx.scalar::<i64>(rows, values![subject, transfer, FAR, objects > 0]).await?;
    Ok(Unsent { rows: rows.unwrap_or(0).max(0).unsigned_abs(), objects })
}

/// Source: the live tables joined to the stored digests.
///
/// # Errors
/// As [`Tx::all`].
pub async fn live_rows(tx: &Tx, transfer: TransferId, subject: SubjectId) -> Result<Vec<RowEntry>> {
    if tx.backend() == Backend::Postgres {
        // Each table read once, whatever the statistics of tables filled a moment ago say.
        tx.rows("SELECT set_config('enable_nestloop', 'off', true)", Vec::new()).await?;
    }
    let sql = "SELECT i.item_id, i.version, i.revision, s.digest FROM item i JOIN sent_row s \
               ON s.transfer_id = $2 AND s.item_id = i.item_id AND s.version = i.version AND s.revision = i.revision \
               WHERE i.subject_id = $1";
    Ok(tx.all::<Entry>(sql, values![subject, transfer]).await?.into_iter().map(|entry| entry.0).collect())
}

/// Source: the live objects joined to the stored digests.
///
/// # Errors
/// As [`Tx::all`].
pub async fn live_objects(tx: &Tx, transfer: TransferId, subject: SubjectId) -> Result<Vec<ObjectEntry>> {
    let sql = "SELECT o.object_id, s.chunks, s.digest FROM object o JOIN sent_object s \
               ON s.transfer_id = $2 AND s.object_id = o.object_id WHERE o.subject_id = $1 AND o.state = 'complete'";
    Ok(tx.all::<Object>(sql, values![subject, transfer]).await?.into_iter().map(|object| object.0).collect())
}

/// Source: how far copying is, counted, not estimated.
///
/// # Errors
/// As [`Tx::one`].
pub async fn progress(tx: &Tx, transfer: TransferId, subject: SubjectId) -> Result<Progress> {
    struct Pair(u64, u64);
    impl FromRow for Pair {
        fn from_row(row: &Row) -> Result<Self> {
            Ok(Self(row.get("count")?, row.get("bytes")?))
        }
    }
    let count =
        async |sql: &str, values| tx.one::<Pair>(sql, values).await.map(|pair| pair.unwrap_or(Pair(0, 0)));
    let rows = "SELECT COUNT(*) AS count, CAST(COALESCE(SUM(bytes), 0) AS BIGINT) AS bytes FROM item WHERE subject_id = $1";
    let sent = "SELECT COUNT(*) AS count, CAST(COALESCE(SUM(bytes), 0) AS BIGINT) AS bytes FROM sent_row WHERE transfer_id = $1";
    let objects = "SELECT COUNT(*) AS count, CAST(COALESCE(SUM(length), 0) AS BIGINT) AS bytes FROM object \
                   WHERE subject_id = $1 AND state = 'complete'";
    let moved = "SELECT COUNT(*) AS count, CAST(COALESCE(SUM(length), 0) AS BIGINT) AS bytes FROM sent_object WHERE transfer_id = $1";
    let (rows, sent) = (count(rows, values![subject]).await?, count(sent, values![transfer]).await?);
    let (objects, moved) = (count(objects, values![subject]).await?, count(moved, values![transfer]).await?);
    Ok(Progress {
        rows_done: sent.0,
        rows_total: rows.0,
        objects_done: moved.0,
        objects_total: objects.0,
        bytes_done: sent.1 + moved.1,
        bytes_total: rows.1 + objects.1,
    })
}

/// Source: drops up to `limit` stored digests; how many went.
///
/// # Errors
/// As [`Tx::execute`].
pub async fn sent_drop(tx: &Tx, transfer: TransferId, limit: u32) -> Result<u64> {
    let gone = tx.delete_some("sent_row", "transfer_id", transfer.bind(), limit).await?;
    Ok(gone + tx.execute("DELETE FROM sent_object WHERE transfer_id = $1", values![transfer]).await?)
}

/// Destination: takes in a page. With a range of revisions, whatever was here of it is replaced: a retry
/// is a new page, the old one is dropped.
///
/// # Errors
/// As [`Tx::execute`].
pub async fn stage(
    tx: &Tx,
    transfer: TransferId,
    page: &StagedPage,
    rows: &[StagedRow],
    range: Option<(u64, u64)>,
) -> Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    if let Some((first, last)) = range {
        let old = "DELETE FROM staged_row WHERE transfer_id = $1 AND revision >= $2 AND revision <= $3";
        tx.execute(old, values![transfer, first, last]).await?;
    }
    let sql = "INSERT INTO staged_page (transfer_id, page_id, header, salt, commitment) VALUES ($1, $2, $3, $4, $5)";
    let head = &page.head;
    let values =
        values![transfer, page.page, head.header.clone(), head.salt.clone(), head.commitment.clone()];
    tx.execute(sql, values).await?;
    let columns = [
        "transfer_id",
        "item_id",
        "version",
        "revision",
        "page_id",
        "position",
        "last",
        "digest",
        "sealed_header",
        "sealed_payload",
        "object_id",
    ];
    let values = |row: &StagedRow| {
        values![
            transfer,
            row.item,
            row.version,
            row.revision,
            row.page,
            row.position,
            row.last,
            row.digest.0,
            row.sealed_header.clone(),
            row.sealed_payload.clone(),
            row.object,
        ]
    };
    tx.insert_many("staged_row", &columns, rows.iter().map(values).collect(), OnConflict::Fail)
        .await
        .map(drop)
}

/// Destination: drops named rows.
///
/// # Errors
/// As [`Tx::execute`].
pub async fn staged_drop(tx: &Tx, transfer: TransferId, rows: &[(ItemId, u32)]) -> Result<()> {
    for (item, version) in rows {
        let sql = "DELETE FROM staged_row WHERE transfer_id = $1 AND item_id = $2 AND version = $3";
        tx.execute(sql, values![transfer, *item, *version]).await?;
    }
    Ok(())
}

/// Destination: takes in an object.
///
/// # Errors
/// As [`Tx::execute`].
pub async fn stage_object(tx: &Tx, transfer: TransferId, object: &StagedObject) -> Result<()> {
    let sql = "INSERT INTO staged_object (transfer_id, object_id, header, salt, commitment, chunks, digest, length) \
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (transfer_id, object_id) DO UPDATE SET \
               header = excluded.header, salt = excluded.salt, commitment = excluded.commitment, \
               chunks = excluded.chunks, digest = excluded.digest, length = excluded.length";
    let (sent, head) = (&object.sent, &object.head);
    let values = values![
        transfer,
        sent.object,
        head.header.clone(),
        head.salt.clone(),
        head.commitment.clone(),
        sent.chunks,
        sent.digest.0,
        sent.length,
    ];
    tx.execute(sql, values).await.map(drop)
}

struct Id(ObjectId);

impl FromRow for Id {
    fn from_row(row: &Row) -> Result<Self> {
        row.get("object_id").map(Self)
    }
}

/// Destination: objects that staged rows refer to and that are not here yet.
///
/// # Errors
/// As [`Tx::all`].
pub async fn missing_objects(tx: &Tx, transfer: TransferId) -> Result<Vec<ObjectId>> {
    let sql = "SELECT DISTINCT r.object_id FROM staged_row r WHERE r.transfer_id = $1 AND r.object_id IS NOT NULL \
               AND NOT EXISTS (SELECT 1 FROM staged_object o WHERE o.transfer_id = $1 AND o.object_id = r.object_id) \
               ORDER BY r.object_id";
    Ok(tx.all::<Id>(sql, values![transfer]).await?.into_iter().map(|id| id.0).collect())
}

/// Destination: staged objects.
///
/// # Errors
/// As [`Tx::all`].
pub async fn objects(tx: &Tx, transfer: TransferId) -> Result<Vec<StagedObject>> {
    let sql = "SELECT object_id, header, salt, commitment, chunks, digest, length FROM staged_object \
               WHERE transfer_id = $1 ORDER BY object_id";
    tx.all(sql, values![transfer]).await
}

/// Destination: staged rows as manifest entries, and their sealed bytes in all.
///
/// # Errors
/// As [`Tx::all`].
pub async fn manifest_rows(tx: &Tx, transfer: TransferId) -> Result<(Vec<RowEntry>, u64)> {
    let sql = "SELECT item_id, version, revision, digest FROM staged_row WHERE transfer_id = $1";
    let rows = tx.all::<Entry>(sql, values![transfer]).await?.into_iter().map(|entry| entry.0).collect();
    let bytes = "SELECT CAST(COALESCE(SUM(length(sealed_header) + length(sealed_payload)), 0) AS BIGINT) AS value \
                 FROM staged_row WHERE transfer_id = $1";
    Ok((rows, tx.scalar(bytes, values![transfer]).await?.unwrap_or(0)))
}

/// Destination: staged pages.
///
/// # Errors
/// As [`Tx::all`].
pub async fn pages(tx: &Tx, transfer: TransferId) -> Result<Vec<StagedPage>> {
    let sql = "SELECT page_id, header, salt, commitment FROM staged_page WHERE transfer_id = $1";
    tx.all(sql, values![transfer]).await
}

/// Destination: staged rows without their payloads.
///
/// # Errors
/// As [`Tx::all`].
pub async fn headers(tx: &Tx, transfer: TransferId) -> Result<Vec<StagedRow>> {
    let sql = "SELECT item_id, version, revision, page_id, position, last, digest, sealed_header, object_id, \
               NULL AS sealed_payload FROM staged_row WHERE transfer_id = $1";
    struct Bare(StagedRow);
    impl FromRow for Bare {
        fn from_row(row: &Row) -> Result<Self> {
            Ok(Self(StagedRow {
                item: row.get("item_id")?,
                version: row.get("version")?,
                revision: row.get("revision")?,
                page: row.get("page_id")?,
                position: row.get("position")?,
                last: row.get("last")?,
                digest: Digest(row.get("digest")?),
                sealed_header: row.get("sealed_header")?,
                sealed_payload: Vec::new(),
                object: row.maybe("object_id")?,
            }))
        }
    }
    Ok(tx.all::<Bare>(sql, values![transfer]).await?.into_iter().map(|bare| bare.0).collect())
}

/// Destination: ids of staged rows and objects that exist here already. Needs
/// [`Scope::Transfers`](crate::Scope::Transfers): they are others'.
///
/// # Errors
/// As [`Tx::scalar`].
pub async fn collisions(tx: &Tx, transfer: TransferId) -> Result<u64> {
    let items = "SELECT COUNT(*) AS value FROM staged_row s WHERE s.transfer_id = $1 \
                 AND EXISTS (SELECT 1 FROM item i WHERE i.item_id = s.item_id)";
    let objects = "SELECT COUNT(*) AS value FROM staged_object s WHERE s.transfer_id = $1 \
                   AND EXISTS (SELECT 1 FROM object o WHERE o.object_id = s.object_id)";
    let items: u64 = tx.scalar(items, values![transfer]).await?.unwrap_or(0);
    Ok(items + tx.scalar::<u64>(objects, values![transfer]).await?.unwrap_or(0))
}

/// Destination: adopted rows whose payload is still in travel form: of the first page past `after`, whose size
/// is bounded, and at most `limit`.
///
/// # Errors
/// As [`Tx::all`].
pub async fn travelling(
    tx: &Tx,
    transfer: TransferId,
    after: Option<PageId>,
    limit: u32,
) -> Result<Vec<StagedRow>> {
    let (past, mut values) = (after.map_or("", |_| "AND page_id > $3"), values![transfer, limit]);
    values.extend(after.map(|page| page.bind()));
    let sql = format!(
        "SELECT item_id, version, revision, page_id, position, last, digest, sealed_header, sealed_payload, object_id \
         FROM staged_row WHERE transfer_id = $1 AND page_id = \
         (SELECT page_id FROM staged_row WHERE transfer_id = $1 {past} ORDER BY page_id LIMIT 1) \
         ORDER BY position LIMIT $2"
    );
    tx.all(&sql, values).await
}

/// Destination: drops up to `limit` staged rows, and the pages and objects once the rows are gone; how
/// many rows went.
///
/// # Errors
/// As [`Tx::execute`].
pub async fn purge(tx: &Tx, transfer: TransferId, limit: u32) -> Result<u64> {
    let mut gone = tx.delete_some("staged_row", "transfer_id", transfer.bind(), limit).await?;
    if gone == 0 {
        gone += tx.execute("DELETE FROM staged_page WHERE transfer_id = $1", values![transfer]).await?;
        gone += tx.execute("DELETE FROM staged_object WHERE transfer_id = $1", values![transfer]).await?;
    }
    Ok(gone)
}

/// Source: where a page past a revision ends: at most `rows` rows and about `bytes` payload bytes, at least
/// one row; and whether there may be more.
///
/// # Errors
/// As [`Tx::all`].
pub async fn page_end(
    tx: &Tx,
    subject: SubjectId,
    after: u64,
    rows: u32,
    bytes: u64,
) -> Result<(Option<u64>, bool)> {
    struct Size(u64, u64);
    impl FromRow for Size {
        fn from_row(row: &Row) -> Result<Self> {
            Ok(Self(row.get("revision")?, row.get("bytes")?))
        }
    }
    let sql =
        "SELECT revision, bytes FROM item WHERE subject_id = $1 AND revision > $2 ORDER BY revision LIMIT $3";
    let sizes: Vec<Size> = tx.all(sql, values![subject, after, rows]).await?;
    let full = u32::try_from(sizes.len()).is_ok_and(|count| count >= rows);
    let (mut end, mut sum) = (None, 0_u64);
    for Size(revision, size) in sizes {
        sum = sum.saturating_add(size);
        if end.is_some() && sum > bytes {
            return Ok((end, true));
        }
        end = Some(revision);
    }
    Ok((end, full))
}

/// Destination: stores rows sealed again and drops their travel form.
///
/// # Errors
/// As [`Tx::execute`].
pub async fn rekey(tx: &Tx, transfer: TransferId, subject: SubjectId, rows: Vec<RekeyedRow>) -> Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    match tx.backend() {
        Backend::Postgres => rekey_together(tx, transfer, subject, rows).await,
        Backend::Sqlite => rekey_each(tx, transfer, subject, rows).await,
    }
}

/// Rows of one statement. A table that was empty when its statistics were made is taken for empty: the planner then
/// compares every row it has with every one of these.
const TOGETHER: usize = 250;

async fn rekey_together(
    tx: &Tx,
    transfer: TransferId,
    subject: SubjectId,
    mut rows: Vec<RekeyedRow>,
) -> Result<()> {
    by_keys(tx).await?;
    while !rows.is_empty() {
        let rest = rows.split_off(rows.len().min(TOGETHER));
        rekey_some(tx, transfer, subject, std::mem::replace(&mut rows, rest)).await?;
    }
    Ok(())
}

/// Two statements for all these rows. `IS TRUE` leaves the planner no index but the one over the items' ids: freshly
/// filled tables have no statistics, and it would take one over the whole transfer or record. `ANY` leaves it no more
/// rows to compare than were named. One by one, even inside the database, each row would set up the policies
/// anew, which takes as long as the update itself.
async fn rekey_some(tx: &Tx, transfer: TransferId, subject: SubjectId, rows: Vec<RekeyedRow>) -> Result<()> {
    let travelled = "DELETE FROM staged_row s USING UNNEST($2::uuid[], $3::bigint[]) AS r(item_id, version) \
                WHERE (s.transfer_id = $1) IS TRUE AND s.item_id = ANY($2::uuid[]) \
                AND s.item_id = r.item_id AND s.version = r.version";
    let mut values = values![transfer];
    values.extend(bulk::arrays(rows.iter().map(|row| [row.item.bind(), row.version.bind()]).collect())?);
    tx.execute(travelled, values).await?;
    let update = "UPDATE item i SET key_version = r.key_version, digest = r.digest, sealed = r.sealed \
                FROM UNNEST($2::uuid[], $3::bigint[], $4::bigint[], $5::bytea[], $6::bytea[]) \
                AS r(item_id, version, key_version, digest, sealed) \
                WHERE (i.subject_id = $1) IS TRUE AND i.item_id = ANY($2::uuid[]) AND i.item_id = r.item_id AND i.version = r.version \
                AND i.sealed IS NULL";
    let bound = |row: RekeyedRow| {
        [row.item.bind(), row.version.bind(), row.key_version.bind(), row.digest.0.bind(), row.sealed.bind()]
    };
    let mut values = values![subject];
    values.extend(bulk::arrays(rows.into_iter().map(bound).collect())?);
    tx.execute(update, values).await.map(drop)
}

/// Makes PostgreSQL join by index for the rest of the transaction, whatever its statistics say.
async fn by_keys(tx: &Tx) -> Result<()> {
    let sql = "SELECT set_config('enable_hashjoin', 'off', true), set_config('enable_mergejoin', 'off', true), \
               set_config('enable_seqscan', 'off', true)";
    tx.rows(sql, Vec::new()).await.map(drop)
}

async fn rekey_each(tx: &Tx, transfer: TransferId, subject: SubjectId, rows: Vec<RekeyedRow>) -> Result<()> {
    let update = "UPDATE item SET key_version = $4, digest = $5, sealed = $6 \
                  WHERE item_id = $1 AND version = $2 AND subject_id = $3 AND sealed IS NULL";
    let travelled = "DELETE FROM staged_row WHERE transfer_id = $1 AND item_id = $2 AND version = $3";
    for row in rows {
        tx.execute(travelled, values![transfer, row.item, row.version]).await?;
        let values = values![row.item, row.version, subject, row.key_version, row.digest.0, row.sealed];
        tx.execute(update, values).await?;
    }
    Ok(())
}

/// Destination: whether anything of the record is still in travel form.
///
/// # Errors
/// As [`Tx::scalar`].
pub async fn any_travelling(tx: &Tx, transfer: TransferId, subject: SubjectId) -> Result<bool> {
    let sql = "SELECT (SELECT COUNT(*) FROM staged_row WHERE transfer_id = $1) \
               + (SELECT COUNT(*) FROM item WHERE subject_id = $2 AND sealed IS NULL) \
               + (SELECT COUNT(*) FROM object WHERE subject_id = $2 AND travelling) AS value";
    Ok(tx.scalar::<i64>(sql, values![transfer, subject]).await?.unwrap_or(1) > 0)
}
