//! A stream on its way: whatever is done to it, either the same bytes come out or DATA_LOSS.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::sync::Arc;

use domicile_crypto::travel::{OVERHEAD, Opener, Sealer, TravelHead, TravelHeader, Unit};
use domicile_crypto::{Key32, Zeroizing};
use domicile_types::{
    Code, ConsentId, Ctx, Faults, ObjectId, PageId, RegionId, Result, Rng, SystemClock, TransferId,
};
use proptest::prelude::*;

fn header(ctx: &Ctx) -> TravelHeader {
    TravelHeader {
        transfer: TransferId::generate(ctx),
        attempt: 3,
        source: RegionId::new("us").unwrap(),
        destination: RegionId::new("eu").unwrap(),
        unit: Unit::Page(PageId::generate(ctx)),
        consent: ConsentId::generate(ctx),
        consent_digest: [7; 32],
    }
}

/// A sealed stream: its head and its chunks, each with what stands in clear beside it.
struct Stream {
    key: Key32,
    header: TravelHeader,
    head: TravelHead,
    chunks: Vec<(Vec<u8>, Vec<u8>)>,
}

fn stream(ctx: &Ctx, plains: &[&[u8]]) -> Stream {
    let (key, header) = (Key32::generate(ctx), header(ctx));
    let (mut sealer, head) = Sealer::new(&key, &header, ctx).unwrap();
    let end = plains.len() - 1;
    let seal = |(at, plain): (usize, &&[u8])| {
        let frame = format!("frame {at}").into_bytes();
        (sealer.seal_next(plain, &frame, at == end).unwrap(), frame)
    };
    let chunks = plains.iter().enumerate().map(seal).collect();
    Stream { key, header, head, chunks }
}

impl Stream {
    /// Reads chunks in order; the last of them as the last.
    fn open(&self, chunks: &[(Vec<u8>, Vec<u8>)]) -> Result<Vec<Vec<u8>>> {
        let mut opener = Opener::new(&self.key, &self.head, &self.header)?;
        let mut plains = Vec::new();
        for (at, (chunk, frame)) in chunks.iter().enumerate() {
            plains.push(opener.open_next(chunk, frame, at + 1 == chunks.len())?.to_vec());
        }
        opener.finish()?;
        Ok(plains)
    }

    fn damaged(&self, chunks: &[(Vec<u8>, Vec<u8>)], what: &str) {
        assert_eq!(self.open(chunks).unwrap_err().code(), Code::ChunkDamaged, "{what}");
    }
}

fn code(result: Result<Zeroizing<Vec<u8>>>) -> Code {
    result.unwrap_err().code()
}

const PLAINS: &[&[u8]] = &[b"header one", b"payload one", b"", b"payload two, which is longer"];

#[test]
fn opens_what_was_sealed_in_order_and_at_random() {
    let stream = stream(&Ctx::system(), PLAINS);
    assert_eq!(stream.open(&stream.chunks).unwrap(), PLAINS);
    let opener = Opener::new(&stream.key, &stream.head, &stream.header).unwrap();
    for at in [3, 0, 2, 1, 1] {
        let (chunk, frame) = &stream.chunks[at];
        let position = u32::try_from(at).unwrap();
        assert_eq!(opener.open_at(position, at == 3, frame, chunk).unwrap().as_slice(), PLAINS[at]);
        assert_eq!(chunk.len(), PLAINS[at].len() + OVERHEAD);
    }
}

#[test]
fn every_flipped_byte_is_damage() {
    let stream = stream(&Ctx::system(), PLAINS);
    for chunk in 0..PLAINS.len() {
        for byte in 0..stream.chunks[chunk].0.len() {
            let mut chunks = stream.chunks.clone();
            chunks[chunk].0[byte] ^= 0x01;
            stream.damaged(&chunks, "chunk");
        }
        for byte in 0..stream.chunks[chunk].1.len() {
            let mut chunks = stream.chunks.clone();
            chunks[chunk].1[byte] ^= 0x80;
            stream.damaged(&chunks, "frame beside the chunk");
        }
    }
}

