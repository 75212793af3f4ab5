//! The peers' listener, called with a peer's own certificate past its process: without an active consent
//! not a byte leaves, and what is played again is answered as before or refused.

use domicile_evidence::entry::{Entry, Outcome as Recorded};
use domicile_proto::records::v1::GetItemRequest;
use domicile_proto::records::v1::payload::Kind;
use domicile_proto::transfer::v1::transfer_control_service_client::TransferControlServiceClient;
use domicile_proto::transfer::v1::transfer_peer_service_client::TransferPeerServiceClient;
use domicile_proto::transfer::v1::{
    AbortReason, AdvanceRequest, GetKeyReleaseRequest, GetStatementsRequest, GetTransferRequest,
    ListDigestsRequest, PullObjectRequest, PullPageRequest, SignedStatement, TransferState,
};
use domicile_rpc::{Channel, from_status};
use domicile_store::Backend;
use domicile_tests::abuse::peer::{as_coordinator, as_region, log_from, log_size};
use domicile_tests::world::moves::{attach, reaches, write};
use domicile_tests::world::{Moving, Outcome, PATIENCE, Patient, Practice, Tuning, World, Written, pause};
use domicile_types::Code;
use prost::bytes::Bytes;
use tokio::time::Instant;
use tonic::{Code as Grpc, Status};

use super::refused;

type Peer = TransferPeerServiceClient<Channel>;

/// What each RPC of the peers' listener is recorded as.
const EVENTS: [&str; 4] =
    ["transfer.page.sent", "transfer.page.sent", "transfer.object.sent", "transfer.release.sent"];

fn peer(world: &World, who: &str) -> Outcome<Peer> {
    Ok(TransferPeerServiceClient::new(as_region(world, who, "eu")?))
}

/// Asks for everything there is of a transfer; each refusal came before the first byte.
async fn everything(peer: &Peer, transfer: &str, attempt: u64) -> [Option<Status>; 4] {
    let mut peer = peer.clone();
    let transfer_id = transfer.to_owned();
    let page = PullPageRequest {
        transfer_id: transfer_id.clone(),
        attempt,
        after_revision: 0,
        max_rows: 10,
        only: Vec::new(),
    };
    let object =
        PullObjectRequest { transfer_id: transfer_id.clone(), attempt, object_id: vec![7; 16].into() };
    [
        peer.pull_page(page).await.err(),
        peer.list_digests(ListDigestsRequest { transfer_id: transfer_id.clone(), attempt }).await.err(),
        peer.pull_object(object).await.err(),
        peer.get_key_release(GetKeyReleaseRequest { transfer_id, attempt }).await.err(),
    ]
}

/// Everything is refused, with these codes for content and for the key release.
#[track_caller]
fn nothing(answers: &[Option<Status>; 4], content: Code, grpc: Grpc, release: Code) {
    for (at, answer) in answers.iter().enumerate() {
        let status = answer.as_ref().expect("something was sent");
        if at == 3 {
            assert_eq!(from_status(status).code(), release, "{}", status.message());
        } else {
            refused(status, content, grpc);
        }
    }
}

/// One entry for each call, in order, that tells of its code and its transfer and of nobody.
#[track_caller]
fn recorded(left: &[Entry], codes: [Code; 4]) {
    let left: Vec<_> = left.iter().filter(|entry| EVENTS.contains(&entry.event.name())).collect();
    let told: Vec<_> = left.iter().map(|entry| (entry.event.name(), entry.outcome.clone())).collect();
    let expected: Vec<_> =
        EVENTS.iter().zip(codes).map(|(event, code)| (*event, Recorded::of(Err(code)))).collect();
    assert_eq!(told, expected);
    assert!(left.iter().all(|entry| entry.role == domicile_types::Role::Region));
}

async fn world(backend: Backend, transfer: &str) -> Outcome<(World, Practice, Patient)> {
    let tuning = Tuning { transfer: transfer.to_owned(), ..Tuning::default() };
    let world = World::start(backend, &["eu", "ca", "us"], &tuning).await?;
    let practice = world.practice("tal", "eu", &["ca"]).await?;
    let patient = world.patient("eu", &practice, "toni").await?;
    Ok((world, practice, patient))
}

