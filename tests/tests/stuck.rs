//! Every state past the point of no return has a named cause when it cannot advance: each cause is produced,
//! shown by the operators' command, found in the runbook, and mended; then the transfer closes.
#![cfg(test)]
#![expect(clippy::print_stderr, reason = "what was measured is shown with --nocapture")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use domicile_cli::client::answer;
use domicile_proto::transfer::v1::{ListTransfersRequest, Transfer, TransferState};
use domicile_store::Backend;
use domicile_tests::kill::arena::Arena;
use domicile_tests::kill::database::Database;
use domicile_tests::kill::invariants::Before;
use domicile_tests::kill::points::Role;
use domicile_tests::kill::{cell, journey};
use domicile_tests::region::PASSWORD;
use domicile_tests::world::{Outcome, PATIENCE, pause};
use tokio::process::Command;
use tokio::time::Instant;

/// What stands in a transfer's way.
#[derive(Clone, Copy, Debug)]
enum Trouble {
    /// The destination does not answer.
    DestinationGone,
    /// The key of the attempt does not open with the destination's key service.
    KeyDenied,
    /// A row that was staged is another one now.
    RowsDiffer,
    /// A payload that has arrived is damaged.
    Damaged,
    /// A file that has arrived is gone.
    ObjectGone,
    /// A row that the destination has sealed again is damaged where it is stored.
    SealedWrong,
    /// A key of the record is damaged where the destination stores it; the process still knows it.
    KeyWrong,
    /// The destination takes no backup.
    NoBackup,
    /// A legal hold was placed at the source.
    Held,
    /// Another process of the source has not dropped the record's keys.
    KeysHeld,
    /// Something of the record cannot be erased.
    NotErased,
}

