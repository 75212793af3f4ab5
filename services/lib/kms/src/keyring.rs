//! The keyring: makes, finds, counts and forgets a region's keys.
//!
//! Region root key (in the key service) → wrapping key, one per practice and one for clients' own items →
//! record key, one per subject and practice and one for the client's own items. A wrapping key wraps a
//! record key once per version and a subject's secret twice, far below its 2^28 uses.

mod cache;
mod flights;
mod secrets;
mod wrapping;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use domicile_crypto::{
    Key32, KeyService, RecordKeyRow, SubjectKeys, SubjectSecret, WrappedKey, WrappedKeys, aad,
};
use domicile_types::{Code, Ctx, Error, PracticeId, RegionId, Result, SubjectId};

pub use self::cache::KEY_LIFE;
use self::cache::{Cache, Held, Slot, Taken};
use self::flights::Flights;
pub use self::secrets::RegionKey;

/// Seals under one version of a record key; then a new version (data-model.md, "Keys").
pub const MAX_USES: u64 = 1 << 28;

/// Uses reserved for a key that was not in memory. Unused ones are lost when it leaves again.
const FIRST_BLOCK: u64 = 1 << 10;

/// Uses reserved when a block is used up while the key is still in memory.
const NEXT_BLOCK: u64 = 1 << 16;

/// New versions tried in a row before the call gives up.
const MAX_ROLLS: u32 = 16;

/// Record keys of one subject, by practice and version.
pub type KeysAtRest = BTreeMap<(Option<PracticeId>, u32), Key32>;

/// A region's keys. A key in memory costs a short lock; one that is not costs reads of the key store, and
/// for a practice's first in five minutes a call of the key service.
///
/// Beside the codes each method names, all fail with [`Code::KeyUnavailable`] or [`Code::StoreUnavailable`]
/// when key service or key store do not answer, and with [`Code::KeyDenied`] when a stored key does not
/// unwrap where it stands. Never call one inside a database transaction.
pub struct Keyring {
    service: Arc<dyn KeyService>,
    rows: Arc<dyn WrappedKeys>,
    region: RegionId,
    ctx: Ctx,
    cache: Cache,
    flights: Flights,
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyring").field("region", &self.region).finish_non_exhaustive()
    }
}

impl Keyring {
    /// A keyring over a key service and a store of wrapped keys.
    #[must_use]
    pub fn new(service: Arc<dyn KeyService>, rows: Arc<dyn WrappedKeys>, region: RegionId, ctx: Ctx) -> Self {
        Self { service, rows, region, ctx, cache: Cache::default(), flights: Flights::default() }
    }

    /// The key service.
    #[must_use]
    pub fn service(&self) -> &Arc<dyn KeyService> {
        &self.service
    }

    /// The record key to seal one payload with, and its version. Made and committed on first use; a new
    /// version after [`MAX_USES`].
    ///
    /// # Errors
    /// [`Code::KeyDestroyed`] when it is destroyed meanwhile.
    pub async fn record_key(&self, subject: SubjectId, practice: Option<PracticeId>) -> Result<(u32, Key32)> {
        self.record_key_for(subject, practice, 1).await
    }

    /// The record key to seal one payload with, if it is in memory: asking makes none and reads nothing.
    #[must_use]
    pub fn ready_record_key(&self, subject: SubjectId, practice: Option<PracticeId>) -> Option<(u32, Key32)> {
        match self.cache.take(Slot::Record(subject, practice), 1) {
            Taken::Key(held) => Some((held.version, held.key)),
            Taken::UsedUp | Taken::Absent => None,
        }
    }

