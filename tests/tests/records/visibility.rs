//! Who sees what (P9, P10, P11, P13), and that a stranger learns nothing.

use domicile_proto::records::v1::{self as pb, payload};
use domicile_store::Backend;
use domicile_tests::records::{RecordsClient, draft, edit, get, note, put, reflection};
use domicile_types::Code;
use tonic::Code as Grpc;

use super::{Scene, refused, shape, status};

super::on_both!(each_reader_sees_what_is_theirs, a_stranger_learns_nothing, what_is_taken_back_is_gone);

/// Everybody who might read the client's record.
struct Readers {
    client: RecordsClient,
    author: RecordsClient,
    colleague: RecordsClient,
    outsider: RecordsClient,
    elsewhere: RecordsClient,
    by_item: RecordsClient,
    by_record: RecordsClient,
    stranger: RecordsClient,
}

/// Items of each visibility, by a name.
struct Written(Vec<(&'static str, pb::ItemHeader)>);

impl Written {
    fn of(&self, name: &str) -> &pb::ItemHeader {
        self.0.iter().find(|(known, _)| *known == name).map(|(_, header)| header).unwrap()
    }
}

async fn written(scene: &Scene) -> Written {
    let subject = &scene.client.subject;
    let note_as = |visibility: &str| pb::ItemDraft { visibility: visibility.to_owned(), ..note("text") };
    let message =
        draft(payload::Kind::Message(pb::Message { title: String::new(), text: "hello".to_owned() }));
    let shared = pb::ItemDraft { visibility: "shared".to_owned(), ..reflection("mine") };
    let (mut carer, mut client) = (scene.carer(), scene.client());
    let mut all = Vec::new();
    for (name, draft) in [
        ("shared note", note_as("shared")),
        ("practice's note", note_as("practitioner")),
        ("psychotherapy note", note_as("psychotherapy")),
    ] {
        all.push((
            name,
            carer
                .put_item(put(subject, &all.len().to_string(), draft))
                .await
                .unwrap()
                .into_inner()
                .header
                .unwrap(),
        ));
    }
    for (name, draft) in
        [("message", message), ("reflection", reflection("mine")), ("shared reflection", shared)]
    {
        all.push((
            name,
            client
                .put_item(put(subject, &all.len().to_string(), draft))
                .await
                .unwrap()
                .into_inner()
                .header
                .unwrap(),
        ));
    }
    Written(all)
}

async fn readers(scene: &Scene, written: &Written) -> Readers {
    let bench = &scene.bench;
    let (colleague, outsider) = (
        bench.practitioner(&scene.practice.token, "colleague").await.unwrap(),
        bench.practitioner(&scene.practice.token, "outsider").await.unwrap(),
    );
    let other = bench.practice("olga").await.unwrap();
    let elsewhere = bench.practitioner(&other.token, "elsewhere").await.unwrap();
    let by_item = bench.practitioner(&other.token, "by-item").await.unwrap();
    let by_record = bench.practitioner(&other.token, "by-record").await.unwrap();
    let (subject_id, mut client) = (scene.client.subject.clone(), scene.client());
    for carer in [&colleague, &elsewhere] {
        let request =
            pb::OpenCareRequest { subject_id: subject_id.clone(), practitioner_id: carer.account.clone() };
        client.open_care(request).await.unwrap();
    }
    let expires_at_micros = {
        use domicile_types::Clock as _;
        bench.region.clock.now().plus(std::time::Duration::from_secs(600)).micros()
    };
    for (carer, item_id) in
        [(&by_item, written.of("shared note").item_id.clone()), (&by_record, String::new())]
    {
        let practitioner_id = carer.account.clone();
        let request = pb::GrantAccessRequest {
            subject_id: subject_id.clone(),
            practitioner_id,
            item_id,
            expires_at_micros,
        };
        client.grant_access(request).await.unwrap();
    }
    let with = |token: &str| bench.with(token).unwrap();
    Readers {
        client,
        author: scene.carer(),
        colleague: with(&colleague.token),
        outsider: with(&outsider.token),
        elsewhere: with(&elsewhere.token),
        by_item: with(&by_item.token),
        by_record: with(&by_record.token),
        stranger: with(&other.token),
    }
}

async fn each_reader_sees_what_is_theirs(backend: Backend) {
    let scene = Scene::new(backend).await;
    let written = written(&scene).await;
    let readers = readers(&scene, &written).await;
    let all = [
        "shared note",
        "practice's note",
        "psychotherapy note",
        "message",
        "reflection",
        "shared reflection",
    ];
    let matrix: [(&str, RecordsClient, &[&str]); 9] = [
        ("client", readers.client, &["shared note", "message", "reflection", "shared reflection"]),
        (
            "author",
            readers.author,
            &["shared note", "practice's note", "psychotherapy note", "message", "shared reflection"],
        ),
        (
            "colleague in care",
            readers.colleague,
            &["shared note", "practice's note", "message", "shared reflection"],
        ),
        ("colleague", readers.outsider, &[]),
        ("other practice in care", readers.elsewhere, &["message", "shared reflection"]),
        ("grant of an item", readers.by_item, &["shared note"]),
        (
            "grant of the record",
            readers.by_record,
            &["shared note", "practice's note", "message", "shared reflection"],
        ),
        ("administrator without caseload", scene.admin(), &[]),
        ("stranger", readers.stranger, &[]),
    ];
    for (who, mut reader, sees) in matrix {
        let request = pb::ListItemsRequest {
            subject_id: scene.client.subject.clone(),
            with_payloads: true,
            ..Default::default()
        };
        let listed = match reader.list_items(request).await {
            Ok(answer) => {
                answer.into_inner().items.into_iter().map(|item| item.header.unwrap().item_id).collect()
            }
            Err(status) if status.code() == Grpc::NotFound && sees.is_empty() => Vec::new(),
            Err(status) => panic!("{who}: {status:?}"),
        };
        for name in all {
            let header = written.of(name);
            let expected = sees.contains(&name);
            assert_eq!(listed.contains(&header.item_id), expected, "{who} lists {name}");
            match reader.get_item(get(header)).await {
                Ok(_) => assert!(expected, "{who} reads {name}"),
                Err(status) => {
                    assert!(!expected && status.code() == Grpc::NotFound, "{who} {name} {status:?}");
                }
            }
        }
        let request = pb::GetSummaryRequest { subject_id: scene.client.subject.clone() };
        let counted: u64 = match reader.get_summary(request).await {
            Ok(answer) => answer.into_inner().kinds.iter().map(|kind| kind.items).sum(),
            Err(_) => 0,
        };
        assert_eq!(counted, sees.len() as u64, "{who} counts");
    }
}

async fn a_stranger_learns_nothing(backend: Backend) {
    let scene = Scene::new(backend).await;
    let header = scene.carer().put_item(put(&scene.client.subject, "one", note("text"))).await.unwrap();
    let header = header.into_inner().header.unwrap();
    let other = scene.bench.practice("olga").await.unwrap();
    let oskar = scene.bench.practitioner(&other.token, "oskar").await.unwrap();
    let otto = scene.bench.client(&oskar.token, "otto").await.unwrap();
    let absent = pb::ItemHeader {
        subject_id: "6f2c8a4e-5b1d-4c3e-9a7f-0123456789ab".to_owned(),
        item_id: "01890a5d-ac96-774b-bcce-b302099a8057".to_owned(),
        version: 1,
        ..Default::default()
    };
    for token in [&oskar.token, &otto.token] {
        let mut stranger = scene.bench.with(token).unwrap();
        let mut shapes = [Vec::new(), Vec::new()];
        for (header, shapes) in [&header, &absent].into_iter().zip(&mut shapes) {
            let subject_id = header.subject_id.clone();
            let item_id = header.item_id.clone();
            shapes.push(shape(&status(stranger.get_item(get(header)).await)));
            let list = pb::ListItemsRequest { subject_id: subject_id.clone(), ..Default::default() };
            shapes.push(shape(&status(stranger.list_items(list).await)));
            let versions =
                pb::ListVersionsRequest { subject_id: subject_id.clone(), item_id: item_id.clone() };
            shapes.push(shape(&status(stranger.list_versions(versions).await)));
            let summary = pb::GetSummaryRequest { subject_id: subject_id.clone() };
            shapes.push(shape(&status(stranger.get_summary(summary).await)));
            let draft = if token == &otto.token { reflection("x") } else { note("x") };
            shapes.push(shape(&status(stranger.put_item(put(&subject_id, "new", draft.clone())).await)));
            shapes
                .push(shape(&status(stranger.put_item(put(&subject_id, "edit", edit(draft, header))).await)));
            let export =
                pb::ExportFhirRequest { subject_id: subject_id.clone(), bundle_item_id: item_id.clone() };
            shapes.push(shape(&status(stranger.export_fhir(export).await)));
            let download = pb::DownloadObjectRequest { subject_id: subject_id.clone(), item_id };
            shapes.push(shape(&status(stranger.download_object(download).await)));
            let access = pb::ListAccessRequest { subject_id: subject_id.clone() };
            shapes.push(shape(&status(stranger.list_access(access).await)));
        }
        assert_eq!(shapes[0], shapes[1]);
        assert!(shapes[0].iter().all(|shape| shape.starts_with("NotFound")), "{:?}", shapes[0]);
    }
    let keyring = &scene.bench.region.keyring;
    let made_up = keyring.subject_key_count(absent.subject_id.parse().unwrap()).await.unwrap();
    assert_eq!(made_up, 0, "an id made up leaves no key behind");
    // Roles without clinical data are stopped before anything is read (P12).
    for token in [&scene.bench.operator, &scene.bench.compliance] {
        let mut nobody = scene.bench.with(token).unwrap();
        refused(nobody.get_item(get(&header)).await, Code::Forbidden, Grpc::PermissionDenied);
    }
}

// P13
async fn what_is_taken_back_is_gone(backend: Backend) {
    let scene = Scene::new(backend).await;
    let (mut carer, mut client, subject) = (scene.carer(), scene.client(), &scene.client.subject);
    let private = client.put_item(put(subject, "one", reflection("private"))).await.unwrap();
    let private = private.into_inner().header.unwrap();
    let shared = pb::ItemDraft { visibility: "shared".to_owned(), ..edit(reflection("shared"), &private) };
    let shared = client.put_item(put(subject, "two", shared)).await.unwrap().into_inner().header.unwrap();
    carer.get_item(get(&shared)).await.unwrap();
    let before = pb::GetItemRequest { version: 1, ..get(&private) };
    refused(carer.get_item(before.clone()).await, Code::NotFound, Grpc::NotFound);
    client.get_item(before).await.unwrap();

    let back = pb::ItemDraft { visibility: "client_private".to_owned(), ..edit(reflection("mine"), &shared) };
    client.put_item(put(subject, "three", back)).await.unwrap();
    for version in 0..=3 {
        let request = pb::GetItemRequest { version, ..get(&shared) };
        refused(carer.get_item(request).await, Code::NotFound, Grpc::NotFound);
    }
    let versions = pb::ListVersionsRequest { subject_id: subject.clone(), item_id: shared.item_id.clone() };
    refused(carer.list_versions(versions).await, Code::NotFound, Grpc::NotFound);
}
