//! Wrong passwords in a row, by the address's blind index or a digest of the account: one count for all
//! replicas.

use domicile_types::{Result, Timestamp};

use crate::{FromRow, Row, Tx, values};

/// Rows forgotten in one go.
const FORGOTTEN: u64 = 64;

/// Tries in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tries {
    /// How many failed, or are under way.
    pub failures: u32,
    /// When the last one was.
    pub last: Timestamp,
}

impl FromRow for Tries {
    fn from_row(row: &Row) -> Result<Self> {
        Ok(Self { failures: row.get("failures")?, last: row.get("last_at")? })
    }
}

/// The tries of an address, locked until the transaction ends.
///
/// # Errors
/// [`Code::StoreUnavailable`](domicile_types::Code::StoreUnavailable).
pub async fn lock(tx: &Tx, index: [u8; 32]) -> Result<Option<Tries>> {
    let new = "INSERT INTO sign_in_try (tried, failures, last_at) VALUES ($1, 0, $2) ON CONFLICT DO NOTHING";
    tx.execute(new, values![index, tx.now()]).await?;
    let sql = format!("SELECT failures, last_at FROM sign_in_try WHERE tried = $1{}", tx.for_update());
    tx.one(&sql, values![index]).await
}

/// Notes a try, and forgets some that are older than `before`.
///
/// # Errors
/// [`Code::StoreUnavailable`](domicile_types::Code::StoreUnavailable).
pub async fn note(tx: &Tx, index: [u8; 32], failures: u32, before: Timestamp) -> Result<()> {
    let sql = "UPDATE sign_in_try SET failures = $2, last_at = $3 WHERE tried = $1";
    tx.execute(sql, values![index, failures, tx.now()]).await?;
    let skip = match tx.backend() {
        crate::Backend::Postgres => " FOR UPDATE SKIP LOCKED",
        crate::Backend::Sqlite => "",
    };
    let old = format!(
        "DELETE FROM sign_in_try WHERE tried IN \
         (SELECT tried FROM sign_in_try WHERE last_at < $1 ORDER BY last_at LIMIT $2{skip})"
    );
    tx.execute(&old, values![before, FORGOTTEN]).await.map(drop)
}

/// The password was right: start over.
///
/// # Errors
/// [`Code::StoreUnavailable`](domicile_types::Code::StoreUnavailable).
pub async fn forgive(tx: &Tx, index: [u8; 32]) -> Result<()> {
    tx.execute("DELETE FROM sign_in_try WHERE tried = $1", values![index]).await.map(drop)
}
