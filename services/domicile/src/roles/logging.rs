//! What a process writes to its log: standard error, text or JSON. Nothing logged holds PHI (P8).

use std::io::IsTerminal as _;

use domicile_cli::failure::{Failure, Result};
use domicile_config::LogSettings;
use domicile_config::shared::LogFormat;
use tracing_subscriber::EnvFilter;

/// Starts the log.
pub(crate) fn start(settings: &LogSettings) -> Result<()> {
    let filter = EnvFilter::try_new(&settings.filter)
        .map_err(|_| Failure::Usage("log.filter is not a filter such as info,domicile=debug".to_owned()))?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = match settings.format {
        LogFormat::Json => builder.json().try_init(),
        LogFormat::Text => builder.with_ansi(std::io::stderr().is_terminal()).try_init(),
    };
    started.map_err(|_| Failure::local("the log was started twice", "Report this."))
}
