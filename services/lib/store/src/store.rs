//! The store: opening it, and the named transactions through which all access goes.

use std::sync::Arc;

use domicile_types::{AuditScope, Code, Ctx, Error, RegionId, Result, SubjectId};
use futures::future::BoxFuture;
use sea_orm::{
    DatabaseConnection, DatabaseTransaction, IsolationLevel, SqliteTransactionMode, TransactionOptions,
    TransactionTrait as _,
};
use tokio::sync::{mpsc, oneshot};
use tracing::Instrument as _;

use crate::audit::{
    AuditFacts, Draft, Drawn, Names, OUTBOX, Pseudonyms, Unready, Writer, drafts, outbox_row,
};
use crate::failure::{self, Kind, StoreFailure};
use crate::flush::{self, Pending, backoff};
use crate::pool::{Pool, Use};
use crate::scope::{self, Scope};
use crate::settings::{Backend, Settings};
use crate::tx::{OnConflict, Tx};
use crate::{check, values};

/// How often a transaction that loses against others is run.
const TRIES: u32 = 10;
/// How many records one transaction may name in the audit log without having said so before.
const SURPRISES: u32 = 16;

/// The region's database. Cheap to clone; all clones are the same store.
#[derive(Clone)]
pub struct Store {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) core: Arc<Core>,
    queue: mpsc::Sender<Pending>,
    pseudonyms: Arc<dyn Pseudonyms>,
}

/// What transactions and the flusher share.
pub(crate) struct Core {
    pub(crate) backend: Backend,
    pub(crate) region: RegionId,
    pub(crate) production: bool,
    pub(crate) ctx: Ctx,
    pub(crate) writer: DatabaseConnection,
    pub(crate) reader: DatabaseConnection,
    pub(crate) sequencer: Option<DatabaseConnection>,
    pub(crate) audit: Arc<Writer>,
}

/// Which connection a transaction takes, and how it is isolated.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Read,
    Write,
    Serializable,
    Sequence,
}

/// A transaction to run.
struct Plan {
    name: &'static str,
    mode: Mode,
    scope: Scope,
    audit: Option<Arc<AuditScope>>,
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

impl Store {
    /// Opens the region's database as its service role, and refuses a database that does not protect
    /// what it must: a role that owns tables or passes by row-level security, a table without its
    /// policies, another release's schema.
    ///
    /// # Errors
    /// [`Code::DatabaseRoleUnsafe`], [`Code::SchemaOutdated`], [`Code::ConfigurationInvalid`],
    /// [`Code::ConfigurationUnsafe`] for SQLite in production, [`Code::StoreUnavailable`].
    pub async fn open(settings: &Settings, ctx: Ctx, pseudonyms: Arc<dyn Pseudonyms>) -> Result<Self> {
        let backend = Backend::of(&settings.url)?;
        if backend == Backend::Sqlite && settings.production {
            return Err(Error::new(Code::ConfigurationUnsafe).at("database.url"));
        }
        let pool = |url, purpose, connections| Pool {
            url,
            purpose,
            connections,
            tls: settings.production,
            schema: "public",
        };
        let writer = pool(&settings.url, Use::Write, settings.max_connections).open().await?;
        check::data(&writer, backend).await?;
        let reader = pool(&settings.url, Use::Read, settings.max_connections).open().await?;
        let sequencer = match (&settings.sequencer_url, backend) {
            (Some(url), Backend::Postgres) => Some(pool(url, Use::Write, 2).open().await?),
            _ => None,
        };
        let audit = Arc::new(register(&writer, backend, settings, &ctx).await?);
        let core = Arc::new(Core {
            backend,
            region: settings.region.clone(),
            production: settings.production,
            ctx,
            writer,
            reader,
            sequencer,
            audit,
        });
        if backend == Backend::Sqlite {
            tracing::warn!(region = %core.region, "SQLite: no database roles and no row-level security");
        }
        let (queue, _) = flush::start(Arc::clone(&core));
        Ok(Self { inner: Arc::new(Inner { core, queue, pseudonyms }) })
    }

    /// Reads from one snapshot.
    ///
    /// # Errors
    /// What the closure answers; [`Code::StoreUnavailable`].
    pub async fn read<T, F>(&self, name: &'static str, scope: Scope, f: F) -> Result<T>
    where
        T: Send + 'static,
        F: for<'c> Fn(&'c Tx) -> BoxFuture<'c, Result<T>> + Send + Sync + 'static,
    {
        self.run(Plan { name, mode: Mode::Read, scope, audit: None }, f).await
    }

