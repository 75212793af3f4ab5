//! Whether an executable has failpoints in it, by the texts that only they need.

use std::path::Path;

use aho_corasick::AhoCorasick;

use crate::world::Outcome;

/// Texts of every kind of failpoint: the variable, the process that ends and the one that stands still, named
/// points, and the names of effects that nothing else uses.
pub const TEXTS: [&str; 8] = [
    "DOMICILE_FAULTS",
    "a test ends the process here",
    "a test holds the process here",
    "released.before_commit",
    "store.commit.before_effect",
    "sequencer.signed.before_effect",
    "ask.open_copy",
    "peer.key_release",
];

/// Those of the texts that are in the file.
///
/// # Errors
/// When it cannot be read.
pub fn found(executable: &Path) -> Outcome<Vec<&'static str>> {
    let content = std::fs::read(executable)?;
    let texts = AhoCorasick::new(TEXTS)?;
    let mut found: Vec<&'static str> =
        texts.find_iter(&content).filter_map(|hit| TEXTS.get(hit.pattern().as_usize()).copied()).collect();
    found.sort_unstable();
    found.dedup();
    Ok(found)
}
