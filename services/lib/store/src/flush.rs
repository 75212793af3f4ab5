//! The durable append for what is not part of a change: reads, refusals, void entries. One flush at a
//! time; entries that come meanwhile make up the next one, never behind a timer.

use std::sync::Arc;

use domicile_evidence::entry::Entry;
use domicile_types::{AuditScope, Code, Error, Result};
use sea_orm::{ConnectionTrait as _, DbBackend, Statement};
use tokio::sync::{mpsc, oneshot};

use crate::audit::{Draft, OUTBOX, Void, Writer, outbox_row};
use crate::engine::{Engine, backoff};
use crate::failure::{Kind, StoreFailure};
use crate::settings::Backend;

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
pub(crate) fn start(
    engine: Arc<Engine>,
    writer: Arc<Writer>,
) -> (mpsc::Sender<Pending>, tokio::task::JoinHandle<()>) {
    let (sender, receiver) = mpsc::channel(QUEUE);
    (sender, tokio::spawn(run(engine, writer, receiver)))
}

async fn run(engine: Arc<Engine>, writer: Arc<Writer>, mut queue: mpsc::Receiver<Pending>) {
    let mut open = true;
    while open {
        let mut batch = Vec::new();
        tokio::select! {
            taken = queue.recv_many(&mut batch, BATCH) => open = taken > 0,
            () = writer.wake.notified() => {}
        }
        flush(&engine, &writer, batch).await;
    }
}

async fn flush(engine: &Engine, writer: &Arc<Writer>, batch: Vec<Pending>) {
    let voids = writer.take_voids(&engine.ctx);
    if batch.is_empty() && voids.is_empty() {
        return;
    }
    let (drafts, waiting): (Vec<_>, Vec<_>) =
        batch.into_iter().map(|pending| (pending.draft, (pending.scope, pending.durable))).unzip();
    let (entries, drawn) = writer.draw(drafts);
    let result = write(engine, entries.iter().chain(voids.iter().map(|(_, entry)| entry))).await;
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
            writer.put_back(voids.into_iter().map(|(void, _): (Void, Entry)| void));
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
async fn write<'a>(engine: &Engine, entries: impl Iterator<Item = &'a Entry>) -> Result<(), StoreFailure> {
    let rows: Vec<_> = entries.map(outbox_row).collect();
    let end = " ON CONFLICT DO NOTHING";
    let (backend, (sql, values)) = match engine.backend {
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
        let Err(error) = engine.writer.execute_raw(statement.clone()).await else { return Ok(()) };
        let failure = StoreFailure::from_db(&error);
        let again = matches!(failure.kind(), Kind::Contended | Kind::Unreachable | Kind::Exhausted);
        if !again || tried >= TRIES {
            return Err(failure);
        }
        tokio::time::sleep(backoff(&engine.ctx, tried)).await;
    }
}
