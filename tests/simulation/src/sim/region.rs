//! A region's process: the product's executor, services and clock over a store, keys and objects in memory.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use domicile_config::policy::{Party, Policies};
use domicile_config::{Limits, SpiffeId, TransferSettings};
use domicile_evidence::closing::ClosingProof;
use domicile_evidence::keys::{Signer as _, VerifierKey};
use domicile_kms::Keyring;
use domicile_proto::transfer::v1::transfer_control_service_server::TransferControlServiceServer;
use domicile_proto::transfer::v1::transfer_peer_service_client::TransferPeerServiceClient;
use domicile_proto::transfer::v1::transfer_peer_service_server::TransferPeerServiceServer;
use domicile_rpc::{
    ApplicationLog, Channel, Endpoint, Net as _, Peers, Server, ServerIdentity, ServerTls, connect,
};
use domicile_transfer::grpc::{ControlService, PeerService};
use domicile_transfer::ports;
use domicile_transfer::{Options, Parts, Transfers};
use domicile_types::{Code, Error, PracticeId, RegionId, Result, TransferId};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::certificates::{self, DOMAIN};
use super::garbled::{Garbled, GarbledPeer};
use super::keys::{FaultyRows, FaultyService};
use super::net::SimNet;
use super::objects::MemoryObjects;
use super::process::Process;
use super::world::{REGIONS, World};
use crate::conformance::region as named;
use crate::memory::{MemoryTransfers, Options as StoreOptions, Parts as StoreParts};

/// Where every region's peers' listener is.
pub(super) const PORT: u16 = 9000;
/// The largest answer of another region.
const LARGEST_ANSWER: usize = 64 * 1024 * 1024;

/// A region at work.
pub(super) struct Running {
    pub(super) region: RegionId,
    pub(super) process: Arc<Process>,
    pub(super) store: MemoryTransfers,
    pub(super) transfers: Transfers<MemoryTransfers>,
    pub(super) keyring: Arc<Keyring>,
    pub(super) objects: Arc<MemoryObjects>,
    pub(super) ctx: domicile_types::Ctx,
    pub(super) reads: Duration,
}

/// The settings of every simulated region: as by default, with deadlines that a simulation sees the end of.
pub(super) fn settings() -> TransferSettings {
    TransferSettings {
        offer_open: Duration::from_secs(240),
        consent_valid: Duration::from_secs(240),
        freeze_lag_rows: 3,
        freeze_tries: 8,
        page_rows: 4,
        stuck_after: Duration::from_secs(60),
        ..TransferSettings::default()
    }
}

/// Every region's policy, as the product ships them.
fn policies() -> Result<Arc<Policies>> {
    static LOADED: OnceLock<Option<Arc<Policies>>> = OnceLock::new();
    let loaded = LOADED.get_or_init(|| {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../regions");
        Policies::load(&folder).ok().map(Arc::new)
    });
    loaded.clone().ok_or_else(|| Error::new(Code::ConfigurationInvalid).at("regions"))
}

struct SimPeers {
    channels: BTreeMap<RegionId, Channel>,
    keys: BTreeMap<RegionId, ports::PeerKeys>,
}

fn operator(region: &RegionId) -> Party {
    Party {
        region: region.clone(),
        name: "Simulated".to_owned(),
        contact: "simulated@example.org".to_owned(),
    }
}

impl ports::Peers for SimPeers {
    fn client(&self, region: &RegionId) -> Result<TransferPeerServiceClient<Channel>> {
        let channel = self.channels.get(region).cloned();
        let channel = channel.ok_or_else(|| Error::new(Code::TransferNotAllowed).at("destination"))?;
        Ok(TransferPeerServiceClient::new(channel).max_decoding_message_size(LARGEST_ANSWER))
    }

    fn operator(&self, region: &RegionId) -> Result<Party> {
        Ok(operator(region))
    }

    fn keys(&self, region: &RegionId) -> Result<ports::PeerKeys> {
        self.keys.get(region).cloned().ok_or_else(|| Error::new(Code::TransferNotAllowed).at("destination"))
    }
}

struct MemoryClosing(MemoryTransfers);

#[async_trait]
impl ports::Closing for MemoryClosing {
    async fn proof(&self, transfer: TransferId, statement: [u8; 32]) -> Result<ClosingProof> {
        self.0.closing_proof(transfer, statement).await
    }
}

/// Every practice is enrolled everywhere, and a region has one process.
struct Alone;

#[async_trait]
impl ports::Enrolments for Alone {
    async fn instructs(&self, _: PracticeId, _: &RegionId) -> Result<bool> {
        Ok(true)
    }
    async fn known(&self, _: PracticeId) -> Result<bool> {
        Ok(true)
    }
}

#[async_trait]
impl ports::Replicas for Alone {
    async fn drop_keys(&self, _: &[Uuid]) -> Result<Uuid> {
        Ok(Uuid::nil())
    }
    async fn dropped(&self, _: Uuid) -> Result<()> {
        Ok(())
    }
}

