//! Moving a record, and consents.

use std::path::PathBuf;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use clap::{Args, Subcommand};
use domicile_evidence::statement::Statement;
use domicile_proto::transfer::v1::{
    AbortReason, GetOfferRequest, GetReceiptRequest, GetReceiptResponse, GetTransferRequest,
    GiveConsentRequest, ListConsentsRequest, ListTransfersRequest, Offer, RequestTransferRequest,
    SignedStatement, Transfer, TransferState, WatchTransferRequest, WithdrawConsentRequest,
};
use domicile_types::{Class, Code};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::account::reauthenticate;
use crate::app::App;
use crate::client::{Client, answer};
use crate::failure::{Failure, Result};
use crate::progress::{TransferBar, state_name};
use crate::secrets::PasswordArgs;
use crate::{files, json, text, upload};

/// Moves of a record.
#[derive(Subcommand, Debug)]
#[command(after_help = "\
A move, from the first question to the receipt:
  domicile --region eu transfer request ca
  domicile --region eu transfer offer $TRANSFER
  domicile --region eu transfer consent $TRANSFER --offer $DIGEST
  domicile --region eu transfer status $TRANSFER --watch
  domicile --region ca transfer receipt $TRANSFER
You may withdraw until the transfer is complete:
  domicile --region eu transfer withdraw $TRANSFER")]
pub enum TransferCommand {
    /// Ask for a move to another region.
    Request {
        /// The region to move to.
        destination: String,
        /// Repeat a request under its first key; a fresh one when left out.
        #[arg(long, value_name = "KEY")]
        idempotency_key: Option<String>,
    },
    /// Read the offer: what would move, under which terms, and the text you would consent to.
    Offer {
        /// The transfer.
        transfer: String,
        /// The notice's language, such as `en`; the region's own when left out.
        #[arg(long, default_value = "")]
        locale: String,
    },
    /// Consent to exactly one offer; asks for your password when you signed in more than five minutes ago.
    Consent(ConsentArgs),
    /// Withdraw; possible until the transfer is complete, without a password.
    Withdraw {
        /// The transfer.
        transfer: String,
    },
    /// Show how a transfer stands.
    Status {
        /// The transfer.
        transfer: String,
        /// Follow it until it rests.
        #[arg(long)]
        watch: bool,
    },
    /// List your transfers, newest first.
    List {
        /// With those that are over.
        #[arg(long)]
        all: bool,
    },
    /// Fetch the receipt of a transfer that is over.
    Receipt {
        /// The transfer.
        transfer: String,
        /// Write the whole receipt as JSON to this file; `-` for standard output.
        #[arg(long)]
        out: Option<PathBuf>,
    },
}

/// What is consented to.
#[derive(Args, Debug)]
pub struct ConsentArgs {
    /// The transfer.
    transfer: String,
    /// The offer's digest as `transfer offer` showed it: hexadecimal, or base64 as in its JSON.
    #[arg(long, value_name = "DIGEST")]
    offer: String,
    /// The language the offer was read in.
    #[arg(long, default_value = "")]
    locale: String,
    /// Keep a forwarding note at the old region for twelve months, so that signing in there finds you. Whoever
    /// tries your e-mail address there learns that you have moved and where to, without your password.
    #[arg(long)]
    forwarding_locator: bool,
    /// Authorize the move of psychotherapy notes, which needs an authorization of its own.
    #[arg(long)]
    psychotherapy_notes: bool,
    #[command(flatten)]
    password: PasswordArgs,
}

impl ConsentArgs {
    /// The transfer that is consented to.
    pub(super) fn transfer(&self) -> &str {
        &self.transfer
    }
}

/// Consents.
#[derive(Subcommand, Debug)]
pub enum ConsentCommand {
    /// Every consent and withdrawal, newest first.
    List,
}

