//! Stand-ins for AWS KMS and S3 on this machine: moto and MiniStack. None is complete: docs/conformance.md
//! says what each shows.
//!
//! A test process starts its own at the first use; a server ends when the process that started it does,
//! however that one ends.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::OnceLock;

/// Where the Python of the servers may be given; otherwise it lies where `tests/servers/install` puts it.
pub const VARIABLE: &str = "DOMICILE_TEST_SERVERS";

/// The access key that tests use; these servers take any.
pub const ACCESS_KEY: (&str, &str) = ("AKIAIOSFODNN7EXAMPLE", "a secret that opens nothing");

/// The AWS region of everything in tests.
pub const REGION: &str = "eu-central-1";

/// A server could not be had.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    /// They are not installed.
    #[error("{0} is missing: run `bash tests/servers/install`, or set {VARIABLE} to a Python that has them")]
    NotInstalled(PathBuf),
    /// It did not start.
    #[error("{0} did not start: {1}")]
    NotStarted(&'static str, std::io::Error),
    /// It started and did not say where it listens.
    #[error("{0} ended at its start")]
    Ended(&'static str),
}

/// Which server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// moto, a library that mocks AWS, as a server.
    Moto,
    /// MiniStack, an emulator of AWS, behind hypercorn.
    MiniStack,
}

impl Kind {
    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Moto => "moto",
            Self::MiniStack => "ministack",
        }
    }
}

/// A running server.
pub struct Server {
    port: u16,
    /// Ends when its standard input does.
    pipe: Option<ChildStdin>,
    child: Child,
}

impl Drop for Server {
    fn drop(&mut self) {
        // Its standard input ends with this; a moment later it does.
        drop(self.pipe.take());
        drop(self.child.wait());
    }
}

impl Server {
    /// This process's server of a kind.
    ///
    /// # Errors
    /// When it is not installed or does not start.
    pub fn shared(kind: Kind) -> Result<&'static Self, Failed> {
        static SERVERS: [OnceLock<Server>; 2] = [const { OnceLock::new() }; 2];
        static STARTING: std::sync::Mutex<()> = std::sync::Mutex::new(());
        let [moto, ministack] = &SERVERS;
        let place = if kind == Kind::Moto { moto } else { ministack };
        let starting = STARTING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(server) = place.get() {
            return Ok(server);
        }
        let server = Self::start(kind)?;
        let server = place.get_or_init(|| server);
        drop(starting);
        Ok(server)
    }

    /// A server of one test alone; it ends when dropped.
    ///
    /// # Errors
    /// When it is not installed or does not start.
    pub fn start(kind: Kind) -> Result<Self, Failed> {
        let python = python()?;
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("servers").join("serve.py");
        let not_started = |error| Failed::NotStarted(kind.name(), error);
        let mut command = Command::new(python);
        command
            .arg(script)
            .arg(kind.name())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut child = command.spawn().map_err(not_started)?;
        let (Some(pipe), Some(out)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(Failed::Ended(kind.name()));
        };
        let mut line = String::new();
        BufReader::new(out).read_line(&mut line).map_err(not_started)?;
        let port = line.trim().parse().map_err(|_| Failed::Ended(kind.name()))?;
        Ok(Self { port, pipe: Some(pipe), child })
    }

    /// Its port on 127.0.0.1.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Its address, for every service.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

fn python() -> Result<PathBuf, Failed> {
    let path = match std::env::var_os(VARIABLE) {
        Some(given) => PathBuf::from(given),
        None => target().join("test-servers").join("bin").join("python"),
    };
    if path.is_file() { Ok(path) } else { Err(Failed::NotInstalled(path)) }
}

/// The folder `target`, in which this test program was built.
fn target() -> PathBuf {
    let program = std::env::current_exe().unwrap_or_default();
    let built = program.ancestors().find(|folder| folder.join("CACHEDIR.TAG").is_file());
    built.map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("target"), Path::to_path_buf)
}
