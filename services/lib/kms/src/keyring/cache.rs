//! Unwrapped keys in memory: at most five minutes, at most so many, wiped when they go.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use domicile_crypto::{Key32, Purpose, SubjectSecret};
use domicile_telemetry::metrics;
use domicile_types::{PracticeId, SubjectId, TransferId};
use tokio::time::Instant;

/// How long an unwrapped key stays in memory. A shred waits at least this long after it has told every
/// replica, unless each has acknowledged (data-model.md, "Keys").
pub const KEY_LIFE: Duration = Duration::from_secs(5 * 60);

/// Keys held at once; the oldest makes room.
const CAPACITY: usize = 16_384;

/// What a held key is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Slot {
    /// A practice's newest wrapping key.
    Wrapping(Option<PracticeId>),
    /// One version of it.
    WrappingAt(Option<PracticeId>, u32),
    /// A subject's newest record key, to seal with.
    Record(SubjectId, Option<PracticeId>),
    /// One version of it, to open with.
    RecordAt(SubjectId, Option<PracticeId>, u32),
    /// A subject's secret.
    Secret(SubjectId, SubjectSecret),
    /// A key of the region.
    Region(Purpose),
    /// A transfer's travel key.
    Travel(TransferId),
}

impl Slot {
    fn is_of(&self, subject: SubjectId) -> bool {
        match self {
            Self::Record(owner, _) | Self::RecordAt(owner, ..) | Self::Secret(owner, _) => *owner == subject,
            _ => false,
        }
    }
}

/// A held key.
#[derive(Clone)]
pub(super) struct Held {
    pub(super) key: Key32,
    pub(super) version: u32,
    /// Uses left of the reserved block; only a [`Slot::Record`] counts.
    pub(super) uses: u64,
}

struct Entry {
    held: Held,
    age: Age,
}

/// When a key must go, and a number that makes it unique.
type Age = (Instant, u64);

/// Taken before a key is read from the store: says from when its life counts, and lets the cache refuse a
/// key that was forgotten while it was being read.
#[derive(Clone, Copy)]
pub(super) struct Ticket {
    began: Instant,
    generation: u64,
}

/// Counts a look into the cache.
fn looked<T>(found: Option<T>) -> Option<T> {
    metrics::key_cache(found.is_some());
    found
}

/// The cache. Every method takes a short lock and touches no key service and no store.
#[derive(Default)]
pub(super) struct Cache(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    entries: BTreeMap<Slot, Entry>,
    by_age: BTreeMap<Age, Slot>,
    inserted: u64,
    generation: u64,
    sweeping: bool,
    /// Until when what is held may be used at all; for ever where nobody asks for more.
    trusted: Option<Instant>,
}

impl Cache {
    /// What is held may be used until then, and no longer unless this is called again.
    pub(super) fn trust_until(&self, until: Instant) {
        self.lock().trusted = Some(until);
    }

    /// Drops every key, also those being read just now.
    pub(super) fn forget_all(&self) {
        self.forget(|_| true);
    }

    /// Begins to read a key.
    pub(super) fn ticket(&self) -> Ticket {
        Ticket { began: Instant::now(), generation: self.lock().generation }
    }

    /// The key in a slot.
    pub(super) fn get(&self, slot: Slot) -> Option<Held> {
        looked(self.lock().live(slot).map(|held| held.clone()))
    }

    /// The key in a slot, once `uses` of its block are taken.
    pub(super) fn take(&self, slot: Slot, uses: u64) -> Taken {
        match looked(self.lock().live(slot)) {
            None => Taken::Absent,
            Some(held) => match held.uses.checked_sub(uses) {
                None => Taken::UsedUp,
                Some(left) => {
                    held.uses = left;
                    Taken::Key(held.clone())
                }
            },
        }
    }

    /// Holds a key, unless something was forgotten since the ticket was taken.
    pub(super) fn insert(&self, ticket: Ticket, slot: Slot, held: Held) {
        let mut state = self.lock();
        if state.generation != ticket.generation || state.trusted.is_some_and(|until| until <= Instant::now())
        {
            return;
        }
        state.inserted += 1;
        let age = (ticket.began + KEY_LIFE, state.inserted);
        state.remove(slot);
        state.entries.insert(slot, Entry { held, age });
        state.by_age.insert(age, slot);
        while state.entries.len() > CAPACITY && state.remove_oldest() {}
        metrics::key_cache_size(state.entries.len());
        if !state.sweeping {
            state.sweeping = true;
            tokio::spawn(sweep(Arc::downgrade(&self.0)));
        }
    }

    /// Drops a subject's keys, also those being read just now.
    pub(super) fn forget_subject(&self, subject: SubjectId) {
        self.forget(|slot| slot.is_of(subject));
    }

    /// Drops one key, also if it is being read just now.
    pub(super) fn forget_slot(&self, slot: Slot) {
        self.forget(|held| *held == slot);
    }

    fn forget(&self, gone: impl Fn(&Slot) -> bool) {
        let mut state = self.lock();
        state.generation += 1;
        state.entries.retain(|slot, _| !gone(slot));
        state.by_age.retain(|_, slot| !gone(slot));
        metrics::key_cache_size(state.entries.len());
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.lock().entries.len()
    }
}

/// The outcome of [`Cache::take`].
pub(super) enum Taken {
    /// Here it is.
    Key(Held),
    /// It is held, but its block has too few uses left.
    UsedUp,
    /// It is not held.
    Absent,
}

impl State {
    fn live(&mut self, slot: Slot) -> Option<&mut Held> {
        let now = Instant::now();
        if self.trusted.is_some_and(|until| until <= now) {
            return None;
        }
        self.entries.get_mut(&slot).filter(|entry| entry.age.0 > now).map(|entry| &mut entry.held)
    }