impl TransferCommand {
    pub(super) async fn run(self, app: &App) -> Result<()> {
        match self {
            Self::Request { destination, idempotency_key } => {
                let idempotency_key = app.key(idempotency_key.as_ref());
                let request = RequestTransferRequest { destination, idempotency_key };
                let response = answer(app.client()?.transfers().request_transfer(request)).await?;
                show(app, &response.transfer.unwrap_or_default())
            }
            Self::Offer { transfer, locale } => {
                let request = GetOfferRequest { transfer_id: transfer, locale };
                let response = answer(app.client()?.transfers().get_offer(request)).await?;
                let offer = response.offer.unwrap_or_default();
                app.out.answer(|| json::of("domicile.transfer.v1.Offer", &offer), || offer_text(&offer))
            }
            Self::Consent(args) => consent(app, args).await,
            Self::Withdraw { transfer } => withdraw(app, transfer).await,
            Self::Status { transfer, watch: false } => {
                let request = GetTransferRequest { transfer_id: transfer };
                let response = answer(app.client()?.transfers().get_transfer(request)).await?;
                show(app, &response.transfer.unwrap_or_default())
            }
            Self::Status { transfer, watch: true } => watch(app, transfer).await,
            Self::List { all } => list(app, all).await,
            Self::Receipt { transfer, out } => receipt(app, transfer, out).await,
        }
    }
}

impl ConsentCommand {
    pub(super) async fn run(self, app: &App) -> Result<()> {
        let Self::List = self;
        let response = answer(app.client()?.transfers().list_consents(ListConsentsRequest {})).await?;
        app.out.answer(
            || json::of("domicile.transfer.v1.ListConsentsResponse", &response),
            || {
                let rows: Vec<_> = response
                    .events
                    .iter()
                    .map(|event| {
                        vec![
                            text::time(event.at_micros),
                            event.event.clone(),
                            event.purpose.clone(),
                            event.destination.clone(),
                            format!("{} {}", event.notice_version, event.locale),
                            event.consent_id.clone(),
                        ]
                    })
                    .collect();
                text::table(&["when", "what", "purpose", "to", "text", "consent"], &rows)
            },
        )
    }
}

/// Shows a transfer.
pub(super) fn show(app: &App, transfer: &Transfer) -> Result<()> {
    app.out.answer(|| transfer_json(transfer), || transfer_text(transfer))
}

fn transfer_json(transfer: &Transfer) -> Value {
    json::of("domicile.transfer.v1.Transfer", transfer)
}

/// A transfer as people read it.
#[must_use]
pub(crate) fn transfer_text(transfer: &Transfer) -> String {
    let progress = transfer.progress.unwrap_or_default();
    let moved = format!(
        "{} of {} rows, {} of {} objects, {} of {}",
        progress.rows_done,
        progress.rows_total,
        progress.objects_done,
        progress.objects_total,
        text::size(progress.bytes_done),
        text::size(progress.bytes_total)
    );
    text::fields(&[
        ("transfer", transfer.transfer_id.clone()),
        (
            "from, to",
            format!("{} to {}, attempt {}", transfer.source, transfer.destination, transfer.attempt),
        ),
        ("state", state_text(transfer)),
        ("copied", if progress.rows_total == 0 { String::new() } else { moved }),
        ("asked for", text::time(transfer.requested_at_micros)),
        ("changed", text::time(transfer.changed_at_micros)),
        ("until", text::time(transfer.deadline_micros)),
        ("blocked by", transfer.blockers.iter().map(|one| blocker_text(one)).collect::<Vec<_>>().join("\n")),
        ("withdraw", if transfer.withdrawable { "possible".to_owned() } else { String::new() }),
        ("operator says", text::safe(&transfer.operator_reason)),
        ("as told by", transfer.role.clone()),
    ])
}

fn state_text(transfer: &Transfer) -> String {
    let mut state = state_name(transfer.state()).to_owned();
    if transfer.abort_reason() != AbortReason::Unspecified {
        state.push_str(&format!(" ({})", reason_name(transfer.abort_reason())));
    }
    if transfer.paused {
        state.push_str(", held by an operator");
    }
    if !transfer.stuck_cause.is_empty() {
        state.push_str(&format!(", stuck: {}", transfer.stuck_cause));
    }
    state
}

/// A reason's name.
#[must_use]
pub(crate) const fn reason_name(reason: AbortReason) -> &'static str {
    match reason {
        AbortReason::Unspecified => "",
        AbortReason::Withdrawn => "withdrawn",
        AbortReason::Expired => "expired",
        AbortReason::Failed => "failed",
        AbortReason::Cancelled => "cancelled",
    }
}

