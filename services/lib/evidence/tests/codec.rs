//! Everything that is encoded reads back, to the same bytes, and nothing else is accepted.

mod common;

use common::{Log, TestKey, region, transfer};
use domicile_evidence::bundle::{BundleReader, Frame};
use domicile_evidence::cbor::{Reader, Value, Writer};
use domicile_evidence::checkpoint::Checkpoint;
use domicile_evidence::enrolment::{Enrolment, Practitioner, SignedEnrolment};
use domicile_evidence::entry::{Entry, ErrorCode, Outcome, StatementRef};
use domicile_evidence::event::{Action, EventType, Purpose};
use domicile_evidence::keys::{Signer as _, VerifierKey};
use domicile_evidence::merkle::leaf_hash;
use domicile_evidence::note::Note;
use domicile_evidence::policy::Policy;
use domicile_evidence::statement::{AbortReason, Body, Lane, SignedStatement, Step};
use domicile_types::time::Timestamp;
use domicile_types::{AccountId, Code, ConsentId, EventId, ItemId, PracticeId, RequestId, Role, TransferId};
use proptest::prelude::*;
use uuid::Uuid;

#[test]
fn numbers_take_their_shortest_form() {
    // RFC 8949 appendix A.
    for (number, hex) in [
        (0, "00"),
        (23, "17"),
        (24, "1818"),
        (100, "1864"),
        (1000, "1903e8"),
        (1_000_000, "1a000f4240"),
        (1_000_000_000_000, "1b000000e8d4a51000"),
        (u64::MAX, "1bffffffffffffffff"),
    ] {
        assert_eq!(hex::encode(Value::Unsigned(number).encode()), hex);
    }
    assert_eq!(hex::encode(Value::from(-1_i64).encode()), "20");
    assert_eq!(hex::encode(Value::from(-1000_i64).encode()), "3903e7");
    assert_eq!(hex::encode(Value::from("ü").encode()), "62c3bc");
    assert_eq!(hex::encode(Value::from(vec![Value::Unsigned(1), Value::from([4_u8])]).encode()), "82014104");
    let map = Writer::new().put(3, 4_u8).put(1, 2_u8);
    assert_eq!(hex::encode(map.encode()), "a201020304");
}

#[test]
fn what_is_not_deterministic_is_refused() {
    for bad in [
        "",           // nothing
        "1817",       // 23 in two bytes
        "190018",     // 24 in three
        "1a00000100", // 256 in five
        "1b0000000000000001",
        "a203040102", // keys fall
        "a201020102", // a key twice
        "a1410101",   // a key that is bytes
        "5f41014102ff",
        "9f01ff", // of indefinite length
        "c001",
        "f5",
        "f90000", // a tag, a truth value, a float
        "62c328", // not UTF-8
        "4201",   // shorter than it says
        "0000",   // something behind it
        "9bffffffffffffffff",
        "bbffffffffffffffff",
        "5bffffffffffffffff",
        "818181818181818181818101", // too deep
    ] {
        assert!(Value::decode("test", &hex::decode(bad).expect("hex")).is_err(), "{bad}");
    }
}

#[test]
fn a_field_that_nobody_took_is_refused() {
    let bytes = Writer::new().put(1, 2_u8).put(9, 9_u8).encode();
    let mut map = Reader::decode("test", &bytes).expect("a map");
    assert_eq!(map.unsigned::<u8>(1), Ok(2));
    assert!(map.finish().is_err());
}

