//! What outlives every process: disks, keys, buckets, the weather over each host; and what was seen.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use domicile_crypto::KeyService;
use domicile_kms::testing::{MemoryKeys, key_service};
use domicile_transfer_protocol::Source;
use domicile_transfer_protocol::store::Row;
use domicile_types::{Result, TransferId};

use super::laws::Laws;
use super::objects::Bucket;
use super::process::Sky;
use crate::conformance::{SuiteClock, SuiteSigner};
use crate::memory::{Db, Disk};

/// The regions of every simulation.
pub(super) const REGIONS: [&str; 3] = ["eu", "us", "ca"];
/// Every host whose process may die.
pub(super) const HOSTS: [&str; 5] = ["eu", "us", "ca", "coordinator-a", "coordinator-b"];

/// What of a region outlives its process.
pub(super) struct Region {
    pub(super) disk: Disk,
    pub(super) keys: Arc<MemoryKeys>,
    pub(super) service: Arc<dyn KeyService>,
    pub(super) bucket: Bucket,
    pub(super) statements: Arc<SuiteSigner>,
    pub(super) checkpoints: Arc<SuiteSigner>,
}

/// Everything that is not a process.
pub(super) struct World {
    seed: u64,
    micros: AtomicU64,
    pub(super) regions: BTreeMap<&'static str, Region>,
    skies: BTreeMap<&'static str, Arc<Sky>>,
    starts: Mutex<BTreeMap<&'static str, u64>>,
    deaths: Mutex<Vec<&'static str>>,
    seen: Mutex<Vec<String>>,
    pub(super) laws: Mutex<Laws>,
    pub(super) versions: AtomicUsize,
    pub(super) objects: AtomicUsize,
}

impl World {
    pub(super) fn new(seed: u64) -> Result<Arc<Self>> {
        let mut regions = BTreeMap::new();
        for (at, name) in REGIONS.into_iter().enumerate() {
            let base = seed.wrapping_mul(1_000).wrapping_add(at as u64 * 10);
            let region = Region {
                disk: Disk::default(),
                keys: Arc::default(),
                service: key_service(&SuiteClock::new().ctx(base)),
                bucket: Bucket::default(),
                statements: Arc::new(SuiteSigner::new(base + 1)?),
                checkpoints: Arc::new(SuiteSigner::new(base + 2)?),
            };
            regions.insert(name, region);
        }
        Ok(Arc::new(Self {
            seed,
            micros: AtomicU64::new(0),
            regions,
            skies: HOSTS.into_iter().map(|host| (host, Arc::default())).collect(),
            starts: Mutex::default(),
            deaths: Mutex::default(),
            seen: Mutex::default(),
            laws: Mutex::default(),
            versions: AtomicUsize::new(0),
            objects: AtomicUsize::new(0),
        }))
    }

    /// Simulated time since the beginning: of the host that asks, or of the last step where no host does.
    pub(super) fn elapsed(&self) -> Duration {
        turmoil::sim_elapsed().unwrap_or_else(|| Duration::from_micros(self.micros.load(Ordering::Relaxed)))
    }

    /// The simulation has got this far.
    pub(super) fn reached(&self, elapsed: Duration) {
        self.micros.store(u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// The seed of a host's next process.
    pub(super) fn start_of(&self, host: &'static str) -> u64 {
        let mut starts = lock(&self.starts);
        let start = starts.entry(host).or_default();
        *start += 1;
        let name = host.bytes().fold(17_u64, |sum, byte| sum.wrapping_mul(131).wrapping_add(byte.into()));
        self.seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ name.wrapping_mul(*start + 1)
    }

    /// The weather over a host.
    pub(super) fn sky(&self, host: &str) -> Arc<Sky> {
        self.skies.get(host).cloned().unwrap_or_default()
    }

    /// A host's process has died.
    pub(super) fn died(&self, host: &'static str) {
        lock(&self.deaths).push(host);
    }

    /// The hosts whose process has died since the last question.
    pub(super) fn take_deaths(&self) -> Vec<&'static str> {
        std::mem::take(&mut *lock(&self.deaths))
    }

    /// Writes down what happened.
    pub(super) fn tell(&self, who: &str, what: &str) {
        let at = self.elapsed().as_millis();
        lock(&self.seen).push(format!("{at:>8} {who:<13} {what}"));
    }

    /// What has happened so far.
    pub(super) fn seen(&self) -> Vec<String> {
        lock(&self.seen).clone()
    }

    /// A region commits: it is written down, and held against the laws.
    pub(super) fn committing(&self, host: &'static str, name: &'static str, before: &Db, after: &Db) {
        for row in erasing(before, after) {
            self.backed_up(row);
        }
        let told = lock(&self.laws).committing(host, before, after);
        for line in told {
            self.tell(host, &format!("{name}: {line}"));
        }
    }

    /// A law is broken.
    pub(super) fn broken(&self, what: String) {
        self.tell("LAW", &what);
        lock(&self.laws).broken.push(what);
    }
}

/// Source rows that begin to destroy keys with this commit.
fn erasing<'a>(before: &'a Db, after: &'a Db) -> impl Iterator<Item = &'a Source> {
    let begun = |row: &Row| matches!(row, Row::Source(row) if row.keys_to_destroy.is_some());
    let was = move |id: &TransferId| before.transfers.get(id).is_some_and(|kept| begun(&kept.row));
    after.transfers.iter().filter_map(move |(id, kept)| match &kept.row {
        Row::Source(row) if row.keys_to_destroy.is_some() && !was(id) => Some(row.as_ref()),
        _ => None,
    })
}

pub(super) fn lock<T>(value: &Mutex<T>) -> MutexGuard<'_, T> {
    value.lock().unwrap_or_else(PoisonError::into_inner)
}
