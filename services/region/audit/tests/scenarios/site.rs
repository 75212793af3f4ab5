//! One region's database with an audit service over it.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use domicile_audit::{App, Closing, FileHead, LogIdentity, Pace, Parts, Sequencer};
use domicile_crypto::sign::SigningKey;
use domicile_evidence::entry::{Entry, Outcome, Pseudonym};
use domicile_evidence::event::{EventType, Purpose};
use domicile_evidence::keys::{PublicKey, Signer, VerifierKey};
use domicile_evidence::policy::{LogKeys, Policy};
use domicile_evidence::statement::{Body, Lane, SignedStatement};
use domicile_evidence::verify::{Demands, VerifiedBundle, Verifier};
use domicile_store::{AuditFacts, OnConflict, Pseudonyms, Scope, Settings, Store, values};
use domicile_types::ctx::{FaultPlan, Faults, Rng};
use domicile_types::time::Timestamp;
use domicile_types::{
    AccountId, Actor, AuditScope, Ctx, EventId, ItemId, RegionId, RequestId, Result, Role, SubjectId,
    TransferId,
};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_stream::StreamExt as _;
use uuid::Uuid;

struct Constant(u8);

impl Rng for Constant {
    fn fill(&self, buffer: &mut [u8]) {
        buffer.fill(self.0);
    }
}

/// The same key for the same seed.
pub struct Key(SigningKey);

impl Key {
    pub fn new(seed: u8) -> Self {
        let ctx = Ctx { rng: Arc::new(Constant(seed)), ..Ctx::system() };
        Self(SigningKey::generate(&ctx).expect("a key").0)
    }
}

impl Signer for Key {
    fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message)
    }
    fn public(&self) -> PublicKey {
        PublicKey::new(self.0.public())
    }
}

struct FirstBytes;

#[async_trait]
impl Pseudonyms for FirstBytes {
    async fn subject(&self, subject: SubjectId) -> Result<Pseudonym> {
        Ok(*subject.as_bytes())
    }
    async fn actor(&self, account: AccountId) -> Result<Pseudonym> {
        Ok(*account.as_bytes())
    }
}

/// Dies once, when a named point is reached.
pub struct DieAt {
    point: &'static str,
    left: AtomicU32,
}

impl FaultPlan for DieAt {
    fn reached(&self, point: &'static str) {
        if point == self.point && self.left.fetch_sub(1, Ordering::SeqCst) == 1 {
            panic!("died at {point}");
        }
    }
}

pub fn quick() -> Pace {
    Pace {
        poll: Duration::from_millis(10),
        sign: Duration::from_millis(100),
        again: Duration::from_secs(600),
        lease: Duration::from_millis(600),
        follow: Duration::from_millis(50),
        patience: Duration::from_secs(20),
    }
}

pub struct Site<'a> {
    pub settings: &'a Settings,
    pub folder: &'a Path,
    pub ctx: Ctx,
}

impl<'a> Site<'a> {
    pub fn new(settings: &'a Settings, folder: &'a Path) -> Self {
        Self { settings, folder, ctx: Ctx::system() }
    }

    /// The same site whose process dies when it reaches `point` for the `nth` time.
    pub fn dying(&self, point: &'static str, nth: u32) -> Self {
        let plan = DieAt { point, left: AtomicU32::new(nth) };
        let ctx = Ctx { faults: Faults::with(Arc::new(plan)), ..Ctx::system() };
        Self { settings: self.settings, folder: self.folder, ctx }
    }

    pub fn head(&self) -> FileHead {
        FileHead::new(self.folder.join("log.head"))
    }

    pub fn keys(&self) -> LogKeys {
        LogKeys {
            checkpoint: VerifierKey::new(&self.settings.log_origin, Key::new(1).public()).expect("a name"),
            statement: VerifierKey::new("statements.test", Key::new(2).public()).expect("a name"),
        }
    }

    pub fn policy(&self) -> Policy {
        let logs = [(self.settings.region.clone(), self.keys())].into();
        Policy { logs, quorum: 0, max_age_hours: Some(1), settle_hours: None }
    }

