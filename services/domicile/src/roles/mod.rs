//! The roles a process can have, and the preparations an administrator makes.

pub(crate) mod bootstrap;
mod check;
pub(crate) mod coordinator;
pub(crate) mod keys;
pub(crate) mod logging;
pub(crate) mod migrate;
pub(crate) mod region;
pub(crate) mod shutdown;
pub(crate) mod telemetry;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use domicile_cli::App;
use domicile_cli::failure::Result;

use crate::{demo, up};

/// Which settings a process starts with.
#[derive(Args, Debug)]
pub(crate) struct ConfigArgs {
    /// The settings file (TOML); `DOMICILE__SECTION__KEY` in the environment goes over it.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: PathBuf,
}

/// How a serving process starts.
#[derive(Args, Debug)]
pub(crate) struct ServeArgs {
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
    /// Read and check settings, policies and certificates, say what would run, and end.
    #[arg(long)]
    pub(crate) check: bool,
    /// End when standard input closes: for a child of `domicile up`.
    #[arg(long, hide = true)]
    pub(crate) supervised: bool,
}

/// Roles and preparations.
#[derive(Subcommand, Debug)]
pub(crate) enum Role {
    /// Serve one region.
    Region(ServeArgs),
    /// Drive transfers between regions; keeps nothing.
    Coordinator(ServeArgs),
    /// Bring a region's databases to this release, as the schema's owner.
    Migrate(ConfigArgs),
    /// Signing keys of a region.
    #[command(subcommand)]
    Keys(keys::KeysCommand),
    /// Make a region's first operator or compliance account.
    Bootstrap(bootstrap::BootstrapArgs),
    /// Start a whole deployment on this machine and keep it running.
    Up(up::UpArgs),
    /// Show a record moving from the EU to Canada, and a consent withdrawn in time.
    Demo(demo::DemoArgs),
}

impl Role {
    /// Runs the role to its end.
    pub(crate) async fn run(self, app: &App) -> Result<()> {
        match self {
            Self::Region(args) => region::run(app, args).await,
            Self::Coordinator(args) => coordinator::run(app, args).await,
            Self::Migrate(args) => migrate::run(app, args).await,
            Self::Keys(command) => command.run(app).await,
            Self::Bootstrap(args) => bootstrap::run(app, args).await,
            Self::Up(args) => up::run(app, args).await,
            Self::Demo(args) => telemetry::around(app, demo::run(app, args)).await,
        }
    }
}
