//! TLS 1.3, certificates on both sides, nothing in plain text (P7).

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use domicile_rpc::{Channel, ClientIdentity, Endpoint, ServerIdentity, ServerTls, TcpNet, connect};
use domicile_types::{Code, Role};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::certificates::{Authority, Names, people_listener, replace};
use crate::world::{Recorded, World, code, name};

const PATH: &str = "/domicile.transfer.v1.TransferPeerService/Preflight";

async fn attempt(endpoint: Endpoint) -> Option<Code> {
    code(connect(endpoint, Arc::new(TcpNet)).unwrap(), PATH).await
}

async fn refusal_recorded(world: &World) {
    let waiting = timeout(Duration::from_secs(10), world.sink.entered.notified());
    waiting.await.unwrap();
    let refused =
        Recorded { event: "tls.peer_refused", role: Role::Anonymous, outcome: Err(Code::PeerUnknown) };
    while world.sink.entries.lock().unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!(world.sink.taken()[0], refused);
}

#[tokio::test]
async fn no_expired_or_foreign_certificate_gets_in() {
    let world = World::new().await;
    let issue = |names: Names| Some(world.authority.issue(names).identity());
    let attempts: [Option<ClientIdentity>; 4] = [
        None,
        issue(Names::spiffe("region/ca").expired()),
        Some(Authority::new().issue(Names::spiffe("region/ca")).identity()),
        issue(Names::spiffe("region/ca").for_servers_only()),
    ];
    for identity in attempts {
        assert_eq!(attempt(world.peers_endpoint(identity)).await, Some(Code::ServiceSilent));
        refusal_recorded(&world).await;
    }
    assert_eq!(world.yes.0.load(Ordering::SeqCst), 0);
    assert_eq!(attempt(world.peers_endpoint(issue(Names::spiffe("region/ca")))).await, None);
}

