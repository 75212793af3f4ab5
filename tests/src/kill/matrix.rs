//! The matrix: its cells, and worlds that work them off side by side.

use std::collections::VecDeque;
use std::path::Path as File;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use domicile_store::Backend;
use tokio::time::{Instant, timeout};

use super::arena::{Arena, REGIONS};
use super::cell::{self, Cell, Found, Times, Victim};
use super::points::{Path, Role, points};
use super::results::{Results, Verdict};
use crate::world::Outcome;

/// How long one cell may take; a cell that hangs has failed.
const LONGEST: Duration = Duration::from_secs(420);
/// Worlds that are begun before none is got.
const STARTS: usize = 4;
/// Cells before a world is made anew: its logs, which every cell verifies whole, grow.
const RENEWED: usize = 24;

/// Every cell, those first that say most: each point with its own process killed once, then the database,
/// then the others, then twice and while recovering.
#[must_use]
pub fn cells() -> Vec<Cell> {
    let mut cells = Vec::new();
    for times in Times::ALL {
        for own in [true, false] {
            for victim in [Victim::Database, Victim::Source, Victim::Destination, Victim::Coordinator] {
                cells.extend(of_victim(times, victim, own));
            }
        }
    }
    cells
}

fn of_victim(times: Times, victim: Victim, own: bool) -> Vec<Cell> {
    let mut cells = Vec::new();
    for path in [Path::Move, Path::Abort] {
        for role in Role::ALL {
            if is_own(role, victim) == own {
                let named = points(role, path).into_iter();
                cells.extend(named.map(|point| Cell { path, role, point, victim, times }));
            }
        }
    }
    cells
}

/// Whether the process in which the point lies is the one that is killed.
fn is_own(role: Role, victim: Victim) -> bool {
    match victim {
        Victim::Coordinator => role == Role::Coordinator,
        Victim::Source => role == Role::Source,
        Victim::Destination => role == Role::Destination,
        Victim::Database => false,
    }
}

/// A sample: points at equal distances, each with the next victim of `victims`, each round of victims with
/// another number of kills.
#[must_use]
pub fn sample(count: usize, victims: &[Victim]) -> Vec<Cell> {
    let mut all = Vec::new();
    for path in [Path::Move, Path::Abort] {
        for role in Role::ALL {
            all.extend(points(role, path).into_iter().map(|point| (path, role, point)));
        }
    }
    let chosen = (0..count).filter_map(|number| {
        let (path, role, point) = all.get(number * all.len() / count)?.clone();
        let victim = *victims.get(number % victims.len())?;
        let times = *Times::ALL.get(number / victims.len() % Times::ALL.len())?;
        Some(Cell { path, role, point, victim, times })
    });
    chosen.collect()
}

/// Cells still to be run, shared by worlds.
pub struct Queue(Mutex<VecDeque<Cell>>);

impl Queue {
    /// Of these cells.
    #[must_use]
    pub fn new(cells: Vec<Cell>) -> Self {
        Self(Mutex::new(cells.into()))
    }

    /// The next one.
    fn take(&self) -> Option<Cell> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }
}

/// How worlds work.
pub struct Job<'a> {
    /// What is to be done.
    pub queue: Queue,
    /// On which database.
    pub backend: Backend,
    /// No cell begins after this.
    pub until: Instant,
    /// Where results go.
    pub results: &'a Results,
    /// The folder for the ends of the logs of worlds in which something did not hold.
    pub evidence: Option<&'a File>,
    /// Hears of each cell's end.
    pub progress: &'a (dyn Fn(&str) + Sync),
}

/// Works cells off in one world until none is left or time is over: in `first`, if it is given. A world in
/// which something did not hold is left for a fresh one.
///
/// # Errors
/// When a world does not start, or a result cannot be noted.
pub async fn work(job: &Job<'_>, first: Option<Arena>) -> Outcome<()> {
    let Job { queue, backend, until, results, evidence, progress } = job;
    let mut arena = first.map(|first| (first, 0));
    while Instant::now() < *until {
        let Some(cell) = queue.take() else { break };
        let (mut here, done) = match arena.take() {
            Some((here, done)) if done < RENEWED => (here, done),
            _ => (fresh(*backend).await?, 0),
        };
        let began = Instant::now();
        let ran = timeout(LONGEST, cell::run(&mut here, &cell)).await;
        let ran = ran.unwrap_or_else(|_| Err("the cell hangs".into()));
        let took = began.elapsed();
        let verdict = match ran {
            Ok(found) if found.reached => Verdict::Held(found),
            Ok(_) => Verdict::Missed,
            Err(error) => {
                keep(&here, &cell, *evidence)?;
                Verdict::Wrong(error.to_string())
            }
        };
        if !matches!(verdict, Verdict::Wrong(_)) {
            arena = Some((here, done + 1));
        }
        progress(&format!("{:>5.1} s {} {}", took.as_secs_f64(), verdict.word(), cell.name()));
        results.note(&cell, *backend, &verdict, took)?;
    }
    Ok(())
}

/// A world. On a machine with much to do a deployment may not start in time: then another one.
async fn fresh(backend: Backend) -> Outcome<Arena> {
    for _ in 1..STARTS {
        if let Ok(arena) = Arena::start(backend).await {
            return Ok(arena);
        }
    }
    Arena::start(backend).await
}

/// Keeps the ends of the logs: codes and states, never content.
fn keep(arena: &Arena, cell: &Cell, evidence: Option<&File>) -> Outcome<()> {
    let Some(folder) = evidence else { return Ok(()) };
    std::fs::create_dir_all(folder)?;
    let mut text = String::new();
    for name in ["coordinator", REGIONS[0], REGIONS[1]] {
        let log = arena.world.log(name).unwrap_or_default();
        let lines: Vec<&str> = log.lines().rev().take(300).collect();
        text.push_str(&format!("== {name}\n"));
        lines.into_iter().rev().for_each(|line| text.push_str(&format!("{line}\n")));
    }
    Ok(std::fs::write(folder.join(cell.name().replace('/', "~")), text)?)
}

/// The longest of what was measured, for people.
#[must_use]
pub fn quantile(sorted: &[Duration], of_hundred: usize) -> Duration {
    let last = sorted.len().saturating_sub(1);
    sorted.get((sorted.len() * of_hundred / 100).min(last)).copied().unwrap_or_default()
}

/// What the cells of a sample found, or what did not hold.
///
/// # Errors
/// With every cell in which something did not hold.
pub fn judge(results: &Results) -> Outcome<Vec<Found>> {
    let (mut found, mut wrong) = (Vec::new(), Vec::new());
    for noted in results.all()? {
        match noted.verdict {
            Verdict::Held(one) => found.push(one),
            Verdict::Missed => wrong.push(format!("{}: the point was not reached", noted.cell)),
            Verdict::Wrong(why) => wrong.push(format!("{}: {why}", noted.cell)),
        }
    }
    if wrong.is_empty() { Ok(found) } else { Err(wrong.join("\n").into()) }
}
