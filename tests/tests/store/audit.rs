//! The audit log's writers: with the change or not at all, and durable before a read's answer (P37, P38).

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use domicile_evidence::entry::{Entry, Outcome};
use domicile_evidence::event::EventType;
use domicile_evidence::writers::Writers;
use domicile_store::{AuditFacts, Backend, Pseudonyms, Scope, Store};
use domicile_tests::postgres::Database;
use domicile_tests::stores::request;
use domicile_types::ctx::FaultPlan;
use domicile_types::{
    AccountId, Actor, AuditScope, Code, Ctx, Error, Faults, RequestId, Result, Role, SubjectId,
};

use crate::{Bench, outbox, revise, revision};

crate::on_both!(
    an_entry_commits_with_its_change,
    a_record_found_inside_is_named_without_asking_inside,
    reads_gather_into_few_flushes,
    a_read_nobody_waits_for_is_recorded,
    nothing_happens_when_the_log_cannot_be_written,
    what_is_written_stays,
    an_unaudited_change_cannot_audit,
);

async fn an_entry_commits_with_its_change(bench: Bench) {
    let subject = bench.subject();
    bench.make_residency(subject).await;
    let actor = Actor { account: Some(AccountId::generate(&bench.ctx)), ..Actor::of(Role::Practitioner) };
    let audit = AuditScope::new("record.item.write", actor.clone(), RequestId::generate(&bench.ctx));
    audit.concerns(subject);
    let refused: Result<()> = bench
        .store
        .write("test.refused", Scope::Subject(subject), &audit, move |tx| {
            Box::pin(async move {
                tx.audit(AuditFacts::ok())?;
                revise(tx, subject).await?;
                Err(Error::new(Code::VersionConflict))
            })
        })
        .await;
    refused.unwrap_err();
    assert!(!audit.is_recorded());
    assert!(bench.outbox().await.is_empty());
    let seen = Arc::clone(&audit);
    let done = bench.store.write("test.done", Scope::Subject(subject), &audit, move |tx| {
        let seen = Arc::clone(&seen);
        Box::pin(async move {
            tx.audit(AuditFacts::ok().resource("note"))?;
            assert!(!seen.is_recorded(), "recorded means committed");
            revise(tx, subject).await
        })
    });
    assert_eq!(done.await.unwrap(), 1);
    assert!(audit.is_recorded());
    let entries = bench.outbox().await;
    let [entry] = entries.as_slice() else { panic!("one entry") };
    assert_eq!(entry.event, EventType::RecordItemWrite);
    assert_eq!(entry.writer_sequence, 1);
    assert_eq!(entry.subject, Some(*subject.as_bytes()));
    assert_eq!(entry.actor, actor.account.map(|account| *account.as_bytes()));
    assert_eq!(entry.resource.as_deref(), Some("note"));
    assert_eq!(
        (&entry.outcome, entry.role, entry.request),
        (&Outcome::Ok, Role::Practitioner, Some(audit.request))
    );
}

/// Notices whether it is asked while a transaction is open.
#[derive(Default)]
struct Watching {
    inside: AtomicBool,
    asked: AtomicU32,
}

#[async_trait]
impl Pseudonyms for Watching {
    async fn subject(&self, subject: SubjectId) -> Result<[u8; 16]> {
        assert!(!self.inside.load(Ordering::SeqCst), "a key service is not asked inside a transaction");
        self.asked.fetch_add(1, Ordering::SeqCst);
        Ok(*subject.as_bytes())
    }
    async fn actor(&self, account: AccountId) -> Result<[u8; 16]> {
        Ok(*account.as_bytes())
    }
}

