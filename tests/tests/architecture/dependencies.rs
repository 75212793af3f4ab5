//! Crates that must not be in the tree, licences that may, and where crates come from. deny.toml says the
//! same to cargo-deny.

use std::collections::BTreeSet;
use std::process::Command;

use toml::{Table, Value};

use super::none;
use super::workspace::root;

/// Not even through others: one provider of cryptography and of TLS.
const BANNED: &[&str] = &["native-tls", "openssl", "openssl-sys", "ring"];

const LICENCES: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "MIT-0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// A crate of the tree.
struct Dependency {
    name: String,
    licence: String,
}

/// Every crate that is built into programs or tests, with the features that are really on.
fn tree() -> Vec<Dependency> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(root()).args(["tree", "--workspace", "--locked", "--offline"]);
    cargo.args(["--edges", "normal,build,dev", "--prefix", "none", "--format", "{p}|{l}"]);
    let output = cargo.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: BTreeSet<&str> = text.lines().map(|line| line.trim_end_matches(" (*)")).collect();
    let found: Vec<_> = lines.iter().filter_map(|line| parse(line)).collect();
    assert!(found.len() > 50, "the tree was not found");
    found
}

fn parse(line: &str) -> Option<Dependency> {
    let (package, licence) = line.split_once('|')?;
    let name = package.split(' ').next()?;
    Some(Dependency { name: name.to_owned(), licence: licence.to_owned() })
}

fn banned(tree: &[Dependency]) -> Vec<String> {
    let found = tree.iter().filter(|one| BANNED.contains(&one.name.as_str()));
    found.map(|one| format!("{} is in the tree", one.name)).collect()
}

fn unlicensed(tree: &[Dependency]) -> Vec<String> {
    let found = tree.iter().filter(|one| !permitted(&one.licence));
    found.map(|one| format!("{} is under {:?}", one.name, one.licence)).collect()
}

/// Whether an SPDX expression can be satisfied by permitted licences alone.
fn permitted(expression: &str) -> bool {
    // Older manifests separate alternatives by a slash.
    let expression = expression.replace('/', " OR ");
    let spaced = expression.replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut at = 0;
    let holds = any_of(&words, &mut at);
    holds && at == words.len()
}

fn any_of(words: &[&str], at: &mut usize) -> bool {
    let mut holds = all_of(words, at);
    while words.get(*at) == Some(&"OR") {
        *at += 1;
        holds |= all_of(words, at);
    }
    holds
}

fn all_of(words: &[&str], at: &mut usize) -> bool {
    let mut holds = one(words, at);
    while words.get(*at) == Some(&"AND") {
        *at += 1;
        holds &= one(words, at);
    }
    holds
}

fn one(words: &[&str], at: &mut usize) -> bool {
    let Some(word) = words.get(*at) else { return false };
    *at += 1;
    if *word == "(" {
        let holds = any_of(words, at);
        let closed = words.get(*at) == Some(&")");
        *at += 1;
        return holds && closed;
    }
    if words.get(*at) == Some(&"WITH") {
        let exception = words.get(*at + 1).copied().unwrap_or_default();
        *at += 2;
        return LICENCES.contains(&format!("{word} WITH {exception}").as_str());
    }
    LICENCES.contains(word)
}

/// Packages of the lock file that do not come from the registry or from this workspace.
fn foreign(lock: &Table) -> Vec<String> {
    let packages = lock.get("package").and_then(Value::as_array).cloned().unwrap_or_default();
    let sources = packages.iter().filter_map(|package| {
        let source = package.get("source")?.as_str()?;
        (!source.starts_with("registry+")).then(|| format!("{} comes from {source}", package["name"]))
    });
    sources.collect()
}

/// Crates that only the fuzz targets have, under MIT or Apache-2.0; libFuzzer itself, in the first, is under the
/// NCSA licence besides.
const FUZZING: &[&str] = &["arbitrary", "domicile-fuzz", "libfuzzer-sys"];

