//! The shipped policies: complete, consistent, and in the words people should see.
#![expect(clippy::unwrap_used, reason = "a test may fail")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use domicile_config::policy::{AgreementKind, NoticeFacts, Party, Period};
use domicile_config::{Policies, RegionPolicy};
use domicile_types::{Code, RegionId, Timestamp};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../regions")
}

fn shipped() -> Policies {
    Policies::load(&folder()).unwrap()
}

/// The shipped policies and the example of a fifth region.
fn joined() -> Policies {
    let texts: Vec<_> = ["us", "eu", "ca", "au"].map(|region| (region, text(region))).into();
    let fifth = [("nz", fifth())];
    Policies::parse(texts.iter().chain(&fifth).map(|(name, text)| (*name, text.as_str()))).unwrap()
}

fn fifth() -> String {
    std::fs::read_to_string(folder().join("../docs/examples/regions/nz.toml")).unwrap()
}

fn text(region: &str) -> String {
    std::fs::read_to_string(folder().join(format!("{region}.toml"))).unwrap()
}

fn id(region: &str) -> RegionId {
    RegionId::new(region).unwrap()
}

fn facts(from: &str, to: &str) -> NoticeFacts {
    let party = |region: &str| Party {
        region: id(region),
        name: format!("Operator of {region}"),
        contact: format!("privacy@{region}.example"),
    };
    NoticeFacts {
        sender: party(from),
        recipient: party(to),
        items: 431,
        objects: 7,
        bytes: 12 * 1024 * 1024 + 1,
        offer_expires_at: Timestamp::from_micros(1_795_000_000_000_000),
        consent_valid: Duration::from_secs(72 * 3_600),
    }
}

/// P21: only allowed pairs, each with its mechanism.
#[test]
fn every_pair_has_a_ground() {
    let policies = shipped();
    let regions: Vec<_> = policies.iter().map(|policy| policy.region.clone()).collect();
    assert_eq!(regions, ["au", "ca", "eu", "us"].map(id));
    for from in &regions {
        for to in &regions {
            let outbound = policies.allowed(from, to);
            assert_eq!(outbound.is_some(), from != to);
            assert!(outbound.is_none_or(|o| !o.mechanism.is_empty() && !o.source.is_empty()));
        }
    }
    assert_eq!(policies.allowed(&id("eu"), &id("ca")).map(|o| o.adequate), Some(true));
    assert_eq!(policies.allowed(&id("eu"), &id("us")).map(|o| o.adequate), Some(false));
}

/// What promises.md demands of a transfer's consent text, in every pair and language.
#[test]
fn every_notice_says_all_it_must() {
    let policies = joined();
    for source in policies.iter() {
        for outbound in &source.outbound {
            for locale in source.notices.transfer.keys() {
                let facts = facts(source.region.as_str(), outbound.to.as_str());
                let notice = policies.transfer_notice(&facts, locale).unwrap();
                let destination = policies.get(&outbound.to).unwrap();
                let shown = [
                    facts.sender.name.as_str(),
                    &facts.recipient.name,
                    &facts.sender.contact,
                    &facts.recipient.contact,
                    &source.about[locale].name,
                    &destination.about[locale].name,
                    "431",
                    "13 MiB",
                    &outbound.mechanism,
                    outbound.text[locale].trim(),
                    "72 ",
                    "2026-11-18",
                    &destination.regulator.contact,
                    destination.about[locale].authorities.trim(),
                    source.notices.transfer[locale].withdrawal.trim(),
                    source.notices.transfer[locale].treatment.trim(),
                    &source.notices.transfer[locale].stays_behind[0],
                ];
                for part in shown {
                    assert!(
                        notice.text.contains(part),
                        "{} to {} {locale}: {part}",
                        source.region,
                        outbound.to
                    );
                }
                assert!(!notice.text.contains(['{', '}']), "an open placeholder: {}", notice.text);
                assert_eq!(
                    (notice.version.as_str(), &notice.locale),
                    (source.notices.version.as_str(), locale)
                );
            }
        }
    }
}

