//! What goes wrong, and when: drawn from the seed before the simulation begins.

use std::sync::atomic::Ordering;
use std::time::Duration;

use turmoil::Sim;

use super::world::{HOSTS, REGIONS, World};
use crate::conformance::SeededRng;

/// How long the faults last.
pub(super) const FAULTY: Duration = Duration::from_secs(75);
/// Ten minutes, in microseconds.
const TEN_MINUTES: u64 = 600_000_000;

/// One thing that goes wrong, or is mended.
#[derive(Clone, Debug)]
pub(super) enum Event {
    /// The process dies between two ticks.
    Crash(&'static str),
    /// It dies at its so-manieth next effect.
    DiesAt(&'static str, u64),
    /// It starts again.
    Start(&'static str),
    /// Nothing passes between two hosts, or nothing in one direction.
    Cut(&'static str, &'static str, bool),
    /// Everything between two hosts waits, and is delivered later.
    Stall(&'static str, &'static str),
    /// It passes again.
    Mend(&'static str, &'static str),
    /// So many milliseconds a message may take.
    Slow(&'static str, &'static str, u64),
    /// Messages are lost, of a thousand so many.
    Lossy(&'static str, &'static str, u64),
    /// A region's surroundings: which, and how bad.
    Sky(&'static str, Weather, u64),
    /// A host's clock is off by so many microseconds.
    Skew(&'static str, i64),
}

/// A region's surroundings that can go wrong.
#[derive(Clone, Copy, Debug)]
pub(super) enum Weather {
    SlowStore,
    SilentStore,
    FullDisk,
    ThrottledKeys,
    DeniedKeys,
    TornObjects,
    GarbledCalls,
}

const WEATHERS: [Weather; 7] = [
    Weather::SlowStore,
    Weather::SilentStore,
    Weather::FullDisk,
    Weather::ThrottledKeys,
    Weather::DeniedKeys,
    Weather::TornObjects,
    Weather::GarbledCalls,
];

/// Everything that goes wrong under a seed, in order.
pub(super) fn plan(seed: u64) -> Vec<(Duration, Event)> {
    let rng = SeededRng::new(seed ^ 0x0C4A_0500);
    let mut plan = Vec::new();
    for host in HOSTS {
        let off =
            i64::try_from(rng.below(2 * TEN_MINUTES)).unwrap_or(0) - i64::try_from(TEN_MINUTES).unwrap_or(0);
        // Half of all clocks are right.
        plan.push((Duration::ZERO, Event::Skew(host, if rng.chance(50) { off } else { 0 })));
    }
    // Some simulations are calm, some are rough.
    let mut at = Duration::from_millis(rng.below(4_000));
    let between = [400, 1_200, 3_000, 9_000];
    let between = between.get(usize::try_from(rng.below(4)).unwrap_or(0)).copied().unwrap_or(1_200);
    while at < FAULTY {
        trouble(&rng, at, &mut plan);
        at += Duration::from_millis(100 + rng.below(between));
    }
    plan.sort_by_key(|(at, _)| *at);
    plan
}

fn host(rng: &SeededRng) -> &'static str {
    HOSTS.get(usize::try_from(rng.below(HOSTS.len() as u64)).unwrap_or(0)).copied().unwrap_or("eu")
}

fn pair(rng: &SeededRng) -> (&'static str, &'static str) {
    let one = host(rng);
    let others: Vec<_> = HOSTS.into_iter().filter(|host| *host != one).collect();
    (one, others.get(usize::try_from(rng.below(others.len() as u64)).unwrap_or(0)).copied().unwrap_or("us"))
}

fn trouble(rng: &SeededRng, at: Duration, plan: &mut Vec<(Duration, Event)>) {
    let lasts = |most: u64| at + Duration::from_millis(50 + rng.below(most));
    let (one, other) = pair(rng);
    match rng.below(12) {
        0 => {
            plan.push((at, Event::Crash(one)));
            plan.push((lasts(8_000), Event::Start(one)));
        }
        1..=3 => plan.push((at, Event::DiesAt(one, 1 + rng.below(250)))),
        4 | 5 => {
            plan.push((at, Event::Cut(one, other, rng.chance(50))));
            plan.push((lasts(15_000), Event::Mend(one, other)));
        }
        6 => {
            plan.push((at, Event::Stall(one, other)));
            plan.push((lasts(6_000), Event::Mend(one, other)));
        }
        7 => {
            plan.push((at, Event::Slow(one, other, 100 + rng.below(1_500))));
            plan.push((lasts(12_000), Event::Slow(one, other, 20)));
        }
        8 => {
            plan.push((at, Event::Lossy(one, other, 5 + rng.below(60))));
            plan.push((lasts(8_000), Event::Lossy(one, other, 0)));
        }
        9 if rng.chance(30) => {
            let off = i64::try_from(rng.below(2 * TEN_MINUTES)).unwrap_or(0);
            plan.push((at, Event::Skew(one, off - i64::try_from(TEN_MINUTES).unwrap_or(0))));
        }
        _ => {
            let region = REGIONS.get(usize::try_from(rng.below(3)).unwrap_or(0)).copied().unwrap_or("eu");
            let which = usize::try_from(rng.below(WEATHERS.len() as u64)).unwrap_or(0);
            let weather = WEATHERS.get(which).copied().unwrap_or(Weather::SlowStore);
            plan.push((at, Event::Sky(region, weather, 5 + rng.below(45))));
            plan.push((lasts(10_000), Event::Sky(region, weather, 0)));
        }
    }
}

/// Lets one thing happen; what dies for good is started again later by whoever calls.
pub(super) fn happen(sim: &mut Sim<'_>, world: &World, event: &Event) {
    world.tell("fault", &format!("{event:?}"));
    match event {
        Event::Crash(host) => sim.crash(*host),
        Event::DiesAt(host, effects) => world.sky(host).dies_at.store(*effects, Ordering::Relaxed),
        Event::Start(host) => start(sim, host),
        Event::Cut(one, other, false) => sim.partition(*one, *other),
        Event::Cut(one, other, true) => sim.partition_oneway(*one, *other),
        Event::Stall(one, other) => sim.hold(*one, *other),
        Event::Mend(one, other) => mend(sim, one, other),
        Event::Slow(one, other, millis) => {
            sim.set_link_max_message_latency(*one, *other, Duration::from_millis(*millis));
        }
        Event::Lossy(one, other, of_thousand) => {
            let rate = f64::from(u32::try_from(*of_thousand).unwrap_or(0)) / 1_000.0;
            sim.set_link_fail_rate(*one, *other, rate);
            if *of_thousand == 0 {
                mend(sim, one, other);
            }
        }
        Event::Sky(region, weather, bad) => change(world, region, *weather, *bad),
        Event::Skew(host, micros) => world.sky(host).skew.store(*micros, Ordering::Relaxed),
    }
}

fn mend(sim: &Sim<'_>, one: &str, other: &str) {
    sim.release(one, other);
    sim.repair(one, other);
}

/// Starts a host's process unless it runs.
pub(super) fn start(sim: &mut Sim<'_>, host: &str) {
    if !sim.is_host_running(host) {
        sim.bounce(host);
    }
}

fn change(world: &World, region: &str, weather: Weather, bad: u64) {
    let sky = world.sky(region);
    match weather {
        Weather::SlowStore => sky.slow.store(bad * 20, Ordering::Relaxed),
        Weather::SilentStore => sky.silent.store(bad, Ordering::Relaxed),
        Weather::FullDisk => sky.full.store(bad > 0, Ordering::Relaxed),
        Weather::ThrottledKeys => sky.throttled.store(bad * 2, Ordering::Relaxed),
        Weather::DeniedKeys => sky.denied.store(bad > 0, Ordering::Relaxed),
        Weather::TornObjects => sky.torn.store(bad, Ordering::Relaxed),
        Weather::GarbledCalls => sky.garbled.store(bad, Ordering::Relaxed),
    }
}

/// Everything is well: every link, every host, every region's surroundings.
pub(super) fn heal(sim: &mut Sim<'_>, world: &World) {
    for (at, one) in HOSTS.into_iter().enumerate() {
        world.sky(one).clear();
        for other in HOSTS.into_iter().skip(at + 1) {
            sim.set_link_fail_rate(one, other, 0.0);
            sim.set_link_max_message_latency(one, other, Duration::from_millis(20));
            mend(sim, one, other);
        }
    }
    for host in HOSTS {
        start(sim, host);
    }
}
