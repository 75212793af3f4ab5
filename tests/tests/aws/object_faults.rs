//! What goes wrong between a region and its bucket: a clear code, another try where it may help, and the
//! bucket as it was.

use std::time::Duration;

use domicile_objects::{ObjectPrefix, ObjectStore as _, S3};
use domicile_tests::aws::Kind;
use domicile_types::Code;
use hyper::Method;

use super::multipart::{MIB, completes, puts, sends_part};
use super::proxy::{Deed, Notices, Proxy, Seen};
use super::{Cloud, content, name, objects, open_bucket, pieces, read};

const SLOW_DOWN: Deed = Deed::Answer(503, "<Error><Code>SlowDown</Code><Message>m</Message></Error>");
const INTERNAL: Deed = Deed::Answer(500, "<Error><Code>InternalError</Code><Message>m</Message></Error>");
const DENIED: Deed = Deed::Answer(403, "<Error><Code>AccessDenied</Code><Message>m</Message></Error>");
const CONFLICT: Deed = Deed::Answer(409, "<Error><Code>ConditionalRequestConflict</Code></Error>");
const TAKEN: Deed = Deed::Answer(412, "<Error><Code>PreconditionFailed</Code></Error>");

fn gets(seen: &Seen) -> bool {
    seen.is(&Method::GET, "/objects-of/")
}

fn deletes(seen: &Seen) -> bool {
    seen.is(&Method::DELETE, "versionId")
}

fn lists(seen: &Seen) -> bool {
    seen.is(&Method::GET, "?versions")
}

struct Bench {
    cloud: Cloud,
    bucket: String,
    proxy: Proxy,
    store: S3,
}

impl Bench {
    /// A bucket behind a proxy, with versions: what was made twice would show.
    async fn new() -> Self {
        let cloud = Cloud::new(Kind::Moto);
        let bucket = cloud.bucket_with_versions().await;
        let proxy = Proxy::new(cloud.server.port()).await;
        let mut settings = objects(&bucket, &proxy.endpoint());
        settings.connect = Duration::from_millis(500);
        settings.attempt = Duration::from_millis(1_500);
        let store = open_bucket(&settings).await.unwrap();
        Self { cloud, bucket, proxy, store }
    }

    /// Creates an object of this length with something in the way of the first so many requests that fit;
    /// the outcome, and how many such requests there were.
    async fn create(
        &self,
        length: usize,
        times: usize,
        deed: &Deed,
        fits: Notices,
    ) -> (Result<u64, Code>, usize) {
        self.proxy.first(times, deed.clone(), fits);
        let created = self.store.create(&name("one"), pieces(&content(length), MIB)).await;
        (created.map_err(|error| error.code()), self.proxy.count(fits))
    }

    /// The object is there once, whole, and nothing else; then it is removed.
    async fn holds_one(&self, length: usize) {
        self.proxy.judge(|_| Deed::Pass);
        assert!(read(&self.store, &name("one")).await.unwrap() == content(length));
        let (versions, parts) =
            (self.cloud.versions(&self.bucket).await, self.cloud.unfinished(&self.bucket).await);
        assert_eq!((versions, parts), (1, 0));
        self.store.delete(&name("one")).await.unwrap();
    }

    /// Nothing is there, nothing is listed, no part is left.
    async fn holds_nothing(&self) {
        self.proxy.judge(|_| Deed::Pass);
        assert_eq!(self.store.list(&ObjectPrefix::all()).await.unwrap(), []);
        let (versions, parts) =
            (self.cloud.versions(&self.bucket).await, self.cloud.unfinished(&self.bucket).await);
        assert_eq!((versions, parts), (0, 0));
    }
}

/// The three requests that carry an upload, by the length of an object that needs them.
const STEPS: [(usize, Notices); 3] = [(MIB, puts), (6 * MIB, sends_part), (6 * MIB, completes)];

