//! Whole transfers between four regions, each on a cluster of its own with two replicas, of which every
//! one ends or is killed on the way.

use std::collections::BTreeMap;
use std::path::Path;

use domicile_proto::transfer::v1::TransferState;
use domicile_tests::production::Cluster;
use domicile_tests::world::moves::{attach, fetch, reaches, write};
use domicile_tests::world::replicas::Replicated;
use domicile_tests::world::{Moving, Outcome, PATIENCE, Patient, Practice, Tuning, Written, pause};
use domicile_types::Code;
use tokio::time::Instant;

use crate::{clusters, tail};

/// A record, what it holds and its move.
struct Case {
    from: &'static str,
    to: &'static str,
    practice: Practice,
    patient: Patient,
    written: Written,
    files: Vec<(String, Vec<u8>)>,
}

impl Case {
    async fn fill(world: &Replicated, from: &'static str, to: &'static str, name: &str) -> Outcome<Self> {
        let practice = world.practice(name, from, &[to]).await?;
        let patient = world.patient(from, &practice, name).await?;
        let mut written = Written::default();
        written.fill(&practice.home, &patient.subject, 40, name).await?;
        let mut files = Vec::new();
        for number in 1..=3 {
            let content = vec![number; 1_100_000];
            files.push((attach(&practice.home, &patient.subject, &content).await?, content));
        }
        Ok(Self { from, to, practice, patient, written, files })
    }

    async fn consent(&self) -> Outcome<Moving> {
        let moving = self.patient.ask(self.to).await?;
        self.patient.consent(&moving).await?;
        Ok(moving)
    }

    /// The record is whole in its new home and gone from its old one, and both logs agree.
    async fn closed(&self, world: &Replicated, there: &Cluster, moving: &Moving) -> Outcome<()> {
        there.home_of(&self.patient.subject).await?;
        let client = world.sign_in(self.to, &self.patient.login).await?;
        reaches(&client, &moving.id, TransferState::Closed).await?;
        let there = world.sign_in(self.to, &self.practice.login).await?;
        self.written.read_back(&there, &self.patient.subject).await?;
        for (item, content) in &self.files {
            assert!(fetch(&there, &self.patient.subject, item).await? == *content, "an attachment is whole");
        }
        let here = world.sign_in(self.from, &self.practice.login).await?;
        let refused = write(&here, &self.patient.subject, "late").await.unwrap_err();
        assert_eq!(refused.code(), Code::RecordMoved);
        world.verify([self.from, self.to], &moving.id).await?;
        Ok(())
    }
}

/// What no transfer leaves behind: files in travel form or of no row, leases, keys to drop.
async fn nothing_left(world: &Replicated, clusters: &BTreeMap<&str, Cluster>, case: &Case) -> Outcome<()> {
    let objects = |region: &str| world.home(region).join("objects");
    assert_eq!(files(&objects(case.to).join("staging")), 0, "travelled files are gone");
    let held = files(&objects(case.to).join("objects").join(&case.patient.subject));
    assert_eq!(held, case.files.len(), "one file an object");
    assert_eq!(files(&objects(case.from).join("objects").join(&case.patient.subject)), 0);
    for region in [case.from, case.to] {
        let left = "SELECT (SELECT count(*) FROM job_lease WHERE name LIKE 'transfer.%') || ' ' \
                    || (SELECT count(*) FROM key_drop)";
        // What was asked of a replica that was killed goes once it counts as holding nothing.
        let until = Instant::now() + PATIENCE;
        while clusters[region].sql("domicile", left)? != "0 0" {
            assert!(Instant::now() < until, "{region}: leases or keys to drop are left");
            pause().await;
        }
    }
    Ok(())
}

fn files(folder: &Path) -> usize {
    std::fs::read_dir(folder).map_or(0, |entries| {
        entries
            .flatten()
            .map(|entry| match entry.path() {
                path if path.is_dir() => files(&path),
                _ => 1,
            })
            .sum()
    })
}

/// Slow enough that every replica can be restarted while the objects are on their way.
fn slow() -> Tuning {
    Tuning { transfer: "bytes_per_second = 300000\nwork_lease = \"3s\"".to_owned(), ..Tuning::default() }
}

async fn four_clusters() -> Outcome<()> {
    let clusters = clusters(&["us", "eu", "ca", "au"]).await?;
    let mut world = Replicated::start(&clusters, &slow()).await?;
    let one = Case::fill(&world, "eu", "ca", "anna").await?;
    let two = Case::fill(&world, "us", "au", "ben").await?;
    let (first, second) = (one.consent().await?, two.consent().await?);
    // While the objects travel: in order, and without warning, either replica of either side.
    reaches(&one.patient.client, &first.id, TransferState::Copying).await?;
    for (region, replica, killed) in
        [("ca", "a", false), ("eu", "a", false), ("ca", "b", true), ("eu", "b", true), ("au", "a", true)]
    {
        if killed {
            world.kill(region, replica).await?;
        } else {
            world.terminate(region, replica).await?;
        }
        world.restart(region, replica).await?;
    }
    for (case, moving) in [(&one, &first), (&two, &second)] {
        case.closed(&world, &clusters[case.to], moving)
            .await
            .map_err(|error| logs(&world, case, &error.to_string()))?;
        nothing_left(&world, &clusters, case).await?;
    }
    Ok(())
}

fn logs(world: &Replicated, case: &Case, error: &str) -> String {
    let mut text = error.to_owned();
    for region in [case.from, case.to] {
        for replica in ["a", "b"] {
            let log = world.replica_log(region, replica).unwrap_or_default();
            text.push_str(&format!("\n--- {region}.{replica}\n{}", tail(&log)));
        }
    }
    text
}

/// Both replicas have a record's keys in memory; before the source says that it is erased, the one that
/// does not erase has dropped them too.
async fn every_replica_drops_its_keys() -> Outcome<()> {
    let clusters = clusters(&["eu", "ca"]).await?;
    let world = Replicated::start(&clusters, &Tuning::default()).await?;
    let case = Case::fill(&world, "eu", "ca", "anna").await?;
    for replica in ["a", "b"] {
        let client = sign_in(&world, replica, &case.practice).await?;
        case.written.read_back(&client, &case.patient.subject).await?;
    }
    let moving = case.consent().await?;
    case.closed(&world, &clusters["ca"], &moving)
        .await
        .map_err(|error| logs(&world, &case, &error.to_string()))?;
    nothing_left(&world, &clusters, &case).await?;
    let mut dropped = 0;
    for replica in ["a", "b"] {
        dropped += world.replica_log("eu", replica)?.matches("dropped keys another replica").count();
    }
    assert!(dropped > 0, "the other replica was asked and dropped what it held");
    Ok(())
}

async fn sign_in(world: &Replicated, replica: &str, practice: &Practice) -> Outcome<domicile_cli::Client> {
    use domicile_proto::identity::v1::SignInRequest;
    let client = world.replica("eu", replica)?;
    let request =
        SignInRequest { email: practice.login.email.clone(), password: practice.login.password.clone() };
    let token = domicile_cli::client::answer(client.identity().sign_in(request)).await?.token;
    Ok(client.with_token(&token)?)
}

#[tokio::test(flavor = "multi_thread")]
async fn records_move_between_four_clusters_while_replicas_restart() {
    four_clusters().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erasure_waits_for_every_replica() {
    every_replica_drops_its_keys().await.unwrap();
}
