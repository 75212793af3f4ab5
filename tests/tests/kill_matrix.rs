//! A sample of the kill matrix (invariants 1 to 14), and that its list of points is whole. The matrix itself
//! is `just kill-matrix`; docs/reliability.md has its table.
#![cfg(test)]
#![expect(clippy::print_stderr, reason = "what was measured is shown with --nocapture")]

use std::collections::BTreeSet;
use std::time::Duration;

use domicile_store::Backend;
use domicile_tests::kill::arena::Arena;
use domicile_tests::kill::cell::{self, Cell, Times, Victim};
use domicile_tests::kill::matrix::{Job, Queue, judge, sample, work};
use domicile_tests::kill::points::{BESIDE, ON_FILES, Path, Role, effects};
use domicile_tests::kill::results::Results;
use domicile_tests::kill::{failpoints, takeover};
use domicile_tests::world::moves::reaches;
use domicile_tests::world::{Outcome, Tuning, World, Written, executable, pause};
use tokio::time::Instant;

use domicile_proto::transfer::v1::TransferState;

/// Every effect that a transfer and an abort pass is in the lists, and every listed one is passed.
async fn lists_are_whole(backend: Backend, arena: &mut Arena) -> Outcome<()> {
    for path in [Path::Move, Path::Abort] {
        for role in Role::ALL {
            arena.steering(arena.process(role)).ok_or("not steered")?.listen()?;
        }
        let processes = Role::ALL.map(|role| (role, arena.process(role)));
        let (point, victim, times) = ("none".to_owned(), Victim::Source, Times::Once);
        let nobody = Cell { path, role: Role::Source, point, victim, times };
        let found = cell::run(arena, &nobody).await?;
        assert!(!found.reached && found.kills == 0);
        for (role, process) in processes {
            let heard = arena.steering(process).ok_or("not steered")?.heard()?;
            whole(backend, role, path, &heard)?;
        }
    }
    Ok(())
}

fn whole(backend: Backend, role: Role, path: Path, heard: &[String]) -> Outcome<()> {
    let effect = |point: &String| point.rsplit_once('.').map(|(effect, _)| effect.to_owned());
    let heard: BTreeSet<String> = heard.iter().filter_map(effect).collect();
    let listed = |path| -> BTreeSet<String> {
        let mut listed: BTreeSet<String> = effects(role, path).iter().map(|&one| one.to_owned()).collect();
        match (backend, role) {
            (Backend::Sqlite, Role::Source) => drop(listed.remove(ON_FILES.1)),
            (Backend::Sqlite, Role::Destination) => drop(listed.insert(ON_FILES.0.to_owned())),
            _ => {}
        }
        listed
    };
    let beside: BTreeSet<String> = BESIDE.iter().map(|&one| one.to_owned()).collect();
    // Before a withdrawal everything happens that happens in a move.
    let known: BTreeSet<String> =
        listed(Path::Move).union(&listed(Path::Abort)).chain(&beside).cloned().collect();
    let unlisted: Vec<_> = heard.difference(&known).collect();
    let listed = if path == Path::Move { listed(Path::Move) } else { listed(Path::Abort) };
    let backup = ON_FILES.0.to_owned();
    let silent: Vec<_> =
        listed.difference(&heard).filter(|&one| path == Path::Move || *one != backup).collect();
    if unlisted.is_empty() && silent.is_empty() {
        return Ok(());
    }
    Err(format!("{role:?} {path:?}: not listed {unlisted:?}, not passed {silent:?}").into())
}

/// Runs cells in worlds side by side; nothing may be wrong, and every point must be reached.
async fn holds(backend: Backend, worlds: Vec<Arena>, cells: Vec<Cell>) -> Outcome<()> {
    let folder = tempfile::tempdir()?;
    let results = Results::in_file(&folder.path().join("results"));
    let count = cells.len();
    let job = Job {
        queue: Queue::new(cells),
        backend,
        until: Instant::now() + Duration::from_secs(900),
        results: &results,
        evidence: None,
        progress: &|line| eprintln!("{line}"),
    };
    let working = worlds.into_iter().map(|world| work(&job, Some(world)));
    for outcome in futures::future::join_all(working).await {
        outcome?;
    }
    let found = judge(&results)?;
    assert_eq!(found.len(), count, "every cell was run");
    let acknowledged: usize = found.iter().map(|one| one.acknowledged).sum();
    eprintln!("{count} cells, {acknowledged} writes acknowledged meanwhile, none lost");
    Ok(())
}

