//! PostgreSQL for tests: one throw-away cluster on this machine, shared by every test process that runs
//! at the same time, and a database of its own for each test.
//!
//! The first process that needs the cluster starts it under a supervisor; the supervisor stops it and
//! deletes its files a few seconds after the last process that uses it has ended, also when that one
//! was killed. A test command that keeps a cluster itself sets `DOMICILE_TEST_POSTGRES` to
//! `postgres://superuser:password@host:port`. Without PostgreSQL on the machine tests fail and say so.

use std::fs::{File, OpenOptions};
use std::net::TcpListener;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use domicile_types::Ctx;

/// Where a superuser's URL of a cluster may be given.
pub const VARIABLE: &str = "DOMICILE_TEST_POSTGRES";
/// Set to `off`, the cluster does not wait for the disk: for long runs of what needs no durability.
pub const FSYNC: &str = "DOMICILE_TEST_FSYNC";

const ROLES: [&str; 4] = ["domicile_owner", "domicile_app", "domicile_sequencer", "domicile_keys"];
/// How long a cluster may take to answer.
const START: std::time::Duration = std::time::Duration::from_secs(30);

/// PostgreSQL could not be had.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    /// No server is installed.
    #[error("PostgreSQL is not installed: no initdb under /usr/lib/postgresql/*/bin or on the PATH")]
    NotInstalled,
    /// A command did not do what it should.
    #[error("{0}")]
    Command(String),
    /// A file or a process could not be had.
    #[error("{0}: {1}")]
    Io(&'static str, #[source] std::io::Error),
    /// The schema could not be made.
    #[error(transparent)]
    Store(#[from] domicile_types::Error),
}

type Result<T, E = Failed> = std::result::Result<T, E>;

fn io(what: &'static str) -> impl Fn(std::io::Error) -> Failed {
    move |error| Failed::Io(what, error)
}

/// A running cluster.
#[derive(Clone)]
pub struct Postgres {
    host: String,
    port: u16,
    user: String,
    password: String,
    /// The certificate the server's own is signed with; none for a cluster of somebody else.
    authority: Option<PathBuf>,
}

/// A database of one test; dropped with it.
pub struct Database {
    cluster: Postgres,
    name: String,
    lent: bool,
}

impl Postgres {
    /// The cluster of this run.
    ///
    /// # Errors
    /// [`Failed::NotInstalled`], or what went wrong at its start.
    pub fn shared() -> Result<Self> {
        static SHARED: OnceLock<Postgres> = OnceLock::new();
        if let Some(cluster) = SHARED.get() {
            return Ok(cluster.clone());
        }
        let cluster = match std::env::var(VARIABLE) {
            Ok(url) => Self::parse(&url)?,
            Err(_) => Home::open()?.cluster()?,
        };
        Ok(SHARED.get_or_init(|| cluster).clone())
    }

    /// A fresh database with this release's schema, a copy of one that is migrated once.
    ///
    /// # Errors
    /// When it cannot be made.
    pub async fn database(&self) -> Result<Database> {
        let template = format!("domicile_template_{}", &domicile_store::schema_digest()[..24]);
        if !self.exists(&template)? {
            self.template(&template).await?;
        }
        self.create(&format!("TEMPLATE {template}"))
    }

    /// A fresh database without any schema.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn empty(&self) -> Result<Database> {
        self.create("")
    }

    fn exists(&self, name: &str) -> Result<bool> {
        let sql = format!("SELECT count(*) FROM pg_database WHERE datname = '{name}'");
        Ok(psql(&self.admin("postgres"), &sql)? == "1")
    }

    /// Makes the template, once: who comes second waits.
    async fn template(&self, name: &str) -> Result<()> {
        let lock = locked(&Home::open()?.0.join(format!("{name}.lock")))?;
        if !self.exists(name)? {
            self.roles()?;
            let raw = self.create("")?;
            domicile_store::migrate(&raw.url("domicile_owner"), "", false).await?;
            let sql = format!("ALTER DATABASE {} RENAME TO {name}", raw.name);
            psql(&self.admin("postgres"), &sql)?;
        }
        drop(lock);
        Ok(())
    }

    fn create(&self, how: &str) -> Result<Database> {
        self.roles()?;
        let name = format!("test_{:032x}", u128::from_be_bytes(Ctx::system().random()));
        psql(&self.admin("postgres"), &format!("CREATE DATABASE {name} OWNER domicile_owner {how}"))?;
        Ok(Database { cluster: self.clone(), name, lent: false })
    }

    /// Makes the roles a region's operator would make. Their passwords follow from the superuser's, so
    /// that every process knows them.
    fn roles(&self) -> Result<()> {
        static DONE: OnceLock<()> = OnceLock::new();
        if DONE.get().is_some() {
            return Ok(());
        }
        let mut sql = String::from("SELECT pg_advisory_lock(7); ");
        for role in ROLES {
            let password = self.role_password(role);
            sql.push_str(&format!(
                "DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{role}') THEN \
                 CREATE ROLE {role} LOGIN PASSWORD '{password}'; END IF; END $$; "
            ));
        }
        psql(&self.admin("postgres"), &sql)?;
        DONE.get_or_init(|| ());
        Ok(())
    }

    fn role_password(&self, role: &str) -> String {
        let digest = domicile_evidence::sha256(format!("{role}:{}", self.password).as_bytes());
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn admin(&self, database: &str) -> String {
        let Self { host, port, user, password, .. } = self;
        format!("postgres://{user}:{password}@{host}:{port}/{database}")
    }

    fn parse(url: &str) -> Result<Self> {
        let wrong = || Failed::Command(format!("{VARIABLE} is not postgres://user:password@host:port"));
        let rest = url.strip_prefix("postgres://").ok_or_else(wrong)?;
        let (who, place) = rest.split_once('@').ok_or_else(wrong)?;
        let (user, password) = who.split_once(':').ok_or_else(wrong)?;
        let (host, port) = place.trim_end_matches('/').split_once(':').ok_or_else(wrong)?;
        let port = port.parse().map_err(|_| wrong())?;
        Ok(Self {
            host: host.to_owned(),
            port,
            user: user.to_owned(),
            password: password.to_owned(),
            authority: None,
        })
    }
}

impl Database {
    /// Another handle of the same database, which does not drop it.
    #[must_use]
    pub fn handle(&self) -> Self {
        Self { cluster: self.cluster.clone(), name: self.name.clone(), lent: true }
    }

    /// The URL for one of the roles `domicile_owner`, `domicile_app`, `domicile_sequencer`, `domicile_keys`.
    #[must_use]
    pub fn url(&self, role: &str) -> String {
        let Postgres { host, port, .. } = &self.cluster;
        let password = self.cluster.role_password(role);
        format!("postgres://{role}:{password}@{host}:{port}/{}", self.name)
    }

    /// As [`Database::url`], over TLS to a server whose certificate is checked.
    ///
    /// # Errors
    /// When the cluster is not this harness's own.
    pub fn verified_url(&self, role: &str) -> Result<String> {
        let authority = self.cluster.authority.as_ref();
        let authority =
            authority.ok_or_else(|| Failed::Command(format!("{VARIABLE} tells no certificate")))?;
        Ok(format!("{}?sslmode=verify-full&sslrootcert={}", self.url(role), authority.display()))
    }

    /// The superuser's URL.
    #[must_use]
    pub fn admin_url(&self) -> String {
        self.cluster.admin(&self.name)
    }

    /// Runs SQL as one of the roles, outside the store; answers the unaligned text of its last result.
    ///
    /// # Errors
    /// With what the server said.
    pub fn sql(&self, role: &str, sql: &str) -> Result<String> {
        psql(&self.url(role), sql)
    }

    /// Runs SQL as the superuser, who passes by row-level security.
    ///
    /// # Errors
    /// With what the server said.
    pub fn admin(&self, sql: &str) -> Result<String> {
        psql(&self.admin_url(), sql)
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if self.lent {
            return;
        }
        let sql = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name);
        // The cluster goes away soon after anyway.
        drop(psql(&self.cluster.admin("postgres"), &sql));
    }
}

