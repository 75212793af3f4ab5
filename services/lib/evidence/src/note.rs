//! Signed notes (c2sp.org/signed-note): text that one or more keys have signed.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::invalid::{Fault, Invalid};
use crate::keys::{Signer, VerifierKey};

const WHAT: &str = "note";
/// The most bytes a note may have.
pub const MAX_BYTES: usize = 64 * 1024;
/// The most signatures a note may have; the format asks for at least 16.
pub const MAX_SIGNATURES: usize = 64;
const DASH: &str = "\u{2014} ";

/// A key that signs notes under a name.
pub struct NoteSigner<'a> {
    name: &'a VerifierKey,
    signer: &'a dyn Signer,
}

impl<'a> NoteSigner<'a> {
    /// Pairs a signer with its printed key.
    ///
    /// # Errors
    /// When the signer's public half is not the named key.
    pub fn new(name: &'a VerifierKey, signer: &'a dyn Signer) -> Result<Self, Invalid> {
        if signer.public() == *name.key() {
            Ok(Self { name, signer })
        } else {
            Err(Invalid::form("verifier key", "not the signer's key"))
        }
    }
}

/// One signature line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoteSignature {
    /// The key's name.
    pub name: String,
    /// The key's id.
    pub id: [u8; 4],
    /// The signature's bytes, in the key's own format.
    pub bytes: Vec<u8>,
}

/// A note: the text, with its final newline, and its signatures, none of them checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    text: String,
    signatures: Vec<NoteSignature>,
}

impl Note {
    /// Signs a text.
    ///
    /// # Errors
    /// When the text does not end in a newline, or holds a control character.
    pub fn sign(text: &str, by: &NoteSigner<'_>) -> Result<Self, Invalid> {
        if !valid_text(text) {
            return Err(Invalid::form(WHAT, "the text does not fit"));
        }
        let signature = NoteSignature {
            name: by.name.name().to_owned(),
            id: by.name.id(),
            bytes: by.signer.sign(text.as_bytes()).to_vec(),
        };
        Ok(Self { text: text.to_owned(), signatures: vec![signature] })
    }

    /// Reads a note. Nothing in it is to be trusted before [`Note::verify`].
    ///
    /// # Errors
    /// When it is not of the format, too long or has too many signatures.
    pub fn parse(note: &str) -> Result<Self, Invalid> {
        if note.len() > MAX_BYTES {
            return Err(Invalid::new(WHAT, Fault::TooLarge));
        }
        let at = note.rfind("\n\n").ok_or(Invalid::form(WHAT, "no signatures"))?;
        let (text, rest) = note.split_at_checked(at + 1).ok_or(Invalid::form(WHAT, "no signatures"))?;
        let lines = rest.strip_prefix('\n').and_then(|rest| rest.strip_suffix('\n'));
        let lines = lines.ok_or(Invalid::form(WHAT, "no signatures"))?;
        if !valid_text(text) {
            return Err(Invalid::form(WHAT, "the text does not fit"));
        }
        let signatures: Vec<_> = lines.split('\n').map(signature).collect::<Result<_, _>>()?;
        if signatures.len() > MAX_SIGNATURES {
            return Err(Invalid::new(WHAT, Fault::TooLarge));
        }
        Ok(Self { text: text.to_owned(), signatures })
    }

    /// The text if one of `keys` has signed it, with the keys that have.
    ///
    /// # Errors
    /// When no known key has signed, or the signature of a known key does not verify. Signatures of
    /// unknown keys are ignored, as the format demands.
    pub fn verify<'k>(&self, keys: &'k [VerifierKey]) -> Result<(&str, Vec<&'k VerifierKey>), Invalid> {
        let mut by = Vec::new();
        for signature in &self.signatures {
            let known = keys.iter().find(|key| key.name() == signature.name && key.id() == signature.id);
            let Some(key) = known else { continue };
            key.key().verify(WHAT, self.text.as_bytes(), &signature.bytes)?;
            if !by.contains(&key) {
                by.push(key);
            }
        }
        if by.is_empty() { Err(Invalid::new(WHAT, Fault::Signature)) } else { Ok((&self.text, by)) }
    }

    /// The text, unchecked.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The signatures, unchecked.
    #[must_use]
    pub fn signatures(&self) -> &[NoteSignature] {
        &self.signatures
    }
}

impl std::fmt::Display for Note {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "{}", self.text)?;
        for signature in &self.signatures {
            let mut bytes = signature.id.to_vec();
            bytes.extend_from_slice(&signature.bytes);
            writeln!(f, "{DASH}{} {}", signature.name, BASE64.encode(bytes))?;
        }
        Ok(())
    }
}

fn valid_text(text: &str) -> bool {
    text.ends_with('\n') && text.bytes().all(|byte| byte == b'\n' || byte >= 0x20)
}

fn signature(line: &str) -> Result<NoteSignature, Invalid> {
    let form = Invalid::form(WHAT, "a signature line does not fit");
    let (name, encoded) = line.strip_prefix(DASH).and_then(|rest| rest.split_once(' ')).ok_or(form)?;
    let bytes = BASE64.decode(encoded).map_err(|_| form)?;
    let (id, bytes) = bytes.split_first_chunk::<4>().ok_or(form)?;
    if !crate::keys::valid_name(name) || bytes.is_empty() {
        return Err(form);
    }
    Ok(NoteSignature { name: name.to_owned(), id: *id, bytes: bytes.to_vec() })
}
