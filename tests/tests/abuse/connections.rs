//! Connections that want to use up a listener: they are closed by its own limits, nothing is recorded of
//! what was no request, and others are served meanwhile.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use domicile_config::Limits;
use domicile_tests::abuse::{END_HEADERS, END_STREAM, Frame, Wire, fields, kind, request};
use domicile_tests::world::{Outcome, pause};
use tokio::time::{Instant, timeout};

use super::{PUT, Scene};

/// Reasons of HTTP/2 (RFC 9113 §7).
const REFUSED_STREAM: u8 = 7;
const ENHANCE_YOUR_CALM: u8 = 11;

fn impatient() -> Limits {
    Limits {
        connection_idle: Duration::from_millis(400),
        keepalive: Duration::from_millis(200),
        keepalive_answer: Duration::from_millis(300),
        handshake: Duration::from_millis(400),
        ..Limits::default()
    }
}

impl Scene {
    async fn wire(&self) -> Outcome<Wire> {
        Wire::open(self.bench.people.address, &self.bench.people.authority).await
    }

    /// What a misbehaving connection leaves: no entry, the record as it was, others served.
    async fn unharmed(&self, entries: usize) -> Outcome<()> {
        assert_eq!(self.entries().await?.len(), entries, "what was no request is not recorded");
        self.others_are_served("after").await
    }
}

fn reason(frames: &[Frame], kind: u8) -> Option<u8> {
    frames
        .iter()
        .rev()
        .find(|frame| frame.kind == kind)?
        .payload
        .get(if kind == kind::GOAWAY { 7 } else { 3 })
        .copied()
}

#[tokio::test]
async fn slow_headers() {
    headers_without_end().await.unwrap();
}

async fn headers_without_end() -> Outcome<()> {
    let scene = Scene::within(impatient()).await?;
    let before = scene.entries().await?.len();
    let mut wire = scene.wire().await?;
    wire.send(kind::HEADERS, 0, 1, &request(PUT, &[])).await?;
    scene.others_are_served("meanwhile").await?;
    wire.until_closed(false).await?;
    // A byte now and then does not keep it open: only whole requests count.
    let mut dribbling = scene.wire().await?;
    dribbling.send(kind::HEADERS, 0, 1, &request(PUT, &[])).await?;
    let until = Instant::now() + Duration::from_secs(20);
    let field = fields(&[("x", "y")]);
    while dribbling.send(kind::CONTINUATION, 0, 1, &field).await.is_ok() {
        assert!(Instant::now() < until, "it is kept open");
        pause().await;
    }
    assert_eq!(scene.entries().await?.len(), before + 1, "the other caller's own");
    scene.others_are_served("after").await
}

/// A handshake and no word of HTTP/2; a greeting and no request, also with every ping answered.
#[tokio::test]
async fn idle_connections() {
    idle().await.unwrap();
}

async fn idle() -> Outcome<()> {
    let scene = Scene::within(impatient()).await?;
    let before = scene.entries().await?.len();
    let people = &scene.bench.people;
    let mut silent = Wire::shake(people.address, &people.authority, None).await?;
    let mut polite = scene.wire().await?;
    silent.until_closed(false).await?;
    let seen = polite.until_closed(true).await?;
    assert!(seen.iter().any(|frame| frame.kind == kind::PING), "it was asked whether it is there");
    assert_eq!(reason(&seen, kind::GOAWAY), Some(0), "it was taken leave of in order");
    scene.unharmed(before).await
}

#[tokio::test]
async fn a_flood_of_headers() {
    headers_flood().await.unwrap();
}

async fn headers_flood() -> Outcome<()> {
    let scene = Scene::new().await?;
    let before = scene.entries().await?.len();
    // One request with more headers than allowed: refused by itself, its connection may go on.
    let mut wire = scene.wire().await?;
    let long = "x".repeat(10_000);
    let block = request(PUT, &[("a", &long), ("b", &long), ("c", &long)]);
    let (first, rest) = block.split_at(16_000);
    wire.send(kind::HEADERS, 0, 1, first).await?;
    wire.send(kind::CONTINUATION, END_HEADERS, 1, rest).await?;
    let answer = loop {
        let frame = wire.next().await?.ok_or("closed")?;
        if matches!(frame.kind, kind::HEADERS | kind::RESET | kind::GOAWAY) {
            break frame;
        }
    };
    assert!(answer.kind != kind::GOAWAY, "one request, not the connection: {answer:?}");
    // Headers without end (CVE-2024-27316): the connection is closed.
    let mut endless = scene.wire().await?;
    endless.send(kind::HEADERS, 0, 1, &request(PUT, &[])).await?;
    let field = fields(&[("x", &long)]);
    let until = Instant::now() + Duration::from_secs(20);
    while endless.send(kind::CONTINUATION, 0, 1, &field).await.is_ok() {
        assert!(Instant::now() < until, "it is kept open");
    }
    scene.unharmed(before).await
}

