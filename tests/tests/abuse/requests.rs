//! Requests that are wrong in themselves: too large, packed, malformed, endless, repeated.

use std::time::Duration;

use domicile_config::{Limits, RecordSettings};
use domicile_proto::records::v1 as pb;
use domicile_proto::records::v1::import_fhir_request::Part;
use domicile_rpc::from_status;
use domicile_tests::abuse::{framed, raw, unfinished, whole};
use domicile_tests::records::{note, put, reflection};
use domicile_tests::world::Outcome;
use domicile_types::{Code, Ctx};
use futures::{StreamExt as _, stream};
use prost::Message as _;
use prost::bytes::Bytes;
use tokio::time::Instant;
use tonic::{Code as Grpc, Request, Status};

use super::{PUT, Scene, one_entry, refused};

#[tokio::test]
async fn a_message_over_the_limit() {
    over_the_limit().await.unwrap();
}

async fn over_the_limit() -> Outcome<()> {
    let scene = Scene::new().await?;
    let (state, before) = (scene.state().await?, scene.entries().await?.len());
    let huge = put(&scene.client.subject, "huge", note(&"x".repeat(4 * 1024 * 1024)));
    let answer = scene.records()?.put_item(huge).await.map(drop).unwrap_err();
    refused(&answer, Code::TooLarge, Grpc::OutOfRange);
    one_entry(&scene.entries().await?[before..], "record.item.write", Code::TooLarge);
    assert!(scene.state().await? == state, "the record is as it was");
    scene.others_are_served("after").await
}

/// Nothing here takes compressed messages apart, so a bomb stays packed: the specification's answer to an
/// encoding that a server does not know is UNIMPLEMENTED.
#[tokio::test]
async fn a_compressed_bomb() {
    packed().await.unwrap();
}

async fn packed() -> Outcome<()> {
    let scene = Scene::new().await?;
    let state = scene.state().await?;
    let message = put(&scene.client.subject, "bomb", note("x")).encode_to_vec();
    for encoding in ["gzip", "deflate", "zstd", "snappy-zq9canary"] {
        let before = scene.entries().await?.len();
        let body = whole(framed(1, &message));
        let answer = raw(&scene.channel()?, PUT, &[("grpc-encoding", encoding)], body).await?;
        assert_eq!(answer.code(), Grpc::Unimplemented, "{encoding}");
        assert!(!format!("{answer:?}").contains("zq9canary"), "the caller's words are not quoted");
        one_entry(&scene.entries().await?[before..], "record.item.write", Code::InvalidRequest);
    }
    let before = scene.entries().await?.len();
    let answer = raw(&scene.channel()?, PUT, &[], whole(framed(1, &message))).await?;
    refused(&answer, Code::InvalidRequest, Grpc::InvalidArgument);
    one_entry(&scene.entries().await?[before..], "record.item.write", Code::InvalidRequest);
    assert!(scene.state().await? == state, "the record is as it was");
    scene.others_are_served("after").await
}

/// Random bytes and a good message with bytes changed, cut and added: each is refused or understood, each
/// leaves one entry, none an internal error.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn malformed_protobuf() {
    malformed().await.unwrap();
}

/// Bytes that follow from a seed, so that a failure comes again.
struct Bytewise(u64);

impl Bytewise {
    fn next(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap_or_default() % below.max(1)
    }

    fn byte(&mut self) -> u8 {
        u8::try_from(self.next(256)).unwrap_or_default()
    }

    fn mutate(&mut self, good: &[u8]) -> Bytes {
        let mut bytes = good.to_vec();
        match self.next(5) {
            0 => bytes = (0..self.next(200)).map(|_| self.byte()).collect(),
            1 => bytes.truncate(self.next(good.len())),
            2 => bytes.insert(self.next(good.len()), self.byte()),
            3 => drop(bytes.remove(self.next(good.len()))),
            _ => {
                for _ in 0..=self.next(4) {
                    let at = self.next(good.len());
                    bytes[at] = self.byte();
                }
            }
        }
        // Now and then the frame itself lies about its length.
        match self.next(8) {
            0 => bytes.into(),
            _ => framed(0, &bytes),
        }
    }
}

