//! `domicile demo`: a record moves from the EU to Canada, and a consent is withdrawn in time; with real
//! processes, through the same doors as everybody.

mod aftermath;
mod journey;
mod people;
mod proof;
mod record;
mod stage;
mod withdrawal;
mod writer;

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use domicile_cli::failure::{Failure, Result};
use domicile_cli::{App, Client, progress, text};
use domicile_proto::transfer::v1::TransferState;
use serde_json::json;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::roles::shutdown;
use crate::up::{Deployment, Wanted};
use people::{Person, Practice};
use record::{Imported, Upload};
use stage::{Checks, Stage};
use writer::{Go, Written};

/// Items of the first client.
const ITEMS: u64 = 420;
/// Their attachments, in MiB, unless a number of them is asked for: then each is the last one's size.
const ATTACHMENTS: [usize; 3] = [2, 3, 4];
const MIB: usize = 1024 * 1024;
/// Copying is slowed so that there is something to see: small pages, and so many bytes a second.
const PAGE_ROWS: i64 = 40;
const PAGE_BYTES: i64 = 64 * 1024;
const BYTES_PER_SECOND: i64 = 4 * 1024 * 1024;

/// How the demonstration runs.
#[derive(Args, Debug)]
#[command(after_help = "\
Needs nothing installed. Takes less than a minute and ends with 0 only if every check held. The folder is
a temporary one and removed at the end, unless --keep or --data says otherwise.

Examples:
  domicile demo
  domicile demo --fhir bundle.json
  domicile demo --keep
  domicile demo --full-speed --items 20000 --attachments 50")]
pub(crate) struct DemoArgs {
    /// Fill the record from this FHIR R4 bundle (JSON) instead of made-up items.
    #[arg(long, value_name = "FILE")]
    fhir: Option<PathBuf>,
    /// How many items to make up.
    #[arg(long, value_name = "N", default_value_t = ITEMS, conflicts_with = "fhir")]
    items: u64,
    /// How many attachments of 4 MiB to make up, instead of three of 2, 3 and 4 MiB.
    #[arg(long, value_name = "N")]
    attachments: Option<usize>,
    /// Copy as fast as the machine can, to take the time; leaves out the second scenario, which needs to
    /// happen in mid-copy.
    #[arg(long)]
    full_speed: bool,
    /// Leave the folder for a look, or for `domicile up --data`.
    #[arg(long)]
    keep: bool,
}

/// Plays both scenarios.
pub(crate) async fn run(app: &App, args: DemoArgs) -> Result<()> {
    let stop = shutdown::on_signals(false);
    let began = Instant::now();
    let (folder, temporary) = folder(app)?;
    let played = play(app, &folder, &args, &stop).await;
    let kept = args.keep || !temporary;
    if kept {
        app.out.text(&format!("\nEverything lies in {}", folder.display()))?;
    } else if let Err(cause) = std::fs::remove_dir_all(&folder) {
        app.out.text(&format!("\n{} could not be removed: {}", folder.display(), cause.kind()))?;
    }
    let outcome = played?;
    let seconds = began.elapsed().as_secs_f64();
    let (checks, failed) = (outcome.checks, outcome.failed);
    app.out.answer(
        || json!({ "held": failed == 0, "seconds": seconds, "checks": outcome.all, "folder": kept.then_some(&folder) }),
        || {
            let held = checks - failed;
            let end = if failed == 0 { "Everything held." } else { "NOT EVERYTHING HELD." };
            format!("\n{end} {held} of {checks} checks in {seconds:.1} s.")
        },
    )?;
    if failed == 0 { Ok(()) } else { Err(Failure::Status(1)) }
}

/// The folder to play in, and whether it is a temporary one.
fn folder(app: &App) -> Result<(PathBuf, bool)> {
    if let Some(data) = &app.global.data {
        if data.join("deployment.toml").exists() {
            let what = format!("{} holds a deployment already", data.display());
            return Err(Failure::local(what, "The demonstration makes its own people: name a new folder."));
        }
        return Ok((data.clone(), false));
    }
    let name = format!("domicile-demo-{}", hex::encode(app.ctx.random::<8>()));
    Ok((std::env::temp_dir().join(name), true))
}

