//! The durable append for what is not part of a change: reads, refusals, void entries. One flush at a
//! time; entries that come meanwhile make up the next one, never behind a timer.

use std::sync::Arc;
use std::time::Duration;

use domicile_evidence::entry::Entry;
use domicile_types::{AuditScope, Code, Error, Result};
use sea_orm::{ConnectionTrait as _, DbBackend, Statement};
use tokio::sync::{mpsc, oneshot};

use crate::audit::{OUTBOX, outbox_row};
use crate::engine::{Engine, backoff};
use crate::failure::{Kind, StoreFailure};
use crate::lanes::Writer;
use crate::value::Bound;

/// The most entries of one flush.
const BATCH: usize = 512;
/// How many entries may wait for their flush before requests wait to hand theirs in.
const QUEUE: usize = 4_096;
/// How often a flush is tried before its requests fail.
const TRIES: u32 = 10;
/// How soon void entries that could not be written are tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// An entry on its way, and who waits for it.
pub(crate) struct Pending {
    pub(crate) entry: Entry,
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
            () = tokio::time::sleep(AGAIN), if writer.owes() => {}
        }
        flush(&engine, &writer, batch).await;
    }
}

async fn flush(engine: &Engine, writer: &Arc<Writer>, batch: Vec<Pending>) {
    let (lost, voids) = writer.take_lost(&engine.ctx);
    if batch.is_empty() && voids.is_empty() {
        return;
    }
    let (mut entries, waiting): (Vec<_>, Vec<_>) =
        batch.into_iter().map(|pending| (pending.entry, (pending.scope, pending.durable))).unzip();
    let drawn = writer.draw(&mut entries);
    match write(engine, entries.iter().chain(&voids)).await {
        Ok(()) => {
            drawn.keep();
            writer.settled(lost);
            for (scope, durable) in waiting {
                scope.mark_recorded();
                answer(durable, Ok(()));
            }
        }
        Err(Unwritten { failure, certainly }) => {
            tracing::error!(%failure, entries = waiting.len(), "the audit log cannot be written");
            if certainly || waiting.is_empty() {
                drawn.undo();
            } else {
                drop(drawn);
            }
            writer.unsettled(lost);
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

/// Why entries are not in the outbox, and whether that is certain.
struct Unwritten {
    failure: StoreFailure,
    certainly: bool,
}

/// One statement, so one durable commit. The event id makes it safe to repeat after a lost answer.
async fn write<'a>(engine: &Engine, entries: impl Iterator<Item = &'a Entry>) -> Result<(), Unwritten> {
    let rows: Vec<_> = entries.map(outbox_row).collect();
    let mut certainly = true;
    let mut tried = 0;
    loop {
        tried += 1;
        let Err(failure) = append(engine, rows.clone()).await else { return Ok(()) };
        certainly &= failure.kind() != Kind::Unreachable;
        let again = matches!(failure.kind(), Kind::Contended | Kind::Unreachable | Kind::Exhausted);
        if !again || tried >= TRIES {
            return Err(Unwritten { failure, certainly });
        }
        tokio::time::sleep(backoff(&engine.ctx, tried)).await;
    }
}

async fn append(engine: &Engine, rows: Vec<Vec<Bound>>) -> Result<(), StoreFailure> {
    let end = " ON CONFLICT DO NOTHING";
    if let Some(hot) = &engine.writer.hot {
        let made = crate::bulk::insert("audit_outbox", OUTBOX, rows, end);
        let (sql, values) = made.map_err(|_| StoreFailure::bug("audit entries"))?;
        return hot.execute(&sql, values).await.map(drop).map_err(|error| StoreFailure::from_sqlx(&error));
    }
    let (sql, values) = crate::bulk::multi_row("audit_outbox", OUTBOX, rows, end);
    let values = values.into_iter().map(|value| value.0);
    let statement = Statement::from_sql_and_values(DbBackend::Sqlite, sql, values);
    let done = engine.writer.pool.execute_raw(statement).await;
    done.map(drop).map_err(|error| StoreFailure::from_db(&error))
}