async fn malformed() -> Outcome<()> {
    let scene = Scene::new().await?;
    let (channel, mut random) = (scene.channel()?, Bytewise(11));
    let good = put(&scene.client.subject, "fuzz", note("fuzzed")).encode_to_vec();
    let before = scene.entries().await?.len();
    let calls = 250;
    for call in 0..calls {
        let body = random.mutate(&good);
        let answer = raw(&channel, PUT, &[], whole(body.clone())).await?;
        let expected = [
            Grpc::InvalidArgument,
            Grpc::NotFound,
            Grpc::Ok,
            Grpc::AlreadyExists,
            Grpc::OutOfRange,
            Grpc::Unimplemented,
        ];
        assert!(expected.contains(&answer.code()), "call {call}: {answer:?} for {body:?}");
        if answer.code() == Grpc::InvalidArgument {
            refused(&answer, from_status(&answer).code(), Grpc::InvalidArgument);
            assert!(from_status(&answer).place().is_some(), "it has its place: {answer:?}");
        }
    }
    let left = &scene.entries().await?[before..];
    assert_eq!(left.len(), calls, "one entry each");
    assert!(left.iter().all(|entry| entry.event.name() == "record.item.write"));
    scene.others_are_served("after").await
}

/// JSON that is none, FHIR that is none, and CBOR that is none (a practice's enrolment).
#[tokio::test]
async fn malformed_documents() {
    documents().await.unwrap();
}

async fn documents() -> Outcome<()> {
    let scene = Scene::new().await?;
    let state = scene.state().await?;
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    for (text, place) in [
        (b"{\"resourceType\": \"zq9canary".to_vec(), "line 1"),
        (b"\xff\xfe\x00".to_vec(), "line 1"),
        (b"{\"resourceType\":\"Patient\"}".to_vec(), "resourceType"),
        (deep.into_bytes(), "line 1"),
    ] {
        let before = scene.entries().await?.len();
        let answer = import(&scene, text).await.unwrap_err();
        refused(&answer, Code::FhirInvalid, Grpc::InvalidArgument);
        assert!(from_status(&answer).place().is_some_and(|at| at.starts_with(place)), "{answer:?}");
        assert!(!format!("{answer:?}").contains("zq9canary"));
        one_entry(&scene.entries().await?[before..], "record.import", Code::FhirInvalid);
    }
    assert!(scene.state().await? == state, "the record is as it was");
    let mut operator = scene.bench.region.signed_in(&scene.bench.operator)?;
    for content in [b"".to_vec(), b"\xff".to_vec(), vec![0x9f; 5_000], vec![0xa1, 0x01]] {
        let before = scene.entries().await?.len();
        let enrolment = domicile_proto::identity::v1::Enrolment { content, signature: vec![0; 64] };
        let request = domicile_proto::identity::v1::AcceptEnrolmentRequest { enrolment: Some(enrolment) };
        let answer = operator.accept_enrolment(request).await.map(drop).unwrap_err();
        assert_eq!(answer.code(), Grpc::InvalidArgument, "{answer:?}");
        let code = from_status(&answer).code();
        one_entry(&scene.entries().await?[before..], "identity.enrolment_accept", code);
    }
    Ok(())
}

async fn import(scene: &Scene, text: Vec<u8>) -> Result<(), Status> {
    let header = pb::ImportHeader {
        subject_id: scene.client.subject.clone(),
        idempotency_key: "test-key-imported".to_owned(),
    };
    let mut parts = vec![pb::ImportFhirRequest { part: Some(Part::Header(header)) }];
    let pieces = text.chunks(64 * 1024).map(|piece| Part::Content(piece.to_vec()));
    parts.extend(pieces.map(|part| pb::ImportFhirRequest { part: Some(part) }));
    let mut client = scene.records().map_err(|error| Status::internal(error.to_string()))?;
    client.import_fhir(stream::iter(parts)).await.map(drop)
}

/// Framing that is none of gRPC's: other media types, methods and paths.
#[tokio::test]
async fn what_is_no_grpc() {
    strange().await.unwrap();
}

async fn strange() -> Outcome<()> {
    let scene = Scene::new().await?;
    let channel = scene.channel()?;
    let before = scene.entries().await?.len();
    for path in
        ["/", "/x", "/domicile.records.v1.RecordsService/Nothing", "/%00/..", "/grpc.health.v1.Health/x"]
    {
        let answer = raw(&channel, path, &[], whole(framed(0, b""))).await?;
        assert_eq!(answer.code(), Grpc::Unimplemented, "{path}");
    }
    assert_eq!(scene.entries().await?.len(), before, "no method, no entry");
    for (headers, body) in [
        (vec![("content-type", "text/html")], framed(0, b"")),
        (vec![("content-type", "application/grpc+json")], framed(0, b"{}")),
        (vec![("grpc-timeout", "-1S")], framed(0, b"")),
        (vec![("grpc-timeout", "99999999H")], framed(0, b"")),
        (vec![("grpc-encoding", "identity")], Bytes::from_static(b"\x00\xff\xff\xff\xff")),
        (vec![], Bytes::from_static(b"\x07")),
        (vec![], Bytes::new()),
    ] {
        let answer = raw(&channel, PUT, &headers, whole(body)).await;
        let code = answer.as_ref().map(Status::code);
        assert!(!matches!(code, Ok(Grpc::Internal | Grpc::Ok)), "{headers:?}: {answer:?}");
    }
    assert_eq!(scene.entries().await?.len(), before + 7, "one entry each");
    scene.others_are_served("after").await
}

