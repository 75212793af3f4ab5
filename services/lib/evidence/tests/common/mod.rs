//! Keys, entries and whole logs made from fixed seeds.
#![allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    clippy::allow_attributes,
    clippy::expect_used,
    reason = "shared by several test binaries"
)]

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use domicile_evidence::bundle::{Frame, Header, MAGIC, TILE};
use domicile_evidence::checkpoint::Checkpoint;
use domicile_evidence::entry::{Entry, Outcome};
use domicile_evidence::event::{EventType, Purpose};
use domicile_evidence::keys::{PublicKey, Signer, VerifierKey};
use domicile_evidence::merkle::{Frontier, leaf_hash};
use domicile_evidence::note::NoteSigner;
use domicile_evidence::policy::{LogKeys, LogPolicy, Policy};
use domicile_evidence::statement::{AbortReason, Body, Lane, SignedStatement};
use domicile_types::time::Timestamp;
use domicile_types::{EventId, RegionId, Role, TransferId};
use uuid::Uuid;

pub struct TestKey(Ed25519KeyPair);

impl TestKey {
    pub fn new(seed: u8) -> Self {
        Self(Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).expect("a seed is 32 bytes"))
    }
}

impl Signer for TestKey {
    fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message).as_ref().try_into().expect("Ed25519 signatures are 64 bytes")
    }
    fn public(&self) -> PublicKey {
        PublicKey::new(self.0.public_key().as_ref().try_into().expect("32 bytes"))
    }
}

pub fn region(name: &str) -> RegionId {
    RegionId::new(name).expect("a region's name")
}

pub fn transfer(number: u8) -> TransferId {
    TransferId::from_uuid(Uuid::from_bytes([number; 16]))
}

/// One region with its keys and its log as it grows.
pub struct Log {
    pub region: RegionId,
    pub checkpoint: TestKey,
    pub statement: TestKey,
    pub keys: LogKeys,
    pub entries: Vec<Vec<u8>>,
    pub statements: Vec<SignedStatement>,
    pub notes: Vec<String>,
    pub peers: Vec<(RegionId, LogKeys)>,
}

impl Log {
    pub fn new(name: &str, seed: u8) -> Self {
        let (checkpoint, statement) = (TestKey::new(seed), TestKey::new(seed + 1));
        let named = |what: &str, key: &TestKey| {
            VerifierKey::new(&format!("{name}.example/{what}"), key.public()).expect("a name")
        };
        let keys =
            LogKeys { checkpoint: named("log", &checkpoint), statement: named("statements", &statement) };
        let region = region(name);
        let (entries, statements, notes) = (Vec::new(), Vec::new(), Vec::new());
        Self { region, checkpoint, statement, keys, entries, statements, notes, peers: Vec::new() }
    }

    pub fn entry(&self, event: EventType) -> Entry {
        let number = u64::try_from(self.entries.len()).expect("small") + 1;
        let at =
            Timestamp::from_micros(1_800_000_000_000_000 + i64::try_from(number).expect("small") * 1_000);
        Entry {
            origin: self.keys.checkpoint.name().to_owned(),
            event,
            event_id: EventId::from_uuid(Uuid::from_u128(u128::from(number))),
            nonce: [7; 16],
            written_at: at,
            sequenced_at: Some(at),
            writer: Uuid::from_u128(9),
            writer_epoch: 1,
            writer_sequence: number,
            actor: Some([1; 16]),
            role: Role::Practitioner,
            purpose: Purpose::Treatment,
            subject: Some([2; 16]),
            resource: Some("note".into()),
            item: None,
            transfer: None,
            outcome: Outcome::Ok,
            policy_version: 1,
            request: None,
            detail_commit: None,
            statement: None,
        }
    }

    pub fn push(&mut self, entry: &Entry) {
        self.entries.push(entry.encode());
    }

    pub fn fill(&mut self, count: usize) {
        for _ in 0..count {
            let entry = self.entry(EventType::RecordItemRead);
            self.push(&entry);
        }
    }

    pub fn push_statement(&mut self, signed: &SignedStatement) {
        let read = signed.read().expect("a statement");
        let mut entry = self.entry(read.statement.step.event());
        entry.subject = None;
        entry.transfer = Some(read.statement.transfer);
        entry.statement = Some(read.statement.reference());
        self.push(&entry);
        self.statements.push(signed.clone());
    }

    /// Signs the present size, as the sequencer does.
    pub fn checkpoint(&mut self) -> String {
        let note = self.note();
        self.notes.push(note.clone());
        note
    }

    pub fn note(&self) -> String {
        let mut frontier = Frontier::new();
        for entry in &self.entries {
            frontier.append(leaf_hash(entry)).expect("room");
        }
        let origin = self.keys.checkpoint.name().to_owned();
        let head = Checkpoint { origin, size: frontier.size(), root: frontier.root() };
        let by = NoteSigner::new(&self.keys.checkpoint, &self.checkpoint).expect("the key");
        head.sign(&by).expect("a note").to_string()
    }

