//! A multipart upload: one part on its way while the next is read.

use std::pin::pin;

use aws_sdk_s3::error::ProvideErrorMetadata;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{ChecksumAlgorithm, CompletedMultipartUpload, CompletedPart};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use domicile_crypto::{hash::sha256_parts, sha256};
use domicile_types::{Code, Error, Result};
use futures::future::{Either, select};
use tokio::runtime::Handle;

use super::create::{Made, Part, Parts, Settled, ended};
use super::failure::{Call, explain, incomplete};
use super::{S3, UPLOAD};
use crate::ObjectName;

/// Parts of one upload (S3 user guide, "Multipart upload limits").
const MOST_PARTS: usize = 10_000;

/// Times an abort is tried: a part on its way may come after it.
const ABORTS: u32 = 3;

/// A part that has arrived: what its upload's end names, its SHA-256 and its length.
type Sent = (CompletedPart, [u8; 32], u64);

/// An upload that was begun. Given up when dropped, so that no part of it stays.
struct Upload {
    store: S3,
    name: ObjectName,
    own: String,
    id: String,
    parts: Vec<CompletedPart>,
    digests: Vec<[u8; 32]>,
    length: u64,
    over: bool,
}

impl Drop for Upload {
    fn drop(&mut self) {
        let Ok(runtime) = Handle::try_current() else { return };
        if !self.over {
            let (store, key, id) = (self.store.clone(), self.store.key(&self.name), self.id.clone());
            runtime.spawn(async move { store.give_up(&key, &id).await });
        }
    }
}

impl S3 {
    pub(super) async fn upload(
        &self,
        name: &ObjectName,
        own: &str,
        first: Part,
        parts: Parts<'_>,
    ) -> Result<(Made, u64)> {
        // The end would tell it too, after the whole content.
        match self.head(name).await {
            Ok(_) => return Err(Error::new(Code::ObjectExists)),
            Err(absent) if absent.code() == Code::ObjectMissing => {}
            Err(error) => return Err(error),
        }
        let begin = {
            let (store, name, own) = (self.clone(), name.clone(), own.to_owned());
            tokio::spawn(async move { store.begin(name, own).await })
        };
        let mut upload = begin.await.map_err(ended)??;
        match upload.send(first, parts).await {
            Ok(()) => {
                let length = upload.length;
                // In a task of its own, which the caller's departure does not leave half done.
                Ok((tokio::spawn(upload.complete()).await.map_err(ended)??, length))
            }
            Err(error) => {
                upload.abort().await;
                Err(error)
            }
        }
    }

    async fn begin(&self, name: ObjectName, own: String) -> Result<Upload> {
        let (mode, until) = self.lock_now();
        let request = self.client.create_multipart_upload().bucket(&self.bucket).key(self.key(&name));
        let request = request.metadata(UPLOAD, &own).checksum_algorithm(ChecksumAlgorithm::Sha256);
        let request = request.set_object_lock_mode(mode).set_object_lock_retain_until_date(until);
        let answer = request.send().await.map_err(|error| explain(Call::Begin, &error))?;
        let id = answer.upload_id.ok_or_else(|| incomplete(Call::Begin))?;
        let (parts, digests) = (Vec::new(), Vec::new());
        Ok(Upload { store: self.clone(), name, own, id, parts, digests, length: 0, over: false })
    }

    /// Ends an upload and removes its parts.
    pub(super) async fn give_up(&self, key: &str, id: &str) {
        for _ in 0..ABORTS {
            let request = self.client.abort_multipart_upload().bucket(&self.bucket).key(key).upload_id(id);
            let Err(error) = request.send().await else { continue };
            if error.code() != Some("NoSuchUpload") {
                let error = explain(Call::Abort, &error);
                tracing::warn!(%error, "an upload that was given up stays for the next clean-up");
            }
            return;
        }
    }
}

impl Upload {
    async fn send(&mut self, first: Part, mut parts: Parts<'_>) -> Result<()> {
        let mut part = first;
        while !part.last {
            let (sent, next) = self.send_and_read(part.bytes, &mut parts).await?;
            self.note(sent);
            part = next;
        }
        let last = self.send_part(part.bytes).await?;
        self.note(last);
        Ok(())
    }

    /// Sends one part while the next is read.
    async fn send_and_read(&self, bytes: Bytes, parts: &mut Parts<'_>) -> Result<(Sent, Part)> {
        let sending = pin!(self.send_part(bytes));
        let reading = pin!(parts.next());
        match select(sending, reading).await {
            Either::Left((sent, reading)) => Ok((sent?, reading.await?)),
            // A part on its way arrives before its upload is given up.
            Either::Right((next, sending)) => {
                let sent = sending.await;
                let next = next?;
                Ok((sent?, next))
            }
        }
    }

    fn note(&mut self, (part, digest, length): Sent) {
        self.parts.push(part);
        self.digests.push(digest);
        self.length += length;
    }

    async fn send_part(&self, bytes: Bytes) -> Result<Sent> {
        let number = self.parts.len() + 1;
        let too_large = || Error::new(Code::TooLarge).at("object");
        let number = i32::try_from(number).ok().filter(|_| number <= MOST_PARTS).ok_or_else(too_large)?;
        let (digest, length) = (sha256(&bytes), bytes.len() as u64);
        let checksum = STANDARD.encode(digest);
        let store = &self.store;
        let request = store.client.upload_part().bucket(&store.bucket).key(store.key(&self.name));
        let request = request.upload_id(&self.id).part_number(number).checksum_sha256(&checksum);
        let answer = request.body(ByteStream::from(bytes)).send().await;
        let answer = answer.map_err(|error| explain(Call::Part, &error))?;
        let part = CompletedPart::builder().part_number(number).checksum_sha256(checksum);
        Ok((part.set_e_tag(answer.e_tag).build(), digest, length))
    }

    async fn complete(mut self) -> Result<Made> {
        let parts = CompletedMultipartUpload::builder().set_parts(Some(self.parts.clone())).build();
        let store = &self.store;
        let request = store.client.complete_multipart_upload().bucket(&store.bucket);
        let request = request.key(store.key(&self.name)).upload_id(&self.id).if_none_match("*");
        let request = request.multipart_upload(parts).set_mpu_object_size(i64::try_from(self.length).ok());
        let settled = match request.send().await {
            Ok(answer) if self.whole(answer.checksum_sha256()) => {
                Settled::Ours(Box::new(Made::new(store, &self.name, &self.own)))
            }
            Ok(_) => {
                // Dropped, and so removed.
                drop(Made::new(store, &self.name, &self.own));
                Settled::Failed(Error::new(Code::ObjectStoreUnavailable).at("checksum"))
            }
            Err(error) => store.settle(&self.name, &self.own, Call::Complete, &error).await,
        };
        match settled {
            Settled::Ours(made) => {
                self.over = true;
                Ok(*made)
            }
            Settled::Conflict(error) | Settled::Failed(error) => {
                self.abort().await;
                Err(error)
            }
        }
    }

    /// Whether the checksum of the whole, where the store tells it, is that of the parts sent: the SHA-256
    /// of the parts' SHA-256 (S3 user guide, "Composite checksums").
    fn whole(&self, told: Option<&str>) -> bool {
        let digests: Vec<&[u8]> = self.digests.iter().map(|digest| digest.as_slice()).collect();
        let own = STANDARD.encode(sha256_parts(&digests));
        told.is_none_or(|told| told.split_once('-').map_or(told, |(digest, _)| digest) == own)
    }

    async fn abort(mut self) {
        self.over = true;
        self.store.give_up(&self.store.key(&self.name), &self.id).await;
    }
}
