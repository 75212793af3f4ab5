//! A page and an object on their way: on arrival, at adoption, when sealed again.

use domicile_crypto::sha256;
use domicile_crypto::travel::{TravelHeader, Unit};
use domicile_hostile::damage::{Tally, every, numbers};
use domicile_hostile::world::{World, arrive, root, staged_page, wire};
use domicile_proto::transfer::v1 as pb;
use domicile_transfer::arriving::{object_digest, page_digest, row_digest};
use domicile_transfer_protocol::rows::StagedRow;
use domicile_types::{Code, ConsentId, ObjectId, PageId, Result, TransferId};

use crate::print;

/// A message that is none is an answer that is none.
const ARRIVING: &[Code] = &[Code::ChunkDamaged, Code::PeerSilent];
const DAMAGED: &[Code] = &[Code::ChunkDamaged];

#[test]
fn every_byte_of_a_page_and_of_an_object() {
    let (world, mut tally) = (World::new(1), Tally::default());
    let (page, object) = (wire(&world.page), wire(&world.object));
    world.read_page(&page).unwrap();
    world.read_object(&object).unwrap();
    for at in 0..page.len() {
        every(&page[at], |how, wrong| {
            let answer = world.read_page(&with(&page, at, wrong));
            tally.refused("travel page, its messages", how, answer, ARRIVING);
        });
    }
    for at in 0..object.len() {
        every(&object[at], |how, wrong| {
            let answer = world.read_object(&with(&object, at, wrong));
            tally.refused("travelling object, its messages", how, answer, ARRIVING);
        });
    }
    messages(&page, |how, wrong| {
        tally.refused("travel page, its messages", how, world.read_page(&wrong), DAMAGED);
    });
    messages(&object, |how, wrong| {
        tally.refused("travelling object, its messages", how, world.read_object(&wrong), DAMAGED);
    });
    print(&tally, 5_000);
}

fn with(messages: &[Vec<u8>], at: usize, wrong: Vec<u8>) -> Vec<Vec<u8>> {
    let mut messages = messages.to_vec();
    messages[at] = wrong;
    messages
}

