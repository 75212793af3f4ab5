//! The offline verifier: a bundle's bytes in, a report out. It needs files alone, and memory for one
//! frame, the tree's edge and the statements.

use std::collections::BTreeMap;
use std::time::Duration;

use domicile_types::RegionId;
use domicile_types::ids::TransferId;
use domicile_types::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::bundle::{BundleReader, Frame, Header, MAX_CHECKPOINTS};
use crate::checkpoint::Checkpoint;
use crate::entry::{Entry, LOST_NUMBER};
use crate::event::EventType;
use crate::invalid::Invalid;
use crate::keys::VerifierKey;
use crate::merkle::{Frontier, Hash, leaf_hash};
use crate::policy::{LogKeys, LogPolicy, Policy};
use crate::report::{Comparison, Finding, Report, Verdict};
use crate::statement::{SignedStatement, Verified};
use crate::writers::Writers;
use clocks::Clocks;
use transfers::Transfer;

mod clocks;
mod transfers;

/// An entry this young may still be in flight in another transaction.
const IN_FLIGHT: Duration = Duration::from_secs(900);
/// How long a transfer may stay open after Released unless the policy says otherwise.
const SETTLE: Duration = Duration::from_secs(72 * 3600);

/// A head an auditor has seen before and kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SavedHead {
    /// The signed checkpoint.
    pub checkpoint: String,
}

/// What to hold a bundle against.
#[derive(Clone, Copy, Debug, Default)]
pub struct Demands<'a> {
    /// The auditor's policy; without one the bundle vouches for itself, and the report says so.
    pub policy: Option<&'a Policy>,
    /// A head seen before.
    pub state: Option<&'a SavedHead>,
    /// The present, to tell a stale head; the newest entry's time when absent.
    pub now: Option<Timestamp>,
    /// Report only this transfer.
    pub transfer: Option<TransferId>,
}

/// Verifies one bundle as its bytes come in.
#[derive(Debug)]
pub struct Verifier<'a> {
    demands: Demands<'a>,
    reader: BundleReader,
    broken: bool,
    ended: bool,
    header: Option<Header>,
    keys: Option<LogKeys>,
    heads: Vec<(Checkpoint, String)>,
    saved: Option<(Checkpoint, String)>,
    agreed: u64,
    contradicted: Vec<usize>,
    frontier: Frontier,
    tile: (u64, Vec<Hash>),
    writers: Writers,
    clocks: Clocks,
    lost: u64,
    transfers: BTreeMap<TransferId, Transfer>,
    report: Report,
}

/// A verified bundle: the report, the head to keep, and what is needed to compare two logs.
#[derive(Debug)]
pub struct VerifiedBundle {
    /// What was found.
    pub report: Report,
    /// The head, to be given as `state` next time; absent when no checkpoint verified.
    pub head: Option<SavedHead>,
    transfers: BTreeMap<TransferId, Transfer>,
}

impl VerifiedBundle {
    /// The statements of a transfer whose signatures have been checked, by attempt, region and number.
    pub fn statements(&self, transfer: TransferId) -> impl Iterator<Item = &Verified> {
        self.transfers.get(&transfer).into_iter().flat_map(Transfer::statements)
    }
}

/// Verifies a bundle that is in memory.
#[must_use]
pub fn verify(bundle: &[u8], demands: Demands<'_>) -> VerifiedBundle {
    let mut verifier = Verifier::new(demands);
    verifier.push(bundle);
    verifier.finish()
}

/// Compares what two verified bundles say of one transfer, step by step.
#[must_use]
pub fn compare(left: &VerifiedBundle, right: &VerifiedBundle, transfer: TransferId) -> Comparison {
    transfers::compare(
        transfer,
        (&left.report.region, left.transfers.get(&transfer)),
        (&right.report.region, right.transfers.get(&transfer)),
    )
}

