//! The schema's migrations: one set, the same text for both databases, and what PostgreSQL and SQLite
//! each need beside it. Run by `domicile migrate` as the schema's owner.

mod guards;

use domicile_types::{Code, Error, Result};
use sea_orm::{ConnectionTrait as _, DatabaseConnection, DbBackend, DbErr};
use sea_orm_migration::{MigrationName, MigrationTrait, MigratorTrait, SchemaManager};

use crate::failure;
use crate::pool::{Pool, Use};
use crate::protection;
use crate::settings::Backend;

/// PostgreSQL's schema of the key store.
pub(crate) const KEYS_SCHEMA: &str = "domicile_keys";
/// How long to wait for the database.
const CONNECT: std::time::Duration = std::time::Duration::from_secs(30);
/// How long a step waits for a lock of the region's own transactions, and how often it tries. Writers
/// wait behind it for so long at most.
const PATIENCE: &str = "200ms";
const TRIES: u32 = 300;
/// How long it lets them go on before it tries again.
const PAUSE: std::time::Duration = std::time::Duration::from_millis(200);
/// Two migrators at once wait for one another.
const ADVISORY_LOCK: i64 = 0x646f_6d69_6369_6c65;

/// Brings both databases to this release's schema, then sets roles, grants and row-level security
/// anew. Running it again changes nothing, and it may run while replicas serve: what is as it must be is
/// not touched, and a step waits a moment only for a table that is in use. On PostgreSQL both live in the database of `owner_url`
/// (the key store in a schema of its own, `keys_url` is not used) and the roles `domicile_app`,
/// `domicile_sequencer` and `domicile_keys` must exist; on SQLite the two files are created.
///
/// # Errors
/// [`Code::DatabaseRoleUnsafe`] when a role is missing, [`Code::SchemaOutdated`] when the database is of
/// a later release, [`Code::StoreUnavailable`], [`Code::ConfigurationInvalid`].
pub async fn migrate(owner_url: &str, keys_url: &str, production: bool) -> Result<()> {
    let pool = |url, schema| Pool {
        url,
        purpose: Use::Migrate,
        connections: 1,
        tls: production,
        acquire: CONNECT,
        schema,
    };
    match Backend::of(owner_url)? {
        Backend::Sqlite => {
            up::<Data>(pool(owner_url, "public")).await?;
            up::<Keys>(pool(keys_url, KEYS_SCHEMA)).await
        }
        Backend::Postgres => {
            let data = pool(owner_url, "public").open().await?.pool;
            let lock = format!("SELECT pg_advisory_lock({ADVISORY_LOCK}); SET lock_timeout = '{PATIENCE}'");
            data.execute_unprepared(&lock).await.map_err(failure::from_db)?;
            protection::require_roles(&data).await?;
            let schema = format!("CREATE SCHEMA IF NOT EXISTS {KEYS_SCHEMA}");
            data.execute_unprepared(&schema).await.map_err(failure::from_db)?;
            patiently(|| async { applied(Data::up(&data, None).await) }).await?;
            up::<Keys>(pool(owner_url, KEYS_SCHEMA)).await?;
            patiently(|| protection::grant(&data)).await?;
            for table in protection::protected() {
                patiently(|| protection::protect(&data, table)).await?;
            }
            data.close().await.map_err(failure::from_db)
        }
    }
}

/// Runs a step again while the region's own transactions keep it from a lock: each try waits a moment
/// only, because whoever comes after it waits behind it.
async fn patiently<F, D>(step: F) -> Result<()>
where
    F: Fn() -> D,
    D: Future<Output = Result<()>>,
{
    let mut tried = 0;
    loop {
        match step().await {
            Err(error) if tried < TRIES && lost(&error) => {
                tried += 1;
                tokio::time::sleep(PAUSE).await;
            }
            other => return other,
        }
    }
}

/// Whether the step lost against the region's own work.
fn lost(error: &Error) -> bool {
    failure::StoreFailure::of(error).is_some_and(|failure| failure.kind() == failure::Kind::Contended)
}