#[test]
fn event_numbers_and_names_are_unique_and_every_declared_event_is_known() {
    for (at, event) in EventType::ALL.iter().enumerate() {
        assert_eq!(EventType::parse(event.name()), Some(*event));
        assert_eq!(EventType::from_number(event.number()), Some(*event));
        assert_eq!(EventType::ALL.iter().position(|other| other.number() == event.number()), Some(at));
    }
    for step in Step::ALL {
        assert_eq!((Step::from_number(step.number()), Step::parse(step.name())), (Some(*step), Some(*step)));
    }
    // P37: the log can hold what every RPC declares.
    let protos = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../proto/domicile");
    let mut declared = 0;
    for service in std::fs::read_dir(protos).expect("the proto folder") {
        for file in std::fs::read_dir(service.expect("a folder").path().join("v1")).expect("v1") {
            let text = std::fs::read_to_string(file.expect("a file").path()).expect("text");
            for line in text.lines() {
                let Some(name) =
                    line.trim().strip_prefix("audit: \"").and_then(|rest| rest.strip_suffix('"'))
                else {
                    continue;
                };
                declared += 1;
                assert!(
                    name == "none" || EventType::parse(name).is_some(),
                    "{name} is not in the closed list"
                );
            }
        }
    }
    assert!(declared > 40, "the declarations were found");
}

#[test]
fn outcomes_follow_the_class_of_the_error() {
    assert_eq!(Outcome::of(Ok(())), Outcome::Ok);
    assert_eq!(Outcome::of(Err(Code::Forbidden)), Outcome::Denied(Code::Forbidden.into()));
    assert_eq!(Outcome::of(Err(Code::SignInFailed)), Outcome::Denied(Code::SignInFailed.into()));
    assert_eq!(Outcome::of(Err(Code::Conflict)), Outcome::Failed(Code::Conflict.into()));
    for code in Code::ALL {
        assert_eq!(ErrorCode::parse(code.as_str()), Some((*code).into()));
    }
}

fn uuid() -> impl Strategy<Value = Uuid> {
    any::<[u8; 16]>().prop_map(Uuid::from_bytes)
}

fn at() -> impl Strategy<Value = Timestamp> {
    any::<i64>().prop_map(Timestamp::from_micros)
}

fn seen() -> impl Strategy<Value = Option<(u64, [u8; 32])>> {
    proptest::option::of((any::<u64>(), any::<[u8; 32]>()))
}

fn reference() -> impl Strategy<Value = StatementRef> {
    let step = proptest::sample::select(Step::ALL);
    let digests = (any::<[u8; 32]>(), any::<[u8; 32]>(), seen());
    (uuid(), any::<u64>(), any::<u64>(), step, digests).prop_map(
        |(transfer, attempt, sequence, step, (digest, prev, seen))| StatementRef {
            transfer: TransferId::from_uuid(transfer),
            attempt,
            origin: region("eu"),
            sequence,
            step,
            digest,
            prev,
            seen,
        },
    )
}

fn outcome() -> impl Strategy<Value = Outcome> {
    let code = proptest::sample::select(Code::ALL);
    prop_oneof![
        Just(Outcome::Ok),
        code.clone().prop_map(|code| Outcome::Denied(code.into())),
        code.prop_map(|code| Outcome::Failed(code.into())),
    ]
}

fn entry() -> impl Strategy<Value = Entry> {
    let purposes = [Purpose::Treatment, Purpose::ClientRequest, Purpose::Transfer, Purpose::Oversight];
    let who = (
        proptest::option::of(any::<[u8; 16]>()),
        proptest::sample::select(Role::ALL),
        proptest::sample::select(purposes.to_vec()),
        proptest::option::of(any::<[u8; 16]>()),
    );
    let what = (
        proptest::sample::select(EventType::ALL),
        proptest::option::of("[a-z_]{1,32}"),
        proptest::option::of(uuid()),
        proptest::option::of(uuid()),
        outcome(),
        any::<u32>(),
        proptest::option::of(uuid()),
        proptest::option::of(any::<[u8; 32]>()),
        proptest::option::of(reference()),
    );
    let when = (at(), proptest::option::of(at()), uuid(), any::<u64>(), any::<u64>());
    (uuid(), any::<[u8; 16]>(), when, who, what).prop_map(|(id, nonce, when, who, what)| Entry {
        origin: "eu.example/log".into(),
        event: what.0,
        event_id: EventId::from_uuid(id),
        nonce,
        written_at: when.0,
        sequenced_at: when.1,
        writer: when.2,
        writer_epoch: when.3,
        writer_sequence: when.4,
        actor: who.0,
        role: who.1,
        purpose: who.2,
        subject: who.3,
        resource: what.1,
        item: what.2.map(ItemId::from_uuid),
        transfer: what.3.map(TransferId::from_uuid),
        outcome: what.4,
        policy_version: what.5,
        request: what.6.map(RequestId::from_uuid),
        detail_commit: what.7,
        statement: what.8,
    })
}