/// The transaction ends, the pseudonym is asked for, the transaction runs again.
async fn a_record_found_inside_is_named_without_asking_inside(bench: Bench) {
    let watching = Arc::new(Watching::default());
    let store = Store::open(&bench.region.settings, bench.ctx.clone(), watching.clone()).await.unwrap();
    let subject = bench.subject();
    bench.make_residency(subject).await;
    let audit = request("record.item.write");
    let (watch, runs) = (watching.clone(), Arc::new(AtomicU32::new(0)));
    let counted = Arc::clone(&runs);
    // The scope's own record is known beforehand; the one named in the facts is another.
    let other = bench.subject();
    let done = store.write("test.found", Scope::Subject(subject), &audit, move |tx| {
        let (watch, counted) = (watch.clone(), Arc::clone(&counted));
        Box::pin(async move {
            watch.inside.store(true, Ordering::SeqCst);
            counted.fetch_add(1, Ordering::SeqCst);
            let after = revise(tx, subject).await;
            tx.audit(AuditFacts::ok().subject(other))?;
            watch.inside.store(false, Ordering::SeqCst);
            after
        })
    });
    assert_eq!(done.await.unwrap(), 1);
    assert_eq!((runs.load(Ordering::SeqCst), watching.asked.load(Ordering::SeqCst)), (2, 2));
    assert_eq!(bench.outbox().await[0].subject, Some(*other.as_bytes()));
    assert_eq!(revision(&store, subject).await, 1);
}

async fn reads_gather_into_few_flushes(bench: Bench) {
    const READS: usize = 400;
    let scopes: Vec<_> = (0..READS).map(|_| request("record.item.read")).collect();
    let appends = scopes.iter().map(|scope| bench.store.audit_now(scope, AuditFacts::ok()));
    futures::future::try_join_all(appends).await.unwrap();
    assert!(scopes.iter().all(|scope| scope.is_recorded()));
    let numbers: Vec<u64> = bench.outbox().await.iter().map(|entry| entry.writer_sequence).collect();
    assert_eq!(numbers, (1..=READS as u64).collect::<Vec<_>>(), "no gap, no repeat");
}

async fn a_read_nobody_waits_for_is_recorded(bench: Bench) {
    let scope = request("record.item.read");
    let mut append = Box::pin(bench.store.audit_now(&scope, AuditFacts::outcome(Err(Code::NotFound))));
    assert!(futures::poll!(&mut append).is_pending());
    drop(append);
    // What comes later is flushed later.
    bench.store.audit_now(&request("record.item.read"), AuditFacts::ok()).await.unwrap();
    assert!(scope.is_recorded());
    assert_eq!(bench.outbox().await[0].outcome, Outcome::Failed(Code::NotFound.into()));
}

async fn nothing_happens_when_the_log_cannot_be_written(bench: Bench) {
    let subject = bench.subject();
    bench.make_residency(subject).await;
    bench.as_owner("ALTER TABLE audit_outbox RENAME TO elsewhere").await;
    let scope = request("record.item.read");
    let failed = bench.store.audit_now(&scope, AuditFacts::ok()).await.unwrap_err();
    assert_eq!(failed.code(), Code::AuditUnavailable);
    assert!(!scope.is_recorded());
    let change = bench.store.write("test.change", Scope::Subject(subject), &scope, move |tx| {
        Box::pin(async move {
            tx.audit(AuditFacts::ok())?;
            revise(tx, subject).await
        })
    });
    assert_eq!(change.await.unwrap_err().code(), Code::AuditUnavailable);
    assert!(!scope.is_recorded());
    assert_eq!(revision(&bench.store, subject).await, 0);
    bench.as_owner("ALTER TABLE elsewhere RENAME TO audit_outbox").await;
    // Numbers that were drawn in vain are drawn again: a gap always means that an entry is missing.
    bench.store.audit_now(&scope, AuditFacts::ok()).await.unwrap();
    let entries = bench.outbox().await;
    assert_eq!(entries.len(), 1);
    assert_eq!(entries[0].writer_sequence, 1);
}

