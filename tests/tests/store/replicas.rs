//! Leases, fences, and replicas that drop keys.

use std::sync::Arc;
use std::time::Duration;

use domicile_store::queries::{lease, replica};
use domicile_store::{Backend, Scope, Store, Tx};
use domicile_types::{Code, Result, Timestamp};
use futures::future::BoxFuture;
use tokio::sync::Notify;
use uuid::Uuid;

use crate::Bench;

const JOB: &str = "test.work";
const A: Uuid = Uuid::from_u128(1);
const B: Uuid = Uuid::from_u128(2);
const C: Uuid = Uuid::from_u128(3);
const NEVER: Timestamp = Timestamp::from_micros(0);
const ALWAYS: Timestamp = Timestamp::from_micros(i64::MAX);

crate::on_both!(a_lease_is_one_holders_at_a_time, whoever_takes_a_lease_waits_for_what_is_under_way);

async fn write<T, F>(store: &Store, f: F) -> Result<T>
where
    T: Send + 'static,
    F: for<'c> Fn(&'c Tx) -> BoxFuture<'c, Result<T>> + Send + Sync + 'static,
{
    store.write_unaudited("test.lease", Scope::System, f).await
}

async fn take(store: &Store, holder: Uuid, expired: Timestamp) -> Option<u64> {
    let until = store.ctx().now().plus(Duration::from_secs(60));
    let taken = write(store, move |tx| Box::pin(lease::take(tx, JOB, holder, until, expired)));
    taken.await.unwrap()
}

async fn a_lease_is_one_holders_at_a_time(bench: Bench) {
    let store = &bench.store;
    let share =
        async |holder, token| write(store, move |tx| Box::pin(lease::share(tx, JOB, holder, token))).await;
    let renew = async |holder, token| {
        write(store, move |tx| Box::pin(lease::renew(tx, JOB, holder, token, ALWAYS))).await.unwrap()
    };
    let now = store.ctx().now();
    assert_eq!(take(store, A, NEVER).await, Some(1));
    assert_eq!(take(store, B, now).await, None);
    assert!(renew(A, 1).await && !renew(B, 1).await);
    share(A, 1).await.unwrap();
    // Another takes it once it is over: the first one's changes are refused from then on.
    assert_eq!(take(store, B, ALWAYS).await, None, "renewed for ever");
    write(store, |tx| Box::pin(lease::end(tx, JOB, A))).await.unwrap();
    assert_eq!(take(store, B, now).await, Some(2));
    assert_eq!(share(A, 1).await.unwrap_err().code(), Code::TokenStale);
    assert!(!renew(A, 1).await);
    share(B, 2).await.unwrap();
    // Once forgotten its tokens begin anew; a holder of before is none of them.
    write(store, |tx| Box::pin(lease::forget(tx, JOB, B))).await.unwrap();
    assert_eq!(take(store, C, NEVER).await, Some(1));
    assert_eq!(share(A, 1).await.unwrap_err().code(), Code::TokenStale);
    assert!(!renew(A, 1).await);
    share(C, 1).await.unwrap();
}

async fn whoever_takes_a_lease_waits_for_what_is_under_way(bench: Bench) {
    let store = bench.store.clone();
    assert_eq!(take(&store, A, NEVER).await, Some(1));
    let [shared, go] = [(); 2].map(|()| Arc::new(Notify::new()));
    let (told, wait) = (Arc::clone(&shared), Arc::clone(&go));
    let under = tokio::spawn({
        let store = store.clone();
        async move {
            let change = write(&store, move |tx| {
                let (told, wait) = (Arc::clone(&told), Arc::clone(&wait));
                Box::pin(async move {
                    lease::share(tx, JOB, A, 1).await?;
                    told.notify_one();
                    wait.notified().await;
                    Ok(())
                })
            });
            change.await
        }
    });
    shared.notified().await;
    let mut taking = Box::pin(take(&store, B, ALWAYS));
    let early = tokio::time::timeout(Duration::from_millis(300), taking.as_mut()).await;
    assert!(early.is_err(), "the lease was taken in the middle of a change");
    go.notify_one();
    under.await.unwrap().unwrap();
    assert_eq!(taking.await, Some(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_replica_that_may_hold_keys_is_waited_for() {
    const HOLD: Duration = Duration::from_secs(3_600);
    let bench = Bench::new(Backend::Postgres).await;
    let store = &bench.store;
    let (asking, about) = (Uuid::from_u128(7), Uuid::from_u128(8));
    let open =
        async |hold| write(store, move |tx| Box::pin(replica::drop_open(tx, asking, hold))).await.unwrap();
    let ask = async || {
        write(store, move |tx| Box::pin(async move { replica::drop_ask(tx, asking, A, &[about]).await }))
            .await
    };
    for one in [A, B, C] {
        write(store, move |tx| Box::pin(replica::join(tx, one))).await.unwrap();
    }
    ask().await.unwrap();
    assert_eq!(open(HOLD).await, 2);
    // One drops them, one leaves.
    let asked = write(store, |tx| Box::pin(replica::drop_list(tx, B))).await.unwrap();
    assert_eq!(asked, [(asking, about)]);
    write(store, move |tx| Box::pin(async move { replica::drop_done(tx, B, &[(asking, about)]).await }))
        .await
        .unwrap();
    assert_eq!(open(HOLD).await, 1);
    write(store, |tx| Box::pin(replica::leave(tx, C))).await.unwrap();
    assert_eq!(open(HOLD).await, 0);
    // One that is not heard of no longer counts, and is forgotten in the end.
    ask().await.unwrap();
    assert_eq!((open(HOLD).await, open(Duration::ZERO).await), (1, 0));
    assert_eq!(bench.count(Scope::System, "key_drop").await, 0, "nothing of it is kept");
    ask().await.unwrap();
    assert_eq!(open(HOLD).await, 1);
    assert!(write(store, |tx| Box::pin(replica::beat(tx, A, HOLD, Duration::ZERO))).await.unwrap());
    assert_eq!(open(HOLD).await, 0);
    assert!(!write(store, |tx| Box::pin(replica::beat(tx, B, HOLD, HOLD))).await.unwrap());
}
