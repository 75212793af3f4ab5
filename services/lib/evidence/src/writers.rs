//! The writers' own counters: a gap tells of an entry that was written and is not in the log.

use std::collections::BTreeMap;

use domicile_types::time::Timestamp;
use uuid::Uuid;

/// A stretch of numbers without a gap: its last number, and when its first and its last were written.
#[derive(Clone, Copy, Debug)]
struct Run {
    last: u64,
    begun: Timestamp,
    ended: Timestamp,
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
    /// When the number before the gap was written; absent when the gap is the beginning.
    pub after: Option<Timestamp>,
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
        let mut run = (number, Run { last: number, begun: at, ended: at });
        if let Some((&first, &left)) = runs.range(..=number).next_back() {
            if number <= left.last {
                return false;
            }
            if left.last.checked_add(1) == Some(number) {
                run = (first, Run { last: number, begun: left.begun, ended: at });
            }
        }
        let next = number.checked_add(1).and_then(|next| runs.remove(&next));
        if let Some(right) = next {
            (run.1.last, run.1.ended) = (right.last, right.ended);
        }
        runs.insert(run.0, run.1);
        true
    }

    /// Every gap, by writer and number.
    #[must_use]
    pub fn gaps(&self) -> Vec<Gap> {
        let mut gaps = Vec::new();
        for ((writer, epoch), runs) in &self.0 {
            let (mut expected, mut after) = (1, None);
            for (first, run) in runs {
                if *first > expected {
                    let (first, last) = (expected, first.saturating_sub(1));
                    let (writer, epoch) = (*writer, *epoch);
                    gaps.push(Gap { writer, epoch, first, last, after, before: run.begun });
                }
                expected = run.last.saturating_add(1);
                after = Some(run.ended);
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
        let mut writers = Writers::default();
        let mut note = |number| {
            let at = Timestamp::from_micros(i64::try_from(number).unwrap());
            let new = writers.note(Uuid::nil(), 1, number, at);
            let gap = |gap: Gap| (gap.first, gap.last, gap.after.map(Timestamp::micros), gap.before.micros());
            (new, writers.gaps().into_iter().map(gap).collect::<Vec<_>>())
        };
        assert_eq!(note(3), (true, vec![(1, 2, None, 3)]));
        assert_eq!(note(1), (true, vec![(2, 2, Some(1), 3)]));
        assert_eq!(note(5).1.len(), 2);
        assert_eq!(note(2), (true, vec![(4, 4, Some(3), 5)]));
        assert_eq!(note(8).1, [(4, 4, Some(3), 5), (6, 7, Some(5), 8)]);
        assert!(!note(2).0);
        assert_eq!(note(4).1, [(6, 7, Some(5), 8)]);
        assert_eq!(note(6).1, [(7, 7, Some(6), 8)]);
        assert_eq!(note(7), (true, vec![]));
    }
}
