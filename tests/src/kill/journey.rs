//! What people do while processes die under them: every request is repeated until it is answered.

use std::future::Future;
use std::time::Duration;

use domicile_cli::Client;
use domicile_cli::client::answer;
use domicile_proto::records::v1::PutItemRequest;
use domicile_proto::transfer::v1::{
    GetOfferRequest, GetTransferRequest, RequestTransferRequest, TransferState, WithdrawConsentRequest,
};
use domicile_types::{Class, Code, Error};
use tokio::sync::watch;
use tokio::time::Instant;

use super::arena::Arena;
use crate::world::moves::note;
use crate::world::{Moving, Outcome, PATIENCE, Patient, World, Written, pause};

/// How somebody writes while a transfer goes on.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// So many notes at most.
    pub most: usize,
    /// Between two of them.
    pub between: Duration,
}

/// In a cell of the matrix.
pub const PACE: Pace = Pace { most: 8, between: Duration::from_millis(120) };

/// How long a request is repeated: a machine with much to do may stand still for a minute.
const LONG: Duration = Duration::from_secs(150);

/// Whether the same request may succeed later.
fn passes(error: &Error) -> bool {
    matches!(
        error.class(),
        Class::Unavailable | Class::ResourceExhausted | Class::DeadlineExceeded | Class::Aborted
    )
}

/// Repeats a request that may be repeated until it is answered.
///
/// # Errors
/// The first answer that waiting does not change, or the last when patience is over.
pub async fn insist<T, F, Fut>(mut request: F) -> domicile_types::Result<T>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = domicile_types::Result<T>>,
{
    let until = Instant::now() + LONG;
    loop {
        match request().await {
            Err(error) if passes(&error) && Instant::now() < until => pause().await,
            other => return other,
        }
    }
}

/// Asks for a move and waits for the offer.
///
/// # Errors
/// What the region answers.
pub async fn ask(patient: &Patient, to: &str) -> Outcome<Moving> {
    let request = RequestTransferRequest { destination: to.to_owned(), idempotency_key: World::key() };
    let asked = insist(|| answer_request(patient, request.clone())).await?;
    let until = Instant::now() + PATIENCE;
    while state(patient, &asked).await? == TransferState::Requested {
        if Instant::now() > until {
            return Err("no offer comes".into());
        }
        pause().await;
    }
    let request = GetOfferRequest { transfer_id: asked.clone(), locale: "en".to_owned() };
    let got = || {
        let (client, request) = (patient.client.clone(), request.clone());
        async move { answer(client.transfers().get_offer(request)).await }
    };
    Ok(Moving { id: asked, offer: insist(got).await?.offer.unwrap_or_default() })
}

async fn answer_request(
    patient: &Patient,
    request: RequestTransferRequest,
) -> domicile_types::Result<String> {
    let asked = answer(patient.client.transfers().request_transfer(request)).await?;
    Ok(asked.transfer.unwrap_or_default().transfer_id)
}

async fn state(patient: &Patient, transfer: &str) -> domicile_types::Result<TransferState> {
    let get = || {
        let (client, transfer_id) = (patient.client.clone(), transfer.to_owned());
        async move { answer(client.transfers().get_transfer(GetTransferRequest { transfer_id })).await }
    };
    Ok(insist(get).await?.transfer.unwrap_or_default().state())
}

/// Consents. An answer that was lost is found in the transfer's state.
///
/// # Errors
/// What the region answers.
pub async fn consent(patient: &Patient, moving: &Moving) -> Outcome<()> {
    let give = || {
        let (client, consent) = (patient.client.clone(), moving.consent());
        async move { answer(client.transfers().give_consent(consent)).await.map(drop) }
    };
    match insist(give).await {
        Err(error) if error.class() == Class::FailedPrecondition => match state(patient, &moving.id).await {
            Ok(TransferState::Requested | TransferState::Preflighted) => Err(error.into()),
            // So quick that nothing of it is here any more.
            Err(moved) if moved.code() == Code::RecordMoved => Ok(()),
            other => Ok(other.map(drop)?),
        },
        other => Ok(other?),
    }
}

/// Withdraws; false when the move was complete before.
///
/// # Errors
/// What the region answers.
pub async fn withdraw(patient: &Patient, moving: &Moving) -> Outcome<bool> {
    let withdraw = || {
        let request = WithdrawConsentRequest { transfer_id: moving.id.clone() };
        let client = patient.client.clone();
        async move { answer(client.transfers().withdraw_consent(request)).await.map(drop) }
    };
    match insist(withdraw).await {
        Ok(()) => Ok(true),
        Err(error) if error.code() == Code::TransferComplete => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// A write that was sent and not answered before the record had moved.
pub struct Open(PutItemRequest, String);

/// Writes notes until told to stop or the record has moved; what was acknowledged, and the last one when
/// nobody knows whether it was written.
///
/// # Errors
/// What the region answers and should not.
pub async fn keep_writing(
    client: Client,
    subject: String,
    first: usize,
    pace: Pace,
    mut over: watch::Receiver<bool>,
) -> Outcome<(Written, Option<Open>)> {
    let mut written = Written::default();
    for number in first..first + pace.most {
        if tokio::time::timeout(pace.between, over.wait_for(|over| *over)).await.is_ok() {
            break;
        }
        let text = Arena::text(number);
        let request = PutItemRequest {
            subject_id: subject.clone(),
            idempotency_key: World::key(),
            draft: Some(note(&text)),
        };
        match insist(|| put(&client, request.clone())).await {
            Ok(item) => drop(written.0.insert(item, text)),
            // It is not known whether an earlier try of it came through.
            Err(error) if error.code() == Code::RecordMoved => {
                return Ok((written, Some(Open(request, text))));
            }
            // After the erasure a stranger is told nothing.
            Err(error) if matches!(error.class(), Class::NotFound | Class::Unauthenticated) => {
                return Ok((written, Some(Open(request, text))));
            }
            Err(error) => return Err(format!("a write is refused: {error}").into()),
        }
    }
    Ok((written, None))
}

/// Sends an open write again, where the record is now: with the same key it is written once.
///
/// # Errors
/// What the region answers.
pub async fn finish(client: &Client, open: Open, written: &mut Written) -> Outcome<()> {
    let Open(request, text) = open;
    let item = insist(|| put(client, request.clone())).await?;
    written.0.insert(item, text);
    Ok(())
}

/// Writes; the item's id.
///
/// # Errors
/// What the region answers.
pub async fn put(client: &Client, request: PutItemRequest) -> domicile_types::Result<String> {
    let header = answer(client.records().put_item(request)).await?.header.unwrap_or_default();
    Ok(header.item_id)
}