/// A region's log, by name and key.
fn log(world: &World, name: &str) -> Result<VerifierKey> {
    let missing = || Error::new(Code::ConfigurationInvalid).at("region");
    let checkpoints = &world.regions.get(name).ok_or_else(missing)?.checkpoints;
    let key = VerifierKey::new(&format!("simulation/{name}"), checkpoints.public());
    key.map_err(|cause| Error::new(Code::Internal).because(cause))
}

/// The name a region's certificate carries.
pub(super) fn spiffe(name: &str) -> Result<SpiffeId> {
    SpiffeId::region(DOMAIN, &named(name)?).ok_or_else(|| Error::new(Code::Internal).at("spiffe"))
}

fn peers(process: &Arc<Process>) -> Result<SimPeers> {
    let (mut channels, mut keys) = (BTreeMap::new(), BTreeMap::new());
    let net = Arc::new(SimNet(Arc::clone(process)));
    for name in REGIONS.into_iter().filter(|name| *name != process.host) {
        let files = certificates::of(process.host)?;
        let endpoint = Endpoint {
            uri: format!("https://{name}:{PORT}"),
            server: ServerIdentity::Spiffe(spiffe(name)?),
            authority: files.authority(),
            identity: Some(files.identity()),
        };
        channels.insert(named(name)?, connect(endpoint, Arc::clone(&net) as _)?);
        let missing = || Error::new(Code::ConfigurationInvalid).at("region");
        let statement = process.world.regions.get(name).ok_or_else(missing)?.statements.public();
        let checkpoint = log(&process.world, name)?;
        keys.insert(named(name)?, ports::PeerKeys { statement, checkpoint });
    }
    Ok(SimPeers { channels, keys })
}

impl Running {
    /// Puts a region together over what its earlier processes have left.
    pub(super) fn new(process: &Arc<Process>) -> Result<Self> {
        let (name, ctx) = (process.host, process.ctx());
        let missing = || Error::new(Code::ConfigurationInvalid).at("region");
        let left = process.world.regions.get(name).ok_or_else(missing)?;
        let (region, settings) = (named(name)?, settings());
        let store = MemoryTransfers::new(StoreParts {
            region: region.clone(),
            ctx: ctx.clone(),
            disk: left.disk.clone(),
            statements: Arc::clone(&left.statements) as _,
            checkpoints: Arc::clone(&left.checkpoints) as _,
            log: log(&process.world, name)?,
            options: StoreOptions {
                offer_open: settings.offer_open,
                lease: settings.lease,
                stuck_after: settings.stuck_after,
                locator: settings.forwarding_locator,
            },
            weather: Arc::clone(process) as _,
        });
        let service = FaultyService { inner: Arc::clone(&left.service), process: Arc::clone(process) };
        let rows = FaultyRows { inner: Arc::clone(&left.keys), process: Arc::clone(process) };
        let keyring = Arc::new(Keyring::new(Arc::new(service), Arc::new(rows), region.clone(), ctx.clone()));
        let objects =
            Arc::new(MemoryObjects { bucket: left.bucket.clone(), process: Some(Arc::clone(process)) });
        let reads = settings.source_reads;
        let transfers = Transfers::new(Parts {
            region: region.clone(),
            options: Options::new(settings),
            ctx: ctx.clone(),
            store: store.clone(),
            keyring: Arc::clone(&keyring),
            objects: Arc::clone(&objects) as _,
            peers: Arc::new(peers(process)?),
            policies: policies()?,
            operator: operator(&region),
            closing: Arc::new(MemoryClosing(store.clone())),
            enrolments: Arc::new(Alone),
            replicas: Arc::new(Alone),
        });
        Ok(Self { region, process: Arc::clone(process), store, transfers, keyring, objects, ctx, reads })
    }

    /// Serves until the process dies.
    pub(super) async fn serve(self) -> Result<()> {
        let files = certificates::of(self.process.host)?;
        let tls = ServerTls::peers(&files.listener(PORT))?;
        let mut callers = Peers::new().coordinator(certificates::coordinator()?);
        for name in REGIONS.into_iter().filter(|name| *name != self.process.host) {
            callers = callers.region(spiffe(name)?, named(name)?);
        }
        let control = Garbled {
            inner: Arc::new(ControlService(self.transfers.clone())),
            process: Arc::clone(&self.process),
        };
        let peer =
            GarbledPeer { inner: PeerService(self.transfers.clone()), process: Arc::clone(&self.process) };
        let server = Server::peers(self.ctx.clone(), Limits::default(), callers, Arc::new(ApplicationLog))
            .add_service(TransferControlServiceServer::new(control))
            .await
            .add_service(TransferPeerServiceServer::new(peer))
            .await;
        let net = SimNet(Arc::clone(&self.process));
        let taken =
            |cause: std::io::Error| Error::new(Code::ConfigurationInvalid).at("listen").because(cause);
        let here = SocketAddr::from((Ipv4Addr::UNSPECIFIED, PORT));
        let listener = net.listen(here).await.map_err(taken)?;
        let clock = self.transfers.clone();
        let desk = Arc::new(self);
        tokio::join!(
            clock.run_clock(),
            server.serve(listener, tls, CancellationToken::new()),
            super::clerk::serve(desk),
        );
        Ok(())
    }
}