/// A request that never ends ends at our own deadline, also when the caller names none or a longer one.
#[tokio::test]
async fn no_deadline_and_a_slow_body() {
    slow().await.unwrap();
}

async fn slow() -> Outcome<()> {
    let short = Duration::from_millis(300);
    let scene = Scene::within(Limits {
        deadline: short,
        longest_deadline: short,
        stream_idle: Duration::from_millis(200),
        ..Limits::default()
    })
    .await?;
    let state = scene.state().await?;
    let message = framed(0, &put(&scene.client.subject, "slow", note("slow")).encode_to_vec());
    for headers in [vec![], vec![("grpc-timeout", "1H")]] {
        let before = scene.entries().await?.len();
        let half = unfinished(message.slice(..message.len() / 2));
        let answer = raw(&scene.channel()?, PUT, &headers, half).await?;
        refused(&answer, Code::DeadlineExceeded, Grpc::DeadlineExceeded);
        one_entry(&scene.entries().await?[before..], "record.item.write", Code::DeadlineExceeded);
    }
    let before = scene.entries().await?.len();
    let header = pb::ImportHeader {
        subject_id: scene.client.subject.clone(),
        idempotency_key: "test-key-imported".to_owned(),
    };
    let first = stream::iter([pb::ImportFhirRequest { part: Some(Part::Header(header)) }]);
    let endless = first.chain(stream::pending());
    let answer = scene.records()?.import_fhir(Request::new(endless)).await.map(drop).unwrap_err();
    refused(&answer, Code::DeadlineExceeded, Grpc::DeadlineExceeded);
    one_entry(&scene.entries().await?[before..], "record.import", Code::DeadlineExceeded);
    assert!(scene.state().await? == state, "the record is as it was");
    scene.others_are_served("after").await
}

/// Sizes and numbers of uploads, imports and pages are those of the settings.
#[tokio::test]
async fn uploads_imports_and_pages_are_bounded() {
    bounded().await.unwrap();
}

async fn bounded() -> Outcome<()> {
    let bounds = RecordSettings {
        object_bytes: 1_000,
        import_bytes: 2_000,
        uploads_at_once: 1,
        page_items: 60,
        ..RecordSettings::default()
    };
    let scene = Scene::bounded(Limits::default(), &bounds).await?;
    let before = scene.entries().await?.len();
    let answer = upload(&scene, 1_001, false).await.unwrap_err();
    refused(&answer, Code::TooLarge, Grpc::OutOfRange);
    one_entry(&scene.entries().await?[before..], "record.object.write", Code::TooLarge);
    let before = scene.entries().await?.len();
    refused(&import(&scene, vec![b' '; 2_001]).await.unwrap_err(), Code::TooLarge, Grpc::OutOfRange);
    one_entry(&scene.entries().await?[before..], "record.import", Code::TooLarge);
    let mut list = pb::ListItemsRequest {
        subject_id: scene.client.subject.clone(),
        page_size: 61,
        ..Default::default()
    };
    let answer = scene.records()?.list_items(list.clone()).await.map(drop).unwrap_err();
    refused(&answer, Code::InvalidRequest, Grpc::InvalidArgument);
    list.page_size = 60;
    scene.records()?.list_items(list).await?;
    one_upload_at_a_time(&scene).await
}

/// While one upload of a record does not end, a second is refused and says when to come back; once the
/// first is gone there is room again.
async fn one_upload_at_a_time(scene: &Scene) -> Outcome<()> {
    let mut hanging = endless_upload(scene)?;
    let until = Instant::now() + Duration::from_secs(20);
    let refusal = loop {
        match upload(scene, 10, true).await {
            // The first one has not come that far yet.
            Ok(()) if hanging.is_finished() => hanging = endless_upload(scene)?,
            Ok(()) => assert!(Instant::now() < until, "two at a time"),
            Err(status) => break status,
        }
    };
    refused(&refusal, Code::Overloaded, Grpc::ResourceExhausted);
    assert!(from_status(&refusal).wait().is_some());
    hanging.abort();
    let until = Instant::now() + Duration::from_secs(20);
    while let Err(status) = upload(scene, 10, true).await {
        assert!(Instant::now() < until, "{status:?}");
        domicile_tests::world::pause().await;
    }
    Ok(())
}

fn endless_upload(scene: &Scene) -> Outcome<tokio::task::JoinHandle<Result<(), Status>>> {
    let mut records = scene.records()?;
    let parts = stream::iter(parts(scene, 10, true)?).chain(stream::pending());
    Ok(tokio::spawn(async move { records.upload_object(parts).await.map(drop) }))
}

