//! Regions as in production: PostgreSQL over TLS 1.3 alone, two replicas of each region on one database,
//! real processes that are told to end, killed, and given other certificates.
#![cfg(test)]
#![expect(clippy::print_stderr, reason = "what was measured is shown with --nocapture")]

mod certificates;
mod connection;
mod migration;
mod rolling;
mod transfers;

use std::collections::BTreeMap;

use domicile_tests::production::Cluster;
use domicile_tests::world::Outcome;

/// A cluster for each region, started side by side.
async fn clusters<'a>(regions: &[&'a str]) -> Outcome<BTreeMap<&'a str, Cluster>> {
    let starting = regions.iter().map(|&region| async move { Ok((region, Cluster::start().await?)) });
    futures::future::try_join_all(starting).await.map(|all| all.into_iter().collect())
}

/// The end of a log: codes and states, never content.
fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().filter(|line| !line.contains("request failed")).collect();
    let lines: Vec<&str> = lines.into_iter().rev().take(20).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join("\n")
}
