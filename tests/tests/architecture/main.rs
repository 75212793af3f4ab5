//! The rules of docs/architecture.md, held by looking at the workspace itself: layers, owners of vendor
//! crates, licences and banned crates, lints, and what a committed file may hold. Each rule is a function
//! over plain values, and each is shown to fail on a wrong one.

#![expect(clippy::unwrap_used, reason = "a test that cannot look at the repository fails")]

mod dependencies;
mod files;
mod layers;
mod manifests;
mod sources;
mod supply;
mod vendors;
mod workspace;

/// Fails with every violation at once.
fn none(violations: &[String]) {
    assert!(violations.is_empty(), "\n  {}\n", violations.join("\n  "));
}