#[test]
fn people_read_the_words_of_their_law() {
    let policies = joined();
    for source in policies.iter() {
        for outbound in &source.outbound {
            for locale in source.notices.transfer.keys() {
                let text = policies
                    .transfer_notice(&facts(source.region.as_str(), outbound.to.as_str()), locale)
                    .unwrap()
                    .text;
                let lower = text.to_lowercase();
                for word in ["shred", "departed", "tombstone", "encounter", "todo"] {
                    assert!(!lower.contains(word), "{word}: {text}");
                }
                if source.region.as_str() == "us" {
                    let own = format!("{:?}", source.notices.transfer[locale]).to_lowercase();
                    assert!(text.contains("authorization") && text.contains("revoke"));
                    assert!(!own.replace("withdrawal:", "").contains("withdraw"));
                }
                if source.region.as_str() == "au" {
                    assert!(text.contains("APP 8.1 will not apply"));
                }
                if !outbound.adequate && source.region.as_str() == "eu" {
                    assert!(
                        lower.contains("no adequacy decision")
                            || lower.contains("kein angemessenheitsbeschluss")
                    );
                }
            }
        }
    }
}

#[test]
fn psychotherapy_notes_take_their_own_authorization_in_the_us_alone() {
    let policies = shipped();
    let notice = policies.psychotherapy_notice(&facts("us", "eu"), "en").unwrap();
    assert!(notice.text.contains("45 CFR 164.501") && !notice.text.contains('{'));
    assert!(policies.psychotherapy_notice(&facts("eu", "us"), "en").is_none());
}

#[test]
fn the_language_falls_back_to_the_regions_own() {
    let policies = shipped();
    let eu = policies.get(&id("eu")).unwrap();
    assert_eq!(
        ["de-AT", "DE", "fr", "", "xx"].map(|wanted| eu.locale(wanted)),
        ["de", "de", "en", "en", "en"]
    );
    assert_eq!(policies.get(&id("ca")).unwrap().locale("fr-CA"), "fr");
    assert!(policies.stays_behind(&id("eu"), "de").unwrap()[0].starts_with("Protokoll"));
}

/// The table of promises.md, figure by figure (P22, P26, P28, P29, P39, P46).
#[test]
fn the_figures_are_those_of_the_promises() {
    let policies = shipped();
    let years = |n: u32| Period::parse(&format!("{n} years")).unwrap();
    for (region, records, kind) in [
        ("us", 7, AgreementKind::BusinessAssociate),
        ("eu", 10, AgreementKind::DataProcessing),
        ("ca", 10, AgreementKind::DataProcessing),
        ("au", 7, AgreementKind::DataProcessing),
    ] {
        let policy = policies.get(&id(region)).unwrap();
        assert_eq!(
            (policy.retention.records.keep, policy.agreement.kind),
            (years(records), kind),
            "{region}"
        );
        assert_eq!(policy.breach.practices, Period::parse("72 hours").unwrap());
    }
    let us = policies.get(&id("us")).unwrap();
    assert_eq!(us.retention.consents.at_least, Some(years(6)));
    assert_eq!(us.breach.people, Period::parse("60 days"));
    let eu = policies.get(&id("eu")).unwrap();
    assert_eq!(eu.retention.records.parts["PL"].keep, years(20));
    assert_eq!(
        (eu.deadlines.access.answer, eu.deadlines.access.extension),
        (Period::parse("1 month").unwrap(), Period::parse("2 months"))
    );
    assert_eq!(policies.get(&id("ca")).unwrap().digital_consent.parts["QC"].years, 14);
    assert_eq!(policies.get(&id("au")).unwrap().breach.assessment, Period::parse("30 days"));
}