/// Names and versions in a lock file.
fn locked(path: &str) -> BTreeSet<(String, String)> {
    let lock: Table = std::fs::read_to_string(root().join(path)).unwrap().parse().unwrap();
    let text = |package: &Value, key: &str| package[key].as_str().unwrap().to_owned();
    let packages = lock["package"].as_array().unwrap();
    packages.iter().map(|package| (text(package, "name"), text(package, "version"))).collect()
}

/// The fuzz targets are a workspace of their own, and try what is shipped in the versions that are shipped.
#[test]
fn the_fuzz_targets_have_the_same_crates() {
    let (ours, theirs) = (locked("Cargo.lock"), locked("tests/fuzz/Cargo.lock"));
    assert!(theirs.len() > 100, "the lock file was not found");
    let others = theirs.difference(&ours).filter(|(name, _)| !FUZZING.contains(&name.as_str()));
    none(
        &others
            .map(|(name, version)| format!("{name} {version} is in the fuzz targets alone"))
            .collect::<Vec<_>>(),
    );
    let manifest: Table =
        std::fs::read_to_string(root().join("tests/fuzz/Cargo.toml")).unwrap().parse().unwrap();
    let direct: Vec<&String> = manifest["dependencies"].as_table().unwrap().keys().collect();
    assert_eq!(direct, ["domicile-hostile", "libfuzzer-sys"]);
    let lock: Table = std::fs::read_to_string(root().join("tests/fuzz/Cargo.lock")).unwrap().parse().unwrap();
    none(&foreign(&lock));
}

#[test]
fn no_second_provider_of_cryptography_is_in_the_tree() {
    none(&banned(&tree()));
}

#[test]
fn every_crate_is_under_a_permissive_licence() {
    none(&unlicensed(&tree()));
}

#[test]
fn every_crate_comes_from_the_registry() {
    let lock: Table = std::fs::read_to_string(root().join("Cargo.lock")).unwrap().parse().unwrap();
    none(&foreign(&lock));
}

#[test]
fn cargo_deny_is_told_the_same() {
    let deny: Table = std::fs::read_to_string(root().join("deny.toml")).unwrap().parse().unwrap();
    let bans = deny["bans"]["deny"].as_array().unwrap();
    let mut bans: Vec<_> = bans.iter().map(|ban| ban["crate"].as_str().unwrap()).collect();
    bans.sort_unstable();
    assert_eq!(bans, BANNED);
    let licences = deny["licenses"]["allow"].as_array().unwrap();
    let licences: Vec<_> = licences.iter().map(|licence| licence.as_str().unwrap()).collect();
    assert_eq!(licences, LICENCES);
}

#[test]
fn a_wrong_crate_is_found() {
    let ring = parse("ring v0.17.14|Apache-2.0 AND ISC").unwrap();
    assert_eq!(banned(&[ring]).len(), 1);
    let copyleft = parse("x v1.0.0|GPL-3.0-only").unwrap();
    assert_eq!(unlicensed(&[copyleft]).len(), 1);
    let lock = "[[package]]\nname = \"x\"\nsource = \"git+https://example.org/x\"\n".parse().unwrap();
    assert_eq!(foreign(&lock).len(), 1);
}

#[test]
fn expressions_are_read_as_spdx_means_them() {
    for good in [
        "MIT",
        "MIT/Apache-2.0",
        "Apache-2.0 / MIT",
        "GPL-2.0-only OR MIT",
        "(MIT OR Apache-2.0) AND Unicode-3.0",
        "Apache-2.0 WITH LLVM-exception OR Apache-2.0 OR MIT",
        "ISC AND (Apache-2.0 OR ISC) AND Apache-2.0 AND MIT AND BSD-3-Clause",
    ] {
        assert!(permitted(good), "{good}");
    }
    for bad in ["", "GPL-3.0-only", "MIT AND GPL-3.0-only", "(MIT", "MIT AND", "MIT WITH nothing", "MIT MIT"]
    {
        assert!(!permitted(bad), "{bad}");
    }
}
