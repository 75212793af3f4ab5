//! The store: opening it, and the named transactions through which all access goes.

use std::sync::Arc;

use domicile_evidence::entry::Entry;
use domicile_types::{AuditScope, Code, Ctx, Error, RegionId, Result};
use futures::future::BoxFuture;
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::audit::{AuditFacts, Auditor, Pseudonyms, Unready, entry};
use crate::check;
use crate::engine::{Engine, Mode, Plan};
use crate::failure;
use crate::flush::{self, Pending};
use crate::lanes::Writer;
use crate::pool::{Pool, Use};
use crate::scope::Scope;
use crate::settings::{Backend, Settings};
use crate::tx::Tx;
use crate::value::{Bound, Row};

/// The region's database. Cheap to clone; all clones are the same store.
#[derive(Clone)]
pub struct Store {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) engine: Arc<Engine>,
    auditor: Arc<Auditor>,
    queue: mpsc::Sender<Pending>,
    flusher: Mutex<Option<JoinHandle<()>>>,
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
        let engine = Arc::new(connect(settings, ctx).await?);
        let id = domicile_types::ids::uuid_v4(engine.ctx.rng.as_ref());
        let plan = Plan { name: "audit.register", mode: Mode::Write, scope: Scope::System, audit: None };
        let epoch =
            engine.run(plan, move |tx| Box::pin(crate::queries::audit::writer_register(tx, id))).await?;
        let writer = Writer::new(settings.log_origin.clone(), settings.policy_version, id, epoch);
        let auditor = Arc::new(Auditor { writer: Arc::new(writer), pseudonyms });
        let (queue, flusher) = flush::start(Arc::clone(&engine), Arc::clone(&auditor.writer));
        let flusher = Mutex::new(Some(flusher));
        Ok(Self { inner: Arc::new(Inner { engine, auditor, queue, flusher }) })
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
        self.inner.engine.run(Plan { name, mode: Mode::Read, scope, audit: None }, f).await
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
        self.inner.engine.run(self.audited(name, Mode::Write, scope, audit), f).await
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
        self.inner.engine.run(self.audited(name, Mode::Serializable, scope, audit), f).await
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
        self.inner.engine.run(Plan { name, mode: Mode::Write, scope, audit: None }, f).await
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
        let plan = Plan { name, mode: Mode::Sequence, scope: Scope::System, audit: None };
        self.inner.engine.run(plan, f).await
    }

    /// Adds an entry on its own, durable when this returns: for reads and refusals, before their
    /// answer leaves. The scope then counts as recorded. The entry stands even when the caller goes away.
    ///
    /// # Errors
    /// [`Code::AuditUnavailable`]; then nothing may be shown.
    pub async fn audit_now(&self, scope: &Arc<AuditScope>, facts: AuditFacts) -> Result<()> {
        if cfg!(feature = "bench-without-audit") {
            scope.mark_recorded();
            return Ok(());
        }
        let unavailable = |error: Error| Error::new(Code::AuditUnavailable).because(error);
        let entry = self.entry(scope, facts).await.map_err(unavailable)?;
        let (durable, written) = oneshot::channel();
        let pending = Pending { entry, scope: Arc::clone(scope), durable };
        self.inner.queue.send(pending).await.map_err(|_| Error::new(Code::AuditUnavailable))?;
        written.await.map_err(|_| Error::new(Code::AuditUnavailable))?
    }

    /// On PostgreSQL, the rows of one statement by itself, in nobody's scope: without a function that
    /// enters one it sees nothing that the policies protect. `None` on SQLite.
    pub(crate) async fn asked(&self, sql: &'static str, values: Vec<Bound>) -> Result<Option<Vec<Row>>> {
        let Some(hot) = self.inner.engine.reader.hot.clone() else { return Ok(None) };
        let asking = tokio::spawn(async move { hot.rows(sql, values).await });
        let rows = asking.await.map_err(|_| Error::new(Code::Internal))?;
        let rows = rows.map_err(|error| failure::from_sqlx(&error))?;
        Ok(Some(Row::all(rows)))
    }

    /// Which database it is.
    #[must_use]
    pub fn backend(&self) -> Backend {
        self.inner.engine.backend
    }

    /// The region the database belongs to.
    #[must_use]
    pub fn region(&self) -> &RegionId {
        &self.inner.engine.region
    }

    /// Clock, randomness and faults.
    #[must_use]
    pub fn ctx(&self) -> &Ctx {
        &self.inner.engine.ctx
    }

    /// Leaves nothing of deleted rows in SQLite's write-ahead log; run it after a shred. PostgreSQL's
    /// old row versions hold ciphertext whose keys are gone, until its vacuum takes them.
    ///
    /// # Errors
    /// [`Code::StoreUnavailable`] when readers never let go of the log.
    pub async fn scrub(&self) -> Result<()> {
        self.inner.engine.scrub().await
    }

    /// Waits for transactions that run and entries that wait, and closes every connection. What comes
    /// afterwards is refused.
    ///
    /// # Errors
    /// [`Code::StoreUnavailable`] when a connection does not close.
    pub async fn close(self) -> Result<()> {
        // The flusher ends once it has written what waits and no clone can hand in more; with clones
        // about, closing the pools below ends its writes.
        let flusher = self.inner.flusher.lock().await.take();
        let engine = Arc::clone(&self.inner.engine);
        let last = Arc::try_unwrap(self.inner).is_ok();
        if let (true, Some(flusher)) = (last, flusher)
            && flusher.await.is_err()
        {
            return Err(Error::new(Code::AuditUnavailable));
        }
        engine.close().await
    }

    fn audited(&self, name: &'static str, mode: Mode, scope: Scope, audit: &Arc<AuditScope>) -> Plan {
        let audit = Some((Arc::clone(audit), Arc::clone(&self.inner.auditor)));
        Plan { name, mode, scope, audit }
    }

    async fn entry(&self, scope: &AuditScope, facts: AuditFacts) -> Result<Entry> {
        let auditor = &self.inner.auditor;
        let names = auditor.names(scope, facts.whose(scope)).await?;
        entry(self.ctx(), &auditor.writer, &names, scope, facts).map_err(|unready| match unready {
            Unready::Failed(error) => error,
            Unready::Subject(_) => Error::new(Code::Internal),
        })
    }
}

async fn connect(settings: &Settings, ctx: Ctx) -> Result<Engine> {
    let backend = Backend::of(&settings.url)?;
    if backend == Backend::Sqlite && settings.production {
        return Err(Error::new(Code::ConfigurationUnsafe).at("database.url"));
    }
    let tls = settings.production;
    let acquire = settings.acquire;
    let pool = |url, purpose, connections| Pool { url, purpose, connections, tls, acquire, schema: "public" };
    let writer = pool(&settings.url, Use::Write, settings.max_connections).open().await?;
    check::data(&writer.pool, backend).await?;
    let reader = pool(&settings.url, Use::Read, settings.max_connections).open().await?;
    let sequencer = match (&settings.sequencer_url, backend) {
        (Some(url), Backend::Postgres) => {
            let pool = pool(url, Use::Write, 2).open().await?;
            check::sequencer(&pool.pool).await?;
            Some(pool)
        }
        _ => None,
    };
    if backend == Backend::Sqlite {
        tracing::warn!(region = %settings.region, "SQLite: no database roles and no row-level security");
    }
    Ok(Engine { backend, region: settings.region.clone(), ctx, writer, reader, sequencer })
}