/// Every table with a figure names its source, and every source says something.
#[test]
fn every_figure_has_its_source() {
    fn walk(path: &str, value: &toml::Value) {
        let Some(table) = value.as_table() else { return };
        let figures =
            ["answer", "keep", "years", "keep_after", "mechanism", "practices", "framework", "kind", "rule"];
        if figures.iter().any(|key| table.contains_key(*key)) {
            let source = table.get("source").and_then(|source| source.as_str()).unwrap_or_default();
            assert!(source.len() >= 6, "{path} has no source");
        }
        for (key, value) in table {
            let path = format!("{path}.{key}");
            walk(&path, value);
            value.as_array().into_iter().flatten().for_each(|value| walk(&path, value));
        }
    }
    for region in ["us", "eu", "ca", "au"] {
        walk(region, &toml::Value::Table(text(region).parse().unwrap()));
    }
    walk("nz", &toml::Value::Table(fifth().parse().unwrap()));
}

#[test]
fn what_does_not_fit_is_refused_by_name() {
    let refused = |region: &str, from: &str, to: &str| {
        let changed = text(region).replacen(from, to, 1);
        assert_ne!(changed, text(region), "{from}");
        let error = RegionPolicy::parse(&changed).unwrap_err();
        (error.code(), error.place().unwrap_or_default().to_owned())
    };
    let unknown = refused("eu", "framework = ", "framwork = 'x'\nframework = ");
    assert_eq!(unknown, (Code::ConfigurationUnknownKey, "law.framwork".to_owned()));
    let missing = refused("eu", "treatment = \"\"\"", "[notices.transfer.en.x]\ntreatment = \"\"\"");
    assert_eq!(missing.0, Code::ConfigurationUnknownKey);
    let short = refused("us", "keep = \"7 years\"", "keep = \"6 years\"");
    assert_eq!(short, (Code::ConfigurationInvalid, "retention.records".to_owned()));
    let lost = refused("us", "{offer_expires}", "soon");
    assert_eq!(lost, (Code::ConfigurationInvalid, "notices.transfer.en.expiry".to_owned()));
    let unit = refused("us", "\"30 days\"", "\"30 weeks\"");
    assert_eq!(unit, (Code::ConfigurationInvalid, "deadlines.access.answer".to_owned()));
    let source = refused("ca", "source = ", "sauce = ");
    assert_eq!(source.0, Code::ConfigurationUnknownKey);
    let vague = refused("ca", "{erasure}", "soon");
    assert_eq!(vague, (Code::ConfigurationInvalid, "about.en.afterwards.rights".to_owned()));
    let mute = refused("eu", "\nde = \"\"\"", "\nnl = \"\"\"");
    assert_eq!(mute, (Code::ConfigurationInvalid, "outbound.text".to_owned()));
}

#[test]
fn policies_must_fit_one_another() {
    let only_us = vec![RegionPolicy::parse(&text("us")).unwrap()];
    assert_eq!(Policies::new(only_us).unwrap_err().place(), Some("us.toml: outbound.eu"));
    let wordless: Vec<_> = ["us", "eu", "ca", "au"]
        .map(|region| RegionPolicy::parse(&text(region)).unwrap())
        .into_iter()
        .map(|mut policy| {
            if policy.region.as_str() == "au" {
                policy.about.remove("de");
            }
            policy
        })
        .collect();
    assert_eq!(Policies::new(wordless).unwrap_err().place(), Some("eu.toml: outbound.au"));
    let not_home = facts("eu", "eu");
    assert_eq!(shipped().transfer_notice(&not_home, "en").unwrap_err().code(), Code::TransferNotAllowed);
}

#[test]
fn a_hostile_name_brings_no_lines_and_no_placeholders() {
    let mut facts = facts("eu", "ca");
    facts.recipient.name = "Evil\r\nTREATMENT {sender_contact}".to_owned();
    let notice = shipped().transfer_notice(&facts, "en").unwrap();
    assert!(notice.text.contains("EvilTREATMENT {sender_contact} (privacy@ca.example)"));
}

