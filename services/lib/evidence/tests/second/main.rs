//! The second verifier, docs/verifier, held against the first: on the vectors in this folder and on some
//! thousand logs and damages made from fixed seeds.
//!
//! `DOMICILE_BLESS=1` writes the vectors anew.

#![cfg(test)]
#![allow(missing_docs, unreachable_pub, clippy::allow_attributes, reason = "a test program of several files")]

#[path = "../common/mod.rs"]
mod common;

mod cases;
mod python;
mod together;
mod vectors;
mod wild;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use vectors::Vectors;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/second/vectors")
}

/// What lies in the folder of the vectors, by name.
fn stored() -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(folder()).into_iter().flatten() {
        let entry = entry.expect("an entry of the folder");
        let name = entry.file_name().to_string_lossy().into_owned();
        files.insert(name, std::fs::read(entry.path()).expect("a vector"));
    }
    files
}

fn bless(vectors: &Vectors) {
    std::fs::remove_dir_all(folder()).ok();
    std::fs::create_dir_all(folder()).expect("a folder");
    for (name, content) in &vectors.files {
        std::fs::write(folder().join(name), content).expect("a file");
    }
}

/// The files are what this program makes, and the first verifier finds in them what the manifest says.
#[test]
fn the_vectors_are_as_they_were_and_the_first_verifier_agrees() {
    let vectors = cases::all();
    if std::env::var_os("DOMICILE_BLESS").is_some() {
        bless(&vectors);
    }
    let stored = stored();
    let names = |files: &BTreeMap<String, Vec<u8>>| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&stored), names(&vectors.files), "DOMICILE_BLESS=1 writes the vectors anew");
    for (name, content) in &vectors.files {
        let same = stored.get(name) == Some(content);
        assert!(same, "{name} is not what it was; DOMICILE_BLESS=1 writes the vectors anew");
    }
    let size: usize = stored.values().map(Vec::len).sum();
    assert!(size < 320_000, "{size} bytes of vectors");
}

/// Every exit code has at least two vectors, and nothing in the folder is unused.
#[test]
fn every_exit_code_has_its_vectors() {
    let vectors = cases::all();
    for code in [0, 2, 3, 10, 11, 12, 13, 14, 15, 16, 17, 18] {
        let count = vectors.manifest.cases.iter().filter(|case| case.exit == code).count();
        assert!(count >= 2, "exit code {code} has {count} vectors");
    }
    for name in vectors.files.keys().filter(|name| *name != "manifest.json") {
        assert!(vectors.manifest.cases.iter().any(|case| case.names(name)), "{name} is in no case");
    }
}

#[test]
fn the_second_verifier_agrees_on_every_vector() {
    python::agrees("vectors", &folder().join("manifest.json"));
}

#[test]
fn both_verifiers_agree_on_damaged_and_on_wild_logs() {
    let folder = python::Folder::new();
    let path = folder.path().join("cases.jsonl");
    let lines = wild::lines();
    assert!(lines.len() > 2000, "{} cases", lines.len());
    std::fs::write(&path, lines.join("\n")).expect("a file");
    python::agrees("wild", &path);
}
