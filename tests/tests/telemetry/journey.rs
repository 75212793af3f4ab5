//! A record moves while everything is watched: one trace through every process, measurements that say
//! what happened, logs that know their trace, and not a word that a person typed.

use std::collections::BTreeSet;

use domicile_cli::Client;
use domicile_proto::records::v1::payload::Kind;
use domicile_proto::records::v1::{
    Answer as Answered, FormResponse, Goal, ItemDraft, Message, Note, Payload, PutItemRequest, Referral,
};
use domicile_proto::transfer::v1::TransferState;
use domicile_telemetry::metrics::catalogue;
use domicile_telemetry::trace::transfer_trace;
use domicile_tests::world::moves::{attach, reaches};
use domicile_tests::world::{Moving, Outcome, Patient, Practice, World, pause};
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;

use crate::deployment::{command, sending, threads};
use crate::receiver::{Answer, Receiver};
use crate::seen::{Seen, SeenSpan, hex};

/// Planted in every value; long enough that chance does not make it.
const CANARY: &str = "qz4Telemetrievogel9wy";
/// A caller's own trace, not sampled as its flag says.
const FORGED: &str = "0af7651916cd43dd8448eb211c80319c";
const RECORDS: &str = "domicile.records.v1.RecordsService";
const TRANSFERS: &str = "domicile.transfer.v1.TransferService";
const PEERS: &str = "domicile.transfer.v1.TransferPeerService";

/// What the test itself knows of what happened.
struct Story {
    transfer: String,
    written: u64,
    refused: u64,
    freezes: u64,
}

#[tokio::test]
async fn a_move_is_seen_whole_and_says_nothing_about_anybody() {
    let folder = tempfile::tempdir().unwrap();
    let receiver = Receiver::start(|_| Answer::Takes).await.unwrap();
    let endpoint = receiver.endpoint();
    let mut world = sending(folder.path(), &["eu", "ca"], &[], &endpoint, "").await.unwrap();
    let exporters = threads(world.pid("eu").unwrap()).unwrap();
    assert_eq!(exporters.iter().filter(|name| name.starts_with("OpenTel")).count(), 3, "{exporters:?}");
    let story = story(&world, &endpoint).await.unwrap();
    watched(&receiver).await.unwrap();
    for name in ["coordinator", "eu", "ca"] {
        world.stop(name).await.unwrap();
    }

    let seen = Seen::of(&receiver).unwrap();
    one_trace(&seen, &story);
    a_forged_parent_changes_nothing(&seen);
    every_metric_arrives(&seen);
    measurements_are_true(&seen, &story);
    logs_know_their_trace(&seen);
    names_come_from_closed_sets(&seen);
    nothing_a_person_typed(&receiver);
}

/// Everybody's doings; every text has the canary in it.
async fn story(world: &World, endpoint: &str) -> Outcome<Story> {
    let practice = world.practice("vogel", "eu", &["ca"]).await?;
    let patient = world.patient("eu", &practice, &format!("p{}", CANARY.to_lowercase())).await?;
    let (mut written, mut refused) = (0, 0);
    for kind in kinds() {
        put(&practice.home, &patient.subject, kind, None).await?;
        written += 1;
    }
    for strange in strange_headers() {
        put(&practice.home, &patient.subject, kinds().remove(0), Some(strange)).await?;
        written += 1;
    }
    for _ in 0..3 {
        let wrong = put(&practice.home, CANARY, kinds().remove(0), None).await;
        assert!(wrong.is_err(), "a record's id is no canary");
        refused += 1;
    }
    attach(&practice.home, &patient.subject, CANARY.repeat(9_000).as_bytes()).await?;
    let moving = patient.ask("ca").await?;
    consent(world, &patient, &moving, endpoint).await?;
    let freezes = closed(world, &practice, &patient, &moving).await?;
    Ok(Story { transfer: moving.id, written, refused, freezes })
}

/// The client consents by the command line, which sends to the collector too.
async fn consent(world: &World, patient: &Patient, moving: &Moving, endpoint: &str) -> Outcome<()> {
    let variables =
        [("DOMICILE_PASSWORD", patient.login.password.as_str()), ("DOMICILE__TELEMETRY__ENDPOINT", endpoint)];
    let sign_in = ["--region", "eu", "sign-in", "--email", &patient.login.email];
    command(&world.folder, &sign_in, "", &variables).await?;
    let digest = hex(&moving.offer.digest);
    let consent = ["--region", "eu", "transfer", "consent", &moving.id, "--offer", &digest, "--locale", "en"];
    command(&world.folder, &consent, "", &variables).await?;
    Ok(())
}

