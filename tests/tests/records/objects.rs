//! Large objects: whole or not at all, and nothing of them in clear anywhere.

use std::path::{Path, PathBuf};
use std::time::Duration;

use domicile_crypto::sha256;
use domicile_proto::records::v1::{self as pb, download_object_response, payload, upload_object_request};
use domicile_store::queries::object::{self, ObjectState};
use domicile_store::queries::residency::Standing;
use domicile_store::{Backend, Scope};
use domicile_tests::records::{draft, edit, get, put};
use domicile_types::{Actor, AuditScope, Code, RequestId, Role};
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use prost::bytes::Bytes;
use tokio::sync::mpsc;
use tonic::{Code as Grpc, Status};

use super::{Scene, refused};

super::on_both!(
    an_object_comes_back_as_it_went,
    the_same_upload_is_stored_once,
    what_is_not_as_promised_is_not_stored,
    a_damaged_chunk_is_not_handed_out,
    a_caller_who_goes_away_leaves_nothing,
    a_caller_who_goes_away_once_registered_leaves_nothing,
    a_freeze_ends_an_upload,
    what_a_dead_process_left_is_swept,
);

const PIECE: usize = 256 << 10;
const FIVE: usize = (5 << 20) + 123;

fn content(length: usize) -> Vec<u8> {
    let line = b"MARKED content of a voice note that must never lie on a disk in clear. ";
    line.iter()
        .copied()
        .cycle()
        .zip(0_u32..)
        .map(|(byte, at)| byte ^ u8::from(at % 977 == 0))
        .take(length)
        .collect()
}

fn header(scene: &Scene, key: &str, content: &[u8]) -> pb::UploadHeader {
    let attachment = pb::Attachment {
        file_name: "letter.pdf".to_owned(),
        media_type: "application/pdf".to_owned(),
        object: None,
    };
    pb::UploadHeader {
        subject_id: scene.client.subject.clone(),
        idempotency_key: format!("upload-key-{key:-<12}"),
        length: content.len() as u64,
        sha256: sha256(content).to_vec(),
        draft: Some(draft(payload::Kind::Attachment(attachment))),
    }
}

fn message(part: upload_object_request::Part) -> pb::UploadObjectRequest {
    pb::UploadObjectRequest { part: Some(part) }
}

fn parts(header: pb::UploadHeader, content: &[u8]) -> BoxStream<'static, pb::UploadObjectRequest> {
    let pieces: Vec<_> = content
        .chunks(PIECE)
        .map(|piece| message(upload_object_request::Part::Content(Bytes::copy_from_slice(piece))))
        .collect();
    stream::iter([message(upload_object_request::Part::Header(header))]).chain(stream::iter(pieces)).boxed()
}

async fn upload(
    scene: &Scene,
    header: pb::UploadHeader,
    content: &[u8],
) -> Result<pb::UploadObjectResponse, Status> {
    Ok(scene.carer().upload_object(parts(header, content)).await?.into_inner())
}

async fn download(
    scene: &Scene,
    item: &pb::ItemHeader,
) -> (Vec<u8>, Option<pb::DownloadHeader>, Option<Status>) {
    let request =
        pb::DownloadObjectRequest { subject_id: item.subject_id.clone(), item_id: item.item_id.clone() };
    let mut answer = scene.carer().download_object(request).await.unwrap().into_inner();
    let (mut content, mut header) = (Vec::new(), None);
    loop {
        match answer.message().await {
            Ok(None) => return (content, header, None),
            Err(status) => return (content, header, Some(status)),
            Ok(Some(message)) => match message.part.unwrap() {
                download_object_response::Part::Header(first) => header = Some(first),
                download_object_response::Part::Content(piece) => content.extend_from_slice(&piece),
            },
        }
    }
}

/// Every file in a folder but the empty ones by which processes lock it.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { found.push(path) }
        }
    }
    found.retain(|path| !path.ends_with("lock") && path.extension().is_none_or(|ending| ending != "lock"));
    found
}

async fn pending(scene: &Scene) -> usize {
    let subject = scene.client.id;
    let read = scene.bench.region.store.read("test.pending", Scope::Subject(subject), move |tx| {
        Box::pin(object::list(tx, subject, ObjectState::Pending))
    });
    read.await.unwrap().len()
}

/// Waits until no upload is pending and the object store holds `objects` files.
async fn settled(scene: &Scene, objects: usize) {
    let settled = async {
        while pending(scene).await > 0 || files(scene.bench.objects()).len() != objects {
            tokio::task::yield_now().await;
        }
    };
    let files = || (files(scene.bench.objects()), objects);
    tokio::time::timeout(Duration::from_secs(20), settled).await.unwrap_or_else(|_| panic!("{:?}", files()));
}