/// Whether nothing more will happen to the transfer.
#[must_use]
pub fn rests(transfer: &Transfer) -> bool {
    matches!(transfer.state(), TransferState::Closed | TransferState::Aborted)
}

/// An offer as people read it, the notice in full.
#[must_use]
pub fn offer_text(offer: &Offer) -> String {
    if !offer.blockers.is_empty() {
        return blocked_text(offer);
    }
    let kinds: Vec<_> = offer
        .kinds
        .iter()
        .map(|kind| vec![kind.kind.clone(), kind.items.to_string(), text::size(kind.bytes)])
        .collect();
    let facts = text::fields(&[
        ("transfer", offer.transfer_id.clone()),
        ("from, to", format!("{} to {}", offer.source, offer.destination)),
        ("mechanism", offer.mechanism.clone()),
        ("takes about", format!("{:.1} s", seconds(offer.expected_ms))),
        ("writes wait", format!("about {:.1} s", seconds(offer.expected_freeze_ms))),
        ("open until", text::time(offer.expires_at_micros)),
        ("psychotherapy", psychotherapy(offer)),
        ("notice", format!("{} ({})", offer.notice_version, offer.locale)),
        ("digest", hex::encode(&offer.digest)),
    ]);
    format!("{facts}\n{}\n{}", text::table(&["kind", "items", "size"], &kinds), text::safe(&offer.notice))
}

/// There is nothing to consent to until what blocks is gone: what it is and what to do about it.
fn blocked_text(offer: &Offer) -> String {
    let mut out = text::fields(&[
        ("transfer", offer.transfer_id.clone()),
        ("from, to", format!("{} to {}", offer.source, offer.destination)),
        ("state", "blocked: there is no offer yet".to_owned()),
    ]);
    out.push_str("\nWhat blocks it\n");
    for blocker in &offer.blockers {
        out.push_str(&format!("  {}\n", text::safe(&blocker_text(blocker))));
    }
    out.push_str("\nThe region asks again by itself; the offer appears once nothing blocks any more.\n");
    out
}

/// A blocker as the region names it, `CODE (place)`, in words.
fn blocker_text(blocker: &str) -> String {
    let (code, place) = blocker.split_once(' ').unwrap_or((blocker, ""));
    let Some(known) = Code::parse(code) else { return blocker.to_owned() };
    let place = place.trim_matches(['(', ')']);
    let place = if place.is_empty() { String::new() } else { format!(" ({place})") };
    format!("{code}: {}{place} {}", known.what(), known.advice())
}

fn psychotherapy(offer: &Offer) -> String {
    let needed = "the record holds psychotherapy notes: consent with --psychotherapy-notes";
    if offer.psychotherapy { needed.to_owned() } else { String::new() }
}

#[expect(clippy::cast_precision_loss, reason = "shown with one decimal")]
fn seconds(millis: u64) -> f64 {
    millis as f64 / 1_000.0
}

async fn consent(app: &App, args: ConsentArgs) -> Result<()> {
    let client = app.client()?;
    let digest = digest(&args.offer)?;
    // Read again only for its destination and text version: the region checks that the digest given
    // is still that of the present offer.
    let request = GetOfferRequest { transfer_id: args.transfer.clone(), locale: args.locale };
    let offer = answer(client.transfers().get_offer(request)).await?.offer.unwrap_or_default();
    let request = GiveConsentRequest {
        transfer_id: args.transfer,
        offer_digest: digest.into(),
        destination: offer.destination,
        notice_version: offer.notice_version,
        locale: offer.locale,
        forwarding_locator: args.forwarding_locator,
        psychotherapy_authorized: args.psychotherapy_notes,
    };
    if args.password.password_stdin {
        // One that was given must be right, also where none would have been asked for.
        reauthenticate(&client, args.password).await?;
    }
    let first = answer(client.transfers().give_consent(request.clone())).await;
    let response = match first {
        Err(error) if error.code() == Code::FreshSignInNeeded => {
            reauthenticate(&client, args.password).await?;
            answer(client.transfers().give_consent(request)).await?
        }
        other => other?,
    };
    app.out.answer(
        || json::of("domicile.transfer.v1.GiveConsentResponse", &response),
        || {
            text::fields(&[
                ("consent", response.consent_id.clone()),
                ("valid until", text::time(response.expires_at_micros)),
                ("receipt", response.receipt.as_ref().map(receipt_digest).unwrap_or_default()),
            ])
        },
    )
}

