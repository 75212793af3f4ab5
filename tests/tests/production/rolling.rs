//! Restarts of either replica under writes: nothing acknowledged is lost, the log has no gap, and the
//! other replica goes on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use domicile_cli::Client;
use domicile_cli::client::patiently;
use domicile_tests::world::moves::{count, write};
use domicile_tests::world::replicas::{REPLICAS, Replicated};
use domicile_tests::world::{Outcome, PATIENCE, Tuning, Written, pause, run};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::{clusters, tail};

/// Someone who writes one note after the other until told to stop.
pub(crate) struct Writer {
    stop: Arc<AtomicBool>,
    task: JoinHandle<Outcome<(Written, Duration)>>,
}

impl Writer {
    pub(crate) fn start(client: Client, subject: String, name: String) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let over = Arc::clone(&stop);
        let task = tokio::spawn(async move {
            let (mut written, mut longest) = (Written::default(), Duration::ZERO);
            while !over.load(Ordering::Relaxed) {
                let (text, from) = (format!("{name} {}", written.0.len()), Instant::now());
                let item =
                    write(&client, &subject, &text).await.map_err(|error| format!("{name}: {error:?}"))?;
                longest = longest.max(from.elapsed());
                written.0.insert(item, text);
            }
            Ok((written, longest))
        });
        Self { stop, task }
    }

    /// Everything that was acknowledged, and the longest time one write took.
    pub(crate) async fn end(self) -> Outcome<(Written, Duration)> {
        self.stop.store(true, Ordering::Relaxed);
        tokio::time::timeout(PATIENCE, self.task).await??
    }
}

/// How many items there are, asked again when the replica asked goes away.
async fn counted(client: &Client, subject: &str) -> Outcome<usize> {
    Ok(patiently(PATIENCE, || count(client, subject)).await?)
}

/// Lets the writers write for a while: until there are some more items.
pub(crate) async fn meanwhile(subject: &str, client: &Client, more: usize) -> Outcome<()> {
    let until = Instant::now() + PATIENCE;
    let before = counted(client, subject).await?;
    while counted(client, subject).await? < before + more {
        if Instant::now() > until {
            return Err("the writers do not get on".into());
        }
        pause().await;
    }
    Ok(())
}

async fn under_writes() -> Outcome<()> {
    let clusters = clusters(&["eu", "ca"]).await?;
    let mut world = Replicated::start(&clusters, &Tuning::default()).await?;
    let practice = world.practice("berg", "eu", &["ca"]).await?;
    let patient = world.patient("eu", &practice, "anna").await?;
    // Two writers and a reader, on connections of their own: the balancer spreads them.
    let mut writers = Vec::new();
    for name in ["one", "two"] {
        let client = world.sign_in("eu", &practice.login).await?;
        writers.push(Writer::start(client, patient.subject.clone(), name.to_owned()));
    }
    let reader = world.sign_in("eu", &practice.login).await?;
    for round in 0..2 {
        for replica in REPLICAS {
            meanwhile(&patient.subject, &reader, 10).await?;
            // In order first, then without warning.
            if round == 0 {
                world.terminate("eu", replica).await?;
            } else {
                world.kill("eu", replica).await?;
            }
            meanwhile(&patient.subject, &reader, 10).await?;
            world.restart("eu", replica).await?;
        }
    }
    meanwhile(&patient.subject, &reader, 10).await?;
    let mut longest = Duration::ZERO;
    for writer in writers {
        let (written, slowest) = writer.end().await?;
        longest = longest.max(slowest);
        assert!(written.0.len() > 20, "a writer wrote {}", written.0.len());
        written.read_back(&reader, &patient.subject).await?;
    }
    eprintln!("the longest write took {longest:?}");
    // Every entry of the log is there, in every writer's numbering, whichever replica sequenced it.
    let bundle = world.export("eu", "").await?;
    let policy = world.folder.join("policy.json").display().to_string();
    let verified = run(&["audit", "verify", &bundle, "--policy", &policy]).await;
    verified
        .map_err(|error| format!("{error}\n{}", tail(&world.replica_log("eu", "b").unwrap_or_default())))?;
    Ok(())
}