impl<'a> Verifier<'a> {
    /// A verifier at the start of a bundle.
    #[must_use]
    pub fn new(demands: Demands<'a>) -> Self {
        let report = Report {
            keys_pinned: demands.policy.is_some(),
            demanded_quorum: demands.policy.map_or(0, |policy| policy.quorum),
            ..Report::default()
        };
        Self {
            demands,
            reader: BundleReader::new(),
            broken: false,
            ended: false,
            header: None,
            keys: None,
            heads: Vec::new(),
            saved: None,
            agreed: 0,
            contradicted: Vec::new(),
            frontier: Frontier::new(),
            tile: (0, Vec::new()),
            writers: Writers::default(),
            clocks: Clocks::default(),
            lost: 0,
            transfers: BTreeMap::new(),
            report,
        }
    }

    /// Gives it the next bytes of the bundle, in pieces of any length.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.broken {
            return;
        }
        self.reader.push(bytes);
        loop {
            match self.reader.frame() {
                Ok(None) => return,
                Ok(Some(frame)) => {
                    if let Err(invalid) = self.take(frame) {
                        return self.break_off(invalid);
                    }
                }
                Err(invalid) => return self.break_off(invalid),
            }
        }
    }

    fn break_off(&mut self, invalid: Invalid) {
        self.broken = true;
        self.find(Verdict::Unreadable, None, invalid.to_string());
    }

    fn find(&mut self, verdict: Verdict, index: Option<u64>, message: impl Into<String>) {
        self.report.findings.push(Finding::new(verdict, index, message));
    }

    fn take(&mut self, frame: Frame) -> Result<(), Invalid> {
        if self.ended {
            return Err(Invalid::form("bundle", "something follows its end"));
        }
        match frame {
            Frame::Header(header) => self.begin(*header),
            _ if self.header.is_none() => Err(Invalid::form("bundle", "does not begin with its header")),
            Frame::Policy(note) => self.policy(&note),
            Frame::Checkpoint(note) => self.checkpoint(note),
            Frame::Hashes { first, hashes } => self.hashes(first, hashes),
            Frame::Entry { index, bytes } => self.entry(index, &bytes),
            Frame::Statement(signed) => self.statement(&signed),
            Frame::End { entries, statements } => self.end(entries, statements),
        }
    }

    fn begin(&mut self, header: Header) -> Result<(), Invalid> {
        if self.header.is_some() {
            return Err(Invalid::form("bundle", "two headers"));
        }
        let pinned = self.demands.policy.and_then(|policy| policy.logs.get(&header.region));
        let keys = match (self.demands.policy, pinned) {
            (Some(_), None) => {
                self.report.keys_pinned = false;
                let message = format!("the policy pins no keys of region {}", header.region);
                self.find(Verdict::Altered, None, message);
                header.keys.clone()
            }
            (_, Some(pinned)) => pinned.clone(),
            (None, None) => header.keys.clone(),
        };
        self.report.region = header.region.to_string();
        self.report.origin = keys.checkpoint.name().to_owned();
        if let Some(state) = self.demands.state {
            match Checkpoint::verify(&state.checkpoint, &keys.checkpoint) {
                Ok(checkpoint) => self.saved = Some((checkpoint, state.checkpoint.clone())),
                Err(_) => self.find(Verdict::Altered, None, "the kept head is not signed by this log's key"),
            }
        }
        self.keys = Some(keys);
        self.header = Some(header);
        self.reach();
        Ok(())
    }

    fn log_key(&self) -> Result<&VerifierKey, Invalid> {
        let keys = self.keys.as_ref().ok_or(Invalid::form("bundle", "does not begin with its header"))?;
        Ok(&keys.checkpoint)
    }

    fn policy(&mut self, note: &str) -> Result<(), Invalid> {
        match LogPolicy::verify(note, self.log_key()?) {
            Ok(policy) => self.report.signed_quorum = Some(policy.quorum),
            Err(_) => self.find(Verdict::Altered, None, "the policy is not signed by this log's key"),
        }
        Ok(())
    }

    fn checkpoint(&mut self, note: String) -> Result<(), Invalid> {
        let rising = |last: &Checkpoint, next: &Checkpoint| last.size < next.size;
        match Checkpoint::verify(&note, self.log_key()?) {
            Err(_) => self.find(Verdict::Altered, None, "a checkpoint is not signed by this log's key"),
            Ok(next) if self.heads.last().is_none_or(|(last, _)| rising(last, &next)) => {
                let empty = next.size == 0;
                self.heads.push((next, note));
                if empty && self.frontier.size() == 0 {
                    self.reach();
                }
            }
            Ok(_) => return Err(Invalid::form("bundle", "checkpoints do not rise")),
        }
        if self.heads.len() > MAX_CHECKPOINTS || self.frontier.size() > 0 {
            return Err(Invalid::form("bundle", "too many checkpoints, or not before the entries"));
        }
        Ok(())
    }

    fn hashes(&mut self, first: u64, hashes: Vec<Hash>) -> Result<(), Invalid> {
        self.fill(first)?;
        self.tile = (first, hashes);
        Ok(())
    }

    /// The hash of a leaf as the tile has it.
    fn tiled(&self, index: u64) -> Option<Hash> {
        let offset = index.checked_sub(self.tile.0)?;
        self.tile.1.get(usize::try_from(offset).ok()?).copied()
    }

    /// Entries up to `index` are not there: their hashes keep the tree whole.
    fn fill(&mut self, index: u64) -> Result<(), Invalid> {
        let from = self.frontier.size();
        while self.frontier.size() < index {
            let Some(hash) = self.tiled(self.frontier.size()) else {
                let at = self.frontier.size();
                self.find(Verdict::Missing, Some(at), "an entry and its hash are not in the bundle");
                return Err(Invalid::form("bundle", "entries are left out"));
            };
            self.append(hash)?;
        }
        if from < index {
            let message = format!("entries {from} to {} are not in the bundle", index.saturating_sub(1));
            self.find(Verdict::Missing, Some(from), message);
        }
        Ok(())
    }

    fn append(&mut self, leaf: Hash) -> Result<(), Invalid> {
        self.frontier.append(leaf)?;
        self.reach();
        Ok(())
    }

    /// The tree has reached a size: hold it against what was signed at that size.
    fn reach(&mut self) {
        let size = self.frontier.size();
        let root = self.frontier.root();
        if let Some(at) = self.heads.iter().position(|(head, _)| head.size == size) {
            let agrees = self.heads.get(at).is_some_and(|(head, _)| head.root == root);
            if agrees {
                self.agreed += 1;
            } else if !self.contradicted.contains(&at) {
                self.contradicted.push(at);
            }
        }
        let forked = self.saved.as_ref().filter(|(saved, _)| saved.size == size && saved.root != root);
        if let Some((saved, note)) = forked {
            let message = format!("the kept head of size {} is not the beginning of this log", saved.size);
            let note = note.clone();
            self.saved = None;
            self.report.evidence.push(note);
            self.find(Verdict::Fork, None, message);
        }
    }

    fn entry(&mut self, index: u64, bytes: &[u8]) -> Result<(), Invalid> {
        if index < self.frontier.size() {
            self.find(Verdict::Altered, Some(index), "an index stands twice");
            return Ok(());
        }
        self.fill(index)?;
        let hash = leaf_hash(bytes);
        let tiled = self.tiled(index);
        if tiled.is_some_and(|tiled| tiled != hash) {
            self.find(Verdict::Altered, Some(index), "the entry is not the one its hash was made from");
        }
        match Entry::decode(bytes) {
            Ok(entry) => self.look_at(index, entry),
            Err(invalid) => self.find(Verdict::Altered, Some(index), invalid.to_string()),
        }
        self.report.entries += 1;
        self.append(tiled.unwrap_or(hash))
    }

    fn look_at(&mut self, index: u64, entry: Entry) {
        if entry.origin != self.report.origin {
            self.find(Verdict::Altered, Some(index), "the entry is another log's");
        }
        let once =
            self.writers.note(entry.writer, entry.writer_epoch, entry.writer_sequence, entry.written_at);
        if !once {
            self.find(Verdict::Altered, Some(index), "the writer's number stands twice");
        }
        if entry.event == EventType::AuditVoid && entry.resource.as_deref() == Some(LOST_NUMBER) {
            self.lost += 1;
        }
        let Some(at) = entry.sequenced_at else {
            return self.find(Verdict::Altered, Some(index), "the sequencer's time is missing");
        };
        self.clocks.note(index, &entry, at);
        if let Some(reference) = entry.statement {
            if entry.transfer != Some(reference.transfer) {
                self.find(Verdict::Disagreement, Some(index), "the statement is another transfer's");
            }
            self.transfers.entry(reference.transfer).or_default().log(index, at, reference);
        }
    }

    /// The statement key of a region: pinned, or as the bundle says.
    fn statement_key(&self, region: &RegionId) -> Option<&VerifierKey> {
        if let Some(policy) = self.demands.policy {
            return policy.logs.get(region).map(|keys| &keys.statement);
        }
        let header = self.header.as_ref()?;
        let peer = header.peers.iter().find(|(peer, _)| peer == region).map(|(_, keys)| keys);
        let keys = if *region == header.region { Some(&header.keys) } else { peer };
        keys.map(|keys| &keys.statement)
    }

    fn statement(&mut self, signed: &SignedStatement) -> Result<(), Invalid> {
        let read = signed.read()?;
        self.report.statements += 1;
        let (transfer, origin) = (read.statement.transfer, read.statement.origin.clone());
        let step = read.statement.step.name();
        match self.statement_key(&origin) {
            None => {
                let message =
                    format!("transfer {transfer}: no key of region {origin} is known to check {step}");
                self.find(Verdict::Disagreement, None, message);
            }
            Some(key) if signed.verify(key.key()).is_err() => {
                let message = format!("transfer {transfer}: {step} is not signed by region {origin}");
                self.find(Verdict::Disagreement, None, message);
            }
            Some(_) => self.transfers.entry(transfer).or_default().sign(read),
        }
        Ok(())
    }

    fn end(&mut self, entries: u64, statements: u64) -> Result<(), Invalid> {
        let head = self.heads.last().map_or(0, |(head, _)| head.size);
        if self.tiled(self.frontier.size()).is_some() {
            self.fill(head)?;
        }
        self.ended = true;
        if (entries, statements) != (self.report.entries, self.report.statements) {
            self.find(Verdict::Missing, None, "the bundle holds fewer pieces than it says");
        }
        Ok(())
    }

    /// The report, after the bundle's last byte.
    #[must_use]
    pub fn finish(mut self) -> VerifiedBundle {
        let whole = self.ended && self.reader.is_empty();
        if !self.broken && !whole {
            self.find(Verdict::Unreadable, None, "the bundle breaks off");
        }
        self.conclude_head();
        self.conclude_state();
        self.conclude_writers();
        self.conclude_lost();
        self.conclude_clocks();
        self.conclude_transfers();
        if self.report.demanded_quorum > 0 {
            let message = format!("0 of {} witnesses have cosigned", self.report.demanded_quorum);
            self.find(Verdict::QuorumShort, None, message);
        }
        if !self.report.keys_pinned {
            self.report
                .remarks
                .push("without a policy a bundle only shows that it agrees with itself".into());
        }
        self.report.findings.sort_by_key(|finding| (finding.code, finding.index));
        let head = self.heads.pop().map(|(_, checkpoint)| SavedHead { checkpoint });
        VerifiedBundle { report: self.report, head, transfers: self.transfers }
    }

    fn conclude_head(&mut self) {
        let Some((head, note)) = self.heads.last().cloned() else {
            return self.find(Verdict::Altered, None, "there is no checkpoint signed by this log's key");
        };
        self.report.signed_size = head.size;
        self.report.root = hex::encode(head.root);
        self.report.checkpoints = self.agreed;
        let size = self.frontier.size();
        if size < head.size {
            let message = format!("{size} entries of the {} that were signed", head.size);
            self.find(Verdict::RolledBack, Some(size), message);
        } else if size > head.size {
            self.find(Verdict::Altered, Some(head.size), "entries stand past the signed head");
        }
        let Some(&first) = self.contradicted.first() else { return };
        let last = self.heads.len().saturating_sub(1);
        let contradicted = self.heads.get(first).map_or(0, |(head, _)| head.size);
        if self.contradicted.contains(&last) {
            let before = self.heads.get(..first).unwrap_or_default().last().map_or(0, |(head, _)| head.size);
            let message = format!(
                "the entries are not the signed ones: something from {before} to {} was changed",
                contradicted.saturating_sub(1)
            );
            self.find(Verdict::Altered, Some(before), message);
        } else {
            let older = self.heads.get(first).map(|(_, note)| note.clone());
            self.report.evidence.extend(older.into_iter().chain([note]));
            let message = format!("the checkpoint of size {contradicted} contradicts the head");
            self.find(Verdict::Fork, None, message);
        }
    }

    fn conclude_state(&mut self) {
        let Some((saved, note)) = self.saved.take() else { return };
        let head = self.heads.last().map_or(0, |(head, _)| head.size);
        if head < saved.size {
            let message = format!("the head has {head} entries, the kept head had {}", saved.size);
            self.report.evidence.push(note);
            self.find(Verdict::RolledBack, Some(head), message);
        }
    }

    fn conclude_writers(&mut self) {
        let newest = self.clocks.newest().unwrap_or_default();
        for gap in self.writers.gaps() {
            let numbers =
                format!("numbers {} to {} of writer {} epoch {}", gap.first, gap.last, gap.writer, gap.epoch);
            if gap.before.plus(IN_FLIGHT) > newest {
                self.report.remarks.push(format!("{numbers} may still be in flight"));
            } else {
                self.find(Verdict::Missing, None, format!("{numbers} are not in the log"));
            }
        }
    }

    fn conclude_lost(&mut self) {
        if self.lost > 0 {
            let remark =
                format!("{} numbers of writers that died in mid-change were declared lost", self.lost);
            self.report.remarks.push(remark);
        }
    }

    fn conclude_clocks(&mut self) {
        let newest = self.clocks.newest();
        let (odd, first) = std::mem::take(&mut self.clocks).odd();
        if odd > 0 {
            let message = format!("{odd} entries whose times do not fit the sequencer's");
            self.find(Verdict::ClockAnomaly, first, message);
        }
        let age = self.demands.policy.and_then(|policy| policy.max_age_hours);
        let (Some(hours), Some(now)) = (age, self.demands.now) else { return };
        let limit = Duration::from_secs(hours.saturating_mul(3600));
        if newest.is_none_or(|last| last.plus(limit) < now) {
            self.find(Verdict::Stale, None, format!("the newest entry is more than {hours} hours old"));
        }
    }

    fn conclude_transfers(&mut self) {
        let now = self.demands.now.or(self.clocks.newest()).unwrap_or_default();
        let settle = self.demands.policy.and_then(|policy| policy.settle_hours);
        let settle = settle.map_or(SETTLE, |hours| Duration::from_secs(hours.saturating_mul(3600)));
        let about = self.header.as_ref().and_then(|header| header.transfer);
        let wanted = self.demands.transfer;
        let mut findings = Vec::new();
        for (id, transfer) in &self.transfers {
            let complete = about.is_none_or(|about| about == *id);
            findings.extend(transfer.check(*id, complete));
            findings.extend(transfer.overdue(*id, now, settle));
            if wanted.is_none_or(|wanted| wanted == *id) {
                self.report.transfers.push(transfer.story(*id));
            }
        }
        if let Some(wanted) = wanted.filter(|wanted| !self.transfers.contains_key(wanted)) {
            self.report.remarks.push(format!("the log knows no transfer {wanted}"));
        }
        self.report.findings.append(&mut findings);
    }
}
