//! Items: versions, idempotency, locks, what a frozen or moved record answers, joint sessions.

use std::time::Duration;

use domicile_proto::records::v1::{self as pb, payload};
use domicile_rpc::from_status;
use domicile_store::queries::residency::{Entitled, Residence, Standing, entitle};
use domicile_store::{Backend, Scope, values};
use domicile_tests::records::{draft, edit, get, note, put, reflection};
use domicile_types::{Code, RegionId, SubjectId};
use tonic::Code as Grpc;

use super::{Scene, refused, status};

super::on_both!(
    a_note_is_written_read_and_followed_by_versions,
    the_same_key_gives_the_same_answer,
    many_at_once_with_one_key_write_once,
    a_signed_note_is_locked,
    what_does_not_fit_is_refused,
    pages_follow_each_other,
    a_frozen_record_is_read_and_not_written,
    a_moved_record_says_where_it_is,
    a_joint_session_fails_alone,
    a_payload_opens_only_where_it_was_written,
    every_request_leaves_one_entry_without_content,
);

fn text(item: pb::GetItemResponse) -> String {
    match item.item.unwrap().payload.unwrap().kind.unwrap() {
        payload::Kind::Note(note) => note.text,
        payload::Kind::Reflection(reflection) => reflection.text,
        _ => panic!("another kind"),
    }
}

async fn a_note_is_written_read_and_followed_by_versions(backend: Backend) {
    let scene = Scene::new(backend).await;
    let (mut carer, subject) = (scene.carer(), &scene.client.subject);
    let first =
        carer.put_item(put(subject, "one", note("first"))).await.unwrap().into_inner().header.unwrap();
    assert_eq!((first.kind.as_str(), first.version, first.revision), ("note", 1, 1));
    assert_eq!((first.state.as_str(), first.visibility.as_str()), ("draft", "practitioner"));
    assert_eq!((&first.practice_id, &first.author_id), (&scene.practice.id, &scene.carer.account));
    assert!(first.retain_until_micros > first.occurred_at_micros, "P22");

    let second = carer.put_item(put(subject, "two", edit(note("second"), &first))).await.unwrap();
    let second = second.into_inner().header.unwrap();
    assert_eq!((second.version, second.revision, &second.item_id), (2, 2, &first.item_id));
    assert_eq!(text(carer.get_item(get(&first)).await.unwrap().into_inner()), "second");
    let before = pb::GetItemRequest { version: 1, ..get(&first) };
    assert_eq!(text(carer.get_item(before).await.unwrap().into_inner()), "first");

    let stale = carer.put_item(put(subject, "three", edit(note("third"), &first))).await;
    refused(stale, Code::VersionConflict, Grpc::Aborted);
    let request = pb::ListVersionsRequest { subject_id: subject.clone(), item_id: first.item_id.clone() };
    let versions = carer.list_versions(request).await.unwrap().into_inner().versions;
    assert_eq!(versions.iter().map(|header| header.version).collect::<Vec<_>>(), [2, 1]);

    let request = pb::GetSummaryRequest { subject_id: subject.clone() };
    let summary = carer.get_summary(request).await.unwrap().into_inner();
    assert_eq!((summary.revision, summary.epoch, summary.standing.as_str()), (2, 1, "active"));
    assert_eq!(summary.region_choice, "client");
    let [kind] = summary.kinds.as_slice() else { panic!("one kind") };
    assert_eq!((kind.kind.as_str(), kind.items, kind.versions), ("note", 1, 2));
    assert_eq!(kind.bytes, first.bytes + second.bytes);
}

async fn the_same_key_gives_the_same_answer(backend: Backend) {
    let scene = Scene::new(backend).await;
    let (mut carer, subject) = (scene.carer(), &scene.client.subject);
    let first = carer.put_item(put(subject, "one", note("first"))).await.unwrap().into_inner();
    let again = carer.put_item(put(subject, "one", note("first"))).await.unwrap().into_inner();
    assert!(first == again);
    let other = carer.put_item(put(subject, "one", note("other"))).await;
    refused(other, Code::IdempotencyMismatch, Grpc::AlreadyExists);

    let header = first.header.unwrap();
    let mut signed = edit(note("signed"), &header);
    signed.state = "signed".to_owned();
    let first = carer.put_item(put(subject, "two", signed.clone())).await.unwrap().into_inner();
    let again = carer.put_item(put(subject, "two", signed.clone())).await.unwrap().into_inner();
    assert!(first == again, "although the note is signed now");
    signed.state.clear();
    refused(
        carer.put_item(put(subject, "two", signed)).await,
        Code::IdempotencyMismatch,
        Grpc::AlreadyExists,
    );

    // The client's own write under a key that the carer has used: nothing is given away.
    let mut client = scene.client();
    let foreign = client.put_item(put(subject, "one", reflection("mine"))).await;
    refused(foreign, Code::IdempotencyMismatch, Grpc::AlreadyExists);
    assert_eq!(scene.summary().await.revision, 2);
}

