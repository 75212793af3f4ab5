//! Creating an object: cut the stream into parts, send, and find out whose object has the name when an
//! answer is lost.

use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::RequestId;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::ChecksumAlgorithm;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use domicile_crypto::sha256;
use domicile_types::{Code, Error, Result};
use futures::stream::{BoxStream, TryStreamExt};
use tokio::runtime::Handle;

use super::failure::{Call, condition_failed, explain};
use super::{FIRST_WAIT, S3, UPLOAD};
use crate::ObjectName;

/// A stream, cut into parts of equal length but for the last.
pub(super) struct Parts<'a> {
    content: BoxStream<'a, Result<Bytes>>,
    part_bytes: usize,
    /// What has come and is in no part yet; empty at the stream's end.
    carry: Bytes,
}

/// A part, and whether it is the last.
pub(super) struct Part {
    pub(super) bytes: Bytes,
    pub(super) last: bool,
}

impl<'a> Parts<'a> {
    pub(super) fn new(content: BoxStream<'a, Result<Bytes>>, part_bytes: usize) -> Self {
        Self { content, part_bytes, carry: Bytes::new() }
    }

    /// The next part; the first may be empty. Not to be asked again after the last.
    pub(super) async fn next(&mut self) -> Result<Part> {
        let mut bytes = BytesMut::new();
        loop {
            let room = self.part_bytes - bytes.len();
            bytes.extend_from_slice(&self.carry.split_to(room.min(self.carry.len())));
            if !self.carry.is_empty() {
                return Ok(Part { bytes: bytes.freeze(), last: false });
            }
            match self.content.try_next().await? {
                Some(piece) => self.carry = piece,
                None => return Ok(Part { bytes: bytes.freeze(), last: true }),
            }
        }
    }
}

/// An object that was just made: gone again with this, unless it is kept. So nothing stays when the
/// caller went away meanwhile.
pub(super) struct Made {
    store: S3,
    name: ObjectName,
    own: String,
    kept: bool,
}

impl Made {
    pub(super) fn new(store: &S3, name: &ObjectName, own: &str) -> Self {
        Self { store: store.clone(), name: name.clone(), own: own.to_owned(), kept: false }
    }

    fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        let Ok(runtime) = Handle::try_current() else { return };
        if !self.kept {
            let (store, name, own) = (self.store.clone(), self.name.clone(), std::mem::take(&mut self.own));
            runtime.spawn(async move { store.forget(&name, &own).await });
        }
    }
}

impl S3 {
    pub(super) async fn create_object(
        &self,
        name: &ObjectName,
        content: BoxStream<'_, Result<Bytes>>,
    ) -> Result<u64> {
        let own = hex::encode(self.ctx.random::<16>());
        let mut parts = Parts::new(content, self.part_bytes);
        let first = parts.next().await?;
        let (made, length) = if first.last {
            let length = first.bytes.len() as u64;
            let (store, name) = (self.clone(), name.clone());
            // In a task of its own, which the caller's departure does not leave half done.
            let put = tokio::spawn(async move { store.put(&name, &own, first.bytes).await });
            (put.await.map_err(ended)??, length)
        } else {
            self.upload(name, &own, first, parts).await?
        };
        made.keep();
        Ok(length)
    }

    async fn put(&self, name: &ObjectName, own: &str, body: Bytes) -> Result<Made> {
        let digest = STANDARD.encode(sha256(&body));
        let mut wait = FIRST_WAIT;
        let mut tries = 1;
        loop {
            let (mode, until) = self.lock_now();
            let request =
                self.client.put_object().bucket(&self.bucket).key(self.key(name)).if_none_match("*");
            let request = request.metadata(UPLOAD, own).checksum_sha256(&digest);
            // A lock wants the algorithm named too.
            let request = request.checksum_algorithm(ChecksumAlgorithm::Sha256);
            let request = request.set_object_lock_mode(mode).set_object_lock_retain_until_date(until);
            let Err(error) = request.body(ByteStream::from(body.clone())).send().await else {
                return Ok(Made::new(self, name, own));
            };
            match self.settle(name, own, Call::Put, &error).await {
                Settled::Ours(made) => return Ok(*made),
                // Two at once, and neither has the name now: S3 asks for another try.
                Settled::Conflict(_) if tries < self.attempts => tokio::time::sleep(wait).await,
                Settled::Conflict(error) | Settled::Failed(error) => return Err(error),
            }
            tries += 1;
            wait *= 2;
        }
    }

