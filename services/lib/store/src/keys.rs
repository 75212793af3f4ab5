//! The key store: wrapped keys apart from the data, in a file of their own on SQLite, in a schema with a
//! role of its own on PostgreSQL, so that their backups can be kept shorter than the data's.

use std::sync::Arc;

use async_trait::async_trait;
use domicile_crypto::{
    Purpose, RecordKeyRow, SubjectKeys, SubjectSecret, TransferKey, WrappedKey, WrappedKeys,
};
use domicile_types::{Code, Ctx, Error, PracticeId, Result, SubjectId, TransferId};

use crate::check;
use crate::engine::{Engine, Mode, Plan, Work};
use crate::migrate::KEYS_SCHEMA;
use crate::pool::{Pool, Use};
use crate::queries::keys;
use crate::scope::Scope;
use crate::settings::{Backend, Settings};

/// The most connections of each pool of the key store: its transactions are single statements.
const CONNECTIONS: u32 = 4;

/// The region's key store. Cheap to clone. Every insert and removal is durable when it returns, and
/// none of its calls is cancelled by a caller that goes away.
#[derive(Clone)]
pub struct KeyStore {
    pub(crate) engine: Arc<Engine>,
}

impl KeyStore {
    /// Opens the key store as its own role.
    ///
    /// # Errors
    /// As [`Store::open`](crate::Store::open).
    pub async fn open(settings: &Settings, ctx: Ctx) -> Result<Self> {
        let backend = Backend::of(&settings.keys_url)?;
        if backend == Backend::Sqlite && settings.production {
            return Err(Error::new(Code::ConfigurationUnsafe).at("database.keys_url"));
        }
        let pool = |purpose| Pool {
            url: &settings.keys_url,
            purpose,
            connections: settings.max_connections.min(CONNECTIONS),
            tls: settings.production,
            acquire: settings.acquire,
            schema: KEYS_SCHEMA,
        };
        let writer = pool(Use::Write).open().await?;
        check::keys(&writer.pool, backend).await?;
        let reader = pool(Use::Read).open().await?;
        let region = settings.region.clone();
        Ok(Self { engine: Arc::new(Engine { backend, region, ctx, writer, reader, sequencer: None }) })
    }

    /// Waits for what runs and closes every connection.
    ///
    /// # Errors
    /// [`Code::StoreUnavailable`] when a connection does not close.
    pub async fn close(self) -> Result<()> {
        self.engine.close().await
    }

    async fn read<T: Send + 'static>(&self, name: &'static str, work: impl Work<T>) -> Result<T> {
        let plan = Plan { name, mode: Mode::Read, scope: Scope::System, audit: None };
        self.engine.run(plan, work).await
    }

    async fn write<T: Send + 'static>(&self, name: &'static str, work: impl Work<T>) -> Result<T> {
        let plan = Plan { name, mode: Mode::Write, scope: Scope::System, audit: None };
        self.engine.run(plan, work).await
    }
}

#[async_trait]
impl WrappedKeys for KeyStore {
    async fn practice_key(&self, practice: Option<PracticeId>) -> Result<Option<WrappedKey>> {
        self.read("keys.practice", move |tx| Box::pin(keys::practice_key_get(tx, practice, None))).await
    }

    async fn practice_key_at(
        &self,
        practice: Option<PracticeId>,
        version: u32,
    ) -> Result<Option<WrappedKey>> {
        self.read("keys.practice_at", move |tx| Box::pin(keys::practice_key_get(tx, practice, Some(version))))
            .await
    }

    async fn insert_practice_key(
        &self,
        practice: Option<PracticeId>,
        key: &WrappedKey,
    ) -> Result<WrappedKey> {
        let key = Arc::new(key.clone());
        self.write("keys.practice_add", move |tx| {
            let key = Arc::clone(&key);
            Box::pin(async move { keys::practice_key_add(tx, practice, &key).await })
        })
        .await
    }

    async fn record_key(
        &self,
        subject: SubjectId,
        practice: Option<PracticeId>,
    ) -> Result<Option<WrappedKey>> {
        self.read("keys.record", move |tx| Box::pin(keys::record_key_get(tx, subject, practice, None))).await
    }

    async fn record_key_at(
        &self,
        subject: SubjectId,
        practice: Option<PracticeId>,
        version: u32,
    ) -> Result<Option<WrappedKey>> {
        self.read("keys.record_at", move |tx| {
            Box::pin(keys::record_key_get(tx, subject, practice, Some(version)))
        })
        .await
    }

