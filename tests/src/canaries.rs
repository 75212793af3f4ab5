//! Canaries: words that stand nowhere by chance, planted in whatever a person can send, and the search for
//! them in every form in which a byte can be written down.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::path::Path;

use aho_corasick::AhoCorasick;
use domicile_types::Ctx;
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, Value};

use crate::world::Outcome;

/// How deep messages are filled.
const DEEPEST: usize = 6;
/// Bytes of a file that are searched at a time.
const PIECE: usize = 4 * 1024 * 1024;

/// Makes canaries: each begins with one mark, of this run alone, and goes on with its number.
pub struct Aviary {
    mark: String,
    planted: usize,
    fields: BTreeSet<String>,
}

impl Aviary {
    /// Fresh ones.
    #[must_use]
    pub fn new() -> Self {
        const LETTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyzABCDEFGH";
        let random: [u8; 16] = Ctx::system().random();
        let letters = random.iter().map(|byte| char::from(LETTERS[usize::from(byte & 31)]));
        Self { mark: format!("zq{}", letters.collect::<String>()), planted: 0, fields: BTreeSet::new() }
    }

    /// What every canary of this run begins with.
    #[must_use]
    pub fn mark(&self) -> &str {
        &self.mark
    }

    /// How many there are.
    #[must_use]
    pub const fn planted(&self) -> usize {
        self.planted
    }

    /// Fields of messages that have held one, by their full names.
    #[must_use]
    pub const fn fields(&self) -> &BTreeSet<String> {
        &self.fields
    }

    /// A canary of its own.
    pub fn one(&mut self) -> String {
        self.planted += 1;
        format!("{}{:06}", self.mark, self.planted)
    }

    /// A text with this many canaries, between letters that writers like to escape.
    pub fn text(&mut self, count: usize) -> String {
        let words: Vec<String> = (0..count).map(|_| self.one()).collect();
        format!("é \"{}\" <b>&\\", words.join("\" /\n"))
    }

    /// A message with canaries in every text and every bytes, of every field there is; of alternatives the
    /// one named, else the first.
    pub fn fill(&mut self, of: &MessageDescriptor, which: &str) -> DynamicMessage {
        self.filled(of, which, DEEPEST)
    }

    fn filled(&mut self, of: &MessageDescriptor, which: &str, depth: usize) -> DynamicMessage {
        let mut message = DynamicMessage::new(of.clone());
        for field in of.fields() {
            let chosen = field.containing_oneof().is_none_or(|one| {
                let named = one.fields().find(|other| other.name() == which);
                named.or_else(|| one.fields().next()).is_some_and(|other| other == field)
            });
            if let Some(value) = chosen.then(|| self.value(&field, which, depth)).flatten() {
                let value = if field.is_list() { Value::List(vec![value]) } else { value };
                message.set_field(&field, value);
            }
        }
        message
    }

    fn value(&mut self, field: &FieldDescriptor, which: &str, depth: usize) -> Option<Value> {
        match field.kind() {
            Kind::String => {
                self.fields.insert(field.full_name().to_owned());
                Some(Value::String(self.text(5)))
            }
            Kind::Bytes => {
                self.fields.insert(field.full_name().to_owned());
                Some(Value::Bytes(self.text(5).into_bytes().into()))
            }
            Kind::Message(inner) if depth > 0 => Some(Value::Message(self.filled(&inner, which, depth - 1))),
            _ => None,
        }
    }
}

impl Default for Aviary {
    fn default() -> Self {
        Self::new()
    }
}

/// Finds a mark in any form.
pub struct Finder {
    forms: Vec<(String, Vec<u8>)>,
    automaton: AhoCorasick,
    longest: usize,
}

impl Finder {
    /// For this mark; it must be of ASCII letters and digits.
    ///
    /// # Errors
    /// When the automaton cannot be built.
    pub fn new(mark: &str) -> Outcome<Self> {
        let forms = forms(mark);
        let automaton = AhoCorasick::new(forms.iter().map(|(_, form)| form))?;
        let longest = forms.iter().map(|(_, form)| form.len()).max().unwrap_or_default();
        Ok(Self { forms, automaton, longest })
    }

