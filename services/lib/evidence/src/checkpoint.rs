//! Checkpoints (c2sp.org/tlog-checkpoint): a log's size and root as a signed note.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::invalid::Invalid;
use crate::keys::VerifierKey;
use crate::merkle::Hash;
use crate::note::{Note, NoteSigner};

const WHAT: &str = "checkpoint";

/// A log's tree head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The log's unique name.
    pub origin: String,
    /// How many entries the log has.
    pub size: u64,
    /// The RFC 6962 root at this size.
    pub root: Hash,
}

impl Checkpoint {
    /// The note text.
    #[must_use]
    pub fn text(&self) -> String {
        format!("{}\n{}\n{}\n", self.origin, self.size, BASE64.encode(self.root))
    }

    /// Reads a note text: origin, size, root; extension lines are passed over.
    ///
    /// # Errors
    /// When the text is not of the format.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let form = |why| Invalid::form(WHAT, why);
        let body = text.strip_suffix('\n').ok_or(form("no final newline"))?;
        let mut lines = body.split('\n');
        let (Some(origin), Some(size), Some(root)) = (lines.next(), lines.next(), lines.next()) else {
            return Err(form("fewer than three lines"));
        };
        if origin.is_empty() || lines.any(str::is_empty) {
            return Err(form("an empty line"));
        }
        let size = decimal(size).ok_or(form("the size does not fit"))?;
        let root = BASE64.decode(root).ok().and_then(|root| root.try_into().ok());
        Ok(Self { origin: origin.to_owned(), size, root: root.ok_or(form("the root does not fit"))? })
    }

    /// Signs it.
    ///
    /// # Errors
    /// When the origin holds a control character.
    pub fn sign(&self, by: &NoteSigner<'_>) -> Result<Note, Invalid> {
        Note::sign(&self.text(), by)
    }

    /// Reads a signed checkpoint of the log whose key this is; the key's name is the log's origin.
    ///
    /// # Errors
    /// When the note is malformed, not signed by the key, or another log's.
    pub fn verify(note: &str, log: &VerifierKey) -> Result<Self, Invalid> {
        let note = Note::parse(note)?;
        let (text, _) = note.verify(std::slice::from_ref(log))?;
        let checkpoint = Self::parse(text)?;
        if checkpoint.origin == log.name() {
            Ok(checkpoint)
        } else {
            Err(Invalid::form(WHAT, "another log's"))
        }
    }
}

/// Reads a decimal number in its one form: digits alone, no leading zero.
pub(crate) fn decimal(text: &str) -> Option<u64> {
    let plain = text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| plain)
}
