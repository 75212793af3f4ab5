//! Recorded before the answer leaves, or no answer (P37).

use std::sync::atomic::Ordering;

use domicile_proto::audit::v1 as audit;
use domicile_rpc::from_status;
use domicile_types::{Code, Role};

use crate::certificates::Names;
use crate::services::{ALREADY_RECORDED, ANSWER, MISSING, PANIC};
use crate::world::{Recorded, World, call, code};

fn list(start: u64) -> audit::ListEntriesRequest {
    audit::ListEntriesRequest { start, ..Default::default() }
}

fn read(role: Role, outcome: Result<(), Code>) -> Recorded {
    Recorded { event: "audit.read", role, outcome }
}

/// P37
#[tokio::test]
async fn the_entry_is_durable_before_the_answer_leaves() {
    let world = World::new().await;
    let mut client = world.audit(Role::Operator);
    client.list_entries(list(ANSWER)).await.unwrap();
    assert_eq!(world.sink.taken(), [read(Role::Operator, Ok(()))]);
    world.sink.waiting.store(true, Ordering::SeqCst);
    world.sink.entered.notified().await;
    let answering = tokio::spawn(async move { client.list_entries(list(ANSWER)).await });
    world.sink.entered.notified().await;
    // The same connection carries another call there and back; this one's answer has not left.
    call(world.signed_in(Role::Operator), "/grpc.health.v1.Health/Check").await.unwrap();
    assert!(!answering.is_finished());
    world.sink.release.notify_one();
    answering.await.unwrap().unwrap();
    assert_eq!(world.sink.taken(), [read(Role::Operator, Ok(()))]);
}

/// P37, for a streamed answer: the entry stands before its head.
#[tokio::test]
async fn a_stream_is_recorded_before_it_begins() {
    let world = World::new().await;
    let mut client = world.audit(Role::Compliance);
    let mut stream = client.export_bundle(audit::ExportBundleRequest::default()).await.unwrap().into_inner();
    let recorded = Recorded { event: "audit.export", role: Role::Compliance, outcome: Ok(()) };
    assert_eq!(world.sink.taken(), [recorded]);
    assert_eq!(stream.message().await.unwrap().unwrap().content.len(), 1024);
}

#[tokio::test]
async fn what_the_change_recorded_is_not_recorded_again() {
    let world = World::new().await;
    world.audit(Role::Operator).list_entries(list(ALREADY_RECORDED)).await.unwrap();
    assert_eq!(world.sink.taken(), []);
}

#[tokio::test]
async fn failures_and_refusals_are_recorded_too() {
    let world = World::new().await;
    let mut client = world.audit(Role::Operator);
    client.list_entries(list(MISSING)).await.err().unwrap();
    client.list_entries(list(PANIC)).await.err().unwrap();
    world.audit(Role::Client).list_entries(list(ANSWER)).await.err().unwrap();
    let stranger = world.person().bearer("no-such-session").unwrap();
    assert_eq!(
        code(stranger, "/domicile.audit.v1.AuditService/GetCheckpoint").await,
        Some(Code::Unauthenticated)
    );
    let expected = [
        read(Role::Operator, Err(Code::NotFound)),
        read(Role::Operator, Err(Code::Internal)),
        read(Role::Client, Err(Code::Forbidden)),
        read(Role::Anonymous, Err(Code::Unauthenticated)),
    ];
    assert_eq!(world.sink.taken(), expected);
}

/// An RPC that shows nothing about anybody leaves no entry, except when somebody is turned away.
#[tokio::test]
async fn an_unaudited_rpc_records_refusals_alone() {
    let world = World::new().await;
    let path = "/domicile.transfer.v1.TransferControlService/ListOpen";
    assert_eq!(code(world.peer(Names::spiffe("coordinator")), path).await, None);
    assert_eq!(world.sink.taken(), []);
    assert_eq!(code(world.peer(Names::spiffe("region/ca")), path).await, Some(Code::Forbidden));
    assert_eq!(code(world.peer(Names::spiffe("region/us")), path).await, Some(Code::PeerUnknown));
    let refused = |role, code| Recorded { event: "tls.peer_refused", role, outcome: Err(code) };
    assert_eq!(
        world.sink.taken(),
        [refused(Role::Region, Code::Forbidden), refused(Role::Anonymous, Code::PeerUnknown)]
    );
}

/// P37: if the log cannot be written, the request fails, and shows nothing.
#[tokio::test]
async fn without_the_entry_there_is_no_answer() {
    let world = World::new().await;
    world.sink.failing.store(true, Ordering::SeqCst);
    let mut client = world.audit(Role::Operator);
    for start in [ANSWER, MISSING, PANIC] {
        let status = client.list_entries(list(start)).await.err().unwrap();
        assert_eq!(from_status(&status).code(), Code::AuditUnavailable);
        assert!(!format!("{status:?}").contains("disk full"));
    }
    let stream = world.audit(Role::Compliance).export_bundle(audit::ExportBundleRequest::default()).await;
    assert_eq!(stream.err().map(|status| from_status(&status).code()), Some(Code::AuditUnavailable));
    assert_eq!(world.cases.calls.load(Ordering::SeqCst), 3);
    world.sink.failing.store(false, Ordering::SeqCst);
    client.list_entries(list(ANSWER)).await.unwrap();
}
