//! A deployment of real processes, on SQLite or on PostgreSQL, that a test can kill and start again.

use std::collections::BTreeMap;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use domicile_cli::Client;
use domicile_cli::place::ClientFile;
use domicile_store::Backend;
use domicile_types::Ctx;
use tokio::process::{Child, ChildStdin, Command};
use tokio::time::Instant;

use crate::kill::steering::Steering;
use crate::stores::Region;

pub mod joining;
pub mod moves;
pub mod people;
pub mod proofs;
pub mod replicas;

pub use moves::{Moving, Written};
pub use people::{Login, Patient, Practice};
pub use proofs::Verdicts;

/// What a test's helper answers with.
pub type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// How long anything may take before a test gives up on it.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The deployment.
pub struct World {
    /// Where everything lies; only its owner can enter it.
    pub folder: PathBuf,
    executable: PathBuf,
    _files: tempfile::TempDir,
    /// The regions' databases on PostgreSQL; dropped with the world.
    pub databases: BTreeMap<String, Region>,
    processes: BTreeMap<String, Process>,
    operators: BTreeMap<String, Login>,
    auditors: BTreeMap<String, Login>,
    /// Words before the executable, by process.
    within: BTreeMap<String, Vec<String>>,
}

struct Process {
    child: Child,
    /// Closing it ends the process in order.
    pipe: Option<ChildStdin>,
}

/// Settings of every region's transfers, as TOML text of the table's lines.
#[derive(Clone, Debug, Default)]
pub struct Tuning {
    /// Lines under `[transfer]`.
    pub transfer: String,
    /// The value of `DOMICILE_FAULTS` for the named process.
    pub faults: BTreeMap<String, String>,
}

/// The executable under test, built beside the tests.
///
/// # Errors
/// When it has not been built.
pub fn executable() -> Outcome<PathBuf> {
    let test = std::env::current_exe()?;
    let folder = test.parent().and_then(Path::parent).ok_or("no target folder")?;
    // A test lies one folder below, a program beside it.
    let found = [folder, test.parent().unwrap_or(folder)].map(|folder| folder.join("domicile"));
    let found = found.into_iter().find(|path| path.is_file());
    Ok(found.ok_or("no executable beside the tests: cargo build -p domicile")?)
}

/// What a deployment of somebody else's choice is made of.
pub struct Plan {
    /// The executable.
    pub executable: PathBuf,
    /// The folder in which its files lie.
    pub within: PathBuf,
    /// The regions, each with the `[database]` table that stands in the place of SQLite files.
    pub regions: BTreeMap<String, Option<toml::Table>>,
    /// Regions that belong to it and do not run.
    pub absent: Vec<String>,
    /// Whether a coordinator runs.
    pub coordinator: bool,
    /// Settings of every region that differ from the defaults, in their tables.
    pub settings: toml::Table,
}

/// Runs the executable to its end and answers what it printed.
///
/// # Errors
/// When it does not end well.
pub async fn run(arguments: &[&str]) -> Outcome<String> {
    run_with(&executable()?, arguments).await
}

/// Runs an executable to its end and answers what it printed.
///
/// # Errors
/// When it does not end well.
pub async fn run_with(executable: &Path, arguments: &[&str]) -> Outcome<String> {
    let output = Command::new(executable).args(arguments).stdin(Stdio::null()).output().await?;
    let (out, err) = (String::from_utf8(output.stdout)?, String::from_utf8(output.stderr)?);
    if output.status.success() {
        Ok(out)
    } else {
        Err(format!("{arguments:?}: {} {out}{err}", output.status).into())
    }
}

impl World {
    /// Prepares a deployment and starts it.
    ///
    /// # Errors
    /// When a part of it does not start.
    pub async fn start(backend: Backend, regions: &[&str], tuning: &Tuning) -> Outcome<Self> {
        let mut world = Self::empty(executable()?, tempfile::tempdir()?);
        world.prepare(&regions.join(",")).await?;
        for region in regions {
            let database = match backend {
                Backend::Postgres => Some(Region::fresh(region, backend).await?),
                Backend::Sqlite => None,
            };
            world.settle(region, database.as_ref(), tuning)?;
            if let Some(database) = database {
                world.databases.insert((*region).to_owned(), database);
            }
        }
        for region in regions {
            world.spawn(region, tuning.faults.get(*region))?;
        }
        world.spawn("coordinator", tuning.faults.get("coordinator"))?;
        for region in regions {
            world.serving(region).await?;
            world.first_accounts(region).await?;
        }
        Ok(world)
    }

    /// Prepares a deployment as somebody wants it and starts it.
    ///
    /// # Errors
    /// When a part of it does not start.
    pub async fn launch(plan: Plan) -> Outcome<Self> {
        Self::launch_with(plan, &BTreeMap::new()).await
    }

