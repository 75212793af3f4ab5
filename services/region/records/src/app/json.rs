//! JSON text of a FHIR bundle: checked whole, then cut into its entries without changing a character of
//! them, so that it comes out of an export as it came in.

use std::fmt;

use domicile_types::{Code, Error, Result};
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, de};
use serde_json::value::RawValue;

/// The types of bundle that are imported.
const TYPES: [&str; 2] = ["transaction", "collection"];

/// A bundle cut into pieces.
#[derive(Debug)]
pub struct Bundle {
    /// The bundle's text with an empty list of entries.
    pub envelope: String,
    /// Each entry's text, in order.
    pub entries: Vec<Entry>,
}

/// One entry of a bundle.
#[derive(Debug, PartialEq, Eq)]
pub struct Entry {
    /// The type of its resource; empty for a request without one.
    pub resource_type: String,
    /// The entry's text.
    pub json: String,
}

/// Cuts a bundle into its entries.
///
/// # Errors
/// [`Code::FhirInvalid`] with the line and column, or the path, of what is wrong.
pub fn cut(content: &[u8]) -> Result<Bundle> {
    let text = std::str::from_utf8(content).map_err(|bad| invalid(place_of(content, bad.valid_up_to())))?;
    serde_json::from_str::<Sound>(text).map_err(|bad| invalid(line(&bad)))?;
    let members: Members<'_> = parse("bundle", text)?;
    expect(&members, "resourceType", &["Bundle"])?;
    expect(&members, "type", &TYPES)?;
    let entries = match members.get("entry") {
        Some(entries) => parse::<Vec<&RawValue>>("entry", entries.get())?,
        None => Vec::new(),
    };
    let entries =
        entries.into_iter().enumerate().map(|(at, entry)| read_entry(at, entry)).collect::<Result<_>>()?;
    Ok(Bundle { envelope: members.text(), entries })
}

/// The text before and after the entries of an envelope that [`cut`] made; without a list of entries
/// everything is before.
///
/// # Errors
/// [`Code::ContentDamaged`] when it is no such envelope.
pub fn around(envelope: &str) -> Result<(String, String)> {
    let damaged = || Error::new(Code::ContentDamaged);
    let members: Members<'_> = serde_json::from_str(envelope).map_err(|_| damaged())?;
    let Some(at) = members.0.iter().position(|(name, _)| name == "entry") else {
        return Ok((envelope.to_owned(), String::new()));
    };
    let (mut before, mut after) = (String::from("{"), String::from("]"));
    for (name, value) in members.0.iter().take(at) {
        member(&mut before, name, value.get());
        before.push(',');
    }
    before.push_str("\"entry\":[");
    for (name, value) in members.0.iter().skip(at + 1) {
        after.push(',');
        member(&mut after, name, value.get());
    }
    after.push('}');
    Ok((before, after))
}

fn expect(members: &Members<'_>, name: &str, one_of: &[&str]) -> Result<()> {
    let value = members.get(name).and_then(|value| serde_json::from_str::<String>(value.get()).ok());
    if value.is_some_and(|value| one_of.contains(&value.as_str())) { Ok(()) } else { Err(invalid(name)) }
}

fn read_entry(at: usize, entry: &RawValue) -> Result<Entry> {
    let path = format!("entry[{at}]");
    let members: Members<'_> = parse(&path, entry.get())?;
    let resource_type = match members.get("resource") {
        None if members.get("request").is_some() => String::new(),
        None => return Err(invalid(format!("{path}.resource"))),
        Some(resource) => {
            let path = format!("{path}.resource");
            let resource: Members<'_> = parse(&path, resource.get())?;
            let name = resource.get("resourceType");
            let name = name.and_then(|name| serde_json::from_str::<String>(name.get()).ok());
            name.filter(|name| type_name(name)).ok_or_else(|| invalid(format!("{path}.resourceType")))?
        }
    };
    Ok(Entry { resource_type, json: entry.get().to_owned() })
}

/// A resource's type: letters only.
fn type_name(name: &str) -> bool {
    (1..=64).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_alphabetic())
}

fn parse<'a, T: Deserialize<'a>>(path: &str, text: &'a str) -> Result<T> {
    serde_json::from_str(text).map_err(|_| invalid(path))
}

