//! The most memory each process ever held while records of any size moved through it.

use clap::Args;
use domicile_tests::world::Outcome;
use serde_json::{Value, json};

use crate::machine;
use crate::out::{Common, Measured, mib};
use crate::record::{Record, Shape};
use crate::stage::{MOVING, Stage};

const MIB: u64 = 1024 * 1024;
/// The processes that hold a record while it moves, and the one that drives it.
const PROCESSES: [&str; 3] = [MOVING[0], MOVING[1], "coordinator"];

/// What is asked for.
#[derive(Args, Clone, Debug)]
pub(crate) struct MemoryArgs {
    /// MiB of the smaller record.
    #[arg(long, default_value_t = 100)]
    pub(crate) small_mib: u64,
    /// MiB of the larger record.
    #[arg(long, default_value_t = 4_096)]
    pub(crate) large_mib: u64,
    /// MiB of one object.
    #[arg(long, default_value_t = 2_048)]
    pub(crate) object_mib: u64,
    /// MiB a second at which that object is sent and read.
    #[arg(long, default_value_t = 64)]
    pub(crate) pace_mib: u64,
}

/// Peaks by what went on meanwhile.
#[derive(Default)]
struct Peaks {
    lines: Vec<(String, String)>,
    all: Vec<Value>,
}

/// Measures and shows.
pub(crate) async fn run(common: &Common, args: &MemoryArgs) -> Outcome<Vec<Measured>> {
    let limit = args.object_mib.max(1_024) * MIB;
    let stage = Stage::open(common, &format!("[records]\nobject_bytes = {limit}\n")).await?;
    let mut peaks = Peaks::default();
    peaks.note(&stage, "at rest")?;
    for size in [args.small_mib, args.large_mib] {
        let shape = Shape { items: 2_000, attachments: size / 4, attachment_bytes: 4 * MIB };
        let mut record = Record::filled(&stage, &format!("weighs{size}"), shape).await?;
        peaks.note(&stage, &format!("filling {}", mib(shape.bytes())))?;
        record.travel(&stage).await?;
        peaks.note(&stage, &format!("moving {}", mib(shape.bytes())))?;
    }
    let (bytes, pace) = (args.object_mib * MIB, args.pace_mib * MIB);
    let object = mib(bytes);
    let mut record = Record::new(&stage, "heavy").await?;
    record.attach(&stage, 1, bytes, Some(pace)).await?;
    peaks.note(&stage, &format!("uploading one object of {object} at {}/s", mib(pace)))?;
    record.travel(&stage).await?;
    peaks.note(&stage, &format!("moving one object of {object}"))?;
    record.read_back(&stage, pace).await?;
    peaks.note(&stage, &format!("reading one object of {object} at {}/s", mib(pace)))?;
    stage.close().await?;
    let name = format!("peak resident memory (MiB): {}", PROCESSES.join(", "));
    Ok(vec![Measured { name, lines: peaks.lines, json: json!(peaks.all) }])
}

impl Peaks {
    /// Notes the peaks since the last note, and begins anew.
    fn note(&mut self, stage: &Stage, what: &str) -> Outcome<()> {
        let mut peaks = Vec::new();
        for name in PROCESSES {
            let pid = stage.world.pid(name).ok_or_else(|| format!("{name} has ended"))?;
            peaks.push(machine::memory_kib(pid, "VmHWM")? / 1024);
            machine::forget_peak(pid)?;
        }
        let shown: Vec<String> = peaks.iter().map(u64::to_string).collect();
        self.lines.push((what.to_owned(), shown.join(" ")));
        let [source, destination, coordinator] = peaks[..] else { return Err("a process is missing".into()) };
        self.all.push(json!({
            "during": what, "eu_mib": source, "ca_mib": destination, "coordinator_mib": coordinator,
        }));
        Ok(())
    }
}
