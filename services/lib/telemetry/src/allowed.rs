//! What may leave this process (P8): names listed here, with values of the forms listed here.

use opentelemetry::logs::AnyValue;
use opentelemetry::{Array, Value};
use opentelemetry_sdk::trace::SpanData;

/// Attributes of spans.
const SPAN_ATTRIBUTES: &[&str] = &[
    "rpc.system",
    "rpc.service",
    "rpc.method",
    "rpc.grpc.status_code",
    "domicile.listener",
    "domicile.peer",
    "domicile.outcome",
    "domicile.command",
    "domicile.transfer.step",
];

/// Fields of log events. `error`, `cause`, `place` and every id stay in the process's own log.
const LOG_FIELDS: &[&str] = &[
    "code", "column", "entries", "event", "name", "objects", "outcome", "panicked", "point", "region",
    "regions", "role", "rows", "signal", "size", "step", "tried",
];

/// The longest text value: names of codes, steps and RPCs are shorter.
const LONGEST: usize = 80;

/// Whether a log field of this name may leave.
pub(crate) fn field(name: &str) -> bool {
    LOG_FIELDS.contains(&name)
}

/// Whether a text looks like a name of ours and not like something a person wrote: letters, digits and
/// a little punctuation, no space, not long.
pub(crate) fn name(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-/".contains(&byte);
    (1..=LONGEST).contains(&text.len()) && text.bytes().all(allowed)
}

/// A log value that may leave, if it may.
pub(crate) fn text(value: &str) -> Option<AnyValue> {
    name(value).then(|| AnyValue::from(value.to_owned()))
}

/// Takes everything out of a span that is not on the list.
pub(crate) fn redact(span: &mut SpanData) {
    if !name(&span.name) {
        span.name = "unnamed".into();
    }
    span.attributes
        .retain(|attribute| SPAN_ATTRIBUTES.contains(&attribute.key.as_str()) && value(&attribute.value));
    span.dropped_attributes_count = 0;
    span.events = opentelemetry_sdk::trace::SpanEvents::default();
    span.links = opentelemetry_sdk::trace::SpanLinks::default();
    if let opentelemetry::trace::Status::Error { description } = &mut span.status {
        *description = "".into();
    }
}

fn value(value: &Value) -> bool {
    match value {
        Value::Bool(_) | Value::I64(_) | Value::F64(_) => true,
        Value::String(text) => name(text.as_str()),
        Value::Array(Array::Bool(_) | Array::I64(_) | Array::F64(_) | Array::String(_)) | _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_ours_pass() {
        for fits in ["DOM-TRANSFER-007", "domicile.records.v1.RecordsService/PutItem", "ok", "eu"] {
            assert!(name(fits), "{fits}");
        }
        let long = "a".repeat(LONGEST + 1);
        for wrong in ["", "two words", "anna@example.org", "Größe", "a\nb", "<b>", long.as_str()] {
            assert!(!name(wrong), "{wrong}");
        }
    }

    #[test]
    fn no_id_and_no_error_text_is_on_the_list() {
        for wrong in ["error", "cause", "place", "transfer", "request", "subject", "failure", "message"] {
            assert!(!field(wrong), "{wrong}");
        }
        assert!(field("code"));
    }
}
