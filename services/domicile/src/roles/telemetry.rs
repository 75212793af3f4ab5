//! Telemetry of a process: off unless an endpoint is set.

use std::future::Future;
use std::sync::Arc;

use domicile_cli::App;
use domicile_cli::failure::{Failure, Result};
use domicile_config::{Environment, TelemetrySettings};
use domicile_rpc::TcpNet;
use domicile_telemetry::{Settings, Telemetry};
use domicile_types::{Ctx, RegionId};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// What telemetry calls this process.
pub(crate) struct Process<'a> {
    /// `region`, `coordinator` or `cli`.
    pub(crate) role: &'static str,
    /// The region, for one.
    pub(crate) region: Option<&'a RegionId>,
    /// What it is for.
    pub(crate) environment: Environment,
}

/// Starts telemetry if the settings name a collector.
pub(crate) fn start(
    settings: &TelemetrySettings,
    process: &Process<'_>,
    ctx: &Ctx,
) -> Result<Option<Telemetry>> {
    let Some(collector) = domicile_rpc::collector(settings, Arc::new(TcpNet))? else { return Ok(None) };
    let settings = Settings {
        role: process.role,
        region: process.region.map(ToString::to_string),
        instance: domicile_types::ids::uuid_v4(ctx.rng.as_ref()).to_string(),
        environment: match process.environment {
            Environment::Development => "development",
            Environment::Production => "production",
        },
        version: env!("CARGO_PKG_VERSION"),
        trace_share: settings.trace_share,
        interval: settings.interval,
        delay: settings.delay,
        timeout: settings.timeout,
        queue: settings.queue,
        shutdown: settings.shutdown,
    };
    Ok(Some(domicile_telemetry::start(&settings, &collector)?))
}

/// Ends what [`start`] started, within the time the settings allow.
pub(crate) async fn end(telemetry: Option<Telemetry>) {
    if let Some(telemetry) = telemetry {
        telemetry.shutdown().await;
    }
}

/// Runs something of the command line; what its environment says of telemetry holds for it.
pub(crate) async fn around(app: &App, work: impl Future<Output = Result<()>>) -> Result<()> {
    let settings = TelemetrySettings::from_environment(None)?;
    let process = Process { role: "cli", region: None, environment: Environment::Development };
    let telemetry = start(&settings, &process, &app.ctx)?;
    if let Some(telemetry) = &telemetry {
        let subscriber = tracing_subscriber::registry().with(telemetry.layer(EnvFilter::new("info")));
        subscriber.try_init().map_err(|_| Failure::local("the log was started twice", "Report this."))?;
    }
    let done = work.await;
    end(telemetry).await;
    done
}
