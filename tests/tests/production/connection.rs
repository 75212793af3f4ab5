//! What a region refuses to speak to (P7): each refusal says what is wrong, and nothing is served.

use std::path::Path;
use std::process::Stdio;

use domicile_tests::production::Authority;
use domicile_tests::world::replicas::Replicated;
use domicile_tests::world::{Outcome, PATIENCE, Tuning, executable};
use tokio::process::Command;

use crate::clusters;

/// Starts a region that must refuse; what it said.
async fn refused(config: &Path) -> Outcome<String> {
    let mut command = Command::new(executable()?);
    command.args(["region", "--config"]).arg(config).stdin(Stdio::null()).kill_on_drop(true);
    let ended = tokio::time::timeout(PATIENCE, command.output()).await;
    let output = ended.map_err(|_| "the region serves")??;
    let said = format!("{}{}", String::from_utf8(output.stdout)?, String::from_utf8(output.stderr)?);
    if output.status.success() { Err(format!("it ended well: {said}").into()) } else { Ok(said) }
}

async fn only_a_verified_server_over_tls_1_3() -> Outcome<()> {
    let clusters = clusters(&["eu", "ca"]).await?;
    let mut world = Replicated::prepare(&clusters, &Tuning::default()).await?;
    let cluster = &clusters["eu"];
    let config = world.home("eu").join("a.toml");
    let expects = async |what: &str, code: &str, place: &str| -> Outcome<()> {
        let said = refused(&config).await.map_err(|error| format!("{what}: {error}"))?;
        assert!(said.contains(code) && said.contains(place), "{what}: {said}");
        assert!(!said.contains("serves"), "{what}: {said}");
        Ok(())
    };

    // The settings themselves.
    let settings = std::fs::read_to_string(&config)?;
    for weaker in ["require", "verify-ca", "prefer", "disable"] {
        std::fs::write(&config, settings.replace("verify-full", weaker))?;
        expects(weaker, "DOM-CONFIG-004", "verify-full").await?;
    }
    std::fs::write(&config, &settings)?;

    // A server that is another, or that nobody vouches for.
    let (certificate, key) = cluster.authority.server(&["db.example.org"])?;
    cluster.certify(&certificate, &key)?;
    expects("another name", "DOM-CONFIG-004", "certificate").await?;
    let (certificate, key) = Authority::fresh()?.server(&["localhost", "127.0.0.1"])?;
    cluster.certify(&certificate, &key)?;
    expects("another authority", "DOM-CONFIG-004", "certificate").await?;
    let (certificate, key) = cluster.authority.server(&["localhost", "127.0.0.1"])?;
    cluster.certify(&certificate, &key)?;

    // A server that speaks an older protocol, or none.
    let system = |setting: &str| cluster.sql_anyhow(&format!("ALTER SYSTEM {setting}"));
    system("SET ssl_min_protocol_version = 'TLSv1.2'")?;
    system("SET ssl_max_protocol_version = 'TLSv1.2'")?;
    cluster.sql_anyhow("SELECT pg_reload_conf()")?;
    expects("TLS 1.2", "DOM-CONFIG-004", "TLS 1.3").await?;
    system("RESET ssl_min_protocol_version")?;
    system("RESET ssl_max_protocol_version")?;
    cluster.open_to_all(true)?;
    system("SET ssl = off")?;
    cluster.sql_anyhow("SELECT pg_reload_conf()")?;
    expects("no TLS", "DOM-CONFIG-004", "TLS").await?;
    let migrated = world.migrate("eu").await.expect_err("migrate speaks to nobody in clear either");
    assert!(migrated.to_string().contains("DOM-CONFIG-004"), "{migrated}");
    system("RESET ssl")?;
    cluster.sql_anyhow("SELECT pg_reload_conf()")?;
    cluster.open_to_all(false)?;

    // And as it should be, it serves.
    world.restart("eu", "a").await?;
    world.terminate("eu", "a").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_region_speaks_to_a_verified_server_over_tls_1_3_alone() {
    only_a_verified_server_over_tls_1_3().await.unwrap();
}
