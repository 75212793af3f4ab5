//! Two coordinators: the one that drives is killed, the other takes over.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::Instant;

use super::arena::Arena;
use super::cell::{rest, settled};
use super::invariants::Before;
use super::journey;
use super::points::Role;
use crate::world::{Outcome, PATIENCE, pause};

/// The second one's name.
const SECOND: &str = "coordinator2";

/// One move, in the middle of which the coordinator that drives it is killed and stays away; how long until
/// the other one drives. Both run when it happens.
///
/// # Errors
/// When the other one does not take over, or something does not hold afterwards.
pub async fn round(arena: &mut Arena) -> Outcome<Duration> {
    let first = arena.process(Role::Coordinator);
    let brake = arena.steering(first).ok_or("nobody steers it")?.clone();
    let before = Before::look(arena).await?;
    let (patient, from, to) = (arena.patient().await?, arena.from(), arena.to());
    brake.order(&["ask.freeze.before"])?;
    let moving = journey::ask(&patient, to).await?;
    journey::consent(&patient, &moving).await?;
    brake.reached(PATIENCE).await.ok_or("the copy does not come to its end")?;
    arena.world.second_coordinator()?;
    let until = Instant::now() + PATIENCE;
    while !arena.world.log(SECOND)?.contains("the coordinator runs") {
        if Instant::now() > until {
            return Err("the second coordinator does not start".into());
        }
        pause().await;
    }
    let token = token(arena, from, &moving.id).await?;
    arena.world.kill(first).await?;
    let killed = Instant::now();
    while self::token(arena, from, &moving.id).await? == token {
        if Instant::now() > until {
            return Err("nobody takes over".into());
        }
        pause().await;
    }
    let took = killed.elapsed();
    let databases = [arena.database(from)?.clone(), arena.database(to)?.clone()];
    let end = rest(&databases, &moving.id).await?;
    settled(arena, &moving.id, end, &before, &BTreeSet::new()).await?;
    arena.moved();
    arena.read_back().await?;
    brake.recall()?;
    arena.world.stop(SECOND).await?;
    std::fs::remove_file(arena.world.home(SECOND).join("log"))?;
    arena.world.begin(first)?;
    Ok(took)
}

/// The fencing token of a transfer at its source.
async fn token(arena: &Arena, region: &str, transfer: &str) -> Outcome<String> {
    let sql = format!("SELECT token FROM transfer WHERE transfer_id = @{transfer}@");
    Ok(arena.database(region)?.ask(&sql).await?.concat())
}
