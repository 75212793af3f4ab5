//! Time that stands still until a test moves it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use domicile_types::{Clock, Ctx, Timestamp};

/// 2026-01-15T12:00:00Z.
const START: i64 = 1_768_478_400_000_000;

/// A clock that tests move. Clones show the same time.
#[derive(Clone)]
pub struct TestClock(Arc<AtomicI64>);

impl TestClock {
    /// A clock at a fixed instant.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(AtomicI64::new(START)))
    }

    /// Moves the clock into the future.
    pub fn advance(&self, by: Duration) {
        let micros = i64::try_from(by.as_micros()).unwrap_or(i64::MAX);
        self.0.fetch_add(micros, Ordering::SeqCst);
    }

    /// This clock with the operating system's randomness and no faults.
    #[must_use]
    pub fn ctx(&self) -> Ctx {
        Ctx { clock: Arc::new(self.clone()), ..Ctx::system() }
    }
}

impl Default for TestClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.0.load(Ordering::SeqCst))
    }
}
