//! The sequencer: one per region, leased and fenced. It drains the outbox into the tree and signs the
//! tree's heads.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use domicile_evidence::checkpoint::Checkpoint;
use domicile_evidence::entry::{Entry, LOST_NUMBER, Outcome};
use domicile_evidence::event::{EventType, Purpose};
use domicile_evidence::keys::{Signer, VerifierKey};
use domicile_evidence::merkle::Hash;
use domicile_evidence::note::NoteSigner;
use domicile_evidence::writers::{Gap, Writers};
use domicile_store::queries::audit::{self, CheckpointRow, EntryRow};
use domicile_store::queries::lease;
use domicile_store::{Backend, Scope, Store, Tx};
use domicile_types::ids::uuid_v4;
use domicile_types::time::Timestamp;
use domicile_types::{Code, Error, EventId, Result, Role, TransferId};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use uuid::Uuid;

use super::tree::{self, Drained, JOB};
use crate::head::{Head, SignedHead};

/// How many of the newest entries a new sequencer reads to know the writers' numbers.
const WINDOW: u64 = 8_192;
/// A number that stayed away for so long belongs to a writer that died in mid-change.
const LOST: Duration = Duration::from_secs(300);
/// How far the clocks of writers and sequencer may lie apart.
const SKEW: Duration = Duration::from_secs(60);
/// How many lost numbers are declared at once.
const DECLARED: usize = 256;
/// How many events one look at the outbox names.
const NAMED: u64 = 4_096;

/// How fast the sequencer works.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// How often it looks without being woken.
    pub poll: Duration,
    /// How often a grown tree is signed.
    pub sign: Duration,
    /// How often a tree that did not grow is signed again.
    pub again: Duration,
    /// How long a lease lasts; it is renewed at a third of this. Another replica takes over so long after
    /// one has died.
    pub lease: Duration,
    /// How often a replica without the lease looks whether it is free.
    pub follow: Duration,
    /// How long a demanded checkpoint is waited for.
    pub patience: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            poll: Duration::from_millis(100),
            sign: Duration::from_secs(1),
            again: Duration::from_secs(600),
            lease: Duration::from_secs(5),
            follow: Duration::from_millis(500),
            patience: Duration::from_secs(30),
        }
    }
}

/// What a sequencer is made of.
pub struct Parts {
    /// The region's database.
    pub store: Store,
    /// The checkpoint key.
    pub signer: Arc<dyn Signer>,
    /// The checkpoint key's public half under the log's origin.
    pub log: VerifierKey,
    /// Where the last signed head is kept.
    pub head: Arc<dyn SignedHead>,
    /// The version of the region's policy.
    pub policy_version: u32,
    /// How fast it works.
    pub pace: Pace,
}

/// A checkpoint that covers an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Covered {
    /// The entry's index.
    pub index: u64,
    /// The entry's bytes.
    pub entry: Vec<u8>,
    /// The checkpoint's size, above the index.
    pub size: u64,
    /// The signed checkpoint.
    pub note: String,
}

/// An entry somebody waits for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Sought {
    /// Of this event.
    Event(EventId),
    /// That stands for this statement.
    Statement(TransferId, Hash),
}

/// The sequencer of one process. Every replica runs one; the lease lets one of them work. Cheap to clone.
#[derive(Clone)]
pub struct Sequencer(Arc<Inner>);

struct Inner {
    parts: Parts,
    holder: Uuid,
    wake: Notify,
    begun: AtomicBool,
    demanded: AtomicBool,
    leads: AtomicBool,
    signed: watch::Sender<u64>,
}

/// What the holder of the lease knows.
struct Leader {
    token: u64,
    renew: Instant,
    writers: Writers,
    since: Option<Timestamp>,
    look: Instant,
    size: u64,
    signed: Option<u64>,
    signed_at: Instant,
    /// How often other replicas have asked for a checkpoint, as far as it was answered.
    asked: u64,
}

