//! Notes of 500 B that can be recognised when they are read.

use domicile_cli::Client;
use domicile_cli::client::answer;
use domicile_proto::records::v1::payload::Kind;
use domicile_proto::records::v1::{ItemDraft, Note, Payload, PutItemRequest};
use domicile_tests::world::World;
use domicile_types::{Code, Error, Result};
use prost::Message as _;

/// Bytes of a payload.
const BYTES: usize = 500;
const WORDS: &[&str] = &[
    "client", "arrived", "in", "time", "and", "spoke", "about", "sleep", "work", "the", "week", "since",
    "our", "last", "session", "reports", "less", "worry", "agreed", "to", "write", "down", "thoughts",
    "before", "bed", "next", "step", "is", "a", "walk", "each", "morning", "mood", "steady", "no", "new",
    "concerns", "homework",
];

/// A request to write the note of a number, which may be repeated.
pub(crate) fn request(subject: &str, number: u64) -> PutItemRequest {
    PutItemRequest {
        subject_id: subject.to_owned(),
        idempotency_key: World::key(),
        draft: Some(ItemDraft { payload: Some(payload(number)), ..Default::default() }),
    }
}

/// Writes a note; its item's id.
///
/// # Errors
/// What the region answers.
pub(crate) async fn put(client: &Client, request: PutItemRequest) -> Result<String> {
    let header = answer(client.records().put_item(request)).await?.header.unwrap_or_default();
    if header.item_id.is_empty() { Err(Error::new(Code::Internal).at("item_id")) } else { Ok(header.item_id) }
}

/// Whether a payload is the note of this number, whole.
pub(crate) fn is(payload: &Payload, number: u64) -> bool {
    let Some(Kind::Note(note)) = &payload.kind else { return false };
    let Some(Kind::Note(expected)) = self::payload(number).kind else { return false };
    note.title == expected.title && note.text == expected.text
}

fn payload(number: u64) -> Payload {
    let note = |text| Note { title: format!("Session {number}"), text, template: String::new() };
    let mut text = String::with_capacity(BYTES);
    let mut seed = number;
    while text.len() < BYTES {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let word = usize::try_from(seed >> 33).unwrap_or(0) % WORDS.len();
        text.push_str(WORDS.get(word).copied().unwrap_or_default());
        text.push(' ');
    }
    text.truncate(BYTES);
    let whole = |text: &str| Payload { kind: Some(Kind::Note(note(text.to_owned()))) };
    let over = whole(&text).encoded_len() - BYTES;
    text.truncate(BYTES - over);
    whole(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_has_500_bytes_and_is_known_by_its_number() {
        for number in [0, 7, 123_456_789] {
            assert_eq!(payload(number).encoded_len(), BYTES);
            assert!(is(&payload(number), number));
            assert!(!is(&payload(number), number + 1));
        }
    }
}
