//! Items of a record. Every version is an immutable row; one of them is current.

use std::time::Duration;

use domicile_types::{
    Code, Error, Idempotency, ItemHeader, ItemId, PageId, RegionId, Result, SubjectId, Timestamp, TransferId,
};

use crate::queries::residency::{self, Standing};
use crate::queries::scoped::{Binds, Reader};
use crate::{Bind as _, Bound, FromRow, OnConflict, Row, Tx, values};

/// The most rows one statement names one by one.
const NAMED: usize = 200;

/// One version of an item as the table has it.
#[derive(Clone)]
pub struct Version {
    /// The header.
    pub header: ItemHeader,
    /// Whether it is the newest.
    pub current: bool,
    /// The sealed payload; `None` when not asked for, or while it is still in travel form.
    pub sealed: Option<Vec<u8>>,
}

/// A payload as it lies in the tables.
#[derive(Clone)]
pub enum StoredPayload {
    /// Sealed under this region's record key.
    Sealed(Vec<u8>),
    /// Adopted and not sealed again yet: as it travelled.
    Travelling(Box<Travelling>),
}

/// A row as it travelled, with the head of its page.
#[derive(Clone)]
pub struct Travelling {
    /// The transfer that brought it.
    pub transfer: TransferId,
    /// Its page.
    pub page: PageId,
    /// The page's encoded header.
    pub page_header: Vec<u8>,
    /// The page's salt.
    pub salt: Vec<u8>,
    /// The page's key commitment.
    pub commitment: Vec<u8>,
    /// The record's revision at this version, as its frame says.
    pub revision: u64,
    /// Its position in the page, from 0.
    pub position: u32,
    /// Whether it is the page's last.
    pub last: bool,
    /// SHA-256 over its travel ciphertext.
    pub digest: [u8; 32],
    /// The sealed header.
    pub sealed_header: Vec<u8>,
    /// The sealed payload.
    pub sealed_payload: Vec<u8>,
}

/// What a record holds of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KindCount {
    /// The kind's name.
    pub kind: String,
    /// Items.
    pub items: u64,
    /// Versions of them.
    pub versions: u64,
    /// Payload bytes of all versions.
    pub bytes: u64,
    /// The highest schema version.
    pub schema: u16,
}

const COLUMNS: &[&str] = &[
    "item_id",
    "version",
    "subject_id",
    "revision",
    "current",
    "kind",
    "schema",
    "practice_id",
    "practitioner_id",
    "author_id",
    "parent_id",
    "occasion_id",
    "object_id",
    "occurred_at",
    "starts_at",
    "ends_at",
    "signed_at",
    "retain_until",
    "state",
    "visibility",
    "bytes",
    "digest",
    "key_version",
    "sealed",
    "idem_key",
    "idem_fingerprint",
    "written_at",
];

/// The header's columns of `i`, and its sealed payload when asked for.
fn columns(payload: bool) -> String {
    let sealed = if payload { "i.sealed" } else { "NULL AS sealed" };
    let mut out = String::with_capacity(400);
    for column in COLUMNS.iter().filter(|column| **column != "sealed") {
        out.push_str("i.");
        out.push_str(column);
        out.push_str(", ");
    }
    out.push_str(sealed);
    out
}

fn header(row: &Row) -> Result<ItemHeader> {
    let key: Option<String> = row.maybe("idem_key")?;
    let fingerprint: Option<[u8; 32]> = row.maybe("idem_fingerprint")?;
    Ok(ItemHeader {
        item_id: row.get("item_id")?,
        version: row.get("version")?,
        subject_id: row.get("subject_id")?,
        revision: row.get("revision")?,
        kind: row.get("kind")?,
        schema: row.get("schema")?,
        practice_id: row.maybe("practice_id")?,
        practitioner_id: row.maybe("practitioner_id")?,
        author_id: row.get("author_id")?,
        parent_id: row.maybe("parent_id")?,
        occasion_id: row.maybe("occasion_id")?,
        object_id: row.maybe("object_id")?,
        occurred_at: row.get("occurred_at")?,
        starts_at: row.maybe("starts_at")?,
        ends_at: row.maybe("ends_at")?,
        signed_at: row.maybe("signed_at")?,
        retain_until: row.maybe("retain_until")?,
        state: row.get("state")?,
        visibility: row.get("visibility")?,
        bytes: row.get("bytes")?,
        digest: row.get("digest")?,
        key_version: row.get("key_version")?,
        idempotency: key.zip(fingerprint).map(|(key, fingerprint)| Idempotency { key, fingerprint }),
        written_at: row.get("written_at")?,
    })
}

