//! What an operator watches, read from the database: transfers by state, the audit log's lag, the pools.

use std::path::Path;
use std::time::Duration;

use domicile_types::{Result, Timestamp};

use crate::{Backend, FromRow, Row, Scope, Store, Tx, values};

/// Waiting audit entries are counted up to here; more is as bad.
const COUNTED: u32 = 100_000;

/// Transfers that do not rest, of one side of this region in one state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransfersIn {
    /// `source` or `destination`.
    pub side: String,
    /// The state's name.
    pub state: String,
    /// How many.
    pub count: u64,
    /// Since when the oldest has been in it.
    pub oldest: Timestamp,
    /// How many of them are marked stuck, or stand past Released longer than was asked about.
    pub stuck: u64,
}

impl FromRow for TransfersIn {
    fn from_row(row: &Row) -> Result<Self> {
        Ok(Self {
            side: row.get("role")?,
            state: row.get("state")?,
            count: row.get("count")?,
            oldest: row.get("oldest")?,
            stuck: row.get("stuck")?,
        })
    }
}

/// The audit log's lag.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AuditLag {
    /// Entries that wait for the sequencer, at most 100,000.
    pub waiting: u64,
    /// When the oldest of them was written.
    pub oldest: Option<Timestamp>,
    /// The latest signed checkpoint: its size and when it was signed.
    pub signed: Option<(u64, Timestamp)>,
}

struct Signed(u64, Timestamp);

impl FromRow for Signed {
    fn from_row(row: &Row) -> Result<Self> {
        Ok(Self(row.get("size")?, row.get("signed_at")?))
    }
}

/// A pool of connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolUse {
    /// `writer`, `reader` or `sequencer`.
    pub name: &'static str,
    /// Connections at work.
    pub used: u64,
    /// Connections open and free.
    pub idle: u64,
    /// Connections at most.
    pub most: u64,
}

impl Store {
    /// Transfers that do not rest, by side and state; past Released they are stuck after `patience`.
    ///
    /// # Errors
    /// [`StoreUnavailable`](domicile_types::Code::StoreUnavailable).
    pub async fn transfers_by_state(&self, patience: Duration) -> Result<Vec<TransfersIn>> {
        let since = self.ctx().now().minus(patience);
        self.read("observe_transfers", Scope::Transfers, move |tx| Box::pin(by_state(tx, since))).await
    }

    /// How far the audit log's tree is behind.
    ///
    /// # Errors
    /// [`StoreUnavailable`](domicile_types::Code::StoreUnavailable).
    pub async fn audit_lag(&self) -> Result<AuditLag> {
        self.read("observe_audit", Scope::System, |tx| Box::pin(lag(tx))).await
    }

    /// When the latest backup was made: on SQLite the newest copy in `directory`, on PostgreSQL the last
    /// segment that the archive took. `None` when there is none.
    ///
    /// # Errors
    /// [`StoreUnavailable`](domicile_types::Code::StoreUnavailable).
    pub async fn backed_up(&self, directory: Option<&Path>) -> Result<Option<Timestamp>> {
        match self.backend() {
            Backend::Sqlite => Ok(directory.and_then(|directory| newest(directory, self.region().as_str()))),
            Backend::Postgres => {
                let read = self.read("observe_archive", Scope::System, |tx| Box::pin(archived(tx)));
                read.await
            }
        }
    }

    /// How the pools of connections are used.
    #[must_use]
    pub fn pools(&self) -> Vec<PoolUse> {
        let engine = &self.inner.engine;
        let pools = [
            ("writer", Some(&engine.writer)),
            ("reader", Some(&engine.reader)),
            ("sequencer", engine.sequencer.as_ref()),
        ];
        let known = pools.into_iter().filter_map(|(name, pool)| Some((name, pool?)));
        known
            .map(|(name, pool)| {
                let (size, idle, most) = pool.counts();
                PoolUse { name, used: size.saturating_sub(idle), idle, most }
            })
            .collect()
    }
}

async fn by_state(tx: &Tx, since: Timestamp) -> Result<Vec<TransfersIn>> {
    let sql = "SELECT role, state, COUNT(*) AS count, MIN(changed_at) AS oldest, \
               SUM(CASE WHEN stuck_cause IS NOT NULL \
                         OR (state IN ('released', 'adopted', 'rekeyed', 'shredded') AND changed_at < $1) \
                    THEN 1 ELSE 0 END) AS stuck \
               FROM transfer WHERE open GROUP BY role, state";
    tx.all(sql, values![since]).await
}

async fn lag(tx: &Tx) -> Result<AuditLag> {
    let sql = "SELECT COUNT(*) AS value FROM (SELECT 1 AS one FROM audit_outbox LIMIT $1) AS waiting";
    let waiting = tx.scalar::<u64>(sql, values![COUNTED]).await?.unwrap_or(0);
    let oldest = tx.scalar("SELECT MIN(at) AS value FROM audit_outbox", values![]).await?;
    let sql = "SELECT size, signed_at FROM audit_checkpoint ORDER BY size DESC LIMIT 1";
    let signed = tx.one::<Signed>(sql, values![]).await?;
    Ok(AuditLag { waiting, oldest, signed: signed.map(|Signed(size, at)| (size, at)) })
}

async fn archived(tx: &Tx) -> Result<Option<Timestamp>> {
    let sql =
        "SELECT (EXTRACT(EPOCH FROM last_archived_time) * 1000000)::bigint AS value FROM pg_stat_archiver";
    tx.scalar(sql, values![]).await
}

/// The time in the newest copy's name.
fn newest(directory: &Path, region: &str) -> Option<Timestamp> {
    let copies = std::fs::read_dir(directory).ok()?.flatten();
    let times = copies.filter_map(|copy| {
        let name = copy.file_name();
        let micros = name.to_str()?.strip_prefix(region)?.strip_prefix('-')?.strip_suffix(".data.sqlite")?;
        micros.parse().ok().map(Timestamp::from_micros)
    });
    times.max()
}
