//! The order of entries that are taken in together.

use std::collections::BTreeMap;

use domicile_evidence::entry::{Entry, StatementRef};
use domicile_types::TransferId;

/// Puts the statements of each transfer in the order in which they were made, without moving any other
/// entry. Writers' clocks may differ; the lanes do not lie: a statement that another one follows or has
/// seen was committed before it, so both are here or the earlier one is in the log already.
pub(super) fn by_lanes(mut entries: Vec<Entry>) -> Vec<Entry> {
    let mut groups: BTreeMap<TransferId, Vec<usize>> = BTreeMap::new();
    for (at, entry) in entries.iter().enumerate() {
        if let Some(reference) = &entry.statement {
            groups.entry(reference.transfer).or_default().push(at);
        }
    }
    for places in groups.into_values().filter(|places| places.len() > 1) {
        let waiting = places.iter().filter_map(|at| entries.get(*at).cloned()).collect();
        for (at, entry) in places.into_iter().zip(sorted(waiting)) {
            if let Some(place) = entries.get_mut(at) {
                *place = entry;
            }
        }
    }
    entries
}

fn sorted(mut waiting: Vec<Entry>) -> Vec<Entry> {
    let mut sorted = Vec::with_capacity(waiting.len());
    while !waiting.is_empty() {
        let free = |entry: &Entry| !waiting.iter().any(|other| follows(entry, other));
        // In a damaged lane everything may wait for everything: then the first goes first.
        let next = waiting.iter().position(free).unwrap_or(0);
        sorted.push(waiting.remove(next));
    }
    sorted
}

/// Whether `entry` can only have been made after `other`.
fn follows(entry: &Entry, other: &Entry) -> bool {
    let (Some(entry), Some(other)) = (&entry.statement, &other.statement) else { return false };
    let seen = |entry: &StatementRef| entry.seen.map_or(0, |(sequence, _)| sequence);
    entry.attempt == other.attempt
        && if entry.origin == other.origin {
            entry.sequence > other.sequence
        } else {
            seen(entry) >= other.sequence
        }
}
