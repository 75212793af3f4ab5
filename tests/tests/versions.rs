//! A release goes on from what an earlier one left, in every state of a transfer; and a destination that lacks
//! a version of the protocol, a kind or a version of one refuses at preflight.
#![cfg(test)]

use std::collections::BTreeSet;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use domicile_config::{Limits, RegionSettings};
use domicile_evidence::entry::{Entry, Outcome as Recorded};
use domicile_proto::transfer::v1::transfer_control_service_client::TransferControlServiceClient;
use domicile_proto::transfer::v1::transfer_peer_service_client::TransferPeerServiceClient;
use domicile_proto::transfer::v1::transfer_peer_service_server::{
    TransferPeerService, TransferPeerServiceServer,
};
use domicile_proto::transfer::v1::{self as pb, TransferState};
use domicile_rpc::{ApplicationLog, Channel, Net as _, Peers, Server, ServerTls, TcpNet};
use domicile_store::Backend;
use domicile_tests::abuse::peer::{as_coordinator, as_region, log_from, log_size};
use domicile_tests::kill::arena::REGIONS;
use domicile_tests::kill::database::Database;
use domicile_tests::kill::recorded::{self, MOMENTS, Moment};
use domicile_tests::world::moves::{reaches, write};
use domicile_tests::world::{Outcome, PATIENCE, Patient, Practice, Tuning, World, pause};
use domicile_transfer_protocol::{State, Versions};
use domicile_types::{Code, Ctx, KINDS};
use futures::StreamExt as _;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::{Request, Response, Status};

/// Deployments opened side by side: each waits most of the time.
const AT_ONCE: usize = 4;
/// What those of one release may take in the repository, in bytes.
const LARGEST: u64 = 2 * 1024 * 1024;

/// Every state, as it stood when it was recorded, and that it goes on from there to its end.
#[tokio::test(flavor = "multi_thread")]
async fn this_release_goes_on_from_every_recorded_state() {
    for release in recorded::releases().unwrap() {
        let opened = MOMENTS.iter().map(async |moment| (moment.name, goes_on(&release, moment).await));
        let done: Vec<_> = futures::stream::iter(opened).buffer_unordered(AT_ONCE).collect().await;
        let failed = done.iter().filter_map(|(name, done)| Some((name, done.as_ref().err()?.to_string())));
        assert_eq!(failed.collect::<Vec<_>>(), Vec::new(), "{}", release.display());
        let states = done.iter().filter_map(|(_, done)| done.as_ref().ok());
        let (here, there): (BTreeSet<_>, BTreeSet<_>) = states.cloned().unzip();
        for state in State::ALL.iter().map(|state| state.as_str()) {
            assert!(here.contains(state), "no source was recorded in {state}");
            assert!(there.contains(state), "no destination was recorded in {state}");
        }
    }
}

async fn goes_on(release: &Path, moment: &Moment) -> Outcome<(String, String)> {
    let opened = recorded::Recorded::open(release, moment).await?;
    let states = opened.states().await?;
    if (states.0.as_str(), states.1.as_str()) != moment.states {
        return Err(format!("recorded in {states:?}").into());
    }
    opened.goes_on().await?;
    Ok(states)
}

#[test]
fn recorded_deployments_are_all_there_and_small() {
    let releases = recorded::releases().unwrap();
    assert!(!releases.is_empty(), "no release is recorded");
    for release in releases {
        let names: BTreeSet<_> =
            std::fs::read_dir(&release).unwrap().map(|file| file.unwrap().path()).collect();
        let expected: BTreeSet<_> = MOMENTS.iter().map(|moment| moment.file(&release)).collect();
        assert_eq!(names, expected);
        let bytes: u64 = names.iter().map(|file| file.metadata().unwrap().len()).sum();
        assert!(bytes < LARGEST, "{bytes} bytes");
    }
}

struct Scene {
    world: World,
    practice: Practice,
    patient: Patient,
}