async fn many_at_once_with_one_key_write_once(backend: Backend) {
    let scene = Scene::new(backend).await;
    let subject = &scene.client.subject;
    let requests = (0..8).map(|_| {
        let mut carer = scene.carer();
        async move {
            carer.put_item(put(subject, "one", note("first"))).await.unwrap().into_inner().header.unwrap()
        }
    });
    let answers = futures::future::join_all(requests).await;
    assert!(answers.iter().all(|answer| answer == &answers[0]));
    assert_eq!((answers[0].revision, scene.summary().await.revision), (1, 1));
}

// P40
async fn a_signed_note_is_locked(backend: Backend) {
    let scene = Scene::new(backend).await;
    let (mut carer, subject) = (scene.carer(), &scene.client.subject);
    let mut draft = note("final");
    draft.state = "signed".to_owned();
    let signed = carer.put_item(put(subject, "one", draft)).await.unwrap().into_inner().header.unwrap();
    assert!(signed.signed_at_micros > 0);
    let change = carer.put_item(put(subject, "two", edit(note("changed"), &signed))).await;
    refused(change, Code::ItemLocked, Grpc::FailedPrecondition);

    let mut addendum = note("correction");
    addendum.parent_id.clone_from(&signed.item_id);
    let addendum =
        carer.put_item(put(subject, "three", addendum)).await.unwrap().into_inner().header.unwrap();
    assert_eq!(addendum.parent_id, signed.item_id);

    let id = scene.client.id;
    let by_hand = scene.bench.region.store.write_unaudited("test.change", Scope::Subject(id), move |tx| {
        Box::pin(tx.execute("UPDATE item SET state = 'draft' WHERE subject_id = $1", values![id]))
    });
    assert!(by_hand.await.is_err(), "the database refuses as well");
    assert_eq!(text(carer.get_item(get(&signed)).await.unwrap().into_inner()), "final");
}

async fn what_does_not_fit_is_refused(backend: Backend) {
    let scene = Scene::new(backend).await;
    let (mut carer, mut client, subject) = (scene.carer(), scene.client(), &scene.client.subject);
    let huge = note(&"x".repeat(1_000_001));
    refused(carer.put_item(put(subject, "one", huge)).await, Code::TooLarge, Grpc::OutOfRange);
    let largest = note(&"x".repeat(999_900));
    carer.put_item(put(subject, "largest", largest)).await.unwrap();

    let mut short = put(subject, "one", note("text"));
    short.idempotency_key = "short".to_owned();
    refused(carer.put_item(short).await, Code::InvalidRequest, Grpc::InvalidArgument);
    let empty = pb::ItemDraft { payload: Some(pb::Payload { kind: None }), ..Default::default() };
    refused(carer.put_item(put(subject, "one", empty)).await, Code::KindUnknown, Grpc::InvalidArgument);
    let attachment = pb::Attachment { file_name: "a.pdf".to_owned(), ..Default::default() };
    let attachment = draft(payload::Kind::Attachment(attachment));
    refused(
        carer.put_item(put(subject, "one", attachment)).await,
        Code::InvalidRequest,
        Grpc::InvalidArgument,
    );
    let imported = draft(payload::Kind::FhirResource(pb::FhirResource::default()));
    refused(carer.put_item(put(subject, "one", imported)).await, Code::Forbidden, Grpc::PermissionDenied);
    refused(
        client.put_item(put(subject, "one", note("mine"))).await,
        Code::Forbidden,
        Grpc::PermissionDenied,
    );
    let private = pb::ItemDraft { visibility: "client_private".to_owned(), ..note("text") };
    refused(carer.put_item(put(subject, "one", private)).await, Code::InvalidRequest, Grpc::InvalidArgument);
    let backwards = pb::ItemDraft { starts_at_micros: 2_000_000, ends_at_micros: 1_000_000, ..note("text") };
    refused(
        carer.put_item(put(subject, "one", backwards)).await,
        Code::InvalidRequest,
        Grpc::InvalidArgument,
    );
    let orphan = pb::ItemDraft { parent_id: uuid::Uuid::nil().to_string(), ..note("text") };
    refused(carer.put_item(put(subject, "one", orphan)).await, Code::NotFound, Grpc::NotFound);
    let page = pb::ListItemsRequest { subject_id: subject.clone(), page_size: 501, ..Default::default() };
    refused(carer.list_items(page).await, Code::InvalidRequest, Grpc::InvalidArgument);
    refused(
        carer.put_item(put("no id", "one", note("text"))).await,
        Code::InvalidRequest,
        Grpc::InvalidArgument,
    );
}

