//! SHA-256 and HMAC-SHA-256.

use aws_lc_rs::{digest, hmac as mac};

use crate::Key32;

/// SHA-256 of the bytes (FIPS 180-4).
#[must_use]
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    sha256_parts(&[bytes])
}

/// A running SHA-256, for content that comes in pieces.
pub struct Sha256(digest::Context);

impl Default for Sha256 {
    fn default() -> Self {
        Self(digest::Context::new(&digest::SHA256))
    }
}

impl Sha256 {
    /// Takes in the next piece.
    pub fn update(&mut self, piece: &[u8]) {
        self.0.update(piece);
    }

    /// The digest of all pieces one after the other.
    #[must_use]
    pub fn finish(self) -> [u8; 32] {
        fixed(self.0.finish().as_ref())
    }
}

/// SHA-256 of the parts one after the other. Nothing separates them: the caller's parts must be of
/// fixed length or length-prefixed.
#[must_use]
pub fn sha256_parts(parts: &[&[u8]]) -> [u8; 32] {
    let mut running = Sha256::default();
    parts.iter().for_each(|part| running.update(part));
    running.finish()
}

/// HMAC-SHA-256 of the bytes (RFC 2104).
#[must_use]
pub fn hmac(key: &Key32, bytes: &[u8]) -> [u8; 32] {
    let key = mac::Key::new(mac::HMAC_SHA256, key.expose());
    fixed(mac::sign(&key, bytes).as_ref())
}

/// The first `N` bytes; both hashes above give 32, so nothing is ever padded.
fn fixed<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut out = [0; N];
    out.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sha256_of_abc() {
        // FIPS 180-2, appendix B.1.
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(hex::encode(sha256(b"abc")), expected);
        assert_eq!(hex::encode(sha256_parts(&[b"a", b"", b"bc"])), expected);
    }

    #[test]
    fn hmac_depends_on_key_and_bytes() {
        let (one, two) = (Key32::from_bytes(&[1; 32]), Key32::from_bytes(&[2; 32]));
        assert_eq!(hmac(&one, b"x"), hmac(&one, b"x"));
        assert_ne!(hmac(&one, b"x"), hmac(&two, b"x"));
        assert_ne!(hmac(&one, b"x"), hmac(&one, b"y"));
    }
}