/// What came of it.
struct Outcome {
    checks: usize,
    failed: usize,
    all: serde_json::Value,
}

async fn play(app: &App, folder: &Path, args: &DemoArgs, stop: &CancellationToken) -> Result<Outcome> {
    let numbers =
        [("page_rows", PAGE_ROWS), ("page_bytes", PAGE_BYTES), ("bytes_per_second", BYTES_PER_SECOND)];
    let slowed = numbers.into_iter().filter(|_| !args.full_speed);
    let transfer: toml::Table =
        slowed.map(|(name, value)| (name.to_owned(), toml::Value::Integer(value))).collect();
    app.out.text("Domicile: a record moves between regions, with consent.")?;
    let began = Instant::now();
    let mut deployment =
        Deployment::prepare(folder, Wanted { transfer, ..Wanted::default() }, &app.ctx).await?;
    let done = async {
        deployment.start().await?;
        scenes(app, &deployment, began, args).await
    };
    // Whatever ends the scenes, the processes are ended before the folder goes.
    let done = stop.run_until_cancelled(done).await;
    let done = done.unwrap_or_else(|| Err(Failure::local("interrupted", "Start it again.")));
    let layout = deployment.layout().clone();
    deployment.stop().await;
    let (checks, moved) = done?;
    aftermath::look(app, &layout, &moved, checks).await
}

/// What the databases are asked about once everything has stopped.
struct Moved {
    /// The first client's record.
    subject: String,
    /// The withdrawn transfer.
    withdrawn: Option<String>,
}

/// Everything that happens while the regions run; the checks so far and what to look for afterwards.
async fn scenes(
    app: &App,
    deployment: &Deployment,
    began: Instant,
    args: &DemoArgs,
) -> Result<(Checks, Moved)> {
    let stage = Stage::new(app, deployment)?;
    stage.heading("Four regions and a coordinator")?;
    let mut rows = Vec::new();
    for region in deployment.regions() {
        rows.push(vec![region.to_string(), deployment.place(region)?.endpoint]);
    }
    stage.say(&text::table(&["region", "endpoint"], &rows))?;
    let slowed = if args.full_speed { "" } else { SLOWED };
    let seconds = began.elapsed().as_secs_f64();
    stage.say(&format!("  Real processes on this machine, up in {seconds:.1} s. {slowed}"))?;

    stage.heading("A practice, a practitioner, a client")?;
    let practice = people::practice(&stage).await?;
    let person = people::client(&stage, &practice, "Ada Example", "ada@example.org").await?;
    stage.say("  The practice has signed the EU's agreement and is enrolled in Canada.")?;
    stage.say("  The client has chosen the EU and set a password.")?;

    stage.heading("The record")?;
    let held = fill(&stage, &practice, &person, args).await?;
    let moved = first_move(&stage, &practice, &person, &held).await?;

    if args.full_speed {
        return Ok((stage.into_checks(), Moved { subject: moved, withdrawn: None }));
    }
    stage.heading("Second scenario: a consent withdrawn in mid-copy")?;
    let second = people::client(&stage, &practice, "Ben Example", "ben@example.org").await?;
    let withdrawn = withdrawal::play(&stage, &practice, &second).await?;
    Ok((stage.into_checks(), Moved { subject: moved, withdrawn: Some(withdrawn) }))
}

const SLOWED: &str = "Copying is slowed, so that there is something to see.";

/// What went into the record besides plain items.
struct Held {
    uploads: Vec<Upload>,
    imported: Option<Imported>,
}

