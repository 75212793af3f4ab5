//! A transaction, as the closures see it.

use std::sync::{Arc, Mutex};

use domicile_types::{AuditScope, Code, Ctx, Error, RegionId, Result, Timestamp};
use tokio::sync::Mutex as AsyncMutex;

use crate::audit::AuditFacts;
use crate::embedded::Embedded;
use crate::engine::Engine;
use crate::failure::{self, Kind, StoreFailure};
use crate::hot::Lease;
use crate::settings::Backend;
use crate::value::{Bind as _, Bound, Column, FromRow, Row};

/// The most parameters one statement may have on SQLite.
const SQLITE_PARAMETERS: usize = 32_000;

/// What to do with a row whose key exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnConflict {
    /// Fail with [`Code::Conflict`].
    Fail,
    /// Keep the row that is there.
    Ignore,
}

/// An open transaction. Only [`Store`](crate::Store) makes and ends one.
pub struct Tx {
    pub(crate) link: Link,
    backend: Backend,
    region: RegionId,
    ctx: Ctx,
    now: Timestamp,
    pub(crate) audit: Option<Arc<AuditScope>>,
    pub(crate) facts: Mutex<Vec<AuditFacts>>,
    failed: Mutex<Option<StoreFailure>>,
}

/// The connection a transaction is open on.
pub(crate) enum Link {
    Postgres(Box<AsyncMutex<Lease>>),
    Sqlite(Box<AsyncMutex<Embedded>>),
}

impl Link {
    pub(crate) fn postgres(lease: Lease) -> Self {
        Self::Postgres(Box::new(AsyncMutex::new(lease)))
    }

    pub(crate) fn sqlite(begun: Embedded) -> Self {
        Self::Sqlite(Box::new(AsyncMutex::new(begun)))
    }

    async fn execute(&self, sql: &str, values: Vec<Bound>) -> Result<u64, StoreFailure> {
        let done = match self {
            Self::Postgres(lease) => lease.lock().await.execute(sql, values).await,
            Self::Sqlite(begun) => begun.lock().await.execute(sql, values).await,
        };
        done.map_err(|error| StoreFailure::from_sqlx(&error))
    }

    async fn rows(&self, sql: &str, values: Vec<Bound>) -> Result<Vec<Row>, StoreFailure> {
        let rows = match self {
            Self::Postgres(lease) => lease.lock().await.rows(sql, values).await.map(Row::all),
            Self::Sqlite(begun) => begun.lock().await.rows(sql, values).await.map(Row::all),
        };
        rows.map_err(|error| StoreFailure::from_sqlx(&error))
    }

    pub(crate) async fn commit(self) -> Result<(), StoreFailure> {
        let done = match self {
            Self::Postgres(lease) => lease.into_inner().commit().await,
            Self::Sqlite(begun) => begun.into_inner().end("COMMIT").await,
        };
        done.map_err(|error| StoreFailure::from_sqlx(&error))
    }

    pub(crate) async fn rollback(self) -> Result<(), StoreFailure> {
        let done = match self {
            Self::Postgres(lease) => lease.into_inner().rollback().await,
            Self::Sqlite(begun) => begun.into_inner().end("ROLLBACK").await,
        };
        done.map_err(|error| StoreFailure::from_sqlx(&error))
    }
}

impl Tx {
    pub(crate) fn new(link: Link, now: Timestamp, engine: &Engine, audit: Option<Arc<AuditScope>>) -> Self {
        Self {
            link,
            backend: engine.backend,
            region: engine.region.clone(),
            ctx: engine.ctx.clone(),
            now,
            audit,
            facts: Mutex::new(Vec::new()),
            failed: Mutex::new(None),
        }
    }

    /// Which database it is.
    #[must_use]
    pub const fn backend(&self) -> Backend {
        self.backend
    }

    /// The region the database belongs to.
    #[must_use]
    pub const fn region(&self) -> &RegionId {
        &self.region
    }

    /// The instant the transaction began, from the clock in [`Ctx`]; the same for all its statements.
    #[must_use]
    pub const fn now(&self) -> Timestamp {
        self.now
    }

    /// Clock, randomness and faults.
    #[must_use]
    pub const fn ctx(&self) -> &Ctx {
        &self.ctx
    }

