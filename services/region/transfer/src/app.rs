//! The executor: one module a step.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use domicile_config::TransferSettings;
use domicile_config::policy::{Party, Policies};
use domicile_kms::Keyring;
use domicile_objects::ObjectStore;
use domicile_transfer_protocol::store::Row;
use domicile_transfer_protocol::{Destination, Numbers, Source, TransferStore};
use domicile_types::{Code, Ctx, Error, RegionId, Result, TransferId};
use tokio::sync::broadcast;

use crate::ports::{Closing, Enrolments, Peers, Replicas};

pub(crate) mod adopt;
mod close;
mod compare;
mod consent;
mod control;
mod erase;
mod observe;
mod offer;
mod operators;
mod pace;
mod parallel;
mod people;
mod preflight;
mod prepare;
mod prove;
pub(crate) mod pull;
pub(crate) mod pull_object;
mod purge;
pub(crate) mod rekey;
pub(crate) mod release;
pub(crate) mod send;
mod send_object;
mod stage;
pub(crate) mod streams;
mod travel;
mod work;

pub use consent::GivenConsent;
pub use control::{Advance, View};
pub use offer::Offer;
pub use people::{Receipt, Status};
pub use preflight::Invitation;
pub use send::{PageWanted, SentPage};
pub use send_object::ObjectPart;

/// Numbers of this region's transfers.
#[derive(Clone, Debug)]
pub struct Options {
    /// The protocol's numbers.
    pub numbers: Numbers,
    /// Everything else of the configuration.
    pub settings: TransferSettings,
}

impl Options {
    /// From the configuration.
    #[must_use]
    pub fn new(settings: TransferSettings) -> Self {
        let numbers = Numbers {
            offer_open: settings.offer_open,
            consent_valid: settings.consent_valid,
            fresh_authentication: settings.fresh_authentication,
            freeze_lag_rows: settings.freeze_lag_rows,
            freeze_budget: settings.freeze_budget,
            freeze_tries: settings.freeze_tries,
            freeze_pause: settings.freeze_pause,
            mismatches: settings.mismatches,
            lease: settings.lease,
            source_reads: settings.source_reads,
            stuck_after: settings.stuck_after,
        };
        Self { numbers, settings }
    }
}

/// Everything the executor is made of.
pub struct Parts<S> {
    /// This region.
    pub region: RegionId,
    /// Numbers.
    pub options: Options,
    /// Time, randomness, faults.
    pub ctx: Ctx,
    /// The store.
    pub store: S,
    /// The keys.
    pub keyring: Arc<Keyring>,
    /// The objects.
    pub objects: Arc<dyn ObjectStore>,
    /// The other regions.
    pub peers: Arc<dyn Peers>,
    /// Every region's policy.
    pub policies: Arc<Policies>,
    /// Who runs this region, as notices name the sender.
    pub operator: Party,
    /// This region's log.
    pub closing: Arc<dyn Closing>,
    /// Practices' enrolments.
    pub enrolments: Arc<dyn Enrolments>,
    /// The region's other processes.
    pub replicas: Arc<dyn Replicas>,
}

/// Transfers of one region. Cheap to clone.
pub struct Transfers<S> {
    inner: Arc<Inner<S>>,
    /// The store; under a lease where a step holds one.
    pub(crate) store: S,
}

impl<S: Clone> Clone for Transfers<S> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner), store: self.store.clone() }
    }
}

struct Inner<S> {
    parts: Parts<S>,
    changes: broadcast::Sender<TransferId>,
    running: Mutex<BTreeSet<TransferId>>,
    paces: pace::Paces,
    works: work::Works,
    counts: people::Counts,
    turns: parallel::Turns,
}

impl<S> std::ops::Deref for Transfers<S> {
    type Target = Parts<S>;
    fn deref(&self) -> &Parts<S> {
        &self.inner.parts
    }
}

