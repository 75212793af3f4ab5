//! One cell of the matrix: a transfer during which somebody is killed at one point.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::arena::Arena;
use super::database::Database;
use super::invariants::{Before, End, wrong};
use super::journey;
use super::points::{Path, Role};
use super::steering::Steering;
use super::strike::{self, Struck};
use crate::world::{Moving, Outcome, PATIENCE, Patient};

/// Who is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Victim {
    /// The coordinator.
    Coordinator,
    /// The source region.
    Source,
    /// The destination region.
    Destination,
    /// The database server of the region in which the point lies; the source's for the coordinator's points.
    Database,
}

impl Victim {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Coordinator, Self::Source, Self::Destination, Self::Database];

    /// The word in tables.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Coordinator => "coordinator",
            Self::Source => "source",
            Self::Destination => "destination",
            Self::Database => "database",
        }
    }
}

/// How often.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Times {
    /// Once.
    Once,
    /// Once more when it is back, at the same point or at the first effect of the step's process after it.
    Twice,
    /// Once more while it starts.
    Recovering,
}

impl Times {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Once, Self::Twice, Self::Recovering];

    /// The word in tables.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Once => "once",
            Self::Twice => "twice",
            Self::Recovering => "recovering",
        }
    }
}

/// One cell.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cell {
    /// What happens to the record.
    pub path: Path,
    /// In which process the point lies.
    pub role: Role,
    /// The point: an effect's name, `.before` or `.after`.
    pub point: String,
    /// Who is killed there.
    pub victim: Victim,
    /// How often.
    pub times: Times,
}

impl Cell {
    /// The name in lists: unique.
    #[must_use]
    pub fn name(&self) -> String {
        let Self { path, role, point, victim, times } = self;
        let (path, role) = (path.as_str(), role.as_str());
        format!("{path}/{role}/{point}/{}/{}", victim.as_str(), times.as_str())
    }
}

/// What came of a cell in which everything held.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// Whether the point was reached; if not, nobody was killed.
    pub reached: bool,
    /// How often somebody was killed.
    pub kills: u32,
    /// From the last kill until the victim's region answered a question to its database again.
    pub served: Option<Duration>,
    /// From the last kill until the transfer rested.
    pub rested: Option<Duration>,
    /// How it ended.
    pub end: &'static str,
    /// Writes acknowledged while it went on.
    pub acknowledged: usize,
}

/// How long after the rest everything may take to hold: what follows a commit, such as the log's copy.
const SETTLE: Duration = Duration::from_secs(20);
/// How long a transfer may take to rest.
const REST: Duration = Duration::from_secs(180);
/// Between two looks at whether it rests.
const LOOK: Duration = Duration::from_millis(250);

/// Runs a cell.
///
/// # Errors
/// With what did not hold.
pub async fn run(arena: &mut Arena, cell: &Cell) -> Outcome<Found> {
    let before = Before::look(arena).await?;
    let (from, to) = (arena.from(), arena.to());
    let databases = [arena.database(from)?.clone(), arena.database(to)?.clone()];
    let client = Going {
        patient: arena.patient().await?,
        cell: cell.clone(),
        to,
        brake: brake(arena)?,
        steering: steer(arena, cell.role)?,
    };
    client.order()?;
    let (over, ended) = watch::channel(false);
    let writing = journey::keep_writing(
        arena.practitioner(from)?,
        arena.subject().to_owned(),
        arena.written.0.len(),
        journey::PACE,
        ended.clone(),
    );
    let following = async {
        let transfer = match client.goes().await {
            Ok(transfer) => rest(&databases, &transfer).await.map(|_| transfer),
            failed => failed,
        };
        // Whoever waits for the point, or writes, need not any longer.
        over.send_replace(true);
        transfer
    };
    let (followed, struck, written) =
        tokio::join!(following, strike::at_the_point(arena, cell, ended), writing);
    client.recall()?;
    let (transfer, struck, (mut written, open)) = (followed?, struck?, written?);
    let end = rest(&databases, &transfer).await?;
    let rested = struck.last.map(|last| last.elapsed());
    if let Some(open) = open {
        // Sent while the record went away; sent again where it is now.
        let home = if end == End::Closed { to } else { from };
        journey::finish(&arena.practitioner(home)?, open, &mut written).await?;
    }
    let acknowledged: BTreeSet<String> = written.0.keys().cloned().collect();
    settled(arena, &transfer, end, &before, &acknowledged).await?;
    let found = found(&struck, rested, end, acknowledged.len());
    arena.written.0.extend(written.0);
    if end == End::Closed {
        arena.moved();
    }
    arena.read_back().await?;
    arena.world.verify([from, to], &transfer).await?;
    Ok(found)
}

