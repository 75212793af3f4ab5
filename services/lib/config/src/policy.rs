//! A region's policy, `regions/<id>.toml`: its law, deadlines, retention, allowed transfers and the
//! texts people consent to. Law lives in these files and not in code; every figure has its source
//! beside it. This is engineering, not legal advice.

mod notice;
mod period;
mod rules;

use std::collections::BTreeMap;
use std::path::Path;

use domicile_types::{Code, Error, RegionId, Result};
use serde::Deserialize;

use crate::load;
use crate::region::unique;
use crate::shared::ensure;

pub use notice::{
    About, Afterwards, Notice, NoticeFacts, Notices, Party, PsychotherapyNotice, TransferNotice, Units,
};
pub use period::Period;
pub use rules::{
    Age, Agreement, AgreementKind, Breach, Deadline, Deadlines, Inbound, Law, LocalAge, LocalPeriod, Minors,
    Outbound, Regulator, Retention, RetentionRule, RetentionStart,
};

/// A language tag (BCP 47, the primary language alone), such as `de`.
pub type Locale = String;

/// Everything one region's file says.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegionPolicy {
    /// The region.
    pub region: RegionId,
    /// The law that governs records at home here.
    pub law: Law,
    /// Who hears complaints.
    pub regulator: Regulator,
    /// How soon a person's request is answered (P32).
    pub deadlines: Deadlines,
    /// How long what is kept (P22 to P31).
    pub retention: Retention,
    /// From which age a person consents to a digital service alone.
    pub digital_consent: Age,
    /// From which age a person consents to treatment alone: a question of its own.
    pub treatment_consent: Age,
    /// What a practice signs before it stores a client (P46).
    pub agreement: Agreement,
    /// The clocks of an incident (P39).
    pub breach: Breach,
    /// Where a record may move, and on what ground (P21).
    #[serde(default)]
    pub outbound: Vec<Outbound>,
    /// Transfers into this region that the senders' own files do not name (P21).
    #[serde(default)]
    pub inbound: Vec<Inbound>,
    /// What others' notices say of this region, by language.
    pub about: BTreeMap<Locale, About>,
    /// The texts of this region, by language.
    pub notices: Notices,
}

impl RegionPolicy {
    /// Parses and checks one file's text.
    ///
    /// # Errors
    /// Configuration errors, each with the key's name.
    pub fn parse(text: &str) -> Result<Self> {
        let policy: Self = load::toml(text)?;
        policy.check()?;
        Ok(policy)
    }

    /// The language to answer in: the one wanted, or the region's default.
    #[must_use]
    pub fn locale<'a>(&'a self, wanted: &str) -> &'a str {
        let wanted = wanted.split(['-', '_']).next().unwrap_or_default().to_ascii_lowercase();
        let found = self.notices.transfer.keys().find(|locale| **locale == wanted);
        found.unwrap_or(&self.notices.default_locale)
    }

    /// The ground on which a record may move to `destination`, if it may.
    #[must_use]
    pub fn allowed(&self, destination: &RegionId) -> Option<&Outbound> {
        self.outbound.iter().find(|outbound| &outbound.to == destination)
    }

    fn check(&self) -> Result<()> {
        ensure("about.en", self.about.contains_key("en"))?;
        self.about.iter().try_for_each(|(locale, about)| about.check(locale))?;
        self.retention.check()?;
        self.notices.check()?;
        ensure("outbound.to", unique(self.outbound.iter().map(|outbound| &outbound.to)))?;
        ensure("inbound.from", unique(self.inbound.iter().map(|inbound| &inbound.from)))?;
        for outbound in &self.outbound {
            ensure("outbound.to", outbound.to != self.region)?;
            ensure("outbound.text", self.speaks(outbound))?;
        }
        self.inbound.iter().try_for_each(|inbound| ensure("inbound.from", inbound.from != self.region))
    }

    /// Whether a ground is given in every language of this region's notices.
    fn speaks(&self, outbound: &Outbound) -> bool {
        self.notices.transfer.keys().all(|locale| outbound.text.contains_key(locale))
    }
}

/// The policies of all regions.
#[derive(Clone, Debug)]
pub struct Policies(BTreeMap<RegionId, RegionPolicy>);

impl Policies {
    /// Reads every `<region>.toml` in a folder; another region joins by another file.
    ///
    /// # Errors
    /// Configuration errors, each with the file's and the key's name.
    pub fn load(folder: &Path) -> Result<Self> {
        let unreadable = |cause| Error::new(Code::ConfigurationMissing).at("policies").because(cause);
        let mut files = Vec::new();
        for entry in std::fs::read_dir(folder).map_err(unreadable)? {
            let path = entry.map_err(unreadable)?.path();
            if path.extension().is_some_and(|extension| extension == "toml") {
                files.push(path);
            }
        }
        files.sort();
        Self::new(files.iter().map(|path| read(path)).collect::<Result<Vec<_>>>()?)
    }

