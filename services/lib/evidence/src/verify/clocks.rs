//! Whether entries' times fit the sequencer's.

use std::time::Duration;

use domicile_types::time::Timestamp;

use crate::entry::Entry;
use crate::event::EventType;

/// A writer's clock may be this much ahead of the sequencer's.
const AHEAD: Duration = Duration::from_secs(60);
/// An entry may wait this long for the sequencer before it looks odd, unless the region was switched off.
const LATE: Duration = Duration::from_secs(3600);

/// Entries, counted.
#[derive(Clone, Copy, Debug, Default)]
struct Counted {
    entries: u64,
    first: Option<u64>,
}

impl Counted {
    fn add(&mut self, index: u64) {
        self.entries += 1;
        self.first = self.first.or(Some(index));
    }
}

/// A stretch in which nothing was sequenced, longer than any entry may wait.
#[derive(Clone, Copy, Debug)]
struct Silence {
    from: Timestamp,
    to: Timestamp,
    /// Whether the log says that a process of the region started since.
    started: bool,
}

/// What the times of a log's entries show, as they come in by index.
///
/// A region that was killed leaves entries in its outbox; the next sequencer, hours later, takes them in. They
/// are late and nothing is odd about that: nothing was sequenced meanwhile, and the log tells of the start.
#[derive(Debug, Default)]
pub(super) struct Clocks {
    last: Option<Timestamp>,
    silence: Option<Silence>,
    odd: Counted,
    /// Late after a silence, with no start seen yet: that entry comes behind what waited.
    waiting: Counted,
}

impl Clocks {
    /// The newest time the sequencer has written.
    pub(super) fn newest(&self) -> Option<Timestamp> {
        self.last
    }

    /// The next entry, sequenced at `at`.
    pub(super) fn note(&mut self, index: u64, entry: &Entry, at: Timestamp) {
        if let Some(from) = self.last.filter(|last| last.plus(LATE) < at) {
            self.give_up();
            self.silence = Some(Silence { from, to: at, started: false });
        }
        if entry.event == EventType::SystemStart {
            self.started(entry.written_at);
        }
        let back = self.last.is_some_and(|last| at < last);
        let late = entry.written_at.plus(LATE) < at;
        if back || entry.written_at > at.plus(AHEAD) {
            self.odd.add(index);
        } else if late {
            self.late(index, entry.written_at, at);
        }
        self.last = Some(self.last.map_or(at, |last| last.max(at)));
    }

    /// How many entries are odd, and the first one's index.
    pub(super) fn odd(mut self) -> (u64, Option<u64>) {
        self.give_up();
        (self.odd.entries, self.odd.first)
    }

    fn started(&mut self, at: Timestamp) {
        if let Some(silence) = self.silence.as_mut().filter(|silence| silence.from <= at) {
            silence.started = true;
            self.waiting = Counted::default();
        }
    }

    /// Written within an hour of the silence's beginning, taken in within an hour of its end?
    fn late(&mut self, index: u64, written: Timestamp, at: Timestamp) {
        let covered = |silence: &Silence| {
            let near = silence.from <= written.plus(LATE) && written <= silence.from.plus(LATE);
            near && at <= silence.to.plus(LATE)
        };
        match self.silence.filter(covered) {
            Some(silence) if silence.started => {}
            Some(_) => self.waiting.add(index),
            None => self.odd.add(index),
        }
    }

    fn give_up(&mut self) {
        let waiting = std::mem::take(&mut self.waiting);
        self.odd.entries += waiting.entries;
        self.odd.first = match (self.odd.first, waiting.first) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
    }
}