struct HeaderRow(ItemHeader, bool);

impl FromRow for HeaderRow {
    fn from_row(row: &Row) -> Result<Self> {
        Ok(Self(header(row)?, row.get("current")?))
    }
}

impl FromRow for Version {
    fn from_row(row: &Row) -> Result<Self> {
        Ok(Self { header: header(row)?, current: row.get("current")?, sealed: row.maybe("sealed")? })
    }
}

/// Reads rows whose payload was not asked for.
async fn headers(tx: &Tx, sql: &str, values: Vec<Bound>) -> Result<Vec<Version>> {
    let rows: Vec<HeaderRow> = tx.all(sql, values).await?;
    Ok(rows.into_iter().map(|HeaderRow(header, current)| Version { header, current, sealed: None }).collect())
}

async fn versions(tx: &Tx, payload: bool, sql: &str, values: Vec<Bound>) -> Result<Vec<Version>> {
    if payload { tx.all(sql, values).await } else { headers(tx, sql, values).await }
}

fn row(header: &ItemHeader, current: bool, sealed: Option<Vec<u8>>) -> Vec<Bound> {
    let (key, fingerprint) = match &header.idempotency {
        Some(idempotency) => (Some(idempotency.key.clone()), Some(idempotency.fingerprint)),
        None => (None, None),
    };
    values![
        header.item_id,
        header.version,
        header.subject_id,
        header.revision,
        current,
        header.kind.clone(),
        header.schema,
        header.practice_id,
        header.practitioner_id,
        header.author_id,
        header.parent_id,
        header.occasion_id,
        header.object_id,
        header.occurred_at,
        header.starts_at,
        header.ends_at,
        header.signed_at,
        header.retain_until,
        header.state.clone(),
        header.visibility,
        header.bytes,
        header.digest,
        header.key_version,
        sealed,
        key,
        fingerprint,
        header.written_at,
    ]
}

/// Inserts one version. `false` when one of its keys is taken: the idempotency key, the revision, or
/// item and version; nothing was written then.
///
/// # Errors
/// As [`Tx::execute`].
pub async fn insert(tx: &Tx, version: Version) -> Result<bool> {
    let values = row(&version.header, version.current, version.sealed);
    let places: Vec<String> = (1..=values.len()).map(|place| format!("${place}")).collect();
    let sql = format!(
        "INSERT INTO item ({}) VALUES ({}) ON CONFLICT DO NOTHING",
        COLUMNS.join(", "),
        places.join(", ")
    );
    Ok(tx.execute(&sql, values).await? == 1)
}

/// Inserts many versions at once; `sealed` is `None` for payloads still in travel form. Answers how many are new.
///
/// # Errors
/// [`Code::Conflict`] under [`OnConflict::Fail`] when a key is taken, else as [`Tx::execute`].
pub async fn insert_many(tx: &Tx, versions: Vec<Version>, conflict: OnConflict) -> Result<u64> {
    let rows = versions.into_iter().map(|one| row(&one.header, one.current, one.sealed)).collect();
    tx.insert_many("item", COLUMNS, rows, conflict).await
}

/// Takes the mark of the newest version off exactly this version. `false` when it is not the newest.
///
/// # Errors
/// As [`Tx::execute`].
pub async fn supersede(tx: &Tx, subject: SubjectId, item: ItemId, version: u32) -> Result<bool> {
    let sql = "UPDATE item SET current = FALSE \
               WHERE subject_id = $1 AND item_id = $2 AND version = $3 AND current";
    Ok(tx.execute(sql, values![subject, item, version]).await? == 1)
}

