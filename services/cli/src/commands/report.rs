//! One transfer's evidence for people: a page from exported bundles.

use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{Context, SHA256};
use clap::Args;
use domicile_evidence::policy::Policy;
use domicile_evidence::report::Verdict;
use domicile_evidence::statement::Verified;
use domicile_evidence::verify::{VerifiedBundle, compare};
use domicile_proto::transfer::v1::GetReceiptResponse;
use domicile_types::TransferId;
use serde_json::{Value, json};

use super::verify::{State, read_json, verified, worst};
use crate::app::App;
use crate::failure::{Failure, Result};
use crate::page::{Case, Source, html};
use crate::{files, text};

/// What is told of.
#[derive(Args, Debug)]
#[command(after_help = "\
Needs no region and no network: everything is verified offline, as by `audit verify`, and its exit codes are the same.
The page has no scripts and loads nothing; print it, or print it to PDF, from any browser.

Examples:
  domicile audit bundle --regions eu,ca --transfer $TRANSFER --out case-17/
  domicile audit report case-17/*.bundle --policy policy.json --transfer $TRANSFER --out case-17/report.html
  domicile --region eu transfer receipt $TRANSFER --out receipt.json   # from the old home: it keeps the text
  domicile audit report case-17/*.bundle --policy policy.json --transfer $TRANSFER --receipt receipt.json --out page.html")]
pub struct ReportArgs {
    /// The bundles, one of each region.
    #[arg(required = true, value_name = "BUNDLE", num_args = 1..=2)]
    bundles: Vec<PathBuf>,
    /// The transfer.
    #[arg(long)]
    transfer: TransferId,
    /// The auditor's policy: pinned keys and the quorum demanded.
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// The transfer's receipt as JSON, from the old home, as the client or compliance staff fetch it: the text
    /// consented to, and what stays behind.
    #[arg(long, value_name = "FILE")]
    receipt: Option<PathBuf>,
    /// Where to write the page; `-` for standard output.
    #[arg(long)]
    out: PathBuf,
}

pub(super) fn run(app: &App, args: &ReportArgs) -> Result<()> {
    let policy: Option<Policy> =
        args.policy.as_deref().map(|path| read_json(path, "a policy")).transpose()?;
    let (now, transfer) = (app.ctx.now(), args.transfer);
    let receipt = args.receipt.as_deref().map(|path| read_receipt(path, transfer)).transpose()?;
    let found = verified(&args.bundles, policy.as_ref(), &State::new(), Some(transfer), now)?;
    for (file, found) in args.bundles.iter().zip(&found) {
        tells_of(file, found, transfer)?;
    }
    let comparison = match found.as_slice() {
        [left, right] => Some(compare(left, right, transfer)),
        _ => None,
    };
    let sources: Vec<_> =
        args.bundles.iter().zip(&found).map(|(file, found)| source(file, found)).collect::<Result<_>>()?;
    let exit = worst(sources.iter().map(|source: &Source| &source.report), comparison.iter());
    let statements = in_order(&found, transfer);
    let page = html(&Case {
        transfer: transfer.to_string(),
        sources: &sources,
        comparison: comparison.as_ref(),
        statements: &statements,
        receipt: receipt.as_ref(),
        exit,
        made_at: now,
    });
    let pinned = sources.iter().all(|source| source.report.keys_pinned);
    told(app, &args.out, &page, (exit, pinned))?;
    if exit == 0 { Ok(()) } else { Err(Failure::Status(exit)) }
}

/// A page is made of what can be read and tells of the transfer: what the files leave out may still have happened.
fn tells_of(file: &Path, found: &VerifiedBundle, transfer: TransferId) -> Result<()> {
    if found.report.exit_code() == Verdict::Unreadable.code() {
        return Err(unreadable(file, found));
    }
    let name = transfer.to_string();
    let stories = found.report.transfers.iter().filter(|story| story.transfer == name);
    let logged: usize = stories.map(|story| story.steps.len()).sum();
    let what = match (logged, found.statements(transfer).count()) {
        (0, _) => "does not tell of this transfer",
        (_, 0) => {
            "has its steps without the signed statements: export it whole, or with --transfer of this one"
        }
        _ => return Ok(()),
    };
    Err(Failure::Usage(format!("{}: {what}", file.display())))
}

/// What makes a bundle unreadable, with the verifier's exit code.
fn unreadable(file: &Path, found: &VerifiedBundle) -> Failure {
    for finding in &found.report.findings {
        crate::output::note(&format!("{}: {finding}", file.display()));
    }
    Failure::Status(Verdict::Unreadable.code())
}

fn told(app: &App, out: &Path, page: &str, (exit, pinned): (u8, bool)) -> Result<()> {
    if files::is_standard(out) {
        return app.out.bytes(page.as_bytes());
    }
    files::write(out, page.as_bytes())?;
    let verdict = match (exit, pinned) {
        (0, true) => "everything agrees, under the keys the policy pins",
        (0, false) => "everything agrees; the keys are the bundles' own word, no policy pins them",
        _ => "NOT PROVEN",
    };
    app.out.answer(
        || json!({ "file": out, "exit": exit }),
        || format!("Wrote {}, {}: {verdict}.", out.display(), text::size(page.len() as u64)),
    )
}

fn read_receipt(path: &Path, transfer: TransferId) -> Result<GetReceiptResponse> {
    let value: Value = read_json(path, "a receipt")?;
    let parsed = crate::json::parse("domicile.transfer.v1.GetReceiptResponse", &value);
    let refused = |what: &str| Failure::Usage(format!("{}: {what}", path.display()));
    let receipt: GetReceiptResponse = parsed.map_err(|_| refused("not a receipt"))?;
    match &receipt.transfer {
        Some(of) if of.transfer_id == transfer.to_string() => Ok(receipt),
        Some(_) => Err(refused("the receipt of another transfer")),
        None => Err(refused("not a receipt")),
    }
}

fn source(file: &Path, found: &VerifiedBundle) -> Result<Source> {
    let failed = |cause: std::io::Error| Failure::file(file, &cause);
    let mut reader = std::fs::File::open(file).map_err(failed)?;
    let (mut digest, mut buffer) = (Context::new(&SHA256), vec![0_u8; 256 * 1024]);
    loop {
        let read = std::io::Read::read(&mut reader, &mut buffer).map_err(failed)?;
        let Some(part) = buffer.get(..read).filter(|part| !part.is_empty()) else { break };
        digest.update(part);
    }
    let name = file.file_name().unwrap_or(file.as_os_str());
    Ok(Source {
        file: name.to_string_lossy().into_owned(),
        sha256: hex::encode(digest.finish()),
        report: found.report.clone(),
    })
}

/// Each statement once, whichever bundle it came in, in the order of their times.
fn in_order(found: &[VerifiedBundle], transfer: TransferId) -> Vec<&Verified> {
    let mut all: Vec<&Verified> = found.iter().flat_map(|bundle| bundle.statements(transfer)).collect();
    let key = |verified: &Verified| {
        let statement = &verified.statement;
        (statement.attempt, statement.at, statement.origin.to_string(), statement.sequence)
    };
    all.sort_by_key(|verified| key(verified));
    all.dedup_by_key(|verified| verified.digest);
    all
}