/// P38: the service adds and looks; it can neither change nor remove.
async fn what_is_written_stays(bench: Bench) {
    bench.store.audit_now(&request("record.item.read"), AuditFacts::ok()).await.unwrap();
    let fill = "INSERT INTO audit_entry (idx, event_id, entry) SELECT 0, event_id, entry FROM audit_outbox";
    match bench.region.postgres() {
        Some(database) => drop(database.sql("domicile_sequencer", fill).unwrap()),
        None => drop(bench.run(Scope::System, fill).await.unwrap()),
    }
    for sql in [
        "UPDATE audit_outbox SET at = 0",
        "UPDATE audit_entry SET idx = 1",
        "DELETE FROM audit_entry",
        "DELETE FROM audit_node",
        "DELETE FROM audit_writer",
        "UPDATE audit_writer SET epoch = 9",
    ] {
        let refused = bench.run(Scope::System, sql).await;
        // SQLite refuses row by row, and audit_node has none.
        assert!(refused.is_err() || (sql.contains("audit_node") && refused.unwrap() == 0), "{sql}");
    }
    let Some(database) = bench.region.postgres() else { return };
    for sql in [
        "DELETE FROM audit_outbox",
        "TRUNCATE audit_outbox",
        "INSERT INTO audit_entry (idx, event_id, entry) VALUES (1, gen_random_uuid(), '')",
        "INSERT INTO audit_node VALUES (0, 0, '')",
        "INSERT INTO audit_checkpoint VALUES (1, '', '', 0)",
        "ALTER TABLE audit_entry DISABLE TRIGGER ALL",
        "DELETE FROM statement",
        "UPDATE consent_event SET at = 0",
    ] {
        let said = database.sql("domicile_app", sql).unwrap_err().to_string();
        assert!(said.contains("permission denied") || said.contains("must be owner"), "{sql}: {said}");
    }
    for sql in [
        "DELETE FROM audit_entry",
        "UPDATE audit_outbox SET at = 0",
        "SELECT * FROM item",
        "SELECT * FROM account",
    ] {
        let said = database.sql("domicile_sequencer", sql).unwrap_err().to_string();
        assert!(said.contains("permission denied"), "{sql}: {said}");
    }
    database.sql("domicile_sequencer", "DELETE FROM audit_outbox").unwrap();
}

async fn an_unaudited_change_cannot_audit(bench: Bench) {
    let work = bench.store.write_unaudited("test.unaudited", Scope::System, |tx| {
        Box::pin(async move { tx.audit(AuditFacts::ok()) })
    });
    assert_eq!(work.await.unwrap_err().code(), Code::Internal);
}

/// Dies between an entry's insert and its commit, as often as it is told.
#[derive(Default)]
struct Dies(AtomicU32);

impl FaultPlan for Dies {
    fn reached(&self, point: &'static str) {
        if point == "store.commit.before_effect" {
            let armed = self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
            assert!(armed.is_err(), "on purpose");
        }
    }
}

async fn dying(backend: Backend) -> (Bench, Arc<Dies>) {
    let dies = Arc::new(Dies::default());
    let ctx = Ctx { faults: Faults::with(dies.clone()), ..Ctx::system() };
    (Bench::with(backend, ctx).await, dies)
}

async fn change(bench: &Bench, subject: SubjectId) -> bool {
    let audit = request("record.item.write");
    let change = bench.store.write("test.change", Scope::Subject(subject), &audit, move |tx| {
        Box::pin(async move {
            tx.audit(AuditFacts::ok())?;
            tx.audit(AuditFacts::ok().event(EventType::TransferStep))?;
            revise(tx, subject).await
        })
    });
    let done = change.await.is_ok();
    assert_eq!(audit.is_recorded(), done);
    done
}

fn gaps(entries: &[Entry]) -> usize {
    let mut writers = Writers::default();
    for entry in entries {
        let fresh = writers.note(entry.writer, entry.writer_epoch, entry.writer_sequence, entry.written_at);
        assert!(fresh, "a number stands twice");
    }
    writers.gaps().len()
}

