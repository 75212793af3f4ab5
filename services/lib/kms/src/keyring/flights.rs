//! One reader per missing key: the others wait for it instead of asking the key service too.

use std::hash::{DefaultHasher, Hash, Hasher};

use tokio::sync::{Mutex, MutexGuard};

use super::cache::Slot;

/// Keys of different slots share a lock now and then; that costs a wait, never a wrong key.
const STRIPES: usize = 64;

/// Wrapping keys have locks of their own, because they are read while another key's lock is held.
#[derive(Default)]
pub(super) struct Flights {
    wrapping: Stripes,
    others: Stripes,
}

impl Flights {
    /// Waits until nobody else reads a wrapping key of this stripe.
    pub(super) async fn of_wrapping(&self, slot: Slot) -> MutexGuard<'_, ()> {
        self.wrapping.stripe(slot).lock().await
    }

    /// Waits until nobody else reads a key of this stripe.
    pub(super) async fn of(&self, slot: Slot) -> MutexGuard<'_, ()> {
        self.others.stripe(slot).lock().await
    }
}

struct Stripes([Mutex<()>; STRIPES]);

impl Default for Stripes {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Mutex::new(())))
    }
}

impl Stripes {
    fn stripe(&self, slot: Slot) -> &Mutex<()> {
        let mut hasher = DefaultHasher::new();
        slot.hash(&mut hasher);
        let index = usize::try_from(hasher.finish() % STRIPES as u64).unwrap_or(0);
        &self.0[index]
    }
}
