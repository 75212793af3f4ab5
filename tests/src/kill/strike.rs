//! Killing somebody while a process stands at a point, and bringing them back.

use std::time::Duration;

use domicile_cli::client::answer;
use domicile_proto::transfer::v1::ListTransfersRequest;
use tokio::sync::watch;
use tokio::time::Instant;

use super::arena::{Arena, comes_back};
use super::cell::{Cell, Times, Victim};
use super::journey::insist;
use super::points::{Role, points};
use super::steering::Steering;
use crate::world::{Outcome, pause};

/// How long a process has for reaching a point a second time.
const SECOND: Duration = Duration::from_secs(6);
/// How long a region may take to reach the first effect of its start.
const START: Duration = Duration::from_secs(30);
/// Effects of a region's start.
const STARTING: [&str; 4] =
    ["replica.join.before", "replica.join.after", "audit.register.before", "audit.register.after"];

/// What was done.
#[derive(Debug, Default)]
pub struct Struck {
    /// How often.
    pub kills: u32,
    /// When the last time was.
    pub last: Option<Instant>,
    /// From the last kill until the region, whose process or database it was, answered again.
    pub served: Option<Duration>,
}

/// Who can be killed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Target {
    Process(&'static str),
    Server(&'static str),
}

impl Target {
    fn of(arena: &Arena, cell: &Cell) -> Self {
        match cell.victim {
            Victim::Coordinator => Self::Process(arena.process(Role::Coordinator)),
            Victim::Source => Self::Process(arena.process(Role::Source)),
            Victim::Destination => Self::Process(arena.process(Role::Destination)),
            Victim::Database if cell.role == Role::Destination => Self::Server(arena.to()),
            Victim::Database => Self::Server(arena.from()),
        }
    }

    /// Ends it by SIGKILL.
    async fn kill(self, arena: &mut Arena) -> Outcome<()> {
        match self {
            Self::Process(name) => arena.world.kill(name).await,
            Self::Server(region) => arena.cluster(region)?.kill().await,
        }
    }

    /// Starts it again.
    async fn begin(self, arena: &mut Arena) -> Outcome<()> {
        match self {
            Self::Process(name) => arena.world.begin(name),
            Self::Server(region) => arena.cluster(region)?.begin().await,
        }
    }

    /// Waits until it serves.
    async fn back(self, arena: &mut Arena) -> Outcome<()> {
        match self {
            Self::Process(name) => comes_back(&mut arena.world, name).await,
            Self::Server(region) => arena.cluster(region)?.ready().await,
        }
    }

    /// The region that answers only while it is up.
    const fn region(self) -> Option<&'static str> {
        match self {
            Self::Process(name) if name.len() != "coordinator".len() => Some(name),
            Self::Process(_) => None,
            Self::Server(region) => Some(region),
        }
    }
}

/// Waits for the cell's point, kills as the cell says and brings everybody back. Gives up when `over` says
/// that the transfer rests.
///
/// # Errors
/// When somebody does not come back.
pub async fn at_the_point(arena: &mut Arena, cell: &Cell, over: watch::Receiver<bool>) -> Outcome<Struck> {
    let process = arena.process(cell.role);
    let steering = arena.steering(process).ok_or("nobody steers this process")?.clone();
    let mut striking = Striking {
        target: Target::of(arena, cell),
        stands: Target::Process(process),
        arena,
        steering,
        struck: Struck::default(),
    };
    while striking.steering.stands().as_deref() != Some(&cell.point) {
        if *over.borrow() {
            return Ok(striking.struck);
        }
        pause().await;
    }
    striking.kill().await?;
    match cell.times {
        Times::Once => {}
        Times::Twice => striking.again(cell).await?,
        Times::Recovering => striking.while_it_starts(cell).await?,
    }
    striking.bring_back().await?;
    Ok(striking.struck)
}

struct Striking<'a> {
    arena: &'a mut Arena,
    target: Target,
    /// The process that stands at the point.
    stands: Target,
    steering: Steering,
    struck: Struck,
}

impl Striking<'_> {
    async fn kill(&mut self) -> Outcome<()> {
        self.target.kill(self.arena).await?;
        self.struck.kills += 1;
        self.struck.last = Some(Instant::now());
        if self.target != self.stands && !self.steering.release().await {
            return Err("nobody stands at the point".into());
        }
        Ok(())
    }

    /// Once more, at the next effect of the process that stood at the point.
    async fn again(&mut self, cell: &Cell) -> Outcome<()> {
        let next = points(cell.role, cell.path);
        let next: Vec<&str> = next.iter().map(String::as_str).collect();
        if self.target == self.stands {
            self.steering.order(&next)?;
            self.target.begin(self.arena).await?;
        } else {
            self.target.begin(self.arena).await?;
            self.target.back(self.arena).await?;
            self.steering.order(&next)?;
        }
        if self.steering.reached(SECOND).await.is_some() {
            return self.kill().await;
        }
        // The step had nothing left to do: whoever came back is killed all the same.
        self.steering.recall()?;
        self.target.kill(self.arena).await?;
        self.struck.kills += 1;
        self.struck.last = Some(Instant::now());
        Ok(())
    }

    /// Once more, before it is back.
    async fn while_it_starts(&mut self, cell: &Cell) -> Outcome<()> {
        match self.target {
            Target::Server(region) => {
                self.target.begin(self.arena).await?;
                self.arena.cluster(region)?.recovering().await?;
            }
            Target::Process(name) => {
                let own = self.arena.steering(name).ok_or("nobody steers this process")?.clone();
                if name == "coordinator" {
                    let asks = points(Role::Coordinator, cell.path);
                    own.order(&asks.iter().map(String::as_str).collect::<Vec<_>>())?;
                } else {
                    own.order(&STARTING)?;
                }
                self.target.begin(self.arena).await?;
                let patience = if name == "coordinator" { SECOND } else { START };
                own.reached(patience).await;
                own.recall()?;
            }
        }
        self.target.kill(self.arena).await?;
        self.struck.kills += 1;
        self.struck.last = Some(Instant::now());
        Ok(())
    }

    async fn bring_back(&mut self) -> Outcome<()> {
        self.target.begin(self.arena).await?;
        self.target.back(self.arena).await?;
        if let (Some(region), Some(last)) = (self.target.region(), self.struck.last) {
            let operator = self.arena.operators.get(region).ok_or("no such region")?.clone();
            let look = || {
                let operator = operator.clone();
                async move { answer(operator.transfers().list_transfers(ListTransfersRequest::default())).await }
            };
            insist(look).await?;
            self.struck.served = Some(last.elapsed());
        }
        Ok(())
    }
}
