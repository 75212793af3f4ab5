//! What is bound comes back the same, on both databases, one by one and in bulk.

use domicile_store::{Backend, Bound, FromRow, OnConflict, Row, Scope, values};
use domicile_types::{Code, ItemId, ObjectId, PageId, Result, TransferId};
use proptest::prelude::*;
use uuid::Uuid;

use crate::Bench;

const COLUMNS: &[&str] = &[
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

#[derive(Clone, Debug, PartialEq)]
struct Staged {
    item: ItemId,
    version: i64,
    revision: u64,
    page: PageId,
    last: bool,
    digest: [u8; 32],
    payload: Vec<u8>,
    object: Option<ObjectId>,
}

impl Staged {
    fn bound(&self, transfer: TransferId) -> Vec<Bound> {
        let mut row = values![transfer, self.item, self.version, self.revision, self.page, 0_u8, self.last];
        row.extend(values![self.digest, &self.payload[..], &self.payload, self.object]);
        row
    }
}

impl FromRow for Staged {
    fn from_row(row: &Row) -> Result<Self> {
        assert_eq!(row.get::<Vec<u8>>("sealed_header")?, row.get::<Vec<u8>>("sealed_payload")?);
        Ok(Self {
            item: row.get("item_id")?,
            version: row.get("version")?,
            revision: row.get("revision")?,
            page: row.get("page_id")?,
            last: row.get("last")?,
            digest: row.get("digest")?,
            payload: row.get("sealed_payload")?,
            object: row.maybe("object_id")?,
        })
    }
}

fn staged() -> impl Strategy<Value = Staged> {
    let ids = (any::<u128>(), any::<u128>(), proptest::option::of(any::<u128>()));
    let numbers = (any::<i64>(), 0..=i64::MAX as u64, any::<bool>());
    (ids, numbers, any::<[u8; 32]>(), proptest::collection::vec(any::<u8>(), 0..200)).prop_map(
        |((item, page, object), (version, revision, last), digest, payload)| Staged {
            item: ItemId::from_uuid(Uuid::from_u128(item)),
            page: PageId::from_uuid(Uuid::from_u128(page)),
            object: object.map(|object| ObjectId::from_uuid(Uuid::from_u128(object))),
            version,
            revision,
            last,
            digest,
            payload,
        },
    )
}

async fn there_and_back(bench: &Bench, rows: &[Staged]) {
    let transfer = TransferId::generate(&bench.ctx);
    let given = rows.to_vec();
    let work = bench.store.write_unaudited("test.there", Scope::Transfers, move |tx| {
        let rows = given.iter().map(|row| row.bound(transfer)).collect();
        Box::pin(tx.insert_many("staged_row", COLUMNS, rows, OnConflict::Fail))
    });
    assert_eq!(work.await.unwrap(), rows.len() as u64);
    let back = bench.store.read("test.back", Scope::Transfers, move |tx| {
        let sql = "SELECT * FROM staged_row WHERE transfer_id = $1";
        Box::pin(tx.all::<Staged>(sql, values![transfer]))
    });
    let mut back = back.await.unwrap();
    let mut rows = rows.to_vec();
    back.sort_by_key(|row| row.item);
    rows.sort_by_key(|row| row.item);
    assert_eq!(back, rows);
}

fn everything_comes_back(backend: Backend) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let bench = runtime.block_on(Bench::new(backend));
    let config = ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(rows in proptest::collection::vec(staged(), 0..40))| {
        runtime.block_on(there_and_back(&bench, &rows));
    });
}

#[test]
fn everything_comes_back_from_postgres() {
    everything_comes_back(Backend::Postgres);
}

#[test]
fn everything_comes_back_from_sqlite() {
    everything_comes_back(Backend::Sqlite);
}

crate::on_both!(text_comes_back, what_does_not_fit_names_its_column);

/// Text of any script, and what would break a statement that were put together from values.
async fn text_comes_back(bench: Bench) {
    for text in ["", "'; DROP TABLE item; --", "Zoë 🌿 \u{202e}x", "a\nb\r\tc\\", &"ö".repeat(10_000)] {
        let given = text.to_owned();
        let back = bench.store.read("test.text", Scope::System, move |tx| {
            Box::pin(tx.scalar::<String>("SELECT CAST($1 AS TEXT) AS value", values![&given]))
        });
        assert_eq!(back.await.unwrap().as_deref(), Some(text));
    }
    let null = bench.store.read("test.null", Scope::System, |tx| {
        let sql = "SELECT CAST($1 AS TEXT) AS value";
        Box::pin(tx.scalar::<String>(sql, values![None::<String>]))
    });
    assert_eq!(null.await.unwrap(), None);
}

async fn what_does_not_fit_names_its_column(bench: Bench) {
    struct Wrong;
    impl FromRow for Wrong {
        fn from_row(row: &Row) -> Result<Self> {
            row.get::<[u8; 32]>("short").map(|_| Self)
        }
    }
    let wrong = bench.store.read("test.wrong", Scope::System, |tx| {
        Box::pin(
            async move { tx.one::<Wrong>("SELECT $1 AS short", values![vec![1_u8, 2, 3]]).await.map(drop) },
        )
    });
    let wrong = wrong.await.unwrap_err();
    assert_eq!((wrong.code(), wrong.place()), (Code::Internal, Some("column short")));
    assert!(!format!("{wrong:?}").contains("[1, 2, 3]"));
    // What the database says about a statement never quotes a value (P8).
    let subject = bench.subject();
    bench.make_residency(subject).await;
    let twice = bench.store.write_unaudited("test.twice", Scope::Subject(subject), move |tx| {
        Box::pin(async move { crate::residency_add(tx, subject).await })
    });
    let twice = twice.await.unwrap_err();
    let shown = format!("{twice:?} {twice}");
    assert!(!shown.contains(&subject.to_string()), "{shown}");
    assert!(!shown.contains(&format!("{:x}", subject.uuid().as_u128())), "{shown}");
}