async fn an_object_comes_back_as_it_went(backend: Backend) {
    let scene = Scene::new(backend).await;
    for (key, length) in [("five", FIVE), ("one", 1 << 20), ("none", 0)] {
        let content = content(length);
        let stored = upload(&scene, header(&scene, key, &content), &content).await.unwrap();
        let item = stored.header.unwrap();
        assert_eq!((item.kind.as_str(), item.state.as_str()), ("attachment", "stored"));
        let (found, first, failed) = download(&scene, &item).await;
        assert!(found == content && failed.is_none(), "{key}");
        let first = first.unwrap();
        assert_eq!((first.length, first.sha256), (length as u64, sha256(&content).to_vec()));
        let read = scene.carer().get_item(get(&item)).await.unwrap().into_inner().item.unwrap();
        let Some(payload::Kind::Attachment(attachment)) = read.payload.unwrap().kind else {
            panic!("a kind")
        };
        let object = attachment.object.clone().unwrap();
        assert_eq!(uuid::Uuid::from_slice(&object.object_id).unwrap().to_string(), stored.object_id);

        // Another name, the same object, whatever the caller says of it.
        let mut renamed = attachment;
        renamed.file_name = "other.pdf".to_owned();
        renamed.object = None;
        let renamed = edit(draft(payload::Kind::Attachment(renamed)), &item);
        let renamed = scene.carer().put_item(put(&scene.client.subject, key, renamed)).await.unwrap();
        let (again, ..) = download(&scene, &renamed.into_inner().header.unwrap()).await;
        assert!(again == content);
    }
    // P6, P8: nothing of the content on any disk.
    let folders = scene.bench.region.databases.folder().into_iter().chain([scene.bench.objects()]);
    for file in folders.flat_map(files) {
        let bytes = std::fs::read(&file).unwrap();
        for marked in [&b"MARKED"[..], b"letter.pdf"] {
            assert!(!bytes.windows(marked.len()).any(|window| window == marked), "{}", file.display());
        }
    }
}

async fn the_same_upload_is_stored_once(backend: Backend) {
    let scene = Scene::new(backend).await;
    let content = content(FIVE);
    let both = tokio::join!(
        upload(&scene, header(&scene, "one", &content), &content),
        upload(&scene, header(&scene, "one", &content), &content),
    );
    let (first, second) = (both.0.unwrap(), both.1.unwrap());
    let again = upload(&scene, header(&scene, "one", &content), &content).await.unwrap();
    assert!(first == second && first == again);
    let other = upload(&scene, header(&scene, "one", b"other"), b"other").await;
    refused(other, Code::IdempotencyMismatch, Grpc::AlreadyExists);
    settled(&scene, 1).await;
}

async fn what_is_not_as_promised_is_not_stored(backend: Backend) {
    let scene = Scene::new(backend).await;
    let content = content(FIVE);
    let promised = header(&scene, "one", &content);
    let mut changed = content.clone();
    changed[FIVE / 2] ^= 1;
    let longer = [&content[..], b"x"].concat();
    for sent in [&changed[..], &content[..FIVE - 1], &longer, &[]] {
        refused(upload(&scene, promised.clone(), sent).await, Code::ObjectIncomplete, Grpc::DataLoss);
    }
    settled(&scene, 0).await;
    let huge = pb::UploadHeader { length: u64::MAX, ..promised.clone() };
    refused(upload(&scene, huge, b"").await, Code::TooLarge, Grpc::OutOfRange);
    let kind =
        draft(payload::Kind::Message(pb::Message { title: String::new(), text: "no file".to_owned() }));
    let kind = pb::UploadHeader { draft: Some(kind), ..promised.clone() };
    refused(upload(&scene, kind, &content).await, Code::InvalidRequest, Grpc::InvalidArgument);
    let headless = stream::iter([message(upload_object_request::Part::Content(Bytes::from_static(b"x")))]);
    refused(scene.carer().upload_object(headless).await, Code::InvalidRequest, Grpc::InvalidArgument);
    assert_eq!(scene.summary().await.revision, 0);
    upload(&scene, promised, &content).await.unwrap();
}

async fn a_damaged_chunk_is_not_handed_out(backend: Backend) {
    let scene = Scene::new(backend).await;
    let content = content(FIVE);
    let item = upload(&scene, header(&scene, "one", &content), &content).await.unwrap().header.unwrap();
    let [file] = files(scene.bench.objects()).try_into().unwrap();
    let whole = std::fs::read(&file).unwrap();
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    let mut swapped = whole.clone();
    let chunk = (1 << 20) + 28;
    swapped[..2 * chunk].rotate_left(chunk);
    for (what, damaged) in
        [("flipped", flipped), ("swapped", swapped), ("cut", whole[..whole.len() - 1].to_vec())]
    {
        replace(&file, &damaged);
        let (found, _, failed) = download(&scene, &item).await;
        assert_eq!(failed.map(|status| status.code()), Some(Grpc::DataLoss), "{what}");
        assert!(
            content.starts_with(&found) && found.len() < content.len(),
            "{what}: only checked chunks left"
        );
    }
    std::fs::remove_file(&file).unwrap();
    assert_eq!(download(&scene, &item).await.2.map(|status| status.code()), Some(Grpc::DataLoss));
    replace(&file, &whole);
    assert!(download(&scene, &item).await.0 == content);
}

fn replace(file: &Path, content: &[u8]) {
    if file.exists() {
        std::fs::remove_file(file).unwrap();
    }
    std::fs::write(file, content).unwrap();
}

