//! `domicile-bench`: what the product costs, measured through its own doors, beside what somebody would
//! use instead. docs/performance.md explains the figures. Nothing here is a test: no figure fails a run,
//! a wrong answer does.

mod cluster;
mod journey;
mod latency;
mod load;
mod machine;
mod notes;
mod out;
mod pipelines;
mod record;
mod stage;
mod statements;
mod tools;
mod transfer;

use clap::{Parser, Subcommand};
use domicile_tests::world::Outcome;

/// Measures a build of the product.
#[derive(Parser, Debug)]
#[command(name = "domicile-bench", version)]
struct Bench {
    #[command(subcommand)]
    what: What,
    #[command(flatten)]
    common: out::Common,
}

#[derive(Subcommand, Debug)]
enum What {
    /// Item writes and reads by several clients at once.
    Load(load::LoadArgs),
    /// The standard record's move, beside pipelines of age and rclone.
    Transfer(transfer::TransferArgs),
}

#[tokio::main]
async fn main() -> Outcome<()> {
    let Bench { what, common } = Bench::parse();
    let measured = match what {
        What::Load(args) => load::run(&common, &args).await?,
        What::Transfer(args) => transfer::run(&common, &args).await?,
    };
    common.tell(&measured)
}