async fn pages_follow_each_other(backend: Backend) {
    let scene = Scene::new(backend).await;
    let (mut carer, subject) = (scene.carer(), &scene.client.subject);
    for number in 0..9 {
        let draft =
            pb::ItemDraft { occurred_at_micros: 1_000_000 * (1 + number / 2), ..note(&"x".repeat(900_000)) };
        carer.put_item(put(subject, &number.to_string(), draft)).await.unwrap();
    }
    let mut whole = Vec::new();
    for (size, payloads) in [(4, false), (0, true)] {
        let (mut found, mut pages) = (Vec::new(), 0);
        let mut request = pb::ListItemsRequest {
            subject_id: subject.clone(),
            kind: "note".to_owned(),
            page_size: size,
            page_token: String::new(),
            with_payloads: payloads,
        };
        loop {
            let page = carer.list_items(request.clone()).await.unwrap().into_inner();
            assert!(page.items.iter().all(|item| item.payload.is_some() == payloads));
            found.extend(page.items.into_iter().map(|item| item.header.unwrap()));
            pages += 1;
            if page.next_page_token.is_empty() {
                break;
            }
            request.page_token = page.next_page_token;
        }
        assert_eq!((found.len(), pages), (9, 3), "three of these payloads fit one message");
        assert!(
            found.is_sorted_by_key(|item| std::cmp::Reverse((item.occurred_at_micros, item.item_id.clone())))
        );
        if whole.is_empty() {
            whole = found;
        } else {
            assert!(whole == found);
        }
    }
    let other =
        pb::ListItemsRequest { subject_id: subject.clone(), kind: "goal".to_owned(), ..Default::default() };
    assert!(carer.list_items(other).await.unwrap().into_inner().items.is_empty());
}

async fn a_frozen_record_is_read_and_not_written(backend: Backend) {
    let scene = Scene::new(backend).await;
    let (mut carer, subject) = (scene.carer(), &scene.client.subject);
    let first =
        carer.put_item(put(subject, "one", note("first"))).await.unwrap().into_inner().header.unwrap();
    scene.bench.residence(scene.client.id, |home| home.standing = Standing::Frozen).await.unwrap();
    for draft in [note("new"), edit(note("changed"), &first)] {
        let frozen = status(carer.put_item(put(subject, "two", draft)).await);
        assert_eq!(frozen.code(), Grpc::Unavailable);
        let error = from_status(&frozen);
        assert!(error.code() == Code::RecordFrozen && error.wait() > Some(Duration::ZERO));
    }
    carer.get_item(get(&first)).await.unwrap();
    assert_eq!(scene.summary().await.standing, "frozen");
    scene.bench.residence(scene.client.id, |home| home.standing = Standing::Active).await.unwrap();
    carer.put_item(put(subject, "two", note("new"))).await.unwrap();
    assert_eq!(scene.summary().await.revision, 2, "a refused write takes no revision");
}

