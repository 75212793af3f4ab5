//! Deterministic CBOR (RFC 8949 §4.2.1): maps with unsigned integer keys in rising order, shortest
//! lengths, no indefinite items, no tags, no floats. One value has one encoding.

use std::collections::BTreeMap;

use domicile_types::time::Timestamp;

use crate::invalid::{Fault, Invalid};

/// The most bytes one encoded item may have.
pub const MAX_BYTES: usize = 1 << 20;
/// How deep arrays and maps may lie in one another.
pub const MAX_DEPTH: u8 = 8;

const UNSIGNED: u8 = 0;
const NEGATIVE: u8 = 1;
const BYTES: u8 = 2;
const TEXT: u8 = 3;
const ARRAY: u8 = 4;
const MAP: u8 = 5;

/// One CBOR item of the kinds in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// An unsigned integer.
    Unsigned(u64),
    /// The negative integer −1 − n.
    Negative(u64),
    /// Bytes.
    Bytes(Vec<u8>),
    /// Text.
    Text(String),
    /// An array.
    Array(Vec<Value>),
    /// A map with unsigned integer keys.
    Map(BTreeMap<u64, Value>),
}

macro_rules! unsigned {
    ($($kind:ty),*) => {
        $(impl From<$kind> for Value {
            fn from(number: $kind) -> Self {
                Self::Unsigned(u64::from(number))
            }
        })*
    };
}
unsigned!(u8, u16, u32, u64);

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        match u64::try_from(number) {
            Ok(number) => Self::Unsigned(number),
            Err(_) => Self::Negative(number.unsigned_abs().saturating_sub(1)),
        }
    }
}

impl From<Timestamp> for Value {
    fn from(at: Timestamp) -> Self {
        at.micros().into()
    }
}

impl From<&[u8]> for Value {
    fn from(bytes: &[u8]) -> Self {
        Self::Bytes(bytes.to_vec())
    }
}

impl From<Vec<u8>> for Value {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Bytes(bytes)
    }
}

impl<const N: usize> From<[u8; N]> for Value {
    fn from(bytes: [u8; N]) -> Self {
        Self::Bytes(bytes.to_vec())
    }
}

impl<const N: usize> From<&[u8; N]> for Value {
    fn from(bytes: &[u8; N]) -> Self {
        Self::Bytes(bytes.to_vec())
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<Vec<Self>> for Value {
    fn from(items: Vec<Self>) -> Self {
        Self::Array(items)
    }
}

impl From<Writer> for Value {
    fn from(map: Writer) -> Self {
        Self::Map(map.0)
    }
}

impl Value {
    /// The item's one encoding.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.write(&mut out);
        out
    }

    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Unsigned(number) => head(out, UNSIGNED, *number),
            Self::Negative(number) => head(out, NEGATIVE, *number),
            Self::Bytes(bytes) => {
                head(out, BYTES, length(bytes.len()));
                out.extend_from_slice(bytes);
            }
            Self::Text(text) => {
                head(out, TEXT, length(text.len()));
                out.extend_from_slice(text.as_bytes());
            }
            Self::Array(items) => {
                head(out, ARRAY, length(items.len()));
                items.iter().for_each(|item| item.write(out));
            }
            Self::Map(map) => {
                head(out, MAP, length(map.len()));
                for (key, value) in map {
                    head(out, UNSIGNED, *key);
                    value.write(out);
                }
            }
        }
    }

    /// Reads exactly one item from the whole of `bytes`; `what` names it in errors.
    ///
    /// # Errors
    /// When the bytes are not the one encoding of an item, or past the bounds.
    pub fn decode(what: &'static str, bytes: &[u8]) -> Result<Self, Invalid> {
        if bytes.len() > MAX_BYTES {
            return Err(Invalid::new(what, Fault::TooLarge));
        }
        let mut input = Input { what, bytes, at: 0 };
        let value = input.value(MAX_DEPTH)?;
        if input.at == bytes.len() { Ok(value) } else { Err(input.fault()) }
    }
}

