//! Destination: pulling objects, a few side by side, straight into the object store.

use bytes::Bytes;
use domicile_crypto::hash::sha256_parts;
use domicile_crypto::sha256;
use domicile_crypto::travel::Unit;
use domicile_objects::ObjectName;
use domicile_proto::transfer::v1::pull_object_response::Part;
use domicile_proto::transfer::v1::{
    ObjectEnd, PullObjectRequest, PullObjectResponse, TravelHead as HeadMessage,
};
use domicile_transfer_protocol::release::Head;
use domicile_transfer_protocol::rows::{SentObject, StagedObject};
use domicile_transfer_protocol::{Destination, Digest, TransferStore};
use domicile_types::{Code, Error, ObjectId, Result};
use futures::stream::{self, StreamExt as _};
use std::sync::{Arc, Mutex, PoisonError};
use tonic::Streaming;

use super::pace::Pace;
use super::pull::damaged;
use super::streams::Route;
use super::{Transfers, parallel};
use crate::convert;

/// What came of an object besides its chunks.
#[derive(Default)]
struct Arriving {
    head: Option<HeadMessage>,
    digests: Vec<[u8; 32]>,
    end: Option<ObjectEnd>,
}

impl<S: TransferStore> Transfers<S> {
    /// Pulls every object that staged rows refer to and that is not here yet.
    pub(super) async fn pull_objects(&self, row: &Destination) -> Result<()> {
        let missing = self.store.missing_objects(row.transfer).await?;
        let work = missing.into_iter().map(|object| {
            let (this, row) = (self.clone(), row.clone());
            async move {
                this.pull_object(&row, object).await?;
                this.changed(row.transfer);
                Ok(())
            }
        });
        parallel::each(self.options.settings.objects_at_once, work).await
    }

    async fn pull_object(&self, row: &Destination, object: ObjectId) -> Result<()> {
        let request = PullObjectRequest {
            transfer_id: row.transfer.to_string(),
            attempt: row.attempt,
            object_id: convert::bytes(object.as_bytes()),
        };
        self.ctx.faults.before("peer.pull_object");
        let answer = self.peers.client(&row.from)?.pull_object(request).await;
        self.ctx.faults.after("peer.pull_object");
        let mut stream = answer.map_err(|status| convert::peer_error(&status))?.into_inner();
        let head = first(&mut stream).await?;
        // Each stream has a salt of its own and so a file of its own: two pulls of one object, by processes
        // of which one does not know yet that it lost the lease, are not in each other's way.
        let name = ObjectName::staging(row.transfer, object, &head.salt);
        let arriving = Arc::new(Mutex::new(Arriving { head: Some(head), ..Arriving::default() }));
        self.objects
            .create(&name, chunks(stream, Arc::clone(&arriving), self.pace(&row.from)).boxed())
            .await?;
        let arrived = std::mem::take(&mut *arriving.lock().unwrap_or_else(PoisonError::into_inner));
        self.ctx.faults.hit("object.before_stage");
        let staged = staged(object, arrived)?;
        let expected = Route::of_destination(row)?.header(Unit::Object(object)).encode();
        if staged.head.header != expected {
            self.objects.delete(&name).await?;
            return Err(damaged("route"));
        }
        // A transfer that has ended meanwhile must leave no file behind.
        if let Err(error) = self.store.stage_object(row.transfer, staged).await {
            // Unless the commit's answer was lost: then what no row names is swept with the next pull.
            if error.code() != Code::AnswerLost {
                self.objects.delete(&name).await?;
            }
            return Err(error);
        }
        Ok(())
    }
}

/// The head, which comes before everything else.
async fn first(stream: &mut Streaming<PullObjectResponse>) -> Result<HeadMessage> {
    let message = stream.message().await.map_err(|status| convert::peer_error(&status))?;
    match message.and_then(|message| message.part) {
        Some(Part::Head(head)) => Ok(head),
        Some(_) => Err(damaged("order")),
        None => Err(damaged("cut")),
    }
}

/// The chunks of an arriving object; digests and end are noted on the way. Ends with an error when
/// the stream is cut or does not add up, so that the store keeps nothing.
fn chunks(
    stream: Streaming<PullObjectResponse>,
    arriving: Arc<Mutex<Arriving>>,
    pace: Arc<Pace>,
) -> impl futures::Stream<Item = Result<Bytes>> + Send {
    stream::try_unfold((stream, arriving, pace), |(mut stream, arriving, pace)| async move {
        let message = stream.message().await.map_err(|status| convert::peer_error(&status))?;
        let part = message.and_then(|message| message.part).ok_or_else(|| damaged("cut"))?;
        let taken = arriving.lock().unwrap_or_else(PoisonError::into_inner).take_in(part)?;
        let Some(chunk) = taken else { return Ok(None) };
        pace.take(chunk.len() as u64).await;
        Ok(Some((chunk, (stream, arriving, pace))))
    })
}

impl Arriving {
    /// A chunk; `None` at the end.
    fn take_in(&mut self, part: Part) -> Result<Option<Bytes>> {
        match part {
            Part::Chunk(chunk) if self.head.is_some() => {
                self.digests.push(sha256(&chunk));
                Ok(Some(chunk))
            }
            Part::End(end) if self.head.is_some() => {
                let parts: Vec<&[u8]> = self.digests.iter().map(<[u8; 32]>::as_slice).collect();
                let whole = end.digest.as_ref() == sha256_parts(&parts).as_slice()
                    && usize::try_from(end.chunks).ok() == Some(self.digests.len());
                self.end = Some(end);
                if whole { Ok(None) } else { Err(damaged("object")) }
            }
            _ => Err(damaged("order")),
        }
    }
}

fn staged(object: ObjectId, arrived: Arriving) -> Result<StagedObject> {
    let (Some(head), Some(end)) = (arrived.head, arrived.end) else {
        return Err(Error::new(Code::ChunkDamaged).at("cut"));
    };
    Ok(StagedObject {
        sent: SentObject {
            object,
            chunks: end.chunks,
            digest: Digest::from_slice(&end.digest).ok_or_else(|| damaged("digest"))?,
            length: end.length,
        },
        head: Head {
            header: head.header.to_vec(),
            salt: head.salt.to_vec(),
            commitment: head.commitment.to_vec(),
        },
    })
}