/// A writer that dies before its commit leaves void entries under its numbers.
async fn a_lost_number_becomes_a_void_entry(backend: Backend) {
    let (bench, dies) = dying(backend).await;
    let subject = bench.subject();
    bench.make_residency(subject).await;
    dies.0.store(1, Ordering::SeqCst);
    assert!(!change(&bench, subject).await);
    assert!(change(&bench, subject).await);
    let deadline = tokio::time::timeout(Duration::from_secs(30), async {
        while bench.outbox().await.len() < 4 {
            tokio::task::yield_now().await;
        }
    });
    deadline.await.unwrap();
    let entries = bench.outbox().await;
    assert_eq!(entries.iter().filter(|entry| entry.event == EventType::AuditVoid).count(), 2);
    assert_eq!(gaps(&entries), 0);
    assert_eq!(revision(&bench.store, subject).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_number_becomes_a_void_entry_on_postgres() {
    a_lost_number_becomes_a_void_entry(Backend::Postgres).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_number_becomes_a_void_entry_on_sqlite() {
    a_lost_number_becomes_a_void_entry(Backend::Sqlite).await;
}

/// Whenever one looks, and so whenever the process dies: no writer's numbers have a gap.
async fn no_moment_has_a_gap(backend: Backend) {
    let (bench, dies) = dying(backend).await;
    let subjects: Vec<SubjectId> = (0..8).map(|_| bench.subject()).collect();
    for subject in &subjects {
        bench.make_residency(*subject).await;
    }
    let looker = bench.region.store(&Ctx::system()).await.unwrap();
    let bench = Arc::new(bench);
    let mut looks = 0;
    // On a fast database a round may be over before there were three looks: then another.
    for _ in 0..50 {
        let changes = (0..160_usize).map(|n| {
            let (bench, subject) = (Arc::clone(&bench), subjects[n % subjects.len()]);
            tokio::spawn(async move {
                if n % 5 == 0 {
                    bench.store.audit_now(&request("record.item.read"), AuditFacts::ok()).await.is_ok()
                } else {
                    change(&bench, subject).await
                }
            })
        });
        let changes: Vec<_> = changes.collect();
        while changes.iter().any(|change| !change.is_finished()) {
            dies.0.store(looks % 2, Ordering::SeqCst);
            assert_eq!(gaps(&outbox(&looker).await), 0);
            looks += 1;
        }
        if looks > 2 {
            break;
        }
    }
    assert!(looks > 2);
    assert_eq!(gaps(&outbox(&looker).await), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_moment_has_a_gap_on_postgres() {
    no_moment_has_a_gap(Backend::Postgres).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_moment_has_a_gap_on_sqlite() {
    no_moment_has_a_gap(Backend::Sqlite).await;
}

/// Cuts the service's connections just before a commit.
struct Cuts {
    database: OnceLock<Database>,
    armed: AtomicBool,
}

impl FaultPlan for Cuts {
    fn reached(&self, point: &'static str) {
        if point == "store.commit.before_effect" && self.armed.swap(false, Ordering::SeqCst) {
            let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                       WHERE datname = current_database() AND usename = 'domicile_app'";
            self.database.get().unwrap().admin(cut).unwrap();
        }
    }
}

/// A commit without an answer may have happened: it is not run again, and its numbers become void under
/// the same event ids, so that the log holds each of them once whichever way it went.
#[tokio::test(flavor = "multi_thread")]
async fn an_unanswered_commit_is_not_run_again() {
    let cuts = Arc::new(Cuts { database: OnceLock::new(), armed: AtomicBool::new(false) });
    let ctx = Ctx { faults: Faults::with(cuts.clone()), ..Ctx::system() };
    let bench = Bench::with(Backend::Postgres, ctx).await;
    drop(cuts.database.set(bench.region.postgres().unwrap().handle()));
    let subject = bench.subject();
    bench.make_residency(subject).await;
    let (audit, runs) = (request("record.item.write"), Arc::new(AtomicU32::new(0)));
    let counted = Arc::clone(&runs);
    cuts.armed.store(true, Ordering::SeqCst);
    let lost = bench.store.write("test.unanswered", Scope::Subject(subject), &audit, move |tx| {
        let counted = Arc::clone(&counted);
        Box::pin(async move {
            counted.fetch_add(1, Ordering::SeqCst);
            tx.audit(AuditFacts::ok())?;
            revise(tx, subject).await
        })
    });
    assert_eq!(lost.await.unwrap_err().code(), Code::AnswerLost);
    assert_eq!((runs.load(Ordering::SeqCst), audit.is_recorded()), (1, false));
    bench.store.audit_now(&request("record.item.read"), AuditFacts::ok()).await.unwrap();
    let deadline = tokio::time::timeout(Duration::from_secs(30), async {
        while bench.outbox().await.len() < 2 {
            tokio::task::yield_now().await;
        }
    });
    deadline.await.unwrap();
    let entries = bench.outbox().await;
    assert_eq!(entries.iter().filter(|entry| entry.event == EventType::AuditVoid).count(), 1);
    assert_eq!(gaps(&entries), 0);
    assert_eq!(revision(&bench.store, subject).await, 0);
}
