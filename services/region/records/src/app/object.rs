//! Downloading a large object.

use std::sync::Arc;

use bytes::Bytes;
use domicile_crypto::object::{CHUNK, ObjectOpener, ObjectPlace, SEALED_CHUNK, sealed_length, sealed_offset};
use domicile_crypto::{Sha256, Zeroizing};
use domicile_objects::{ObjectName, ObjectStore};
use domicile_proto::records::v1 as pb;
use domicile_store::queries::object::{self, Object};
use domicile_types::{AuditScope, Code, Error, ItemId, ObjectId, Result};
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};

use super::draft::subject;
use super::upload::Content;
use super::{Records, Who};
use crate::kinds;
use crate::wire::{self, id, invalid};

impl Records {
    /// An object behind an item: what comes, then its content. Each piece is checked before it is given
    /// out, the last one only once length and digest of the whole are right.
    ///
    /// # Errors
    /// As [`Records::get_item`]; in the stream [`Code::ContentDamaged`].
    pub async fn download_object(
        &self,
        audit: &Arc<AuditScope>,
        request: pb::DownloadObjectRequest,
    ) -> Result<(pb::DownloadHeader, Content)> {
        let item: ItemId = id("item_id", &request.item_id)?;
        let subject = subject(&request.subject_id)?;
        let who = Who::of(&audit.actor, subject)?;
        let found = self.served(audit, subject, item, None).await?;
        let mut payload = self.open(&found).await?;
        let reference = kinds::object_ref(&mut payload).cloned().flatten();
        let (Some(reference), Some(object)) = (reference, found.header.object_id) else {
            return Err(invalid("item_id: it has no object"));
        };
        let sha256: [u8; 32] =
            reference.sha256.clone().try_into().map_err(|_| Error::new(Code::ContentDamaged))?;
        let content = self.content(&who, object).await?;
        let header = pb::DownloadHeader {
            item: Some(pb::Item { header: Some(wire::header(&found.header)), payload: Some(payload) }),
            length: reference.length,
            sha256: reference.sha256,
        };
        Ok((header, checked(content, reference.length, sha256)))
    }

    /// The object's content, wherever it lies. It may be sealed again between two looks.
    async fn content(&self, who: &Who, object: ObjectId) -> Result<Content> {
        let row = self.object_row(who, object).await?;
        if row.travelling {
            match self.inner.travel.object(&row).await {
                Err(gone) if gone.code() == Code::ObjectMissing => {}
                content => return content,
            }
            let row = self.object_row(who, object).await?;
            return if row.travelling { Err(damaged()) } else { self.chunks(row).await };
        }
        self.chunks(row).await
    }

    async fn object_row(&self, who: &Who, object: ObjectId) -> Result<Object> {
        let who = *who;
        self.store()
            .read("object.get", who.scope(), move |tx| Box::pin(object::get(tx, who.subject, object)))
            .await?
            .ok_or_else(damaged)
    }

    /// Opens chunk after chunk of an object sealed here.
    async fn chunks(&self, row: Object) -> Result<Content> {
        let key = self.inner.keyring.record_key_at(row.subject, row.practice, row.key_version).await?;
        let place = ObjectPlace {
            region: self.region().clone(),
            subject: row.subject,
            practice: row.practice,
            object: row.object,
            key_version: row.key_version,
        };
        let reader = Reader {
            objects: Arc::clone(&self.inner.objects),
            name: ObjectName::copy(row.subject, row.object, row.copy),
            opener: ObjectOpener::new(key, place),
            sealed: sealed_length(row.length)?,
            chunks: row.chunks,
            next: 0,
        };
        let stream = stream::try_unfold(reader, |mut reader| async move {
            if reader.next == reader.chunks {
                return Ok(None);
            }
            let chunk = reader.chunk().await?;
            Ok(Some((chunk, reader)))
        });
        Ok(stream.boxed())
    }
}

/// An object's sealed chunks, read one by one.
struct Reader {
    objects: Arc<dyn ObjectStore>,
    name: ObjectName,
    opener: ObjectOpener,
    sealed: u64,
    chunks: u32,
    next: u32,
}

