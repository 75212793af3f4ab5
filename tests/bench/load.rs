//! Item writes and reads of 500 B through gRPC, TLS, sessions, sealing and audit, by clients of their own
//! connections. Every answer is checked.

mod baseline;
pub(crate) mod place;
pub(crate) mod worker;

use std::time::Duration;

use clap::{Args, ValueEnum};
use domicile_tests::world::Outcome;
use serde_json::{Value, json};

use crate::latency::Latencies;
use crate::machine;
use crate::out::{Common, Measured};
use crate::statements;
use place::Place;

/// Seconds before figures are taken.
const WARM: Duration = Duration::from_secs(2);
/// Seconds in which statements are counted, after the figures have been taken.
const COUNTED: Duration = Duration::from_secs(1);

/// What is asked for.
#[derive(Args, Clone, Debug)]
pub(crate) struct LoadArgs {
    /// The database.
    #[arg(long, value_enum, default_value_t = Database::Postgres)]
    pub(crate) database: Database,
    /// Clients at once, each with its own connection and session.
    #[arg(long, default_value_t = 8)]
    pub(crate) clients: usize,
    /// Whose record they work on.
    #[arg(long, value_enum, default_value_t = Subjects::PerClient)]
    pub(crate) subjects: Subjects,
    /// How long figures are taken.
    #[arg(long, default_value_t = 10)]
    pub(crate) seconds: u64,
    /// What they do.
    #[arg(long, value_enum, default_value_t = Mode::Write)]
    pub(crate) mode: Mode,
    /// Items each client has written before; reads choose among them.
    #[arg(long, default_value_t = 200)]
    pub(crate) items: usize,
    /// Measure beside it, in turn: `pgbench -N` on the same cluster, and the build without audit.
    #[arg(long)]
    pub(crate) baseline: bool,
    /// The build without audit, for --baseline.
    #[arg(long, value_name = "PATH")]
    pub(crate) domicile_without_audit: Option<std::path::PathBuf>,
    /// How often each is measured in turn, with --baseline.
    #[arg(long, default_value_t = 3)]
    pub(crate) rounds: usize,
    /// Show the statements a request runs.
    #[arg(long)]
    pub(crate) statements: bool,
}

impl Default for LoadArgs {
    fn default() -> Self {
        Self {
            database: Database::Postgres,
            clients: 8,
            subjects: Subjects::PerClient,
            seconds: 10,
            mode: Mode::Write,
            items: 200,
            baseline: false,
            domicile_without_audit: None,
            rounds: 3,
            statements: false,
        }
    }
}

/// A database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Database {
    /// PostgreSQL, durable, over TLS.
    Postgres,
    /// SQLite files.
    Sqlite,
}

/// Whose record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Subjects {
    /// Each client its own.
    PerClient,
    /// All the same.
    One,
}

/// What clients do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    /// Write new items.
    Write,
    /// Read items written before.
    Read,
    /// Four reads, then a write.
    Mixed,
}

/// One measurement's figures.
pub(crate) struct Figures {
    /// What each answered request took.
    pub(crate) latencies: Latencies,
    /// How long it ran.
    pub(crate) seconds: f64,
    /// Processor seconds of region, PostgreSQL and clients meanwhile.
    pub(crate) cpu: [f64; 3],
    /// What PostgreSQL was asked, a request; null on SQLite.
    pub(crate) asked: Value,
}

/// Measures and shows.
pub(crate) async fn run(common: &Common, args: &LoadArgs) -> Outcome<Vec<Measured>> {
    if args.baseline {
        return baseline::run(common, args).await;
    }
    let place = Place::open(common, args.database).await?;
    let figures = measure(&place, &common.executable()?, args).await?;
    place.close().await?;
    Ok(vec![figures.measured(args)])
}

/// Measures one build in one place.
pub(crate) async fn measure(
    place: &Place,
    executable: &std::path::Path,
    args: &LoadArgs,
) -> Outcome<Figures> {
    let region = place.region(executable).await?;
    let mut workers = region.workers(args).await?;
    worker::fill(&mut workers, args.items).await?;
    worker::all(&mut workers, args.mode, WARM).await?;

    let before = cpu(place, &region)?;
    let began = tokio::time::Instant::now();
    let latencies = worker::all(&mut workers, args.mode, Duration::from_secs(args.seconds)).await?;
    let seconds = began.elapsed().as_secs_f64();
    let after = cpu(place, &region)?;

    let asked = match place.cluster() {
        Some(cluster) => {
            statements::begin(cluster)?;
            let counted = worker::all(&mut workers, args.mode, COUNTED).await?;
            statements::end(cluster, region.database())?.json(counted.count())
        }
        None => Value::Null,
    };
    drop(workers);
    region.close(place).await?;
    Ok(Figures { latencies, seconds, cpu: [0, 1, 2].map(|at| after[at] - before[at]), asked })
}

fn cpu(place: &Place, region: &place::Region) -> Outcome<[f64; 3]> {
    let server = place.cluster().map_or(Ok(0.0), |cluster| machine::cpu_of_tree(cluster.pid()?))?;
    Ok([machine::cpu(region.pid()?)?, server, machine::cpu(std::process::id())?])
}

impl Figures {
    /// Requests a second.
    #[expect(clippy::cast_precision_loss, reason = "requests of seconds")]
    pub(crate) fn rate(&self) -> f64 {
        (self.latencies.count() as f64 / self.seconds).round()
    }

    /// As it is shown.
    pub(crate) fn measured(&self, args: &LoadArgs) -> Measured {
        let LoadArgs { database, subjects, mode, clients, .. } = args;
        let name = format!("{mode:?} of 500 B, {clients} clients, {subjects:?}, {database:?}").to_lowercase();
        let latency = self.latencies.json();
        #[expect(clippy::cast_precision_loss, reason = "requests of seconds")]
        let cpu =
            self.cpu.map(|seconds| (seconds * 1e6 / self.latencies.count().max(1) as f64).round() / 1_000.0);
        let mut lines = vec![
            ("requests a second".to_owned(), format!("{}", self.rate())),
            ("p50, p99, longest (ms)".to_owned(), of(&latency, &["p50_ms", "p99_ms", "max_ms"])),
            (
                "CPU a request: region, PostgreSQL, client (ms)".to_owned(),
                format!("{} {} {}", cpu[0], cpu[1], cpu[2]),
            ),
        ];
        if !self.asked.is_null() {
            lines.push((
                "queries, transactions a request".to_owned(),
                of(&self.asked, &["queries", "transactions"]),
            ));
        }
        if args.statements {
            let all = self.asked["top"].as_array().into_iter().flatten();
            for one in all.filter(|one| one["calls"].as_f64() > Some(0.0)) {
                let text = format!("{} ms  {}", one["mean_ms"], one["query"].as_str().unwrap_or_default());
                lines.push((one["calls"].to_string(), text));
            }
        }
        let json = json!({
            "requests_per_second": self.rate(),
            "latency": latency,
            "cpu_ms_per_request": { "region": cpu[0], "postgres": cpu[1], "client": cpu[2] },
            "asked_per_request": self.asked,
        });
        Measured { name, lines, json }
    }
}

fn of(value: &Value, names: &[&str]) -> String {
    names.iter().map(|name| value[name].to_string()).collect::<Vec<_>>().join(" ")
}
