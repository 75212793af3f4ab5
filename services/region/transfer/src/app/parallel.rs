//! Several objects at a time, each on a task of its own, and turns among all of them: opening and sealing keep
//! cores busy and nobody waiting for long.

use std::future::Future;

use domicile_types::{Code, Error, Result};
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument as _;

/// Turns at opening and sealing, one for two cores: however many records move, who works on another waits
/// behind a few chunks and not behind one of each record.
pub(super) struct Turns(Semaphore);

impl Default for Turns {
    fn default() -> Self {
        Self(Semaphore::new(std::thread::available_parallelism().map_or(1, |cores| cores.get().div_ceil(2))))
    }
}

impl Turns {
    /// The next turn, in the order in which they were asked for.
    ///
    /// # Errors
    /// None but [`Code::Internal`]: nobody closes it.
    pub(super) async fn take(&self) -> Result<SemaphorePermit<'_>> {
        self.0.acquire().await.map_err(|closed| Error::new(Code::Internal).because(closed))
    }
}

/// Runs every future, `at_once` of them side by side. The first error, or the end of whoever waits here,
/// ends those under way and begins no more.
///
/// # Errors
/// The first error; [`Code::Internal`] for a task that panicked.
pub(super) async fn each<F>(at_once: usize, work: impl IntoIterator<Item = F>) -> Result<()>
where
    F: Future<Output = Result<()>> + Send + 'static,
{
    stream::iter(work)
        .map(Ok)
        .try_for_each_concurrent(at_once, |one| async move {
            let task = AbortOnDropHandle::new(tokio::spawn(one.in_current_span()));
            task.await.map_err(|lost| Error::new(Code::Internal).because(lost))?
        })
        .await
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::Barrier;

    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn as_many_as_wanted_run_at_once() {
        let (met, most, now) =
            (Arc::new(Barrier::new(3)), Arc::new(AtomicUsize::new(0)), AtomicUsize::new(0));
        let now = Arc::new(now);
        let work = (0..9).map(|_| {
            let (met, most, now) = (Arc::clone(&met), Arc::clone(&most), Arc::clone(&now));
            async move {
                most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                met.wait().await;
                now.fetch_sub(1, Ordering::SeqCst);
                Ok(())
            }
        });
        each(3, work).await.unwrap();
        assert_eq!(most.load(Ordering::SeqCst), 3);
    }

    #[tokio::test]
    async fn an_error_ends_the_others() {
        let held = Arc::new(());
        let work = (0..4).map(|number| {
            let held = Arc::clone(&held);
            async move {
                if number == 0 {
                    return Err(Error::new(Code::Conflict));
                }
                std::future::pending::<()>().await;
                drop(held);
                Ok(())
            }
        });
        assert_eq!(each(4, work).await.unwrap_err().code(), Code::Conflict);
        while Arc::strong_count(&held) > 1 {
            tokio::task::yield_now().await;
        }
    }
}