/// Waits until both sides rest; how often the record was frozen.
async fn closed(world: &World, practice: &Practice, patient: &Patient, moving: &Moving) -> Outcome<u64> {
    let client = loop {
        match world.sign_in("ca", &patient.login).await {
            Ok(client) => break client,
            Err(_) => pause().await,
        }
    };
    let transfer = reaches(&client, &moving.id, TransferState::Closed).await?;
    let refused = put(&practice.home, &patient.subject, kinds().remove(0), None).await;
    assert!(refused.is_err(), "the record has moved");
    Ok(transfer.freezes.into())
}

/// Waits until each region has sent its gauges once more than a period after the end.
async fn watched(receiver: &Receiver) -> Outcome<()> {
    let metrics = || receiver.messages().iter().filter(|message| message.path == "/v1/metrics").count();
    let enough = metrics() + 12;
    let until = tokio::time::Instant::now() + domicile_tests::world::PATIENCE;
    while metrics() < enough {
        if tokio::time::Instant::now() > until {
            return Err("metrics have stopped".into());
        }
        pause().await;
    }
    Ok(())
}

fn kinds() -> Vec<Kind> {
    let text = |place: &str| format!("{place} {CANARY} {place}");
    vec![
        Kind::Note(Note { title: text("title"), text: text("note"), template: text("template") }),
        Kind::Message(Message { title: text("subject"), text: text("message") }),
        Kind::Goal(Goal { text: text("goal") }),
        Kind::Referral(Referral { to: text("to"), reason: text("why"), snapshot: text("snapshot") }),
        Kind::FormResponse(FormResponse {
            form: text("form"),
            answers: vec![Answered { question: text("question"), text: text("answer") }],
        }),
    ]
}

/// What a hostile or broken client may send beside its request.
fn strange_headers() -> Vec<Vec<(&'static str, String)>> {
    vec![
        vec![("traceparent", format!("00-{FORGED}-b7ad6b7169203331-00"))],
        vec![("traceparent", CANARY.to_owned())],
        vec![("traceparent", "00-00000000000000000000000000000000-0000000000000000-ff".to_owned())],
        vec![("tracestate", format!("vendor={CANARY}")), ("baggage", format!("name={CANARY}"))],
        vec![("traceparent", "0".repeat(4_000))],
    ]
}

