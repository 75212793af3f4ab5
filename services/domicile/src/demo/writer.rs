//! The practitioner who keeps writing while the record moves.

use std::time::Duration;

use domicile_cli::Client;
use domicile_cli::app::fresh_key;
use domicile_proto::records::v1::payload::Kind;
use domicile_proto::records::v1::{Item, ItemDraft, Note, Payload, PutItemRequest};
use domicile_types::{Code, Ctx, Error};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::record::{Snapshot, put};

/// The pause between two writes.
const PAUSE: Duration = Duration::from_millis(40);
/// How long the new home may take to know the record once the old one says it has moved.
const ARRIVAL: Duration = Duration::from_secs(30);

/// Writes at the new home before the practitioner may stop.
const AT_NEW_HOME: usize = 10;

/// What the practitioner is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Go {
    /// Keep writing.
    On,
    /// Stop once a few writes have been made at the new home.
    OnThere,
    /// Stop now.
    Home,
}

/// What the practitioner wrote, each acknowledged by a region.
#[derive(Default)]
pub(super) struct Written {
    /// The newest version of each item.
    pub(super) items: Snapshot,
    /// Acknowledged writes at the source.
    pub(super) at_source: usize,
    /// Acknowledged writes at the destination.
    pub(super) at_destination: usize,
    /// The longest time one write took, waiting included.
    pub(super) longest: Duration,
}

/// Starts writing; it ends when told to, and gives what was acknowledged.
pub(super) fn start(
    at_source: Client,
    at_destination: Client,
    subject: String,
    ctx: Ctx,
    go: watch::Receiver<Go>,
) -> JoinHandle<Result<Written, Error>> {
    let writer =
        Writer { at_source, at_destination, subject, ctx, moved: false, written: Written::default() };
    tokio::spawn(writer.run(go))
}

struct Writer {
    at_source: Client,
    at_destination: Client,
    subject: String,
    ctx: Ctx,
    moved: bool,
    written: Written,
}

impl Writer {
    async fn run(mut self, go: watch::Receiver<Go>) -> Result<Written, Error> {
        let mut last: Option<Item> = None;
        let mut number = 0_u32;
        while self.goes_on(*go.borrow()) {
            number += 1;
            // Every fifth write is a new version of the note before it.
            let revised = if number.is_multiple_of(5) { last.take() } else { None };
            let request = self.request(number, revised.as_ref());
            let began = Instant::now();
            let item = self.write(request).await?;
            self.written.longest = self.written.longest.max(began.elapsed());
            if let Some(header) = &item.header {
                self.written.items.insert(header.item_id.clone(), item.clone());
            }
            last = Some(item);
            tokio::time::sleep(PAUSE).await;
        }
        Ok(self.written)
    }

    fn goes_on(&self, go: Go) -> bool {
        match go {
            Go::On => true,
            Go::OnThere => self.written.at_destination < AT_NEW_HOME,
            Go::Home => false,
        }
    }

    fn request(&self, number: u32, revised: Option<&Item>) -> PutItemRequest {
        let note = Note {
            title: format!("Written during the move, {number}"),
            text: "Nothing that a region has acknowledged may be lost.".to_owned(),
            template: String::new(),
        };
        let base = revised.and_then(|item| item.header.as_ref());
        let draft = ItemDraft {
            item_id: base.map(|header| header.item_id.clone()).unwrap_or_default(),
            based_on_version: base.map_or(0, |header| header.version),
            occurred_at_micros: base.map_or(0, |header| header.occurred_at_micros),
            payload: Some(Payload { kind: Some(Kind::Note(note)) }),
            ..ItemDraft::default()
        };
        PutItemRequest {
            subject_id: self.subject.clone(),
            idempotency_key: fresh_key(&self.ctx),
            draft: Some(draft),
        }
    }

    /// Writes where the record is: waits while it is held still, and follows it once it has moved.
    async fn write(&mut self, request: PutItemRequest) -> Result<Item, Error> {
        if !self.moved {
            match put(&self.at_source, request.clone()).await {
                Ok(item) => {
                    self.written.at_source += 1;
                    return Ok(item);
                }
                Err(error) if error.code() == Code::RecordMoved => self.moved = true,
                Err(error) => return Err(error),
            }
        }
        let until = Instant::now() + ARRIVAL;
        loop {
            match put(&self.at_destination, request.clone()).await {
                Ok(item) => {
                    self.written.at_destination += 1;
                    return Ok(item);
                }
                Err(error) if error.code() == Code::NotFound && Instant::now() < until => {
                    tokio::time::sleep(PAUSE).await;
                }
                Err(error) => return Err(error),
            }
        }
    }
}
