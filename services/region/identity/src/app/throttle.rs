//! Slows down whoever tries passwords: after a few failures in a row each further try waits, longer
//! each time up to a minute, and a right password after the wait counts as always.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use domicile_types::{Code, Error, Result};
use tokio::time::Instant;

/// Failures in a row that cost nothing: people mistype.
const FREE: u32 = 5;
/// The longest wait.
const LONGEST: Duration = Duration::from_secs(60);
/// After this time without a try all is forgotten.
const FORGET: Duration = Duration::from_secs(15 * 60);
/// How many are remembered. Past it, those longest without a try are forgotten first.
const REMEMBERED: usize = 100_000;

/// Tries in a row by key, in this process. Each replica counts its own.
#[derive(Clone, Default)]
pub(crate) struct Throttle(Arc<Mutex<HashMap<[u8; 32], Tries>>>);

struct Tries {
    failures: u32,
    last: Instant,
}

impl Tries {
    /// When the next try is welcome.
    fn due(&self) -> Instant {
        match self.failures.checked_sub(FREE) {
            None => self.last,
            Some(over) => self.last + Duration::from_secs(1 << over.min(6)).min(LONGEST),
        }
    }
}

impl Throttle {
    /// Counts a try as failed until [`Throttle::forgive`] says otherwise, so that tries at the same
    /// moment count too.
    ///
    /// # Errors
    /// [`Code::Overloaded`] with the time to wait.
    pub(crate) fn admit(&self, key: [u8; 32]) -> Result<()> {
        let now = Instant::now();
        let mut tries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if tries.len() >= REMEMBERED && !tries.contains_key(&key) {
            shrink(&mut tries, now);
        }
        let entry = tries.entry(key).or_insert(Tries { failures: 0, last: now });
        if now.duration_since(entry.last) >= FORGET {
            entry.failures = 0;
        }
        let due = entry.due();
        if now < due {
            return Err(Error::new(Code::Overloaded).at("sign-in").retry_after(due.duration_since(now)));
        }
        entry.failures = entry.failures.saturating_add(1);
        entry.last = now;
        Ok(())
    }

    /// The password was right: start over.
    pub(crate) fn forgive(&self, key: [u8; 32]) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
    }
}

/// Forgets what has passed; if that is not enough, the older half.
fn shrink(tries: &mut HashMap<[u8; 32], Tries>, now: Instant) {
    tries.retain(|_, entry| now.duration_since(entry.last) < FORGET);
    if tries.len() >= REMEMBERED {
        let mut times: Vec<Instant> = tries.values().map(|entry| entry.last).collect();
        let middle = times.len() / 2;
        let (_, median, _) = times.select_nth_unstable(middle);
        let median = *median;
        tries.retain(|_, entry| entry.last > median);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: [u8; 32] = [1; 32];

    #[tokio::test(start_paused = true)]
    async fn failures_wait_longer_and_longer_and_the_owner_still_gets_in() {
        let throttle = Throttle::default();
        for _ in 0..FREE {
            throttle.admit(KEY).unwrap();
        }
        for expected in [1, 2, 4, 8, 16, 32, 60, 60] {
            let refused = throttle.admit(KEY).unwrap_err();
            assert_eq!(
                (refused.code(), refused.wait()),
                (Code::Overloaded, Some(Duration::from_secs(expected)))
            );
            throttle.admit([2; 32]).unwrap();
            throttle.forgive([2; 32]);
            tokio::time::advance(Duration::from_secs(expected)).await;
            throttle.admit(KEY).unwrap();
        }
        tokio::time::advance(LONGEST).await;
        throttle.admit(KEY).unwrap();
        throttle.forgive(KEY);
        throttle.admit(KEY).unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn old_failures_are_forgotten() {
        let throttle = Throttle::default();
        for _ in 0..FREE {
            throttle.admit(KEY).unwrap();
        }
        throttle.admit(KEY).unwrap_err();
        tokio::time::advance(FORGET).await;
        for _ in 0..FREE {
            throttle.admit(KEY).unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn memory_is_bounded() {
        let throttle = Throttle::default();
        for number in 0..=REMEMBERED as u64 {
            let mut key = [0; 32];
            key[..8].copy_from_slice(&number.to_be_bytes());
            throttle.admit(key).unwrap();
        }
        assert!(throttle.0.lock().unwrap().len() <= REMEMBERED);
    }
}
