//! Statements, and what auditors and other regions read of a log.

use std::sync::LazyLock;

use domicile_evidence::bundle::BundleReader;
use domicile_evidence::cbor::Value;
use domicile_evidence::checkpoint::Checkpoint;
use domicile_evidence::closing::ClosingProof;
use domicile_evidence::enrolment::{Enrolment, SignedEnrolment};
use domicile_evidence::entry::Entry;
use domicile_evidence::keys::{Signer as _, VerifierKey};
use domicile_evidence::merkle::{verify_consistency, verify_inclusion};
use domicile_evidence::note::Note;
use domicile_evidence::policy::LogPolicy;
use domicile_evidence::statement::{Body, SignedStatement, Statement, Step};
use domicile_evidence::verify::{Demands, Verifier, verify};
use domicile_proto::transfer::v1 as pb;
use domicile_transfer::arriving::read_statement;
use prost::Message as _;

use crate::story::{By, Key, Story};
use crate::world::known;

static STORIES: LazyLock<[Story; 2]> = LazyLock::new(|| [Story::closed(1, 3), Story::aborted(2, 3)]);
static LOG: LazyLock<(Key, VerifierKey)> = LazyLock::new(|| {
    let key = Key::new(&known(5));
    let name = VerifierKey::new("eu.example/log", key.public()).expect("a name");
    (key, name)
});

/// The key of the log whose notes the targets know.
#[must_use]
pub fn log_key() -> &'static (Key, VerifierKey) {
    &LOG
}

/// A statement: one encoding of it and of its body; and what a region with a wrong hand would sign, taken in at
/// any moment of a transfer.
pub(super) fn statement(data: &[u8]) -> bool {
    let Ok(message) = pb::SignedStatement::decode(data) else { return false };
    if let Ok(statement) = Statement::decode(&message.statement) {
        assert_eq!(statement.encode(), message.statement);
    }
    for step in Step::ALL {
        if let Ok(body) = Body::decode(*step, &message.body) {
            assert_eq!(body.encode(), message.body);
        }
    }
    let told: Vec<_> =
        STORIES.iter().flat_map(|story| story.told.iter().map(move |told| (story, told))).collect();
    let (story, told) = told[usize::from(data.last().copied().unwrap_or(0)) % told.len()];
    let key = if told.by == By::Source { &story.from } else { &story.to };
    if let Ok(signed) = read_statement(&message)
        && let Ok(read) = signed.read()
    {
        let signed = SignedStatement::sign(key, read.statement, &read.body);
        // Whatever it says: an answer.
        drop(told.take_in(&key.public(), signed));
        return true;
    }
    false
}

/// A practice's enrolment: one encoding.
pub(super) fn enrolment(data: &[u8]) -> bool {
    let signed = SignedEnrolment::from_parts(data.to_vec(), &[0; 64]).expect("64 bytes");
    assert!(signed.verify(&LOG.0.public()).is_err(), "nobody has signed this");
    match Enrolment::decode(data) {
        Ok(enrolment) => {
            assert_eq!(enrolment.encode(), data);
            true
        }
        Err(_) => false,
    }
}

/// Signed notes: checkpoints, a log's policy, printed keys.
pub(super) fn checkpoint(data: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(data) else { return false };
    if let Ok(key) = VerifierKey::parse(text) {
        assert_eq!(VerifierKey::parse(&key.to_string()).as_ref(), Ok(&key));
    }
    if let Ok(checkpoint) = Checkpoint::parse(text) {
        assert!(text.starts_with(&checkpoint.text()), "one text for one checkpoint");
    }
    let Ok(note) = Note::parse(text) else { return false };
    assert_eq!(note.to_string(), text);
    let key = &LOG.1;
    drop(LogPolicy::verify(text, key));
    match Checkpoint::verify(text, key) {
        Ok(checkpoint) => note.text().starts_with(&checkpoint.text()),
        Err(_) => false,
    }
}

/// An entry of the log, and deterministic CBOR: one encoding.
pub(super) fn entry(data: &[u8]) -> bool {
    if let Ok(value) = Value::decode("value", data) {
        assert_eq!(value.encode(), data);
    }
    match Entry::decode(data) {
        Ok(entry) => {
            assert_eq!(entry.encode(), data);
            true
        }
        Err(_) => false,
    }
}

/// What `domicile audit verify` is given: whole and in two pieces it is the same.
pub(super) fn bundle(data: &[u8]) -> bool {
    let whole = verify(data, Demands::default()).report;
    let (one, two) = data.split_at(data.len() / 2);
    let mut verifier = Verifier::new(Demands::default());
    verifier.push(one);
    verifier.push(two);
    assert_eq!(verifier.finish().report, whole);
    let mut reader = BundleReader::new();
    reader.push(data);
    let mut read = 0;
    while let Ok(Some(frame)) = reader.frame() {
        read += frame.encode().expect("it was read").len();
        assert!(read <= data.len());
    }
    // Whatever it proves: it was read to its end.
    whole.exit_code() != 3
}

/// Proofs of a log: 8 bytes of an index, 8 of a size, 32 of a leaf, 32 of a root, then the hashes; and a closing
/// proof with the same.
pub(super) fn proof(data: &[u8]) -> bool {
    let Some((index, rest)) = data.split_first_chunk::<8>() else { return false };
    let Some((size, rest)) = rest.split_first_chunk::<8>() else { return false };
    let (hashes, entry) = rest.as_chunks::<32>();
    let [leaf, root, proof @ ..] = hashes else { return false };
    let (index, size) = (u64::from_be_bytes(*index), u64::from_be_bytes(*size));
    let included = verify_inclusion(leaf, index, size, proof, root).is_ok();
    let consistent = verify_consistency(index, leaf, size, root, proof).is_ok();
    let checkpoint = String::from_utf8_lossy(entry).into_owned();
    let closing = ClosingProof { checkpoint, index, entry: entry.to_vec(), proof: proof.to_vec() };
    assert!(closing.verify(&LOG.1).is_err(), "nobody has signed this");
    included || consistent
}