#[tokio::test]
async fn what_passes_is_sent_again() {
    let bench = Bench::new().await;
    let passing =
        [SLOW_DOWN, INTERNAL, Deed::Slow(Duration::from_secs(2)), Deed::CutRequest(100), Deed::LoseAnswer];
    for (length, step) in STEPS {
        for deed in &passing {
            let (created, tries) = bench.create(length, 1, deed, step).await;
            assert_eq!(created, Ok(length as u64), "{deed:?}");
            assert!(tries >= 2, "{deed:?}");
            bench.holds_one(length).await;
        }
    }
}

/// An upload whose every answer is lost has happened all the same, and is known by its id.
#[tokio::test]
async fn an_upload_whose_answers_are_lost_is_found() {
    let bench = Bench::new().await;
    for (length, step) in [STEPS[0], STEPS[2]] {
        let (created, tries) = bench.create(length, usize::MAX, &Deed::LoseAnswer, step).await;
        assert_eq!((created, tries), (Ok(length as u64), 3));
        bench.holds_one(length).await;
    }
}

#[tokio::test]
async fn what_does_not_pass_is_unavailable_and_leaves_nothing() {
    let bench = Bench::new().await;
    for (length, step) in STEPS {
        for deed in [SLOW_DOWN, INTERNAL, Deed::CutRequest(100_000), Deed::Answer(503, "busy")] {
            let (created, tries) = bench.create(length, usize::MAX, &deed, step).await;
            assert_eq!(created, Err(Code::ObjectStoreUnavailable), "{deed:?}");
            assert!(tries >= 3, "{deed:?}");
            bench.holds_nothing().await;
        }
    }
}

#[tokio::test]
async fn what_is_refused_is_refused_once_and_leaves_nothing() {
    let bench = Bench::new().await;
    for (length, step) in STEPS {
        let (created, tries) = bench.create(length, usize::MAX, &DENIED, step).await;
        // Two parts may be on their way at once.
        assert_eq!((created, tries), (Err(Code::ObjectStoreDenied), 1));
        bench.holds_nothing().await;
    }
}

/// 409 means that another request is changing the name: S3 asks for another try.
#[tokio::test]
async fn a_conflict_is_settled_by_looking() {
    let bench = Bench::new().await;
    let (created, tries) = bench.create(MIB, 1, &CONFLICT, puts).await;
    assert_eq!((created, tries), (Ok(MIB as u64), 2));
    bench.holds_one(MIB).await;
    for deed in [CONFLICT, TAKEN] {
        for (length, step) in [STEPS[0], STEPS[2]] {
            let (created, _) = bench.create(length, usize::MAX, &deed, step).await;
            assert_eq!(created, Err(Code::ObjectStoreUnavailable), "nothing has the name");
            bench.holds_nothing().await;
        }
    }
    // With somebody else's object under the name, both say so.
    bench.store.create(&name("one"), pieces(&content(3), 3)).await.unwrap();
    for deed in [CONFLICT, TAKEN, Deed::LoseAnswer] {
        let (created, _) = bench.create(MIB, usize::MAX, &deed, puts).await;
        assert_eq!(created, Err(Code::ObjectExists), "{deed:?}");
    }
    bench.holds_one(3).await;
}

/// A download goes on where the connection broke off.
#[tokio::test]
async fn a_torn_download_goes_on() {
    let bench = Bench::new().await;
    let length = 3 * MIB;
    bench.store.create(&name("one"), pieces(&content(length), MIB)).await.unwrap();
    bench.proxy.first(2, Deed::CutAnswer(MIB), gets);
    assert!(read(&bench.store, &name("one")).await.unwrap() == content(length));
    assert_eq!(bench.proxy.count(gets), 3);
    bench.proxy.first(1, Deed::CutAnswer(100), gets);
    let range = bench.store.read_range(&name("one"), 1_000, 5_000).await.unwrap();
    assert!(range == content(length)[1_000..6_000]);
    // One that never moves on is given up.
    bench.proxy.first(usize::MAX, Deed::CutAnswer(0), gets);
    let error = read(&bench.store, &name("one")).await.unwrap_err();
    assert_eq!(error.code(), Code::ObjectStoreUnavailable);
    let error = bench.store.read_range(&name("one"), 0, 10).await.unwrap_err();
    assert_eq!(error.code(), Code::ObjectStoreUnavailable);
    bench.holds_one(length).await;
}

