//! Travel streams of this region's transfers: headers, keys, row chunks.

use domicile_crypto::hash::sha256_parts;
use domicile_crypto::travel::{Opener, TravelHead, TravelHeader, Unit};
use domicile_crypto::{Key32, TransferKey, sha256};
use domicile_proto::transfer::v1::TravelRow;
use domicile_transfer_protocol::release::Head;
use domicile_transfer_protocol::{Destination, Source, TransferStore};
use domicile_types::{Code, ConsentId, Error, ItemId, RegionId, Result, TransferId};

use super::Transfers;

/// What a travel header says besides its unit, the same for every stream of an attempt.
#[derive(Clone)]
pub struct Route {
    transfer: TransferId,
    attempt: u64,
    source: RegionId,
    destination: RegionId,
    consent: ConsentId,
    consent_digest: [u8; 32],
}

impl Route {
    /// The route of a source row.
    ///
    /// # Errors
    /// [`Code::ConsentMissing`] before the client has consented.
    pub fn of_source(row: &Source) -> Result<Self> {
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
    ///
    /// # Errors
    /// [`Code::ConsentMissing`] before the source's Consented is here.
    pub fn of_destination(row: &Destination) -> Result<Self> {
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
    #[must_use]
    pub fn header(&self, unit: Unit) -> TravelHeader {
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

/// The first chunk of the row at a position of a page; `None` past the last one a stream can have.
pub(super) fn first_chunk(position: u32) -> Option<u32> {
    position.checked_mul(2)
}

/// SHA-256 over a row's two sealed chunks, each behind its length: no byte can change sides unseen.
#[must_use]
pub fn row_digest(header: &[u8], payload: &[u8]) -> [u8; 32] {
    let length = |part: &[u8]| (part.len() as u64).to_be_bytes();
    sha256_parts(&[&length(header), header, &length(payload), payload])
}

/// SHA-256 over what stands in clear in a page, each field of fixed length or behind its length: what no
/// seal shows before adoption (which object a row names, how far the page goes) does not arrive changed.
#[must_use]
pub fn page_digest(rows: &[TravelRow], cursor: u64, revision: u64) -> [u8; 32] {
    let mut clear = b"domicile/page/1".to_vec();
    for row in rows {
        for field in [&row.item_id, &row.digest, &row.object_id] {
            clear.extend_from_slice(&(field.len() as u64).to_be_bytes());
            clear.extend_from_slice(field);
        }
        clear.extend_from_slice(&row.version.to_be_bytes());
        clear.extend_from_slice(&row.revision.to_be_bytes());
        clear.push(u8::from(row.last));
    }
    for number in [rows.len() as u64, cursor, revision] {
        clear.extend_from_slice(&number.to_be_bytes());
    }
    sha256(&clear)
}

/// SHA-256 over the digests of an object's sealed chunks and the length of its content.
#[must_use]
pub fn object_digest(chunks: &[[u8; 32]], length: u64) -> [u8; 32] {
    let length = length.to_be_bytes();
    let parts: Vec<&[u8]> = chunks.iter().map(<[u8; 32]>::as_slice).chain([length.as_slice()]).collect();
    sha256_parts(&parts)
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
