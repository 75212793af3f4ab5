//! Offline verification of exported bundles.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use clap::Args;
use domicile_evidence::policy::Policy;
use domicile_evidence::report::{Comparison, Report};
use domicile_evidence::verify::{Demands, SavedHead, VerifiedBundle, Verifier, compare};
use domicile_types::ids::TransferId;
use serde_json::json;

use crate::app::App;
use crate::failure::{Failure, Result};

/// What is verified.
#[derive(Args, Debug)]
#[command(after_help = "\
Needs no region and no network. Keys come from the policy; without one a bundle can only show that it
agrees with itself, and the report says so.

Exit codes: 0 proven, 2 usage, 3 unreadable, 10 altered (names the index), 11 fork (writes the evidence
beside the bundle), 12 rolled back or truncated, 13 missing without an expiry entry, 14 quorum short,
15 the two logs disagree about a transfer, 16 a transfer open past its deadline, 17 stale head,
18 clock anomaly. Everything found is listed; the worst gives the code.

Examples:
  domicile audit verify eu.bundle --policy policy.json --state seen.json
  domicile audit verify eu.bundle ca.bundle --policy policy.json --transfer $TRANSFER")]
pub struct VerifyArgs {
    /// The bundles; with two of them, what both say of transfers is compared step by step.
    #[arg(required = true, value_name = "BUNDLE")]
    bundles: Vec<PathBuf>,
    /// The auditor's policy: pinned keys and the quorum demanded.
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Heads seen before; kept up to date when everything is proven.
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
    /// Only this transfer.
    #[arg(long)]
    transfer: Option<TransferId>,
}

/// Heads seen before, by region.
pub(super) type State = BTreeMap<String, SavedHead>;

/// Everything a verification found.
pub struct Verification {
    /// One report a bundle, in their order.
    pub reports: Vec<Report>,
    /// What pairs of bundles say of the same transfer.
    pub comparisons: Vec<Comparison>,
    heads: State,
}

impl Verification {
    fn of(verified: Vec<VerifiedBundle>, transfer: Option<TransferId>) -> Self {
        let comparisons = compare_all(&verified, transfer);
        let heads = verified
            .iter()
            .filter_map(|found| Some((found.report.region.clone(), found.head.clone()?)))
            .collect();
        let reports = verified.into_iter().map(|found| found.report).collect();
        Self { reports, comparisons, heads }
    }

    /// The exit code: 0 when everything is proven, else that of the worst finding.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        worst(self.reports.iter(), self.comparisons.iter())
    }
}

/// The exit code of reports and comparisons together.
pub(super) fn worst<'a>(
    reports: impl Iterator<Item = &'a Report>,
    comparisons: impl Iterator<Item = &'a Comparison>,
) -> u8 {
    let codes = reports.map(Report::exit_code).chain(comparisons.map(Comparison::exit_code));
    codes.filter(|code| *code != 0).min().unwrap_or(0)
}

/// Verifies bundles offline, and compares what two of them say of transfers.
///
/// # Errors
/// When a file cannot be read. What is wrong inside a bundle is a finding, not an error.
pub fn verify(
    bundles: &[PathBuf],
    policy: Option<&Policy>,
    transfer: Option<TransferId>,
    now: domicile_types::Timestamp,
) -> Result<Verification> {
    verify_since(bundles, policy, &State::new(), transfer, now)
}

fn verify_since(
    bundles: &[PathBuf],
    policy: Option<&Policy>,
    state: &State,
    transfer: Option<TransferId>,
    now: domicile_types::Timestamp,
) -> Result<Verification> {
    Ok(Verification::of(verified(bundles, policy, state, transfer, now)?, transfer))
}

/// Reads and checks every bundle; two of one log are refused.
pub(super) fn verified(
    bundles: &[PathBuf],
    policy: Option<&Policy>,
    state: &State,
    transfer: Option<TransferId>,
    now: domicile_types::Timestamp,
) -> Result<Vec<VerifiedBundle>> {
    let mut verified = Vec::new();
    for bundle in bundles {
        // The region's name stands in the bundle; a saved head of another region does not verify
        // under this one's keys, so it is looked up after a first look at the name.
        let demands = Demands { policy, state: None, now: Some(now), transfer };
        let mut found = one(bundle, demands)?;
        if let Some(head) = state.get(&found.report.region) {
            found = one(bundle, Demands { state: Some(head), ..demands })?;
        }
        verified.push(found);
    }
    // Of a bundle that is not whole the findings are what counts.
    if verified.iter().all(|found| found.report.exit_code() == 0) {
        apart(bundles, &verified)?;
        told(&verified, transfer)?;
    }
    Ok(verified)
}

fn one(path: &Path, demands: Demands<'_>) -> Result<VerifiedBundle> {
    let failed = |cause: std::io::Error| Failure::file(path, &cause);
    let mut file = std::fs::File::open(path).map_err(failed)?;
    let mut verifier = Verifier::new(demands);
    let mut buffer = vec![0_u8; 256 * 1024];
    loop {
        let read = file.read(&mut buffer).map_err(failed)?;
        let Some(part) = buffer.get(..read).filter(|part| !part.is_empty()) else { break };
        verifier.push(part);
    }
    Ok(verifier.finish())
}