/// Requests begun and taken back as fast as the wire carries them (CVE-2023-44487).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_resets() {
    resets().await.unwrap();
}

async fn resets() -> Outcome<()> {
    let scene = Scene::within(Limits { resets: 20, ..Limits::default() }).await?;
    let before = scene.entries().await?.len();
    let mut wire = scene.wire().await?;
    let block = request(PUT, &[("authorization", "Bearer zq9canary")]);
    let mut sent = 0;
    for stream in (1..20_000).step_by(2) {
        let head = domicile_tests::abuse::frame(kind::HEADERS, END_HEADERS, stream, &block);
        let reset = domicile_tests::abuse::frame(kind::RESET, 0, stream, &[0, 0, 0, 8]);
        if wire.write(&[head, reset].concat()).await.is_err() {
            break;
        }
        sent += 1;
        if stream % 1_000 == 1 {
            scene.others_are_served(&format!("during-{stream}")).await?;
        }
    }
    let seen = wire.until_closed(false).await?;
    assert!(sent < 9_999, "it was closed in between");
    assert!(matches!(reason(&seen, kind::GOAWAY), None | Some(ENHANCE_YOUR_CALM)), "{seen:?}");
    let entries = scene.entries().await?;
    let refused = entries[before..].iter().filter(|entry| entry.actor.is_none()).count();
    assert!(refused <= sent, "at most one entry a request");
    scene.others_are_served("after").await
}

/// More requests at a time than a connection may have are refused one by one.
#[tokio::test]
async fn too_many_streams() {
    streams().await.unwrap();
}

async fn streams() -> Outcome<()> {
    let scene = Scene::within(Limits { streams: 4, ..Limits::default() }).await?;
    let mut wire = scene.wire().await?;
    // The listener says how many it takes; a caller that does not listen is told again, stream by stream.
    for stream in [1, 3, 5, 7, 9, 11] {
        wire.send(kind::HEADERS, END_HEADERS, stream, &request(PUT, &[])).await?;
    }
    let mut refused = Vec::new();
    while refused.len() < 2 {
        let frame = timeout(Duration::from_secs(20), wire.next()).await??.ok_or("closed")?;
        if frame.kind == kind::RESET && frame.payload.last() == Some(&REFUSED_STREAM) {
            refused.push(frame.stream);
        }
    }
    assert_eq!(refused, [9, 11]);
    scene.others_are_served("after").await
}

/// One address takes its connections and no more; those it has go on, and others have room.
#[tokio::test]
async fn too_many_connections() {
    surplus().await.unwrap();
}

async fn surplus() -> Outcome<()> {
    let scene = Scene::within(Limits { connections_per_address: 6, ..Limits::default() }).await?;
    let before = scene.entries().await?.len();
    let people = &scene.bench.people;
    let mut open = Vec::new();
    while let Ok(wire) = Wire::shake(people.address, &people.authority, None).await {
        open.push(wire);
        assert!(open.len() <= 6, "as many as it likes");
    }
    assert!(open.len() >= 4, "{}", open.len());
    scene.unharmed(before).await?;
    drop(open);
    let until = Instant::now() + Duration::from_secs(20);
    while Wire::shake(people.address, &people.authority, None).await.is_err() {
        assert!(Instant::now() < until, "its places are not free again");
        pause().await;
    }
    Ok(())
}

static PANICS: AtomicUsize = AtomicUsize::new(0);

/// Frames of any kind, length and content: no panic, no entry, nobody else notices.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_frames() {
    frames().await.unwrap();
}

async fn frames() -> Outcome<()> {
    let scene = Scene::within(impatient()).await?;
    std::panic::set_hook(Box::new(|_| {
        PANICS.fetch_add(1, Ordering::SeqCst);
    }));
    let before = scene.entries().await?.len();
    let mut seed = 7_u64;
    let mut random = move |below: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    for _ in 0..60 {
        let mut wire = scene.wire().await?;
        for _ in 0..20 {
            let kind = u8::try_from(random(12))?;
            let flags = u8::try_from(random(256))?;
            let stream = u32::try_from(random(8))?;
            let length = random(64);
            let payload: Vec<u8> =
                (0..length).map(|_| u8::try_from(random(256))).collect::<Result<_, _>>()?;
            if wire.send(kind, flags | END_STREAM, stream, &payload).await.is_err() {
                break;
            }
        }
    }
    drop(std::panic::take_hook());
    assert_eq!(PANICS.load(Ordering::SeqCst), 0);
    scene.unharmed(before).await
}
