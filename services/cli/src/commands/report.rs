//! One transfer's evidence for people: a page from exported bundles.

use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{Context, SHA256};
use clap::Args;
use domicile_evidence::policy::Policy;
use domicile_evidence::statement::Verified;
use domicile_evidence::verify::{VerifiedBundle, compare};
use domicile_proto::transfer::v1::GetReceiptResponse;
use domicile_types::TransferId;
use serde_json::{Value, json};

use super::verify::{State, read_json, verified};
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
    let receipt = args.receipt.as_deref().map(read_receipt).transpose()?;
    let (now, transfer) = (app.ctx.now(), args.transfer);
    let found = verified(&args.bundles, policy.as_ref(), &State::new(), Some(transfer), now)?;
    let comparison = match found.as_slice() {
        [left, right] => Some(compare(left, right, transfer)),
        _ => None,
    };
    let sources: Vec<_> =
        args.bundles.iter().zip(&found).map(|(file, found)| source(file, found)).collect::<Result<_>>()?;
    let reports = sources.iter().map(|source| source.report.exit_code());
    let codes = reports.chain(comparison.as_ref().map(|comparison| comparison.exit_code()));
    let exit = codes.filter(|code| *code != 0).min().unwrap_or(0);
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
    told(app, &args.out, &page, exit)?;
    if exit == 0 { Ok(()) } else { Err(Failure::Status(exit)) }
}

fn told(app: &App, out: &Path, page: &str, exit: u8) -> Result<()> {
    if files::is_standard(out) {
        return app.out.bytes(page.as_bytes());
    }
    files::write(out, page.as_bytes())?;
    let verdict = if exit == 0 { "proven" } else { "NOT PROVEN" };
    app.out.answer(
        || json!({ "file": out, "exit": exit }),
        || format!("Wrote {}, {}: {verdict}.", out.display(), text::size(page.len() as u64)),
    )
}

fn read_receipt(path: &Path) -> Result<GetReceiptResponse> {
    let value: Value = read_json(path, "a receipt")?;
    let parsed = crate::json::parse("domicile.transfer.v1.GetReceiptResponse", &value);
    parsed.map_err(|_| Failure::Usage(format!("{}: not a receipt", path.display())))
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