    /// Parses the files' texts, each with the region's name, and checks that they fit one another.
    ///
    /// # Errors
    /// Configuration errors, each with the file's and the key's name.
    pub fn parse<'a>(texts: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Self> {
        Self::new(texts.into_iter().map(|(name, text)| named(name, text)).collect::<Result<Vec<_>>>()?)
    }

    /// Checks that the policies fit one another.
    ///
    /// # Errors
    /// [`Code::ConfigurationInvalid`] for two of one region, a transfer from or to a region nobody
    /// knows, one that two files name, or one whose notice would be in a language that one of the two
    /// regions' texts lacks. The place is the file that names the transfer, and the transfer.
    pub fn new(policies: Vec<RegionPolicy>) -> Result<Self> {
        let count = policies.len();
        let mut all = Self(policies.into_iter().map(|policy| (policy.region.clone(), policy)).collect());
        ensure("region", all.0.len() == count && count > 0)?;
        for policy in all.iter() {
            for outbound in &policy.outbound {
                all.fits(policy, outbound, &format!("{}.toml: outbound.{}", policy.region, outbound.to))?;
            }
        }
        for (from, outbound) in all.brought()? {
            if let Some(sender) = all.0.get_mut(&from) {
                sender.outbound.push(outbound);
            }
        }
        Ok(all)
    }

    /// The transfers that receivers' files bring along, each with its sender.
    fn brought(&self) -> Result<Vec<(RegionId, Outbound)>> {
        let mut brought = Vec::new();
        for policy in self.iter() {
            for inbound in &policy.inbound {
                let place = format!("{}.toml: inbound.{}", policy.region, inbound.from);
                let unknown = || Error::new(Code::ConfigurationInvalid).at(place.clone());
                let sender = self.0.get(&inbound.from).ok_or_else(unknown)?;
                let outbound = inbound.outbound(&policy.region);
                // Two files that speak of one transfer might say different things.
                ensure(&place, sender.allowed(&policy.region).is_none() && sender.speaks(&outbound))?;
                self.fits(sender, &outbound, &place)?;
                brought.push((inbound.from.clone(), outbound));
            }
        }
        Ok(brought)
    }

    /// Both regions are known and say what they are in every language the sender's people read.
    fn fits(&self, sender: &RegionPolicy, outbound: &Outbound, place: &str) -> Result<()> {
        let Some(destination) = self.0.get(&outbound.to) else {
            return Err(Error::new(Code::ConfigurationInvalid).at(place));
        };
        let told =
            |locale: &Locale| destination.about.contains_key(locale) && sender.about.contains_key(locale);
        ensure(place, sender.notices.transfer.keys().all(told))
    }

    /// Every policy, by the regions' names.
    pub fn iter(&self) -> impl Iterator<Item = &RegionPolicy> {
        self.0.values()
    }

    /// One region's policy.
    ///
    /// # Errors
    /// [`Code::ConfigurationMissing`] when there is no file for the region.
    pub fn get(&self, region: &RegionId) -> Result<&RegionPolicy> {
        self.0.get(region).ok_or_else(|| Error::new(Code::ConfigurationMissing).at(format!("{region}.toml")))
    }

    /// The ground on which a record may move from one region to another, if it may.
    #[must_use]
    pub fn allowed(&self, from: &RegionId, to: &RegionId) -> Option<&Outbound> {
        self.0.get(from)?.allowed(to)
    }

    /// The regions to which a record may move from one.
    pub fn destinations(&self, from: &RegionId) -> impl Iterator<Item = &RegionId> {
        self.0.get(from).into_iter().flat_map(|policy| policy.outbound.iter().map(|outbound| &outbound.to))
    }

    /// The exact text a client consents to, in the wanted language or the source region's default.
    ///
    /// # Errors
    /// [`Code::TransferNotAllowed`] when the pair is not allowed.
    pub fn transfer_notice(&self, facts: &NoticeFacts, wanted: &str) -> Result<Notice> {
        let (from, to) = (&facts.sender.region, &facts.recipient.region);
        let refused = || Error::new(Code::TransferNotAllowed).at(format!("{from} to {to}"));
        let (source, destination) = (self.get(from)?, self.get(to)?);
        let outbound = source.allowed(to).ok_or_else(refused)?;
        notice::transfer(source, destination, outbound, facts, source.locale(wanted)).ok_or_else(refused)
    }

    /// The separate authorization for psychotherapy notes, where the source's law wants one
    /// (45 CFR 164.508(b)(3)(ii)).
    #[must_use]
    pub fn psychotherapy_notice(&self, facts: &NoticeFacts, wanted: &str) -> Option<Notice> {
        let source = self.0.get(&facts.sender.region)?;
        let destination = self.0.get(&facts.recipient.region)?;
        notice::psychotherapy(source, destination, facts, source.locale(wanted))
    }

    /// What stays in a region that a record has left, one sentence each.
    ///
    /// # Errors
    /// [`Code::ConfigurationMissing`] when there is no such region.
    pub fn stays_behind(&self, region: &RegionId, wanted: &str) -> Result<Vec<String>> {
        let policy = self.get(region)?;
        Ok(notice::stays_behind(policy, policy.locale(wanted)))
    }
}

fn read(path: &Path) -> Result<RegionPolicy> {
    let name = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    let text = std::fs::read_to_string(path)
        .map_err(|cause| Error::new(Code::ConfigurationMissing).at(format!("{name}.toml")).because(cause))?;
    named(name, &text)
}

/// One file's text; its name is the region's.
fn named(name: &str, text: &str) -> Result<RegionPolicy> {
    let policy = RegionPolicy::parse(text).map_err(|error| {
        let place = format!("{name}.toml: {}", error.place().unwrap_or_default());
        error.at(place)
    })?;
    ensure(&format!("{name}.toml: region"), policy.region.as_str() == name)?;
    Ok(policy)
}
