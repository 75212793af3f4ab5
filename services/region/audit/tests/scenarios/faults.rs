//! What must not happen, whatever breaks.

use std::time::Duration;

use domicile_audit::{Head, Pace, SignedHead as _};
use domicile_types::Code;

use super::site::{Site, quick};

/// A sequencer whose waiters lose patience soon.
fn impatient() -> Pace {
    Pace { patience: Duration::from_millis(400), ..quick() }
}

async fn refuses_to_sign(site: &Site<'_>) {
    let mut process = site.open(impatient()).await;
    process.run();
    process.reads(1).await;
    let refused = process.app.checkpoint().await.expect_err("is not signed");
    assert_eq!(refused.code(), Code::AuditUnavailable);
    process.stop().await;
}

async fn ten(site: &Site<'_>) -> Head {
    let process = site.start().await;
    process.reads(10).await;
    process.app.checkpoint().await.expect("signed");
    process.stop().await;
    site.head().load().await.expect("a file").expect("a head")
}

/// A region on this database does not start.
async fn does_not_go_on(site: &Site<'_>) {
    let process = site.open(impatient()).await;
    let refused = process.sequencer.goes_on().await.expect_err("does not go on");
    assert_eq!(refused.code(), Code::DatabaseSetBack);
    process.stop().await;
}

pub async fn a_log_that_was_set_back_is_not_signed(site: Site<'_>) {
    let head = ten(&site).await;
    // The file is from a later time than the database.
    site.head().swap(Some(head), Head { size: head.size + 5, root: [9; 32] }).await.expect("swapped");
    does_not_go_on(&site).await;
    refuses_to_sign(&site).await;
}

pub async fn a_log_that_was_rewritten_is_not_signed(site: Site<'_>) {
    let head = ten(&site).await;
    site.head().swap(Some(head), Head { size: head.size, root: [9; 32] }).await.expect("swapped");
    does_not_go_on(&site).await;
    refuses_to_sign(&site).await;
    site.head().swap(Some(Head { size: head.size, root: [9; 32] }), head).await.expect("swapped back");
    let process = site.start().await;
    process.sequencer.goes_on().await.expect("as it was");
    process.app.checkpoint().await.expect("goes on where it was");
    assert_eq!(process.verified(None).await.report.findings, []);
    process.stop().await;
}

pub async fn a_log_without_its_signed_head_is_not_signed(site: Site<'_>) {
    ten(&site).await;
    std::fs::remove_file(site.folder.join("log.head")).expect("removed");
    does_not_go_on(&site).await;
    refuses_to_sign(&site).await;
}

pub async fn an_entry_of_another_log_stops_the_sequencer(site: Site<'_>) {
    let process = site.open(impatient()).await;
    let mut foreign = process.foreign(5, 1, process.store.ctx().now());
    foreign.origin = "other.example/log".into();
    process.deliver(vec![foreign]).await;
    refuses_to_sign(&site).await;
}

pub async fn a_crash_at_every_point_loses_and_doubles_nothing(site: Site<'_>) {
    let mut entries = 0;
    for point in ["sequencer.drained.after_effect", "sequencer.signed.before_effect"] {
        for nth in 1..=2 {
            let mut dying = site.dying(point, nth).open(quick()).await;
            dying.run();
            while !dying.is_dead() {
                dying.reads(1).await;
                entries += 1;
            }
            dying.died().await;

            let process = site.start().await;
            let checkpoint = process.app.checkpoint().await.expect("the next one goes on");
            assert_eq!(checkpoint.size, entries, "{point} {nth}");
            let report = process.verified(None).await.report;
            entries += 1;
            assert_eq!((report.findings.as_slice(), report.entries), (&[][..], entries), "{point} {nth}");
            process.stop().await;
        }
    }
}