    /// Changes something, with its audit entries ([`Tx::audit`]) in the same transaction. The actor's
    /// and the record's pseudonyms are asked for before it begins. On PostgreSQL it runs at READ
    /// COMMITTED: begin with the statement that locks what you decide on.
    ///
    /// # Errors
    /// What the closure answers; [`Code::Conflict`] after ten lost races; [`Code::StoreUnavailable`];
    /// [`Code::AnswerLost`] when the commit was sent and not answered.
    pub async fn write<T, F>(
        &self,
        name: &'static str,
        scope: Scope,
        audit: &Arc<AuditScope>,
        f: F,
    ) -> Result<T>
    where
        T: Send + 'static,
        F: for<'c> Fn(&'c Tx) -> BoxFuture<'c, Result<T>> + Send + Sync + 'static,
    {
        self.run(Plan { name, mode: Mode::Write, scope, audit: Some(Arc::clone(audit)) }, f).await
    }

    /// As [`Store::write`], at SERIALIZABLE: for decisions over rows it does not lock.
    ///
    /// # Errors
    /// As [`Store::write`].
    pub async fn write_serializable<T, F>(
        &self,
        name: &'static str,
        scope: Scope,
        audit: &Arc<AuditScope>,
        f: F,
    ) -> Result<T>
    where
        T: Send + 'static,
        F: for<'c> Fn(&'c Tx) -> BoxFuture<'c, Result<T>> + Send + Sync + 'static,
    {
        self.run(Plan { name, mode: Mode::Serializable, scope, audit: Some(Arc::clone(audit)) }, f).await
    }

    /// Changes something that no audit event speaks of: leases, what has travelled, the last-seen time
    /// of a session. [`Tx::audit`] fails inside.
    ///
    /// # Errors
    /// As [`Store::write`].
    pub async fn write_unaudited<T, F>(&self, name: &'static str, scope: Scope, f: F) -> Result<T>
    where
        T: Send + 'static,
        F: for<'c> Fn(&'c Tx) -> BoxFuture<'c, Result<T>> + Send + Sync + 'static,
    {
        self.run(Plan { name, mode: Mode::Write, scope, audit: None }, f).await
    }

    /// A transaction of the audit log's sequencer, as its own role on PostgreSQL: it alone adds to the
    /// tree and empties the outbox.
    ///
    /// # Errors
    /// As [`Store::write`]; [`Code::ConfigurationMissing`] on PostgreSQL without `sequencer_url`.
    pub async fn sequence<T, F>(&self, name: &'static str, f: F) -> Result<T>
    where
        T: Send + 'static,
        F: for<'c> Fn(&'c Tx) -> BoxFuture<'c, Result<T>> + Send + Sync + 'static,
    {
        self.run(Plan { name, mode: Mode::Sequence, scope: Scope::System, audit: None }, f).await
    }

    /// Adds an entry on its own, durable when this returns: for reads and refusals, before their
    /// answer leaves. The scope then counts as recorded. The entry stands even when the caller goes away.
    ///
    /// # Errors
    /// [`Code::AuditUnavailable`]; then nothing may be shown.
    pub async fn audit_now(&self, scope: &Arc<AuditScope>, facts: AuditFacts) -> Result<()> {
        let unavailable = |error: Error| Error::new(Code::AuditUnavailable).because(error);
        let mut names = self.names(scope, None).await.map_err(unavailable)?;
        let core = &self.inner.core;
        let draft = match Draft::new(&core.ctx, &core.audit, &names, scope, facts.clone()) {
            Err(Unready::Subject(subject)) => {
                names.add(self.inner.pseudonyms.as_ref(), subject).await.map_err(unavailable)?;
                Draft::new(&core.ctx, &core.audit, &names, scope, facts)
            }
            made => made,
        };
        let draft = draft.map_err(|unready| match unready {
            Unready::Failed(error) => unavailable(error),
            Unready::Subject(_) => Error::new(Code::AuditUnavailable),
        })?;
        let (durable, written) = oneshot::channel();
        let pending = Pending { draft, scope: Arc::clone(scope), durable };
        self.inner.queue.send(pending).await.map_err(|_| Error::new(Code::AuditUnavailable))?;
        written.await.map_err(|_| Error::new(Code::AuditUnavailable))?
    }

    /// Which database it is.
    #[must_use]
    pub fn backend(&self) -> Backend {
        self.inner.core.backend
    }

    /// The region the database belongs to.
    #[must_use]
    pub fn region(&self) -> &RegionId {
        &self.inner.core.region
    }

    /// Clock, randomness and faults.
    #[must_use]
    pub fn ctx(&self) -> &Ctx {
        &self.inner.core.ctx
    }

    async fn names(&self, audit: &AuditScope, also: Option<SubjectId>) -> Result<Names> {
        let subjects = audit.subject().into_iter().chain(also);
        Names::resolve(self.inner.pseudonyms.as_ref(), audit, subjects).await
    }

    /// Runs a transaction in a task of its own, which nobody's departure cancels: a caller who goes
    /// away while BEGIN is on its way would hand the pool a connection in an open transaction.
    async fn run<T, F>(&self, plan: Plan, f: F) -> Result<T>
    where
        T: Send + 'static,
        F: for<'c> Fn(&'c Tx) -> BoxFuture<'c, Result<T>> + Send + Sync + 'static,
    {
        let span = tracing::debug_span!("transaction", name = plan.name);
        let store = self.clone();
        let task = tokio::spawn(async move { store.attempts(&plan, &f).await }.instrument(span));
        task.await.unwrap_or_else(|lost| {
            tracing::error!(panicked = lost.is_panic(), "a transaction's task died");
            Err(Error::new(Code::Internal))
        })
    }

    async fn attempts<T, F>(&self, plan: &Plan, f: &F) -> Result<T>
    where
        F: for<'c> Fn(&'c Tx) -> BoxFuture<'c, Result<T>> + Send + Sync,
    {
        let mut names = match &plan.audit {
            Some(audit) => self.names(audit, plan.scope.subject()).await?,
            None => Names::default(),
        };
        let (mut tried, mut surprised) = (0, 0);
        loop {
            match self.attempt(plan, &names, f).await {
                Ok(value) => return Ok(value),
                Err(Ended::Failed(error)) => return Err(error),
                Err(Ended::Needs(subject)) if surprised < SURPRISES => {
                    surprised += 1;
                    names.add(self.inner.pseudonyms.as_ref(), subject).await?;
                }
                Err(Ended::Needs(_)) => {
                    return Err(Error::new(Code::Internal).at("too many records in one change"));
                }
                Err(Ended::Lost(error)) => {
                    tried += 1;
                    tracing::debug!(name = plan.name, tried, "transaction lost a race");
                    if tried >= TRIES {
                        return Err(error);
                    }
                    tokio::time::sleep(backoff(&self.inner.core, tried)).await;
                }
            }
        }
    }

    async fn attempt<T, F>(&self, plan: &Plan, names: &Names, f: &F) -> Result<T, Ended>
    where
        F: for<'c> Fn(&'c Tx) -> BoxFuture<'c, Result<T>> + Send + Sync,
    {
        let core = &self.inner.core;
        let txn = begin(core, plan.mode).await?;
        let now = core.ctx.now();
        let tx = Tx::new(txn, core.backend, core.region.clone(), core.ctx.clone(), now, plan.audit.clone());
        if core.backend == Backend::Postgres {
            enter(&tx, plan.scope).await.map_err(|error| ended(&tx, error))?;
        }
        let value = match f(&tx).await {
            Ok(value) => value,
            Err(error) => return Err(roll_back(tx, error).await),
        };
        if let Some(failure) = tx.failure() {
            // The closure swallowed a failed statement. PostgreSQL would answer COMMIT with a quiet ROLLBACK.
            return Err(roll_back(tx, failure::error(failure)).await);
        }
        let drawn = match record(&tx, &core.audit, names).await {
            Ok(drawn) => drawn,
            Err(Unready::Failed(error)) => return Err(roll_back(tx, error).await),
            Err(Unready::Subject(subject)) => {
                let lost = roll_back(tx, Error::new(Code::Internal)).await;
                return Err(if matches!(lost, Ended::Lost(_)) { lost } else { Ended::Needs(subject) });
            }
        };
        core.ctx.faults.hit("store.commit.before_effect");
        let recorded = drawn.is_some().then(|| tx.audit.clone()).flatten();
        commit(tx).await?;
        if let Some(drawn) = drawn {
            drawn.keep();
        }
        if let Some(scope) = recorded {
            scope.mark_recorded();
        }
        core.ctx.faults.hit("store.commit.after_effect");
        Ok(value)
    }
}