async fn a_moved_record_says_where_it_is(backend: Backend) {
    let scene = Scene::new(backend).await;
    let (mut carer, mut client, subject) = (scene.carer(), scene.client(), &scene.client.subject);
    let first =
        carer.put_item(put(subject, "one", note("first"))).await.unwrap().into_inner().header.unwrap();
    let release = |home: &mut Residence| {
        home.standing = Standing::Released;
        home.epoch = 2;
    };
    scene.bench.residence(scene.client.id, release).await.unwrap();
    refused(carer.put_item(put(subject, "two", note("new"))).await, Code::RecordArriving, Grpc::Unavailable);
    carer.get_item(get(&first)).await.unwrap();
    assert_eq!(scene.summary().await.standing, "released");
    scene.bench.region.clock.advance(Duration::from_secs(61));
    refused(carer.get_item(get(&first)).await, Code::RecordArriving, Grpc::Unavailable);
    scene.bench.residence(scene.client.id, |home| home.moved_to = RegionId::new("ca").ok()).await.unwrap();
    let moved = from_status(&status(carer.put_item(put(subject, "two", note("new"))).await));
    assert_eq!((moved.code(), moved.moved()), (Code::RecordMoved, Some(&(RegionId::new("ca").unwrap(), 2))));
    refused(carer.get_item(get(&first)).await, Code::RecordMoved, Grpc::FailedPrecondition);

    scene.bench.residence(scene.client.id, |home| home.standing = Standing::Incoming).await.unwrap();
    refused(carer.get_item(get(&first)).await, Code::RecordArriving, Grpc::Unavailable);
    refused(carer.put_item(put(subject, "two", note("new"))).await, Code::RecordArriving, Grpc::Unavailable);

    scene.bench.residence(scene.client.id, |home| home.standing = Standing::Departed).await.unwrap();
    refused(
        client.put_item(put(subject, "two", reflection("new"))).await,
        Code::RecordMoved,
        Grpc::FailedPrecondition,
    );
    let mine = pb::GetSummaryRequest { subject_id: subject.clone() };
    refused(client.get_summary(mine).await, Code::RecordMoved, Grpc::FailedPrecondition);
    leave_a_tombstone(&scene).await;
    let moved = from_status(&status(carer.get_item(get(&first)).await));
    assert_eq!((moved.code(), moved.moved()), (Code::RecordMoved, Some(&(RegionId::new("ca").unwrap(), 2))));
    let other = scene.bench.practice("olga").await.unwrap();
    let mut other = scene.bench.with(&other.token).unwrap();
    refused(other.get_item(get(&first)).await, Code::NotFound, Grpc::NotFound);
}

/// What a shred leaves: who may know where the record went.
async fn leave_a_tombstone(scene: &Scene) {
    let (subject, practice) = (scene.client.id, scene.practice.id.parse().unwrap());
    let left =
        scene.bench.region.store.write_unaudited("test.tombstone", Scope::Subject(subject), move |tx| {
            Box::pin(async move {
                for table in ["item", "care_relationship"] {
                    tx.execute(&format!("DELETE FROM {table} WHERE subject_id = $1"), values![subject])
                        .await?;
                }
                entitle(tx, subject, &[Entitled::Practice(practice)]).await
            })
        });
    left.await.unwrap();
}

async fn a_joint_session_fails_alone(backend: Backend) {
    let scene = Scene::new(backend).await;
    let frozen = scene.bench.client(&scene.carer.token, "carl").await.unwrap();
    let other = scene.bench.practice("olga").await.unwrap();
    let foreign = scene.bench.client(&other.token, "otto").await.unwrap();
    scene.bench.residence(frozen.id, |home| home.standing = Standing::Frozen).await.unwrap();
    let session = pb::Session { modality: "video".to_owned(), summary: "together".to_owned() };
    let request = pb::PutJointItemRequest {
        subject_ids: vec![frozen.subject.clone(), scene.client.subject.clone(), foreign.subject.clone()],
        idempotency_key: "joint-session-0001".to_owned(),
        draft: Some(draft(payload::Kind::Session(session))),
    };
    let mut carer = scene.carer();
    let answer = carer.put_joint_item(request.clone()).await.unwrap().into_inner();
    let codes: Vec<&str> = answer.results.iter().map(|result| result.error_code.as_str()).collect();
    assert_eq!(codes, [Code::RecordFrozen.as_str(), "", Code::NotFound.as_str()]);
    let entries: Vec<_> =
        scene.entries().await.into_iter().filter(|entry| entry.event.name() == "record.item.write").collect();
    assert_eq!(entries.len(), 3, "one entry for each participant");

    scene.bench.residence(frozen.id, |home| home.standing = Standing::Active).await.unwrap();
    let again = carer.put_joint_item(request.clone()).await.unwrap().into_inner();
    assert_eq!(again.occasion_id, answer.occasion_id);
    assert!(again.results[1] == answer.results[1], "written once");
    let late = again.results[0].header.clone().unwrap();
    assert_eq!(late.occasion_id, answer.occasion_id);
    assert_ne!(late.item_id, answer.results[1].header.as_ref().unwrap().item_id);
    assert_eq!(again.results[2].error_code, Code::NotFound.as_str());

    let alone = pb::PutJointItemRequest { subject_ids: vec![scene.client.subject.clone()], ..request };
    refused(carer.put_joint_item(alone).await, Code::InvalidRequest, Grpc::InvalidArgument);
}

