//! Reading: whole objects, which go on where a connection broke off, and ranges.

use aws_sdk_s3::operation::get_object::GetObjectOutput;
use aws_sdk_s3::primitives::ByteStream;
use bytes::{Bytes, BytesMut};
use domicile_types::{Code, Error, Result};
use futures::stream::{self, BoxStream, StreamExt};
use std::time::Duration;
use tokio::time::timeout;

use super::failure::{Call, explain, incomplete, status, torn};
use super::{FIRST_WAIT, LONGEST_WAIT, S3, UPLOAD};
use crate::{MAX_RANGE, ObjectName};

/// What is known of an object without its content.
pub(super) struct Facts {
    /// Bytes.
    pub(super) length: u64,
    /// The upload that made it.
    pub(super) upload: Option<String>,
}

/// An object that is being read.
struct Reading {
    store: S3,
    name: ObjectName,
    /// Which content is read: after a tear it must still be the same.
    tag: Option<String>,
    body: ByteStream,
    at: u64,
    length: u64,
    failures: u32,
}

impl S3 {
    pub(super) async fn head(&self, name: &ObjectName) -> Result<Facts> {
        let answer = self.client.head_object().bucket(&self.bucket).key(self.key(name)).send().await;
        let answer = answer.map_err(|error| explain(Call::Head, &error))?;
        let length = answer.content_length().and_then(|length| u64::try_from(length).ok());
        let upload = answer.metadata().and_then(|pairs| pairs.get(UPLOAD)).cloned();
        Ok(Facts { length: length.ok_or_else(|| incomplete(Call::Head))?, upload })
    }

    async fn get(
        &self,
        name: &ObjectName,
        range: Option<String>,
        tag: Option<&str>,
    ) -> Result<GetObjectOutput> {
        let request = self.client.get_object().bucket(&self.bucket).key(self.key(name)).set_range(range);
        let answer = request.set_if_match(tag.map(str::to_owned)).send().await;
        answer.map_err(|error| match status(&error) {
            // Another object has the name now: the one that was being read is gone.
            412 => Error::new(Code::ObjectMissing),
            _ => explain(Call::Get, &error),
        })
    }

    pub(super) async fn read_object(&self, name: &ObjectName) -> Result<BoxStream<'static, Result<Bytes>>> {
        let answer = self.get(name, None, None).await?;
        let length = answer.content_length().and_then(|length| u64::try_from(length).ok());
        let reading = Reading {
            store: self.clone(),
            name: name.clone(),
            length: length.ok_or_else(|| incomplete(Call::Get))?,
            tag: answer.e_tag,
            body: answer.body,
            at: 0,
            failures: 0,
        };
        Ok(stream::try_unfold(reading, Reading::step).boxed())
    }

    pub(super) async fn read_part(&self, name: &ObjectName, offset: u64, length: u64) -> Result<Bytes> {
        if length > MAX_RANGE {
            return Err(Error::new(Code::TooLarge).at("range"));
        }
        if length == 0 {
            return self.head(name).await.map(|_| Bytes::new());
        }
        let mut failures = 0;
        loop {
            match self.try_part(name, offset, length).await {
                Err(error) if error.place() == Some(BODY) && failures + 1 < self.attempts => {
                    failures += 1;
                    tokio::time::sleep(wait(failures)).await;
                }
                answer => return answer,
            }
        }
    }

    async fn try_part(&self, name: &ObjectName, offset: u64, length: u64) -> Result<Bytes> {
        let last = offset.saturating_add(length - 1);
        let answer = self.get(name, Some(format!("bytes={offset}-{last}")), None).await?;
        let expected = begins_at(&answer, offset)?.min(length);
        let mut body = answer.body;
        let mut range = BytesMut::new();
        while (range.len() as u64) < expected {
            match timeout(self.attempt, body.next()).await {
                Ok(Some(Ok(piece))) => range.extend_from_slice(&piece),
                _ => return Err(torn(Call::Get).at(BODY)),
            }
        }
        if range.len() as u64 > expected {
            return Err(incomplete(Call::Get));
        }
        Ok(range.freeze())
    }
}

/// Where a tear in the content is noted.
const BODY: &str = "content of GetObject";

/// How many bytes the object has from the offset that was asked for. A server that answers another range,
/// or the whole, would otherwise pass wrong bytes off as right ones.
fn begins_at(answer: &GetObjectOutput, offset: u64) -> Result<u64> {
    let range = answer.content_range().and_then(|range| range.strip_prefix("bytes "));
    let parts = range.and_then(|range| range.split_once('/')).and_then(|(range, whole)| {
        let first: u64 = range.split_once('-')?.0.parse().ok()?;
        Some((first, whole.parse::<u64>().ok()?))
    });
    match parts {
        Some((first, whole)) if first == offset && whole > offset => Ok(whole - offset),
        _ => Err(incomplete(Call::Get)),
    }
}

/// The wait before a try after so many failures.
fn wait(failures: u32) -> Duration {
    FIRST_WAIT.saturating_mul(1 << failures.min(10)).min(LONGEST_WAIT)
}

impl Reading {
    async fn step(mut self) -> Result<Option<(Bytes, Self)>> {
        while self.at < self.length {
            match timeout(self.store.attempt, self.body.next()).await {
                Ok(Some(Ok(piece))) if piece.is_empty() => {}
                Ok(Some(Ok(piece))) => {
                    self.at += piece.len() as u64;
                    self.failures = 0;
                    return if self.at > self.length {
                        Err(torn(Call::Get))
                    } else {
                        Ok(Some((piece, self)))
                    };
                }
                _ => self.resume().await?,
            }
        }
        Ok(None)
    }

    /// Asks for the rest after a tear.
    async fn resume(&mut self) -> Result<()> {
        self.failures += 1;
        if self.failures >= self.store.attempts {
            return Err(torn(Call::Get));
        }
        tokio::time::sleep(wait(self.failures)).await;
        let rest = format!("bytes={}-", self.at);
        let answer = self.store.get(&self.name, Some(rest), self.tag.as_deref()).await?;
        if begins_at(&answer, self.at)? != self.length - self.at {
            return Err(incomplete(Call::Get));
        }
        self.body = answer.body;
        Ok(())
    }
}
