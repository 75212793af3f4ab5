//! The store in memory as the suite's model.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use domicile_crypto::SigningKey;
use domicile_evidence::keys::{PublicKey, Signer, VerifierKey};
use domicile_types::{AccountId, Code, Error, ObjectId, Result, SubjectId};

use super::{HomeLine, ItemLine, ObjectLine, Pair, Site, SuiteClock, entry_line, region};
use crate::memory::{Calm, Disk, MemoryTransfers, NewItem, NewObject, NewRecord, Options, Parts};

/// A signing key whose seed decides it.
pub struct SuiteSigner(SigningKey);

impl SuiteSigner {
    /// The key of a seed.
    ///
    /// # Errors
    /// When none can be made.
    pub fn new(seed: u64) -> Result<Self> {
        Ok(Self(SigningKey::generate(&SuiteClock::new().ctx(seed))?.0))
    }
}

impl Signer for SuiteSigner {
    fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message)
    }
    fn public(&self) -> PublicKey {
        PublicKey::new(self.0.public())
    }
}

/// One region in memory.
pub struct MemorySite {
    store: MemoryTransfers,
    key: PublicKey,
}

/// The durations of the suite's stores; those on SQL must have the same.
#[must_use]
pub fn options() -> Options {
    Options {
        offer_open: Duration::from_secs(600),
        lease: Duration::from_secs(15),
        stuck_after: Duration::from_secs(300),
        locator: Duration::from_secs(3_600),
    }
}

impl MemorySite {
    /// A region of this name; its statement key is made from the seed.
    ///
    /// # Errors
    /// When no key can be made.
    pub fn new(name: &str, clock: &SuiteClock, seed: u64) -> Result<Self> {
        let (statements, checkpoints) =
            (Arc::new(SuiteSigner::new(seed)?), Arc::new(SuiteSigner::new(seed + 7)?));
        let log = VerifierKey::new(&format!("domicile.test/{name}"), checkpoints.public());
        let key = statements.public();
        let store = MemoryTransfers::new(Parts {
            region: region(name)?,
            ctx: clock.ctx(seed + 100),
            disk: Disk::default(),
            statements,
            checkpoints,
            log: log.map_err(|cause| Error::new(Code::Internal).because(cause))?,
            options: options(),
            weather: Arc::new(Calm),
        });
        Ok(Self { store, key })
    }
}

/// Two regions in memory.
///
/// # Errors
/// When no key can be made.
pub fn memory_pair() -> Result<Pair<MemorySite>> {
    let clock = SuiteClock::new();
    Ok(Pair { eu: MemorySite::new("eu", &clock, 1)?, us: MemorySite::new("us", &clock, 2)?, clock })
}

#[async_trait]
impl Site for MemorySite {
    type Store = MemoryTransfers;

    fn store(&self) -> &MemoryTransfers {
        &self.store
    }

    fn key(&self) -> PublicKey {
        self.key
    }

    async fn open_record(&self, new: NewRecord) -> Result<()> {
        self.store.open_record(new).await
    }

    async fn write_item(&self, new: NewItem) -> Result<()> {
        self.store.write_item(new).await.map(drop)
    }

    async fn begin_object(&self, new: NewObject) -> Result<()> {
        self.store.begin_object(new).await
    }

    async fn finish_object(&self, object: ObjectId, new: NewItem) -> Result<()> {
        self.store.finish_object(object, new).await.map(drop)
    }

    async fn hold(&self, subject: SubjectId, by: AccountId, stands: bool) -> Result<()> {
        self.store.hold(subject, "suite".to_owned(), by, stands).await
    }

    async fn picture(&self, subject: SubjectId) -> Result<Vec<String>> {
        let db = self.store.disk().look();
        let mut lines = Vec::new();
        if let Some(home) = db.homes.get(&subject) {
            let line = HomeLine {
                epoch: home.epoch,
                standing: &format!("{:?}", home.standing),
                moved_to: home.moved_to.as_ref(),
                counters: (home.revision, home.control_revision, home.attempt, home.freeze),
            };
            lines.push(format!("{line:?}"));
        }
        for item in db.items_of(subject) {
            let (header, current, sealed) = (&item.header, item.current, item.sealed.as_deref());
            lines.push(format!("{:?}", ItemLine { header, current, sealed }));
        }
        for (object, row) in db.objects.iter().filter(|(_, row)| row.subject == subject) {
            let line = ObjectLine {
                object: *object,
                item: row.item,
                complete_travelling: (row.complete, row.travelling),
                key_version: row.key_version,
                transfer: row.transfer,
                copy: row.copy,
            };
            lines.push(format!("{line:?}"));
        }
        Ok(lines)
    }

    async fn log(&self) -> Result<Vec<String>> {
        Ok(self.store.disk().look().log.iter().map(|entry| entry_line(entry)).collect())
    }
}
