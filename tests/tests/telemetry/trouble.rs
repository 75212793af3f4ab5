//! A collector that is down, refuses or says nothing harms no request and keeps no process from ending.

use std::time::Duration;

use domicile_tests::world::moves::write;
use domicile_tests::world::{Outcome, World};
use tokio::time::Instant;

use crate::deployment::{configure, sending};
use crate::receiver::{Answer, Receiver};
use crate::seen::Seen;

/// More than the queue holds.
const WRITES: usize = 200;
/// What the settings allow the end of telemetry, and what the region itself may take.
const ENDS: Duration = Duration::from_secs(2 + 15);
const SMALL: &str = "queue = 64\nshutdown = \"2s\"\ntimeout = \"20s\"";

#[tokio::test]
async fn a_silent_collector_harms_nobody() {
    let receiver = Receiver::start(|_| Answer::Silent).await.unwrap();
    harmless(&receiver.endpoint()).await.unwrap();
    assert!(receiver.connections() > 0, "it was asked");
}

#[tokio::test]
async fn a_collector_that_is_down_harms_nobody() {
    // A port that nobody listens at: taken, and given back.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    harmless(&endpoint).await.unwrap();
}

/// Every request is answered, the process ends in time, and says that telemetry was lost.
async fn harmless(endpoint: &str) -> Outcome<()> {
    let folder = tempfile::tempdir()?;
    let mut world = sending(folder.path(), &["eu"], &["ca"], endpoint, SMALL).await?;
    busy(&world).await?;
    let began = Instant::now();
    world.stop("eu").await?;
    let took = began.elapsed();
    assert!(took < ENDS, "the end took {took:?}");
    let log = world.log("eu")?;
    assert!(log.contains("telemetry was not taken by the collector"), "{log}");
    assert!(log.contains("the region has ended"));
    Ok(())
}

#[tokio::test]
async fn what_is_lost_is_counted_where_operators_look() {
    let folder = tempfile::tempdir().unwrap();
    // Metrics pass, traces and logs are refused.
    let refuses = |path: &str| if path == "/v1/metrics" { Answer::Takes } else { Answer::Refuses };
    let receiver = Receiver::start(refuses).await.unwrap();
    let endpoint = receiver.endpoint();
    let mut world = sending(folder.path(), &["eu"], &["ca"], &endpoint, SMALL).await.unwrap();
    busy(&world).await.unwrap();
    world.stop("eu").await.unwrap();
    let seen = Seen::of(&receiver).unwrap();
    let lost = |name: &str, kind: &str| -> f64 {
        seen.series(name, &[("error.type", kind)]).iter().map(|series| series.value).sum()
    };
    let (failed, full) = (
        lost("otel.sdk.exporter.span.exported", "export_failed"),
        lost("otel.sdk.processor.span.processed", "queue_full"),
    );
    assert!(failed > 0.0, "refused spans are counted");
    assert!(full > 0.0, "spans that found the queue full are counted; {failed} were refused");
    let log = world.log("eu").unwrap();
    assert!(log.contains("the telemetry collector does not take what is sent"), "{log}");
}

#[tokio::test]
async fn a_wrong_endpoint_is_refused_before_anything_starts() {
    let folder = tempfile::tempdir().unwrap();
    let receiver = Receiver::start(|_| Answer::Takes).await.unwrap();
    let endpoint = receiver.endpoint();
    let world = sending(folder.path(), &["eu"], &["ca"], &endpoint, "").await.unwrap();
    for (text, told) in [
        ("endpoint = \"http://192.0.2.1:4318\"", "DOM-CONFIG-004"),
        ("endpoint = \"https://192.0.2.1:4318\"", "DOM-CONFIG-003"),
        ("endpoint = \"http://127.0.0.1:4318\"\nqueu = 1", "DOM-CONFIG-002"),
    ] {
        let mut settings = toml::Table::new();
        settings.insert("telemetry".to_owned(), text.parse::<toml::Table>().unwrap().into());
        configure(&world, "ca", &settings).unwrap();
        let file = world.home("ca").join("config.toml").display().to_string();
        let refused = domicile_tests::world::run(&["region", "--check", "--config", &file]).await;
        let refused = refused.unwrap_err().to_string();
        assert!(refused.contains(told) && refused.contains("telemetry"), "{text}: {refused}");
    }
}

/// A practice at work; every write must succeed.
async fn busy(world: &World) -> Outcome<()> {
    let practice = world.practice("berg", "eu", &[]).await?;
    let patient = world.patient("eu", &practice, "ada").await?;
    for number in 0..WRITES {
        write(&practice.home, &patient.subject, &format!("note {number}")).await?;
    }
    Ok(())
}