/// A `usize` fits a `u64` on every platform Rust supports today.
fn length(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

/// The head of an item: major type and the shortest form of its argument.
fn head(out: &mut Vec<u8>, major: u8, argument: u64) {
    let bytes = argument.to_be_bytes();
    let [.., b4, b5, b6, b7] = bytes;
    let major = major << 5;
    if argument < 24 {
        out.push(major | b7);
    } else if argument <= 0xff {
        out.extend_from_slice(&[major | 24, b7]);
    } else if argument <= 0xffff {
        out.extend_from_slice(&[major | 25, b6, b7]);
    } else if argument <= 0xffff_ffff {
        out.extend_from_slice(&[major | 26, b4, b5, b6, b7]);
    } else {
        out.push(major | 27);
        out.extend_from_slice(&bytes);
    }
}

struct Input<'a> {
    what: &'static str,
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Input<'a> {
    const fn fault(&self) -> Invalid {
        Invalid::new(self.what, Fault::Encoding(self.at))
    }

    fn take(&mut self, count: u64) -> Result<&'a [u8], Invalid> {
        let count = usize::try_from(count).map_err(|_| self.fault())?;
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let taken = rest.get(..count).ok_or_else(|| self.fault())?;
        self.at += count;
        Ok(taken)
    }

    fn argument(&mut self, info: u8) -> Result<u64, Invalid> {
        let (count, least) = match info {
            0..=23 => return Ok(u64::from(info)),
            24 => (1, 24),
            25 => (2, 0x100),
            26 => (4, 0x1_0000),
            27 => (8, 0x1_0000_0000),
            _ => return Err(self.fault()),
        };
        let bytes = self.take(count)?;
        let number = bytes.iter().fold(0_u64, |number, byte| (number << 8) | u64::from(*byte));
        if number < least { Err(self.fault()) } else { Ok(number) }
    }

    fn head(&mut self) -> Result<(u8, u64), Invalid> {
        let first = *self.take(1)?.first().ok_or_else(|| self.fault())?;
        Ok((first >> 5, self.argument(first & 0x1f)?))
    }

    fn value(&mut self, depth: u8) -> Result<Value, Invalid> {
        let (major, argument) = self.head()?;
        match major {
            UNSIGNED => Ok(Value::Unsigned(argument)),
            NEGATIVE => Ok(Value::Negative(argument)),
            BYTES => Ok(Value::Bytes(self.take(argument)?.to_vec())),
            TEXT => {
                let text = std::str::from_utf8(self.take(argument)?).map_err(|_| self.fault())?;
                Ok(Value::Text(text.to_owned()))
            }
            ARRAY => self.array(argument, self.deeper(depth)?),
            MAP => self.map(argument, self.deeper(depth)?),
            _ => Err(self.fault()),
        }
    }

    fn deeper(&self, depth: u8) -> Result<u8, Invalid> {
        depth.checked_sub(1).ok_or(Invalid::new(self.what, Fault::TooLarge))
    }

    // Nothing is reserved ahead: a lying length ends at the end of the input.
    fn array(&mut self, count: u64, depth: u8) -> Result<Value, Invalid> {
        let mut items = Vec::new();
        for _ in 0..count {
            items.push(self.value(depth)?);
        }
        Ok(Value::Array(items))
    }

    fn map(&mut self, count: u64, depth: u8) -> Result<Value, Invalid> {
        let mut map = BTreeMap::new();
        for _ in 0..count {
            let (major, key) = self.head()?;
            let rising = map.last_key_value().is_none_or(|(last, _)| *last < key);
            if major != UNSIGNED || !rising {
                return Err(self.fault());
            }
            let value = self.value(depth)?;
            map.insert(key, value);
        }
        Ok(Value::Map(map))
    }
}

/// Builds a map.
#[derive(Clone, Debug, Default)]
pub struct Writer(BTreeMap<u64, Value>);

impl Writer {
    /// An empty map.
    #[must_use]
    pub const fn new() -> Self {
        Self(BTreeMap::new())
    }

    /// Sets a field.
    #[must_use]
    pub fn put(mut self, key: u64, value: impl Into<Value>) -> Self {
        self.0.insert(key, value.into());
        self
    }

    /// Sets a field that may be absent.
    #[must_use]
    pub fn maybe(self, key: u64, value: Option<impl Into<Value>>) -> Self {
        match value {
            Some(value) => self.put(key, value),
            None => self,
        }
    }

    /// The map's one encoding.
    #[must_use]
    pub fn encode(self) -> Vec<u8> {
        Value::from(self).encode()
    }
}

/// Takes a map apart, field by field; [`Reader::finish`] refuses what nobody took.
#[derive(Clone, Debug)]
pub struct Reader {
    what: &'static str,
    map: BTreeMap<u64, Value>,
}

