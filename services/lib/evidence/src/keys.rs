//! Ed25519 public keys (RFC 8032) and their printed form.

use std::fmt;

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};

use crate::invalid::{Fault, Invalid};

/// The C2SP signed-note type byte of Ed25519.
const ED25519_TYPE: u8 = 0x01;

/// Signs; the private half stays with whoever implements this.
pub trait Signer: Send + Sync {
    /// The Ed25519 signature of `message`.
    fn sign(&self, message: &[u8]) -> [u8; 64];
    /// The public half.
    fn public(&self) -> PublicKey;
}

/// An Ed25519 public key.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    /// Wraps the 32 bytes of RFC 8032 §5.1.5.
    #[must_use]
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Checks a signature; `what` names the signed thing in the error.
    ///
    /// # Errors
    /// When the signature is not this key's over `message`.
    pub fn verify(&self, what: &'static str, message: &[u8], signature: &[u8]) -> Result<(), Invalid> {
        UnparsedPublicKey::new(&ED25519, &self.0)
            .verify(message, signature)
            .map_err(|_| Invalid::new(what, Fault::Signature))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", BASE64.encode(self.0))
    }
}

/// A named public key: what C2SP signed-note calls a verifier key, printed as `name+hash+key`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct VerifierKey {
    name: String,
    key: PublicKey,
}

impl VerifierKey {
    /// Names a key.
    ///
    /// # Errors
    /// When the name is empty, longer than 128 bytes or holds a space, a plus or a control character.
    pub fn new(name: &str, key: PublicKey) -> Result<Self, Invalid> {
        if valid_name(name) {
            Ok(Self { name: name.to_owned(), key })
        } else {
            Err(Invalid::form("verifier key", "the name does not fit"))
        }
    }

    /// Reads `name+hash+key`: the hash in eight hexadecimal digits, the key in base64.
    ///
    /// # Errors
    /// When the text is not of this form, the hash is not the key's or the algorithm is another.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let form = |why| Invalid::form("verifier key", why);
        let mut parts = text.splitn(3, '+');
        let (Some(name), Some(hash), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(form("not name+hash+key"));
        };
        let key = BASE64.decode(key).map_err(|_| form("the key is not base64"))?;
        let Some((&ED25519_TYPE, key)) = key.split_first() else {
            return Err(form("the algorithm is unknown"));
        };
        let key: [u8; 32] = key.try_into().map_err(|_| form("the key is not 32 bytes"))?;
        let parsed = Self::new(name, PublicKey(key))?;
        let same = hash == hex::encode(parsed.id());
        if same { Ok(parsed) } else { Err(form("the hash is not the key's")) }
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The key.
    #[must_use]
    pub const fn key(&self) -> &PublicKey {
        &self.key
    }

    /// The key id of C2SP signed-note.
    #[must_use]
    pub fn id(&self) -> [u8; 4] {
        key_id(&self.name, &self.key)
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut typed = vec![ED25519_TYPE];
        typed.extend_from_slice(&self.key.0);
        write!(f, "{}+{}+{}", self.name, hex::encode(self.id()), BASE64.encode(typed))
    }
}

impl std::str::FromStr for VerifierKey {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        Self::parse(text)
    }
}

impl TryFrom<String> for VerifierKey {
    type Error = Invalid;
    fn try_from(text: String) -> Result<Self, Invalid> {
        Self::parse(&text)
    }
}

impl From<VerifierKey> for String {
    fn from(key: VerifierKey) -> Self {
        key.to_string()
    }
}

/// SHA-256(name ‖ 0x0A ‖ 0x01 ‖ key), its first four bytes.
#[must_use]
pub fn key_id(name: &str, key: &PublicKey) -> [u8; 4] {
    let mut message = name.as_bytes().to_vec();
    message.extend_from_slice(&[b'\n', ED25519_TYPE]);
    message.extend_from_slice(&key.0);
    let [a, b, c, d, ..] = crate::sha256(&message);
    [a, b, c, d]
}

/// Whether a name may stand in a signature line.
#[must_use]
pub fn valid_name(name: &str) -> bool {
    let fits = |c: char| !c.is_whitespace() && !c.is_control() && c != '+';
    (1..=128).contains(&name.len()) && name.chars().all(fits)
}
