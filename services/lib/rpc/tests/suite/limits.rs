//! Bad input and floods: closed by our own limits, nobody else notices.

use std::sync::atomic::Ordering;
use std::time::Duration;

use domicile_config::Limits;
use domicile_proto::audit::v1 as audit;
use domicile_rpc::from_status;
use domicile_types::{Code, Role};
use futures::StreamExt as _;
use futures::stream;
use http::uri::PathAndQuery;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tonic::Code as Grpc;

use crate::services::{ANSWER, HANG, PANIC};
use crate::world::{Recorded, World, call, limits};

fn list(start: u64) -> audit::ListEntriesRequest {
    audit::ListEntriesRequest { start, ..Default::default() }
}

#[tokio::test]
async fn a_message_over_four_mebibytes_is_out_of_range() {
    let world = World::new().await;
    let mut client = world.audit(Role::Operator);
    let huge = audit::ListEntriesRequest { transfer_id: "x".repeat(4 * 1024 * 1024), ..Default::default() };
    let status = client.list_entries(huge).await.err().unwrap();
    assert_eq!((status.code(), from_status(&status).code()), (Grpc::OutOfRange, Code::TooLarge));
    assert_eq!(world.cases.calls.load(Ordering::SeqCst), 0);
    let refused = Recorded { event: "audit.read", role: Role::Operator, outcome: Err(Code::TooLarge) };
    assert_eq!(world.sink.taken(), [refused]);
    client.list_entries(list(ANSWER)).await.unwrap();
}

/// Malformed protobuf is the caller's mistake, with its place; the decoder's words stay here.
#[tokio::test]
async fn a_malformed_message_is_an_invalid_argument() {
    let world = World::new().await;
    let mut grpc = tonic::client::Grpc::new(world.signed_in(Role::Operator));
    grpc.ready().await.unwrap();
    // ListOwnEntriesRequest sent where ListEntriesRequest is read: field 3 holds what is not UTF-8.
    let path = PathAndQuery::from_static("/domicile.audit.v1.AuditService/ListEntries");
    let wrong = audit::GetInclusionProofResponse { proof: vec![vec![0xff, 0xfe]], ..Default::default() };
    let codec = tonic_prost::ProstCodec::<audit::GetInclusionProofResponse, ()>::default();
    let status = grpc.unary(tonic::Request::new(wrong), path, codec).await.err().unwrap();
    let error = from_status(&status);
    assert_eq!((error.code(), error.place()), (Code::InvalidRequest, Some("ListEntriesRequest.transfer_id")));
    assert!(!status.message().contains("UTF-8"));
}

/// A panic is an internal error of its own request: the connection and the server go on.
#[tokio::test]
async fn a_panic_ends_one_request_and_tells_nothing() {
    let world = World::new().await;
    let mut client = world.audit(Role::Operator);
    for _ in 0..3 {
        let status = client.list_entries(list(PANIC)).await.err().unwrap();
        assert_eq!(from_status(&status).code(), Code::Internal);
        assert!(!format!("{status:?}").contains("Ann Example"));
    }
    client.list_entries(list(ANSWER)).await.unwrap();
}

#[tokio::test]
async fn a_request_ends_at_its_deadline() {
    let world = World::with(Limits { deadline: Duration::from_millis(200), ..limits() }).await;
    let status = world.audit(Role::Operator).list_entries(list(HANG)).await.err().unwrap();
    assert_eq!(
        (status.code(), from_status(&status).code()),
        (Grpc::DeadlineExceeded, Code::DeadlineExceeded)
    );
    let ended = Recorded { event: "audit.read", role: Role::Operator, outcome: Err(Code::DeadlineExceeded) };
    assert_eq!(world.sink.taken(), [ended]);
}

/// A named deadline counts up to the longest allowed.
#[tokio::test]
async fn no_deadline_is_longer_than_allowed() {
    let longest = Duration::from_millis(200);
    let world = World::with(Limits { deadline: longest, longest_deadline: longest, ..limits() }).await;
    let mut request = tonic::Request::new(list(HANG));
    request.set_timeout(Duration::from_secs(3_600));
    let status = world.audit(Role::Operator).list_entries(request).await.err().unwrap();
    assert_eq!(from_status(&status).code(), Code::DeadlineExceeded);
}

/// A streamed request whose next piece does not come is ended.
#[tokio::test]
async fn a_slow_upload_is_ended() {
    let world = World::with(Limits { stream_idle: Duration::from_millis(100), ..limits() }).await;
    let mut grpc = tonic::client::Grpc::new(world.signed_in(Role::Practitioner));
    grpc.ready().await.unwrap();
    let path = PathAndQuery::from_static("/domicile.records.v1.RecordsService/UploadObject");
    let codec = tonic_prost::ProstCodec::<(), ()>::default();
    let pieces = stream::iter([(), ()]).chain(stream::pending());
    let status = grpc.client_streaming(tonic::Request::new(pieces), path, codec).await.err().unwrap();
    assert_eq!(from_status(&status).code(), Code::DeadlineExceeded);
}

/// A connection that never shakes hands is closed, and one too many is not taken.
#[tokio::test]
async fn silent_and_surplus_connections_are_closed() {
    let world =
        World::with(Limits { handshake: Duration::from_millis(300), connections: 2, ..limits() }).await;
    let connect = || TcpStream::connect(world.people.address);
    let mut silent = [connect().await.unwrap(), connect().await.unwrap()];
    let mut surplus = connect().await.unwrap();
    let mut byte = [0];
    for stream in std::iter::once(&mut surplus).chain(&mut silent) {
        let end = timeout(Duration::from_secs(10), stream.read(&mut byte)).await.unwrap();
        assert!(!matches!(end, Ok(1..)), "closed without a word");
    }
    call(world.person(), "/grpc.health.v1.Health/Check").await.unwrap();
}

/// A flood of resets closes its own connection (CVE-2023-44487); others go on.
#[tokio::test]
async fn a_flood_of_resets_harms_nobody_else() {
    let world = World::with(Limits { resets: 20, ..limits() }).await;
    let mut other = world.audit(Role::Operator);
    other.list_entries(list(ANSWER)).await.unwrap();
    let flooding = world.audit(Role::Operator);
    for _ in 0..500 {
        let mut client = flooding.clone();
        let call = tokio::spawn(async move { client.list_entries(list(HANG)).await });
        tokio::task::yield_now().await;
        call.abort();
    }
    other.list_entries(list(ANSWER)).await.unwrap();
    flooding.clone().list_entries(list(ANSWER)).await.unwrap();
}
