//! A ciphertext opens in its own place alone (P6; data-model.md, "Keys").

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use domicile_crypto::object::{self, CHUNK, ObjectOpener, ObjectPlace, ObjectSealer, SEALED_CHUNK};
use domicile_crypto::{Key32, aad, open, seal};
use domicile_types::{
    AccountId, Code, Ctx, Idempotency, ItemHeader, ItemId, ObjectId, OccasionId, PracticeId, RegionId,
    SubjectId, Timestamp, Visibility,
};

fn region(name: &str) -> RegionId {
    RegionId::new(name).unwrap()
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_micros(seconds * 1_000_000)
}

fn header(ctx: &Ctx) -> ItemHeader {
    ItemHeader {
        item_id: ItemId::generate(ctx),
        version: 1,
        subject_id: SubjectId::generate(ctx),
        revision: 9,
        kind: "note".to_owned(),
        schema: 1,
        practice_id: Some(PracticeId::generate(ctx)),
        practitioner_id: Some(AccountId::generate(ctx)),
        author_id: AccountId::generate(ctx),
        parent_id: Some(ItemId::generate(ctx)),
        occasion_id: Some(OccasionId::generate(ctx)),
        object_id: Some(ObjectId::generate(ctx)),
        occurred_at: at(10),
        starts_at: Some(at(11)),
        ends_at: Some(at(12)),
        signed_at: None,
        retain_until: Some(at(14)),
        state: "draft".to_owned(),
        visibility: Visibility::Shared,
        bytes: 6,
        digest: [1; 32],
        key_version: 1,
        idempotency: None,
        written_at: at(15),
    }
}

/// The header with one field changed, for every field that must bind.
fn altered(ctx: &Ctx, base: &ItemHeader) -> Vec<(&'static str, ItemHeader)> {
    let with = |change: &dyn Fn(&mut ItemHeader)| {
        let mut header = base.clone();
        change(&mut header);
        header
    };
    vec![
        ("item", with(&|h| h.item_id = ItemId::generate(ctx))),
        ("version", with(&|h| h.version = 2)),
        ("subject", with(&|h| h.subject_id = SubjectId::generate(ctx))),
        ("kind", with(&|h| h.kind = "reflection".to_owned())),
        ("schema", with(&|h| h.schema = 2)),
        ("practice", with(&|h| h.practice_id = Some(PracticeId::generate(ctx)))),
        ("no practice", with(&|h| h.practice_id = None)),
        ("practitioner", with(&|h| h.practitioner_id = Some(AccountId::generate(ctx)))),
        ("no practitioner", with(&|h| h.practitioner_id = None)),
        ("author", with(&|h| h.author_id = AccountId::generate(ctx))),
        ("parent", with(&|h| h.parent_id = None)),
        ("occasion", with(&|h| h.occasion_id = None)),
        ("object", with(&|h| h.object_id = Some(ObjectId::generate(ctx)))),
        ("no object", with(&|h| h.object_id = None)),
        ("occurred", with(&|h| h.occurred_at = at(99))),
        ("starts", with(&|h| h.starts_at = None)),
        ("ends", with(&|h| h.ends_at = Some(at(99)))),
        ("signed", with(&|h| h.signed_at = Some(at(13)))),
        ("state", with(&|h| h.state = "signed".to_owned())),
        ("visibility", with(&|h| h.visibility = Visibility::ClientPrivate)),
        ("key version", with(&|h| h.key_version = 2)),
        ("starts for ends", with(&|h| std::mem::swap(&mut h.starts_at, &mut h.ends_at))),
        ("starts moved to signed", with(&|h| h.signed_at = h.starts_at.take())),
        (
            "practitioner and parent swapped",
            with(&|h| {
                let parent = h.parent_id;
                h.parent_id = h.practitioner_id.map(|id| ItemId::from_uuid(id.uuid()));
                h.practitioner_id = parent.map(|id| AccountId::from_uuid(id.uuid()));
            }),
        ),
        (
            "kind runs into the next field",
            with(&|h| {
                h.kind = "not".to_owned();
                h.state = "edraft".to_owned();
            }),
        ),
    ]
}