async fn put(
    client: &Client,
    subject: &str,
    kind: Kind,
    headers: Option<Vec<(&'static str, String)>>,
) -> Outcome<()> {
    let draft = ItemDraft { payload: Some(Payload { kind: Some(kind) }), ..Default::default() };
    let mut request = tonic::Request::new(PutItemRequest {
        subject_id: subject.to_owned(),
        idempotency_key: World::key(),
        draft: Some(draft),
    });
    for (name, value) in headers.into_iter().flatten() {
        request.metadata_mut().insert(name, value.parse()?);
    }
    client.records().put_item(request).await?;
    Ok(())
}

fn one_trace(seen: &Seen, story: &Story) {
    let trace = transfer_trace(story.transfer.parse().unwrap());
    let spans = seen.trace(&trace);
    let of = |role: &str, region: Option<&str>, name: &str, kind: SpanKind| -> Vec<&SeenSpan> {
        let there = |seen: &&&SeenSpan| {
            seen.process.get("domicile.role").map(String::as_str) == Some(role)
                && seen.process.get("domicile.region").map(String::as_str) == region
                && seen.span.name == name
                && seen.span.kind == kind as i32
        };
        spans.iter().filter(there).copied().collect()
    };
    let follows = |below: &[&SeenSpan], above: &[&SeenSpan]| {
        !below.is_empty()
            && below.iter().any(|one| above.iter().any(|two| one.span.parent_span_id == two.span.span_id))
    };
    let names: BTreeSet<_> =
        spans.iter().map(|seen| (seen.process.get("domicile.role"), seen.span.name.clone())).collect();

    // The command line asks the source.
    let consent = format!("{TRANSFERS}/GiveConsent");
    let asked = of("cli", None, &consent, SpanKind::Client);
    assert!(follows(&of("region", Some("eu"), &consent, SpanKind::Server), &asked), "{names:?}");
    // The coordinator asks the source and the destination.
    let advance = "domicile.transfer.v1.TransferControlService/Advance";
    let asked = of("coordinator", None, advance, SpanKind::Client);
    for region in ["eu", "ca"] {
        let answered = of("region", Some(region), advance, SpanKind::Server);
        assert!(follows(&answered, &asked), "{region}: {names:?}");
    }
    // The destination pulls from the source.
    let pulled = |region, kind| -> Vec<&SeenSpan> {
        let there = |seen: &&&SeenSpan| {
            seen.process.get("domicile.region").map(String::as_str) == Some(region)
                && seen.attributes.get("rpc.service").map(String::as_str) == Some(PEERS)
                && seen.span.kind == kind as i32
        };
        spans.iter().filter(there).copied().collect()
    };
    assert!(follows(&pulled("eu", SpanKind::Server), &pulled("ca", SpanKind::Client)), "{names:?}");
    for step in ["freeze", "release", "adopt", "pull", "rekey"] {
        assert!(spans.iter().any(|seen| seen.span.name == step), "{step}: {names:?}");
    }
}

/// The request whose headers named a trace is answered under it, though the flag says not to sample; what
/// is no trace is nothing.
fn a_forged_parent_changes_nothing(seen: &Seen) {
    let forged = seen.trace(FORGED);
    assert!(!forged.is_empty() && forged.iter().all(|span| span.process["domicile.region"] == "eu"));
    assert!(forged.iter().any(|seen| seen.span.name == format!("{RECORDS}/PutItem")));
    assert!(forged.iter().all(|seen| seen.span.trace_state.is_empty()));
}

fn every_metric_arrives(seen: &Seen) {
    let known: BTreeSet<&str> = catalogue::ALL.iter().map(|metric| metric.name).collect();
    let came: BTreeSet<&str> = seen.metrics.keys().map(String::as_str).collect();
    assert_eq!(known, came, "what is listed and what arrives is the same");
    for metric in catalogue::ALL {
        for series in &seen.metrics[metric.name] {
            assert_eq!(series.unit, metric.unit, "{}", metric.name);
            for name in series.attributes.keys() {
                assert!(metric.attributes.contains(&name.as_str()), "{} has {name}", metric.name);
            }
        }
    }
}

fn measurements_are_true(seen: &Seen, story: &Story) {
    let count = |name: &str, with: &[(&str, &str)]| -> u64 {
        seen.series(name, with).iter().map(|series| series.count).sum()
    };
    let value = |name: &str, with: &[(&str, &str)]| -> f64 {
        seen.series(name, with).iter().map(|series| series.value).sum()
    };
    let puts = |status: &str| {
        let with = [("domicile.region", "eu"), ("rpc.method", "PutItem"), ("rpc.grpc.status_code", status)];
        count("rpc.server.duration", &with)
    };
    assert_eq!(puts("0"), story.written, "written");
    assert_eq!(puts("3"), story.refused, "refused");
    let all = count("rpc.server.duration", &[("domicile.region", "eu"), ("rpc.method", "PutItem")]);
    assert_eq!(all, story.written + story.refused + 1, "and one that came too late");
    assert!(
        seen.series("domicile.rpc.server.active_requests", &[("rpc.method", "PutItem")])
            .iter()
            .all(|series| series.value == 0.0)
    );
    assert!(count("rpc.client.duration", &[("domicile.region", "ca"), ("domicile.peer", "eu")]) > 0);

    assert!(story.freezes >= 1);
    let released = [("domicile.region", "eu"), ("domicile.outcome", "released")];
    assert_eq!(count("domicile.transfer.freeze.duration", &released), 1);
    assert_eq!(count("domicile.transfer.freeze.duration", &[]), story.freezes);
    let lasted = value("domicile.transfer.freeze.duration", &released);
    assert!(lasted > 0.0 && lasted < 10.0, "frozen for {lasted} s");
    assert!(count("domicile.transfer.step.duration", &[("domicile.transfer.step", "pull")]) >= 1);

    for region in ["eu", "ca"] {
        let here = [("domicile.region", region)];
        assert_eq!(value("domicile.region.serving", &here), 1.0);
        assert_eq!(value("domicile.coordinator.region_up", &[("domicile.peer", region)]), 1.0);
        assert_eq!(value("domicile.transfer.stuck", &here), 0.0);
        assert_eq!(value("domicile.transfer.count", &here), 0.0, "everything rests");
        assert!(value("domicile.audit.tree.size", &here) > 10.0);
        assert!(value("domicile.audit.outbox.entries", &here) < 1_000.0);
        assert!(value("process.memory.usage", &here) > 1e6);
        assert!(value("process.uptime", &here) > 0.0);
        for listener in ["people", "peers"] {
            let with = [("domicile.region", region), ("domicile.listener", listener)];
            assert!(value("domicile.certificate.remaining", &with) > 3_600.0, "{region} {listener}");
        }
    }
    assert!(value("domicile.backup.age", &[("domicile.region", "ca")]) < 600.0);
    let ok = ("domicile.outcome", "ok");
    assert!(count("domicile.kms.request.duration", &[("domicile.kms.operation", "wrap"), ok]) > 0);
    assert!(count("domicile.objects.request.duration", &[("domicile.objects.operation", "create"), ok]) > 0);
    assert!(value("domicile.key_cache.lookups", &[("domicile.outcome", "hit")]) > 0.0);
    assert!(count("db.client.connection.wait_time", &[("domicile.region", "eu")]) > 50);
    let most = [("domicile.region", "eu"), ("db.client.connection.pool.name", "writer")];
    assert!(value("db.client.connection.max", &most) >= 1.0);
    let exported = "otel.sdk.exporter.span.exported";
    assert_eq!(value(exported, &[("error.type", "export_failed")]), 0.0);
    assert_eq!(value("otel.sdk.processor.span.processed", &[("error.type", "queue_full")]), 0.0);
}

fn logs_know_their_trace(seen: &Seen) {
    let started = |log: &&crate::seen::SeenLog| log.body == "the region serves";
    assert_eq!(seen.logs.iter().filter(started).count(), 2);
    let refused: Vec<_> = seen.logs.iter().filter(|log| log.body == "request refused").collect();
    assert!(!refused.is_empty(), "a refusal is logged");
    let puts: BTreeSet<String> = seen
        .spans
        .iter()
        .filter(|seen| seen.span.name == format!("{RECORDS}/PutItem"))
        .map(|seen| hex(&seen.span.trace_id))
        .collect();
    let told = refused.iter().filter(|log| puts.contains(&log.trace)).count();
    assert!(told >= 3, "{told} refusals of PutItem know their trace");
    assert!(refused.iter().all(|log| log.attributes["code"].starts_with("DOM-")));
    assert!(refused.iter().all(|log| log.process["service.name"] == "domicile"));
}

/// No id, no address, no sentence: names of ours, and numbers.
fn names_come_from_closed_sets(seen: &Seen) {
    let processes: BTreeSet<_> =
        seen.spans.iter().map(|span| span.process.keys().cloned().collect::<Vec<_>>()).collect();
    let expected = [
        "deployment.environment.name",
        "domicile.region",
        "domicile.role",
        "service.instance.id",
        "service.name",
        "service.version",
    ];
    assert!(processes.iter().flatten().all(|name| expected.contains(&name.as_str())), "{processes:?}");
    for (name, value) in seen.every_value() {
        let ours = |byte: u8| byte.is_ascii_alphanumeric() || b"._-/".contains(&byte);
        assert!(!value.is_empty() && value.len() <= 80 && value.bytes().all(ours), "{name} is {value:?}");
        let digits = value.bytes().filter(u8::is_ascii_hexdigit).count();
        assert!(!(value.len() == 36 && digits == 32), "{name} is an id: {value}");
    }
    for seen in &seen.spans {
        assert!(seen.span.events.is_empty() && seen.span.links.is_empty(), "{}", seen.span.name);
        assert!(seen.span.status.as_ref().is_none_or(|status| status.message.is_empty()));
    }
}

fn nothing_a_person_typed(receiver: &Receiver) {
    let forms = forms();
    for form in &forms {
        let hidden = [b"\x00head".as_slice(), form, b"tail"].concat();
        assert!(finds(&hidden, &forms), "the finder finds every form");
    }
    let messages = receiver.messages();
    assert!(messages.len() > 20);
    for message in messages {
        let everything = [message.path.as_bytes(), message.headers.as_bytes(), &message.body].concat();
        assert!(!finds(&everything, &forms), "{} tells what a person typed", message.path);
        assert!(!message.headers.to_lowercase().contains("authorization"));
    }
}

/// The canary plain, in lower case, in hexadecimal, in base64 at each offset, percent-encoded.
fn forms() -> Vec<Vec<u8>> {
    let percent: String = CANARY.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let mut forms = vec![
        CANARY.as_bytes().to_vec(),
        CANARY.to_lowercase().into_bytes(),
        hex(CANARY.as_bytes()).into_bytes(),
        hex(CANARY.as_bytes()).to_uppercase().into_bytes(),
        percent.to_lowercase().into_bytes(),
        percent.into_bytes(),
    ];
    for skip in 0..3 {
        let whole = (CANARY.len() - skip) / 3 * 3;
        let part = &CANARY.as_bytes()[skip..skip + whole];
        forms.push(base64::Engine::encode(&base64::engine::general_purpose::STANDARD, part).into_bytes());
        forms.push(base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE, part).into_bytes());
    }
    forms
}

fn finds(content: &[u8], forms: &[Vec<u8>]) -> bool {
    forms.iter().any(|form| content.windows(form.len()).any(|window| window == form.as_slice()))
}
