//! Grants, care relationships and legal holds.

use std::time::Duration;

use domicile_proto::records::v1 as pb;
use domicile_store::queries::access;
use domicile_store::queries::residency::Standing;
use domicile_store::{Backend, Scope};
use domicile_tests::records::{get, note, put};
use domicile_types::{Clock as _, Code, RegionId};
use tonic::Code as Grpc;

use super::{Scene, refused};

super::on_both!(
    a_grant_ends_by_itself_and_by_hand,
    an_administrator_grants_what_is_the_practices,
    care_is_opened_and_closed,
    control_rows_are_written_while_frozen_and_not_after,
    a_hold_is_placed_and_released,
);

fn grant(scene: &Scene, practitioner: &str, item: &str) -> pb::GrantAccessRequest {
    pb::GrantAccessRequest {
        subject_id: scene.client.subject.clone(),
        practitioner_id: practitioner.to_owned(),
        item_id: item.to_owned(),
        expires_at_micros: scene.bench.region.clock.now().plus(Duration::from_secs(300)).micros(),
    }
}

// P10
async fn a_grant_ends_by_itself_and_by_hand(backend: Backend) {
    let scene = Scene::new(backend).await;
    let subject = &scene.client.subject;
    let header = scene.carer().put_item(put(subject, "one", note("text"))).await.unwrap();
    let header = header.into_inner().header.unwrap();
    let pia = scene.bench.practitioner(&scene.practice.token, "pia").await.unwrap();
    let (mut reader, mut client) = (scene.bench.with(&pia.token).unwrap(), scene.client());
    refused(reader.get_item(get(&header)).await, Code::NotFound, Grpc::NotFound);
    client.grant_access(grant(&scene, &pia.account, "")).await.unwrap();
    reader.get_item(get(&header)).await.unwrap();
    let write = reader.put_item(put(subject, "two", note("text"))).await;
    refused(write, Code::NotFound, Grpc::NotFound);
    scene.bench.region.clock.advance(Duration::from_secs(301));
    refused(reader.get_item(get(&header)).await, Code::NotFound, Grpc::NotFound);

    let given = client.grant_access(grant(&scene, &pia.account, "")).await.unwrap().into_inner();
    reader.get_item(get(&header)).await.unwrap();
    let revoke = pb::RevokeGrantRequest { subject_id: subject.clone(), grant_id: given.grant_id.clone() };
    client.revoke_grant(revoke).await.unwrap();
    refused(reader.get_item(get(&header)).await, Code::NotFound, Grpc::NotFound);
    let list = pb::ListAccessRequest { subject_id: subject.clone() };
    let grants = client.list_access(list).await.unwrap().into_inner().grants;
    assert_eq!(grants.len(), 2);
    assert!(grants[0].grant_id == given.grant_id && grants[0].revoked_at_micros > 0);

    let past = pb::GrantAccessRequest { expires_at_micros: 1_000_000, ..grant(&scene, &pia.account, "") };
    refused(client.grant_access(past).await, Code::InvalidRequest, Grpc::InvalidArgument);
    let nobody = grant(&scene, &uuid::Uuid::nil().to_string(), "");
    refused(client.grant_access(nobody).await, Code::NotFound, Grpc::NotFound);
}

async fn an_administrator_grants_what_is_the_practices(backend: Backend) {
    let scene = Scene::new(backend).await;
    let pia = scene.bench.practitioner(&scene.practice.token, "pia").await.unwrap();
    let (mut admin, mut carer) = (scene.admin(), scene.carer());
    let header = carer.put_item(put(&scene.client.subject, "one", note("text"))).await.unwrap();
    let item = header.into_inner().header.unwrap();
    let psychotherapy = pb::ItemDraft { visibility: "psychotherapy".to_owned(), ..note("text") };
    let own = carer.put_item(put(&scene.client.subject, "two", psychotherapy)).await.unwrap();
    let own = own.into_inner().header.unwrap();
    let given = admin.grant_access(grant(&scene, &pia.account, &item.item_id)).await.unwrap().into_inner();
    scene.bench.with(&pia.token).unwrap().get_item(get(&item)).await.unwrap();
    refused(
        admin.grant_access(grant(&scene, &pia.account, "")).await,
        Code::Forbidden,
        Grpc::PermissionDenied,
    );
    let refusal = admin.grant_access(grant(&scene, &pia.account, &own.item_id)).await;
    refused(refusal, Code::NotFound, Grpc::NotFound);
    let other = scene.bench.practice("olga").await.unwrap();
    let refusal = admin.grant_access(grant(&scene, &other.admin, &item.item_id)).await;
    refused(refusal, Code::Forbidden, Grpc::PermissionDenied);
    let mut stranger = scene.bench.with(&other.token).unwrap();
    let refusal = stranger.grant_access(grant(&scene, &other.admin, &item.item_id)).await;
    refused(refusal, Code::NotFound, Grpc::NotFound);
    let subject_id = scene.client.subject.clone();
    admin.revoke_grant(pb::RevokeGrantRequest { subject_id, grant_id: given.grant_id }).await.unwrap();
    let after = scene.bench.with(&pia.token).unwrap().get_item(get(&item)).await;
    refused(after, Code::NotFound, Grpc::NotFound);
}