/// Runs SQL by the client program, so that the harness needs no driver of its own; answers the unaligned
/// text of its last result.
///
/// # Errors
/// With what the server said.
pub fn psql(url: &str, sql: &str) -> Result<String> {
    let mut command = Command::new(binary("psql")?);
    command.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", url, "-c", sql]);
    run(&mut command)
}

fn run(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().map_err(io("cannot start a command"))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    } else {
        Err(Failed::Command(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
    }
}

/// A program of the newest PostgreSQL installed.
///
/// # Errors
/// [`Failed::NotInstalled`].
pub fn binary(name: &str) -> Result<PathBuf> {
    let mut found: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .map(|version| version.path().join("bin"))
        .chain(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()))
        .map(|folder| folder.join(name))
        .filter(|path| path.is_file())
        .collect();
    // The server's own folders come first, the highest version of them.
    found.sort_by_key(|path| (path.starts_with("/usr/lib/postgresql"), version(path)));
    found.pop().ok_or(Failed::NotInstalled)
}

fn version(path: &Path) -> u32 {
    path.iter().filter_map(|part| part.to_str()?.parse().ok()).next().unwrap_or(0)
}

fn locked(path: &Path) -> Result<File> {
    let file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .map_err(io("cannot open the lock of the test cluster"))?;
    file.lock().map_err(io("cannot lock the test cluster"))?;
    Ok(file)
}

/// Where the shared cluster lives.
struct Home(PathBuf);

impl Home {
    fn open() -> Result<Self> {
        let uid = own_uid()?;
        let path = std::env::temp_dir().join(format!("domicile-test-postgres-{uid}"));
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(&path)
            .map_err(io("cannot make the test cluster's folder"))?;
        let owner = std::fs::metadata(&path).map_err(io("cannot see the test cluster's folder"))?.uid();
        if owner != uid {
            return Err(Failed::Command(format!("{} belongs to somebody else", path.display())));
        }
        Ok(Self(path))
    }

