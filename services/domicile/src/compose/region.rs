//! A region's services behind their two listeners, and its background work.

use std::sync::Arc;
use std::time::Duration;

use domicile_audit::{AuditGrpc, Closing, FileHead, LogIdentity, Pace, Sequencer, SharedHead, SignedHead};
use domicile_cli::failure::Result;
use domicile_config::Environment;
use domicile_evidence::event::EventType;
use domicile_objects::ObjectStore;
use domicile_proto::audit::v1::audit_service_server::AuditServiceServer;
use domicile_proto::transfer::v1::transfer_control_service_server::TransferControlServiceServer;
use domicile_proto::transfer::v1::transfer_peer_service_server::TransferPeerServiceServer;
use domicile_proto::transfer::v1::transfer_service_server::TransferServiceServer;
use domicile_records::Records;
use domicile_rpc::server::Health;
use domicile_rpc::{Net, Peers, Server, ServerTls};
use domicile_store::transfers::SqlTransfers;
use domicile_store::{AuditFacts, Backend};
use domicile_transfer::grpc::{ControlService, PeerService, PeopleService};
use domicile_transfer::{Options, Transfers};
use domicile_types::{Actor, AuditScope, Code, Error, RequestId, Timestamp};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::ports::{self, Enrolled, LogClosing, PeerRegions, StoreSink, Travel};
use super::replica::Replica;
use super::{Foundation, POLICY_VERSION, observe};

/// How often the databases are asked for a sign of life.
const LOOK: Duration = Duration::from_secs(5);
/// The health service's name for a region on SQLite: no roles, no row-level security.
const ON_SQLITE: &str = "domicile.region.on_sqlite";

/// The health service's name for the audit log: not serving while what was recorded is not taken in and signed.
const AUDIT: &str = "domicile.audit";
/// What was recorded is in the log's tree within 250 ms when all is well.
const TAKEN_IN: Duration = Duration::from_secs(60);
/// The log is signed at least every ten minutes.
const SIGNED: Duration = Duration::from_secs(15 * 60);

/// The health service's name for the listener's certificates: not serving while the files do not fit.
const CERTIFICATES: &str = "domicile.certificates";

/// A region's services, put together and not yet serving.
struct Services {
    identity: domicile_identity::Identity,
    records: Records,
    transfers: Transfers<SqlTransfers>,
    audit: Arc<domicile_audit::App>,
    sequencer: Sequencer,
}

/// Serves a region until `shutdown` is cancelled.
pub(crate) async fn serve(
    foundation: Foundation,
    net: Arc<dyn Net>,
    shutdown: CancellationToken,
) -> Result<()> {
    let hold = foundation.settings.transfer.key_hold;
    let replica = Replica::join(foundation.store.clone(), Arc::clone(&foundation.keyring), hold).await?;
    let services = services(&foundation, &net, &replica).await?;
    services.sequencer.goes_on().await?;
    let settings = &foundation.settings;
    let people = listen(&net, settings.people.listen, "people.listen").await?;
    let peers = listen(&net, settings.peers.listen, "peers.listen").await?;
    let people_tls = ServerTls::people(&settings.people)?;
    let peers_tls = ServerTls::peers(&settings.peers)?;
    let (for_people, for_peers) = servers(&foundation, &services).await?;
    let certificates = [people_tls.clone(), peers_tls.clone()];

    // A replica is heard of until it holds no key any more.
    let heard = CancellationToken::new();
    let hearing = {
        let (replica, over) = (replica.clone(), heard.clone());
        tokio::spawn(async move { replica.run(over).await })
    };

    // The sequencer outlives the servers: what they recorded is signed before the end.
    let sequencing = CancellationToken::new();
    let sequencer = {
        let (sequencer, over) = (services.sequencer.clone(), sequencing.clone());
        tokio::spawn(async move { sequencer.run(over.cancelled_owned()).await })
    };
    record(&foundation, EventType::SystemStart).await?;
    let tasks = TaskTracker::new();
    let observer = observe::Observer::new(settings, foundation.store.clone());
    tasks.spawn(observer.run(shutdown.clone()));
    tasks.spawn(watch_store(
        foundation.store.clone(),
        [for_people.health(), for_peers.health()],
        shutdown.clone(),
    ));
    tasks.spawn(watch_certificates(
        certificates,
        [for_people.health(), for_peers.health()],
        shutdown.clone(),
    ));
    tasks.spawn(for_people.serve(people, people_tls, shutdown.clone()));
    tasks.spawn(for_peers.serve(peers, peers_tls, shutdown.clone()));
    let clock = services.transfers.clone();
    let clock_ends = shutdown.clone();
    tasks.spawn(async move {
        tokio::select! {
            () = clock.run_clock() => {}
            () = clock_ends.cancelled() => {}
        }
    });
    let (transfers, retires) = (services.transfers.clone(), shutdown.clone());
    tasks.spawn(async move {
        retires.cancelled().await;
        transfers.retire().await;
    });
    tracing::info!(region = %settings.region, people = %settings.people.listen, peers = %settings.peers.listen, "the region serves");
    tasks.close();
    tasks.wait().await;
    record(&foundation, EventType::SystemStop).await?;
    sequencing.cancel();
    if sequencer.await.is_err() {
        tracing::error!("the sequencer ended early");
    }
    heard.cancel();
    if hearing.await.is_err() {
        tracing::error!("the replica ended early");
    }
    replica.leave().await?;
    drop(replica);
    drop(services);
    foundation.close().await
}

