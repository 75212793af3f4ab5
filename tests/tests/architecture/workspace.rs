//! The workspace as `cargo metadata` and the file system show it.

use std::path::{Path, PathBuf};

use cargo_metadata::{CargoOpt, DependencyKind, Metadata, MetadataCommand};

/// The repository's root.
pub(super) fn root() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().unwrap().to_path_buf()
}

/// One dependency between two crates of the workspace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Edge {
    pub(super) from: String,
    pub(super) to: String,
    pub(super) kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// In the program that is shipped.
    Normal,
    /// In tests or at build time.
    Other,
}

impl Edge {
    pub(super) fn normal(from: &str, to: &str) -> Self {
        Self { from: from.to_owned(), to: to.to_owned(), kind: Kind::Normal }
    }
}

/// The workspace's own metadata; nothing is fetched for it.
pub(super) fn metadata() -> Metadata {
    MetadataCommand::new()
        .manifest_path(root().join("Cargo.toml"))
        .features(CargoOpt::AllFeatures)
        .no_deps()
        .other_options(vec!["--locked".to_owned(), "--offline".to_owned()])
        .exec()
        .unwrap()
}

/// The workspace's crates, by name, with the folder of each relative to the root.
pub(super) fn members() -> Vec<(String, String)> {
    let root = root();
    let metadata = metadata();
    let folder = |manifest: &Path| {
        manifest.parent().unwrap().strip_prefix(&root).unwrap().to_string_lossy().into_owned()
    };
    let named = |package: &cargo_metadata::Package| {
        (package.name.to_string(), folder(package.manifest_path.as_std_path()))
    };
    metadata.packages.iter().map(named).collect()
}

/// Every dependency declared by a crate of the workspace, on crates of the workspace and others.
pub(super) fn declared() -> Vec<Edge> {
    let metadata = metadata();
    let mut edges = Vec::new();
    for package in &metadata.packages {
        for dependency in &package.dependencies {
            let kind = if dependency.kind == DependencyKind::Normal { Kind::Normal } else { Kind::Other };
            edges.push(Edge { from: package.name.to_string(), to: dependency.name.clone(), kind });
        }
    }
    edges
}

/// A file of the repository: its path relative to the root, and its text.
pub(super) struct Source {
    pub(super) path: String,
    pub(super) text: String,
}

impl Source {
    /// A made-up file, to show that a rule fails.
    pub(super) fn new(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.to_owned() }
    }

    pub(super) fn is(&self, ending: &str) -> bool {
        self.path.ends_with(ending)
    }
}

/// What a build or a run leaves behind, and git's own folder.
const NOT_OURS: &[&str] = &[".git", "target", "domicile-data"];

/// Every text file that belongs to the repository.
pub(super) fn files() -> Vec<Source> {
    let mut found = Vec::new();
    walk(&root(), &root(), &mut found);
    found.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(found.len() > 100, "the repository's files were not found");
    found
}

/// The files and folders at the top of the repository.
pub(super) fn top() -> Vec<String> {
    let entries = std::fs::read_dir(root()).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.retain(|name| !NOT_OURS.contains(&name.as_str()));
    names.sort();
    names
}

fn walk(root: &Path, folder: &Path, found: &mut Vec<Source>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.strip_prefix(root).unwrap().to_string_lossy().into_owned();
        if NOT_OURS.contains(&name.as_str()) {
            continue;
        }
        if path.is_dir() {
            walk(root, &path, found);
        } else if let Ok(text) = std::fs::read_to_string(&path) {
            found.push(Source { path: name, text });
        }
    }
}
