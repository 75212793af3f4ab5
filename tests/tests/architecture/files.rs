//! Where files lie.

use super::none;
use super::workspace::top;

/// What may stand at the top of the repository.
const TOP: &[&str] = &[
    // Folders.
    ".ci",
    ".config",
    "docs",
    "infra",
    "proto",
    "regions",
    "services",
    "terraform",
    "tests",
    // Files.
    ".gitignore",
    "CHANGELOG.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "README.md",
    "clippy.toml",
    "deny.toml",
    "justfile",
    "rustfmt.toml",
];

fn unexpected(names: &[String]) -> Vec<String> {
    let names = names.iter().filter(|name| !TOP.contains(&name.as_str()));
    names.map(|name| format!("{name} does not belong at the top")).collect()
}

#[test]
fn the_top_holds_what_the_readme_names() {
    none(&unexpected(&top()));
}

#[test]
fn a_strange_file_is_found() {
    assert_eq!(unexpected(&["notes.txt".to_owned(), "docs".to_owned()]).len(), 1);
}
