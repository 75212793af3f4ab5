//! Law, deadlines, retention and allowed transfers: figures, each with its source.

use std::collections::BTreeMap;

use domicile_types::{RegionId, Result};
use serde::Deserialize;

use super::{Locale, Period};
use crate::shared::ensure;

/// The law that governs records at home in a region.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Law {
    /// The framework's short name, such as `GDPR`.
    pub framework: String,
    /// The statutes and regulations.
    pub statutes: Vec<String>,
    /// Where what stands.
    pub source: String,
}

/// Who hears complaints.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Regulator {
    /// Its name.
    pub name: String,
    /// Where to turn.
    pub contact: String,
    /// Regulators of parts of the region, by the part's code.
    #[serde(default)]
    pub parts: BTreeMap<String, String>,
    /// The right to complain.
    pub source: String,
}

/// How soon requests are answered.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deadlines {
    /// A copy of the record.
    pub access: Deadline,
    /// A correction or amendment.
    pub rectification: Deadline,
    /// Erasure.
    pub erasure: Deadline,
    /// A list of disclosures.
    pub disclosures: Deadline,
}

/// One deadline.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deadline {
    /// Until the answer.
    pub answer: Period,
    /// By how much it may be put off, with reasons given.
    #[serde(default)]
    pub extension: Option<Period>,
    /// What limits the right itself; empty when nothing does.
    #[serde(default)]
    pub limits: String,
    /// Where it stands.
    pub source: String,
}

/// How long what is kept.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retention {
    /// Messages, clinical notes, intake, bookings, session logs, supervision records (P22).
    pub records: RetentionRule,
    /// Voice notes, goals and progress (P23).
    pub voice_notes: RetentionRule,
    /// Attachments; the file's name stays in the record (P24).
    pub attachments: RetentionRule,
    /// Raw recordings for transcription, when not transcribed before (P25).
    pub raw_recordings: RetentionRule,
    /// Signed notes (P26).
    pub signed_notes: RetentionRule,
    /// Accounts (P27).
    pub accounts: RetentionRule,
    /// Backups (P27).
    pub backups: RetentionRule,
    /// The audit log (P28).
    pub audit_log: RetentionRule,
    /// Consents (P29).
    pub consents: RetentionRule,
    /// IP addresses and device data (P30).
    pub technical: RetentionRule,
    /// Sealed staging of CSV imports (P31).
    pub imports: RetentionRule,
}

/// One retention rule.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RetentionRule {
    /// How long.
    pub keep: Period,
    /// From when.
    pub from: RetentionStart,
    /// At least this long from when it was made, whatever `keep` says.
    #[serde(default)]
    pub at_least: Option<Period>,
    /// At most this long.
    #[serde(default)]
    pub at_most: Option<Period>,
    /// For people who were minors at the time.
    #[serde(default)]
    pub minors: Option<Minors>,
    /// Parts of the region with a longer floor, by the part's code.
    #[serde(default)]
    pub parts: BTreeMap<String, LocalPeriod>,
    /// Where it stands.
    pub source: String,
}

/// From when a retention counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RetentionStart {
    /// The last session.
    LastSession,
    /// The session's export.
    SessionExport,
    /// The recording.
    Recording,
    /// The signature.
    Signing,
    /// The request to close the account.
    ClosureRequest,
    /// When the backup was made.
    Backup,
    /// When the log entry was written.
    Entry,
    /// The end of the booking or account the consent was for.
    EndOfPurpose,
    /// When the data was collected.
    Collection,
}

/// The retention for minors.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Minors {
    /// The age of majority the rule counts with.
    pub majority: u8,
    /// How long after majority.
    pub keep_after: Period,
    /// Where it stands.
    pub source: String,
}

/// A period of a part of the region.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LocalPeriod {
    /// How long.
    pub keep: Period,
    /// Where it stands.
    pub source: String,
}

