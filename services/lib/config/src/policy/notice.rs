//! The texts people consent to. A notice is made of sections, and each section the law demands is a
//! field of its own: a text without one does not load.

use std::collections::BTreeMap;
use std::time::Duration;

use domicile_types::{RegionId, Result, Timestamp};
use serde::Deserialize;

use super::period::Unit;
use super::rules::Deadline;
use super::{Locale, Outbound, Period, RegionPolicy};
use crate::shared::ensure;

/// The texts of a region.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Notices {
    /// The version of all of them; changes with every change of a word.
    pub version: String,
    /// The language for people who ask for one that is not there.
    pub default_locale: Locale,
    /// The consent to a transfer.
    pub transfer: BTreeMap<Locale, TransferNotice>,
    /// The separate authorization for psychotherapy notes, where the law wants one.
    #[serde(default)]
    pub psychotherapy: BTreeMap<Locale, PsychotherapyNotice>,
    /// How the languages say periods.
    pub units: BTreeMap<Locale, Units>,
}

/// The consent to a transfer, section by section, in the order people read it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TransferNotice {
    /// What it is.
    pub title: String,
    /// Who sends, who receives, in which countries.
    pub parties: String,
    /// What data.
    pub data: String,
    /// What for.
    pub purpose: String,
    /// On what legal ground.
    pub ground: String,
    /// Until when the text may be accepted, and how long the consent lasts.
    pub expiry: String,
    /// How to withdraw, and until when.
    pub withdrawal: String,
    /// That treatment does not depend on it.
    pub treatment: String,
    /// Redisclosure, and access by foreign authorities.
    pub redisclosure: String,
    /// Which rights, deadlines, retention and regulator apply afterwards.
    pub afterwards: String,
    /// The heading above what stays behind.
    pub stays: String,
    /// What stays behind, one sentence each.
    pub stays_behind: Vec<String>,
    /// That the person gets a copy, and what giving it means.
    pub copy: String,
}

/// The separate authorization for psychotherapy notes.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PsychotherapyNotice {
    /// What it is.
    pub title: String,
    /// What it covers, and what happens without it.
    pub text: String,
}

/// How a language says periods: one, and several.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Units {
    /// Minute, minutes.
    pub minute: [String; 2],
    /// Hour, hours.
    pub hour: [String; 2],
    /// Day, days.
    pub day: [String; 2],
    /// Month, months.
    pub month: [String; 2],
    /// Year, years.
    pub year: [String; 2],
    /// A period that may be extended: `{period}` and `{extension}`.
    pub extended: String,
}

/// What notices say of a region.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct About {
    /// Its name, as it stands in the middle of a sentence.
    pub name: String,
    /// Which authorities may reach a record there.
    pub authorities: String,
    /// Rights, deadlines, retention and regulator of a record at home there.
    pub afterwards: Afterwards,
}

/// What applies to a record at home in a region; figures by placeholder.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Afterwards {
    /// The law.
    pub law: String,
    /// The rights, with `{access}`, `{rectification}` and `{erasure}`.
    pub rights: String,
    /// The retention, with `{records}` and `{after_majority}`.
    pub retention: String,
    /// The regulator, with `{regulator}` and `{regulator_contact}`.
    pub regulator: String,
}

/// Who sends or receives.
#[derive(Clone, Debug)]
pub struct Party {
    /// Its region.
    pub region: RegionId,
    /// The operator's name.
    pub name: String,
    /// How to reach the operator.
    pub contact: String,
}

/// What a notice says that no file knows.
#[derive(Clone, Debug)]
pub struct NoticeFacts {
    /// Who sends.
    pub sender: Party,
    /// Who receives.
    pub recipient: Party,
    /// Versions of items that would move.
    pub items: u64,
    /// Large objects that would move.
    pub objects: u64,
    /// Their bytes together.
    pub bytes: u64,
    /// Until when the offer may be accepted.
    pub offer_expires_at: Timestamp,
    /// How long a consent lasts.
    pub consent_valid: Duration,
}

/// A text as a person sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// Its version.
    pub version: String,
    /// Its language.
    pub locale: Locale,
    /// The exact text.
    pub text: String,
}

/// Placeholders a section must have, so that no translation loses a fact.
const NEEDED: [(&str, &[&str]); 6] = [
    ("parties", &["sender", "sender_contact", "source", "recipient", "recipient_contact", "destination"]),
    ("data", &["items", "objects", "size"]),
    ("ground", &["mechanism", "ground"]),
    ("expiry", &["offer_expires", "consent_valid"]),
    ("redisclosure", &["authorities", "destination"]),
    ("afterwards", &["law", "rights", "retention", "regulator"]),
];

