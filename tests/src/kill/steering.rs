//! Steering a process that runs: holding it still at a named point around one of its effects, so that it,
//! or another process, can be killed exactly there. See `DOMICILE_FAULTS` in the executable.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::Instant;

use crate::world::{Outcome, pause};

/// How long a process that stands at a point may take to go on.
const LETTING_GO: Duration = Duration::from_secs(4);

/// The folder through which one process is steered.
#[derive(Clone, Debug)]
pub struct Steering(PathBuf);

impl Steering {
    /// The name of the folder in a process's home.
    pub const FOLDER: &'static str = "faults";

    /// Makes the folder in a process's home; the process finds it when it starts.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn prepare(home: &Path) -> Outcome<Self> {
        let folder = home.join(Self::FOLDER);
        std::fs::create_dir_all(&folder)?;
        Ok(Self(folder))
    }

    /// Orders the process to stand still at the first of these points that it reaches from now on.
    ///
    /// # Errors
    /// When the order cannot be written.
    pub fn order(&self, points: &[&str]) -> Outcome<()> {
        self.recall()?;
        let part = self.0.join("part");
        std::fs::write(&part, points.join("\n"))?;
        // Whole or not there: the process reads it at every effect.
        Ok(std::fs::rename(part, self.0.join("orders"))?)
    }

    /// Takes orders and traces of earlier ones away.
    ///
    /// # Errors
    /// When a file cannot be removed.
    pub fn recall(&self) -> Outcome<()> {
        for name in ["orders", "taken", "reached", "go"] {
            match std::fs::remove_file(self.0.join(name)) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
                _ => {}
            }
        }
        Ok(())
    }

    /// The point at which the process stands still, if it does.
    #[must_use]
    pub fn stands(&self) -> Option<String> {
        std::fs::read_to_string(self.0.join("reached")).ok().filter(|point| !point.is_empty())
    }

    /// Waits until the process stands still at an ordered point; `None` when time is over before.
    pub async fn reached(&self, patience: Duration) -> Option<String> {
        let until = Instant::now() + patience;
        loop {
            if let Some(point) = self.stands() {
                return Some(point);
            }
            if Instant::now() > until {
                return None;
            }
            pause().await;
        }
    }

    /// Lets the process go on from where it stands; false when nobody stands there.
    pub async fn release(&self) -> bool {
        let (go, until) = (self.0.join("go"), Instant::now() + LETTING_GO);
        if std::fs::write(&go, "").is_err() {
            return false;
        }
        // Who stands there takes the file away.
        while go.exists() {
            if Instant::now() > until {
                return std::fs::remove_file(&go).is_err();
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        true
    }

    /// From now on the process notes the name of each point that it reaches.
    ///
    /// # Errors
    /// When the list cannot be made.
    pub fn listen(&self) -> Outcome<()> {
        Ok(std::fs::write(self.0.join("seen"), "")?)
    }

    /// The points reached since [`Steering::listen`].
    ///
    /// # Errors
    /// When there is no list.
    pub fn heard(&self) -> Outcome<Vec<String>> {
        Ok(std::fs::read_to_string(self.0.join("seen"))?.lines().map(str::to_owned).collect())
    }
}