impl Reader {
    /// Reads a map from the whole of `bytes`; `what` names it in errors.
    ///
    /// # Errors
    /// When the bytes are not the one encoding of a map.
    pub fn decode(what: &'static str, bytes: &[u8]) -> Result<Self, Invalid> {
        Self::of(what, Value::decode(what, bytes)?)
    }

    /// Reads a map that was a field of another.
    ///
    /// # Errors
    /// When the value is no map.
    pub fn of(what: &'static str, value: Value) -> Result<Self, Invalid> {
        match value {
            Value::Map(map) => Ok(Self { what, map }),
            _ => Err(Invalid::form(what, "not a map")),
        }
    }

    const fn misfit(&self, key: u64) -> Invalid {
        Invalid::new(self.what, Fault::Field(key))
    }

    /// Whether the field is there.
    #[must_use]
    pub fn has(&self, key: u64) -> bool {
        self.map.contains_key(&key)
    }

    /// Takes a field.
    ///
    /// # Errors
    /// When it is absent.
    pub fn value(&mut self, key: u64) -> Result<Value, Invalid> {
        self.map.remove(&key).ok_or(self.misfit(key))
    }

    /// Takes a field that may be absent with one of the typed readers.
    ///
    /// # Errors
    /// When it is there and does not fit.
    pub fn maybe<T>(
        &mut self,
        key: u64,
        read: impl FnOnce(&mut Self, u64) -> Result<T, Invalid>,
    ) -> Result<Option<T>, Invalid> {
        if self.has(key) { read(self, key).map(Some) } else { Ok(None) }
    }

    /// Takes an unsigned integer of any width.
    ///
    /// # Errors
    /// When it is absent, no unsigned integer or too big.
    pub fn unsigned<T: TryFrom<u64>>(&mut self, key: u64) -> Result<T, Invalid> {
        match self.value(key)? {
            Value::Unsigned(number) => T::try_from(number).map_err(|_| self.misfit(key)),
            _ => Err(self.misfit(key)),
        }
    }

    /// Takes an instant.
    ///
    /// # Errors
    /// When it is absent or no integer of 64 bits with sign.
    pub fn timestamp(&mut self, key: u64) -> Result<Timestamp, Invalid> {
        let micros = match self.value(key)? {
            Value::Unsigned(number) => i64::try_from(number).ok(),
            Value::Negative(number) => i64::try_from(number).ok().map(|number| -1 - number),
            _ => None,
        };
        micros.map(Timestamp::from_micros).ok_or(self.misfit(key))
    }

    /// Takes bytes of any length.
    ///
    /// # Errors
    /// When they are absent or no bytes.
    pub fn bytes(&mut self, key: u64) -> Result<Vec<u8>, Invalid> {
        match self.value(key)? {
            Value::Bytes(bytes) => Ok(bytes),
            _ => Err(self.misfit(key)),
        }
    }

    /// Takes exactly `N` bytes.
    ///
    /// # Errors
    /// When they are absent or of another length.
    pub fn fixed<const N: usize>(&mut self, key: u64) -> Result<[u8; N], Invalid> {
        self.bytes(key)?.try_into().map_err(|_| self.misfit(key))
    }

    /// Takes text of at most `most` bytes.
    ///
    /// # Errors
    /// When it is absent, no text or too long.
    pub fn text(&mut self, key: u64, most: usize) -> Result<String, Invalid> {
        match self.value(key)? {
            Value::Text(text) if text.len() <= most => Ok(text),
            _ => Err(self.misfit(key)),
        }
    }

    /// Takes text and parses it with `read`.
    ///
    /// # Errors
    /// When it is absent, no text, longer than 128 bytes or not what `read` knows.
    pub fn parsed<T>(&mut self, key: u64, read: impl FnOnce(&str) -> Option<T>) -> Result<T, Invalid> {
        let text = self.text(key, 128)?;
        read(&text).ok_or(self.misfit(key))
    }

    /// Takes an array.
    ///
    /// # Errors
    /// When it is absent or no array.
    pub fn array(&mut self, key: u64) -> Result<Vec<Value>, Invalid> {
        match self.value(key)? {
            Value::Array(items) => Ok(items),
            _ => Err(self.misfit(key)),
        }
    }

    /// Refuses fields that nobody took.
    ///
    /// # Errors
    /// When there is one.
    pub fn finish(self) -> Result<(), Invalid> {
        match self.map.first_key_value() {
            Some((key, _)) => Err(Invalid::new(self.what, Fault::Unknown(*key))),
            None => Ok(()),
        }
    }
}