    /// ` FOR UPDATE` where the database has row locks; SQLite's writer is alone anyway.
    #[must_use]
    pub const fn for_update(&self) -> &'static str {
        match self.backend {
            Backend::Postgres => " FOR UPDATE",
            Backend::Sqlite => "",
        }
    }

    /// Runs a statement and answers how many rows it changed.
    ///
    /// # Errors
    /// [`Code::Conflict`] for a taken key, [`Code::StoreUnavailable`] when the database does not answer,
    /// [`Code::Internal`] otherwise. After an error the transaction can only end: it rolls back even
    /// when the closure swallows the error, so test with `ON CONFLICT`, never by failing.
    pub async fn execute(&self, sql: &str, values: Vec<Bound>) -> Result<u64> {
        self.link.execute(sql, values).await.map_err(|failure| self.fail(failure))
    }

    /// The one row a query answers with, or none.
    ///
    /// # Errors
    /// As [`Tx::execute`]; [`Code::Internal`] when there is more than one row.
    pub async fn one<T: FromRow>(&self, sql: &str, values: Vec<Bound>) -> Result<Option<T>> {
        let rows = self.rows(sql, values).await?;
        if rows.len() > 1 {
            return Err(Error::new(Code::Internal).at("more than one row"));
        }
        rows.first().map(T::from_row).transpose()
    }

    /// Every row a query answers with.
    ///
    /// # Errors
    /// As [`Tx::execute`].
    pub async fn all<T: FromRow>(&self, sql: &str, values: Vec<Bound>) -> Result<Vec<T>> {
        self.rows(sql, values).await?.iter().map(T::from_row).collect()
    }

    /// The column named `value` of the one row a query answers with; `None` without a row or for NULL.
    ///
    /// # Errors
    /// As [`Tx::one`].
    pub async fn scalar<T: Column>(&self, sql: &str, values: Vec<Bound>) -> Result<Option<T>> {
        let rows = self.rows(sql, values).await?;
        if rows.len() > 1 {
            return Err(Error::new(Code::Internal).at("more than one row"));
        }
        rows.first().map_or(Ok(None), |row| row.maybe("value"))
    }

    /// Every row a query answers with, unread.
    ///
    /// # Errors
    /// As [`Tx::execute`].
    pub async fn rows(&self, sql: &str, values: Vec<Bound>) -> Result<Vec<Row>> {
        self.link.rows(sql, values).await.map_err(|failure| self.fail(failure))
    }

    /// Inserts many rows at once: several by UNNEST on PostgreSQL, in multi-row VALUES on SQLite. Each row
    /// holds one value per column. Answers how many rows are new.
    ///
    /// # Errors
    /// As [`Tx::execute`]; [`Code::Internal`] when a row's length is not the columns'.
    pub async fn insert_many(
        &self,
        table: &'static str,
        columns: &[&'static str],
        rows: Vec<Vec<Bound>>,
        conflict: OnConflict,
    ) -> Result<u64> {
        if columns.is_empty() || rows.iter().any(|row| row.len() != columns.len()) {
            return Err(Error::new(Code::Internal).at(format!("columns of {table}")));
        }
        if rows.is_empty() {
            return Ok(0);
        }
        let end = match conflict {
            OnConflict::Fail => "",
            OnConflict::Ignore => " ON CONFLICT DO NOTHING",
        };
        match self.backend {
            Backend::Postgres => {
                let (sql, values) = crate::bulk::insert(table, columns, rows, end)?;
                self.execute(&sql, values).await
            }
            Backend::Sqlite => {
                let mut new = 0;
                let mut rows = rows;
                while !rows.is_empty() {
                    let rest = rows.split_off(rows.len().min(SQLITE_PARAMETERS / columns.len()).max(1));
                    let (sql, values) = crate::bulk::multi_row(table, columns, rows, end);
                    new += self.execute(&sql, values).await?;
                    rows = rest;
                }
                Ok(new)
            }
        }
    }

    /// Deletes up to `limit` rows whose `column` is this, found by their place in the table: there is no join
    /// for the planner of freshly filled tables to get wrong. Answers how many went.
    ///
    /// # Errors
    /// As [`Tx::execute`].
    pub(crate) async fn delete_some(
        &self,
        table: &'static str,
        column: &'static str,
        of: Bound,
        limit: u32,
    ) -> Result<u64> {
        let sql = match self.backend {
            Backend::Postgres => format!(
                "DELETE FROM {table} WHERE ctid = ANY (ARRAY(\
                 SELECT ctid FROM {table} WHERE {column} = $1 LIMIT $2))"
            ),
            Backend::Sqlite => format!(
                "DELETE FROM {table} WHERE rowid IN (SELECT rowid FROM {table} WHERE {column} = $1 LIMIT $2)"
            ),
        };
        self.execute(&sql, vec![of, limit.bind()]).await
    }

    /// Adds an entry to the audit log, in this transaction: both commit or neither. The request's
    /// scope counts as recorded once the commit is durable. Fails unless the transaction was begun
    /// with an audit scope ([`Store::write`](crate::Store::write)).
    ///
    /// # Errors
    /// [`Code::Internal`] without an audit scope.
    pub fn audit(&self, facts: AuditFacts) -> Result<()> {
        if self.audit.is_none() {
            return Err(Error::new(Code::Internal).at("an unaudited transaction cannot audit"));
        }
        lock(&self.facts).push(facts);
        Ok(())
    }

    /// The failure that doomed this transaction, if one did.
    pub(crate) fn failure(&self) -> Option<StoreFailure> {
        lock(&self.failed).clone()
    }

    /// Whether the transaction lost against another and may run again.
    pub(crate) fn contended(&self) -> bool {
        self.failure().is_some_and(|failure| failure.kind() == Kind::Contended)
    }

    fn fail(&self, failure: StoreFailure) -> Error {
        lock(&self.failed).get_or_insert_with(|| failure.clone());
        failure::error(failure)
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