impl Notices {
    pub(crate) fn check(&self) -> Result<()> {
        ensure("notices.version", !self.version.is_empty())?;
        ensure("notices.default_locale", self.transfer.contains_key(&self.default_locale))?;
        ensure("notices.transfer.en", self.transfer.contains_key("en"))?;
        ensure("notices.units", self.transfer.keys().all(|locale| self.units.contains_key(locale)))?;
        let psychotherapy = |locale| self.psychotherapy.is_empty() || self.psychotherapy.contains_key(locale);
        ensure("notices.psychotherapy", self.transfer.keys().all(psychotherapy))?;
        self.transfer.iter().try_for_each(|(locale, notice)| notice.check(locale))
    }
}

impl About {
    pub(crate) fn check(&self, locale: &str) -> Result<()> {
        let Afterwards { law, rights, retention, regulator } = &self.afterwards;
        let sections: [(&str, &str, &[&str]); 6] = [
            ("name", &self.name, &[]),
            ("authorities", &self.authorities, &[]),
            ("afterwards.law", law, &[]),
            ("afterwards.rights", rights, &["access", "rectification", "erasure", "disclosures"]),
            ("afterwards.retention", retention, &["records", "majority"]),
            ("afterwards.regulator", regulator, &["regulator_contact"]),
        ];
        sections.iter().try_for_each(|(section, text, needed)| {
            let place = format!("about.{locale}.{section}");
            ensure(&place, !text.trim().is_empty() && has(text, needed))
        })
    }
}

/// Whether a text has all these placeholders.
fn has(text: &str, needed: &[&str]) -> bool {
    needed.iter().all(|name| text.contains(&format!("{{{name}}}")))
}

impl TransferNotice {
    fn check(&self, locale: &str) -> Result<()> {
        for (section, text) in self.sections() {
            let place = format!("notices.transfer.{locale}.{section}");
            ensure(&place, !text.trim().is_empty())?;
            let needed =
                NEEDED.iter().find(|(name, _)| *name == section).map_or(&[][..], |(_, needed)| needed);
            ensure(&place, has(text, needed))?;
        }
        let place = format!("notices.transfer.{locale}.stays_behind");
        ensure(
            &place,
            !self.stays_behind.is_empty() && self.stays_behind.iter().all(|line| !line.contains(['{', '}'])),
        )
    }