impl Scene {
    async fn new() -> Outcome<Self> {
        let world = World::start(Backend::Sqlite, &REGIONS, &Tuning::default()).await?;
        let [from, to] = REGIONS;
        let practice = world.practice("wend", from, &[to]).await?;
        let patient = world.patient(from, &practice, "wim").await?;
        write(&practice.home, &patient.subject, "one").await?;
        Ok(Self { world, practice, patient })
    }

    /// Waits until a transfer that was asked for says that this blocks it.
    async fn blocked(&self, transfer: &str, by: &str) -> Outcome<()> {
        let until = Instant::now() + PATIENCE;
        loop {
            let request = pb::GetTransferRequest { transfer_id: transfer.to_owned() };
            let found = self.patient.client.transfers().get_transfer(request).await?.into_inner();
            let found = found.transfer.unwrap_or_default();
            if found.blockers == [by] {
                assert!(found.state() == TransferState::Requested);
                return Ok(());
            }
            if Instant::now() > until {
                return Err(format!("{by}: blocked by {:?}", found.blockers).into());
            }
            pause().await;
        }
    }

    /// Waits until the destination's log holds a preflight of this transfer that was refused by this code.
    async fn recorded(&self, from: u64, transfer: &str) -> Outcome<()> {
        let until = Instant::now() + PATIENCE;
        loop {
            let entries = log_from(&self.world, REGIONS[1], from).await?;
            if entries.iter().any(|entry| is_refusal(entry, transfer)) {
                return Ok(());
            }
            if Instant::now() > until {
                return Err("no entry tells of the refusal".into());
            }
            pause().await;
        }
    }

    async fn moves(&self, transfer: &str) -> Outcome<()> {
        let offered = self.patient.offered(transfer).await?;
        self.patient.consent(&offered).await?;
        let there = loop {
            if let Ok(client) = self.world.sign_in(REGIONS[1], &self.patient.login).await {
                break client;
            }
            pause().await;
        };
        reaches(&there, transfer, TransferState::Closed).await?;
        self.world.verify(REGIONS, transfer).await?;
        Ok(())
    }
}

fn is_refusal(entry: &Entry, transfer: &str) -> bool {
    entry.event.name() == "transfer.preflight"
        && entry.outcome == Recorded::of(Err(Code::DestinationRefuses))
        && entry.transfer.is_some_and(|id| id.to_string() == transfer)
        && entry.role == domicile_types::Role::Region
}

/// Asks the destination as the source's process would, with other versions and kinds than its own.
async fn a_destination_refuses_what_it_lacks() -> Outcome<()> {
    let scene = Scene::new().await?;
    let [from, to] = REGIONS;
    let asked = scene.patient.ask(to).await?;
    let request = pb::GetStatementsRequest { transfer_id: asked.id.clone(), after: 0 };
    let mut control = TransferControlServiceClient::new(as_coordinator(&scene.world, from)?);
    let requested = control.get_statements(request).await?.into_inner().statements.into_iter().next();
    let peer = TransferPeerServiceClient::new(as_region(&scene.world, from, to)?);
    let answer = async |protocol_version, kind: &str, schema| {
        let request = pb::PreflightRequest {
            transfer_id: asked.id.clone(),
            attempt: 1,
            requested: requested.clone(),
            protocol_version,
            kinds: vec![pb::KindVersion { kind: kind.to_owned(), schema }],
            rows_rounded: 1,
            bytes_rounded: 1,
            practice_ids: vec![scene.practice.id.clone()],
        };
        let mark = log_size(&scene.world, to).await?;
        let answer = peer.clone().preflight(request).await?.into_inner();
        let entries = log_from(&scene.world, to, mark).await?;
        let refused = entries.iter().any(|entry| is_refusal(entry, &asked.id));
        assert_eq!(
            refused,
            !answer.blockers.is_empty(),
            "{kind}: the log tells of refusals, and only of them"
        );
        assert_eq!(answer.preflighted.is_some(), answer.blockers.is_empty());
        // What it speaks and understands, whatever it was asked.
        assert_eq!(answer.protocol_version, Versions::here().protocol);
        assert_eq!(answer.kinds.len(), KINDS.len());
        Outcome::Ok(answer.blockers)
    };
    let known = Versions::here().protocol;
    let refused = |place: &str| vec![format!("DOM-TRANSFER-021 ({place})")];
    assert_eq!(answer(known, "note", 1).await?, Vec::<String>::new(), "what it knows");
    let next = known + 1;
    let place = format!("protocol version {known}, not {next}");
    assert_eq!(answer(next, "note", 1).await?, refused(&place), "the next release's protocol");
    let place = format!("protocol version {known}, not 0");
    assert_eq!(answer(0, "note", 1).await?, refused(&place), "none at all");
    assert_eq!(answer(known, "hologram", 1).await?, refused("no kind hologram"));
    assert_eq!(answer(known, "note", 4_000).await?, refused("kind note up to version 1, not 4000"));
    assert_eq!(answer(known, "<a href>\r\n", 1).await?, refused("no such kind"), "is not repeated");
    Ok(())
}

