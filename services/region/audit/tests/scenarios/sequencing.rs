//! The sequencer at work.

use std::time::Duration;

use domicile_audit::Pace;
use domicile_evidence::entry::{Entry, LOST_NUMBER};
use domicile_evidence::event::EventType;
use domicile_evidence::statement::{AbortReason, Body, Lane};
use domicile_store::Scope;
use domicile_store::queries::{audit, lease};
use domicile_types::{Code, TransferId};
use uuid::Uuid;

use super::site::{Process, Site, quick, region, until};

async fn size(process: &Process) -> u64 {
    process.store.read("test.size", Scope::System, |tx| Box::pin(audit::log_size(tx))).await.expect("a size")
}

async fn entries(process: &Process) -> Vec<Entry> {
    let (rows, _) = process.app.entries(0, 1000, None).await.expect("entries");
    rows.iter().map(|row| Entry::decode(&row.entry).expect("an entry")).collect()
}

pub async fn entries_are_in_the_tree_and_signed_without_being_asked(site: Site<'_>) {
    let process = site.start().await;
    process.reads(40).await;
    let signed = || async {
        let newest = process
            .store
            .read("test.newest", Scope::System, |tx| Box::pin(audit::checkpoint_newest(tx)))
            .await;
        newest.expect("a read").is_some_and(|checkpoint| checkpoint.size == 40)
    };
    until(signed).await;
    let entries = entries(&process).await;
    assert!(entries.iter().all(|entry| entry.sequenced_at.is_some_and(|at| at >= entry.written_at)));
    assert!(entries.is_sorted_by_key(|entry| entry.sequenced_at));
    assert_eq!(process.verified(None).await.report.findings, []);
    process.stop().await;
}

pub async fn a_demanded_checkpoint_does_not_wait_for_its_second(site: Site<'_>) {
    let mut process = site.open(Pace { sign: Duration::from_secs(3600), ..quick() }).await;
    process.run();
    for count in 1..=3 {
        process.reads(1).await;
        let checkpoint = process.app.checkpoint().await.expect("signed at once");
        assert_eq!(checkpoint.size, count);
    }
    let first = entries(&process).await[0].event_id;
    let covered = process.sequencer.checkpoint_covering(first).await.expect("covered");
    assert_eq!((covered.index, covered.size), (0, 3));
    process.stop().await;
}

pub async fn an_event_stands_once_however_often_it_is_delivered(site: Site<'_>) {
    let process = site.start().await;
    let entry = process.foreign(5, 1, process.store.ctx().now());
    process.deliver(vec![entry.clone()]).await;
    process.app.checkpoint().await.expect("in the log");
    process.deliver(vec![entry]).await;
    process.reads(1).await;
    assert_eq!(process.app.checkpoint().await.expect("in the log").size, 2);
    process.stop().await;
}

pub async fn statements_stand_in_the_order_of_their_lanes(site: Site<'_>) {
    // Not running yet: all of it is taken in together.
    let mut process = site.open(quick()).await;
    let transfer = TransferId::generate(process.store.ctx());
    let mut ours = Lane::new(transfer, 1, region("eu"));
    let mut theirs = Lane::new(transfer, 1, region("ca"));
    let now = process.store.ctx().now();
    let mut made = Vec::new();
    for number in 0..6_u64 {
        let (lane, other) = if number % 2 == 0 { (&ours, &theirs) } else { (&theirs, &ours) };
        let body = Body::Aborting { reason: AbortReason::Failed };
        let statement = lane.next(&body, now, other);
        let next = lane.accept(&statement, statement.digest()).expect("follows");
        if number % 2 == 0 {
            ours = next;
        } else {
            theirs = next;
        }
        // Each was written by a clock an hour behind the one before.
        let at = now.minus(Duration::from_secs(3600 * number));
        let mut entry = process.foreign(u128::from(number), 1, at);
        entry.event = EventType::TransferAborting;
        entry.transfer = Some(transfer);
        entry.statement = Some(statement.reference());
        made.push(entry);
        process.deliver(vec![process.foreign(100 + u128::from(number), 1, at)]).await;
    }
    process.deliver(made.iter().rev().cloned().collect()).await;
    process.run();
    process.app.checkpoint().await.expect("in the log");
    let logged = entries(&process).await;
    let order: Vec<_> = logged.iter().filter_map(|entry| entry.statement.clone()).collect();
    let expected: Vec<_> = made.iter().filter_map(|entry| entry.statement.clone()).collect();
    assert!(order == expected, "the lanes decide, not the clocks");
    process.stop().await;
}