    /// As [`World::launch`], with files that lie in regions' folders from the first, such as a `keys.toml`
    /// for `up`; by region and name.
    ///
    /// # Errors
    /// When a part of it does not start.
    pub async fn launch_with(plan: Plan, files: &BTreeMap<(String, String), toml::Table>) -> Outcome<Self> {
        let mut world = Self::empty(plan.executable, tempfile::tempdir_in(&plan.within)?);
        for ((region, name), content) in files {
            let home = world.home(region);
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&home)?;
            std::fs::write(home.join(name), toml::to_string(content)?)?;
        }
        for (region, database) in &plan.regions {
            if let Some(database) = database {
                let home = world.home(region);
                std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&home)?;
                std::fs::write(home.join("database.toml"), toml::to_string(database)?)?;
            }
        }
        let names: Vec<_> = plan.regions.into_keys().collect();
        world.prepare(&[&names[..], &plan.absent].concat().join(",")).await?;
        for region in &names {
            let file = world.home(region).join("config.toml");
            let mut settings: toml::Table = std::fs::read_to_string(&file)?.parse()?;
            settings.extend(plan.settings.clone());
            std::fs::write(&file, toml::to_string(&settings)?)?;
            world.spawn(region, None)?;
        }
        if plan.coordinator {
            world.spawn("coordinator", None)?;
        }
        for region in &names {
            world.serving(region).await?;
            world.first_accounts(region).await?;
        }
        Ok(world)
    }

    /// A deployment whose regions' databases, objects and keys somebody puts into its folder; settings and
    /// certificates are made around them. Nothing runs yet.
    ///
    /// # Errors
    /// When it cannot be prepared.
    pub async fn recorded(
        regions: &[&str],
        tuning: &Tuning,
        fill: impl FnOnce(&Path) -> Outcome<()>,
    ) -> Outcome<Self> {
        let mut world = Self::empty(executable()?, tempfile::tempdir()?);
        for region in regions {
            let objects = world.home(region).join("objects");
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(objects)?;
        }
        fill(&world.folder)?;
        world.prepare(&regions.join(",")).await?;
        let login = |role: &str, region: &str| Login {
            email: format!("{role}@{region}.domicile.local"),
            password: crate::region::PASSWORD.to_owned(),
        };
        for region in regions {
            world.settle(region, None, tuning)?;
            world.operators.insert((*region).to_owned(), login("operator", region));
            world.auditors.insert((*region).to_owned(), login("compliance", region));
        }
        Ok(world)
    }

    /// Starts every process of a deployment that is prepared.
    ///
    /// # Errors
    /// When one does not start.
    pub async fn resume(&mut self, regions: &[&str]) -> Outcome<()> {
        for region in regions {
            self.begin(region)?;
        }
        self.begin("coordinator")?;
        for region in regions {
            self.serving(region).await?;
        }
        Ok(())
    }

    /// From its next start on, a process runs within what these words set up, such as a network namespace.
    pub fn within(&mut self, name: &str, words: &[String]) {
        self.within.insert(name.to_owned(), words.to_vec());
    }

    fn empty(executable: PathBuf, files: tempfile::TempDir) -> Self {
        Self {
            folder: files.path().join("deployment"),
            executable,
            _files: files,
            databases: BTreeMap::new(),
            processes: BTreeMap::new(),
            operators: BTreeMap::new(),
            auditors: BTreeMap::new(),
            within: BTreeMap::new(),
        }
    }

    async fn prepare(&self, regions: &str) -> Outcome<()> {
        let folder = self.folder.display().to_string();
        run_with(&self.executable, &["up", "--data", &folder, "--regions", regions, "--prepare"]).await?;
        Ok(())
    }

    /// The id of a process that runs.
    #[must_use]
    pub fn pid(&self, name: &str) -> Option<u32> {
        self.processes.get(name)?.child.id()
    }

    /// Writes a region's settings as the test wants them.
    fn settle(&self, region: &str, database: Option<&Region>, tuning: &Tuning) -> Outcome<()> {
        let file = self.home(region).join("config.toml");
        let mut settings: toml::Table = std::fs::read_to_string(&file)?.parse()?;
        if let Some(database) = database {
            let given = &database.settings;
            let mut table = toml::Table::new();
            table.insert("url".to_owned(), given.url.clone().into());
            table.insert("keys_url".to_owned(), given.keys_url.clone().into());
            if let Some(sequencer) = &given.sequencer_url {
                table.insert("sequencer_url".to_owned(), sequencer.clone().into());
            }
            // Several deployments share a machine of two cores.
            table.insert("acquire".to_owned(), "60s".into());
            settings.insert("database".to_owned(), table.into());
        }
        let transfer: toml::Table = tuning.transfer.parse()?;
        if !transfer.is_empty() {
            settings.insert("transfer".to_owned(), transfer.into());
        }
        std::fs::write(&file, toml::to_string(&settings)?)?;
        Ok(())
    }

    /// A process's folder.
    #[must_use]
    pub fn home(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn spawn(&mut self, name: &str, faults: Option<&String>) -> Outcome<()> {
        let role = if name.starts_with("coordinator") { "coordinator" } else { "region" };
        let home = self.home(name);
        let steered = home.join(Steering::FOLDER);
        let log = std::fs::OpenOptions::new().create(true).append(true).open(home.join("log"))?;
        let mut command = match self.within.get(name).and_then(|words| words.split_first()) {
            Some((first, rest)) => {
                let mut command = Command::new(first);
                command.args(rest).arg(&self.executable);
                command
            }
            None => Command::new(&self.executable),
        };
        command.arg(role).arg("--config").arg(home.join("config.toml")).arg("--supervised");
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::from(log)).kill_on_drop(true);
        command.env("RUST_LOG", "info,domicile_transfer=debug,domicile_coordinator=debug");
        if let Some(faults) = faults {
            command.env("DOMICILE_FAULTS", faults);
        } else if steered.is_dir() {
            command.env("DOMICILE_FAULTS", format!("orders:{}", steered.display()));
        }
        let mut child = command.spawn()?;
        let pipe = child.stdin.take();
        self.processes.insert(name.to_owned(), Process { child, pipe });
        Ok(())
    }

    /// Kills a process without warning (SIGKILL).
    ///
    /// # Errors
    /// When it does not run.
    pub async fn kill(&mut self, name: &str) -> Outcome<()> {
        let mut process = self.processes.remove(name).ok_or("no such process")?;
        process.child.kill().await?;
        Ok(())
    }

    /// Waits until a process has ended by itself, as at a point where it was told to.
    ///
    /// # Errors
    /// When it lives on.
    pub async fn ended(&mut self, name: &str) -> Outcome<()> {
        let mut process = self.processes.remove(name).ok_or("no such process")?;
        tokio::time::timeout(PATIENCE, process.child.wait()).await??;
        Ok(())
    }

    /// Ends a process in order.
    ///
    /// # Errors
    /// When it does not end.
    pub async fn stop(&mut self, name: &str) -> Outcome<()> {
        let mut process = self.processes.remove(name).ok_or("no such process")?;
        drop(process.pipe.take());
        tokio::time::timeout(PATIENCE, process.child.wait()).await??;
        Ok(())
    }

    /// Starts a process again and waits until it serves.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn restart(&mut self, name: &str) -> Outcome<()> {
        self.begin(name)?;
        if !name.starts_with("coordinator") {
            self.serving(name).await?;
        }
        Ok(())
    }

    /// Starts a process again, without waiting until it serves.
    ///
    /// # Errors
    /// When it does not start.
    pub fn begin(&mut self, name: &str) -> Outcome<()> {
        self.spawn(name, None)
    }

    /// Starts a region again, to end by itself at a named point.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn restart_with(&mut self, name: &str, point: &str) -> Outcome<()> {
        self.spawn(name, Some(&point.to_owned()))?;
        self.serving(name).await
    }

    /// Starts another coordinator beside the one that runs.
    ///
    /// # Errors
    /// When its settings cannot be written.
    pub fn second_coordinator(&mut self) -> Outcome<()> {
        let (first, second) = (self.home("coordinator"), self.home("coordinator2"));
        std::fs::create_dir_all(&second)?;
        for entry in std::fs::read_dir(&first)? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                std::fs::copy(entry.path(), second.join(entry.file_name()))?;
            }
        }
        let mut settings: toml::Table = std::fs::read_to_string(second.join("config.toml"))?.parse()?;
        let peers = settings.get_mut("peers").and_then(toml::Value::as_table_mut).ok_or("no peers")?;
        peers.insert("listen".to_owned(), "127.0.0.1:0".into());
        std::fs::write(second.join("config.toml"), toml::to_string(&settings)?)?;
        self.spawn("coordinator2", None)
    }

    /// Waits until a region serves.
    ///
    /// # Errors
    /// When it ends or time is over.
    pub async fn serving(&mut self, region: &str) -> Outcome<()> {
        let client = self.anyone(region)?;
        let until = Instant::now() + PATIENCE;
        while client.health(Duration::from_secs(2)).await.is_err() {
            let process = self.processes.get_mut(region).ok_or("no such process")?;
            if let Some(status) = process.child.try_wait()? {
                let log = std::fs::read_to_string(self.home(region).join("log"))?;
                return Err(format!("{region} ended with {status}: {log}").into());
            }
            if Instant::now() > until {
                return Err(format!("{region} does not serve").into());
            }
            pause().await;
        }
        Ok(())
    }

    /// A connection to a region, signed in as nobody.
    ///
    /// # Errors
    /// When the deployment has no such region.
    pub fn anyone(&self, region: &str) -> Outcome<Client> {
        let place = ClientFile::read(&self.folder)?.place(&self.folder, region)?;
        Ok(Client::new(&place)?)
    }

    /// A fresh idempotency key.
    #[must_use]
    pub fn key() -> String {
        domicile_types::ids::uuid_v4(Ctx::system().rng.as_ref()).to_string()
    }

    /// What a process has logged.
    ///
    /// # Errors
    /// When there is no log.
    pub fn log(&self, name: &str) -> Outcome<String> {
        Ok(std::fs::read_to_string(self.home(name).join("log"))?)
    }
}

/// A moment between two looks at a condition that has a deadline.
pub async fn pause() {
    tokio::time::sleep(Duration::from_millis(25)).await;
}