#[tokio::test]
async fn a_destination_that_lacks_a_version_or_a_kind_refuses_at_preflight() {
    a_destination_refuses_what_it_lacks().await.unwrap();
}

/// Makes the items of one kind items of another, which nothing in the product does: a trigger forbids it.
async fn rename(database: &Database, from: &str, to: &str) -> Outcome<()> {
    let guards = "type = 'trigger' AND tbl_name = 'item' AND sql LIKE '%item cannot be changed%'";
    let names = database.ask(&format!("SELECT name FROM sqlite_master WHERE {guards}")).await?;
    let [name] = names.as_slice() else { return Err("no single trigger guards items".into()) };
    let guard = database.ask(&format!("SELECT sql FROM sqlite_master WHERE {guards}")).await?.join("\n");
    database.ask(&format!("DROP TRIGGER {name}")).await?;
    database.ask(&format!("UPDATE item SET kind = '{to}' WHERE kind = '{from}'")).await?;
    database.ask(&guard).await?;
    Ok(())
}

/// A record with an item of a later release does not move until the destination understands it.
async fn a_kind_of_a_later_release() -> Outcome<()> {
    let scene = Scene::new().await?;
    let home = scene.world.home(REGIONS[0]);
    let database = Database::Sqlite { data: home.join("data.db"), keys: home.join("keys.db") };
    let mark = log_size(&scene.world, REGIONS[1]).await?;
    rename(&database, "note", "hologram").await?;
    let asked = scene.patient.request(REGIONS[1]).await?;
    scene.blocked(&asked, "DOM-TRANSFER-021 (no kind hologram)").await?;
    scene.recorded(mark, &asked).await?;
    rename(&database, "hologram", "note").await?;
    scene.moves(&asked).await
}

#[tokio::test]
async fn a_record_with_a_kind_that_the_destination_lacks_waits_at_home() {
    a_kind_of_a_later_release().await.unwrap();
}

/// What is said on the way to a destination, and by it, is as of another release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Release {
    /// The source speaks a later protocol than the destination.
    SourceLater,
    /// The destination takes everything, and understands no note.
    DestinationOlder,
    /// As it is.
    Same,
}

/// Stands before the destination and makes it look like one of another release.
#[derive(Clone)]
struct Between {
    destination: TransferPeerServiceClient<Channel>,
    release: Arc<Mutex<Release>>,
}

type Parts<T> = Pin<Box<dyn futures::Stream<Item = Result<T, Status>> + Send>>;

fn nothing<T>() -> Result<T, Status> {
    Err(Status::unimplemented("a destination is asked for nothing but its preflight"))
}