// P6: the ciphertext is bound to its row.
async fn a_payload_opens_only_where_it_was_written(backend: Backend) {
    let scene = Scene::new(backend).await;
    let other = scene.bench.client(&scene.carer.token, "carl").await.unwrap();
    let (mut carer, subject) = (scene.carer(), &scene.client.subject);
    let mut written = Vec::new();
    for (subject, key, text) in
        [(subject, "one", "first"), (subject, "two", "second"), (&other.subject, "one", "third")]
    {
        written
            .push(carer.put_item(put(subject, key, note(text))).await.unwrap().into_inner().header.unwrap());
    }
    let payload = sealed(&scene, scene.client.id, &written[0]).await;
    place(&scene, scene.client.id, &written[1], payload.clone()).await;
    place(&scene, other.id, &written[2], payload).await;
    carer.get_item(get(&written[0])).await.unwrap();
    for moved in &written[1..] {
        refused(carer.get_item(get(moved)).await, Code::ContentDamaged, Grpc::DataLoss);
    }
}

async fn sealed(scene: &Scene, subject: SubjectId, item: &pb::ItemHeader) -> Vec<u8> {
    let item: uuid::Uuid = item.item_id.parse().unwrap();
    let read = scene.bench.region.store.read("test.sealed", Scope::Subject(subject), move |tx| {
        let sql = "SELECT sealed AS value FROM item WHERE subject_id = $1 AND item_id = $2";
        Box::pin(tx.scalar::<Vec<u8>>(sql, values![subject, item]))
    });
    read.await.unwrap().unwrap()
}

async fn place(scene: &Scene, subject: SubjectId, item: &pb::ItemHeader, payload: Vec<u8>) {
    let item: uuid::Uuid = item.item_id.parse().unwrap();
    let write = scene.bench.region.store.write_unaudited("test.place", Scope::Subject(subject), move |tx| {
        let sql = "UPDATE item SET sealed = $3 WHERE subject_id = $1 AND item_id = $2";
        Box::pin(tx.execute(sql, values![subject, item, payload.clone()]))
    });
    assert_eq!(write.await.unwrap(), 1);
}

// P8, P37
async fn every_request_leaves_one_entry_without_content(backend: Backend) {
    let scene = Scene::new(backend).await;
    let (mut carer, subject) = (scene.carer(), &scene.client.subject);
    let before = scene.entries().await.len();
    let header =
        carer.put_item(put(subject, "one", note("MARKED"))).await.unwrap().into_inner().header.unwrap();
    carer.get_item(get(&header)).await.unwrap();
    carer.get_summary(pb::GetSummaryRequest { subject_id: subject.clone() }).await.unwrap();
    let missing = pb::GetItemRequest { item_id: uuid::Uuid::nil().to_string(), ..get(&header) };
    refused(carer.get_item(missing).await, Code::NotFound, Grpc::NotFound);
    let stale = edit(note("MARKED"), &pb::ItemHeader { version: 7, ..header.clone() });
    refused(carer.put_item(put(subject, "two", stale)).await, Code::VersionConflict, Grpc::Aborted);

    let entries = scene.entries().await.split_off(before);
    let said: Vec<_> = entries
        .iter()
        .map(|entry| {
            (
                entry.event.name(),
                entry.subject.is_some(),
                entry.item.is_some(),
                format!("{:?}", entry.outcome),
            )
        })
        .collect();
    assert_eq!(said.len(), 5, "{said:?}");
    assert_eq!((said[0].0, said[0].1, said[0].2), ("record.item.write", true, true));
    assert_eq!((said[1].0, said[1].1, said[1].2), ("record.item.read", true, true));
    assert_eq!((said[2].0, said[2].1, said[2].2), ("record.summary.read", true, false));
    assert_eq!((said[3].0, said[3].1), ("record.item.read", false));
    assert!(said[4].3.contains(Code::VersionConflict.as_str()), "{said:?}");
    let whole: Vec<u8> = entries.iter().flat_map(domicile_evidence::entry::Entry::encode).collect();
    assert!(!whole.windows(6).any(|window| window == b"MARKED"));
}
