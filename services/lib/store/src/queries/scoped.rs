//! What a reader may see, as SQL: the conditions that row-level security repeats on PostgreSQL and that
//! stand alone on SQLite (P9, P10, P13).

use domicile_types::{AccountId, SubjectId, Timestamp};

use crate::{Bind, Bound};

/// Who reads a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    /// The client: what is shared and what is private to them.
    Client,
    /// A practitioner: what their practice and the client wrote, while their care relationship is open,
    /// and what a valid grant shows; never what is private to the client, nor others' psychotherapy notes.
    Caseload(AccountId),
    /// The region's own work on the whole record.
    Whole,
}

/// The values of one statement about one record: `$1` is the subject.
pub(crate) struct Binds {
    values: Vec<Bound>,
    now: Timestamp,
    person: Option<(AccountId, String, String)>,
}

impl Binds {
    pub(crate) fn new(subject: SubjectId, now: Timestamp) -> Self {
        Self { values: vec![subject.bind()], now, person: None }
    }

    /// Adds a value and answers its placeholder.
    pub(crate) fn add(&mut self, value: impl Bind) -> String {
        self.values.push(value.bind());
        format!("${}", self.values.len())
    }

    pub(crate) fn values(self) -> Vec<Bound> {
        self.values
    }

    /// The placeholders of the practitioner and the present instant, added once.
    fn person(&mut self, practitioner: AccountId) -> (String, String) {
        if let Some((known, person, now)) = &self.person
            && *known == practitioner
        {
            return (person.clone(), now.clone());
        }
        let person = self.add(practitioner);
        let now = self.add(self.now);
        self.person = Some((practitioner, person.clone(), now.clone()));
        (person, now)
    }

    /// Whether the reader has anything to do with the record at all.
    pub(crate) fn access(&mut self, reader: Reader) -> String {
        let Reader::Caseload(practitioner) = reader else { return "TRUE".to_owned() };
        let (person, now) = self.person(practitioner);
        format!(
            "(EXISTS ({care}) OR EXISTS ({grant}))",
            care = care("1", &person),
            grant = grant("1", &person, &now)
        )
    }

    /// Whether the reader may see the row of `item` under this alias. The subqueries do not depend on
    /// the row, so the database answers them once a statement.
    pub(crate) fn visible(&mut self, reader: Reader, alias: &str) -> String {
        let practitioner = match reader {
            Reader::Whole => return "TRUE".to_owned(),
            Reader::Client => return format!("{alias}.visibility IN ('shared', 'client_private')"),
            Reader::Caseload(practitioner) => practitioner,
        };
        let (person, now) = self.person(practitioner);
        format!(
            "({alias}.visibility IN ('shared', 'practitioner') \
               OR ({alias}.visibility = 'psychotherapy' AND {alias}.author_id = {person})) \
             AND ({alias}.practice_id IN ({practices}) \
               OR ({alias}.practice_id IS NULL AND EXISTS ({care})) \
               OR EXISTS ({grant} AND g.item_id IS NULL) \
               OR {alias}.item_id IN ({items} AND g.item_id IS NOT NULL))",
            practices = care("c.practice_id", &person),
            care = care("1", &person),
            grant = grant("1", &person, &now),
            items = grant("g.item_id", &person, &now),
        )
    }

    /// As [`Binds::visible`], and the item's newest version is visible too: an item withdrawn from a
    /// reader takes its earlier versions along. `IS TRUE` leaves the planner the index over newest items alone, and
    /// `OR` leaves it no join: on tables without statistics it would go through the record for each row.
    pub(crate) fn visible_version(&mut self, reader: Reader, alias: &str) -> String {
        let row = self.visible(reader, alias);
        if reader == Reader::Whole {
            return row;
        }
        let newest = self.visible(reader, "newest");
        format!(
            "{row} AND ({alias}.current OR EXISTS (SELECT 1 FROM item newest \
             WHERE newest.item_id = {alias}.item_id AND newest.current AND (newest.subject_id = $1) IS TRUE AND {newest}))"
        )
    }
}

fn care(what: &str, person: &str) -> String {
    format!(
        "SELECT {what} FROM care_relationship c WHERE c.subject_id = $1 AND c.practitioner_id = {person} \
         AND c.ended_at IS NULL"
    )
}

fn grant(what: &str, person: &str, now: &str) -> String {
    format!(
        "SELECT {what} FROM access_grant g WHERE g.subject_id = $1 AND g.practitioner_id = {person} \
         AND g.revoked_at IS NULL AND g.expires_at > {now}"
    )
}