pub async fn a_dead_writers_numbers_are_declared_lost(site: Site<'_>) {
    let mut process = site.open(quick()).await;
    let old = process.store.ctx().now().minus(Duration::from_secs(1800));
    process.deliver(vec![process.foreign(5, 1, old), process.foreign(5, 4, old)]).await;
    // A young gap may still be filled.
    let now = process.store.ctx().now();
    process.deliver(vec![process.foreign(6, 1, now), process.foreign(6, 3, now)]).await;
    process.run();
    process.app.checkpoint().await.expect("in the log");
    process.stop().await;

    let process = site.start().await;
    until(|| async { size(&process).await >= 6 }).await;
    let logged = entries(&process).await;
    let lost: Vec<_> = logged
        .iter()
        .filter(|entry| entry.resource.as_deref() == Some(LOST_NUMBER))
        .map(|entry| (entry.event, entry.writer, entry.writer_sequence))
        .collect();
    let dead = Uuid::from_u128(5);
    assert_eq!(lost, [(EventType::AuditVoid, dead, 2), (EventType::AuditVoid, dead, 3)]);
    let report = process.verified(None).await.report;
    assert_eq!(report.findings, []);
    assert!(report.remarks.iter().any(|remark| remark.contains("2 numbers")), "{:?}", report.remarks);
    assert!(report.remarks.iter().any(|remark| remark.contains("in flight")), "{:?}", report.remarks);
    process.stop().await;
}

pub async fn two_sequencers_make_one_log(site: Site<'_>) {
    let (one, two) = (site.start().await, site.start().await);
    for _ in 0..5 {
        futures::future::join(one.reads(10), two.reads(10)).await;
        one.app.checkpoint().await.expect("either signs");
        two.app.checkpoint().await.expect("either signs");
    }
    assert_eq!(size(&one).await, 100);
    // Whichever held the lease is gone without a word; the other takes over.
    one.kill().await;
    two.reads(10).await;
    assert_eq!(two.app.checkpoint().await.expect("takes over").size, 110);
    assert_eq!(two.verified(None).await.report.findings, []);
    two.stop().await;
}

pub async fn a_stale_token_writes_nothing(site: Site<'_>) {
    let process = site.open(quick()).await;
    let now = process.store.ctx().now();
    let (later, past) = (now.plus(Duration::from_secs(60)), now.minus(Duration::from_secs(60)));
    let take = |holder: u128, until, expired| {
        process.store.sequence("test.lease", move |tx| {
            Box::pin(lease::take(tx, "test.job", Uuid::from_u128(holder), until, expired))
        })
    };
    assert_eq!(take(1, later, now).await.expect("asked"), Some(1));
    assert_eq!(take(1, later, now).await.expect("asked"), Some(1), "renewed under the same token");
    assert_eq!(take(2, later, now).await.expect("asked"), None, "held");
    assert_eq!(take(1, past, now).await.expect("asked"), Some(1));
    assert_eq!(take(2, later, now).await.expect("asked"), Some(2), "over");
    let fence =
        |token| process.store.sequence("test.fence", move |tx| Box::pin(lease::fence(tx, "test.job", token)));
    assert_eq!(fence(1).await.expect_err("stale").code(), Code::TokenStale);
    fence(2).await.expect("current");
}

pub async fn the_log_goes_on_after_a_restart(site: Site<'_>) {
    for round in 1..=3_u64 {
        let process = site.start().await;
        process.reads(7).await;
        assert_eq!(process.app.checkpoint().await.expect("signed").size, round * 7);
        process.stop().await;
    }
    let process = site.start().await;
    let report = process.verified(None).await.report;
    assert_eq!((report.findings.as_slice(), report.entries), (&[][..], 22));
    process.stop().await;
}
