//! SQLite connections, and transactions on them.
//!
//! SQLite ends a transaction by itself when the disk is full. The driver, which counts transactions, would then take
//! the next one for a nested one, and its commit would release a savepoint and commit nothing. So a transaction is
//! begun and ended here, in SQLite's own words, and whatever did not end in order ends the connection.

use sqlx::pool::PoolConnection;
use sqlx::sqlite::{SqliteConnection, SqlitePool, SqliteRow};
use sqlx::{AssertSqlSafe, Sqlite};

use crate::value::{Bound, arguments};

/// A connection in a transaction. Dropped before it has ended in order it is closed.
pub(crate) struct Embedded {
    connection: PoolConnection<Sqlite>,
    ended: bool,
}

impl Embedded {
    /// Begins a transaction: at once as the writer, or as a reader.
    pub(crate) async fn begin(pool: &SqlitePool, writes: bool) -> Result<Self, sqlx::Error> {
        let mut begun = Self { connection: pool.acquire().await?, ended: false };
        begun.say(if writes { "BEGIN IMMEDIATE" } else { "BEGIN" }).await?;
        Ok(begun)
    }

    /// Runs a statement and answers how many rows it changed.
    pub(crate) async fn execute(&mut self, sql: &str, values: Vec<Bound>) -> Result<u64, sqlx::Error> {
        let query = sqlx::query_with(AssertSqlSafe(sql), arguments(values));
        Ok(query.execute(self.connection()).await?.rows_affected())
    }

    /// Every row a query answers with.
    pub(crate) async fn rows(
        &mut self,
        sql: &str,
        values: Vec<Bound>,
    ) -> Result<Vec<SqliteRow>, sqlx::Error> {
        sqlx::query_with(AssertSqlSafe(sql), arguments(values)).fetch_all(self.connection()).await
    }

    /// Ends the transaction with `COMMIT` or `ROLLBACK`.
    pub(crate) async fn end(mut self, word: &'static str) -> Result<(), sqlx::Error> {
        self.say(word).await?;
        self.ended = true;
        Ok(())
    }

    async fn say(&mut self, words: &'static str) -> Result<(), sqlx::Error> {
        sqlx::raw_sql(words).execute(self.connection()).await.map(drop)
    }

    fn connection(&mut self) -> &mut SqliteConnection {
        &mut self.connection
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        if !self.ended {
            self.connection.close_on_drop();
        }
    }
}