async fn begin(core: &Core, mode: Mode) -> Result<DatabaseTransaction, Ended> {
    let pool = match mode {
        Mode::Read => &core.reader,
        Mode::Write | Mode::Serializable => &core.writer,
        Mode::Sequence => match (core.backend, &core.sequencer) {
            (Backend::Sqlite, _) => &core.writer,
            (Backend::Postgres, Some(pool)) => pool,
            (Backend::Postgres, None) => {
                let missing = Error::new(Code::ConfigurationMissing).at("database.sequencer_url");
                return Err(Ended::Failed(missing));
            }
        },
    };
    let options = TransactionOptions {
        isolation_level: (core.backend == Backend::Postgres && mode == Mode::Serializable)
            .then_some(IsolationLevel::Serializable),
        access_mode: None,
        sqlite_transaction_mode: (core.backend == Backend::Sqlite && mode != Mode::Read)
            .then_some(SqliteTransactionMode::Immediate),
    };
    pool.begin_with_options(options).await.map_err(|error| {
        let failure = StoreFailure::from_db(&error);
        let again = failure.kind() == Kind::Contended;
        let error = failure::error(failure);
        if again { Ended::Lost(error) } else { Ended::Failed(error) }
    })
}

/// Tells the policies for whom the transaction acts, for its duration alone.
async fn enter(tx: &Tx, scope: Scope) -> Result<()> {
    let settings = scope::settings(scope, tx.now);
    let mut calls = Vec::with_capacity(settings.len());
    let mut values = Vec::with_capacity(settings.len());
    for (name, value) in settings {
        values.extend(values![value]);
        calls.push(format!("set_config('{name}', ${}, true)", values.len()));
    }
    tx.rows(&format!("SELECT {}", calls.join(", ")), values).await.map(drop)
}

