//! How long a writer waits while the record it writes to is held still and changes its home.

use std::time::Duration;

use clap::Args;
use domicile_cli::Client;
use domicile_cli::client::patiently;
use domicile_tests::world::{Outcome, PATIENCE, pause};
use domicile_types::{Class, Code, Error};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::latency::{Latencies, median, millis};
use crate::notes::{put, request};
use crate::out::{Common, Measured, mib};
use crate::record::{Record, Shape};
use crate::stage::Stage;

/// The time between two writes: 20 a second.
const EVERY: Duration = Duration::from_millis(50);
/// How long the writer goes on once the record has a new home.
const AFTER: Duration = Duration::from_millis(500);
const MIB: u64 = 1024 * 1024;

/// What is asked for.
#[derive(Args, Clone, Debug)]
pub(crate) struct FreezeArgs {
    /// Transfers of each record, there and back.
    #[arg(long, default_value_t = 20)]
    pub(crate) transfers: usize,
    /// Items of 500 B of the first two records; the third has ten times as many.
    #[arg(long, default_value_t = 2_000)]
    pub(crate) items: u64,
    /// MiB of the smaller records.
    #[arg(long, default_value_t = 10)]
    pub(crate) small_mib: u64,
    /// MiB of the larger one.
    #[arg(long, default_value_t = 1_024)]
    pub(crate) large_mib: u64,
    /// Transfers of the larger one, when not as many.
    #[arg(long)]
    pub(crate) large_transfers: Option<usize>,
}

/// What a record's writer saw.
struct Seen {
    shape: Shape,
    /// The longest wait for one write, each transfer.
    longest: Latencies,
    /// The longest time without any acknowledged write, each transfer.
    gaps: Latencies,
    closed: Vec<f64>,
}

/// Measures and shows.
pub(crate) async fn run(common: &Common, args: &FreezeArgs) -> Outcome<Vec<Measured>> {
    let stage = Stage::open(common, "").await?;
    let shape = |items: u64, mib: u64| Shape { items, ..rest(mib, items) };
    let large = args.large_transfers.unwrap_or(args.transfers);
    let mut all = Vec::new();
    for (name, shape, transfers) in [
        ("small", shape(args.items, args.small_mib), args.transfers),
        ("large", shape(args.items, args.large_mib), large),
        ("many", shape(args.items * 10, args.small_mib), args.transfers),
    ] {
        all.push(measure(&stage, name, shape, transfers).await?);
    }
    stage.close().await?;
    let mut measured: Vec<Measured> = all.iter().map(Seen::measured).collect();
    if let [small, large, many] = &all[..] {
        measured.push(compared(small, large, many));
    }
    Ok(measured)
}

/// Attachments of 1 MiB that make a record of so many MiB together with its items.
const fn rest(mib: u64, items: u64) -> Shape {
    let attachments = (mib * MIB).saturating_sub(items * 500).div_ceil(MIB);
    Shape { items, attachments, attachment_bytes: MIB }
}

async fn measure(stage: &Stage, name: &str, shape: Shape, transfers: usize) -> Outcome<Seen> {
    let mut record = Record::filled(stage, name, shape).await?;
    let (longest, gaps, closed) = (Latencies::default(), Latencies::default(), Vec::new());
    let mut seen = Seen { shape, longest, gaps, closed };
    for _ in 0..transfers {
        let to = record.other();
        let writer = Writer {
            subject: record.subject().to_owned(),
            source: stage.practitioner(record.home)?.clone(),
            destination: stage.practitioner(to)?.clone(),
        };
        let stop = CancellationToken::new();
        let writing = tokio::spawn(writer.run(stop.clone()));
        let moved = async {
            let journey = record.consent(to).await?;
            let adopted = async {
                journey.adopted(stage).await?;
                tokio::time::timeout(AFTER, std::future::pending::<()>()).await.ok();
                stop.cancel();
                Ok(())
            };
            tokio::try_join!(journey.follow(stage), adopted)
        }
        .await;
        // The writer ends whatever became of the move.
        stop.cancel();
        let written = writing.await??;
        let (times, ()) = moved?;
        record.written(written.count);
        record.arrive(stage, to).await?;
        seen.longest.add(written.longest);
        seen.gaps.add(written.gap);
        seen.closed.push(times.closed.as_secs_f64());
    }
    Ok(seen)
}

