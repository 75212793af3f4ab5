//! Asking for a move, the offer, the consent, and watching until it rests.

use std::time::Duration;

use domicile_cli::Client;
use domicile_cli::client::answer;
use domicile_cli::commands::transfer::{follow, offer_text};
use domicile_cli::failure::{Failure, Result};
use domicile_cli::progress::{TransferBar, state_name};
use domicile_cli::{app::fresh_key, text};
use domicile_proto::identity::v1::ReauthenticateRequest;
use domicile_proto::transfer::v1::{
    GetOfferRequest, GetTransferRequest, GiveConsentRequest, Offer, RequestTransferRequest, Transfer,
    TransferState,
};
use domicile_types::{Class, Code, Error};
use tokio::time::Instant;
use tracing::Instrument as _;

use super::people::Person;
use super::stage::{Login, Stage, sign_in};

/// How long the regions may take to make an offer, or the new home to know its client.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a whole move may take here.
const MOVE: Duration = Duration::from_secs(900);
const ASK: Duration = Duration::from_millis(50);

/// Asks for a move and waits for the offer; shows it in full or in short.
pub(super) async fn ask(stage: &Stage<'_>, person: &Person, whole: bool) -> Result<Offer> {
    let mut transfers = person.at_source.transfers();
    let request = RequestTransferRequest {
        destination: stage.destination.to_string(),
        idempotency_key: fresh_key(&stage.app.ctx),
    };
    let requested = answer(transfers.request_transfer(request)).await?.transfer.unwrap_or_default();
    let transfer_id = requested.transfer_id;
    let until = Instant::now() + PATIENCE;
    loop {
        let request = GetTransferRequest { transfer_id: transfer_id.clone() };
        let transfer = answer(transfers.get_transfer(request)).await?.transfer.unwrap_or_default();
        if transfer.state() == TransferState::Preflighted {
            break;
        }
        if Instant::now() > until || transfer.state() != TransferState::Requested {
            return Err(no_offer(&transfer));
        }
        tokio::time::sleep(ASK).await;
    }
    let offer = answer(transfers.get_offer(GetOfferRequest { transfer_id, locale: "en".to_owned() })).await?;
    let offer = offer.offer.unwrap_or_default();
    if whole {
        stage.say(&indented(&offer_text(&offer)))?;
    } else {
        let rows: u64 = offer.kinds.iter().map(|kind| kind.items).sum();
        let bytes: u64 = offer.kinds.iter().map(|kind| kind.bytes).sum();
        stage.say(&format!(
            "  The offer: {rows} items, {}; notice {}.",
            text::size(bytes),
            offer.notice_version
        ))?;
    }
    Ok(offer)
}

fn no_offer(transfer: &Transfer) -> Failure {
    let blockers = transfer.blockers.join(", ");
    let what = format!("no offer: the transfer is {} {blockers}", state_name(transfer.state()));
    Failure::local(what, "See the regions' logs with --keep.")
}

/// Proves the password again and consents to exactly this offer.
pub(super) async fn consent(stage: &Stage<'_>, person: &Person, offer: &Offer) -> Result<()> {
    let password = person.login.password.clone();
    answer(person.at_source.identity().reauthenticate(ReauthenticateRequest { password })).await?;
    let request = GiveConsentRequest {
        transfer_id: offer.transfer_id.clone(),
        offer_digest: offer.digest.clone(),
        destination: offer.destination.clone(),
        notice_version: offer.notice_version.clone(),
        locale: offer.locale.clone(),
        forwarding_locator: false,
        psychotherapy_authorized: false,
    };
    let span = domicile_telemetry::trace::command("transfer-consent", offer.transfer_id.parse().ok());
    let given = answer(person.at_source.transfers().give_consent(request)).instrument(span).await?;
    let until = text::time(given.expires_at_micros);
    stage.say(&format!("  Consent {} given, valid until {until} or until withdrawn.", given.consent_id))
}

/// Follows a transfer at its source until it rests there or the person's session goes with the record,
/// then at the destination; every change of state is told. Gives the last status.
pub(super) async fn watch(
    stage: &Stage<'_>,
    person: &Person,
    transfer_id: &str,
    mut react: impl FnMut(&Transfer),
) -> Result<Transfer> {
    let bar = TransferBar::new(stage.app.out.draws());
    let mut told = None;
    let mut tell = |transfer: &Transfer| {
        bar.show(transfer);
        react(transfer);
        if told.replace(transfer.state()) == Some(transfer.state()) {
            return Ok(());
        }
        bar.suspend(|| stage.say(&line(transfer)))
    };
    let watched = async {
        match follow(&person.at_source, transfer_id, &mut tell).await {
            Err(failure) if gone(&failure) => {
                let destination = arrive(stage, &person.login).await?;
                follow(&destination, transfer_id, &mut tell).await
            }
            followed => followed,
        }
    };
    let watched = tokio::time::timeout(MOVE, watched).await;
    bar.finish();
    watched.map_err(|_| Failure::from(Error::new(Code::DeadlineExceeded).at("transfer")))?
}

/// The session has gone with the record, or the source no longer tells this person.
fn gone(failure: &Failure) -> bool {
    matches!(
        failure.code(),
        Some(Code::Unauthenticated | Code::RecordMoved | Code::NotFound | Code::Forbidden)
    )
}

/// Signs the client in at the new home, once it knows them.
pub(super) async fn arrive(stage: &Stage<'_>, login: &Login) -> Result<Client> {
    let client = stage.anonymous(&stage.destination)?;
    let until = Instant::now() + PATIENCE;
    loop {
        match sign_in(&client, login).await {
            Ok(client) => return Ok(client),
            Err(error)
                if (error.code() == Code::SignInFailed || error.class() == Class::Unavailable)
                    && Instant::now() < until =>
            {
                tokio::time::sleep(ASK * 4).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

fn line(transfer: &Transfer) -> String {
    let progress = transfer.progress.unwrap_or_default();
    let copied = format!(
        "{}/{} rows, {}/{} objects",
        progress.rows_done, progress.rows_total, progress.objects_done, progress.objects_total
    );
    let copied = if progress.rows_total == 0 { String::new() } else { copied };
    let told = format!(
        "  {}  {:<12} {copied}",
        text::clock(transfer.changed_at_micros),
        state_name(transfer.state())
    );
    told.trim_end().to_owned()
}

/// Text moved in by two spaces, long lines broken at words.
fn indented(text: &str) -> String {
    const WIDTH: usize = 100;
    let mut out = String::new();
    for line in text.lines() {
        let mut length = 0;
        out.push_str("  ");
        for word in line.split_inclusive(' ') {
            let width = word.chars().count();
            if length > 0 && length + width > WIDTH {
                out.push_str("\n  ");
                length = 0;
            }
            out.push_str(word);
            length += width;
        }
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lines_are_broken_at_words() {
        let text = format!("{}\nshort", "word ".repeat(50));
        let shown = indented(&text);
        assert!(shown.lines().all(|line| line.chars().count() <= 103), "{shown}");
        assert_eq!(shown.split_whitespace().count(), 51);
        assert!(shown.ends_with("  short\n"));
    }
}
