//! A coordinator's process: the product's own.

use std::sync::Arc;
use std::time::Duration;

use domicile_config::coordinator::CoordinatedRegion;
use domicile_config::{CoordinatorSettings, Environment, OperatorContact};
use domicile_coordinator::Coordinator;
use domicile_rpc::Net;
use domicile_types::Result;
use tokio_util::sync::CancellationToken;

use super::certificates;
use super::net::SimNet;
use super::process::Process;
use super::region::{PORT, spiffe};
use super::world::REGIONS;
use crate::conformance::region as named;

/// Drives transfers until the process dies.
pub(super) async fn run(process: Arc<Process>) -> Result<()> {
    let mut region = Vec::new();
    for name in REGIONS {
        let endpoint = format!("https://{name}:{PORT}");
        region.push(CoordinatedRegion { region: named(name)?, endpoint, spiffe: spiffe(name)? });
    }
    let settings = CoordinatorSettings {
        environment: Environment::Development,
        operator: OperatorContact {
            name: "Simulated".to_owned(),
            contact: "simulated@example.org".to_owned(),
        },
        peers: certificates::of(process.host)?.listener(PORT),
        region,
        operators: Vec::new(),
        poll: Duration::from_secs(1),
        limits: Default::default(),
        log: Default::default(),
        telemetry: Default::default(),
    };
    let net: Arc<dyn Net> = Arc::new(SimNet(Arc::clone(&process)));
    let coordinator = Coordinator::new(&settings, process.ctx(), &net)?;
    coordinator.run(CancellationToken::new()).await;
    Ok(())
}
