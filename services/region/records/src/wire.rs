//! Between messages and this project's types.

use domicile_proto::records::v1 as pb;
use domicile_types::{Code, Error, ItemHeader, Result, Timestamp};

/// 1700-01-01 and 2300-01-01: what lies outside is a mistake.
const TIMES: std::ops::RangeInclusive<i64> = -8_520_336_000_000_000..=10_413_792_000_000_000;
/// Characters of an idempotency key.
const KEY: std::ops::RangeInclusive<usize> = 16..=64;

/// Reads an id.
pub(crate) fn id<T: std::str::FromStr>(field: &'static str, text: &str) -> Result<T> {
    text.parse().map_err(|_| invalid(field))
}

/// Reads an id that may be absent.
pub(crate) fn maybe_id<T: std::str::FromStr>(field: &'static str, text: &str) -> Result<Option<T>> {
    if text.is_empty() { Ok(None) } else { id(field, text).map(Some) }
}

/// Reads a time; 0 for not given.
pub(crate) fn maybe_time(field: &'static str, micros: i64) -> Result<Option<Timestamp>> {
    match micros {
        0 => Ok(None),
        micros if TIMES.contains(&micros) => Ok(Some(Timestamp::from_micros(micros))),
        _ => Err(invalid(field)),
    }
}

/// Checks an idempotency key: 16 to 64 visible ASCII characters.
pub(crate) fn idempotency_key(key: String) -> Result<String> {
    let fits = KEY.contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic());
    if fits { Ok(key) } else { Err(invalid("idempotency_key")) }
}

pub(crate) fn invalid(place: impl Into<String>) -> Error {
    Error::new(Code::InvalidRequest).at(place)
}

/// A header as people's clients see it.
pub(crate) fn header(header: &ItemHeader) -> pb::ItemHeader {
    fn text<T: ToString>(id: Option<T>) -> String {
        id.map(|id| id.to_string()).unwrap_or_default()
    }
    let micros = |at: Option<Timestamp>| at.map_or(0, Timestamp::micros);
    pb::ItemHeader {
        item_id: header.item_id.to_string(),
        subject_id: header.subject_id.to_string(),
        kind: header.kind.clone(),
        revision: header.revision,
        version: header.version,
        practice_id: text(header.practice_id),
        practitioner_id: text(header.practitioner_id),
        author_id: header.author_id.to_string(),
        parent_id: text(header.parent_id),
        occasion_id: text(header.occasion_id),
        occurred_at_micros: header.occurred_at.micros(),
        starts_at_micros: micros(header.starts_at),
        ends_at_micros: micros(header.ends_at),
        signed_at_micros: micros(header.signed_at),
        retain_until_micros: micros(header.retain_until),
        state: header.state.clone(),
        visibility: header.visibility.as_str().to_owned(),
        bytes: header.bytes,
    }
}
