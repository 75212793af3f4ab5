//! HPKE suite 1 against the vectors of RFC 9180, A.6.1, and against the `hpke` crate, which shares no
//! code with ours.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use domicile_crypto::hpke::{self as ours, PRIVATE_LEN, PUBLIC_LEN};
use domicile_types::Code;
use hpke::aead::AesGcm256;
use hpke::kdf::HkdfSha512;
use hpke::kem::DhP521HkdfSha512;
use hpke::{Deserializable, Kem, OpModeR, OpModeS, Serializable, single_shot_open, single_shot_seal};
use proptest::prelude::*;

type PrivateKey = <DhP521HkdfSha512 as Kem>::PrivateKey;
type PublicKey = <DhP521HkdfSha512 as Kem>::PublicKey;
type EncappedKey = <DhP521HkdfSha512 as Kem>::EncappedKey;

// RFC 9180, A.6.1: "Base Setup Information" and sequence number 0.
const INFO: &str = "4f6465206f6e2061204772656369616e2055726e";
const IKM_R: &str = "2ad954bbe39b7122529f7dde780bff626cd97f850d0784a432784e69d86eccaade43b6c10a8ffdb94bf943c6da479db1\
                     37914ec835a7e715e36e45e29b587bab3bf1";
const PK_RM: &str = "0401b45498c1714e2dce167d3caf162e45e0642afc7ed435df7902ccae0e84ba0f7d373f646b7738bbbdca11ed91bdea\
                     e3cdcba3301f2457be452f271fa6837580e661012af49583a62e48d44bed350c7118c0d8dc861c238c72a2bda17f6470\
                     4f464b57338e7f40b60959480c0e58e6559b190d81663ed816e523b6b6a418f66d2451ec64";
const SK_RM: &str = "01462680369ae375e4b3791070a7458ed527842f6a98a79ff5e0d4cbde83c27196a3916956655523a6a2556a7af62c5c\
                     adabe2ef9da3760bb21e005202f7b2462847";
const ENC: &str = "040138b385ca16bb0d5fa0c0665fbbd7e69e3ee29f63991d3e9b5fa740aab8900aaeed46ed73a49055758425a0ce3650\
                   7c54b29cc5b85a5cee6bae0cf1c21f2731ece2013dc3fb7c8d21654bb161b463962ca19e8c654ff24c94dd2898de1205\
                   1f1ed0692237fb02b2f8d1dc1c73e9b366b529eb436e98a996ee522aef863dd5739d2f29b0";
const PT: &str = "4265617574792069732074727574682c20747275746820626561757479";
const AAD: &str = "436f756e742d30";
const CT: &str = "170f8beddfe949b75ef9c387e201baf4132fa7374593dfafa90768788b7b2b200aafcc6d80ea4c795a7c5b841a";

fn bytes(hex: &str) -> Vec<u8> {
    hex::decode(hex).unwrap()
}

#[test]
fn opens_the_vector_of_the_rfc() {
    let opened = ours::open(&bytes(SK_RM), &bytes(ENC), &bytes(INFO), &bytes(AAD), &bytes(CT)).unwrap();
    assert_eq!(opened.as_slice(), bytes(PT));
}

#[test]
fn finds_the_public_half_of_the_vector() {
    assert_eq!(ours::public_of(&bytes(SK_RM)).unwrap(), bytes(PK_RM));
}

#[test]
fn the_second_implementation_derives_the_same_pair() {
    let (private, public) = DhP521HkdfSha512::derive_keypair(&bytes(IKM_R));
    assert_eq!(private.to_bytes().as_slice(), bytes(SK_RM));
    assert_eq!(public.to_bytes().as_slice(), bytes(PK_RM));
}

#[test]
fn the_second_implementation_opens_what_we_seal() {
    let pair = ours::generate().unwrap();
    assert_eq!((pair.public.len(), pair.private.len()), (PUBLIC_LEN, PRIVATE_LEN));
    assert_eq!(ours::public_of(&pair.private).unwrap(), pair.public);
    let (enc, sealed) = ours::seal(&pair.public, b"info", b"aad", b"travel key").unwrap();
    let opened = single_shot_open::<AesGcm256, HkdfSha512, DhP521HkdfSha512>(
        &OpModeR::Base,
        &PrivateKey::from_bytes(&pair.private).unwrap(),
        &EncappedKey::from_bytes(&enc).unwrap(),
        b"info",
        &sealed,
        b"aad",
    );
    assert_eq!(opened.unwrap(), b"travel key");
}