/// One item as the reader may see it: its newest version, or the named one, with its sealed payload.
///
/// # Errors
/// As [`Tx::one`].
pub async fn get(
    tx: &Tx,
    subject: SubjectId,
    reader: Reader,
    item: ItemId,
    version: Option<u32>,
) -> Result<Option<Version>> {
    let mut binds = Binds::new(subject, tx.now());
    let chosen = chosen(&mut binds, reader, item, version);
    let sql = format!("SELECT {} FROM item i WHERE i.subject_id = $1 AND {chosen}", columns(true));
    tx.one(&sql, binds.values()).await
}

/// The newest version of one item as the reader may see it, without its payload.
///
/// # Errors
/// As [`Tx::one`].
pub async fn head(tx: &Tx, subject: SubjectId, reader: Reader, item: ItemId) -> Result<Option<Version>> {
    let mut binds = Binds::new(subject, tx.now());
    let chosen = chosen(&mut binds, reader, item, None);
    let sql = format!("SELECT {} FROM item i WHERE i.subject_id = $1 AND {chosen}", columns(false));
    Ok(headers(tx, &sql, binds.values()).await?.pop())
}

/// The condition that picks one version of one item.
fn chosen(binds: &mut Binds, reader: Reader, item: ItemId, version: Option<u32>) -> String {
    let item = binds.add(item);
    match version {
        None => format!("i.item_id = {item} AND i.current AND {}", binds.visible(reader, "i")),
        Some(version) => {
            let version = binds.add(version);
            let visible = binds.visible_version(reader, "i");
            format!("i.item_id = {item} AND i.version = {version} AND {visible}")
        }
    }
}

struct Served {
    standing: Standing,
    moved_to: Option<RegionId>,
    epoch: u64,
    changed_at: Timestamp,
    version: Option<Version>,
}

impl FromRow for Served {
    fn from_row(row: &Row) -> Result<Self> {
        let standing: String = row.get("r_standing")?;
        let here: Option<ItemId> = row.maybe("item_id")?;
        Ok(Self {
            standing: Standing::parse(&standing).ok_or_else(|| Error::new(Code::Internal).at("standing"))?,
            moved_to: row.maybe("r_moved_to")?,
            epoch: row.get("r_epoch")?,
            changed_at: row.get("r_changed_at")?,
            version: here.map(|_| Version::from_row(row)).transpose()?,
        })
    }
}

/// As [`get`] behind [`residency::read_check`], in one statement.
///
/// # Errors
/// [`Code::NotFound`] for a record or item that is not there or not for the reader, else as
/// [`residency::read_check`].
pub async fn get_served(
    tx: &Tx,
    subject: SubjectId,
    reader: Reader,
    item: ItemId,
    version: Option<u32>,
    served: Duration,
) -> Result<Version> {
    let mut binds = Binds::new(subject, tx.now());
    let chosen = chosen(&mut binds, reader, item, version);
    let access = binds.access(reader);
    let sql = format!(
        "SELECT r.standing AS r_standing, r.moved_to AS r_moved_to, r.epoch AS r_epoch, \
         r.changed_at AS r_changed_at, {} FROM residency r \
         LEFT JOIN item i ON i.subject_id = $1 AND {chosen} WHERE r.subject_id = $1 AND {access}",
        columns(true)
    );
    let not_found = || Error::new(Code::NotFound);
    let found: Served = tx.one(&sql, binds.values()).await?.ok_or_else(not_found)?;
    let Served { standing, moved_to, epoch, changed_at, version } = found;
    residency::serves(standing, moved_to.as_ref(), epoch, changed_at, tx.now(), served)?;
    version.ok_or_else(not_found)
}

/// A page of newest versions, newest first by (occurred_at, item_id).
#[derive(Clone, Debug)]
pub struct Listing {
    /// Only this kind.
    pub kind: Option<String>,
    /// Only what comes after this place.
    pub after: Option<(Timestamp, ItemId)>,
    /// At most this many.
    pub limit: u32,
    /// Whether sealed payloads are wanted.
    pub payloads: bool,
}

