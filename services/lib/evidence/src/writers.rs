//! The writers' own counters: a gap tells of an entry that was written and is not in the log.

use std::collections::BTreeMap;

use domicile_types::time::Timestamp;
use uuid::Uuid;

/// A stretch of numbers without a gap: its last number, and when its first was written.
#[derive(Clone, Copy, Debug)]
struct Run {
    last: u64,
    begun: Timestamp,
}

/// Numbers that are missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The writer.
    pub writer: Uuid,
    /// Its epoch.
    pub epoch: u64,
    /// The first missing number.
    pub first: u64,
    /// The last missing number.
    pub last: u64,
    /// When the number after the gap was written.
    pub before: Timestamp,
}

/// The numbers seen of every writer and epoch, as runs.
#[derive(Debug, Default)]
pub struct Writers(BTreeMap<(Uuid, u64), BTreeMap<u64, Run>>);

impl Writers {
    /// Notes a number; false when it was there before.
    pub fn note(&mut self, writer: Uuid, epoch: u64, number: u64, at: Timestamp) -> bool {
        let runs = self.0.entry((writer, epoch)).or_default();
        let mut run = (number, Run { last: number, begun: at });
        if let Some((&first, &left)) = runs.range(..=number).next_back() {
            if number <= left.last {
                return false;
            }
            if left.last.checked_add(1) == Some(number) {
                run = (first, Run { last: number, begun: left.begun });
            }
        }
        let next = number.checked_add(1).and_then(|next| runs.remove(&next));
        if let Some(right) = next {
            run.1.last = right.last;
        }
        runs.insert(run.0, run.1);
        true
    }

    /// Every gap, by writer and number.
    #[must_use]
    pub fn gaps(&self) -> Vec<Gap> {
        let mut gaps = Vec::new();
        for ((writer, epoch), runs) in &self.0 {
            let mut expected = 1;
            for (first, run) in runs {
                if *first > expected {
                    let (first, last) = (expected, first.saturating_sub(1));
                    gaps.push(Gap { writer: *writer, epoch: *epoch, first, last, before: run.begun });
                }
                expected = run.last.saturating_add(1);
            }
        }
        gaps
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_any_order_leave_no_gap_and_a_missing_one_shows() {
        let (writer, at) = (Uuid::nil(), Timestamp::EPOCH);
        let mut writers = Writers::default();
        for number in [3, 1, 5, 2, 7] {
            assert!(writers.note(writer, 1, number, at));
        }
        assert!(!writers.note(writer, 1, 2, at));
        let missing: Vec<_> = writers.gaps().iter().map(|gap| (gap.first, gap.last)).collect();
        assert_eq!(missing, [(4, 4), (6, 6)]);
        assert!(writers.note(writer, 1, 4, at));
        assert!(writers.note(writer, 1, 6, at));
        assert!(writers.gaps().is_empty());
    }
}
