//! Travel streams of this region's transfers: headers, keys, row chunks.

use domicile_crypto::travel::{Opener, TravelHead, TravelHeader, Unit};
use domicile_crypto::{Key32, TransferKey};
use domicile_transfer_protocol::release::Head;
use domicile_transfer_protocol::{Destination, Source, TransferStore};
use domicile_types::{Code, ConsentId, Error, ItemId, RegionId, Result, TransferId};

use super::Transfers;

/// What a travel header says besides its unit, the same for every stream of an attempt.
#[derive(Clone)]
pub(super) struct Route {
    transfer: TransferId,
    attempt: u64,
    source: RegionId,
    destination: RegionId,
    consent: ConsentId,
    consent_digest: [u8; 32],
}

impl Route {
    /// The route of a source row.
    pub(super) fn of_source(row: &Source) -> Result<Self> {
        let consent = row.consent.as_ref().ok_or_else(|| Error::new(Code::ConsentMissing))?;
        Ok(Self {
            transfer: row.transfer,
            attempt: row.attempt,
            source: row.from.clone(),
            destination: row.to.clone(),
            consent: consent.id,
            consent_digest: consent.digest.0,
        })
    }

    /// The route of a destination row.
    pub(super) fn of_destination(row: &Destination) -> Result<Self> {
        let consent = row.consent.as_ref().ok_or_else(|| Error::new(Code::ConsentMissing))?;
        Ok(Self {
            transfer: row.transfer,
            attempt: row.attempt,
            source: row.from.clone(),
            destination: row.to.clone(),
            consent: consent.id,
            consent_digest: consent.digest.0,
        })
    }

    /// The header of one stream.
    pub(super) fn header(&self, unit: Unit) -> TravelHeader {
        TravelHeader {
            transfer: self.transfer,
            attempt: self.attempt,
            source: self.source.clone(),
            destination: self.destination.clone(),
            unit,
            consent: self.consent,
            consent_digest: self.consent_digest,
        }
    }
}

/// The bytes a row's chunks are bound to besides their place: its frame.
pub(super) fn frame(item: ItemId, version: u32, revision: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(28);
    bytes.extend_from_slice(item.as_bytes());
    bytes.extend_from_slice(&version.to_be_bytes());
    bytes.extend_from_slice(&revision.to_be_bytes());
    bytes
}

/// SHA-256 over a row's two sealed chunks, each behind its length: no byte can change sides unseen.
pub(super) fn row_digest(header: &[u8], payload: &[u8]) -> [u8; 32] {
    let length = |part: &[u8]| (part.len() as u64).to_be_bytes();
    domicile_crypto::hash::sha256_parts(&[&length(header), header, &length(payload), payload])
}

/// A head as stored.
pub(super) fn stored_head(head: &TravelHead) -> Head {
    Head { header: head.header.clone(), salt: head.salt.to_vec(), commitment: head.commitment.to_vec() }
}

/// Opens a stored stream.
///
/// # Errors
/// [`Code::ChunkDamaged`] when the head is not of this key and header.
pub(super) fn opener(key: &Key32, head: &Head, expected: &TravelHeader) -> Result<Opener> {
    let head = TravelHead::from_parts(head.header.clone(), &head.salt, &head.commitment)?;
    Opener::new(key, &head, expected)
}

impl<S: TransferStore> Transfers<S> {
    /// The travel key of an attempt, unwrapped.
    pub(super) async fn travel_key(&self, transfer: TransferId) -> Result<Key32> {
        self.keyring.travel_key(transfer).await
    }

    /// Destroys the travel key of an attempt: what was sealed under it can never be opened again. Whether
    /// there was one.
    pub(super) async fn drop_travel_key(&self, transfer: TransferId) -> Result<bool> {
        self.keyring.destroy_transfer_key(transfer, TransferKey::Travel).await
    }
}
