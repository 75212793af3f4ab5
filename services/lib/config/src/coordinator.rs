//! Settings of the coordinator: whom it talks to, and nothing it would have to keep.

use std::path::Path;
use std::time::Duration;

use domicile_types::{RegionId, Result};
use serde::Deserialize;

use crate::region::{endpoint, unique};
use crate::shared::{Environment, Limits, LogSettings, OperatorContact, PeersListener, ensure};
use crate::{SpiffeId, TelemetrySettings, load, units};

/// Everything `domicile coordinator` needs.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CoordinatorSettings {
    /// Production or development.
    pub environment: Environment,
    /// Who runs it.
    pub operator: OperatorContact,
    /// Where operators' tools and regions reach it.
    pub peers: PeersListener,
    /// The regions it drives.
    pub region: Vec<CoordinatedRegion>,
    /// Operators' tools that may ask for its view, by the names in their certificates.
    #[serde(default)]
    pub operators: Vec<SpiffeId>,
    /// How often it looks at every region besides listening to their changes.
    #[serde(default = "one_second", deserialize_with = "units::read")]
    pub poll: Duration,
    /// Bounds of its server.
    #[serde(default)]
    pub limits: Limits,
    /// Its log.
    #[serde(default)]
    pub log: LogSettings,
    /// Where traces, metrics and logs are sent, if anywhere.
    #[serde(default)]
    pub telemetry: TelemetrySettings,
}

/// A region as the coordinator reaches it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CoordinatedRegion {
    /// The region's name.
    pub region: RegionId,
    /// Its peers' listener, `https://host:port`.
    pub endpoint: String,
    /// The name its certificate must carry.
    pub spiffe: SpiffeId,
}

fn one_second() -> Duration {
    Duration::from_secs(1)
}

impl CoordinatorSettings {
    /// Reads a settings file and the environment over it, and checks the whole.
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
        settings.peers.rebase(load::folder(file));
        settings.telemetry.rebase(load::folder(file));
        settings.check()?;
        Ok(settings)
    }

    fn check(&self) -> Result<()> {
        self.operator.check("operator")?;
        self.peers.check()?;
        self.telemetry.check()?;
        self.limits.check()?;
        ensure("poll", !self.poll.is_zero())?;
        ensure("region", self.region.len() >= 2)?;
        ensure("region", unique(self.region.iter().map(|region| &region.region)))?;
        self.region.iter().try_for_each(|region| endpoint("region.endpoint", &region.endpoint))
    }
}
