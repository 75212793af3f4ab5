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
