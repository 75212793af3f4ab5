//! Who may call what.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use domicile_proto::RULES;
use domicile_proto::audit::v1 as audit;
use domicile_rpc::{Channel, Endpoint, Peers, Server, ServerTls, TcpNet, connect, from_status};
use domicile_types::{Code, Ctx, Role};
use tonic::Code as Grpc;
use tonic::metadata::MetadataValue;

use crate::certificates::{Names, peers_listener, spiffe};
use crate::services::{ANSWER, FOREIGN_STATUS, MISSING, MOVED};
use crate::world::{World, call, code, limits, start};

const PEOPLE: [Role; 5] =
    [Role::Client, Role::Practitioner, Role::PracticeAdmin, Role::Operator, Role::Compliance];

/// The golden matrix: every RPC answers the roles of its rule and no other, on both listeners.
#[tokio::test]
async fn every_rpc_answers_its_roles_and_nobody_else() {
    let world = World::new().await;
    let people: Vec<_> = PEOPLE.iter().map(|role| (*role, world.signed_in(*role))).collect();
    let peers = [
        (Role::Region, world.peer(Names::spiffe("region/ca"))),
        (Role::Coordinator, world.peer(Names::spiffe("coordinator"))),
        (Role::Operator, world.peer(Names::spiffe("operator/ann"))),
    ];
    for rule in RULES {
        let anonymous = rule.roles.contains(&"anonymous");
        for (role, channel) in &people {
            let permitted = anonymous || rule.roles.contains(&role.as_str());
            expect(channel, rule.path, permitted, Code::Forbidden).await;
        }
        expect(&world.person(), rule.path, anonymous, Code::Unauthenticated).await;
        for (role, channel) in &peers {
            expect(channel, rule.path, rule.roles.contains(&role.as_str()), Code::Forbidden).await;
        }
    }
}

async fn expect(channel: &Channel, path: &str, permitted: bool, refusal: Code) {
    let got = call(channel.clone(), path).await.err();
    let code = got.as_ref().map(|status| from_status(status).code());
    if permitted {
        // Reached: the typed audit service answers some of the empty calls with its own errors.
        assert!(
            !matches!(code, Some(Code::Forbidden | Code::Unauthenticated | Code::PeerUnknown)),
            "{path}: {got:?}"
        );
    } else {
        assert_eq!(code, Some(refusal), "{path}");
    }
}

#[tokio::test]
async fn refused_calls_never_reach_the_service() {
    let world = World::new().await;
    let path = "/domicile.transfer.v1.TransferPeerService/PullPage";
    assert_eq!(code(world.signed_in(Role::Client), path).await, Some(Code::Forbidden));
    assert_eq!(code(world.peer(Names::spiffe("coordinator")), path).await, Some(Code::Forbidden));
    assert_eq!(code(world.peer(Names::spiffe("region/us")), path).await, Some(Code::PeerUnknown));
    assert_eq!(world.yes.0.load(Ordering::SeqCst), 0);
}

/// A name is compared whole, and only the one URI counts.
#[tokio::test]
async fn only_the_whole_spiffe_id_counts() {
    let world = World::new().await;
    let path = "/domicile.transfer.v1.TransferPeerService/Preflight";
    assert_eq!(code(world.peer(Names::spiffe("region/ca")), path).await, None);
    let impostors = [
        Names::spiffe("region/ca/x"),
        Names::spiffe("region/c"),
        Names::spiffe("region/CA"),
        Names::none().and_uri("spiffe://evil.test/region/ca"),
        Names::none().and_uri("https://domicile.test/region/ca"),
        Names::spiffe("region/ca").and_uri(&spiffe("coordinator")),
        Names::host("region.ca.domicile.test"),
        Names::none().called(&spiffe("region/ca")),
        Names::host(&format!("x.{}", "ca")),
    ];
    for names in impostors {
        assert_eq!(code(world.peer(names), path).await, Some(Code::PeerUnknown));
    }
}

/// Forged role or region in metadata is ignored.
#[tokio::test]
async fn what_a_caller_says_of_itself_is_ignored() {
    let world = World::new().await;
    let forge = |mut request: tonic::Request<audit::GetCheckpointRequest>| {
        for key in [
            "role",
            "x-role",
            "domicile-role",
            "x-domicile-region",
            "x-forwarded-client-cert",
            "domicile-code",
        ] {
            let value = "region; spiffe://domicile.test/region/ca; DOM-GENERAL-001";
            request.metadata_mut().insert(key, MetadataValue::from_static(value));
        }
        request
    };
    let request = || forge(tonic::Request::new(audit::GetCheckpointRequest {}));
    let answer = world.audit(Role::Operator).get_checkpoint(request()).await.unwrap().into_inner();
    assert!(answer.checkpoint.contains("role: Operator") && answer.checkpoint.contains("region: None"));
    let refused = world.audit(Role::Client).get_checkpoint(request()).await.err().unwrap();
    assert_eq!(refused.code(), Grpc::PermissionDenied);
    // A token is nothing on the peers' listener, and a peer's certificate nothing on the people's.
    let peer = world.peer(Names::spiffe("region/ca")).bearer("compliance").unwrap();
    let path = "/domicile.audit.v1.AuditService/GetCheckpoint";
    assert_eq!(code(peer, path).await, Some(Code::Forbidden));
    let mut endpoint = world.people_endpoint();
    endpoint.identity = Some(world.authority.issue(Names::spiffe("coordinator")).identity());
    let channel = connect(endpoint, Arc::new(TcpNet)).unwrap();
    assert_eq!(
        code(channel, "/domicile.transfer.v1.TransferControlService/ListOpen").await,
        Some(Code::Unauthenticated)
    );
}