    fn sections(&self) -> [(&'static str, &str); 12] {
        [
            ("title", &self.title),
            ("parties", &self.parties),
            ("data", &self.data),
            ("purpose", &self.purpose),
            ("ground", &self.ground),
            ("expiry", &self.expiry),
            ("withdrawal", &self.withdrawal),
            ("treatment", &self.treatment),
            ("redisclosure", &self.redisclosure),
            ("afterwards", &self.afterwards),
            ("stays", &self.stays),
            ("copy", &self.copy),
        ]
    }
}

/// The transfer notice of a pair of regions; `None` when a text lacks the language.
pub(super) fn transfer(
    source: &RegionPolicy,
    destination: &RegionPolicy,
    outbound: &Outbound,
    facts: &NoticeFacts,
    locale: &str,
) -> Option<Notice> {
    let notice = source.notices.transfer.get(locale)?;
    let values = values(source, destination, outbound, facts, locale)?;
    let mut parts = Vec::new();
    for (section, text) in notice.sections() {
        parts.push(fill(text.trim(), &values));
        if section == "stays" {
            parts.push(
                notice.stays_behind.iter().map(|line| format!("- {line}")).collect::<Vec<_>>().join("\n"),
            );
        }
    }
    let version = source.notices.version.clone();
    Some(Notice { version, locale: locale.to_owned(), text: parts.join("\n\n") })
}

/// The separate authorization for psychotherapy notes, where the source has one.
pub(super) fn psychotherapy(
    source: &RegionPolicy,
    destination: &RegionPolicy,
    facts: &NoticeFacts,
    locale: &str,
) -> Option<Notice> {
    let notice = source.notices.psychotherapy.get(locale)?;
    let values = values(source, destination, source.allowed(&destination.region)?, facts, locale)?;
    let text = format!("{}\n\n{}", fill(&notice.title, &values), fill(notice.text.trim(), &values));
    Some(Notice { version: source.notices.version.clone(), locale: locale.to_owned(), text })
}

pub(super) fn stays_behind(policy: &RegionPolicy, locale: &str) -> Vec<String> {
    policy.notices.transfer.get(locale).map(|notice| notice.stays_behind.clone()).unwrap_or_default()
}

type Values = BTreeMap<&'static str, String>;

fn values(
    source: &RegionPolicy,
    destination: &RegionPolicy,
    outbound: &Outbound,
    facts: &NoticeFacts,
    locale: &str,
) -> Option<Values> {
    let units = source.notices.units.get(locale)?;
    let (here, there) = (source.about.get(locale)?, destination.about.get(locale)?);
    let figures = figures(destination, units);
    let after = |text: &str| fill(text, &figures);
    Some(Values::from([
        ("sender", plain(&facts.sender.name)),
        ("sender_contact", plain(&facts.sender.contact)),
        ("source", here.name.clone()),
        ("recipient", plain(&facts.recipient.name)),
        ("recipient_contact", plain(&facts.recipient.contact)),
        ("destination", there.name.clone()),
        ("items", facts.items.to_string()),
        ("objects", facts.objects.to_string()),
        ("size", size(facts.bytes)),
        ("mechanism", outbound.mechanism.clone()),
        ("ground", outbound.text.get(locale)?.trim().to_owned()),
        ("offer_expires", instant(facts.offer_expires_at)),
        ("consent_valid", hours(facts.consent_valid, units)),
        ("authorities", after(&there.authorities)),
        ("law", after(&there.afterwards.law)),
        ("rights", after(&there.afterwards.rights)),
        ("retention", after(&there.afterwards.retention)),
        ("regulator", after(&there.afterwards.regulator)),
    ]))
}

fn figures(policy: &RegionPolicy, units: &Units) -> Values {
    let records = &policy.retention.records;
    let minors = records.minors.as_ref();
    Values::from([
        ("access", deadline(&policy.deadlines.access, units)),
        ("rectification", deadline(&policy.deadlines.rectification, units)),
        ("erasure", deadline(&policy.deadlines.erasure, units)),
        ("disclosures", deadline(&policy.deadlines.disclosures, units)),
        ("records", units.say(records.keep)),
        ("after_majority", minors.map(|minors| units.say(minors.keep_after)).unwrap_or_default()),
        ("majority", minors.map(|minors| minors.majority.to_string()).unwrap_or_default()),
        ("regulator", policy.regulator.name.clone()),
        ("regulator_contact", policy.regulator.contact.clone()),
    ])
}

/// Puts values in for `{name}`, once: what a value holds is not looked at again. An unknown name stays
/// as it is; a test over the shipped texts finds none.
fn fill(text: &str, values: &Values) -> String {
    let mut out = String::with_capacity(text.len() * 2);
    let mut rest = text;
    while let Some((before, from)) = rest.split_once('{') {
        out.push_str(before);
        match from.split_once('}').and_then(|(name, after)| values.get(name).map(|value| (value, after))) {
            Some((value, after)) => {
                out.push_str(value);
                rest = after;
            }
            None => {
                out.push('{');
                rest = from;
            }
        }
    }
    out.push_str(rest);
    out
}

/// A configured name without control characters: it must not bring lines of its own into a notice.
fn plain(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}

fn deadline(deadline: &Deadline, units: &Units) -> String {
    let answer = units.say(deadline.answer);
    match deadline.extension {
        None => answer,
        Some(extension) => {
            units.extended.replace("{period}", &answer).replace("{extension}", &units.say(extension))
        }
    }
}

impl Units {
    fn say(&self, period: Period) -> String {
        let [one, several] = match period.unit {
            Unit::Minutes => &self.minute,
            Unit::Hours => &self.hour,
            Unit::Days => &self.day,
            Unit::Months => &self.month,
            Unit::Years => &self.year,
        };
        format!("{} {}", period.number, if period.number == 1 { one } else { several })
    }
}

fn hours(duration: Duration, units: &Units) -> String {
    let hours = u32::try_from(duration.as_secs() / 3_600).unwrap_or(u32::MAX);
    let minutes = u32::try_from(duration.as_secs() / 60).unwrap_or(u32::MAX);
    let whole = duration.as_secs().is_multiple_of(3_600) && hours > 0;
    let (number, unit) = if whole { (hours, Unit::Hours) } else { (minutes.max(1), Unit::Minutes) };
    units.say(Period { number, unit })
}

fn instant(at: Timestamp) -> String {
    let utc = jiff::Timestamp::from_microsecond(at.micros()).unwrap_or(jiff::Timestamp::MAX);
    utc.strftime("%Y-%m-%d %H:%M UTC").to_string()
}

/// Bytes in the next unit that keeps the number short, rounded up.
fn size(bytes: u64) -> String {
    const UNITS: [(&str, u64); 3] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    let fitting = UNITS.iter().find(|(_, unit)| bytes >= *unit);
    fitting.map_or_else(|| format!("{bytes} B"), |(name, unit)| format!("{} {name}", bytes.div_ceil(*unit)))
}