fn found(struck: &Struck, rested: Option<Duration>, end: End, acknowledged: usize) -> Found {
    Found {
        reached: struck.kills > 0,
        kills: struck.kills,
        served: struck.served,
        rested,
        end: end.as_str(),
        acknowledged,
    }
}

fn steer(arena: &Arena, role: Role) -> Outcome<Steering> {
    Ok(arena.steering(arena.process(role)).ok_or("nobody steers this process")?.clone())
}

fn brake(arena: &Arena) -> Outcome<Steering> {
    steer(arena, Role::Coordinator)
}

/// The client on their way through a cell.
struct Going {
    patient: Patient,
    cell: Cell,
    to: &'static str,
    /// Holds the coordinator before it asks for the freeze, so that a withdrawal finds everything copied.
    brake: Steering,
    steering: Steering,
}

impl Going {
    fn order(&self) -> Outcome<()> {
        match self.cell.path {
            Path::Move => self.steering.order(&[&self.cell.point]),
            Path::Abort => self.brake.order(&["ask.freeze.before"]),
        }
    }

    fn recall(&self) -> Outcome<()> {
        self.steering.recall()?;
        self.brake.recall()
    }

    async fn goes(&self) -> Outcome<String> {
        let moving = journey::ask(&self.patient, self.to).await?;
        journey::consent(&self.patient, &moving).await?;
        if self.cell.path == Path::Abort {
            self.withdraws(&moving).await?;
        }
        Ok(moving.id)
    }

    async fn withdraws(&self, moving: &Moving) -> Outcome<()> {
        self.brake.reached(PATIENCE).await.ok_or("the copy does not come to its end")?;
        if self.cell.role == Role::Coordinator {
            let withdrawn = journey::withdraw(&self.patient, moving).await?;
            self.brake.order(&[&self.cell.point])?;
            self.brake.release().await;
            return if withdrawn { Ok(()) } else { Err("too late to withdraw".into()) };
        }
        self.steering.order(&[&self.cell.point])?;
        let withdrawn = journey::withdraw(&self.patient, moving).await?;
        // Unless the coordinator was killed where it stood.
        self.brake.release().await;
        if withdrawn { Ok(()) } else { Err("too late to withdraw".into()) }
    }
}

/// Waits until both regions say that the transfer rests, and how.
///
/// # Errors
/// When it does not come to rest (invariant 14).
pub async fn rest(databases: &[Database; 2], transfer: &str) -> Outcome<End> {
    let sql = format!("SELECT state FROM transfer WHERE transfer_id = @{transfer}@");
    let until = Instant::now() + REST;
    let mut last = String::new();
    while Instant::now() < until {
        // A server that is down says nothing.
        let mut states = Vec::new();
        for database in databases {
            states.push(database.ask(&sql).await.unwrap_or_default().concat());
        }
        for end in [End::Closed, End::Aborted] {
            if states.iter().all(|state| state == end.as_str()) {
                return Ok(end);
            }
        }
        last = states.join(" and ");
        tokio::time::sleep(LOOK).await;
    }
    Err(format!("I14: the transfer does not come to rest: it is {last}").into())
}

/// Asks until nothing is wrong.
///
/// # Errors
/// With what is still wrong after a while.
pub async fn settled(
    arena: &Arena,
    transfer: &str,
    end: End,
    before: &Before,
    acknowledged: &BTreeSet<String>,
) -> Outcome<()> {
    let until = Instant::now() + SETTLE;
    loop {
        let wrong = wrong(arena, transfer, end, before, acknowledged).await?;
        if wrong.is_empty() {
            return Ok(());
        }
        if Instant::now() > until {
            return Err(wrong.join("; ").into());
        }
        crate::world::pause().await;
    }
}
