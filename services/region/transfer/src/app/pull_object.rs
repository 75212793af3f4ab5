//! Destination: pulling objects, a few side by side, straight into the object store.

use bytes::Bytes;
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
use domicile_types::{Code, ObjectId, Result};
use futures::stream::{self, StreamExt as _};
use std::sync::{Arc, Mutex, PoisonError};
use tonic::Streaming;

use super::pace::Pace;
use super::pull::damaged;
use super::streams::{Route, object_digest};
use super::{Transfers, parallel};
use crate::convert;

/// What came of an object besides its chunks.
#[derive(Default)]
pub struct ArrivingObject {
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
        let arriving = Arc::new(Mutex::new(ArrivingObject::new(head)));
        self.objects
            .create(&name, chunks(stream, Arc::clone(&arriving), self.pace(&row.from)).boxed())
            .await?;
        let arrived = std::mem::take(&mut *arriving.lock().unwrap_or_else(PoisonError::into_inner));
        self.ctx.faults.hit("object.before_stage");
        let staged = match arrived.staged(object, &Route::of_destination(row)?) {
            Ok(staged) => staged,
            Err(error) => {
                self.objects.delete(&name).await?;
                return Err(error);
            }
        };
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
    arriving: Arc<Mutex<ArrivingObject>>,
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

impl ArrivingObject {
    /// An object whose head has come.
    #[must_use]
    pub fn new(head: HeadMessage) -> Self {
        Self { head: Some(head), ..Self::default() }
    }

    /// The next message: a chunk; `None` at the end.
    ///
    /// # Errors
    /// [`Code::ChunkDamaged`] for a message out of order, and for an end that does not fit what came.
    pub fn take_in(&mut self, part: Part) -> Result<Option<Bytes>> {
        match part {
            Part::Chunk(chunk) if self.head.is_some() => {
                self.digests.push(sha256(&chunk));
                Ok(Some(chunk))
            }
            Part::End(end) if self.head.is_some() => {
                let whole = end.digest.as_ref() == object_digest(&self.digests, end.length).as_slice()
                    && usize::try_from(end.chunks).ok() == Some(self.digests.len());
                self.end = Some(end);
                if whole { Ok(None) } else { Err(damaged("object")) }
            }
            _ => Err(damaged("order")),
        }
    }

    /// The object as it is staged, once its end has come.
    ///
    /// # Errors
    /// [`Code::ChunkDamaged`] when it was cut, or is not of this route.
    pub fn staged(self, object: ObjectId, route: &Route) -> Result<StagedObject> {
        let (Some(head), Some(end)) = (self.head, self.end) else { return Err(damaged("cut")) };
        if head.header != route.header(Unit::Object(object)).encode() {
            return Err(damaged("route"));
        }
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
}
