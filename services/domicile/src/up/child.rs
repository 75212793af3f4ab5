//! Child processes: started from this very executable, ended by closing the pipe on their standard
//! input, started again when they die.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use domicile_cli::failure::{Failure, Result};
use domicile_cli::output::note;
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

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
    task: JoinHandle<()>,
}

impl Supervised {
    /// Starts `domicile <role> --config … --supervised` and keeps it running.
    pub(crate) fn start(name: &str, role: &'static str, home: Home) -> Result<Self> {
        let stop = CancellationToken::new();
        let first = spawn(role, &home)?;
        let task = tokio::spawn(keep(name.to_owned(), role, home, first, stop.clone()));
        Ok(Self { name: name.to_owned(), stop, task })
    }

    /// Ends the process and waits for it.
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        if self.task.await.is_err() {
            note(&format!("{}: its supervisor ended early", self.name));
        }
    }
}

fn spawn(role: &str, home: &Home) -> Result<Child> {
    let path = home.log();
    let failed = |cause: std::io::Error| Failure::file(&path, &cause);
    let log = OpenOptions::new().create(true).append(true).mode(0o600).open(&path).map_err(failed)?;
    let mut command = Command::new("/proc/self/exe");
    command.arg(role).arg("--config").arg(home.config()).arg("--supervised");
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::from(log)).current_dir(home.folder());
    // A group of its own: Ctrl-C reaches `up` alone, which then ends its children in order.
    command.process_group(0).kill_on_drop(true);
    let child = command.spawn().map_err(|cause| {
        Failure::local(format!("{role} does not start: {}", cause.kind()), "See the log in its folder.")
    })?;
    if let Some(id) = child.id() {
        std::fs::write(home.pid(), id.to_string()).map_err(|cause| Failure::file(&home.pid(), &cause))?;
    }
    Ok(child)
}

async fn keep(name: String, role: &'static str, home: Home, first: Child, stop: CancellationToken) {
    let mut pause = FIRST_PAUSE;
    let mut child = first;
    loop {
        let began = Instant::now();
        tokio::select! {
            () = stop.cancelled() => return end(&name, &home, child).await,
            status = child.wait() => note(&format!("{name} {}; see {}", told(status), home.log().display())),
        }
        if began.elapsed() >= STEADY {
            pause = FIRST_PAUSE;
        }
        loop {
            note(&format!("{name} starts again in {} ms", pause.as_millis()));
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
            match spawn(role, &home) {
                Ok(again) => {
                    child = again;
                    break;
                }
                Err(failure) => note(&failure.to_string()),
            }
        }
    }
}

fn told(status: std::io::Result<ExitStatus>) -> String {
    status.map_or_else(|cause| format!("is lost: {}", cause.kind()), |status| format!("ended with {status}"))
}

async fn end(name: &str, home: &Home, mut child: Child) {
    drop(child.stdin.take());
    if timeout(GRACE, child.wait()).await.is_err() {
        note(&format!("{name} did not end in {} s and is killed", GRACE.as_secs()));
        if let Err(cause) = child.kill().await {
            note(&format!("{name} cannot be killed: {}", cause.kind()));
        }
    }
    std::fs::remove_file(home.pid()).ok();
}