/// A fifth region joins by its own file alone: it brings along what the others' law allows, and the
/// others' files stay as they are.
#[test]
fn a_fifth_region_joins_by_its_file() {
    let folder = tempfile::tempdir().unwrap();
    for region in ["us", "eu", "ca", "au"] {
        std::fs::write(folder.path().join(format!("{region}.toml")), text(region)).unwrap();
    }
    std::fs::write(folder.path().join("nz.toml"), fifth()).unwrap();
    let policies = Policies::load(folder.path()).unwrap();
    for other in ["eu", "ca", "au"] {
        assert!(policies.allowed(&id("nz"), &id(other)).is_some(), "nz to {other}");
        assert!(policies.allowed(&id(other), &id("nz")).is_some(), "{other} to nz");
    }
    assert_eq!(policies.allowed(&id("eu"), &id("nz")).map(|outbound| outbound.adequate), Some(true));
    for (from, to) in [("nz", "us"), ("us", "nz")] {
        assert!(policies.allowed(&id(from), &id(to)).is_none());
        let refused = policies.transfer_notice(&facts(from, to), "en").unwrap_err();
        assert_eq!(refused.place(), Some(format!("{from} to {to}").as_str()));
    }
    std::fs::rename(folder.path().join("nz.toml"), folder.path().join("zz.toml")).unwrap();
    assert_eq!(Policies::load(folder.path()).unwrap_err().place(), Some("zz.toml: region"));
    std::fs::remove_file(folder.path().join("zz.toml")).unwrap();
    let gone = Policies::load(folder.path()).unwrap();
    assert_eq!(gone.get(&id("nz")).unwrap_err().place(), Some("nz.toml"));
}

/// Two files that contradict one another are refused, with the file and the transfer named.
#[test]
fn a_file_that_contradicts_the_others_is_refused_by_name() {
    let refused = |change: &dyn Fn(&mut String, &mut String)| {
        let (mut eu, mut nz) = (text("eu"), fifth());
        change(&mut eu, &mut nz);
        let rest = ["us", "ca", "au"].map(|region| (region, text(region)));
        let both = [("eu", eu), ("nz", nz)];
        let texts = rest.iter().chain(&both).map(|(name, text)| (*name, text.as_str()));
        let error = Policies::parse(texts).unwrap_err();
        assert_eq!(error.code(), Code::ConfigurationInvalid);
        error.place().unwrap_or_default().to_owned()
    };
    let put = |text: &mut String, from: &str, to: &str| {
        assert!(text.contains(from), "{from}");
        *text = text.replacen(from, to, 1);
    };
    let twice = refused(&|eu, _| put(eu, "to = \"au\"", "to = \"nz\""));
    assert_eq!(twice, "nz.toml: inbound.eu");
    let unknown = refused(&|_, nz| put(nz, "from = \"ca\"", "from = \"mars\""));
    assert_eq!(unknown, "nz.toml: inbound.mars");
    let nowhere = refused(&|_, nz| put(nz, "to = \"ca\"", "to = \"mars\""));
    assert_eq!(nowhere, "nz.toml: outbound.mars");
    let own = refused(&|_, nz| put(nz, "from = \"ca\"", "from = \"nz\""));
    assert_eq!(own, "nz.toml: inbound.from");
    let same = refused(&|_, nz| put(nz, "from = \"ca\"", "from = \"eu\""));
    assert_eq!(same, "nz.toml: inbound.from");
    let repeated = refused(&|_, nz| put(nz, "to = \"ca\"", "to = \"eu\""));
    assert_eq!(repeated, "nz.toml: outbound.to");
    let mute = refused(&|_, nz| put(nz, "\nde = \"\"\"\nDie Europ", "\nnl = \"\"\"\nDie Europ"));
    assert_eq!(mute, "nz.toml: inbound.eu");
    let silent = refused(&|_, nz| *nz = nz.replace("[about.de", "[about.nl"));
    assert_eq!(silent, "nz.toml: inbound.eu");
}
