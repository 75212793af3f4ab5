//! Transfers between real processes, on both databases: a record moves while it is written, comes
//! back, is withdrawn from, several at once; both logs verify offline (P19, P20; invariants 1 to 14).
#![cfg(test)]

use domicile_cli::client::answer;
use domicile_proto::records::v1::payload::Kind;
use domicile_proto::records::v1::{
    GetSummaryRequest, ItemDraft, Payload, PutItemRequest, Reflection, SetLegalHoldRequest,
};
use domicile_proto::transfer::v1::{
    AbortReason, GetReceiptRequest, GetTransferRequest, GiveConsentRequest, ListConsentsRequest,
    PauseTransferRequest, RequestTransferRequest, ResumeTransferRequest, TransferState,
};
use domicile_store::Backend;
use domicile_tests::world::moves::{attach, count, fetch, reaches, write};
use domicile_tests::world::{Moving, Outcome, PATIENCE, Patient, Practice, Tuning, World, Written};
use domicile_types::Code;

async fn world(backend: Backend, tuning: &Tuning) -> Outcome<(World, Practice)> {
    let world = World::start(backend, &["eu", "ca"], tuning).await?;
    let practice = world.practice("anders", "eu", &["ca"]).await?;
    Ok((world, practice))
}

macro_rules! on_both {
    ($($name:ident),* $(,)?) => {
        mod on_sqlite {
            $(#[tokio::test] async fn $name() { super::$name(domicile_store::Backend::Sqlite).await.unwrap(); })*
        }
        mod on_postgres {
            $(#[tokio::test] async fn $name() { super::$name(domicile_store::Backend::Postgres).await.unwrap(); })*
        }
    };
}

on_both!(
    a_record_moves_while_it_is_written_and_comes_back,
    a_withdrawal_ends_every_state_and_blocks_nothing,
    a_consent_that_does_not_fit_moves_nothing,
    several_records_move_at_once_under_two_coordinators,
    an_operator_holds_resumes_and_cancels,
);

async fn a_record_moves_while_it_is_written_and_comes_back(backend: Backend) -> Outcome<()> {
    let (world, practice) = world(backend, &Tuning::default()).await?;
    let patient = world.patient("eu", &practice, "clara").await?;
    let mut written = Written::default();
    written.fill(&practice.home, &patient.subject, 60, "before").await?;
    let file: Vec<u8> = (0..2_500_000_u32).flat_map(u32::to_le_bytes).take(2_600_000).collect();
    let attached = attach(&practice.home, &patient.subject, &file).await?;
    reflect(&patient).await?;

    let moving = patient.ask("ca").await?;
    assert!(moving.offer.notice.len() > 500, "the exact text is shown");
    patient.consent(&moving).await?;
    let there = world.sign_in("ca", &practice.login).await?;
    let during = keep_writing(&practice, &there, &patient.subject).await?;
    assert!(!during.0.is_empty(), "the practitioner kept working");
    written.0.extend(during.0);

    let client_there = world.sign_in("ca", &patient.login).await?;
    reaches(&client_there, &moving.id, TransferState::Closed).await?;
    written.read_back(&there, &patient.subject).await?;
    assert_eq!(fetch(&there, &patient.subject, &attached).await?, file);
    // P13: the client's own reflection is there for the client and for nobody else.
    let (client_sees, practitioner_sees) =
        (count(&client_there, &patient.subject).await?, count(&there, &patient.subject).await?);
    assert_eq!(client_sees, 2, "the reflection and the shared attachment; notes are the practitioner's");
    assert_eq!(practitioner_sees, written.0.len() + 1);
    // The old home answers MOVED to who may know, and has nothing.
    let moved = write(&practice.home, &patient.subject, "too late").await.unwrap_err();
    assert_eq!(moved.code(), Code::RecordMoved);
    assert_eq!(
        moved.moved().map(|(region, epoch)| (region.as_str().to_owned(), *epoch)),
        Some(("ca".to_owned(), 2))
    );
    world.verify(["eu", "ca"], &moving.id).await?;
    receipt_is_whole(&client_there, &moving.id).await?;
    page_tells_it(&world, &moving.id, &patient.login.email).await?;

    // And back: the attempt and the epoch go on counting.
    let back = Patient { client: client_there, ..patient.clone() };
    let returning = back.ask("eu").await?;
    back.consent(&returning).await?;
    let home = wait_for(&world, "eu", &patient, &returning).await?;
    reaches(&home, &returning.id, TransferState::Closed).await?;
    written.read_back(&practice.home, &patient.subject).await?;
    assert_eq!(fetch(&practice.home, &patient.subject, &attached).await?, file);
    let request = GetSummaryRequest { subject_id: patient.subject.clone() };
    assert_eq!(answer(home.records().get_summary(request)).await?.epoch, 3);
    world.verify(["eu", "ca"], &returning.id).await?;
    no_page_of_another(&world, &moving.id, &returning.id).await
}

/// The bundles now hold the second move's statements alone, and a receipt is one move's.
async fn no_page_of_another(world: &World, first: &str, second: &str) -> Outcome<()> {
    let receipt = format!(r#"{{"transfer":{{"transfer_id":"{first}"}}}}"#);
    for (transfer, why) in [(first, "without the signed statements"), (second, "receipt of another transfer")]
    {
        let refused = world.report(["eu", "ca"], transfer, &receipt).await;
        let said = refused.err().map(|error| error.to_string()).unwrap_or_default();
        assert!(said.contains(why), "{said}");
    }
    Ok(())
}

async fn reflect(patient: &Patient) -> Outcome<()> {
    let reflection = Reflection { text: "for myself".to_owned() };
    let request = PutItemRequest {
        subject_id: patient.subject.clone(),
        idempotency_key: World::key(),
        draft: Some(ItemDraft {
            payload: Some(Payload { kind: Some(Kind::Reflection(reflection)) }),
            ..Default::default()
        }),
    };
    answer(patient.client.records().put_item(request)).await?;
    Ok(())
}

/// Writes at the old home until it answers MOVED, then once at the new one; everything acknowledged is
/// returned.
async fn keep_writing(practice: &Practice, there: &domicile_cli::Client, subject: &str) -> Outcome<Written> {
    let mut written = Written::default();
    for number in 0..10_000 {
        let text = format!("during {number}");
        match write(&practice.home, subject, &text).await {
            Ok(item) => {
                written.0.insert(item, text);
            }
            Err(error) if error.code() == Code::RecordMoved => {
                let item = write(there, subject, &text).await?;
                written.0.insert(item, text);
                return Ok(written);
            }
            Err(error) => return Err(error.into()),
        }
    }
    Err("the record does not move".into())
}

/// Signs the client in where the record goes, once they are known there.
async fn wait_for(
    world: &World,
    region: &str,
    patient: &Patient,
    moving: &Moving,
) -> Outcome<domicile_cli::Client> {
    reaches_or_gone(&patient.client, &moving.id).await?;
    let until = tokio::time::Instant::now() + PATIENCE;
    loop {
        match world.sign_in(region, &patient.login).await {
            Ok(client) => return Ok(client),
            Err(error) if tokio::time::Instant::now() > until => return Err(error),
            Err(_) => domicile_tests::world::pause().await,
        }
    }
}

/// Waits until the source has erased the record, or no longer knows the caller.
async fn reaches_or_gone(client: &domicile_cli::Client, transfer: &str) -> Outcome<()> {
    let until = tokio::time::Instant::now() + PATIENCE;
    while tokio::time::Instant::now() < until {
        let request = GetTransferRequest { transfer_id: transfer.to_owned() };
        match answer(client.transfers().get_transfer(request)).await {
            Ok(found) => {
                let state = found.transfer.unwrap_or_default().state();
                if matches!(state, TransferState::Shredded | TransferState::Closed) {
                    return Ok(());
                }
            }
            Err(error) if matches!(error.code(), Code::Unauthenticated | Code::RecordMoved) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        domicile_tests::world::pause().await;
    }
    Err("the source does not let go".into())
}

/// The page for people who file such things: what was consented to, both logs' steps, the certificate; nobody's name.
async fn page_tells_it(world: &World, transfer: &str, email: &str) -> Outcome<()> {
    let request = GetReceiptRequest { transfer_id: transfer.to_owned() };
    let receipt = answer(world.auditor("eu").await?.transfers().get_receipt(request)).await?;
    let receipt = domicile_cli::json::of("domicile.transfer.v1.GetReceiptResponse", &receipt).to_string();
    let page = world.report(["eu", "ca"], transfer, &receipt).await?;
    let parts = [
        "Everything in these files agrees",
        "HOW TO WITHDRAW",
        "Certificate of erasure",
        "in the log of ca",
        transfer,
    ];
    for part in parts {
        assert!(page.contains(part), "{part}");
    }
    assert!(!page.contains(email) && !page.contains("not there") && !page.contains("differs"));
    Ok(())
}

async fn receipt_is_whole(client: &domicile_cli::Client, transfer: &str) -> Outcome<()> {
    let request = GetReceiptRequest { transfer_id: transfer.to_owned() };
    let receipt = answer(client.transfers().get_receipt(request)).await?;
    assert_eq!(receipt.statements.len(), 11, "six of the source, five of the destination");
    assert_eq!(receipt.checkpoints.len(), 2);
    Ok(())
}

async fn a_withdrawal_ends_every_state_and_blocks_nothing(backend: Backend) -> Outcome<()> {
    // So slow that a withdrawal in mid-copy is in mid-copy.
    let transfer = "freeze_lag_rows = 0\npage_rows = 5\nbytes_per_second = 2000".to_owned();
    let (world, practice) = world(backend, &Tuning { transfer, ..Tuning::default() }).await?;
    let patient = world.patient("eu", &practice, "bruno").await?;
    let mut written = Written::default();
    written.fill(&practice.home, &patient.subject, 30, "kept").await?;
    for stage in ["offered", "consented", "copying"] {
        let moving = patient.ask("ca").await?;
        if stage != "offered" {
            patient.consent(&moving).await?;
        }
        if stage == "copying" {
            patient.reaches(&moving.id, TransferState::Copying).await?;
        }
        patient.withdraw(&moving).await.map_err(|error| format!("{stage}: {error}"))?;
        let again = patient.withdraw(&moving).await;
        assert!(again.is_ok(), "withdrawing twice is withdrawing once: {again:?}");
        let ended = patient.reaches(&moving.id, TransferState::Aborted).await?;
        assert!(ended.abort_reason() == AbortReason::Withdrawn);
        write(&practice.home, &patient.subject, "goes on").await?;
        world.verify(["eu", "ca"], &moving.id).await?;
        // The destination has never known a person: nobody can sign in there.
        assert!(world.sign_in("ca", &patient.login).await.is_err());
    }
    written.read_back(&practice.home, &patient.subject).await?;
    let history = answer(patient.client.transfers().list_consents(ListConsentsRequest {})).await?.events;
    let count = |event: &str| history.iter().filter(|line| line.event == event).count();
    assert_eq!(
        (count("given"), count("withdrawn")),
        (2, 2),
        "each consent has its line of giving and of ending"
    );
    Ok(())
}

async fn a_consent_that_does_not_fit_moves_nothing(backend: Backend) -> Outcome<()> {
    let (world, practice) = world(backend, &Tuning::default()).await?;
    let patient = world.patient("eu", &practice, "dora").await?;
    let other = world.patient("eu", &practice, "emil").await?;
    write(&practice.home, &patient.subject, "one").await?;
    let moving = patient.ask("ca").await?;
    let try_consent = async |patient: &Patient, consent: GiveConsentRequest| {
        answer(patient.client.transfers().give_consent(consent)).await.err().expect("refused").code()
    };
    // Signed in for the first time a moment ago, so fresh enough; the rest does not fit.
    assert_eq!(try_consent(&other, moving.consent()).await, Code::NotFound, "another's");
    let stale = GiveConsentRequest { notice_version: "eu-1999".to_owned(), ..moving.consent() };
    assert_eq!(try_consent(&patient, stale).await, Code::OfferStale);
    let elsewhere = GiveConsentRequest { destination: "us".to_owned(), ..moving.consent() };
    assert_eq!(try_consent(&patient, elsewhere).await, Code::ConsentMismatch);
    let unread = GiveConsentRequest { offer_digest: vec![0; 32].into(), ..moving.consent() };
    assert_eq!(try_consent(&patient, unread).await, Code::OfferStale);
    // A second transfer while one is open.
    let request = RequestTransferRequest { destination: "ca".to_owned(), idempotency_key: World::key() };
    let second = answer(patient.client.transfers().request_transfer(request)).await.err().expect("refused");
    assert_eq!(second.code(), Code::TransferOpen);
    // A pair nobody allows or configured.
    let request = RequestTransferRequest { destination: "zz".to_owned(), idempotency_key: World::key() };
    let nowhere = answer(other.client.transfers().request_transfer(request)).await.err().expect("refused");
    assert_eq!(nowhere.code(), Code::TransferNotAllowed);
    // A legal hold, placed while the offer is open.
    let hold = |held| SetLegalHoldRequest {
        subject_id: patient.subject.clone(),
        reference: "case-7/2026".to_owned(),
        held,
    };
    let auditor = world.auditor("eu").await?;
    answer(auditor.records().set_legal_hold(hold(true))).await?;
    patient.reauthenticate().await?;
    assert_eq!(try_consent(&patient, moving.consent()).await, Code::LegalHold);
    answer(auditor.records().set_legal_hold(hold(false))).await?;
    // Nothing of all this has moved anything.
    let request = GetTransferRequest { transfer_id: moving.id.clone() };
    let still = answer(patient.client.transfers().get_transfer(request)).await?.transfer.unwrap_or_default();
    assert!(still.state() == TransferState::Preflighted);
    assert_eq!(still.progress.unwrap_or_default().rows_done, 0);
    // Withdrawn: the same consent is worth nothing now.
    patient.consent(&moving).await?;
    patient.withdraw(&moving).await?;
    patient.reauthenticate().await?;
    let code = try_consent(&patient, moving.consent()).await;
    assert_eq!(code, Code::TransferState, "after the withdrawal");
    Ok(())
}

async fn several_records_move_at_once_under_two_coordinators(backend: Backend) -> Outcome<()> {
    let (mut world, practice) = world(backend, &Tuning::default()).await?;
    world.second_coordinator()?;
    let mut moves = Vec::new();
    for name in ["ida", "jan", "kim", "lea"] {
        let patient = world.patient("eu", &practice, name).await?;
        let mut written = Written::default();
        written.fill(&practice.home, &patient.subject, 15, name).await?;
        let moving = patient.ask("ca").await?;
        moves.push((patient, moving, written));
    }
    for (patient, moving, _) in &moves {
        patient.consent(moving).await?;
    }
    let there = world.sign_in("ca", &practice.login).await?;
    for (patient, moving, written) in &moves {
        let client = wait_for(&world, "ca", patient, moving).await?;
        reaches(&client, &moving.id, TransferState::Closed).await?;
        written.read_back(&there, &patient.subject).await?;
        world.verify(["eu", "ca"], &moving.id).await?;
    }
    Ok(())
}

async fn an_operator_holds_resumes_and_cancels(backend: Backend) -> Outcome<()> {
    let (world, practice) = world(backend, &Tuning::default()).await?;
    let patient = world.patient("eu", &practice, "mona").await?;
    write(&practice.home, &patient.subject, "one").await?;
    let operator = world.operator("eu").await?;
    let moving = patient.ask("ca").await?;
    let (transfer_id, reason) = (moving.id.clone(), "maintenance window".to_owned());
    let pause = PauseTransferRequest { transfer_id: transfer_id.clone(), reason: reason.clone() };
    answer(operator.transfers().pause_transfer(pause)).await?;
    let unexplained = PauseTransferRequest { transfer_id: transfer_id.clone(), reason: String::new() };
    let refused = answer(operator.transfers().pause_transfer(unexplained)).await.err().expect("refused");
    assert_eq!(refused.code(), Code::InvalidRequest);
    patient.consent(&moving).await?;
    let request = GetTransferRequest { transfer_id: transfer_id.clone() };
    let held = answer(operator.transfers().get_transfer(request)).await?.transfer.unwrap_or_default();
    assert!(held.paused && held.state() == TransferState::Consented);
    // A client who is not an operator may not hold or end anything.
    let pause = PauseTransferRequest { transfer_id: transfer_id.clone(), reason: reason.clone() };
    let refused = answer(patient.client.transfers().pause_transfer(pause)).await.err().expect("refused");
    assert_eq!(refused.code(), Code::Forbidden);
    let resume = ResumeTransferRequest { transfer_id: transfer_id.clone(), reason: reason.clone() };
    answer(operator.transfers().resume_transfer(resume)).await?;
    let client = wait_for(&world, "ca", &patient, &moving).await?;
    reaches(&client, &moving.id, TransferState::Closed).await?;

    let second = world.patient("eu", &practice, "nils").await?;
    write(&practice.home, &second.subject, "one").await?;
    let moving = second.ask("ca").await?;
    let cancel =
        domicile_proto::transfer::v1::CancelTransferRequest { transfer_id: moving.id.clone(), reason };
    answer(operator.transfers().cancel_transfer(cancel)).await?;
    let ended = second.reaches(&moving.id, TransferState::Aborted).await?;
    assert!(ended.abort_reason() == AbortReason::Cancelled);
    world.verify(["eu", "ca"], &moving.id).await?;
    Ok(())
}