/// A digest as text shows it, or as JSON does.
fn digest(text: &str) -> Result<Vec<u8>> {
    let digest = hex::decode(text).ok().or_else(|| BASE64.decode(text).ok());
    digest
        .filter(|digest| digest.len() == 32)
        .ok_or_else(|| Failure::Usage("that is not the digest of an offer".to_owned()))
}

fn receipt_digest(receipt: &SignedStatement) -> String {
    hex::encode(domicile_evidence::sha256(&receipt.statement))
}

async fn withdraw(app: &App, transfer_id: String) -> Result<()> {
    let request = WithdrawConsentRequest { transfer_id };
    let response = answer(app.client()?.transfers().withdraw_consent(request)).await?;
    app.out.answer(
        || json::of("domicile.transfer.v1.WithdrawConsentResponse", &response),
        || {
            let at = text::time(response.withdrawn_at_micros);
            let rest = response.transfer.as_ref().map(transfer_text).unwrap_or_default();
            format!("Withdrawn {at}. What the other region may hold can never be opened.\n\n{rest}")
        },
    )
}

/// How long a region that does not answer is asked again while a transfer is followed.
const SILENCE: Duration = Duration::from_secs(60);

/// Follows a transfer until it rests; `seen` gets every status. A region that goes away in between is
/// asked again.
///
/// # Errors
/// What the region answers, or that it stays silent.
pub async fn follow(
    client: &Client,
    transfer_id: &str,
    mut seen: impl FnMut(&Transfer) -> Result<()>,
) -> Result<Transfer> {
    let mut heard = Instant::now();
    loop {
        let followed = follow_once(client, transfer_id, |transfer| {
            heard = Instant::now();
            seen(transfer)
        });
        match followed.await {
            Ok(last) if rests(&last) => return Ok(last),
            Err(failure) if !silent(&failure) || heard.elapsed() > SILENCE => return Err(failure),
            // The stream ended, or broke off with its region.
            Ok(_) | Err(_) => tokio::time::sleep(Duration::from_millis(250)).await,
        }
    }
}

fn silent(failure: &Failure) -> bool {
    failure.code().is_some_and(|code| code.class() == Class::Unavailable)
}

async fn follow_once(
    client: &Client,
    transfer_id: &str,
    mut seen: impl FnMut(&Transfer) -> Result<()>,
) -> Result<Transfer> {
    let request = WatchTransferRequest { transfer_id: transfer_id.to_owned() };
    let mut stream = answer(client.transfers().watch_transfer(request)).await?;
    let mut last = Transfer::default();
    while let Some(message) = upload::next(&mut stream).await? {
        let Some(transfer) = message.transfer else { continue };
        seen(&transfer)?;
        last = transfer;
        if rests(&last) {
            break;
        }
    }
    Ok(last)
}

async fn watch(app: &App, transfer_id: String) -> Result<()> {
    let client = app.client()?;
    let bar = TransferBar::new(app.out.draws());
    let mut state = None;
    let followed = follow(&client, &transfer_id, |transfer| {
        bar.show(transfer);
        let changed = state.replace(transfer.state()) != Some(transfer.state());
        match (app.out.is_json(), changed) {
            // For programs one value a change: a stream of JSON lines.
            (true, _) => app.out.answer(|| transfer_json(transfer), String::new),
            (false, true) => bar.suspend(|| {
                app.out.text(&format!(
                    "{}  {}",
                    text::clock(transfer.changed_at_micros),
                    state_text(transfer)
                ))
            }),
            (false, false) => Ok(()),
        }
    });
    let last = followed.await;
    bar.finish();
    app.out.text(&format!("\n{}", transfer_text(&last?)))
}

async fn list(app: &App, include_resting: bool) -> Result<()> {
    let request = ListTransfersRequest { include_resting };
    let response = answer(app.client()?.transfers().list_transfers(request)).await?;
    app.out.answer(
        || json::of("domicile.transfer.v1.ListTransfersResponse", &response),
        || {
            let rows: Vec<_> = response
                .transfers
                .iter()
                .map(|transfer| {
                    vec![
                        transfer.transfer_id.clone(),
                        format!("{} to {}", transfer.source, transfer.destination),
                        state_text(transfer),
                        text::time(transfer.requested_at_micros),
                        transfer.role.clone(),
                    ]
                })
                .collect();
            text::table(&["transfer", "from, to", "state", "asked for", "this region"], &rows)
        },
    )
}

