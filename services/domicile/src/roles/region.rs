//! `domicile region`.

use std::sync::Arc;

use domicile_cli::App;
use domicile_cli::failure::Result;
use domicile_config::{Environment, RegionSettings};
use domicile_rpc::TcpNet;
use domicile_types::{Code, Ctx, Error};

use super::telemetry::{self, Process};
use super::{ServeArgs, check, logging, shutdown};
use crate::compose::{self, Foundation};
use crate::faults;

/// Serves one region until told to stop. The settings are read and checked whole before anything opens.
pub(crate) async fn run(app: &App, args: ServeArgs) -> Result<()> {
    let settings = RegionSettings::load(&args.config.config)?;
    if args.check {
        return check::region(app, &settings);
    }
    audited(settings.environment)?;
    let process =
        Process { role: "region", region: Some(&settings.region), environment: settings.environment };
    let telemetry = telemetry::start(&settings.telemetry, &process, &app.ctx)?;
    logging::start(&settings.log, telemetry.as_ref())?;
    let shutdown = shutdown::on_signals(args.supervised);
    tracing::info!(region = %settings.region, "the region starts");
    let served = async {
        let ctx = Ctx { faults: faults::from_environment(), ..app.ctx.clone() };
        let foundation = Foundation::open(settings, ctx).await?;
        compose::region::serve(foundation, Arc::new(TcpNet), shutdown).await
    };
    let served = served.await;
    match &served {
        Ok(()) => tracing::info!("the region has ended"),
        // The cause goes to the log alone; what a person sees has no text from below.
        Err(failure) => tracing::error!(?failure, "the region cannot go on"),
    }
    telemetry::end(telemetry).await;
    served
}

/// The benchmark's build, which records nothing, serves no real person.
fn audited(environment: Environment) -> Result<()> {
    if cfg!(feature = "bench-without-audit") && environment == Environment::Production {
        return Err(Error::new(Code::ConfigurationUnsafe).at("a build with bench-without-audit").into());
    }
    Ok(())
}