#[test]
fn a_payload_opens_in_its_own_row_alone() {
    let (ctx, eu) = (Ctx::system(), region("eu"));
    let (key, base) = (Key32::generate(&ctx), header(&ctx));
    let sealed = seal(&key, &ctx, &aad::item(&eu, &base), b"secret").unwrap();
    assert_eq!(open(&key, &aad::item(&eu, &base), &sealed).unwrap().as_slice(), b"secret");
    for (what, other) in altered(&ctx, &base) {
        let error = open(&key, &aad::item(&eu, &other), &sealed).err().unwrap_or_else(|| panic!("{what}"));
        assert_eq!(error.code(), Code::ContentDamaged, "{what}");
    }
    assert!(open(&key, &aad::item(&region("us"), &base), &sealed).is_err(), "another region");
}

#[test]
fn what_changes_without_opening_is_not_bound() {
    let (ctx, eu) = (Ctx::system(), region("eu"));
    let base = header(&ctx);
    let later = ItemHeader {
        revision: 77,
        bytes: 1,
        digest: [2; 32],
        retain_until: None,
        written_at: at(99),
        idempotency: Some(Idempotency { key: "k".to_owned(), fingerprint: [0; 32] }),
        ..base.clone()
    };
    assert_eq!(aad::item(&eu, &base), aad::item(&eu, &later));
}

#[test]
fn places_never_meet() {
    let (ctx, eu) = (Ctx::system(), region("eu"));
    let (account, practice) = (AccountId::generate(&ctx), PracticeId::generate(&ctx));
    let subject = SubjectId::generate(&ctx);
    let object = ObjectId::generate(&ctx);
    let mut places = vec![
        aad::account_field(&eu, account, "email"),
        aad::account_field(&eu, account, "name"),
        aad::account_field(&region("us"), account, "email"),
        aad::account_field(&eu, AccountId::generate(&ctx), "email"),
        aad::practice_field(&eu, PracticeId::from_uuid(account.uuid()), "email"),
        aad::wrapped_record_key(&eu, subject, None, 1, 1),
        aad::wrapped_record_key(&eu, subject, None, 2, 1),
        aad::wrapped_record_key(&eu, subject, None, 1, 2),
        aad::wrapped_record_key(&eu, subject, Some(practice), 1, 1),
        aad::wrapped_record_key(&region("us"), subject, None, 1, 1),
        aad::wrapped_subject_secret(&eu, subject, "pseudonym", 1),
        aad::wrapped_subject_secret(&eu, subject, "fingerprint", 1),
        aad::object_chunk(&eu, subject, None, object, 1, 0, false),
        aad::object_chunk(&eu, subject, None, object, 1, 0, true),
        aad::object_chunk(&eu, subject, None, object, 1, 1, false),
        aad::object_chunk(&eu, subject, None, object, 2, 0, false),
        aad::object_chunk(&eu, subject, Some(practice), object, 1, 0, false),
    ];
    let count = places.len();
    places.sort();
    places.dedup();
    assert_eq!(places.len(), count);
}

fn place(ctx: &Ctx) -> ObjectPlace {
    ObjectPlace {
        region: region("eu"),
        subject: SubjectId::generate(ctx),
        practice: Some(PracticeId::generate(ctx)),
        object: ObjectId::generate(ctx),
        key_version: 1,
    }
}

/// Seals a content of one and a half chunks.
fn sealed_object(ctx: &Ctx, key: &Key32, place: &ObjectPlace) -> (Vec<u8>, Vec<Vec<u8>>) {
    let content: Vec<u8> = (0..CHUNK + CHUNK / 2).map(|at| u8::try_from(at % 251).unwrap()).collect();
    let mut sealer = ObjectSealer::new(key.clone(), place.clone());
    let (first, second) = content.split_at(CHUNK);
    let chunks =
        vec![sealer.seal_next(ctx, first, false).unwrap(), sealer.seal_next(ctx, second, true).unwrap()];
    assert_eq!(sealer.sealed(), 2);
    (content, chunks)
}

