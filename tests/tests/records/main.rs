//! Clients' records, through the guard and real TLS, on both databases.
#![cfg(test)]

use domicile_evidence::entry::Entry;
use domicile_proto::records::v1 as pb;
use domicile_rpc::from_status;
use domicile_store::{Backend, FromRow, Row, Scope, values};
use domicile_tests::records::{Carer, Client, RecordsBench, RecordsClient};
use domicile_tests::region::Practice;
use domicile_types::{Code, Result};
use tonic::{Code as Grpc, Status};

macro_rules! on_both {
    ($($name:ident),* $(,)?) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() { super::$name(domicile_store::Backend::Sqlite).await; })*
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() { super::$name(domicile_store::Backend::Postgres).await; })*
        }
    };
}
use on_both;

mod access;
mod arrived;
mod fhir;
mod items;
mod objects;
mod visibility;

/// A practice with its administrator, a practitioner, and a client in the practitioner's caseload.
struct Scene {
    bench: RecordsBench,
    practice: Practice,
    carer: Carer,
    client: Client,
}

impl Scene {
    async fn new(backend: Backend) -> Self {
        let bench = RecordsBench::new("eu", backend).await.unwrap();
        let practice = bench.practice("paula").await.unwrap();
        let carer = bench.practitioner(&practice.token, "carla").await.unwrap();
        let client = bench.client(&carer.token, "clara").await.unwrap();
        Self { bench, practice, carer, client }
    }

    fn carer(&self) -> RecordsClient {
        self.bench.with(&self.carer.token).unwrap()
    }

    fn admin(&self) -> RecordsClient {
        self.bench.with(&self.practice.token).unwrap()
    }

    fn client(&self) -> RecordsClient {
        self.bench.with(&self.client.token).unwrap()
    }

    async fn summary(&self) -> pb::GetSummaryResponse {
        let request = pb::GetSummaryRequest { subject_id: self.client.subject.clone() };
        self.client().get_summary(request).await.unwrap().into_inner()
    }

    /// The audit entries so far, oldest first.
    async fn entries(&self) -> Vec<Entry> {
        let read = self.bench.region.store.read("test.outbox", Scope::System, |tx| {
            let sql = "SELECT entry FROM audit_outbox ORDER BY writer_sequence";
            Box::pin(async move { tx.all::<Encoded>(sql, values![]).await })
        });
        read.await.unwrap().iter().map(|row| Entry::decode(&row.0).unwrap()).collect()
    }
}

struct Encoded(Vec<u8>);

impl FromRow for Encoded {
    fn from_row(row: &Row) -> Result<Self> {
        row.get("entry").map(Self)
    }
}

fn status<T>(answer: Result<T, Status>) -> Status {
    match answer {
        Ok(_) => panic!("this had to be refused"),
        Err(status) => status,
    }
}

fn refused<T>(answer: Result<T, Status>, code: Code, grpc: Grpc) {
    let status = status(answer);
    assert_eq!((from_status(&status).code(), status.code()), (code, grpc), "{}", status.message());
}

/// What a stranger can tell two refusals apart by, the request's own id aside.
fn shape(status: &Status) -> String {
    let mut metadata = status.metadata().clone();
    metadata.remove(domicile_rpc::status::REQUEST);
    metadata.remove("date");
    format!("{:?} {} {metadata:?}", status.code(), status.message())
}