/// No session makes a region, the coordinator or the system, even if the store said so.
#[tokio::test]
async fn no_token_makes_a_machine() {
    let world = World::new().await;
    for role in [Role::Region, Role::Coordinator, Role::System, Role::Anonymous] {
        let path = "/domicile.transfer.v1.TransferControlService/ListOpen";
        assert_eq!(code(world.signed_in(role), path).await, Some(Code::Unauthenticated));
    }
    let unknown = world.person().bearer("no-such-session").unwrap();
    assert_eq!(
        code(unknown, "/domicile.identity.v1.IdentityService/WhoAmI").await,
        Some(Code::Unauthenticated)
    );
}

/// Signing in works with an ended session's token still attached.
#[tokio::test]
async fn an_anonymous_rpc_needs_no_session() {
    let world = World::new().await;
    let stale = world.person().bearer("no-such-session").unwrap();
    assert_eq!(code(stale, "/domicile.identity.v1.IdentityService/SignIn").await, None);
}

#[tokio::test]
async fn an_unknown_path_is_unimplemented() {
    let world = World::new().await;
    for path in [
        "/domicile.audit.v1.AuditService/Nothing",
        "/nothing.at.All/Here",
        "/",
        "/domicile.audit.v1.AuditService",
    ] {
        for channel in [world.signed_in(Role::Operator), world.peer(Names::spiffe("region/ca"))] {
            assert_eq!(call(channel, path).await.err().unwrap().code(), Grpc::Unimplemented, "{path}");
        }
    }
    assert_eq!(world.sink.taken(), []);
}

/// Health answers on both listeners, without a session; reflection does not, unless asked for.
#[tokio::test]
async fn health_is_open_and_reflection_is_not() {
    let world = World::new().await;
    for channel in [world.person(), world.peer(Names::spiffe("region/ca"))] {
        assert_eq!(call(channel.clone(), "/grpc.health.v1.Health/Check").await.err().map(|s| s.code()), None);
        let reflection = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
        assert_eq!(call(channel, reflection).await.err().unwrap().code(), Grpc::Unimplemented);
    }
    assert_eq!(world.sink.taken(), []);
}

/// Reflection, asked for, tells the services; health can be turned.
#[tokio::test]
async fn reflection_answers_when_asked_for() {
    let world = World::new().await;
    let server =
        Server::peers(Ctx::system(), limits(), Peers::new(), world.sink.clone()).reflection().unwrap();
    let health = server.health();
    let tls = ServerTls::peers(&peers_listener(world.folder.path())).unwrap();
    let running = start(server, tls).await;
    let identity = world.authority.issue(Names::spiffe("region/ca")).identity();
    let uri = format!("https://127.0.0.1:{}", running.address.port());
    let channel =
        connect(Endpoint { uri, ..world.peers_endpoint(Some(identity)) }, Arc::new(TcpNet)).unwrap();
    call(channel.clone(), "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo").await.unwrap();
    health.set("", false).await;
    call(channel, "/grpc.health.v1.Health/Check").await.unwrap();
    running.shutdown.cancel();
    running.task.await.unwrap();
}

#[tokio::test]
async fn errors_arrive_whole_and_carry_no_cause() {
    let world = World::new().await;
    let mut client = world.audit(Role::Compliance);
    let mut list =
        async |start| client.list_entries(audit::ListEntriesRequest { start, ..Default::default() }).await;
    let missing = list(MISSING).await.err().unwrap();
    assert_eq!((from_status(&missing).code(), from_status(&missing).place()), (Code::NotFound, Some("item")));
    let moved = from_status(&list(MOVED).await.err().unwrap());
    assert_eq!(moved.moved().map(|(region, epoch)| (region.as_str(), *epoch)), Some(("ca", 2)));
    let foreign = list(FOREIGN_STATUS).await.err().unwrap();
    assert_eq!(from_status(&foreign).code(), Code::Internal);
    for status in [&missing, &foreign] {
        assert!(!format!("{status:?}").contains("Ann Example"));
        assert!(status.metadata().get("domicile-request").is_some());
    }
    let answer = list(ANSWER).await.unwrap();
    assert_eq!(answer.metadata().get("domicile-request").unwrap().len(), 36);
    assert_eq!(answer.into_inner().size, 1, "the handler saw its deadline");
}