impl Sequencer {
    /// A sequencer, not yet running.
    ///
    /// # Errors
    /// [`Code::KeyDenied`] when the signer's public half is not the log's key.
    pub fn new(parts: Parts) -> Result<Self> {
        if parts.signer.public() != *parts.log.key() {
            return Err(Error::new(Code::KeyDenied).at("checkpoint key"));
        }
        let holder = uuid_v4(parts.store.ctx().rng.as_ref());
        let (signed, _) = watch::channel(0);
        let [begun, demanded, leads] = [(); 3].map(|()| AtomicBool::new(false));
        Ok(Self(Arc::new(Inner { parts, holder, wake: Notify::new(), begun, demanded, leads, signed })))
    }

    /// Works until `shutdown` ends; then signs what it has taken in and gives its lease back.
    pub async fn run(&self, shutdown: impl Future<Output = ()> + Send) {
        tokio::pin!(shutdown);
        let mut leader = None;
        let mut pause = Duration::ZERO;
        loop {
            tokio::select! {
                () = &mut shutdown => break,
                () = self.0.wake.notified(), if pause <= self.0.parts.pace.poll => {}
                () = tokio::time::sleep(pause) => {}
            }
            pause = self.turn(&mut leader).await;
        }
        self.retire(leader).await;
    }

    /// Makes the sequencer look at once.
    pub fn wake(&self) {
        self.0.wake.notify_one();
    }

    /// The log's key under its origin.
    #[must_use]
    pub fn log(&self) -> &VerifierKey {
        &self.0.parts.log
    }

    pub(crate) fn signer(&self) -> &dyn Signer {
        self.0.parts.signer.as_ref()
    }

    /// The newest checkpoint that covers the entry of this event, signed at once if need be.
    ///
    /// # Errors
    /// [`Code::AuditUnavailable`] when there is none after [`Pace::patience`].
    pub async fn checkpoint_covering(&self, event: EventId) -> Result<Covered> {
        self.covering(Sought::Event(event)).await
    }

    /// A checkpoint over everything that was committed before this call.
    ///
    /// # Errors
    /// [`Code::AuditUnavailable`] when there is none after [`Pace::patience`].
    pub async fn checkpoint_now(&self) -> Result<CheckpointRow> {
        let store = &self.0.parts.store;
        let read =
            store.read("audit.waiting", Scope::System, |tx| Box::pin(audit::outbox_waiting(tx, NAMED)));
        let waiting: Arc<[EventId]> = read.await?.into();
        let taken = self.await_found(move |tx| {
            let waiting = Arc::clone(&waiting);
            Box::pin(async move {
                let held = audit::outbox_holds(tx, &waiting).await?;
                if held { Ok(None) } else { audit::log_size(tx).await.map(Some) }
            })
        });
        let size = taken.await?;
        self.await_found(move |tx| {
            Box::pin(async move {
                let newest = audit::checkpoint_newest(tx).await?;
                Ok(newest.filter(|checkpoint| checkpoint.size >= size))
            })
        })
        .await
    }

    pub(crate) async fn covering(&self, sought: Sought) -> Result<Covered> {
        self.await_found(move |tx| Box::pin(covered(tx, sought))).await
    }

