//! The keyring: makes, finds, counts and forgets a region's keys.
//!
//! Region root key (in the key service) → wrapping key, one per practice and one for clients' own items →
//! record key, one per subject and practice and one for the client's own items. A wrapping key wraps a
//! record key once per version and a subject's secret twice, far below its 2^28 uses.

mod cache;
mod flights;

use std::fmt;
use std::sync::Arc;

use domicile_crypto::{
    Key32, KeyContext, KeyService, Purpose, SubjectSecret, TransferKey, WrappedKey, WrappedKeys, aad, open,
    seal,
};
use domicile_types::{Code, Ctx, Error, PracticeId, RegionId, Result, SubjectId, TransferId};
use zeroize::Zeroizing;

pub use self::cache::KEY_LIFE;
use self::cache::{Cache, Held, Slot, Taken};
use self::flights::Flights;

/// Seals under one version of a record key; then a new version (record.md, "Keys").
pub const MAX_USES: u64 = 1 << 28;

/// Uses reserved for a key that was not in memory. Unused ones are lost when it leaves again.
const FIRST_BLOCK: u64 = 1 << 10;

/// Uses reserved when a block is used up while the key is still in memory.
const NEXT_BLOCK: u64 = 1 << 16;

/// New versions tried in a row before the call gives up.
const MAX_ROLLS: u32 = 16;

/// A key of the region alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RegionKey {
    /// Finds accounts by e-mail address.
    BlindIndex,
    /// Seals accounts' fields.
    Accounts,
    /// Names actors in the audit log.
    ActorPseudonym,
}

