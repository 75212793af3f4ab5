//! The vectors: honest logs, and every kind of damage with the exit code it must have.

use std::time::Duration;

use domicile_evidence::bundle::{Frame, MAGIC};
use domicile_evidence::cbor::Writer;
use domicile_evidence::entry::{Entry, ErrorCode, LOST_NUMBER, Outcome};
use domicile_evidence::event::{EventType, Purpose};
use domicile_evidence::keys::{PublicKey, VerifierKey};
use domicile_evidence::note::{Note, NoteSigner};
use domicile_evidence::policy::Policy;
use domicile_evidence::verify::SavedHead;
use domicile_types::Role;
use domicile_types::time::Timestamp;
use uuid::Uuid;

use crate::common::{Log, Pair, TestKey, file, policy};
use crate::together::State;
use crate::vectors::{Case, NOW, Vectors};

mod transfers;

const HOUR: Duration = Duration::from_secs(3600);

/// Every vector, in an order that stays.
pub fn all() -> Vectors {
    let mut vectors = Vectors::new();
    policies(&mut vectors);
    honest(&mut vectors);
    unreadable(&mut vectors);
    altered_entries(&mut vectors);
    altered_signatures(&mut vectors);
    heads(&mut vectors);
    missing(&mut vectors);
    times(&mut vectors);
    transfers::add(&mut vectors);
    usage(&mut vectors);
    vectors.finish()
}

