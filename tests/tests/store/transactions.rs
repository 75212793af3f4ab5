//! What a named transaction promises (architecture.md, "Transactions: what was measured").

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use domicile_store::{AuditFacts, Bind as _, Bound, OnConflict, Scope, Tx, values};
use domicile_tests::stores::request;
use domicile_types::{AccountId, Code, Error, Result, SubjectId, TransferId, Visibility};
use tokio::sync::Barrier;

use crate::{Bench, residency_add, revise, revision};

crate::on_both!(
    commits_and_rolls_back,
    a_panic_leaves_no_transaction_open,
    many_rows_at_once,
    departing_callers_lose_nothing,
    departing_readers_leave_no_transaction_open,
    reading_then_writing_never_fails,
    conflicts_are_run_again,
    a_read_is_one_snapshot_and_cannot_write,
    a_written_version_cannot_change,
);

/// What a closure does is there when it answers Ok, and not when it answers an error or swallows one.
async fn commits_and_rolls_back(bench: Bench) {
    let subject = bench.subject();
    let scope = Scope::Subject(subject);
    bench.make_residency(subject).await;
    let refused: Result<()> = bench
        .store
        .write_unaudited("test.refused", scope, move |tx| {
            Box::pin(async move {
                revise(tx, subject).await?;
                Err(Error::new(Code::ItemLocked))
            })
        })
        .await;
    assert_eq!(refused.unwrap_err().code(), Code::ItemLocked);
    assert_eq!(revision(&bench.store, subject).await, 0);
    let swallowed: Result<()> = bench
        .store
        .write_unaudited("test.swallowed", scope, move |tx| {
            Box::pin(async move {
                revise(tx, subject).await?;
                assert_eq!(residency_add(tx, subject).await.unwrap_err().code(), Code::Conflict);
                Ok(())
            })
        })
        .await;
    assert_eq!(swallowed.unwrap_err().code(), Code::Conflict);
    assert_eq!(revision(&bench.store, subject).await, 0);
    let done = bench.store.write_unaudited("test.revise", scope, move |tx| Box::pin(revise(tx, subject)));
    assert_eq!(done.await.unwrap(), 1);
    assert_eq!(revision(&bench.store, subject).await, 1);
}

async fn a_panic_leaves_no_transaction_open(bench: Bench) {
    let subject = bench.subject();
    bench.make_residency(subject).await;
    for _ in 0..20 {
        let lost: Result<()> = bench
            .store
            .write_unaudited("test.panic", Scope::Subject(subject), move |tx| {
                Box::pin(async move {
                    revise(tx, subject).await?;
                    panic!("on purpose")
                })
            })
            .await;
        assert_eq!(lost.unwrap_err().code(), Code::Internal);
    }
    let scope = Scope::Subject(subject);
    let done = bench.store.write_unaudited("test.after", scope, move |tx| Box::pin(revise(tx, subject)));
    assert_eq!(done.await.unwrap(), 1);
    assert_eq!(revision(&bench.store, subject).await, 1);
}

/// Values, NULLs among values, columns of NULLs alone; and how many rows are new.
async fn many_rows_at_once(bench: Bench) {
    const ROWS: u64 = 5_000;
    let transfer = TransferId::generate(&bench.ctx);
    for expected in [ROWS, 0] {
        let new = bench.store.write_unaudited("test.bulk", Scope::Transfers, move |tx| {
            Box::pin(async move {
                let rows: Vec<Vec<Bound>> = (0..ROWS).map(|n| staged_row(transfer, n)).collect();
                tx.insert_many("staged_row", STAGED_ROW, rows, OnConflict::Ignore).await
            })
        });
        assert_eq!(new.await.unwrap(), expected);
    }
    let sums = bench.store.read("test.sums", Scope::Transfers, move |tx| {
        Box::pin(async move {
            let objects = "SELECT COUNT(object_id) AS value FROM staged_row WHERE transfer_id = $1";
            let revisions = "SELECT CAST(SUM(revision) AS BIGINT) AS value FROM staged_row WHERE last";
            let objects: Option<i64> = tx.scalar(objects, values![transfer]).await?;
            Ok((objects, tx.scalar::<i64>(revisions, values![]).await?))
        })
    });
    assert_eq!(sums.await.unwrap(), (Some(1_667), Some((0..5_000).step_by(2).sum())));
    let twice = bench.store.write_unaudited("test.bulk", Scope::Transfers, move |tx| {
        Box::pin(async move {
            tx.insert_many("staged_row", STAGED_ROW, vec![staged_row(transfer, 1)], OnConflict::Fail).await
        })
    });
    assert_eq!(twice.await.unwrap_err().code(), Code::Conflict);
}

