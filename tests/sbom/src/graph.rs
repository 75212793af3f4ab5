//! The resolved graph of a crate, as `cargo tree` prints it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use crate::Failed;

/// A crate in one version.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its licence, an SPDX expression.
    pub licence: String,
    /// Whether it is of this repository.
    pub ours: bool,
}

/// Crates, and which of them needs which.
#[derive(Debug, Default)]
pub struct Graph {
    /// The crates.
    pub packages: BTreeSet<Package>,
    /// What each needs directly.
    pub edges: BTreeMap<Package, BTreeSet<Package>>,
}

impl Graph {
    /// The graph of a crate of the workspace in `root` for a target, along these kinds of edges.
    ///
    /// # Errors
    /// [`Failed::Cargo`] and [`Failed::Line`].
    pub fn of(root: &Path, package: &str, target: &str, edges: &str) -> Result<Self, Failed> {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let output = Command::new(cargo)
            .current_dir(root)
            .args(["tree", "--locked", "--offline", "--package", package, "--target", target])
            .args(["--edges", edges, "--prefix", "depth", "--format", "|{p}|{l}|"])
            .output()
            .map_err(|cause| Failed::Cargo(cause.kind().to_string()))?;
        let text = String::from_utf8_lossy(&output.stdout);
        if !output.status.success() {
            return Err(Failed::Cargo(String::from_utf8_lossy(&output.stderr).into_owned()));
        }
        Self::parse(&text)
    }

    /// Reads lines such as `2|serde v1.0.229|MIT OR Apache-2.0| (*)`. A crate that comes again stands
    /// there without what it needs; that stands where it came first.
    pub(crate) fn parse(text: &str) -> Result<Self, Failed> {
        let mut graph = Self::default();
        let mut above: Vec<Package> = Vec::new();
        for line in text.lines().filter(|line| !line.is_empty()) {
            let (depth, package) = read(line).ok_or_else(|| Failed::Line(line.to_owned()))?;
            above.truncate(depth);
            if let Some(parent) = above.last() {
                graph.edges.entry(parent.clone()).or_default().insert(package.clone());
            }
            graph.packages.insert(package.clone());
            above.push(package);
        }
        Ok(graph)
    }
}

fn read(line: &str) -> Option<(usize, Package)> {
    let mut parts = line.split('|');
    let depth = parts.next()?.parse().ok()?;
    let mut words = parts.next()?.splitn(3, ' ');
    let (name, version) = (words.next()?, words.next()?.strip_prefix('v')?);
    // Crates of this repository are followed by their folder.
    let ours = words.next().is_some_and(|rest| rest.starts_with("(/"));
    // Older manifests separate alternatives by a slash.
    let licence = parts.next()?.replace('/', " OR ");
    let package = Package { name: name.to_owned(), version: version.to_owned(), licence, ours };
    Some((depth, package))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_is_read_with_its_edges() {
        let text = "0|a v0.1.0 (/somewhere/a)|Apache-2.0|\n1|b v1.0.0 (proc-macro)|MIT/Apache-2.0|\n\
                    2|c v2.0.0|MIT|\n1|c v2.0.0|MIT| (*)\n";
        let graph = Graph::parse(text).unwrap_or_default();
        let names = |set: &BTreeSet<Package>| set.iter().map(|one| one.name.clone()).collect::<String>();
        assert_eq!(names(&graph.packages), "abc");
        let of = |name: &str| {
            let edges = graph.edges.iter().filter(|(package, _)| package.name == name);
            edges.map(|(_, set)| names(set)).collect::<String>()
        };
        assert_eq!((of("a"), of("b"), of("c")), ("bc".to_owned(), "c".to_owned(), String::new()));
        let licences: Vec<_> = graph.packages.iter().map(|one| one.licence.as_str()).collect();
        assert_eq!(licences, ["Apache-2.0", "MIT OR Apache-2.0", "MIT"]);
        assert!(graph.packages.first().is_some_and(|one| one.ours));
        assert!(Graph::parse("nonsense").is_err());
    }
}
