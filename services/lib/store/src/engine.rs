//! Runs transactions: in a task of their own, in the scope they act for, again when they lose a race.

use std::sync::Arc;
use std::time::Duration;

use domicile_telemetry::metrics;
use domicile_types::{AuditScope, Code, Ctx, Error, RegionId, Result, SubjectId, Timestamp};
use futures::future::BoxFuture;
use sea_orm::{ConnectionTrait as _, DatabaseConnection};
use tracing::Instrument as _;

use crate::audit::{Auditor, Names, OUTBOX, Unready, entries, outbox_row};
use crate::embedded::Embedded;
use crate::failure::{self, Kind, StoreFailure};
use crate::hot::Hot;
use crate::lanes::Drawn;
use crate::scope::{self, Scope};
use crate::settings::Backend;
use crate::tx::{Link, OnConflict, Tx};

/// How often a transaction that loses against others is run.
const TRIES: u32 = 10;
/// How many records one transaction may name in the audit log without having said so before.
const SURPRISES: u32 = 16;

/// The transactions of single items, which people's requests are made of: each statement finds its few rows by
/// keys, whatever the tables hold, so it is planned once. Under row-level security a plan costs more than its query.
const PLANNED_ONCE: [&str; 2] = ["item.get", "item.put"];

/// Transactions over many rows or objects of a record that moves: on PostgreSQL they wait among themselves for a
/// share of the connections, so that people find one however many records move.
const BULK: [&str; 10] = [
    "feed",
    "transfer_sent",
    "transfer_sent_object",
    "transfer_page",
    "transfer_object",
    "travelling",
    "transfer_rekey",
    "transfer_rekey_object",
    "transfer_erase",
    "transfer_purge",
];

/// A closure that is a transaction; it may run several times.
pub(crate) trait Work<T>:
    for<'c> Fn(&'c Tx) -> BoxFuture<'c, Result<T>> + Send + Sync + 'static
{
}
impl<T, F> Work<T> for F where F: for<'c> Fn(&'c Tx) -> BoxFuture<'c, Result<T>> + Send + Sync + 'static {}

/// The connections to one database.
pub(crate) struct Engine {
    pub(crate) backend: Backend,
    pub(crate) region: RegionId,
    pub(crate) ctx: Ctx,
    pub(crate) writer: Access,
    pub(crate) reader: Access,
    pub(crate) sequencer: Option<Access>,
}

/// The connections of one purpose.
pub(crate) struct Access {
    /// The pool, as the ORM sees it: for checks, migrations and SQLite's transactions.
    pub(crate) pool: DatabaseConnection,
    /// PostgreSQL's connections for transactions.
    pub(crate) hot: Option<Arc<Hot>>,
}

impl Access {
    /// Connections open, of these free, and at most.
    pub(crate) fn counts(&self) -> (u64, u64, u64) {
        let count = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        if let Some(hot) = &self.hot {
            let pool = self.pool.get_postgres_connection_pool();
            let idle = pool.num_idle() + hot.at_rest();
            return (pool.size().into(), count(idle), pool.options().get_max_connections().into());
        }
        let pool = self.pool.get_sqlite_connection_pool();
        (pool.size().into(), count(pool.num_idle()), pool.options().get_max_connections().into())
    }

    async fn close(&self) -> Result<()> {
        match &self.hot {
            Some(hot) => hot.close().await,
            None => self.pool.close_by_ref().await.map_err(failure::from_db)?,
        }
        Ok(())
    }
}

/// Which connection a transaction takes, and how it is isolated.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Read,
    Write,
    Serializable,
    Sequence,
}

impl Mode {
    /// The pool's name in measurements.
    const fn pool(self) -> &'static str {
        match self {
            Self::Read => "reader",
            Self::Write | Self::Serializable => "writer",
            Self::Sequence => "sequencer",
        }
    }
}

/// A transaction to run.
pub(crate) struct Plan {
    pub(crate) name: &'static str,
    pub(crate) mode: Mode,
    pub(crate) scope: Scope,
    pub(crate) audit: Option<(Arc<AuditScope>, Arc<Auditor>)>,
}

/// How one run of a transaction ended.
enum Ended {
    /// It may run again.
    Lost(Error),
    /// It needs this record's pseudonym first.
    Needs(SubjectId),
    /// It must not run again.
    Failed(Error),
}

