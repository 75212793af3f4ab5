//! For whom a transaction acts. On PostgreSQL the scope becomes transaction-local settings that the
//! row-level security policies read, so that a query without its WHERE still sees only these rows (P9).

use domicile_types::{AccountId, SubjectId, Timestamp};

/// For whom a transaction acts, and so which rows it can see and change.
///
/// SQLite has no row-level security: write each query's WHERE as though no policy existed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// One client's whole record, and their account, consents and transfers.
    Subject(SubjectId),
    /// What a practitioner may see and write: clients with an open care relationship or a valid grant,
    /// never what is private to the client (P10, P13), nor others' psychotherapy notes.
    Caseload {
        /// The practitioner's account.
        practitioner: AccountId,
    },
    /// Finding an account by its e-mail's blind index or its invitation's hash, or a session or a
    /// moved record's entitled caller by the token's hash. Reads only.
    Lookup([u8; 32]),
    /// One account and its sessions.
    Account(AccountId),
    /// Transfers, statements and what travels; no item, no consent.
    Transfers,
    /// A step of a transfer: everything of [`Scope::Transfers`], and the record it moves.
    Move {
        /// The record; `None` while the destination does not know whose it is.
        subject: Option<SubjectId>,
    },
    /// What belongs to nobody's record: practices, enrolments, staff accounts, leases, the audit outbox.
    System,
}

/// The settings that carry the scope, as `(name, value)`.
pub(crate) fn settings(scope: Scope, now: Timestamp) -> Vec<(&'static str, String)> {
    let mut out = vec![("app.now", now.micros().to_string())];
    match scope {
        Scope::Subject(subject) => out.push(("app.subject", subject.to_string())),
        Scope::Caseload { practitioner } => out.push(("app.practitioner", practitioner.to_string())),
        Scope::Lookup(hash) => out.push(("app.lookup", hex(&hash))),
        Scope::Account(account) => out.push(("app.account", account.to_string())),
        Scope::Transfers => out.push(("app.transfers", "all".to_owned())),
        Scope::Move { subject } => {
            out.push(("app.transfers", "all".to_owned()));
            out.extend(subject.map(|subject| ("app.subject", subject.to_string())));
        }
        Scope::System => out.push(("app.system", "on".to_owned())),
    }
    out
}

impl Scope {
    /// Whether it is a person's request, not the region's own work.
    pub(crate) const fn is_somebodys(self) -> bool {
        !matches!(self, Self::Transfers | Self::Move { .. } | Self::System)
    }

    /// The record the scope is about, where it is about one.
    #[must_use]
    pub const fn subject(self) -> Option<SubjectId> {
        match self {
            Self::Subject(subject) => Some(subject),
            Self::Move { subject } => subject,
            _ => None,
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
