//! Uploading a large object: the intent is registered first, then the content streams sealed into the
//! object store, then the item that describes it is written. Nothing of it is ever in clear on a disk.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use domicile_crypto::object::{self as chunked, CHUNK, ObjectPlace, ObjectSealer};
use domicile_crypto::{Sha256, Zeroizing};
use domicile_objects::{ObjectName, ObjectPrefix};
use domicile_proto::records::v1 as pb;
use domicile_store::Scope;
use domicile_store::queries::object::{self, Object, ObjectState, UPLOAD_TIME};
use domicile_types::{AuditScope, Code, Ctx, Error, Idempotency, ItemHeader, ObjectId, Result, SubjectId};
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use prost::Message as _;

use super::draft::{Draft, only_new, subject};
use super::put::{Write, begin, fingerprint};
use super::{Records, Who};
use crate::kinds;
use crate::wire::{self, idempotency_key, invalid};

/// Content as a caller sends it, piece by piece.
pub(crate) type Content = BoxStream<'static, Result<Bytes>>;

/// How often an upload looks whether its record may still be written.
const LOOK: Duration = Duration::from_secs(1);

impl Records {
    /// Uploads an object and writes the item that describes it. What does not end well leaves nothing.
    ///
    /// # Errors
    /// [`Code::ObjectIncomplete`] when content, length and digest do not fit together; else as
    /// [`Records::put_item`].
    pub async fn upload_object(
        &self,
        audit: &Arc<AuditScope>,
        header: pb::UploadHeader,
        content: Content,
    ) -> Result<pb::UploadObjectResponse> {
        let subject = subject(&header.subject_id)?;
        let who = Who::of(&audit.actor, subject)?;
        let body = header.encode_to_vec();
        let key = idempotency_key(header.idempotency_key)?;
        let digest: [u8; 32] = header.sha256.try_into().map_err(|_| invalid("sha256"))?;
        let most = self.settings().bounds.object_bytes;
        if header.length > most {
            return Err(Error::new(Code::TooLarge).at(format!("length: at most {most} bytes")));
        }
        let mut draft = Draft::read(header.draft)?;
        only_new(&draft)?;
        if kinds::object_ref(&mut draft.payload).is_none() {
            return Err(invalid("draft.payload"));
        }
        let write = Write { who, key, request: ("upload", body), draft, occasion: None, object: None };
        let upload = self.upload(audit, write, header.length, digest, content);
        match upload.await {
            Ok(header) => Ok(answer(&header)),
            Err(error) => Err(self.elsewhere(&audit.actor, subject, error).await),
        }
    }

    async fn upload(
        &self,
        audit: &Arc<AuditScope>,
        mut write: Write,
        length: u64,
        digest: [u8; 32],
        content: Content,
    ) -> Result<ItemHeader> {
        let who = write.who;
        let practice = self.practice_of(&who, &write.draft).await?;
        let keys = self.write_keys(&who, practice, false).await?;
        audit.concerns(who.subject);
        let (name, body) = &write.request;
        let fingerprint = fingerprint(&keys.fingerprint, name, &who, body);
        let idempotency = Idempotency { key: write.key.clone(), fingerprint };
        if let Some(before) = self.by_key(&who, &idempotency).await? {
            audit.touches(before.item_id);
            return Ok(before);
        }
        let place = self.inner.intake.enter(who.subject)?;
        let chunks = chunked::chunks(length)?;
        let (key_version, key) =
            self.inner.keyring.record_key_for(who.subject, practice, u64::from(chunks)).await?;
        let object = ObjectId::generate(self.ctx());
        let reference =
            pb::ObjectRef { object_id: object.as_bytes().to_vec(), length, sha256: digest.to_vec(), chunks };
        if let Some(place) = kinds::object_ref(&mut write.draft.payload) {
            *place = Some(reference);
        }
        write.object = Some(object);
        let row = Object {
            object,
            subject: who.subject,
            item: None,
            practice,
            length,
            chunks,
            key_version,
            state: ObjectState::Pending,
            travelling: false,
            transfer: None,
            copy: None,
            registered_at: self.now(),
        };
        let sealing = ObjectPlace {
            region: self.region().clone(),
            subject: who.subject,
            practice,
            object,
            key_version,
        };
        let plain = Plain {
            content,
            sealer: ObjectSealer::new(key, sealing),
            ctx: self.ctx().clone(),
            waiting: Bytes::new(),
            left: length,
            digest: Some((Sha256::default(), digest)),
        };
        // In a task of its own, the registration too: a caller may go away between its commit and the next
        // line, and what it left is still cleared away.
        let (records, audit) = (self.clone(), Arc::clone(audit));
        let task = tokio::spawn(async move {
            let _place = place;
            records.register(&who, row).await?;
            records.carry(&audit, write, plain).await
        });
        task.await.map_err(|_| Error::new(Code::Internal).at("upload"))?
    }

