//! PostgreSQL connections kept at hand, and transactions on them.
//!
//! A pool that checks a connection when it goes out and when it comes back, and an ORM that begins,
//! isolates and scopes a transaction in statements of their own, cost six round trips for a single
//! read. Here a connection that ended its transaction in order goes back as it is, and a transaction
//! begins, isolated and in its scope, in one round trip. Everything out of order ends the connection.

use std::num::NonZero;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::OptionFuture;
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnection, PgPool, PgRow};
use sqlx::{AssertSqlSafe, Postgres};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::failure::{Kind, StoreFailure};
use crate::tx::lock;
use crate::value::{Bound, arguments};

/// A connection that was not used for so long goes back to the pool, which looks whether it lives.
const IDLE: Duration = Duration::from_secs(20);
/// After this age too, so that the pool can replace it.
const AGE: Duration = Duration::from_secs(600);
/// The moves of records may have one in so many of the connections, and no more than there are cores.
const MOVES: u32 = 4;
/// Connections of the pool beyond those kept here, for what does not go through transactions.
pub(crate) const SPARE: u32 = 2;

/// Connections at hand.
pub(crate) struct Hot {
    pool: PgPool,
    idle: Mutex<Vec<Kept>>,
    permits: Arc<Semaphore>,
    /// Of those, how many the moves of records may have: people find a connection however many move.
    moves: Arc<Semaphore>,
    acquire: Duration,
}

/// A connection between two uses.
struct Kept {
    connection: PoolConnection<Postgres>,
    since: Instant,
    used: Instant,
}

/// A connection in use. Dropped without [`Lease::give_back`] it is closed: nobody knows its state.
pub(crate) struct Lease {
    kept: Option<Kept>,
    home: Arc<Hot>,
    fresh: bool,
    _permits: [Option<OwnedSemaphorePermit>; 2],
}

impl Hot {
    /// Over a pool of at least `connections` and [`SPARE`].
    pub(crate) fn new(pool: PgPool, connections: u32, acquire: Duration) -> Arc<Self> {
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        let [places, moves] = [1, MOVES].map(|share| (connections / share).max(1) as usize);
        let [permits, moves] = [places, moves.min(cores)].map(|places| Arc::new(Semaphore::new(places)));
        Arc::new(Self { pool, idle: Mutex::default(), permits, moves, acquire })
    }

    /// How many connections are kept and not in use.
    pub(crate) fn at_rest(&self) -> usize {
        lock(&self.idle).len()
    }

    /// Takes a connection, waiting for one as long as the settings say; the moves of records wait among
    /// themselves first, in the order in which they came.
    async fn take(self: &Arc<Self>, moves: bool) -> Result<Lease, sqlx::Error> {
        let place = if moves { Some(Arc::clone(&self.moves).acquire_owned()) } else { None };
        let place = OptionFuture::from(place).await.transpose().map_err(|_| sqlx::Error::PoolClosed)?;
        let permit = tokio::time::timeout(self.acquire, Arc::clone(&self.permits).acquire_owned());
        let permit = permit.await.map_err(|_| sqlx::Error::PoolTimedOut)?;
        let permit = permit.map_err(|_| sqlx::Error::PoolClosed)?;
        let permits = [Some(permit), place];
        let lease =
            |kept, fresh| Lease { kept: Some(kept), home: Arc::clone(self), fresh, _permits: permits };
        if let Some(kept) = self.at_hand() {
            return Ok(lease(kept, false));
        }
        let connection = self.pool.acquire().await?;
        let now = Instant::now();
        Ok(lease(Kept { connection, since: now, used: now }, true))
    }

    /// The connection used last, if it is fit. Others go back to the pool.
    fn at_hand(&self) -> Option<Kept> {
        let mut idle = lock(&self.idle);
        let now = Instant::now();
        let fit = |kept: &Kept| now - kept.used < IDLE && now - kept.since < AGE;
        while let Some(kept) = idle.pop() {
            if fit(&kept) {
                return Some(kept);
            }
        }
        None
    }

