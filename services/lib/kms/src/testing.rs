//! Keys in memory, for tests of this and other crates. Real sealing, no files, no database.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use domicile_crypto::{
    KeyService, Purpose, RecordKeyRow, SubjectKeys, SubjectSecret, TransferKey, WrappedKey, WrappedKeys,
};
use domicile_types::{Ctx, PracticeId, RegionId, Result, SubjectId, TransferId};

use crate::{Keyring, LocalKeys};

/// A key service whose root key is gone with the process.
#[must_use]
pub fn key_service(ctx: &Ctx) -> Arc<dyn KeyService> {
    Arc::new(LocalKeys::in_memory(ctx))
}

/// A keyring over a key service and wrapped keys in memory.
#[must_use]
pub fn keyring(region: RegionId, ctx: &Ctx) -> Arc<Keyring> {
    Arc::new(Keyring::new(key_service(ctx), Arc::new(MemoryKeys::default()), region, ctx.clone()))
}

type Practice = Option<PracticeId>;

/// Wrapped keys in memory. Every method lets other tasks go first, so that races happen in tests as they
/// do over a database.
#[derive(Default)]
pub struct MemoryKeys(Mutex<Tables>);

#[derive(Default)]
struct Tables {
    practices: BTreeMap<(Practice, u32), Vec<u8>>,
    records: BTreeMap<(SubjectId, Practice, u32), (Vec<u8>, u64)>,
    secrets: BTreeMap<(SubjectId, SubjectSecret), Vec<u8>>,
    transfers: BTreeMap<(TransferId, TransferKey), Vec<u8>>,
    regions: BTreeMap<Purpose, Vec<u8>>,
}

impl MemoryKeys {
    async fn turn(&self) -> MutexGuard<'_, Tables> {
        tokio::task::yield_now().await;
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn key(version: u32, wrapped: &[u8]) -> WrappedKey {
    WrappedKey { version, wrapped: wrapped.to_vec() }
}

#[async_trait]
impl WrappedKeys for MemoryKeys {
    async fn practice_key(&self, practice: Practice) -> Result<Option<WrappedKey>> {
        let tables = self.turn().await;
        let mut versions = tables.practices.range((practice, 0)..=(practice, u32::MAX));
        Ok(versions.next_back().map(|((_, version), wrapped)| key(*version, wrapped)))
    }

    async fn practice_key_at(&self, practice: Practice, version: u32) -> Result<Option<WrappedKey>> {
        Ok(self.turn().await.practices.get(&(practice, version)).map(|wrapped| key(version, wrapped)))
    }

    async fn insert_practice_key(&self, practice: Practice, fresh: &WrappedKey) -> Result<WrappedKey> {
        let mut tables = self.turn().await;
        let place = (practice, fresh.version);
        let standing = tables.practices.entry(place).or_insert_with(|| fresh.wrapped.clone());
        Ok(key(fresh.version, standing))
    }

    async fn record_key(&self, subject: SubjectId, practice: Practice) -> Result<Option<WrappedKey>> {
        let tables = self.turn().await;
        let mut versions = tables.records.range((subject, practice, 0)..=(subject, practice, u32::MAX));
        Ok(versions.next_back().map(|((_, _, version), (wrapped, _))| key(*version, wrapped)))
    }

    async fn record_key_at(
        &self,
        subject: SubjectId,
        practice: Practice,
        version: u32,
    ) -> Result<Option<WrappedKey>> {
        let tables = self.turn().await;
        Ok(tables.records.get(&(subject, practice, version)).map(|(wrapped, _)| key(version, wrapped)))
    }

    async fn insert_record_key(
        &self,
        subject: SubjectId,
        practice: Practice,
        fresh: &WrappedKey,
    ) -> Result<WrappedKey> {
        let mut tables = self.turn().await;
        let place = (subject, practice, fresh.version);
        let standing = tables.records.entry(place).or_insert_with(|| (fresh.wrapped.clone(), 0));
        Ok(key(fresh.version, &standing.0))
    }

