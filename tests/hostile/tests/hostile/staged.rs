//! What the destination has stored of a transfer that has not arrived: every byte of its rows, pages, object
//! rows and object files.

use domicile_hostile::damage::{Tally, every, numbers};
use domicile_hostile::world::World;
use domicile_transfer_protocol::Digest;
use domicile_transfer_protocol::rows::{StagedObject, StagedPage, StagedRow};
use domicile_types::{Code, ItemId, ObjectId, PageId};

use crate::print;

const FOUND: &[Code] = &[Code::ChunkDamaged, Code::RootMismatch];

#[test]
fn every_byte_of_staged_rows() {
    let (world, mut tally) = (World::new(1), Tally::default());
    world.adopt(&world.rows, &world.pages, &world.objects).unwrap();
    let mut refused = |what: &str, how, at: usize, changed: StagedRow| {
        let mut rows = world.rows.clone();
        rows[at] = changed;
        let answer = world.adopt(&rows, &world.pages, &world.objects);
        tally.refused(&format!("staged row, {what}"), how, answer, FOUND);
    };
    for (at, row) in world.rows.iter().enumerate() {
        every(&row.sealed_header, |how, sealed_header| {
            refused("sealed header", how, at, StagedRow { sealed_header, ..row.clone() });
        });
        every(&row.sealed_payload, |how, sealed_payload| {
            refused("sealed payload", how, at, StagedRow { sealed_payload, ..row.clone() });
        });
        every(row.digest.as_bytes(), |how, wrong| {
            if let Some(digest) = Digest::from_slice(&wrong) {
                refused("digest", how, at, StagedRow { digest, ..row.clone() });
            }
        });
        every(row.item.as_bytes(), |how, wrong| {
            if let Some(item) = ItemId::from_slice(&wrong) {
                refused("item", how, at, StagedRow { item, ..row.clone() });
            }
        });
        every(row.page.as_bytes(), |how, wrong| {
            if let Some(page) = PageId::from_slice(&wrong) {
                refused("page", how, at, StagedRow { page, ..row.clone() });
            }
        });
        let object = row.object.map_or([0; 16], |object| *object.as_bytes());
        every(&object, |how, wrong| {
            if let Some(object) = ObjectId::from_slice(&wrong) {
                refused("object", how, at, StagedRow { object: Some(object), ..row.clone() });
            }
        });
        if row.object.is_some() {
            refused("object", "missing", at, StagedRow { object: None, ..row.clone() });
        }
        numbers(u64::from(row.version), 4, |how, wrong| {
            refused("version", how, at, StagedRow { version: u32::try_from(wrong).unwrap(), ..row.clone() });
        });
        numbers(row.revision, 8, |how, revision| {
            refused("revision", how, at, StagedRow { revision, ..row.clone() });
        });
        numbers(u64::from(row.position), 4, |how, wrong| {
            refused(
                "position",
                how,
                at,
                StagedRow { position: u32::try_from(wrong).unwrap(), ..row.clone() },
            );
        });
        refused("last-flag", "flipped", at, StagedRow { last: !row.last, ..row.clone() });
    }
    for (at, other) in [(0, 1), (0, 2), (1, 2)] {
        let (one, two) = (&world.rows[at], &world.rows[other]);
        let payload = StagedRow { sealed_payload: two.sealed_payload.clone(), ..one.clone() };
        refused("sealed payload", "another item's", at, payload);
        let header = StagedRow { sealed_header: two.sealed_header.clone(), ..one.clone() };
        refused("sealed header", "another item's", at, header);
    }
    print(&tally, 3_000);
}

#[test]
fn every_byte_of_staged_pages_and_objects() {
    let (world, other, mut tally) = (World::new(1), World::new(2), Tally::default());
    let page = &world.pages[0];
    let mut wrong_page = |what: &str, how, head| {
        let pages = [StagedPage { page: page.page, head }];
        tally.refused(
            &format!("staged page, {what}"),
            how,
            world.adopt(&world.rows, &pages, &world.objects),
            FOUND,
        );
    };
    let with = |change: &dyn Fn(&mut domicile_transfer_protocol::release::Head)| {
        let mut head = page.head.clone();
        change(&mut head);
        head
    };
    every(&page.head.header, |how, wrong| {
        wrong_page("header", how, with(&|head| head.header = wrong.clone()));
    });
    every(&page.head.salt, |how, wrong| wrong_page("salt", how, with(&|head| head.salt = wrong.clone())));
    every(&page.head.commitment, |how, wrong| {
        wrong_page("commitment", how, with(&|head| head.commitment = wrong.clone()));
    });
    wrong_page("head", "another client's", other.pages[0].head.clone());
    let object = &world.objects[0];
    let mut wrong_object = |what: &str, how, object: StagedObject| {
        let answer = world.adopt(&world.rows, &world.pages, &[object]);
        tally.refused(&format!("staged object, {what}"), how, answer, FOUND);
    };
    every(&object.head.header, |how, wrong| {
        let mut changed = object.clone();
        changed.head.header = wrong;
        wrong_object("header", how, changed);
    });
    every(&object.head.salt, |how, wrong| {
        let mut changed = object.clone();
        changed.head.salt = wrong;
        wrong_object("salt", how, changed);
    });
    every(&object.head.commitment, |how, wrong| {
        let mut changed = object.clone();
        changed.head.commitment = wrong;
        wrong_object("commitment", how, changed);
    });
    every(object.sent.digest.as_bytes(), |how, wrong| {
        let mut changed = object.clone();
        let Some(digest) = Digest::from_slice(&wrong) else { return };
        changed.sent.digest = digest;
        wrong_object("digest", how, changed);
    });
    every(object.sent.object.as_bytes(), |how, wrong| {
        let mut changed = object.clone();
        let Some(id) = ObjectId::from_slice(&wrong) else { return };
        changed.sent.object = id;
        wrong_object("id", how, changed);
    });
    numbers(u64::from(object.sent.chunks), 4, |how, wrong| {
        let mut changed = object.clone();
        changed.sent.chunks = u32::try_from(wrong).unwrap();
        wrong_object("chunks", how, changed);
    });
    print(&tally, 1_000);
}

/// The file in the object store: no digest is asked, the seal alone.
#[test]
fn every_byte_of_a_staged_object_file() {
    let (world, other, mut tally) = (World::new(1), World::new(2), Tally::default());
    let object = &world.objects[0];
    world.open_object(object, &world.chunks).unwrap();
    let mut refused = |how, at: usize, wrong: Vec<u8>| {
        let mut chunks = world.chunks.clone();
        chunks[at] = wrong;
        tally.refused("staged object file", how, world.open_object(object, &chunks), &[Code::ChunkDamaged]);
    };
    for at in 0..world.chunks.len() {
        every(&world.chunks[at], |how, wrong| refused(how, at, wrong));
        refused("another client's", at, other.chunks[at].clone());
        refused("another chunk", at, world.chunks[(at + 1) % 3].clone());
    }
    for cut in 0..world.chunks.len() {
        tally.refused(
            "staged object file",
            "cut",
            world.open_object(object, &world.chunks[..cut]),
            &[Code::ChunkDamaged],
        );
    }
    print(&tally, 500);
}