    /// Asks again, each time something was signed and now and then, until there is an answer.
    async fn await_found<T, F>(&self, find: F) -> Result<T>
    where
        T: Send + 'static,
        F: for<'c> Fn(&'c Tx) -> futures::future::BoxFuture<'c, Result<Option<T>>>
            + Send
            + Sync
            + Clone
            + 'static,
    {
        let pace = self.0.parts.pace;
        let deadline = Instant::now() + pace.patience;
        let mut signed = self.0.signed.subscribe();
        let mut told = None;
        loop {
            signed.mark_unchanged();
            if let Some(found) = self.0.parts.store.read("audit.await", Scope::System, find.clone()).await? {
                return Ok(found);
            }
            if Instant::now() >= deadline {
                return Err(Error::new(Code::AuditUnavailable).at("checkpoint"));
            }
            self.demand(&mut told).await?;
            // Another replica may hold the lease: then nothing changes here, and time alone passes.
            drop(tokio::time::timeout(pace.poll, signed.changed()).await);
        }
    }

    /// Asks for a checkpoint: this process's sequencer, or by the database the replica that has the lease.
    async fn demand(&self, told: &mut Option<Instant>) -> Result<()> {
        self.0.demanded.store(true, Ordering::Release);
        self.wake();
        let due = told.is_none_or(|told| told.elapsed() >= self.0.parts.pace.sign);
        if due && !self.0.leads.load(Ordering::Acquire) {
            *told = Some(Instant::now());
            let asked = self
                .0
                .parts
                .store
                .write_unaudited("audit.demand", Scope::System, |tx| Box::pin(audit::demand(tx)));
            asked.await?;
        }
        Ok(())
    }

    /// One turn of the loop; answers how long to wait for the next.
    async fn turn(&self, leader: &mut Option<Leader>) -> Duration {
        let pace = self.0.parts.pace;
        let worked = self.work(leader).await;
        if let Err(error) = &worked {
            if error.code() == Code::TokenStale {
                tracing::warn!("another replica sequences the audit log now");
            } else {
                tracing::error!(?error, "the sequencer is held up");
            }
            *leader = None;
        }
        self.0.leads.store(leader.is_some(), Ordering::Release);
        match worked {
            Ok(()) if leader.is_some() => pace.poll,
            Ok(()) => pace.follow,
            Err(_) => pace.lease / 5,
        }
    }

    async fn work(&self, leader: &mut Option<Leader>) -> Result<()> {
        if leader.as_ref().is_none_or(|leader| leader.renew <= Instant::now()) {
            self.lease(leader).await?;
        }
        let Some(leader) = leader else { return Ok(()) };
        let mut demanded = self.0.demanded.swap(false, Ordering::AcqRel);
        let look = self.read("audit.look", |tx| {
            Box::pin(async move { Ok((audit::outbox_waiting(tx, 1).await?, audit::demanded(tx).await?)) })
        });
        let (waiting, asked) = look.await?;
        demanded |= asked != leader.asked;
        leader.asked = asked;
        let lost = self.lost(leader);
        if !waiting.is_empty() || !lost.is_empty() {
            self.drain(leader, lost).await?;
        }
        let (grown, since) = (leader.signed != Some(leader.size), leader.signed_at.elapsed());
        let pace = self.0.parts.pace;
        if (grown && (demanded || leader.signed.is_none() || since >= pace.sign)) || since >= pace.again {
            self.sign(leader).await?;
        }
        Ok(())
    }

    async fn read<T, F>(&self, name: &'static str, f: F) -> Result<T>
    where
        T: Send + 'static,
        F: for<'c> Fn(&'c Tx) -> futures::future::BoxFuture<'c, Result<T>> + Send + Sync + 'static,
    {
        self.0.parts.store.read(name, Scope::System, f).await
    }

    /// Takes or renews the lease.
    async fn lease(&self, leader: &mut Option<Leader>) -> Result<()> {
        let (holder, lasts) = (self.0.holder, self.0.parts.pace.lease);
        let asked = Instant::now();
        // A SQLite file has one process: whoever held the lease before is dead.
        let first = !self.0.begun.swap(true, Ordering::AcqRel);
        let alone = first && self.0.parts.store.backend() == Backend::Sqlite;
        let taken = self.0.parts.store.sequence("audit.lease", move |tx| {
            let expired = if alone { Timestamp::from_micros(i64::MAX) } else { tx.now() };
            let until = tx.now().plus(lasts);
            Box::pin(async move { lease::take(tx, JOB, holder, until, expired).await })
        });
        let token = taken.await?;
        match (token, leader.as_mut()) {
            (None, _) => *leader = None,
            (Some(token), Some(leader)) if leader.token == token => leader.renew = asked + lasts / 3,
            (Some(token), _) => *leader = Some(self.take_over(token, asked + lasts / 3).await?),
        }
        Ok(())
    }

    async fn take_over(&self, token: u64, renew: Instant) -> Result<Leader> {
        let recent = self.read("audit.recent", |tx| {
            Box::pin(async move {
                let size = audit::log_size(tx).await?;
                let rows = audit::entry_list(tx, size.saturating_sub(WINDOW), size, WINDOW).await?;
                Ok((size, rows))
            })
        });
        let (size, rows) = recent.await?;
        let (mut writers, mut since) = (Writers::default(), None);
        for row in &rows {
            let entry = Entry::decode(&row.entry)?;
            if size > WINDOW && since.is_none() {
                since = entry.sequenced_at.map(|at| at.plus(SKEW));
            }
            writers.note(entry.writer, entry.writer_epoch, entry.writer_sequence, entry.written_at);
        }
        let now = Instant::now();
        tracing::info!(size, token, "this process sequences the audit log");
        let signed = None;
        Ok(Leader { token, renew, writers, since, look: now, size, signed, signed_at: now, asked: 0 })
    }

    async fn drain(&self, leader: &mut Leader, extra: Vec<Entry>) -> Result<()> {
        let mut extra: Arc<[Entry]> = extra.into();
        loop {
            let origin: Arc<str> = self.0.parts.log.name().into();
            let token = leader.token;
            let drained = self.0.parts.store.sequence("audit.drain", move |tx| {
                let (origin, extra) = (Arc::clone(&origin), Arc::clone(&extra));
                Box::pin(async move { tree::drain(tx, &origin, token, &extra).await })
            });
            let Drained { size, numbers, more } = drained.await?;
            self.0.parts.store.ctx().faults.hit("sequencer.drained.after_effect");
            leader.size = size;
            for (writer, epoch, number, at) in numbers {
                leader.writers.note(writer, epoch, number, at);
            }
            if !more {
                return Ok(());
            }
            extra = Arc::new([]);
        }
    }

    /// Entries that declare numbers lost whose writers died in mid-change. They name the number and
    /// say so; the verifier counts them.
    fn lost(&self, leader: &mut Leader) -> Vec<Entry> {
        if leader.look > Instant::now() {
            return Vec::new();
        }
        leader.look = Instant::now() + LOST / 10;
        let now = self.0.parts.store.ctx().now();
        // What was drawn after a number that this sequencer has surely seen would have been seen too.
        let since = leader.since;
        let surely = |gap: &Gap| since.is_none_or(|since| gap.after.is_some_and(|after| after > since));
        let gaps = leader.writers.gaps().into_iter();
        let old = gaps.filter(|gap| gap.before.plus(LOST) < now && surely(gap));
        let entries = old.flat_map(|gap| (gap.first..=gap.last).map(move |number| (gap, number)));
        entries.take(DECLARED).map(|(gap, number)| self.declaration(gap, number)).collect()
    }

    fn declaration(&self, gap: Gap, number: u64) -> Entry {
        let ctx = self.0.parts.store.ctx();
        Entry {
            origin: self.0.parts.log.name().to_owned(),
            event: EventType::AuditVoid,
            event_id: EventId::generate(ctx),
            nonce: ctx.random(),
            written_at: ctx.now(),
            sequenced_at: None,
            writer: gap.writer,
            writer_epoch: gap.epoch,
            writer_sequence: number,
            actor: None,
            role: Role::System,
            purpose: Purpose::Operations,
            subject: None,
            resource: Some(LOST_NUMBER.to_owned()),
            item: None,
            transfer: None,
            outcome: Outcome::Ok,
            policy_version: self.0.parts.policy_version,
            request: None,
            detail_commit: None,
            statement: None,
        }
    }

    /// Sees that the log goes on from the last signed head, which lies outside the database: a database that was
    /// restored from an older backup knows less than the region has shown, and must not serve.
    ///
    /// # Errors
    /// [`Code::DatabaseSetBack`]; [`Code::AuditUnavailable`] when the head cannot be read,
    /// [`Code::StoreUnavailable`].
    pub async fn goes_on(&self) -> Result<()> {
        self.heads().await.map(drop).map_err(|error| match error.code() {
            Code::AuditCorrupt => Error::new(Code::DatabaseSetBack).because(error),
            _ => error,
        })
    }

    /// The last signed head and the tree's, which goes on from it.
    async fn heads(&self) -> Result<(Option<Head>, Head)> {
        // The signed one first: other replicas may bring the database forward meanwhile.
        let signed = self.0.parts.head.load().await?;
        let head = self.read("audit.head", move |tx| Box::pin(tree::head(tx, signed))).await?;
        Ok((signed, head))
    }

    /// Signs the tree's head, unless it does not go on from the last signed one.
    async fn sign(&self, leader: &mut Leader) -> Result<()> {
        let parts = &self.0.parts;
        let (signed, head) = self.heads().await?;
        let checkpoint = Checkpoint { origin: parts.log.name().to_owned(), size: head.size, root: head.root };
        let note = checkpoint.sign(&NoteSigner::new(&parts.log, parts.signer.as_ref())?)?.to_string();
        if signed != Some(head) {
            parts.head.swap(signed, head).await?;
        }
        parts.store.ctx().faults.hit("sequencer.signed.before_effect");
        let row = Arc::new((checkpoint, note));
        let token = leader.token;
        let stored = parts.store.sequence("audit.checkpoint", move |tx| {
            let row = Arc::clone(&row);
            Box::pin(async move {
                lease::fence(tx, JOB, token).await?;
                let (checkpoint, note) = row.as_ref();
                let (size, root) = (checkpoint.size, checkpoint.root);
                let row = CheckpointRow { size, root, note: note.clone(), signed_at: tx.now() };
                audit::checkpoint_put(tx, &row).await
            })
        });
        stored.await?;
        leader.signed = Some(head.size);
        leader.signed_at = Instant::now();
        leader.size = leader.size.max(head.size);
        self.0.signed.send_replace(head.size);
        Ok(())
    }

    async fn retire(&self, leader: Option<Leader>) {
        let Some(mut leader) = leader else { return };
        let holder = self.0.holder;
        let ended = async {
            self.drain(&mut leader, Vec::new()).await?;
            if leader.signed != Some(leader.size) {
                self.sign(&mut leader).await?;
            }
            let end = self.0.parts.store.sequence("audit.retire", move |tx| {
                Box::pin(async move { lease::end(tx, JOB, holder).await })
            });
            end.await
        };
        if let Err(error) = ended.await {
            tracing::warn!(?error, "the sequencer ended before its work was done");
        }
    }
}

async fn covered(tx: &Tx, sought: Sought) -> Result<Option<Covered>> {
    let found = match sought {
        Sought::Event(event) => audit::entry_find(tx, event).await?,
        Sought::Statement(transfer, digest) => statement(tx, transfer, digest).await?,
    };
    let (Some(EntryRow { index, entry }), Some(newest)) = (found, audit::checkpoint_newest(tx).await?) else {
        return Ok(None);
    };
    let covered = Covered { index, entry, size: newest.size, note: newest.note };
    Ok((newest.size > index).then_some(covered))
}

/// The entry that stands for a statement.
async fn statement(tx: &Tx, transfer: TransferId, digest: Hash) -> Result<Option<EntryRow>> {
    const PAGE: u64 = 200;
    let mut start = 0;
    loop {
        let rows = audit::entry_list_transfer(tx, transfer, start, PAGE).await?;
        let Some(last) = rows.last().map(|row| row.index) else { return Ok(None) };
        for row in rows {
            let held = Entry::decode(&row.entry)?.statement;
            if held.is_some_and(|held| held.digest == digest) {
                return Ok(Some(row));
            }
        }
        start = last.saturating_add(1);
    }
}
