//! The coordinator: looks at both regions of every transfer, decides the next action by the pure
//! function of `transfer-protocol`, and asks for it. It keeps nothing durable, holds no key and sees no
//! payload; it carries statements as opaque bytes. Any number of coordinators may run: a lease in the
//! source region, with a fencing token, lets one of them drive a transfer at a time.

mod drive;
mod regions;
mod view;
mod watch;

use std::sync::Arc;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use domicile_config::CoordinatorSettings;
use domicile_proto::coordinator::v1::coordinator_service_server::CoordinatorServiceServer;

use domicile_rpc::{ApplicationLog, Net, Peers, Server, ServerTls, TcpNet};
use domicile_types::{Code, Ctx, Error, RegionId, Result, TransferId};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use regions::Regions;
pub use view::CoordinatorView;

/// Runs a coordinator: drives, and shows operators what it sees, until `shutdown` is cancelled.
///
/// # Errors
/// Configuration errors, and [`domicile_types::Code::ConfigurationInvalid`] when its address is taken.
pub async fn run(settings: CoordinatorSettings, shutdown: CancellationToken) -> Result<()> {
    let (ctx, net) = (Ctx::system(), Arc::new(TcpNet) as Arc<dyn Net>);
    let coordinator = Coordinator::new(&settings, ctx.clone(), &net)?;
    let tls = ServerTls::peers(&settings.peers)?;
    let taken =
        |cause: std::io::Error| Error::new(Code::ConfigurationInvalid).at("peers.listen").because(cause);
    let listener = net.listen(settings.peers.listen).await.map_err(taken)?;
    let callers = Peers::of_coordinator(&settings);
    let server = Server::peers(ctx, settings.limits.clone(), callers, Arc::new(ApplicationLog));
    let server = server.add_service(CoordinatorServiceServer::new(coordinator.view())).await;
    let serving = server.serve(listener, tls, shutdown.clone());
    tokio::join!(coordinator.run(shutdown), serving);
    Ok(())
}

/// A coordinator at work. Cheap to clone.
#[derive(Clone)]
pub struct Coordinator(Arc<Inner>);

struct Inner {
    ctx: Ctx,
    regions: Regions,
    poll: std::time::Duration,
    /// This process's name for itself: a restarted coordinator is another holder.
    holder: Uuid,
    driven: Mutex<BTreeSet<TransferId>>,
    seen: Mutex<view::Seen>,
    wakes: Mutex<BTreeMap<TransferId, Arc<tokio::sync::Notify>>>,
}

impl Coordinator {
    /// A coordinator over these regions; connects to nothing yet.
    ///
    /// # Errors
    /// Configuration errors: certificates or addresses that do not fit.
    pub fn new(settings: &CoordinatorSettings, ctx: Ctx, net: &Arc<dyn Net>) -> Result<Self> {
        let regions = Regions::connect(settings, net)?;
        let holder = domicile_types::ids::uuid_v4(ctx.rng.as_ref());
        Ok(Self(Arc::new(Inner {
            ctx,
            regions,
            poll: settings.poll,
            holder,
            driven: Mutex::default(),
            seen: Mutex::default(),
            wakes: Mutex::default(),
        })))
    }

    /// Drives every transfer of every region until `shutdown` is cancelled. A step in flight is left:
    /// every step may be repeated.
    pub async fn run(&self, shutdown: CancellationToken) {
        let watches = self.0.regions.names().map(|region| self.clone().watch(region.clone()));
        let watches = futures::future::join_all(watches);
        tokio::select! {
            _ = watches => {}
            () = shutdown.cancelled() => {}
        }
    }

    /// The view for operators.
    #[must_use]
    pub fn view(&self) -> CoordinatorView {
        CoordinatorView(self.clone())
    }

    /// Wakes whoever drives a transfer, or starts driving it.
    fn wake(&self, region: &RegionId, transfer: TransferId) {
        if let Some(notify) = self.0.wakes.lock().unwrap_or_else(PoisonError::into_inner).get(&transfer) {
            notify.notify_one();
            return;
        }
        if self.0.driven.lock().unwrap_or_else(PoisonError::into_inner).insert(transfer) {
            let (this, region) = (self.clone(), region.clone());
            tokio::spawn(async move {
                let _driving = Driving { this: this.clone(), transfer };
                this.drive(&region, transfer).await;
            });
        }
    }
}

/// A transfer being driven; its end frees the place, also when the task panics.
struct Driving {
    this: Coordinator,
    transfer: TransferId,
}

impl Drop for Driving {
    fn drop(&mut self) {
        self.this.0.wakes.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.transfer);
        self.this.0.driven.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.transfer);
    }
}
