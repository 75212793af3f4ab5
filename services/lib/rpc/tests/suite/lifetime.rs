//! Shutdown, age, reconnection.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use domicile_config::Limits;
use domicile_proto::audit::v1 as audit;
use domicile_proto::audit::v1::audit_service_client::AuditServiceClient;
use domicile_rpc::{Io, Listener, Net, TcpNet, connect, from_status};
use domicile_types::{Code, Role};
use tokio::time::timeout;

use crate::certificates::Names;
use crate::services::{ANSWER, HANG, WAIT};
use crate::world::{World, call, limits};

const PATIENCE: Duration = Duration::from_secs(10);

fn list(start: u64) -> audit::ListEntriesRequest {
    audit::ListEntriesRequest { start, ..Default::default() }
}

/// A request in flight is answered; new connections are not taken; then the server is gone.
#[tokio::test]
async fn shutdown_lets_requests_finish() {
    let mut world = World::new().await;
    let mut client = world.audit(Role::Operator);
    let running = tokio::spawn(async move { client.list_entries(list(WAIT)).await });
    world.cases.entered.notified().await;
    world.people.shutdown.cancel();
    while call(world.person(), "/grpc.health.v1.Health/Check").await.is_ok() {
        tokio::task::yield_now().await;
    }
    assert!(!running.is_finished() && !world.people.task.is_finished());
    world.cases.release.notify_one();
    running.await.unwrap().unwrap();
    timeout(PATIENCE, &mut world.people.task).await.unwrap().unwrap();
    call(world.peer(Names::spiffe("region/ca")), "/grpc.health.v1.Health/Check").await.unwrap();
}

/// A silent stream ends at once with UNAVAILABLE, so that a watcher does not hold the process.
#[tokio::test]
async fn shutdown_ends_silent_streams() {
    let mut world = World::with(Limits { grace: Duration::from_secs(3_600), ..limits() }).await;
    let mut client = world.audit(Role::Compliance);
    let mut stream = client.export_bundle(audit::ExportBundleRequest::default()).await.unwrap().into_inner();
    stream.message().await.unwrap().unwrap();
    stream.message().await.unwrap().unwrap();
    world.people.shutdown.cancel();
    let end = timeout(PATIENCE, stream.message()).await.unwrap().err().unwrap();
    assert_eq!((end.code(), from_status(&end).code()), (tonic::Code::Unavailable, Code::ServiceSilent));
    timeout(PATIENCE, &mut world.people.task).await.unwrap().unwrap();
}

/// What does not end within the grace is cut off.
#[tokio::test]
async fn shutdown_does_not_wait_for_ever() {
    let mut world = World::with(Limits { grace: Duration::from_millis(200), ..limits() }).await;
    let mut client = world.audit(Role::Operator);
    let running = tokio::spawn(async move { client.list_entries(list(HANG)).await });
    world.cases.entered.notified().await;
    world.people.shutdown.cancel();
    timeout(PATIENCE, &mut world.people.task).await.unwrap().unwrap();
    assert_eq!(from_status(&running.await.unwrap().err().unwrap()).code(), Code::ServiceSilent);
}

/// The operating system's TCP, with a count of the connections made.
#[derive(Clone, Default)]
struct Counted(Arc<AtomicUsize>);

#[async_trait]
impl Net for Counted {
    async fn connect(&self, host: &str, port: u16) -> std::io::Result<Box<dyn Io>> {
        self.0.fetch_add(1, Ordering::SeqCst);
        TcpNet.connect(host, port).await
    }

    async fn listen(&self, address: SocketAddr) -> std::io::Result<Box<dyn Listener>> {
        TcpNet.listen(address).await
    }
}

/// A connection past its age takes no new requests, lets its own finish, and the channel opens another.
#[tokio::test]
async fn an_old_connection_is_replaced_unnoticed() {
    let world = World::with(Limits { connection_age: Duration::from_millis(300), ..limits() }).await;
    let net = Counted::default();
    let channel =
        connect(world.people_endpoint(), Arc::new(net.clone())).unwrap().bearer("operator").unwrap();
    let client = AuditServiceClient::new(channel);
    let mut first = client.clone();
    let running = tokio::spawn(async move { first.list_entries(list(WAIT)).await });
    world.cases.entered.notified().await;
    let replaced = async {
        while net.0.load(Ordering::SeqCst) < 2 {
            client.clone().list_entries(list(ANSWER)).await.unwrap();
        }
    };
    timeout(PATIENCE, replaced).await.unwrap();
    assert!(!running.is_finished());
    world.cases.release.notify_one();
    running.await.unwrap().unwrap();
}

/// A channel is made before its server is there, and finds it again when it comes back.
#[tokio::test]
async fn a_channel_connects_again_by_itself() {
    let mut world = World::new().await;
    let channel = world.peer(Names::spiffe("region/ca"));
    let health = "/grpc.health.v1.Health/Check";
    call(channel.clone(), health).await.unwrap();
    world.peers.shutdown.cancel();
    timeout(PATIENCE, &mut world.peers.task).await.unwrap().unwrap();
    let silent = call(channel.clone(), health).await.err().unwrap();
    assert_eq!(from_status(&silent).code(), Code::ServiceSilent);
    let listener = TcpNet.listen(world.peers.address).await.unwrap();
    let settings = crate::certificates::peers_listener(world.folder.path());
    let tls = domicile_rpc::ServerTls::peers(&settings).unwrap();
    let server = domicile_rpc::Server::peers(
        domicile_types::Ctx::system(),
        limits(),
        domicile_rpc::Peers::new(),
        world.sink.clone(),
    );
    tokio::spawn(server.serve(listener, tls, tokio_util::sync::CancellationToken::new()));
    call(channel, health).await.unwrap();
}
