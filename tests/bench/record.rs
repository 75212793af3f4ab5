//! A record: what it is filled with, and its moves from region to region.

use std::time::Duration;

use domicile_cli::client::answer;
use domicile_cli::upload::{self, PIECE};
use domicile_crypto::Sha256;
use domicile_proto::records::v1::payload::Kind;
use domicile_proto::records::v1::{
    Attachment, DownloadObjectRequest, GetSummaryRequest, ItemDraft, Payload, UploadHeader,
};
use domicile_tests::world::{Outcome, PATIENCE, Patient, World, pause};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use prost::bytes::Bytes;
use tokio::time::Instant;

use crate::journey::{self, Journey};
use crate::notes;
use crate::stage::{MOVING, Stage};

/// Writes on their way at once while a record is filled.
const WRITERS: usize = 16;
/// Uploads on their way at once.
const UPLOADS: usize = 4;
/// How long one upload may take: the longest deadline a region grants.
const LONGEST: Duration = Duration::from_secs(600);

/// A record.
pub(crate) struct Record {
    /// Its client, signed in where it is.
    pub(crate) patient: Patient,
    /// The region it is in.
    pub(crate) home: &'static str,
    /// Items it must have, attachments included.
    items: u64,
    uploads: Vec<Upload>,
}

/// An attachment.
#[derive(Clone)]
struct Upload {
    item: String,
    content: Content,
}

/// What a record holds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    /// Items of 500 B.
    pub(crate) items: u64,
    /// Attachments.
    pub(crate) attachments: u64,
    /// Bytes of each.
    pub(crate) attachment_bytes: u64,
}

impl Shape {
    /// Bytes of all payloads and attachments.
    pub(crate) const fn bytes(self) -> u64 {
        self.items * 500 + self.attachments * self.attachment_bytes
    }
}

impl Record {
    /// A client's record without anything in it, in the practice's home.
    pub(crate) async fn new(stage: &Stage, name: &str) -> Outcome<Self> {
        let patient = stage.world.patient(MOVING[0], &stage.practice, name).await?;
        Ok(Self { patient, home: MOVING[0], items: 0, uploads: Vec::new() })
    }

    /// A record with this in it.
    pub(crate) async fn filled(stage: &Stage, name: &str, shape: Shape) -> Outcome<Self> {
        let mut record = Self::new(stage, name).await?;
        record.write(stage, shape.items).await?;
        record.attach(stage, shape.attachments, shape.attachment_bytes, None).await?;
        Ok(record)
    }

    /// The record's id.
    pub(crate) fn subject(&self) -> &str {
        &self.patient.subject
    }

    /// Counts items that somebody else has written.
    pub(crate) const fn written(&mut self, items: u64) {
        self.items += items;
    }

    async fn write(&mut self, stage: &Stage, items: u64) -> Outcome<()> {
        let client = stage.practitioner(self.home)?;
        stream::iter(self.items..self.items + items)
            .map(|number| notes::put(client, notes::request(self.subject(), number)))
            .buffer_unordered(WRITERS)
            .try_for_each(|_| std::future::ready(Ok(())))
            .await
            .map_err(during("writing"))?;
        self.items += items;
        Ok(())
    }

    /// Uploads attachments, each at most at a pace in bytes a second.
    pub(crate) async fn attach(
        &mut self,
        stage: &Stage,
        count: u64,
        bytes: u64,
        pace: Option<u64>,
    ) -> Outcome<()> {
        // The answer comes once the whole content is stored.
        let client = &stage.practitioner(self.home)?.with_deadline(LONGEST);
        let block = block();
        let subject = self.subject().to_owned();
        let first = self.uploads.len() as u64;
        let done: Vec<Upload> = stream::iter(first..first + count)
            .map(|number| {
                let content = Content { block: block.clone(), number, bytes };
                let header = header(&subject, &content);
                async {
                    let pieces = content.clone().pieces(pace);
                    let stored = upload::upload(client, header, pieces).await?;
                    Ok::<_, domicile_types::Error>(Upload {
                        item: stored.header.unwrap_or_default().item_id,
                        content,
                    })
                }
            })
            .buffer_unordered(UPLOADS)
            .try_collect()
            .await
            .map_err(during("uploading"))?;
        self.items += count;
        self.uploads.extend(done);
        Ok(())
    }

    /// Asks for a move, waits for the offer and consents to it.
    pub(crate) async fn consent(&self, to: &'static str) -> Outcome<Journey> {
        let moving = self.patient.ask(to).await.map_err(during("asking"))?;
        self.patient.consent(&moving).await.map_err(during("consenting"))?;
        Ok(Journey { id: moving.id, from: self.home, to, consented: Instant::now() })
    }

    /// Moves the record to the other region and waits until the transfer is closed in both.
    pub(crate) async fn travel(&mut self, stage: &Stage) -> Outcome<journey::Times> {
        let journey = self.consent(self.other()).await?;
        let times = journey.follow(stage).await?;
        self.arrive(stage, journey.to).await?;
        Ok(times)
    }

