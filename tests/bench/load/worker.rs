//! One client: a connection, a session, a record, and what it has written there.

use std::sync::Arc;
use std::time::Duration;

use domicile_cli::Client;
use domicile_cli::client::answer;
use domicile_proto::records::v1::GetItemRequest;
use domicile_tests::world::Outcome;
use futures::future::try_join_all;
use tokio::sync::Barrier;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Mode;
use crate::latency::Latencies;
use crate::notes::{self, put, request};

/// Writes one client has on their way while a record is filled.
const FILLERS: usize = 4;

/// A client.
#[derive(Clone)]
pub(crate) struct Worker {
    client: Client,
    subject: String,
    /// The number of the next note; clients' numbers do not meet.
    next: u64,
    /// Notes by number.
    written: Vec<(u64, String)>,
}

impl Worker {
    /// The client of this number, signed in, at work on a record.
    pub(crate) fn new(number: u64, client: Client, subject: String) -> Self {
        Self { client, subject, next: number << 40, written: Vec::new() }
    }

    async fn write(&mut self) -> Outcome<()> {
        let number = self.next;
        self.next += 1;
        let item = put(&self.client, request(&self.subject, number)).await?;
        self.written.push((number, item));
        Ok(())
    }

    async fn read(&self, turn: usize) -> Outcome<()> {
        // A stride that is no factor of the count visits all of them, in no order of theirs.
        let at = turn.wrapping_mul(7_919) % self.written.len().max(1);
        let (number, item_id) = self.written.get(at).ok_or("nothing to read: give --items")?;
        let request =
            GetItemRequest { subject_id: self.subject.clone(), item_id: item_id.clone(), version: 0 };
        let item = answer(self.client.records().get_item(request)).await?.item.unwrap_or_default();
        let right = item.header.is_some_and(|header| header.item_id == *item_id)
            && item.payload.is_some_and(|payload| notes::is(&payload, *number));
        if right { Ok(()) } else { Err(format!("item {item_id} is not as written").into()) }
    }

    async fn turn(&mut self, mode: Mode, turn: usize) -> Outcome<()> {
        match mode {
            Mode::Write => self.write().await,
            Mode::Mixed if turn.is_multiple_of(5) => self.write().await,
            Mode::Read | Mode::Mixed => self.read(turn).await,
        }
    }

    async fn work(mut self, work: Work, all: Arc<Barrier>) -> Outcome<(Self, Latencies)> {
        let mut latencies = Latencies::default();
        all.wait().await;
        let start = Instant::now();
        for turn in 0_usize.. {
            // At a pace, a request counts from when it is due: whoever is late is late for the next too.
            let due = work.every.map(|every| start + every * u32::try_from(turn).unwrap_or(u32::MAX));
            if let Some(due) = due {
                tokio::time::sleep_until(due).await;
            }
            let began = due.unwrap_or_else(Instant::now);
            if work.over.is_cancelled() {
                break;
            }
            self.turn(work.mode, turn).await?;
            latencies.add(began.elapsed());
        }
        Ok((self, latencies))
    }

    async fn filled(mut self, items: usize) -> Outcome<Self> {
        let numbers: Vec<u64> = (self.next..).take(items).collect();
        self.next += items as u64;
        for chunk in numbers.chunks(FILLERS) {
            let puts = chunk.iter().map(|&number| put(&self.client, request(&self.subject, number)));
            let items = try_join_all(puts).await?;
            self.written.extend(chunk.iter().copied().zip(items));
        }
        Ok(self)
    }
}

/// Lets every client write so many items.
pub(crate) async fn fill(workers: &mut Vec<Worker>, items: usize) -> Outcome<()> {
    let filling = workers.drain(..).map(|worker| tokio::spawn(worker.filled(items)));
    for filled in try_join_all(filling.collect::<Vec<_>>()).await? {
        workers.push(filled?);
    }
    Ok(())
}

/// What clients do, how fast, and until when.
#[derive(Clone)]
pub(crate) struct Work {
    /// What they do.
    pub(crate) mode: Mode,
    /// The time between two requests of a client; each at once when there is none.
    pub(crate) every: Option<Duration>,
    /// Ends it.
    pub(crate) over: CancellationToken,
}

/// Lets every client work for a time; an answer that is not right ends the run.
pub(crate) async fn all(workers: &mut Vec<Worker>, mode: Mode, lasts: Duration) -> Outcome<Latencies> {
    let over = CancellationToken::new();
    let work = Work { mode, every: None, over: over.clone() };
    let timer = async {
        tokio::time::timeout(lasts, over.cancelled()).await.ok();
        over.cancel();
        Ok(())
    };
    Ok(tokio::try_join!(until_over(workers, work), timer)?.0)
}

/// Lets every client work until it is over.
pub(crate) async fn until_over(workers: &mut Vec<Worker>, work: Work) -> Outcome<Latencies> {
    let barrier = Arc::new(Barrier::new(workers.len()));
    let working: Vec<_> = workers
        .drain(..)
        .map(|worker| tokio::spawn(worker.work(work.clone(), Arc::clone(&barrier))))
        .collect();
    let mut latencies = Latencies::default();
    for done in try_join_all(working).await? {
        let (worker, own) = done?;
        workers.push(worker);
        latencies.join(own);
    }
    Ok(latencies)
}
