//! Reading what has been adopted and is not sealed again yet, for the records service.

use domicile_crypto::Zeroizing;
use domicile_crypto::travel::Unit;
use domicile_objects::ObjectName;
use domicile_transfer_protocol::release::Head;
use domicile_transfer_protocol::rows::StagedRow;
use domicile_transfer_protocol::{Destination, TransferStore};
use domicile_types::{Code, Error, ObjectId, Result, TransferId};

use super::Transfers;
use super::streams::{Route, first_chunk, frame, opener};

/// Bytes of a travel chunk in a staged object.
const TRAVEL_CHUNK: u64 = (domicile_crypto::object::CHUNK + domicile_crypto::travel::OVERHEAD) as u64;

impl<S: TransferStore> Transfers<S> {
    /// Opens the payload of an adopted row that is still as it travelled.
    ///
    /// # Errors
    /// [`Code::ChunkDamaged`] when it does not open.
    pub async fn read_travelling(
        &self,
        transfer: TransferId,
        head: &Head,
        row: &StagedRow,
    ) -> Result<Zeroizing<Vec<u8>>> {
        let route = Route::of_destination(&self.adopted_row(transfer).await?)?;
        let key = self.travel_key(transfer).await?;
        let opener = opener(&key, head, &route.header(Unit::Page(row.page)))?;
        let damaged = || Error::new(Code::ChunkDamaged).at("payload");
        let chunk = first_chunk(row.position).ok_or_else(damaged)? + 1;
        opener.open_at(chunk, row.last, &frame(row.item, row.version, row.revision), &row.sealed_payload)
    }

    /// Opens one chunk of an adopted object that is still as it travelled.
    ///
    /// # Errors
    /// [`Code::ChunkDamaged`] when it does not open.
    pub async fn read_travelling_chunk(
        &self,
        transfer: TransferId,
        object: ObjectId,
        index: u32,
        chunks: u32,
    ) -> Result<Zeroizing<Vec<u8>>> {
        let row = self.adopted_row(transfer).await?;
        let staged = self.store.staged_objects(transfer).await?;
        let staged = staged.into_iter().find(|staged| staged.sent.object == object);
        let staged = staged.ok_or_else(|| Error::new(Code::ObjectMissing))?;
        let key = self.travel_key(transfer).await?;
        let opener = opener(&key, &staged.head, &Route::of_destination(&row)?.header(Unit::Object(object)))?;
        let name = ObjectName::staging(transfer, object, &staged.head.salt);
        let sealed = self.objects.read_range(&name, u64::from(index) * TRAVEL_CHUNK, TRAVEL_CHUNK).await?;
        opener.open_at(index, index + 1 == chunks, &[], &sealed)
    }

    async fn adopted_row(&self, transfer: TransferId) -> Result<Destination> {
        self.destination(transfer).await
    }
}
