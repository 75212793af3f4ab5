//! Session tokens and invitation codes: 256 random bits, kept as their SHA-256 only.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use domicile_types::Ctx;
use zeroize::Zeroizing;

/// Characters of a token or code: 32 bytes in base64url.
const LENGTH: usize = 43;

/// A fresh secret: its text, shown once, and the hash that is kept.
pub(crate) fn fresh(ctx: &Ctx) -> (String, [u8; 32]) {
    let bytes: Zeroizing<[u8; 32]> = Zeroizing::new(ctx.random());
    let text = BASE64.encode(*bytes);
    let hash = domicile_crypto::sha256(text.as_bytes());
    (text, hash)
}

/// The hash of a secret somebody shows; `None` when it cannot be one of ours.
pub(crate) fn hash(shown: &str) -> Option<[u8; 32]> {
    let shown = shown.trim();
    let ours =
        shown.len() == LENGTH && shown.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
    ours.then(|| domicile_crypto::sha256(shown.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fresh_secret_is_found_by_what_is_shown() {
        let (text, kept) = fresh(&Ctx::system());
        assert_eq!(hash(&text), Some(kept));
        assert_eq!(hash(&format!(" {text}\n")), Some(kept), "people paste blanks along");
        assert_ne!(fresh(&Ctx::system()).0, text);
    }

    #[test]
    fn what_cannot_be_a_secret_is_not_looked_up() {
        for shown in ["", "short", &"a".repeat(44), &"é".repeat(22), &"a".repeat(1 << 20)] {
            assert_eq!(hash(shown), None);
        }
    }
}