async fn receipt(app: &App, transfer_id: String, out: Option<PathBuf>) -> Result<()> {
    let response = answer(app.client()?.transfers().get_receipt(GetReceiptRequest { transfer_id })).await?;
    let whole = || json::of("domicile.transfer.v1.GetReceiptResponse", &response);
    match out {
        Some(path) if files::is_standard(&path) => app.out.bytes(format!("{}\n", whole()).as_bytes()),
        Some(path) => {
            files::write(&path, whole().to_string().as_bytes())?;
            app.out.answer(|| json!({ "file": path }), || format!("Wrote {}.", path.display()))
        }
        None => app.out.answer(whole, || receipt_text(&response)),
    }
}

/// A receipt as people read it.
#[must_use]
pub fn receipt_text(receipt: &GetReceiptResponse) -> String {
    let mut out = String::from("Receipt\n\n");
    out.push_str(&receipt.transfer.as_ref().map(transfer_text).unwrap_or_default());
    if let Some(offer) = &receipt.offer {
        let notice =
            format!("{} ({}), digest {}", offer.notice_version, offer.locale, hex::encode(&offer.digest));
        out.push_str(&text::fields(&[("consented to", notice), ("mechanism", offer.mechanism.clone())]));
    }
    let rows: Vec<_> = receipt.statements.iter().filter_map(statement_row).collect();
    out.push_str("\nSigned statements\n");
    out.push_str(&text::table(&["region", "no", "step", "when", "digest"], &rows));
    out.push_str("\nSigned checkpoints\n");
    for checkpoint in &receipt.checkpoints {
        let mut lines = checkpoint.lines();
        let (origin, size) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
        out.push_str(&format!("  {origin}, {size} entries\n"));
    }
    if !receipt.stays_behind.is_empty() {
        out.push_str("\nWhat stays behind\n");
    }
    for sentence in &receipt.stays_behind {
        out.push_str(&format!("  {}\n", text::safe(sentence)));
    }
    out
}

fn statement_row(signed: &SignedStatement) -> Option<Vec<String>> {
    let statement = Statement::decode(&signed.statement).ok()?;
    let digest = hex::encode(statement.digest());
    Some(vec![
        statement.origin.to_string(),
        statement.sequence.to_string(),
        client_words(statement.step.name()).to_owned(),
        text::clock(statement.at.micros()),
        digest.chars().take(16).collect(),
    ])
}

/// A step's name in the words a client reads.
fn client_words(step: &str) -> &str {
    match step {
        "shredded" => "erased",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_reads_well_and_uses_the_clients_words() {
        let transfer = Transfer {
            transfer_id: "t".to_owned(),
            state: TransferState::Shredded.into(),
            paused: true,
            ..Transfer::default()
        };
        let shown = transfer_text(&transfer);
        assert!(shown.contains("erased, held by an operator"), "{shown}");
        assert!(!shown.contains("shredded"));
        assert_eq!(client_words("shredded"), "erased");
    }

    #[test]
    fn a_blocked_offer_says_what_blocks_in_words() {
        let offer = Offer { blockers: vec!["DOM-IDENTITY-008 ()".to_owned()], ..Offer::default() };
        let shown = offer_text(&offer);
        let code = Code::parse("DOM-IDENTITY-008").unwrap();
        assert!(shown.contains(code.what()) && shown.contains(code.advice()), "{shown}");
        assert!(!shown.contains("()") && !shown.contains("digest"), "{shown}");
        assert_eq!(blocker_text("something new"), "something new");
    }

    #[test]
    fn a_digest_is_read_as_text_and_as_json_show_it() {
        let bytes = [0xab_u8; 32];
        assert_eq!(digest(&hex::encode(bytes)).unwrap(), bytes);
        assert_eq!(digest(&BASE64.encode(bytes)).unwrap(), bytes);
        for wrong in ["", "ab", "xyz", &hex::encode([1_u8; 31])] {
            assert_eq!(digest(wrong).unwrap_err().exit_code(), 2, "{wrong}");
        }
    }
}
