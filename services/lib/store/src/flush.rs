//! The durable append for what is not part of a change: reads, refusals, void entries. One flush at a
//! time; entries that come meanwhile make up the next one, never behind a timer.

use std::sync::Arc;
use std::time::Duration;

use domicile_evidence::entry::Entry;
use domicile_types::{AuditScope, Code, Error, Result};
use sea_orm::{ConnectionTrait as _, DbBackend, Statement};
use tokio::sync::{mpsc, oneshot};

use crate::audit::{Draft, OUTBOX, Void, outbox_row};
use crate::failure::{Kind, StoreFailure};
use crate::settings::Backend;
use crate::store::Core;

/// The most entries of one flush.
const BATCH: usize = 512;
/// How many entries may wait for their flush before requests wait to hand theirs in.
const QUEUE: usize = 4_096;
/// How often a flush is tried before its requests fail.
const TRIES: u32 = 10;

/// An entry on its way, and who waits for it.
pub(crate) struct Pending {
    pub(crate) draft: Draft,
    pub(crate) scope: Arc<AuditScope>,
    pub(crate) durable: oneshot::Sender<Result<()>>,
}

/// Starts the flusher; it ends when the last sender is gone and all is written.
pub(crate) fn start(core: Arc<Core>) -> (mpsc::Sender<Pending>, tokio::task::JoinHandle<()>) {
    let (sender, receiver) = mpsc::channel(QUEUE);
    (sender, tokio::spawn(run(core, receiver)))
}

async fn run(core: Arc<Core>, mut queue: mpsc::Receiver<Pending>) {
    let mut open = true;
    while open {
        let mut batch = Vec::new();
        tokio::select! {
            taken = queue.recv_many(&mut batch, BATCH) => open = taken > 0,
            () = core.audit.wake.notified() => {}
        }
        flush(&core, batch).await;
    }
}

async fn flush(core: &Core, batch: Vec<Pending>) {
    let voids = core.audit.take_voids(&core.ctx);
    if batch.is_empty() && voids.is_empty() {
        return;
    }
    let (drafts, waiting): (Vec<_>, Vec<_>) =
        batch.into_iter().map(|pending| (pending.draft, (pending.scope, pending.durable))).unzip();
    let (entries, drawn) = core.audit.draw(drafts);
    let result = write(core, entries.iter().chain(voids.iter().map(|(_, entry)| entry))).await;
    match result {
        Ok(()) => {
            drawn.keep();
            for (scope, durable) in waiting {
                scope.mark_recorded();
                answer(durable, Ok(()));
            }
        }
        Err(failure) => {
            tracing::error!(%failure, entries = waiting.len(), "the audit log cannot be written");
            core.audit.put_back(voids.into_iter().map(|(void, _): (Void, Entry)| void));
            for (_, durable) in waiting {
                answer(durable, Err(Error::new(Code::AuditUnavailable).because(failure.clone())));
            }
        }
    }
}

/// Whoever asked may have gone; the entry stands all the same.
fn answer(durable: oneshot::Sender<Result<()>>, result: Result<()>) {
    drop(durable.send(result));
}

/// One statement, so one durable commit. The event id makes it safe to repeat after a lost answer.
async fn write<'a>(core: &Core, entries: impl Iterator<Item = &'a Entry>) -> Result<(), StoreFailure> {
    let rows: Vec<_> = entries.map(outbox_row).collect();
    let end = " ON CONFLICT DO NOTHING";
    let (backend, (sql, values)) = match core.backend {
        Backend::Postgres => {
            let made = crate::bulk::unnest("audit_outbox", OUTBOX, rows, end);
            (DbBackend::Postgres, made.map_err(|_| StoreFailure::bug("audit entries"))?)
        }
        Backend::Sqlite => (DbBackend::Sqlite, crate::bulk::multi_row("audit_outbox", OUTBOX, rows, end)),
    };
    let statement = Statement::from_sql_and_values(backend, sql, values.into_iter().map(|value| value.0));
    let mut tried = 0;
    loop {
        tried += 1;
        let Err(error) = core.writer.execute_raw(statement.clone()).await else { return Ok(()) };
        let failure = StoreFailure::from_db(&error);
        let again = matches!(failure.kind(), Kind::Contended | Kind::Unreachable | Kind::Exhausted);
        if !again || tried >= TRIES {
            return Err(failure);
        }
        tokio::time::sleep(backoff(core, tried)).await;
    }
}

/// Growing and jittered, at most a quarter of a second.
pub(crate) fn backoff(core: &Core, tried: u32) -> Duration {
    let full = 2_000_u64.saturating_mul(1 << tried.min(7)).min(250_000);
    let jitter = u64::from(u16::from_be_bytes(core.ctx.random()));
    Duration::from_micros(full / 2 + full / 2 * jitter / u64::from(u16::MAX))
}