/// Two bundles of one log agree with each other whatever they say: they are no two witnesses.
fn apart(bundles: &[PathBuf], verified: &[VerifiedBundle]) -> Result<()> {
    for (at, (file, found)) in bundles.iter().zip(verified).enumerate() {
        let report = &found.report;
        if verified.iter().skip(at + 1).any(|other| other.report.origin == report.origin) {
            let (file, region) = (file.display(), &report.region);
            let what =
                format!("{file}: another of these bundles is of {region} too; give one of each region");
            return Err(Failure::Usage(what));
        }
    }
    Ok(())
}

/// What was asked about must stand somewhere.
fn told(verified: &[VerifiedBundle], transfer: Option<TransferId>) -> Result<()> {
    match transfer.map(|wanted| wanted.to_string()) {
        Some(wanted) if !verified.iter().any(|found| tells(&found.report, &wanted)) => {
            Err(Failure::Usage(format!("none of the bundles tells of transfer {wanted}")))
        }
        _ => Ok(()),
    }
}

fn tells(report: &Report, transfer: &str) -> bool {
    report.transfers.iter().any(|story| story.transfer == transfer)
}

/// Every pair of bundles that tell of the same transfer. Of exactly two bundles and one transfer
/// named, both must tell of it.
fn compare_all(verified: &[VerifiedBundle], transfer: Option<TransferId>) -> Vec<Comparison> {
    if let ([left, right], Some(transfer)) = (verified, transfer) {
        return Vec::from([compare(left, right, transfer)]);
    }
    let mut comparisons = Vec::new();
    for (at, left) in verified.iter().enumerate() {
        for right in verified.iter().skip(at + 1) {
            for id in shared(&left.report, &right.report) {
                comparisons.push(compare(left, right, id));
            }
        }
    }
    comparisons
}

fn shared(left: &Report, right: &Report) -> Vec<TransferId> {
    let both = left.transfers.iter().filter(|story| tells(right, &story.transfer));
    both.filter_map(|story| story.transfer.parse().ok()).collect()
}

pub(super) fn read_json<T: serde::de::DeserializeOwned>(path: &Path, what: &str) -> Result<T> {
    let text = std::fs::read(path).map_err(|cause| Failure::file(path, &cause))?;
    serde_json::from_slice(&text).map_err(|_| Failure::Usage(format!("{}: not {what}", path.display())))
}

pub(super) fn run(app: &App, args: &VerifyArgs) -> Result<()> {
    // Whatever keeps the verifier from its work is a matter of usage: only findings have other codes.
    verify_and_report(app, args).map_err(|failure| match failure {
        Failure::Local { what, .. } => Failure::Usage(what),
        other => other,
    })
}

fn verify_and_report(app: &App, args: &VerifyArgs) -> Result<()> {
    let policy: Option<Policy> =
        args.policy.as_deref().map(|path| read_json(path, "a policy")).transpose()?;
    let state: State = match &args.state {
        Some(path) if path.exists() => read_json(path, "a state of heads seen")?,
        _ => State::new(),
    };
    let found = verify_since(&args.bundles, policy.as_ref(), &state, args.transfer, app.ctx.now())?;
    write_evidence(args, &found)?;
    let code = found.exit_code();
    if code == 0
        && let Some(path) = &args.state
    {
        keep(path, state, &found)?;
    }
    app.out.answer(
        || json!({ "exit": code, "reports": found.reports, "comparisons": found.comparisons }),
        || {
            let reports = found.reports.iter().map(ToString::to_string);
            let comparisons = found.comparisons.iter().map(ToString::to_string);
            reports.chain(comparisons).collect::<Vec<_>>().join("\n")
        },
    )?;
    if code == 0 { Ok(()) } else { Err(Failure::Status(code)) }
}

/// For a fork: the contradicting signed checkpoints, beside the bundle.
fn write_evidence(args: &VerifyArgs, found: &Verification) -> Result<()> {
    for (bundle, report) in args.bundles.iter().zip(&found.reports) {
        if !report.evidence.is_empty() {
            let path = bundle.with_extension("fork");
            std::fs::write(&path, report.evidence.join("\n"))
                .map_err(|cause| Failure::file(&path, &cause))?;
        }
    }
    Ok(())
}

fn keep(path: &Path, mut state: State, found: &Verification) -> Result<()> {
    state.extend(found.heads.clone());
    let text = serde_json::to_vec_pretty(&state).map_err(|cause| Failure::file(path, &cause.into()))?;
    std::fs::write(path, text).map_err(|cause| Failure::file(path, &cause))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn garbage_is_unreadable_and_nothing_worse() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.bundle");
        for garbage in [&b""[..], b"domicile", b"domicile-bundle 1\n", &[0xff; 4096]] {
            std::fs::write(&path, garbage).unwrap();
            let now = domicile_types::Timestamp::EPOCH;
            let found = verify(std::slice::from_ref(&path), None, None, now).unwrap();
            assert_eq!(found.exit_code(), 3);
        }
    }
}
