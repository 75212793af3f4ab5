//! Everything, in sizes that take about a quarter of an hour.

use std::path::PathBuf;

use clap::Args;
use domicile_tests::world::Outcome;

use crate::crowd::{self, CrowdArgs};
use crate::freeze::{self, FreezeArgs};
use crate::load::{self, Database, LoadArgs, Mode, Subjects};
use crate::memory::{self, MemoryArgs};
use crate::out::{Common, Measured};
use crate::scale::{self, ScaleArgs};
use crate::transfer::{self, TransferArgs};
use crate::withdraw::{self, WithdrawArgs};

/// What is asked for.
#[derive(Args, Clone, Debug)]
pub(crate) struct AllArgs {
    /// The build without audit; without it that comparison is left out.
    #[arg(long, value_name = "PATH")]
    domicile_without_audit: Option<PathBuf>,
}

/// Measures and shows.
pub(crate) async fn run(common: &Common, args: &AllArgs) -> Outcome<Vec<Measured>> {
    let mut all = Vec::new();
    for load in loads(args) {
        common.note(&format!("load: {:?} {:?} {:?}", load.database, load.subjects, load.mode))?;
        all.extend(load::run(common, &load).await?);
    }
    common.note("transfer")?;
    let transfer =
        TransferArgs { items: 20_000, attachments: 50, attachment_mib: 4, rounds: 5, statements: false };
    all.extend(transfer::run(common, &transfer).await?);
    common.note("freeze")?;
    let freeze =
        FreezeArgs { transfers: 20, items: 2_000, small_mib: 10, large_mib: 1_024, large_transfers: Some(8) };
    all.extend(freeze::run(common, &freeze).await?);
    common.note("withdraw")?;
    all.extend(withdraw::run(common, &WithdrawArgs { transfers: 60 }).await?);
    for rate in [20, 0] {
        common.note(&format!("crowd at {rate} requests a second"))?;
        let crowd = CrowdArgs {
            transfers: 10,
            clients: 8,
            rate,
            items: 1_000,
            attachments: 16,
            rounds: 2,
            seconds: 10,
        };
        all.extend(crowd::run(common, &crowd).await?);
    }
    common.note("scale")?;
    let scale = ScaleArgs { items: 250, seconds: 5, attachments: 20, transfers: 3 };
    all.extend(scale::run(common, &scale).await?);
    common.note("memory")?;
    let memory = MemoryArgs { small_mib: 100, large_mib: 4_096, object_mib: 2_048, pace_mib: 64 };
    all.extend(memory::run(common, &memory).await?);
    Ok(all)
}

/// Writes and reads, each client its own record with the comparisons, then all on one, then on SQLite.
fn loads(args: &AllArgs) -> Vec<LoadArgs> {
    let mut loads = Vec::new();
    for (database, subjects) in [
        (Database::Postgres, Subjects::PerClient),
        (Database::Postgres, Subjects::One),
        (Database::Sqlite, Subjects::PerClient),
        (Database::Sqlite, Subjects::One),
    ] {
        for mode in [Mode::Write, Mode::Read] {
            let baseline = (database, subjects) == (Database::Postgres, Subjects::PerClient);
            let domicile_without_audit = args.domicile_without_audit.clone();
            let load = LoadArgs {
                database,
                subjects,
                mode,
                baseline,
                domicile_without_audit,
                ..LoadArgs::default()
            };
            loads.push(LoadArgs { rounds: 2, ..load });
        }
    }
    loads
}
