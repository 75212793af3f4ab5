//! Settings of one region.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use domicile_types::{Code, Error, RegionId, Result};
use serde::Deserialize;

use crate::cloud::{AwsKeySettings, S3Settings};
use crate::shared::{
    Environment, Limits, LogSettings, OperatorContact, PeersListener, PeopleListener, ensure, filled, rebase,
};
use crate::{RecordSettings, Secret, SpiffeId, TelemetrySettings, TransferSettings, load, units};

/// Everything `domicile region` needs.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegionSettings {
    /// Production or development.
    pub environment: Environment,
    /// Which region this is.
    pub region: RegionId,
    /// The folder of the regions' policies, `<region>.toml` each.
    pub policies: PathBuf,
    /// Who runs it (P3).
    pub operator: OperatorContact,
    /// The listener for people's clients.
    pub people: PeopleListener,
    /// The listener for regions and the coordinator.
    pub peers: PeersListener,
    /// The database.
    pub database: DatabaseSettings,
    /// The key service.
    pub keys: KeySettings,
    /// The object store.
    pub objects: ObjectSettings,
    /// The region's signing keys.
    pub signing: SigningSettings,
    /// The other regions.
    #[serde(default)]
    pub peer: Vec<PeerSettings>,
    /// The coordinator.
    pub coordinator: CoordinatorPeer,
    /// Numbers of transfers.
    #[serde(default)]
    pub transfer: TransferSettings,
    /// Bounds of uploads, imports and pages.
    #[serde(default)]
    pub records: RecordSettings,
    /// Numbers of sessions and passwords (P49).
    #[serde(default)]
    pub sessions: SessionSettings,
    /// Bounds of the servers.
    #[serde(default)]
    pub limits: Limits,
    /// Its log.
    #[serde(default)]
    pub log: LogSettings,
    /// Where traces, metrics and logs are sent, if anywhere.
    #[serde(default)]
    pub telemetry: TelemetrySettings,
}

/// Where the record lies: PostgreSQL, or SQLite in development.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatabaseSettings {
    /// The service role's connection: `postgres://…` or `sqlite:///path`.
    pub url: Secret,
    /// The audit sequencer's connection, a role of its own on PostgreSQL; not used on SQLite.
    #[serde(default)]
    pub sequencer_url: Option<Secret>,
    /// The key store's connection: a role and schema of its own, or a file of its own.
    pub keys_url: Secret,
    /// The schema owner's connection, for `domicile migrate` alone.
    #[serde(default)]
    pub owner_url: Option<Secret>,
    /// Connections at most.
    #[serde(default = "sixteen")]
    pub max_connections: u32,
    /// How long a request waits for a connection.
    #[serde(default = "five_seconds", deserialize_with = "units::read")]
    pub acquire: Duration,
    /// Where online backups of both SQLite files go; without it a SQLite region never calls a
    /// received record re-keyed.
    #[serde(default)]
    pub backup_directory: Option<PathBuf>,
}

/// Which key service.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "provider", rename_all = "lowercase", deny_unknown_fields)]
pub enum KeySettings {
    /// A key file on this machine, mode 0600, made at the first start.
    Local {
        /// Its path.
        file: PathBuf,
    },
    /// A key of AWS KMS.
    Aws(AwsKeySettings),
}

/// Which object store.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "provider", rename_all = "lowercase", deny_unknown_fields)]
pub enum ObjectSettings {
    /// A folder on this machine.
    Directory {
        /// Its path.
        path: PathBuf,
    },
    /// A bucket of S3.
    S3(S3Settings),
}

/// Files of the region's Ed25519 keys, wrapped by its key service, made at the first start.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SigningSettings {
    /// Signs statements of transfers and enrolments.
    pub statement_key: PathBuf,
    /// Signs the audit log's checkpoints.
    pub checkpoint_key: PathBuf,
}