fn body() -> impl Strategy<Value = Body> {
    let reason = proptest::sample::select(AbortReason::ALL);
    prop_oneof![
        at().prop_map(|expires_at| Body::Requested {
            source: region("eu"),
            destination: region("ca"),
            expires_at
        }),
        (proptest::option::of(any::<[u8; 32]>()), any::<u32>(), any::<u16>())
            .prop_map(|(offer_digest, kinds, protocol)| Body::Preflighted { offer_digest, kinds, protocol }),
        (uuid(), any::<[u8; 32]>(), any::<[u8; 32]>(), "[a-z0-9.-]{0,64}", at()).prop_map(
            |(consent, consent_digest, offer_digest, notice_version, expires_at)| Body::Consented {
                consent: ConsentId::from_uuid(consent),
                consent_digest,
                offer_digest,
                notice_version,
                destination: region("ca"),
                expires_at,
            }
        ),
        (any::<u16>(), proptest::collection::vec(any::<u8>(), 0..200))
            .prop_map(|(suite, hpke_public)| Body::Copying { suite, hpke_public }),
        (any::<u32>(), any::<u64>())
            .prop_map(|(freeze, final_revision)| Body::Frozen { freeze, final_revision }),
        any::<u32>().prop_map(|freeze| Body::Unfrozen { freeze }),
        (any::<u32>(), any::<[u64; 4]>(), any::<[u8; 32]>()).prop_map(
            |(freeze, [final_revision, rows, objects, bytes], root)| Body::Staged {
                freeze,
                final_revision,
                rows,
                objects,
                bytes,
                root,
            }
        ),
        (any::<u32>(), any::<[u64; 2]>(), any::<[[u8; 32]; 3]>()).prop_map(
            |(freeze, [final_revision, epoch], [root, key_release_digest, consent_digest])| Body::Released {
                freeze,
                final_revision,
                root,
                epoch,
                key_release_digest,
                consent_digest,
            }
        ),
        (any::<[u64; 2]>(), any::<[u8; 32]>()).prop_map(|([epoch, rows], root)| Body::Adopted {
            epoch,
            rows,
            root
        }),
        (any::<[u64; 3]>(), any::<[u8; 32]>()).prop_map(|([epoch, rows, objects], backup_digest)| {
            Body::Rekeyed { epoch, rows, objects, backup_digest }
        }),
        (any::<[u64; 4]>(), at(), at(), "[ -~]{0,128}").prop_map(
            |([epoch, rows, objects, keys], unreadable_at, provable_at, method)| Body::Shredded {
                epoch,
                rows,
                objects,
                keys,
                unreadable_at,
                provable_at,
                method,
            }
        ),
        reason.clone().prop_map(|reason| Body::Aborting { reason }),
        reason.prop_map(|reason| Body::Aborted { reason }),
    ]
}

