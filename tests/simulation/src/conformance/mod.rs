//! The one suite that holds the store in memory to those on SQL. It runs programs of operations over two
//! regions, moves and all that can go wrong with them, and writes down what every operation answered and
//! what the regions hold afterwards. The same program must leave the same words on every store.

mod adopting;
mod asks;
mod looking;
mod picture;
mod program;
mod script;
mod site;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use domicile_transfer_protocol::TransferStore;
use domicile_types::{
    AccountId, Clock, Code, Ctx, Error, ObjectId, RegionId, Result, Rng, SubjectId, Timestamp,
};

use crate::memory::{NewItem, NewObject, NewRecord};

pub use picture::{HomeLine, ItemLine, ObjectLine, entry_line};
pub use program::{program, straight_move, withdrawn_move};
pub use script::Script;
pub use site::{MemorySite, SuiteSigner, memory_pair, options};

/// One region's store with what its other services do to it: they write records.
#[async_trait]
pub trait Site: Send + Sync {
    /// The store under test.
    type Store: TransferStore;

    /// The store.
    fn store(&self) -> &Self::Store;

    /// The key its statements are signed with.
    fn key(&self) -> domicile_evidence::keys::PublicKey;

    /// Opens a record here.
    async fn open_record(&self, new: NewRecord) -> Result<()>;

    /// Writes a version of an item; the revision is the store's.
    async fn write_item(&self, new: NewItem) -> Result<()>;

    /// Registers an object before its first byte.
    async fn begin_object(&self, new: NewObject) -> Result<()>;

    /// Its content is whole; the item that describes it is written with it.
    async fn finish_object(&self, object: ObjectId, new: NewItem) -> Result<()>;

    /// Places or releases a legal hold.
    async fn hold(&self, subject: SubjectId, by: AccountId, stands: bool) -> Result<()>;

    /// What the region holds of a record, a line a row, in a fixed order: see [`HomeLine`], [`ItemLine`] and [`ObjectLine`].
    async fn picture(&self, subject: SubjectId) -> Result<Vec<String>>;

    /// The audit log, a line an entry, in order: see [`entry_line`].
    async fn log(&self) -> Result<Vec<String>>;
}

/// Two regions with one clock.
pub struct Pair<S> {
    /// `eu`.
    pub eu: S,
    /// `us`.
    pub us: S,
    /// Their time.
    pub clock: SuiteClock,
}

/// Time that moves when told to.
#[derive(Clone)]
pub struct SuiteClock(Arc<AtomicI64>);

impl SuiteClock {
    /// A clock at a fixed instant.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(AtomicI64::new(1_800_000_000_000_000)))
    }

    /// Moves on.
    pub fn advance(&self, by: Duration) {
        self.0.fetch_add(i64::try_from(by.as_micros()).unwrap_or(i64::MAX), Ordering::SeqCst);
    }

    /// This clock with randomness of this seed.
    #[must_use]
    pub fn ctx(&self, seed: u64) -> Ctx {
        Ctx { clock: Arc::new(self.clone()), rng: Arc::new(SeededRng::new(seed)), ..Ctx::system() }
    }
}

impl Default for SuiteClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SuiteClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.0.load(Ordering::SeqCst))
    }
}

/// Randomness that a seed decides (splitmix64). For tests alone.
pub struct SeededRng(AtomicU64);

impl SeededRng {
    /// A source from this seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }

    /// The next number.
    pub fn next(&self) -> u64 {
        let state = self.0.fetch_add(0x9E37_79B9_7F4A_7C15, Ordering::Relaxed);
        let mut z = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `bound`; 0 for a bound of 0.
    pub fn below(&self, bound: u64) -> u64 {
        self.next().checked_rem(bound).unwrap_or(0)
    }

    /// Whether a chance of `percent` in a hundred came true.
    pub fn chance(&self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

impl Rng for SeededRng {
    fn fill(&self, buffer: &mut [u8]) {
        for piece in buffer.chunks_mut(8) {
            let bytes = self.next().to_le_bytes();
            piece.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
        }
    }
}

/// A region's name.
///
/// # Errors
/// [`Code::InvalidRequest`] for one that is none.
pub(crate) fn region(name: &str) -> Result<RegionId> {
    RegionId::new(name).map_err(|cause| Error::new(Code::InvalidRequest).at("region").because(cause))
}
