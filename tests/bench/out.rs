//! What every measurement is told, and how its figures are shown.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use domicile_tests::world::Outcome;
use serde_json::{Value, json};

use crate::{cluster, machine};

/// What holds for every measurement.
#[derive(Args, Clone, Debug)]
pub(crate) struct Common {
    /// The executable to measure; by default the one beside this program.
    #[arg(long, global = true, value_name = "PATH")]
    domicile: Option<PathBuf>,
    /// The folder on the disk to measure; by default the one for temporary files.
    #[arg(long, global = true, value_name = "FOLDER")]
    dir: Option<PathBuf>,
    /// Print JSON.
    #[arg(long, global = true)]
    json: bool,
    /// Print tables as docs/performance.md has them.
    #[arg(long, global = true, conflicts_with = "json")]
    markdown: bool,
}

/// The figures of one measurement.
pub(crate) struct Measured {
    /// What was measured.
    pub(crate) name: String,
    /// Lines of name and figure, as people read them.
    pub(crate) lines: Vec<(String, String)>,
    /// The same and more, for programs.
    pub(crate) json: Value,
}

impl Common {
    /// The executable to measure.
    pub(crate) fn executable(&self) -> Outcome<PathBuf> {
        let path = match &self.domicile {
            Some(path) => path.clone(),
            None => std::env::current_exe()?.with_file_name("domicile"),
        };
        path.canonicalize().map_err(|_| format!("{} is missing: build it", path.display()).into())
    }

    /// The folder to measure in.
    pub(crate) fn folder(&self) -> PathBuf {
        self.dir.clone().unwrap_or_else(std::env::temp_dir)
    }

    /// Says what goes on, beside the figures.
    pub(crate) fn note(&self, text: &str) -> Outcome<()> {
        Ok(writeln!(std::io::stderr(), "{text}")?)
    }

    /// The conditions under which everything is measured.
    pub(crate) fn conditions(&self) -> Outcome<Value> {
        let server = domicile_tests::postgres::binary("postgres")?;
        let version = std::process::Command::new(server).arg("--version").output()?.stdout;
        Ok(json!({
            "processor": machine::processor(),
            "cores": machine::cores(),
            "memory_mib": machine::memory_mib(),
            "disk": machine::disk(&self.folder()),
            "postgresql": String::from_utf8_lossy(&version).trim(),
            "settings": cluster::SETTINGS,
        }))
    }

    /// Prints figures under their conditions.
    pub(crate) fn tell(&self, measured: &[Measured]) -> Outcome<()> {
        let conditions = self.conditions()?;
        let mut out = std::io::stdout().lock();
        if self.json {
            let all: Vec<_> =
                measured.iter().map(|one| json!({ "name": one.name, "figures": one.json })).collect();
            let all = json!({ "conditions": conditions, "measured": all });
            writeln!(out, "{}", serde_json::to_string_pretty(&all)?)?;
            return Ok(());
        }
        let conditions: Vec<(String, String)> = conditions
            .as_object()
            .into_iter()
            .flatten()
            .map(|(name, value)| {
                (name.clone(), value.as_str().map_or_else(|| value.to_string(), str::to_owned))
            })
            .collect();
        self.table(&mut out, "conditions", &conditions)?;
        for one in measured {
            self.table(&mut out, &one.name, &one.lines)?;
        }
        Ok(())
    }

    fn table(&self, out: &mut impl Write, name: &str, lines: &[(String, String)]) -> Outcome<()> {
        if self.markdown {
            writeln!(out, "| {name} | |\n|---|---|")?;
        } else {
            writeln!(out, "{name}")?;
        }
        for (name, figure) in lines {
            if self.markdown {
                writeln!(out, "| {} | {figure} |", name.trim())?;
            } else {
                writeln!(out, "  {name:<50} {figure}")?;
            }
        }
        Ok(writeln!(out)?)
    }
}

/// Bytes as MiB.
pub(crate) fn mib(bytes: u64) -> String {
    format!("{} MiB", bytes / (1024 * 1024))
}
