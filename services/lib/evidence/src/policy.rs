//! What must hold for a log to be believed: the policy a region signs about itself, and the policy an
//! auditor brings along.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use domicile_types::RegionId;
use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::invalid::Invalid;
use crate::keys::VerifierKey;
use crate::note::{Note, NoteSigner};

const WHAT: &str = "policy";
const TITLE: &str = "domicile/policy/v1";

/// What a region says of its own log, signed with its checkpoint key: by how many witnesses its
/// checkpoints are cosigned. A deployment without witnesses says so: quorum 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogPolicy {
    /// The log's origin.
    pub origin: String,
    /// How many witnesses must have cosigned a checkpoint.
    pub quorum: u32,
}

impl LogPolicy {
    /// Signs it.
    ///
    /// # Errors
    /// When the origin holds a control character.
    pub fn sign(&self, by: &NoteSigner<'_>) -> Result<Note, Invalid> {
        Note::sign(&format!("{TITLE}\n{}\nquorum {}\n", self.origin, self.quorum), by)
    }

    /// Reads a signed policy of the log whose key this is.
    ///
    /// # Errors
    /// When the note is malformed, not signed by the key, or another log's.
    pub fn verify(note: &str, log: &VerifierKey) -> Result<Self, Invalid> {
        let note = Note::parse(note)?;
        let (text, _) = note.verify(std::slice::from_ref(log))?;
        let lines: Vec<&str> = text.lines().collect();
        let [TITLE, origin, quorum] = lines.as_slice() else {
            return Err(Invalid::form(WHAT, "not a log's policy"));
        };
        let quorum = quorum.strip_prefix("quorum ").and_then(crate::checkpoint::decimal);
        let quorum = quorum.and_then(|number| u32::try_from(number).ok());
        if *origin != log.name() {
            return Err(Invalid::form(WHAT, "another log's"));
        }
        let quorum = quorum.ok_or(Invalid::form(WHAT, "the quorum does not fit"))?;
        Ok(Self { origin: (*origin).to_owned(), quorum })
    }
}

/// One region's two keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogKeys {
    /// The key that signs checkpoints; its name is the log's origin.
    pub checkpoint: VerifierKey,
    /// The key that signs statements.
    pub statement: VerifierKey,
}

/// What an auditor demands: a small JSON file, such as
/// `{"logs":{"eu":{"checkpoint":"…","statement":"…"}},"quorum":0}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// The pinned keys of each region.
    #[serde(deserialize_with = "once")]
    pub logs: BTreeMap<RegionId, LogKeys>,
    /// How many witnesses must have cosigned the newest checkpoint.
    pub quorum: u32,
    /// How old the newest entry may be, in hours; any age when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_age_hours: Option<u64>,
    /// How long a transfer may stay open after Released, in hours; 72 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settle_hours: Option<u64>,
}

impl Policy {
    /// Reads a policy file.
    ///
    /// # Errors
    /// When it is not a policy: unknown keys are refused.
    pub fn parse(json: &str) -> Result<Self, Invalid> {
        serde_json::from_str(json).map_err(|_| Invalid::form(WHAT, "not a policy file"))
    }

    /// The policy as a file.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default()
    }
}

/// Reads a map in which no name stands twice: of two pinned keys neither is the right one.
fn once<'de, D, K, V>(from: D) -> Result<BTreeMap<K, V>, D::Error>
where
    D: Deserializer<'de>,
    K: Deserialize<'de> + Ord,
    V: Deserialize<'de>,
{
    from.deserialize_map(Once(PhantomData))
}

struct Once<K, V>(PhantomData<(K, V)>);

impl<'de, K: Deserialize<'de> + Ord, V: Deserialize<'de>> Visitor<'de> for Once<K, V> {
    type Value = BTreeMap<K, V>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map in which no name stands twice")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut members: M) -> Result<Self::Value, M::Error> {
        let mut map = BTreeMap::new();
        while let Some((name, value)) = members.next_entry()? {
            if map.insert(name, value).is_some() {
                return Err(M::Error::custom("a name stands twice"));
            }
        }
        Ok(map)
    }
}
