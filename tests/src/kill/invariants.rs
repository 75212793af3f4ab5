//! The invariants of a transfer (docs/transfer.md, "What always holds") as questions in SQL, asked of both
//! regions' databases once a transfer rests. Each question counts violations: 0 is the only good answer.

use std::collections::{BTreeMap, BTreeSet};

use super::arena::Arena;
use crate::world::Outcome;

/// How a transfer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The record is in its new home.
    Closed,
    /// The record stayed.
    Aborted,
}

impl End {
    /// The state's name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Aborted => "aborted",
        }
    }
}

/// Which region is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Of {
    /// The source.
    Source,
    /// The destination.
    Destination,
    /// Each of them.
    Both,
}

/// One question.
#[derive(Clone, Copy, Debug)]
pub struct Question {
    /// The invariant's number.
    pub invariant: u8,
    /// What would be wrong.
    pub wrong: &'static str,
    /// Who is asked.
    pub of: Of,
    /// After which end; `None` after either.
    pub after: Option<End>,
    /// Counts what is wrong. `:t` is the transfer, `:s` the subject.
    pub sql: &'static str,
}

const fn ask(invariant: u8, of: Of, after: Option<End>, wrong: &'static str, sql: &'static str) -> Question {
    Question { invariant, wrong, of, after, sql }
}

const CLOSED: Option<End> = Some(End::Closed);
const ABORTED: Option<End> = Some(End::Aborted);

