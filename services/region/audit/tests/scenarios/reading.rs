//! What may be asked of the log.

use std::sync::Arc;

use domicile_audit::AuditGrpc;
use domicile_evidence::entry::Entry;
use domicile_evidence::event::EventType;
use domicile_evidence::statement::{AbortReason, Body, Lane};
use domicile_proto::audit::v1::audit_service_server::AuditService as _;
use domicile_proto::audit::v1::{
    ExportBundleRequest, GetCheckpointRequest, GetInclusionProofRequest, ListEntriesRequest,
    ListOwnEntriesRequest,
};
use domicile_types::{Actor, AuditScope, Code, RequestId, Role, SubjectId, TransferId};
use tokio_stream::StreamExt as _;

use super::site::{Process, Site, region};

fn client(process: &Process, subject: SubjectId) -> Arc<AuditScope> {
    let actor = Actor { subject: Some(subject), ..Actor::of(Role::Client) };
    AuditScope::new(EventType::AuditOwnRead.name(), actor, RequestId::generate(process.store.ctx()))
}

pub async fn a_client_reads_what_was_done_with_their_record(site: Site<'_>) {
    let process = site.start().await;
    let ctx = process.store.ctx();
    let (mine, other) = (SubjectId::generate(ctx), SubjectId::generate(ctx));
    for subject in [mine, other, mine, other, mine] {
        process.read(subject).await;
    }
    process.app.checkpoint().await.expect("in the log");
    let scope = client(&process, mine);
    let entries = process.app.own_entries(&scope, 0, 0).await.expect("entries");
    assert_eq!(entries.len(), 3);
    for row in &entries {
        assert_eq!(Entry::decode(&row.entry).expect("an entry").subject, Some(*mine.as_bytes()));
    }
    assert_eq!(scope.subject(), Some(mine), "the look is itself about the record");
    let rest = process.app.own_entries(&scope, entries[0].index + 1, 1).await.expect("entries");
    assert_eq!(rest[0].index, entries[1].index);
    let operator = AuditScope::new("audit.own.read", Actor::of(Role::Operator), RequestId::generate(ctx));
    let refused = process.app.own_entries(&operator, 0, 0).await.err().expect("no client");
    assert_eq!(refused.code(), Code::Forbidden);
    process.stop().await;
}

pub async fn entries_are_listed_by_index_and_by_transfer(site: Site<'_>) {
    let process = site.start().await;
    let transfer = TransferId::generate(process.store.ctx());
    let mut lane = Lane::new(transfer, 1, region("eu"));
    let other = Lane::new(transfer, 1, region("ca"));
    for _ in 0..3 {
        process.reads(2).await;
        lane = process.state(&lane, &other, &Body::Unfrozen { freeze: 1 }).await;
    }
    process.app.checkpoint().await.expect("in the log");
    let (entries, size) = process.app.entries(2, 4, None).await.expect("entries");
    assert_eq!((entries.iter().map(|row| row.index).collect::<Vec<_>>(), size), (vec![2, 3, 4, 5], 9));
    let (steps, _) = process.app.entries(0, 0, Some(transfer)).await.expect("entries");
    assert_eq!(steps.len(), 3);
    let refused = process.app.entries(0, 1001, None).await.err().expect("too many");
    assert_eq!((refused.code(), refused.place()), (Code::InvalidRequest, Some("limit")));
    let (none, _) = process.app.entries(u64::MAX, 1, None).await.expect("nothing there");
    assert!(none.is_empty());
    process.stop().await;
}

pub async fn every_entry_has_its_proof(site: Site<'_>) {
    let process = site.start().await;
    process.reads(13).await;
    process.app.checkpoint().await.expect("in the log");
    for index in 0..13 {
        let proof = process.app.proof(index).await.expect("a proof");
        let (checkpoint, _) = proof.verify(process.sequencer.log()).expect("verifies");
        assert_eq!((proof.index, checkpoint.size), (index, 13));
    }
    assert_eq!(process.app.proof(13).await.expect_err("not there").code(), Code::NotFound);
    process.stop().await;
}

pub async fn a_closing_proof_convinces_the_other_region(site: Site<'_>) {
    let process = site.start().await;
    process.reads(5).await;
    let transfer = TransferId::generate(process.store.ctx());
    let lane = Lane::new(transfer, 1, region("eu"));
    let body = Body::Aborting { reason: AbortReason::Cancelled };
    let lane = process.state(&lane, &Lane::new(transfer, 1, region("ca")), &body).await;
    let proof = process.closing.of_statement(transfer, lane.last_digest).await.expect("a proof");
    let (checkpoint, entry) = proof.verify(process.sequencer.log()).expect("verifies");
    let reference = entry.statement.expect("a statement");
    assert_eq!((reference.transfer, reference.digest), (transfer, lane.last_digest));
    assert!(checkpoint.size > proof.index);
    let again = process.closing.of_event(entry.event_id).await.expect("a proof");
    assert_eq!(again.entry, proof.entry);

    let mut wrong = proof.clone();
    wrong.entry[40] ^= 1;
    assert!(wrong.verify(process.sequencer.log()).is_err());
    assert!(proof.verify(&site.keys().statement).is_err(), "another key");
    process.stop().await;
}