/// Somebody who writes at a steady pace wherever the record is.
#[derive(Clone)]
struct Writer {
    subject: String,
    source: Client,
    destination: Client,
}

/// What the writer saw during one transfer.
struct Written {
    count: u64,
    longest: Duration,
    gap: Duration,
}

impl Writer {
    /// Writes at its pace, also while earlier writes still wait, until it is told to stop.
    async fn run(self, stop: CancellationToken) -> Outcome<Written> {
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let (mut writes, mut number) = (JoinSet::new(), 0_u64);
        while let Some(due) = stop.run_until_cancelled(ticks.tick()).await {
            number += 1;
            let (writer, number) = (self.clone(), number);
            writes.spawn(async move { writer.write(number).await.map(|()| (due, Instant::now())) });
        }
        let mut acknowledged = Vec::new();
        while let Some(done) = writes.join_next().await {
            acknowledged.push(done??);
        }
        let longest = acknowledged.iter().map(|(due, done)| done.duration_since(*due)).max();
        let mut moments: Vec<Instant> = acknowledged.iter().map(|(_, done)| *done).collect();
        moments.sort_unstable();
        let gaps = moments.iter().zip(moments.iter().skip(1)).map(|(one, next)| next.duration_since(*one));
        let count = acknowledged.len() as u64;
        Ok(Written { count, longest: longest.unwrap_or_default(), gap: gaps.max().unwrap_or_default() })
    }

    /// Writes one note: waits as the source says while the record is held, and follows it.
    async fn write(&self, number: u64) -> Result<(), Error> {
        let request = request(&self.subject, number);
        match patiently(PATIENCE, || put(&self.source, request.clone())).await {
            Err(error) if error.code() == Code::RecordMoved => {}
            other => return other.map(drop),
        }
        let until = Instant::now() + PATIENCE;
        loop {
            match put(&self.destination, request.clone()).await {
                Ok(_) => return Ok(()),
                Err(error) if arriving(&error) && Instant::now() < until => pause().await,
                Err(error) => return Err(error),
            }
        }
    }
}

/// The new home does not know the record yet, or cannot take writes yet.
fn arriving(error: &Error) -> bool {
    error.code() == Code::NotFound || error.class() == Class::Unavailable
}

impl Seen {
    fn name(&self) -> String {
        let Shape { items, .. } = self.shape;
        format!("freeze seen by a writer, {} items, {}", items, mib(self.shape.bytes()))
    }

    fn json(&self) -> Value {
        json!({
            "items": self.shape.items,
            "bytes": self.shape.bytes(),
            "longest_write": self.longest.json(),
            "longest_gap": self.gaps.json(),
            "closed_s": self.closed,
        })
    }

    fn measured(&self) -> Measured {
        let both = |latencies: &Latencies| {
            let [middle, last] = [500, 990].map(|at| millis(latencies.quantile(at)));
            format!("{middle:.0} {last:.0}")
        };
        let lines = vec![
            ("transfers".to_owned(), self.longest.count().to_string()),
            ("longest write: p50, p99 (ms)".to_owned(), both(&self.longest)),
            ("longest gap between writes: p50, p99 (ms)".to_owned(), both(&self.gaps)),
            ("consented until closed, median".to_owned(), format!("{:.2} s", median(&self.closed))),
        ];
        Measured { name: self.name(), lines, json: self.json() }
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of a benchmark")]
fn compared(small: &Seen, large: &Seen, many: &Seen) -> Measured {
    let middle = |seen: &Seen| millis(seen.longest.quantile(500));
    let last = |seen: &Seen| millis(seen.longest.quantile(990));
    let more = (many.shape.items - small.shape.items).max(1) as f64;
    let each = (middle(many) - middle(small)) / more * 1_000.0;
    let (p50, p99) = (middle(large) / middle(small), last(large) / last(small));
    let lines = vec![
        ("large / small: p50, p99".to_owned(), format!("{p50:.2} {p99:.2}")),
        ("cost of one item more (µs, from p50)".to_owned(), format!("{each:.1}")),
    ];
    let json = json!({ "large_to_small_p50": p50, "large_to_small_p99": p99, "item_us": each });
    Measured { name: "freeze compared".to_owned(), lines, json }
}
