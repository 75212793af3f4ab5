//! What the corpora begin with: small whole values of every target's kind, made by the product's own code.
//! `DOMICILE_BLESS=1 cargo test --locked -p domicile-hostile --test hostile seeds` writes them anew.

use domicile_evidence::bundle::{Frame, Header, MAGIC};
use domicile_evidence::checkpoint::Checkpoint;
use domicile_evidence::enrolment::{Enrolment, Practitioner};
use domicile_evidence::entry::{Entry, Outcome};
use domicile_evidence::event::{EventType, Purpose};
use domicile_evidence::keys::{Signer as _, VerifierKey};
use domicile_evidence::merkle::{Frontier, leaf_hash, node_hash};
use domicile_evidence::note::NoteSigner;
use domicile_evidence::policy::{LogKeys, LogPolicy, Policy};
use domicile_evidence::statement::SignedStatement;
use domicile_proto::records::v1 as records;
use domicile_proto::transfer::v1 as pb;
use domicile_transfer::arriving::key_release;
use domicile_types::{AccountId, EventId, PracticeId, Role};
use prost::Message;

use crate::story::Story;
use crate::targets::log_key;
use crate::world::{NOON, World, known, region};

/// A seed: its target, its name and its bytes.
pub type Seed = (&'static str, String, Vec<u8>);

/// Every seed.
///
/// # Panics
/// When the product's own code refuses one.
#[must_use]
pub fn all() -> Vec<Seed> {
    let mut seeds = travel();
    seeds.extend(statements());
    seeds.extend(evidence());
    seeds.extend(people());
    seeds
}

fn delimited<M: Message>(messages: &[M]) -> Vec<u8> {
    messages.iter().flat_map(Message::encode_length_delimited_to_vec).collect()
}

fn seed(target: &'static str, name: &str, bytes: impl Into<Vec<u8>>) -> Seed {
    (target, name.to_owned(), bytes.into())
}

fn travel() -> Vec<Seed> {
    let world = World::new(1);
    vec![
        seed("travel_page", "page", delimited(&world.page)),
        seed("travel_object", "object", delimited(&world.object)),
        seed("travel_header", "page", world.pages[0].head.header.clone()),
        seed("travel_header", "object", world.objects[0].head.header.clone()),
        seed("travel_header", "control", world.release.control_head.header.clone()),
        seed("key_release", "message", key_release(world.release.clone()).encode_to_vec()),
        seed("key_release", "stored", serde_json::to_vec(&world.release).expect("JSON")),
        seed("control_rows", "rows", serde_json::to_vec(&world.control).expect("JSON")),
    ]
}

fn statements() -> Vec<Seed> {
    let stories = [("closed", Story::closed(1, 3)), ("aborted", Story::aborted(2, 3))];
    let mut seeds = Vec::new();
    for (how, story) in &stories {
        for (at, told) in story.told.iter().enumerate() {
            let SignedStatement { statement, body, signature } = told.signed.clone();
            let message = pb::SignedStatement {
                statement: statement.into(),
                body: body.into(),
                signature: signature.to_vec().into(),
            };
            let name = format!("{how}-{at:02}-{}", told.body.step().name());
            seeds.push(("statement", name, message.encode_to_vec()));
        }
    }
    seeds
}

fn entries(statements: &[SignedStatement]) -> Vec<Vec<u8>> {
    let entry = |(at, signed): (usize, &SignedStatement)| {
        let read = signed.read().expect("a statement");
        let number = at as u128 + 1;
        Entry {
            origin: log_key().1.name().to_owned(),
            event: read.statement.step.event(),
            event_id: EventId::from_uuid(uuid(number)),
            nonce: [7; 16],
            written_at: NOON,
            sequenced_at: Some(NOON),
            writer: uuid(99),
            writer_epoch: 1,
            writer_sequence: u64::try_from(number).expect("small"),
            actor: None,
            role: Role::System,
            purpose: Purpose::Treatment,
            subject: None,
            resource: None,
            item: None,
            transfer: Some(read.statement.transfer),
            outcome: Outcome::Ok,
            policy_version: 1,
            request: None,
            detail_commit: None,
            statement: Some(read.statement.reference()),
        }
        .encode()
    };
    statements.iter().enumerate().map(entry).collect()
}

fn uuid(number: u128) -> uuid::Uuid {
    uuid::Uuid::from_u128(number)
}

fn evidence() -> Vec<Seed> {
    let (key, name) = log_key();
    let by = NoteSigner::new(name, key).expect("the key");
    let story = Story::aborted(2, 3);
    let statements: Vec<SignedStatement> =
        story.told.iter().take(2).map(|told| told.signed.clone()).collect();
    let entries = entries(&statements);
    let mut frontier = Frontier::new();
    for entry in &entries {
        frontier.append(leaf_hash(entry)).expect("room");
    }
    let checkpoint = Checkpoint { origin: name.name().to_owned(), size: 2, root: frontier.root() };
    let checkpoint = checkpoint.sign(&by).expect("a note").to_string();
    let log_policy = LogPolicy { origin: name.name().to_owned(), quorum: 0 };
    let log_policy = log_policy.sign(&by).expect("a note").to_string();
    let statement =
        |key: &crate::story::Key| VerifierKey::new("eu.example/statements", key.public()).expect("a name");
    let keys = LogKeys { checkpoint: name.clone(), statement: statement(&story.from) };
    let theirs = LogKeys { checkpoint: name.clone(), statement: statement(&story.to) };
    let policy = Policy {
        logs: [(region("eu"), keys.clone())].into(),
        quorum: 0,
        max_age_hours: Some(24),
        settle_hours: None,
    };
    let header = Header {
        region: region("eu"),
        keys,
        peers: vec![(region("ca"), theirs)],
        transfer: None,
        size: 2,
        made_at: NOON,
    };
    let (one, two) = (leaf_hash(&entries[0]), leaf_hash(&entries[1]));
    let mut frames = vec![
        Frame::Header(Box::new(header)),
        Frame::Policy(log_policy.clone()),
        Frame::Checkpoint(checkpoint.clone()),
        Frame::Hashes { first: 0, hashes: vec![one, two] },
    ];
    frames.extend((0..).zip(&entries).map(|(index, bytes)| Frame::Entry { index, bytes: bytes.clone() }));
    frames.extend(statements.into_iter().map(Frame::Statement));
    frames.push(Frame::End { entries: 2, statements: 2 });
    let mut bundle = MAGIC.to_vec();
    frames.iter().for_each(|frame| bundle.extend(frame.encode().expect("a frame")));
    let proof = [&0_u64.to_be_bytes()[..], &2_u64.to_be_bytes(), &one, &node_hash(&one, &two), &two].concat();
    vec![
        seed("bundle", "two", bundle),
        seed("checkpoint", "head", checkpoint),
        seed("checkpoint", "policy", log_policy),
        seed("checkpoint", "key", name.to_string()),
        seed("auditor_policy", "policy", policy.to_json()),
        seed("entry", "statement", entries[0].clone()),
        seed("entry", "read", read_entry()),
        seed("enrolment", "practice", enrolment()),
        seed("proof", "inclusion", proof),
    ]
}

/// An entry that has what the others have not.
fn read_entry() -> Vec<u8> {
    let story = Story::aborted(2, 3);
    let entry = Entry::decode(&entries(&[story.told[0].signed.clone()])[0]).expect("an entry");
    Entry {
        event: EventType::RecordItemRead,
        actor: Some([1; 16]),
        role: Role::Practitioner,
        subject: Some([2; 16]),
        resource: Some("note".to_owned()),
        transfer: None,
        statement: None,
        ..entry
    }
    .encode()
}

fn enrolment() -> Vec<u8> {
    let ctx = known(9);
    let practitioner = Practitioner {
        account: AccountId::generate(&ctx),
        name: "A Practitioner".to_owned(),
        email: "practitioner@example.org".to_owned(),
    };
    Enrolment {
        practice: PracticeId::generate(&ctx),
        name: "A Practice".to_owned(),
        home: region("eu"),
        destinations: vec![region("ca")],
        practitioners: vec![practitioner],
        agreement_version: "1".to_owned(),
        at: NOON,
    }
    .encode()
}

fn people() -> Vec<Seed> {
    let note = records::Note { text: "a note".to_owned(), ..Default::default() };
    let payload = records::Payload { kind: Some(records::payload::Kind::Note(note)) };
    let draft = records::ItemDraft { payload: Some(payload), ..Default::default() };
    let request = records::PutItemRequest { draft: Some(draft), ..Default::default() };
    vec![
        seed("request", "note", request.encode_to_vec()),
        seed("request", "token", "1800000000000000.01890a5d-ac96-774b-bcce-b302099a8057"),
        seed("fhir", "bundle", FHIR),
        seed("settings", "coordinator", COORDINATOR),
        seed("region_policy", "broken", "region = \"eu\"\n[law]\n"),
    ]
}

const FHIR: &str = r#"{"resourceType":"Bundle","type":"collection","id":"b","entry":[{"fullUrl":"urn:uuid:1","resource":{"resourceType":"Patient","active":true}},{"request":{"method":"DELETE","url":"Patient/1"}}],"total":2}"#;

const COORDINATOR: &str = r#"environment = "development"
operators = ["spiffe://domicile.example/operator/ann"]
poll = "500ms"

[operator]
name = "Example"
contact = "privacy@example.org"

[peers]
listen = "127.0.0.1:0"
certificate = "tls/peers.pem"
key = "tls/peers.key"
authority = "tls/authority.pem"
trust_domain = "domicile.example"

[[region]]
region = "eu"
endpoint = "https://127.0.0.1:7441"
spiffe = "spiffe://domicile.example/region/eu"

[[region]]
region = "ca"
endpoint = "https://127.0.0.1:7442"
spiffe = "spiffe://domicile.example/region/ca"
"#;