    /// A process: its own writer, its own sequencer, not yet running.
    pub async fn open(&self, pace: Pace) -> Process {
        let store = Store::open(self.settings, self.ctx.clone(), Arc::new(FirstBytes)).await.expect("opens");
        let parts = Parts {
            store: store.clone(),
            signer: Arc::new(Key::new(1)),
            log: self.keys().checkpoint,
            head: Arc::new(self.head()),
            policy_version: 1,
            pace,
        };
        let sequencer = Sequencer::new(parts).expect("the key");
        let identity = LogIdentity {
            region: self.settings.region.clone(),
            statement: self.keys().statement,
            peers: Vec::new(),
            quorum: 0,
        };
        let app = App::new(store.clone(), sequencer.clone(), Arc::new(FirstBytes), identity).expect("an app");
        let closing = Closing::new(store.clone(), sequencer.clone());
        Process { store, sequencer, app: Arc::new(app), closing, policy: self.policy(), running: None }
    }

    pub async fn start(&self) -> Process {
        let mut process = self.open(quick()).await;
        process.run();
        process
    }
}

pub struct Process {
    pub store: Store,
    pub sequencer: Sequencer,
    pub app: Arc<App>,
    pub closing: Closing,
    policy: Policy,
    running: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

impl Process {
    pub fn run(&mut self) {
        let (stop, stopped) = oneshot::channel::<()>();
        let sequencer = self.sequencer.clone();
        let task = tokio::spawn(async move { sequencer.run(async move { drop(stopped.await) }).await });
        self.running = Some((stop, task));
    }

    /// Ends as asked.
    pub async fn stop(mut self) {
        if let Some((stop, task)) = self.running.take() {
            drop(stop);
            task.await.expect("ends by itself");
        }
    }

    /// Ends without a word.
    pub async fn kill(mut self) {
        if let Some((_stop, task)) = self.running.take() {
            task.abort();
            drop(task.await);
        }
    }

    /// Whether the sequencer has ended.
    pub fn is_dead(&self) -> bool {
        self.running.as_ref().is_some_and(|(_, task)| task.is_finished())
    }

    /// The sequencer has died of its fault.
    pub async fn died(mut self) {
        let (_stop, task) = self.running.take().expect("was running");
        let ended = tokio::time::timeout(Duration::from_secs(20), task).await.expect("dies in time");
        assert!(ended.expect_err("dies").is_panic());
    }

    pub fn scope(&self, event: EventType, subject: Option<SubjectId>) -> Arc<AuditScope> {
        let actor = Actor {
            account: Some(AccountId::from_uuid(Uuid::from_u128(7))),
            ..Actor::of(Role::Practitioner)
        };
        let scope = AuditScope::new(event.name(), actor, RequestId::generate(self.store.ctx()));
        if let Some(subject) = subject {
            scope.concerns(subject);
        }
        scope
    }

    /// One read's entry.
    pub async fn read(&self, subject: SubjectId) {
        let scope = self.scope(EventType::RecordItemRead, Some(subject));
        scope.touches(ItemId::generate(self.store.ctx()));
        self.store.audit_now(&scope, AuditFacts::ok()).await.expect("recorded");
    }

    pub async fn reads(&self, count: usize) {
        let one = || self.read(SubjectId::generate(self.store.ctx()));
        futures::future::join_all((0..count).map(|_| one())).await;
    }

    /// Puts an entry into the outbox by hand, as a writer with other clocks would.
    pub async fn deliver(&self, entries: Vec<Entry>) {
        let columns = [
            "event_id",
            "writer",
            "writer_epoch",
            "writer_sequence",
            "subject_pseudonym",
            "transfer_id",
            "entry",
            "at",
        ];
        let entries = Arc::new(entries);
        let written = self.store.write_unaudited("test.deliver", Scope::System, move |tx| {
            let entries = Arc::clone(&entries);
            Box::pin(async move {
                let row = |entry: &Entry| {
                    values![
                        entry.event_id,
                        entry.writer,
                        entry.writer_epoch,
                        entry.writer_sequence,
                        entry.subject,
                        entry.transfer,
                        entry.encode(),
                        entry.written_at,
                    ]
                };
                let rows = entries.iter().map(row).collect();
                tx.insert_many("audit_outbox", &columns, rows, OnConflict::Fail).await
            })
        });
        written.await.expect("delivered");
    }