    /// The same as [`Keyring::record_key`], to seal `uses` payloads or chunks under one version.
    ///
    /// # Errors
    /// [`Code::TooLarge`] past [`MAX_USES`]; [`Code::KeyDestroyed`] when it is destroyed meanwhile.
    pub async fn record_key_for(
        &self,
        subject: SubjectId,
        practice: Option<PracticeId>,
        uses: u64,
    ) -> Result<(u32, Key32)> {
        let slot = Slot::Record(subject, practice);
        if let Taken::Key(held) = self.cache.take(slot, uses) {
            return Ok((held.version, held.key));
        }
        let _flight = self.flights.of(slot).await;
        let block = match self.cache.take(slot, uses) {
            Taken::Key(held) => return Ok((held.version, held.key)),
            Taken::UsedUp => NEXT_BLOCK,
            Taken::Absent => FIRST_BLOCK,
        };
        let ticket = self.cache.ticket();
        let block = block.max(uses);
        let row = self.reserve(subject, practice, block).await?;
        let key = self.unwrap_record_key(subject, practice, &row).await?;
        let held = Held { key: key.clone(), version: row.version, uses: block - uses };
        self.cache.insert(ticket, Slot::RecordAt(subject, practice, row.version), held.clone());
        self.cache.insert(ticket, slot, held);
        Ok((row.version, key))
    }

    /// A record key to open with.
    ///
    /// # Errors
    /// [`Code::KeyDestroyed`] when there is none of this version.
    pub async fn record_key_at(
        &self,
        subject: SubjectId,
        practice: Option<PracticeId>,
        version: u32,
    ) -> Result<Key32> {
        let slot = Slot::RecordAt(subject, practice, version);
        if let Some(held) = self.cache.get(slot) {
            return Ok(held.key);
        }
        let _flight = self.flights.of(slot).await;
        if let Some(held) = self.cache.get(slot) {
            return Ok(held.key);
        }
        let ticket = self.cache.ticket();
        let row = self.rows.record_key_at(subject, practice, version).await?;
        let row = row.ok_or_else(|| destroyed("record key"))?;
        let key = self.unwrap_record_key(subject, practice, &row).await?;
        self.cache.insert(ticket, slot, Held { key: key.clone(), version, uses: 0 });
        Ok(key)
    }

    /// The key that a client's account fields are sealed under, made and committed on first use: the
    /// first version of the key of the client's own items. A handful of fields never uses it up, so the
    /// account's row names no version.
    ///
    /// # Errors
    /// As all methods.
    pub async fn account_key(&self, subject: SubjectId) -> Result<Key32> {
        match self.find_account_key(subject).await {
            Err(absent) if absent.code() == Code::KeyDestroyed => {
                self.record_key(subject, None).await?;
                self.find_account_key(subject).await
            }
            found => found,
        }
    }

    /// The same to open with, never made.
    ///
    /// # Errors
    /// [`Code::KeyDestroyed`] when there is none.
    pub async fn find_account_key(&self, subject: SubjectId) -> Result<Key32> {
        self.record_key_at(subject, None, 1).await
    }

    /// Lets keys in memory be used until then and no longer: for one of several replicas, which must be heard
    /// of while it holds any. Without a call they may be used for [`KEY_LIFE`].
    pub fn trust_until(&self, until: tokio::time::Instant) {
        self.cache.trust_until(until);
    }

    /// Drops every key from this process's memory, also those being read just now.
    pub fn forget_all(&self) {
        self.cache.forget_all();
    }

    /// Drops the keys of a record or a transfer, whichever it is, from this process's memory.
    pub fn forget(&self, about: uuid::Uuid) {
        self.cache.forget_subject(SubjectId::from_uuid(about));
        self.forget_transfer(domicile_types::TransferId::from_uuid(about));
    }

    /// Drops a subject's keys from this process's memory, also those being read just now.
    pub fn forget_subject(&self, subject: SubjectId) {
        self.cache.forget_subject(subject);
    }

    /// The keys and secrets of a subject as they stand in the store, to be destroyed later.
    ///
    /// # Errors
    /// As all methods.
    pub async fn subject_keys(&self, subject: SubjectId) -> Result<SubjectKeys> {
        self.rows.subject_keys(subject).await
    }

