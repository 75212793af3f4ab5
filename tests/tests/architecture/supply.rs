//! What is built comes from the lock file, and the bill of materials says what is in the executable.

use std::collections::BTreeSet;

use domicile_tests::world::executable;

use super::none;
use super::workspace::root;

/// The files that tell people or machines which commands to run.
const TELLING: [&str; 7] = [
    "README.md",
    "justfile",
    ".ci/run",
    "tests/run",
    "docs/operations.md",
    "docs/performance.md",
    "docs/supply-chain.md",
];

/// Subcommands of cargo that resolve dependencies and take `--locked`.
const RESOLVING: [&str; 10] =
    ["bench", "build", "check", "clippy", "doc", "install", "nextest", "run", "test", "tree"];

/// Commands that would resolve dependencies anew.
fn unlocked(path: &str, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for line in text.lines().filter(|line| !line.trim_start().starts_with('#')) {
        let parts = line.split(['`', '&', ';', '|']).filter_map(|part| part.split_once("cargo "));
        for (before, words) in parts.filter(|(before, _)| !before.ends_with(['/', '-', '.'])) {
            let subcommand = words.split_whitespace().next().unwrap_or_default();
            let resolves = RESOLVING.contains(&subcommand);
            if resolves && !words.split_whitespace().any(|word| word == "--locked") {
                found.push(format!("{path}: {before}cargo {words}"));
            }
        }
    }
    found
}

#[test]
fn every_command_builds_what_is_locked() {
    let text = |path: &str| std::fs::read_to_string(root().join(path)).unwrap();
    none(&TELLING.iter().flat_map(|path| unlocked(path, &text(path))).collect::<Vec<_>>());
}

#[test]
fn an_unlocked_command_is_found() {
    let text = "cargo build\n`cargo run --release --locked -- up` or `cargo test`\n# cargo build\ncargo fmt\n\
                    cargo build --locked && cargo doc\n";
    assert_eq!(unlocked("x", text).len(), 3, "{:?}", unlocked("x", text));
}

/// Crates from a registry whose sources an executable names, as panics do: name and version. Texts lie in
/// it end to end, so only what reads as a version and is followed by the folder of sources counts.
fn traces(executable: &[u8]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let sources = aho_corasick::AhoCorasick::new(["/registry/src/"]).unwrap();
    for place in sources.find_iter(executable) {
        let rest = &executable[place.end()..executable.len().min(place.end() + 300)];
        let mut folders = rest.split(|byte| *byte == b'/').skip(1);
        let (folder, sources) = (folders.next().unwrap_or_default(), folders.next());
        let folder = std::str::from_utf8(folder).ok().filter(|folder| versioned(folder));
        found.extend(folder.filter(|_| sources == Some(b"src".as_slice())).map(str::to_owned));
    }
    found
}

/// Whether a folder is named after a crate and a version.
fn versioned(folder: &str) -> bool {
    let mut dashes = folder.match_indices('-');
    dashes.any(|(at, _)| cargo_metadata::semver::Version::parse(&folder[at + 1..]).is_ok())
}

/// Every crate that left a trace in the executable stands in its bill of materials, in that version.
#[test]
fn the_bill_of_materials_has_what_is_in_the_executable() {
    let document = domicile_sbom::document(&root(), "x86_64-unknown-linux-gnu").unwrap();
    let listed: BTreeSet<_> = document["components"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| format!("{}-{}", one["name"].as_str().unwrap(), one["version"].as_str().unwrap()))
        .collect();
    let traces = traces(&std::fs::read(executable().unwrap()).unwrap());
    assert!(traces.len() > 50, "the executable has lost its traces");
    let missing = traces.difference(&listed);
    none(&missing.map(|one| format!("{one} is in the executable and not on the list")).collect::<Vec<_>>());
}

#[test]
fn a_trace_is_found() {
    let text = b"..../registry/src/index-1/serde-1.0.0/src/lib.rs/registry/src/index-1/zeroize-1.9.1src/x/\
                 /registry/src/index-1/hex-0.4.3/registry/src/cut";
    assert_eq!(traces(text).into_iter().collect::<Vec<_>>(), ["serde-1.0.0"]);
}