    /// The name of a form that stands here.
    #[must_use]
    pub fn find(&self, content: &[u8]) -> Option<&str> {
        let found = self.automaton.find(content)?;
        self.forms.get(found.pattern().as_usize()).map(|(name, _)| name.as_str())
    }

    /// The name of a form that stands in a file; `None` also for a file that has gone meanwhile.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn find_in_file(&self, path: &Path) -> Outcome<Option<&str>> {
        let mut file = match std::fs::File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(format!("{}: {error}", path.display()).into()),
        };
        let mut piece = vec![0; PIECE];
        let mut kept = 0;
        loop {
            let read = file.read(&mut piece[kept..])?;
            if read == 0 {
                return Ok(None);
            }
            let end = kept + read;
            if let Some(found) = self.find(&piece[..end]) {
                return Ok(Some(found));
            }
            // A form may lie across two pieces.
            kept = end.min(self.longest);
            piece.copy_within(end - kept..end, 0);
        }
    }

    /// Searches every file under a folder, and their names; answers how many there were.
    ///
    /// # Errors
    /// Naming the file in which something was found, and the form.
    pub fn search(&self, folder: &Path) -> Outcome<usize> {
        let mut files = 0;
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            if let Some(form) = self.find(path.as_os_str().as_encoded_bytes()) {
                return Err(format!("a name holds a canary ({form}): {}", path.display()).into());
            }
            if path.is_dir() && !path.is_symlink() {
                files += self.search(&path)?;
            } else if path.is_file() {
                files += 1;
                if let Some(form) = self.find_in_file(&path)? {
                    return Err(format!("a canary ({form}) lies in {}", path.display()).into());
                }
            }
        }
        Ok(files)
    }
}

/// Every way in which a word could have been written down, with a name.
fn forms(mark: &str) -> Vec<(String, Vec<u8>)> {
    let mut forms = Vec::new();
    for (case, word) in
        [("", mark.to_owned()), ("lower ", mark.to_lowercase()), ("upper ", mark.to_uppercase())]
    {
        let bytes = word.as_bytes();
        let each = |form: fn(u8) -> String| bytes.iter().map(|byte| form(*byte)).collect::<String>();
        let decimal: Vec<String> = bytes.iter().map(u8::to_string).collect();
        let wide = |bytes: fn(u16) -> [u8; 2]| word.encode_utf16().flat_map(bytes).collect::<Vec<u8>>();
        let texts = [
            ("plain", word.clone()),
            ("hex", each(|byte| format!("{byte:02x}"))),
            ("HEX", each(|byte| format!("{byte:02X}"))),
            ("percent", each(|byte| format!("%{byte:02x}"))),
            ("PERCENT", each(|byte| format!("%{byte:02X}"))),
            ("JSON", each(|byte| format!("\\u00{byte:02x}"))),
            ("JSON capitals", each(|byte| format!("\\u00{byte:02X}"))),
            ("escaped", each(|byte| format!("\\x{byte:02x}"))),
            ("octal", each(|byte| format!("\\{byte:03o}"))),
            ("decimal list", decimal.join(", ")),
            ("JSON list", decimal.join(",")),
        ];
        forms.extend(texts.map(|(name, text)| (format!("{case}{name}"), text.into_bytes())));
        forms.push((format!("{case}UTF-16LE"), wide(u16::to_le_bytes)));
        forms.push((format!("{case}UTF-16BE"), wide(u16::to_be_bytes)));
        for skip in 0..3 {
            forms.push((format!("{case}base64, {skip} over"), base64(&bytes[skip..])));
        }
    }
    forms
}

/// Base64 of whole groups of three only: what does not depend on what comes before or after. Of ASCII letters
/// and digits alone it is the same in the alphabet for URLs.
fn base64(bytes: &[u8]) -> Vec<u8> {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let letter = |bits: u32| LETTERS[usize::try_from(bits & 63).unwrap_or_default()];
    let group = |three: &[u8]| {
        let bits = three.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte));
        [letter(bits >> 18), letter(bits >> 12), letter(bits >> 6), letter(bits)]
    };
    bytes.chunks_exact(3).flat_map(group).collect()
}
