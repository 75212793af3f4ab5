//! The audit log's tables: the writers' half. Entries come in through
//! [`Tx::audit`](crate::Tx::audit) and [`Store::audit_now`](crate::Store::audit_now).

use domicile_types::{Code, Error, Result, Timestamp};
use sea_orm::{ConnectionTrait as _, DatabaseConnection, DbBackend, Statement};
use uuid::Uuid;

use crate::failure;
use crate::settings::Backend;
use crate::value::Row;
use crate::values;

/// Registers a process as a writer; its epoch is above all before.
pub(crate) async fn writer_register(
    (pool, backend): (&DatabaseConnection, Backend),
    writer: Uuid,
    now: Timestamp,
) -> Result<u64> {
    let backend = match backend {
        Backend::Postgres => DbBackend::Postgres,
        Backend::Sqlite => DbBackend::Sqlite,
    };
    let sql = "INSERT INTO audit_writer (writer, epoch, started_at) \
               SELECT $1, COALESCE(MAX(epoch), 0) + 1, $2 FROM audit_writer RETURNING epoch AS value";
    let values = values![writer, now].into_iter().map(|value| value.0);
    let row = pool.query_one_raw(Statement::from_sql_and_values(backend, sql, values)).await;
    let row = row.map_err(failure::from_db)?.ok_or_else(|| Error::new(Code::Internal))?;
    Row(row).get("value")
}