fn policies(vectors: &mut Vectors) {
    let pair = Pair::new(1);
    let plain = pair.policy();
    let with = |change: fn(&mut Policy)| {
        let mut policy = plain.clone();
        change(&mut policy);
        policy.to_json()
    };
    vectors.file("policy.json", plain.to_json());
    vectors.file("policy.hour.json", with(|policy| policy.max_age_hours = Some(1)));
    vectors.file("policy.settle.json", with(|policy| policy.settle_hours = Some(1)));
    vectors.file("policy.quorum.json", with(|policy| policy.quorum = 2));
    vectors.file("policy.one.json", with(|policy| policy.quorum = 1));
    vectors.file("policy.ca.json", policy(&[&pair.destination]).to_json());
    let eu = serde_json::to_string(&pair.source.keys).expect("JSON");
    vectors.file("policy.twice.json", format!(r#"{{"logs":{{"eu":{eu},"eu":{eu}}},"quorum":0}}"#));
    vectors.file("policy.unknown.json", format!(r#"{{"logs":{{"eu":{eu}}},"quorum":0,"more":1}}"#));
    vectors.file("policy.garbage.json", "{\"logs\": [");
}

fn grown(count: usize) -> Log {
    let mut log = Log::new("eu", 10);
    log.fill(count / 2);
    log.checkpoint();
    log.fill(count - count / 2);
    log.checkpoint();
    log
}

/// The bundle of a log grown by these entries, in frames that the closure damages.
fn damaged(count: usize, damage: impl FnOnce(&mut Vec<Frame>)) -> Vec<u8> {
    let mut frames = grown(count).frames(None);
    damage(&mut frames);
    file(&frames)
}

/// The bundle of a log with more entries, each made from the log's next by a change.
fn with(changes: &[&dyn Fn(&mut Entry)]) -> Vec<u8> {
    let mut log = grown(4);
    for change in changes {
        let mut entry = log.entry(EventType::RecordItemRead);
        change(&mut entry);
        log.push(&entry);
    }
    log.checkpoint();
    log.bundle()
}

fn honest(vectors: &mut Vectors) {
    vectors.one(0, "honest", grown(6).bundle());
    vectors.case(Case::new("honest.without-policy", 0, &["honest.bundle"]).policy(None));
    let mut empty = Log::new("eu", 10);
    empty.checkpoint();
    vectors.one(0, "empty", empty.bundle());
    empty.fill(2);
    empty.checkpoint();
    vectors.one(0, "first-head-empty", empty.bundle());
    vectors.one(0, "every-event", every_event().bundle());
    vectors.one(0, "two-tiles", two_tiles().bundle());
    vectors.one(
        0,
        "no-tiles",
        damaged(4, |frames| frames.retain(|one| !matches!(one, Frame::Hashes { .. }))),
    );
    vectors.one(
        0,
        "writers",
        with(&[
            &|entry| (entry.writer_epoch, entry.writer_sequence) = (2, 2),
            &|entry| (entry.writer_epoch, entry.writer_sequence) = (2, 1),
            &|entry| (entry.writer, entry.writer_sequence) = (Uuid::from_u128(8), 1),
            &|entry| entry.writer_sequence = 6,
            &|entry| {
                (entry.event, entry.writer_sequence) = (EventType::AuditVoid, 5);
                entry.resource = Some(LOST_NUMBER.to_owned());
            },
        ]),
    );
    vectors.one(0, "gap-in-flight", with(&[&|entry| entry.writer_sequence = 7]));
}

/// Every event, role, purpose and outcome, and every field that may be absent.
fn every_event() -> Log {
    let mut log = Log::new("eu", 10);
    for (at, event) in EventType::ALL.iter().enumerate() {
        let mut entry = log.entry(*event);
        let code = || ErrorCode::parse("DOM-TRANSFER-007").expect("a code");
        entry.role = Role::ALL[at % Role::ALL.len()];
        let purpose = u16::try_from(at % 6 + 1).expect("small");
        entry.purpose = Purpose::from_number(purpose).expect("a purpose");
        entry.outcome = [Outcome::Ok, Outcome::Denied(code()), Outcome::Failed(code())][at % 3].clone();
        entry.subject = None;
        if at % 4 == 1 {
            (entry.actor, entry.resource) = (None, None);
        }
        if at == 2 {
            entry.item = Some(domicile_types::ItemId::from_uuid(Uuid::from_u128(5)));
            entry.request = Some(domicile_types::ids::RequestId::from_uuid(Uuid::from_u128(6)));
            entry.transfer = Some(crate::common::transfer(3));
            entry.detail_commit = Some([4; 32]);
        }
        log.push(&entry);
    }
    log.checkpoint();
    log
}

/// More entries than a tile has, each as short as can be.
fn two_tiles() -> Log {
    let mut log = Log::new("eu", 10);
    for at in 0..257 {
        let mut entry = log.entry(EventType::RecordItemRead);
        (entry.actor, entry.subject, entry.resource) = (None, None, None);
        log.push(&entry);
        if [0, 254, 255, 256].contains(&at) {
            log.checkpoint();
        }
    }
    log
}

fn unreadable(vectors: &mut Vectors) {
    let whole = grown(4).bundle();
    vectors.one(3, "nothing", Vec::new());
    vectors.one(3, "magic-alone", MAGIC.to_vec());
    vectors.one(3, "something-else", b"PK\x03\x04 something else entirely".to_vec());
    vectors.one(3, "cut", whole[..whole.len() / 2].to_vec());
    vectors.one(3, "cut-last-byte", whole[..whole.len() - 1].to_vec());
    vectors.one(3, "byte-too-many", [whole.as_slice(), b"\0"].concat());
    vectors.one(3, "no-header", damaged(2, |frames| frames.swap(0, 1)));
    vectors.one(3, "two-headers", damaged(2, |frames| frames.insert(1, frames[0].clone())));
    vectors.one(3, "heads-fall", damaged(4, |frames| frames.swap(2, 3)));
    vectors.one(3, "head-after-entries", damaged(4, |frames| frames.swap(3, 5)));
    vectors.one(3, "unknown-frame", [whole.as_slice(), b"\x08\0\0\0\0"].concat());
    let mut long = whole[..MAGIC.len()].to_vec();
    long.extend([1, 0, 0x10, 0, 1]);
    vectors.one(3, "frame-too-large", long);
    vectors.one(
        3,
        "entries-and-hashes-left-out",
        damaged(4, |frames| {
            frames.retain(|one| !matches!(one, Frame::Hashes { .. } | Frame::Entry { index: 1, .. }));
        }),
    );
}

/// A bundle with an entry whose bytes the closure changes, all hashes and signatures made anew.
fn resigned(change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut log = grown(2);
    let mut bytes = log.entry(EventType::RecordItemRead).encode();
    change(&mut bytes);
    log.entries.push(bytes);
    log.checkpoint();
    log.bundle()
}

/// Sets a field of an entry to a value of another kind or one that nobody knows.
fn field(bytes: &mut Vec<u8>, key: u64, value: impl Into<domicile_evidence::cbor::Value>) {
    use domicile_evidence::cbor::Value;
    let Ok(Value::Map(mut map)) = Value::decode("entry", bytes) else { panic!("a map") };
    map.insert(key, value.into());
    *bytes = Value::Map(map).encode();
}

fn altered_entries(vectors: &mut Vectors) {
    let change = |at: u64, byte: usize| {
        damaged(6, |frames| {
            for frame in frames {
                if let Frame::Entry { index, bytes } = frame
                    && *index == at
                {
                    bytes[byte] ^= 1;
                }
            }
        })
    };
    vectors.one(10, "entry-changed-first", change(0, 20));
    vectors.one(10, "entry-changed-last", change(5, 150));
    vectors.one(
        10,
        "hash-changed",
        damaged(6, |frames| {
            for frame in frames {
                if let Frame::Hashes { hashes, .. } = frame {
                    hashes[4][0] ^= 1;
                }
            }
        }),
    );
    let mut anew = grown(6);
    let mut other = anew.entry(EventType::RecordItemWrite);
    other.writer_sequence = 5;
    anew.entries[4] = other.encode();
    vectors.one(10, "changed-with-hashes-anew", anew.bundle());
    let mut replayed = grown(4);
    replayed.entries.push(replayed.entries[2].clone());
    replayed.checkpoint();
    vectors.one(10, "entry-replayed", replayed.bundle());
    let foreign: &dyn Fn(&mut Entry) = &|entry| entry.origin = "ca.example/log".into();
    vectors.one(10, "anothers-and-unsequenced", with(&[foreign, &|entry| entry.sequenced_at = None]));
    vectors.one(10, "index-twice", damaged(4, |frames| frames.insert(6, frames[5].clone())));
    vectors.one(10, "entries-past-the-head", {
        let mut log = grown(4);
        log.fill(1);
        log.bundle()
    });
    malformed(vectors);
}

/// Entries that are under the signed root and no entries.
fn malformed(vectors: &mut Vectors) {
    vectors.one(10, "entry-of-no-map", resigned(|bytes| *bytes = vec![0x80]));
    vectors.one(10, "entry-number-too-long", resigned(|bytes| drop(bytes.splice(2..3, [0x18, 1]))));
    vectors.one(10, "entry-with-a-tail", resigned(|bytes| bytes.push(0)));
    vectors.one(10, "entry-field-unknown", resigned(|bytes| field(bytes, 25, 1_u8)));
    vectors.one(10, "entry-event-unknown", resigned(|bytes| field(bytes, 3, 999_u16)));
    vectors.one(10, "entry-action-of-another", resigned(|bytes| field(bytes, 18, 5_u8)));
    vectors.one(10, "entry-version-next", resigned(|bytes| field(bytes, 1, 2_u8)));
    vectors.one(10, "entry-outcome-without-code", resigned(|bytes| field(bytes, 19, 1_u8)));
    vectors.one(10, "entry-ok-with-code", resigned(|bytes| field(bytes, 20, "DOM-AUDIT-001")));
    vectors.one(10, "entry-free-text", resigned(|bytes| field(bytes, 15, "Free text")));
    vectors.one(10, "entry-time-too-great", resigned(|bytes| field(bytes, 6, u64::MAX)));
    vectors.one(10, "entry-pseudonym-short", resigned(|bytes| field(bytes, 11, [1_u8; 15])));
    let not_utf8 = |bytes: &mut Vec<u8>| {
        let at = bytes.windows(4).position(|part| part == b"note").expect("the resource");
        bytes[at] = 0xff;
    };
    vectors.one(10, "entry-not-utf-8", resigned(not_utf8));
    vectors.one(10, "entry-too-deep", {
        let deep = |bytes: &mut Vec<u8>| *bytes = [[0x81; 9].as_slice(), &[0]].concat();
        resigned(deep)
    });
    let half = Writer::new().put(1, [1_u8; 16]).put(2, 1_u8);
    vectors.one(10, "entry-statement-incomplete", resigned(|bytes| field(bytes, 24, half)));
}

fn altered_signatures(vectors: &mut Vectors) {
    let mut thief = Log { checkpoint: TestKey::new(99), ..Log::new("eu", 10) };
    thief.keys.checkpoint = named("eu.example/log", 99);
    thief.fill(3);
    thief.checkpoint();
    vectors.one(10, "signed-by-another-key", thief.bundle());
    vectors.one(
        10,
        "no-checkpoint",
        damaged(2, |frames| frames.retain(|one| !matches!(one, Frame::Checkpoint(_)))),
    );
    vectors.case(Case::new("region-not-pinned", 10, &["honest.bundle"]).policy(Some("policy.ca.json")));
    let stranger = thief.frames(None).swap_remove(1);
    vectors.one(10, "policy-by-another-key", damaged(2, |frames| frames[1] = stranger));
    let leading = own_note("domicile/policy/v1\neu.example/log\nquorum 00\n");
    vectors.one(10, "policy-number-not-plain", damaged(2, |frames| frames[1] = Frame::Policy(leading)));
    let title = own_note("domicile/policy/v2\neu.example/log\nquorum 0\n");
    vectors.one(10, "policy-of-another-version", damaged(2, |frames| frames[1] = Frame::Policy(title)));
    let other = own_note(&format!("ca.example/log\n1\n{}=\n", "A".repeat(43)));
    vectors.one(10, "checkpoint-of-another-log", damaged(2, |frames| frames[2] = Frame::Checkpoint(other)));
    let split = |change: fn(&str) -> String| {
        damaged(2, |frames| {
            if let Frame::Checkpoint(note) = &mut frames[3] {
                *note = change(note);
            }
        })
    };
    vectors.one(10, "checkpoint-signature-cut", split(|note| note.replacen("\u{2014} eu", "\u{2014} ca", 1)));
    vectors.one(10, "checkpoint-without-final-newline", split(|note| note.trim_end().to_owned()));
    vectors.one(
        0,
        "checkpoint-with-a-strangers-line",
        split(|note| format!("{note}\u{2014} witness AAAAAAAA\n")),
    );
    curve(vectors);
}

fn named(name: &str, seed: u8) -> VerifierKey {
    use domicile_evidence::keys::Signer as _;
    VerifierKey::new(name, TestKey::new(seed).public()).expect("a name")
}

/// A note signed with the key of the log of these cases.
fn own_note(text: &str) -> String {
    let log = Log::new("eu", 10);
    let by = NoteSigner::new(&log.keys.checkpoint, &log.checkpoint).expect("the key");
    Note::sign(text, &by).expect("a note").to_string()
}

/// Keys that are not the one encoding of a point: no signature by them is one (RFC 8032, section 5.1.3).
/// The point is the neutral one, under which anybody could sign.
fn curve(vectors: &mut Vectors) {
    let mut p_plus_one = [0xff_u8; 32];
    (p_plus_one[0], p_plus_one[31]) = (0xee, 0x7f);
    let mut minus_zero = [0_u8; 32];
    (minus_zero[0], minus_zero[31]) = (1, 0x80);
    for (name, point) in [("key-not-reduced", p_plus_one), ("key-of-minus-zero", minus_zero)] {
        let key = VerifierKey::new("eu.example/log", PublicKey::new(point)).expect("a name");
        // Under the neutral point R = 0 and S = 0 is a signature of everything.
        let mut signature = [0_u8; 64];
        signature[0] = 1;
        let line = forged_line(&key, &signature);
        let mut log = grown(2);
        for note in &mut log.notes {
            let text = note.split("\n\n").next().expect("a text");
            *note = format!("{text}\n\n{line}");
        }
        let mut frames = log.frames(None);
        frames.remove(1);
        let Frame::Header(header) = &mut frames[0] else { panic!("a header") };
        header.keys.checkpoint = key;
        let bundle = format!("{name}.bundle");
        vectors.file(&bundle, file(&frames));
        vectors.case(Case::new(name, 10, &[&bundle]).policy(None));
    }
}

fn forged_line(key: &VerifierKey, signature: &[u8; 64]) -> String {
    use base64::Engine as _;
    let bytes = [key.id().as_slice(), signature].concat();
    let encoded = base64::engine::general_purpose::STANDARD.encode(bytes);
    format!("\u{2014} {} {encoded}\n", key.name())
}

fn state_of(note: String) -> Vec<u8> {
    let heads = State::from([("eu".to_owned(), SavedHead { checkpoint: note })]);
    serde_json::to_vec_pretty(&heads).expect("JSON")
}

/// The log of these cases without its entry 1, everything after it numbered anew.
fn rebuilt(count: usize) -> Log {
    let mut forged = Log::new("eu", 10);
    for at in 0..count {
        let mut entry = forged.entry(EventType::RecordItemRead);
        entry.nonce = [if at == 0 { 7 } else { 8 }; 16];
        forged.push(&entry);
    }
    forged
}

fn heads(vectors: &mut Vectors) {
    let log = grown(4);
    vectors.file("seen.json", state_of(log.note()));
    vectors.file("seen.foreign.json", state_of(Log::new("ca", 30).note()));
    let none = State::default();
    vectors.file("seen.none.json", serde_json::to_vec_pretty(&none).expect("JSON"));
    vectors.case(Case::new("state-grew", 0, &["honest.bundle"]).state("seen.json"));
    vectors.case(Case::new("state-first", 0, &["honest.bundle"]).state("seen.none.json"));
    vectors.case(Case::new("state-of-another-log", 10, &["honest.bundle"]).state("seen.foreign.json"));
    vectors.one(0, "short", grown(2).bundle());
    vectors.case(Case::new("state-cut-short", 12, &["short.bundle"]).state("seen.json"));
    vectors.case(Case::new("state-emptied", 12, &["empty.bundle"]).state("seen.json"));

    let mut forged = rebuilt(6);
    forged.checkpoint();
    vectors.one(0, "rebuilt", forged.bundle());
    vectors.case(Case::new("state-fork", 11, &["rebuilt.bundle"]).state("seen.json"));
    let mut forged = rebuilt(6);
    forged.notes = vec![log.notes[0].clone()];
    forged.checkpoint();
    vectors.one(11, "own-older-head-contradicts", forged.bundle());
    vectors.case(
        Case::new("state-and-own-head-contradict", 11, &["own-older-head-contradicts.bundle"])
            .state("seen.json"),
    );
    vectors.one(
        12,
        "tail-cut-off",
        damaged(6, |frames| {
            frames.retain(|one| !matches!(one, Frame::Hashes { .. } | Frame::Entry { index: 4.., .. }));
            end(frames, 4, 0);
        }),
    );
}

fn end(frames: &mut [Frame], entries: u64, statements: u64) {
    *frames.last_mut().expect("an end") = Frame::End { entries, statements };
}

fn missing(vectors: &mut Vectors) {
    let left_out = |indexes: std::ops::Range<u64>| {
        damaged(6, |frames| {
            frames.retain(|one| !matches!(one, Frame::Entry { index, .. } if indexes.contains(index)));
            end(frames, 6 - (indexes.end - indexes.start), 0);
        })
    };
    vectors.one(13, "entry-left-out", left_out(2..3));
    vectors.one(13, "first-entries-left-out", left_out(0..2));
    vectors.one(13, "last-entries-left-out", left_out(4..6));
    vectors.one(13, "fewer-than-counted", damaged(2, |frames| end(frames, 3, 1)));
    let late = |entry: &mut Entry| {
        entry.written_at = entry.written_at.plus(HOUR);
        entry.sequenced_at = Some(entry.written_at);
    };
    vectors.one(
        13,
        "writers-numbers-missing",
        with(&[&|entry| entry.writer_sequence = 7, &|entry| {
            entry.writer_sequence = 8;
            late(entry);
        }]),
    );
    vectors.case(Case::new("quorum-of-two", 14, &["honest.bundle"]).policy(Some("policy.quorum.json")));
    vectors.case(Case::new("quorum-of-one", 14, &["empty.bundle"]).policy(Some("policy.one.json")));
    vectors.case(Case::new("quorum-of-one-and-cut", 3, &["cut.bundle"]).policy(Some("policy.one.json")));
}

/// An entry taken in after a silence of thirty hours, written so long before.
fn after_silence(event: EventType, wait: Duration) -> impl Fn(&mut Entry) {
    move |entry| {
        entry.event = event;
        let at = entry.written_at.plus(HOUR * 30);
        (entry.sequenced_at, entry.written_at) = (Some(at), at.minus(wait));
    }
}

fn times(vectors: &mut Vectors) {
    let hour = |name, exit, bundle: &str, now| {
        Case::new(name, exit, &[bundle]).policy(Some("policy.hour.json")).now(now)
    };
    vectors.case(hour("fresh", 0, "honest.bundle", NOW));
    vectors.case(hour("stale", 17, "honest.bundle", NOW + 7_200_000_000));
    vectors.case(hour("stale-and-empty", 17, "empty.bundle", NOW));
    vectors.one(18, "clock-ahead", with(&[&|entry| entry.written_at = entry.written_at.plus(HOUR)]));
    vectors.one(18, "sequencer-went-back", {
        let back = |entry: &mut Entry| {
            (entry.written_at, entry.sequenced_at) = (Timestamp::EPOCH, Some(Timestamp::EPOCH));
        };
        with(&[&back])
    });
    vectors.one(18, "waited-too-long", with(&[&|entry| entry.written_at = entry.written_at.minus(HOUR * 2)]));
    let (read, start) = (EventType::RecordItemRead, EventType::SystemStart);
    let (off, now) = (HOUR * 30, Duration::ZERO);
    let told = |entries: &[(EventType, Duration)]| {
        let changes: Vec<_> = entries.iter().map(|(event, wait)| after_silence(*event, *wait)).collect();
        with(&changes.iter().map(|change| change as &dyn Fn(&mut Entry)).collect::<Vec<_>>())
    };
    vectors.one(0, "switched-off", told(&[(read, off), (read, off), (start, now), (read, now)]));
    vectors.one(0, "switched-off-started-before", told(&[(start, now), (read, off)]));
    vectors.one(18, "silent-without-a-start", told(&[(read, off), (read, off), (read, now)]));
    vectors.one(18, "written-while-off", told(&[(read, off.saturating_sub(HOUR * 2)), (start, now)]));
    vectors.one(18, "late-before-off", told(&[(read, off + HOUR * 2), (start, now)]));
}

fn usage(vectors: &mut Vectors) {
    for name in ["garbage", "twice", "unknown"] {
        let policy = format!("policy.{name}.json");
        vectors.case(Case::new(&format!("policy-{name}"), 2, &["honest.bundle"]).policy(Some(&policy)));
    }
    vectors.file("seen.garbage.json", "{\"eu\": {\"checkpoint\": 7}}");
    vectors.case(Case::new("state-garbage", 2, &["honest.bundle"]).state("seen.garbage.json"));
    vectors.case(Case::new("transfer-of-nobody", 2, &["honest.bundle"]).transfer(&"not-an-id"));
    vectors.case(Case::new("transfer-untold", 2, &["honest.bundle"]).transfer(&Uuid::from_u128(1)));
    vectors.case(Case::new("one-log-twice", 2, &["honest.bundle", "short.bundle"]));
    vectors.case(Case::new("one-log-twice-and-cut", 3, &["honest.bundle", "cut.bundle"]));
    vectors.case(Case::new("no-such-file", 2, &["no-such.bundle"]));
}