#[tokio::test]
async fn without_a_consent_nothing_is_sent_on_sqlite() {
    without_a_consent(Backend::Sqlite).await.unwrap();
}

#[tokio::test]
async fn without_a_consent_nothing_is_sent_on_postgres() {
    without_a_consent(Backend::Postgres).await.unwrap();
}

async fn without_a_consent(backend: Backend) -> Outcome<()> {
    let (world, practice, patient) = world(backend, "bytes_per_second = 2000\nfreeze_lag_rows = 0").await?;
    let mut written = Written::default();
    written.fill(&practice.home, &patient.subject, 20, "stays").await?;
    let (ca, us) = (peer(&world, "ca")?, peer(&world, "us")?);
    let moving = patient.ask("ca").await?;
    let attempt = attempt(&patient, &moving).await?;

    let mut mark = log_size(&world, "eu").await?;
    let answers = everything(&ca, &moving.id, attempt).await;
    nothing(&answers, Code::ConsentMissing, Grpc::FailedPrecondition, Code::TransferState);
    let codes = [Code::ConsentMissing, Code::ConsentMissing, Code::ConsentMissing, Code::TransferState];
    recorded(&log_from(&world, "eu", mark).await?, codes);

    // Another region with a good certificate, and a transfer of nobody: as though there were none.
    mark = log_size(&world, "eu").await?;
    let wrong_region = everything(&us, &moving.id, attempt).await;
    nothing(&wrong_region, Code::NotFound, Grpc::NotFound, Code::NotFound);
    recorded(&log_from(&world, "eu", mark).await?, [Code::NotFound; 4]);
    let absent = everything(&us, &World::key(), attempt).await;
    for (wrong, absent) in wrong_region.iter().flatten().zip(absent.iter().flatten()) {
        assert_eq!((wrong.code(), wrong.message()), (absent.code(), absent.message()));
    }

    // A consent that is for another destination, or has been taken back.
    patient.consent(&moving).await?;
    nothing(&everything(&us, &moving.id, attempt).await, Code::NotFound, Grpc::NotFound, Code::NotFound);
    let stale = everything(&ca, &moving.id, attempt + 1).await;
    nothing(&stale, Code::AttemptStale, Grpc::FailedPrecondition, Code::AttemptStale);
    patient.withdraw(&moving).await?;
    mark = log_size(&world, "eu").await?;
    let answers = everything(&ca, &moving.id, attempt).await;
    nothing(&answers, Code::ConsentWithdrawn, Grpc::Aborted, Code::TransferState);
    let codes = [Code::ConsentWithdrawn, Code::ConsentWithdrawn, Code::ConsentWithdrawn, Code::TransferState];
    let left = log_from(&world, "eu", mark).await?;
    // The region itself may have been pulling at that moment; then its last page was refused as well.
    let left: Vec<Entry> = left.into_iter().filter(|entry| EVENTS.contains(&entry.event.name())).collect();
    recorded(left.get(left.len().saturating_sub(4)..).unwrap_or_default(), codes);

    patient.reaches(&moving.id, TransferState::Aborted).await?;
    written.read_back(&practice.home, &patient.subject).await?;
    write(&practice.home, &patient.subject, "goes on").await?;
    world.verify(["eu", "ca"], &moving.id).await?;
    Ok(())
}

async fn attempt(patient: &Patient, moving: &Moving) -> Outcome<u64> {
    let request = GetTransferRequest { transfer_id: moving.id.clone() };
    let found = patient.client.transfers().get_transfer(request).await?.into_inner().transfer;
    Ok(found.unwrap_or_default().attempt)
}

/// While an object streams to the destination its consent ends: the stream ends with it, far from whole.
#[tokio::test]
async fn a_consent_withdrawn_in_mid_stream() {
    ends_in_mid_stream("72h", AbortReason::Withdrawn, Code::ConsentWithdrawn).await.unwrap();
}

#[tokio::test]
async fn a_consent_that_expires_in_mid_stream() {
    ends_in_mid_stream("6s", AbortReason::Expired, Code::ConsentExpired).await.unwrap();
}