/// An upload that has sent its header and some content, and goes on when told to.
struct Slow {
    sender: mpsc::Sender<pb::UploadObjectRequest>,
    answer: tokio::task::JoinHandle<Result<pb::UploadObjectResponse, Status>>,
}

async fn slow(scene: &Scene, content: &[u8]) -> Slow {
    let (sender, receiver) = mpsc::channel(1);
    let mut carer = scene.carer();
    let answer = tokio::spawn(async move {
        let stream = tokio_stream::wrappers::ReceiverStream::new(receiver);
        carer.upload_object(stream).await.map(tonic::Response::into_inner)
    });
    sender.send(message(upload_object_request::Part::Header(header(scene, "slow", content)))).await.unwrap();
    let piece = Bytes::copy_from_slice(&content[..PIECE]);
    sender.send(message(upload_object_request::Part::Content(piece))).await.unwrap();
    let begun = async {
        while pending(scene).await == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), begun).await.unwrap();
    Slow { sender, answer }
}

async fn a_caller_who_goes_away_leaves_nothing(backend: Backend) {
    let scene = Scene::new(backend).await;
    let content = content(FIVE);
    let Slow { sender, answer } = slow(&scene, &content).await;
    answer.abort();
    drop(sender);
    settled(&scene, 0).await;
    assert_eq!(scene.summary().await.revision, 0);
}

/// The answer is dropped as soon as the registration is committed and before anything has gone on from it.
async fn a_caller_who_goes_away_once_registered_leaves_nothing(backend: Backend) {
    let scene = Scene::new(backend).await;
    let bytes = content(FIVE);
    let actor = Actor {
        account: Some(scene.carer.account.parse().unwrap()),
        practice: Some(scene.practice.id.parse().unwrap()),
        ..Actor::of(Role::Practitioner)
    };
    let request = RequestId::generate(scene.bench.region.store.ctx());
    let audit = AuditScope::new("record.object.write", actor, request);
    let (sender, receiver) = mpsc::channel(1);
    let stream = tokio_stream::wrappers::ReceiverStream::new(receiver).boxed();
    let mut upload =
        Box::pin(scene.bench.records.upload_object(&audit, header(&scene, "left", &bytes), stream));
    let registered = async {
        while pending(&scene).await == 0 {
            assert!(futures::poll!(&mut upload).is_pending());
        }
    };
    tokio::time::timeout(Duration::from_secs(20), registered).await.unwrap();
    drop((upload, sender));
    settled(&scene, 0).await;
}

async fn a_freeze_ends_an_upload(backend: Backend) {
    let scene = Scene::new(backend).await;
    let content = content(FIVE);
    let Slow { sender, answer } = slow(&scene, &content).await;
    scene.bench.residence(scene.client.id, |home| home.standing = Standing::Frozen).await.unwrap();
    refused(answer.await.unwrap(), Code::RecordFrozen, Grpc::Unavailable);
    drop(sender);
    settled(&scene, 0).await;
    let refusal = upload(&scene, header(&scene, "new", &content), &content).await;
    refused(refusal, Code::RecordFrozen, Grpc::Unavailable);
    settled(&scene, 0).await;
}

async fn what_a_dead_process_left_is_swept(backend: Backend) {
    let scene = Scene::new(backend).await;
    let (content, subject) = (content(10), scene.client.id);
    let item = upload(&scene, header(&scene, "kept", &content), &content).await.unwrap().header.unwrap();
    let left = object::Object {
        object: "6f2c8a4e-5b1d-4c3e-9a7f-0123456789ab".parse().unwrap(),
        subject,
        item: None,
        practice: None,
        length: 1,
        chunks: 1,
        key_version: 1,
        state: ObjectState::Pending,
        travelling: false,
        transfer: None,
        copy: None,
        registered_at: scene.bench.region.store.ctx().now(),
    };
    let [kept] = files(scene.bench.objects()).try_into().unwrap();
    let row = left.clone();
    let write = scene.bench.region.store.write_unaudited("test.left", Scope::Subject(subject), move |tx| {
        Box::pin(object::insert_many(tx, vec![row.clone()]))
    });
    write.await.unwrap();
    for name in [left.object.to_string(), "6f2c8a4e-5b1d-4c3e-9a7f-ffffffffffff".to_owned()] {
        std::fs::write(kept.with_file_name(name), b"sealed").unwrap();
    }
    scene.bench.records.sweep_uploads(subject).await.unwrap();
    assert_eq!(
        (pending(&scene).await, files(scene.bench.objects()).len()),
        (1, 2),
        "it may still be under way"
    );
    scene.bench.region.clock.advance(Duration::from_secs(3_601));
    scene.bench.records.sweep_uploads(subject).await.unwrap();
    settled(&scene, 1).await;
    let token = scene.bench.region.sign_in("carla@practice.example", domicile_tests::region::PASSWORD).await;
    let mut carer = scene.bench.with(&token.unwrap().token).unwrap();
    carer.get_item(get(&item)).await.unwrap();
}
