//! Without an endpoint nothing is there: no thread, no connection, whatever the environment says.

use std::process::Stdio;
use std::time::Duration;

use domicile_store::Backend;
use domicile_tests::world::{Outcome, Tuning, World, executable, pause};
use tokio::process::Command;

use crate::deployment::{command, sending, threads};
use crate::receiver::{Answer, Receiver};
use crate::seen::Seen;

#[tokio::test]
async fn without_an_endpoint_nothing_is_sent_and_nobody_is_asked() {
    quiet().await.unwrap();
}

async fn quiet() -> Outcome<()> {
    let receiver = Receiver::start(|_| Answer::Takes).await?;
    let endpoint = receiver.endpoint();
    let mut world = World::start(Backend::Sqlite, &["eu", "ca"], &Tuning::default()).await?;
    let exporters = threads(world.pid("eu").ok_or("eu does not run")?)?;
    assert!(!exporters.iter().any(|name| name.starts_with("OpenTel")), "{exporters:?}");

    // The variables of the library do not bring it to life either.
    world.stop("eu").await?;
    let variables = [("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()), ("OTEL_SDK_DISABLED", "false")];
    let log = std::fs::File::create(world.home("eu").join("log2"))?;
    let mut region = Command::new(executable()?)
        .args(["region", "--supervised", "--config"])
        .arg(world.home("eu").join("config.toml"))
        .envs(variables)
        .stdin(Stdio::piped())
        .stderr(Stdio::from(log))
        .kill_on_drop(true)
        .spawn()?;
    let client = world.anyone("eu")?;
    let until = tokio::time::Instant::now() + domicile_tests::world::PATIENCE;
    while client.health(Duration::from_secs(2)).await.is_err() {
        assert!(tokio::time::Instant::now() < until, "the region does not serve");
        pause().await;
    }
    world.operator("eu").await?;
    command(&world.folder, &["health"], "", &variables).await?;
    let exporters = threads(region.id().ok_or("the region has ended")?)?;
    assert!(!exporters.iter().any(|name| name.starts_with("OpenTel")), "{exporters:?}");
    drop(region.stdin.take());
    region.wait().await?;
    assert_eq!(receiver.connections(), 0);
    Ok(())
}

#[tokio::test]
async fn a_collector_elsewhere_is_reached_by_tls_alone_and_must_prove_who_it_is() {
    secured().await.unwrap();
}

async fn secured() -> Outcome<()> {
    let folder = tempfile::tempdir()?;
    let (receiver, authority) = Receiver::secured().await?;
    let (stranger, other) = Receiver::secured().await?;
    let (right, wrong) = (folder.path().join("right.pem"), folder.path().join("wrong.pem"));
    std::fs::write(&right, authority)?;
    std::fs::write(&wrong, other)?;
    let endpoint = format!("https://localhost:{}", receiver.port());
    let more = format!("authority = \"{}\"\nauthorization = \"Bearer of good news\"", right.display());
    let mut world = sending(folder.path(), &["eu"], &["ca"], &endpoint, &more).await?;
    world.operator("eu").await?;
    world.stop("eu").await?;
    assert!(!Seen::of(&receiver)?.spans.is_empty(), "spans have arrived");
    assert!(receiver.messages().iter().all(|message| message.headers.contains("authorization")));

    // Another collector, which the authority does not know, hears nothing.
    let endpoint = format!("https://localhost:{}", stranger.port());
    let mut settings = toml::Table::new();
    let text = format!("endpoint = \"{endpoint}\"\ninterval = \"1s\"\nauthority = \"{}\"", right.display());
    settings.insert("telemetry".to_owned(), text.parse::<toml::Table>()?.into());
    crate::deployment::configure(&world, "eu", &settings)?;
    world.restart("eu").await?;
    world.operator("eu").await?;
    world.stop("eu").await?;
    assert!(stranger.connections() > 0, "it was tried");
    assert!(stranger.messages().is_empty());
    Ok(())
}
