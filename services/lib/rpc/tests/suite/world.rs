//! Two listeners with everything around them.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use domicile_config::{Limits, SpiffeId};
use domicile_proto::audit::v1::audit_service_client::AuditServiceClient;
use domicile_proto::audit::v1::audit_service_server::AuditServiceServer;
use domicile_rpc::{
    AuditSink, Channel, ClientIdentity, Endpoint, Net as _, Peers, Pem, Server, ServerIdentity, ServerTls,
    Sessions, TcpNet, connect, from_status,
};
use domicile_types::{Actor, AuditScope, Code, Ctx, Error, RegionId, Result, Role};
use http::uri::PathAndQuery;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::certificates::{Authority, Names, peers_listener, people_listener, replace, spiffe};
use crate::services::{Cases, Yes};

/// What the sink was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Recorded {
    pub(crate) event: &'static str,
    pub(crate) role: Role,
    pub(crate) outcome: Result<(), Code>,
}

/// A sink that remembers, and fails or waits when told to.
#[derive(Default)]
pub(crate) struct Sink {
    pub(crate) entries: Mutex<Vec<Recorded>>,
    pub(crate) failing: AtomicBool,
    pub(crate) waiting: AtomicBool,
    pub(crate) entered: Notify,
    pub(crate) release: Notify,
}

#[async_trait]
impl AuditSink for Sink {
    async fn record(&self, scope: &AuditScope, outcome: Result<(), Code>) -> Result<()> {
        self.entered.notify_one();
        if self.failing.load(Ordering::SeqCst) {
            return Err(Error::new(Code::StoreUnavailable).because("disk full"));
        }
        if self.waiting.load(Ordering::SeqCst) {
            self.release.notified().await;
        }
        self.entries.lock().unwrap().push(Recorded { event: scope.event, role: scope.actor.role, outcome });
        Ok(())
    }
}

impl Sink {
    pub(crate) fn taken(&self) -> Vec<Recorded> {
        std::mem::take(&mut *self.entries.lock().unwrap())
    }
}

/// Sessions whose token is the role's name.
struct TokenIsRole;

#[async_trait]
impl Sessions for TokenIsRole {
    async fn actor(&self, token: &str) -> Result<Actor> {
        Role::parse(token).map(Actor::of).ok_or_else(|| Error::new(Code::Unauthenticated))
    }
}

pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    pub(crate) shutdown: CancellationToken,
    pub(crate) task: JoinHandle<()>,
}

pub(crate) struct World {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) authority: Authority,
    pub(crate) sink: Arc<Sink>,
    pub(crate) cases: Cases,
    pub(crate) yes: Yes<0>,
    pub(crate) people: Running,
    pub(crate) peers: Running,
}

pub(crate) fn limits() -> Limits {
    Limits { grace: std::time::Duration::from_secs(5), ..Limits::default() }
}

pub(crate) fn name(path: &str) -> SpiffeId {
    SpiffeId::parse(&spiffe(path)).unwrap()
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(limits()).await
    }

    pub(crate) async fn with(limits: Limits) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::new();
        replace(&folder.path().join("authority.pem"), &authority.pem());
        authority.issue(Names::host("localhost")).write(folder.path(), "people");
        authority.issue(Names::spiffe("region/eu")).write(folder.path(), "peers");
        let (sink, cases, yes) = (Arc::new(Sink::default()), Cases::default(), Yes::default());
        let peers = Peers::new()
            .region(name("region/ca"), RegionId::new("ca").unwrap())
            .coordinator(name("coordinator"))
            .operator(name("operator/ann"));
        let ctx = Ctx::system();
        let server = Server::people(ctx.clone(), limits.clone(), Arc::new(TokenIsRole), sink.clone());
        let server = with_services(server, &cases, &yes).await;
        let people = start(server, ServerTls::people(&people_listener(folder.path())).unwrap()).await;
        let server = with_services(Server::peers(ctx, limits, peers, sink.clone()), &cases, &yes).await;
        let peers = start(server, ServerTls::peers(&peers_listener(folder.path())).unwrap()).await;
        Self { folder, authority, sink, cases, yes, people, peers }
    }

    /// A channel to the people's listener.
    pub(crate) fn person(&self) -> Channel {
        connect(self.people_endpoint(), Arc::new(TcpNet)).unwrap()
    }

    /// The same with a session.
    pub(crate) fn signed_in(&self, role: Role) -> Channel {
        self.person().bearer(role.as_str()).unwrap()
    }

    /// An audit client with a session of this role.
    pub(crate) fn audit(&self, role: Role) -> AuditServiceClient<Channel> {
        AuditServiceClient::new(self.signed_in(role))
    }

    pub(crate) fn people_endpoint(&self) -> Endpoint {
        Endpoint {
            uri: format!("https://127.0.0.1:{}", self.people.address.port()),
            server: ServerIdentity::Dns("localhost".to_owned()),
            authority: Pem::text(self.authority.pem()),
            identity: None,
        }
    }

    pub(crate) fn peers_endpoint(&self, identity: Option<ClientIdentity>) -> Endpoint {
        Endpoint {
            uri: format!("https://127.0.0.1:{}", self.peers.address.port()),
            server: ServerIdentity::Spiffe(name("region/eu")),
            authority: Pem::text(self.authority.pem()),
            identity,
        }
    }

    /// A channel to the peers' listener with a certificate of these names.
    pub(crate) fn peer(&self, names: Names) -> Channel {
        let identity = self.authority.issue(names).identity();
        connect(self.peers_endpoint(Some(identity)), Arc::new(TcpNet)).unwrap()
    }
}

async fn with_services(server: Server, cases: &Cases, yes: &Yes<0>) -> Server {
    let calls = &yes.0;
    let server = server.add_service(AuditServiceServer::new(cases.clone())).await;
    let server = server.add_service(yes.clone()).await.add_service(Yes::<1>(calls.clone())).await;
    let server = server.add_service(Yes::<2>(calls.clone())).await.add_service(Yes::<3>(calls.clone())).await;
    server.add_service(Yes::<4>(calls.clone())).await.add_service(Yes::<5>(calls.clone())).await
}

pub(crate) async fn start(server: Server, tls: ServerTls) -> Running {
    let listener = TcpNet.listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = listener.local_address().unwrap();
    let shutdown = CancellationToken::new();
    let task = tokio::spawn(server.serve(listener, tls, shutdown.clone()));
    Running { address, shutdown, task }
}

/// Calls a path with an empty message, and waits for the answer's head.
pub(crate) async fn call(channel: Channel, path: &str) -> std::result::Result<(), tonic::Status> {
    let mut grpc = tonic::client::Grpc::new(channel);
    grpc.ready().await?;
    let path = PathAndQuery::try_from(path).unwrap();
    let codec = tonic_prost::ProstCodec::<(), ()>::default();
    grpc.server_streaming(tonic::Request::new(()), path, codec).await.map(|_| ())
}

/// Calls a path and tells the code.
pub(crate) async fn code(channel: Channel, path: &str) -> Option<Code> {
    call(channel, path).await.err().map(|status| from_status(&status).code())
}