    /// The practice whose record key seals the object: as for the item that will describe it.
    async fn practice_of(&self, who: &Who, draft: &Draft) -> Result<Option<domicile_types::PracticeId>> {
        match who.carer() {
            Some(carer) => Ok(Some(carer.practice)),
            None => self.parents_practice(who, draft).await,
        }
    }

    /// Registers the intent; what a dead process left behind is cleared away on the way.
    async fn register(&self, who: &Who, row: Object) -> Result<()> {
        let (who, subject) = (*who, row.subject);
        let stale = self.store().write_unaudited("object.register", who.scope(), move |tx| {
            let row = row.clone();
            Box::pin(async move {
                begin(tx, &who, 0).await?;
                object::insert_many(tx, vec![row]).await?;
                object::stale_uploads(tx, who.subject).await
            })
        });
        if !stale.await?.is_empty()
            && let Err(error) = self.sweep_uploads(subject).await
        {
            tracing::warn!(code = error.code().as_str(), "uploads left behind were not cleared away");
        }
        Ok(())
    }

    /// Streams the content, writes the item, and clears away what did not end well.
    async fn carry(&self, audit: &Arc<AuditScope>, write: Write, plain: Plain) -> Result<ItemHeader> {
        let Write { who, object, .. } = write;
        let Some(object) = object else { return Err(Error::new(Code::Internal)) };
        let name = ObjectName::object(who.subject, object);
        let stored = tokio::select! {
            stored = self.inner.objects.create(&name, sealed(plain)) => stored.map(drop),
            error = self.no_longer_writable(who) => Err(error),
            () = tokio::time::sleep(UPLOAD_TIME) => Err(Error::new(Code::DeadlineExceeded)),
        };
        self.ctx().faults.hit("upload.stored");
        let written = match stored {
            Err(error) => Err(error),
            Ok(()) => self.write_item(audit, write).await,
        };
        let kept = written.as_ref().is_ok_and(|header| header.object_id == Some(object));
        if !kept && let Err(error) = self.clear_away(who.subject, object).await {
            tracing::warn!(
                code = error.code().as_str(),
                "an upload was not cleared away; the next one does it"
            );
        }
        written
    }

    /// Comes back once the record may no longer be written: a freeze ends an upload, in whichever process it is.
    async fn no_longer_writable(&self, who: Who) -> Error {
        loop {
            tokio::time::sleep(LOOK).await;
            if let Err(error) = self.writable(&who).await
                && error.code() != Code::StoreUnavailable
            {
                return error;
            }
        }
    }

    /// Forgets a pending upload, then its content. A completed one stays.
    async fn clear_away(&self, subject: SubjectId, object: ObjectId) -> Result<()> {
        let forgotten = self
            .store()
            .write_unaudited("object.forget", Scope::Subject(subject), move |tx| {
                Box::pin(object::forget(tx, subject, object))
            })
            .await?;
        if forgotten { self.inner.objects.delete(&ObjectName::object(subject, object)).await } else { Ok(()) }
    }

    /// Clears away uploads that ended with the process they ran in: rows pending for longer than an upload
    /// may take, and content that no row knows.
    ///
    /// # Errors
    /// [`Code::StoreUnavailable`], [`Code::ObjectStoreUnavailable`].
    pub async fn sweep_uploads(&self, subject: SubjectId) -> Result<()> {
        // Names before rows: a row is there before its content.
        let names = self.inner.objects.list(&ObjectPrefix::objects(subject)).await?;
        let read = self.store().read("object.pending", Scope::Subject(subject), move |tx| {
            Box::pin(async move {
                let mut known = object::list(tx, subject, ObjectState::Pending).await?;
                known.extend(object::list(tx, subject, ObjectState::Complete).await?);
                Ok((object::stale_uploads(tx, subject).await?, known))
            })
        });
        let (stale, known) = read.await?;
        for object in stale {
            self.clear_away(subject, object).await?;
        }
        let known: BTreeSet<ObjectId> = known.iter().map(|object| object.object).collect();
        for name in names.iter().filter(|name| name.object_id().is_none_or(|object| !known.contains(&object)))
        {
            self.inner.objects.delete(name).await?;
        }
        Ok(())
    }
}

fn answer(header: &ItemHeader) -> pb::UploadObjectResponse {
    let object_id = header.object_id.map(|object| object.to_string()).unwrap_or_default();
    pb::UploadObjectResponse { header: Some(wire::header(header)), object_id }
}

/// Content on its way in, before it is sealed.
struct Plain {
    content: Content,
    sealer: ObjectSealer,
    ctx: Ctx,
    waiting: Bytes,
    left: u64,
    /// The running digest and the one promised; gone once the last chunk is sealed.
    digest: Option<(Sha256, [u8; 32])>,
}