async fn care_is_opened_and_closed(backend: Backend) {
    let scene = Scene::new(backend).await;
    let subject_id = &scene.client.subject;
    let other = scene.bench.practice("olga").await.unwrap();
    let (mut client, mut admin) = (scene.client(), scene.admin());
    let mut olga = scene.bench.with(&other.token).unwrap();
    let open = |practitioner: &str| pb::OpenCareRequest {
        subject_id: subject_id.clone(),
        practitioner_id: practitioner.to_owned(),
    };
    let close = |practitioner: &str| pb::CloseCareRequest {
        subject_id: subject_id.clone(),
        practitioner_id: practitioner.to_owned(),
    };
    refused(olga.open_care(open(&other.admin)).await, Code::NotFound, Grpc::NotFound);
    refused(admin.open_care(open(&other.admin)).await, Code::Forbidden, Grpc::PermissionDenied);
    client.open_care(open(&other.admin)).await.unwrap();
    client.open_care(open(&other.admin)).await.unwrap();
    let written =
        olga.put_item(put(subject_id, "one", note("text"))).await.unwrap().into_inner().header.unwrap();
    assert_eq!(written.practice_id, other.id);
    refused(scene.carer().get_item(get(&written)).await, Code::NotFound, Grpc::NotFound);
    refused(scene.carer().close_care(close(&other.admin)).await, Code::NotFound, Grpc::NotFound);
    refused(admin.close_care(close(&other.admin)).await, Code::NotFound, Grpc::NotFound);

    let list = pb::ListAccessRequest { subject_id: subject_id.clone() };
    assert_eq!(client.list_access(list.clone()).await.unwrap().into_inner().care.len(), 2);
    let ours = admin.list_access(list).await.unwrap().into_inner().care;
    assert_eq!(ours.iter().map(|care| &care.practice_id).collect::<Vec<_>>(), [&scene.practice.id]);

    scene.bench.region.clock.advance(Duration::from_secs(1));
    olga.close_care(close(&other.admin)).await.unwrap();
    refused(olga.get_item(get(&written)).await, Code::NotFound, Grpc::NotFound);
    refused(olga.put_item(put(subject_id, "two", note("x"))).await, Code::NotFound, Grpc::NotFound);
    client.open_care(open(&other.admin)).await.unwrap();
    olga.get_item(get(&written)).await.unwrap();

    let unsigned = scene.bench.region.unsigned_practice(&scene.bench.operator, "uwe@practice.example").await;
    let unsigned = unsigned.unwrap();
    let refusal = client.open_care(open(&unsigned.admin)).await;
    refused(refusal, Code::AgreementMissing, Grpc::FailedPrecondition);
}

async fn control_rows_are_written_while_frozen_and_not_after(backend: Backend) {
    let scene = Scene::new(backend).await;
    let pia = scene.bench.practitioner(&scene.practice.token, "pia").await.unwrap();
    let mut client = scene.client();
    let before = residence(&scene).await;
    scene.bench.residence(scene.client.id, |home| home.standing = Standing::Frozen).await.unwrap();
    client.grant_access(grant(&scene, &pia.account, "")).await.unwrap();
    let after = residence(&scene).await;
    assert_eq!((after.revision, after.control_revision), (before.revision, before.control_revision + 1));
    let leave = |home: &mut domicile_store::queries::residency::Residence| {
        home.standing = Standing::Released;
        home.moved_to = RegionId::new("ca").ok();
    };
    scene.bench.residence(scene.client.id, leave).await.unwrap();
    let late = client.grant_access(grant(&scene, &pia.account, "")).await;
    refused(late, Code::RecordMoved, Grpc::FailedPrecondition);
}

async fn residence(scene: &Scene) -> domicile_store::queries::residency::Residence {
    let subject = scene.client.id;
    let read = scene.bench.region.store.read("test.residence", Scope::Subject(subject), move |tx| {
        Box::pin(domicile_store::queries::residency::get(tx, subject))
    });
    read.await.unwrap().unwrap()
}

async fn a_hold_is_placed_and_released(backend: Backend) {
    let scene = Scene::new(backend).await;
    let (subject, mut compliance) = (scene.client.id, scene.bench.with(&scene.bench.compliance).unwrap());
    scene.bench.residence(subject, |home| home.standing = Standing::Frozen).await.unwrap();
    let hold = |reference: &str, held| pb::SetLegalHoldRequest {
        subject_id: scene.client.subject.clone(),
        reference: reference.to_owned(),
        held,
    };
    for (held, standing) in [(true, true), (true, true), (false, false), (false, false), (true, true)] {
        scene.bench.region.clock.advance(Duration::from_secs(1));
        compliance.set_legal_hold(hold("AZ-12/2026", held)).await.unwrap();
        let read = scene
            .bench
            .region
            .store
            .read("test.held", Scope::Subject(subject), move |tx| Box::pin(access::held(tx, subject)));
        assert_eq!(read.await.unwrap(), standing);
    }
    refused(compliance.set_legal_hold(hold("AZ-13/2026", false)).await, Code::NotFound, Grpc::NotFound);
    for bad in ["", "Clara Nord", "x\r\ny", &"a".repeat(65)] {
        refused(
            compliance.set_legal_hold(hold(bad, true)).await,
            Code::InvalidRequest,
            Grpc::InvalidArgument,
        );
    }
    let nobody = pb::SetLegalHoldRequest { subject_id: uuid::Uuid::nil().to_string(), ..hold("A", true) };
    refused(compliance.set_legal_hold(nobody).await, Code::NotFound, Grpc::NotFound);
    let refusal = scene.client().set_legal_hold(hold("A", true)).await;
    refused(refusal, Code::Forbidden, Grpc::PermissionDenied);
}
