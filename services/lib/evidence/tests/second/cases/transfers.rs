//! Transfers: one log against its signed statements, and two logs against each other.

use domicile_evidence::bundle::Frame;
use domicile_evidence::event::EventType;
use domicile_evidence::statement::{AbortReason, Body, SignedStatement};
use domicile_types::ids::ConsentId;
use domicile_types::time::Timestamp;
use uuid::Uuid;

use super::end;
use crate::common::{Log, Pair, TestKey, file, transfer};
use crate::vectors::{Case, NOW, Vectors};

const EXPIRES: i64 = 1_800_000_600_000_000;
const BEGUN: i64 = 1_800_000_000_000_000;
const HOUR: i64 = 3_600_000_000;

pub fn add(vectors: &mut Vectors) {
    agreeing(vectors);
    one_sided(vectors);
    replayed(vectors);
    between_two(vectors);
    overdue(vectors);
}

/// Puts both bundles of a pair into files.
fn both(vectors: &mut Vectors, name: &str, pair: &Pair) -> [String; 2] {
    let names = [format!("{name}.eu.bundle"), format!("{name}.ca.bundle")];
    vectors.file(&names[0], pair.source.bundle());
    vectors.file(&names[1], pair.destination.bundle());
    names
}

/// A case of both bundles of a pair.
fn two(vectors: &mut Vectors, exit: u8, name: &str, pair: &Pair) {
    let [eu, ca] = both(vectors, name, pair);
    vectors.case(Case::new(name, exit, &[&eu, &ca]).transfer(&pair.transfer));
}

fn agreeing(vectors: &mut Vectors) {
    let pair = Pair::aborted(1);
    let [eu, ca] = both(vectors, "aborted", &pair);
    vectors.case(Case::new("aborted", 0, &[&eu, &ca]).transfer(&pair.transfer));
    vectors.case(Case::new("aborted.all", 0, &[&eu, &ca]));
    vectors.case(Case::new("aborted.one", 0, &[&eu]).transfer(&pair.transfer.uuid().simple()));
    vectors.case(Case::new("aborted.without-policy", 0, &[&ca]).policy(None));
    vectors.case(Case::new("aborted.not-pinned", 10, &[&eu]).policy(Some("policy.ca.json")));
    vectors.case(Case::new("aborted.state", 0, &[&eu, &ca]).state("seen.first.json"));
    two(vectors, 0, "moved", &moved());

    let mut pair = Pair::new(1);
    pair.requested(Timestamp::from_micros(EXPIRES));
    unheard(&mut pair);
    close(&mut pair);
    two(vectors, 0, "on-its-way", &pair);

    let mut pair = Pair::aborted(1);
    let other = Pair::aborted(2);
    other.source.statements.iter().for_each(|signed| pair.source.push_statement(signed));
    pair.source.notes.clear();
    pair.source.checkpoint();
    vectors.one(0, "about-one-of-two", file(&pair.source.frames(Some(pair.transfer))));
    vectors.one(0, "about-another", file(&pair.source.frames(Some(transfer(9)))));
}

/// Takes the last step out of the destination's log.
fn unheard(pair: &mut Pair) {
    pair.destination.entries.pop();
    pair.destination.statements.pop();
}

/// Signs both logs as they are.
fn close(pair: &mut Pair) {
    for log in [&mut pair.source, &mut pair.destination] {
        log.notes.clear();
        log.checkpoint();
    }
}

/// A whole move, every step and every body.
fn moved() -> Pair {
    let mut pair = Pair::new(1);
    let digest = |byte: u8| [byte; 32];
    pair.requested(Timestamp::from_micros(EXPIRES));
    pair.theirs(&Body::Preflighted { offer_digest: None, kinds: 3, protocol: 1 });
    pair.ours(&Body::Preflighted { offer_digest: Some(digest(3)), kinds: 3, protocol: 1 });
    pair.ours(&Body::Consented {
        consent: ConsentId::from_uuid(Uuid::from_u128(4)),
        consent_digest: digest(4),
        offer_digest: digest(3),
        notice_version: "2026-1".into(),
        destination: pair.destination.region.clone(),
        expires_at: Timestamp::from_micros(EXPIRES),
    });
    pair.theirs(&Body::Copying { suite: 1, hpke_public: vec![5; 32] });
    pair.ours(&Body::Copying { suite: 1, hpke_public: Vec::new() });
    pair.ours(&Body::Frozen { freeze: 1, final_revision: 8 });
    pair.ours(&Body::Unfrozen { freeze: 1 });
    pair.ours(&Body::Frozen { freeze: 2, final_revision: 9 });
    let (rows, objects) = (20, 2);
    pair.theirs(&Body::Staged {
        freeze: 2,
        final_revision: 9,
        rows,
        objects,
        bytes: 70_000,
        root: digest(6),
    });
    pair.ours(&released());
    pair.theirs(&Body::Adopted { epoch: 2, rows, root: digest(6) });
    pair.theirs(&Body::Rekeyed { epoch: 2, rows, objects, backup_digest: digest(7) });
    pair.ours(&Body::Shredded {
        epoch: 1,
        rows,
        objects,
        keys: 23,
        unreadable_at: Timestamp::from_micros(NOW),
        provable_at: Timestamp::from_micros(-1),
        method: "cryptographic erase".into(),
    });
    close(&mut pair);
    pair
}

fn released() -> Body {
    let (root, key_release_digest, consent_digest) = ([6; 32], [2; 32], [4; 32]);
    Body::Released { freeze: 2, final_revision: 9, root, epoch: 2, key_release_digest, consent_digest }
}

