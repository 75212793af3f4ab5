//! Certificates and authorities are replaced on disk while streams run: new connections see the new ones,
//! old ones go on until their age, nothing is restarted, and a broken file changes nothing but says so.

use std::path::Path;
use std::time::Duration;

use domicile_cli::Client;
use domicile_cli::place::Place;
use domicile_proto::transfer::v1::TransferState;
use domicile_tests::production::Authority;
use domicile_tests::world::moves::{attach, fetch, write};
use domicile_tests::world::replicas::{REPLICAS, Replicated};
use domicile_tests::world::{Outcome, PATIENCE, Tuning, Written, pause};
use tokio::time::Instant;

use crate::clusters;

/// Replaces a file as an administrator does: whole or not at all.
fn replace(path: &Path, content: &str) -> Outcome<()> {
    let fresh = path.with_extension("fresh");
    std::fs::write(&fresh, content)?;
    std::fs::rename(fresh, path)?;
    Ok(())
}

fn install(home: &Path, name: &str, (certificate, key): &(String, String)) -> Outcome<()> {
    replace(&home.join(format!("{name}.key")), key)?;
    replace(&home.join(format!("{name}.pem")), certificate)
}

/// A connection of its own to a region, trusting one authority alone.
fn trusting(world: &Replicated, region: &str, authority: &Path) -> Outcome<Client> {
    let place = world.replica_place(region, "a")?;
    Ok(Client::new(&Place { ca: authority.to_owned(), ..place })?)
}

async fn certificates_of_people() -> Outcome<()> {
    let clusters = clusters(&["eu", "ca"]).await?;
    let world = Replicated::start(&clusters, &Tuning::default()).await?;
    let (home, old) = (world.home("eu"), world.folder.join("ca.pem"));
    let practice = world.practice("berg", "eu", &["ca"]).await?;
    let patient = world.patient("eu", &practice, "anna").await?;
    let file = attach(&practice.home, &patient.subject, &vec![7; 3_000_000]).await?;
    let before = trusting(&world, "eu", &old)?;
    before.health(PATIENCE).await?;

    let authority = Authority::fresh()?;
    let new = world.folder.join("new.pem");
    std::fs::write(&new, &authority.certificate)?;
    install(&home, "people", &authority.server(&["localhost", "127.0.0.1"])?)?;
    trusting(&world, "eu", &new)?.health(PATIENCE).await?;
    trusting(&world, "eu", &old)?.health(PATIENCE).await.expect_err("the old certificate is no longer shown");
    // Whoever was connected before goes on.
    before.health(PATIENCE).await?;
    write(&practice.home, &patient.subject, "still connected").await?;
    assert_eq!(fetch(&practice.home, &patient.subject, &file).await?.len(), 3_000_000);

    // A file that is none, and a key of another: the last good ones stay, and it is said.
    let told = |replica: &str| world.replica_log("eu", replica);
    let complaints = told("a")?.matches("new certificates do not fit").count();
    let good = std::fs::read_to_string(home.join("people.pem"))?;
    replace(&home.join("people.pem"), "-----BEGIN CERTIFICATE-----\nbroken\n-----END CERTIFICATE-----\n")?;
    says(&before, false).await?;
    trusting(&world, "eu", &new)?.health(PATIENCE).await?;
    assert!(told("a")?.matches("new certificates do not fit").count() > complaints);
    let other = authority.server(&["localhost"])?;
    replace(&home.join("people.pem"), &other.0)?;
    trusting(&world, "eu", &new)?.health(PATIENCE).await?;
    replace(&home.join("people.pem"), &good)?;
    says(&before, true).await
}

/// Waits until the listener's certificates are said to fit, or not.
async fn says(client: &Client, fits: bool) -> Outcome<()> {
    let until = Instant::now() + PATIENCE;
    while client.health_of("domicile.certificates", Duration::from_secs(2)).await.is_ok() != fits {
        if Instant::now() > until {
            return Err(format!("health does not say {fits}").into());
        }
        pause().await;
    }
    Ok(())
}

/// A new authority for the peers: first trusted beside the old one, then used, then alone, while a record
/// moves. Connections are kept short, so that each step meets new ones.
async fn certificates_of_peers() -> Outcome<()> {
    let clusters = clusters(&["eu", "ca"]).await?;
    let tuning = Tuning { transfer: "bytes_per_second = 300000".to_owned(), ..Tuning::default() };
    let mut world = Replicated::prepare(&clusters, &tuning).await?;
    for file in ["eu/a.toml", "eu/b.toml", "ca/a.toml", "ca/b.toml", "coordinator/config.toml"] {
        let path = world.folder.join(file);
        let mut settings: toml::Table = std::fs::read_to_string(&path)?.parse()?;
        let limits: toml::Table = "connection_age = \"1s\"\nlongest_deadline = \"30s\"".parse()?;
        settings.insert("limits".to_owned(), limits.into());
        std::fs::write(path, toml::to_string(&settings)?)?;
    }
    world.begin().await?;
    let practice = world.practice("berg", "eu", &["ca"]).await?;
    let patient = world.patient("eu", &practice, "anna").await?;
    let mut written = Written::default();
    written.fill(&practice.home, &patient.subject, 20, "anna").await?;
    let files = [
        attach(&practice.home, &patient.subject, &vec![1; 1_500_000]).await?,
        attach(&practice.home, &patient.subject, &vec![2; 1_500_000]).await?,
    ];
    let moving = patient.ask("ca").await?;
    patient.consent(&moving).await?;

    let (authority, bundle) = (Authority::fresh()?, world.folder.join("ca.pem"));
    let old = std::fs::read_to_string(&bundle)?;
    replace(&bundle, &format!("{old}{}", authority.certificate))?;
    for (home, id) in [("eu", "region/eu"), ("ca", "region/ca"), ("coordinator", "coordinator")] {
        let peer = authority.peer(&format!("spiffe://domicile.local/{id}"))?;
        install(&world.home(home), "peer", &peer)?;
    }
    // People's certificates are of the old authority and their clients trust the bundle: these go last.
    for region in ["eu", "ca"] {
        install(&world.home(region), "people", &authority.server(&["localhost", "127.0.0.1"])?)?;
    }
    replace(&bundle, &authority.certificate)?;

    clusters["ca"].home_of(&patient.subject).await?;
    let client = world.sign_in("ca", &patient.login).await?;
    domicile_tests::world::moves::reaches(&client, &moving.id, TransferState::Closed).await?;
    let there = world.sign_in("ca", &practice.login).await?;
    written.read_back(&there, &patient.subject).await?;
    for item in &files {
        assert_eq!(fetch(&there, &patient.subject, item).await?.len(), 1_500_000);
    }
    for (region, replica) in
        ["eu", "ca"].into_iter().flat_map(|region| REPLICAS.map(|replica| (region, replica)))
    {
        assert_eq!(world.replica_log(region, replica)?.matches("the region starts").count(), 1);
    }
    world.verify(["eu", "ca"], &moving.id).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn peoples_certificates_change_without_a_restart() {
    certificates_of_people().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_peers_authority_changes_while_a_record_moves() {
    tokio::time::timeout(PATIENCE * 3, certificates_of_peers()).await.unwrap().unwrap();
}
