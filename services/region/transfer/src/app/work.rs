//! Who works on a transfer. Of all tasks in all processes of a region one at a time pulls, stages, adopts,
//! seals again, purges or erases; what it changes is refused once another has taken its place.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use domicile_transfer_protocol::TransferStore;
use domicile_transfer_protocol::store::{Driver, Work};
use domicile_types::ids::uuid_v4;
use domicile_types::{Code, Error, Result, TransferId};
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::OwnedMutexGuard;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::Transfers;

/// How long a step that somebody waits for waits for another's work to end.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often it looks.
const LOOK: Duration = Duration::from_millis(20);
/// How long a shutdown waits for what it has cut off.
const RETIRING: Duration = Duration::from_secs(10);

type Local = Arc<tokio::sync::Mutex<()>>;

/// Does work that takes long without holding up others: on a thread of its own. Where the runtime has one
/// thread alone, as in the simulation, in place: a second would make the order of things a matter of luck.
///
/// # Errors
/// The work's own, and [`Code::Internal`] when it panics.
pub(super) async fn apart<T, F>(work: F) -> Result<T>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T> + Send + 'static,
{
    if Handle::current().runtime_flavor() == RuntimeFlavor::CurrentThread {
        return work();
    }
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|cause| Err(Error::new(Code::Internal).because(cause)))
}

/// The work of this process.
#[derive(Default)]
pub(super) struct Works {
    /// One lock a transfer, so that the tasks of one process do not poll the database for one another.
    local: Mutex<BTreeMap<TransferId, Local>>,
    tasks: TaskTracker,
    retiring: CancellationToken,
}

impl Works {
    fn local(&self, transfer: TransferId) -> Local {
        let mut locks = self.local.lock().unwrap_or_else(PoisonError::into_inner);
        locks.retain(|id, lock| *id == transfer || Arc::strong_count(lock) > 1);
        Arc::clone(locks.entry(transfer).or_default())
    }

    /// Runs a task that a shutdown waits for.
    pub(super) fn spawn<F>(&self, task: F) -> tokio::task::JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.tasks.spawn(task)
    }

    /// The work's outcome; `None` when the process retires before.
    pub(super) async fn until_retired<F: Future>(&self, work: F) -> Option<F::Output> {
        self.retiring.run_until_cancelled(work).await
    }
}

/// The lease on a transfer's work, and the executor whose changes are fenced by it. Given back when
/// dropped.
pub(super) struct Held<S> {
    fenced: Transfers<S>,
    _ends: DropGuard,
}

impl<S> std::ops::Deref for Held<S> {
    type Target = Transfers<S>;
    fn deref(&self) -> &Transfers<S> {
        &self.fenced
    }
}

impl<S: TransferStore> Transfers<S> {
    /// Takes the lease on a transfer's work, waiting for whoever has it.
    ///
    /// # Errors
    /// [`Code::Conflict`] when another does not end in time.
    async fn work(&self, transfer: TransferId) -> Result<Held<S>> {
        let mut local = self.inner.works.local(transfer).lock_owned().await;
        let deadline = Instant::now() + PATIENCE;
        loop {
            local = match self.take(transfer, local).await? {
                Ok(held) => return Ok(held),
                Err(local) => local,
            };
            if Instant::now() > deadline {
                return Err(Error::new(Code::Conflict).at("another replica works on the transfer"));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Takes the lease on a transfer's work; `None` while another process has it.
    pub(super) async fn work_if_free(&self, transfer: TransferId) -> Result<Option<Held<S>>> {
        let local = self.inner.works.local(transfer).lock_owned().await;
        Ok(self.take(transfer, local).await?.ok())
    }

    async fn take(
        &self,
        transfer: TransferId,
        local: OwnedMutexGuard<()>,
    ) -> Result<std::result::Result<Held<S>, OwnedMutexGuard<()>>> {
        let (holder, lasts) = (uuid_v4(self.ctx.rng.as_ref()), self.options.settings.work_lease);
        let Some(work) = self.parts().store.work_take(transfer, holder, lasts).await? else {
            return Ok(Err(local));
        };
        let ends = CancellationToken::new();
        let (this, over) = (self.clone(), ends.clone());
        self.inner.works.spawn(async move { this.keep(work, over, local).await });
        let fenced = Self { inner: Arc::clone(&self.inner), store: self.parts().store.under(work) };
        Ok(Ok(Held { fenced, _ends: ends.drop_guard() }))
    }

    /// Renews a lease until its work is over, then gives it back.
    async fn keep(&self, work: Work, over: CancellationToken, local: OwnedMutexGuard<()>) {
        let (store, lasts) = (&self.parts().store, self.options.settings.work_lease);
        while over.run_until_cancelled(tokio::time::sleep(lasts / 3)).await.is_some() {
            match store.work_renew(work, lasts).await {
                Ok(true) => {}
                Ok(false) => {
                    tracing::warn!(transfer = %work.transfer, "another replica has taken this transfer's work over");
                    return;
                }
                Err(error) => {
                    let code = error.code().as_str();
                    tracing::warn!(transfer = %work.transfer, code, cause = ?error, "a lease could not be renewed");
                }
            }
        }
        if let Err(error) = store.work_end(work).await {
            let code = error.code().as_str();
            tracing::warn!(transfer = %work.transfer, code, cause = ?error, "a lease was not given back and runs out");
        }
        drop(local);
    }

    /// Whether anybody in any process works on a transfer.
    pub(super) async fn worked_on(&self, transfer: TransferId) -> Result<bool> {
        Ok(self.busy(transfer) || self.store.work_held(transfer).await?)
    }

    /// Ends background steps and gives every lease back, so that another replica goes on at once.
    pub async fn retire(&self) {
        let works = &self.inner.works;
        works.retiring.cancel();
        works.tasks.close();
        if tokio::time::timeout(RETIRING, works.tasks.wait()).await.is_err() {
            tracing::warn!("steps of transfers were still under way at the end; their leases run out");
        }
    }

    /// [`Self::prepare_alone`], as the only one.
    pub(super) async fn prepare(&self, transfer: TransferId, driver: Driver) -> Result<()> {
        self.work(transfer).await?.prepare_alone(transfer, driver).await
    }

    /// [`Self::stage_alone`], as the only one.
    pub(super) async fn stage(&self, transfer: TransferId, driver: Driver) -> Result<()> {
        self.work(transfer).await?.stage_alone(transfer, driver).await
    }

    /// [`Self::adopt_alone`], as the only one.
    pub(super) async fn adopt(&self, transfer: TransferId, driver: Driver) -> Result<()> {
        self.work(transfer).await?.adopt_alone(transfer, driver).await
    }

    /// [`Self::purge_alone`], as the only one.
    pub(super) async fn purge(&self, transfer: TransferId) -> Result<()> {
        self.work(transfer).await?.purge_alone(transfer).await
    }
}