async fn services(foundation: &Foundation, net: &Arc<dyn Net>, replica: &Replica) -> Result<Services> {
    let Foundation { settings, policies, ctx, signing, keyring, store, .. } = foundation;
    let identity = foundation.identity()?;
    let objects = foundation.objects().await?;
    let sequencer = Sequencer::new(domicile_audit::Parts {
        store: store.clone(),
        signer: Arc::clone(&signing.checkpoint) as _,
        log: signing.public.checkpoint.clone(),
        head: head(foundation, &objects),
        policy_version: POLICY_VERSION,
        pace: Pace::default(),
    })?;
    let log = LogIdentity {
        region: settings.region.clone(),
        statement: signing.public.statement.clone(),
        peers: foundation.peers.iter().map(|(region, keys)| (region.clone(), keys.clone())).collect(),
        quorum: 0,
    };
    let pseudonyms = Arc::clone(&foundation.pseudonyms);
    let audit = domicile_audit::App::new(store.clone(), sequencer.clone(), pseudonyms, log)?;
    let transfers = Transfers::new(domicile_transfer::Parts {
        region: settings.region.clone(),
        options: Options::new(settings.transfer.clone()),
        ctx: ctx.clone(),
        store: foundation.transfers(),
        keyring: Arc::clone(keyring),
        objects: Arc::clone(&objects),
        peers: Arc::new(PeerRegions::connect(settings, &foundation.peers, net)?),
        policies: Arc::clone(policies),
        operator: ports::operator(settings, &settings.region),
        closing: Arc::new(LogClosing(Closing::new(store.clone(), sequencer.clone()))),
        enrolments: Arc::new(Enrolled(identity.clone())),
        replicas: Arc::new(replica.clone()),
    });
    let records = Records::new(domicile_records::Parts {
        store: store.clone(),
        keyring: Arc::clone(keyring),
        objects,
        travel: Arc::new(Travel(transfers.clone())),
        settings: domicile_records::Settings::new(
            &settings.transfer,
            &settings.records,
            policies.get(&settings.region)?,
        ),
    });
    Ok(Services { identity, records, transfers, audit: Arc::new(audit), sequencer })
}

/// Where the last signed head is kept: on PostgreSQL, where a region may have replicas, in the object store
/// they share; a SQLite file has one process and a file beside the checkpoint key.
fn head(foundation: &Foundation, objects: &Arc<dyn ObjectStore>) -> Arc<dyn SignedHead> {
    match foundation.store.backend() {
        Backend::Postgres => Arc::new(SharedHead::new(Arc::clone(objects))),
        Backend::Sqlite => {
            let beside = foundation.settings.signing.checkpoint_key.with_extension("head");
            Arc::new(FileHead::new(beside))
        }
    }
}

