//! The record as the source has it stored: every byte of its sealed rows and objects. What does not open is
//! not sent.

use domicile_crypto::Key32;
use domicile_crypto::object::{CHUNK, ObjectOpener, ObjectPlace, ObjectSealer};
use domicile_crypto::travel::Unit;
use domicile_hostile::damage::{Tally, every, numbers};
use domicile_hostile::world::{World, known, region};
use domicile_transfer::arriving::Keyed;
use domicile_transfer_protocol::rows::FeedRow;
use domicile_types::{
    AccountId, Code, ItemHeader, ItemId, ObjectId, OccasionId, PageId, PracticeId, SubjectId, Timestamp,
    Visibility,
};

use crate::print;

const DAMAGED: &[Code] = &[Code::ContentDamaged];

/// The stored rows with one changed.
fn with(world: &World, at: usize, row: FeedRow) -> Vec<Keyed> {
    let copy = |keyed: &Keyed| Keyed { row: keyed.row.clone(), key: keyed.key.clone() };
    let mut stored: Vec<Keyed> = world.stored.iter().map(copy).collect();
    stored[at].row = row;
    stored
}

#[test]
fn every_byte_of_a_sealed_row() {
    let (world, other, mut tally) = (World::new(1), World::new(2), Tally::default());
    let header = world.route().header(Unit::Page(PageId::generate(&world.ctx)));
    world.seal(&header, &world.stored).unwrap();
    for at in 0..world.stored.len() {
        let row = &world.stored[at].row;
        let mut refused = |what: &str, how, changed: FeedRow| {
            let answer = world.seal(&header, &with(&world, at, changed));
            tally.refused(&format!("stored row, {what}"), how, answer, DAMAGED);
        };
        every(&row.sealed, |how, sealed| {
            refused("sealed payload", how, FeedRow { sealed, header: row.header.clone() });
        });
        for (what, changed) in headers(&world, &row.header) {
            refused(what, "changed", FeedRow { header: changed, sealed: row.sealed.clone() });
        }
        ids(&row.header, |what, changed| {
            refused(what, "flipped", FeedRow { header: changed, sealed: row.sealed.clone() });
        });
        for swapped in (0..3).filter(|other| *other != at) {
            let sealed = world.stored[swapped].row.sealed.clone();
            refused("sealed payload", "another item's", FeedRow { sealed, header: row.header.clone() });
        }
        let sealed = other.stored[at].row.sealed.clone();
        refused("sealed payload", "another client's", FeedRow { sealed, header: row.header.clone() });
        refused("whole row", "another client's", other.stored[at].row.clone());
    }
    print(&tally, 1_000);
}

