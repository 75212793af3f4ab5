//! What two regions have stored of a move, tampered with between its steps: rows by SQL, objects in their files.
//! It is found, named, and nothing moves on; put back, the transfer arrives with every write. Byte by byte the
//! same is shown without processes (tests/hostile).

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use domicile_cli::client::answer;
use domicile_proto::transfer::v1::{ListTransfersRequest, Transfer, TransferState};
use domicile_store::Backend;
use domicile_tests::kill::arena::Arena;
use domicile_tests::kill::cell;
use domicile_tests::kill::database::Database;
use domicile_tests::kill::invariants::{Before, End};
use domicile_tests::kill::journey;
use domicile_tests::kill::points::Role;
use domicile_tests::world::moves::write;
use domicile_tests::world::{Outcome, PATIENCE, pause};
use tokio::time::Instant;

/// What is spoilt, at which region. In `of`, `{transfer}` and `{subject}` stand for the ids.
#[derive(Clone, Copy, Debug)]
enum Spoil {
    /// The lowest bits of one byte of a column: how far into it, as a part of a hundred.
    Byte(Role, &'static str, &'static str, &'static str, usize),
    /// Two rows have each other's value.
    Swap(Role, &'static str, &'static str, &'static str),
    /// A number is one more.
    More(Role, &'static str, &'static str, &'static str),
    /// A byte of a file of an object.
    File(Role, &'static str),
}

/// How it is found.
#[derive(Clone, Copy)]
enum Found {
    /// One of the regions says so in its log; the record is where it was, and is written to.
    Logged(&'static str),
    /// The transfer stands in this state and names this cause.
    Stuck(TransferState, &'static str),
    /// The comparison finds it, and what differs is pulled again.
    Itself,
    /// The roots differ three times: the source ends the attempt.
    Aborts,
}

/// Something is spoilt while somebody stands still somewhere.
struct Stage {
    at: (Role, &'static str),
    spoilt: &'static [(Spoil, Found)],
}

const fn stage(at: (Role, &'static str), spoilt: &'static [(Spoil, Found)]) -> Stage {
    Stage { at, spoilt }
}

const OF_SUBJECT: &str = "subject_id = @{subject}@";
const OF_TRANSFER: &str = "transfer_id = @{transfer}@";
const RELEASED: &str = "transfer_id = @{transfer}@ AND step = 'released'";

const COPYING: (Role, &str) = (Role::Source, "transfer_open_copy.after");
const PULLING: (Role, &str) = (Role::Destination, "peer.pull_object.before");
const IS_RELEASED: (Role, &str) = (Role::Source, "transfer_release.after");
const KNOWS_RELEASED: (Role, &str) = (Role::Destination, "receive_released.after");

const CONTENT: &str = "DOM-RECORD-010";
const CHUNK: &str = "DOM-TRANSFER-015";
const STATEMENT: &str = "DOM-TRANSFER-014";
const ROOT: &str = "DOM-TRANSFER-016";

/// One list a move; the record goes to and fro.
const BYTES: &[&[Stage]] = &[&[
    stage(COPYING, &[(Spoil::Byte(Role::Source, "item", "sealed", OF_SUBJECT, 50), Found::Logged(CONTENT))]),
    stage(
        PULLING,
        &[
            (Spoil::Byte(Role::Destination, "staged_row", "digest", OF_TRANSFER, 50), Found::Itself),
            (Spoil::File(Role::Source, "objects/objects"), Found::Logged(CONTENT)),
        ],
    ),
    stage(
        IS_RELEASED,
        &[(
            Spoil::Byte(Role::Source, "statement", "signature", RELEASED, 30),
            Found::Stuck(TransferState::Released, STATEMENT),
        )],
    ),
    stage(
        KNOWS_RELEASED,
        &[(
            Spoil::Byte(Role::Destination, "staged_page", "commitment", OF_TRANSFER, 10),
            Found::Stuck(TransferState::Released, CHUNK),
        )],
    ),
]];

const SWAPPED: &[&[Stage]] = &[
    &[
        stage(COPYING, &[(Spoil::Swap(Role::Source, "item", "sealed", OF_SUBJECT), Found::Logged(CONTENT))]),
        stage(
            KNOWS_RELEASED,
            &[(
                Spoil::Swap(Role::Destination, "staged_row", "sealed_header", OF_TRANSFER),
                Found::Stuck(TransferState::Released, CHUNK),
            )],
        ),
    ],
    // Its last byte: no JSON any more.
    &[stage(
        IS_RELEASED,
        &[(
            Spoil::Byte(Role::Source, "transfer", "key_release", OF_TRANSFER, 100),
            Found::Stuck(TransferState::Released, CONTENT),
        )],
    )],
];

const NUMBERS: &[&[Stage]] = &[
    &[
        stage(
            COPYING,
            &[(Spoil::More(Role::Source, "item", "occurred_at", OF_SUBJECT), Found::Logged(CONTENT))],
        ),
        stage(
            KNOWS_RELEASED,
            &[(
                Spoil::More(Role::Destination, "staged_row", "revision", OF_TRANSFER),
                Found::Stuck(TransferState::Released, ROOT),
            )],
        ),
    ],
    &[stage(
        (Role::Destination, "transfer_object.after"),
        &[(Spoil::Byte(Role::Destination, "staged_object", "digest", OF_TRANSFER, 50), Found::Aborts)],
    )],
];

/// What puts it back.
enum Undo {
    Sql(Database, Vec<String>),
    File(PathBuf, Vec<u8>),
}

impl Undo {
    async fn run(self) -> Outcome<()> {
        match self {
            Self::Sql(database, all) => {
                for sql in all {
                    database.ask(&sql).await?;
                }
                Ok(())
            }
            Self::File(path, content) => Ok(std::fs::write(path, content)?),
        }
    }
}

/// A column's value of some rows, by row.
async fn values(database: &Database, table: &str, column: &str, of: &str) -> Outcome<Vec<(String, String)>> {
    // The newest first: what has not been there in earlier moves.
    let sql = format!(
        "SELECT rowid, {column} FROM {table} WHERE {of} AND {column} IS NOT NULL ORDER BY rowid DESC LIMIT 2"
    );
    let rows = database.ask(&sql).await?;
    let pair = |row: &String| row.split_once('|').map(|(id, value)| (id.to_owned(), value.to_owned()));
    Ok(rows.iter().filter_map(pair).collect())
}

fn set(table: &str, column: &str, id: &str, value: &str) -> String {
    format!("UPDATE {table} SET {column} = {value} WHERE rowid = {id}")
}

fn blob(hex: &str) -> String {
    format!("x'{hex}'")
}

/// The hexadecimal text with one byte changed.
fn turned(hex: &str, percent: usize) -> Outcome<String> {
    let at = ((hex.len() / 2 - 1) * percent / 100) * 2 + 1;
    let digit =
        hex.get(at..=at).and_then(|digit| u8::from_str_radix(digit, 16).ok()).ok_or("nothing to spoil")?;
    Ok(format!("{}{:x}{}", &hex[..at], digit ^ 1, &hex[at + 1..]))
}

async fn spoil(arena: &Arena, what: Spoil, transfer: &str) -> Outcome<Undo> {
    let filled = |of: &str| of.replace("{transfer}", transfer).replace("{subject}", arena.subject());
    match what {
        Spoil::Byte(role, table, column, of, percent) => {
            let database = arena.database(arena.process(role))?.clone();
            unguarded(&database, table).await?;
            let all = values(&database, table, column, &filled(of)).await?;
            let (id, value) = all.first().ok_or("no row to spoil")?;
            database.ask(&set(table, column, id, &blob(&turned(value, percent)?))).await?;
            Ok(Undo::Sql(database, vec![set(table, column, id, &blob(value))]))
        }
        Spoil::Swap(role, table, column, of) => {
            let database = arena.database(arena.process(role))?.clone();
            unguarded(&database, table).await?;
            let all = values(&database, table, column, &filled(of)).await?;
            let [(one, a), (two, b)] = all.as_slice() else { return Err("no two rows to swap".into()) };
            for (id, value) in [(one, b), (two, a)] {
                database.ask(&set(table, column, id, &blob(value))).await?;
            }
            let back = [(one, a), (two, b)].map(|(id, value)| set(table, column, id, &blob(value)));
            Ok(Undo::Sql(database, back.to_vec()))
        }
        Spoil::More(role, table, column, of) => {
            let database = arena.database(arena.process(role))?.clone();
            unguarded(&database, table).await?;
            let all = values(&database, table, column, &filled(of)).await?;
            let (id, value) = all.first().ok_or("no row to spoil")?;
            database.ask(&set(table, column, id, &format!("{column} + 1"))).await?;
            Ok(Undo::Sql(database, vec![set(table, column, id, value)]))
        }
        Spoil::File(role, folder) => {
            let path = arena.world.home(arena.process(role)).join(folder);
            let path = any_file(&path).ok_or("no file to spoil")?;
            let content = std::fs::read(&path)?;
            let mut spoilt = content.clone();
            let middle = spoilt.len() / 2;
            spoilt[middle] ^= 1;
            std::fs::write(&path, spoilt)?;
            Ok(Undo::File(path, content))
        }
    }
}

/// Who has the file can take the guards of a table away.
async fn unguarded(database: &Database, table: &str) -> Outcome<()> {
    let sql = format!("SELECT name FROM sqlite_master WHERE type = 'trigger' AND tbl_name = '{table}'");
    for guard in database.ask(&sql).await? {
        database.ask(&format!("DROP TRIGGER {guard}")).await?;
    }
    Ok(())
}

fn any_file(folder: &Path) -> Option<PathBuf> {
    for entry in std::fs::read_dir(folder).ok()? {
        let path = entry.ok()?.path();
        let found = if path.is_file() { Some(path) } else { any_file(&path) };
        if found.is_some() {
            return found;
        }
    }
    None
}

async fn shown(arena: &Arena, transfer: &str) -> Outcome<Transfer> {
    let operator = arena.operators.get(arena.from()).ok_or("no operator")?;
    let listed =
        answer(operator.transfers().list_transfers(ListTransfersRequest { include_resting: true })).await?;
    Ok(listed.transfers.into_iter().find(|one| one.transfer_id == transfer).ok_or("not listed")?)
}

/// How much both regions have logged.
fn logged(arena: &Arena) -> Outcome<[usize; 2]> {
    Ok([arena.world.log(arena.from())?.len(), arena.world.log(arena.to())?.len()])
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> Outcome<bool>) -> Outcome<()> {
    let until = Instant::now() + PATIENCE;
    while !holds().await? {
        if Instant::now() > until {
            return Err(format!("never: {what}").into());
        }
        pause().await;
    }
    Ok(())
}

/// Waits until it is found as it should be.
async fn found(arena: &mut Arena, how: Found, transfer: &str, before: [usize; 2]) -> Outcome<Option<String>> {
    match how {
        Found::Logged(code) => {
            until(code, async || {
                let logs = [arena.world.log(arena.from())?, arena.world.log(arena.to())?];
                Ok(logs
                    .iter()
                    .zip(before)
                    .any(|(log, before)| log.get(before..).is_some_and(|new| new.contains(code))))
            })
            .await?;
            // The source is whole: it is written to as if nothing were.
            let text = Arena::text(arena.written.0.len() + 1_000);
            let item = write(&arena.practitioner(arena.from())?, arena.subject(), &text).await?;
            arena.written.0.insert(item.clone(), text);
            Ok(Some(item))
        }
        Found::Stuck(state, code) => {
            until(code, async || {
                let shown = shown(arena, transfer).await?;
                Ok(shown.stuck_cause == code && shown.state() == state)
            })
            .await?;
            Ok(None)
        }
        Found::Itself | Found::Aborts => Ok(None),
    }
}

async fn moved(arena: &mut Arena, stages: &[Stage]) -> Outcome<()> {
    let before = Before::look(arena).await?;
    let (from, to, patient) = (arena.from(), arena.to(), arena.patient().await?);
    let (mut acknowledged, mut end) = (BTreeSet::new(), End::Closed);
    let first = stages.first().ok_or("no stage")?;
    arena.steering(arena.process(first.at.0)).ok_or("not steered")?.order(&[first.at.1])?;
    let moving = journey::ask(&patient, to).await?;
    journey::consent(&patient, &moving).await?;
    for (at, stage) in stages.iter().enumerate() {
        let steering = arena.steering(arena.process(stage.at.0)).ok_or("not steered")?.clone();
        steering.reached(PATIENCE).await.ok_or_else(|| format!("{} is not reached", stage.at.1))?;
        let (mut undone, logs) = (Vec::new(), logged(arena)?);
        for (what, how) in stage.spoilt {
            let undo = spoil(arena, *what, &moving.id).await.map_err(|error| format!("{what:?}: {error}"))?;
            undone.push((*what, *how, undo));
        }
        steering.release().await;
        for (what, how, _) in &undone {
            let item =
                found(arena, *how, &moving.id, logs).await.map_err(|error| format!("{what:?}: {error}"))?;
            acknowledged.extend(item);
        }
        // Where the next one stands still is ordered before anybody can go there.
        if let Some(next) = stages.get(at + 1) {
            arena.steering(arena.process(next.at.0)).ok_or("not steered")?.order(&[next.at.1])?;
        }
        for (_, how, undo) in undone {
            match how {
                Found::Itself => {}
                Found::Aborts => end = End::Aborted,
                Found::Logged(_) | Found::Stuck(..) => undo.run().await?,
            }
        }
    }
    let databases = [arena.database(from)?.clone(), arena.database(to)?.clone()];
    let rests = cell::rest(&databases, &moving.id).await?;
    if rests != end {
        return Err(format!("the transfer is {}", rests.as_str()).into());
    }
    cell::settled(arena, &moving.id, end, &before, &acknowledged).await?;
    if end == End::Closed {
        arena.moved();
    }
    arena.read_back().await?;
    arena.world.verify([from, to], &moving.id).await?;
    Ok(())
}

async fn each_is_found(moves: &[&[Stage]]) {
    let tuning =
        "lease = \"2s\"\nwork_lease = \"2s\"\nkey_hold = \"2s\"\nstuck_after = \"1s\"\nfreeze_lag_rows = 0\n";
    let mut arena = Arena::start_with(Backend::Sqlite, tuning).await.unwrap();
    for (number, stages) in moves.iter().enumerate() {
        let done = moved(&mut arena, stages).await;
        assert!(done.is_ok(), "move {number}: {:?}", done.err());
    }
}

#[tokio::test]
async fn a_byte_of_what_is_stored_is_found_in_every_state() {
    each_is_found(BYTES).await;
}

#[tokio::test]
async fn what_is_stored_in_anothers_place_is_found() {
    each_is_found(SWAPPED).await;
}

#[tokio::test]
async fn numbers_that_are_stored_wrongly_are_found() {
    each_is_found(NUMBERS).await;
}