pub async fn a_bundle_convinces_a_stranger(site: Site<'_>) {
    let process = site.start().await;
    let transfers: Vec<_> = (0..3).map(|_| TransferId::generate(process.store.ctx())).collect();
    for transfer in &transfers {
        let (ours, theirs) =
            (Lane::new(*transfer, 1, site.settings.region.clone()), Lane::new(*transfer, 1, region("au")));
        process.reads(150).await;
        let body = Body::Requested {
            source: site.settings.region.clone(),
            destination: region("au"),
            expires_at: process.store.ctx().now().plus(std::time::Duration::from_secs(3600)),
        };
        let ours = process.state(&ours, &theirs, &body).await;
        process.app.checkpoint().await.expect("signed");
        process.state(&ours, &theirs, &Body::Aborting { reason: AbortReason::Withdrawn }).await;
    }
    let whole = process.verified(None).await.report;
    assert_eq!((whole.findings.as_slice(), whole.entries, whole.statements), (&[][..], 457, 6));
    assert!(whole.keys_pinned && whole.checkpoints >= 3, "{} checkpoints", whole.checkpoints);
    assert_eq!(whole.signed_quorum, Some(0));
    let one = process.verified(Some(transfers[1])).await.report;
    assert_eq!((one.findings.as_slice(), one.statements), (&[][..], 2));
    process.stop().await;
}

pub async fn a_reader_that_goes_away_ends_the_export(site: Site<'_>) {
    let process = site.start().await;
    process.reads(600).await;
    let scope = process.scope(EventType::AuditExport, None);
    let mut pieces = process.app.export(&scope, None).await.expect("exports");
    assert!(pieces.next().await.is_some_and(|piece| piece.is_ok()));
    drop(pieces);
    process.reads(1).await;
    process.app.checkpoint().await.expect("nothing is held up");
    process.stop().await;
}

pub async fn the_service_answers_over_grpc(site: Site<'_>) {
    let process = site.start().await;
    let subject = SubjectId::generate(process.store.ctx());
    process.read(subject).await;
    let grpc = AuditGrpc::new(Arc::clone(&process.app));
    let checkpoint =
        grpc.get_checkpoint(tonic::Request::new(GetCheckpointRequest {})).await.expect("answers");
    let note = checkpoint.into_inner().checkpoint;
    domicile_evidence::checkpoint::Checkpoint::verify(&note, process.sequencer.log()).expect("signed");

    let listed =
        |transfer_id: &str| ListEntriesRequest { start: 0, limit: 10, transfer_id: transfer_id.into() };
    let all = grpc.list_entries(tonic::Request::new(listed(""))).await.expect("answers").into_inner();
    assert_eq!((all.entries.len(), all.size), (1, 1));
    let bad = grpc.list_entries(tonic::Request::new(listed("x"))).await.err().expect("refused");
    assert_eq!(bad.code(), tonic::Code::InvalidArgument);

    let proof = GetInclusionProofRequest { index: 0 };
    let proof = grpc.get_inclusion_proof(tonic::Request::new(proof)).await.expect("answers").into_inner();
    assert_eq!((proof.entry.clone(), proof.proof.len()), (all.entries[0].entry.clone(), 0));

    let mut own = tonic::Request::new(ListOwnEntriesRequest { start: 0, limit: 0 });
    own.extensions_mut().insert(client(&process, subject));
    assert_eq!(grpc.list_own_entries(own).await.expect("answers").into_inner().entries.len(), 1);
    let unguarded = tonic::Request::new(ListOwnEntriesRequest { start: 0, limit: 0 });
    assert!(grpc.list_own_entries(unguarded).await.is_err(), "served without the guard");

    let mut export = tonic::Request::new(ExportBundleRequest { transfer_id: String::new() });
    export.extensions_mut().insert(process.scope(EventType::AuditExport, None));
    let mut stream = grpc.export_bundle(export).await.expect("answers").into_inner();
    let first = stream.next().await.expect("a piece").expect("content");
    assert!(first.content.starts_with(domicile_evidence::bundle::MAGIC));
    process.stop().await;
}