const STAGED_ROW: &[&str] = &[
    "transfer_id",
    "item_id",
    "version",
    "revision",
    "page_id",
    "position",
    "last",
    "digest",
    "sealed_header",
    "sealed_payload",
    "object_id",
];

fn staged_row(transfer: TransferId, n: u64) -> Vec<Bound> {
    let id = uuid::Uuid::from_u128(u128::from(n));
    let object = n.is_multiple_of(3).then_some(id);
    let mut row =
        values![transfer, id, 1_u32, n, id, n, n.is_multiple_of(2), [7_u8; 32], vec![1_u8], vec![0_u8; 2]];
    row.push(object.bind());
    row
}

/// Callers that go away at every poll: every write that was begun is there, none is half there, and no
/// connection is left in a transaction.
async fn departing_callers_lose_nothing(bench: Bench) {
    const CALLS: u32 = 45;
    let subject = bench.subject();
    bench.make_residency(subject).await;
    let committed = Arc::new(AtomicU32::new(0));
    for call in 0..CALLS {
        let audit = request("record.item.write");
        let counted = Arc::clone(&committed);
        let mut work =
            Box::pin(bench.store.write("test.departing", Scope::Subject(subject), &audit, move |tx| {
                let counted = Arc::clone(&counted);
                Box::pin(async move {
                    revise(tx, subject).await?;
                    tx.audit(AuditFacts::ok())?;
                    counted.fetch_add(1, Ordering::SeqCst);
                    Ok(())
                })
            }));
        for _ in 0..=call {
            if futures::poll!(&mut work).is_ready() {
                break;
            }
            tokio::task::yield_now().await;
        }
    }
    eventually(async || {
        committed.load(Ordering::SeqCst) == CALLS && revision(&bench.store, subject).await == u64::from(CALLS)
    })
    .await;
    assert_eq!(bench.outbox().await.len(), 45);
    idle(&bench).await;
}

async fn departing_readers_leave_no_transaction_open(bench: Bench) {
    let subject = bench.subject();
    bench.make_residency(subject).await;
    for call in 0..45_u32 {
        let mut work = Box::pin(revision(&bench.store, subject));
        for _ in 0..=call / 4 {
            if futures::poll!(&mut work).is_ready() {
                break;
            }
            tokio::task::yield_now().await;
        }
    }
    idle(&bench).await;
    let scope = Scope::Subject(subject);
    let done = bench.store.write_unaudited("test.after", scope, move |tx| Box::pin(revise(tx, subject)));
    done.await.unwrap();
    // A reader in a forgotten transaction would still see the old snapshot.
    for _ in 0..20 {
        assert_eq!(revision(&bench.store, subject).await, 1);
    }
}

/// No connection of the store sits in a transaction. SQLite's single writer would not answer if one did.
async fn idle(bench: &Bench) {
    let Some(database) = bench.region.postgres() else {
        bench.run(Scope::System, "DELETE FROM job_lease").await.unwrap();
        return;
    };
    let sql = "SELECT count(*) FROM pg_stat_activity \
               WHERE datname = current_database() AND usename = 'domicile_app' AND state LIKE 'idle in %'";
    eventually(async || database.admin(sql).unwrap() == "0").await;
}

/// Waits until a condition holds, at most half a minute.
async fn eventually(condition: impl AsyncFn() -> bool) {
    let wait = tokio::time::timeout(Duration::from_secs(30), async {
        while !condition().await {
            tokio::task::yield_now().await;
        }
    });
    wait.await.unwrap();
}

/// A transaction that reads first and writes then would fail at once on SQLite if it began deferred.
async fn reading_then_writing_never_fails(bench: Bench) {
    const CALLS: u64 = 24;
    let subject = bench.subject();
    bench.make_residency(subject).await;
    // Two processes on one database: within one, SQLite's single connection would hide it.
    let stores = [bench.store.clone(), bench.region.store(&bench.ctx).await.unwrap()];
    let calls = (0..CALLS).map(|n| {
        let store = stores[usize::from(n % 2 == 0)].clone();
        async move {
            let work = store.write_unaudited("test.read_write", Scope::Subject(subject), move |tx| {
                Box::pin(async move {
                    let sql = format!(
                        "SELECT revision AS value FROM residency WHERE subject_id = $1{}",
                        tx.for_update()
                    );
                    let before: u64 = tx.scalar(&sql, values![subject]).await?.unwrap();
                    tokio::task::yield_now().await;
                    assert_eq!(revise(tx, subject).await?, before + 1);
                    Ok(())
                })
            });
            work.await
        }
    });
    futures::future::try_join_all(calls).await.unwrap();
    assert_eq!(revision(&bench.store, subject).await, CALLS);
}