    /// What stands after the last request of an upload failed.
    pub(super) async fn settle<E>(
        &self,
        name: &ObjectName,
        own: &str,
        call: Call,
        error: &SdkError<E>,
    ) -> Settled
    where
        E: ProvideErrorMetadata + RequestId + std::error::Error + 'static,
    {
        let (conflict, error) = (condition_failed(error), explain(call, error));
        if !conflict && error.code() != Code::ObjectStoreUnavailable {
            return Settled::Failed(error);
        }
        match self.head(name).await {
            // Also when a repeated request found what the first one had made.
            Ok(facts) if facts.upload.as_deref() == Some(own) => {
                Settled::Ours(Box::new(Made::new(self, name, own)))
            }
            Ok(_) => Settled::Failed(Error::new(Code::ObjectExists)),
            Err(absent) if absent.code() == Code::ObjectMissing && conflict => {
                Settled::Conflict(Error::new(Code::ObjectStoreUnavailable).at(call.name()))
            }
            Err(_) => Settled::Failed(error),
        }
    }

    /// Removes what this upload made, and nothing else.
    async fn forget(&self, name: &ObjectName, own: &str) {
        let ours = self.head(name).await.is_ok_and(|facts| facts.upload.as_deref() == Some(own));
        if ours && let Err(error) = self.delete_versions(name).await {
            tracing::warn!(%error, "an object whose upload was given up stays for the next clean-up");
        }
    }
}

/// What stands after a failed request.
pub(super) enum Settled {
    /// The object is there, and this upload made it.
    Ours(Box<Made>),
    /// Another request changed the name at the same time, and nothing has it.
    Conflict(Error),
    /// It was not made.
    Failed(Error),
}

/// A task of this store that ended by itself: the process is ending.
pub(super) fn ended(error: tokio::task::JoinError) -> Error {
    Error::new(Code::ObjectStoreUnavailable).because(error)
}

#[cfg(test)]
mod tests {
    use futures::stream::{self, StreamExt};

    use super::*;

    async fn cut(pieces: &[usize], part_bytes: usize) -> Vec<(usize, bool)> {
        let pieces: Vec<_> = pieces.iter().map(|length| Ok(Bytes::from(vec![7; *length]))).collect();
        let mut parts = Parts::new(stream::iter(pieces).boxed(), part_bytes);
        let mut cut = Vec::new();
        loop {
            let part = parts.next().await.unwrap();
            cut.push((part.bytes.len(), part.last));
            if part.last {
                return cut;
            }
        }
    }

    #[tokio::test]
    async fn every_part_but_the_last_is_full_and_the_last_is_known() {
        assert_eq!(cut(&[], 10).await, [(0, true)]);
        assert_eq!(cut(&[0, 0], 10).await, [(0, true)]);
        assert_eq!(cut(&[10], 10).await, [(10, true)]);
        assert_eq!(cut(&[10, 0], 10).await, [(10, true)]);
        assert_eq!(cut(&[11], 10).await, [(10, false), (1, true)]);
        assert_eq!(cut(&[3, 3, 3, 3], 10).await, [(10, false), (2, true)]);
        assert_eq!(cut(&[35], 10).await, [(10, false), (10, false), (10, false), (5, true)]);
        assert_eq!(cut(&[10, 10], 10).await, [(10, false), (10, true)]);
    }
}