async fn servers(foundation: &Foundation, services: &Services) -> Result<(Server, Server)> {
    let Foundation { settings, ctx, store, .. } = foundation;
    let limits = settings.limits.clone();
    let size = limits.message_bytes;
    let sink = Arc::new(StoreSink(store.clone()));
    let transfers = &services.transfers;
    let sessions = Arc::new(services.identity.clone());
    let people = TransferServiceServer::new(PeopleService(transfers.clone())).max_decoding_message_size(size);
    let audit = AuditServiceServer::new(AuditGrpc::new(Arc::clone(&services.audit)));
    let mut for_people = Server::people(ctx.clone(), limits.clone(), sessions, Arc::clone(&sink) as _)
        .add_service(services.identity.service().max_decoding_message_size(size))
        .await
        .add_service(services.records.server().max_decoding_message_size(size))
        .await
        .add_service(people)
        .await
        .add_service(audit.max_decoding_message_size(size))
        .await;
    if settings.environment == Environment::Development {
        for_people = for_people.reflection()?;
    }
    let control = TransferControlServiceServer::new(ControlService(transfers.clone()));
    let peer = TransferPeerServiceServer::new(PeerService(transfers.clone()));
    let for_peers = Server::peers(ctx.clone(), limits, Peers::of_region(settings), sink)
        .add_service(control.max_decoding_message_size(size))
        .await
        .add_service(peer.max_decoding_message_size(size))
        .await;
    Ok((for_people, for_peers))
}

async fn listen(
    net: &Arc<dyn Net>,
    address: std::net::SocketAddr,
    key: &'static str,
) -> Result<Box<dyn domicile_rpc::Listener>> {
    let listener = net.listen(address).await;
    Ok(listener.map_err(|cause| Error::new(Code::ConfigurationInvalid).at(key).because(cause))?)
}

/// Health follows the database: a region that cannot record anything does not serve.
async fn watch_store(store: domicile_store::Store, health: [Health; 2], shutdown: CancellationToken) {
    if store.backend() == Backend::Sqlite {
        tracing::warn!("this region runs on SQLite: for development, without roles or row-level security");
        for listener in &health {
            listener.set(ON_SQLITE, true).await;
        }
    }
    let began = store.ctx().now();
    loop {
        let serving = store.health().await.is_ok();
        let logs = serving && logs(&store, began).await;
        for listener in &health {
            listener.set("", serving).await;
            listener.set(AUDIT, logs).await;
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            () = shutdown.cancelled() => return,
        }
    }
}

/// Whether the audit log takes in what is recorded, and is signed. What this process found waiting, or unsigned,
/// when it began has its time from then on.
async fn logs(store: &domicile_store::Store, began: Timestamp) -> bool {
    let Ok(lag) = store.audit_lag().await else { return false };
    let now = store.ctx().now();
    let taken_in = lag.oldest.is_none_or(|oldest| now.since(oldest.max(began)) < TAKEN_IN);
    let signed = lag.signed.map_or(began, |(_, at)| at.max(began));
    taken_in && now.since(signed) < SIGNED
}

/// Takes changed certificates up also while nobody connects, and tells by health when files on disk do not
/// fit: then the last good ones are in use.
async fn watch_certificates(certificates: [ServerTls; 2], health: [Health; 2], shutdown: CancellationToken) {
    loop {
        for (tls, listener) in certificates.iter().zip(&health) {
            listener.set(CERTIFICATES, tls.up_to_date()).await;
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            () = shutdown.cancelled() => return,
        }
    }
}

/// Records what the region itself does.
async fn record(foundation: &Foundation, event: EventType) -> Result<()> {
    let request = RequestId::generate(&foundation.ctx);
    let scope = AuditScope::new(event.name(), Actor::system(), request);
    Ok(foundation.store.audit_now(&scope, AuditFacts::ok()).await?)
}