proptest! {
    #[test]
    fn entries_read_back(entry in entry()) {
        let bytes = entry.encode();
        prop_assert!(bytes.len() < 700, "{} bytes", bytes.len());
        prop_assert_eq!(Entry::decode(&bytes), Ok(entry));
    }

    #[test]
    fn statements_read_back_and_every_flipped_byte_is_caught(
        body in body(), sequence in any::<u64>(), at in at(), seen in seen(), flip in any::<prop::sample::Index>(),
    ) {
        let key = TestKey::new(1);
        let lane = Lane { last_sequence: sequence, ..Lane::new(transfer(1), 3, region("eu")) };
        let mut statement = lane.next(&body, at, &Lane::new(transfer(1), 3, region("ca")));
        statement.seen = seen;
        let signed = SignedStatement::sign(&key, statement.clone(), &body);
        let read = signed.verify(&key.public()).expect("verifies");
        prop_assert_eq!((&read.statement, &read.body, read.digest), (&statement, &body, statement.digest()));

        let total = signed.statement.len() + signed.body.len() + 64;
        let at = flip.index(total);
        let mut wrong = signed.clone();
        if at < wrong.statement.len() {
            wrong.statement[at] ^= 1;
        } else if at < wrong.statement.len() + wrong.body.len() {
            wrong.body[at - signed.statement.len()] ^= 1;
        } else {
            wrong.signature[at - signed.statement.len() - signed.body.len()] ^= 1;
        }
        prop_assert!(wrong.verify(&key.public()).is_err());
        prop_assert!(signed.verify(&TestKey::new(2).public()).is_err());
    }

    #[test]
    fn enrolments_read_back(names in proptest::collection::vec((uuid(), ".{0,40}", ".{0,40}"), 0..5), at in at()) {
        let enrolment = Enrolment {
            practice: PracticeId::from_uuid(Uuid::from_u128(5)),
            name: "Praxis Böhm".into(),
            home: region("eu"),
            destinations: vec![region("ca"), region("au")],
            practitioners: names
                .into_iter()
                .map(|(account, name, email)| Practitioner { account: AccountId::from_uuid(account), name, email })
                .collect(),
            agreement_version: "dpa-1".into(),
            at,
        };
        let key = TestKey::new(1);
        let signed = SignedEnrolment::sign(&key, &enrolment);
        prop_assert!(signed.verify(&key.public()).expect("verifies") == enrolment);
        prop_assert!(signed.verify(&TestKey::new(2).public()).is_err());
    }

    // Garbage into every parser: an answer, never a panic.
    #[test]
    fn garbage_is_answered(bytes in proptest::collection::vec(any::<u8>(), 0..300), text in "\\PC{0,80}\n?\n?— \\PC{0,20}") {
        drop(Value::decode("test", &bytes));
        prop_assert!(Entry::decode(&bytes).is_err());
        for step in Step::ALL {
            drop(Body::decode(*step, &bytes));
        }
        prop_assert!(Enrolment::decode(&bytes).is_err());
        drop((Note::parse(&text), Checkpoint::parse(&text), VerifierKey::parse(&text), Policy::parse(&text)));
        let mut reader = BundleReader::new();
        reader.push(&bytes);
        prop_assert!(!matches!(reader.frame(), Ok(Some(_))));
    }

    // Accepted bytes are always the one encoding.
    #[test]
    fn what_decodes_encodes_to_the_same_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
        if let Ok(value) = Value::decode("test", &bytes) {
            prop_assert_eq!(value.encode(), bytes);
        }
    }
}

#[test]
fn every_flipped_byte_of_an_entry_changes_its_leaf_or_makes_it_unreadable() {
    let bytes = Log::new("eu", 1).entry(EventType::RecordItemRead).encode();
    let hash = leaf_hash(&bytes);
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut wrong = bytes.clone();
            wrong[at] ^= 1 << bit;
            assert_ne!(leaf_hash(&wrong), hash);
            if let Ok(entry) = Entry::decode(&wrong) {
                assert_eq!(entry.encode(), wrong, "an accepted entry has one encoding");
            }
        }
    }
}