impl RegionKey {
    const fn purpose(self) -> Purpose {
        match self {
            Self::BlindIndex => Purpose::BlindIndex,
            Self::Accounts => Purpose::Accounts,
            Self::ActorPseudonym => Purpose::ActorPseudonym,
        }
    }
}

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

    /// A subject's secret, made and committed on first use.
    ///
    /// # Errors
    /// As all methods.
    pub async fn subject_secret(&self, subject: SubjectId, secret: SubjectSecret) -> Result<Key32> {
        if let Some(key) = self.find_subject_secret(subject, secret).await? {
            return Ok(key);
        }
        let slot = Slot::Secret(subject, secret);
        let _flight = self.flights.of(slot).await;
        let ticket = self.cache.ticket();
        let wrapped = self.wrap_subject_secret(subject, secret, &Key32::generate(&self.ctx)).await?;
        let wrapped = self.rows.insert_subject_secret(subject, secret, &wrapped).await?;
        let key = self.unwrap_subject_secret(subject, secret, &wrapped).await?;
        self.hold(ticket, slot, &key);
        Ok(key)
    }

    /// A subject's secret if there is one: asking makes none.
    ///
    /// # Errors
    /// As all methods.
    pub async fn find_subject_secret(
        &self,
        subject: SubjectId,
        secret: SubjectSecret,
    ) -> Result<Option<Key32>> {
        let slot = Slot::Secret(subject, secret);
        if let Some(held) = self.cache.get(slot) {
            return Ok(Some(held.key));
        }
        let ticket = self.cache.ticket();
        let Some(wrapped) = self.rows.subject_secret(subject, secret).await? else { return Ok(None) };
        let key = self.unwrap_subject_secret(subject, secret, &wrapped).await?;
        self.hold(ticket, slot, &key);
        Ok(Some(key))
    }

    /// Takes over a subject's secret that came with the record. It replaces one that stands: an entry
    /// written here before the record arrived must not hold up an adoption.
    ///
    /// # Errors
    /// As all methods.
    pub async fn set_subject_secret(
        &self,
        subject: SubjectId,
        secret: SubjectSecret,
        key: &Key32,
    ) -> Result<()> {
        let wrapped = self.wrap_subject_secret(subject, secret, key).await?;
        self.rows.replace_subject_secret(subject, secret, &wrapped).await?;
        self.cache.forget_slot(Slot::Secret(subject, secret));
        Ok(())
    }

    /// A key of the region, made and committed on first use.
    ///
    /// # Errors
    /// As all methods.
    pub async fn region_key(&self, key: RegionKey) -> Result<Key32> {
        let purpose = key.purpose();
        let slot = Slot::Region(purpose);
        if let Some(held) = self.cache.get(slot) {
            return Ok(held.key);
        }
        let _flight = self.flights.of(slot).await;
        if let Some(held) = self.cache.get(slot) {
            return Ok(held.key);
        }
        let ticket = self.cache.ticket();
        let context = KeyContext::region(self.region.clone(), purpose);
        let wrapped = match self.rows.region_key(purpose).await? {
            Some(wrapped) => wrapped,
            None => {
                let fresh = self.service.generate_data_key(&context).await?;
                self.rows.insert_region_key(purpose, &fresh.wrapped).await?
            }
        };
        let key = Key32::from_slice(&self.service.unwrap(&context, &wrapped).await?)?;
        self.hold(ticket, slot, &key);
        Ok(key)
    }

    /// Wraps and commits a transfer's key and returns the one that stands: of two makers, the loser uses
    /// the winner's.
    ///
    /// # Errors
    /// As all methods.
    pub async fn store_transfer_key(
        &self,
        transfer: TransferId,
        key: TransferKey,
        plain: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>> {
        let context = self.transfer_context(transfer, key);
        let wrapped = self.service.wrap(&context, plain).await?;
        let standing = self.rows.insert_transfer_key(transfer, key, &wrapped).await?;
        self.service.unwrap(&context, &standing).await
    }

    /// A transfer's key, from the key service each time.
    ///
    /// # Errors
    /// [`Code::KeyDestroyed`] when there is none (any more).
    pub async fn load_transfer_key(
        &self,
        transfer: TransferId,
        key: TransferKey,
    ) -> Result<Zeroizing<Vec<u8>>> {
        let wrapped = self.rows.transfer_key(transfer, key).await?;
        let wrapped = wrapped.ok_or_else(|| destroyed("transfer key"))?;
        self.service.unwrap(&self.transfer_context(transfer, key), &wrapped).await
    }

    /// The travel key of a transfer, held in memory like the others.
    ///
    /// # Errors
    /// [`Code::KeyDestroyed`] when there is none (any more).
    pub async fn travel_key(&self, transfer: TransferId) -> Result<Key32> {
        let slot = Slot::Travel(transfer);
        if let Some(held) = self.cache.get(slot) {
            return Ok(held.key);
        }
        let _flight = self.flights.of(slot).await;
        if let Some(held) = self.cache.get(slot) {
            return Ok(held.key);
        }
        let ticket = self.cache.ticket();
        let key = Key32::from_slice(&self.load_transfer_key(transfer, TransferKey::Travel).await?)?;
        self.hold(ticket, slot, &key);
        Ok(key)
    }

    /// Destroys a transfer's key, in the store and in this process's memory; whether there was one. Other
    /// replicas hold it for [`KEY_LIFE`] at most.
    ///
    /// # Errors
    /// As all methods.
    pub async fn destroy_transfer_key(&self, transfer: TransferId, key: TransferKey) -> Result<bool> {
        let destroyed = self.rows.destroy_transfer_key(transfer, key).await;
        self.forget_transfer(transfer);
        destroyed
    }

    /// Drops a transfer's key from this process's memory.
    pub fn forget_transfer(&self, transfer: TransferId) {
        self.cache.forget_slot(Slot::Travel(transfer));
    }

    /// Drops a subject's keys from this process's memory, also those being read just now.
    pub fn forget_subject(&self, subject: SubjectId) {
        self.cache.forget_subject(subject);
    }

    /// Destroys every key and secret of a subject, in the store and in this process's memory; how many
    /// there were in the store. Nothing sealed under them can be read again. Other replicas hold them for
    /// [`KEY_LIFE`] at most.
    ///
    /// # Errors
    /// As all methods.
    pub async fn destroy_subject(&self, subject: SubjectId) -> Result<u64> {
        let destroyed = self.rows.destroy_subject(subject).await;
        self.forget_subject(subject);
        destroyed
    }

    /// How many keys and secrets of a subject the store has.
    ///
    /// # Errors
    /// As all methods.
    pub async fn subject_key_count(&self, subject: SubjectId) -> Result<u64> {
        self.rows.count_subject(subject).await
    }

    fn hold(&self, ticket: cache::Ticket, slot: Slot, key: &Key32) {
        self.cache.insert(ticket, slot, Held { key: key.clone(), version: 1, uses: 0 });
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

    async fn wrap_subject_secret(
        &self,
        subject: SubjectId,
        secret: SubjectSecret,
        key: &Key32,
    ) -> Result<Vec<u8>> {
        let place = |wrapping| aad::wrapped_subject_secret(&self.region, subject, secret.as_str(), wrapping);
        self.wrap_under(None, key, place).await
    }

    async fn unwrap_subject_secret(
        &self,
        subject: SubjectId,
        secret: SubjectSecret,
        wrapped: &[u8],
    ) -> Result<Key32> {
        let place = |wrapping| aad::wrapped_subject_secret(&self.region, subject, secret.as_str(), wrapping);
        self.unwrap_under(None, wrapped, place).await
    }

    /// The wrapping key's version, then the key sealed under it.
    async fn wrap_under(
        &self,
        practice: Option<PracticeId>,
        key: &Key32,
        place: impl Fn(u32) -> Vec<u8>,
    ) -> Result<Vec<u8>> {
        let (version, wrapping) = self.wrapping_key(practice).await?;
        let mut wrapped = version.to_be_bytes().to_vec();
        wrapped.extend(seal(&wrapping, &self.ctx, &place(version), key.expose())?);
        Ok(wrapped)
    }

    async fn unwrap_under(
        &self,
        practice: Option<PracticeId>,
        wrapped: &[u8],
        place: impl Fn(u32) -> Vec<u8>,
    ) -> Result<Key32> {
        let denied = || Error::new(Code::KeyDenied).at("wrapped key");
        let (version, sealed) = wrapped.split_first_chunk::<4>().ok_or_else(denied)?;
        let version = u32::from_be_bytes(*version);
        let wrapping = self.wrapping_key_at(practice, version).await?;
        Key32::from_slice(&open(&wrapping, &place(version), sealed).map_err(|_| denied())?)
    }

    /// A practice's newest wrapping key, made and committed on first use.
    async fn wrapping_key(&self, practice: Option<PracticeId>) -> Result<(u32, Key32)> {
        let slot = Slot::Wrapping(practice);
        if let Some(held) = self.cache.get(slot) {
            return Ok((held.version, held.key));
        }
        let _flight = self.flights.of_wrapping(slot).await;
        if let Some(held) = self.cache.get(slot) {
            return Ok((held.version, held.key));
        }
        let ticket = self.cache.ticket();
        let row = match self.rows.practice_key(practice).await? {
            Some(row) => row,
            None => self.make_wrapping_key(practice).await?,
        };
        let held = self.unwrap_wrapping_key(practice, &row).await?;
        self.cache.insert(ticket, Slot::WrappingAt(practice, row.version), held.clone());
        self.cache.insert(ticket, slot, held.clone());
        Ok((held.version, held.key))
    }

    async fn wrapping_key_at(&self, practice: Option<PracticeId>, version: u32) -> Result<Key32> {
        let slot = Slot::WrappingAt(practice, version);
        if let Some(held) = self.cache.get(slot) {
            return Ok(held.key);
        }
        let _flight = self.flights.of_wrapping(Slot::Wrapping(practice)).await;
        if let Some(held) = self.cache.get(slot) {
            return Ok(held.key);
        }
        let ticket = self.cache.ticket();
        let row = self.rows.practice_key_at(practice, version).await?;
        let row = row.ok_or_else(|| destroyed("practice key"))?;
        let held = self.unwrap_wrapping_key(practice, &row).await?;
        self.cache.insert(ticket, slot, held.clone());
        Ok(held.key)
    }

    async fn make_wrapping_key(&self, practice: Option<PracticeId>) -> Result<WrappedKey> {
        let fresh = self.service.generate_data_key(&self.wrapping_context(practice)).await?;
        let row = WrappedKey { version: 1, wrapped: fresh.wrapped };
        self.rows.insert_practice_key(practice, &row).await
    }

    async fn unwrap_wrapping_key(&self, practice: Option<PracticeId>, row: &WrappedKey) -> Result<Held> {
        let plain = self.service.unwrap(&self.wrapping_context(practice), &row.wrapped).await?;
        Ok(Held { key: Key32::from_slice(&plain)?, version: row.version, uses: 0 })
    }

    fn wrapping_context(&self, practice: Option<PracticeId>) -> KeyContext {
        KeyContext::region(self.region.clone(), Purpose::PracticeKey).practice(practice)
    }

    fn transfer_context(&self, transfer: TransferId, key: TransferKey) -> KeyContext {
        KeyContext::region(self.region.clone(), key.purpose()).transfer(transfer)
    }
}

fn destroyed(place: &str) -> Error {
    Error::new(Code::KeyDestroyed).at(place)
}
