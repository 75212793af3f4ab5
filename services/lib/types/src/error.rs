//! The one error that crosses crate borders: a stable code, a place without PHI, and the cause for the log.

use std::fmt;
use std::time::Duration;

use crate::codes::{Class, Code};
use crate::region::RegionId;

/// A result with [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error with a stable code. Its display text is safe to show anybody: it holds the code's
/// sentence, the advice and, where given, the place; never the cause's text, never PHI.
pub struct Error(Box<Inner>);

struct Inner {
    code: Code,
    place: Option<String>,
    retry_after: Option<Duration>,
    moved: Option<(RegionId, u64)>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error of this code.
    #[must_use]
    pub fn new(code: Code) -> Self {
        Self(Box::new(Inner { code, place: None, retry_after: None, moved: None, source: None }))
    }

    /// Names the field, key or blocker at fault. Must hold no PHI and no text a person typed.
    #[must_use]
    pub fn at(mut self, place: impl Into<String>) -> Self {
        self.0.place = Some(place.into());
        self
    }

    /// Keeps the cause for the operator's log.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// Says when the same request may succeed.
    #[must_use]
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.0.retry_after = Some(wait);
        self
    }

    /// Says where the record is now, and at which epoch.
    #[must_use]
    pub fn moved_to(mut self, region: RegionId, epoch: u64) -> Self {
        self.0.moved = Some((region, epoch));
        self
    }

    /// The stable code.
    #[must_use]
    pub fn code(&self) -> Code {
        self.0.code
    }

    /// The code's class.
    #[must_use]
    pub fn class(&self) -> Class {
        self.0.code.class()
    }

    /// The field, key or blocker at fault.
    #[must_use]
    pub fn place(&self) -> Option<&str> {
        self.0.place.as_deref()
    }

    /// When the same request may succeed.
    #[must_use]
    pub fn wait(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// Where the record is now, and at which epoch.
    #[must_use]
    pub fn moved(&self) -> Option<&(RegionId, u64)> {
        self.0.moved.as_ref()
    }
}

impl From<Code> for Error {
    fn from(code: Code) -> Self {
        Self::new(code)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let code = self.0.code;
        match &self.0.place {
            Some(place) => write!(f, "{}: {} ({place}) {}", code.as_str(), code.what(), code.advice()),
            None => write!(f, "{}: {} {}", code.as_str(), code.what(), code.advice()),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Error");
        out.field("code", &self.0.code.as_str()).field("place", &self.0.place);
        if let Some(source) = &self.0.source {
            out.field("source", source);
        }
        out.finish()
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_ref().map(|source| &**source as &(dyn std::error::Error + 'static))
    }
}
