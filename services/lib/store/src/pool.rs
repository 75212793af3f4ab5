//! Connections. PostgreSQL: a pool that writes and one that reads one snapshot. SQLite: one
//! connection that writes and a pool that reads, so that no reader ever turns into a writer.

use std::path::Path;
use std::time::Duration;

use domicile_types::{Code, Error, Result};
use sea_orm::{DatabaseConnection, SqlxPostgresConnector, SqlxSqliteConnector};
use sqlx::ConnectOptions as _;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions, PgSslMode};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};

use crate::engine::Access;
use crate::failure;
use crate::hot::{Hot, SPARE};
use crate::nagle;
use crate::settings::{Backend, sqlite_path};

/// How long SQLite waits for another process's lock.
const BUSY: Duration = Duration::from_secs(5);

/// What a pool is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Use {
    /// Transactions that change something.
    Write,
    /// Transactions that only read, each from one snapshot.
    Read,
    /// Migrations: one connection, no statement timeout.
    Migrate,
}

/// A pool to open.
#[derive(Clone, Copy)]
pub(crate) struct Pool<'a> {
    pub(crate) url: &'a str,
    pub(crate) purpose: Use,
    /// At most; SQLite's writer is always one.
    pub(crate) connections: u32,
    /// Whether TLS 1.3 is needed even to this machine.
    pub(crate) tls: bool,
    /// How long to wait for a free connection.
    pub(crate) acquire: Duration,
    /// PostgreSQL's schema.
    pub(crate) schema: &'static str,
}

impl Pool<'_> {
    /// Connects.
    pub(crate) async fn open(self) -> Result<Access> {
        match Backend::of(self.url)? {
            Backend::Postgres => {
                let pool = postgres(self).await?;
                let hot = Hot::new(pool.clone(), self.connections.max(1), self.acquire);
                Ok(Access { pool: SqlxPostgresConnector::from_sqlx_postgres_pool(pool), hot: Some(hot) })
            }
            Backend::Sqlite => Ok(Access { pool: sqlite(&sqlite_path(self.url)?, self).await?, hot: None }),
        }
    }
}

async fn postgres(Pool { url, purpose, connections, tls, acquire, schema }: Pool<'_>) -> Result<PgPool> {
    let invalid = || Error::new(Code::ConfigurationInvalid).at("database.url");
    let options: PgConnectOptions = url.parse().map_err(|_| invalid())?;
    let needs_tls = tls || !local(&options);
    if needs_tls && !matches!(options.get_ssl_mode(), PgSslMode::VerifyFull) {
        return Err(Error::new(Code::ConfigurationUnsafe).at("database.url: sslmode=verify-full is needed"));
    }
    let mut settings = vec![("timezone", "UTC"), ("search_path", schema)];
    if purpose != Use::Migrate {
        // Compiling a query costs more than any of ours.
        settings.push(("jit", "off"));
    }
    match purpose {
        Use::Write => settings.extend([
            ("statement_timeout", "30s"),
            ("lock_timeout", "5s"),
            ("idle_in_transaction_session_timeout", "60s"),
        ]),
        Use::Read => settings.extend([
            ("statement_timeout", "30s"),
            ("idle_in_transaction_session_timeout", "60s"),
            ("default_transaction_read_only", "on"),
            ("default_transaction_isolation", "repeatable read"),
        ]),
        Use::Migrate => {}
    }
    let options = options.application_name("domicile").options(settings).disable_statement_logging();
    if needs_tls {
        // Said at once, and by name: inside a pool it would look like a server that does not answer.
        let mut first = options.connect().await.map_err(|error| unproved(&error))?;
        if !tls_1_3(&mut first).await.map_err(|error| failure::from_sqlx(&error))? {
            return Err(Error::new(Code::ConfigurationUnsafe).at("database.url: the server has no TLS 1.3"));
        }
    }
    let connections = if purpose == Use::Migrate { 1 } else { connections.max(1) + SPARE };
    let port = options.get_port();
    PgPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(acquire)
        .after_connect(move |connection, _| {
            Box::pin(async move {
                if let Err(cause) = nagle::off(port) {
                    tracing::warn!(%cause, "large statements will wait 40 ms: Nagle's algorithm stays on");
                }
                if needs_tls && !tls_1_3(connection).await? {
                    return Err(sqlx::Error::Protocol("the database connection is not TLS 1.3".to_owned()));
                }
                Ok(())
            })
        })
        .connect_with(options)
        .await
        .map_err(|error| failure::opening(&error))
}

/// A server that has no TLS, or whose certificate does not prove who it is, is said to be so.
fn unproved(error: &sqlx::Error) -> Error {
    let refused = match error {
        sqlx::Error::Tls(_) => true,
        sqlx::Error::Io(cause) => cause.kind() == std::io::ErrorKind::InvalidData,
        _ => false,
    };
    let failure = failure::opening(error);
    if refused {
        let what = "database.url: no TLS 1.3, or a certificate that is not trusted for this name";
        Error::new(Code::ConfigurationUnsafe).at(what).because(failure)
    } else {
        failure
    }
}

/// Whether the server is on this machine.
fn local(options: &PgConnectOptions) -> bool {
    options.get_socket().is_some()
        || options.get_host().starts_with('/')
        || matches!(options.get_host(), "localhost" | "127.0.0.1" | "::1" | "[::1]")
}

/// P7: encrypted and verified; an older protocol is refused.
async fn tls_1_3(connection: &mut sqlx::PgConnection) -> Result<bool, sqlx::Error> {
    let sql = "SELECT version FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    let version: Option<Option<String>> = sqlx::query_scalar(sql).fetch_optional(connection).await?;
    Ok(version.flatten().as_deref() == Some("TLSv1.3"))
}

async fn sqlite(
    path: &Path,
    Pool { purpose, connections, acquire, .. }: Pool<'_>,
) -> Result<DatabaseConnection> {
    if purpose == Use::Migrate {
        create_private(path)?;
    }
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(false)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(BUSY)
        .foreign_keys(true)
        // Deleted content is overwritten, not only forgotten.
        .pragma("secure_delete", "ON")
        .pragma("query_only", if purpose == Use::Read { "ON" } else { "OFF" })
        .disable_statement_logging();
    let connections = if purpose == Use::Read { connections.max(1) } else { 1 };
    let pool = SqlitePoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(acquire)
        // The writer stays open: closing the last connection would checkpoint and delete the WAL each time.
        .idle_timeout(None)
        .max_lifetime(None)
        .connect_with(options)
        .await
        .map_err(|error| failure::from_sqlx(&error))?;
    Ok(SqlxSqliteConnector::from_sqlx_sqlite_pool(pool))
}

/// Creates the file for its owner alone; the write-ahead log takes its mode from it.
fn create_private(path: &Path) -> Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map(drop)
        .map_err(|error| Error::new(Code::StoreUnavailable).at("database.url").because(error))
}
