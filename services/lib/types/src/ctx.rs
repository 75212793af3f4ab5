//! Time, randomness and injected faults: arguments, never globals.

use std::fmt;
use std::sync::Arc;

use crate::time::Timestamp;

/// Wall time.
pub trait Clock: Send + Sync {
    /// The present instant.
    fn now(&self) -> Timestamp;
}

/// A source of randomness fit for keys, nonces and tokens.
pub trait Rng: Send + Sync {
    /// Fills the whole buffer.
    fn fill(&self, buffer: &mut [u8]);
}

/// The operating system's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place where the system's clock is read")]
    fn now(&self) -> Timestamp {
        let since = std::time::SystemTime::now()
            .duration_since(std::time::SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        Timestamp::EPOCH.plus(since)
    }
}

/// The operating system's randomness.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemRng;

impl Rng for SystemRng {
    /// Ends the process when the operating system has no randomness: nothing safe can follow.
    fn fill(&self, buffer: &mut [u8]) {
        if getrandom::fill(buffer).is_err() {
            std::process::abort();
        }
    }
}

/// What a test does when execution reaches a named point.
pub trait FaultPlan: Send + Sync {
    /// Called with the point's name; may wait, end the process, or return.
    fn reached(&self, point: &'static str);

    /// Called around every effect that outlives the process or reaches another one: a commit, by its
    /// transaction's name, an object made or deleted, a call of another region. Nothing by default.
    fn around(&self, _effect: &str, _when: When) {}
}

/// On which side of an effect execution stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// It has not happened.
    Before,
    /// It has happened, and nobody has been told.
    After,
}

impl When {
    /// The word in a point's name: `transfer_release.before`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Before => "before",
            Self::After => "after",
        }
    }
}

/// Named points at which tests break things. In a release build [`Faults::hit`] is empty.
#[derive(Clone, Default)]
pub struct Faults(
    #[cfg_attr(not(debug_assertions), expect(dead_code, reason = "nothing is hit in a release build"))]
    Option<Arc<dyn FaultPlan>>,
);

impl Faults {
    /// No faults.
    #[must_use]
    pub const fn none() -> Self {
        Self(None)
    }

    /// Faults by plan; ignored in a release build.
    #[must_use]
    pub fn with(plan: Arc<dyn FaultPlan>) -> Self {
        Self(Some(plan))
    }

    /// Execution has reached `point`, named `step.before_effect` or `step.after_effect`.
    #[cfg(debug_assertions)]
    pub fn hit(&self, point: &'static str) {
        if let Some(plan) = &self.0 {
            plan.reached(point);
        }
    }

    /// Execution has reached `point`; nothing happens in a release build.
    #[cfg(not(debug_assertions))]
    #[inline(always)]
    pub fn hit(&self, _point: &'static str) {}

    /// Execution stands before an effect of this name.
    #[cfg(debug_assertions)]
    pub fn before(&self, effect: &str) {
        self.around(effect, When::Before);
    }

    /// An effect of this name has happened and nobody has been told.
    #[cfg(debug_assertions)]
    pub fn after(&self, effect: &str) {
        self.around(effect, When::After);
    }

    #[cfg(debug_assertions)]
    fn around(&self, effect: &str, when: When) {
        if let Some(plan) = &self.0 {
            plan.around(effect, when);
        }
    }

    /// Execution stands before an effect; nothing happens in a release build.
    #[cfg(not(debug_assertions))]
    #[inline(always)]
    pub fn before(&self, _effect: &str) {}

    /// An effect has happened; nothing happens in a release build.
    #[cfg(not(debug_assertions))]
    #[inline(always)]
    pub fn after(&self, _effect: &str) {}
}

/// Everything that is not an input but changes the outcome.
#[derive(Clone)]
pub struct Ctx {
    /// Wall time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub rng: Arc<dyn Rng>,
    /// Injected faults; none in production.
    pub faults: Faults,
}

impl Ctx {
    /// The operating system's clock and randomness, no faults.
    #[must_use]
    pub fn system() -> Self {
        Self { clock: Arc::new(SystemClock), rng: Arc::new(SystemRng), faults: Faults::none() }
    }

    /// The present instant.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// `N` random bytes.
    #[must_use]
    pub fn random<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0_u8; N];
        self.rng.fill(&mut bytes);
        bytes
    }
}

impl fmt::Debug for Ctx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ctx")
    }
}