#[tonic::async_trait]
impl TransferPeerService for Between {
    async fn preflight(
        &self,
        request: Request<pb::PreflightRequest>,
    ) -> Result<Response<pb::PreflightResponse>, Status> {
        let release = *self.release.lock().unwrap_or_else(PoisonError::into_inner);
        let mut asked = request.into_inner();
        if release == Release::SourceLater {
            asked.protocol_version += 1;
        }
        let mut answer = self.destination.clone().preflight(asked).await?.into_inner();
        if release == Release::DestinationOlder {
            answer.kinds.retain(|known| known.kind != "note");
        }
        Ok(Response::new(answer))
    }

    type PullPageStream = Parts<pb::PullPageResponse>;

    async fn pull_page(
        &self,
        _: Request<pb::PullPageRequest>,
    ) -> Result<Response<Self::PullPageStream>, Status> {
        nothing()
    }

    type ListDigestsStream = Parts<pb::ListDigestsResponse>;

    async fn list_digests(
        &self,
        _: Request<pb::ListDigestsRequest>,
    ) -> Result<Response<Self::ListDigestsStream>, Status> {
        nothing()
    }

    type PullObjectStream = Parts<pb::PullObjectResponse>;

    async fn pull_object(
        &self,
        _: Request<pb::PullObjectRequest>,
    ) -> Result<Response<Self::PullObjectStream>, Status> {
        nothing()
    }

    async fn get_key_release(
        &self,
        _: Request<pb::GetKeyReleaseRequest>,
    ) -> Result<Response<pb::GetKeyReleaseResponse>, Status> {
        nothing()
    }
}

/// Puts somebody between the source and the destination; the source is started anew.
async fn between(world: &mut World) -> Outcome<(Between, DropGuard)> {
    let [from, to] = REGIONS;
    let between = Between {
        destination: TransferPeerServiceClient::new(as_region(world, from, to)?),
        release: Arc::new(Mutex::new(Release::SourceLater)),
    };
    let settings = RegionSettings::load(&world.home(to).join("config.toml"))?;
    let listener = TcpNet.listen("127.0.0.1:0".parse()?).await?;
    let address = listener.local_address()?;
    let sink = Arc::new(ApplicationLog);
    let server = Server::peers(Ctx::system(), Limits::default(), Peers::of_region(&settings), sink)
        .add_service(TransferPeerServiceServer::new(between.clone()))
        .await;
    let shutdown = CancellationToken::new();
    tokio::spawn(server.serve(listener, ServerTls::peers(&settings.peers)?, shutdown.clone()));
    world.stop(from).await?;
    let file = world.home(from).join("config.toml");
    let mut config: toml::Table = std::fs::read_to_string(&file)?.parse()?;
    let peers = config.get_mut("peer").and_then(toml::Value::as_array_mut).ok_or("no peers")?;
    for peer in peers.iter_mut().filter_map(toml::Value::as_table_mut) {
        peer.insert("endpoint".to_owned(), format!("https://{address}").into());
    }
    std::fs::write(&file, toml::to_string(&config)?)?;
    world.restart(from).await?;
    Ok((between, shutdown.drop_guard()))
}

/// The source asks as one of a later release would, then a destination answers that is of an older one; the
/// client sees why there is no offer, and once the destination is upgraded the same transfer goes on.
async fn another_release() -> Outcome<()> {
    let mut scene = Scene::new().await?;
    let (between, _running) = between(&mut scene.world).await?;
    let is = |release| *between.release.lock().unwrap_or_else(PoisonError::into_inner) = release;
    let mark = log_size(&scene.world, REGIONS[1]).await?;
    let asked = scene.patient.request(REGIONS[1]).await?;
    let (here, next) = (Versions::here().protocol, Versions::here().protocol + 1);
    scene.blocked(&asked, &format!("DOM-TRANSFER-021 (protocol version {here}, not {next})")).await?;
    scene.recorded(mark, &asked).await?;
    is(Release::DestinationOlder);
    scene.blocked(&asked, "DOM-TRANSFER-021 (no kind note)").await?;
    is(Release::Same);
    scene.moves(&asked).await
}

#[tokio::test]
async fn regions_of_other_releases_do_not_make_an_offer() {
    another_release().await.unwrap();
}
