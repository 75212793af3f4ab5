//! A PostgreSQL cluster that a test kills and starts again.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use domicile_types::Ctx;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::{Instant, timeout};

use crate::postgres::{binary, free_port, psql};
use crate::world::{Outcome, pause};

/// What differs from PostgreSQL's defaults. Killed processes lose nothing without fsync: only a machine would.
const SETTINGS: &str = "\
listen_addresses = '127.0.0.1'
fsync = off
max_connections = 120
shared_buffers = 16MB
password_encryption = 'scram-sha-256'
";
/// The roles of a region's operator; see docs/operations.md.
const ROLES: [&str; 4] = ["domicile_owner", "domicile_app", "domicile_sequencer", "domicile_keys"];
/// How long the server may take to do what it is told.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running cluster; it ends with this value, or with this process.
pub struct Cluster {
    home: PathBuf,
    port: u16,
    password: String,
    _supervisor: Child,
    orders: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Cluster {
    /// Makes a cluster with an empty database `domicile` and starts it.
    ///
    /// # Errors
    /// When PostgreSQL is not there or does not start.
    pub async fn start() -> Outcome<Self> {
        let home = tempfile::Builder::new().prefix("domicile-kill-").tempdir()?.keep();
        // The server's own user passes through.
        std::fs::set_permissions(&home, std::fs::Permissions::from_mode(0o755))?;
        let password = format!("{:032x}", u128::from_be_bytes(Ctx::system().random()));
        private(&home.join("password"), &password)?;
        std::fs::write(home.join("settings"), SETTINGS)?;
        let script = home.join("cluster.sh");
        std::fs::write(&script, include_str!("cluster.sh"))?;
        let (port, bin) = (free_port()?, binary("initdb")?);
        let mut command = Command::new("sh");
        command.arg(&script).arg(&home).arg(bin.parent().ok_or("no folder of programs")?);
        command.arg(port.to_string());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut supervisor = command.spawn()?;
        let orders = supervisor.stdin.take().ok_or("no pipe")?;
        let answers = BufReader::new(supervisor.stdout.take().ok_or("no pipe")?).lines();
        let cluster = Self { home, port, password, _supervisor: supervisor, orders, answers };
        cluster.ready().await?;
        for role in ROLES {
            cluster.sql("postgres", &format!("CREATE ROLE {role} LOGIN PASSWORD '{}'", cluster.password))?;
        }
        cluster.sql("postgres", "CREATE DATABASE domicile OWNER domicile_owner")?;
        Ok(cluster)
    }

    /// Waits until the server answers.
    ///
    /// # Errors
    /// When it does not in time.
    pub async fn ready(&self) -> Outcome<()> {
        let until = Instant::now() + PATIENCE;
        while let Err(error) = self.sql("postgres", "SELECT 1") {
            if self.home.join("failed").exists() || Instant::now() > until {
                let log = std::fs::read_to_string(self.home.join("log"))?;
                return Err(format!("PostgreSQL does not start: {error}\n{log}").into());
            }
            pause().await;
        }
        Ok(())
    }

    /// The region's `[database]` table.
    #[must_use]
    pub fn table(&self) -> toml::Table {
        let Self { port, password, .. } = self;
        let urls = ["url", "sequencer_url", "keys_url", "owner_url"].into_iter();
        let roles = ["domicile_app", "domicile_sequencer", "domicile_keys", "domicile_owner"];
        let url = |role| format!("postgres://{role}:{password}@127.0.0.1:{port}/domicile");
        let mut table: toml::Table =
            urls.zip(roles).map(|(key, role)| (key.to_owned(), url(role).into())).collect();
        // Several deployments share a machine of two cores.
        table.insert("acquire".to_owned(), "60s".into());
        table
    }

    /// Runs SQL as the superuser, who passes by row-level security.
    ///
    /// # Errors
    /// With what the server said.
    pub fn sql(&self, database: &str, sql: &str) -> Outcome<String> {
        Ok(psql(&self.admin(database), sql)?)
    }

    /// The superuser's URL of a database.
    #[must_use]
    pub fn admin(&self, database: &str) -> String {
        let Self { port, password, .. } = self;
        format!("postgres://postgres:{password}@127.0.0.1:{port}/{database}")
    }

    /// Ends every process of the server by SIGKILL; returns when they are gone.
    ///
    /// # Errors
    /// When nobody looks after the server any more.
    pub async fn kill(&mut self) -> Outcome<()> {
        self.tell("kill").await
    }

    /// Starts the server again, without waiting until it answers.
    ///
    /// # Errors
    /// When nobody looks after the server any more.
    pub async fn begin(&mut self) -> Outcome<()> {
        self.tell("start").await
    }

    /// Waits until the server, which was killed before, has begun to recover.
    ///
    /// # Errors
    /// When it does not in time.
    pub async fn recovering(&self) -> Outcome<()> {
        let until = Instant::now() + PATIENCE;
        // The last line of this file says what the server is about.
        let at_it = |text: String| text.contains("starting") || text.contains("ready");
        while !std::fs::read_to_string(self.home.join("data/postmaster.pid")).is_ok_and(at_it) {
            if Instant::now() > until {
                return Err("PostgreSQL does not begin to start".into());
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        Ok(())
    }

    async fn tell(&mut self, word: &str) -> Outcome<()> {
        self.orders.write_all(format!("{word}\n").as_bytes()).await?;
        match timeout(PATIENCE, self.answers.next_line()).await?? {
            Some(answer) if answer == word => Ok(()),
            other => Err(format!("the cluster answers {other:?} to {word}").into()),
        }
    }
}

fn private(path: &Path, text: &str) -> Outcome<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    Ok(file.write_all(text.as_bytes())?)
}