    async fn add_uses(
        &self,
        subject: SubjectId,
        practice: Practice,
        version: u32,
        uses: u64,
    ) -> Result<Option<u64>> {
        Ok(self.turn().await.records.get_mut(&(subject, practice, version)).map(|(_, total)| {
            *total = total.saturating_add(uses);
            *total
        }))
    }

    async fn record_keys(&self, subject: SubjectId) -> Result<Vec<RecordKeyRow>> {
        let tables = self.turn().await;
        let own = tables.records.iter().filter(|((owner, ..), _)| *owner == subject);
        Ok(own
            .map(|((_, practice, version), (_, uses))| RecordKeyRow {
                practice: *practice,
                version: *version,
                uses: *uses,
            })
            .collect())
    }

    async fn subject_secret(&self, subject: SubjectId, secret: SubjectSecret) -> Result<Option<Vec<u8>>> {
        Ok(self.turn().await.secrets.get(&(subject, secret)).cloned())
    }

    async fn insert_subject_secret(
        &self,
        subject: SubjectId,
        secret: SubjectSecret,
        wrapped: &[u8],
    ) -> Result<Vec<u8>> {
        let mut tables = self.turn().await;
        Ok(tables.secrets.entry((subject, secret)).or_insert_with(|| wrapped.to_vec()).clone())
    }

    async fn replace_subject_secret(
        &self,
        subject: SubjectId,
        secret: SubjectSecret,
        wrapped: &[u8],
    ) -> Result<()> {
        self.turn().await.secrets.insert((subject, secret), wrapped.to_vec());
        Ok(())
    }

    async fn transfer_key(&self, transfer: TransferId, key: TransferKey) -> Result<Option<Vec<u8>>> {
        Ok(self.turn().await.transfers.get(&(transfer, key)).cloned())
    }

    async fn insert_transfer_key(
        &self,
        transfer: TransferId,
        key: TransferKey,
        wrapped: &[u8],
    ) -> Result<Vec<u8>> {
        let mut tables = self.turn().await;
        Ok(tables.transfers.entry((transfer, key)).or_insert_with(|| wrapped.to_vec()).clone())
    }

    async fn destroy_transfer_key(&self, transfer: TransferId, key: TransferKey) -> Result<bool> {
        Ok(self.turn().await.transfers.remove(&(transfer, key)).is_some())
    }

    async fn region_key(&self, purpose: Purpose) -> Result<Option<Vec<u8>>> {
        Ok(self.turn().await.regions.get(&purpose).cloned())
    }

    async fn insert_region_key(&self, purpose: Purpose, wrapped: &[u8]) -> Result<Vec<u8>> {
        Ok(self.turn().await.regions.entry(purpose).or_insert_with(|| wrapped.to_vec()).clone())
    }

    async fn subject_keys(&self, subject: SubjectId) -> Result<SubjectKeys> {
        let tables = self.turn().await;
        let records = tables.records.iter().filter(|((owner, ..), _)| *owner == subject);
        let secrets = tables.secrets.iter().filter(|((owner, _), _)| *owner == subject);
        Ok(records
            .map(|(_, (wrapped, _))| wrapped)
            .chain(secrets.map(|(_, wrapped)| wrapped))
            .cloned()
            .collect())
    }

    async fn destroy_subject(&self, subject: SubjectId, keys: &SubjectKeys) -> Result<u64> {
        let mut tables = self.turn().await;
        let before = tables.records.len() + tables.secrets.len();
        tables.records.retain(|(owner, ..), (wrapped, _)| *owner != subject || !keys.contains(wrapped));
        tables.secrets.retain(|(owner, _), wrapped| *owner != subject || !keys.contains(wrapped));
        Ok((before - tables.records.len() - tables.secrets.len()) as u64)
    }

    async fn count_subject(&self, subject: SubjectId) -> Result<u64> {
        let tables = self.turn().await;
        let records = tables.records.keys().filter(|(owner, ..)| *owner == subject).count();
        let secrets = tables.secrets.keys().filter(|(owner, _)| *owner == subject).count();
        Ok((records + secrets) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance;

    #[tokio::test]
    async fn conforms() {
        conformance::wrapped_keys(&MemoryKeys::default(), &Ctx::system()).await.unwrap();
    }
}
