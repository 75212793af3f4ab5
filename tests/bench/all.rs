//! Everything, in sizes that take about half an hour.

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

/// Measures each part, shows it on the way, and keeps what was measured when another part fails.
pub(crate) async fn run(common: &Common, args: &AllArgs) -> Outcome<Vec<Measured>> {
    let mut parts = Parts { common, all: Vec::new(), failed: Vec::new() };
    for load in loads(args) {
        let name = format!("load: {:?} {:?} {:?}", load.database, load.subjects, load.mode);
        parts.add(&name, load::run(common, &load)).await?;
    }
    let transfer =
        TransferArgs { items: 20_000, attachments: 50, attachment_mib: 4, rounds: 5, statements: false };
    parts.add("transfer", transfer::run(common, &transfer)).await?;
    let freeze =
        FreezeArgs { transfers: 20, items: 2_000, small_mib: 10, large_mib: 1_024, large_transfers: Some(8) };
    parts.add("freeze", freeze::run(common, &freeze)).await?;
    parts.add("withdraw", withdraw::run(common, &WithdrawArgs { transfers: 60 })).await?;
    for rate in [20, 0] {
        let crowd = CrowdArgs {
            transfers: 10,
            clients: 8,
            rate,
            items: 1_000,
            attachments: 16,
            rounds: 2,
            seconds: 10,
        };
        parts.add(&format!("crowd at {rate} requests a second"), crowd::run(common, &crowd)).await?;
    }
    let scale = ScaleArgs { items: 250, seconds: 5, attachments: 20, transfers: 3 };
    parts.add("scale", scale::run(common, &scale)).await?;
    let memory = MemoryArgs { small_mib: 100, large_mib: 4_096, object_mib: 2_048, pace_mib: 64 };
    parts.add("memory", memory::run(common, &memory)).await?;
    parts.done()
}

/// What has been measured so far.
struct Parts<'a> {
    common: &'a Common,
    all: Vec<Measured>,
    failed: Vec<String>,
}

impl Parts<'_> {
    async fn add(&mut self, name: &str, part: impl Future<Output = Outcome<Vec<Measured>>>) -> Outcome<()> {
        self.common.note(name)?;
        match part.await {
            Ok(measured) => {
                for (what, figure) in measured.iter().flat_map(|one| &one.lines) {
                    self.common.note(&format!("  {what:<50} {figure}"))?;
                }
                self.all.extend(measured);
            }
            Err(error) => {
                self.common.note(&format!("  failed: {error}"))?;
                self.failed.push(format!("{name}: {error}"));
            }
        }
        Ok(())
    }

    /// What was measured; when a part failed it is shown, and the run has failed.
    fn done(self) -> Outcome<Vec<Measured>> {
        if self.failed.is_empty() {
            return Ok(self.all);
        }
        self.common.tell(&self.all)?;
        Err(self.failed.join("; ").into())
    }
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
