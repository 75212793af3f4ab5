//! A deployment that runs learns of a fifth region with a restart of one process after another; `up` takes
//! one in.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use domicile_cli::Client;
use domicile_cli::client::answer;
use domicile_proto::transfer::v1::{RequestTransferRequest, TransferState};
use domicile_store::Backend;
use domicile_tests::world::moves::{attach, fetch, reaches, write};
use domicile_tests::world::{Moving, Outcome, PATIENCE, Patient, Tuning, World, Written, pause, run};
use domicile_types::{Code, Error};
use tokio::time::Instant;

use super::example;

const FOUR: [&str; 4] = ["us", "eu", "ca", "au"];

mod on_sqlite {
    #[tokio::test]
    async fn a_fifth_region_joins_a_deployment_that_runs() {
        super::a_fifth_region_joins_a_deployment_that_runs(domicile_store::Backend::Sqlite).await.unwrap();
    }
}

mod on_postgres {
    #[tokio::test]
    async fn a_fifth_region_joins_a_deployment_that_runs() {
        super::a_fifth_region_joins_a_deployment_that_runs(domicile_store::Backend::Postgres).await.unwrap();
    }
}

/// Writes one note after another until told to stop; what was acknowledged.
fn writer(
    client: Client,
    subject: String,
    stop: Arc<AtomicBool>,
) -> tokio::task::JoinHandle<Outcome<Written>> {
    tokio::spawn(async move {
        let mut written = Written::default();
        while !stop.load(Ordering::SeqCst) {
            let text = format!("meanwhile {}", written.0.len());
            let item = write(&client, &subject, &text).await?;
            written.0.insert(item, text);
            pause().await;
        }
        Ok(written)
    })
}

async fn refused(client: &Client, destination: &str) -> Error {
    let request =
        RequestTransferRequest { destination: destination.to_owned(), idempotency_key: World::key() };
    answer(client.transfers().request_transfer(request)).await.err().expect("refused")
}

/// Signs the client in at the new home, as soon as the account is there, and waits for the end.
async fn arrives(world: &World, region: &str, patient: &Patient, moving: &Moving) -> Outcome<Patient> {
    let until = Instant::now() + PATIENCE;
    let client = loop {
        match world.sign_in(region, &patient.login).await {
            Ok(client) => break client,
            Err(error) if Instant::now() > until => return Err(error),
            Err(_) => pause().await,
        }
    };
    reaches(&client, &moving.id, TransferState::Closed).await?;
    Ok(Patient { client, ..patient.clone() })
}

async fn a_fifth_region_joins_a_deployment_that_runs(backend: Backend) -> Outcome<()> {
    let mut world = World::start(backend, &FOUR, &Tuning::default()).await?;
    let practice = world.practice("anders", "eu", &["ca"]).await?;
    let (patient, other) =
        (world.patient("eu", &practice, "clara").await?, world.patient("eu", &practice, "dora").await?);
    let mut written = Written::default();
    written.fill(&practice.home, &patient.subject, 20, "before").await?;
    let file = vec![41_u8; 1_200_000];
    let attached = attach(&practice.home, &patient.subject, &file).await?;
    // An offer that is open while the regions restart stays what it was.
    write(&practice.home, &other.subject, "one").await?;
    let open = other.ask("ca").await?;
    let unknown = refused(&patient.client, "nz").await;
    assert_eq!(unknown.code(), Code::TransferNotAllowed);
    assert_eq!(unknown.place(), Some("nz: from eu a record may move to ca, us, au"));

    let stop = Arc::new(AtomicBool::new(false));
    let meanwhile = writer(practice.home.clone(), patient.subject.clone(), Arc::clone(&stop));
    world.join(backend, "nz", &example().join("nz.toml")).await?;
    stop.store(true, Ordering::SeqCst);
    let meanwhile = meanwhile.await??;
    assert!(!meanwhile.0.is_empty(), "the practitioner kept working");
    written.0.extend(meanwhile.0);
    world.enrol_also(&practice, &["ca"], "nz").await?;

    other.consent(&open).await?;
    arrives(&world, "ca", &other, &open).await?;

    // There.
    let moving = patient.ask("nz").await?;
    for part in ["New Zealand", "Decision 2013/65/EU", "Office of the Privacy Commissioner"] {
        assert!(moving.offer.notice.contains(part), "{part}");
    }
    patient.consent(&moving).await?;
    let patient = arrives(&world, "nz", &patient, &moving).await?;
    let there = world.sign_in("nz", &practice.login).await?;
    written.read_back(&there, &patient.subject).await?;
    assert_eq!(fetch(&there, &patient.subject, &attached).await?, file);
    world.verify(["eu", "nz"], &moving.id).await?;
    written.fill(&there, &patient.subject, 5, "in New Zealand").await?;

    // A pair that is in no file.
    let nowhere = refused(&patient.client, "us").await;
    assert_eq!(
        (nowhere.code(), nowhere.place()),
        (Code::TransferNotAllowed, Some("us: from nz a record may move to eu, ca, au"))
    );

    // To Canada, which learned of the fifth region by its restart; and home.
    let moving = patient.ask("ca").await?;
    patient.consent(&moving).await?;
    let patient = arrives(&world, "ca", &patient, &moving).await?;
    let there = world.sign_in("ca", &practice.login).await?;
    written.read_back(&there, &patient.subject).await?;
    world.verify(["nz", "ca"], &moving.id).await?;
    let moving = patient.ask("eu").await?;
    patient.consent(&moving).await?;
    let patient = arrives(&world, "eu", &patient, &moving).await?;
    written.read_back(&practice.home, &patient.subject).await?;
    assert_eq!(fetch(&practice.home, &patient.subject, &attached).await?, file);
    world.verify(["ca", "eu"], &moving.id).await?;
    Ok(())
}

