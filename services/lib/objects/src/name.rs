//! Names of objects: segments of lower-case letters, digits and hyphens between slashes. So a name is
//! safe as a path and as an S3 key, and no name can climb out of its prefix.

use std::fmt;

use domicile_types::{Code, Error, ObjectId, Result, SubjectId, TransferId};
use uuid::Uuid;

/// The longest name, in bytes.
const LONGEST: usize = 256;

/// The most segments of a name.
const DEEPEST: usize = 8;

/// Letters of an id in a name.
const ID: usize = 36;

/// The name of one object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectName(String);

/// Whole leading segments of names.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ObjectPrefix(String);

fn fits(text: &str) -> bool {
    let segment_fits = |segment: &str| {
        !segment.is_empty() && segment.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'))
    };
    text.len() <= LONGEST && text.split('/').count() <= DEEPEST && text.split('/').all(segment_fits)
}

impl ObjectName {
    /// Checks and wraps a name.
    ///
    /// # Errors
    /// [`Code::InvalidRequest`] when it has an empty segment, another character, more than 8 segments or more
    /// than 256 bytes.
    pub fn new(name: impl Into<String>) -> Result<Self> {
        let name = name.into();
        if fits(&name) { Ok(Self(name)) } else { Err(Error::new(Code::InvalidRequest).at("object name")) }
    }

    /// An object of a record, sealed under its record key.
    #[must_use]
    pub fn object(subject: SubjectId, object: ObjectId) -> Self {
        Self(format!("objects/{subject}/{object}"))
    }

    /// One sealing of an object of a record: whoever seals it again does so under a fresh name, so that
    /// nobody's file is in the way of anybody's.
    #[must_use]
    pub fn copy(subject: SubjectId, object: ObjectId, copy: Option<Uuid>) -> Self {
        match copy {
            Some(copy) => Self(format!("objects/{subject}/{object}-{}", copy.simple())),
            None => Self::object(subject, object),
        }
    }

    /// An object that has arrived with a transfer, still in travel form, in the stream of this salt: each
    /// stream has its own.
    #[must_use]
    pub fn staging(transfer: TransferId, object: ObjectId, salt: &[u8]) -> Self {
        let stream: String = salt.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        Self(format!("staging/{transfer}/{object}-{stream}"))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the name lies under the prefix.
    #[must_use]
    pub fn is_under(&self, prefix: &ObjectPrefix) -> bool {
        let rest = self.0.strip_prefix(&prefix.0);
        prefix.0.is_empty() || rest.is_some_and(|rest| rest.starts_with('/'))
    }

    /// The object's id in the last segment: of what [`Self::object`], [`Self::copy`] and [`Self::staging`]
    /// made.
    #[must_use]
    pub fn object_id(&self) -> Option<ObjectId> {
        let segment = self.0.rsplit('/').next()?;
        segment.get(..ID).and_then(|id| id.parse().ok())
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl ObjectPrefix {
    /// Checks and wraps a prefix: whole segments, without a slash at the end.
    ///
    /// # Errors
    /// [`Code::InvalidRequest`] as for a name.
    pub fn new(prefix: impl Into<String>) -> Result<Self> {
        ObjectName::new(prefix).map(|name| Self(name.0))
    }

    /// All objects.
    #[must_use]
    pub const fn all() -> Self {
        Self(String::new())
    }

    /// All objects of a record.
    #[must_use]
    pub fn objects(subject: SubjectId) -> Self {
        Self(format!("objects/{subject}"))
    }

    /// All objects that have arrived with a transfer.
    #[must_use]
    pub fn staging(transfer: TransferId) -> Self {
        Self(format!("staging/{transfer}"))
    }

    /// The prefix, without a slash at the end; empty for all.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use domicile_types::Ctx;

    #[test]
    fn hostile_names_are_refused() {
        let long = "a".repeat(LONGEST + 1);
        let deep = ["a"; DEEPEST + 1].join("/");
        let bad =
            ["", "/", "a/", "/a", "a//b", "..", "a/../b", ".a", "A", "a b", "a\0", "ä", "a\\b", &long, &deep];
        for name in bad {
            assert_eq!(ObjectName::new(name).unwrap_err().code(), Code::InvalidRequest, "{name:?}");
        }
        assert!(ObjectName::new("a").is_ok());
        assert!(ObjectName::new("objects/0-9/z").is_ok());
    }

    #[test]
    fn helpers_make_names_that_are_checked_names() {
        let ctx = Ctx::system();
        let (subject, transfer, object) =
            (SubjectId::generate(&ctx), TransferId::generate(&ctx), ObjectId::generate(&ctx));
        let here = ObjectName::object(subject, object);
        let staged = ObjectName::staging(transfer, object, &[7; 32]);
        let copy = ObjectName::copy(subject, object, Some(Uuid::nil()));
        assert_eq!(ObjectName::copy(subject, object, None), here);
        assert!(copy.is_under(&ObjectPrefix::objects(subject)) && copy != here);
        for name in [&here, &copy, &staged] {
            assert_eq!(ObjectName::new(name.as_str()).unwrap(), *name);
            assert_eq!(name.object_id(), Some(object));
            assert!(name.is_under(&ObjectPrefix::all()));
        }
        assert!(here.is_under(&ObjectPrefix::objects(subject)));
        assert!(!staged.is_under(&ObjectPrefix::objects(subject)));
        assert!(staged.is_under(&ObjectPrefix::staging(transfer)));
    }

    #[test]
    fn a_prefix_is_whole_segments() {
        let prefix = ObjectPrefix::new("objects/ab").unwrap();
        assert!(ObjectName::new("objects/ab/c").unwrap().is_under(&prefix));
        assert!(!ObjectName::new("objects/abc/c").unwrap().is_under(&prefix));
        assert!(!ObjectName::new("objects/ab").unwrap().is_under(&prefix));
    }
}
