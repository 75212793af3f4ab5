//! Stores for tests, on both databases: what holds on one must hold on the other.

use std::sync::Arc;

use async_trait::async_trait;
use domicile_store::{Backend, KeyStore, Pseudonyms, Settings, Store, migrate};
use domicile_types::{AccountId, Actor, AuditScope, Ctx, RegionId, RequestId, Result, SubjectId};

use crate::postgres::{Database, Failed, Postgres};

/// The databases of one region, removed when dropped.
pub struct Region {
    /// How to open them.
    pub settings: Settings,
    postgres: Option<Database>,
    folder: Option<tempfile::TempDir>,
}

impl Region {
    /// Fresh databases with this release's schema.
    ///
    /// # Errors
    /// When PostgreSQL is missing, or a database cannot be made.
    pub async fn fresh(name: &str, backend: Backend) -> Result<Self, Failed> {
        match backend {
            Backend::Postgres => {
                let database = Postgres::shared()?.database().await?;
                let settings = settings(
                    name,
                    database.url("domicile_app"),
                    Some(database.url("domicile_sequencer")),
                    database.url("domicile_keys"),
                )?;
                Ok(Self { settings, postgres: Some(database), folder: None })
            }
            Backend::Sqlite => {
                let folder = tempfile::tempdir().map_err(|error| Failed::Io("no temporary folder", error))?;
                let url = |file: &str| format!("sqlite://{}", folder.path().join(file).display());
                let settings = settings(name, url("data.sqlite"), None, url("keys.sqlite"))?;
                migrate(&settings.url, &settings.keys_url, false).await?;
                Ok(Self { settings, postgres: None, folder: Some(folder) })
            }
        }
    }

    /// Opens the data.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub async fn store(&self, ctx: &Ctx) -> Result<Store> {
        Store::open(&self.settings, ctx.clone(), Arc::new(PlainPseudonyms)).await
    }

    /// Opens the key store.
    ///
    /// # Errors
    /// As [`KeyStore::open`].
    pub async fn keys(&self, ctx: &Ctx) -> Result<KeyStore> {
        KeyStore::open(&self.settings, ctx.clone()).await
    }

    /// The PostgreSQL database, for SQL outside the store.
    #[must_use]
    pub fn postgres(&self) -> Option<&Database> {
        self.postgres.as_ref()
    }

    /// The folder of the SQLite files.
    #[must_use]
    pub fn folder(&self) -> Option<&std::path::Path> {
        self.folder.as_ref().map(tempfile::TempDir::path)
    }
}

fn settings(
    name: &str,
    url: String,
    sequencer_url: Option<String>,
    keys_url: String,
) -> Result<Settings, Failed> {
    let region = RegionId::new(name).map_err(|error| Failed::Command(error.to_string()))?;
    Ok(Settings {
        log_origin: format!("domicile.test/{region}"),
        region,
        url,
        sequencer_url,
        keys_url,
        max_connections: 8,
        acquire: std::time::Duration::from_secs(30),
        production: false,
        policy_version: 1,
    })
}

/// Pseudonyms that a test can compute: the person's own id.
pub struct PlainPseudonyms;

#[async_trait]
impl Pseudonyms for PlainPseudonyms {
    async fn subject(&self, subject: SubjectId) -> Result<[u8; 16]> {
        Ok(*subject.as_bytes())
    }
    async fn actor(&self, account: AccountId) -> Result<[u8; 16]> {
        Ok(*account.as_bytes())
    }
}

/// The audit scope of a request of nobody in particular.
#[must_use]
pub fn request(event: &'static str) -> Arc<AuditScope> {
    AuditScope::new(event, Actor::system(), RequestId::generate(&Ctx::system()))
}
