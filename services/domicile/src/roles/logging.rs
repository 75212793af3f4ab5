//! What a process writes to its log: standard error, text or JSON. Nothing logged holds PHI (P8). With
//! telemetry on, its own events go to the collector too, less whatever is not on its list.

use std::io::IsTerminal as _;

use domicile_cli::failure::{Failure, Result};
use domicile_config::LogSettings;
use domicile_config::shared::LogFormat;
use domicile_telemetry::Telemetry;
use domicile_telemetry::trace::TARGET;
use tracing_subscriber::filter::{FilterExt as _, filter_fn};
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, fmt, registry};

/// Starts the log.
pub(crate) fn start(settings: &LogSettings, telemetry: Option<&Telemetry>) -> Result<()> {
    let collected = match telemetry {
        Some(telemetry) => Some(telemetry.layer(filter(settings)?)),
        None => None,
    };
    // The collector's spans have no place in the log's lines.
    let lines = filter(settings)?.and(filter_fn(|meta| meta.target() != TARGET));
    let log = fmt::layer().with_writer(std::io::stderr);
    let started = match settings.format {
        LogFormat::Json => registry().with(collected).with(log.json().with_filter(lines)).try_init(),
        LogFormat::Text => {
            let log = log.with_ansi(std::io::stderr().is_terminal());
            registry().with(collected).with(log.with_filter(lines)).try_init()
        }
    };
    started.map_err(|_| Failure::local("the log was started twice", "Report this."))
}

fn filter(settings: &LogSettings) -> Result<EnvFilter> {
    EnvFilter::try_new(&settings.filter)
        .map_err(|_| Failure::Usage("log.filter is not a filter such as info,domicile=debug".to_owned()))
}
