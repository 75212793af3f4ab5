//! `domicile coordinator`.

use std::sync::Arc;

use domicile_cli::App;
use domicile_cli::failure::Result;
use domicile_config::CoordinatorSettings;
use domicile_coordinator::Coordinator;
use domicile_proto::coordinator::v1::coordinator_service_server::CoordinatorServiceServer;
use domicile_rpc::{ApplicationLog, Net, Peers, Server, ServerTls, TcpNet};
use domicile_types::{Code, Ctx, Error};

use super::telemetry::{self, Process};
use super::{ServeArgs, check, logging, shutdown};
use crate::faults;

/// Drives transfers until told to stop. It keeps nothing: it can be killed and replaced at any moment.
pub(crate) async fn run(app: &App, args: ServeArgs) -> Result<()> {
    let settings = CoordinatorSettings::load(&args.config.config)?;
    if args.check {
        return check::coordinator(app, &settings);
    }
    let process = Process { role: "coordinator", region: None, environment: settings.environment };
    let telemetry = telemetry::start(&settings.telemetry, &process, &app.ctx)?;
    logging::start(&settings.log, telemetry.as_ref())?;
    let shutdown = shutdown::on_signals(args.supervised);
    let net: Arc<dyn Net> = Arc::new(TcpNet);
    let ctx = Ctx { faults: faults::from_environment(), ..app.ctx.clone() };
    let coordinator = Coordinator::new(&settings, ctx, &net)?;
    let tls = ServerTls::peers(&settings.peers)?;
    let refused = |cause| Error::new(Code::ConfigurationInvalid).at("peers.listen").because(cause);
    let listener = net.listen(settings.peers.listen).await.map_err(refused)?;
    let peers = Peers::of_coordinator(&settings);
    let server = Server::peers(app.ctx.clone(), settings.limits.clone(), peers, Arc::new(ApplicationLog))
        .add_service(CoordinatorServiceServer::new(coordinator.view()))
        .await;
    tracing::info!(regions = settings.region.len(), listen = %settings.peers.listen, "the coordinator runs");
    tokio::join!(coordinator.run(shutdown.clone()), server.serve(listener, tls, shutdown));
    tracing::info!("the coordinator has ended");
    telemetry::end(telemetry).await;
    Ok(())
}
