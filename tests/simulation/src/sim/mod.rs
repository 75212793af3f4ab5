//! The simulation: three regions, two coordinators, clients and an operator as hosts of a simulated network,
//! in simulated time, over stores that outlive their processes. A seed decides everything that happens.

mod certificates;
mod chaos;
mod clerk;
mod coordinator;
mod desk;
mod garbled;
mod keys;
mod laws;
mod net;
mod objects;
mod people;
mod process;
mod region;
mod rest;
mod world;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, UNIX_EPOCH};

use domicile_transfer_protocol::State;
use domicile_types::Result;
use turmoil::{Builder, Sim};

use chaos::FAULTY;
use people::{Client, Phase};
use process::Process;
use region::Running;
use world::{HOSTS, REGIONS, World, lock};

/// How long one step of the simulation is.
const TICK: Duration = Duration::from_millis(10);
/// How long after the last fault everything must have come to rest.
const PATIENCE: Duration = Duration::from_secs(900);
/// Clients, each with a record.
const CLIENTS: usize = 2;

/// What one seed led to.
#[derive(Debug)]
pub struct Outcome {
    /// What happened, line by line, with the simulated time in milliseconds.
    pub events: Vec<String>,
    /// Which laws were broken, in words. Empty: none.
    pub broken: Vec<String>,
    /// Acknowledged versions and objects that were found at the end.
    pub found: (usize, usize),
    /// States that transfers were in.
    pub states: BTreeSet<State>,
    /// Transfers that ended closed and aborted.
    pub ended: (usize, usize),
    /// Commits that were held against the laws.
    pub commits: u64,
    /// Processes that died.
    pub deaths: usize,
    /// Simulated time.
    pub took: Duration,
}

/// Runs the simulation of a seed to its end.
///
/// # Errors
/// When it cannot be set up.
pub fn simulate(seed: u64) -> Result<Outcome> {
    let world = World::new(seed)?;
    let mut sim = Builder::new()
        .rng_seed(seed)
        .epoch(UNIX_EPOCH + Duration::from_secs(1_800_000_000))
        .tick_duration(TICK)
        .simulation_duration(Duration::from_secs(7_200))
        .min_message_latency(Duration::from_millis(1))
        .max_message_latency(Duration::from_millis(20))
        .tcp_capacity(4_096)
        .build();
    let phase = people_the(&mut sim, &world, seed);
    let plan = chaos::plan(seed);
    let mut plan = plan.iter().peekable();
    let mut starts: Vec<(Duration, &'static str)> = Vec::new();
    let (mut deaths, mut healed, mut commits) = (0, false, 0);
    loop {
        let now = sim.elapsed();
        world.reached(now);
        while let Some((_, event)) = plan.next_if(|(at, _)| *at <= now && !healed) {
            chaos::happen(&mut sim, &world, event);
            deaths += usize::from(matches!(event, chaos::Event::Crash(_)));
        }
        if now >= FAULTY && !healed {
            healed = true;
            chaos::heal(&mut sim, &world);
            world.tell("fault", "everything is well");
            phase.healed.store(true, Ordering::Relaxed);
        }
        match sim.step() {
            Ok(false) => {}
            Ok(true) => break,
            Err(cause) => {
                world.broken(format!("the simulation failed: {cause}"));
                break;
            }
        }
        for host in world.take_deaths() {
            sim.crash(host);
            deaths += 1;
            starts.push((now + Duration::from_millis(100 + (seed ^ deaths as u64) % 5_000), host));
        }
        starts.retain(|(at, host)| {
            let due = *at <= now || healed;
            if due {
                chaos::start(&mut sim, host);
            }
            !due
        });
        world.hold_together(&mut commits);
        if now > FAULTY + PATIENCE {
            world.no_rest();
            break;
        }
    }
    let took = sim.elapsed();
    drop(sim);
    world.in_the_end();
    Ok(outcome(&world, deaths, took))
}

/// Puts every host in its place.
fn people_the(sim: &mut Sim<'_>, world: &Arc<World>, seed: u64) -> Arc<Phase> {
    for host in HOSTS {
        let world = Arc::clone(world);
        sim.host(host, move || {
            let process = Process::start(host, &world);
            async move {
                if REGIONS.contains(&host) {
                    Running::new(&process)?.serve().await?;
                } else {
                    coordinator::run(process).await?;
                }
                Ok(())
            }
        });
    }
    let phase = Arc::new(Phase::default());
    let clients = (0..CLIENTS).map(|number| {
        let home = REGIONS.get(number % REGIONS.len()).copied().unwrap_or("eu");
        Client::new(world, number, seed.wrapping_mul(77).wrapping_add(number as u64), home)
    });
    let clients: Vec<Client> = clients.collect();
    let people = clients.iter().map(|client| client.person.clone()).collect();
    let operator = people::operate(Arc::clone(world), seed ^ 0x0BE7, people, Arc::clone(&phase));
    sim.client("operator", async move {
        operator.await;
        Ok(())
    });
    let ends = Arc::clone(&phase);
    sim.client("clients", async move {
        let lives = clients.into_iter().map(|client| client.live(Arc::clone(&ends)));
        futures::future::join_all(lives).await;
        Ok(())
    });
    phase
}

fn outcome(world: &World, deaths: usize, took: Duration) -> Outcome {
    let laws = lock(&world.laws);
    Outcome {
        events: world.seen(),
        broken: laws.broken.clone(),
        found: world.found(),
        states: laws.reached.clone(),
        ended: world.ended(),
        commits: laws.looked,
        deaths,
        took,
    }
}
