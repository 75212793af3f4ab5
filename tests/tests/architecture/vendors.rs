//! Each vendor crate has one owner.

use super::none;
use super::workspace::{Edge, Source, declared, files};

/// A vendor crate and the crates of the workspace that may depend on it.
const OWNERS: &[(&str, &[&str])] = &[
    ("sea-orm", &["domicile-store"]),
    ("sea-orm-migration", &["domicile-store"]),
    ("sqlx", &["domicile-store"]),
    ("aws-config", &["domicile-kms", "domicile-objects"]),
    ("aws-credential-types", &["domicile-kms", "domicile-objects"]),
    ("aws-sdk-kms", &["domicile-kms"]),
    ("aws-sdk-s3", &["domicile-objects"]),
    ("hyper", &["domicile-rpc"]),
    ("hyper-util", &["domicile-rpc"]),
    ("tokio-rustls", &["domicile-rpc"]),
    ("rustls", &["domicile-rpc", "domicile-crypto"]),
    ("tonic-reflection", &["domicile-rpc"]),
    ("tower", &["domicile-rpc"]),
    ("opentelemetry", &["domicile-telemetry"]),
    ("opentelemetry_sdk", &["domicile-telemetry"]),
    ("opentelemetry-otlp", &["domicile-telemetry"]),
    ("opentelemetry-http", &["domicile-telemetry"]),
    ("opentelemetry-proto", &["domicile-telemetry"]),
    ("opentelemetry-appender-tracing", &["domicile-telemetry"]),
    ("tracing-opentelemetry", &["domicile-telemetry"]),
    ("config", &["domicile-config"]),
    ("argon2", &["domicile-identity"]),
];

/// Vendor crates whose use in another crate needs no owner: the harness speaks to everything.
const HARNESS: &str = "domicile-tests";

/// A name in the code and the folders that may use it.
const NAMES: &[(&str, &[&str])] = &[
    ("tonic::transport", &["services/lib/rpc/"]),
    ("tokio::net", &["services/lib/rpc/", "tests/"]),
    ("TcpStream", &["services/lib/rpc/", "services/lib/store/src/nagle.rs", "tests/"]),
    ("TcpListener", &["services/lib/rpc/", "services/lib/store/src/nagle.rs", "tests/"]),
    ("UdpSocket", &["services/lib/rpc/"]),
    ("UnixStream", &["services/lib/rpc/"]),
    ("ToSocketAddrs", &["services/lib/rpc/"]),
    ("SystemTime::now", &["services/lib/types/src/ctx.rs"]),
    ("Instant::now", &[TOKIO]),
];

/// tokio's clock is steered by tests; the standard library's is banned by clippy.
const TOKIO: &str = "tokio's own";

fn wrong_owners(edges: &[Edge]) -> Vec<String> {
    let mut wrong = Vec::new();
    for edge in edges.iter().filter(|edge| edge.from != HARNESS) {
        let owners = OWNERS.iter().find(|(vendor, _)| *vendor == edge.to).map(|(_, owners)| *owners);
        if owners.is_some_and(|owners| !owners.contains(&edge.from.as_str())) {
            wrong.push(format!("{} must not depend on {}", edge.from, edge.to));
        }
    }
    wrong
}

fn wrong_names(files: &[Source]) -> Vec<String> {
    let mut wrong = Vec::new();
    for file in files.iter().filter(|file| file.is(".rs") && !file.path.contains("tests/architecture/")) {
        for (name, folders) in NAMES {
            let allowed = folders.iter().any(|folder| file.path.starts_with(folder))
                || (folders.contains(&TOKIO) && file.text.contains("tokio::time"));
            if !allowed && file.text.lines().any(|line| uses(line, name)) {
                wrong.push(format!("{} uses {name}", file.path));
            }
        }
    }
    wrong
}

/// Whether a line of code holds the name, also when a tree of imports names it.
fn uses(line: &str, name: &str) -> bool {
    !line.trim_start().starts_with("//") && (line.contains(name) || imported(line, name))
}

/// `use tokio::{net, time}` names `tokio::net`.
fn imported(line: &str, name: &str) -> bool {
    let Some((parent, child)) = name.split_once("::") else { return false };
    let tree = line.trim_start().strip_prefix(&format!("use {parent}::{{"));
    tree.is_some_and(|tree| {
        tree.split([',', '{', '}', ';']).any(|part| part.trim().split("::").next() == Some(child))
    })
}

#[test]
fn each_vendor_crate_has_one_owner() {
    none(&wrong_owners(&declared()));
}

#[test]
fn sockets_and_tls_are_used_by_rpc_alone() {
    none(&wrong_names(&files()));
}

#[test]
fn a_wrong_use_is_found() {
    assert_eq!(wrong_owners(&[Edge::normal("domicile-records", "sqlx")]).len(), 1);
    assert!(wrong_owners(&[Edge::normal("domicile-store", "sqlx")]).is_empty());
    for wrong in [
        "use tokio::net::TcpStream;",
        "use tokio::{net, sync};",
        "let socket = std::net::UdpSocket::bind(place)?;",
        "use tonic::transport::Channel;",
    ] {
        assert!(!wrong_names(&[Source::new("services/cli/src/client.rs", wrong)]).is_empty(), "{wrong}");
    }
    let comment = Source::new("services/cli/src/client.rs", "// tokio::net is rpc's alone");
    assert!(wrong_names(&[comment]).is_empty());
    assert!(
        wrong_names(&[Source::new("services/lib/rpc/src/net.rs", "use tokio::net::TcpStream;")]).is_empty()
    );
}
