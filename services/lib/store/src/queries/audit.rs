//! The audit log's tables. Entries come in through [`Tx::audit`](crate::Tx::audit) and
//! [`Store::audit_now`](crate::Store::audit_now); the sequencer moves them from the outbox into the tree.

use std::collections::BTreeMap;

use domicile_evidence::entry::Pseudonym;
use domicile_evidence::merkle::{Coordinate, Hash, Node};
use domicile_evidence::statement::SignedStatement;
use domicile_types::{Code, Error, EventId, Result, Timestamp, TransferId};
use uuid::Uuid;

use crate::value::Bind as _;
use crate::{Backend, Bound, FromRow, OnConflict, Row, Tx, bulk, values};

/// Registers a process as a writer; its epoch is above all before.
pub(crate) async fn writer_register(tx: &Tx, writer: Uuid) -> Result<u64> {
    let epoch = tx.scalar(
        "INSERT INTO audit_writer (writer, epoch, started_at) \
         SELECT $1, COALESCE(MAX(epoch), 0) + 1, $2 FROM audit_writer RETURNING epoch AS value",
        values![writer, tx.now()],
    );
    epoch.await?.ok_or_else(|| Error::new(Code::Internal))
}

/// An entry's row in the log.
pub struct EntryRow {
    /// Its index.
    pub index: u64,
    /// Deterministic CBOR.
    pub entry: Vec<u8>,
}

impl FromRow for EntryRow {
    fn from_row(row: &Row) -> Result<Self> {
        Ok(Self { index: row.get("idx")?, entry: row.get("entry")? })
    }
}

/// An entry that waits for the sequencer.
pub struct OutboxRow {
    /// The event.
    pub event_id: EventId,
    /// Deterministic CBOR, without the sequencer's time.
    pub entry: Vec<u8>,
}

impl FromRow for OutboxRow {
    fn from_row(row: &Row) -> Result<Self> {
        Ok(Self { event_id: row.get("event_id")?, entry: row.get("entry")? })
    }
}

/// An entry to be added to the log.
pub struct NewEntry {
    /// Its index.
    pub index: u64,
    /// The event.
    pub event_id: EventId,
    /// Whose record.
    pub subject: Option<Pseudonym>,
    /// Which transfer.
    pub transfer: Option<TransferId>,
    /// Deterministic CBOR.
    pub entry: Vec<u8>,
}

/// A signed checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckpointRow {
    /// The tree's size.
    pub size: u64,
    /// Its root.
    pub root: Hash,
    /// The signed note.
    pub note: String,
    /// When it was last signed.
    pub signed_at: Timestamp,
}

impl FromRow for CheckpointRow {
    fn from_row(row: &Row) -> Result<Self> {
        Ok(Self {
            size: row.get("size")?,
            root: row.get("root")?,
            note: row.get("note")?,
            signed_at: row.get("signed_at")?,
        })
    }
}

/// A statement's row, as a bundle needs it.
pub struct LoggedStatement {
    /// The transfer.
    pub transfer: TransferId,
    /// Whose lane.
    pub origin: String,
    /// The number in its lane.
    pub sequence: u64,
    /// SHA-256 of the statement.
    pub digest: Hash,
    /// When it was made.
    pub at: Timestamp,
    /// The signed statement.
    pub signed: SignedStatement,
}

impl FromRow for LoggedStatement {
    fn from_row(row: &Row) -> Result<Self> {
        Ok(Self {
            transfer: row.get("transfer_id")?,
            origin: row.get("origin")?,
            sequence: row.get("sequence")?,
            digest: row.get("digest")?,
            at: row.get("at")?,
            signed: SignedStatement {
                statement: row.get("statement")?,
                body: row.get("body")?,
                signature: row.get("signature")?,
            },
        })
    }
}

struct NodeRow(Node);

impl FromRow for NodeRow {
    fn from_row(row: &Row) -> Result<Self> {
        let at = Coordinate { level: row.get("level")?, index: row.get("idx")? };
        Ok(Self(Node { at, hash: row.get("hash")? }))
    }
}