#[test]
fn every_flipped_byte_of_the_head_is_damage() {
    let stream = stream(&Ctx::system(), PLAINS);
    let refused = |head: &TravelHead, expected: &TravelHeader| {
        Opener::new(&stream.key, head, expected).err().map(|error| error.code()) == Some(Code::ChunkDamaged)
    };
    for byte in 0..stream.head.header.len() {
        let mut head = stream.head.clone();
        head.header[byte] ^= 0x01;
        assert!(refused(&head, &stream.header));
        // Even a reader that expects the altered header cannot open: it goes into the keys.
        if let Ok(altered) = TravelHeader::decode(&head.header) {
            assert!(refused(&head, &altered));
        }
    }
    for byte in 0..32 {
        let mut head = stream.head.clone();
        head.salt[byte] ^= 0x01;
        assert!(refused(&head, &stream.header));
        let mut head = stream.head.clone();
        head.commitment[byte] ^= 0x01;
        assert!(refused(&head, &stream.header));
    }
}

#[test]
fn cut_repeated_and_reordered_chunks_are_damage() {
    let stream = stream(&Ctx::system(), PLAINS);
    let all = &stream.chunks;
    for cut in 0..all.len() {
        stream.damaged(&all[..cut], "cut at the end");
        stream.damaged(&all[cut + 1..], "cut at the beginning");
        let mut dropped = all.clone();
        dropped.remove(cut);
        stream.damaged(&dropped, "one dropped");
        let mut repeated = all.clone();
        repeated.insert(cut, all[cut].clone());
        stream.damaged(&repeated, "one repeated");
        for other in cut + 1..all.len() {
            let mut swapped = all.clone();
            swapped.swap(cut, other);
            stream.damaged(&swapped, "two swapped");
        }
    }
    for length in 0..all[1].0.len() {
        let mut short = all.clone();
        short[1].0.truncate(length);
        stream.damaged(&short, "a chunk cut short");
    }
}

#[test]
fn a_cut_stream_without_a_last_flag_does_not_finish() {
    let stream = stream(&Ctx::system(), PLAINS);
    let mut opener = Opener::new(&stream.key, &stream.head, &stream.header).unwrap();
    for (chunk, frame) in &stream.chunks[..3] {
        opener.open_next(chunk, frame, false).unwrap();
    }
    assert_eq!(opener.finish().unwrap_err().code(), Code::ChunkDamaged);
}

#[test]
fn nothing_follows_the_last_chunk() {
    let ctx = Ctx::system();
    let stream = stream(&ctx, PLAINS);
    let mut opener = Opener::new(&stream.key, &stream.head, &stream.header).unwrap();
    for (at, (chunk, frame)) in stream.chunks.iter().enumerate() {
        opener.open_next(chunk, frame, at == 3).unwrap();
    }
    let (chunk, frame) = &stream.chunks[0];
    assert_eq!(code(opener.open_next(chunk, frame, false)), Code::ChunkDamaged);
    let (mut sealer, _) = Sealer::new(&stream.key, &stream.header, &ctx).unwrap();
    sealer.seal_next(b"end", b"", true).unwrap();
    assert_eq!(sealer.seal_next(b"more", b"", false).unwrap_err().code(), Code::TooLarge);
}

#[test]
fn chunks_of_another_stream_are_damage_also_of_the_same_page_sealed_again() {
    let ctx = Ctx::system();
    let stream = stream(&ctx, PLAINS);
    let (mut again, _) = Sealer::new(&stream.key, &stream.header, &ctx).unwrap();
    for at in 0..PLAINS.len() {
        let frame = stream.chunks[at].1.clone();
        let spliced = again.seal_next(PLAINS[at], &frame, at + 1 == PLAINS.len()).unwrap();
        let mut chunks = stream.chunks.clone();
        chunks[at] = (spliced, frame);
        stream.damaged(&chunks, "spliced");
    }
}

/// transfer.md, invariant 5: without this attempt's travel key nothing opens.
#[test]
fn another_key_is_refused_before_any_chunk() {
    let ctx = Ctx::system();
    let stream = stream(&ctx, PLAINS);
    let error = Opener::new(&Key32::generate(&ctx), &stream.head, &stream.header).err().unwrap();
    assert_eq!((error.code(), error.place()), (Code::ChunkDamaged, Some("commitment")));
}

