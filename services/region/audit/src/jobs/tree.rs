//! One step of the tree's growth, inside the sequencer's transaction.

use std::collections::BTreeSet;

use domicile_evidence::entry::Entry;
use domicile_evidence::merkle::{Frontier, Hash, Node, ProofPlan, leaf_hash, verify_consistency};
use domicile_store::Tx;
use domicile_store::queries::audit::{self, NewEntry};
use domicile_store::queries::lease;
use domicile_types::time::Timestamp;
use domicile_types::{Code, Error, EventId, Result};
use uuid::Uuid;

use super::order;
use crate::head::Head;

/// How many rows one transaction takes in: on SQLite it keeps all other writers waiting.
const BATCH: u64 = 512;
/// The name of the sequencer's lease.
pub(super) const JOB: &str = "audit.sequencer";

/// What one transaction has taken in.
pub(super) struct Drained {
    /// The tree's size afterwards.
    pub(super) size: u64,
    /// Writer, epoch, number and writing time of each new entry.
    pub(super) numbers: Vec<(Uuid, u64, u64, Timestamp)>,
    /// Whether the outbox may hold more.
    pub(super) more: bool,
}

/// Takes in what is in the outbox, and `extra` entries of the sequencer's own.
pub(super) async fn drain(tx: &Tx, origin: &str, token: u64, extra: &[Entry]) -> Result<Drained> {
    lease::fence(tx, JOB, token).await?;
    let rows = audit::outbox_list(tx, BATCH).await?;
    let size = audit::log_size(tx).await?;
    if rows.is_empty() && extra.is_empty() {
        return Ok(Drained { size, numbers: Vec::new(), more: false });
    }
    let events: Vec<EventId> = rows.iter().map(|row| row.event_id).collect();
    let known: BTreeSet<EventId> = audit::entry_known(tx, &events).await?.into_iter().collect();
    let mut entries = Vec::with_capacity(rows.len() + extra.len());
    for row in rows.iter().filter(|row| !known.contains(&row.event_id)) {
        let entry = Entry::decode(&row.entry)?;
        if entry.origin != origin || entry.event_id != row.event_id {
            return Err(Error::new(Code::AuditCorrupt).at("outbox"));
        }
        entries.push(entry);
    }
    entries.extend_from_slice(extra);
    let entries = order::by_lanes(entries);
    let grown = append(tx, size, &entries).await?;
    audit::outbox_delete(tx, &events).await?;
    let number = |entry: &Entry| (entry.writer, entry.writer_epoch, entry.writer_sequence, entry.written_at);
    Ok(Drained {
        size: grown,
        numbers: entries.iter().map(number).collect(),
        more: u64::try_from(rows.len()).unwrap_or(u64::MAX) >= BATCH,
    })
}

async fn append(tx: &Tx, size: u64, entries: &[Entry]) -> Result<u64> {
    let mut frontier = frontier(tx, size).await?;
    let at = sequencing_time(tx, size).await?;
    let mut rows = Vec::with_capacity(entries.len());
    let mut nodes: Vec<Node> = Vec::with_capacity(entries.len() * 2);
    for entry in entries {
        let bytes = entry.clone().with_sequenced(at).encode();
        let index = frontier.size();
        nodes.extend(frontier.append(leaf_hash(&bytes))?);
        rows.push(NewEntry {
            index,
            event_id: entry.event_id,
            subject: entry.subject,
            transfer: entry.transfer,
            entry: bytes,
        });
    }
    audit::entry_append(tx, rows).await?;
    audit::node_append(tx, &nodes).await?;
    Ok(frontier.size())
}

async fn frontier(tx: &Tx, size: u64) -> Result<Frontier> {
    let hashes = audit::node_get(tx, &Frontier::coordinates(size)).await?;
    Ok(Frontier::load(size, hashes)?)
}

/// The present, but never before the last entry's: the log's times do not go back.
async fn sequencing_time(tx: &Tx, size: u64) -> Result<Timestamp> {
    let last = audit::entry_list(tx, size.saturating_sub(1), size, 1).await?;
    let last = last.first().map(|row| Entry::decode(&row.entry)).transpose()?;
    let last = last.and_then(|entry| entry.sequenced_at).unwrap_or(Timestamp::EPOCH);
    Ok(tx.now().max(last))
}

/// The tree's head, checked to go on from the last signed one.
pub(super) async fn head(tx: &Tx, signed: Option<Head>) -> Result<Head> {
    let size = audit::log_size(tx).await?;
    let root = frontier(tx, size).await?.root();
    let damaged = |place: &str| Err(Error::new(Code::AuditCorrupt).at(place));
    match signed {
        None if audit::checkpoint_newest(tx).await?.is_some() => damaged("signed head is missing"),
        Some(signed) if signed.size > size => damaged("log is shorter than its signed head"),
        Some(signed) if signed.size > 0 => {
            let plan = ProofPlan::consistency(signed.size, size)?;
            let hashes = audit::node_get(tx, &plan.coordinates()).await?;
            verify_consistency(signed.size, &signed.root, size, &root, &plan.combine(&hashes)?)?;
            Ok(Head { size, root })
        }
        _ => Ok(Head { size, root }),
    }
}

/// The inclusion proof of an entry in the tree of a size.
pub(crate) async fn inclusion(tx: &Tx, index: u64, size: u64) -> Result<Vec<Hash>> {
    let plan = ProofPlan::inclusion(index, size)?;
    let hashes = audit::node_get(tx, &plan.coordinates()).await?;
    Ok(plan.combine(&hashes)?)
}
