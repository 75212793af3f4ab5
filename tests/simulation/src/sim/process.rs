//! One process of one host, from its start to its death, and what befalls its surroundings meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use domicile_types::ctx::{FaultPlan, Faults};
use domicile_types::{Clock, Code, Ctx, Error, Result, Timestamp};

use super::world::World;
use crate::conformance::SeededRng;
use crate::memory::{Db, Weather};

/// The instant at which every simulation begins.
const BEGINNING: i64 = 1_800_000_000_000_000;

/// What is wrong around a host, now. All zero: nothing.
#[derive(Default)]
pub(super) struct Sky {
    /// How many milliseconds a transaction takes at most beside the usual few.
    pub(super) slow: AtomicU64,
    /// Of a hundred transactions so many are not answered, before or after their commit.
    pub(super) silent: AtomicU64,
    /// Whether the disk is full: changes fail.
    pub(super) full: AtomicBool,
    /// Of a hundred calls of the key service so many are throttled.
    pub(super) throttled: AtomicU64,
    /// Whether the key service refuses everything.
    pub(super) denied: AtomicBool,
    /// Of a hundred calls of the object store so many fail, uploads in the middle.
    pub(super) torn: AtomicU64,
    /// Of a hundred calls between processes so many are lost, answered into the void, or heard twice.
    pub(super) garbled: AtomicU64,
    /// The process dies at its so-manieth next effect; 0 for never.
    pub(super) dies_at: AtomicU64,
    /// How far the clock is off, in microseconds.
    pub(super) skew: AtomicI64,
}

impl Sky {
    /// Everything is well again, but for the clock.
    pub(super) fn clear(&self) {
        for value in [&self.slow, &self.silent, &self.throttled, &self.torn, &self.garbled, &self.dies_at] {
            value.store(0, Ordering::Relaxed);
        }
        self.full.store(false, Ordering::Relaxed);
        self.denied.store(false, Ordering::Relaxed);
    }
}

/// One process.
pub(super) struct Process {
    pub(super) host: &'static str,
    pub(super) world: Arc<World>,
    pub(super) sky: Arc<Sky>,
    pub(super) rng: SeededRng,
    dead: AtomicBool,
}

struct SkewedClock {
    world: Arc<World>,
    sky: Arc<Sky>,
}

impl Clock for SkewedClock {
    fn now(&self) -> Timestamp {
        let elapsed = i64::try_from(self.world.elapsed().as_micros()).unwrap_or(i64::MAX);
        Timestamp::from_micros(BEGINNING + elapsed + self.sky.skew.load(Ordering::Relaxed))
    }
}

impl Process {
    /// A process of a host; how often the host has started decides its randomness with the seed.
    pub(super) fn start(host: &'static str, world: &Arc<World>) -> Arc<Self> {
        let seed = world.start_of(host);
        Arc::new(Self {
            host,
            world: Arc::clone(world),
            sky: world.sky(host),
            rng: SeededRng::new(seed),
            dead: AtomicBool::new(false),
        })
    }

    /// Time, randomness and named points as this process has them.
    pub(super) fn ctx(self: &Arc<Self>) -> Ctx {
        Ctx {
            clock: Arc::new(SkewedClock { world: Arc::clone(&self.world), sky: Arc::clone(&self.sky) }),
            rng: Arc::new(SeededRng::new(self.rng.next())),
            faults: Faults::with(Arc::clone(self) as _),
        }
    }

    pub(super) fn is_dead(&self) -> bool {
        self.dead.load(Ordering::Relaxed)
    }

    /// Goes on only in a living process.
    pub(super) async fn alive(&self) {
        if self.is_dead() {
            std::future::pending::<()>().await;
        }
    }

    /// An effect is about to happen: the process may die right here.
    fn count(&self, what: &str) {
        let left = self.sky.dies_at.load(Ordering::Relaxed);
        if left == 0 || self.is_dead() {
            return;
        }
        self.sky.dies_at.store(left - 1, Ordering::Relaxed);
        if left == 1 {
            self.dead.store(true, Ordering::Relaxed);
            self.world.tell(self.host, &format!("dies at {what}"));
            self.world.died(self.host);
        }
    }

    /// Something outside the process takes a while; the process may die before it.
    pub(super) async fn effect(&self, what: &str, at_most: u64) {
        self.alive().await;
        tokio::time::sleep(Duration::from_millis(self.rng.below(at_most + 1))).await;
        self.count(what);
        self.alive().await;
    }

    /// Whether a chance of `percent` in a hundred came true.
    pub(super) fn chance(&self, percent: &AtomicU64) -> bool {
        let percent = percent.load(Ordering::Relaxed);
        percent > 0 && self.rng.chance(percent)
    }
}

impl FaultPlan for Process {
    fn reached(&self, point: &'static str) {
        self.count(point);
    }
}

#[async_trait]
impl Weather for Process {
    async fn before(&self, name: &'static str, writes: bool) -> Result<()> {
        let slow = self.sky.slow.load(Ordering::Relaxed);
        self.effect(name, slow + if writes { 4 } else { 0 }).await;
        if self.chance(&self.sky.silent) {
            return Err(Error::new(Code::StoreUnavailable).at("simulation"));
        }
        if writes && self.sky.full.load(Ordering::Relaxed) && self.rng.chance(80) {
            return Err(Error::new(Code::StoreUnavailable).at("no room on the disk"));
        }
        Ok(())
    }

    async fn after(&self, name: &'static str, writes: bool) -> Result<()> {
        if !writes {
            return Ok(());
        }
        self.effect(name, 2).await;
        if self.chance(&self.sky.silent) {
            Err(Error::new(Code::AnswerLost).at("simulation"))
        } else {
            Ok(())
        }
    }

    fn committing(&self, name: &'static str, before: &Db, after: &Db) {
        self.world.committing(self.host, name, before, after);
    }
}
