//! A fifth region joins by a file of its own and a stack: records move to it and away from it, and both logs
//! verify (P19, P21); the units and settings under infra/systemd are what the executable takes.
#![cfg(test)]

mod joining;
mod stack;

use std::path::{Path, PathBuf};

/// A file or folder of the repository.
fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

/// The folder of the fifth region's policy.
fn example() -> PathBuf {
    root("docs/examples/regions")
}