fn parts(scene: &Scene, length: usize, head: bool) -> Outcome<Vec<pb::UploadObjectRequest>> {
    use pb::upload_object_request::Part;
    let file =
        pb::Attachment { file_name: "a".to_owned(), media_type: "text/plain".to_owned(), object: None };
    let content = vec![7; length];
    let header = pb::UploadHeader {
        subject_id: scene.client.subject.clone(),
        idempotency_key: domicile_types::ids::uuid_v4(Ctx::system().rng.as_ref()).to_string(),
        length: u64::try_from(length)?,
        sha256: domicile_crypto::sha256(&content).to_vec(),
        draft: Some(domicile_tests::records::draft(pb::payload::Kind::Attachment(file))),
    };
    let message = |part| pb::UploadObjectRequest { part: Some(part) };
    let mut parts = vec![message(Part::Header(header))];
    if !head {
        parts.push(message(Part::Content(content.into())));
    }
    Ok(parts)
}

async fn upload(scene: &Scene, length: usize, whole: bool) -> Result<(), Status> {
    let failed = |error: Box<dyn std::error::Error + Send + Sync>| Status::internal(error.to_string());
    let mut sent = parts(scene, length, true).map_err(failed)?;
    if whole {
        sent = parts(scene, length, false).map_err(failed)?;
    }
    let mut records = scene.records().map_err(failed)?;
    records.upload_object(stream::iter(sent)).await.map(drop)
}

/// An id of another practice's client, one of nobody and one of no form that exists: the first two cannot
/// be told apart, not by the answer and not by how long it takes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_tenants_id() {
    strangers().await.unwrap();
}

async fn strangers() -> Outcome<()> {
    let scene = Scene::new().await?;
    let other = scene.bench.practice("berta").await?;
    let stranger = scene.bench.practitioner(&other.token, "bruno").await?;
    let absent = domicile_types::ids::uuid_v4(Ctx::system().rng.as_ref()).to_string();
    let mut records = scene.bench.with(&stranger.token)?;
    let mut times = [Vec::new(), Vec::new()];
    let mut shapes = [String::new(), String::new()];
    for round in 0..40 {
        for (at, subject) in [&scene.client.subject, &absent].into_iter().enumerate() {
            let before = scene.entries().await?.len();
            let start = Instant::now();
            let answer = records
                .put_item(put(subject, &format!("{round}-{at}"), note("x")))
                .await
                .map(drop)
                .unwrap_err();
            times[at].push(start.elapsed());
            refused(&answer, Code::NotFound, Grpc::NotFound);
            one_entry(&scene.entries().await?[before..], "record.item.write", Code::NotFound);
            shapes[at] = shape(&answer);
        }
    }
    assert_eq!(shapes[0], shapes[1]);
    let medians = times.map(|mut all| {
        all.sort();
        all[all.len() / 2]
    });
    // The same class of time: a look at the database each, no hashing, no key.
    let (low, high) = (medians[0].min(medians[1]), medians[0].max(medians[1]));
    assert!(high < low * 3, "{medians:?}");
    Ok(())
}

fn shape(status: &Status) -> String {
    let mut metadata = status.metadata().clone();
    metadata.remove(domicile_rpc::status::REQUEST);
    metadata.remove("date");
    format!("{:?} {} {metadata:?}", status.code(), status.message())
}

/// An idempotency key with another body, and what a caller says of itself.
#[tokio::test]
async fn a_key_with_another_body() {
    other_body().await.unwrap();
}

async fn other_body() -> Outcome<()> {
    let scene = Scene::new().await?;
    let (state, before) = (scene.state().await?, scene.entries().await?.len());
    let answer = scene.records()?.put_item(put(&scene.client.subject, "first", note("another"))).await;
    refused(&answer.map(drop).unwrap_err(), Code::IdempotencyMismatch, Grpc::AlreadyExists);
    one_entry(&scene.entries().await?[before..], "record.item.write", Code::IdempotencyMismatch);
    assert!(scene.state().await? == state, "the record is as it was");
    let mut forged = Request::new(put(&scene.client.subject, "forged", reflection("mine")));
    for (name, value) in [("x-role", "operator"), ("domicile-role", "client"), ("domicile-region", "us")] {
        forged.metadata_mut().insert(name, value.parse()?);
    }
    let answer = scene.records()?.put_item(forged).await.map(drop).unwrap_err();
    assert_eq!(answer.code(), Grpc::PermissionDenied, "a carer writes no client's reflection: {answer:?}");
    assert!(scene.state().await? == state, "the record is as it was");
    Ok(())
}
