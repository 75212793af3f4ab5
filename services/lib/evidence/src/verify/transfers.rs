//! What a log says of each transfer: both lanes linked, each step once, the signed statements behind
//! the entries, and the same story in two logs.

use std::collections::BTreeMap;

use domicile_types::ids::TransferId;
use domicile_types::time::Timestamp;

use crate::entry::StatementRef;
use crate::report::{ComparedStep, Comparison, Finding, LoggedStep, Story, Verdict};
use crate::statement::{Body, Step, Verified};

/// A statement's place: attempt, origin, number.
type Place = (u64, String, u64);

/// One logged statement.
#[derive(Clone, Debug)]
pub(super) struct Logged {
    index: u64,
    sequenced_at: Timestamp,
    reference: StatementRef,
}

/// Everything about one transfer.
#[derive(Clone, Debug, Default)]
pub(super) struct Transfer {
    logged: Vec<Logged>,
    signed: BTreeMap<Place, Verified>,
}

fn place(attempt: u64, origin: &str, sequence: u64) -> Place {
    (attempt, origin.to_owned(), sequence)
}

impl Transfer {
    pub(super) fn log(&mut self, index: u64, sequenced_at: Timestamp, reference: StatementRef) {
        self.logged.push(Logged { index, sequenced_at, reference });
    }

    pub(super) fn sign(&mut self, verified: Verified) {
        let statement = &verified.statement;
        let at = place(statement.attempt, statement.origin.as_str(), statement.sequence);
        self.signed.insert(at, verified);
    }

    pub(super) fn statements(&self) -> impl Iterator<Item = &Verified> {
        self.signed.values()
    }

    /// Whether it has ended.
    fn rests(&self) -> bool {
        let ends = |logged: &Logged| matches!(logged.reference.step, Step::Shredded | Step::Aborted);
        self.logged.iter().any(ends)
    }

    pub(super) fn story(&self, transfer: TransferId) -> Story {
        let step = |logged: &Logged| LoggedStep {
            index: logged.index,
            attempt: logged.reference.attempt,
            origin: logged.reference.origin.to_string(),
            sequence: logged.reference.sequence,
            step: logged.reference.step.name().to_owned(),
            sequenced_at: logged.sequenced_at.micros(),
            digest: hex::encode(logged.reference.digest),
        };
        Story {
            transfer: transfer.to_string(),
            rests: self.rests(),
            steps: self.logged.iter().map(step).collect(),
        }
    }

    /// Everything wrong within one log; `complete` when the bundle holds this transfer's signed
    /// statements.
    pub(super) fn check(&self, transfer: TransferId, complete: bool) -> Vec<Finding> {
        let mut findings = Vec::new();
        let mut known: BTreeMap<Place, [u8; 32]> = BTreeMap::new();
        for logged in &self.logged {
            let reference = &logged.reference;
            let mut wrong = |why: &str| {
                let message = format!("transfer {transfer}: {} {}", reference.step.name(), why);
                findings.push(Finding::new(Verdict::Disagreement, Some(logged.index), message));
            };
            if reference.transfer != transfer {
                wrong("is another transfer's");
            }
            check_lane(&known, reference, &mut wrong);
            let at = place(reference.attempt, reference.origin.as_str(), reference.sequence);
            match self.signed.get(&at) {
                Some(signed) if signed.digest != reference.digest => {
                    wrong("is not the statement that was signed");
                }
                Some(_) => {}
                None if complete => wrong("has no signed statement beside it"),
                None => {}
            }
            known.insert(at, reference.digest);
        }
        for (at, signed) in &self.signed {
            if !known.contains_key(at) {
                let step = signed.statement.step.name();
                let message = format!("transfer {transfer}: {step} was signed and is not in the log");
                findings.push(Finding::new(Verdict::Disagreement, None, message));
            }
        }
        findings
    }

    /// When it must have ended, and which step asks for it; `None` when it has.
    fn deadline(&self, settle: std::time::Duration) -> Option<(Timestamp, &'static str)> {
        if self.rests() {
            return None;
        }
        let last = |step| self.signed.values().rfind(|signed| signed.statement.step == step);
        if let Some(released) = last(Step::Released) {
            return Some((released.statement.at.plus(settle), "released"));
        }
        if last(Step::Aborting).is_some() {
            // A dead destination blocks nobody: the source has already ended the attempt.
            return None;
        }
        let expires = |signed: &Verified| match signed.body {
            Body::Consented { expires_at, .. } | Body::Requested { expires_at, .. } => Some(expires_at),
            _ => None,
        };
        let consented = last(Step::Consented).and_then(expires).map(|at| (at, "consented"));
        consented.or_else(|| last(Step::Requested).and_then(expires).map(|at| (at, "requested")))
    }

