//! Where everything of a deployment lies in its folder.

use std::path::{Path, PathBuf};

use domicile_types::RegionId;

/// A deployment's folder.
#[derive(Clone, Debug)]
pub(crate) struct Layout(PathBuf);

impl Layout {
    /// The layout of this folder; the path must be absolute.
    pub(crate) const fn new(folder: PathBuf) -> Self {
        Self(folder)
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.0
    }

    /// Held by the one `up` that runs on this folder.
    pub(crate) fn lock(&self) -> PathBuf {
        self.0.join("lock")
    }

    /// What was chosen once: regions and ports.
    pub(crate) fn state(&self) -> PathBuf {
        self.0.join("deployment.toml")
    }

    pub(crate) fn client_file(&self) -> PathBuf {
        self.0.join(domicile_cli::place::FILE)
    }

    /// The first accounts and their passwords.
    pub(crate) fn credentials(&self) -> PathBuf {
        self.0.join("credentials.toml")
    }

    /// The auditor's policy: the public keys of every region.
    pub(crate) fn audit_policy(&self) -> PathBuf {
        self.0.join("policy.json")
    }

    /// The regions' policies.
    pub(crate) fn policies(&self) -> PathBuf {
        self.0.join("regions")
    }

    pub(crate) fn authority(&self) -> PathBuf {
        self.0.join("ca.pem")
    }

    pub(crate) fn authority_key(&self) -> PathBuf {
        self.0.join("ca.key")
    }

    pub(crate) fn region(&self, region: &RegionId) -> Home {
        Home(self.0.join(region.as_str()))
    }

    /// Where a region's database is, when it does not run on SQLite files.
    pub(crate) fn database(&self, region: &RegionId) -> PathBuf {
        self.region(region).join("database.toml")
    }

    /// Where a region's key service is, when it is not a key file.
    pub(crate) fn keys(&self, region: &RegionId) -> PathBuf {
        self.region(region).join("keys.toml")
    }

    /// Where a region's objects are, when they do not lie in a folder.
    pub(crate) fn objects(&self, region: &RegionId) -> PathBuf {
        self.region(region).join("objects.toml")
    }

    pub(crate) fn coordinator(&self) -> Home {
        Home(self.0.join("coordinator"))
    }
}

/// One process's folder.
#[derive(Clone, Debug)]
pub(crate) struct Home(PathBuf);

impl Home {
    pub(crate) fn folder(&self) -> &Path {
        &self.0
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.0.join("config.toml")
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.0.join("log")
    }

    /// Holds the process's id while it runs.
    pub(crate) fn pid(&self) -> PathBuf {
        self.0.join("pid")
    }

    /// Another file or folder of the process.
    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}