fn invalid(place: impl Into<String>) -> Error {
    Error::new(Code::FhirInvalid).at(place)
}

fn line(error: &serde_json::Error) -> String {
    format!("line {} column {}", error.line(), error.column())
}

/// Line and column of a byte, from 1.
fn place_of(content: &[u8], at: usize) -> String {
    let before = content.get(..at).unwrap_or_default();
    let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
    let column = before.iter().rev().take_while(|byte| **byte != b'\n').count() + 1;
    format!("line {line} column {column}")
}

/// An object's members in their order, values as text.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl Members<'_> {
    fn get(&self, name: &str) -> Option<&RawValue> {
        self.0.iter().find(|(member, _)| member == name).map(|(_, value)| *value)
    }

    /// The object again, with an empty list of entries.
    fn text(&self) -> String {
        let mut text = String::from("{");
        for (name, value) in &self.0 {
            if text.len() > 1 {
                text.push(',');
            }
            member(&mut text, name, if name == "entry" { "[]" } else { value.get() });
        }
        text.push('}');
        text
    }
}

fn member(text: &mut String, name: &str, value: &str) {
    text.push_str(&serde_json::Value::from(name).to_string());
    text.push(':');
    text.push_str(value);
}

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(input: D) -> std::result::Result<Self, D::Error> {
        struct Visit<'a>(std::marker::PhantomData<&'a ()>);
        impl<'de: 'a, 'a> Visitor<'de> for Visit<'a> {
            type Value = Members<'a>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        input.deserialize_map(Visit(std::marker::PhantomData))
    }
}

/// Any JSON value that is sound: complete, not too deep, its strings real characters, and no member of an
/// object there twice, which readers take in different ways. Nothing of it is kept.
struct Sound;

impl<'de> Deserialize<'de> for Sound {
    fn deserialize<D: Deserializer<'de>>(input: D) -> std::result::Result<Self, D::Error> {
        input.deserialize_any(Self)
    }
}

