//! Source: objects, chunk by chunk, sealed for the way.

use bytes::Bytes;
use domicile_crypto::object::{ObjectOpener, ObjectPlace, SEALED_CHUNK, sealed_offset};
use domicile_crypto::sha256;
use domicile_crypto::travel::{Sealer, TravelHead, Unit};
use domicile_objects::ObjectName;
use domicile_transfer_protocol::rows::{SentObject, SourceObject};
use domicile_transfer_protocol::{Digest, Source, TransferStore};
use domicile_types::{Code, Error, ObjectId, RegionId, Result, TransferId};
use tokio::sync::mpsc;

use super::Transfers;
use super::streams::{Route, object_digest};

/// Chunks between two looks at whether the consent still stands.
const CHUNKS_BETWEEN_CHECKS: u32 = 8;

/// A piece of an object on its way.
pub enum ObjectPart {
    /// The head.
    Head(TravelHead),
    /// A sealed chunk.
    Chunk(Bytes),
    /// The end.
    End(SentObject),
}

impl<S: TransferStore> Transfers<S> {
    /// Streams one object, sealed for the way; memory is bounded by a few chunks. The stream ends with
    /// an error when the consent does.
    ///
    /// # Errors
    /// As [`Self::sending`]; [`Code::NotFound`] for an object that is not of this record.
    pub async fn send_object(
        &self,
        from: &RegionId,
        transfer: TransferId,
        attempt: u64,
        object: ObjectId,
    ) -> Result<mpsc::Receiver<Result<ObjectPart>>> {
        let row = self.sending(from, transfer, attempt).await?;
        let found = self.store.source_object(row.subject, object).await?;
        let found = found.ok_or_else(|| Error::new(Code::NotFound).at("object"))?;
        let (out, parts) = mpsc::channel(2);
        let this = self.clone();
        tokio::spawn(async move {
            if let Err(error) = this.stream_object(&row, found, &out).await {
                // A receiver that went away has no use for the reason.
                drop(out.send(Err(error)).await);
            }
        });
        Ok(parts)
    }

    async fn stream_object(
        &self,
        row: &Source,
        object: SourceObject,
        out: &mpsc::Sender<Result<ObjectPart>>,
    ) -> Result<()> {
        let gone = || Error::new(Code::Conflict).at("receiver");
        let travel = self.travel_key(row.transfer).await?;
        let record = self.keyring.record_key_at(object.subject, object.practice, object.key_version).await?;
        let place = ObjectPlace {
            region: self.region.clone(),
            subject: object.subject,
            practice: object.practice,
            object: object.object,
            key_version: object.key_version,
        };
        let opener = ObjectOpener::new(record, place);
        let header = Route::of_source(row)?.header(Unit::Object(object.object));
        let (mut sealer, head) = Sealer::new(&travel, &header, &self.ctx)?;
        out.send(Ok(ObjectPart::Head(head))).await.map_err(|_| gone())?;
        let name = ObjectName::copy(object.subject, object.object, object.copy);
        let mut digests = Vec::new();
        for index in 0..object.chunks {
            if index % CHUNKS_BETWEEN_CHECKS == 0 {
                self.sending(&row.to, row.transfer, row.attempt).await?;
            }
            let last = index + 1 == object.chunks;
            let sealed = self.objects.read_range(&name, sealed_offset(index), SEALED_CHUNK as u64).await?;
            let turn = self.inner.turns.take().await?;
            let plain = opener.open(index, object.chunks, &sealed)?;
            let chunk = sealer.seal_next(&plain, &[], last)?;
            digests.push(sha256(&chunk));
            drop(turn);
            out.send(Ok(ObjectPart::Chunk(chunk.into()))).await.map_err(|_| gone())?;
        }
        let sent = SentObject {
            object: object.object,
            chunks: object.chunks,
            digest: Digest(object_digest(&digests, object.length)),
            length: object.length,
        };
        self.store.record_sent_object(row.transfer, sent).await?;
        out.send(Ok(ObjectPart::End(sent))).await.map_err(|_| gone())
    }
}