    fn remove(&mut self, slot: Slot) {
        if let Some(entry) = self.entries.remove(&slot) {
            self.by_age.remove(&entry.age);
        }
    }

    fn remove_oldest(&mut self) -> bool {
        let Some((_, slot)) = self.by_age.pop_first() else { return false };
        self.entries.remove(&slot).is_some()
    }

    /// Drops what is past its life and says when the next is.
    fn expire(&mut self, now: Instant) -> Option<Instant> {
        while let Some((age, _)) = self.by_age.first_key_value() {
            if age.0 > now {
                return Some(age.0);
            }
            self.remove_oldest();
        }
        None
    }
}

/// Wipes keys as their time comes; ends when none is held.
async fn sweep(cache: Weak<Mutex<State>>) {
    loop {
        let next = {
            let Some(state) = cache.upgrade() else { return };
            let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
            let next = state.expire(Instant::now());
            metrics::key_cache_size(state.entries.len());
            match next {
                Some(next) => next,
                None => {
                    state.sweeping = false;
                    return;
                }
            }
        };
        tokio::time::sleep_until(next).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use domicile_types::Ctx;

    fn held() -> Held {
        Held { key: Key32::from_bytes(&[1; 32]), version: 1, uses: 2 }
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_lives_five_minutes_from_when_it_was_read_for() {
        let cache = Cache::default();
        let ticket = cache.ticket();
        tokio::time::advance(Duration::from_secs(10)).await;
        cache.insert(ticket, Slot::Region(Purpose::Accounts), held());
        tokio::time::advance(KEY_LIFE - Duration::from_secs(11)).await;
        assert!(cache.get(Slot::Region(Purpose::Accounts)).is_some());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(cache.get(Slot::Region(Purpose::Accounts)).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn an_expired_key_is_wiped_though_nobody_asks() {
        let cache = Cache::default();
        cache.insert(cache.ticket(), Slot::Region(Purpose::Accounts), held());
        tokio::time::sleep(Duration::from_secs(60)).await;
        cache.insert(cache.ticket(), Slot::Region(Purpose::BlindIndex), held());
        assert_eq!(cache.held(), 2);
        tokio::time::sleep(KEY_LIFE - Duration::from_secs(59)).await;
        assert_eq!(cache.held(), 1);
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(cache.held(), 0);
        cache.insert(cache.ticket(), Slot::Region(Purpose::Accounts), held());
        tokio::time::sleep(KEY_LIFE + Duration::from_secs(1)).await;
        assert_eq!(cache.held(), 0, "the sweeper starts again");
    }

    #[tokio::test]
    async fn a_key_forgotten_while_it_is_read_is_not_held() {
        let (ctx, cache) = (Ctx::system(), Cache::default());
        let subject = SubjectId::generate(&ctx);
        let ticket = cache.ticket();
        cache.forget_subject(subject);
        cache.insert(ticket, Slot::Record(subject, None), held());
        assert!(cache.get(Slot::Record(subject, None)).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn what_nobody_vouches_for_is_not_used() {
        let cache = Cache::default();
        let slot = Slot::Region(Purpose::Accounts);
        cache.trust_until(Instant::now() + Duration::from_secs(20));
        cache.insert(cache.ticket(), slot, held());
        tokio::time::advance(Duration::from_secs(19)).await;
        assert!(cache.get(slot).is_some());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(cache.get(slot).is_none(), "neither what is held");
        cache.forget_all();
        cache.insert(cache.ticket(), slot, held());
        cache.trust_until(Instant::now() + Duration::from_secs(20));
        assert!(cache.get(slot).is_none(), "nor what was read meanwhile");
        cache.insert(cache.ticket(), slot, held());
        assert!(cache.get(slot).is_some());
    }

    #[tokio::test]
    async fn forgetting_a_subject_leaves_others() {
        let (ctx, cache) = (Ctx::system(), Cache::default());
        let (one, two) = (SubjectId::generate(&ctx), SubjectId::generate(&ctx));
        for subject in [one, two] {
            cache.insert(cache.ticket(), Slot::Record(subject, None), held());
            cache.insert(cache.ticket(), Slot::RecordAt(subject, None, 1), held());
            cache.insert(cache.ticket(), Slot::Secret(subject, SubjectSecret::Pseudonym), held());
        }
        cache.forget_subject(one);
        assert_eq!(cache.held(), 3);
        assert!(cache.get(Slot::RecordAt(two, None, 1)).is_some());
    }

    #[tokio::test]
    async fn a_block_is_used_up_once() {
        let cache = Cache::default();
        let slot = Slot::Region(Purpose::Accounts);
        assert!(matches!(cache.take(slot, 1), Taken::Absent));
        cache.insert(cache.ticket(), slot, held());
        assert!(matches!(cache.take(slot, 3), Taken::UsedUp));
        assert!(matches!(cache.take(slot, 1), Taken::Key(_)));
        assert!(matches!(cache.take(slot, 1), Taken::Key(_)));
        assert!(matches!(cache.take(slot, 1), Taken::UsedUp));
    }

    #[tokio::test]
    async fn the_oldest_makes_room() {
        let cache = Cache::default();
        for version in 0..=u32::try_from(CAPACITY).unwrap() {
            cache.insert(cache.ticket(), Slot::WrappingAt(None, version), held());
        }
        assert_eq!(cache.held(), CAPACITY);
        assert!(cache.get(Slot::WrappingAt(None, 0)).is_none());
        assert!(cache.get(Slot::WrappingAt(None, 1)).is_some());
    }
}