#[tokio::test]
async fn a_client_takes_only_the_server_it_means() {
    let world = World::new().await;
    let identity = || Some(world.authority.issue(Names::spiffe("region/ca")).identity());
    let with = |change: fn(&mut Endpoint)| {
        let mut endpoint = world.peers_endpoint(identity());
        change(&mut endpoint);
        endpoint
    };
    let wrong = [
        with(|e| e.server = ServerIdentity::Spiffe(name("region/ca"))),
        with(|e| e.server = ServerIdentity::Spiffe(name("region/eu/x"))),
        with(|e| e.server = ServerIdentity::Dns("localhost".to_owned())),
        with(|e| e.authority = domicile_rpc::Pem::text(Authority::new().pem())),
    ];
    for endpoint in wrong {
        assert_eq!(attempt(endpoint).await, Some(Code::ServerNotTrusted));
    }
    let mut person = world.people_endpoint();
    person.server = ServerIdentity::Dns("example.org".to_owned());
    assert_eq!(attempt(person).await, Some(Code::ServerNotTrusted));
    assert_eq!(world.yes.0.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn an_address_in_plain_text_is_not_even_tried() {
    let world = World::new().await;
    for uri in ["http://127.0.0.1:1", "127.0.0.1:1", "https://127.0.0.1", "https://", ""] {
        let endpoint = Endpoint { uri: uri.to_owned(), ..world.people_endpoint() };
        let refused = connect(endpoint, Arc::new(TcpNet)).err().unwrap();
        assert_eq!((refused.code(), refused.place()), (Code::ConfigurationInvalid, Some("endpoint")));
    }
}

/// What a listener says to bytes that are no TLS 1.3 handshake.
async fn answer_to(world: &World, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(world.people.address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    // A reset is an answer too.
    let read = timeout(Duration::from_secs(10), stream.read_to_end(&mut answer)).await.unwrap();
    assert!(read.is_ok() || answer.is_empty());
    answer
}

#[tokio::test]
async fn plain_text_is_answered_with_an_alert_and_nothing_else() {
    let world = World::new().await;
    for bytes in [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"] {
        let answer = answer_to(&world, bytes).await;
        assert!(answer.is_empty() || answer[0] == 0x15, "{answer:?}");
        assert!(answer.len() <= 7, "an alert and no more");
    }
    assert_eq!(world.sink.taken(), [], "noise is not recorded");
}

/// A ClientHello of TLS 1.2 (RFC 5246 §7.4.1.2): no `supported_versions`.
#[tokio::test]
async fn tls_1_2_is_refused_with_protocol_version() {
    let world = World::new().await;
    let mut hello = vec![3, 3];
    hello.extend([7; 32]);
    hello.push(0);
    // TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 alone, no compression.
    hello.extend([0, 2, 0xc0, 0x2b, 1, 0]);
    // supported_groups secp256r1, ec_point_formats uncompressed, signature_algorithms ecdsa_secp256r1_sha256.
    let extensions = [0, 10, 0, 4, 0, 2, 0, 23, 0, 11, 0, 2, 1, 0, 0, 13, 0, 4, 0, 2, 4, 3];
    hello.extend([0, u8::try_from(extensions.len()).unwrap()]);
    hello.extend(extensions);
    let mut record = vec![
        22,
        3,
        1,
        0,
        u8::try_from(hello.len() + 4).unwrap(),
        1,
        0,
        0,
        u8::try_from(hello.len()).unwrap(),
    ];
    record.extend(hello);
    let answer = answer_to(&world, &record).await;
    assert_eq!(answer, [0x15, 3, 3, 0, 2, 2, 70], "fatal protocol_version");
}

/// New certificates, a new authority even, are taken up without a restart; half-written ones are not.
#[tokio::test]
async fn certificates_rotate_without_a_restart() {
    let world = World::new().await;
    let folder = world.folder.path();
    let old = world.peer(Names::spiffe("region/ca"));
    assert_eq!(code(old.clone(), PATH).await, None);

    replace(&folder.join("peers.key"), "half a key");
    assert_eq!(code(world.peer(Names::spiffe("region/ca")), PATH).await, None);

    let next = Authority::new();
    next.issue(Names::spiffe("region/eu")).write(folder, "peers");
    replace(&folder.join("authority.pem"), &next.pem());
    let mut endpoint = world.peers_endpoint(Some(next.issue(Names::spiffe("region/ca")).identity()));
    assert_eq!(
        attempt(endpoint.clone()).await,
        Some(Code::ServerNotTrusted),
        "the client still trusts the old one"
    );
    endpoint.authority = domicile_rpc::Pem::text(next.pem());
    assert_eq!(attempt(endpoint).await, None);
    let stale = world.peers_endpoint(Some(world.authority.issue(Names::spiffe("region/ca")).identity()));
    let stale = Endpoint { authority: domicile_rpc::Pem::text(next.pem()), ..stale };
    assert_eq!(attempt(stale).await, Some(Code::ServiceSilent), "the old authority is trusted no longer");
    assert_eq!(code(old, PATH).await, None, "an open connection goes on");
}

/// A client takes up its own new certificate at the next connection.
#[tokio::test]
async fn a_clients_certificate_rotates_too() {
    let world = World::new().await;
    let folder = world.folder.path();
    world.authority.issue(Names::spiffe("region/us")).write(folder, "own");
    let pem = |name: &str| domicile_rpc::Pem::file(folder.join(name));
    let identity = ClientIdentity { certificate: pem("own.pem"), key: pem("own.key") };
    let connect =
        || -> Channel { connect(world.peers_endpoint(Some(identity.clone())), Arc::new(TcpNet)).unwrap() };
    let channel = connect();
    world.authority.issue(Names::spiffe("region/ca")).write(folder, "own");
    assert_eq!(code(channel, PATH).await, None);
}

#[tokio::test]
async fn certificates_that_do_not_fit_do_not_start() {
    let world = World::new().await;
    let folder = world.folder.path();
    let listener = people_listener(folder);
    let refused = |place: &str| {
        let error = ServerTls::people(&listener).err().unwrap();
        assert_eq!((error.code(), error.place()), (Code::ConfigurationInvalid, Some(place)));
    };
    replace(&listener.key, &world.authority.issue(Names::host("localhost")).key);
    refused("people.key");
    replace(&listener.certificate, "no certificate");
    refused("people.certificate");
    std::fs::remove_file(&listener.certificate).unwrap();
    refused("people.certificate");
}
