//! What people at work notice of ten transfers at once.

use std::time::Duration;

use clap::Args;
use domicile_tests::world::Outcome;
use futures::future::try_join_all;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::latency::{Latencies, millis};
use crate::load::Mode;
use crate::load::worker::{self, Work, Worker};
use crate::out::{Common, Measured, mib};
use crate::record::{Record, Shape};
use crate::stage::{MOVING, Stage};

const MIB: u64 = 1024 * 1024;

/// What is asked for.
#[derive(Args, Clone, Debug)]
pub(crate) struct CrowdArgs {
    /// Transfers at once.
    #[arg(long, default_value_t = 10)]
    pub(crate) transfers: usize,
    /// Clients at work meanwhile, each on a record of its own at the source.
    #[arg(long, default_value_t = 8)]
    pub(crate) clients: usize,
    /// Requests a second of each client, four reads to a write; 0 for as fast as they are answered.
    #[arg(long, default_value_t = 20)]
    pub(crate) rate: u32,
    /// Items of 500 B of each record that moves.
    #[arg(long, default_value_t = 1_000)]
    pub(crate) items: u64,
    /// Attachments of 1 MiB of each record that moves.
    #[arg(long, default_value_t = 16)]
    pub(crate) attachments: u64,
    /// How often it is measured, none and ten in turn.
    #[arg(long, default_value_t = 3)]
    pub(crate) rounds: usize,
    /// How long it is measured without transfers, each round.
    #[arg(long, default_value_t = 10)]
    pub(crate) seconds: u64,
}

/// Measures and shows.
pub(crate) async fn run(common: &Common, args: &CrowdArgs) -> Outcome<Vec<Measured>> {
    let stage = Stage::open(common, "[transfer]\ntransfers_at_once = 16\n").await?;
    let shape = Shape { items: args.items, attachments: args.attachments, attachment_bytes: MIB };
    let mut records = Vec::new();
    for number in 0..args.transfers {
        records.push(Record::filled(&stage, &format!("moves{number}"), shape).await?);
    }
    let mut workers = workers(&stage, args.clients).await?;
    worker::fill(&mut workers, 100).await?;
    let every = (args.rate > 0).then(|| Duration::from_secs(1) / args.rate.max(1));
    let work = |over: &CancellationToken| Work { mode: Mode::Mixed, every, over: over.clone() };
    let (mut alone, mut beside, mut took) = (Latencies::default(), Latencies::default(), Vec::new());
    for _ in 0..args.rounds {
        let over = CancellationToken::new();
        let timer = async {
            tokio::time::timeout(Duration::from_secs(args.seconds), over.cancelled()).await.ok();
            over.cancel();
            Ok(0.0)
        };
        alone.join(tokio::try_join!(worker::until_over(&mut workers, work(&over)), timer)?.0);
        let over = CancellationToken::new();
        let moving = moving(&stage, &mut records, &over);
        let (latencies, seconds) = tokio::try_join!(worker::until_over(&mut workers, work(&over)), moving)?;
        beside.join(latencies);
        took.push(seconds);
    }
    drop(workers);
    stage.close().await?;
    Ok(vec![measured(args, shape, &alone, &beside, &took)])
}

/// Moves every record at once; how long it took until the last was closed.
async fn moving(stage: &Stage, records: &mut [Record], over: &CancellationToken) -> Outcome<f64> {
    let began = tokio::time::Instant::now();
    let done = try_join_all(records.iter_mut().map(|record| record.travel(stage))).await;
    // Whatever became of them, the clients stop.
    over.cancel();
    done?;
    Ok(began.elapsed().as_secs_f64())
}

async fn workers(stage: &Stage, clients: usize) -> Outcome<Vec<Worker>> {
    let mut workers = Vec::new();
    for number in 0..clients {
        let name = format!("works{number}");
        let practice = stage.world.practice(&name, MOVING[0], &[]).await?;
        let patient = stage.world.patient(MOVING[0], &practice, &name).await?;
        workers.push(Worker::new(number as u64, practice.home.clone(), patient.subject.clone()));
    }
    Ok(workers)
}

fn measured(args: &CrowdArgs, shape: Shape, alone: &Latencies, beside: &Latencies, took: &[f64]) -> Measured {
    let ratio = millis(beside.quantile(990)) / millis(alone.quantile(990));
    let pace = if args.rate == 0 { "unpaced".to_owned() } else { format!("{} requests/s each", args.rate) };
    let three = |latencies: &Latencies| {
        let [p50, p99, longest] = [500, 990, 1_000].map(|at| millis(latencies.quantile(at)));
        format!("{p50} {p99} {longest}")
    };
    let lines = vec![
        ("none: p50, p99, longest (ms)".to_owned(), three(alone)),
        ("beside them: p50, p99, longest (ms)".to_owned(), three(beside)),
        ("p99 beside / none".to_owned(), format!("{ratio:.2}")),
        ("until all were closed (s)".to_owned(), format!("{took:.1?}")),
    ];
    let json = json!({
        "none": alone.json(),
        "beside": beside.json(),
        "p99_ratio": ratio,
        "requests_per_second_each": args.rate,
        "transfers_s": took,
    });
    let name = format!(
        "{} clients ({pace}) beside {} transfers of {} at once",
        args.clients,
        args.transfers,
        mib(shape.bytes())
    );
    Measured { name, lines, json }
}