    /// An entry of a writer that is not this process.
    pub fn foreign(&self, writer: u128, number: u64, written_at: Timestamp) -> Entry {
        let ctx = self.store.ctx();
        Entry {
            origin: self.sequencer.log().name().to_owned(),
            event: EventType::RecordItemRead,
            event_id: EventId::generate(ctx),
            nonce: ctx.random(),
            written_at,
            sequenced_at: None,
            writer: Uuid::from_u128(writer),
            writer_epoch: 1,
            writer_sequence: number,
            actor: None,
            role: Role::System,
            purpose: Purpose::Operations,
            subject: None,
            resource: None,
            item: None,
            transfer: None,
            outcome: Outcome::Ok,
            policy_version: 1,
            request: None,
            detail_commit: None,
            statement: None,
        }
    }

    /// Writes a statement and its entry in one transaction, as the transfer service does.
    pub async fn state(&self, lane: &Lane, other: &Lane, body: &Body) -> Lane {
        let statement = lane.next(body, self.store.ctx().now(), other);
        let signed = SignedStatement::sign(&Key::new(2), statement, body);
        let read = signed.read().expect("a statement");
        let next = lane.accept(&read.statement, read.digest).expect("follows");
        let scope = self.scope(EventType::TransferStep, None);
        let kept = Arc::new((signed, read));
        let written = self.store.write("test.state", Scope::Transfers, &scope, move |tx| {
            let kept = Arc::clone(&kept);
            Box::pin(async move {
                let (signed, read) = kept.as_ref();
                let columns = [
                    "transfer_id",
                    "origin",
                    "sequence",
                    "attempt",
                    "step",
                    "statement",
                    "body",
                    "signature",
                    "digest",
                    "at",
                ];
                let row = values![
                    read.statement.transfer,
                    read.statement.origin.clone(),
                    read.statement.sequence,
                    read.statement.attempt,
                    read.statement.step.name(),
                    signed.statement.clone(),
                    signed.body.clone(),
                    signed.signature,
                    read.digest,
                    read.statement.at,
                ];
                tx.insert_many("statement", &columns, vec![row], OnConflict::Fail).await?;
                let facts = AuditFacts::ok().event(read.statement.step.event());
                tx.audit(facts.statement(read.statement.reference()))
            })
        });
        written.await.expect("stated");
        next
    }

    pub async fn bundle(&self, about: Option<TransferId>) -> Vec<u8> {
        let scope = self.scope(EventType::AuditExport, None);
        let mut pieces = self.app.export(&scope, about).await.expect("exports");
        assert!(scope.is_recorded(), "the export is recorded before its first byte");
        let mut bundle = Vec::new();
        while let Some(piece) = pieces.next().await {
            bundle.extend_from_slice(&piece.expect("a piece"));
        }
        bundle
    }

    pub async fn verified(&self, about: Option<TransferId>) -> VerifiedBundle {
        let bundle = self.bundle(about).await;
        let now = Some(self.store.ctx().now());
        let demands = Demands { policy: Some(&self.policy), now, ..Demands::default() };
        let mut verifier = Verifier::new(demands);
        verifier.push(&bundle);
        verifier.finish()
    }
}

pub fn region(name: &str) -> RegionId {
    RegionId::new(name).expect("a region's name")
}

/// Asks until the answer is yes.
pub async fn until<F, Fut>(mut yes: F)
where
    F: FnMut() -> Fut,
    Fut: Future<Output = bool>,
{
    let asking = async {
        while !yes().await {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), asking).await.expect("in time");
}
