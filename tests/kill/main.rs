//! `domicile-kills`: the kill matrix as a whole. A run goes on where the last one stopped.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand};
use domicile_store::Backend;
use domicile_tests::kill::arena::Arena;
use domicile_tests::kill::matrix::quantile;
use domicile_tests::kill::matrix::{Job, Queue, cells, work};
use domicile_tests::kill::recorded::{self, MOMENTS, Moment};
use domicile_tests::kill::results::{Results, Verdict, table};
use domicile_tests::kill::{failpoints, takeover};
use domicile_tests::netns::scenes::{self, SCENES};
use domicile_tests::netns::seen;
use domicile_tests::netns::stage::{PROCESSES, Stage};
use domicile_tests::world::Outcome;
use tokio::time::Instant;

/// Kills every process at every effect of a transfer, and asks whether everything still holds.
#[derive(Parser, Debug)]
#[command(name = "domicile-kills", version)]
struct Kills {
    #[command(subcommand)]
    what: What,
    /// The file of results.
    #[arg(long, global = true, default_value = "target/kill-matrix.tsv")]
    results: PathBuf,
}

#[derive(Subcommand, Debug)]
enum What {
    /// Run the cells that have not been run, or did not hold.
    Run(RunArgs),
    /// Print what was found, for docs/reliability.md.
    Table,
    /// Print every cell's name.
    List,
    /// Kill the coordinator that drives while a second one runs; how soon that one drives.
    Takeover(TakeoverArgs),
    /// Record a deployment with a transfer in each state, for the next release to go on from.
    Record(RecordArgs),
    /// Cut, slow down and half close the network between regions in namespaces of their own; needs root.
    Netns(NetnsArgs),
    /// See that an executable has no failpoint in it.
    Absent {
        /// The executable that is to be shipped.
        executable: PathBuf,
    },
}

#[derive(clap::Args, Debug)]
struct TakeoverArgs {
    /// How often.
    #[arg(long, default_value_t = 10)]
    rounds: usize,
}

#[derive(clap::Args, Debug)]
struct RecordArgs {
    /// Only the moment of this name.
    #[arg(long)]
    only: Option<String>,
    /// Where to; by default where the repository keeps them.
    #[arg(long)]
    into: Option<PathBuf>,
}

#[derive(clap::Args, Debug)]
struct NetnsArgs {
    /// Only the scenes of these names.
    only: Vec<String>,
}

#[derive(clap::Args, Debug)]
struct RunArgs {
    /// Begin no cell after so many minutes.
    #[arg(long, default_value_t = 600)]
    minutes: u64,
    /// Deployments side by side.
    #[arg(long, default_value_t = 6)]
    worlds: usize,
    /// Only cells whose name has this in it.
    #[arg(long, default_value = "")]
    only: String,
    /// At most so many cells.
    #[arg(long, default_value_t = usize::MAX)]
    most: usize,
    /// On SQLite instead of PostgreSQL.
    #[arg(long)]
    sqlite: bool,
}