#[test]
fn a_stream_opens_only_as_what_it_is() {
    let ctx = Ctx::system();
    let stream = stream(&ctx, PLAINS);
    let base = &stream.header;
    let others = [
        TravelHeader { transfer: TransferId::generate(&ctx), ..base.clone() },
        TravelHeader { attempt: base.attempt + 1, ..base.clone() },
        TravelHeader { source: base.destination.clone(), ..base.clone() },
        TravelHeader { destination: base.source.clone(), ..base.clone() },
        TravelHeader { unit: Unit::Page(PageId::generate(&ctx)), ..base.clone() },
        TravelHeader { unit: Unit::Object(ObjectId::generate(&ctx)), ..base.clone() },
        TravelHeader { unit: Unit::Control, ..base.clone() },
        TravelHeader { consent: ConsentId::generate(&ctx), ..base.clone() },
        TravelHeader { consent_digest: [8; 32], ..base.clone() },
    ];
    for other in others {
        let error = Opener::new(&stream.key, &stream.head, &other).err().unwrap();
        assert_eq!((error.code(), error.place()), (Code::ChunkDamaged, Some("header")));
        // Nor when the head is rewritten to match.
        let head = TravelHead { header: other.encode(), ..stream.head.clone() };
        assert!(Opener::new(&stream.key, &head, &other).is_err());
    }
}

#[test]
fn a_page_and_an_object_of_one_id_are_two_things() {
    let ctx = Ctx::system();
    let (base, object) = (header(&ctx), ObjectId::generate(&ctx));
    let page = TravelHeader { unit: Unit::Page(PageId::from_uuid(object.uuid())), ..base.clone() };
    let object = TravelHeader { unit: Unit::Object(object), ..base };
    assert_ne!(page.encode(), object.encode());
}

#[test]
fn heads_of_wrong_lengths_are_damage() {
    for (salt, commitment) in [(31, 32), (33, 32), (32, 31), (32, 33), (0, 0)] {
        let head = TravelHead::from_parts(Vec::new(), &vec![0; salt], &vec![0; commitment]);
        assert_eq!(head.unwrap_err().code(), Code::ChunkDamaged);
    }
}

/// Randomness that is known, for known answers.
struct Fixed;

impl Rng for Fixed {
    fn fill(&self, buffer: &mut [u8]) {
        buffer.fill(0x55);
    }
}

fn known_header() -> TravelHeader {
    TravelHeader {
        transfer: TransferId::from_slice(&[0x11; 16]).unwrap(),
        attempt: 1_000,
        source: RegionId::new("us").unwrap(),
        destination: RegionId::new("eu").unwrap(),
        unit: Unit::Object(ObjectId::from_slice(&[0x22; 16]).unwrap()),
        consent: ConsentId::from_slice(&[0x33; 16]).unwrap(),
        consent_digest: [0x44; 32],
    }
}

/// The header's bytes, field by field: RFC 8949 §4.2.1, written out by hand.
#[test]
fn the_header_is_deterministic_cbor() {
    let expected = [
        "a9",
        "0101",
        &format!("0250{}", "11".repeat(16)),
        "031903e8",
        "04627573",
        "05626575",
        "0602",
        &format!("0750{}", "22".repeat(16)),
        &format!("0850{}", "33".repeat(16)),
        &format!("095820{}", "44".repeat(32)),
    ]
    .concat();
    assert_eq!(hex::encode(known_header().encode()), expected);
    assert_eq!(TravelHeader::decode(&known_header().encode()).unwrap(), known_header());
}