    /// Begins a transaction with `statement`, which holds `BEGIN` and what belongs to it. A connection
    /// that died at hand is no failure: nothing was begun on it, and the next one is taken.
    pub(crate) async fn begin(self: &Arc<Self>, statement: &str, moves: bool) -> Result<Lease, sqlx::Error> {
        loop {
            let mut lease = self.take(moves).await?;
            match lease.say(statement).await {
                Ok(()) => return Ok(lease),
                Err(error) if lease.fresh || !died(&error) => return Err(error),
                Err(_) => {}
            }
        }
    }

    /// Runs one statement by itself: its answer says that it is committed.
    pub(crate) async fn execute(self: &Arc<Self>, sql: &str, values: Vec<Bound>) -> Result<u64, sqlx::Error> {
        let mut lease = self.take(false).await?;
        let changed = lease.execute(sql, values).await?;
        lease.give_back();
        Ok(changed)
    }

    /// The rows of one statement by itself. It only reads, so a connection that died at hand is no failure.
    pub(crate) async fn rows(
        self: &Arc<Self>,
        sql: &str,
        values: Vec<Bound>,
    ) -> Result<Vec<PgRow>, sqlx::Error> {
        loop {
            let mut lease = self.take(false).await?;
            match lease.rows(sql, values.clone()).await {
                Ok(rows) => {
                    lease.give_back();
                    return Ok(rows);
                }
                Err(error) if lease.fresh || !died(&error) => return Err(error),
                Err(_) => {}
            }
        }
    }

    /// Closes every connection, once those in use have come back.
    pub(crate) async fn close(&self) {
        self.permits.close();
        self.moves.close();
        lock(&self.idle).clear();
        self.pool.close().await;
    }
}

impl Lease {
    fn connection(&mut self) -> Result<&mut PgConnection, sqlx::Error> {
        // There until it is given back, which consumes the lease.
        self.kept.as_mut().map(|kept| &mut *kept.connection).ok_or(sqlx::Error::WorkerCrashed)
    }

    /// Statements without values, in one round trip.
    async fn say(&mut self, statements: &str) -> Result<(), sqlx::Error> {
        sqlx::raw_sql(AssertSqlSafe(statements)).execute(self.connection()?).await.map(drop)
    }

    /// Runs a statement and answers how many rows it changed.
    pub(crate) async fn execute(&mut self, sql: &str, values: Vec<Bound>) -> Result<u64, sqlx::Error> {
        let query = sqlx::query_with(AssertSqlSafe(sql), arguments(values));
        Ok(query.execute(self.connection()?).await?.rows_affected())
    }

    /// Every row a query answers with.
    pub(crate) async fn rows(&mut self, sql: &str, values: Vec<Bound>) -> Result<Vec<PgRow>, sqlx::Error> {
        sqlx::query_with(AssertSqlSafe(sql), arguments(values)).fetch_all(self.connection()?).await
    }

    /// Commits; durable when it answers.
    pub(crate) async fn commit(mut self) -> Result<(), sqlx::Error> {
        self.say("COMMIT").await?;
        self.give_back();
        Ok(())
    }

    /// Rolls back.
    pub(crate) async fn rollback(mut self) -> Result<(), sqlx::Error> {
        self.say("ROLLBACK").await?;
        self.give_back();
        Ok(())
    }

    /// Keeps the connection for the next use. It is in no transaction.
    fn give_back(mut self) {
        if let Some(mut kept) = self.kept.take() {
            kept.used = Instant::now();
            if !self.home.pool.is_closed() {
                lock(&self.home.idle).push(kept);
            }
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(kept) = &mut self.kept {
            kept.connection.close_on_drop();
        }
    }
}

fn died(error: &sqlx::Error) -> bool {
    StoreFailure::from_sqlx(error).kind() == Kind::Unreachable
}
