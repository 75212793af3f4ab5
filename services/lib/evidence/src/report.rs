//! What a verifier has found, for people and for programs.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What can be wrong with a log. The number is the command's exit code; the lowest is the worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Not a bundle, or one that breaks off.
    Unreadable,
    /// An entry, a hash or a signature is not what was signed.
    Altered,
    /// The log's key has signed two histories.
    Fork,
    /// The log is shorter than it was.
    RolledBack,
    /// An entry is not there, and no expiry entry says why.
    Missing,
    /// Fewer witnesses have cosigned than the policy demands.
    QuorumShort,
    /// The logs, or the log and the signed statements, disagree about a transfer.
    Disagreement,
    /// A transfer is open past its deadline.
    Overdue,
    /// The newest entry is older than the policy allows.
    Stale,
    /// The clocks of writers and sequencer do not fit together.
    ClockAnomaly,
}

impl Verdict {
    /// The exit code.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Unreadable => 3,
            Self::Altered => 10,
            Self::Fork => 11,
            Self::RolledBack => 12,
            Self::Missing => 13,
            Self::QuorumShort => 14,
            Self::Disagreement => 15,
            Self::Overdue => 16,
            Self::Stale => 17,
            Self::ClockAnomaly => 18,
        }
    }

    /// The name people read.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unreadable => "unreadable",
            Self::Altered => "altered",
            Self::Fork => "fork",
            Self::RolledBack => "rolled back or truncated",
            Self::Missing => "missing without an expiry entry",
            Self::QuorumShort => "quorum short",
            Self::Disagreement => "disagreement about a transfer",
            Self::Overdue => "transfer open past its deadline",
            Self::Stale => "stale head",
            Self::ClockAnomaly => "clock anomaly",
        }
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The exit code it gives.
    pub code: u8,
    /// What it is.
    pub verdict: Verdict,
    /// The entry it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<u64>,
    /// In a sentence.
    pub message: String,
}

impl Finding {
    /// A finding.
    #[must_use]
    pub fn new(verdict: Verdict, index: Option<u64>, message: impl Into<String>) -> Self {
        Self { code: verdict.code(), verdict, index, message: message.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}] {}", self.code, self.verdict.name())?;
        if let Some(index) = self.index {
            write!(f, " at index {index}")?;
        }
        write!(f, ": {}", self.message)
    }
}

/// One step of a transfer as a log holds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoggedStep {
    /// The entry's index.
    pub index: u64,
    /// The attempt.
    pub attempt: u64,
    /// The region that made the statement.
    pub origin: String,
    /// Its number in that region's lane.
    pub sequence: u64,
    /// The step's name.
    pub step: String,
    /// When the log took it in, in microseconds since the Unix epoch.
    pub sequenced_at: i64,
    /// SHA-256 of the statement, in hexadecimal.
    pub digest: String,
}

/// One transfer as a log holds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Story {
    /// The transfer (UUID text).
    pub transfer: String,
    /// Whether it has ended: Shredded or Aborted stands.
    pub rests: bool,
    /// Its steps in the order of the log.
    pub steps: Vec<LoggedStep>,
}

/// What one bundle shows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The region.
    pub region: String,
    /// The log's origin.
    pub origin: String,
    /// The size the region has signed.
    pub signed_size: u64,
    /// The size every witness has cosigned; 0 without witnesses.
    pub proven_size: u64,
    /// The root at the signed size, in hexadecimal.
    pub root: String,
    /// Whether the keys came from a policy; otherwise the bundle vouches for itself.
    pub keys_pinned: bool,
    /// How many witnesses the region's own signed policy demands; absent when it has signed none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signed_quorum: Option<u32>,
    /// How many witnesses the auditor's policy demands.
    pub demanded_quorum: u32,
    /// Whose cosignatures the head bears.
    pub cosigned_by: Vec<String>,
    /// How many signed checkpoints agree with the entries.
    pub checkpoints: u64,
    /// How many entries were read.
    pub entries: u64,
    /// How many signed statements were read.
    pub statements: u64,
    /// Everything that is wrong, the worst first.
    pub findings: Vec<Finding>,
    /// What is worth knowing and not wrong.
    pub remarks: Vec<String>,
    /// The transfers, or the one asked for.
    pub transfers: Vec<Story>,
    /// For a fork: the signed checkpoints that contradict each other.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub evidence: Vec<String>,
}

