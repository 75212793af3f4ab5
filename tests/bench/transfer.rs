//! The standard record's move, in turn with the pipelines that somebody would write instead.

use std::collections::BTreeMap;

use clap::Args;
use domicile_tests::world::Outcome;
use serde_json::json;

use crate::latency::median;
use crate::out::{Common, Measured, mib};
use crate::pipelines::{Objects, Pipelines};
use crate::record::{Record, Shape};
use crate::stage::{DATABASE, MOVING, Stage};
use crate::statements;

/// What is asked for.
#[derive(Args, Clone, Debug)]
pub(crate) struct TransferArgs {
    /// Items of 500 B.
    #[arg(long, default_value_t = 20_000)]
    pub(crate) items: u64,
    /// Attachments.
    #[arg(long, default_value_t = 50)]
    pub(crate) attachments: u64,
    /// MiB of each.
    #[arg(long, default_value_t = 4)]
    pub(crate) attachment_mib: u64,
    /// How often each is measured, in turn.
    #[arg(long, default_value_t = 5)]
    pub(crate) rounds: usize,
    /// Move it once more at the end and show what both clusters were asked.
    #[arg(long)]
    pub(crate) statements: bool,
}

/// Measures and shows.
pub(crate) async fn run(common: &Common, args: &TransferArgs) -> Outcome<Vec<Measured>> {
    let stage = Stage::open(common, "").await?;
    let shape = Shape {
        items: args.items,
        attachments: args.attachments,
        attachment_bytes: args.attachment_mib * 1024 * 1024,
    };
    let pipelines = Pipelines::prepare(&stage, &common.folder()).await?;
    let mut record = Record::filled(&stage, "standard", shape).await?;
    let [mut adopted, mut closed, mut age, mut rclone] = [const { Vec::new() }; 4];
    let (mut states, mut cpu) = (BTreeMap::new(), BTreeMap::new());
    for _ in 0..args.rounds {
        let before = stage.cpu()?;
        let times = record.travel(&stage).await?;
        let spent = stage.cpu()?.into_iter().map(|(name, after)| (name, after - before[name]));
        spent.for_each(|(name, spent)| cpu.entry(name).or_insert_with(Vec::new).push(spent));
        for (state, after) in times.states {
            states.entry(state).or_insert_with(Vec::new).push(after.as_secs_f64());
        }
        adopted.push(times.adopted.as_secs_f64());
        closed.push(times.closed.as_secs_f64());
        age.push(pipelines.run(&stage, &record, Objects::Age).await?.as_secs_f64());
        rclone.push(pipelines.run(&stage, &record, Objects::Rclone).await?.as_secs_f64());
    }
    let asked = if args.statements { asked(&stage, &mut record).await? } else { Vec::new() };
    stage.close().await?;
    let name = format!(
        "transfer of {} items of 500 B and {} attachments, {} in all; median of {}",
        shape.items,
        shape.attachments,
        mib(shape.bytes()),
        args.rounds
    );
    let figures = [&adopted, &closed, &age, &rclone].map(|figures| median(figures));
    let [to_adopted, to_closed, with_age, with_rclone] = figures;
    let seconds = |figure: f64| format!("{figure:.2} s");
    let mut lines = vec![
        ("consented until adopted".to_owned(), seconds(to_adopted)),
        ("consented until closed".to_owned(), seconds(to_closed)),
        ("(a) COPY, zstd, age".to_owned(), seconds(with_age)),
        ("(b) COPY, zstd, age; objects by rclone crypt".to_owned(), seconds(with_rclone)),
        ("until closed / (a)".to_owned(), format!("{:.2}", to_closed / with_age)),
        ("until adopted / (b)".to_owned(), format!("{:.2}", to_adopted / with_rclone)),
    ];
    let mut median_states = BTreeMap::new();
    for (state, after) in &states {
        let name = state.as_str_name().trim_start_matches("TRANSFER_STATE_").to_lowercase();
        lines.push((format!("  {name}, after"), seconds(median(after))));
        median_states.insert(name, median(after));
    }
    for (name, spent) in &cpu {
        lines.push((format!("  CPU of {name}"), seconds(median(spent))));
    }
    lines.extend(asked);
    let json = json!({
        "states_s": median_states,
        "cpu_s": cpu.iter().map(|(name, spent)| (*name, median(spent))).collect::<BTreeMap<_, _>>(),
        "bytes": shape.bytes(),
        "adopted_s": adopted,
        "closed_s": closed,
        "age_s": age,
        "rclone_s": rclone,
        "closed_to_age": to_closed / with_age,
        "adopted_to_rclone": to_adopted / with_rclone,
    });
    Ok(vec![Measured { name, lines, json }])
}

/// One more move, with every statement counted that took a cluster 20 ms or more in all.
async fn asked(stage: &Stage, record: &mut Record) -> Outcome<Vec<(String, String)>> {
    for region in MOVING {
        statements::begin(stage.cluster(region)?)?;
    }
    record.travel(stage).await?;
    let mut lines = Vec::new();
    for region in MOVING {
        let counted = statements::end(stage.cluster(region)?, DATABASE)?;
        let role = if region == record.home { "destination" } else { "source" };
        let total = format!("{} queries, {} transactions", counted.queries, counted.commits);
        lines.push((format!("  asked of the {role}"), total));
        for (query, calls, mean) in counted.top.iter().filter(|(_, calls, mean)| calls * mean >= 5.0) {
            lines.push((format!("    {:.0} ms in {calls} calls", calls * mean), query.clone()));
        }
    }
    Ok(lines)
}