/// Whole messages missing, twice, in another order.
fn messages(all: &[Vec<u8>], mut wrong: impl FnMut(&'static str, Vec<Vec<u8>>)) {
    for at in 0..all.len() {
        let mut missing = all.to_vec();
        missing.remove(at);
        wrong("a message missing", missing);
        // What follows the end is not read any more.
        if at + 1 < all.len() {
            let mut twice = all.to_vec();
            twice.insert(at, all[at].clone());
            wrong("a message twice", twice);
        }
        for other in at + 1..all.len() {
            let mut swapped = all.to_vec();
            swapped.swap(at, other);
            wrong("two messages swapped", swapped);
        }
    }
}

/// Somebody who can make digests fit, but has no key: found at adoption, by the root and by the seal, each
/// without the other.
#[test]
fn every_byte_of_a_page_with_digests_made_to_fit() {
    let (world, mut tally) = (World::new(1), Tally::default());
    let mut refused = |what: &str, how, row: usize, change: &dyn Fn(&mut pb::TravelRow)| {
        let page = forged(&world.page, |rows| change(&mut rows[row]));
        // What does not even arrive is refused earlier: an id of another length.
        let arrived = match arrive(&world.route(), &page) {
            Ok(arrived) => arrived,
            Err(error) => return tally.refused(what, how, Err::<(), _>(error), DAMAGED),
        };
        let pages = staged_page(&arrived);
        if arrived.rows[row].object == world.rows[row].object {
            let answer = world.adopt(&arrived.rows, &pages, &world.objects);
            tally.refused(&format!("{what}, by the root"), how, answer, &[Code::RootMismatch]);
        }
        tally.refused(&format!("{what}, by the seal"), how, world.open(&arrived.rows, &pages), DAMAGED);
    };
    for at in 0..world.rows.len() {
        let row = &world.rows[at];
        every(&row.sealed_header, |how, wrong| {
            refused("forged header", how, at, &|row| row.sealed_header = wrong.clone().into());
        });
        every(&row.sealed_payload, |how, wrong| {
            refused("forged payload", how, at, &|row| row.sealed_payload = wrong.clone().into());
        });
        every(row.item.as_bytes(), |how, wrong| {
            refused("forged item id", how, at, &|row| row.item_id = wrong.clone().into());
        });
        numbers(u64::from(row.version), 4, |how, wrong| {
            refused("forged version", how, at, &|row| row.version = u32::try_from(wrong).unwrap());
        });
        numbers(row.revision, 8, |how, wrong| {
            refused("forged revision", how, at, &|row| row.revision = wrong);
        });
        let object = row.object.map_or([9; 16], |object| *object.as_bytes());
        every(&object, |how, wrong| {
            if wrong.is_empty() && row.object.is_none() {
                return;
            }
            refused("forged object id", how, at, &|row| row.object_id = wrong.clone().into());
        });
    }
    print(&tally, 5_000);
}

/// A page whose rows were changed, with every digest that needs no key.
fn forged(
    page: &[pb::PullPageResponse],
    change: impl FnOnce(&mut Vec<pb::TravelRow>),
) -> Vec<pb::PullPageResponse> {
    use pb::pull_page_response::Part;
    let mut page = page.to_vec();
    let (mut change, mut whole) = (Some(change), Vec::new());
    for message in &mut page {
        match &mut message.part {
            Some(Part::Rows(part)) => {
                if let Some(change) = change.take() {
                    change(&mut part.rows);
                }
                for row in &mut part.rows {
                    row.digest = row_digest(&row.sealed_header, &row.sealed_payload).to_vec().into();
                }
                whole.extend(part.rows.clone());
            }
            Some(Part::End(end)) => {
                end.rows = u32::try_from(whole.len()).unwrap();
                end.digest = page_digest(&whole, end.cursor, end.revision).to_vec().into();
            }
            _ => {}
        }
    }
    page
}

#[test]
fn every_byte_of_a_chunk_with_the_digest_made_to_fit() {
    use pb::pull_object_response::Part;
    let (world, mut tally) = (World::new(1), Tally::default());
    let read = |chunks: &[Vec<u8>], length: u64| {
        let digests: Vec<[u8; 32]> = chunks.iter().map(|chunk| sha256(chunk)).collect();
        let mut parts = vec![world.object[0].clone()];
        let end = pb::ObjectEnd {
            chunks: u32::try_from(chunks.len()).unwrap(),
            digest: object_digest(&digests, length).to_vec().into(),
            length,
        };
        let chunks = chunks.iter().map(|chunk| Part::Chunk(chunk.clone().into()));
        parts.extend(chunks.chain([Part::End(end)]).map(|part| pb::PullObjectResponse { part: Some(part) }));
        world.read_object(&wire(&parts))
    };
    read(&world.chunks, 141).unwrap();
    for at in 0..world.chunks.len() {
        every(&world.chunks[at], |how, wrong| {
            tally.refused(
                "forged chunk of an object",
                how,
                read(&with(&world.chunks, at, wrong), 141),
                DAMAGED,
            );
        });
    }
    messages(&world.chunks, |how, wrong| {
        tally.refused("forged order of an object's chunks", how, read(&wrong, 141), DAMAGED);
    });
    print(&tally, 500);
}

/// Pages of other clients, transfers, attempts and regions, of an earlier sealing, and of one key.
#[test]
fn pages_of_somewhere_else() {
    let (world, other, mut tally) = (World::new(1), World::new(2), Tally::default());
    for (reader, page) in [(&world, &other.page), (&other, &world.page)] {
        tally.refused("another client's page", "swapped", reader.read_page(&wire(page)), DAMAGED);
    }
    // Sealed under the very key, so that nothing but the header tells them apart.
    let own = world.route().header(Unit::Page(world.rows[0].page));
    for (what, header) in elsewhere(&world, &own) {
        let page = world.seal(&header, &world.stored).unwrap();
        tally.refused(what, "swapped", world.read_page(&wire(&page)), DAMAGED);
    }
    let mine = world.read_page(&wire(&world.seal(&own, &world.stored).unwrap()));
    mine.unwrap();
    let mut splice = |what: &str, from: &World| {
        for (at, rows) in (0..3).map(|at| (at, &from.rows)) {
            let mut mixed = world.rows.clone();
            mixed[at] = StagedRow { page: world.rows[at].page, ..rows[at].clone() };
            tally.refused(what, "spliced", world.open(&mixed, &world.pages), DAMAGED);
            tally.refused(
                what,
                "spliced",
                world.adopt(&mixed, &world.pages, &world.objects),
                &[Code::RootMismatch],
            );
        }
    };
    splice("a row of another client's page", &other);
    splice("a row of the same record, sealed earlier", &again(&world));
    print(&tally, 20);
}

/// The same record sealed another time: a page of its own.
fn again(world: &World) -> World {
    let mut again = World::new(1);
    let header = world.route().header(Unit::Page(world.rows[0].page));
    let page = arrive(&world.route(), &world.seal(&header, &world.stored).unwrap()).unwrap();
    again.pages = staged_page(&page);
    again.rows = page.rows;
    again
}

/// The same header in every other place it could be of.
fn elsewhere(world: &World, own: &TravelHeader) -> Vec<(&'static str, TravelHeader)> {
    let ctx = &world.ctx;
    vec![
        ("a page of another transfer", TravelHeader { transfer: TransferId::generate(ctx), ..own.clone() }),
        ("a page of an earlier attempt", TravelHeader { attempt: own.attempt - 1, ..own.clone() }),
        ("a page of a later attempt", TravelHeader { attempt: own.attempt + 1, ..own.clone() }),
        ("a page of another source", TravelHeader { source: own.destination.clone(), ..own.clone() }),
        ("a page for another destination", TravelHeader { destination: own.source.clone(), ..own.clone() }),
        ("a page under another consent", TravelHeader { consent: ConsentId::generate(ctx), ..own.clone() }),
        ("a page under another consent's digest", TravelHeader { consent_digest: [9; 32], ..own.clone() }),
        (
            "an object's stream as a page",
            TravelHeader { unit: Unit::Object(ObjectId::generate(ctx)), ..own.clone() },
        ),
        ("control rows as a page", TravelHeader { unit: Unit::Control, ..own.clone() }),
    ]
}

/// The same page a second time is the same page; an earlier sealing of it is not what the source stands by.
#[test]
fn a_page_replayed() {
    let (world, mut tally) = (World::new(1), Tally::default());
    world.read_page(&wire(&world.page)).unwrap();
    world.adopt(&world.rows, &world.pages, &world.objects).unwrap();
    let newer = again(&world);
    assert_ne!(root(&newer.rows, &world.objects), root(&world.rows, &world.objects));
    let answer = world.adopt(&newer.rows, &newer.pages, &world.objects);
    tally.refused("an earlier sealing of the page", "replayed", answer, &[Code::RootMismatch]);
    let id = PageId::generate(&world.ctx);
    let renamed: Vec<StagedRow> =
        world.rows.iter().map(|row| StagedRow { page: id, ..row.clone() }).collect();
    tally.refused("rows under another page's id", "swapped", world.open(&renamed, &world.pages), DAMAGED);
    let missing = world.adopt(&world.rows[1..], &world.pages, &world.objects);
    tally.refused("a staged row", "missing", missing, &[Code::RootMismatch]);
    let missing: Result<()> = world.adopt(&world.rows, &world.pages, &[]);
    tally.refused("a staged object", "missing", missing, &[Code::RootMismatch]);
    print(&tally, 4);
}