/// Another region.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PeerSettings {
    /// Its name.
    pub region: RegionId,
    /// Its peers' listener, `https://host:port`.
    pub endpoint: String,
    /// The name its certificate must carry.
    pub spiffe: SpiffeId,
    /// Its statement key, as a verifier key (C2SP signed-note).
    pub statement_key: String,
    /// Its checkpoint key, as a verifier key (C2SP signed-note).
    pub checkpoint_key: String,
    /// Who runs it, as notices name the recipient; this region's own operator when absent.
    #[serde(default)]
    pub operator: Option<OperatorContact>,
}

/// The coordinator.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CoordinatorPeer {
    /// The name its certificate must carry.
    pub spiffe: SpiffeId,
}

/// Sessions and passwords (P49).
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SessionSettings {
    /// A session nobody uses ends after this.
    #[serde(deserialize_with = "units::read")]
    pub idle: Duration,
    /// A session ends after this in any case.
    #[serde(deserialize_with = "units::read")]
    pub absolute: Duration,
    /// How long a password proof counts as fresh.
    #[serde(deserialize_with = "units::read")]
    pub fresh: Duration,
    /// Characters of a password at least.
    pub password_min: usize,
    /// How long an invitation may be used.
    #[serde(deserialize_with = "units::read")]
    pub invitation: Duration,
}

impl Default for SessionSettings {
    fn default() -> Self {
        Self {
            idle: Duration::from_secs(15 * 60),
            absolute: Duration::from_secs(8 * 3_600),
            fresh: Duration::from_secs(5 * 60),
            password_min: 15,
            invitation: Duration::from_secs(7 * 86_400),
        }
    }
}

fn sixteen() -> u32 {
    16
}

fn five_seconds() -> Duration {
    Duration::from_secs(5)
}

impl RegionSettings {
    /// Reads a settings file and the environment over it, and checks the whole. Relative paths are
    /// relative to the file's folder.
    ///
    /// # Errors
    /// Configuration errors, each with the key's name.
    pub fn load(file: &Path) -> Result<Self> {
        Self::from_sources(file, None)
    }

    /// As [`Self::load`], with the environment given.
    ///
    /// # Errors
    /// Configuration errors, each with the key's name.
    pub fn load_with(file: &Path, environment: Vec<(String, String)>) -> Result<Self> {
        Self::from_sources(file, Some(environment))
    }

    /// The settings of the peer region of this name.
    #[must_use]
    pub fn peer(&self, region: &RegionId) -> Option<&PeerSettings> {
        self.peer.iter().find(|peer| &peer.region == region)
    }

    /// Who runs the region of this name.
    #[must_use]
    pub fn operator_of(&self, region: &RegionId) -> &OperatorContact {
        self.peer(region).and_then(|peer| peer.operator.as_ref()).unwrap_or(&self.operator)
    }

    /// Parses and checks the text of a settings file, without an environment and with relative paths as they are.
    ///
    /// # Errors
    /// Configuration errors, each with the key's name.
    pub fn parse(text: &str) -> Result<Self> {
        let settings: Self = load::settings(text, Some(Vec::new()))?;
        settings.check()?;
        Ok(settings)
    }

    fn from_sources(file: &Path, environment: Option<Vec<(String, String)>>) -> Result<Self> {
        let mut settings: Self = load::layered(file, environment)?;
        settings.rebase(load::folder(file));
        settings.check()?;
        Ok(settings)
    }

    fn rebase(&mut self, base: &Path) {
        self.people.rebase(base);
        self.peers.rebase(base);
        self.database.rebase(base);
        self.telemetry.rebase(base);
        if let KeySettings::Local { file } = &mut self.keys {
            rebase(base, [file]);
        }
        if let ObjectSettings::Directory { path } = &mut self.objects {
            rebase(base, [path]);
        }
        let signing = &mut self.signing;
        rebase(base, [&mut self.policies, &mut signing.statement_key, &mut signing.checkpoint_key]);
    }

    fn check(&self) -> Result<()> {
        self.operator.check("operator")?;
        self.peers.check()?;
        self.limits.check()?;
        self.transfer.check()?;
        self.telemetry.check()?;
        self.records.check()?;
        self.sessions.check()?;
        self.database.check(self.environment)?;
        self.check_cloud()?;
        self.check_peers()
    }

