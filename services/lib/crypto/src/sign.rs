//! Ed25519 signing keys (RFC 8032).

use std::fmt;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use domicile_types::{Code, Ctx, Error, Result};
use zeroize::Zeroizing;

/// An Ed25519 private key. `Debug` shows its public half.
pub struct SigningKey {
    pair: Ed25519KeyPair,
    public: [u8; 32],
}

impl SigningKey {
    /// A fresh key, and its PKCS#8 form to be wrapped and stored.
    ///
    /// # Errors
    /// [`Code::Internal`] when the library refuses its own key.
    pub fn generate(ctx: &Ctx) -> Result<(Self, Zeroizing<Vec<u8>>)> {
        let mut seed = Zeroizing::new([0_u8; 32]);
        ctx.rng.fill(seed.as_mut_slice());
        let pair = Ed25519KeyPair::from_seed_unchecked(seed.as_slice())
            .map_err(|_| Error::new(Code::Internal).at("signing key"))?;
        let document = pair.to_pkcs8().map_err(|_| Error::new(Code::Internal).at("signing key"))?;
        let pkcs8 = Zeroizing::new(document.as_ref().to_vec());
        Ok((Self::from_pair(pair)?, pkcs8))
    }

    /// A key from its PKCS#8 form.
    ///
    /// # Errors
    /// [`Code::KeyDenied`] when the bytes are no Ed25519 key.
    pub fn from_pkcs8(pkcs8: &[u8]) -> Result<Self> {
        let pair =
            Ed25519KeyPair::from_pkcs8(pkcs8).map_err(|_| Error::new(Code::KeyDenied).at("signing key"))?;
        Self::from_pair(pair)
    }

    fn from_pair(pair: Ed25519KeyPair) -> Result<Self> {
        let public: [u8; 32] = pair
            .public_key()
            .as_ref()
            .try_into()
            .map_err(|_| Error::new(Code::Internal).at("signing key"))?;
        Ok(Self { pair, public })
    }

    /// Signs the bytes.
    #[must_use]
    pub fn sign(&self, bytes: &[u8]) -> [u8; 64] {
        let mut out = [0; 64];
        // An Ed25519 signature has 64 bytes, so this fills the whole.
        out.iter_mut().zip(self.pair.sign(bytes).as_ref()).for_each(|(to, from)| *to = *from);
        out
    }

    /// The public key.
    #[must_use]
    pub const fn public(&self) -> [u8; 32] {
        self.public
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey").field("public", &self.public).finish_non_exhaustive()
    }
}

/// Whether the signature is this public key's over the bytes.
#[must_use]
pub fn verify(public: &[u8; 32], bytes: &[u8], signature: &[u8]) -> bool {
    UnparsedPublicKey::new(&ED25519, public).verify(bytes, signature).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_comes_back_from_its_pkcs8_form() {
        let (key, pkcs8) = SigningKey::generate(&Ctx::system()).unwrap();
        let again = SigningKey::from_pkcs8(&pkcs8).unwrap();
        assert_eq!(key.public(), again.public());
        assert_eq!(key.sign(b"statement"), again.sign(b"statement"));
        assert!(verify(&key.public(), b"statement", &again.sign(b"statement")));
    }

    #[test]
    fn signs_as_the_rfc_does() {
        // RFC 8032 §7.1, test 2, in the PKCS#8 form of RFC 8410 §7.
        let seed = "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb";
        let pkcs8 = hex::decode(format!("302e020100300506032b657004220420{seed}")).unwrap();
        let key = SigningKey::from_pkcs8(&pkcs8).unwrap();
        let public = "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c";
        let signature = "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da\
                         085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00";
        assert_eq!(hex::encode(key.public()), public);
        assert_eq!(hex::encode(key.sign(&[0x72])), signature);
    }

    #[test]
    fn altered_bytes_signatures_and_keys_do_not_verify() {
        let ctx = Ctx::system();
        let (key, _) = SigningKey::generate(&ctx).unwrap();
        let (other, _) = SigningKey::generate(&ctx).unwrap();
        let signature = key.sign(b"statement");
        assert!(!verify(&key.public(), b"statemenT", &signature));
        assert!(!verify(&other.public(), b"statement", &signature));
        for at in 0..signature.len() {
            let mut bad = signature;
            bad[at] ^= 1;
            assert!(!verify(&key.public(), b"statement", &bad));
        }
        assert!(!verify(&key.public(), b"statement", &signature[..63]));
    }

    #[test]
    fn what_is_no_key_is_refused() {
        for bad in [&b""[..], b"not a key", &[0; 48]] {
            assert_eq!(SigningKey::from_pkcs8(bad).unwrap_err().code(), Code::KeyDenied);
        }
    }
}
