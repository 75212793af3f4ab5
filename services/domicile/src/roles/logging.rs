//! What a process writes to its log: standard error, text or JSON. Nothing logged holds PHI (P8). With
//! telemetry on, its own events go to the collector too, less whatever is not on its list.

use std::io::IsTerminal as _;

use domicile_cli::failure::{Failure, Result};
use domicile_config::LogSettings;
use domicile_config::shared::LogFormat;
use domicile_telemetry::Telemetry;
use domicile_telemetry::trace::TARGET;
use tracing::Subscriber;
use tracing_subscriber::filter::{FilterExt as _, filter_fn};
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, fmt, registry};

/// Starts the log.
pub(crate) fn start(settings: &LogSettings, telemetry: Option<&Telemetry>) -> Result<()> {
    // Not an `Option` of a layer: one of tracing-subscriber 0.3 does not hear of its dispatcher, without
    // which records would not know their trace.
    match telemetry {
        None => lines(settings, registry()),
        Some(telemetry) => lines(settings, registry().with(telemetry.layer(filter(settings)?))),
    }
}

/// Lines on standard error, of what `subscriber` sees.
fn lines<S>(settings: &LogSettings, subscriber: S) -> Result<()>
where
    S: Subscriber + for<'span> LookupSpan<'span> + Send + Sync,
{
    // The collector's spans have no place in the log's lines.
    let shown = filter(settings)?.and(filter_fn(|meta| meta.target() != TARGET));
    let log = fmt::layer().with_writer(std::io::stderr);
    let started = match settings.format {
        LogFormat::Json => subscriber.with(log.json().with_filter(shown)).try_init(),
        LogFormat::Text => {
            let log = log.with_ansi(std::io::stderr().is_terminal());
            subscriber.with(log.with_filter(shown)).try_init()
        }
    };
    started.map_err(|_| Failure::local("the log was started twice", "Report this."))
}

fn filter(settings: &LogSettings) -> Result<EnvFilter> {
    EnvFilter::try_new(&settings.filter)
        .map_err(|_| Failure::Usage("log.filter is not a filter such as info,domicile=debug".to_owned()))
}
