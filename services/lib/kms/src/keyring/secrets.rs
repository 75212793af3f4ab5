//! Keys that seal no payload: subjects' secrets, the region's keys, transfers' keys.

use domicile_crypto::{Key32, KeyContext, Purpose, SubjectSecret, TransferKey, aad};
use domicile_types::{Result, SubjectId, TransferId};
use zeroize::Zeroizing;

use super::cache::{Held, Slot, Ticket};
use super::{Keyring, destroyed};

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

impl Keyring {
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
        let key = match self.rows.region_key(purpose).await? {
            Some(wrapped) => self.unwrap_key(&context, &wrapped).await?,
            None => {
                let fresh = self.service.generate_data_key(&context).await?;
                let standing = self.rows.insert_region_key(purpose, &fresh.wrapped).await?;
                self.standing_key(&context, fresh, &standing).await?
            }
        };
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
        if standing == wrapped {
            return Ok(Zeroizing::new(plain.to_vec()));
        }
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

    fn hold(&self, ticket: Ticket, slot: Slot, key: &Key32) {
        self.cache.insert(ticket, slot, Held { key: key.clone(), version: 1, uses: 0 });
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

    fn transfer_context(&self, transfer: TransferId, key: TransferKey) -> KeyContext {
        KeyContext::region(self.region.clone(), key.purpose()).transfer(transfer)
    }
}
