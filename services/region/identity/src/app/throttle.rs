//! Slows down whoever tries passwords: after a few failures in a row each further try waits, longer
//! each time up to a minute, and a right password after the wait counts as always. The count lies in the
//! database: replicas count together, and a restart forgives nobody.

use std::time::Duration;

use domicile_store::queries::throttle::{self, Tries};
use domicile_store::{Scope, Store};
use domicile_types::{Code, Error, Result, Timestamp};

/// Failures in a row that cost nothing: people mistype.
const FREE: u32 = 5;
/// The longest wait.
const LONGEST: Duration = Duration::from_secs(60);
/// After this time without a try all is forgotten.
const FORGET: Duration = Duration::from_secs(15 * 60);

/// Tries in a row by key.
#[derive(Clone)]
pub(crate) struct Throttle(Store);

/// How many tries in a row it is with this one, or how long it must wait.
fn next(tries: Tries, now: Timestamp) -> Result<u32, Duration> {
    if now.since(tries.last) >= FORGET {
        return Ok(1);
    }
    let due = match tries.failures.checked_sub(FREE) {
        None => tries.last,
        Some(over) => tries.last.plus(Duration::from_secs(1 << over.min(6)).min(LONGEST)),
    };
    if now < due { Err(due.since(now)) } else { Ok(tries.failures.saturating_add(1)) }
}

impl Throttle {
    /// Counts in this database.
    pub(crate) const fn new(store: Store) -> Self {
        Self(store)
    }

    /// Counts a try as failed until [`Throttle::forgive`] says otherwise, so that tries at the same
    /// moment count too.
    ///
    /// # Errors
    /// [`Code::Overloaded`] with the time to wait.
    pub(crate) async fn admit(&self, key: [u8; 32]) -> Result<()> {
        let admit = self.0.write_unaudited("sign_in.try", Scope::System, move |tx| {
            Box::pin(async move {
                let first = Tries { failures: 0, last: tx.now() };
                let tries = throttle::lock(tx, key).await?.unwrap_or(first);
                match next(tries, tx.now()) {
                    Ok(failures) => {
                        throttle::note(tx, key, failures, tx.now().minus(FORGET)).await?;
                        Ok(None)
                    }
                    Err(wait) => Ok(Some(wait)),
                }
            })
        });
        match admit.await? {
            None => Ok(()),
            Some(wait) => Err(Error::new(Code::Overloaded).at("sign-in").retry_after(wait)),
        }
    }

    /// The password was right: start over.
    ///
    /// # Errors
    /// [`Code::StoreUnavailable`].
    pub(crate) async fn forgive(&self, key: [u8; 32]) -> Result<()> {
        self.0
            .write_unaudited("sign_in.right", Scope::System, move |tx| Box::pin(throttle::forgive(tx, key)))
            .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_wait_longer_and_longer_and_the_owner_still_gets_in() {
        let mut now = Timestamp::from_micros(1_800_000_000_000_000);
        let mut tries = Tries { failures: 0, last: now };
        for _ in 0..FREE {
            tries = Tries { failures: next(tries, now).unwrap(), last: now };
        }
        for expected in [1, 2, 4, 8, 16, 32, 60, 60] {
            let wait = Duration::from_secs(expected);
            assert_eq!(next(tries, now), Err(wait));
            now = now.plus(wait);
            tries = Tries { failures: next(tries, now).unwrap(), last: now };
        }
        assert!(next(tries, now).is_err());
        assert_eq!(next(tries, now.plus(FORGET)), Ok(1), "old failures are forgotten");
        assert_eq!(next(Tries { failures: u32::MAX, last: now }, now), Err(LONGEST));
    }
}