    /// The region the record is not in.
    pub(crate) fn other(&self) -> &'static str {
        if self.home == MOVING[0] { MOVING[1] } else { MOVING[0] }
    }

    /// Signs the client in at the new home and checks that the record is whole there.
    pub(crate) async fn arrive(&mut self, stage: &Stage, at: &'static str) -> Outcome<()> {
        let until = Instant::now() + PATIENCE;
        self.patient.client = loop {
            match stage.world.sign_in(at, &self.patient.login).await {
                Ok(client) => break client,
                Err(error) if Instant::now() > until => return Err(error),
                Err(_) => pause().await,
            }
        };
        self.home = at;
        self.whole(stage).await
    }

    /// Checks that the record's home has every item, and one attachment byte by byte.
    pub(crate) async fn whole(&self, stage: &Stage) -> Outcome<()> {
        let client = stage.practitioner(self.home)?;
        let request = GetSummaryRequest { subject_id: self.subject().to_owned() };
        let summary = answer(client.records().get_summary(request)).await.map_err(during("counting"))?;
        let items: u64 = summary.kinds.iter().map(|kind| kind.items).sum();
        if items != self.items {
            return Err(format!("{} has {items} items and not {}", self.home, self.items).into());
        }
        match self.uploads.last() {
            Some(upload) => self.download(stage, upload, None).await,
            None => Ok(()),
        }
    }

    /// Reads every attachment, at most at a pace in bytes a second, and compares.
    pub(crate) async fn read_back(&self, stage: &Stage, pace: u64) -> Outcome<()> {
        for upload in &self.uploads {
            self.download(stage, upload, Some(pace)).await?;
        }
        Ok(())
    }

    async fn download(&self, stage: &Stage, upload: &Upload, pace: Option<u64>) -> Outcome<()> {
        use domicile_proto::records::v1::download_object_response::Part;
        let client = stage.practitioner(self.home)?;
        let request =
            DownloadObjectRequest { subject_id: self.subject().to_owned(), item_id: upload.item.clone() };
        let mut incoming =
            answer(client.records().download_object(request)).await.map_err(during("downloading"))?;
        let (mut hash, mut length) = (Sha256::default(), 0_u64);
        let began = Instant::now();
        while let Some(message) = upload::next(&mut incoming).await? {
            if let Some(Part::Content(content)) = message.part {
                hash.update(&content);
                length += content.len() as u64;
                tokio::time::sleep_until(due(began, length, pace)).await;
            }
        }
        let same = length == upload.content.bytes && hash.finish() == upload.content.sha256();
        if same { Ok(()) } else { Err("an attachment is not as it was uploaded".into()) }
    }
}

/// Says what failed.
fn during<E: std::fmt::Display>(what: &'static str) -> impl Fn(E) -> String {
    move |error| format!("{what}: {error}")
}

/// When so many bytes may have passed.
fn due(began: Instant, bytes: u64, pace: Option<u64>) -> Instant {
    let micros = pace.map_or(0, |pace| bytes.saturating_mul(1_000_000) / pace.max(1));
    began + Duration::from_micros(micros)
}

/// Content that does not compress, of any length, without being held in memory.
#[derive(Clone)]
struct Content {
    /// Two pieces of noise; each piece of content is a part of it at a place of its own.
    block: Bytes,
    number: u64,
    bytes: u64,
}

impl Content {
    fn parts(&self) -> impl Iterator<Item = Bytes> + Send + use<> {
        let Self { block, number, bytes } = self.clone();
        (0..bytes.div_ceil(PIECE as u64)).map(move |part| {
            let place = (number * 524_287 + part * 4_099) % PIECE as u64;
            let length = (bytes - part * PIECE as u64).min(PIECE as u64);
            let [place, length] = [place, length].map(|one| usize::try_from(one).unwrap_or(0));
            block.slice(place..place + length)
        })
    }

    fn pieces(self, pace: Option<u64>) -> impl futures::Stream<Item = Bytes> + Send + 'static {
        let began = Instant::now();
        stream::iter(self.parts().enumerate()).then(move |(number, piece)| async move {
            tokio::time::sleep_until(due(began, number as u64 * PIECE as u64, pace)).await;
            piece
        })
    }

    fn sha256(&self) -> [u8; 32] {
        let mut hash = Sha256::default();
        self.parts().for_each(|part| hash.update(&part));
        hash.finish()
    }
}

fn block() -> Bytes {
    let mut seed = 88_172_645_463_325_252_u64;
    let mut block = Vec::with_capacity(2 * PIECE);
    while block.len() < 2 * PIECE {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        block.extend_from_slice(&seed.to_le_bytes());
    }
    block.into()
}

fn header(subject: &str, content: &Content) -> UploadHeader {
    let file = Attachment {
        file_name: format!("scan-{}.bin", content.number),
        media_type: "application/octet-stream".to_owned(),
        object: None,
    };
    UploadHeader {
        subject_id: subject.to_owned(),
        idempotency_key: World::key(),
        length: content.bytes,
        sha256: content.sha256().to_vec(),
        draft: Some(ItemDraft {
            payload: Some(Payload { kind: Some(Kind::Attachment(file)) }),
            ..Default::default()
        }),
    }
}
