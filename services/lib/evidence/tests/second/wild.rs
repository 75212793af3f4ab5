//! Random damages of honest bundles, and logs that are wild from the beginning, by fixed seeds.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use domicile_evidence::bundle::Frame;
use domicile_evidence::entry::{Entry, LOST_NUMBER, StatementRef};
use domicile_evidence::event::EventType;
use domicile_evidence::policy::Policy;
use domicile_evidence::statement::{AbortReason, Body, SignedStatement, Statement, Step};
use domicile_evidence::verify::{Demands, SavedHead};
use domicile_types::TransferId;
use domicile_types::time::Timestamp;
use serde_json::json;
use uuid::Uuid;

use crate::common::{Log, Pair, TestKey, file, region, transfer};
use crate::together::{State, since, together};
use crate::vectors::NOW;

const DAMAGES: u64 = 1500;
const LOGS: u64 = 800;

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`.
    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(end.max(1)).expect("small")).expect("small")
    }

    fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    fn of<T: Clone>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())].clone()
    }
}

/// The arguments of one verification.
struct Given {
    bundles: Vec<Vec<u8>>,
    policy: Option<Policy>,
    state: State,
    transfer: Option<TransferId>,
    now: i64,
}

/// Every case with the first verifier's answer, one a line, as the driver reads them.
pub fn lines() -> Vec<String> {
    let damages = (0..DAMAGES).map(|seed| line(&format!("damage {seed}"), &damage(&mut Random(seed))));
    let logs = (0..LOGS).map(|seed| line(&format!("wild {seed}"), &wild(&mut Random(seed + DAMAGES))));
    damages.chain(logs).collect()
}

fn line(name: &str, given: &Given) -> String {
    let now = Some(Timestamp::from_micros(given.now));
    let (policy, transfer) = (given.policy.as_ref(), given.transfer);
    let demands = Demands { policy, state: None, now, transfer };
    let verified = given.bundles.iter().map(|bundle| since(bundle, demands, &given.state)).collect();
    let answer = together(verified, transfer).ok().map(|found| {
        let (reports, comparisons) = (&found.reports, &found.comparisons);
        json!({ "exit": found.exit_code(), "reports": reports, "comparisons": comparisons })
    });
    let bundles: Vec<_> = given.bundles.iter().map(|bundle| BASE64.encode(bundle)).collect();
    let (transfer, state) = (transfer.map(|id| id.to_string()), &given.state);
    json!({
        "name": name, "bundles": bundles, "policy": policy, "state": state, "transfer": transfer,
        "now": given.now, "answer": answer,
    })
    .to_string()
}

/// An honest bundle with some bytes changed, cut, doubled or taken out.
fn damage(random: &mut Random) -> Given {
    let pair = Pair::aborted(1);
    let mut log = Log::new("eu", 10);
    log.fill(3);
    log.checkpoint();
    let kept = log.note();
    log.fill(2);
    log.checkpoint();
    let mut bundle = if random.one_in(2) { pair.source.bundle() } else { log.bundle() };
    for _ in 0..=random.below(2) {
        let at = random.below(bundle.len());
        let to = (at + random.below(40)).min(bundle.len());
        match random.below(8) {
            0 => bundle.truncate(at),
            1 => drop(bundle.drain(at..to)),
            2 => drop(bundle.splice(at..at, bundle[at..to].to_vec())),
            _ => {
                if let Some(byte) = bundle.get_mut(at) {
                    *byte ^= u8::try_from(random.below(255) + 1).expect("a byte");
                }
            }
        }
    }
    let policy = (!random.one_in(4)).then(|| pair.policy());
    let mut state = State::default();
    if random.one_in(4) {
        state.insert("eu".to_owned(), SavedHead { checkpoint: kept });
    }
    Given { bundles: vec![bundle], policy, state, transfer: None, now: NOW }
}

/// Two logs in which anything may stand, rightly signed.
fn wild(random: &mut Random) -> Given {
    let Pair { mut source, mut destination, .. } = Pair::new(1);
    let statements = statements(random, &source, &destination);
    let mut policy = Pair::new(1).policy();
    policy.quorum = random.of(&[0, 0, 0, 2]);
    policy.max_age_hours = random.of(&[None, None, Some(0), Some(30), Some(u64::MAX)]);
    policy.settle_hours = random.of(&[None, None, Some(0), Some(30), Some(u64::MAX)]);
    if random.one_in(10) {
        policy.logs.remove(&region("ca"));
    }
    let mut state = State::default();
    let mut bundles = Vec::new();
    for log in [&mut source, &mut destination] {
        let kept = grow(random, log, &statements);
        if random.one_in(3) {
            state.insert(log.region.to_string(), SavedHead { checkpoint: kept });
        }
        bundles.push(bundled(random, log));
    }
    if random.one_in(6) {
        bundles.pop();
    }
    let policy = (!random.one_in(5)).then_some(policy);
    let wanted = random.of(&[None, None, Some(transfer(1)), Some(transfer(2))]);
    let now = random.of(&[NOW, NOW + 400_000_000_000, i64::MIN, i64::MAX]);
    Given { bundles, policy, state, transfer: wanted, now }
}

/// Grows a log at random; gives a checkpoint somebody may have kept.
fn grow(random: &mut Random, log: &mut Log, statements: &[SignedStatement]) -> String {
    let mut clock = 0;
    let mut kept = log.note();
    let kind = random.below(3);
    for at in 0..random.below(12) {
        let mut entry = log.entry(EventType::RecordItemRead);
        if kind > 0 {
            times(random, &mut entry, &mut clock);
            numbers(random, &mut entry);
        }
        if kind > 1 || random.one_in(8) {
            odd(random, &mut entry);
        }
        match statements.get(at).filter(|_| !random.one_in(4)) {
            Some(signed) => step(random, log, entry, signed),
            None => log.push(&entry),
        }
        if random.one_in(8) {
            log.checkpoint();
        }
        if random.one_in(4) {
            kept = log.note();
        }
    }
    if random.one_in(20) {
        log.entries.pop();
    }
    if !random.one_in(30) && log.notes.last() != Some(&log.note()) {
        log.checkpoint();
    }
    if random.one_in(6) && !log.entries.is_empty() {
        let (at, byte) = (random.below(log.entries.len()), random.next().to_be_bytes()[0]);
        let place = random.below(log.entries[at].len());
        log.entries[at][place] ^= byte;
        if random.one_in(2) {
            log.notes.clear();
            log.checkpoint();
        }
    }
    kept
}

fn times(random: &mut Random, entry: &mut Entry, clock: &mut i64) {
    const SECOND: i64 = 1_000_000;
    *clock += random.of(&[1, 1, 1, SECOND, -SECOND, 3600 * SECOND, 3601 * SECOND, 108_000 * SECOND]);
    let at = 1_800_000_000_000_000 + *clock;
    let wait = random.of(&[0, 0, 0, -60, -61, 3600, 3601, 5000, 108_000, 104_400, 111_600]) * SECOND;
    let written = random.of(&[at - wait, at - wait, at - wait, at - wait - *clock]);
    (entry.sequenced_at, entry.written_at) =
        (Some(Timestamp::from_micros(at)), Timestamp::from_micros(written));
    if random.one_in(4) {
        entry.event = EventType::SystemStart;
    }
    if random.one_in(40) {
        entry.written_at = Timestamp::from_micros(random.of(&[i64::MIN, i64::MAX, -1]));
    }
    if random.one_in(40) {
        entry.sequenced_at = random.of(&[None, Some(i64::MIN), Some(i64::MAX)]).map(Timestamp::from_micros);
    }
}

fn numbers(random: &mut Random, entry: &mut Entry) {
    if random.one_in(3) {
        entry.writer = Uuid::from_u128(9 + u128::from(random.next() % 2));
        entry.writer_epoch = random.of(&[0, 1, 2, u64::MAX]);
        entry.writer_sequence = random.of(&[0, 1, 2, 3, 4, 5, 6, u64::MAX - 1, u64::MAX]);
    }
}

fn odd(random: &mut Random, entry: &mut Entry) {
    if random.one_in(6) {
        entry.origin = random.of(&["ca.example/log", "eu.example/log", "a\u{e9}"]).to_owned();
    }
    if random.one_in(6) {
        (entry.event, entry.resource) = (EventType::AuditVoid, Some(LOST_NUMBER.to_owned()));
    }
}

/// Logs a statement, or something near it.
fn step(random: &mut Random, log: &mut Log, mut entry: Entry, signed: &SignedStatement) {
    let read = signed.read().expect("a statement");
    let mut reference = read.statement.reference();
    if random.one_in(5) {
        bend(random, &mut reference);
    }
    entry.transfer = Some(if random.one_in(20) { transfer(7) } else { reference.transfer });
    entry.statement = Some(reference);
    log.push(&entry);
    if !random.one_in(10) {
        log.statements.push(signed.clone());
    }
}

fn bend(random: &mut Random, reference: &mut StatementRef) {
    match random.below(6) {
        0 => reference.sequence = random.of(&[0, 1, 2, 3]),
        1 => reference.prev = [0; 32],
        2 => reference.seen = random.of(&[None, Some((1, [1; 32])), Some((2, [0; 32]))]),
        3 => reference.digest = [1; 32],
        4 => reference.attempt = 2,
        _ => reference.step = random.of(Step::ALL),
    }
}

/// A random story in two lanes, or more, of one transfer or two.
fn statements(random: &mut Random, source: &Log, destination: &Log) -> Vec<SignedStatement> {
    let mut statements: Vec<(SignedStatement, Statement)> = Vec::new();
    let honest = random.one_in(2);
    for _ in 0..random.below(10) {
        let ours = random.one_in(2);
        let (log, other) = if ours { (source, destination) } else { (destination, source) };
        let transfer = if honest || !random.one_in(6) { transfer(1) } else { transfer(2) };
        let attempt = if honest || !random.one_in(6) { 1 } else { 2 };
        let last = |log: &Log| {
            let mut lane = statements.iter().rev().map(|(_, said)| said);
            let said = lane
                .find(|said| (said.transfer, said.attempt, &said.origin) == (transfer, attempt, &log.region));
            said.map(|said| (said.sequence, said.digest()))
        };
        let (number, prev) = last(log).unwrap_or((0, [0; 32]));
        let body = body(random);
        let mut said = Statement {
            version: 1,
            transfer,
            attempt,
            origin: log.region.clone(),
            sequence: number + 1,
            step: body.step(),
            at: Timestamp::from_micros(random.of(&[1_800_000_000_000_000, i64::MIN, i64::MAX])),
            body_digest: [0; 32],
            prev,
            seen: last(other),
        };
        if !honest && random.one_in(8) {
            said.origin = region(random.of(&["us", "eu"]));
        }
        let key = if !honest && random.one_in(8) { &TestKey::new(77) } else { &log.statement };
        let signed = SignedStatement::sign(key, said, &body);
        let said = signed.read().expect("a statement").statement;
        statements.push((signed, said));
    }
    statements.into_iter().map(|(signed, _)| signed).collect()
}

fn body(random: &mut Random) -> Body {
    let at = Timestamp::from_micros(random.of(&[NOW - 1, NOW, NOW + 1, i64::MAX]));
    let (source, destination) = (region("eu"), region("ca"));
    let root = [6; 32];
    let (freeze, final_revision, epoch) = (1, 9, 2);
    match random.below(8) {
        0 => Body::Requested { source, destination, expires_at: at },
        1 => Body::Preflighted { offer_digest: None, kinds: 3, protocol: 1 },
        2 => Body::Consented {
            consent: domicile_types::ids::ConsentId::from_uuid(Uuid::from_u128(4)),
            consent_digest: root,
            offer_digest: root,
            notice_version: "1".into(),
            destination,
            expires_at: at,
        },
        3 => Body::Released {
            freeze,
            final_revision,
            root,
            epoch,
            key_release_digest: root,
            consent_digest: root,
        },
        4 => Body::Aborting { reason: AbortReason::Expired },
        5 => Body::Aborted { reason: AbortReason::Expired },
        6 => Body::Adopted { epoch, rows: 1, root },
        _ => Body::Frozen { freeze, final_revision },
    }
}

/// The log's bundle, its frames a little disturbed.
fn bundled(random: &mut Random, log: &Log) -> Vec<u8> {
    let about = random.of(&[None, None, Some(transfer(1)), Some(transfer(2))]);
    let mut frames = log.frames(about);
    for _ in 0..random.below(4) / 2 {
        let at = random.below(frames.len());
        match random.below(4) {
            0 => drop(frames.remove(at)),
            1 => frames.insert(at, frames[at].clone()),
            2 => {
                let other = random.below(frames.len());
                frames.swap(at, other);
            }
            _ => frames.retain(|frame| !matches!(frame, Frame::Hashes { .. })),
        }
    }
    if random.one_in(2) {
        recount(&mut frames);
    }
    file(&frames)
}

fn recount(frames: &mut [Frame]) {
    let count = |fits: fn(&Frame) -> bool| {
        u64::try_from(frames.iter().filter(|frame| fits(frame)).count()).expect("small")
    };
    let entries = count(|frame| matches!(frame, Frame::Entry { .. }));
    let statements = count(|frame| matches!(frame, Frame::Statement(_)));
    if let Some(end) = frames.iter_mut().find(|frame| matches!(frame, Frame::End { .. })) {
        *end = Frame::End { entries, statements };
    }
}
