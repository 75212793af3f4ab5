//! The same load beside `pgbench -N` on the same cluster, and beside a build without audit: in turn, in
//! one run.

use domicile_tests::postgres::binary;
use domicile_tests::world::Outcome;
use serde_json::json;
use tokio::process::Command;

use super::place::Place;
use super::{LoadArgs, measure};
use crate::cluster::Cluster;
use crate::latency::median;
use crate::out::{Common, Measured};

/// pgbench's scale: a million accounts.
const SCALE: &str = "10";

/// Measures in turn.
pub(super) async fn run(common: &Common, args: &LoadArgs) -> Outcome<Vec<Measured>> {
    let place = Place::open(common, args.database).await?;
    if let Some(cluster) = place.cluster() {
        prepare(cluster).await?;
    }
    let (mut shown, mut ours, mut without, mut theirs) = (None, Vec::new(), Vec::new(), Vec::new());
    for _ in 0..args.rounds {
        let figures = measure(&place, &common.executable()?, args).await?;
        ours.push(figures.rate());
        shown = Some(figures.measured(args));
        if let Some(executable) = &args.domicile_without_audit {
            without.push(measure(&place, &executable.canonicalize()?, args).await?.rate());
        }
        if let Some(cluster) = place.cluster() {
            theirs.push(pgbench(cluster, args).await?);
        }
    }
    place.close().await?;
    let mut shown = shown.ok_or("no round")?;
    let rate = median(&ours);
    shown.lines.push((format!("median of {} rounds, requests a second", ours.len()), format!("{rate}")));
    let mut beside = json!({ "requests_per_second": rate, "rounds": ours });
    for (name, label, figures) in [
        ("without_audit", "the same without audit; ratio", without),
        ("pgbench_N", "pgbench -N; ratio", theirs),
    ] {
        if !figures.is_empty() {
            let (other, ratio) = (median(&figures), rate / median(&figures));
            shown.lines.push((label.to_owned(), format!("{other:.0}; {ratio:.2}")));
            beside[name] = json!({ "per_second": other, "ratio": ratio, "rounds": figures });
        }
    }
    shown.json["baseline"] = beside;
    Ok(vec![shown])
}

async fn prepare(cluster: &Cluster) -> Outcome<()> {
    cluster.sql("postgres", "CREATE DATABASE pgbench")?;
    let url = cluster.admin("pgbench");
    let made = Command::new(binary("pgbench")?).args(["-i", "-q", "-s", SCALE, &url]).output().await?;
    if made.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&made.stderr).into()) }
}

/// Transactions a second of `pgbench -N`, its own connections over the same TLS.
async fn pgbench(cluster: &Cluster, args: &LoadArgs) -> Outcome<f64> {
    let (clients, seconds) = (args.clients.to_string(), args.seconds.to_string());
    let url = cluster.admin("pgbench");
    let arguments = ["-N", "-n", "-c", &clients, "-j", "2", "-T", &seconds, &url];
    let done = Command::new(binary("pgbench")?).args(arguments).output().await?;
    let text = String::from_utf8_lossy(&done.stdout);
    let failed = text.lines().any(|line| {
        line.strip_prefix("number of failed transactions: ").is_some_and(|rest| !rest.starts_with("0 "))
    });
    let rate = text.lines().find_map(|line| line.strip_prefix("tps = ")?.split(' ').next()?.parse().ok());
    if failed { None } else { rate }.ok_or_else(|| format!("pgbench: {text}").into())
}