impl<S: TransferStore> Transfers<S> {
    /// An executor of these parts.
    #[must_use]
    pub fn new(parts: Parts<S>) -> Self {
        let (changes, _) = broadcast::channel(1024);
        let store = parts.store.clone();
        let inner = Inner {
            parts,
            changes,
            running: Mutex::default(),
            paces: pace::Paces::default(),
            works: work::Works::default(),
            counts: people::Counts::default(),
            turns: parallel::Turns::default(),
        };
        Self { inner: Arc::new(inner), store }
    }

    /// Ids of transfers as they change in this process; a slow reader may miss some and must look again.
    #[must_use]
    pub fn changes(&self) -> broadcast::Receiver<TransferId> {
        self.inner.changes.subscribe()
    }

    /// Tells watchers that a transfer has changed, from outside the steps.
    pub(crate) fn notify(&self, transfer: TransferId) {
        self.changed(transfer);
    }

    /// Tells watchers that a transfer has changed.
    fn changed(&self, transfer: TransferId) {
        // Nobody listening is fine: everybody polls besides.
        if self.inner.changes.send(transfer).is_err() {
            tracing::trace!("nobody watches transfers");
        }
    }

    /// What it is made of; its store is under no lease.
    fn parts(&self) -> &Parts<S> {
        &self.inner.parts
    }

    fn numbers(&self) -> &Numbers {
        &self.options.numbers
    }

    /// The limits of copying from a source region.
    fn pace(&self, source: &RegionId) -> Arc<pace::Pace> {
        let settings = &self.options.settings;
        self.inner.paces.of(source, settings.transfers_at_once, settings.bytes_per_second)
    }

    /// The row of a transfer in which this region is the source.
    async fn source(&self, transfer: TransferId) -> Result<Source> {
        match self.store.find(transfer).await? {
            Some(Row::Source(row)) => Ok(*row),
            _ => Err(Error::new(Code::NotFound).at("transfer")),
        }
    }

    /// The row of a transfer in which this region is the destination.
    async fn destination(&self, transfer: TransferId) -> Result<Destination> {
        match self.store.find(transfer).await? {
            Some(Row::Destination(row)) => Ok(*row),
            _ => Err(Error::new(Code::NotFound).at("transfer")),
        }
    }

    /// Whether a background step of the transfer runs in this process.
    fn busy(&self, transfer: TransferId) -> bool {
        self.inner.running.lock().unwrap_or_else(PoisonError::into_inner).contains(&transfer)
    }

    /// Starts a background step unless one runs already. Its end is told to watchers; an error is
    /// logged by code and left for the next time somebody asks.
    fn background<F>(&self, transfer: TransferId, name: &'static str, work: F)
    where
        F: Future<Output = Result<()>> + Send + 'static,
    {
        let work = observe::background(name, transfer, work);
        if !self.inner.running.lock().unwrap_or_else(PoisonError::into_inner).insert(transfer) {
            return;
        }
        let this = self.clone();
        self.inner.works.spawn(async move {
            let _running = Running { this: this.clone(), transfer };
            // What a shutdown cuts off, another replica or the next start goes on with.
            let Some(done) = this.inner.works.until_retired(work).await else { return };
            if let Err(error) = &done {
                tracing::warn!(%transfer, step = name, code = error.code().as_str(), cause = ?error, "a step did not finish");
            }
            if let Err(error) = this.note_outcome(transfer, &done).await {
                tracing::warn!(%transfer, step = name, code = error.code().as_str(), cause = ?error, "why it did not finish could not be noted");
            }
        });
    }
}

/// A background step under way; its end frees the place and tells watchers, also when it panics.
struct Running<S: TransferStore> {
    this: Transfers<S>,
    transfer: TransferId,
}

impl<S: TransferStore> Drop for Running<S> {
    fn drop(&mut self) {
        self.this.inner.running.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.transfer);
        self.this.changed(self.transfer);
    }
}