/// Lists newest versions as the reader may see them.
///
/// # Errors
/// As [`Tx::all`].
pub async fn list(tx: &Tx, subject: SubjectId, reader: Reader, page: &Listing) -> Result<Vec<Version>> {
    let mut binds = Binds::new(subject, tx.now());
    let mut sql =
        format!("SELECT {} FROM item i WHERE i.subject_id = $1 AND i.current", columns(page.payloads));
    if let Some(kind) = &page.kind {
        sql.push_str(&format!(" AND i.kind = {}", binds.add(kind)));
    }
    if let Some((at, item)) = page.after {
        let (at, item) = (binds.add(at), binds.add(item));
        sql.push_str(&format!(" AND (i.occurred_at, i.item_id) < ({at}, {item})"));
    }
    let visible = binds.visible(reader, "i");
    let limit = binds.add(page.limit);
    sql.push_str(&format!(" AND {visible} ORDER BY i.occurred_at DESC, i.item_id DESC LIMIT {limit}"));
    versions(tx, page.payloads, &sql, binds.values()).await
}

/// Every version of one item as the reader may see it, newest first, without payloads.
///
/// # Errors
/// As [`Tx::all`].
pub async fn history(tx: &Tx, subject: SubjectId, reader: Reader, item: ItemId) -> Result<Vec<Version>> {
    let mut binds = Binds::new(subject, tx.now());
    let item = binds.add(item);
    let visible = binds.visible_version(reader, "i");
    let sql = format!(
        "SELECT {} FROM item i WHERE i.subject_id = $1 AND i.item_id = {item} AND {visible} \
         ORDER BY i.version DESC",
        columns(false)
    );
    headers(tx, &sql, binds.values()).await
}

/// Newest versions of one kind that hang on an item, in the order of their revisions past `after`, with
/// payloads.
///
/// # Errors
/// As [`Tx::all`].
pub async fn children(
    tx: &Tx,
    subject: SubjectId,
    reader: Reader,
    (parent, kind): (ItemId, &str),
    after: u64,
    limit: u32,
) -> Result<Vec<Version>> {
    let mut binds = Binds::new(subject, tx.now());
    let (parent, kind, after) = (binds.add(parent), binds.add(kind), binds.add(after));
    let visible = binds.visible(reader, "i");
    let limit = binds.add(limit);
    let sql = format!(
        "SELECT {} FROM item i WHERE i.subject_id = $1 AND i.parent_id = {parent} AND i.kind = {kind} AND i.current \
         AND i.revision > {after} AND {visible} ORDER BY i.revision LIMIT {limit}",
        columns(true)
    );
    tx.all(&sql, binds.values()).await
}

/// The version that an idempotency key wrote, without its payload.
///
/// # Errors
/// As [`Tx::one`].
pub async fn by_key(tx: &Tx, subject: SubjectId, key: &str) -> Result<Option<Version>> {
    let sql = format!("SELECT {} FROM item i WHERE i.subject_id = $1 AND i.idem_key = $2", columns(false));
    Ok(headers(tx, &sql, values![subject, key]).await?.pop())
}

impl FromRow for KindCount {
    fn from_row(row: &Row) -> Result<Self> {
        Ok(Self {
            kind: row.get("kind")?,
            items: row.get("items")?,
            versions: row.get("versions")?,
            bytes: row.get("bytes")?,
            schema: row.get("schema")?,
        })
    }
}

/// What the record holds as the reader may see it, by kind in the order of their names.
///
/// # Errors
/// As [`Tx::all`].
pub async fn counts(tx: &Tx, subject: SubjectId, reader: Reader) -> Result<Vec<KindCount>> {
    let mut binds = Binds::new(subject, tx.now());
    let visible = binds.visible_version(reader, "i");
    let sql = format!(
        "SELECT i.kind, CAST(SUM(CASE WHEN i.current THEN 1 ELSE 0 END) AS BIGINT) AS items, \
         COUNT(*) AS versions, CAST(SUM(i.bytes) AS BIGINT) AS bytes, MAX(i.schema) AS schema \
         FROM item i WHERE i.subject_id = $1 AND {visible} GROUP BY i.kind ORDER BY i.kind"
    );
    tx.all(&sql, binds.values()).await
}

/// The change feed between two revisions, the first excluded, the last included.
///
/// # Errors
/// As [`Tx::all`].
pub async fn feed_range(tx: &Tx, subject: SubjectId, after: u64, last: u64) -> Result<Vec<Version>> {
    let sql = format!(
        "SELECT {} FROM item i WHERE i.subject_id = $1 AND i.revision > $2 AND i.revision <= $3 ORDER BY i.revision",
        columns(true)
    );
    tx.all(&sql, values![subject, after, last]).await
}