/// One cause.
struct Cause {
    trouble: Trouble,
    /// Who stands still where while the trouble is made.
    at: (Role, &'static str),
    /// The state in which the source cannot advance.
    state: TransferState,
    /// The name it gives.
    code: &'static str,
}

const fn cause(
    trouble: Trouble,
    at: (Role, &'static str),
    state: TransferState,
    code: &'static str,
) -> Cause {
    Cause { trouble, at, state, code }
}

const CAUSES: &[Cause] = &[
    cause(
        Trouble::DestinationGone,
        (Role::Source, "transfer_release.after"),
        TransferState::Released,
        "DOM-TRANSFER-019",
    ),
    cause(
        Trouble::KeyDenied,
        (Role::Destination, "receive_released.after"),
        TransferState::Released,
        "DOM-KEY-002",
    ),
    cause(
        Trouble::RowsDiffer,
        (Role::Destination, "receive_released.after"),
        TransferState::Released,
        "DOM-TRANSFER-016",
    ),
    cause(
        Trouble::Damaged,
        (Role::Destination, "transfer_adopt.after"),
        TransferState::Adopted,
        "DOM-TRANSFER-015",
    ),
    cause(
        Trouble::ObjectGone,
        (Role::Destination, "transfer_adopt.after"),
        TransferState::Adopted,
        "DOM-OBJECT-003",
    ),
    cause(
        Trouble::SealedWrong,
        (Role::Destination, "transfer_rekey.after"),
        TransferState::Adopted,
        "DOM-RECORD-010",
    ),
    cause(
        Trouble::KeyWrong,
        (Role::Destination, "transfer_rekey.after"),
        TransferState::Adopted,
        "DOM-KEY-002",
    ),
    cause(
        Trouble::NoBackup,
        (Role::Destination, "transfer_adopt.after"),
        TransferState::Adopted,
        "DOM-TRANSFER-022",
    ),
    cause(Trouble::Held, (Role::Source, "receive_rekeyed.after"), TransferState::Rekeyed, "DOM-TRANSFER-017"),
    cause(
        Trouble::KeysHeld,
        (Role::Source, "receive_rekeyed.after"),
        TransferState::Rekeyed,
        "DOM-GENERAL-007",
    ),
    cause(
        Trouble::NotErased,
        (Role::Source, "receive_rekeyed.after"),
        TransferState::Rekeyed,
        "DOM-TRANSFER-023",
    ),
];

/// What is needed to take trouble away again.
enum Undo {
    /// The destination is started again.
    Start,
    /// SQL at a region.
    Sql(&'static str, String),
    /// A file goes back to where it was.
    File { from: PathBuf, to: PathBuf },
}

/// A value of one column, to be put back.
async fn kept(database: &Database, column: &str, of: &str) -> Outcome<String> {
    let answer = database.ask(&format!("SELECT {column} FROM {of} LIMIT 1")).await?;
    Ok(answer.first().ok_or("nothing to spoil")?.clone())
}

async fn spoil(
    database: &Database,
    region: &'static str,
    (table, column): (&str, &str),
    row: &str,
) -> Outcome<Undo> {
    let id = kept(database, "rowid", &format!("{table} WHERE {row}")).await?;
    let value = kept(database, column, &format!("{table} WHERE rowid = {id}")).await?;
    let set = |value: &str| format!("UPDATE {table} SET {column} = x'{value}' WHERE rowid = {id}");
    let mut spoilt = value.clone();
    // The last byte, another one.
    let last = spoilt.pop().ok_or("nothing to spoil")?;
    spoilt.push(if last == '0' { '1' } else { '0' });
    database.ask(&set(&spoilt)).await?;
    Ok(Undo::Sql(region, set(&value)))
}

async fn make(arena: &mut Arena, trouble: Trouble, transfer: &str) -> Outcome<Undo> {
    let (from, to) = (arena.from(), arena.to());
    let (source, destination) = (arena.database(from)?.clone(), arena.database(to)?.clone());
    let of_transfer = format!("transfer_id = @{transfer}@");
    let subject = arena.subject().to_owned();
    match trouble {
        Trouble::DestinationGone => {
            arena.world.kill(to).await?;
            Ok(Undo::Start)
        }
        Trouble::KeyDenied => {
            spoil(&destination, to, ("domicile_keys.transfer_key", "wrapped"), &of_transfer).await
        }
        Trouble::RowsDiffer => spoil(&destination, to, ("staged_row", "digest"), &of_transfer).await,
        Trouble::Damaged => spoil(&destination, to, ("staged_row", "sealed_payload"), &of_transfer).await,
        Trouble::SealedWrong => {
            let row = format!("subject_id = @{subject}@ AND sealed IS NOT NULL");
            spoil(&destination, to, ("item", "sealed"), &row).await
        }
        Trouble::KeyWrong => {
            let row = format!("subject_id = @{subject}@");
            spoil(&destination, to, ("domicile_keys.record_key", "wrapped"), &row).await
        }
        Trouble::ObjectGone => {
            let staged = arena.world.home(to).join("objects/staging");
            let file = any_file(&staged).ok_or("no staged file")?;
            let away = arena.world.home(to).join("away");
            std::fs::rename(&file, &away)?;
            Ok(Undo::File { from: away, to: file })
        }
        Trouble::NoBackup => {
            let backups = arena.world.home(to).join("backups");
            let away = arena.world.home(to).join("backups.away");
            std::fs::create_dir_all(&backups)?;
            std::fs::rename(&backups, &away)?;
            // No folder can be made where a file is.
            std::fs::write(&backups, "")?;
            Ok(Undo::File { from: away, to: backups })
        }
        Trouble::Held => {
            let sql =
                format!("INSERT INTO legal_hold VALUES (@{subject}@, 'case-8/2026', @{subject}@, 1, NULL)");
            source.ask(&sql).await?;
            Ok(Undo::Sql(from, "UPDATE legal_hold SET released_at = 2".to_owned()))
        }
        Trouble::KeysHeld => {
            // Seen a year from now: it counts as alive.
            let ever = "(SELECT MAX(seen_at) + 31536000000000 FROM replica)";
            source.ask(&format!("INSERT INTO replica VALUES (@{subject}@, 1, {ever})")).await?;
            Ok(Undo::Sql(from, format!("DELETE FROM replica WHERE replica_id = @{subject}@")))
        }
        Trouble::NotErased => {
            let keep =
                "CREATE TRIGGER keeps BEFORE DELETE ON care_relationship BEGIN SELECT RAISE(IGNORE); END";
            source.ask(keep).await?;
            Ok(Undo::Sql(from, "DROP TRIGGER keeps".to_owned()))
        }
    }
}

fn any_file(folder: &Path) -> Option<PathBuf> {
    for entry in std::fs::read_dir(folder).ok()? {
        let path = entry.ok()?.path();
        if path.is_file() {
            return Some(path);
        }
        if let Some(found) = any_file(&path) {
            return Some(found);
        }
    }
    None
}

async fn mend(arena: &mut Arena, undo: Undo) -> Outcome<()> {
    match undo {
        Undo::Start => arena.world.restart(arena.to()).await,
        Undo::Sql(region, sql) => arena.database(region)?.ask(&sql).await.map(drop),
        Undo::File { from, to } => {
            if to.is_file() {
                std::fs::remove_file(&to)?;
            }
            Ok(std::fs::rename(from, to)?)
        }
    }
}

/// A transfer as a region's operator sees it.
async fn shown(arena: &Arena, region: &str, transfer: &str) -> Outcome<Transfer> {
    let operator = arena.operators.get(region).ok_or("no operator")?;
    let request = ListTransfersRequest { include_resting: true };
    let listed = answer(operator.transfers().list_transfers(request)).await?.transfers;
    Ok(listed.into_iter().find(|one| one.transfer_id == transfer).ok_or("not listed")?)
}

async fn stuck(arena: &Arena, region: &str, transfer: &str, code: &str) -> Outcome<Transfer> {
    // A log that is not signed is waited for half a minute before anybody is told.
    let until = Instant::now() + PATIENCE * 2;
    loop {
        let found = shown(arena, region, transfer).await?;
        if found.stuck_cause == code {
            return Ok(found);
        }
        if Instant::now() > until {
            let state = found.state().as_str_name();
            return Err(format!("{region}: {state}, stuck: {:?}, not {code}", found.stuck_cause).into());
        }
        pause().await;
    }
}

/// The command an operator would use says it too.
async fn command_shows(arena: &Arena, region: &str, transfer: &str, code: &str) -> Outcome<()> {
    let domicile = |arguments: &[&str]| {
        let mut command = Command::new(domicile_tests::world::executable()?);
        command.arg("--data").arg(&arena.world.folder).args(["--region", region, "--profile", "operator"]);
        command.args(arguments).env("DOMICILE_PASSWORD", PASSWORD);
        Outcome::Ok(command)
    };
    let email = format!("operator@{region}.domicile.local");
    let signed_in = domicile(&["sign-in", "--email", &email])?.output().await?;
    if !signed_in.status.success() {
        return Err(String::from_utf8_lossy(&signed_in.stderr).into_owned().into());
    }
    let listed = domicile(&["transfers", "list"])?.output().await?;
    let text = String::from_utf8_lossy(&listed.stdout).into_owned();
    if text.lines().any(|line| line.contains(transfer) && line.contains(code)) {
        return Ok(());
    }
    Err(format!("`domicile transfers list` does not show {code}:\n{text}").into())
}

async fn shown_and_mended(arena: &mut Arena, cause: &Cause) -> Outcome<()> {
    let (role, point) = cause.at;
    let before = Before::look(arena).await?;
    let (from, to, patient) = (arena.from(), arena.to(), arena.patient().await?);
    let steering = arena.steering(arena.process(role)).ok_or("not steered")?.clone();
    steering.order(&[point])?;
    let moving = journey::ask(&patient, to).await?;
    journey::consent(&patient, &moving).await?;
    steering.reached(PATIENCE).await.ok_or("the point is not reached")?;
    let undo = make(arena, cause.trouble, &moving.id).await?;
    steering.release().await;
    let found = stuck(arena, from, &moving.id, cause.code).await?;
    if found.state() != cause.state {
        return Err(format!("stuck in {}", found.state().as_str_name()).into());
    }
    command_shows(arena, from, &moving.id, cause.code).await?;
    if !matches!(undo, Undo::Start) {
        // The other region's operator sees it as well.
        stuck(arena, to, &moving.id, cause.code).await?;
    }
    mend(arena, undo).await?;
    let databases = [arena.database(from)?.clone(), arena.database(to)?.clone()];
    let end = cell::rest(&databases, &moving.id).await?;
    cell::settled(arena, &moving.id, end, &before, &BTreeSet::new()).await?;
    for region in [from, to] {
        let rests = shown(arena, region, &moving.id).await?;
        if !rests.stuck_cause.is_empty() {
            return Err(format!("at rest and still stuck: {}", rests.stuck_cause).into());
        }
    }
    arena.moved();
    arena.read_back().await?;
    arena.world.verify([from, to], &moving.id).await?;
    Ok(())
}

async fn each_is_shown_and_mended(states: &[TransferState]) {
    let tuning = "lease = \"2s\"\nwork_lease = \"2s\"\nkey_hold = \"2s\"\nstuck_after = \"1s\"\n";
    let mut arena = Arena::start_with(Backend::Sqlite, tuning).await.unwrap();
    for cause in CAUSES.iter().filter(|cause| states.contains(&cause.state)) {
        let began = Instant::now();
        let done = shown_and_mended(&mut arena, cause).await;
        eprintln!("{:?}, {}: {:.1} s", cause.trouble, cause.code, began.elapsed().as_secs_f64());
        assert!(done.is_ok(), "{:?}, {}: {:?}", cause.trouble, cause.code, done.err());
    }
}

#[tokio::test]
async fn what_stands_in_the_way_of_the_adoption_is_shown() {
    each_is_shown_and_mended(&[TransferState::Released]).await;
}

#[tokio::test]
async fn what_stands_in_the_way_of_new_keys_is_shown() {
    each_is_shown_and_mended(&[TransferState::Adopted]).await;
}

#[tokio::test]
async fn what_stands_in_the_way_of_the_erasure_is_shown() {
    each_is_shown_and_mended(&[TransferState::Rekeyed]).await;
}

#[test]
fn the_runbook_names_every_cause() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/runbooks/transfer-stuck.md");
    let text = std::fs::read_to_string(path).unwrap();
    for cause in CAUSES {
        let state = cause.state.as_str_name().trim_start_matches("TRANSFER_STATE_").to_lowercase();
        let named =
            text.lines().any(|line| line.starts_with(&format!("| {state} | ")) && line.contains(cause.code));
        assert!(named, "no line of the runbook's table is about {state} and {}", cause.code);
    }
}