    async fn insert_record_key(
        &self,
        subject: SubjectId,
        practice: Option<PracticeId>,
        key: &WrappedKey,
    ) -> Result<WrappedKey> {
        let key = Arc::new(key.clone());
        self.write("keys.record_add", move |tx| {
            let key = Arc::clone(&key);
            Box::pin(async move { keys::record_key_add(tx, subject, practice, &key).await })
        })
        .await
    }

    async fn add_uses(
        &self,
        subject: SubjectId,
        practice: Option<PracticeId>,
        version: u32,
        uses: u64,
    ) -> Result<Option<u64>> {
        self.write("keys.record_use", move |tx| {
            Box::pin(keys::record_key_use(tx, subject, practice, version, uses))
        })
        .await
    }

    async fn record_keys(&self, subject: SubjectId) -> Result<Vec<RecordKeyRow>> {
        self.read("keys.record_list", move |tx| Box::pin(keys::record_key_list(tx, subject))).await
    }

    async fn subject_secret(&self, subject: SubjectId, secret: SubjectSecret) -> Result<Option<Vec<u8>>> {
        self.read("keys.secret", move |tx| Box::pin(keys::subject_secret_get(tx, subject, secret))).await
    }

    async fn insert_subject_secret(
        &self,
        subject: SubjectId,
        secret: SubjectSecret,
        wrapped: &[u8],
    ) -> Result<Vec<u8>> {
        let wrapped: Arc<[u8]> = wrapped.into();
        self.write("keys.secret_add", move |tx| {
            let wrapped = Arc::clone(&wrapped);
            Box::pin(async move { keys::subject_secret_add(tx, subject, secret, &wrapped).await })
        })
        .await
    }

    async fn replace_subject_secret(
        &self,
        subject: SubjectId,
        secret: SubjectSecret,
        wrapped: &[u8],
    ) -> Result<()> {
        let wrapped: Arc<[u8]> = wrapped.into();
        self.write("keys.secret_put", move |tx| {
            let wrapped = Arc::clone(&wrapped);
            Box::pin(async move { keys::subject_secret_put(tx, subject, secret, &wrapped).await })
        })
        .await
    }

    async fn transfer_key(&self, transfer: TransferId, key: TransferKey) -> Result<Option<Vec<u8>>> {
        self.read("keys.transfer", move |tx| Box::pin(keys::transfer_key_get(tx, transfer, key))).await
    }

    async fn insert_transfer_key(
        &self,
        transfer: TransferId,
        key: TransferKey,
        wrapped: &[u8],
    ) -> Result<Vec<u8>> {
        let wrapped: Arc<[u8]> = wrapped.into();
        self.write("keys.transfer_add", move |tx| {
            let wrapped = Arc::clone(&wrapped);
            Box::pin(async move { keys::transfer_key_add(tx, transfer, key, &wrapped).await })
        })
        .await
    }

    async fn destroy_transfer_key(&self, transfer: TransferId, key: TransferKey) -> Result<bool> {
        let gone = self
            .write("keys.transfer_destroy", move |tx| Box::pin(keys::transfer_key_destroy(tx, transfer, key)))
            .await?;
        self.engine.scrub().await?;
        Ok(gone)
    }

    async fn region_key(&self, purpose: Purpose) -> Result<Option<Vec<u8>>> {
        self.read("keys.region", move |tx| Box::pin(keys::region_key_get(tx, purpose))).await
    }

    async fn insert_region_key(&self, purpose: Purpose, wrapped: &[u8]) -> Result<Vec<u8>> {
        let wrapped: Arc<[u8]> = wrapped.into();
        self.write("keys.region_add", move |tx| {
            let wrapped = Arc::clone(&wrapped);
            Box::pin(async move { keys::region_key_add(tx, purpose, &wrapped).await })
        })
        .await
    }

    async fn subject_keys(&self, subject: SubjectId) -> Result<SubjectKeys> {
        self.read("keys.subject", move |tx| Box::pin(keys::subject_keys(tx, subject))).await
    }

    async fn destroy_subject(&self, subject: SubjectId, these: &SubjectKeys) -> Result<u64> {
        let these = Arc::new(these.clone());
        let destroy = self.write("keys.subject_destroy", move |tx| {
            let these = Arc::clone(&these);
            Box::pin(async move { keys::subject_destroy(tx, subject, &these).await })
        });
        let gone = destroy.await?;
        self.engine.scrub().await?;
        Ok(gone)
    }

    async fn count_subject(&self, subject: SubjectId) -> Result<u64> {
        self.read("keys.subject_count", move |tx| Box::pin(keys::subject_count(tx, subject))).await
    }
}
