//! The store, on both databases through one harness.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use domicile_evidence::entry::Entry;
use domicile_evidence::event::EventType;
use domicile_store::{AuditFacts, Backend, FromRow, KeyStore, Row, Scope, Store, Tx, migrate, values};
use domicile_tests::stores::{Region, request};
use domicile_types::{Code, Ctx, Error, Result, SubjectId, TransferId};

struct Bench {
    region: Region,
    store: Store,
    ctx: Ctx,
}

impl Bench {
    async fn new(backend: Backend) -> Self {
        Self::with(backend, Ctx::system()).await
    }

    async fn with(backend: Backend, ctx: Ctx) -> Self {
        let region = Region::fresh("eu", backend).await.unwrap();
        let store = region.store(&ctx).await.unwrap();
        Self { region, store, ctx }
    }

    async fn keys(&self) -> KeyStore {
        self.region.keys(&self.ctx).await.unwrap()
    }

    fn subject(&self) -> SubjectId {
        SubjectId::generate(&self.ctx)
    }

    /// Every entry in the outbox, in the writer's order.
    async fn outbox(&self) -> Vec<Entry> {
        let rows = self
            .store
            .read("test.outbox", Scope::System, |tx| {
                Box::pin(async move {
                    tx.all::<Encoded>("SELECT entry FROM audit_outbox ORDER BY writer_sequence", values![]).await
                })
            })
            .await
            .unwrap();
        rows.iter().map(|row| Entry::decode(&row.0).unwrap()).collect()
    }

    async fn make_residency(&self, subject: SubjectId) {
        self.store
            .write_unaudited("test.residency", Scope::Subject(subject), move |tx| {
                Box::pin(async move { residency_add(tx, subject).await })
            })
            .await
            .unwrap();
    }
}

struct Encoded(Vec<u8>);

impl FromRow for Encoded {
    fn from_row(row: &Row) -> Result<Self> {
        row.get("entry").map(Self)
    }
}

async fn residency_add(tx: &Tx, subject: SubjectId) -> Result<()> {
    tx.execute(
        "INSERT INTO residency (subject_id, epoch, standing, revision, control_revision, attempt, \
         freeze_number, region_choice, created_at, changed_at) \
         VALUES ($1, 1, 'Active', 0, 0, 0, 0, 'client', $2, $2)",
        values![subject, tx.now()],
    )
    .await
    .map(drop)
}

async fn revise(tx: &Tx, subject: SubjectId) -> Result<u64> {
    let sql = "UPDATE residency SET revision = revision + 1 WHERE subject_id = $1 RETURNING revision AS value";
    tx.scalar(sql, values![subject]).await?.ok_or_else(|| Error::new(Code::NotFound))
}

async fn revision(store: &Store, subject: SubjectId) -> u64 {
    store
        .read("test.revision", Scope::Subject(subject), move |tx| {
            Box::pin(async move {
                let sql = "SELECT revision AS value FROM residency WHERE subject_id = $1";
                Ok(tx.scalar(sql, values![subject]).await?.unwrap_or(0))
            })
        })
        .await
        .unwrap()
}

macro_rules! on_both {
    ($($name:ident),* $(,)?) => {
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn $name() {
                super::$name(super::Bench::new(super::Backend::Postgres).await).await;
            })*
        }
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn $name() {
                super::$name(super::Bench::new(super::Backend::Sqlite).await).await;
            })*
        }
    };
}

on_both!(commits_and_rolls_back, migrate_is_idempotent, many_rows_at_once, departing_callers_lose_nothing);

/// What a closure does is there when it answers Ok, and not when it answers an error or swallows one.
async fn commits_and_rolls_back(bench: Bench) {
    let subject = bench.subject();
    bench.make_residency(subject).await;
    let refused: Result<()> = bench
        .store
        .write_unaudited("test.refused", Scope::Subject(subject), move |tx| {
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
        .write_unaudited("test.swallowed", Scope::Subject(subject), move |tx| {
            Box::pin(async move {
                revise(tx, subject).await?;
                assert_eq!(residency_add(tx, subject).await.unwrap_err().code(), Code::Conflict);
                Ok(())
            })
        })
        .await;
    assert_eq!(swallowed.unwrap_err().code(), Code::Conflict);
    assert_eq!(revision(&bench.store, subject).await, 0);
    let one = bench
        .store
        .write_unaudited("test.revise", Scope::Subject(subject), move |tx| Box::pin(revise(tx, subject)))
        .await;
    assert_eq!(one.unwrap(), 1);
    assert_eq!(revision(&bench.store, subject).await, 1);
}

async fn migrate_is_idempotent(bench: Bench) {
    let owner = bench.region.postgres().map_or_else(|| bench.region.settings.url.clone(), |db| db.url("domicile_owner"));
    for _ in 0..2 {
        migrate(&owner, &bench.region.settings.keys_url, false).await.unwrap();
    }
    let subject = bench.subject();
    bench.make_residency(subject).await;
    bench.region.store(&bench.ctx).await.unwrap();
    bench.keys().await;
}

/// A bulk insert keeps values, NULLs and order on both databases, and says how many rows are new.
async fn many_rows_at_once(bench: Bench) {
    let transfer = TransferId::generate(&bench.ctx);
    for expected in [5_000, 0] {
        let new = bench
            .store
            .write_unaudited("test.bulk", Scope::Transfers, move |tx| {
                Box::pin(async move {
                    let columns =
                        ["transfer_id", "object_id", "header", "salt", "commitment", "chunks", "digest", "length"];
                    let rows: Vec<_> = (0..5_000_u64)
                        .map(|n| {
                            let object = uuid::Uuid::from_u128(u128::from(n));
                            values![transfer, object, vec![1_u8], vec![2_u8], Vec::<u8>::new(), n, [7_u8; 32], n * 2]
                        })
                        .collect();
                    tx.insert_many("staged_object", &columns, rows, domicile_store::OnConflict::Ignore).await
                })
            })
            .await;
        assert_eq!(new.unwrap(), expected);
    }
}

/// Callers that go away at every poll: every write that was begun is there, none is half there, and no
/// connection is left in a transaction (architecture.md, "Transactions: what was measured").
async fn departing_callers_lose_nothing(bench: Bench) {
    let subject = bench.subject();
    bench.make_residency(subject).await;
    let begun = Arc::new(AtomicU32::new(0));
    for polls in 0..40_u32 {
        let counted = Arc::clone(&begun);
        let audit = request("record.item.write");
        let mut call = Box::pin(bench.store.write("test.departing", Scope::Subject(subject), &audit, move |tx| {
            let counted = Arc::clone(&counted);
            Box::pin(async move {
                counted.fetch_add(1, Ordering::SeqCst);
                revise(tx, subject).await?;
                tx.audit(AuditFacts::ok())?;
                Ok(())
            })
        }));
        for _ in 0..=polls / 4 {
            if futures::poll!(&mut call).is_ready() {
                break;
            }
            tokio::task::yield_now().await;
        }
        drop(call);
    }
    // A write of our own queues behind all others on the record's row, so all have ended when it answers.
    let deadline = tokio::time::timeout(Duration::from_secs(30), async {
        loop {
            let seen = u64::from(begun.load(Ordering::SeqCst));
            let now = revision(&bench.store, subject).await;
            if seen == 40 && now == 40 {
                return;
            }
            tokio::task::yield_now().await;
        }
    });
    deadline.await.unwrap();
    assert_eq!(bench.outbox().await.iter().filter(|entry| entry.event == EventType::RecordItemWrite).count(), 40);
}
