//! The key release: every byte of its message, and of its parts when even the digest that was signed fits.

use domicile_crypto::sha256;
use domicile_hostile::damage::{PATTERNS, Tally, every, numbers};
use domicile_hostile::world::{PRIVATE, World};
use domicile_proto::transfer::v1 as pb;
use domicile_transfer::arriving::{
    key_release, open_control, open_envelope, open_release, read_key_release, seal_release,
};
use domicile_transfer_protocol::release::KeyRelease;
use domicile_transfer_protocol::{Destination, Digest};
use domicile_types::{Code, ConsentId, Error, Result, TransferId};
use prost::Message as _;

use crate::print;

/// As the destination opens it.
fn open(row: &Destination, private: &[u8], release: &KeyRelease) -> Result<()> {
    let key = open_release(row, private, release)?;
    open_control(row, &key, release).map(drop)
}

/// As it opens when somebody has made the signed digest fit: by its seals alone.
fn forged(world: &World, private: &[u8], release: &KeyRelease) -> Result<()> {
    let mut row = world.destination.clone();
    row.released = row.released.map(|mut released| {
        released.key_release = Digest(sha256(&release.encode()));
        released
    });
    open(&row, private, release)
}

#[test]
fn every_byte_of_the_message() {
    let (world, mut tally) = (World::new(1), Tally::default());
    let read = |bytes: &[u8]| {
        let message = pb::GetKeyReleaseResponse::decode(bytes).map_err(|_| Error::new(Code::PeerSilent))?;
        open(&world.destination, &PRIVATE, &read_key_release(message)?)
    };
    let bytes = key_release(world.release.clone()).encode_to_vec();
    read(&bytes).unwrap();
    let codes = &[Code::StatementInvalid, Code::ChunkDamaged, Code::PeerSilent];
    every(&bytes, |how, wrong| tally.refused("key release, its message", how, read(&wrong), codes));
    print(&tally, 3_000);
}

#[test]
fn every_byte_of_its_parts_with_the_digest_made_to_fit() {
    let (world, mut tally) = (World::new(1), Tally::default());
    let release = &world.release;
    forged(&world, &PRIVATE, release).unwrap();
    let mut refused = |what: &str, how, wrong: KeyRelease| {
        tally.refused(
            &format!("key release, {what}"),
            how,
            forged(&world, &PRIVATE, &wrong),
            &[Code::ChunkDamaged],
        );
    };
    every(&release.encapsulated, |how, encapsulated| {
        refused("encapsulated key", how, KeyRelease { encapsulated, ..release.clone() });
    });
    every(&release.sealed_key, |how, sealed_key| {
        refused("sealed travel key", how, KeyRelease { sealed_key, ..release.clone() });
    });
    let head = &release.control_head;
    let with = |change: &dyn Fn(&mut KeyRelease)| {
        let mut wrong = release.clone();
        change(&mut wrong);
        wrong
    };
    every(&head.header, |how, wrong| {
        refused("control header", how, with(&|it| it.control_head.header = wrong.clone()));
    });
    every(&head.salt, |how, wrong| {
        refused("control salt", how, with(&|it| it.control_head.salt = wrong.clone()));
    });
    every(&head.commitment, |how, wrong| {
        refused("control commitment", how, with(&|it| it.control_head.commitment = wrong.clone()));
    });
    every(&release.control_chunks[0].0, |how, wrong| {
        refused("control rows", how, with(&|it| it.control_chunks[0].0 = wrong.clone()));
    });
    refused("control rows", "missing", with(&|it| it.control_chunks.clear()));
    refused("control rows", "twice", with(&|it| it.control_chunks.push(it.control_chunks[0].clone())));
    print(&tally, 3_000);
}

/// Releases of other transfers, attempts, roots, epochs, consents and regions, sealed for the very key.
#[test]
fn releases_of_somewhere_else() {
    let (world, other, mut tally) = (World::new(1), World::new(2), Tally::default());
    let another = open(&world.destination, &PRIVATE, &other.release);
    tally.refused("another client's release", "swapped", another, &[Code::StatementInvalid]);
    let another = forged(&world, &PRIVATE, &other.release);
    tally.refused("another client's release, digest made to fit", "swapped", another, &[Code::ChunkDamaged]);
    let again = seal_release(&world.ctx, &world.source, &world.travel, 2, &world.control).unwrap();
    tally.refused(
        "a release sealed another time",
        "replayed",
        open(&world.destination, &PRIVATE, &again),
        &[Code::StatementInvalid],
    );
    for (what, source, epoch) in sources(&world) {
        let release = seal_release(&world.ctx, &source, &world.travel, epoch, &world.control).unwrap();
        tally.refused(what, "swapped", forged(&world, &PRIVATE, &release), &[Code::ChunkDamaged]);
    }
    every(&PRIVATE, |how, private| {
        let answer = forged(&world, &private, &world.release);
        tally.refused("private key of the attempt", how, answer, &[Code::ChunkDamaged]);
    });
    print(&tally, 200);
}

fn sources(world: &World) -> Vec<(&'static str, domicile_transfer_protocol::Source, u64)> {
    let with = |change: &dyn Fn(&mut domicile_transfer_protocol::Source)| {
        let mut source = world.source.clone();
        change(&mut source);
        source
    };
    vec![
        ("a release of another transfer", with(&|row| row.transfer = TransferId::generate(&world.ctx)), 2),
        ("a release of another attempt", with(&|row| row.attempt -= 1), 2),
        ("a release of another source", with(&|row| row.from = row.to.clone()), 2),
        ("a release for another destination", with(&|row| row.to = row.from.clone()), 2),
        ("a release of another root", with(&|row| row.staged.as_mut().unwrap().root = Digest([9; 32])), 2),
        (
            "a release under another consent",
            with(&|row| row.consent.as_mut().unwrap().digest = Digest([9; 32])),
            2,
        ),
        (
            "control rows under another consent",
            with(&|row| row.consent.as_mut().unwrap().id = ConsentId::generate(&world.ctx)),
            2,
        ),
        ("a release of another epoch", world.source.clone(), 3),
    ]
}

/// What the envelope is bound to, byte by byte, on the side that opens it.
#[test]
fn every_byte_of_what_the_envelope_is_bound_to() {
    let (world, mut tally) = (World::new(1), Tally::default());
    let mut refused = |what: &str, row: Destination| {
        let answer = open_envelope(&row, &PRIVATE, &world.release);
        tally.refused(&format!("envelope, its {what}"), "flipped", answer, &[Code::ChunkDamaged]);
    };
    for (at, pattern) in (0..32).flat_map(|at| PATTERNS.map(|pattern| (at, pattern))) {
        let mut row = world.destination.clone();
        row.released.as_mut().unwrap().root.0[at] ^= pattern;
        refused("root", row);
        let mut row = world.destination.clone();
        row.consent.as_mut().unwrap().digest.0[at] ^= pattern;
        refused("consent", row);
    }
    numbers(world.destination.attempt, 8, |_, attempt| {
        refused("attempt", Destination { attempt, ..world.destination.clone() });
    });
    numbers(2, 8, |_, epoch| {
        let mut row = world.destination.clone();
        row.released.as_mut().unwrap().epoch = epoch;
        refused("epoch", row);
    });
    every(world.destination.transfer.as_bytes(), |_, wrong| {
        if let Some(transfer) = TransferId::from_slice(&wrong) {
            refused("transfer", Destination { transfer, ..world.destination.clone() });
        }
    });
    print(&tally, 250);
}