    pub(super) fn overdue(
        &self,
        transfer: TransferId,
        now: Timestamp,
        settle: std::time::Duration,
    ) -> Option<Finding> {
        let (deadline, step) = self.deadline(settle)?;
        let message = format!("transfer {transfer} has been {step} past its deadline and has not ended");
        (now > deadline).then(|| Finding::new(Verdict::Overdue, None, message))
    }
}

/// One statement against what the log held before it: its own lane and what it saw of the other.
fn check_lane(known: &BTreeMap<Place, [u8; 32]>, reference: &StatementRef, wrong: &mut impl FnMut(&str)) {
    let lane = |sequence| known.get(&place(reference.attempt, reference.origin.as_str(), sequence));
    match reference.sequence {
        0 => wrong("has number 0"),
        1 if reference.prev != [0; 32] => wrong("is the first of its lane and names one before it"),
        1 => {}
        number => match lane(number - 1) {
            None => wrong("stands before, or without, the one that precedes it in its lane"),
            Some(digest) if *digest != reference.prev => {
                wrong("does not follow the one before it in its lane");
            }
            Some(_) => {}
        },
    }
    match lane(reference.sequence) {
        Some(digest) if *digest == reference.digest => wrong("stands twice"),
        Some(_) => wrong("contradicts another of the same number"),
        None => {}
    }
    let Some((number, digest)) = reference.seen else { return };
    let mut others = known.iter().filter(|((attempt, origin, sequence), _)| {
        *attempt == reference.attempt && origin != reference.origin.as_str() && *sequence == number
    });
    match others.next() {
        None => wrong("answers a statement of the other lane that the log does not hold before it"),
        Some((_, seen)) if *seen != digest => wrong("answers another statement than the log holds"),
        Some(_) => {}
    }
}

/// Compares what two logs say, step by step.
pub(super) fn compare(
    transfer: TransferId,
    left: (&str, Option<&Transfer>),
    right: (&str, Option<&Transfer>),
) -> Comparison {
    let empty = Transfer::default();
    let (one, two) = (left.1.unwrap_or(&empty), right.1.unwrap_or(&empty));
    let rests = one.rests() || two.rests();
    let mut steps: Vec<ComparedStep> = Vec::new();
    for logged in one.logged.iter().chain(&two.logged) {
        let reference = &logged.reference;
        let here = |step: &ComparedStep| {
            (step.attempt, step.origin.as_str(), step.sequence)
                == (reference.attempt, reference.origin.as_str(), reference.sequence)
        };
        if !steps.iter().any(here) {
            steps.push(compared(reference, one, two));
        }
    }
    let findings = disagreements(transfer, &steps, rests, (left.0, right.0));
    Comparison {
        transfer: transfer.to_string(),
        left: left.0.to_owned(),
        right: right.0.to_owned(),
        rests,
        steps,
        findings,
    }
}

fn compared(reference: &StatementRef, one: &Transfer, two: &Transfer) -> ComparedStep {
    let find = |side: &Transfer| {
        let same = |logged: &&Logged| {
            let other = &logged.reference;
            (other.attempt, &other.origin, other.sequence)
                == (reference.attempt, &reference.origin, reference.sequence)
        };
        side.logged.iter().find(same).map(|logged| (logged.index, logged.reference.clone()))
    };
    let (left, right) = (find(one), find(two));
    let same = matches!((&left, &right), (Some((_, left)), Some((_, right))) if left == right);
    ComparedStep {
        attempt: reference.attempt,
        origin: reference.origin.to_string(),
        sequence: reference.sequence,
        step: reference.step.name().to_owned(),
        left: left.map(|(index, _)| index),
        right: right.map(|(index, _)| index),
        same,
    }
}

/// A step in one log alone is wrong once the transfer has ended, or when the other log already holds a
/// later one of the same lane; before that it may be on its way.
fn disagreements(
    transfer: TransferId,
    steps: &[ComparedStep],
    rests: bool,
    names: (&str, &str),
) -> Vec<Finding> {
    let mut findings = Vec::new();
    if steps.is_empty() {
        let message = format!("transfer {transfer}: neither log knows it");
        findings.push(Finding::new(Verdict::Disagreement, None, message));
    }
    for step in steps.iter().filter(|step| !step.same) {
        let what = format!("transfer {transfer}: {} number {} of {}", step.step, step.sequence, step.origin);
        let (missing, index) = match (step.left, step.right) {
            (Some(index), None) => (names.1, index),
            (None, Some(index)) => (names.0, index),
            (left, _) => {
                let message = format!("{what} differs between {} and {}", names.0, names.1);
                findings.push(Finding::new(Verdict::Disagreement, left, message));
                continue;
            }
        };
        let later = steps.iter().any(|other| {
            let lane = (other.attempt, &other.origin) == (step.attempt, &step.origin);
            lane && other.sequence > step.sequence && other.left.is_some() && other.right.is_some()
        });
        if rests || later {
            let message = format!("{what} is not in {missing}");
            findings.push(Finding::new(Verdict::Disagreement, Some(index), message));
        }
    }
    findings
}
