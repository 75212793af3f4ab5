//! A PostgreSQL cluster of the benchmark's own: durable, over TLS, on the disk that is measured.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use domicile_tests::postgres::{binary, free_port, psql};
use domicile_tests::world::{Outcome, pause};
use domicile_types::Ctx;
use tokio::process::{Child, ChildStdin, Command};
use tokio::time::{Instant, timeout};

/// What differs from PostgreSQL's defaults, the same for whatever is measured.
pub(crate) const SETTINGS: &[&str] = &[
    "fsync=on",
    "synchronous_commit=on",
    "full_page_writes=on",
    "shared_buffers=1GB",
    "max_wal_size=8GB",
    "max_connections=200",
    "shared_preload_libraries=pg_stat_statements",
    "pg_stat_statements.track=none",
    "pg_stat_statements.track_planning=on",
];
/// The roles of a region's operator; see docs/operations.md.
const ROLES: [&str; 4] = ["domicile_owner", "domicile_app", "domicile_sequencer", "domicile_keys"];
/// How long the server may take to start or to stop.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running cluster; it ends with this value, or with this process.
pub(crate) struct Cluster {
    home: PathBuf,
    port: u16,
    password: String,
    supervisor: Child,
    /// Closing it ends the server.
    pipe: Option<ChildStdin>,
}

impl Cluster {
    /// Makes a cluster in a folder and starts it.
    pub(crate) async fn start(within: &Path) -> Outcome<Self> {
        let home = tempfile::Builder::new().prefix("domicile-bench-postgres-").tempdir_in(within)?.keep();
        // The server's own user passes through.
        std::fs::set_permissions(&home, std::fs::Permissions::from_mode(0o755))?;
        let password = format!("{:032x}", u128::from_be_bytes(Ctx::system().random()));
        private(&home.join("password"), &password)?;
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()])?;
        private(&home.join("server.key"), &made.signing_key.serialize_pem())?;
        std::fs::write(home.join("server.crt"), made.cert.pem())?;
        // In the file and not on the command line, where they could not be changed later.
        std::fs::write(home.join("settings"), SETTINGS.join("\n") + "\n")?;
        let script = home.join("cluster.sh");
        std::fs::write(&script, include_str!("cluster.sh"))?;
        let port = free_port()?;
        let bin = binary("initdb")?;
        let log = std::fs::File::create(home.join("log"))?;
        let mut command = Command::new("sh");
        command.arg(&script).arg(&home).arg(bin.parent().ok_or("no folder of programs")?);
        command.arg(port.to_string());
        command.stdin(Stdio::piped()).stdout(log.try_clone()?).stderr(log);
        let mut supervisor = command.spawn()?;
        let pipe = supervisor.stdin.take();
        let cluster = Self { home, port, password, supervisor, pipe };
        cluster.wait().await?;
        cluster.roles()?;
        Ok(cluster)
    }

    async fn wait(&self) -> Outcome<()> {
        let until = Instant::now() + PATIENCE;
        let ready = || psql(&self.admin("postgres"), "CREATE EXTENSION IF NOT EXISTS pg_stat_statements");
        while let Err(error) = ready() {
            let failed = self.home.join("failed").exists();
            if failed || Instant::now() > until {
                let log = std::fs::read_to_string(self.home.join("log"))?;
                return Err(format!("PostgreSQL does not start: {error}\n{log}").into());
            }
            pause().await;
        }
        Ok(())
    }

    fn roles(&self) -> Outcome<()> {
        for role in ROLES {
            let sql = format!("CREATE ROLE {role} LOGIN PASSWORD '{}'", self.password);
            psql(&self.admin("postgres"), &sql)?;
        }
        Ok(())
    }

    /// A fresh database, as a region's `[database]` table names it.
    pub(crate) fn database(&self, name: &str) -> Outcome<toml::Table> {
        psql(&self.admin("postgres"), &format!("CREATE DATABASE {name} OWNER domicile_owner"))?;
        let mut table = toml::Table::new();
        for (key, role) in [
            ("url", "domicile_app"),
            ("sequencer_url", "domicile_sequencer"),
            ("keys_url", "domicile_keys"),
            ("owner_url", "domicile_owner"),
        ] {
            table.insert(key.to_owned(), self.url(role, name).into());
        }
        Ok(table)
    }

    /// Drops a database that nobody uses any more.
    pub(crate) fn drop_database(&self, name: &str) -> Outcome<()> {
        psql(&self.admin("postgres"), &format!("DROP DATABASE {name} WITH (FORCE)"))?;
        Ok(())
    }

    fn url(&self, role: &str, database: &str) -> String {
        let Self { port, password, .. } = self;
        let authority = self.home.join("server.crt");
        format!(
            "postgres://{role}:{password}@127.0.0.1:{port}/{database}?sslmode=verify-full&sslrootcert={}",
            authority.display()
        )
    }

    /// The superuser's URL, over checked TLS like everybody's.
    pub(crate) fn admin(&self, database: &str) -> String {
        self.url("postgres", database)
    }

    /// Runs SQL as the superuser.
    pub(crate) fn sql(&self, database: &str, sql: &str) -> Outcome<String> {
        Ok(psql(&self.admin(database), sql)?)
    }

    /// The server's first process.
    pub(crate) fn pid(&self) -> Outcome<u32> {
        let text = std::fs::read_to_string(self.home.join("data/postmaster.pid"))?;
        Ok(text.lines().next().unwrap_or_default().trim().parse()?)
    }

    /// Stops the server and waits until its files are gone.
    pub(crate) async fn stop(mut self) -> Outcome<()> {
        drop(self.pipe.take());
        timeout(PATIENCE, self.supervisor.wait()).await??;
        Ok(())
    }
}

fn private(path: &Path, text: &str) -> Outcome<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    Ok(file.write_all(text.as_bytes())?)
}
