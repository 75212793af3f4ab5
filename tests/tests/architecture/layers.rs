//! Who may import whom.

use std::collections::{BTreeMap, BTreeSet};

use super::none;
use super::workspace::{Edge, Kind, declared, members};

/// Every crate and its layer: a crate imports lower layers only.
const LAYERS: &[(&str, u8)] = &[
    ("domicile-types", 0),
    ("domicile-proto", 1),
    ("domicile-config", 1),
    ("domicile-crypto", 1),
    ("domicile-evidence", 1),
    ("domicile-telemetry", 1),
    ("domicile-transfer-protocol", 2),
    ("domicile-kms", 2),
    ("domicile-objects", 2),
    ("domicile-rpc", 2),
    ("domicile-store", 3),
    ("domicile-identity", 4),
    ("domicile-records", 4),
    ("domicile-transfer", 4),
    ("domicile-audit", 4),
    ("domicile-rights", 4),
    ("domicile-coordinator", 4),
    ("domicile-portal", 4),
    ("domicile-cli", 4),
    ("domicile", 5),
    ("domicile-hostile", 5),
    ("domicile-sbom", 5),
    ("domicile-simulation", 5),
    ("domicile-tests", 6),
];

/// What the shipped program must not reach from a crate, also through others.
const OUT_OF_REACH: &[(&str, &[&str])] = &[
    (
        "domicile-coordinator",
        &["domicile-crypto", "domicile-kms", "domicile-objects", "domicile-store", "sea-orm", "sqlx"],
    ),
    ("domicile-portal", &["domicile-kms", "domicile-store"]),
    ("domicile-cli", &["domicile-kms", "domicile-store"]),
];

/// Crates that do no I/O: they must not reach these.
const NO_IO: &[&str] =
    &["domicile-types", "domicile-evidence", "domicile-crypto", "domicile-transfer-protocol"];
const IO: &[&str] = &["tokio", "tonic", "hyper", "sea-orm", "sqlx", "tokio-rustls"];

/// The folder of a layer's crates.
fn folder_fits(name: &str, folder: &str) -> bool {
    let short = name.strip_prefix("domicile-").unwrap_or(name);
    let place = match name {
        "domicile-proto" | "domicile-tests" => short.to_owned(),
        "domicile-hostile" | "domicile-sbom" | "domicile-simulation" => format!("tests/{short}"),
        "domicile-identity" | "domicile-records" | "domicile-transfer" | "domicile-audit"
        | "domicile-rights" => {
            format!("services/region/{short}")
        }
        "domicile" | "domicile-coordinator" | "domicile-portal" | "domicile-cli" => {
            format!("services/{short}")
        }
        _ => format!("services/lib/{short}"),
    };
    place == folder
}

fn layer(name: &str) -> Option<u8> {
    LAYERS.iter().find(|(known, _)| *known == name).map(|(_, layer)| *layer)
}

/// Edges between crates of the workspace that go upwards or sideways, and crates without a layer.
fn wrong_edges(edges: &[Edge]) -> Vec<String> {
    let ours = |name: &str| name == "domicile" || name.starts_with("domicile-");
    let mut wrong = Vec::new();
    for edge in edges.iter().filter(|edge| ours(&edge.to)) {
        match (layer(&edge.from), layer(&edge.to)) {
            (Some(from), Some(to)) if from > to => {}
            (Some(_), Some(_)) => wrong.push(format!("{} must not import {}", edge.from, edge.to)),
            _ => wrong.push(format!("{} or {} has no layer", edge.from, edge.to)),
        }
    }
    wrong
}

/// What `from` reaches by normal dependencies, through crates of the workspace.
fn reach<'a>(edges: &'a [Edge], from: &str) -> BTreeSet<&'a str> {
    let mut by_crate: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for edge in edges.iter().filter(|edge| edge.kind == Kind::Normal) {
        by_crate.entry(&edge.from).or_default().push(&edge.to);
    }
    let mut reached = BTreeSet::new();
    let mut open: Vec<&str> = by_crate.get(from).cloned().unwrap_or_default();
    while let Some(next) = open.pop() {
        if reached.insert(next) {
            open.extend(by_crate.get(next).into_iter().flatten());
        }
    }
    reached
}

fn out_of_reach(edges: &[Edge], from: &str, forbidden: &[&str]) -> Vec<String> {
    let reached = reach(edges, from);
    let reached = forbidden.iter().filter(|name| reached.contains(**name));
    reached.map(|name| format!("{from} reaches {name}")).collect()
}

#[test]
fn a_crate_imports_lower_layers_only() {
    none(&wrong_edges(&declared()));
}

#[test]
fn every_crate_has_a_layer_and_lies_in_its_folder() {
    let wrong =
        members().into_iter().filter(|(name, folder)| layer(name).is_none() || !folder_fits(name, folder));
    none(&wrong.map(|(name, folder)| format!("{name} in {folder}")).collect::<Vec<_>>());
}

#[test]
fn the_coordinator_and_the_command_line_reach_no_key_and_no_database() {
    let edges = declared();
    for (from, forbidden) in OUT_OF_REACH {
        none(&out_of_reach(&edges, from, forbidden));
    }
}

#[test]
fn crates_without_io_reach_no_runtime_and_no_network() {
    let edges = declared();
    for from in NO_IO {
        none(&out_of_reach(&edges, from, IO));
    }
}

#[test]
fn a_wrong_edge_is_found() {
    let upwards = [Edge::normal("domicile-store", "domicile-records")];
    let sideways = [Edge::normal("domicile-records", "domicile-identity")];
    let in_tests = [Edge { kind: Kind::Other, ..Edge::normal("domicile-audit", "domicile-transfer") }];
    let unknown = [Edge::normal("domicile", "domicile-new")];
    for edges in [&upwards[..], &sideways, &in_tests, &unknown] {
        assert_eq!(wrong_edges(edges).len(), 1, "{edges:?}");
    }
    assert!(wrong_edges(&[Edge::normal("domicile-records", "serde")]).is_empty());

    let through = [
        Edge::normal("domicile-coordinator", "domicile-rpc"),
        Edge::normal("domicile-rpc", "domicile-crypto"),
    ];
    assert_eq!(out_of_reach(&through, "domicile-coordinator", &["domicile-crypto"]).len(), 1);
    assert!(out_of_reach(&through, "domicile-crypto", &["domicile-rpc"]).is_empty());
    assert!(!folder_fits("domicile-store", "services/store"));
}
