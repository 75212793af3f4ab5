//! Rows as lines, the same for every store.

use domicile_evidence::entry::Entry;
use domicile_types::{ItemHeader, ItemId, ObjectId, RegionId, TransferId};
use uuid::Uuid;

/// A residency.
#[derive(Debug)]
pub struct HomeLine<'a> {
    /// How often the record has moved, plus one.
    pub epoch: u64,
    /// What the region may do with it.
    pub standing: &'a str,
    /// Where it went.
    pub moved_to: Option<&'a RegionId>,
    /// The counters of writes, control rows, transfers and freezes.
    pub counters: (u64, u64, u64, u64),
}

/// A version of an item.
#[derive(Debug)]
pub struct ItemLine<'a> {
    /// The header.
    pub header: &'a ItemHeader,
    /// Whether it is the newest.
    pub current: bool,
    /// The sealed payload; `None` while it is in travel form.
    pub sealed: Option<&'a [u8]>,
}

/// An object.
#[derive(Debug)]
pub struct ObjectLine {
    /// The object.
    pub object: ObjectId,
    /// The describing item.
    pub item: Option<ItemId>,
    /// Whether the content is there, and whether it is as it travelled.
    pub complete_travelling: (bool, bool),
    /// The version of the record key.
    pub key_version: u32,
    /// Which transfer brought it.
    pub transfer: Option<TransferId>,
    /// Which file holds it.
    pub copy: Option<Uuid>,
}

/// An entry of the log, without what differs by the writer's own randomness.
#[must_use]
pub fn entry_line(entry: &Entry) -> String {
    let statement = entry.statement.as_ref();
    let statement = statement
        .map(|of| format!("{} {} {} {}", of.origin, of.sequence, of.step.name(), hex::encode(of.digest)));
    let subject = entry.subject.map(hex::encode);
    let (event, role, resource) = (entry.event.name(), entry.role.as_str(), &entry.resource);
    format!(
        "log {event} {role} {subject:?} {resource:?} {:?} {:?} {statement:?}",
        entry.transfer, entry.outcome
    )
}
