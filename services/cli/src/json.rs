//! The protobuf JSON mapping of every message, from the descriptors: `--json` prints the services'
//! own answers, and a payload is written as JSON of its kind's message.

use std::sync::LazyLock;

use domicile_types::{Code, Error};
use prost::Message;
use prost_reflect::{
    DescriptorPool, DeserializeOptions, DynamicMessage, Kind, MessageDescriptor, SerializeOptions,
};
use serde_json::Value;

use crate::failure::{Failure, Result};

static POOL: LazyLock<Option<DescriptorPool>> =
    LazyLock::new(|| DescriptorPool::decode(domicile_proto::DESCRIPTORS).ok());

fn descriptor(name: &str) -> Option<MessageDescriptor> {
    POOL.as_ref()?.get_message_by_name(name)
}

/// The JSON of a message; `name` is its full protobuf name. Null when the name is unknown.
#[must_use]
pub fn of<M: Message>(name: &str, message: &M) -> Value {
    let options = SerializeOptions::new().use_proto_field_name(true).skip_default_fields(false);
    descriptor(name)
        .and_then(|descriptor| DynamicMessage::decode(descriptor, message.encode_to_vec().as_slice()).ok())
        .and_then(|message| message.serialize_with_options(serde_json::value::Serializer, &options).ok())
        .unwrap_or(Value::Null)
}

/// Reads a message from JSON.
///
/// # Errors
/// [`Code::InvalidRequest`] when the JSON does not fit the message. The error names the field and no value.
pub fn parse<M: Message + Default>(name: &str, value: &Value) -> Result<M> {
    let refused = |place: String| Failure::from(Error::new(Code::InvalidRequest).at(place));
    let descriptor = descriptor(name).ok_or_else(|| refused(short(name).to_owned()))?;
    let message = dynamic(&descriptor, value);
    let message = message.ok_or_else(|| refused(misfit(&descriptor, value, short(name).to_owned())))?;
    M::decode(message.encode_to_vec().as_slice()).map_err(|_| refused(short(name).to_owned()))
}

fn dynamic(descriptor: &MessageDescriptor, value: &Value) -> Option<DynamicMessage> {
    let options = DeserializeOptions::new().deny_unknown_fields(true);
    DynamicMessage::deserialize_with_options(descriptor.clone(), value, &options).ok()
}

/// The first field of a value that does not fit the message by itself; the whole when each does.
fn misfit(descriptor: &MessageDescriptor, value: &Value, at: String) -> String {
    let Value::Object(fields) = value else { return at };
    let alone = |(name, value): (&String, &Value)| Value::from_iter([(name.clone(), value.clone())]);
    let Some((name, value)) = fields.iter().find(|field| dynamic(descriptor, &alone(*field)).is_none())
    else {
        return at;
    };
    let here = format!("{at}.{name}");
    let field = descriptor.get_field_by_name(name).or_else(|| descriptor.get_field_by_json_name(name));
    match field.map(|field| field.kind()) {
        Some(Kind::Message(inner)) => misfit(&inner, value, here),
        Some(_) => here,
        None => format!("{here}: there is no such field"),
    }
}

/// The message name of a kind of payload, such as `ChatMessage` for `chat_message`.
#[must_use]
pub fn kind_message(kind: &str) -> Option<String> {
    let payload = descriptor("domicile.records.v1.Payload")?;
    let field = payload.get_field_by_name(kind)?;
    field.kind().as_message().map(|message| message.full_name().to_owned())
}

/// Every kind of payload.
#[must_use]
pub fn kinds() -> Vec<String> {
    descriptor("domicile.records.v1.Payload")
        .map(|payload| payload.fields().map(|field| field.name().to_owned()).collect())
        .unwrap_or_default()
}

fn short(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use domicile_proto::records::v1::{Note, Payload, payload};
    use serde_json::json;

    use super::*;

    #[test]
    fn a_payload_comes_in_and_goes_out_as_json() {
        let value = json!({ "note": { "title": "t", "text": "words", "template": "" } });
        let payload: Payload = parse("domicile.records.v1.Payload", &value).unwrap();
        assert!(matches!(&payload.kind, Some(payload::Kind::Note(Note { title, .. })) if title == "t"));
        assert_eq!(of("domicile.records.v1.Payload", &payload), value);
    }

    #[test]
    fn unknown_fields_and_kinds_are_refused_without_their_values() {
        for wrong in [json!({ "note": { "titel": "secret" } }), json!({ "diary": {} }), json!([1])] {
            let failure = parse::<Payload>("domicile.records.v1.Payload", &wrong).err().unwrap();
            assert_eq!(failure.exit_code(), 2);
            assert!(!failure.to_string().contains("secret"));
        }
    }

    #[test]
    fn what_does_not_fit_is_named_by_its_field() {
        let place = |value| {
            let failure = parse::<Payload>("domicile.records.v1.Payload", &value).err().unwrap();
            failure.to_json().unwrap()["error"]["where"].as_str().unwrap().to_owned()
        };
        assert_eq!(place(json!({ "note": { "titel": "x" } })), "Payload.note.titel: there is no such field");
        assert_eq!(place(json!({ "note": { "text": 7, "title": "x" } })), "Payload.note.text");
        assert_eq!(place(json!({ "diary": {} })), "Payload.diary: there is no such field");
        assert_eq!(place(json!(["x"])), "Payload");
    }

    #[test]
    fn kinds_are_those_of_the_payload() {
        assert_eq!(kinds().len(), 18);
        assert_eq!(kind_message("chat_message").unwrap(), "domicile.records.v1.ChatMessage");
        assert!(kind_message("diary").is_none());
    }
}