impl<'de> DeserializeSeed<'de> for Sound {
    type Value = Self;
    fn deserialize<D: Deserializer<'de>>(self, input: D) -> std::result::Result<Self, D::Error> {
        input.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Sound {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }
    fn visit_bool<E: de::Error>(self, _: bool) -> std::result::Result<Self, E> {
        Ok(self)
    }
    fn visit_i64<E: de::Error>(self, _: i64) -> std::result::Result<Self, E> {
        Ok(self)
    }
    fn visit_u64<E: de::Error>(self, _: u64) -> std::result::Result<Self, E> {
        Ok(self)
    }
    fn visit_f64<E: de::Error>(self, _: f64) -> std::result::Result<Self, E> {
        Ok(self)
    }
    fn visit_str<E: de::Error>(self, _: &str) -> std::result::Result<Self, E> {
        Ok(self)
    }
    fn visit_unit<E: de::Error>(self) -> std::result::Result<Self, E> {
        Ok(self)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> std::result::Result<Self, A::Error> {
        while seq.next_element_seed(Self)?.is_some() {}
        Ok(self)
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Self, A::Error> {
        let mut names = std::collections::BTreeSet::new();
        while let Some(name) = map.next_key::<String>()? {
            map.next_value_seed(Self)?;
            if !names.insert(name) {
                return Err(A::Error::custom("a member stands twice"));
            }
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    const SMALL: &str = r#"{ "resourceType" : "Bundle", "id":"a\u00e9",
        "entry": [ {"fullUrl":"x","resource":{"resourceType":"Patient","n":1.50,"big":123456789012345678901234567890}},
                   {"request":{"method":"DELETE"}} ],
        "type": "transaction", "meta": {"a": [1, 1.0, -0, 1e2, "\ud83d\ude00"]} }"#;

    fn rejoin(bundle: &Bundle) -> String {
        let (before, after) = around(&bundle.envelope).unwrap();
        let entries: Vec<&str> = bundle.entries.iter().map(|entry| entry.json.as_str()).collect();
        before + &entries.join(",") + &after
    }

    #[test]
    fn a_bundle_comes_back_as_it_was() {
        for text in [
            SMALL,
            r#"{"resourceType":"Bundle","type":"collection","entry":[]}"#,
            r#"{"type":"collection","resourceType":"Bundle"}"#,
            r#"{"entry":[],"type":"collection","resourceType":"Bundle"}"#,
        ] {
            let bundle = cut(text.as_bytes()).unwrap();
            let again = rejoin(&bundle);
            let (before, after): (Value, Value) =
                (serde_json::from_str(text).unwrap(), serde_json::from_str(&again).unwrap());
            assert_eq!(before, after);
        }
        let bundle = cut(SMALL.as_bytes()).unwrap();
        let types: Vec<&str> = bundle.entries.iter().map(|entry| entry.resource_type.as_str()).collect();
        assert_eq!(types, ["Patient", ""]);
        assert!(
            bundle.entries[0].json.contains("1.50") && bundle.entries[0].json.contains("345678901234567890}")
        );
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "-?[1-9][0-9]{0,30}\\.[0-9]{1,30}(e-?[1-9][0-9]?)?"
                .prop_map(|number| serde_json::from_str(&number).unwrap_or_default()),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 64, 8, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..8).prop_map(Value::from),
                proptest::collection::btree_map(any::<String>(), inner, 0..8)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn any_bundle_comes_back_as_it_was(
            resources in proptest::collection::vec(any_json(), 0..6),
            others in proptest::collection::btree_map(any::<String>(), any_json(), 0..6),
            listed in any::<bool>(),
        ) {
            let mut bundle: serde_json::Map<String, Value> = others.into_iter().collect();
            let count = if listed { resources.len() } else { 0 };
            let entry = |content: Value| json!({"resource": {"resourceType": "Basic", "content": content}});
            bundle.remove("entry");
            if listed {
                bundle.insert("entry".to_owned(), resources.into_iter().map(entry).collect());
            }
            bundle.insert("resourceType".to_owned(), "Bundle".into());
            bundle.insert("type".to_owned(), "collection".into());
            let bundle = Value::Object(bundle);
            let cut = cut(bundle.to_string().as_bytes()).unwrap();
            prop_assert_eq!(cut.entries.len(), count);
            prop_assert_eq!(serde_json::from_str::<Value>(&rejoin(&cut)).unwrap(), bundle);
        }

        #[test]
        fn garbage_is_refused_with_its_place(content in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(cut(&content).unwrap_err().place().is_some());
        }

        #[test]
        fn a_changed_byte_is_refused_or_read(at in 0..SMALL.len(), byte in any::<u8>()) {
            let mut content = SMALL.as_bytes().to_vec();
            content[at] = byte;
            if let Ok(bundle) = cut(&content) {
                prop_assert_eq!(
                    serde_json::from_str::<Value>(&rejoin(&bundle)).unwrap(),
                    serde_json::from_slice::<Value>(&content).unwrap()
                );
            }
        }
    }

    #[test]
    fn what_is_wrong_is_named_by_its_place() {
        let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
        for (text, place) in [
            ("{\n \"a\": }", "line 2 column 7"),
            ("", "line 1 column 0"),
            ("[]", "bundle"),
            (r#"{"resourceType":"Patient"}"#, "resourceType"),
            (r#"{"resourceType":"Bundle","type":"history"}"#, "type"),
            (r#"{"resourceType":"Bundle","type":"collection","entry":{}}"#, "entry"),
            (r#"{"resourceType":"Bundle","type":"collection","entry":[1]}"#, "entry[0]"),
            (r#"{"resourceType":"Bundle","type":"collection","entry":[{}]}"#, "entry[0].resource"),
            (
                r#"{"resourceType":"Bundle","type":"collection","entry":[{"resource":{"resourceType":"<a>"}}]}"#,
                "entry[0].resource.resourceType",
            ),
            (r#"{"a":1,"a":2}"#, "line 1 column 13"),
            (r#"{"a":"\ud800"}"#, "line 1 column 13"),
            (deep.as_str(), "line 1 column 128"),
        ] {
            let error = cut(text.as_bytes()).unwrap_err();
            assert_eq!((error.code(), error.place()), (Code::FhirInvalid, Some(place)), "{text}");
        }
        assert_eq!(cut(b"{\n\"a\xff\"").unwrap_err().place(), Some("line 2 column 3"));
    }
}