/// Named versions of the record, with sealed payloads, in no particular order.
///
/// # Errors
/// As [`Tx::all`].
pub async fn feed_only(tx: &Tx, subject: SubjectId, only: &[(ItemId, u32)]) -> Result<Vec<Version>> {
    let mut found = Vec::with_capacity(only.len());
    for named in only.chunks(NAMED) {
        let mut binds = Binds::new(subject, tx.now());
        let named = named_rows(&mut binds, named);
        let sql = format!("SELECT {} FROM item i WHERE i.subject_id = $1 AND {named}", columns(true));
        found.extend(tx.all::<Version>(&sql, binds.values()).await?);
    }
    Ok(found)
}

/// `(i.item_id, i.version) IN (…)`.
fn named_rows(binds: &mut Binds, named: &[(ItemId, u32)]) -> String {
    let places: Vec<String> = named
        .iter()
        .map(|(item, version)| format!("({}, {})", binds.add(*item), binds.add(*version)))
        .collect();
    format!("(i.item_id, i.version) IN (VALUES {})", places.join(", "))
}

struct Stored {
    item: ItemId,
    version: u32,
    payload: Option<StoredPayload>,
}

impl FromRow for Stored {
    fn from_row(row: &Row) -> Result<Self> {
        let sealed: Option<Vec<u8>> = row.maybe("sealed")?;
        let transfer: Option<TransferId> = row.maybe("transfer_id")?;
        let payload = match (sealed, transfer) {
            (Some(sealed), _) => Some(StoredPayload::Sealed(sealed)),
            (None, Some(transfer)) => Some(StoredPayload::Travelling(Box::new(Travelling {
                transfer,
                page: row.get("page_id")?,
                page_header: row.get("page_header")?,
                salt: row.get("salt")?,
                commitment: row.get("commitment")?,
                revision: row.get("staged_revision")?,
                position: row.get("position")?,
                last: row.get("last")?,
                digest: row.get("staged_digest")?,
                sealed_header: row.get("sealed_header")?,
                sealed_payload: row.get("sealed_payload")?,
            }))),
            (None, None) => None,
        };
        Ok(Self { item: row.get("item_id")?, version: row.get("version")?, payload })
    }
}

/// Payloads of named versions as they lie in the tables; a version whose payload is nowhere is left out.
/// Needs the scope [`Scope::Move`](crate::Scope::Move): staged rows name no subject.
///
/// # Errors
/// As [`Tx::all`].
pub async fn payloads(
    tx: &Tx,
    subject: SubjectId,
    only: &[(ItemId, u32)],
) -> Result<Vec<(ItemId, u32, StoredPayload)>> {
    let mut found = Vec::with_capacity(only.len());
    for named in only.chunks(NAMED) {
        let mut binds = Binds::new(subject, tx.now());
        let named = named_rows(&mut binds, named);
        let sql = format!(
            "SELECT i.item_id, i.version, i.sealed, s.transfer_id, s.page_id, s.position, s.last, \
             s.revision AS staged_revision, s.digest AS staged_digest, s.sealed_header, s.sealed_payload, \
             p.header AS page_header, p.salt, p.commitment FROM item i \
             LEFT JOIN staged_row s ON i.sealed IS NULL AND s.item_id = i.item_id AND s.version = i.version \
             LEFT JOIN staged_page p ON p.page_id = s.page_id AND p.transfer_id = s.transfer_id \
             WHERE i.subject_id = $1 AND {named}"
        );
        let rows: Vec<Stored> = tx.all(&sql, binds.values()).await?;
        found.extend(rows.into_iter().filter_map(|row| Some((row.item, row.version, row.payload?))));
    }
    Ok(found)
}

/// The region's own work: deletes up to `limit` versions of the record and answers how many went.
///
/// # Errors
/// As [`Tx::execute`].
pub async fn erase(tx: &Tx, subject: SubjectId, limit: u32) -> Result<u64> {
    tx.delete_some("item", "subject_id", subject.bind(), limit).await
}
