//! Child processes: started from this very executable, ended by closing the pipe on their standard
//! input, started again when they die.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use domicile_cli::failure::{Failure, Result};
use domicile_cli::output::note;
use tokio::process::{Child, ChildStdin, Command};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::files;
use super::layout::Home;

/// The pause before the first restart; doubles with each that follows.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// A process that lived this long starts again at once when it dies.
const STEADY: Duration = Duration::from_secs(60);
/// How long a process may take to end when asked.
const GRACE: Duration = Duration::from_secs(15);

/// A process that is kept running.
pub(crate) struct Supervised {
    name: String,
    stop: CancellationToken,
    deaths: Arc<AtomicU32>,
    task: JoinHandle<()>,
}

impl Supervised {
    /// Starts `domicile <role> --config … --supervised` and keeps it running.
    pub(crate) fn start(name: &str, role: &'static str, home: Home) -> Result<Self> {
        let stop = CancellationToken::new();
        let first = spawn(role, &home)?;
        let deaths = Arc::new(AtomicU32::new(0));
        let keeper =
            Keeper { name: name.to_owned(), role, home, stop: stop.clone(), deaths: Arc::clone(&deaths) };
        let task = tokio::spawn(keeper.keep(first));
        Ok(Self { name: name.to_owned(), stop, deaths, task })
    }

    /// How often it has ended without being told to.
    pub(crate) fn deaths(&self) -> u32 {
        self.deaths.load(Ordering::Relaxed)
    }

    /// Its name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Ends the process and waits for it.
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        if self.task.await.is_err() {
            note(&format!("{}: its supervisor ended early", self.name));
        }
    }
}

/// A running process and the pipe that keeps it running.
struct Running {
    child: Child,
    /// Held apart: waiting for a child closes the pipe that it still owns.
    pipe: Option<ChildStdin>,
}

fn spawn(role: &str, home: &Home) -> Result<Running> {
    let path = home.log();
    let failed = |cause: std::io::Error| Failure::file(&path, &cause);
    let log = OpenOptions::new().create(true).append(true).mode(0o600).open(&path).map_err(failed)?;
    let mut command = Command::new("/proc/self/exe");
    command.arg(role).arg("--config").arg(home.config()).arg("--supervised");
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::from(log)).current_dir(home.folder());
    // A group of its own: Ctrl-C reaches `up` alone, which then ends its children in order.
    command.process_group(0).kill_on_drop(true);
    let mut child = command.spawn().map_err(|cause| {
        Failure::local(format!("{role} does not start: {}", cause.kind()), "See the log in its folder.")
    })?;
    if let Some(id) = child.id() {
        files::replace(&home.pid(), id.to_string().as_bytes())?;
    }
    let pipe = child.stdin.take();
    Ok(Running { child, pipe })
}

/// Keeps one process running.
struct Keeper {
    name: String,
    role: &'static str,
    home: Home,
    stop: CancellationToken,
    deaths: Arc<AtomicU32>,
}

impl Keeper {
    async fn keep(self, mut running: Running) {
        let mut pause = FIRST_PAUSE;
        loop {
            let began = Instant::now();
            tokio::select! {
                () = self.stop.cancelled() => return self.end(running).await,
                status = running.child.wait() => {
                    note(&format!("{} {}; see {}", self.name, told(status), self.home.log().display()));
                }
            }
            self.deaths.fetch_add(1, Ordering::Relaxed);
            if began.elapsed() >= STEADY {
                pause = FIRST_PAUSE;
            }
            match self.again(&mut pause).await {
                Some(again) => running = again,
                None => return,
            }
        }
    }

    /// Starts the process again, with longer and longer pauses; `None` when told to stop meanwhile.
    async fn again(&self, pause: &mut Duration) -> Option<Running> {
        loop {
            note(&format!("{} starts again in {} ms", self.name, pause.as_millis()));
            tokio::select! {
                () = self.stop.cancelled() => return None,
                () = tokio::time::sleep(*pause) => {}
            }
            *pause = (*pause * 2).min(LONGEST_PAUSE);
            match spawn(self.role, &self.home) {
                Ok(again) => return Some(again),
                Err(failure) => note(&failure.to_string()),
            }
        }
    }

    async fn end(&self, running: Running) {
        let Running { mut child, pipe } = running;
        drop(pipe);
        if timeout(GRACE, child.wait()).await.is_err() {
            note(&format!("{} did not end in {} s and is killed", self.name, GRACE.as_secs()));
            if let Err(cause) = child.kill().await {
                note(&format!("{} cannot be killed: {}", self.name, cause.kind()));
            }
        }
        std::fs::remove_file(self.home.pid()).ok();
    }
}

fn told(status: std::io::Result<ExitStatus>) -> String {
    status.map_or_else(|cause| format!("is lost: {}", cause.kind()), |status| format!("ended with {status}"))
}
