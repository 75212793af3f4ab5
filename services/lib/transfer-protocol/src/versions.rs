//! What a region speaks and understands: exchanged at preflight, so that a record goes only where all of it
//! can be read.

use std::collections::BTreeMap;

use domicile_types::{Code, Error, KINDS, Result};

/// The version of the protocol between regions; refused at preflight when the other side lacks it.
pub const PROTOCOL_VERSION: u16 = 1;

/// Names at most, in one answer.
const NAMED: usize = 32;

/// What a region speaks and understands, or what a record needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Versions {
    /// The version of the protocol.
    pub protocol: u32,
    /// Kinds of items with the highest schema version of each.
    pub kinds: BTreeMap<String, u32>,
}

impl Versions {
    /// Those of this release.
    #[must_use]
    pub fn here() -> Self {
        let kinds = KINDS.iter().map(|(kind, schema)| ((*kind).to_owned(), u32::from(*schema)));
        Self { protocol: PROTOCOL_VERSION.into(), kinds: kinds.collect() }
    }

    /// What a record in this release's hands needs of the region it goes to.
    #[must_use]
    pub fn needed(kinds: BTreeMap<String, u32>) -> Self {
        Self { protocol: PROTOCOL_VERSION.into(), kinds }
    }

    /// What this region lacks of what is needed, each as a place of [`Code::DestinationRefuses`]; empty when
    /// nothing is missing. At most 32 of them. A name that no kind can have is not repeated.
    #[must_use]
    pub fn lacks(&self, needed: &Self) -> Vec<String> {
        let mut lacks = Vec::new();
        if self.protocol != needed.protocol {
            lacks.push(format!("protocol version {}, not {}", self.protocol, needed.protocol));
        }
        for (kind, schema) in &needed.kinds {
            match self.kinds.get(kind) {
                Some(known) if schema <= known => {}
                Some(known) => lacks.push(format!("kind {kind} up to version {known}, not {schema}")),
                None if plain(kind) => lacks.push(format!("no kind {kind}")),
                None => lacks.push("no such kind".to_owned()),
            }
        }
        lacks.truncate(NAMED);
        lacks
    }
}

/// Whether a word can be a kind's name: what a peer sends is shown to people.
fn plain(kind: &str) -> bool {
    (1..=64).contains(&kind.len()) && kind.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
}

/// Refuses a signed Preflighted of another version than this region speaks.
///
/// # Errors
/// [`Code::DestinationRefuses`].
pub(crate) fn spoken(protocol: u16) -> Result<()> {
    if protocol == PROTOCOL_VERSION {
        return Ok(());
    }
    Err(Error::new(Code::DestinationRefuses).at(format!("protocol version {protocol}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(of: &[(&str, u32)]) -> Versions {
        Versions::needed(of.iter().map(|(kind, schema)| ((*kind).to_owned(), *schema)).collect())
    }

    #[test]
    fn a_release_lacks_nothing_of_its_own() {
        assert_eq!(Versions::here().lacks(&Versions::here()), Vec::<String>::new());
        assert_eq!(Versions::here().lacks(&kinds(&[])), Vec::<String>::new());
    }

    #[test]
    fn what_is_missing_is_named() {
        let next = Versions { protocol: 2, ..kinds(&[("note", 1)]) };
        assert_eq!(Versions::here().lacks(&next), ["protocol version 1, not 2"]);
        assert_eq!(next.lacks(&kinds(&[("note", 1)])), ["protocol version 2, not 1"]);
        let newer = kinds(&[("goal", 1), ("hologram", 1), ("note", 2)]);
        assert_eq!(Versions::here().lacks(&newer), ["no kind hologram", "kind note up to version 1, not 2"]);
        assert_eq!(Versions::here().lacks(&kinds(&[("<b>\r\n", 1)])), ["no such kind"]);
    }

    #[test]
    fn an_answer_is_bounded() {
        let many = (0..1_000).map(|at| ("a".repeat(1 + at % 60) + &"b".repeat(at / 60), 1)).collect();
        assert_eq!(Versions::here().lacks(&Versions::needed(many)).len(), NAMED);
    }

    #[test]
    fn a_statement_of_another_version_is_refused() {
        assert!(spoken(PROTOCOL_VERSION).is_ok());
        assert_eq!(spoken(PROTOCOL_VERSION + 1).map_err(|error| error.code()), Err(Code::DestinationRefuses));
    }
}