async fn fill(stage: &Stage<'_>, practice: &Practice, person: &Person, args: &DemoArgs) -> Result<Held> {
    let ctx = &stage.app.ctx;
    let began = Instant::now();
    let imported = match &args.fhir {
        Some(file) => Some(record::import(&practice.at_source, &person.subject, file, ctx).await?),
        None => {
            let bar = progress::count(args.items, "  writing", stage.app.out.draws());
            let writers = (&practice.at_source, &person.at_source);
            record::fill(writers, &person.subject, args.items, ctx, || bar.inc(1)).await?;
            bar.finish_and_clear();
            None
        }
    };
    let mut uploads = Vec::new();
    let [.., usual] = ATTACHMENTS;
    let sizes = args.attachments.map_or_else(|| ATTACHMENTS.to_vec(), |count| vec![usual; count]);
    for (number, size) in sizes.iter().enumerate() {
        let name = format!("scan-{number}.bin");
        uploads.push(record::attach(&practice.at_source, &person.subject, &name, size * MIB, ctx).await?);
    }
    let what = imported.as_ref().map_or_else(
        || format!("{} items", args.items),
        |imported| format!("{} FHIR resources", imported.resources),
    );
    let size: usize = sizes.iter().sum();
    let seconds = began.elapsed().as_secs_f64();
    stage
        .say(&format!("  Wrote {what} and {} attachments of {size} MiB in {seconds:.1} s.", uploads.len()))?;
    Ok(Held { uploads, imported })
}

/// The first scenario; gives the record's id.
async fn first_move(stage: &Stage<'_>, practice: &Practice, person: &Person, held: &Held) -> Result<String> {
    let subject = &person.subject;
    let before = record::snapshot([&practice.at_source, &person.at_source], subject).await?;

    stage.heading("The client asks to move to Canada")?;
    let offer = journey::ask(stage, person, true).await?;

    stage.heading("The client consents, the practitioner keeps writing")?;
    let (stop, stopped) = watch::channel(Go::On);
    let (here, there) = (practice.at_source.clone(), practice.at_destination.clone());
    let writing = writer::start(here, there, subject.clone(), stage.app.ctx.clone(), stopped);
    journey::consent(stage, person, &offer).await?;
    let watched = journey::watch(stage, person, &offer.transfer_id, |_| {}).await;
    // The practitioner is told to stop whatever became of the move.
    let closed = watched.as_ref().is_ok_and(|last| last.state() == TransferState::Closed);
    stop.send_replace(if closed { Go::OnThere } else { Go::Home });
    let written = writing.await.map_err(|_| Failure::local("the writer ended early", "Report this."))?;
    let (last, written) = (watched?, written?);
    stage.check(last.state() == TransferState::Closed, "the transfer is closed")?;
    stage.check(last.freezes >= 1, format!("the record was held still {} time(s)", last.freezes))?;

    stage.heading("Canada has everything")?;
    let home = journey::arrive(stage, &person.login).await?;
    stage.say("  The client signs in there with the same password.")?;
    read_back(stage, practice, &home, (subject, &before, held), &written).await?;

    stage.heading("The EU has nothing")?;
    proof::moved(stage, &practice.at_source, person).await?;

    stage.heading("Both regions' logs, exported and verified with files alone")?;
    proof::logs(stage, &offer.transfer_id, "shredded").await?;

    stage.heading("The client's receipt")?;
    proof::receipt(stage, &home, &offer.transfer_id).await?;
    Ok(subject.clone())
}

async fn read_back(
    stage: &Stage<'_>,
    practice: &Practice,
    home: &Client,
    (subject, before, held): (&str, &record::Snapshot, &Held),
    written: &Written,
) -> Result<()> {
    let after = record::snapshot([&practice.at_destination, home], subject).await?;
    let lost = record::differences(before, &after);
    stage.check(lost == 0, format!("{} items are in Canada as they were in the EU", before.len() - lost))?;
    let lost = record::differences(&written.items, &after);
    stage.check(
        lost == 0,
        format!(
            "{} writes acknowledged in the EU and {} in Canada during the move are all there",
            written.at_source, written.at_destination
        ),
    )?;
    let more = after.len().saturating_sub(before.len() + written.items.len());
    stage.check(more == 0, "nothing else is in the record")?;
    stage.say(&format!("    The longest of those writes took {}.", millis(written.longest)))?;
    for upload in &held.uploads {
        let same = record::same_upload(home, subject, upload).await?;
        stage.check(
            same,
            format!("an attachment of {}, byte by byte", text::size(upload.content.len() as u64)),
        )?;
    }
    if let Some(imported) = &held.imported {
        let same = record::same_bundle(&practice.at_destination, subject, imported).await?;
        stage.check(same, "the FHIR bundle comes out in Canada as it went in")?;
    }
    Ok(())
}

fn millis(duration: Duration) -> String {
    format!("{} ms", duration.as_millis())
}
