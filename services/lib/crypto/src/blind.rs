//! Finding and naming without knowing: blind indexes and pseudonyms.

use crate::Key32;
use crate::hash::hmac;

/// A blind index: HMAC-SHA-256 of a normalized value under a region's key, so that equal values are
/// found and nothing else is told. `domain` names the column, so that two columns never match.
#[must_use]
pub fn index(key: &Key32, domain: &str, normalized: &str) -> [u8; 32] {
    let mut message = Vec::with_capacity(8 + domain.len() + normalized.len());
    message.extend_from_slice(&(domain.len() as u64).to_be_bytes());
    message.extend_from_slice(domain.as_bytes());
    message.extend_from_slice(normalized.as_bytes());
    hmac(key, &message)
}

/// A pseudonym for the audit log: the first 128 bits of HMAC-SHA-256 under a key kept for this alone.
/// Once the key is gone, nothing links the pseudonym to the person (audit.md, "Entry").
#[must_use]
pub fn pseudonym(key: &Key32, bytes: &[u8]) -> [u8; 16] {
    let full = hmac(key, bytes);
    let mut short = [0; 16];
    short.copy_from_slice(&full[..16]);
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn domains_do_not_run_into_values() {
        let key = Key32::from_bytes(&[9; 32]);
        assert_ne!(index(&key, "email", "a@b"), index(&key, "emaila", "@b"));
        assert_ne!(index(&key, "email", "a@b"), index(&key, "phone", "a@b"));
        assert_eq!(index(&key, "email", "a@b"), index(&key, "email", "a@b"));
    }

    #[test]
    fn regions_do_not_match() {
        let (eu, us) = (Key32::from_bytes(&[1; 32]), Key32::from_bytes(&[2; 32]));
        assert_ne!(index(&eu, "email", "a@b"), index(&us, "email", "a@b"));
        assert_ne!(pseudonym(&eu, b"subject"), pseudonym(&us, b"subject"));
    }
}
