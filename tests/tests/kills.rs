//! Real processes that die: a region at named points of its steps, a region and the coordinator by
//! SIGKILL. After a restart every transfer ends Closed or Aborted, nothing acknowledged is lost, and both
//! logs verify (invariants 1, 2, 6, 7, 10, 11 and 14).
#![cfg(test)]

use std::time::Duration;

use domicile_proto::transfer::v1::{AbortReason, TransferState};
use domicile_store::Backend;
use domicile_tests::world::moves::{attach, fetch, reaches, write};
use domicile_tests::world::{Outcome, PATIENCE, Patient, Practice, Tuning, World, Written, pause};
use domicile_types::Code;

/// Points of the source: before and after what a step does outside its transaction.
const SOURCE: &[&str] = &[
    "preflighted.before_commit",
    "open_copy.after_key",
    "page.before_record",
    "frozen.after_commit",
    "released.before_commit",
    "released.after_commit",
    "erase.before_keys",
    "erase.after_keys",
    "erase.before_scan",
];
/// Points of the destination.
const DESTINATION: &[&str] = &[
    "prepare.after_key",
    "pull.before_stage",
    "object.before_stage",
    "staged.before_commit",
    "adopted.before_commit",
    "adopted.after_commit",
    "rekey.before_batch",
    "rekey.before_key_drop",
];

async fn world(backend: Backend) -> Outcome<(World, Practice)> {
    let world = World::start(backend, &["eu", "ca"], &Tuning::default()).await?;
    let practice = world.practice("berg", "eu", &["ca"]).await?;
    Ok((world, practice))
}

/// A record about to move, and what it holds.
struct Case {
    patient: Patient,
    written: Written,
    file: (String, Vec<u8>),
}

async fn case(world: &World, practice: &Practice, name: &str) -> Outcome<Case> {
    let patient = world.patient("eu", practice, name).await?;
    let mut written = Written::default();
    written.fill(&practice.home, &patient.subject, 12, name).await?;
    let content = vec![7_u8; 1_200_000];
    let item = attach(&practice.home, &patient.subject, &content).await?;
    Ok(Case { patient, written, file: (item, content) })
}

/// The record is whole in its new home, gone from its old one, and both logs agree.
async fn closed(world: &World, practice: &Practice, case: &Case, transfer: &str) -> Outcome<()> {
    let until = tokio::time::Instant::now() + PATIENCE;
    let client = loop {
        match world.sign_in("ca", &case.patient.login).await {
            Ok(client) => break client,
            Err(error) if tokio::time::Instant::now() > until => {
                return Err(format!("{error}\n{}\n{}", tail(world, "eu"), tail(world, "ca")).into());
            }
            Err(_) => pause().await,
        }
    };
    reaches(&client, transfer, TransferState::Closed)
        .await
        .map_err(|error| format!("{error}\n{}\n{}", tail(world, "eu"), tail(world, "ca")))?;
    let there = world.sign_in("ca", &practice.login).await?;
    case.written.read_back(&there, &case.patient.subject).await?;
    assert!(
        fetch(&there, &case.patient.subject, &case.file.0).await? == case.file.1,
        "the attachment is whole"
    );
    let refused = write(&practice.home, &case.patient.subject, "late").await.unwrap_err();
    assert_eq!(refused.code(), Code::RecordMoved);
    world.verify(["eu", "ca"], transfer).await?;
    Ok(())
}

/// The end of a process's log: codes and states, never content.
fn tail(world: &World, name: &str) -> String {
    let log = world.log(name).unwrap_or_default();
    let lines: Vec<&str> = log.lines().rev().take(15).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join("\n")
}

