//! Keys in memory with a key service that throttles and denies, and a key store that is slow and falls silent.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use async_trait::async_trait;
use domicile_crypto::{
    DataKey, KeyContext, KeyInfo, KeyService, Purpose, RecordKeyRow, SubjectKeys, SubjectSecret, TransferKey,
    WrappedKey, WrappedKeys, Zeroizing,
};
use domicile_kms::testing::MemoryKeys;
use domicile_types::{Code, Error, PracticeId, Result, SubjectId, TransferId};

use super::process::Process;

/// The key service as a process finds it.
pub(super) struct FaultyService {
    pub(super) inner: Arc<dyn KeyService>,
    pub(super) process: Arc<Process>,
}

impl FaultyService {
    async fn call(&self) -> Result<()> {
        self.process.effect("key service", 3).await;
        if self.process.sky.denied.load(Ordering::Relaxed) {
            return Err(Error::new(Code::KeyDenied).at("simulation"));
        }
        if self.process.chance(&self.process.sky.throttled) {
            return Err(Error::new(Code::KeyUnavailable).at("simulation"));
        }
        Ok(())
    }
}

#[async_trait]
impl KeyService for FaultyService {
    async fn generate_data_key(&self, context: &KeyContext) -> Result<DataKey> {
        self.call().await?;
        self.inner.generate_data_key(context).await
    }
    async fn wrap(&self, context: &KeyContext, plain: &[u8]) -> Result<Vec<u8>> {
        self.call().await?;
        self.inner.wrap(context, plain).await
    }
    async fn unwrap(&self, context: &KeyContext, wrapped: &[u8]) -> Result<Zeroizing<Vec<u8>>> {
        self.call().await?;
        self.inner.unwrap(context, wrapped).await
    }
    fn describe(&self) -> KeyInfo {
        self.inner.describe()
    }
    async fn health(&self) -> Result<()> {
        self.call().await
    }
}

/// The key store as a process finds it.
pub(super) struct FaultyRows {
    pub(super) inner: Arc<MemoryKeys>,
    pub(super) process: Arc<Process>,
}

type Practice = Option<PracticeId>;

impl FaultyRows {
    async fn look(&self) -> Result<()> {
        crate::memory::Weather::before(self.process.as_ref(), "keys", false).await
    }

    async fn change(&self) -> Result<()> {
        crate::memory::Weather::before(self.process.as_ref(), "keys", true).await
    }

    async fn changed<T>(&self, done: Result<T>) -> Result<T> {
        crate::memory::Weather::after(self.process.as_ref(), "keys", done.is_ok()).await?;
        done
    }
}

#[async_trait]
impl WrappedKeys for FaultyRows {
    async fn practice_key(&self, practice: Practice) -> Result<Option<WrappedKey>> {
        self.look().await?;
        self.inner.practice_key(practice).await
    }
    async fn practice_key_at(&self, practice: Practice, version: u32) -> Result<Option<WrappedKey>> {
        self.look().await?;
        self.inner.practice_key_at(practice, version).await
    }
    async fn insert_practice_key(&self, practice: Practice, fresh: &WrappedKey) -> Result<WrappedKey> {
        self.change().await?;
        self.changed(self.inner.insert_practice_key(practice, fresh).await).await
    }
    async fn record_key(&self, subject: SubjectId, practice: Practice) -> Result<Option<WrappedKey>> {
        self.look().await?;
        self.inner.record_key(subject, practice).await
    }
    async fn record_key_at(
        &self,
        subject: SubjectId,
        practice: Practice,
        version: u32,
    ) -> Result<Option<WrappedKey>> {
        self.look().await?;
        self.inner.record_key_at(subject, practice, version).await
    }
    async fn insert_record_key(
        &self,
        subject: SubjectId,
        practice: Practice,
        fresh: &WrappedKey,
    ) -> Result<WrappedKey> {
        self.change().await?;
        self.changed(self.inner.insert_record_key(subject, practice, fresh).await).await
    }
    async fn add_uses(
        &self,
        subject: SubjectId,
        practice: Practice,
        version: u32,
        uses: u64,
    ) -> Result<Option<u64>> {
        self.change().await?;
        self.changed(self.inner.add_uses(subject, practice, version, uses).await).await
    }
    async fn record_keys(&self, subject: SubjectId) -> Result<Vec<RecordKeyRow>> {
        self.look().await?;
        self.inner.record_keys(subject).await
    }
    async fn subject_secret(&self, subject: SubjectId, secret: SubjectSecret) -> Result<Option<Vec<u8>>> {
        self.look().await?;
        self.inner.subject_secret(subject, secret).await
    }
    async fn insert_subject_secret(
        &self,
        subject: SubjectId,
        secret: SubjectSecret,
        wrapped: &[u8],
    ) -> Result<Vec<u8>> {
        self.change().await?;
        self.changed(self.inner.insert_subject_secret(subject, secret, wrapped).await).await
    }
    async fn replace_subject_secret(
        &self,
        subject: SubjectId,
        secret: SubjectSecret,
        wrapped: &[u8],
    ) -> Result<()> {
        self.change().await?;
        self.changed(self.inner.replace_subject_secret(subject, secret, wrapped).await).await
    }
    async fn transfer_key(&self, transfer: TransferId, key: TransferKey) -> Result<Option<Vec<u8>>> {
        self.look().await?;
        self.inner.transfer_key(transfer, key).await
    }
    async fn insert_transfer_key(
        &self,
        transfer: TransferId,
        key: TransferKey,
        wrapped: &[u8],
    ) -> Result<Vec<u8>> {
        self.change().await?;
        self.changed(self.inner.insert_transfer_key(transfer, key, wrapped).await).await
    }
    async fn destroy_transfer_key(&self, transfer: TransferId, key: TransferKey) -> Result<bool> {
        self.change().await?;
        self.changed(self.inner.destroy_transfer_key(transfer, key).await).await
    }
    async fn region_key(&self, purpose: Purpose) -> Result<Option<Vec<u8>>> {
        self.look().await?;
        self.inner.region_key(purpose).await
    }
    async fn insert_region_key(&self, purpose: Purpose, wrapped: &[u8]) -> Result<Vec<u8>> {
        self.change().await?;
        self.changed(self.inner.insert_region_key(purpose, wrapped).await).await
    }
    async fn subject_keys(&self, subject: SubjectId) -> Result<SubjectKeys> {
        self.look().await?;
        self.inner.subject_keys(subject).await
    }
    async fn destroy_subject(&self, subject: SubjectId, keys: &SubjectKeys) -> Result<u64> {
        self.change().await?;
        self.changed(self.inner.destroy_subject(subject, keys).await).await
    }
    async fn count_subject(&self, subject: SubjectId) -> Result<u64> {
        self.look().await?;
        self.inner.count_subject(subject).await
    }
}