async fn ends_in_mid_stream(valid: &str, reason: AbortReason, code: Code) -> Outcome<()> {
    const PIECES: usize = 40;
    // So slow that the region itself does not finish meanwhile.
    let transfer = format!("consent_valid = \"{valid}\"\nbytes_per_second = 400000\nfreeze_lag_rows = 0");
    let (world, practice, patient) = world(Backend::Sqlite, &transfer).await?;
    let mut written = Written::default();
    written.fill(&practice.home, &patient.subject, 5, "stays").await?;
    let item = attach(&practice.home, &patient.subject, &vec![9; PIECES << 20]).await?;
    let object_id = object_of(&practice, &patient.subject, &item).await?;
    let moving = patient.ask("ca").await?;
    let attempt = attempt(&patient, &moving).await?;
    patient.consent(&moving).await?;
    patient.reaches(&moving.id, TransferState::Copying).await?;

    let request = PullObjectRequest { transfer_id: moving.id.clone(), attempt, object_id };
    let mut stream = peer(&world, "ca")?.pull_object(request).await?.into_inner();
    stream.message().await?.ok_or("no head")?;
    if reason == AbortReason::Withdrawn {
        patient.withdraw(&moving).await?;
    } else {
        expired(&patient, &moving).await?;
    }
    let mut pieces = 0;
    let status = loop {
        match stream.message().await {
            Ok(Some(_)) => pieces += 1,
            Ok(None) => return Err("the stream came whole".into()),
            Err(status) => break status,
        }
    };
    assert_eq!(from_status(&status).code(), code, "{status:?}");
    assert!(pieces < PIECES / 2, "{pieces} pieces after the end");
    let ended = patient.reaches(&moving.id, TransferState::Aborted).await?;
    assert!(ended.abort_reason() == reason);
    write(&practice.home, &patient.subject, "unfrozen").await?;
    written.read_back(&practice.home, &patient.subject).await?;
    world.verify(["eu", "ca"], &moving.id).await?;
    nothing_staged(&world).await
}

/// Waits until the source has seen that the consent's time is over.
async fn expired(patient: &Patient, moving: &Moving) -> Outcome<()> {
    let until = Instant::now() + PATIENCE;
    loop {
        let request = GetTransferRequest { transfer_id: moving.id.clone() };
        let found = patient.client.transfers().get_transfer(request).await?.into_inner().transfer;
        if found.unwrap_or_default().abort_reason() == AbortReason::Expired {
            return Ok(());
        }
        if Instant::now() > until {
            return Err("it does not expire".into());
        }
        pause().await;
    }
}

/// The id of the object that an attachment's item names.
async fn object_of(practice: &Practice, subject: &str, item: &str) -> Outcome<Bytes> {
    let request = GetItemRequest { subject_id: subject.to_owned(), item_id: item.to_owned(), version: 0 };
    let found = practice.home.records().get_item(request).await?.into_inner().item;
    match found.and_then(|item| item.payload).and_then(|payload| payload.kind) {
        Some(Kind::Attachment(file)) => Ok(file.object.ok_or("no object")?.object_id.into()),
        _ => Err("no attachment".into()),
    }
}

pub(crate) fn files(folder: &std::path::Path) -> Outcome<Vec<std::path::PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files(&path)?);
        } else if path.metadata().is_ok_and(|file| file.len() > 0) {
            // Locks of files under way are empty.
            found.push(path);
        }
    }
    Ok(found)
}

/// The destination keeps nothing of what had come.
pub(crate) async fn nothing_staged(world: &World) -> Outcome<()> {
    let until = Instant::now() + PATIENCE;
    loop {
        let left = files(&world.home("ca").join("objects"))?;
        if left.is_empty() {
            return Ok(());
        }
        if Instant::now() > until {
            return Err(format!("{left:?} stays").into());
        }
        pause().await;
    }
}

/// What was said is said again: statements of the same attempt and the key release get the same answer and
/// change nothing; those of an attempt or a transfer that is over are refused.
#[tokio::test]
async fn replayed_statements_releases_and_chunks() {
    replayed().await.unwrap();
}

