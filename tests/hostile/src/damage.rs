//! Wrong bytes, and the answers to them.

use std::collections::BTreeMap;

use domicile_types::{Code, Error};

/// Patterns each byte is turned by: its lowest bit, its highest, all of them.
pub const PATTERNS: [u8; 3] = [0x01, 0x80, 0xFF];

/// Every way in which one value is made wrong: each byte turned by each of [`PATTERNS`], cut at every
/// length, one byte longer at either end.
pub fn every(bytes: &[u8], mut wrong: impl FnMut(&'static str, Vec<u8>)) {
    for (at, pattern) in (0..bytes.len()).flat_map(|at| PATTERNS.map(|pattern| (at, pattern))) {
        let mut changed = bytes.to_vec();
        changed[at] ^= pattern;
        wrong("flipped", changed);
    }
    for length in 0..bytes.len() {
        wrong("cut", bytes[..length].to_vec());
    }
    for byte in [0x00, 0xFF] {
        wrong("longer", [bytes, &[byte]].concat());
        wrong("longer", [&[byte], bytes].concat());
    }
}

/// Every byte of a number turned.
pub fn numbers(number: u64, bytes: u32, mut wrong: impl FnMut(&'static str, u64)) {
    for (at, pattern) in (0..bytes).flat_map(|at| PATTERNS.map(|pattern| (at, pattern))) {
        wrong("flipped", number ^ (u64::from(pattern) << (8 * at)));
    }
}

/// What was answered to how many wrong values.
#[derive(Default)]
pub struct Tally(BTreeMap<(String, &'static str), BTreeMap<&'static str, usize>>);

impl Tally {
    /// Notes an answer.
    ///
    /// # Panics
    /// When the wrong value was taken, or refused with another code than these.
    pub fn refused<T>(&mut self, what: &str, how: &'static str, answer: Result<T, Error>, codes: &[Code]) {
        let code = match answer {
            Ok(_) => panic!("{what}, {how}: taken"),
            Err(error) => error.code(),
        };
        assert!(codes.contains(&code), "{what}, {how}: {}", code.as_str());
        *self.0.entry((what.to_owned(), how)).or_default().entry(code.as_str()).or_default() += 1;
    }

    /// How many answers it has.
    #[must_use]
    pub fn total(&self) -> usize {
        self.0.values().flat_map(BTreeMap::values).sum()
    }

    /// The rows of a table: what, how, how many, which codes.
    #[must_use]
    pub fn table(&self) -> String {
        let mut out = String::new();
        for ((what, how), codes) in &self.0 {
            let count: usize = codes.values().sum();
            let codes: Vec<String> = codes.iter().map(|(code, count)| format!("{code} ({count})")).collect();
            out.push_str(&format!("| {what} | {how} | {count} | {} |\n", codes.join(", ")));
        }
        out
    }
}
