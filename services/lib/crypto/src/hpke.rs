//! Hybrid public-key encryption, suite 1 (RFC 9180): base mode, DHKEM(P-521, HKDF-SHA512),
//! HKDF-SHA512, AES-256-GCM. The travel key crosses under this, once, in the key release.

use aws_lc_rs::agreement::{ECDH_P521, PrivateKey};
use domicile_types::{Code, Error, Result};
use rustls::crypto::aws_lc_rs::hpke::DH_KEM_P521_HKDF_SHA512_AES_256 as SUITE;
use rustls::crypto::hpke::{EncapsulatedSecret, Hpke, HpkePrivateKey, HpkePublicKey};
use zeroize::Zeroizing;

/// Bytes of a public key and of an encapsulated key: an uncompressed point (RFC 9180 §7.1, `Npk`).
pub const PUBLIC_LEN: usize = 133;

/// Bytes of a private key (RFC 9180 §7.1, `Nsk`).
pub const PRIVATE_LEN: usize = 66;

/// A fresh key pair for one attempt.
#[derive(Debug)]
pub struct KeyPair {
    /// The public half, to be signed and sent.
    pub public: Vec<u8>,
    /// The private half, to be wrapped and committed before the public half is shown to anybody.
    pub private: Zeroizing<Vec<u8>>,
}

/// Makes a key pair.
///
/// # Errors
/// [`Code::Internal`] when the library cannot.
pub fn generate() -> Result<KeyPair> {
    let (public, private) =
        SUITE.generate_key_pair().map_err(|cause| Error::new(Code::Internal).because(cause))?;
    Ok(KeyPair { public: public.0, private: Zeroizing::new(private.secret_bytes().to_vec()) })
}

/// The public half of a private key: of two concurrent makers, the loser takes the winner's pair.
///
/// # Errors
/// [`Code::KeyDenied`] when the bytes are no private key of this suite.
pub fn public_of(private: &[u8]) -> Result<Vec<u8>> {
    let refused = || Error::new(Code::KeyDenied).at("private key");
    let key = PrivateKey::from_private_key(&ECDH_P521, private).map_err(|_| refused())?;
    Ok(key.compute_public_key().map_err(|_| refused())?.as_ref().to_vec())
}

/// Seals to a public key; gives the encapsulated key and the ciphertext.
///
/// # Errors
/// [`Code::KeyDenied`] when the public key is no point of the curve.
pub fn seal(public: &[u8], info: &[u8], aad: &[u8], plain: &[u8]) -> Result<(Vec<u8>, Vec<u8>)> {
    let (enc, sealed) = SUITE
        .seal(info, aad, plain, &HpkePublicKey(public.to_vec()))
        .map_err(|cause| Error::new(Code::KeyDenied).at("public key").because(cause))?;
    Ok((enc.0, sealed))
}

/// Opens what was sealed to this private key's public half, with the same `info` and `aad`.
///
/// # Errors
/// [`Code::ChunkDamaged`] for anything else.
pub fn open(
    private: &[u8],
    enc: &[u8],
    info: &[u8],
    aad: &[u8],
    sealed: &[u8],
) -> Result<Zeroizing<Vec<u8>>> {
    let private = HpkePrivateKey::from(private.to_vec());
    SUITE
        .open(&EncapsulatedSecret(enc.to_vec()), info, aad, sealed, &private)
        .map(Zeroizing::new)
        .map_err(|cause| Error::new(Code::ChunkDamaged).at("key release").because(cause))
}
