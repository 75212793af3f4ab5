//! What went wrong in the database, without what the database says about values.

use std::fmt;

use domicile_types::{Code, Error};
use sea_orm::{DbErr, RuntimeErr};

/// How a database error is to be treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Lost against a concurrent transaction; the same closure may run again.
    Contended,
    /// A unique key is taken.
    Unique,
    /// Row-level security or a missing right refused it.
    Refused,
    /// The server did not answer, or has no room; nothing is known of the statement's outcome.
    Unreachable,
    /// The server has no room or no time; the statement did not happen.
    Exhausted,
    /// There is no such database or role, or its password is wrong: the settings name others.
    Settings,
    /// Anything else: ours to mend.
    Other,
}

/// A database error as it may stand in an operator's log: the server's code and the names of ours,
/// never its message with values (P8).
#[derive(Clone, PartialEq, Eq)]
pub struct StoreFailure {
    kind: Kind,
    code: String,
    about: String,
}

impl StoreFailure {
    /// How to treat it.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// The failure inside an error, if a database caused it.
    #[must_use]
    pub fn of(error: &Error) -> Option<&Self> {
        std::error::Error::source(error).and_then(|source| source.downcast_ref())
    }

    pub(crate) fn from_db(error: &DbErr) -> Self {
        match error {
            DbErr::Conn(RuntimeErr::SqlxError(error))
            | DbErr::Exec(RuntimeErr::SqlxError(error))
            | DbErr::Query(RuntimeErr::SqlxError(error)) => Self::from_sqlx(error),
            DbErr::ConnectionAcquire(_) => Self::new(Kind::Exhausted, "acquire", ""),
            DbErr::Type(what) => Self::new(Kind::Other, "type", what),
            DbErr::Migration(what) | DbErr::Custom(what) => Self::new(Kind::Other, "migration", what),
            other => Self::new(Kind::Other, "orm", &variant(other)),
        }
    }

    pub(crate) fn from_sqlx(error: &sqlx::Error) -> Self {
        match error {
            sqlx::Error::Database(error) => Self::from_server(error.as_ref()),
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::WorkerCrashed
            | sqlx::Error::PoolClosed => Self::new(Kind::Unreachable, "connection", &variant(error)),
            sqlx::Error::Protocol(_) => Self::new(Kind::Unreachable, "protocol", ""),
            sqlx::Error::PoolTimedOut => Self::new(Kind::Exhausted, "acquire", ""),
            sqlx::Error::ColumnDecode { index, .. } => Self::new(Kind::Other, "decode", index),
            sqlx::Error::ColumnNotFound(name) => Self::new(Kind::Other, "column", name),
            other => Self::new(Kind::Other, "driver", &variant(other)),
        }
    }

    fn from_server(error: &dyn sqlx::error::DatabaseError) -> Self {
        let code = error.code().map(std::borrow::Cow::into_owned).unwrap_or_default();
        if error.try_downcast_ref::<sqlx::postgres::PgDatabaseError>().is_some() {
            // Class 42 speaks of our SQL, everything else may quote values.
            let about = match (error.constraint(), error.table()) {
                (Some(constraint), _) => constraint.to_owned(),
                (None, Some(table)) => table.to_owned(),
                _ if code.starts_with("42") => error.message().to_owned(),
                _ => String::new(),
            };
            Self { kind: postgres_kind(&code), code, about }
        } else {
            // SQLite's messages name tables and columns, never values; triggers' texts are ours.
            Self { kind: sqlite_kind(&code), about: error.message().to_owned(), code }
        }
    }

    /// A mistake of ours.
    pub(crate) fn bug(what: &str) -> Self {
        Self::new(Kind::Other, "bug", what)
    }

    fn new(kind: Kind, code: &str, about: &str) -> Self {
        Self { kind, code: code.to_owned(), about: about.to_owned() }
    }
}

/// The name of an enum's variant from its Debug text, without its content.
fn variant(error: &dyn fmt::Debug) -> String {
    let text = format!("{error:?}");
    text.chars().take_while(char::is_ascii_alphanumeric).collect()
}

fn postgres_kind(code: &str) -> Kind {
    match code {
        "40001" | "40P01" | "55P03" => Kind::Contended,
        "23505" => Kind::Unique,
        "42501" => Kind::Refused,
        "3D000" | "28000" | "28P01" => Kind::Settings,
        "57014" => Kind::Exhausted,
        "57P01" | "57P02" | "57P03" | "25P03" => Kind::Unreachable,
        _ if code.starts_with("08") => Kind::Unreachable,
        _ if code.starts_with("53") => Kind::Exhausted,
        _ => Kind::Other,
    }
}

fn sqlite_kind(code: &str) -> Kind {
    // Extended result codes; the low byte is the primary one.
    let Ok(number) = code.parse::<u32>() else { return Kind::Other };
    match (number & 0xff, number) {
        (5 | 6, _) => Kind::Contended,
        (19, 1555 | 2067 | 2579) => Kind::Unique,
        (19, 1811) | (8, _) => Kind::Refused,
        (13 | 7, _) => Kind::Exhausted,
        (10 | 14, _) => Kind::Unreachable,
        _ => Kind::Other,
    }
}

impl fmt::Display for StoreFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "database error {} ({:?}) {}", self.code, self.kind, self.about)
    }
}

impl fmt::Debug for StoreFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for StoreFailure {}

/// The error that leaves the store.
pub(crate) fn error(failure: StoreFailure) -> Error {
    let code = match failure.kind {
        Kind::Contended | Kind::Unique => Code::Conflict,
        Kind::Unreachable | Kind::Exhausted | Kind::Settings => Code::StoreUnavailable,
        Kind::Refused | Kind::Other => Code::Internal,
    };
    Error::new(code).because(failure)
}

pub(crate) fn from_db(error: DbErr) -> Error {
    let failure = StoreFailure::from_db(&error);
    drop(error);
    self::error(failure)
}

/// Why a first connection was not made: then, and not later, the settings are at fault.
pub(crate) fn opening(error: &sqlx::Error) -> Error {
    let failure = StoreFailure::from_sqlx(error);
    let place = match (failure.kind, failure.code.as_str()) {
        (Kind::Settings, "3D000") => "the database's url: there is no such database",
        (Kind::Settings, _) => "the database's url: the server refuses this role or its password",
        _ => return self::error(failure),
    };
    Error::new(Code::ConfigurationInvalid).at(place).because(failure)
}

pub(crate) fn from_sqlx(error: &sqlx::Error) -> Error {
    self::error(StoreFailure::from_sqlx(error))
}