/// One pair of regions copies one record at a time, though everybody is killed in turn.
async fn a_limited_pair_comes_through() -> Outcome<()> {
    let transfer = "transfers_at_once = 1\nlease = \"2s\"\nwork_lease = \"2s\"\nkey_hold = \"2s\"\n";
    let tuning = Tuning { transfer: transfer.to_owned(), ..Tuning::default() };
    let mut world = World::start(Backend::Postgres, &["eu", "ca"], &tuning).await?;
    world.second_coordinator()?;
    let practice = world.practice("limm", "eu", &["ca"]).await?;
    let mut moves = Vec::new();
    for name in ["uta", "ulf", "una"] {
        let patient = world.patient("eu", &practice, name).await?;
        let mut written = Written::default();
        written.fill(&practice.home, &patient.subject, 10, name).await?;
        let moving = patient.ask("ca").await?;
        moves.push((patient, moving, written));
    }
    for (patient, moving, _) in &moves {
        patient.consent(moving).await?;
    }
    for victim in ["ca", "coordinator", "eu", "coordinator2"] {
        world.kill(victim).await?;
        world.restart(victim).await?;
    }
    let there = world.sign_in("ca", &practice.login).await?;
    for (patient, moving, written) in &moves {
        let until = Instant::now() + domicile_tests::world::PATIENCE * 3;
        let client = loop {
            match world.sign_in("ca", &patient.login).await {
                Ok(client) => break client,
                Err(error) if Instant::now() > until => return Err(error),
                Err(_) => pause().await,
            }
        };
        reaches(&client, &moving.id, TransferState::Closed).await?;
        written.read_back(&there, &patient.subject).await?;
        world.verify(["eu", "ca"], &moving.id).await?;
    }
    Ok(())
}

/// How many worlds on PostgreSQL work side by side.
const WORLDS: usize = 3;

async fn on_postgres() -> Outcome<()> {
    let mut worlds = Vec::new();
    for _ in 0..WORLDS {
        worlds.push(Arena::start(Backend::Postgres).await?);
    }
    let (first, second) = (worlds.remove(0), worlds.remove(0));
    let lists = async {
        let mut first = first;
        lists_are_whole(Backend::Postgres, &mut first).await.map(|()| first)
    };
    let takeovers = async {
        let mut second = second;
        for _ in 0..2 {
            let took = takeover::round(&mut second).await?;
            eprintln!("taken over after {took:?}");
        }
        Outcome::Ok(second)
    };
    let (first, second) = tokio::join!(lists, takeovers);
    worlds.extend([first?, second?]);
    holds(Backend::Postgres, worlds, sample(32, &Victim::ALL)).await
}

async fn on_sqlite() -> Outcome<()> {
    let mut world = Arena::start(Backend::Sqlite).await?;
    lists_are_whole(Backend::Sqlite, &mut world).await?;
    let victims = [Victim::Source, Victim::Destination, Victim::Coordinator];
    let mut cells = sample(9, &victims);
    // There the log's head is a file.
    cells.retain(|cell| !(cell.role == Role::Source && cell.point.starts_with(ON_FILES.1)));
    for times in [Times::Once, Times::Twice] {
        let (role, victim) = (Role::Destination, Victim::Destination);
        let point = format!("{}.after", ON_FILES.0);
        cells.push(Cell { path: Path::Move, role, point, victim, times });
    }
    holds(Backend::Sqlite, vec![world], cells).await
}

#[tokio::test]
async fn effects_are_listed_and_a_sample_holds_on_postgres() {
    on_postgres().await.unwrap();
}

#[tokio::test]
async fn effects_are_listed_and_a_sample_holds_on_sqlite() {
    on_sqlite().await.unwrap();
}

#[tokio::test]
async fn a_limit_of_a_pair_holds_nobody_up() {
    a_limited_pair_comes_through().await.unwrap();
}

/// The executable that tests use has failpoints: so the look for them, which `just dist` takes at the one that
/// is shipped, finds them.
#[test]
fn failpoints_are_found_where_they_are() {
    let found = failpoints::found(&executable().unwrap()).unwrap();
    assert_eq!(found.len(), failpoints::TEXTS.len(), "{found:?}");
}
