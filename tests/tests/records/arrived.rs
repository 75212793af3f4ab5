//! A record that has just been adopted: payloads and objects are read although they are not sealed again yet.

use domicile_crypto::sha256;
use domicile_proto::records::v1::{self as pb, download_object_response, payload, upload_object_request};
use domicile_store::{Backend, Scope, values};
use domicile_tests::records::{draft, edit, get, note, put};
use domicile_types::{Code, ItemId, ObjectId, TransferId};
use futures::stream;
use prost::Message as _;
use prost::bytes::Bytes;
use tonic::Code as Grpc;

use super::{Scene, refused};

super::on_both!(payloads_are_read_as_they_travelled, objects_are_read_as_they_travelled);

const TRANSFER: &str = "0f8fad5b-d9cb-469f-a165-70867728950e";

fn transfer() -> TransferId {
    TRANSFER.parse().unwrap()
}

/// Puts an item's payload back into the form in which a transfer brings it.
async fn unseal(scene: &Scene, item: &pb::ItemHeader, payload: Option<pb::Payload>) {
    let (subject, id, version) = (scene.client.id, item.item_id.parse::<ItemId>().unwrap(), item.version);
    let (plain, revision) = (payload.map(|payload| payload.encode_to_vec()), item.revision);
    let scope = Scope::Move { subject: Some(subject) };
    let write = scene.bench.region.store.write_unaudited("test.unseal", scope, move |tx| {
        let plain = plain.clone();
        Box::pin(async move {
            let sql = "UPDATE item SET sealed = NULL WHERE subject_id = $1 AND item_id = $2 AND version = $3";
            assert_eq!(tx.execute(sql, values![subject, id, version]).await?, 1);
            let Some(plain) = plain else { return Ok(()) };
            let page = ItemId::generate(tx.ctx()).uuid();
            let sql = "INSERT INTO staged_page (transfer_id, page_id, header, salt, commitment) \
                       VALUES ($1, $2, $3, $4, $5)";
            let values = values![transfer(), page, b"page".to_vec(), vec![1_u8; 32], vec![2_u8; 32]];
            tx.execute(sql, values).await?;
            let sql = "INSERT INTO staged_row (transfer_id, item_id, version, revision, page_id, position, last, \
                       digest, sealed_header, sealed_payload) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";
            let values = values![
                transfer(),
                id,
                version,
                revision,
                page,
                0_u32,
                true,
                [3_u8; 32],
                b"header".to_vec(),
                plain
            ];
            tx.execute(sql, values).await.map(drop)
        })
    });
    write.await.unwrap();
}

async fn payloads_are_read_as_they_travelled(backend: Backend) {
    let scene = Scene::new(backend).await;
    let (mut carer, subject) = (scene.carer(), &scene.client.subject);
    let mut written = Vec::new();
    for number in 0..4 {
        let draft = note(&format!("note {number}"));
        let header = carer.put_item(put(subject, &number.to_string(), draft.clone())).await.unwrap();
        written.push((header.into_inner().header.unwrap(), draft));
    }
    for (header, draft) in written.iter().take(3) {
        unseal(&scene, header, draft.payload.clone()).await;
    }
    for (header, draft) in &written {
        let read = carer.get_item(get(header)).await.unwrap().into_inner().item.unwrap();
        assert!(read.payload == draft.payload);
    }
    let request =
        pb::ListItemsRequest { subject_id: subject.clone(), with_payloads: true, ..Default::default() };
    let listed = carer.list_items(request).await.unwrap().into_inner().items;
    assert_eq!(listed.len(), 4);
    for item in listed {
        let id = item.header.unwrap().item_id;
        let (_, draft) = written.iter().find(|(header, _)| header.item_id == id).unwrap();
        assert!(item.payload == draft.payload);
    }
    // It is written on top of, too.
    let (first, _) = &written[0];
    let next = carer.put_item(put(subject, "next", edit(note("next"), first))).await.unwrap();
    assert_eq!(next.into_inner().header.unwrap().version, 2);
    // A payload that is in neither form is damage, and said so.
    let (last, _) = &written[3];
    unseal(&scene, last, None).await;
    refused(carer.get_item(get(last)).await, Code::ContentDamaged, Grpc::DataLoss);
}

async fn objects_are_read_as_they_travelled(backend: Backend) {
    use upload_object_request::Part;
    let scene = Scene::new(backend).await;
    let content = b"content of a voice note".repeat(100_000);
    let note = pb::VoiceNote { media_type: "audio/ogg".to_owned(), duration_ms: 60_000, object: None };
    let header = pb::UploadHeader {
        subject_id: scene.client.subject.clone(),
        idempotency_key: "upload-voice-note".to_owned(),
        length: content.len() as u64,
        sha256: sha256(&content).to_vec(),
        draft: Some(draft(payload::Kind::VoiceNote(note))),
    };
    let pieces = content.chunks(1 << 20).map(|piece| Part::Content(Bytes::copy_from_slice(piece)));
    let parts: Vec<_> = std::iter::once(Part::Header(header))
        .chain(pieces)
        .map(|part| pb::UploadObjectRequest { part: Some(part) })
        .collect();
    let mut client = scene.client();
    let stored = client.upload_object(stream::iter(parts)).await.unwrap().into_inner();
    travel(&scene, stored.object_id.parse().unwrap(), &content).await;
    let item = stored.header.unwrap();
    let request = pb::DownloadObjectRequest { subject_id: item.subject_id, item_id: item.item_id };
    for reader in [&mut client, &mut scene.carer()] {
        let mut answer = reader.download_object(request.clone()).await.unwrap().into_inner();
        let mut found = Vec::new();
        while let Some(message) = answer.message().await.unwrap() {
            if let Some(download_object_response::Part::Content(piece)) = message.part {
                found.extend_from_slice(&piece);
            }
        }
        assert!(found == content);
    }
}

/// Lays an object's content where a transfer puts it, and takes the sealed one away.
async fn travel(scene: &Scene, object: ObjectId, content: &[u8]) {
    let subject = scene.client.id;
    let write = scene.bench.region.store.write_unaudited("test.travel", Scope::Subject(subject), move |tx| {
        let sql =
            "UPDATE object SET travelling = TRUE, transfer_id = $3 WHERE subject_id = $1 AND object_id = $2";
        Box::pin(tx.execute(sql, values![subject, object, transfer()]))
    });
    assert_eq!(write.await.unwrap(), 1);
    let staging = scene.bench.objects().join("staging").join(TRANSFER);
    std::fs::create_dir_all(&staging).unwrap();
    std::fs::write(staging.join(format!("{object}-73616c74")), content).unwrap();
    std::fs::remove_dir_all(scene.bench.objects().join("objects")).unwrap();
}