    /// The running cluster, started if need be. This process counts as its user until it ends.
    fn cluster(&self) -> Result<Postgres> {
        static USING: OnceLock<File> = OnceLock::new();
        let users = OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.0.join("users"))
            .map_err(io("cannot open the list of the test cluster's users"))?;
        users.lock_shared().map_err(io("cannot join the test cluster's users"))?;
        USING.get_or_init(|| users);
        let starting = locked(&self.0.join("starting"))?;
        let cluster = match self.running() {
            Some(cluster) => cluster,
            None => self.start()?,
        };
        drop(starting);
        Ok(Postgres { authority: Some(self.0.join("server.crt")), ..cluster })
    }

    /// A cluster that answers and is looked after. One whose supervisor was killed is left to itself: it
    /// ends when the next one takes its files.
    fn running(&self) -> Option<Postgres> {
        let supervisor = File::open(self.0.join("supervisor")).ok()?;
        if supervisor.try_lock_shared().is_ok() {
            return None;
        }
        let url = std::fs::read_to_string(self.0.join("url")).ok()?;
        let cluster = Postgres::parse(url.trim()).ok()?;
        psql(&cluster.admin("postgres"), "SELECT 1").ok()?;
        Some(cluster)
    }

    fn start(&self) -> Result<Postgres> {
        let password = format!("{:032x}", u128::from_be_bytes(Ctx::system().random()));
        let secret = self.0.join("password");
        write_private(&secret, &password)?;
        drop(std::fs::remove_file(self.0.join("failed")));
        self.certificate()?;
        let script = self.0.join("supervise.sh");
        std::fs::write(&script, include_str!("postgres.sh")).map_err(io("cannot write the supervisor"))?;
        let port = free_port()?;
        let bin = binary("initdb")?;
        let bin = bin.parent().ok_or(Failed::NotInstalled)?;
        let log = File::create(self.0.join("log")).map_err(io("cannot write the cluster's log"))?;
        let fsync = std::env::var(FSYNC).unwrap_or_else(|_| "on".to_owned());
        // A session of its own: it outlives this test, and sees by the lock when the last one is over.
        Command::new("setsid")
            .args(["sh".as_ref(), script.as_os_str(), self.0.as_os_str(), bin.as_os_str()])
            .args([port.to_string(), fsync])
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(io("cannot write the cluster's log"))?)
            .stderr(log)
            .spawn()
            .map_err(io("cannot start the supervisor"))?;
        let cluster = Postgres {
            host: "127.0.0.1".to_owned(),
            port,
            user: "postgres".to_owned(),
            password,
            authority: None,
        };
        self.wait(&cluster)?;
        let url = cluster.admin("");
        write_private(&self.0.join("url"), url.trim_end_matches('/'))?;
        Ok(cluster)
    }

    /// A certificate of the server's own, which clients trust by name.
    fn certificate(&self) -> Result<()> {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()])
            .map_err(|error| Failed::Command(format!("no certificate: {error}")))?;
        write_private(&self.0.join("server.key"), &made.signing_key.serialize_pem())?;
        std::fs::write(self.0.join("server.crt"), made.cert.pem()).map_err(io("cannot write a certificate"))
    }

    /// Waits until the cluster answers; the supervisor says in `failed` when it never will.
    fn wait(&self, cluster: &Postgres) -> Result<()> {
        let ready = binary("pg_isready")?;
        let seconds = START.as_secs().to_string();
        let port = cluster.port.to_string();
        for _ in 0..START.as_secs() * 10 {
            if let Ok(why) = std::fs::read_to_string(self.0.join("failed")) {
                return Err(Failed::Command(format!("the test cluster did not start: {why}")));
            }
            let mut probe = Command::new(&ready);
            probe.args(["-q", "-h", "127.0.0.1", "-p", &port, "-t", &seconds]);
            if run(&mut probe).is_ok() && psql(&cluster.admin("postgres"), "SELECT 1").is_ok() {
                return Ok(());
            }
            // Between two looks: by a process, as the harness may not stop a thread of the test.
            run(Command::new("sleep").arg("0.1"))?;
        }
        Err(Failed::Command("the test cluster did not answer in time".to_owned()))
    }
}

fn own_uid() -> Result<u32> {
    Ok(std::fs::metadata("/proc/self").map_err(io("cannot tell who runs the tests"))?.uid())
}

/// A port of this machine that nobody listens on now.
///
/// # Errors
/// When there is none.
pub fn free_port() -> Result<u16> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).map_err(io("no free port"))?;
    Ok(listener.local_addr().map_err(io("no free port"))?.port())
}

fn write_private(path: &Path, text: &str) -> Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .map_err(io("cannot write a secret of the test cluster"))?;
    file.write_all(text.as_bytes()).map_err(io("cannot write a secret of the test cluster"))
}