/// One log alone shows it: what is signed and what is logged are not the same.
fn one_sided(vectors: &mut Vectors) {
    let mut of_source = |name: &str, damage: &dyn Fn(&mut Log)| {
        let mut pair = Pair::aborted(1);
        damage(&mut pair.source);
        pair.source.notes.clear();
        pair.source.checkpoint();
        vectors.one(15, name, pair.source.bundle());
    };
    of_source("step-first-dropped", &|log| drop(log.entries.remove(5)));
    of_source("step-dropped", &|log| drop(log.entries.remove(7)));
    of_source("steps-reordered", &|log| log.entries.swap(5, 7));
    of_source("statement-left-out", &|log| drop(log.statements.remove(2)));
    of_source("statement-by-another-key", &|log| {
        let read = log.statements[0].read().expect("a statement");
        log.statements[0] = SignedStatement::sign(&TestKey::new(77), read.statement, &read.body);
    });
    of_source("statement-of-unknown-region", &|log| {
        let mut read = log.statements[0].read().expect("a statement");
        read.statement.origin = crate::common::region("us");
        log.statements.push(SignedStatement::sign(&log.statement, read.statement, &read.body));
    });
    of_source("step-of-another-number", &|log| {
        let mut entry = log.entry(EventType::TransferRequested);
        let mut reference = log.statements[0].read().expect("a statement").statement.reference();
        (reference.sequence, reference.seen) = (0, Some((9, [9; 32])));
        (entry.transfer, entry.statement) = (Some(reference.transfer), Some(reference));
        log.push(&entry);
    });
    of_source("step-twice", &|log| {
        let mut entry = log.entry(EventType::TransferRequested);
        let reference = log.statements[0].read().expect("a statement").statement.reference();
        (entry.transfer, entry.statement) = (Some(reference.transfer), Some(reference));
        log.push(&entry);
    });

    let mut frames = Pair::aborted(1).source.frames(None);
    let at = frames.iter().position(|frame| matches!(frame, Frame::Statement(_))).expect("a statement");
    let Frame::Statement(signed) = &mut frames[at] else { panic!("a statement") };
    signed.body[1] ^= 1;
    vectors.one(3, "statement-body-changed", file(&frames));
    let mut frames = Pair::aborted(1).source.frames(None);
    frames.remove(at);
    vectors.one(13, "statement-left-out-of-the-count", file(&frames));
    let count = u64::try_from(Pair::aborted(1).source.entries.len()).expect("small");
    end(&mut frames, count, 4);
    vectors.one(15, "statement-left-out-and-counted", file(&frames));
}

/// A step of another transfer, and the same with the transfer's id written over.
fn replayed(vectors: &mut Vectors) {
    for (name, over) in [("step-of-another-transfer", false), ("step-with-another-id", true)] {
        let mut pair = Pair::aborted(1);
        let other = Pair::aborted(2);
        let mut stolen = pair.source.entry(EventType::TransferRequested);
        let mut reference = other.source.statements[0].read().expect("a statement").statement.reference();
        if over {
            (reference.transfer, reference.sequence) = (pair.transfer, 4);
        }
        (stolen.transfer, stolen.statement) = (Some(pair.transfer), Some(reference));
        pair.source.push(&stolen);
        pair.source.checkpoint();
        vectors.one(15, name, pair.source.bundle());
    }
}

/// Each log is whole; together they are not.
fn between_two(vectors: &mut Vectors) {
    // The source told one region another reason than it told itself.
    let mut told = Pair::new(1);
    let mut itself = Pair::new(1);
    for (pair, reason) in [(&mut told, AbortReason::Withdrawn), (&mut itself, AbortReason::Failed)] {
        pair.requested(Timestamp::from_micros(EXPIRES));
        pair.ours(&Body::Aborting { reason });
        close(pair);
    }
    itself.destination = told.destination;
    two(vectors, 15, "two-stories", &itself);

    let mut pair = Pair::new(1);
    pair.requested(Timestamp::from_micros(EXPIRES));
    pair.theirs(&Body::Aborted { reason: AbortReason::Cancelled });
    unheard(&mut pair);
    close(&mut pair);
    two(vectors, 15, "ended-in-one-log-alone", &pair);

    let mut pair = Pair::new(1);
    pair.destination.fill(1);
    pair.source.fill(1);
    close(&mut pair);
    let [_, nothing] = both(vectors, "nothing-told", &pair);
    vectors.case(
        Case::new("told-in-one-log-alone", 15, &["aborted.eu.bundle", &nothing]).transfer(&pair.transfer),
    );
    vectors.case(
        Case::new("told-in-neither", 2, &["nothing-told.eu.bundle", &nothing]).transfer(&pair.transfer),
    );
    vectors.case(Case::new("not-told-and-not-asked", 0, &["aborted.eu.bundle", &nothing]));
}

fn overdue(vectors: &mut Vectors) {
    let mut pair = Pair::new(1);
    pair.requested(Timestamp::from_micros(EXPIRES));
    pair.source.checkpoint();
    vectors.file("requested.bundle", pair.source.bundle());
    let at = |name, exit, bundle: &str, now| Case::new(name, exit, &[bundle]).now(now);
    vectors.case(at("requested-in-time", 0, "requested.bundle", EXPIRES));
    vectors.case(at("requested-overdue", 16, "requested.bundle", EXPIRES + 1));
    pair.ours(&released());
    pair.source.checkpoint();
    vectors.file("released.bundle", pair.source.bundle());
    let (hours, bundle) = (BEGUN + 72 * HOUR, "released.bundle");
    vectors.case(at("released-settling", 0, bundle, hours));
    vectors.case(at("released-overdue", 16, bundle, hours + 1));
    let policy = Some("policy.settle.json");
    vectors.case(at("released-overdue-by-policy", 16, bundle, BEGUN + HOUR + 1).policy(policy));
}