/// Asks whichever replica sequences the log to sign a checkpoint now.
///
/// # Errors
/// [`Code::StoreUnavailable`].
pub async fn demand(tx: &Tx) -> Result<()> {
    let sql = "INSERT INTO audit_demand (demand_id, asked) VALUES (1, 1) \
               ON CONFLICT (demand_id) DO UPDATE SET asked = audit_demand.asked + 1";
    tx.execute(sql, values![]).await.map(drop)
}

/// How often a checkpoint has been asked for.
///
/// # Errors
/// [`Code::StoreUnavailable`].
pub async fn demanded(tx: &Tx) -> Result<u64> {
    Ok(tx.scalar("SELECT asked AS value FROM audit_demand", values![]).await?.unwrap_or(0))
}

/// Events that wait for the sequencer, the newest first.
///
/// # Errors
/// [`Code::StoreUnavailable`].
pub async fn outbox_waiting(tx: &Tx, limit: u64) -> Result<Vec<EventId>> {
    let sql = "SELECT event_id FROM audit_outbox ORDER BY at DESC LIMIT $1";
    let rows = tx.rows(sql, values![limit]).await?;
    rows.iter().map(|row| row.get("event_id")).collect()
}

/// Whether any of these events still waits for the sequencer.
///
/// # Errors
/// [`Code::StoreUnavailable`].
pub async fn outbox_holds(tx: &Tx, events: &[EventId]) -> Result<bool> {
    for some in events.chunks(CHUNK) {
        let (among, values) = among(tx, some)?;
        let sql = format!("SELECT COUNT(*) AS value FROM audit_outbox WHERE event_id {among}");
        if tx.scalar::<i64>(&sql, values).await?.unwrap_or(0) > 0 {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Rows of the outbox, each writer's in its order. There is no cursor: a late commit is taken next time.
///
/// # Errors
/// [`Code::StoreUnavailable`].
pub async fn outbox_list(tx: &Tx, limit: u64) -> Result<Vec<OutboxRow>> {
    let sql = "SELECT event_id, entry FROM audit_outbox ORDER BY at, writer, writer_sequence LIMIT $1";
    tx.all(sql, values![limit]).await
}

/// Removes rows that are in the log.
///
/// # Errors
/// [`Code::StoreUnavailable`].
pub async fn outbox_delete(tx: &Tx, events: &[EventId]) -> Result<()> {
    for some in events.chunks(CHUNK) {
        let (among, values) = among(tx, some)?;
        tx.execute(&format!("DELETE FROM audit_outbox WHERE event_id {among}"), values).await?;
    }
    Ok(())
}

/// Which of these events the log already has.
///
/// # Errors
/// [`Code::StoreUnavailable`].
pub async fn entry_known(tx: &Tx, events: &[EventId]) -> Result<Vec<EventId>> {
    let mut known = Vec::new();
    for some in events.chunks(CHUNK) {
        let (among, values) = among(tx, some)?;
        let sql = format!("SELECT event_id FROM audit_entry WHERE event_id {among}");
        for row in tx.rows(&sql, values).await? {
            known.push(row.get("event_id")?);
        }
    }
    Ok(known)
}

/// How many events one statement names.
const CHUNK: usize = 500;

/// The condition that names some events. On PostgreSQL they are one array, so that any number of them is
/// the same prepared statement.
fn among(tx: &Tx, events: &[EventId]) -> Result<(String, Vec<Bound>)> {
    if tx.backend() == Backend::Postgres {
        let values = bulk::arrays(events.iter().map(|event| [event.bind()]).collect())?;
        return Ok(("= ANY($1)".to_owned(), values));
    }
    let places: Vec<String> = (1..=events.len()).map(|place| format!("${place}")).collect();
    Ok((format!("IN ({})", places.join(", ")), events.iter().map(|event| event.bind()).collect()))
}

/// How many entries the log has.
///
/// # Errors
/// [`Code::StoreUnavailable`].
pub async fn log_size(tx: &Tx) -> Result<u64> {
    let size = tx.scalar("SELECT MAX(idx) + 1 AS value FROM audit_entry", values![]).await?;
    Ok(size.unwrap_or(0))
}

/// Adds entries to the log.
///
/// # Errors
/// [`Code::Conflict`] when an index or an event is taken; [`Code::StoreUnavailable`].
pub async fn entry_append(tx: &Tx, entries: Vec<NewEntry>) -> Result<()> {
    let columns = ["idx", "event_id", "subject_pseudonym", "transfer_id", "entry"];
    let row = |new: NewEntry| values![new.index, new.event_id, new.subject, new.transfer, new.entry];
    let rows = entries.into_iter().map(row).collect();
    tx.insert_many("audit_entry", &columns, rows, OnConflict::Fail).await.map(drop)
}

/// Stores the tree's completed nodes.
///
/// # Errors
/// [`Code::Conflict`] when a node is there; [`Code::StoreUnavailable`].
pub async fn node_append(tx: &Tx, nodes: &[Node]) -> Result<()> {
    let rows = nodes.iter().map(|node| values![node.at.level, node.at.index, node.hash]).collect();
    tx.insert_many("audit_node", &["level", "idx", "hash"], rows, OnConflict::Fail).await.map(drop)
}

/// The hashes of nodes, in the order asked for.
///
/// # Errors
/// [`Code::AuditCorrupt`] when one is missing; [`Code::StoreUnavailable`].
pub async fn node_get(tx: &Tx, places: &[Coordinate]) -> Result<Vec<Hash>> {
    let mut found = BTreeMap::new();
    for some in places.chunks(CHUNK) {
        let (sql, values) = nodes_at(tx, some)?;
        for NodeRow(node) in tx.all(&sql, values).await? {
            found.insert(node.at, node.hash);
        }
    }
    let hash = |at| found.get(at).copied().ok_or_else(|| Error::new(Code::AuditCorrupt).at("tree node"));
    places.iter().map(hash).collect()
}

fn nodes_at(tx: &Tx, places: &[Coordinate]) -> Result<(String, Vec<Bound>)> {
    if tx.backend() == Backend::Postgres {
        let sql = "SELECT n.level, n.idx, n.hash FROM audit_node n \
                   JOIN UNNEST($1::bigint[], $2::bigint[]) AS r(level, idx) ON n.level = r.level AND n.idx = r.idx";
        let values = bulk::arrays(places.iter().map(|at| [at.level.bind(), at.index.bind()]).collect())?;
        return Ok((sql.to_owned(), values));
    }
    let either = |at: usize| format!("(level = ${} AND idx = ${})", 2 * at + 1, 2 * at + 2);
    let clauses: Vec<String> = (0..places.len()).map(either).collect();
    let values = places.iter().flat_map(|at| values![at.level, at.index]).collect();
    Ok((format!("SELECT level, idx, hash FROM audit_node WHERE {}", clauses.join(" OR ")), values))
}

/// The leaf hashes from `first` up to `end`, in order.
///
/// # Errors
/// [`Code::AuditCorrupt`] when one is missing; [`Code::StoreUnavailable`].
pub async fn leaf_list(tx: &Tx, first: u64, end: u64) -> Result<Vec<Hash>> {
    let sql =
        "SELECT level, idx, hash FROM audit_node WHERE level = 0 AND idx >= $1 AND idx < $2 ORDER BY idx";
    let nodes: Vec<NodeRow> = tx.all(sql, values![first, end]).await?;
    let whole = (first..end).eq(nodes.iter().map(|node| node.0.at.index));
    let hashes = nodes.iter().map(|node| node.0.hash).collect();
    if whole { Ok(hashes) } else { Err(Error::new(Code::AuditCorrupt).at("leaf hash")) }
}

/// Entries from an index on, up to but not including `end`.
///
/// # Errors
/// [`Code::StoreUnavailable`].
pub async fn entry_list(tx: &Tx, start: u64, end: u64, limit: u64) -> Result<Vec<EntryRow>> {
    let sql = "SELECT idx, entry FROM audit_entry WHERE idx >= $1 AND idx < $2 ORDER BY idx LIMIT $3";
    tx.all(sql, values![start, end, limit]).await
}

/// Entries of one transfer from an index on.
///
/// # Errors
/// [`Code::StoreUnavailable`].
pub async fn entry_list_transfer(
    tx: &Tx,
    transfer: TransferId,
    start: u64,
    limit: u64,
) -> Result<Vec<EntryRow>> {
    let sql = "SELECT idx, entry FROM audit_entry WHERE transfer_id = $1 AND idx >= $2 ORDER BY idx LIMIT $3";
    tx.all(sql, values![transfer, start, limit]).await
}

/// Entries about one person from an index on.
///
/// # Errors
/// [`Code::StoreUnavailable`].
pub async fn entry_list_subject(
    tx: &Tx,
    subject: Pseudonym,
    start: u64,
    limit: u64,
) -> Result<Vec<EntryRow>> {
    let sql =
        "SELECT idx, entry FROM audit_entry WHERE subject_pseudonym = $1 AND idx >= $2 ORDER BY idx LIMIT $3";
    tx.all(sql, values![subject, start, limit]).await
}

/// The entry of one event.
///
/// # Errors
/// [`Code::StoreUnavailable`].
pub async fn entry_find(tx: &Tx, event: EventId) -> Result<Option<EntryRow>> {
    tx.one("SELECT idx, entry FROM audit_entry WHERE event_id = $1", values![event]).await
}

/// Stores a signed checkpoint; the same size may be signed again, with the same root only.
///
/// # Errors
/// [`Code::AuditCorrupt`] when the size was signed with another root; [`Code::StoreUnavailable`].
pub async fn checkpoint_put(tx: &Tx, checkpoint: &CheckpointRow) -> Result<()> {
    let sql = "INSERT INTO audit_checkpoint (size, root, note, signed_at) VALUES ($1, $2, $3, $4) \
               ON CONFLICT (size) DO UPDATE SET note = excluded.note, signed_at = excluded.signed_at \
               WHERE audit_checkpoint.root = excluded.root";
    let CheckpointRow { size, root, note, signed_at } = checkpoint;
    match tx.execute(sql, values![*size, *root, note.as_str(), *signed_at]).await? {
        1 => Ok(()),
        _ => Err(Error::new(Code::AuditCorrupt).at("checkpoint")),
    }
}

/// The newest checkpoint.
///
/// # Errors
/// [`Code::StoreUnavailable`].
pub async fn checkpoint_newest(tx: &Tx) -> Result<Option<CheckpointRow>> {
    tx.one("SELECT size, root, note, signed_at FROM audit_checkpoint ORDER BY size DESC LIMIT 1", values![])
        .await
}

/// The newest checkpoint of at most this size.
///
/// # Errors
/// [`Code::StoreUnavailable`].
pub async fn checkpoint_until(tx: &Tx, size: u64) -> Result<Option<CheckpointRow>> {
    let sql = "SELECT size, root, note, signed_at FROM audit_checkpoint WHERE size <= $1 \
               ORDER BY size DESC LIMIT 1";
    tx.one(sql, values![size]).await
}

/// Statements in the order of transfer, lane and number, past `after`; of one transfer or of all.
///
/// # Errors
/// [`Code::StoreUnavailable`].
pub async fn statement_page(
    tx: &Tx,
    of: Option<TransferId>,
    after: Option<(TransferId, String, u64)>,
    limit: u64,
) -> Result<Vec<LoggedStatement>> {
    let (transfer, origin, sequence) =
        after.unwrap_or((TransferId::from_uuid(Uuid::nil()), String::new(), 0));
    let sql = "SELECT transfer_id, origin, sequence, digest, at, statement, body, signature FROM statement \
               WHERE (transfer_id, origin, sequence) > ($1, $2, $3) AND (transfer_id = $4 OR $5 = 0) \
               ORDER BY transfer_id, origin, sequence LIMIT $6";
    let only = i64::from(of.is_some());
    tx.all(sql, values![transfer, origin, sequence, of, only, limit]).await
}