#[test]
fn an_entry_is_small_and_names_its_action() {
    let entry = Log::new("eu", 1).entry(EventType::RecordItemWrite);
    let bytes = entry.encode();
    assert!((100..400).contains(&bytes.len()), "{} bytes", bytes.len());
    assert_eq!(entry.event.action(), Action::Update);
    // An action that is not the event's is refused, so that no two entries say the same thing.
    let mut map = match Value::decode("test", &bytes).expect("CBOR") {
        Value::Map(map) => map,
        _ => panic!("an entry is a map"),
    };
    map.insert(18, Value::Unsigned(u64::from(Action::Delete.number())));
    assert!(Entry::decode(&Value::Map(map).encode()).is_err());
}

#[test]
fn a_lane_takes_only_what_follows() {
    let (key, ours) = (TestKey::new(1), Lane::new(transfer(1), 1, region("eu")));
    let theirs = Lane::new(transfer(1), 1, region("ca"));
    let state = |lane: &Lane, other: &Lane| {
        let body = Body::Unfrozen { freeze: 1 };
        let signed = SignedStatement::sign(&key, lane.next(&body, Timestamp::EPOCH, other), &body);
        signed.read().expect("a statement")
    };
    let first = state(&ours, &theirs);
    let one = ours.accept(&first.statement, first.digest).expect("follows");
    let second = state(&one, &theirs);
    assert!(ours.accept(&second.statement, second.digest).is_err(), "skips one");
    assert!(one.accept(&first.statement, first.digest).is_err(), "a repeat");
    let two = one.accept(&second.statement, second.digest).expect("follows");

    let reply = state(&theirs, &two);
    let answered = theirs.accept(&reply.statement, reply.digest).expect("follows");
    assert_eq!(answered.last_seen, Some((2, two.last_digest)));
    for blind in [&Lane::new(transfer(1), 1, region("eu")), &one] {
        let back = state(&answered, blind);
        assert!(answered.accept(&back.statement, back.digest).is_err(), "has seen less than before");
    }
    for other in [
        Lane::new(transfer(2), 1, region("eu")),
        Lane::new(transfer(1), 2, region("eu")),
        Lane::new(transfer(1), 1, region("us")),
    ] {
        let foreign = state(&other, &theirs);
        let refused = ours.accept(&foreign.statement, foreign.digest).expect_err("another lane");
        assert_eq!(refused.code(), Code::StatementInvalid);
    }
    let mut forged = second.statement;
    forged.prev = [9; 32];
    assert!(one.accept(&forged, forged.digest()).is_err(), "follows something else");
}

#[test]
fn frames_read_back_in_pieces_of_any_size() {
    let mut log = Log::new("eu", 1);
    log.fill(20);
    log.checkpoint();
    let (frames, bytes) = (log.frames(None), log.bundle());
    for size in [1, 7, 64, 4096, bytes.len()] {
        let mut reader = BundleReader::new();
        let mut read: Vec<Frame> = Vec::new();
        for piece in bytes.chunks(size) {
            reader.push(piece);
            while let Some(frame) = reader.frame().expect("a bundle") {
                read.push(frame);
            }
        }
        assert!(reader.is_empty());
        assert!(read == frames, "pieces of {size}");
    }
}

#[test]
fn a_verifier_key_is_what_it_says() {
    let key = VerifierKey::new("eu.example/log", TestKey::new(1).public()).expect("a name");
    assert_eq!(VerifierKey::parse(&key.to_string()), Ok(key.clone()));
    let json = serde_json::to_string(&key).expect("JSON");
    assert_eq!(serde_json::from_str::<VerifierKey>(&json).expect("a key"), key);
    for bad in ["", "a", "a+b", "a+b+c", &key.to_string().replace("eu", "ca"), &format!("{key}A")] {
        assert!(VerifierKey::parse(bad).is_err(), "{bad}");
    }
    for name in ["", "two words", "a+b", "line\nbreak", &"x".repeat(129)] {
        assert!(VerifierKey::new(name, TestKey::new(1).public()).is_err(), "{name:?}");
    }
}