/// What each region is asked. Invariants 2 and 7 also compare items by id and are read back through the
/// product; 9 also counts every table with a column for the subject; 10 also compares both regions'
/// statements; 12 has no database to ask: the coordinator's files are searched.
pub const QUESTIONS: &[Question] = &[
    ask(
        1,
        Of::Source,
        CLOSED,
        "the source still serves the record",
        "SELECT COUNT(*) FROM residency WHERE subject_id = :s AND standing <> 'Departed'",
    ),
    ask(
        1,
        Of::Destination,
        CLOSED,
        "the destination does not serve the record",
        "SELECT 1 - COUNT(*) FROM residency WHERE subject_id = :s AND standing = 'Active'",
    ),
    ask(
        1,
        Of::Source,
        ABORTED,
        "the source does not serve the record it kept",
        "SELECT 1 - COUNT(*) FROM residency WHERE subject_id = :s AND standing = 'Active'",
    ),
    ask(
        1,
        Of::Destination,
        ABORTED,
        "the destination serves a record that it did not get",
        "SELECT COUNT(*) FROM residency WHERE subject_id = :s AND standing <> 'Departed'",
    ),
    ask(
        3,
        Of::Both,
        None,
        "a step after consent without an earlier consent of this attempt",
        "SELECT COUNT(*) FROM statement s WHERE s.transfer_id = :t \
         AND s.step IN ('consented', 'copying', 'frozen', 'staged', 'released') AND NOT EXISTS \
         (SELECT 1 FROM statement c WHERE c.transfer_id = s.transfer_id AND c.attempt = s.attempt \
          AND c.step = 'consented' AND c.at <= s.at)",
    ),
    ask(
        3,
        Of::Source,
        None,
        "rows sent without a consent for this transfer and attempt",
        "SELECT COUNT(*) FROM statement s WHERE s.transfer_id = :t AND s.step = 'copying' AND NOT EXISTS \
         (SELECT 1 FROM consent c WHERE c.transfer_id = s.transfer_id AND c.attempt = s.attempt \
          AND c.given_at <= s.at)",
    ),
    ask(
        4,
        Of::Both,
        None,
        "a key release without Released",
        "SELECT COUNT(*) FROM transfer t WHERE t.key_release IS NOT NULL AND NOT EXISTS \
         (SELECT 1 FROM statement s WHERE s.transfer_id = t.transfer_id AND s.step = 'released')",
    ),
    ask(
        4,
        Of::Source,
        CLOSED,
        "Released without exactly one completed consent",
        "SELECT COUNT(*) FROM statement s WHERE s.transfer_id = :t AND s.step = 'released' AND 1 <> \
         (SELECT COUNT(*) FROM consent c JOIN consent_event e ON e.consent_id = c.consent_id \
          WHERE c.transfer_id = s.transfer_id AND c.status = 'completed' AND e.event = 'completed')",
    ),
    ask(
        5,
        Of::Both,
        None,
        "Released beside a withdrawn or expired consent",
        "SELECT COUNT(*) FROM consent c WHERE c.transfer_id = :t AND c.status IN ('withdrawn', 'expired') \
         AND EXISTS (SELECT 1 FROM statement s WHERE s.transfer_id = c.transfer_id AND s.step = 'released')",
    ),
    ask(
        5,
        Of::Both,
        None,
        "a key of this transfer is left",
        "SELECT COUNT(*) FROM domicile_keys.transfer_key WHERE transfer_id = :t",
    ),
    ask(
        6,
        Of::Destination,
        ABORTED,
        "rows, pages or objects of an aborted attempt are left",
        "SELECT (SELECT COUNT(*) FROM staged_row WHERE transfer_id = :t) \
         + (SELECT COUNT(*) FROM staged_page WHERE transfer_id = :t) \
         + (SELECT COUNT(*) FROM staged_object WHERE transfer_id = :t) \
         + (SELECT COUNT(*) FROM item WHERE subject_id = :s)",
    ),
    ask(
        6,
        Of::Destination,
        ABORTED,
        "no tombstone refuses late messages",
        "SELECT 1 - COUNT(*) FROM transfer_tombstone WHERE transfer_id = :t",
    ),
    ask(
        6,
        Of::Both,
        ABORTED,
        "an aborted transfer was adopted",
        "SELECT COUNT(*) FROM statement WHERE transfer_id = :t \
         AND step IN ('released', 'adopted', 'rekeyed', 'shredded')",
    ),
    ask(
        7,
        Of::Destination,
        CLOSED,
        "a payload is not sealed under the new home's own keys",
        "SELECT (SELECT COUNT(*) FROM item WHERE subject_id = :s AND sealed IS NULL) \
         + (SELECT COUNT(*) FROM object WHERE subject_id = :s AND (travelling OR state <> 'complete'))",
    ),
    ask(
        7,
        Of::Destination,
        CLOSED,
        "a version is missing below the record's revision",
        "SELECT COUNT(*) FROM item i WHERE i.subject_id = :s AND i.version > 1 AND NOT EXISTS \
         (SELECT 1 FROM item e WHERE e.item_id = i.item_id AND e.version = i.version - 1)",
    ),
    ask(
        8,
        Of::Source,
        None,
        "erased without a Rekeyed of the destination",
        "SELECT COUNT(*) FROM transfer t WHERE t.role = 'source' AND t.state IN ('shredded', 'closed') \
         AND NOT EXISTS (SELECT 1 FROM statement s WHERE s.transfer_id = t.transfer_id \
         AND s.step = 'rekeyed' AND s.origin = t.destination)",
    ),
    ask(
        8,
        Of::Source,
        ABORTED,
        "the keys of a record that stayed are gone",
        "SELECT CASE WHEN EXISTS (SELECT 1 FROM domicile_keys.record_key WHERE subject_id = :s) \
         THEN 0 ELSE 1 END",
    ),
    ask(
        9,
        Of::Both,
        None,
        "rows on their way are left",
        "SELECT (SELECT COUNT(*) FROM sent_row WHERE transfer_id = :t) \
         + (SELECT COUNT(*) FROM sent_object WHERE transfer_id = :t) \
         + (SELECT COUNT(*) FROM staged_row WHERE transfer_id = :t) \
         + (SELECT COUNT(*) FROM staged_page WHERE transfer_id = :t) \
         + (SELECT COUNT(*) FROM staged_object WHERE transfer_id = :t)",
    ),
    ask(
        10,
        Of::Both,
        None,
        "a gap in a lane",
        "SELECT COUNT(*) FROM (SELECT origin FROM statement WHERE transfer_id = :t \
         GROUP BY origin HAVING COUNT(*) <> MAX(sequence)) gaps",
    ),
    ask(
        11,
        Of::Both,
        None,
        "a statement without an entry in the log",
        "SELECT CASE WHEN (SELECT COUNT(*) FROM statement WHERE transfer_id = :t) > \
         (SELECT COUNT(*) FROM audit_entry WHERE transfer_id = :t) THEN 1 ELSE 0 END",
    ),
    ask(
        11,
        Of::Both,
        None,
        "a hole in the log",
        "SELECT COALESCE(MAX(idx), -1) + 1 - COUNT(*) FROM audit_entry",
    ),
    ask(
        13,
        Of::Both,
        None,
        "an attempt's number was used twice",
        "SELECT COUNT(*) FROM (SELECT attempt FROM transfer WHERE subject_id = :s \
         GROUP BY attempt HAVING COUNT(*) > 1) again",
    ),
    ask(
        13,
        Of::Both,
        None,
        "an idempotency key wrote twice",
        "SELECT COUNT(*) FROM (SELECT idem_key FROM item WHERE subject_id = :s AND idem_key IS NOT NULL \
         GROUP BY idem_key HAVING COUNT(*) > 1) again",
    ),
    ask(
        14,
        Of::Both,
        None,
        "a transfer does not rest",
        "SELECT 1 - COUNT(*) FROM transfer WHERE transfer_id = :t AND NOT open AND state = ':end'",
    ),
];

