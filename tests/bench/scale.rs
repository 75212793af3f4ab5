//! The same at ten times the items, and ten times the bytes.

use clap::Args;
use domicile_tests::world::Outcome;
use serde_json::json;

use crate::latency::{median, millis};
use crate::load::{self, Database, LoadArgs, Mode, Subjects};
use crate::out::{Common, Measured, mib};
use crate::record::{Record, Shape};
use crate::stage::Stage;

const MIB: u64 = 1024 * 1024;

/// What is asked for.
#[derive(Args, Clone, Debug)]
pub(crate) struct ScaleArgs {
    /// Items each of eight clients has in its record; the second time ten times as many.
    #[arg(long, default_value_t = 250)]
    pub(crate) items: usize,
    /// How long figures are taken.
    #[arg(long, default_value_t = 5)]
    pub(crate) seconds: u64,
    /// Attachments of 1 MiB of the record that moves; the second time ten times as many.
    #[arg(long, default_value_t = 20)]
    pub(crate) attachments: u64,
    /// Transfers of each.
    #[arg(long, default_value_t = 3)]
    pub(crate) transfers: usize,
}

/// Measures and shows.
pub(crate) async fn run(common: &Common, args: &ScaleArgs) -> Outcome<Vec<Measured>> {
    let requests = requests(common, args).await?;
    Ok(vec![requests, transfers(common, args).await?])
}

async fn requests(common: &Common, args: &ScaleArgs) -> Outcome<Measured> {
    let place = load::place::Place::open(common, Database::Postgres).await?;
    let (mut lines, mut all) = (Vec::new(), Vec::new());
    for mode in [Mode::Write, Mode::Read] {
        for items in [args.items, args.items * 10] {
            let asked = LoadArgs { mode, items, seconds: args.seconds, ..LoadArgs::default() };
            let figures = load::measure(&place, &common.executable()?, &asked).await?;
            let p99 = millis(figures.latencies.quantile(990));
            let queries = &figures.asked["queries"];
            lines.push((
                format!("{mode:?}, {items} items each: queries, p99 (ms), /s").to_lowercase(),
                format!("{queries} {p99} {}", figures.rate()),
            ));
            all.push(json!({
                "mode": format!("{mode:?}"),
                "items": items,
                "queries": queries,
                "p99_ms": p99,
                "requests_per_second": figures.rate(),
                "database_items": items * asked.clients,
                "subjects": format!("{:?}", Subjects::PerClient),
            }));
        }
    }
    place.close().await?;
    Ok(Measured { name: "requests at ten times the items".to_owned(), lines, json: json!(all) })
}

#[expect(clippy::cast_precision_loss, reason = "bytes of a benchmark")]
async fn transfers(common: &Common, args: &ScaleArgs) -> Outcome<Measured> {
    let stage = Stage::open(common, "").await?;
    let (mut lines, mut all) = (Vec::new(), Vec::new());
    for attachments in [args.attachments, args.attachments * 10] {
        let shape = Shape { items: 500, attachments, attachment_bytes: MIB };
        let mut record = Record::filled(&stage, &format!("grows{attachments}"), shape).await?;
        let (mut adopted, mut closed) = (Vec::new(), Vec::new());
        for _ in 0..args.transfers {
            let times = record.travel(&stage).await?;
            adopted.push(times.adopted.as_secs_f64());
            closed.push(times.closed.as_secs_f64());
        }
        let [adopted, closed] = [median(&adopted), median(&closed)];
        let each = closed / (shape.bytes() as f64 / MIB as f64) * 1_000.0;
        lines.push((
            format!("{}: until adopted, closed; closed a MiB", mib(shape.bytes())),
            format!("{adopted:.2} s {closed:.2} s {each:.1} ms"),
        ));
        all.push(json!({ "bytes": shape.bytes(), "adopted_s": adopted, "closed_s": closed }));
    }
    stage.close().await?;
    Ok(Measured { name: "transfers at ten times the bytes".to_owned(), lines, json: json!(all) })
}
