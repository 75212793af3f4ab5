//! Leases on background work: one process at a time holds one, and what it changes is fenced by it.

use domicile_types::{Code, Error, Result, Timestamp};
use uuid::Uuid;

use crate::settings::Backend;
use crate::{Tx, values};

/// Takes or renews the lease of a job; another's that ends before `expired` is over. Answers the fencing
/// token, which rises with every new holder, or `None` while another holds the lease.
///
/// # Errors
/// [`Code::StoreUnavailable`].
pub async fn take(
    tx: &Tx,
    job: &str,
    holder: Uuid,
    until: Timestamp,
    expired: Timestamp,
) -> Result<Option<u64>> {
    let sql = "INSERT INTO job_lease (name, holder, token, until) VALUES ($1, $2, 1, $3) \
               ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, until = excluded.until, \
               token = CASE WHEN job_lease.holder = excluded.holder THEN job_lease.token \
               ELSE job_lease.token + 1 END \
               WHERE job_lease.holder = excluded.holder OR job_lease.until < $4 \
               RETURNING token AS value";
    tx.scalar(sql, values![job, holder, until, expired]).await
}

/// Lets this transaction's commit not wait for the disk: a lease that a crash of the database takes away
/// is only taken again, and every change under it is fenced.
///
/// # Errors
/// [`Code::StoreUnavailable`].
pub async fn relaxed(tx: &Tx) -> Result<()> {
    if tx.backend() == Backend::Postgres {
        tx.execute("SET LOCAL synchronous_commit TO off", values![]).await?;
    }
    Ok(())
}

/// Renews a lease that is still this holder's; `false` when it is not.
///
/// # Errors
/// [`Code::StoreUnavailable`].
pub async fn renew(tx: &Tx, job: &str, holder: Uuid, token: u64, until: Timestamp) -> Result<bool> {
    let sql = "UPDATE job_lease SET until = $4 WHERE name = $1 AND holder = $2 AND token = $3";
    Ok(tx.execute(sql, values![job, holder, token, until]).await? == 1)
}

/// Holds the lease's row for this transaction: whoever takes the lease meanwhile waits.
///
/// # Errors
/// [`Code::TokenStale`] when the token is no longer the lease's; then nothing may be written.
pub async fn fence(tx: &Tx, job: &str, token: u64) -> Result<()> {
    let sql = "UPDATE job_lease SET until = until WHERE name = $1 AND token = $2";
    let held = tx.execute(sql, values![job, token]).await?;
    if held == 1 { Ok(()) } else { Err(stale(job)) }
}

/// As [`fence`], for a holder that runs several transactions side by side: they share the row, and
/// whoever takes the lease waits for all of them.
///
/// # Errors
/// [`Code::TokenStale`] when the lease is another's or gone.
pub async fn share(tx: &Tx, job: &str, holder: Uuid, token: u64) -> Result<()> {
    let lock = match tx.backend() {
        Backend::Postgres => " FOR SHARE",
        Backend::Sqlite => "",
    };
    let sql =
        format!("SELECT token AS value FROM job_lease WHERE name = $1 AND holder = $2 AND token = $3{lock}");
    match tx.scalar::<u64>(&sql, values![job, holder, token]).await? {
        Some(_) => Ok(()),
        None => Err(stale(job)),
    }
}

/// Whether anybody holds the lease at an instant.
///
/// # Errors
/// [`Code::StoreUnavailable`].
pub async fn held(tx: &Tx, job: &str, at: Timestamp) -> Result<bool> {
    let sql = "SELECT COUNT(*) AS value FROM job_lease WHERE name = $1 AND until >= $2";
    Ok(tx.scalar::<i64>(sql, values![job, at]).await?.unwrap_or(0) > 0)
}

/// Gives the lease back before its time, so that another need not wait. The token stays known: the next
/// holder's is higher.
///
/// # Errors
/// [`Code::StoreUnavailable`].
pub async fn end(tx: &Tx, job: &str, holder: Uuid) -> Result<()> {
    let sql = "UPDATE job_lease SET until = 0 WHERE name = $1 AND holder = $2";
    tx.execute(sql, values![job, holder]).await.map(drop)
}

/// Gives the lease back and forgets it: for holders whose name is never used again, so that a token
/// alone proves nothing.
///
/// # Errors
/// [`Code::StoreUnavailable`].
pub async fn forget(tx: &Tx, job: &str, holder: Uuid) -> Result<()> {
    tx.execute("DELETE FROM job_lease WHERE name = $1 AND holder = $2", values![job, holder]).await.map(drop)
}

fn stale(job: &str) -> Error {
    Error::new(Code::TokenStale).at(job)
}