#[tokio::main]
async fn main() -> std::process::ExitCode {
    let kills = Kills::parse();
    let done = match kills.what {
        What::Run(args) => run(&kills.results, args).await,
        What::Table => print_table(&kills.results),
        What::List => list(),
        What::Takeover(args) => takeovers(args.rounds).await,
        What::Record(args) => record(args).await,
        What::Netns(args) => netns(&kills.results, &args.only).await,
        What::Absent { executable } => absent(&executable),
    };
    match done {
        Ok(true) => std::process::ExitCode::SUCCESS,
        Ok(false) => std::process::ExitCode::FAILURE,
        Err(error) => {
            say(&format!("domicile-kills: {error}"));
            std::process::ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stdout, reason = "a program's output")]
fn say(text: &str) {
    println!("{text}");
}

async fn run(file: &std::path::Path, args: RunArgs) -> Outcome<bool> {
    let backend = if args.sqlite { Backend::Sqlite } else { Backend::Postgres };
    let name = if args.sqlite { "sqlite" } else { "postgresql" };
    let results = Results::in_file(file);
    let known = results.all()?;
    let done = |cell: &str| {
        known
            .iter()
            .any(|one| one.cell == cell && one.backend == name && matches!(one.verdict, Verdict::Held(_)))
    };
    let all = cells();
    let open = all.iter().filter(|cell| cell.name().contains(&args.only) && !done(&cell.name()));
    let open: Vec<_> = open.take(args.most).cloned().collect();
    say(&format!("{} cells, {} to run, in {} worlds", all.len(), open.len(), args.worlds));
    let evidence = file.with_extension("logs");
    let job = Job {
        queue: Queue::new(open),
        backend,
        until: Instant::now() + Duration::from_secs(args.minutes * 60),
        results: &results,
        evidence: Some(&evidence),
        progress: &say,
    };
    let worlds = (0..args.worlds).map(|_| work(&job, None));
    for outcome in futures::future::join_all(worlds).await {
        outcome?;
    }
    let wrong = results.all()?.into_iter().filter(|one| matches!(one.verdict, Verdict::Wrong(_)));
    let wrong: Vec<_> = wrong.collect();
    for one in &wrong {
        say(&format!("WRONG {} on {}: {:?}", one.cell, one.backend, one.verdict));
    }
    print_table(file)?;
    Ok(wrong.is_empty())
}

fn print_table(file: &std::path::Path) -> Outcome<bool> {
    say(&table(&Results::in_file(file).all()?, &cells()));
    Ok(true)
}

fn list() -> Outcome<bool> {
    cells().iter().for_each(|cell| say(&cell.name()));
    Ok(true)
}

/// With the leases of a deployment that nobody tuned.
async fn takeovers(rounds: usize) -> Outcome<bool> {
    let mut arena = Arena::start_with(Backend::Postgres, "").await?;
    let mut times = Vec::new();
    for _ in 0..rounds {
        let took = takeover::round(&mut arena).await?;
        say(&format!("{:.1} s", took.as_secs_f64()));
        times.push(took);
    }
    times.sort();
    let (p50, p99) = (quantile(&times, 50), quantile(&times, 99));
    say(&format!("p50 {:.1} s, p99 {:.1} s, {rounds} rounds", p50.as_secs_f64(), p99.as_secs_f64()));
    Ok(true)
}

/// Tries for one moment: on a machine with much to do a process may be past it before it stands still.
const TRIES: usize = 3;

async fn record(args: RecordArgs) -> Outcome<bool> {
    let into = args.into.unwrap_or_else(recorded::folder);
    std::fs::create_dir_all(&into)?;
    let only = args.only.as_deref();
    if only.is_some_and(|name| Moment::named(name).is_none()) {
        return Err("there is no such moment".into());
    }
    let mut whole = true;
    for moment in MOMENTS.iter().filter(|moment| only.is_none_or(|name| name == moment.name)) {
        let mut tries = 0;
        let done = loop {
            tries += 1;
            match recorded::record(moment, &into).await {
                Err(error) if tries < TRIES => say(&format!("{}, again: {error}", moment.name)),
                done => break done,
            }
        };
        whole &= done.is_ok();
        match done {
            Ok(bytes) => say(&format!("{:<16} {bytes:>7} bytes", moment.name)),
            Err(error) => say(&format!("{:<16} NOT recorded: {error}", moment.name)),
        }
    }
    Ok(whole)
}

/// A scene that does not hold leaves the stage as it is: the others get one of their own.
async fn netns(results: &std::path::Path, only: &[String]) -> Outcome<bool> {
    if let Some(unknown) = only.iter().find(|name| SCENES.iter().all(|scene| scene.name != **name)) {
        let names: Vec<_> = SCENES.iter().map(|scene| scene.name).collect();
        return Err(format!("no scene {unknown}; there are {}", names.join(", ")).into());
    }
    let (mut stage, mut found, mut wrong) = (Stage::build().await?, Vec::new(), Vec::new());
    for scene in SCENES.iter().filter(|scene| only.is_empty() || only.iter().any(|name| name == scene.name)) {
        say(&format!("{:<24} {}", scene.name, scene.what));
        match scenes::run(&mut stage, scene).await {
            Ok(one) => {
                say(&seen::line(scene, &one));
                found.push((*scene, one));
            }
            Err(error) => {
                say(&format!("{:<24} WRONG: {error}", scene.name));
                keep_logs(&stage, results, scene.name)?;
                wrong.push(scene.name);
                drop(stage);
                stage = Stage::build().await?;
            }
        }
    }
    say(&seen::table(&found));
    say(&format!("{} scenes held, {} did not: {}", found.len(), wrong.len(), wrong.join(", ")));
    Ok(wrong.is_empty())
}

/// What the processes of a stage logged, beside the results.
fn keep_logs(stage: &Stage, results: &std::path::Path, scene: &str) -> Outcome<()> {
    for process in PROCESSES {
        let file = results.with_file_name(format!("netns-{scene}-{process}.log"));
        file.parent().map(std::fs::create_dir_all).transpose()?;
        std::fs::write(&file, stage.arena.world.log(process)?)?;
        say(&format!("  its log: {}", file.display()));
    }
    Ok(())
}

fn absent(executable: &std::path::Path) -> Outcome<bool> {
    let found = failpoints::found(executable)?;
    found.iter().for_each(|text| say(&format!("there is a failpoint in it: {text}")));
    Ok(found.is_empty())
}