#[test]
fn we_open_what_the_second_implementation_seals() {
    let (private, public) = DhP521HkdfSha512::gen_keypair();
    let (enc, sealed) = single_shot_seal::<AesGcm256, HkdfSha512, DhP521HkdfSha512>(
        &OpModeS::Base,
        &public,
        b"info",
        b"travel key",
        b"aad",
    )
    .unwrap();
    let opened = ours::open(&private.to_bytes(), &enc.to_bytes(), b"info", b"aad", &sealed).unwrap();
    assert_eq!(opened.as_slice(), b"travel key");
}

#[test]
fn our_pairs_are_pairs_of_the_second_implementation() {
    let pair = ours::generate().unwrap();
    let public = DhP521HkdfSha512::sk_to_pk(&PrivateKey::from_bytes(&pair.private).unwrap());
    assert_eq!(public, PublicKey::from_bytes(&pair.public).unwrap());
}

/// transfer.md, invariant 13: a sealed key opens only with a private key of its own attempt.
#[test]
fn another_attempt_does_not_open() {
    let (mine, other) = (ours::generate().unwrap(), ours::generate().unwrap());
    let (enc, sealed) = ours::seal(&mine.public, b"attempt 1", b"", b"travel key").unwrap();
    let cases = [
        (&other.private, enc.clone(), &b"attempt 1"[..], &b""[..], sealed.clone()),
        (&mine.private, enc.clone(), b"attempt 2", b"", sealed.clone()),
        (&mine.private, enc.clone(), b"attempt 1", b"x", sealed.clone()),
        (&mine.private, other.public.clone(), b"attempt 1", b"", sealed.clone()),
        (&mine.private, enc.clone(), b"attempt 1", b"", sealed[1..].to_vec()),
        (&mine.private, Vec::new(), b"attempt 1", b"", sealed.clone()),
        (&mine.private, enc.clone(), b"attempt 1", b"", Vec::new()),
    ];
    for (private, enc, info, aad, sealed) in cases {
        let error = ours::open(private, &enc, info, aad, &sealed).unwrap_err();
        assert_eq!(error.code(), Code::ChunkDamaged);
    }
    assert_eq!(
        ours::open(&mine.private, &enc, b"attempt 1", b"", &sealed).unwrap().as_slice(),
        b"travel key"
    );
}

#[test]
fn any_flipped_byte_is_damage() {
    let pair = ours::generate().unwrap();
    let (enc, sealed) = ours::seal(&pair.public, b"", b"", b"travel key").unwrap();
    for at in 0..sealed.len() {
        let mut bad = sealed.clone();
        bad[at] ^= 0x10;
        assert_eq!(ours::open(&pair.private, &enc, b"", b"", &bad).unwrap_err().code(), Code::ChunkDamaged);
    }
    for at in 0..enc.len() {
        let mut bad = enc.clone();
        bad[at] ^= 0x10;
        assert_eq!(
            ours::open(&pair.private, &bad, b"", b"", &sealed).unwrap_err().code(),
            Code::ChunkDamaged
        );
    }
}

#[test]
fn keys_off_the_curve_are_refused() {
    let mut off = ours::generate().unwrap().public;
    off[70] ^= 1;
    for public in [&off[..], &off[..100], &[], &[0; PUBLIC_LEN]] {
        assert_eq!(ours::seal(public, b"", b"", b"x").unwrap_err().code(), Code::KeyDenied);
    }
    for private in [&[0; PRIVATE_LEN][..], &[0xFF; PRIVATE_LEN], &[1; 10], &[]] {
        assert_eq!(ours::public_of(private).unwrap_err().code(), Code::KeyDenied);
        assert!(ours::open(private, &bytes(ENC), b"", b"", &bytes(CT)).is_err());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn garbage_never_panics(
        private in prop::collection::vec(any::<u8>(), 0..140),
        enc in prop::collection::vec(any::<u8>(), 0..140),
        sealed in prop::collection::vec(any::<u8>(), 0..64),
    ) {
        prop_assert!(ours::open(&private, &enc, b"", b"", &sealed).is_err());
        prop_assert!(ours::seal(&enc, b"", b"", &sealed).is_err());
        let known = bytes(SK_RM);
        prop_assert!(ours::open(&known, &enc, b"", b"", &sealed).is_err());
    }
}
