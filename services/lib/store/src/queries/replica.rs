//! The replicas of a region: who is there, and whose keys each of them still has to drop. Instants are
//! the database's own, so that replicas whose clocks differ agree on who is there.

use std::time::Duration;

use domicile_types::{Code, Error, Result, Timestamp};
use uuid::Uuid;

use crate::settings::Backend;
use crate::{OnConflict, Tx, values};

/// The present instant, as the database's clock has it.
async fn now(tx: &Tx) -> Result<Timestamp> {
    if tx.backend() == Backend::Sqlite {
        // One process has the file: there is only its own clock.
        return Ok(tx.now());
    }
    let sql = "SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT) AS value";
    let micros = tx.scalar::<i64>(sql, values![]).await?;
    micros.map(Timestamp::from_micros).ok_or_else(|| Error::new(Code::Internal).at("clock"))
}

/// Registers a replica. A SQLite file has one process: whoever stood there before is dead.
///
/// # Errors
/// [`Code::StoreUnavailable`].
pub async fn join(tx: &Tx, replica: Uuid) -> Result<()> {
    if tx.backend() == Backend::Sqlite {
        tx.execute("DELETE FROM key_drop", values![]).await?;
        tx.execute("DELETE FROM replica", values![]).await?;
    }
    let now = now(tx).await?;
    let sql = "INSERT INTO replica (replica_id, started_at, seen_at) VALUES ($1, $2, $2)";
    tx.execute(sql, values![replica, now]).await.map(drop)
}

/// A sign of life. Forgets what was asked of replicas that gave none for `hold`, who trust nothing in their
/// memory any more, and after `gone` the replicas too. `false` when this one has been forgotten itself.
///
/// # Errors
/// [`Code::StoreUnavailable`].
pub async fn beat(tx: &Tx, replica: Uuid, hold: Duration, gone: Duration) -> Result<bool> {
    let now = now(tx).await?;
    let sql = "UPDATE replica SET seen_at = $2 WHERE replica_id = $1";
    let known = tx.execute(sql, values![replica, now]).await? == 1;
    tx.execute("DELETE FROM replica WHERE seen_at < $1", values![now.minus(gone)]).await?;
    let idle =
        "DELETE FROM key_drop WHERE replica_id NOT IN (SELECT replica_id FROM replica WHERE seen_at >= $1)";
    tx.execute(idle, values![now.minus(hold)]).await?;
    Ok(known)
}

/// Takes a replica off the list: it holds no key any more.
///
/// # Errors
/// [`Code::StoreUnavailable`].
pub async fn leave(tx: &Tx, replica: Uuid) -> Result<()> {
    tx.execute("DELETE FROM key_drop WHERE replica_id = $1", values![replica]).await?;
    tx.execute("DELETE FROM replica WHERE replica_id = $1", values![replica]).await.map(drop)
}

/// Asks every other replica to drop keys of records or transfers.
///
/// # Errors
/// [`Code::StoreUnavailable`].
pub async fn drop_ask(tx: &Tx, drop: Uuid, replica: Uuid, about: &[Uuid]) -> Result<()> {
    let others = tx.rows("SELECT replica_id FROM replica WHERE replica_id <> $1", values![replica]).await?;
    let mut rows = Vec::new();
    for other in &others {
        let other: Uuid = other.get("replica_id")?;
        rows.extend(about.iter().map(|about| values![drop, other, *about, tx.now()]));
    }
    let columns = ["drop_id", "replica_id", "about", "at"];
    tx.insert_many("key_drop", &columns, rows, OnConflict::Ignore).await.map(std::mem::drop)
}

/// What a replica is asked to drop: asking and about whom.
///
/// # Errors
/// [`Code::StoreUnavailable`].
pub async fn drop_list(tx: &Tx, replica: Uuid) -> Result<Vec<(Uuid, Uuid)>> {
    let sql = "SELECT drop_id, about FROM key_drop WHERE replica_id = $1";
    let rows = tx.rows(sql, values![replica]).await?;
    rows.iter().map(|row| Ok((row.get("drop_id")?, row.get("about")?))).collect()
}

/// A replica has dropped what it was asked to.
///
/// # Errors
/// [`Code::StoreUnavailable`].
pub async fn drop_done(tx: &Tx, replica: Uuid, done: &[(Uuid, Uuid)]) -> Result<()> {
    let sql = "DELETE FROM key_drop WHERE replica_id = $1 AND drop_id = $2 AND about = $3";
    for (drop, about) in done {
        tx.execute(sql, values![replica, *drop, *about]).await?;
    }
    Ok(())
}

/// How many replicas may still hold the keys: those that have not said otherwise and gave a sign of
/// life within `hold`, after which a replica no longer trusts its own memory. With none, the asking is
/// forgotten.
///
/// # Errors
/// [`Code::StoreUnavailable`].
pub async fn drop_open(tx: &Tx, drop: Uuid, hold: Duration) -> Result<u64> {
    let since = now(tx).await?.minus(hold);
    let sql = "SELECT COUNT(DISTINCT d.replica_id) AS value FROM key_drop d WHERE d.drop_id = $1 AND EXISTS \
               (SELECT 1 FROM replica r WHERE r.replica_id = d.replica_id AND r.seen_at >= $2)";
    let open = tx.scalar(sql, values![drop, since]).await?.unwrap_or(0);
    if open == 0 {
        tx.execute("DELETE FROM key_drop WHERE drop_id = $1", values![drop]).await?;
    }
    Ok(open)
}