    fn check_cloud(&self) -> Result<()> {
        if let KeySettings::Aws(keys) = &self.keys {
            keys.check(self.environment)?;
        }
        if let ObjectSettings::S3(objects) = &self.objects {
            objects.check(self.environment)?;
        }
        Ok(())
    }

    fn check_peers(&self) -> Result<()> {
        ensure("peer", unique(self.peer.iter().map(|peer| &peer.region)))?;
        ensure("peer", unique(self.peer.iter().map(|peer| &peer.spiffe)))?;
        ensure("coordinator.spiffe", self.peer.iter().all(|peer| peer.spiffe != self.coordinator.spiffe))?;
        for peer in &self.peer {
            ensure("peer.region", peer.region != self.region)?;
            endpoint("peer.endpoint", &peer.endpoint)?;
            peer.operator.iter().try_for_each(|operator| operator.check("peer.operator"))?;
            filled("peer.statement_key", &peer.statement_key)?;
            filled("peer.checkpoint_key", &peer.checkpoint_key)?;
            ensure("peer.checkpoint_key", peer.checkpoint_key != peer.statement_key)?;
        }
        Ok(())
    }
}

impl DatabaseSettings {
    fn rebase(&mut self, base: &Path) {
        rebase(base, &mut self.backup_directory);
        let secrets = [
            Some(&mut self.url),
            self.sequencer_url.as_mut(),
            Some(&mut self.keys_url),
            self.owner_url.as_mut(),
        ];
        secrets.into_iter().flatten().for_each(|secret| secret.rebase(base));
    }

    fn check(&self, environment: Environment) -> Result<()> {
        ensure("database.max_connections", (1..=1_000).contains(&self.max_connections))?;
        ensure("database.acquire", !self.acquire.is_zero())?;
        let url = supported("database.url", &self.url)?;
        let keys = supported("database.keys_url", &self.keys_url)?;
        self.owner_url.iter().try_for_each(|owner| supported("database.owner_url", owner).map(drop))?;
        if environment == Environment::Production && (url == Backend::Sqlite || keys == Backend::Sqlite) {
            return Err(Error::new(Code::ConfigurationUnsafe).at("database.url"));
        }
        ensure("database.keys_url", url == keys && self.url.reveal()? != self.keys_url.reveal()?)?;
        match (&self.sequencer_url, url) {
            (Some(sequencer), _) => {
                ensure("database.sequencer_url", supported("database.sequencer_url", sequencer)? == url)
            }
            (None, Backend::Postgres) => {
                Err(Error::new(Code::ConfigurationMissing).at("database.sequencer_url"))
            }
            (None, Backend::Sqlite) => Ok(()),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Backend {
    Postgres,
    Sqlite,
}

fn supported(key: &str, url: &Secret) -> Result<Backend> {
    let url = url.reveal()?;
    match url.split_once(':').map(|(scheme, _)| scheme) {
        Some("postgres" | "postgresql") => Ok(Backend::Postgres),
        Some("sqlite") => Ok(Backend::Sqlite),
        _ => Err(Error::new(Code::ConfigurationInvalid).at(key)),
    }
}

impl SessionSettings {
    fn check(&self) -> Result<()> {
        ensure("sessions.idle", !self.idle.is_zero() && self.idle <= self.absolute)?;
        ensure("sessions.fresh", !self.fresh.is_zero())?;
        ensure("sessions.invitation", !self.invitation.is_zero())?;
        ensure("sessions.password_min", (15..=128).contains(&self.password_min))
    }
}

/// An endpoint is `https://host:port`: nothing is ever reached in plain text (P7).
pub(crate) fn endpoint(key: &str, uri: &str) -> Result<()> {
    let authority = uri.strip_prefix("https://").unwrap_or_default();
    let port =
        authority.rsplit_once(':').filter(|(host, _)| !host.is_empty()).map(|(_, port)| port.parse::<u16>());
    ensure(key, matches!(port, Some(Ok(1..))) && !authority.contains(['/', '?', '#', '@']))
}

pub(crate) fn unique<T: Ord>(items: impl Iterator<Item = T>) -> bool {
    let mut seen = BTreeSet::new();
    items.into_iter().all(|item| seen.insert(item))
}
