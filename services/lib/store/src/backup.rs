//! Proof that a record received is in a backup, before its source may destroy its keys (transfer.md,
//! *Rekeyed*): on SQLite an online copy of both files, on PostgreSQL an archive or a replica that is past
//! the present position.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use domicile_types::{Code, Error, Result};
use sea_orm::{ConnectionTrait as _, DbBackend, Statement};

use crate::engine::Engine;
use crate::failure;
use crate::pool::{Pool, Use};
use crate::protection::query;
use crate::settings::{Backend, Settings};
use crate::{KeyStore, Store, values};

/// How many copies are kept; each holds everything.
const KEPT: usize = 3;
/// How often PostgreSQL's archive and replicas are asked for their position.
const LOOKS: u32 = 120;
const CONNECT: std::time::Duration = std::time::Duration::from_secs(30);
const BETWEEN_LOOKS: std::time::Duration = std::time::Duration::from_millis(500);

/// Makes backups of a region's data and keys together.
#[derive(Clone)]
pub struct Backups {
    data: Arc<Engine>,
    keys: Arc<Engine>,
    settings: Settings,
    directory: Option<PathBuf>,
    one: Arc<tokio::sync::Mutex<()>>,
}

impl Backups {
    /// Backups of these stores; SQLite's go into `directory`.
    #[must_use]
    pub fn new(store: &Store, keys: &KeyStore, settings: &Settings, directory: Option<PathBuf>) -> Self {
        Self {
            data: Arc::clone(&store.inner.engine),
            keys: Arc::clone(&keys.engine),
            settings: settings.clone(),
            directory,
            one: Arc::default(),
        }
    }

    /// Waits for a backup that covers everything committed before the call; answers with its digest.
    /// Nobody's departure leaves half a copy behind.
    ///
    /// # Errors
    /// [`Code::BackupMissing`] on SQLite without a directory, and on PostgreSQL when neither archive nor
    /// replica is past the position within a minute; [`Code::StoreUnavailable`] when a copy cannot be
    /// written.
    pub async fn take(&self) -> Result<[u8; 32]> {
        let this = self.clone();
        let task = tokio::spawn(async move {
            let _alone = this.one.lock().await;
            match this.data.backend {
                Backend::Sqlite => this.copy().await,
                Backend::Postgres => this.position().await,
            }
        });
        task.await.unwrap_or_else(|_| Err(Error::new(Code::Internal)))
    }

    /// Data first, keys after: a key is committed before its first use, so the copy of the keys opens
    /// all of the copy of the data.
    async fn copy(&self) -> Result<[u8; 32]> {
        let directory = self.directory.as_ref();
        let directory =
            directory.ok_or_else(|| Error::new(Code::BackupMissing).at("database.backup_directory"))?;
        std::fs::create_dir_all(directory).map_err(unwritable)?;
        let stem = format!("{}-{:020}", self.data.region, self.data.ctx.now().micros());
        let data = directory.join(format!("{stem}.data.sqlite"));
        let keys = directory.join(format!("{stem}.keys.sqlite"));
        self.data.ctx.faults.before("backup.take");
        copy(&self.settings.url, &data).await?;
        copy(&self.settings.keys_url, &keys).await?;
        let mut text = format!("domicile backup\n{stem}\n").into_bytes();
        text.extend(digest(&data)?);
        text.extend(digest(&keys)?);
        prune(directory, &self.data.region.to_string())?;
        self.data.ctx.faults.after("backup.take");
        Ok(domicile_crypto::sha256(&text))
    }

    async fn position(&self) -> Result<[u8; 32]> {
        let data = self.covered(&self.data).await?;
        let keys = self.covered(&self.keys).await?;
        Ok(domicile_crypto::sha256(
            format!("domicile backup\n{}\n{data}\n{keys}\n", self.data.region).as_bytes(),
        ))
    }

    /// The present position, once an archive or a replica is past it. In development the server's own
    /// disk has to do.
    async fn covered(&self, engine: &Engine) -> Result<String> {
        let sql = "SELECT pg_current_wal_lsn()::text AS lsn, \
                   pg_walfile_name(pg_current_wal_lsn()) AS segment";
        let rows = query(&engine.writer.pool, sql, Vec::new()).await?;
        let row = rows.first().ok_or_else(|| Error::new(Code::StoreUnavailable))?;
        let (lsn, segment): (String, String) = (row.get("lsn")?, row.get("segment")?);
        if !self.settings.production {
            return Ok(lsn);
        }
        let sql = "SELECT EXISTS (SELECT 1 FROM pg_stat_archiver WHERE last_archived_wal >= $2) \
                     OR EXISTS (SELECT 1 FROM pg_stat_replication WHERE flush_lsn >= $1::pg_lsn) AS covered";
        for _ in 0..LOOKS {
            let rows = query(&engine.writer.pool, sql, values![&lsn, &segment]).await?;
            if rows.first().map_or(Ok(false), |row| row.get("covered"))? {
                return Ok(lsn);
            }
            tokio::time::sleep(BETWEEN_LOOKS).await;
        }
        Err(Error::new(Code::BackupMissing).at("neither archive nor replica is past the record"))
    }
}

/// An online copy: complete and durable under its name, or not there.
async fn copy(url: &str, to: &Path) -> Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let part = to.with_extension("part");
    if part.exists() {
        std::fs::remove_file(&part).map_err(unwritable)?;
    }
    // SQLite accepts an empty file; made here, it is for its owner alone.
    std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&part).map_err(unwritable)?;
    // A connection of its own: the writer goes on meanwhile.
    let pool =
        Pool { url, purpose: Use::Write, connections: 1, tls: false, acquire: CONNECT, schema: "public" };
    let connection = pool.open().await?.pool;
    let path = part
        .to_str()
        .ok_or_else(|| Error::new(Code::ConfigurationInvalid).at("database.backup_directory"))?;
    let values = values![path].into_iter().map(|value| value.0);
    let statement = Statement::from_sql_and_values(DbBackend::Sqlite, "VACUUM INTO $1", values);
    connection.execute_raw(statement).await.map_err(failure::from_db)?;
    connection.close().await.map_err(failure::from_db)?;
    File::open(&part).and_then(|file| file.sync_all()).map_err(unwritable)?;
    std::fs::rename(&part, to).map_err(unwritable)?;
    let folder = to.parent().unwrap_or(Path::new("."));
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(unwritable)
}

/// SHA-256 over the SHA-256 of each MiB.
fn digest(path: &Path) -> Result<[u8; 32]> {
    let mut file = File::open(path).map_err(unwritable)?;
    let mut digests = Vec::new();
    loop {
        let mut piece = Vec::new();
        file.by_ref().take(1 << 20).read_to_end(&mut piece).map_err(unwritable)?;
        if piece.is_empty() {
            return Ok(domicile_crypto::sha256(&digests));
        }
        digests.extend(domicile_crypto::sha256(&piece));
    }
}

/// Removes all but the newest copies; names sort by time.
fn prune(directory: &Path, region: &str) -> Result<()> {
    for end in [".data.sqlite", ".keys.sqlite"] {
        let mut copies: Vec<PathBuf> = std::fs::read_dir(directory)
            .map_err(unwritable)?
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| {
                let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
                name.starts_with(&format!("{region}-")) && name.ends_with(end)
            })
            .collect();
        copies.sort();
        for old in copies.iter().rev().skip(KEPT) {
            std::fs::remove_file(old).map_err(unwritable)?;
        }
    }
    Ok(())
}

fn unwritable(error: std::io::Error) -> Error {
    Error::new(Code::BackupMissing).at("database.backup_directory").because(error)
}