/// A download that is replaced under its reader is not mixed.
#[tokio::test]
async fn a_download_is_of_one_object() {
    let bench = Bench::new().await;
    let length = 2 * MIB;
    bench.store.create(&name("one"), pieces(&content(length), MIB)).await.unwrap();
    let (s3, bucket) = (bench.cloud.s3.clone(), bench.bucket.clone());
    bench.proxy.first(1, Deed::CutAnswer(MIB), gets);
    let mut reading = bench.store.read(&name("one")).await.unwrap();
    let key = "objects-of/this-region/one";
    s3.put_object().bucket(bucket).key(key).body(vec![9; length].into()).send().await.unwrap();
    let mut outcome = Ok(());
    while let Some(piece) = futures::StreamExt::next(&mut reading).await {
        outcome = piece.map(|piece| assert!(!piece.contains(&9) || piece.len() < MIB));
    }
    assert_eq!(outcome.unwrap_err().code(), Code::ObjectMissing);
}

/// A server that takes no notice of a range passes nothing wrong off.
#[tokio::test]
async fn another_range_than_asked_for_is_not_taken() {
    let bench = Bench::new().await;
    bench.store.create(&name("one"), pieces(&content(100), 100)).await.unwrap();
    bench.proxy.first(usize::MAX, Deed::Answer(200, "0123456789"), gets);
    let error = bench.store.read_range(&name("one"), 5, 5).await.unwrap_err();
    assert_eq!(error.code(), Code::ObjectStoreUnavailable);
}

#[tokio::test]
async fn reading_listing_and_deleting_have_the_same_answers() {
    let bench = Bench::new().await;
    bench.store.create(&name("one"), pieces(&content(100), 100)).await.unwrap();
    let all = ObjectPrefix::all();
    for (deed, code) in [
        (INTERNAL, Code::ObjectStoreUnavailable),
        (Deed::CutRequest(0), Code::ObjectStoreUnavailable),
        (DENIED, Code::ObjectStoreDenied),
    ] {
        bench.proxy.first(usize::MAX, deed, |_| true);
        assert_eq!(bench.store.read(&name("one")).await.err().unwrap().code(), code);
        assert_eq!(bench.store.read_range(&name("one"), 0, 1).await.unwrap_err().code(), code);
        assert_eq!(bench.store.length(&name("one")).await.unwrap_err().code(), code);
        assert_eq!(bench.store.list(&all).await.unwrap_err().code(), code);
        assert_eq!(bench.store.delete(&name("one")).await.unwrap_err().code(), code);
    }
    for (deed, fits) in [(INTERNAL, deletes as Notices), (SLOW_DOWN, lists)] {
        bench.proxy.first(usize::MAX, deed.clone(), fits);
        assert_eq!(bench.store.delete(&name("one")).await.unwrap_err().code(), Code::ObjectStoreUnavailable);
        bench.proxy.first(2, deed, fits);
        assert_eq!(bench.store.list(&all).await.unwrap(), [name("one")]);
    }
    bench.holds_one(100).await;
}

#[tokio::test]
async fn without_a_server_the_object_store_is_unavailable() {
    let free = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
    let error = open_bucket(&objects("bucket", &format!("http://127.0.0.1:{free}"))).await.unwrap_err();
    assert_eq!((error.code(), error.place()), (Code::ObjectStoreUnavailable, Some("HeadBucket")));
}

/// A server that never answers costs no more than the settings say.
#[tokio::test]
async fn a_server_that_never_answers_is_given_up() {
    let bench = Bench::new().await;
    let started = tokio::time::Instant::now();
    bench.proxy.first(usize::MAX, Deed::Slow(Duration::from_secs(600)), |_| true);
    let created = bench.store.create(&name("one"), pieces(&content(3), 3)).await.unwrap_err();
    assert_eq!(created.code(), Code::ObjectStoreUnavailable);
    // Three tries to send and three to look, far from the ten minutes the server would take.
    assert!(started.elapsed() < Duration::from_secs(60));
    bench.holds_nothing().await;
}