/// Known answers, computed from the description of the format by another implementation (HKDF and
/// AES-GCM of Python's `cryptography`): key 00..1f, salt 55.., the header above.
#[test]
fn the_stream_is_as_described() {
    let ctx = Ctx { clock: Arc::new(SystemClock), rng: Arc::new(Fixed), faults: Faults::none() };
    let key: [u8; 32] = std::array::from_fn(|at| u8::try_from(at).unwrap());
    let (mut sealer, head) = Sealer::new(&Key32::from_bytes(&key), &known_header(), &ctx).unwrap();
    assert_eq!(head.salt, [0x55; 32]);
    let commitment = "27a7644a5657d9657a9aa4f282a7c370b8a8ed193798ac17a75db77c21d265ee";
    assert_eq!(hex::encode(head.commitment), commitment);
    let mut seal =
        |plain: &[u8], frame: &[u8], last| hex::encode(sealer.seal_next(plain, frame, last).unwrap());
    assert_eq!(seal(b"a payload", b"frame", false), "6eda1784f6c8df20415b8cd5ddeb841af6014455c32024352f");
    assert_eq!(seal(b"", b"", false), "cac43a13a36092f7beba8dca6782df7f");
    assert_eq!(seal(b"a payload", b"frame", true), "0f3dfc68c076843f1d2f9e69d1d81eb7f1ff132577c27e7f63");
}

/// Zeros sealed show the key stream: no two chunks may share it, also when they differ in the last-flag
/// alone or are sealed again under the same key and header.
#[test]
fn no_two_chunks_share_a_nonce() {
    let ctx = Ctx::system();
    let (key, header) = (Key32::generate(&ctx), header(&ctx));
    let mut seen = std::collections::BTreeSet::new();
    for length in [1, 2, 300] {
        let (mut sealer, _) = Sealer::new(&key, &header, &ctx).unwrap();
        for position in 0..length {
            let sealed = sealer.seal_next(&[0; 16], b"", position + 1 == length).unwrap();
            assert!(seen.insert(sealed[..16].to_vec()), "position {position} of {length}");
        }
    }
}

#[test]
fn a_longer_form_of_a_number_and_an_unknown_suite_are_refused() {
    let bytes = header(&Ctx::system()).encode();
    assert_eq!(bytes[..3], [0xA9, 1, 1]);
    let longer = [&[0xA9, 1, 0x18, 1], &bytes[3..]].concat();
    let suite = [&[0xA9, 1, 2], &bytes[3..]].concat();
    let trailing = [&bytes[..], &[0]].concat();
    for bad in [&longer, &suite, &trailing, &bytes[..bytes.len() - 1].to_vec()] {
        assert_eq!(TravelHeader::decode(bad).unwrap_err().code(), Code::ChunkDamaged);
    }
}

fn any_header() -> impl Strategy<Value = TravelHeader> {
    let unit = prop_oneof![
        any::<[u8; 16]>().prop_map(|id| Unit::Page(PageId::from_slice(&id).unwrap())),
        any::<[u8; 16]>().prop_map(|id| Unit::Object(ObjectId::from_slice(&id).unwrap())),
        Just(Unit::Control),
    ];
    let region = || prop::sample::select(vec!["us", "eu", "ca", "au", "abcdefgh"]);
    (any::<[u8; 16]>(), any::<u64>(), region(), region(), unit, any::<[u8; 16]>(), any::<[u8; 32]>())
        .prop_map(|(transfer, attempt, source, destination, unit, consent, consent_digest)| TravelHeader {
            transfer: TransferId::from_slice(&transfer).unwrap(),
            attempt,
            source: RegionId::new(source).unwrap(),
            destination: RegionId::new(destination).unwrap(),
            unit,
            consent: ConsentId::from_slice(&consent).unwrap(),
            consent_digest,
        })
}

proptest! {
    #[test]
    fn headers_round_trip(header in any_header()) {
        prop_assert_eq!(TravelHeader::decode(&header.encode()).unwrap(), header);
    }

    #[test]
    fn garbage_is_refused_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(TravelHeader::decode(&bytes).is_err());
    }

    #[test]
    fn what_decodes_is_what_encodes(mut bytes in any_header().prop_map(|header| header.encode()),
                                    at in any::<prop::sample::Index>(), flip in 1_u8..) {
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        if let Ok(header) = TravelHeader::decode(&bytes) {
            prop_assert_eq!(header.encode(), bytes);
        }
    }

    #[test]
    fn any_stream_opens_to_what_it_was(plains in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 1..8)) {
        let plains: Vec<&[u8]> = plains.iter().map(Vec::as_slice).collect();
        let stream = stream(&Ctx::system(), &plains);
        prop_assert_eq!(stream.open(&stream.chunks).unwrap(), plains);
    }
}
