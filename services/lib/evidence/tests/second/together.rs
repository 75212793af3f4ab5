//! Several bundles judged together, as the command does it.

use std::collections::BTreeMap;

use domicile_evidence::report::{Comparison, Report};
use domicile_evidence::verify::{Demands, SavedHead, VerifiedBundle, compare, verify};
use domicile_types::ids::TransferId;

/// Heads seen before, by region.
pub type State = BTreeMap<String, SavedHead>;

/// Verifies a bundle, and once more with the head of its region if one is kept.
pub fn since(bundle: &[u8], demands: Demands<'_>, state: &State) -> VerifiedBundle {
    let found = verify(bundle, demands);
    match state.get(&found.report.region) {
        Some(head) => verify(bundle, Demands { state: Some(head), ..demands }),
        None => found,
    }
}

/// Everything a verification of one bundle or more found.
#[derive(Debug)]
pub struct Together {
    /// One report a bundle, in their order.
    pub reports: Vec<Report>,
    /// What pairs of bundles say of the same transfer.
    pub comparisons: Vec<Comparison>,
    /// The head of each bundle, to be kept when everything is proven.
    pub heads: State,
}

impl Together {
    /// The exit code: 0 when everything is proven, else that of the worst finding.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        let reports = self.reports.iter().map(Report::exit_code);
        let comparisons = self.comparisons.iter().map(Comparison::exit_code);
        reports.chain(comparisons).filter(|code| *code != 0).min().unwrap_or(0)
    }
}

/// What cannot be answered from the bundles given: a matter of usage, not of evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Misuse {
    /// A bundle is of the same log as a later one: they are no two witnesses.
    OneLog,
    /// None of the bundles tells of the transfer that was asked about.
    Untold,
}

/// Judges bundles together: every pair that tells of the same transfer, of `transfer` alone if it is
/// named. Of exactly two bundles and one transfer named, both must tell of it.
///
/// # Errors
/// [`Misuse`], unless a bundle has findings: then they are what counts.
pub fn together(verified: Vec<VerifiedBundle>, transfer: Option<TransferId>) -> Result<Together, Misuse> {
    if verified.iter().all(|found| found.report.findings.is_empty()) {
        apart(&verified)?;
        told(&verified, transfer)?;
    }
    let comparisons = compare_all(&verified, transfer);
    let heads = verified
        .iter()
        .filter_map(|found| Some((found.report.region.clone(), found.head.clone()?)))
        .collect();
    let reports = verified.into_iter().map(|found| found.report).collect();
    Ok(Together { reports, comparisons, heads })
}

/// Two bundles of one log agree with each other whatever they say: they are no two witnesses.
fn apart(verified: &[VerifiedBundle]) -> Result<(), Misuse> {
    for (at, found) in verified.iter().enumerate() {
        let origin = &found.report.origin;
        if verified.iter().skip(at + 1).any(|other| other.report.origin == *origin) {
            return Err(Misuse::OneLog);
        }
    }
    Ok(())
}

/// The transfers a report tells of.
fn transfers(report: &Report) -> impl Iterator<Item = TransferId> {
    report.transfers.iter().filter_map(|story| story.transfer.parse().ok())
}

/// What was asked about must stand somewhere.
fn told(verified: &[VerifiedBundle], transfer: Option<TransferId>) -> Result<(), Misuse> {
    let stands = |wanted| verified.iter().any(|found| transfers(&found.report).any(|told| told == wanted));
    if transfer.is_none_or(stands) { Ok(()) } else { Err(Misuse::Untold) }
}

fn compare_all(verified: &[VerifiedBundle], transfer: Option<TransferId>) -> Vec<Comparison> {
    if let ([left, right], Some(transfer)) = (verified, transfer) {
        return Vec::from([compare(left, right, transfer)]);
    }
    let mut comparisons = Vec::new();
    for (at, left) in verified.iter().enumerate() {
        for right in verified.iter().skip(at + 1) {
            let shared =
                transfers(&left.report).filter(|id| transfers(&right.report).any(|told| told == *id));
            comparisons.extend(shared.map(|id| compare(left, right, id)));
        }
    }
    comparisons
}
