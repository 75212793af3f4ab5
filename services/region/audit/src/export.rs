//! A bundle as a stream: a few pages of the log in memory at a time, whatever the log's size.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use domicile_evidence::bundle::{Frame, Header, MAGIC, TILE};
use domicile_evidence::entry::Entry;
use domicile_evidence::merkle::Hash;
use domicile_evidence::policy::LogKeys;
use domicile_store::queries::audit::{self, CheckpointRow, LoggedStatement};
use domicile_store::{Scope, Store};
use domicile_types::time::Timestamp;
use domicile_types::{Code, Error, RegionId, Result, TransferId};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

/// The pieces of a bundle.
pub type Bundle = ReceiverStream<Result<Bytes>>;

/// A piece is handed out once it is this long.
const PIECE: usize = 256 * 1024;
/// How many pieces may wait for a slow reader.
const WAITING: usize = 2;
/// How many checkpoints besides the head show that the log grew by appending alone.
const HISTORY: u64 = 32;
/// A statement's entry is in the log this long after it was made, or it never will be.
const SETTLED: Duration = Duration::from_secs(60);
/// One page of entries: one tile.
const PAGE: u64 = TILE as u64;
/// How many statements are read at once.
const STATEMENTS: u64 = 64;

/// What the head of the bundle says.
pub(crate) struct Facts {
    pub(crate) region: RegionId,
    pub(crate) keys: LogKeys,
    pub(crate) peers: Vec<(RegionId, LogKeys)>,
    pub(crate) policy: String,
    pub(crate) about: Option<TransferId>,
}

/// Starts writing; ends by itself when the reader goes away.
pub(crate) fn start(store: Store, facts: Facts, head: CheckpointRow) -> Bundle {
    let (sender, receiver) = mpsc::channel(WAITING);
    tokio::spawn(async move {
        let out = Out { sender, piece: MAGIC.to_vec() };
        let mut export = Export { store, facts, head, out, newest: Timestamp::EPOCH };
        if let Err(Ended::Failed(error)) = export.write().await {
            drop(export.out.sender.send(Err(error)).await);
        }
    });
    ReceiverStream::new(receiver)
}

/// Why writing ended early.
enum Ended {
    /// The reader has gone.
    Gone,
    Failed(Error),
}

impl<E: Into<Error>> From<E> for Ended {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

struct Out {
    sender: mpsc::Sender<Result<Bytes>>,
    piece: Vec<u8>,
}

impl Out {
    async fn frame(&mut self, frame: Frame) -> Result<(), Ended> {
        self.piece.extend(frame.encode()?);
        if self.piece.len() >= PIECE { self.flush().await } else { Ok(()) }
    }

    async fn flush(&mut self) -> Result<(), Ended> {
        let piece = Bytes::from(std::mem::take(&mut self.piece));
        self.sender.send(Ok(piece)).await.map_err(|_| Ended::Gone)
    }
}

struct Export {
    store: Store,
    facts: Facts,
    head: CheckpointRow,
    out: Out,
    newest: Timestamp,
}

impl Export {
    async fn write(&mut self) -> Result<(), Ended> {
        self.opening().await?;
        self.entries().await?;
        let statements = self.statements().await?;
        self.out.frame(Frame::End { entries: self.head.size, statements }).await?;
        self.out.flush().await
    }

    async fn opening(&mut self) -> Result<(), Ended> {
        let header = Header {
            region: self.facts.region.clone(),
            keys: self.facts.keys.clone(),
            peers: self.facts.peers.clone(),
            transfer: self.facts.about,
            size: self.head.size,
            made_at: self.store.ctx().now(),
        };
        self.out.frame(Frame::Header(Box::new(header))).await?;
        self.out.frame(Frame::Policy(self.facts.policy.clone())).await?;
        let mut last = None;
        for step in 1..=HISTORY {
            // Split so that no product overflows; the last step is the head itself.
            let size = self.head.size;
            let until = size / HISTORY * step + size % HISTORY * step / HISTORY;
            let found = self
                .store
                .read("audit.history", Scope::System, move |tx| Box::pin(audit::checkpoint_until(tx, until)));
            let Some(found) = found.await? else { continue };
            if last.is_none_or(|last| found.size > last) && found.size < size {
                last = Some(found.size);
                self.out.frame(Frame::Checkpoint(found.note)).await?;
            }
        }
        self.out.frame(Frame::Checkpoint(self.head.note.clone())).await
    }

    async fn entries(&mut self) -> Result<(), Ended> {
        let size = self.head.size;
        let mut first = 0;
        while first < size {
            let end = first.saturating_add(PAGE).min(size);
            let page = self.store.read("audit.page", Scope::System, move |tx| {
                Box::pin(async move {
                    let hashes = audit::leaf_list(tx, first, end).await?;
                    Ok((hashes, audit::entry_list(tx, first, end, PAGE).await?))
                })
            });
            let (hashes, entries) = page.await?;
            if let Some(last) = entries.last() {
                let at = Entry::decode(&last.entry)?.sequenced_at;
                self.newest = at.unwrap_or(self.newest);
            }
            self.out.frame(Frame::Hashes { first, hashes }).await?;
            for entry in entries {
                self.out.frame(Frame::Entry { index: entry.index, bytes: entry.entry }).await?;
            }
            first = end;
        }
        Ok(())
    }

    async fn statements(&mut self) -> Result<u64, Ended> {
        let (mut count, mut after) = (0, None);
        let mut logged = (None, BTreeSet::new());
        loop {
            let (of, from) = (self.facts.about, after.clone());
            let page = self.store.read("audit.statements", Scope::Transfers, move |tx| {
                let from = from.clone();
                Box::pin(async move { audit::statement_page(tx, of, from, STATEMENTS).await })
            });
            let page: Vec<LoggedStatement> = page.await?;
            let Some(last) = page.last() else { return Ok(count) };
            after = Some((last.transfer, last.origin.clone(), last.sequence));
            for statement in page {
                if logged.0 != Some(statement.transfer) {
                    logged = (Some(statement.transfer), self.logged(statement.transfer).await?);
                }
                // One made just now may lie past the head; an old one that is not logged must show.
                let young = statement.at.plus(SETTLED) > self.newest;
                if logged.1.contains(&statement.digest) || !young {
                    self.out.frame(Frame::Statement(statement.signed)).await?;
                    count += 1;
                }
            }
        }
    }

    /// The digests of the transfer's statements under the head.
    async fn logged(&self, transfer: TransferId) -> Result<BTreeSet<Hash>, Ended> {
        let size = self.head.size;
        let (mut digests, mut start) = (BTreeSet::new(), 0);
        while start < size {
            let page = self.store.read("audit.logged", Scope::System, move |tx| {
                Box::pin(audit::entry_list_transfer(tx, transfer, start, PAGE))
            });
            let page = page.await?;
            let Some(last) = page.last().map(|row| row.index) else { break };
            for row in page.iter().filter(|row| row.index < size) {
                digests.extend(Entry::decode(&row.entry)?.statement.map(|held| held.digest));
            }
            start = last.checked_add(1).ok_or_else(|| Error::new(Code::AuditCorrupt))?;
        }
        Ok(digests)
    }
}
