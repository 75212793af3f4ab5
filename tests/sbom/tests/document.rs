//! The document against the lock file, and against what `cargo metadata` resolves by another way.
#![cfg(test)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, PackageId};
use serde_json::Value;

const TARGET: &str = "x86_64-unknown-linux-gnu";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn document() -> Value {
    domicile_sbom::document(&root(), TARGET).unwrap()
}

fn components(document: &Value) -> &Vec<Value> {
    document["components"].as_array().unwrap()
}

fn named(component: &Value) -> (String, String) {
    (component["name"].as_str().unwrap().to_owned(), component["version"].as_str().unwrap().to_owned())
}

fn metadata() -> Metadata {
    let options = ["--locked", "--offline", "--filter-platform", TARGET].map(str::to_owned);
    MetadataCommand::new()
        .manifest_path(root().join("Cargo.toml"))
        .other_options(options.to_vec())
        .exec()
        .unwrap()
}

/// What `cargo metadata` reaches from the executable by normal and build edges.
fn reached(metadata: &Metadata) -> BTreeSet<(String, String)> {
    let resolve = metadata.resolve.as_ref().unwrap();
    let nodes: BTreeMap<&PackageId, _> = resolve.nodes.iter().map(|node| (&node.id, node)).collect();
    let start = metadata.packages.iter().find(|package| package.name.as_str() == "domicile").unwrap();
    let (mut open, mut seen) = (vec![&start.id], BTreeSet::new());
    while let Some(id) = open.pop() {
        if seen.insert(id) {
            let shipped = |kinds: &[cargo_metadata::DepKindInfo]| {
                kinds.iter().any(|kind| kind.kind != DependencyKind::Development)
            };
            open.extend(nodes[id].deps.iter().filter(|dep| shipped(&dep.dep_kinds)).map(|dep| &dep.pkg));
        }
    }
    seen.into_iter()
        .map(|id| (metadata[id].name.to_string(), metadata[id].version.to_string()))
        .filter(|(name, _)| name != "domicile")
        .collect()
}

/// None but crates of the graph, each once. `cargo metadata` resolves features for the whole workspace and
/// weak ones as if they were on, so it reaches more; that nothing is missing is shown on the executable
/// itself, in the tests of the architecture.
#[test]
fn only_crates_of_the_graph_are_there() {
    let document = document();
    let written: BTreeSet<_> = components(&document).iter().map(named).collect();
    assert_eq!(written.len(), components(&document).len(), "none twice");
    assert!(written.len() > 200);
    let reached = reached(&metadata());
    let more: Vec<_> = written.difference(&reached).collect();
    assert!(more.is_empty(), "not in the graph: {more:?}");
    // What the executable's own manifest names is there.
    let manifest: toml::Table =
        std::fs::read_to_string(root().join("services/domicile/Cargo.toml")).unwrap().parse().unwrap();
    for name in manifest["dependencies"].as_table().unwrap().keys() {
        assert!(written.iter().any(|(found, _)| found == name), "{name} is missing");
    }
}

/// Checksums are the lock file's; only crates of this repository have none.
#[test]
fn checksums_are_those_of_the_lock_file() {
    let lock: toml::Table = std::fs::read_to_string(root().join("Cargo.lock")).unwrap().parse().unwrap();
    let locked = lock["package"].as_array().unwrap();
    let document = document();
    for component in components(&document) {
        let (name, version) = named(component);
        let found = locked.iter().find(|package| {
            package["name"].as_str() == Some(&name) && package["version"].as_str() == Some(&version)
        });
        let checksum = found.unwrap().get("checksum").and_then(toml::Value::as_str);
        assert_eq!(component["hashes"][0]["content"].as_str(), checksum, "{name}");
        assert_eq!(checksum.is_none(), name.starts_with("domicile-"), "{name}");
        let licence = component["licenses"][0]["expression"].as_str().unwrap();
        assert!(!licence.is_empty() && !licence.contains('/'), "{name}: {licence}");
    }
}

/// The graph hangs together: every reference is a component or the executable, and is reached from it.
#[test]
fn every_reference_resolves_and_is_reached() {
    let document = document();
    let shipped = document["metadata"]["component"]["bom-ref"].as_str().unwrap();
    let known: BTreeSet<_> = components(&document)
        .iter()
        .map(|component| component["bom-ref"].as_str().unwrap())
        .chain([shipped])
        .collect();
    let edges: BTreeMap<_, _> = document["dependencies"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| (entry["ref"].as_str().unwrap(), entry["dependsOn"].as_array().unwrap()))
        .collect();
    let (mut open, mut seen) = (vec![shipped], BTreeSet::new());
    while let Some(reference) = open.pop() {
        assert!(known.contains(reference), "{reference}");
        if seen.insert(reference) {
            open.extend(edges[reference].iter().map(|to| to.as_str().unwrap()));
        }
    }
    assert_eq!(seen, known);
}

/// What is linked and what only builds: a serialiser is one, a compiler of protobuf the other; what tests
/// alone use is neither.
#[test]
fn scopes_tell_what_is_linked_from_what_builds() {
    let document = document();
    let scope = |name: &str| {
        let found = components(&document).iter().find(|component| component["name"] == name);
        found.map(|component| component["scope"].as_str().unwrap().to_owned())
    };
    assert_eq!(scope("rustls").as_deref(), Some("required"));
    assert_eq!(scope("protox").as_deref(), Some("excluded"));
    assert_eq!(scope("serde_derive").as_deref(), Some("excluded"));
    assert_eq!(scope("proptest"), None);
    assert_eq!(scope("ring"), None);
}

#[test]
fn the_same_tree_gives_the_same_bytes() {
    assert_eq!(document().to_string(), document().to_string());
}
