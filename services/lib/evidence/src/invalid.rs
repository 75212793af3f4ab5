//! Why a piece of evidence was not accepted.

use domicile_types::{Code, error::Error};

/// A piece of evidence was not accepted. Names the kind of thing and the place, never its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}: {fault}")]
pub struct Invalid {
    /// What was looked at, such as `entry`.
    pub what: &'static str,
    /// What is wrong with it.
    pub fault: Fault,
}

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Not deterministic CBOR (RFC 8949 §4.2.1).
    #[error("not deterministic CBOR at byte {0}")]
    Encoding(usize),
    /// A field is missing or out of its bounds.
    #[error("field {0} is missing or does not fit")]
    Field(u64),
    /// A field nobody knows.
    #[error("field {0} is unknown")]
    Unknown(u64),
    /// Longer or deeper than its bound.
    #[error("too large")]
    TooLarge,
    /// The signature does not verify, or there is none by the expected key.
    #[error("the signature does not verify")]
    Signature,
    /// Not of the form it must have.
    #[error("{0}")]
    Form(&'static str),
}

impl Invalid {
    /// A fault of `what`.
    #[must_use]
    pub const fn new(what: &'static str, fault: Fault) -> Self {
        Self { what, fault }
    }

    /// `what` does not have its form, because of `why`.
    #[must_use]
    pub const fn form(what: &'static str, why: &'static str) -> Self {
        Self::new(what, Fault::Form(why))
    }

    /// As an error of the transfer's statements, [`Code::StatementInvalid`].
    #[must_use]
    pub fn in_statement(self) -> Error {
        Error::new(Code::StatementInvalid).at(self.what).because(self)
    }
}

impl From<Invalid> for Error {
    /// Evidence that comes out of the region's own log: [`Code::AuditCorrupt`].
    fn from(invalid: Invalid) -> Self {
        Self::new(Code::AuditCorrupt).at(invalid.what).because(invalid)
    }
}
