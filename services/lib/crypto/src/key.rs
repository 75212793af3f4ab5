//! Keys in memory.

use std::fmt;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use domicile_types::{Code, Ctx, Error, Result};
use zeroize::{Zeroize, ZeroizeOnDrop};

/// A 256-bit key. It lives on the heap, so that moving it copies nothing, is wiped when dropped, and
/// is compared in constant time; its `Debug` shows no bit of it.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Key32(Box<[u8; 32]>);

impl Key32 {
    /// A fresh random key.
    #[must_use]
    pub fn generate(ctx: &Ctx) -> Self {
        let mut key = Self(Box::new([0; 32]));
        ctx.rng.fill(key.0.as_mut_slice());
        key
    }

    /// A key from bytes made elsewhere. The caller wipes its own copy.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; 32]) -> Self {
        Self(Box::new(*bytes))
    }

    /// A key from 32 unwrapped bytes. The caller wipes its own copy.
    ///
    /// # Errors
    /// [`Code::KeyDenied`] for any other length.
    pub fn from_slice(bytes: &[u8]) -> Result<Self> {
        let bytes: &[u8; 32] = bytes.try_into().map_err(|_| Error::new(Code::KeyDenied).at("key length"))?;
        Ok(Self::from_bytes(bytes))
    }

    /// The key's bytes, for the primitive that uses them.
    #[must_use]
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

impl PartialEq for Key32 {
    fn eq(&self, other: &Self) -> bool {
        verify_slices_are_equal(self.0.as_slice(), other.0.as_slice()).is_ok()
    }
}

impl Eq for Key32 {}

impl fmt::Debug for Key32 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key32")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_nothing_of_the_key() {
        let key = Key32::from_bytes(&[0xAB; 32]);
        assert_eq!(format!("{key:?}"), "Key32");
    }

    #[test]
    fn only_32_bytes_are_a_key() {
        assert_eq!(Key32::from_slice(&[0; 31]).unwrap_err().code(), Code::KeyDenied);
        assert_eq!(Key32::from_slice(&[0; 33]).unwrap_err().code(), Code::KeyDenied);
        assert_eq!(Key32::from_slice(&[7; 32]).unwrap(), Key32::from_bytes(&[7; 32]));
    }

    #[test]
    fn fresh_keys_differ() {
        let ctx = Ctx::system();
        assert_ne!(Key32::generate(&ctx), Key32::generate(&ctx));
    }
}
