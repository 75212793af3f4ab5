//! What the observer reads, on both databases.

use std::time::Duration;

use domicile_store::{AuditFacts, Backend, Scope, Store, values};
use domicile_tests::stores::{Region, request};
use domicile_types::{Ctx, Result, Timestamp, TransferId};

#[tokio::test]
async fn transfers_lag_and_pools_are_read_on_sqlite() {
    observed(Backend::Sqlite).await;
}

#[tokio::test]
async fn transfers_lag_and_pools_are_read_on_postgres() {
    observed(Backend::Postgres).await;
}

async fn observed(backend: Backend) {
    let region = Region::fresh("eu", backend).await.unwrap();
    let store = region.store(&Ctx::system()).await.unwrap();
    let now = store.ctx().now();
    let patience = Duration::from_secs(300);
    assert!(store.transfers_by_state(patience).await.unwrap().is_empty());
    let lag = store.audit_lag().await.unwrap();
    assert!(lag.waiting == 0 && lag.oldest.is_none() && lag.signed.is_none());

    let ago = |minutes: u64| now.minus(Duration::from_secs(60 * minutes));
    for (state, changed) in [("released", ago(10)), ("released", ago(1)), ("copying", ago(20))] {
        insert(&store, state, changed).await.unwrap();
    }
    let mut found = store.transfers_by_state(patience).await.unwrap();
    found.sort_by(|one, two| one.state.cmp(&two.state));
    let seen: Vec<_> =
        found.iter().map(|group| (group.state.as_str(), group.count, group.stuck, group.oldest)).collect();
    assert_eq!(seen, [("copying", 1, 0, ago(20)), ("released", 2, 1, ago(10))]);
    assert!(found.iter().all(|group| group.side == "destination"));

    store.audit_now(&request("system.start"), AuditFacts::ok().nobody()).await.unwrap();
    let lag = store.audit_lag().await.unwrap();
    assert_eq!(lag.waiting, 1);
    assert!(lag.oldest.is_some_and(|oldest| oldest >= now));

    let pools = store.pools();
    let writer = pools.iter().find(|pool| pool.name == "writer").unwrap();
    assert!(writer.used + writer.idle >= 1 && writer.used + writer.idle <= writer.most);
    assert_eq!(pools.iter().any(|pool| pool.name == "sequencer"), backend == Backend::Postgres);
    assert!(store.backed_up(None).await.unwrap().is_none(), "nothing has been archived or copied");
    store.close().await.unwrap();
}

#[tokio::test]
async fn the_newest_copy_counts() {
    let region = Region::fresh("eu", Backend::Sqlite).await.unwrap();
    let store = region.store(&Ctx::system()).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    for name in [
        "eu-00000000000000000005.data.sqlite",
        "eu-00000000000000000007.data.sqlite",
        "eu-9.part",
        "ca-9.data.sqlite",
    ] {
        std::fs::write(folder.path().join(name), b"").unwrap();
    }
    let newest = store.backed_up(Some(folder.path())).await.unwrap();
    assert_eq!(newest, Some(Timestamp::from_micros(7)));
    store.close().await.unwrap();
}

async fn insert(store: &Store, state: &'static str, changed: Timestamp) -> Result<()> {
    let id = TransferId::generate(store.ctx());
    let written = store.write_unaudited("test_transfer", Scope::Move { subject: None }, move |tx| {
        Box::pin(async move {
            let sql = "INSERT INTO transfer (transfer_id, attempt, role, source, destination, state, open, paused, \
                       freeze_number, token, requested_at, changed_at, detail) \
                       VALUES ($1, 1, 'destination', 'ca', 'eu', $2, TRUE, FALSE, 0, 0, $3, $3, '{}')";
            tx.execute(sql, values![id, state, changed]).await
        })
    });
    written.await.map(drop)
}