    pub fn frames(&self, about: Option<TransferId>) -> Vec<Frame> {
        let size = u64::try_from(self.entries.len()).expect("small");
        let by = NoteSigner::new(&self.keys.checkpoint, &self.checkpoint).expect("the key");
        let policy = LogPolicy { origin: self.keys.checkpoint.name().to_owned(), quorum: 0 };
        let mut frames = vec![
            Frame::Header(Box::new(Header {
                region: self.region.clone(),
                keys: self.keys.clone(),
                peers: self.peers.clone(),
                transfer: about,
                size,
                made_at: Timestamp::from_micros(1_800_000_100_000_000),
            })),
            Frame::Policy(policy.sign(&by).expect("a note").to_string()),
        ];
        frames.extend(self.notes.iter().cloned().map(Frame::Checkpoint));
        let mut index = 0;
        for tile in self.entries.chunks(TILE) {
            frames.push(Frame::Hashes {
                first: index,
                hashes: tile.iter().map(|entry| leaf_hash(entry)).collect(),
            });
            for bytes in tile {
                frames.push(Frame::Entry { index, bytes: bytes.clone() });
                index += 1;
            }
        }
        let told = |signed: &&SignedStatement| {
            about.is_none_or(|about| signed.read().expect("a statement").statement.transfer == about)
        };
        let statements: Vec<_> = self.statements.iter().filter(told).cloned().collect();
        let count = u64::try_from(statements.len()).expect("small");
        frames.extend(statements.into_iter().map(Frame::Statement));
        frames.push(Frame::End { entries: size, statements: count });
        frames
    }

    pub fn bundle(&self) -> Vec<u8> {
        file(&self.frames(None))
    }
}

pub fn file(frames: &[Frame]) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    for frame in frames {
        bytes.extend(frame.encode().expect("a frame"));
    }
    bytes
}

pub fn policy(logs: &[&Log]) -> Policy {
    Policy {
        logs: logs.iter().map(|log| (log.region.clone(), log.keys.clone())).collect(),
        quorum: 0,
        max_age_hours: None,
        settle_hours: None,
    }
}

/// Two lanes of one transfer, and both logs.
pub struct Pair {
    pub source: Log,
    pub destination: Log,
    pub transfer: TransferId,
    ours: Lane,
    theirs: Lane,
}

impl Pair {
    pub fn new(number: u8) -> Self {
        let mut source = Log::new("eu", 10);
        let mut destination = Log::new("ca", 20);
        source.peers = vec![(destination.region.clone(), destination.keys.clone())];
        destination.peers = vec![(source.region.clone(), source.keys.clone())];
        let transfer = transfer(number);
        let ours = Lane::new(transfer, 1, source.region.clone());
        let theirs = Lane::new(transfer, 1, destination.region.clone());
        Self { source, destination, transfer, ours, theirs }
    }

    /// The source states; both logs take it in.
    pub fn ours(&mut self, body: &Body) {
        let statement = self.ours.next(body, Timestamp::from_micros(1_800_000_000_000_000), &self.theirs);
        let signed = SignedStatement::sign(&self.source.statement, statement, body);
        let read = signed.read().expect("a statement");
        self.ours = self.ours.accept(&read.statement, read.digest).expect("follows");
        self.source.push_statement(&signed);
        self.destination.push_statement(&signed);
    }

    /// The destination states; both logs take it in.
    pub fn theirs(&mut self, body: &Body) {
        let statement = self.theirs.next(body, Timestamp::from_micros(1_800_000_000_000_000), &self.ours);
        let signed = SignedStatement::sign(&self.destination.statement, statement, body);
        let read = signed.read().expect("a statement");
        self.theirs = self.theirs.accept(&read.statement, read.digest).expect("follows");
        self.destination.push_statement(&signed);
        self.source.push_statement(&signed);
    }

    /// A short story that ends in an abort.
    pub fn aborted(number: u8) -> Self {
        let mut pair = Self::new(number);
        pair.source.fill(5);
        pair.destination.fill(3);
        pair.requested(Timestamp::from_micros(1_900_000_000_000_000));
        pair.theirs(&Body::Preflighted { offer_digest: None, kinds: 3, protocol: 1 });
        pair.ours(&Body::Preflighted { offer_digest: Some([3; 32]), kinds: 3, protocol: 1 });
        pair.ours(&Body::Aborting { reason: AbortReason::Withdrawn });
        pair.theirs(&Body::Aborted { reason: AbortReason::Withdrawn });
        pair.source.checkpoint();
        pair.destination.checkpoint();
        pair
    }

    pub fn requested(&mut self, expires_at: Timestamp) {
        let body = Body::Requested {
            source: self.source.region.clone(),
            destination: self.destination.region.clone(),
            expires_at,
        };
        self.ours(&body);
    }

    pub fn policy(&self) -> Policy {
        policy(&[&self.source, &self.destination])
    }
}
