//! The offer: what would move, under which terms, in which words. Its digest is what consent binds.

use std::collections::BTreeMap;

use domicile_crypto::sha256;
use domicile_transfer_protocol::Digest;
use domicile_types::{Code, Error, RegionId, Result, Timestamp, TransferId};
use serde::{Deserialize, Serialize};

/// An offer, kept with the transfer from Preflighted on. Its canonical bytes are its JSON with keys in
/// the order of the fields and maps by key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// The transfer.
    pub transfer: TransferId,
    /// The subject's counter of transfers.
    pub attempt: u64,
    /// From.
    pub source: RegionId,
    /// To.
    pub destination: RegionId,
    /// The legal mechanism.
    pub mechanism: String,
    /// By kind: versions of items and payload bytes.
    pub kinds: BTreeMap<String, KindOffer>,
    /// Objects.
    pub objects: u64,
    /// Their bytes.
    pub object_bytes: u64,
    /// Expected time of the whole move, in milliseconds.
    pub expected_ms: u64,
    /// Expected time during which writes wait, in milliseconds.
    pub expected_freeze_ms: u64,
    /// Until when the offer may be accepted.
    pub expires_at: Timestamp,
    /// The version of the text.
    pub notice_version: String,
    /// The text by language.
    pub notices: BTreeMap<String, String>,
    /// The language shown when none is asked for.
    pub default_locale: String,
    /// What stays behind at the source, one sentence each.
    pub stays_behind: Vec<String>,
    /// Whether the record holds psychotherapy notes, which take their own authorization.
    pub psychotherapy: bool,
}

/// How much of a kind would move.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KindOffer {
    /// Versions of items.
    pub rows: u64,
    /// Payload bytes.
    pub bytes: u64,
}

impl Offer {
    /// The canonical text.
    ///
    /// # Errors
    /// [`Code::Internal`] if it cannot be written.
    pub fn canonical(&self) -> Result<String> {
        serde_json::to_string(self).map_err(|cause| Error::new(Code::Internal).because(cause))
    }

    /// Reads the canonical text.
    ///
    /// # Errors
    /// [`Code::Internal`] when the kept text is damaged.
    pub fn read(text: &str) -> Result<Self> {
        serde_json::from_str(text).map_err(|cause| Error::new(Code::Internal).because(cause))
    }

    /// SHA-256 of the canonical text.
    ///
    /// # Errors
    /// As [`Self::canonical`].
    pub fn digest(&self) -> Result<Digest> {
        Ok(Digest(sha256(self.canonical()?.as_bytes())))
    }

    /// The text in a language, or in the default one.
    #[must_use]
    pub fn notice(&self, locale: &str) -> (&str, &str) {
        let wanted = self.notices.get_key_value(locale);
        let known = wanted.or_else(|| self.notices.get_key_value(&self.default_locale));
        known.map_or(("", ""), |(locale, text)| (locale, text))
    }
}
