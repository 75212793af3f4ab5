//! What the store needs to know about its databases.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use domicile_config::{Environment, RegionSettings, Secret};
use domicile_types::{Code, Error, RegionId, Result};

/// Which database it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// PostgreSQL: roles, row-level security, replicas.
    Postgres,
    /// SQLite: one file, one writer, for development and single machines.
    Sqlite,
}

impl Backend {
    /// Reads it from a URL's scheme.
    ///
    /// # Errors
    /// [`Code::ConfigurationInvalid`] for any other scheme.
    pub fn of(url: &str) -> Result<Self> {
        match url.split_once(':').map(|(scheme, _)| scheme) {
            Some("postgres" | "postgresql") => Ok(Self::Postgres),
            Some("sqlite") => Ok(Self::Sqlite),
            _ => Err(Error::new(Code::ConfigurationInvalid).at("database.url")),
        }
    }

    /// The name in the health report.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Postgres => "postgresql",
            Self::Sqlite => "sqlite",
        }
    }
}

/// How a region reaches its databases. URLs hold passwords, so `Debug` shows none of them.
#[derive(Clone)]
pub struct Settings {
    /// The region.
    pub region: RegionId,
    /// The data: `postgres://…` as the service role, or `sqlite:///path`.
    pub url: String,
    /// The same database as the sequencer's role; needed on PostgreSQL by the process that sequences.
    pub sequencer_url: Option<String>,
    /// The key store: `postgres://…` as its own role, or its own `sqlite:///path`.
    pub keys_url: String,
    /// The most connections of each pool, at least 1.
    pub max_connections: u32,
    /// How long a request waits for a connection before it is told to come back.
    pub acquire: Duration,
    /// Whether this is production: then PostgreSQL alone, and TLS 1.3 even to this machine.
    pub production: bool,
    /// The audit log's origin, as its checkpoints name it.
    pub log_origin: String,
    /// The version of the region's policy, written into every audit entry.
    pub policy_version: u32,
}

impl Settings {
    /// From the region's configuration. `log_origin` names the audit log, `policy_version` the policy in
    /// force.
    ///
    /// # Errors
    /// [`Code::ConfigurationInvalid`] when a secret's file cannot be read.
    pub fn from_config(
        region: &RegionSettings,
        log_origin: impl Into<String>,
        policy_version: u32,
    ) -> Result<Self> {
        let database = &region.database;
        let reveal = |secret: &Secret| secret.reveal().map(|text| text.as_str().to_owned());
        Ok(Self {
            region: region.region.clone(),
            url: reveal(&database.url)?,
            sequencer_url: database.sequencer_url.as_ref().map(reveal).transpose()?,
            keys_url: reveal(&database.keys_url)?,
            max_connections: database.max_connections,
            acquire: database.acquire,
            production: region.environment == Environment::Production,
            log_origin: log_origin.into(),
            policy_version,
        })
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("region", &self.region)
            .field("backend", &Backend::of(&self.url).map(Backend::as_str).unwrap_or("unknown"))
            .field("max_connections", &self.max_connections)
            .field("production", &self.production)
            .finish_non_exhaustive()
    }
}

/// The file of a `sqlite:` URL.
pub(crate) fn sqlite_path(url: &str) -> Result<PathBuf> {
    let invalid = || Error::new(Code::ConfigurationInvalid).at("database.url");
    let rest = url.strip_prefix("sqlite:").ok_or_else(invalid)?;
    let path = rest.strip_prefix("//").unwrap_or(rest);
    let path = path.split_once('?').map_or(path, |(path, _)| path);
    if path.is_empty() || path.contains(":memory:") { Err(invalid()) } else { Ok(PathBuf::from(path)) }
}
