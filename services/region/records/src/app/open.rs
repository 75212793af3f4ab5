//! Opening payloads, sealed here or still as they travelled.

use std::collections::BTreeMap;

use domicile_crypto::{Zeroizing, aad, open};
use domicile_proto::records::v1 as pb;
use domicile_store::Scope;
use domicile_store::queries::item::{self, StoredPayload, Version};
use domicile_types::{Code, Error, ItemHeader, ItemId, Result, SubjectId};
use prost::Message as _;

use super::Records;

impl Records {
    /// Opens one payload.
    ///
    /// # Errors
    /// [`Code::ContentDamaged`] when it does not open where it stands.
    pub(super) async fn open(&self, version: &Version) -> Result<pb::Payload> {
        match &version.sealed {
            Some(sealed) => self.open_sealed(&version.header, sealed).await,
            None => self
                .open_all(version.header.subject_id, std::slice::from_ref(version))
                .await?
                .pop()
                .ok_or_else(damaged),
        }
    }

    /// Opens payloads in the order of their versions. Those still as they travelled are fetched together.
    pub(super) async fn open_all(
        &self,
        subject: SubjectId,
        versions: &[Version],
    ) -> Result<Vec<pb::Payload>> {
        let missing: Vec<(ItemId, u32)> = versions
            .iter()
            .filter(|version| version.sealed.is_none())
            .map(|version| (version.header.item_id, version.header.version))
            .collect();
        let mut arrived = self.arrived(subject, missing).await?;
        let mut payloads = Vec::with_capacity(versions.len());
        for version in versions {
            let named = (version.header.item_id, version.header.version);
            payloads.push(match (&version.sealed, arrived.remove(&named)) {
                (Some(sealed), _) => self.open_sealed(&version.header, sealed).await?,
                (None, Some((header, StoredPayload::Sealed(sealed)))) => {
                    self.open_sealed(&header, &sealed).await?
                }
                (None, Some((header, StoredPayload::Travelling(travelling)))) => {
                    decode(&self.inner.travel.item(&header, *travelling).await?)?
                }
                (None, None) => return Err(damaged()),
            });
        }
        Ok(payloads)
    }

    async fn open_sealed(&self, header: &ItemHeader, sealed: &[u8]) -> Result<pb::Payload> {
        let keyring = &self.inner.keyring;
        let key = keyring.record_key_at(header.subject_id, header.practice_id, header.key_version).await?;
        decode(&open(&key, &aad::item(self.region(), header), sealed)?)
    }

    /// Payloads without a seal of ours, with their headers as they are now: one may have been sealed
    /// again since its version was read.
    async fn arrived(
        &self,
        subject: SubjectId,
        named: Vec<(ItemId, u32)>,
    ) -> Result<BTreeMap<(ItemId, u32), (ItemHeader, StoredPayload)>> {
        if named.is_empty() {
            return Ok(BTreeMap::new());
        }
        let scope = Scope::Move { subject: Some(subject) };
        let read = self.store().read("item.arrived", scope, move |tx| {
            let named = named.clone();
            Box::pin(async move {
                let headers = item::feed_only(tx, subject, &named).await?;
                Ok((headers, item::payloads(tx, subject, &named).await?))
            })
        });
        let (versions, payloads) = read.await?;
        let mut payloads: BTreeMap<(ItemId, u32), StoredPayload> =
            payloads.into_iter().map(|(item, version, payload)| ((item, version), payload)).collect();
        Ok(versions
            .into_iter()
            .filter_map(|Version { header, .. }| {
                let named = (header.item_id, header.version);
                payloads.remove(&named).map(|payload| (named, (header, payload)))
            })
            .collect())
    }
}

fn decode(plain: &Zeroizing<Vec<u8>>) -> Result<pb::Payload> {
    pb::Payload::decode(plain.as_slice()).map_err(|_| damaged())
}

fn damaged() -> Error {
    Error::new(Code::ContentDamaged)
}
