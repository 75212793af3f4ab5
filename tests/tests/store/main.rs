//! The store, on both databases through one harness.

#![expect(clippy::unwrap_used, clippy::panic, reason = "what is not as expected fails the test")]

mod audit;
mod backup;
mod datamap;
mod keys;
mod replicas;
mod scopes;
mod startup;
mod transactions;
mod transfers;
mod values;

use domicile_evidence::entry::Entry;
use domicile_store::{Backend, FromRow, KeyStore, Row, Scope, Store, Tx, values};
use domicile_tests::stores::Region;
use domicile_types::{AccountId, Code, Ctx, Error, ItemId, PracticeId, Result, SubjectId, Visibility};

/// One region's databases.
pub struct Bench {
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

    /// SQL that the schema's owner may run and the service may not.
    async fn as_owner(&self, sql: &'static str) {
        match self.region.postgres() {
            Some(database) => drop(database.sql("domicile_owner", sql).unwrap()),
            None => drop(self.run(Scope::System, sql).await.unwrap()),
        }
    }

    /// Runs SQL in a scope.
    async fn run(&self, scope: Scope, sql: &'static str) -> Result<u64> {
        let work =
            self.store.write_unaudited("test.run", scope, move |tx| Box::pin(tx.execute(sql, values![])));
        work.await
    }

    /// How many rows a query without a WHERE sees.
    async fn count(&self, scope: Scope, table: &'static str) -> i64 {
        let work = self.store.read("test.count", scope, move |tx| {
            Box::pin(async move {
                let sql = format!("SELECT COUNT(*) AS value FROM {table}");
                tx.scalar(&sql, values![]).await
            })
        });
        work.await.unwrap().unwrap()
    }

    /// Every entry in the outbox, in the writers' order.
    async fn outbox(&self) -> Vec<Entry> {
        outbox(&self.store).await
    }

    async fn make_residency(&self, subject: SubjectId) {
        let scope = Scope::Subject(subject);
        let work = self.store.write_unaudited("test.residency", scope, move |tx| {
            Box::pin(async move { residency_add(tx, subject).await })
        });
        work.await.unwrap();
    }

    /// One version of an item by some author.
    async fn make_item(&self, subject: SubjectId, author: AccountId, visibility: Visibility) -> ItemId {
        let item = ItemId::generate(&self.ctx);
        let work = self.store.write_unaudited("test.item", Scope::Subject(subject), move |tx| {
            Box::pin(async move {
                let sql = "INSERT INTO item (item_id, version, subject_id, revision, current, kind, schema, \
                           author_id, occurred_at, state, visibility, bytes, digest, key_version, sealed, written_at) \
                           SELECT $1, 1, $2, COALESCE(MAX(revision), 0) + 1, TRUE, 'note', 1, $3, $4, 'signed', $5, 3, \
                           $6, 1, $7, $4 FROM item WHERE subject_id = $2";
                let values = values![item, subject, author, tx.now(), visibility, [9_u8; 32], vec![1_u8, 2, 3]];
                tx.execute(sql, values).await
            })
        });
        work.await.unwrap();
        item
    }

    async fn make_care(&self, subject: SubjectId, practitioner: AccountId) {
        let practice = PracticeId::generate(&self.ctx);
        let work = self.store.write_unaudited("test.care", Scope::Subject(subject), move |tx| {
            Box::pin(async move {
                let sql = "INSERT INTO care_relationship (subject_id, practitioner_id, practice_id, started_at) \
                           VALUES ($1, $2, $3, $4)";
                tx.execute(sql, values![subject, practitioner, practice, tx.now()]).await
            })
        });
        work.await.unwrap();
    }
}

async fn outbox(store: &Store) -> Vec<Entry> {
    let work = store.read("test.outbox", Scope::System, |tx| {
        Box::pin(async move {
            let sql = "SELECT entry FROM audit_outbox ORDER BY writer_epoch, writer, writer_sequence";
            tx.all::<Encoded>(sql, values![]).await
        })
    });
    work.await.unwrap().iter().map(|row| Entry::decode(&row.0).unwrap()).collect()
}

struct Encoded(Vec<u8>);

impl FromRow for Encoded {
    fn from_row(row: &Row) -> Result<Self> {
        row.get("entry").map(Self)
    }
}

async fn residency_add(tx: &Tx, subject: SubjectId) -> Result<()> {
    let sql = "INSERT INTO residency (subject_id, epoch, standing, revision, control_revision, attempt, \
               freeze_number, region_choice, created_at, changed_at) \
               VALUES ($1, 1, 'Active', 0, 0, 0, 0, 'client', $2, $2)";
    tx.execute(sql, values![subject, tx.now()]).await.map(drop)
}

async fn revise(tx: &Tx, subject: SubjectId) -> Result<u64> {
    let sql =
        "UPDATE residency SET revision = revision + 1 WHERE subject_id = $1 RETURNING revision AS value";
    tx.scalar(sql, values![subject]).await?.ok_or_else(|| Error::new(Code::NotFound))
}

async fn revision(store: &Store, subject: SubjectId) -> u64 {
    let work = store.read("test.revision", Scope::Subject(subject), move |tx| {
        Box::pin(async move {
            let sql = "SELECT revision AS value FROM residency WHERE subject_id = $1";
            tx.scalar(sql, values![subject]).await
        })
    });
    work.await.unwrap().unwrap_or(0)
}

/// The same tests on both databases.
#[macro_export]
macro_rules! on_both {
    ($($name:ident),* $(,)?) => {
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn $name() {
                super::$name($crate::Bench::new($crate::Backend::Postgres).await).await;
            })*
        }
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn $name() {
                super::$name($crate::Bench::new($crate::Backend::Sqlite).await).await;
            })*
        }
    };
}
