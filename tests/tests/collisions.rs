//! What is taken at the destination: an e-mail address holds nothing up, an item's id ends the transfer
//! before the point of no return.
#![cfg(test)]

use domicile_proto::transfer::v1::{AbortReason, TransferState};
use domicile_store::Backend;
use domicile_tests::world::moves::{reaches, write};
use domicile_tests::world::{Outcome, Tuning, World, Written};

async fn a_taken_address(backend: Backend) -> Outcome<()> {
    let world = World::start(backend, &["eu", "ca"], &Tuning::default()).await?;
    let here = world.practice("hier", "eu", &["ca"]).await?;
    let there = world.practice("dort", "ca", &[]).await?;
    let squatter = world.patient("ca", &there, "anna").await?;
    let patient = world.patient("eu", &here, "anna").await?;
    let mut written = Written::default();
    written.fill(&here.home, &patient.subject, 5, "mine").await?;
    let moving = patient.ask("ca").await?;
    patient.consent(&moving).await?;
    let operator = world.operator("ca").await?;
    reaches(&operator, &moving.id, TransferState::Closed).await?;
    written.read_back(&world.sign_in("ca", &here.login).await?, &patient.subject).await?;
    // The address still leads to the account that had it, whose record is untouched.
    let signed_in = world.sign_in("ca", &squatter.login).await?;
    let seen = domicile_tests::world::moves::count(&signed_in, &squatter.subject).await?;
    assert_eq!(seen, 0);
    world.verify(["eu", "ca"], &moving.id).await?;
    Ok(())
}

#[tokio::test]
async fn an_address_that_is_taken_holds_nothing_up_on_sqlite() {
    a_taken_address(Backend::Sqlite).await.unwrap();
}

#[tokio::test]
async fn an_address_that_is_taken_holds_nothing_up_on_postgres() {
    a_taken_address(Backend::Postgres).await.unwrap();
}

#[tokio::test]
async fn an_id_that_is_taken_ends_the_transfer_before_it_completes() {
    let world = World::start(Backend::Postgres, &["eu", "ca"], &Tuning::default()).await.unwrap();
    let practice = world.practice("hier", "eu", &["ca"]).await.unwrap();
    let patient = world.patient("eu", &practice, "berta").await.unwrap();
    let item = write(&practice.home, &patient.subject, "one").await.unwrap();
    let moving = patient.ask("ca").await.unwrap();
    let database = world.databases["ca"].postgres().unwrap();
    let foreign = World::key();
    let sql = format!(
        "INSERT INTO item (item_id, version, subject_id, revision, current, kind, schema, author_id, occurred_at, \
         state, visibility, bytes, digest, key_version, sealed, written_at) VALUES ('{item}', 1, '{foreign}', 1, true, \
         'note', 1, '{foreign}', 0, 'draft', 'shared', 0, decode(repeat('00', 32), 'hex'), 1, '', 0)"
    );
    database.admin(&sql).unwrap();
    patient.consent(&moving).await.unwrap();
    let ended = patient.reaches(&moving.id, TransferState::Aborted).await.unwrap();
    assert!(ended.abort_reason() == AbortReason::Failed);
    write(&practice.home, &patient.subject, "goes on").await.unwrap();
    world.verify(["eu", "ca"], &moving.id).await.unwrap();
}
