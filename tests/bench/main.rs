//! `domicile-bench`: what the product costs, measured through its own doors, beside what somebody would
//! use instead. docs/performance.md explains the figures. Nothing here is a test: no figure fails a run,
//! a wrong answer does.

mod all;
mod cluster;
mod crowd;
mod freeze;
mod journey;
mod latency;
mod load;
mod machine;
mod memory;
mod notes;
mod out;
mod pipelines;
mod record;
mod scale;
mod stage;
mod statements;
mod tools;
mod transfer;
mod withdraw;

use clap::{Parser, Subcommand};
use domicile_tests::world::Outcome;
use out::{Common, Measured};
use tokio::signal::ctrl_c;
use tokio::signal::unix::{SignalKind, signal};

/// Measures a build of the product.
#[derive(Parser, Debug)]
#[command(name = "domicile-bench", version)]
struct Bench {
    #[command(subcommand)]
    what: What,
    #[command(flatten)]
    common: Common,
}

#[derive(Subcommand, Debug)]
enum What {
    /// Item writes and reads by several clients at once.
    Load(load::LoadArgs),
    /// The standard record's move, beside pipelines of age and rclone.
    Transfer(transfer::TransferArgs),
    /// How long a writer waits while the record moves.
    Freeze(freeze::FreezeArgs),
    /// How soon a withdrawal is acknowledged while the destination is down.
    Withdraw(withdraw::WithdrawArgs),
    /// What clients at work notice of ten transfers at once.
    Crowd(crowd::CrowdArgs),
    /// The same at ten times the items and the bytes.
    Scale(scale::ScaleArgs),
    /// Peak memory of each process, for records of any size.
    Memory(memory::MemoryArgs),
    /// Everything, in about half an hour.
    All(all::AllArgs),
}

#[tokio::main]
async fn main() -> Outcome<()> {
    let Bench { what, common } = Bench::parse();
    let mut terminated = signal(SignalKind::terminate())?;
    // Whatever ends it, its processes end and its files go.
    let measured = tokio::select! {
        measured = measure(&common, what) => measured?,
        _ = terminated.recv() => return Err("terminated".into()),
        interrupted = ctrl_c() => return Err(interrupted.err().map_or("interrupted".into(), Into::into)),
    };
    common.tell(&measured)
}

async fn measure(common: &Common, what: What) -> Outcome<Vec<Measured>> {
    match what {
        What::Load(args) => load::run(common, &args).await,
        What::Transfer(args) => transfer::run(common, &args).await,
        What::Freeze(args) => freeze::run(common, &args).await,
        What::Withdraw(args) => withdraw::run(common, &args).await,
        What::Crowd(args) => crowd::run(common, &args).await,
        What::Scale(args) => scale::run(common, &args).await,
        What::Memory(args) => memory::run(common, &args).await,
        What::All(args) => all::run(common, &args).await,
    }
}
