//! How fast a pair of regions copies: so many transfers at once, so many bytes a second.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use domicile_types::{Code, Error, RegionId, Result};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// The limits of every source region that copies to this one.
#[derive(Default)]
pub(super) struct Paces(Mutex<BTreeMap<RegionId, Arc<Pace>>>);

/// The limits of one pair.
pub(super) struct Pace {
    places: Arc<Semaphore>,
    /// Bytes a second; 0 for no limit.
    rate: u64,
    /// When the bytes taken so far have been paid for.
    paid: Mutex<Instant>,
}

impl Paces {
    /// The pair with this source.
    pub(super) fn of(&self, source: &RegionId, at_once: usize, rate: u64) -> Arc<Pace> {
        let mut paces = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let pace = paces.entry(source.clone()).or_insert_with(|| {
            Arc::new(Pace {
                places: Arc::new(Semaphore::new(at_once)),
                rate,
                paid: Mutex::new(Instant::now()),
            })
        });
        Arc::clone(pace)
    }
}

impl Pace {
    /// Waits for a place among the transfers that copy at once.
    pub(super) async fn place(&self) -> Result<OwnedSemaphorePermit> {
        let place = Arc::clone(&self.places).acquire_owned().await;
        place.map_err(|cause| Error::new(Code::Internal).because(cause))
    }

    /// Waits until this many bytes more fit the rate. Bytes are taken first and paid for after, so a
    /// page larger than a second's worth passes and those behind it wait.
    pub(super) async fn take(&self, bytes: u64) {
        let Some(micros) = bytes.saturating_mul(1_000_000).checked_div(self.rate) else { return };
        let until = {
            let mut paid = self.paid.lock().unwrap_or_else(PoisonError::into_inner);
            let from = (*paid).max(Instant::now());
            *paid = from + Duration::from_micros(micros);
            from
        };
        tokio::time::sleep_until(until).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn bytes_pass_at_the_rate_and_freely_without_one() {
        let (paces, eu) = (Paces::default(), RegionId::new("eu").unwrap());
        let pace = paces.of(&eu, 1, 1_000);
        let began = Instant::now();
        for _ in 0..5 {
            pace.take(500).await;
        }
        assert_eq!(began.elapsed(), Duration::from_secs(2));
        let free = paces.of(&RegionId::new("us").unwrap(), 1, 0);
        free.take(u64::MAX).await;
        assert_eq!(began.elapsed(), Duration::from_secs(2));
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_transfers_copy_than_there_are_places() {
        let pace = Paces::default().of(&RegionId::new("eu").unwrap(), 1, 0);
        let first = pace.place().await.unwrap();
        assert!(tokio::time::timeout(Duration::from_secs(60), pace.place()).await.is_err());
        drop(first);
        assert!(pace.place().await.is_ok());
    }
}