impl Reader {
    async fn chunk(&mut self) -> Result<Bytes> {
        let offset = sealed_offset(self.next);
        let length = self.sealed.saturating_sub(offset).min(SEALED_CHUNK as u64);
        let sealed = self.objects.read_range(&self.name, offset, length).await.map_err(lost)?;
        let mut plain = self.opener.open(self.next, self.chunks, &sealed)?;
        self.next += 1;
        Ok(Bytes::from(std::mem::take(&mut *plain)))
    }
}

/// Content that is gone or cut short is damage: the record says it is there.
fn lost(error: Error) -> Error {
    match error.code() {
        Code::ObjectMissing | Code::ObjectIncomplete => damaged().because(error),
        _ => error,
    }
}

fn damaged() -> Error {
    Error::new(Code::ContentDamaged)
}

struct Check {
    content: BoxStream<'static, Result<Bytes>>,
    left: u64,
    digest: Option<(Sha256, [u8; 32])>,
    held: Zeroizing<Vec<u8>>,
}

/// Content in pieces of at most 1 MiB, whose last piece waits for the check of the whole.
fn checked(content: BoxStream<'static, Result<Bytes>>, length: u64, sha256: [u8; 32]) -> Content {
    let check = Check {
        content,
        left: length,
        digest: Some((Sha256::default(), sha256)),
        held: Zeroizing::new(Vec::new()),
    };
    stream::try_unfold(check, |mut check| async move {
        let next = check.next().await?;
        Ok(next.map(|piece| (piece, check)))
    })
    .boxed()
}

impl Check {
    async fn next(&mut self) -> Result<Option<Bytes>> {
        while self.digest.is_some() {
            let Some(piece) = self.content.next().await.transpose()? else {
                return self.finish();
            };
            self.left = self.left.checked_sub(piece.len() as u64).ok_or_else(damaged)?;
            if let Some((running, _)) = &mut self.digest {
                running.update(&piece);
            }
            let before = std::mem::replace(&mut *self.held, piece.to_vec());
            if !before.is_empty() {
                return Ok(Some(Bytes::from(before)));
            }
        }
        Ok(None)
    }

    fn finish(&mut self) -> Result<Option<Bytes>> {
        let whole = self.digest.take().is_some_and(|(running, expected)| running.finish() == expected);
        if !whole || self.left > 0 || self.held.len() > CHUNK {
            return Err(damaged());
        }
        let last = std::mem::take(&mut *self.held);
        Ok((!last.is_empty()).then(|| Bytes::from(last)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use domicile_crypto::sha256;
    use futures::TryStreamExt as _;

    async fn run(pieces: &[&'static [u8]], length: u64, digest: [u8; 32]) -> (Vec<Bytes>, Option<Code>) {
        let pieces: Vec<Result<Bytes>> = pieces.iter().map(|piece| Ok(Bytes::from_static(piece))).collect();
        let mut out = Vec::new();
        let mut content = checked(stream::iter(pieces).boxed(), length, digest);
        loop {
            match content.try_next().await {
                Ok(Some(piece)) => out.push(piece),
                Ok(None) => return (out, None),
                Err(error) => return (out, Some(error.code())),
            }
        }
    }

    #[tokio::test]
    async fn the_last_piece_waits_for_the_whole() {
        let digest = sha256(b"abcdef");
        assert_eq!(run(&[b"ab", b"cd", b"ef"], 6, digest).await.1, None);
        assert_eq!(run(&[], 0, sha256(b"")).await, (Vec::new(), None));
        for (pieces, length) in
            [(vec![&b"ab"[..], b"cd"], 6), (vec![b"ab", b"cd", b"eg"], 6), (vec![b"abcdef", b"g"], 6)]
        {
            let (out, code) = run(&pieces, length, digest).await;
            assert_eq!(code, Some(Code::ContentDamaged));
            assert!(out.iter().map(Bytes::len).sum::<usize>() < 6 || pieces.len() == 2);
        }
    }
}
