//! AES-256-GCM with a random nonce: `nonce (12) || ciphertext || tag (16)`.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use domicile_types::{Code, Ctx, Error, Result};
use zeroize::Zeroizing;

use crate::Key32;

/// Bytes a seal adds: the nonce and the tag.
pub const OVERHEAD: usize = NONCE_LEN + TAG_LEN;

/// Bytes of an AES-GCM tag.
pub(crate) const TAG_LEN: usize = 16;

/// Seals under a fresh random 96-bit nonce. A key may be used 2^28 times at most (NIST SP 800-38D
/// §8.3 with a wide margin); the keyring counts.
///
/// # Errors
/// [`Code::TooLarge`] past AES-GCM's bound of 64 GiB a message; nothing else fails.
pub fn seal(key: &Key32, ctx: &Ctx, aad: &[u8], plain: &[u8]) -> Result<Vec<u8>> {
    let nonce: [u8; NONCE_LEN] = ctx.random();
    let mut out = Vec::with_capacity(plain.len() + OVERHEAD);
    out.extend_from_slice(&nonce);
    out.extend_from_slice(plain);
    let tag = cipher(key)?
        .seal_in_place_separate_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(aad),
            out.get_mut(NONCE_LEN..).unwrap_or_default(),
        )
        .map_err(|_| Error::new(Code::TooLarge).at("plaintext"))?;
    out.extend_from_slice(tag.as_ref());
    Ok(out)
}

/// Opens what [`seal`] made with the same key and associated data.
///
/// # Errors
/// [`Code::ContentDamaged`] for any other bytes, key or associated data.
pub fn open(key: &Key32, aad: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>> {
    let (nonce, body) = sealed.split_first_chunk::<NONCE_LEN>().ok_or_else(damaged)?;
    open_with(key, *nonce, aad, body).map_err(|_| damaged())
}

fn damaged() -> Error {
    Error::new(Code::ContentDamaged)
}

pub(crate) fn cipher(key: &Key32) -> Result<LessSafeKey> {
    let unbound =
        UnboundKey::new(&AES_256_GCM, key.expose()).map_err(|_| Error::new(Code::Internal).at("cipher"))?;
    Ok(LessSafeKey::new(unbound))
}

/// Seals under a nonce the caller guarantees unique for the key; gives ciphertext and tag alone.
pub(crate) fn seal_with(key: &Key32, nonce: [u8; NONCE_LEN], aad: &[u8], plain: &[u8]) -> Result<Vec<u8>> {
    let mut out = Vec::with_capacity(plain.len() + TAG_LEN);
    out.extend_from_slice(plain);
    cipher(key)?
        .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(aad), &mut out)
        .map_err(|_| Error::new(Code::TooLarge).at("plaintext"))?;
    Ok(out)
}

/// Opens ciphertext and tag under a given nonce. The error says nothing: the caller names it.
pub(crate) fn open_with(
    key: &Key32,
    nonce: [u8; NONCE_LEN],
    aad: &[u8],
    body: &[u8],
) -> Result<Zeroizing<Vec<u8>>, ()> {
    let mut buffer = Zeroizing::new(body.to_vec());
    let cipher = cipher(key).map_err(drop)?;
    let length = cipher
        .open_in_place(Nonce::assume_unique_for_key(nonce), Aad::from(aad), &mut buffer)
        .map_err(drop)?
        .len();
    buffer.truncate(length);
    Ok(buffer)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(result: Result<Zeroizing<Vec<u8>>>) -> Code {
        result.unwrap_err().code()
    }

    #[test]
    fn opens_what_it_sealed() {
        let (ctx, key) = (Ctx::system(), Key32::from_bytes(&[3; 32]));
        for plain in [&b""[..], b"x", &[5; 10_000]] {
            let sealed = seal(&key, &ctx, b"place", plain).unwrap();
            assert_eq!(sealed.len(), plain.len() + OVERHEAD);
            assert_eq!(open(&key, b"place", &sealed).unwrap().as_slice(), plain);
        }
    }

    #[test]
    fn the_same_text_never_looks_the_same() {
        let (ctx, key) = (Ctx::system(), Key32::from_bytes(&[3; 32]));
        assert_ne!(seal(&key, &ctx, b"", b"x").unwrap(), seal(&key, &ctx, b"", b"x").unwrap());
    }

    #[test]
    fn any_changed_byte_or_cut_is_damage() {
        let (ctx, key) = (Ctx::system(), Key32::from_bytes(&[3; 32]));
        let sealed = seal(&key, &ctx, b"place", b"a note").unwrap();
        for at in 0..sealed.len() {
            for bit in 0..8 {
                let mut bad = sealed.clone();
                bad[at] ^= 1 << bit;
                assert_eq!(code(open(&key, b"place", &bad)), Code::ContentDamaged);
            }
            assert_eq!(code(open(&key, b"place", &sealed[..at])), Code::ContentDamaged);
            assert_eq!(code(open(&key, b"place", &sealed[at + 1..])), Code::ContentDamaged);
        }
    }

    #[test]
    fn another_key_or_place_does_not_open() {
        let (ctx, key) = (Ctx::system(), Key32::from_bytes(&[3; 32]));
        let sealed = seal(&key, &ctx, b"place", b"a note").unwrap();
        assert_eq!(code(open(&Key32::from_bytes(&[4; 32]), b"place", &sealed)), Code::ContentDamaged);
        assert_eq!(code(open(&key, b"places", &sealed)), Code::ContentDamaged);
        assert_eq!(code(open(&key, b"", &sealed)), Code::ContentDamaged);
    }

    #[test]
    fn agrees_with_the_published_vector() {
        // The GCM specification (McGrew, Viega), test case 14: zero key, zero nonce, 16 zero bytes.
        let sealed = seal_with(&Key32::from_bytes(&[0; 32]), [0; NONCE_LEN], b"", &[0; 16]).unwrap();
        let expected = "cea7403d4d606b6e074ec5d3baf39d18d0d1c8a799996bf0265b98b5d48ab919";
        assert_eq!(hex::encode(sealed), expected);
    }
}