/// Tables that may name the subject after the erasure: the data map says why.
const STAYS: [&str; 5] = ["residency", "consent", "consent_event", "tombstone_entitled", "transfer"];

/// What was there before a transfer.
#[derive(Clone, Debug)]
pub struct Before {
    /// Items and versions.
    pub items: BTreeSet<String>,
    /// The record's epoch.
    pub epoch: u64,
}

impl Before {
    /// Looks at the source.
    ///
    /// # Errors
    /// With what the database said.
    pub async fn look(arena: &Arena) -> Outcome<Self> {
        let items = arena.items(arena.from()).await?;
        Ok(Self { items, epoch: epoch(arena, arena.from()).await?.unwrap_or(0) })
    }
}

async fn epoch(arena: &Arena, region: &str) -> Outcome<Option<u64>> {
    let sql = format!("SELECT epoch FROM residency WHERE subject_id = @{}@", arena.subject());
    let answer = arena.database(region)?.ask(&sql).await?;
    Ok(answer.first().map(|epoch| epoch.parse()).transpose()?)
}

/// Asks both regions everything; what is wrong. The arena still has the transfer's own source and
/// destination. `acknowledged` are items written while it went on.
///
/// # Errors
/// When a database does not answer.
pub async fn wrong(
    arena: &Arena,
    transfer: &str,
    end: End,
    before: &Before,
    acknowledged: &BTreeSet<String>,
) -> Outcome<Vec<String>> {
    let mut wrong = Vec::new();
    for (of, region) in [(Of::Source, arena.from()), (Of::Destination, arena.to())] {
        wrong.extend(answers(arena, region, of, transfer, end).await?);
    }
    wrong.extend(epochs(arena, end, before).await?);
    wrong.extend(items(arena, end, before, acknowledged).await?);
    wrong.extend(lanes(arena, transfer).await?);
    wrong.extend(files(arena, transfer, end)?);
    if end == End::Closed {
        wrong.extend(remains(arena).await?);
    }
    Ok(wrong)
}

async fn answers(arena: &Arena, region: &str, of: Of, transfer: &str, end: End) -> Outcome<Vec<String>> {
    let asked: Vec<&Question> = QUESTIONS
        .iter()
        .filter(|question| question.of == of || question.of == Of::Both)
        .filter(|question| question.after.is_none_or(|after| after == end))
        .collect();
    let sql: Vec<String> = asked
        .iter()
        .enumerate()
        .map(|(index, question)| {
            let text = question.sql.replace(":end", end.as_str());
            let text = text.replace(":t", &format!("@{transfer}@"));
            let text = text.replace(":s", &format!("@{}@", arena.subject()));
            format!("SELECT {index}, ({text})")
        })
        .collect();
    let mut wrong = Vec::new();
    for line in arena.database(region)?.ask(&sql.join(" UNION ALL ")).await? {
        let (index, count) = line.split_once('|').ok_or("no columns")?;
        let question = asked.get(index.parse::<usize>()?).ok_or("no such question")?;
        if count != "0" {
            wrong.push(format!("I{} in {region}: {} ({count})", question.invariant, question.wrong));
        }
    }
    Ok(wrong)
}