async fn replayed() -> Outcome<()> {
    let (world, practice, patient) = world(Backend::Sqlite, "").await?;
    let mut written = Written::default();
    written.fill(&practice.home, &patient.subject, 5, "moves").await?;
    let old = patient.ask("ca").await?;
    patient.withdraw(&old).await?;
    patient.reaches(&old.id, TransferState::Aborted).await?;
    let moving = patient.ask("ca").await?;
    let attempt = attempt(&patient, &moving).await?;
    patient.consent(&moving).await?;
    let there = loop {
        match world.sign_in("ca", &patient.login).await {
            Ok(client) => break client,
            Err(_) => pause().await,
        }
    };
    reaches(&there, &moving.id, TransferState::Closed).await?;

    let (eu, ca) = (control(&world, "eu")?, control(&world, "ca")?);
    let before = statements(&ca, &moving.id).await?;
    let of_source = statements(&eu, &moving.id).await?;
    for lane in [of_source.clone(), of_source.iter().rev().cloned().collect()] {
        let answer = advance(&ca, &moving.id, attempt, lane).await;
        assert!(answer.is_ok() || answer.is_err_and(|status| status.code() == Grpc::FailedPrecondition));
    }
    let answer = advance(&eu, &moving.id, attempt, before.clone()).await;
    assert!(answer.is_ok(), "the same again is no news: {answer:?}");
    assert!(statements(&ca, &moving.id).await? == before, "nothing new was said");
    assert!(statements(&eu, &moving.id).await? == of_source);

    // Statements of the transfer that is over, as though they were of this one; and this one's, changed.
    let stray = statements(&eu, &old.id).await?;
    let answer = advance(&ca, &moving.id, attempt, stray).await.unwrap_err();
    refused(&answer, Code::StatementInvalid, Grpc::InvalidArgument);
    let mut forged = of_source.clone();
    let first = forged.first_mut().ok_or("no statement")?;
    let mut content = first.statement.to_vec();
    *content.last_mut().ok_or("no content")? ^= 1;
    first.statement = content.into();
    let answer = advance(&ca, &moving.id, attempt, forged).await.unwrap_err();
    refused(&answer, Code::StatementInvalid, Grpc::InvalidArgument);

    // Content is not sent again once the transfer has completed.
    let answers = everything(&peer(&world, "ca")?, &moving.id, attempt).await;
    for answer in &answers[..3] {
        refused(answer.as_ref().ok_or("something was sent")?, Code::TransferState, Grpc::FailedPrecondition);
    }
    let there = world.sign_in("ca", &practice.login).await?;
    written.read_back(&there, &patient.subject).await?;
    world.verify(["eu", "ca"], &moving.id).await?;
    Ok(())
}

type Control = TransferControlServiceClient<Channel>;

fn control(world: &World, whom: &str) -> Outcome<Control> {
    Ok(TransferControlServiceClient::new(as_coordinator(world, whom)?))
}

async fn statements(control: &Control, transfer: &str) -> Outcome<Vec<SignedStatement>> {
    let request = GetStatementsRequest { transfer_id: transfer.to_owned(), after: 0 };
    Ok(control.clone().get_statements(request).await?.into_inner().statements)
}

async fn advance(
    control: &Control,
    transfer: &str,
    attempt: u64,
    statements: Vec<SignedStatement>,
) -> Result<(), Status> {
    let request =
        AdvanceRequest { transfer_id: transfer.to_owned(), attempt, statements, ..AdvanceRequest::default() };
    control.clone().advance(request).await.map(drop)
}

/// The coordinator's certificate opens no door of the peers', nor a region's one of the coordinator's; no
/// certificate at all opens none.
#[tokio::test]
async fn a_good_certificate_for_another_door() {
    doors().await.unwrap();
}

async fn doors() -> Outcome<()> {
    let (world, _, _) = world(Backend::Sqlite, "").await?;
    let mark = log_size(&world, "eu").await?;
    let coordinator = TransferPeerServiceClient::new(as_coordinator(&world, "eu")?);
    for answer in everything(&coordinator, &World::key(), 1).await.iter().flatten() {
        refused(answer, Code::Forbidden, Grpc::PermissionDenied);
    }
    let region = TransferControlServiceClient::new(as_region(&world, "ca", "eu")?);
    let answer = advance(&region, &World::key(), 1, Vec::new()).await.unwrap_err();
    refused(&answer, Code::Forbidden, Grpc::PermissionDenied);
    let left = log_from(&world, "eu", mark).await?;
    let denied = left.iter().filter(|entry| entry.outcome == Recorded::of(Err(Code::Forbidden))).count();
    assert_eq!(denied, 5, "one entry each");
    Ok(())
}