async fn up<M: MigratorTrait>(pool: Pool<'_>) -> Result<()> {
    let connection = pool.open().await?.pool;
    applied(M::up(&connection, None).await)?;
    connection.close().await.map_err(failure::from_db)
}

/// A migration in the database that this release does not know is a later release's.
fn applied(result: std::result::Result<(), DbErr>) -> Result<()> {
    match result {
        Err(DbErr::Custom(_)) => {
            Err(Error::new(Code::SchemaOutdated).at("the database is of a later release"))
        }
        other => other.map_err(failure::from_db),
    }
}

/// Whether a database has exactly this release's migrations.
pub(crate) async fn current<M: MigratorTrait>(connection: &DatabaseConnection) -> Result<()> {
    let outdated = |_| Error::new(Code::SchemaOutdated);
    let pending = M::get_pending_migrations_read_only(connection).await;
    if pending.map_err(outdated)?.is_empty() { Ok(()) } else { Err(Error::new(Code::SchemaOutdated)) }
}

/// A digest over everything that makes up the schema, as hexadecimal text: two builds with the same
/// digest make the same databases.
#[must_use]
pub fn schema_digest() -> String {
    let parts = [
        include_str!("schema.sql"),
        include_str!("replicas.sql"),
        include_str!("keys.sql"),
        guards::POSTGRES,
        guards::FUNCTIONS,
        guards::SQLITE,
    ];
    let mut text = parts.join("\n");
    text.push_str(&protection::text());
    domicile_crypto::sha256(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The name of the newest migration of the data, as the health report shows it.
pub(crate) const SCHEMA: &str = "0003_functions";

/// Migrations of the data.
pub(crate) struct Data;

impl MigratorTrait for Data {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            Box::new(Step {
                name: "0001_schema",
                both: include_str!("schema.sql"),
                sqlite: guards::SQLITE,
                postgres: guards::POSTGRES,
            }),
            Box::new(Step {
                name: "0002_replicas",
                both: include_str!("replicas.sql"),
                sqlite: "",
                postgres: "",
            }),
            Box::new(Step { name: SCHEMA, both: "", sqlite: "", postgres: guards::FUNCTIONS }),
        ]
    }
}

/// Migrations of the key store.
pub(crate) struct Keys;

impl MigratorTrait for Keys {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![Box::new(Step { name: "0001_keys", both: include_str!("keys.sql"), sqlite: "", postgres: "" })]
    }
}

/// One migration: the text for both databases, then what each needs beside it.
struct Step {
    name: &'static str,
    both: &'static str,
    sqlite: &'static str,
    postgres: &'static str,
}

impl MigrationName for Step {
    fn name(&self) -> &str {
        self.name
    }
}

#[expect(elided_lifetimes_in_paths, reason = "async_trait must see the signature as sea-orm wrote it")]
#[async_trait::async_trait]
impl MigrationTrait for Step {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> std::result::Result<(), DbErr> {
        let connection = manager.get_connection();
        let (text, beside) = match manager.get_database_backend() {
            DbBackend::Sqlite => (sqlite(self.both), self.sqlite),
            _ => (self.both.to_owned(), self.postgres),
        };
        for part in [text.as_str(), beside].into_iter().filter(|part| !part.is_empty()) {
            connection.execute_unprepared(part).await?;
        }
        Ok(())
    }

    async fn down(&self, _: &SchemaManager) -> std::result::Result<(), DbErr> {
        Err(DbErr::Migration("migrations only go forward".to_owned()))
    }
}

/// SQLite's words for the types, and STRICT tables, which hold nothing else.
fn sqlite(text: &str) -> String {
    let typed = text
        .replace(" UUID", " BLOB")
        .replace(" BYTEA", " BLOB")
        .replace(" BIGINT", " INTEGER")
        .replace(" BOOLEAN", " INTEGER");
    let mut out = String::with_capacity(typed.len());
    let mut table = false;
    for line in typed.lines() {
        table |= line.starts_with("CREATE TABLE");
        if table && line == ");" {
            out.push_str(") STRICT;");
            table = false;
        } else {
            out.push_str(line);
        }
        out.push('\n');
    }
    out
}
