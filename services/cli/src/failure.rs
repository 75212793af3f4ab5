//! How a command ends when it does not succeed, and the exit code that says so to scripts.

use std::fmt;
use std::path::Path;

use domicile_types::{Class, Code, Error};
use serde_json::{Value, json};

/// The exit codes, as every `--help` prints them.
pub const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  something else went wrong
  2  the command line or the request is wrong
  3  not signed in, or not allowed
  4  no such thing (or not for you)
  5  refused in the present state: a conflict, a lock, a blocker, a record that has moved
  6  cannot now, the same command may succeed later
  7  content failed its integrity check
`domicile audit verify` has its own codes; see its help.";

/// Why a command did not succeed.
#[derive(Debug)]
pub enum Failure {
    /// A region's answer, or a check of the same kind on this side.
    Service(Error),
    /// The command line does not fit.
    Usage(String),
    /// Something on this machine: a file, a folder, the terminal.
    Local {
        /// What happened.
        what: String,
        /// What to do about it.
        advice: String,
    },
    /// Whoever read the output has gone; nothing is wrong.
    ReaderGone,
    /// The command has said everything itself and ends with this code.
    Status(u8),
}

/// A result with [`Failure`].
pub type Result<T, E = Failure> = std::result::Result<T, E>;

impl Failure {
    /// A failure on this machine.
    pub fn local(what: impl Into<String>, advice: impl Into<String>) -> Self {
        Self::Local { what: what.into(), advice: advice.into() }
    }

    /// A file that cannot be read or written.
    #[must_use]
    pub fn file(path: &Path, cause: &std::io::Error) -> Self {
        let advice = "Check that the path exists and that you may use it.";
        Self::local(format!("{}: {}", path.display(), reason(cause)), advice)
    }

    /// The same failure, of this region or process of a deployment.
    #[must_use]
    pub fn of(self, name: &str) -> Self {
        match self {
            Self::Service(error) => {
                let place = match error.place() {
                    Some(place) => format!("{name}: {place}"),
                    None => name.to_owned(),
                };
                Self::Service(error.at(place))
            }
            Self::Usage(what) => Self::Usage(format!("{name}: {what}")),
            Self::Local { what, advice } => Self::Local { what: format!("{name}: {what}"), advice },
            other => other,
        }
    }

    /// The exit code.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Service(error) => exit_code(error.class()),
            Self::Usage(_) => 2,
            Self::Local { .. } => 1,
            Self::ReaderGone => 0,
            Self::Status(code) => *code,
        }
    }

    /// The service's error code, if it is a service's error.
    #[must_use]
    pub fn code(&self) -> Option<Code> {
        match self {
            Self::Service(error) => Some(error.code()),
            _ => None,
        }
    }

    /// What `--json` prints on standard error; `None` when everything has been said.
    #[must_use]
    pub fn to_json(&self) -> Option<Value> {
        match self {
            Self::Service(error) => Some(service_json(error)),
            Self::Usage(what) => Some(json!({ "error": { "what": what, "exit": 2 } })),
            Self::Local { what, advice } => {
                Some(json!({ "error": { "what": what, "advice": advice, "exit": 1 } }))
            }
            Self::ReaderGone | Self::Status(_) => None,
        }
    }
}

/// The exit code of a class of errors.
#[must_use]
pub const fn exit_code(class: Class) -> u8 {
    match class {
        Class::InvalidArgument | Class::OutOfRange => 2,
        Class::Unauthenticated | Class::PermissionDenied => 3,
        Class::NotFound => 4,
        Class::FailedPrecondition | Class::AlreadyExists | Class::Aborted => 5,
        Class::Unavailable | Class::ResourceExhausted | Class::DeadlineExceeded => 6,
        Class::DataLoss => 7,
        Class::Internal => 1,
    }
}

fn service_json(error: &Error) -> Value {
    let code = error.code();
    json!({ "error": {
        "code": code.as_str(),
        "what": code.what(),
        "where": error.place(),
        "advice": code.advice(),
        "retry_after_ms": error.wait().map(|wait| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)),
        "moved_to": error.moved().map(|(region, _)| region.as_str()),
        "epoch": error.moved().map(|(_, epoch)| epoch),
        "exit": exit_code(error.class()),
    } })
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service(error) => service_text(error, f),
            Self::Usage(what) => write!(f, "error: {what}\n  advice  See --help."),
            Self::Local { what, advice } => write!(f, "error: {what}\n  advice  {advice}"),
            Self::ReaderGone | Self::Status(_) => Ok(()),
        }
    }
}

fn service_text(error: &Error, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let code = error.code();
    write!(f, "error {}: {}", code.as_str(), code.what())?;
    if let Some(place) = error.place() {
        write!(f, "\n  where   {place}")?;
    }
    if let Some((region, epoch)) = error.moved() {
        write!(f, "\n  moved   to region {region}")?;
        // A forwarding note knows the region alone.
        if *epoch > 0 {
            write!(f, ", epoch {epoch}")?;
        }
    }
    if let Some(wait) = error.wait() {
        write!(f, "\n  again   in {} ms", wait.as_millis())?;
    }
    write!(f, "\n  advice  {}", code.advice())
}

impl std::error::Error for Failure {}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Service(error)
    }
}

/// Why a file cannot be read or written, in words a person uses; never the system's own text, which may
/// name more than the path.
#[must_use]
pub fn reason(cause: &std::io::Error) -> String {
    match cause.kind() {
        std::io::ErrorKind::NotFound => "there is no such file".to_owned(),
        std::io::ErrorKind::AlreadyExists => {
            "there is one already; move it away or choose another name".to_owned()
        }
        kind => kind.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use domicile_types::RegionId;

    use super::*;

    #[test]
    fn every_class_has_its_exit_code() {
        let expect = [
            (Code::InvalidRequest, 2),
            (Code::TooLarge, 2),
            (Code::Unauthenticated, 3),
            (Code::Forbidden, 3),
            (Code::NotFound, 4),
            (Code::RecordMoved, 5),
            (Code::IdempotencyMismatch, 5),
            (Code::Conflict, 5),
            (Code::RecordFrozen, 6),
            (Code::Overloaded, 6),
            (Code::DeadlineExceeded, 6),
            (Code::ContentDamaged, 7),
            (Code::Internal, 1),
        ];
        for (code, exit) in expect {
            assert_eq!(Failure::from(Error::new(code)).exit_code(), exit, "{}", code.as_str());
        }
    }

    #[test]
    fn an_error_says_what_where_and_what_to_do() {
        let error = Error::new(Code::RecordMoved).at("subject_id").moved_to(RegionId::new("ca").unwrap(), 2);
        let failure = Failure::from(error);
        let text = failure.to_string();
        for part in ["DOM-RECORD-005", "subject_id", "region ca, epoch 2", Code::RecordMoved.advice()] {
            assert!(text.contains(part), "{text}");
        }
        let json = failure.to_json().unwrap();
        assert_eq!(json["error"]["moved_to"], "ca");
        assert_eq!(json["error"]["exit"], 5);
    }
}
