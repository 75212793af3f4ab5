//! [`TransferStore`](domicile_transfer_protocol::TransferStore) in memory: the same named operations as on
//! SQL, each one transaction that is committed whole or not at all. It survives the process that uses it,
//! as a database does, and says what goes wrong as a database would: see [`Weather`].

mod db;
mod destination;
mod log;
mod operations;
mod record;
mod source;
mod tables;
mod travel;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use domicile_evidence::keys::{Signer, VerifierKey};
use domicile_transfer_protocol::store::Work;
use domicile_types::{Actor, AuditScope, Code, Ctx, Error, RegionId, RequestId, Result, TransferId};

pub use db::{Account, Db, Home, Item, Job, Object, Transfer};
pub use record::{NewItem, NewObject, NewRecord};

/// What befalls a transaction. An error from [`Weather::before`] changes nothing; one from
/// [`Weather::after`] is a commit whose answer is lost.
#[async_trait]
pub trait Weather: Send + Sync {
    /// Before a transaction begins.
    ///
    /// # Errors
    /// The database does not answer, or has no room for a change.
    async fn before(&self, name: &'static str, writes: bool) -> Result<()>;

    /// After it has ended.
    ///
    /// # Errors
    /// The answer is lost.
    async fn after(&self, name: &'static str, writes: bool) -> Result<()>;

    /// A change is being committed; called while nobody else sees it. The tables before have no log.
    fn committing(&self, name: &'static str, before: &Db, after: &Db);
}

/// Nothing happens.
#[derive(Clone, Copy, Debug, Default)]
pub struct Calm;

#[async_trait]
impl Weather for Calm {
    async fn before(&self, _: &'static str, _: bool) -> Result<()> {
        Ok(())
    }
    async fn after(&self, _: &'static str, _: bool) -> Result<()> {
        Ok(())
    }
    fn committing(&self, _: &'static str, _: &Db, _: &Db) {}
}

/// The database itself: what is left when a process dies.
#[derive(Clone, Default)]
pub struct Disk {
    live: Arc<Mutex<Db>>,
    backup: Arc<Mutex<Option<Db>>>,
}

impl Disk {
    /// The tables. Held for a moment only: nobody awaits while holding them.
    pub fn look(&self) -> MutexGuard<'_, Db> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens a record here, at home, as though it had been there before.
    pub fn settle(
        &self,
        subject: domicile_types::SubjectId,
        account: domicile_types::AccountId,
        at: domicile_types::Timestamp,
    ) {
        self.look().settle(subject, account, at);
    }

    /// The tables as the latest backup has them.
    pub fn latest_backup(&self) -> Option<Db> {
        self.backup.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn back_up(&self) -> u64 {
        let copy = self.look().clone();
        let commits = copy.commits;
        *self.backup.lock().unwrap_or_else(PoisonError::into_inner) = Some(copy);
        commits
    }
}

/// Durations the store itself looks at; as the SQL store's.
#[derive(Clone, Debug)]
pub struct Options {
    /// How long an offer may be accepted.
    pub offer_open: Duration,
    /// How long a lease lasts.
    pub lease: Duration,
    /// When a transfer past Released that does not advance is due for a look.
    pub stuck_after: Duration,
    /// How long a forwarding locator is kept.
    pub locator: Duration,
}

/// What a store in memory is made of.
#[derive(Clone)]
pub struct Parts {
    /// The region.
    pub region: RegionId,
    /// Time and randomness.
    pub ctx: Ctx,
    /// The database.
    pub disk: Disk,
    /// Signs statements.
    pub statements: Arc<dyn Signer>,
    /// Signs the log's checkpoints.
    pub checkpoints: Arc<dyn Signer>,
    /// The log's name and key.
    pub log: VerifierKey,
    /// Durations.
    pub options: Options,
    /// What befalls transactions.
    pub weather: Arc<dyn Weather>,
}

/// One region's transfers and records in memory. Cheap to clone.
#[derive(Clone)]
pub struct MemoryTransfers {
    parts: Arc<Parts>,
    work: Option<Work>,
}

/// One transaction: the tables as they will be, and what it may look at besides.
struct Tx<'a> {
    db: &'a mut Db,
    parts: &'a Parts,
    now: domicile_types::Timestamp,
}

impl MemoryTransfers {
    /// A store over a database that may have been there before.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        Self { parts: Arc::new(parts), work: None }
    }

    /// The database.
    #[must_use]
    pub fn disk(&self) -> &Disk {
        &self.parts.disk
    }

    /// The region.
    #[must_use]
    pub fn region(&self) -> &RegionId {
        &self.parts.region
    }

    /// Runs a read.
    async fn look<T, F>(&self, name: &'static str, f: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut Tx<'_>) -> Result<T> + Send + 'static,
    {
        self.transact(name, false, f).await
    }

    /// Runs a change, refused when the lease it is under is another's.
    async fn change<T, F>(&self, name: &'static str, f: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut Tx<'_>) -> Result<T> + Send + 'static,
    {
        let work = self.work;
        let fenced = move |tx: &mut Tx<'_>| {
            tx.fence(work)?;
            f(tx)
        };
        self.transact(name, true, fenced).await
    }

    /// Runs a transaction in a task of its own: nobody's departure cuts it in two.
    async fn transact<T, F>(&self, name: &'static str, writes: bool, f: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut Tx<'_>) -> Result<T> + Send + 'static,
    {
        let parts = Arc::clone(&self.parts);
        let task = tokio::spawn(async move {
            parts.weather.before(name, writes).await?;
            let outcome = run(&parts, name, writes, f);
            parts.weather.after(name, writes && outcome.is_ok()).await?;
            outcome
        });
        task.await.unwrap_or_else(|cause| Err(Error::new(Code::Internal).because(cause)))
    }

    /// The audit scope of a step nobody at a keyboard asked for.
    fn system_scope(&self, transfer: TransferId) -> Arc<AuditScope> {
        let request = RequestId::generate(&self.parts.ctx);
        let event = domicile_evidence::event::EventType::TransferStep;
        let scope = AuditScope::new(event.name(), Actor::system(), request);
        scope.moves(transfer);
        scope
    }
}

/// The transaction itself: on a copy, which takes the tables' place when all of it is well.
fn run<T>(
    parts: &Parts,
    name: &'static str,
    writes: bool,
    f: impl FnOnce(&mut Tx<'_>) -> Result<T>,
) -> Result<T> {
    let mut live = parts.disk.look();
    let now = parts.ctx.now();
    if !writes {
        return f(&mut Tx { db: &mut live, parts, now });
    }
    // The log only grows: it is handed over instead of copied, and cut back when the transaction fails.
    let log = std::mem::take(&mut live.log);
    let kept = log.len();
    let mut copy = live.clone();
    copy.log = log;
    let done = f(&mut Tx { db: &mut copy, parts, now });
    if done.is_err() {
        copy.log.truncate(kept);
        live.log = copy.log;
        return done;
    }
    copy.commits += 1;
    parts.weather.committing(name, &live, &copy);
    *live = copy;
    done
}

fn not_found() -> Error {
    Error::new(Code::NotFound).at("transfer")
}

fn conflict(place: &str) -> Error {
    Error::new(Code::Conflict).at(place)
}
