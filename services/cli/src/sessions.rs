//! Open sessions, kept in one file that only its owner can read.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::failure::{Failure, Result};

/// One open session. Holds a token, so it has no `Debug`.
#[derive(Clone, Deserialize, Serialize)]
pub struct Session {
    /// The token.
    pub token: String,
    /// The role's name.
    pub role: String,
    /// The account (UUID text).
    pub account_id: String,
    /// The client's own record (UUID text); empty for staff.
    #[serde(default)]
    pub subject_id: String,
    /// When it ends at the latest, in microseconds since the Unix epoch.
    pub ends_at_micros: i64,
}

#[derive(Default, Deserialize, Serialize)]
struct Content {
    /// By place, then by profile.
    #[serde(default)]
    sessions: BTreeMap<String, BTreeMap<String, Session>>,
}

/// The file of sessions, mode 0600.
#[derive(Clone, Debug)]
pub struct Sessions {
    path: PathBuf,
}

impl Sessions {
    /// The sessions kept in `path`; it need not exist yet.
    #[must_use]
    pub const fn at(path: PathBuf) -> Self {
        Self { path }
    }

    /// The session of a profile at a place.
    ///
    /// # Errors
    /// When the file can be read by others, or not by us.
    pub fn get(&self, place: &str, profile: &str) -> Result<Option<Session>> {
        let mut file = match File::open(&self.path) {
            Ok(file) => file,
            Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(cause) => return Err(self.failed(&cause)),
        };
        file.lock_shared().map_err(|cause| self.failed(&cause))?;
        let mut content = self.read(&mut file)?;
        Ok(content.sessions.get_mut(place).and_then(|profiles| profiles.remove(profile)))
    }

    /// Keeps or, with `None`, forgets the session of a profile at a place.
    ///
    /// # Errors
    /// When the file cannot be written, or can be read by others.
    pub fn set(&self, place: &str, profile: &str, session: Option<Session>) -> Result<()> {
        if let Some(folder) = self.path.parent() {
            make_private(folder).map_err(|cause| self.failed(&cause))?;
        }
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&self.path)
            .map_err(|cause| self.failed(&cause))?;
        file.lock().map_err(|cause| self.failed(&cause))?;
        let mut content = self.read(&mut file)?;
        let profiles = content.sessions.entry(place.to_owned()).or_default();
        match session {
            Some(session) => profiles.insert(profile.to_owned(), session),
            None => profiles.remove(profile),
        };
        self.write(&mut file, &content)
    }

    fn read(&self, file: &mut File) -> Result<Content> {
        let mode = file.metadata().map_err(|cause| self.failed(&cause))?.permissions().mode();
        if mode & 0o077 != 0 {
            let what = format!("{}: others can read it", self.path.display());
            return Err(Failure::local(what, "Set its mode to 0600, and sign in again."));
        }
        let mut text = String::new();
        file.read_to_string(&mut text).map_err(|cause| self.failed(&cause))?;
        // A file cut short by a crash holds nothing worth keeping: people sign in again.
        Ok(serde_json::from_str(&text).unwrap_or_default())
    }

    fn write(&self, file: &mut File, content: &Content) -> Result<()> {
        let text = serde_json::to_vec_pretty(content).map_err(|cause| self.failed(&cause.into()))?;
        let written = file
            .rewind()
            .and_then(|()| file.set_len(0))
            .and_then(|()| file.write_all(&text))
            .and_then(|()| file.sync_all());
        written.map_err(|cause| self.failed(&cause))
    }

    fn failed(&self, cause: &std::io::Error) -> Failure {
        Failure::file(&self.path, cause)
    }
}

/// Makes a folder, and those above it, that only its owner can enter; one that exists stays as it is.
///
/// # Errors
/// What the operating system says.
pub fn make_private(folder: &Path) -> std::io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(token: &str) -> Session {
        Session {
            token: token.to_owned(),
            role: "client".to_owned(),
            account_id: String::new(),
            subject_id: String::new(),
            ends_at_micros: 1,
        }
    }

    #[test]
    fn sessions_are_kept_apart_and_private() {
        let folder = tempfile::tempdir().unwrap();
        let sessions = Sessions::at(folder.path().join("state/sessions.json"));
        assert!(sessions.get("eu", "default").unwrap().is_none());
        sessions.set("eu", "default", Some(session("a"))).unwrap();
        sessions.set("eu", "other", Some(session("b"))).unwrap();
        sessions.set("ca", "default", Some(session("c"))).unwrap();
        sessions.set("eu", "default", None).unwrap();
        assert!(sessions.get("eu", "default").unwrap().is_none());
        assert_eq!(sessions.get("eu", "other").unwrap().unwrap().token, "b");
        assert_eq!(sessions.get("ca", "default").unwrap().unwrap().token, "c");
        let mode = std::fs::metadata(&sessions.path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_file_that_others_can_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sessions.json");
        std::fs::write(&path, "{}").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(Sessions::at(path).get("eu", "default").is_err());
    }
}