async fn dies_at_points(backend: Backend, region: &str, points: &[&'static str]) -> Outcome<()> {
    let (mut world, practice) = world(backend).await?;
    for point in points {
        let case = case(&world, &practice, &point.replace('.', "-")).await?;
        world.stop(region).await?;
        world.restart_with(region, point).await?;
        let asked = case.patient.request("ca").await?;
        if *point == "preflighted.before_commit" {
            dies_there(&mut world, region, point).await?;
            let moving = case.patient.offered(&asked).await?;
            case.patient.consent(&moving).await?;
        } else {
            let moving = case.patient.offered(&asked).await?;
            case.patient.consent(&moving).await?;
            dies_there(&mut world, region, point).await?;
        }
        closed(&world, &practice, &case, &asked).await.map_err(|error| format!("{point}: {error}"))?;
    }
    Ok(())
}

/// The region reaches the point, ends, and comes back.
async fn dies_there(world: &mut World, region: &str, point: &str) -> Outcome<()> {
    world.ended(region).await.map_err(|error| format!("{point}: {error}\n{}", tail(world, region)))?;
    world.restart(region).await
}

async fn dies_while_aborting(backend: Backend) -> Outcome<()> {
    let (mut world, practice) = world(backend).await?;
    for (region, point) in [("eu", "aborting.before_key"), ("ca", "purge.after_key")] {
        let case = case(&world, &practice, &point.replace('.', "-")).await?;
        let moving = case.patient.ask("ca").await?;
        world.stop(region).await?;
        world.restart_with(region, point).await?;
        // The source may die while it answers: the withdrawal is committed all the same, and saying it
        // again says so.
        let withdrawn = case.patient.withdraw(&moving).await;
        world.ended(region).await.map_err(|error| format!("{point}: {error}"))?;
        world.restart(region).await?;
        if withdrawn.is_err() {
            case.patient.withdraw(&moving).await?;
        }
        let ended = reaches(&case.patient.client, &moving.id, TransferState::Aborted).await?;
        assert!(ended.abort_reason() == AbortReason::Withdrawn);
        write(&practice.home, &case.patient.subject, "goes on").await?;
        case.written.read_back(&practice.home, &case.patient.subject).await?;
        world.verify(["eu", "ca"], &moving.id).await?;
    }
    Ok(())
}

/// SIGKILL from outside, at moments nobody chose, of every process in turn while a record moves.
async fn is_killed_at_random_moments(backend: Backend) -> Outcome<()> {
    let (mut world, practice) = world(backend).await?;
    for (round, victim) in ["coordinator", "eu", "ca", "coordinator", "ca", "eu"].into_iter().enumerate() {
        let case = case(&world, &practice, &format!("round{round}")).await?;
        let moving = case.patient.ask("ca").await?;
        case.patient.consent(&moving).await?;
        // Another moment each round: what matters is that it does not matter.
        tokio::time::timeout(Duration::from_millis(60 * round as u64), std::future::pending::<()>())
            .await
            .ok();
        world.kill(victim).await?;
        world.restart(victim).await?;
        closed(&world, &practice, &case, &moving.id).await.map_err(|error| format!("{victim}: {error}"))?;
    }
    Ok(())
}

/// A source restored from a backup made before the record left would be a second home.
async fn an_older_backup_is_not_served() -> Outcome<()> {
    let (mut world, practice) = world(Backend::Sqlite).await?;
    let case = case(&world, &practice, "restored").await?;
    let (data, backup) = (world.home("eu").join("data.db"), world.home("eu").join("older.db"));
    world.stop("eu").await?;
    std::fs::copy(&data, &backup)?;
    world.restart("eu").await?;
    let moving = case.patient.ask("ca").await?;
    case.patient.consent(&moving).await?;
    closed(&world, &practice, &case, &moving.id).await?;

    world.stop("eu").await?;
    let newest = world.home("eu").join("newest.db");
    std::fs::rename(&data, &newest)?;
    std::fs::rename(&backup, &data)?;
    world.begin("eu")?;
    world.ended("eu").await?;
    assert!(world.log("eu")?.contains(Code::DatabaseSetBack.as_str()), "{}", tail(&world, "eu"));

    // What SQLite noted beside the older file does not belong to the newest.
    for beside in ["data.db-wal", "data.db-shm"] {
        std::fs::remove_file(world.home("eu").join(beside)).ok();
    }
    std::fs::rename(&newest, &data)?;
    world.restart("eu").await?;
    let refused = write(&practice.home, &case.patient.subject, "late").await.unwrap_err();
    assert_eq!(refused.code(), Code::RecordMoved);
    Ok(())
}

mod on_sqlite {
    use super::*;

    #[tokio::test]
    async fn a_region_restored_from_an_older_backup_does_not_serve() {
        an_older_backup_is_not_served().await.unwrap();
    }

    #[tokio::test]
    async fn the_source_dies_at_every_point() {
        dies_at_points(Backend::Sqlite, "eu", SOURCE).await.unwrap();
    }
    #[tokio::test]
    async fn the_destination_dies_at_every_point() {
        dies_at_points(Backend::Sqlite, "ca", DESTINATION).await.unwrap();
    }
    #[tokio::test]
    async fn a_region_dies_while_aborting() {
        dies_while_aborting(Backend::Sqlite).await.unwrap();
    }
}

mod on_postgres {
    use super::*;

    #[tokio::test]
    async fn the_source_dies_at_every_point() {
        dies_at_points(Backend::Postgres, "eu", SOURCE).await.unwrap();
    }
    #[tokio::test]
    async fn the_destination_dies_at_every_point() {
        dies_at_points(Backend::Postgres, "ca", DESTINATION).await.unwrap();
    }
    #[tokio::test]
    async fn a_region_dies_while_aborting() {
        dies_while_aborting(Backend::Postgres).await.unwrap();
    }
    #[tokio::test]
    async fn every_process_is_killed_at_random_moments() {
        is_killed_at_random_moments(Backend::Postgres).await.unwrap();
    }
}