/// Every byte of the ids and numbers a payload is bound to.
fn ids(header: &ItemHeader, mut wrong: impl FnMut(&'static str, ItemHeader)) {
    every(header.item_id.as_bytes(), |_, bytes| {
        let Some(item_id) = ItemId::from_slice(&bytes) else { return };
        wrong("item", ItemHeader { item_id, ..header.clone() });
    });
    every(header.subject_id.as_bytes(), |_, bytes| {
        let Some(subject_id) = SubjectId::from_slice(&bytes) else { return };
        wrong("subject", ItemHeader { subject_id, ..header.clone() });
    });
    every(header.author_id.as_bytes(), |_, bytes| {
        let Some(author_id) = AccountId::from_slice(&bytes) else { return };
        wrong("author", ItemHeader { author_id, ..header.clone() });
    });
    if let Some(practice) = header.practice_id {
        every(practice.as_bytes(), |_, bytes| {
            let Some(practice) = PracticeId::from_slice(&bytes) else { return };
            wrong("practice", ItemHeader { practice_id: Some(practice), ..header.clone() });
        });
    }
    if let Some(object) = header.object_id {
        every(object.as_bytes(), |_, bytes| {
            let Some(object) = ObjectId::from_slice(&bytes) else { return };
            wrong("object", ItemHeader { object_id: Some(object), ..header.clone() });
        });
    }
    numbers(u64::from(header.version), 4, |_, number| {
        wrong("version", ItemHeader { version: u32::try_from(number).unwrap(), ..header.clone() });
    });
    numbers(u64::from(header.key_version), 4, |_, number| {
        wrong("key version", ItemHeader { key_version: u32::try_from(number).unwrap(), ..header.clone() });
    });
}

/// The other fields a payload is bound to.
fn headers(world: &World, base: &ItemHeader) -> Vec<(&'static str, ItemHeader)> {
    let later = Some(Timestamp::from_micros(5));
    let other =
        if base.visibility == Visibility::Shared { Visibility::ClientPrivate } else { Visibility::Shared };
    vec![
        ("kind", ItemHeader { kind: "message".to_owned(), ..base.clone() }),
        ("schema", ItemHeader { schema: 2, ..base.clone() }),
        ("state", ItemHeader { state: "signed".to_owned(), ..base.clone() }),
        ("visibility", ItemHeader { visibility: other, ..base.clone() }),
        ("practitioner", ItemHeader { practitioner_id: None, ..base.clone() }),
        ("parent", ItemHeader { parent_id: Some(ItemId::generate(&world.ctx)), ..base.clone() }),
        ("occasion", ItemHeader { occasion_id: Some(OccasionId::generate(&world.ctx)), ..base.clone() }),
        ("occurred", ItemHeader { occurred_at: Timestamp::from_micros(5), ..base.clone() }),
        ("starts", ItemHeader { starts_at: later, ..base.clone() }),
        ("ends", ItemHeader { ends_at: later, ..base.clone() }),
        ("signed", ItemHeader { signed_at: later, ..base.clone() }),
    ]
}

/// An object in the source's store: a small one byte by byte, the full chunk of a large one at places.
#[test]
fn every_byte_of_a_sealed_object() {
    let (ctx, mut tally) = (known(7), Tally::default());
    let place = ObjectPlace {
        region: region("eu"),
        subject: SubjectId::generate(&ctx),
        practice: Some(PracticeId::generate(&ctx)),
        object: ObjectId::generate(&ctx),
        key_version: 1,
    };
    let key = Key32::generate(&ctx);
    let seal = |plains: &[&[u8]], place: &ObjectPlace| -> Vec<Vec<u8>> {
        let mut sealer = ObjectSealer::new(key.clone(), place.clone());
        plains
            .iter()
            .enumerate()
            .map(|(at, plain)| sealer.seal_next(&ctx, plain, at + 1 == plains.len()).unwrap())
            .collect()
    };
    let open = |place: &ObjectPlace, index, chunks, sealed: &[u8]| {
        ObjectOpener::new(key.clone(), place.clone()).open(index, chunks, sealed)
    };
    let small = seal(&[&[3; 100]], &place);
    open(&place, 0, 1, &small[0]).unwrap();
    every(&small[0], |how, wrong| {
        tally.refused("stored object, 100 bytes", how, open(&place, 0, 1, &wrong), DAMAGED);
    });
    for (what, other) in places(&place) {
        tally.refused("stored object, 100 bytes", what, open(&other, 0, 1, &small[0]), DAMAGED);
    }
    let large = seal(&[&vec![3; CHUNK], &[3; 100]], &place);
    let positions =
        (0..large[0].len()).step_by(16_381).chain([0, 11, 12, large[0].len() - 17, large[0].len() - 1]);
    for at in positions {
        let mut wrong = large[0].clone();
        wrong[at] ^= 0x40;
        tally.refused("stored object, a full chunk", "flipped", open(&place, 0, 2, &wrong), DAMAGED);
        tally.refused("stored object, a full chunk", "cut", open(&place, 0, 2, &large[0][..at]), DAMAGED);
    }
    for (index, chunks, sealed) in
        [(0, 2, &large[1]), (1, 2, &large[0]), (0, 1, &large[0]), (1, 3, &large[1])]
    {
        tally.refused(
            "stored object, a full chunk",
            "in another place",
            open(&place, index, chunks, sealed),
            DAMAGED,
        );
    }
    print(&tally, 600);
}

fn places(place: &ObjectPlace) -> Vec<(&'static str, ObjectPlace)> {
    let ctx = known(8);
    vec![
        ("another region's", ObjectPlace { region: region("ca"), ..place.clone() }),
        ("another client's", ObjectPlace { subject: SubjectId::generate(&ctx), ..place.clone() }),
        ("another practice's", ObjectPlace { practice: Some(PracticeId::generate(&ctx)), ..place.clone() }),
        ("the client's own", ObjectPlace { practice: None, ..place.clone() }),
        ("another object's", ObjectPlace { object: ObjectId::generate(&ctx), ..place.clone() }),
        ("another key version's", ObjectPlace { key_version: 2, ..place.clone() }),
    ]
}