#[test]
fn an_object_opens_to_its_content() {
    let ctx = Ctx::system();
    let (key, place) = (Key32::generate(&ctx), place(&ctx));
    let (content, chunks) = sealed_object(&ctx, &key, &place);
    let opener = ObjectOpener::new(key, place);
    let opened = [opener.open(0, 2, &chunks[0]).unwrap(), opener.open(1, 2, &chunks[1]).unwrap()];
    assert!([opened[0].as_slice(), opened[1].as_slice()].concat() == content);
    assert_eq!(chunks[0].len(), SEALED_CHUNK);
    let stored: usize = chunks.iter().map(Vec::len).sum();
    assert_eq!(object::sealed_length(content.len() as u64).unwrap(), stored as u64);
    assert_eq!(object::chunks(content.len() as u64).unwrap(), 2);
    assert_eq!(object::sealed_offset(1), chunks[0].len() as u64);
}

#[test]
fn a_chunk_opens_in_its_own_place_alone() {
    let ctx = Ctx::system();
    let (key, base) = (Key32::generate(&ctx), place(&ctx));
    let (_, chunks) = sealed_object(&ctx, &key, &base);
    let damaged = |place: &ObjectPlace, index, count, chunk: &[u8]| {
        let opener = ObjectOpener::new(key.clone(), place.clone());
        assert_eq!(opener.open(index, count, chunk).unwrap_err().code(), Code::ContentDamaged);
    };
    damaged(&base, 1, 2, &chunks[0]);
    damaged(&base, 0, 2, &chunks[1]);
    damaged(&base, 0, 1, &chunks[0]);
    damaged(&base, 1, 3, &chunks[1]);
    damaged(&base, 0, 2, &chunks[0][..SEALED_CHUNK - 1]);
    damaged(&base, 0, 2, &[]);
    let changes: [fn(&mut ObjectPlace, &Ctx); 5] = [
        |place, _| place.region = region("us"),
        |place, ctx| place.subject = SubjectId::generate(ctx),
        |place, _| place.practice = None,
        |place, ctx| place.object = ObjectId::generate(ctx),
        |place, _| place.key_version = 2,
    ];
    for change in changes {
        let mut other = base.clone();
        change(&mut other, &ctx);
        damaged(&other, 0, 2, &chunks[0]);
    }
    for byte in [0, 11, 12, CHUNK / 2, SEALED_CHUNK - 1] {
        let mut bad = chunks[0].clone();
        bad[byte] ^= 0x40;
        damaged(&base, 0, 2, &bad);
    }
}

#[test]
fn only_the_last_chunk_may_be_short_and_nothing_follows_it() {
    let ctx = Ctx::system();
    let mut sealer = ObjectSealer::new(Key32::generate(&ctx), place(&ctx));
    let refused = |sealer: &mut ObjectSealer, chunk: &[u8], last| {
        assert_eq!(sealer.seal_next(&ctx, chunk, last).unwrap_err().code(), Code::InvalidRequest);
    };
    refused(&mut sealer, &[0; 5], false);
    refused(&mut sealer, &vec![0; CHUNK + 1], true);
    sealer.seal_next(&ctx, &[], true).unwrap();
    refused(&mut sealer, &[], true);
}

#[test]
fn lengths_at_the_borders_of_chunks() {
    let chunk = CHUNK as u64;
    for (length, chunks) in [(0, 1), (1, 1), (chunk, 1), (chunk + 1, 2), (2 * chunk, 2), (5 * chunk + 3, 6)] {
        assert_eq!(object::chunks(length).unwrap(), chunks);
        assert_eq!(object::sealed_length(length).unwrap(), length + u64::from(chunks) * 28);
    }
    assert_eq!(object::chunks(u64::MAX).unwrap_err().code(), Code::TooLarge);
    assert_eq!(object::sealed_length(u64::MAX).unwrap_err().code(), Code::TooLarge);
}