impl Report {
    /// The command's exit code: 0 when nothing is wrong, else the worst finding's.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        worst(&self.findings)
    }
}

/// The worst finding's code; 0 for none.
#[must_use]
pub fn worst(findings: &[Finding]) -> u8 {
    findings.iter().map(|finding| finding.code).min().unwrap_or(0)
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "log {} of region {}", self.origin, self.region)?;
        writeln!(f, "  signed size  {}   root {}", self.signed_size, self.root)?;
        writeln!(f, "  proven size  {}   {}", self.proven_size, self.witnesses())?;
        let pinned =
            if self.keys_pinned { "pinned by the policy" } else { "from the bundle itself, not pinned" };
        writeln!(f, "  keys         {pinned}")?;
        writeln!(
            f,
            "  read         {} entries, {} checkpoints, {} statements",
            self.entries, self.checkpoints, self.statements
        )?;
        for remark in &self.remarks {
            writeln!(f, "  note         {remark}")?;
        }
        for finding in &self.findings {
            writeln!(f, "  {finding}")?;
        }
        let verdict = if self.findings.is_empty() { "everything agrees" } else { "NOT PROVEN" };
        writeln!(f, "  result       {verdict}")
    }
}

impl Report {
    /// The quorum the region has signed, and whose cosignatures its head bears, in words.
    #[must_use]
    pub fn witnesses(&self) -> String {
        let signed = match self.signed_quorum {
            Some(0) => "quorum 0: the region has signed that it has no witnesses".to_owned(),
            Some(quorum) => format!("quorum {quorum} by the region's signed policy"),
            None => "the region has signed no policy".to_owned(),
        };
        match self.cosigned_by.as_slice() {
            [] => signed,
            names => format!("{signed}; cosigned by {}", names.join(", ")),
        }
    }
}

/// One step as two logs hold it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ComparedStep {
    /// The attempt.
    pub attempt: u64,
    /// The region that made the statement.
    pub origin: String,
    /// Its number in that region's lane.
    pub sequence: u64,
    /// The step's name.
    pub step: String,
    /// The index in the first log.
    pub left: Option<u64>,
    /// The index in the second log.
    pub right: Option<u64>,
    /// Whether both hold the same statement.
    pub same: bool,
}

/// What two logs say of one transfer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Comparison {
    /// The transfer (UUID text).
    pub transfer: String,
    /// The first log's origin.
    pub left: String,
    /// The second log's origin.
    pub right: String,
    /// Whether it has ended.
    pub rests: bool,
    /// Every step either log holds, in the first log's order.
    pub steps: Vec<ComparedStep>,
    /// Everything that is wrong, the worst first.
    pub findings: Vec<Finding>,
}

impl Comparison {
    /// The command's exit code.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        worst(&self.findings)
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "transfer {}", self.transfer)?;
        writeln!(
            f,
            "  {:<7} {:>3}  {:<12} {:>10} {:>10}  same",
            "lane", "no", "step", self.left, self.right
        )?;
        for step in &self.steps {
            let at = |index: Option<u64>| index.map_or_else(|| "-".to_owned(), |index| index.to_string());
            let same = if step.same { "yes" } else { "NO" };
            writeln!(
                f,
                "  {:<7} {:>3}  {:<12} {:>10} {:>10}  {same}",
                step.origin,
                step.sequence,
                step.step,
                at(step.left),
                at(step.right)
            )?;
        }
        for finding in &self.findings {
            writeln!(f, "  {finding}")?;
        }
        let end = if self.rests { "ended" } else { "open" };
        let verdict = if self.findings.is_empty() { "both logs agree" } else { "NOT PROVEN" };
        writeln!(f, "  {end}; {verdict}")
    }
}
