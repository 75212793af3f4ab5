//! Large objects: in parts, one winner, nothing left behind.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use domicile_objects::{ObjectPrefix, ObjectStore as _};
use domicile_tests::aws::Kind;
use domicile_types::{Code, Error};
use futures::StreamExt as _;
use futures::stream;
use hyper::Method;
use tokio::time::Instant;

use super::proxy::{Deed, Notices, Proxy, Seen};
use super::{Cloud, content, name, objects, open_bucket, pieces, read};

/// How long anything may take before a test gives up on it.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) const MIB: usize = 1 << 20;

pub(crate) fn sends_part(seen: &Seen) -> bool {
    seen.is(&Method::PUT, "partNumber=")
}

pub(crate) fn completes(seen: &Seen) -> bool {
    seen.is(&Method::POST, "uploadId=")
}

pub(crate) fn puts(seen: &Seen) -> bool {
    seen.method == Method::PUT && !sends_part(seen)
}

/// Waits until a bucket holds nothing, neither objects nor parts.
async fn empties(cloud: &Cloud, bucket: &str) {
    let until = Instant::now() + PATIENCE;
    while cloud.versions(bucket).await + cloud.unfinished(bucket).await > 0 {
        assert!(Instant::now() < until, "something stays in the bucket");
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
}

async fn a_large_object_goes_up_in_parts(kind: Kind) {
    let cloud = Cloud::new(kind);
    let bucket = cloud.bucket().await;
    let proxy = Proxy::new(cloud.server.port()).await;
    let store = open_bucket(&objects(&bucket, &proxy.endpoint())).await.unwrap();
    for (length, parts) in [(5 * MIB, 0), (5 * MIB + 1, 2), (10 * MIB, 2), (17 * MIB + 3, 4)] {
        let (name, content) = (name("large/one"), content(length));
        proxy.judge(|_| Deed::Pass);
        let created = store.create(&name, pieces(&content, 1_000_003)).await.unwrap();
        assert_eq!((created, proxy.count(sends_part)), (length as u64, parts));
        assert_eq!(store.length(&name).await.unwrap(), length as u64);
        assert!(read(&store, &name).await.unwrap() == content);
        let at = 5 * MIB - 10;
        let range = store.read_range(&name, at as u64, 4_096).await.unwrap();
        assert!(range == content[at..length.min(at + 4_096)]);
        let again = store.create(&name, pieces(&content, MIB)).await.unwrap_err();
        assert_eq!(again.code(), Code::ObjectExists);
        store.delete(&name).await.unwrap();
        assert_eq!((cloud.versions(&bucket).await, cloud.unfinished(&bucket).await), (0, 0));
    }
}

#[tokio::test]
async fn a_large_object_goes_up_in_parts_on_moto() {
    a_large_object_goes_up_in_parts(Kind::Moto).await;
}

#[tokio::test]
async fn a_large_object_goes_up_in_parts_on_ministack() {
    a_large_object_goes_up_in_parts(Kind::MiniStack).await;
}

/// Of uploads at once one wins; the parts of the others go. moto looks and completes in two steps, so that
/// two may win there.
#[tokio::test]
async fn of_large_objects_at_once_one_wins() {
    let cloud = Cloud::new(Kind::MiniStack);
    let bucket = cloud.bucket().await;
    let store = cloud.store(&bucket).await;
    let (name, contents) = (name("race"), [1_u8, 2, 3].map(|racer| Bytes::from(vec![racer; 6 * MIB])));
    let racing = contents.iter().map(|content| store.create(&name, pieces(content, 65_536)));
    let outcomes = futures::future::join_all(racing).await;
    let won: Vec<_> = outcomes.iter().zip(&contents).filter(|(outcome, _)| outcome.is_ok()).collect();
    let [(_, winner)] = won.as_slice() else { panic!("{outcomes:?}") };
    let lost = outcomes.iter().filter_map(|outcome| outcome.as_ref().err());
    assert!(lost.map(Error::code).all(|code| code == Code::ObjectExists));
    assert!(read(&store, &name).await.unwrap() == **winner);
    assert_eq!(cloud.unfinished(&bucket).await, 0);
}

/// An upload reads one part ahead of what it has sent and no more, whatever the object's length.
#[tokio::test]
async fn an_upload_holds_two_parts_at_most() {
    const PIECE: usize = 256 * 1024;
    let cloud = Cloud::new(Kind::Moto);
    let bucket = cloud.bucket().await;
    let proxy = Proxy::new(cloud.server.port()).await;
    let store = open_bucket(&objects(&bucket, &proxy.endpoint())).await.unwrap();
    let (taken, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (seen_taken, seen_most) = (Arc::clone(&taken), Arc::clone(&most));
    let mut begun = 0;
    // A part that begins to go up finds what was read before it.
    proxy.judge(move |seen| {
        if sends_part(seen) {
            let before = begun * 5 * MIB;
            seen_most.fetch_max(seen_taken.load(Ordering::SeqCst).saturating_sub(before), Ordering::SeqCst);
            begun += 1;
            return Deed::Slow(Duration::from_millis(200));
        }
        Deed::Pass
    });
    let piece = Bytes::from(vec![7; PIECE]);
    let content = stream::iter(0..120).map(|_| {
        taken.fetch_add(PIECE, Ordering::SeqCst);
        Ok(piece.clone())
    });
    assert_eq!(store.create(&name("long"), content.boxed()).await.unwrap(), 120 * PIECE as u64);
    let most = most.load(Ordering::SeqCst);
    assert!(most <= 2 * 5 * MIB + 2 * PIECE, "{most} bytes read ahead");
    assert_eq!(proxy.count(sends_part), 6);
}

#[tokio::test]
async fn a_stream_that_breaks_off_leaves_no_part() {
    let cloud = Cloud::new(Kind::Moto);
    let bucket = cloud.bucket().await;
    let store = cloud.store(&bucket).await;
    for sent in [MIB, 6 * MIB, 11 * MIB] {
        let torn = pieces(&content(sent), MIB).chain(stream::iter([Err(Error::new(Code::ConsentWithdrawn))]));
        let error = store.create(&name("torn"), torn.boxed()).await.unwrap_err();
        assert_eq!(error.code(), Code::ConsentWithdrawn);
        assert_eq!((cloud.versions(&bucket).await, cloud.unfinished(&bucket).await), (0, 0));
    }
    assert_eq!(store.list(&ObjectPrefix::all()).await.unwrap(), []);
    store.create(&name("torn"), pieces(&content(10), 3)).await.unwrap();
}

/// A caller that goes away, at whatever request, leaves neither an object nor a part.
#[tokio::test]
async fn a_caller_that_goes_away_leaves_nothing() {
    let cloud = Cloud::new(Kind::Moto);
    let bucket = cloud.bucket().await;
    let proxy = Proxy::new(cloud.server.port()).await;
    let store = open_bucket(&objects(&bucket, &proxy.endpoint())).await.unwrap();
    let begins = |seen: &Seen| seen.is(&Method::POST, "?uploads");
    let points: [(usize, Notices); 4] =
        [(MIB, puts), (6 * MIB, begins), (6 * MIB, sends_part), (6 * MIB, completes)];
    for (at, (length, point)) in points.into_iter().enumerate() {
        proxy.first(usize::MAX, Deed::Slow(Duration::from_millis(500)), point);
        let (store, content) = (store.clone(), content(length));
        let caller = tokio::spawn(async move { store.create(&name("gone"), pieces(&content, MIB)).await });
        let until = Instant::now() + PATIENCE;
        while proxy.count(point) == 0 {
            assert!(Instant::now() < until, "point {at} is not reached");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        caller.abort();
        assert!(caller.await.unwrap_err().is_cancelled());
        // The request that was on its way has been answered, and what it made is gone again.
        let settled = |seen: &Seen| seen.method == Method::DELETE || seen.method == Method::HEAD;
        while proxy.count(settled) == 0 {
            assert!(Instant::now() < until, "nobody clears up after point {at}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        empties(&cloud, &bucket).await;
    }
}