/// Writes the audit entries the closure asked for; `None` when it asked for none.
async fn record(tx: &Tx, writer: &Arc<Writer>, names: &Names) -> Result<Option<Drawn>, Unready> {
    let drafts = drafts(tx, writer, names)?;
    if drafts.is_empty() {
        return Ok(None);
    }
    let (entries, drawn) = writer.draw(drafts);
    let rows = entries.iter().map(outbox_row).collect();
    tx.insert_many("audit_outbox", OUTBOX, rows, OnConflict::Fail)
        .await
        .map_err(|error| Unready::Failed(Error::new(Code::AuditUnavailable).because(error)))?;
    Ok(Some(drawn))
}

async fn roll_back(tx: Tx, error: Error) -> Ended {
    let ended = ended(&tx, error);
    if tx.txn.rollback().await.is_err() {
        // The connection is broken; the pool throws it away and the server rolls back.
        tracing::warn!("a rollback was not answered");
    }
    ended
}

fn ended(tx: &Tx, error: Error) -> Ended {
    if tx.contended() { Ended::Lost(error) } else { Ended::Failed(error) }
}

async fn commit(tx: Tx) -> Result<(), Ended> {
    let Err(error) = tx.txn.commit().await else { return Ok(()) };
    let failure = StoreFailure::from_db(&error);
    match failure.kind() {
        // The server answered: it did not happen.
        Kind::Contended => Err(Ended::Lost(failure::error(failure))),
        Kind::Unique | Kind::Refused | Kind::Exhausted => Err(Ended::Failed(failure::error(failure))),
        // Never blindly again: it may have happened.
        Kind::Unreachable | Kind::Other => Err(Ended::Failed(Error::new(Code::AnswerLost).because(failure))),
    }
}

/// Registers this process as a writer of the audit log.
async fn register(
    writer: &DatabaseConnection,
    backend: Backend,
    settings: &Settings,
    ctx: &Ctx,
) -> Result<Writer> {
    let id = domicile_types::ids::uuid_v4(ctx.rng.as_ref());
    let core = (writer, backend);
    let epoch = crate::queries::audit::writer_register(core, id, ctx.now()).await?;
    Ok(Writer::new(settings.log_origin.clone(), settings.policy_version, id, epoch))
}
