//! Buckets with versions, with locks, with others' things in them.

use std::time::Duration;

use domicile_objects::s3::{Lock, LockMode};
use domicile_objects::{ObjectPrefix, ObjectStore as _, S3};
use domicile_tests::aws::{ACCESS_KEY, Kind};
use domicile_tests::clock::TestClock;
use domicile_types::Code;
use futures::StreamExt as _;
use futures::stream;
use hyper::Method;

use super::multipart::MIB;
use super::proxy::{Proxy, Seen};
use super::{Cloud, content, name, objects, open_bucket, pieces, read};

const DAY: Duration = Duration::from_secs(86_400);

/// A shred leaves no version: neither under the name nor behind a mark of a deletion, and what has a version
/// is listed, so that the scan after an erasure finds it.
async fn deleting_leaves_no_version(kind: Kind) {
    let cloud = Cloud::new(kind);
    let bucket = cloud.bucket_with_versions().await;
    let store = cloud.store(&bucket).await;
    let (one, other) = (name("a/one"), name("a/one-more"));
    for name in [&one, &other] {
        store.create(name, pieces(&content(10), 10)).await.unwrap();
    }
    let key = "objects-of/this-region/a/one";
    // Somebody with another tool wrote over it twice and deleted it the careless way.
    for _ in 0..2 {
        cloud.s3.put_object().bucket(&bucket).key(key).body(content(3).into()).send().await.unwrap();
    }
    cloud.s3.delete_object().bucket(&bucket).key(key).send().await.unwrap();
    assert_eq!(cloud.versions(&bucket).await, 5);
    assert_eq!(store.length(&one).await.unwrap_err().code(), Code::ObjectMissing);
    assert_eq!(store.list(&ObjectPrefix::new("a").unwrap()).await.unwrap(), [one.clone(), other.clone()]);
    store.delete(&one).await.unwrap();
    assert_eq!(cloud.versions(&bucket).await, 1);
    assert_eq!(store.list(&ObjectPrefix::all()).await.unwrap(), std::slice::from_ref(&other));
    assert!(read(&store, &other).await.unwrap() == content(10));
}

#[tokio::test]
async fn deleting_leaves_no_version_on_moto() {
    deleting_leaves_no_version(Kind::Moto).await;
}

#[tokio::test]
async fn deleting_leaves_no_version_on_ministack() {
    deleting_leaves_no_version(Kind::MiniStack).await;
}

/// Ready for what must stay: an object that is locked at its creation stays until its time.
#[tokio::test]
async fn a_locked_object_stays() {
    let cloud = Cloud::new(Kind::Moto);
    let bucket = cloud.bucket_with_lock().await;
    let store = cloud.store(&bucket).await;
    let modes = [(LockMode::Compliance, "COMPLIANCE"), (LockMode::Governance, "GOVERNANCE")];
    for (at, (mode, word)) in modes.into_iter().enumerate() {
        let locked = store.clone().locked(Lock { mode, retention: DAY });
        let name = name(&format!("tile/{at}"));
        locked.create(&name, pieces(&content(10), 10)).await.unwrap();
        let error = locked.delete(&name).await.unwrap_err();
        assert_eq!((error.code(), error.place()), (Code::ObjectStoreDenied, Some("bucket policy or lock")));
        assert!(read(&store, &name).await.unwrap() == content(10));
        let key = format!("objects-of/this-region/{name}");
        let kept = cloud.s3.head_object().bucket(&bucket).key(key).send().await.unwrap();
        let until = kept.object_lock_retain_until_date.unwrap().secs();
        let now = cloud.ctx.now().seconds();
        assert!((now + 86_000..=now + 86_400).contains(&until));
        assert_eq!(kept.object_lock_mode.unwrap().as_str(), word);
    }
    // What is not locked can be erased, in the same bucket.
    store.create(&name("record"), pieces(&content(3), 3)).await.unwrap();
    store.delete(&name("record")).await.unwrap();
}

/// Neither server locks what goes up in parts, so the request is looked at: it asks for the lock at its
/// beginning, as S3 wants it.
#[tokio::test]
async fn what_goes_up_in_parts_asks_for_its_lock() {
    let cloud = Cloud::new(Kind::Moto);
    let bucket = cloud.bucket_with_lock().await;
    let proxy = Proxy::new(cloud.server.port()).await;
    let lock = Lock { mode: LockMode::Compliance, retention: DAY };
    let store = open_bucket(&objects(&bucket, &proxy.endpoint())).await.unwrap().locked(lock);
    store.create(&name("tile"), pieces(&content(6 * MIB), MIB)).await.unwrap();
    let begins = |seen: &Seen| seen.is(&Method::POST, "?uploads");
    let asks = |seen: &Seen| {
        seen.lock.as_ref().is_some_and(|(mode, until)| mode == "COMPLIANCE" && until.len() > 18)
    };
    assert_eq!((proxy.count(begins), proxy.count(|seen| begins(seen) && asks(seen))), (1, 1));
}

