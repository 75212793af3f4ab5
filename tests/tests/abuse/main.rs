//! Bad input: what each gets for an answer, what is recorded of it, and that nothing is lost. The table is
//! docs/limits.md, which names these tests.
#![cfg(test)]

mod connections;
mod peers;
mod requests;
mod resources;
mod settings;
mod stored;
mod table;
mod tampering;
mod words;

use domicile_config::{Limits, RecordSettings};
use domicile_evidence::entry::{Entry, Outcome as Recorded};
use domicile_proto::records::v1 as pb;
use domicile_rpc::{Channel, from_status};
use domicile_store::Backend;
use domicile_tests::abuse::entries;
use domicile_tests::records::{Carer, Client, RecordsBench, RecordsClient, note, put};
use domicile_tests::world::Outcome;
use domicile_types::Code;
use tonic::{Code as Grpc, Status};

/// Where a practitioner writes.
const PUT: &str = "/domicile.records.v1.RecordsService/PutItem";

/// One region in this process, with somebody who is treated in it and has one note.
struct Scene {
    bench: RecordsBench,
    carer: Carer,
    client: Client,
}

impl Scene {
    async fn new() -> Outcome<Self> {
        Self::within(Limits::default()).await
    }

    async fn within(limits: Limits) -> Outcome<Self> {
        Self::bounded(limits, &RecordSettings::default()).await
    }

    async fn bounded(limits: Limits, bounds: &RecordSettings) -> Outcome<Self> {
        let bench = RecordsBench::bounded("eu", Backend::Sqlite, bounds, limits).await?;
        let practice = bench.practice("paula").await?;
        let carer = bench.practitioner(&practice.token, "carla").await?;
        let client = bench.client(&carer.token, "clara").await?;
        let scene = Self { bench, carer, client };
        scene.records()?.put_item(put(&scene.client.subject, "first", note("kept"))).await?;
        Ok(scene)
    }

    fn channel(&self) -> Outcome<Channel> {
        Ok(self.bench.people.with(&self.carer.token)?)
    }

    fn records(&self) -> Outcome<RecordsClient> {
        Ok(self.bench.with(&self.carer.token)?)
    }

    async fn entries(&self) -> Outcome<Vec<Entry>> {
        entries(&self.bench.region.store).await
    }

    /// The record as it is now.
    async fn state(&self) -> Outcome<pb::GetSummaryResponse> {
        let request = pb::GetSummaryRequest { subject_id: self.client.subject.clone() };
        Ok(self.records()?.get_summary(request).await?.into_inner())
    }

    /// Somebody else is served: writes a note.
    async fn others_are_served(&self, key: &str) -> Outcome<()> {
        let mut client = self.bench.with(&self.client.token)?;
        let reflection = domicile_tests::records::reflection("goes on");
        client.put_item(put(&self.client.subject, key, reflection)).await?;
        Ok(())
    }
}

/// A refusal has its code, its canonical status and the advice that goes with it.
#[track_caller]
fn refused(status: &Status, code: Code, grpc: Grpc) {
    assert_eq!((from_status(status).code(), status.code()), (code, grpc), "{}", status.message());
    assert!(status.message().contains(code.advice()), "{}", status.message());
}

/// Exactly one entry, of this event, that tells of this code.
#[track_caller]
fn one_entry(left: &[Entry], event: &str, code: Code) {
    let told: Vec<_> = left.iter().map(|entry| (entry.event.name(), entry.outcome.clone())).collect();
    assert_eq!(told, [(event, Recorded::of(Err(code)))]);
}