/// What `up` refuses: what it said.
async fn up_refuses(folder: &Path, more: &[&str]) -> String {
    let data = folder.display().to_string();
    let arguments = [&["up", "--data", &data, "--prepare"], more].concat();
    run(&arguments).await.expect_err("refused").to_string()
}

/// `up` takes the file over, gives the fifth region its stack and tells the others; what was there stays.
#[tokio::test]
async fn up_takes_a_fifth_region_in() -> Outcome<()> {
    let files = tempfile::tempdir()?;
    let folder = files.path().join("deployment");
    let (data, policies) = (folder.display().to_string(), example().display().to_string());
    run(&["up", "--data", &data, "--regions", "eu,ca", "--prepare"]).await?;
    let read = |file: &str| std::fs::read_to_string(folder.join(file));
    let before: serde_json::Value = serde_json::from_str(&read("policy.json")?)?;
    let missing = up_refuses(&folder, &["--regions", "eu,ca,nz"]).await;
    assert!(missing.contains("nz.toml is missing"), "{missing}");

    run(&["up", "--data", &data, "--policies", &policies, "--regions", "eu,ca,nz", "--prepare"]).await?;
    let after: serde_json::Value = serde_json::from_str(&read("policy.json")?)?;
    for region in ["eu", "ca"] {
        assert_eq!(before["logs"][region], after["logs"][region], "{region}");
        let settings: toml::Table = read(&format!("{region}/config.toml"))?.parse()?;
        assert_eq!(settings["peer"].as_array().map(Vec::len), Some(2));
    }
    assert!(after["logs"]["nz"].is_object() && read("credentials.toml")?.contains("operator@nz."));
    let config = folder.join("nz/config.toml").display().to_string();
    let checked = run(&["region", "--config", &config, "--check", "--json"]).await?;
    let checked: serde_json::Value = serde_json::from_str(&checked)?;
    assert_eq!((&checked["sends_to"], &checked["receives_from"]), (&checked["knows"], &checked["knows"]));
    assert_eq!(checked["knows"], serde_json::json!(["ca", "eu"]));

    // Without its file, or with one that contradicts the others, neither `up` nor a region starts.
    let file = folder.join("regions/nz.toml");
    let text = std::fs::read_to_string(&file)?;
    for (content, place) in [
        (None, "nz.toml"),
        (Some(text.replacen("from = \"eu\"", "from = \"mars\"", 1)), "nz.toml: inbound.mars"),
        (Some(text.replacen("to = \"ca\"", "to = \"eu\"", 1)), "nz.toml: outbound.to"),
        (Some(text.replacen("keep = \"10 years\"", "keep = \"2 years\"", 1)), "nz.toml: retention.records"),
    ] {
        match content {
            Some(content) => std::fs::write(&file, content)?,
            None => std::fs::remove_file(&file)?,
        }
        let up = up_refuses(&folder, &[]).await;
        assert!(up.contains(place), "{place}: {up}");
        for (region, how) in [("nz", "--supervised"), ("eu", "--supervised"), ("eu", "--check")] {
            let config = folder.join(region).join("config.toml").display().to_string();
            let failed = run(&["region", "--config", &config, how]).await.expect_err(place).to_string();
            assert!(failed.contains(place) && failed.contains("DOM-CONFIG-"), "{region} {place}: {failed}");
        }
    }
    std::fs::write(&file, text)?;
    let fewer = up_refuses(&folder, &["--regions", "eu,nz"]).await;
    assert!(fewer.contains("ca is left out"), "{fewer}");
    run(&["up", "--data", &data, "--prepare"]).await?;
    Ok(())
}