/// An age of consent.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Age {
    /// The age in years where no part of the region says otherwise; absent when only the parts say.
    #[serde(default)]
    pub years: Option<u8>,
    /// The rule in words.
    pub rule: String,
    /// Parts of the region with another age, by the part's code.
    #[serde(default)]
    pub parts: BTreeMap<String, LocalAge>,
    /// Where it stands.
    pub source: String,
}

/// An age of a part of the region.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LocalAge {
    /// The age in years.
    pub years: u8,
    /// Where it stands.
    pub source: String,
}

/// What a practice signs before it stores a client.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Agreement {
    /// Its kind.
    pub kind: AgreementKind,
    /// The version in force.
    pub version: String,
    /// What demands it.
    pub source: String,
}

/// The kind of a practice's agreement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum AgreementKind {
    /// A business associate agreement.
    #[serde(rename = "BAA")]
    BusinessAssociate,
    /// A data processing agreement.
    #[serde(rename = "DPA")]
    DataProcessing,
}

/// The clocks of an incident.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Breach {
    /// Until the affected practices know.
    pub practices: Period,
    /// Until the people know; absent when the law says as soon as feasible.
    #[serde(default)]
    pub people: Option<Period>,
    /// Until the regulator knows; absent when the law says as soon as feasible.
    #[serde(default)]
    pub regulator: Option<Period>,
    /// Until the assessment is done, where the law gives a time.
    #[serde(default)]
    pub assessment: Option<Period>,
    /// How long records of incidents are kept.
    pub records: Period,
    /// From how many people in one state regulator and media hear at once, where the law says so.
    #[serde(default)]
    pub large_from: Option<u32>,
    /// Where it stands.
    pub source: String,
}

/// An allowed transfer.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outbound {
    /// Where to.
    pub to: RegionId,
    /// The legal mechanism, as the offer names it.
    pub mechanism: String,
    /// Whether a decision of the source's law calls the destination's protection adequate.
    pub adequate: bool,
    /// The ground in words, with the absence of adequacy and the specific risks, by language.
    pub text: BTreeMap<Locale, String>,
    /// Where it stands.
    pub source: String,
}

/// A transfer another region's law allows into this one, as the file of a region that joins later
/// brings it along: the files of those that were there before stay as they were. It counts as if it
/// stood in the sender's file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Inbound {
    /// Where from: it is this region's law that allows it.
    pub from: RegionId,
    /// The legal mechanism, as the offer names it.
    pub mechanism: String,
    /// Whether a decision of the sender's law calls the protection here adequate.
    pub adequate: bool,
    /// The ground in words, in every language the sender's notices have.
    pub text: BTreeMap<Locale, String>,
    /// Where it stands.
    pub source: String,
}

impl Inbound {
    /// The same as the sender's file would say it.
    pub(crate) fn outbound(&self, to: &RegionId) -> Outbound {
        Outbound {
            to: to.clone(),
            mechanism: self.mechanism.clone(),
            adequate: self.adequate,
            text: self.text.clone(),
            source: self.source.clone(),
        }
    }
}

impl Retention {
    /// The product's own floors (promises 22, 26, 28): a region may keep longer, never shorter.
    pub(crate) fn check(&self) -> Result<()> {
        const YEAR: u64 = 365;
        ensure("retention.records", self.records.keep.days() >= 7 * YEAR)?;
        ensure("retention.records.minors", self.records.minors.is_some())?;
        ensure("retention.signed_notes", self.signed_notes.keep.days() >= 6 * YEAR)?;
        ensure("retention.audit_log", self.audit_log.keep.days() >= 6 * YEAR)?;
        ensure("retention.consents", self.consents.keep.days() >= 3 * YEAR)?;
        ensure("retention.raw_recordings", self.raw_recordings.keep.days() <= 30)?;
        ensure("retention.accounts", self.accounts.keep.days() <= 30)?;
        ensure("retention.backups", self.backups.keep.days() <= 90)?;
        ensure("retention.technical", self.technical.keep.days() <= 90)?;
        let longer = |local: &LocalPeriod| local.keep.days() > self.records.keep.days();
        ensure("retention.records.parts", self.records.parts.values().all(longer))
    }
}