/// What is erased by the record's law may not lie where nothing can be erased.
#[tokio::test]
async fn a_bucket_that_locks_by_default_is_refused() {
    use aws_sdk_s3::types::{
        DefaultRetention, ObjectLockConfiguration, ObjectLockEnabled, ObjectLockRetentionMode, ObjectLockRule,
    };
    let cloud = Cloud::new(Kind::Moto);
    let bucket = cloud.bucket_with_lock().await;
    let retention = DefaultRetention::builder().mode(ObjectLockRetentionMode::Governance).days(30).build();
    let rule = ObjectLockRule::builder().default_retention(retention).build();
    let lock = ObjectLockConfiguration::builder().object_lock_enabled(ObjectLockEnabled::Enabled).rule(rule);
    let set =
        cloud.s3.put_object_lock_configuration().bucket(&bucket).object_lock_configuration(lock.build());
    set.send().await.unwrap();
    let error = open_bucket(&objects(&bucket, &cloud.server.endpoint())).await.unwrap_err();
    let found = (error.code(), error.place());
    assert_eq!(found, (Code::ObjectStoreDenied, Some("default retention of the bucket")));
}

#[tokio::test]
async fn a_bucket_that_is_not_there_is_named() {
    for kind in [Kind::Moto, Kind::MiniStack] {
        let cloud = Cloud::new(kind);
        let error = open_bucket(&objects("nobody-made-this", &cloud.server.endpoint())).await.unwrap_err();
        assert_eq!((error.code(), error.place()), (Code::ObjectStoreDenied, Some("bucket")));
    }
}

/// A bucket may hold other things, also under names that are none here.
#[tokio::test]
async fn others_things_are_not_seen_and_not_touched() {
    let cloud = Cloud::new(Kind::Moto);
    let bucket = cloud.bucket().await;
    let store = cloud.store(&bucket).await;
    let mut bare = objects(&bucket, &cloud.server.endpoint());
    bare.prefix = None;
    let bare = open_bucket(&bare).await.unwrap();
    store.create(&name("mine"), pieces(&content(3), 3)).await.unwrap();
    for key in ["objects-of/this-region/NOT A NAME", "objects-of/this-regions/other", "other"] {
        cloud.s3.put_object().bucket(&bucket).key(key).body(content(3).into()).send().await.unwrap();
    }
    assert_eq!(store.list(&ObjectPrefix::all()).await.unwrap(), [name("mine")]);
    let all = bare.list(&ObjectPrefix::all()).await.unwrap();
    assert_eq!(all, ["objects-of/this-region/mine", "objects-of/this-regions/other", "other"].map(name));
    store.delete(&name("mine")).await.unwrap();
    store.delete(&name("other")).await.unwrap();
    assert_eq!(cloud.versions(&bucket).await, 3);
}

/// More names than one answer holds.
#[tokio::test]
async fn a_long_list_is_whole() {
    let cloud = Cloud::new(Kind::Moto);
    let bucket = cloud.bucket().await;
    let store = cloud.store(&bucket).await;
    let names: Vec<_> = (0..1_005).map(|at| name(&format!("many/{at:04}"))).collect();
    let put = |name| {
        let request = cloud.s3.put_object().bucket(&bucket).key(format!("objects-of/this-region/{name}"));
        async move { request.body(content(1).into()).send().await.map(drop) }
    };
    let put: Vec<_> = stream::iter(&names).map(put).buffer_unordered(16).collect().await;
    assert!(put.iter().all(Result::is_ok));
    assert_eq!(store.list(&ObjectPrefix::all()).await.unwrap(), names);
    store.delete(&names[1_003]).await.unwrap();
    assert_eq!(store.list(&ObjectPrefix::new("many").unwrap()).await.unwrap().len(), 1_004);
}

/// A start removes the parts that a crash left a day ago, and leaves alone what runs now, or is another's.
/// (moto says of every upload that it was begun in 2010.)
#[tokio::test]
async fn a_start_removes_what_a_crash_left() {
    let cloud = Cloud::new(Kind::MiniStack);
    let bucket = cloud.bucket().await;
    for key in ["objects-of/this-region/crashed", "elsewhere/crashed"] {
        cloud.s3.create_multipart_upload().bucket(&bucket).key(key).send().await.unwrap();
    }
    let settings = objects(&bucket, &cloud.server.endpoint());
    let clock = TestClock::new();
    let open = async || S3::open_as(&settings, ACCESS_KEY.0, ACCESS_KEY.1, &clock.ctx()).await.unwrap();
    open().await;
    assert_eq!(cloud.unfinished(&bucket).await, 2);
    clock.advance(cloud.ctx.now().since(clock.ctx().now()) + DAY + DAY);
    open().await;
    assert_eq!(cloud.unfinished(&bucket).await, 1);
}