    /// Destroys those of a subject's keys and secrets that were listed before and still stand, and drops all
    /// of the subject's from this process's memory; how many went from the store. Nothing sealed under
    /// them can be read again. Other replicas hold them for [`KEY_LIFE`] at most.
    ///
    /// # Errors
    /// As all methods.
    pub async fn destroy_subject(&self, subject: SubjectId, keys: &SubjectKeys) -> Result<u64> {
        let destroyed = self.rows.destroy_subject(subject, keys).await;
        self.forget_subject(subject);
        destroyed
    }

    /// A subject's record keys by practice and version, read from the store and unwrapped now, whatever is in
    /// memory; its secrets are unwrapped as well.
    ///
    /// # Errors
    /// [`Code::KeyDestroyed`] when a wrapping key is not there (any more).
    pub async fn keys_at_rest(&self, subject: SubjectId) -> Result<KeysAtRest> {
        let (service, rows) = (Arc::clone(&self.service), Arc::clone(&self.rows));
        let forgetful = Self::new(service, rows, self.region.clone(), self.ctx.clone());
        forgetful.trust_until(tokio::time::Instant::now());
        let mut keys = KeysAtRest::new();
        for RecordKeyRow { practice, version, .. } in self.rows.record_keys(subject).await? {
            keys.insert((practice, version), forgetful.record_key_at(subject, practice, version).await?);
        }
        for secret in SubjectSecret::ALL {
            forgetful.find_subject_secret(subject, *secret).await?;
        }
        Ok(keys)
    }

    /// How many keys and secrets of a subject the store has.
    ///
    /// # Errors
    /// As all methods.
    pub async fn subject_key_count(&self, subject: SubjectId) -> Result<u64> {
        self.rows.count_subject(subject).await
    }

    /// The newest version with `uses` left, which are then reserved; a new version when none is.
    async fn reserve(
        &self,
        subject: SubjectId,
        practice: Option<PracticeId>,
        uses: u64,
    ) -> Result<WrappedKey> {
        if uses > MAX_USES {
            return Err(Error::new(Code::TooLarge).at("uses of a key"));
        }
        let mut row = match self.rows.record_key(subject, practice).await? {
            Some(row) => row,
            None => self.make_record_key(subject, practice, 1).await?,
        };
        for _ in 0..MAX_ROLLS {
            let total = self.rows.add_uses(subject, practice, row.version, uses).await?;
            if total.ok_or_else(|| destroyed("record key"))? <= MAX_USES {
                return Ok(row);
            }
            row = self.make_record_key(subject, practice, row.version.saturating_add(1)).await?;
        }
        Err(Error::new(Code::Conflict).at("record key"))
    }

    /// Makes and commits a version of a record key; the one that stands may be another writer's.
    async fn make_record_key(
        &self,
        subject: SubjectId,
        practice: Option<PracticeId>,
        version: u32,
    ) -> Result<WrappedKey> {
        let key = Key32::generate(&self.ctx);
        let place = |wrapping| aad::wrapped_record_key(&self.region, subject, practice, version, wrapping);
        let wrapped = self.wrap_under(practice, &key, place).await?;
        self.ctx.faults.hit("record_key.before_commit");
        let standing =
            self.rows.insert_record_key(subject, practice, &WrappedKey { version, wrapped }).await?;
        self.ctx.faults.hit("record_key.after_commit");
        Ok(standing)
    }

    async fn unwrap_record_key(
        &self,
        subject: SubjectId,
        practice: Option<PracticeId>,
        row: &WrappedKey,
    ) -> Result<Key32> {
        let place =
            |wrapping| aad::wrapped_record_key(&self.region, subject, practice, row.version, wrapping);
        self.unwrap_under(practice, &row.wrapped, place).await
    }
}

fn destroyed(place: &str) -> Error {
    Error::new(Code::KeyDestroyed).at(place)
}