/// Invariant 1: epochs only rise, by one with each move.
async fn epochs(arena: &Arena, end: End, before: &Before) -> Outcome<Vec<String>> {
    let (here, there) = (epoch(arena, arena.from()).await?, epoch(arena, arena.to()).await?);
    let right = match end {
        // A tombstone has the epoch of the move that left it.
        End::Closed => there == Some(before.epoch + 1) && here <= there,
        End::Aborted => here == Some(before.epoch) && there <= here,
    };
    let said = format!("I1: epoch {} became {here:?} at the source, {there:?} there", before.epoch);
    Ok(if right { Vec::new() } else { vec![said] })
}

/// Invariants 2 and 7: what was there and what was acknowledged meanwhile, no more and no less.
async fn items(
    arena: &Arena,
    end: End,
    before: &Before,
    acknowledged: &BTreeSet<String>,
) -> Outcome<Vec<String>> {
    let home = if end == End::Closed { arena.to() } else { arena.from() };
    let now = arena.items(home).await?;
    let written = acknowledged.iter().map(|item| format!("{}|1", item.replace('-', "")));
    let expected: BTreeSet<String> = before.items.iter().cloned().chain(written).collect();
    let (lost, more) = (expected.difference(&now).count(), now.difference(&expected).count());
    let mut wrong = Vec::new();
    if lost > 0 {
        wrong.push(format!("I2: {lost} acknowledged items are not in {home}"));
    }
    if more > 0 {
        wrong.push(format!("I7: {more} items in {home} that nobody wrote"));
    }
    Ok(wrong)
}

/// Invariant 10: the same statements in both regions.
async fn lanes(arena: &Arena, transfer: &str) -> Outcome<Vec<String>> {
    let sql = format!(
        "SELECT origin, sequence, step, digest FROM statement WHERE transfer_id = @{transfer}@ ORDER BY 1, 2"
    );
    let here = arena.database(arena.from())?.ask(&sql).await?;
    let there = arena.database(arena.to())?.ask(&sql).await?;
    let said = format!("I10: {} statements at the source, {} there", here.len(), there.len());
    Ok(if here == there && !here.is_empty() { Vec::new() } else { vec![said] })
}

/// Invariants 6, 9 and 12 where there is no database: files.
fn files(arena: &Arena, transfer: &str, end: End) -> Outcome<Vec<String>> {
    let gone = if end == End::Closed { arena.from() } else { arena.to() };
    let left = arena.files(gone, transfer)?;
    let mut wrong = Vec::new();
    if left > 0 {
        wrong.push(format!(
            "I{}: {left} folders of objects in {gone}",
            if end == End::Closed { 9 } else { 6 }
        ));
    }
    if arena.coordinator_knows()? {
        wrong.push("I12: the coordinator's files hold a word of a note".to_owned());
    }
    Ok(wrong)
}

/// Invariant 9: of every table that can name the subject, only those that the data map keeps do.
async fn remains(arena: &Arena) -> Outcome<Vec<String>> {
    let source = arena.database(arena.from())?;
    let mut counts = BTreeMap::new();
    for table in source.tables_with("subject_id").await? {
        let name = table.rsplit('.').next().unwrap_or_default();
        if !STAYS.contains(&name) {
            counts.insert(
                table.clone(),
                format!("SELECT '{table}', COUNT(*) FROM {table} WHERE subject_id = "),
            );
        }
    }
    let sql: Vec<String> = counts.values().map(|sql| format!("{sql}@{}@", arena.subject())).collect();
    let mut wrong = Vec::new();
    for line in source.ask(&sql.join(" UNION ALL ")).await? {
        let (table, count) = line.split_once('|').ok_or("no columns")?;
        if count != "0" {
            wrong.push(format!("I9: {count} rows of the subject in {table}"));
        }
    }
    if counts.len() < 6 {
        wrong.push(format!("only {} tables can name a subject: the question is wrong", counts.len()));
    }
    Ok(wrong)
}