impl Engine {
    /// Runs a transaction in a task of its own, which nobody's departure cancels: a caller who goes
    /// away while BEGIN is on its way would hand the pool a connection in an open transaction.
    pub(crate) async fn run<T: Send + 'static>(
        self: &Arc<Self>,
        plan: Plan,
        work: impl Work<T>,
    ) -> Result<T> {
        let span = tracing::debug_span!("transaction", name = plan.name);
        let engine = Arc::clone(self);
        let task = tokio::spawn(async move { engine.attempts(&plan, &work).await }.instrument(span));
        task.await.unwrap_or_else(|lost| {
            tracing::error!(panicked = lost.is_panic(), "a transaction's task died");
            Err(Error::new(Code::Internal))
        })
    }

    async fn attempts<T>(&self, plan: &Plan, work: &impl Work<T>) -> Result<T> {
        let mut names = match &plan.audit {
            Some((audit, auditor)) => auditor.names(audit, plan.scope.subject()).await?,
            None => Names::default(),
        };
        let (mut tried, mut surprised) = (0, 0);
        loop {
            match self.attempt(plan, &names, work).await {
                Ok(value) => return Ok(value),
                Err(Ended::Failed(error)) => return Err(error),
                Err(Ended::Needs(subject)) => {
                    surprised += 1;
                    let Some((_, auditor)) = plan.audit.as_ref().filter(|_| surprised <= SURPRISES) else {
                        return Err(Error::new(Code::Internal).at("too many records in one change"));
                    };
                    names.add(auditor.pseudonyms.as_ref(), subject).await?;
                }
                Err(Ended::Lost(error)) => {
                    tried += 1;
                    metrics::retried();
                    tracing::debug!(name = plan.name, tried, "transaction lost a race");
                    if tried >= TRIES {
                        return Err(error);
                    }
                    tokio::time::sleep(backoff(&self.ctx, tried)).await;
                }
            }
        }
    }

    async fn attempt<T>(&self, plan: &Plan, names: &Names, work: &impl Work<T>) -> Result<T, Ended> {
        let now = self.ctx.now();
        let link = self.begin(plan, now).await?;
        let scope = plan.audit.as_ref().map(|(scope, _)| Arc::clone(scope));
        let tx = Tx::new(link, now, self, scope);
        let value = match work(&tx).await {
            Ok(value) => value,
            Err(error) => return Err(roll_back(tx, error).await),
        };
        if let Some(failure) = tx.failure() {
            // The closure swallowed a failed statement. PostgreSQL would answer COMMIT with a quiet ROLLBACK.
            return Err(roll_back(tx, failure::error(failure)).await);
        }
        if plan.mode == Mode::Read {
            tokio::spawn(done(tx));
            return Ok(value);
        }
        let drawn = match record(&tx, plan, names).await {
            Ok(drawn) => drawn,
            Err(Unready::Failed(error)) => return Err(roll_back(tx, error).await),
            Err(Unready::Subject(subject)) => {
                let lost = roll_back(tx, Error::new(Code::Internal)).await;
                return Err(if matches!(lost, Ended::Lost(_)) { lost } else { Ended::Needs(subject) });
            }
        };
        self.ctx.faults.hit("store.commit.before_effect");
        self.ctx.faults.before(plan.name);
        let recorded = drawn.is_some().then(|| tx.audit.clone()).flatten();
        commit(tx, drawn).await?;
        if let Some(scope) = recorded {
            scope.mark_recorded();
        }
        self.ctx.faults.hit("store.commit.after_effect");
        self.ctx.faults.after(plan.name);
        Ok(value)
    }

    /// Begins, on PostgreSQL in its scope at once.
    async fn begin(&self, plan: &Plan, now: Timestamp) -> Result<Link, Ended> {
        let access = self.access(plan.mode)?;
        let begun = match &access.hot {
            Some(hot) => {
                let begun = metrics::acquire(
                    plan.mode.pool(),
                    hot.begin(&beginning(plan, now), BULK.contains(&plan.name)),
                )
                .await;
                begun.map(Link::postgres)
            }
            None => {
                let pool = access.pool.get_sqlite_connection_pool();
                let begun = Embedded::begin(pool, plan.mode != Mode::Read);
                metrics::acquire(plan.mode.pool(), begun).await.map(Link::sqlite)
            }
        };
        begun.map_err(|error| {
            let failure = StoreFailure::from_sqlx(&error);
            let again = failure.kind() == Kind::Contended;
            let error = failure::error(failure);
            if again { Ended::Lost(error) } else { Ended::Failed(error) }
        })
    }

    fn access(&self, mode: Mode) -> Result<&Access, Ended> {
        match (mode, self.backend, &self.sequencer) {
            (Mode::Read, ..) => Ok(&self.reader),
            (Mode::Write | Mode::Serializable, ..) | (Mode::Sequence, Backend::Sqlite, _) => Ok(&self.writer),
            (Mode::Sequence, Backend::Postgres, Some(sequencer)) => Ok(sequencer),
            (Mode::Sequence, Backend::Postgres, None) => {
                let missing = Error::new(Code::ConfigurationMissing).at("database.sequencer_url");
                Err(Ended::Failed(missing))
            }
        }
    }

    /// On SQLite, moves the write-ahead log into the file and empties it, so that nothing of a deleted
    /// row is left in it. Tries a bounded number of times while readers are about.
    pub(crate) async fn scrub(self: &Arc<Self>) -> Result<()> {
        if self.backend == Backend::Postgres {
            return Ok(());
        }
        let engine = Arc::clone(self);
        let task = tokio::spawn(async move {
            for tried in 1..=TRIES {
                let sql = "PRAGMA wal_checkpoint(TRUNCATE)";
                let statement = sea_orm::Statement::from_string(sea_orm::DbBackend::Sqlite, sql);
                let row = engine.writer.pool.query_one_raw(statement).await.map_err(failure::from_db)?;
                let busy: Option<i64> = row.and_then(|row| row.try_get_by_index(0).ok());
                if busy == Some(0) {
                    return Ok(());
                }
                tokio::time::sleep(backoff(&engine.ctx, tried)).await;
            }
            Err(Error::new(Code::StoreUnavailable).at("write-ahead log in use"))
        });
        task.await.unwrap_or_else(|_| Err(Error::new(Code::Internal)))
    }

    /// Waits for what runs and closes every connection.
    pub(crate) async fn close(&self) -> Result<()> {
        for access in [Some(&self.reader), self.sequencer.as_ref(), Some(&self.writer)].into_iter().flatten()
        {
            access.close().await?;
        }
        Ok(())
    }
}