/// The replica that sequences the log, by what each has logged last.
fn sequencing(world: &Replicated) -> Outcome<Option<&'static str>> {
    let mut newest: Option<(String, &'static str)> = None;
    for replica in REPLICAS {
        let log = world.replica_log("eu", replica)?;
        let line = log.lines().rev().find(|line| line.contains("this process sequences the audit log"));
        if let Some(line) = line {
            let at = line.split_whitespace().next().unwrap_or_default().to_owned();
            if newest.as_ref().is_none_or(|(other, _)| at > *other) {
                newest = Some((at, replica));
            }
        }
    }
    Ok(newest.map(|(_, replica)| replica))
}

/// The other replica sequences the log within seconds, whether the first ended in order or not, and a
/// replica that does not sequence gets its checkpoint at once.
async fn the_log_goes_on() -> Outcome<()> {
    let clusters = clusters(&["eu", "ca"]).await?;
    let mut world = Replicated::start(&clusters, &Tuning::default()).await?;
    let login = domicile_tests::world::Login {
        email: "compliance@eu.domicile.local".to_owned(),
        password: domicile_tests::region::PASSWORD.to_owned(),
    };
    for killed in [false, true] {
        let leader = sequencing(&world)?.ok_or("nobody sequences")?;
        let follower = if leader == "a" { "b" } else { "a" };
        let client = signed_in(&world.replica("eu", follower)?, &login).await?;
        // Signing in has made an entry; its checkpoint is asked of the replica that does not sequence.
        let from = Instant::now();
        checkpoint(&client).await?;
        let asked = from.elapsed();
        if killed {
            world.kill("eu", leader).await?;
        } else {
            world.terminate("eu", leader).await?;
        }
        let (from, client) = (Instant::now(), signed_in(&world.replica("eu", follower)?, &login).await?);
        checkpoint(&client).await?;
        let taken = from.elapsed();
        eprintln!("killed {killed}: demanded {asked:?}, take-over {taken:?}");
        assert_eq!(sequencing(&world)?, Some(follower));
        world.restart("eu", leader).await?;
    }
    let bundle = world.export("eu", "").await?;
    let policy = world.folder.join("policy.json").display().to_string();
    run(&["audit", "verify", &bundle, "--policy", &policy]).await?;
    Ok(())
}

async fn signed_in(client: &Client, login: &domicile_tests::world::Login) -> Outcome<Client> {
    use domicile_proto::identity::v1::SignInRequest;
    let request = SignInRequest { email: login.email.clone(), password: login.password.clone() };
    let token = domicile_cli::client::answer(client.identity().sign_in(request)).await?.token;
    Ok(client.with_token(&token)?)
}

async fn checkpoint(client: &Client) -> Outcome<()> {
    use domicile_proto::audit::v1::GetCheckpointRequest;
    domicile_cli::client::answer(client.audit().get_checkpoint(GetCheckpointRequest {})).await?;
    Ok(())
}

/// Wrong passwords count together, whichever replica they are tried at.
async fn guesses_count_together() -> Outcome<()> {
    let clusters = clusters(&["eu", "ca"]).await?;
    let world = Replicated::start(&clusters, &Tuning::default()).await?;
    let wrong = domicile_tests::world::Login {
        email: "operator@eu.domicile.local".to_owned(),
        password: "this is not the password at all".to_owned(),
    };
    let mut refusals = Vec::new();
    for turn in 0..6 {
        let client = world.replica("eu", REPLICAS[turn % 2])?;
        let refused = signed_in(&client, &wrong).await.err().ok_or("it let somebody in")?;
        refusals.push(refused.to_string());
    }
    let slowed = |text: &String| text.contains("DOM-GENERAL-004");
    assert!(refusals[..5].iter().all(|text| !slowed(text)), "{refusals:?}");
    assert!(slowed(&refusals[5]), "{refusals:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn either_replica_restarts_under_writes() {
    under_writes().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_other_replica_sequences_the_log() {
    the_log_goes_on().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_count_wrong_passwords_together() {
    guesses_count_together().await.unwrap();
}