/// The sealed chunks. The last one comes only when length and digest are as promised, so an object that
/// is not whole is never stored.
fn sealed(plain: Plain) -> BoxStream<'static, Result<Bytes>> {
    stream::try_unfold(plain, |mut plain| async move {
        if plain.digest.is_none() {
            return Ok(None);
        }
        let sealed = plain.chunk().await?;
        Ok(Some((Bytes::from(sealed), plain)))
    })
    .boxed()
}

impl Plain {
    async fn chunk(&mut self) -> Result<Vec<u8>> {
        let want = usize::try_from(self.left).unwrap_or(CHUNK).min(CHUNK);
        let mut chunk = Zeroizing::new(Vec::with_capacity(want));
        while chunk.len() < want {
            if self.waiting.is_empty() {
                self.waiting = self.piece().await?.ok_or_else(|| incomplete("content ends early"))?;
            }
            let take = self.waiting.len().min(want - chunk.len());
            chunk.extend_from_slice(self.waiting.get(..take).unwrap_or_default());
            self.waiting.advance(take);
        }
        self.left -= want as u64;
        if let Some((running, _)) = &mut self.digest {
            running.update(&chunk);
        }
        let last = self.left == 0;
        if last {
            self.finish().await?;
        }
        self.sealer.seal_next(&self.ctx, &chunk, last)
    }

    /// Nothing may come after the promised length, and the digest must be the promised one.
    async fn finish(&mut self) -> Result<()> {
        while self.waiting.is_empty() {
            match self.piece().await? {
                None => break,
                Some(more) => self.waiting = more,
            }
        }
        if !self.waiting.is_empty() {
            return Err(incomplete("length"));
        }
        let whole = self.digest.take().is_some_and(|(running, promised)| running.finish() == promised);
        if whole { Ok(()) } else { Err(incomplete("sha256")) }
    }

    async fn piece(&mut self) -> Result<Option<Bytes>> {
        self.content.next().await.transpose()
    }
}

fn incomplete(place: &str) -> Error {
    Error::new(Code::ObjectIncomplete).at(place)
}

#[cfg(test)]
mod tests {
    use super::*;
    use domicile_crypto::object::ObjectOpener;
    use domicile_crypto::{Key32, sha256};
    use domicile_types::RegionId;
    use futures::TryStreamExt as _;

    fn place() -> ObjectPlace {
        ObjectPlace {
            region: RegionId::new("eu").unwrap(),
            subject: SubjectId::from_uuid(uuid::Uuid::nil()),
            practice: None,
            object: ObjectId::from_uuid(uuid::Uuid::nil()),
            key_version: 1,
        }
    }

    async fn run(content: &[u8], piece: usize, length: u64, digest: [u8; 32]) -> Result<Vec<Bytes>> {
        let pieces: Vec<Result<Bytes>> =
            content.chunks(piece).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
        let plain = Plain {
            content: stream::iter(pieces).boxed(),
            sealer: ObjectSealer::new(Key32::from_bytes(&[1; 32]), place()),
            ctx: Ctx::system(),
            waiting: Bytes::new(),
            left: length,
            digest: Some((Sha256::default(), digest)),
        };
        sealed(plain).try_collect().await
    }

    #[tokio::test]
    async fn any_cut_of_the_content_gives_the_same_chunks() {
        for length in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK] {
            let content: Vec<u8> = (0..length).map(|at| u8::try_from(at % 251).unwrap()).collect();
            for piece in [CHUNK, 700_001] {
                let sealed = run(&content, piece, length as u64, sha256(&content)).await.unwrap();
                let chunks = chunked::chunks(length as u64).unwrap();
                assert_eq!(sealed.len(), chunks as usize);
                let opener = ObjectOpener::new(Key32::from_bytes(&[1; 32]), place());
                let opened: Vec<u8> = sealed
                    .iter()
                    .zip(0..)
                    .flat_map(|(chunk, index)| opener.open(index, chunks, chunk).unwrap().to_vec())
                    .collect();
                assert!(opened == content);
            }
        }
    }

    #[tokio::test]
    async fn content_that_is_not_as_promised_never_gets_its_last_chunk() {
        let content = vec![7; CHUNK + 5];
        let whole = sha256(&content);
        for (length, digest, place) in [
            (CHUNK as u64 + 6, whole, "content ends early"),
            (CHUNK as u64 + 4, whole, "length"),
            (CHUNK as u64 + 5, [0; 32], "sha256"),
        ] {
            let error = run(&content, 1_000, length, digest).await.unwrap_err();
            assert_eq!((error.code(), error.place()), (Code::ObjectIncomplete, Some(place)));
        }
    }
}