/// What begins a transaction on PostgreSQL: its isolation, and for its duration alone the settings that
/// tell the policies for whom it acts. The values are ids, digits and words of ours, so they need no quoting.
fn beginning(plan: &Plan, now: Timestamp) -> String {
    let mut sql = String::with_capacity(200);
    sql.push_str(match plan.mode {
        Mode::Serializable => "BEGIN ISOLATION LEVEL SERIALIZABLE",
        Mode::Read | Mode::Write | Mode::Sequence => "BEGIN",
    });
    for (name, value) in scope::settings(plan.scope, now) {
        debug_assert!(value.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-'));
        sql.push_str(&format!("; SET LOCAL {name} = '{value}'"));
    }
    if PLANNED_ONCE.contains(&plan.name) {
        sql.push_str("; SET LOCAL plan_cache_mode = force_generic_plan; SET LOCAL enable_seqscan = off");
    } else if !plan.scope.is_somebodys() {
        // Rare, and over tables that a moment ago were empty: planned for what is there now.
        sql.push_str("; SET LOCAL plan_cache_mode = force_custom_plan");
    }
    sql
}

/// Ends a transaction that only read. Nobody waits for it.
async fn done(tx: Tx) {
    if tx.link.rollback().await.is_err() {
        tracing::debug!("the end of a read was not answered");
    }
}

/// Writes the audit entries the closure asked for; `None` when it asked for none.
async fn record(tx: &Tx, plan: &Plan, names: &Names) -> Result<Option<Drawn>, Unready> {
    let Some((scope, auditor)) = &plan.audit else { return Ok(None) };
    let mut entries = entries(tx, auditor, scope, names)?;
    if entries.is_empty() || cfg!(feature = "bench-without-audit") {
        return Ok(None);
    }
    let drawn = auditor.writer.draw(&mut entries);
    let rows = entries.iter().map(outbox_row).collect();
    match tx.insert_many("audit_outbox", OUTBOX, rows, OnConflict::Fail).await {
        Ok(_) => Ok(Some(drawn)),
        Err(error) => {
            // Without its commit nothing of it can be in the log.
            drawn.undo();
            Err(Unready::Failed(Error::new(Code::AuditUnavailable).because(error)))
        }
    }
}

async fn roll_back(tx: Tx, error: Error) -> Ended {
    let ended = ended(&tx, error);
    if tx.link.rollback().await.is_err() {
        // The connection is broken; the pool throws it away and the server rolls back.
        tracing::warn!("a rollback was not answered");
    }
    ended
}

fn ended(tx: &Tx, error: Error) -> Ended {
    if tx.contended() { Ended::Lost(error) } else { Ended::Failed(error) }
}

/// Commits. Numbers of the audit log are kept, drawn again when the server says that nothing happened,
/// and lost when it says nothing.
async fn commit(tx: Tx, drawn: Option<Drawn>) -> Result<(), Ended> {
    let Err(failure) = tx.link.commit().await else {
        if let Some(drawn) = drawn {
            drawn.keep();
        }
        return Ok(());
    };
    let ended = match failure.kind() {
        Kind::Contended => Ended::Lost(failure::error(failure)),
        Kind::Unique | Kind::Refused | Kind::Exhausted => Ended::Failed(failure::error(failure)),
        // Never blindly again: it may have happened.
        Kind::Unreachable | Kind::Settings | Kind::Other => {
            return Err(Ended::Failed(Error::new(Code::AnswerLost).because(failure)));
        }
    };
    if let Some(drawn) = drawn {
        drawn.undo();
    }
    Err(ended)
}

/// Growing and jittered, at most a quarter of a second.
pub(crate) fn backoff(ctx: &Ctx, tried: u32) -> Duration {
    let full = 2_000_u64.saturating_mul(1 << tried.min(7)).min(250_000);
    let jitter = u64::from(u16::from_be_bytes(ctx.random()));
    Duration::from_micros(full / 2 + full / 2 * jitter / u64::from(u16::MAX))
}