/// Two transactions that each read both rows and then write one: at SERIALIZABLE one of them loses and
/// runs again, so the rule "at most one is raised" holds.
async fn conflicts_are_run_again(bench: Bench) {
    let (one, two) = (bench.subject(), bench.subject());
    for subject in [one, two] {
        bench.make_residency(subject).await;
    }
    let (runs, barrier) = (Arc::new(AtomicU32::new(0)), Arc::new(Barrier::new(2)));
    let postgres = bench.region.postgres().is_some();
    let call = |name: &'static str| {
        let (runs, barrier) = (Arc::clone(&runs), Arc::clone(&barrier));
        let audit = request("record.item.write");
        let store = bench.store.clone();
        async move {
            let work = store.write_serializable("test.skew", Scope::System, &audit, move |tx| {
                let (runs, barrier) = (Arc::clone(&runs), Arc::clone(&barrier));
                Box::pin(async move {
                    let run = runs.fetch_add(1, Ordering::SeqCst);
                    let held: i64 =
                        tx.scalar("SELECT COUNT(*) AS value FROM job_lease", values![]).await?.unwrap();
                    if postgres && run < 2 {
                        barrier.wait().await;
                    }
                    if held == 0 {
                        lease_add(tx, name).await?;
                    }
                    tx.audit(AuditFacts::ok())?;
                    Ok(())
                })
            });
            work.await
        }
    };
    let (first, second) = tokio::join!(call("one"), call("two"));
    first.unwrap();
    second.unwrap();
    assert_eq!(bench.count(Scope::System, "job_lease").await, 1);
    let runs = runs.load(Ordering::SeqCst);
    assert!(if postgres { runs > 2 } else { runs == 2 }, "{runs} runs");
}

async fn lease_add(tx: &Tx, name: &'static str) -> Result<()> {
    let holder = AccountId::generate(tx.ctx());
    let sql = "INSERT INTO job_lease (name, holder, token, until) VALUES ($1, $2, 1, 0)";
    tx.execute(sql, values![name, holder]).await.map(drop)
}

async fn a_read_is_one_snapshot_and_cannot_write(bench: Bench) {
    let subject = bench.subject();
    bench.make_residency(subject).await;
    let store = bench.store.clone();
    let seen = bench.store.read("test.snapshot", Scope::Subject(subject), move |tx| {
        let store = store.clone();
        Box::pin(async move {
            let sql = "SELECT revision AS value FROM residency WHERE subject_id = $1";
            let before: Option<u64> = tx.scalar(sql, values![subject]).await?;
            let scope = Scope::Subject(subject);
            store.write_unaudited("test.between", scope, move |tx| Box::pin(revise(tx, subject))).await?;
            Ok((before, tx.scalar::<u64>(sql, values![subject]).await?))
        })
    });
    assert_eq!(seen.await.unwrap(), (Some(0), Some(0)));
    assert_eq!(revision(&bench.store, subject).await, 1);
    let scope = Scope::Subject(subject);
    let written = bench.store.read("test.write_in_read", scope, move |tx| Box::pin(revise(tx, subject)));
    written.await.unwrap_err();
    assert_eq!(revision(&bench.store, subject).await, 1);
}

/// P40: what was signed cannot be altered, whoever asks the database.
async fn a_written_version_cannot_change(bench: Bench) {
    let subject: SubjectId = bench.subject();
    bench.make_item(subject, AccountId::generate(&bench.ctx), Visibility::Shared).await;
    let scope = Scope::Subject(subject);
    for column in
        ["state = 'draft'", "signed_at = 1", "revision = 7", "visibility = 'practitioner'", "version = 2"]
    {
        let sql: &'static str = Box::leak(format!("UPDATE item SET {column}").into_boxed_str());
        bench.run(scope, sql).await.unwrap_err();
    }
    assert_eq!(
        bench.run(scope, "UPDATE item SET current = FALSE, retain_until = 5, key_version = 2").await.unwrap(),
        1
    );
}
