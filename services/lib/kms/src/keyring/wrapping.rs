//! Wrapping keys: one per practice and one for clients' own items, held under the region's root key.

use domicile_crypto::{DataKey, Key32, KeyContext, Purpose, WrappedKey, open, seal};
use domicile_types::{Code, Error, PracticeId, Result};

use super::cache::{Held, Slot};
use super::{Keyring, destroyed};

impl Keyring {
    /// The wrapping key's version, then the key sealed under it.
    pub(super) async fn wrap_under(
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

    pub(super) async fn unwrap_under(
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
        let held = match self.rows.practice_key(practice).await? {
            Some(row) => self.unwrap_wrapping_key(practice, &row).await?,
            None => self.make_wrapping_key(practice).await?,
        };
        self.cache.insert(ticket, Slot::WrappingAt(practice, held.version), held.clone());
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

    async fn make_wrapping_key(&self, practice: Option<PracticeId>) -> Result<Held> {
        let context = self.wrapping_context(practice);
        let fresh = self.service.generate_data_key(&context).await?;
        let row = WrappedKey { version: 1, wrapped: fresh.wrapped.clone() };
        let standing = self.rows.insert_practice_key(practice, &row).await?;
        let key = self.standing_key(&context, fresh, &standing.wrapped).await?;
        Ok(Held { key, version: standing.version, uses: 0 })
    }

    async fn unwrap_wrapping_key(&self, practice: Option<PracticeId>, row: &WrappedKey) -> Result<Held> {
        let key = self.unwrap_key(&self.wrapping_context(practice), &row.wrapped).await?;
        Ok(Held { key, version: row.version, uses: 0 })
    }

    /// The key that stands after an insert: the fresh one, or another writer's.
    pub(super) async fn standing_key(
        &self,
        context: &KeyContext,
        fresh: DataKey,
        standing: &[u8],
    ) -> Result<Key32> {
        if standing == fresh.wrapped { Ok(fresh.plain) } else { self.unwrap_key(context, standing).await }
    }

    pub(super) async fn unwrap_key(&self, context: &KeyContext, wrapped: &[u8]) -> Result<Key32> {
        Key32::from_slice(&self.service.unwrap(context, wrapped).await?)
    }

    fn wrapping_context(&self, practice: Option<PracticeId>) -> KeyContext {
        KeyContext::region(self.region.clone(), Purpose::PracticeKey).practice(practice)
    }
}
