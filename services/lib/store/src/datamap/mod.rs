//! The data map: every table and column, and every prefix of the bucket; whose it is, which category
//! of data it holds (P1), and what becomes of it when a record moves. A test compares it with the live
//! schema of both databases and fails on what is undeclared.

mod live;
mod tables;

pub use live::Schema;
pub use tables::{PREFIXES, TABLES};

/// The categories of promise 1, as the messages' options name them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Category {
    /// Who signs in, and how.
    Account,
    /// Appointments and what was said to book them.
    Booking,
    /// Chat, notes, reflections, attachments: an item of any kind may hold it.
    SessionContent,
    /// What the service needs to run: ids, times, counters, keys, proofs.
    Technical,
    /// Consents and agreements.
    Consents,
}

impl Category {
    /// The name, as the messages' options have it without their prefix.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Account => "ACCOUNT",
            Self::Booking => "BOOKING",
            Self::SessionContent => "SESSION_CONTENT",
            Self::Technical => "TECHNICAL",
            Self::Consents => "CONSENTS",
        }
    }
}

/// Whose rows they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// The client's.
    Client,
    /// The practice's or practitioner's.
    Practice,
    /// The region's.
    Region,
}

/// What becomes of rows when their record moves, with the reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Travel {
    /// They go to the destination and are destroyed here.
    Move(&'static str),
    /// The destination makes its own.
    Derive(&'static str),
    /// They stay here.
    Stay(&'static str),
    /// They are destroyed and go nowhere.
    None(&'static str),
}

/// Where a table lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// With the data.
    Data,
    /// In the key store.
    Keys,
}

/// A table.
#[derive(Clone, Copy, Debug)]
pub struct Table {
    /// Its name.
    pub name: &'static str,
    /// Where it lives.
    pub place: Place,
    /// Whose rows.
    pub owner: Owner,
    /// What becomes of them.
    pub travel: Travel,
    /// Its columns, in order, with the category of each.
    pub columns: &'static [(&'static str, Category)],
}

impl Table {
    /// Whether its rows name a record.
    #[must_use]
    pub fn of_subject(&self) -> bool {
        self.columns.iter().any(|(name, _)| *name == "subject_id")
    }
}

/// A prefix of the region's bucket.
#[derive(Clone, Copy, Debug)]
pub struct Prefix {
    /// The names' beginning; `<…>` stands for an id.
    pub name: &'static str,
    /// Whose objects.
    pub owner: Owner,
    /// The category.
    pub category: Category,
    /// What becomes of them.
    pub travel: Travel,
}

/// The table of this name.
#[must_use]
pub fn table(name: &str) -> Option<&'static Table> {
    TABLES.iter().find(|table| table.name == name)
}

/// The data's tables of which nothing of a record may be left once it was shredded (transfer.md,
/// "Must always hold", 9): they name the subject, and their rows move or are destroyed.
pub fn shredded() -> impl Iterator<Item = &'static Table> {
    TABLES.iter().filter(|table| {
        table.place == Place::Data
            && table.of_subject()
            && matches!(table.travel, Travel::Move(_) | Travel::None(_))
    })
}
