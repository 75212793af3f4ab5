//! A peer between two regions that has both their certificates: what it cuts, turns, swaps or splices is
//! found at the destination, nothing of it is kept, and the source stays whole.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use domicile_config::{Limits, RegionSettings};
use domicile_proto::transfer::v1::transfer_peer_service_client::TransferPeerServiceClient;
use domicile_proto::transfer::v1::transfer_peer_service_server::{
    TransferPeerService, TransferPeerServiceServer,
};
use domicile_proto::transfer::v1::{self as pb, TransferState, pull_object_response, pull_page_response};
use domicile_rpc::{ApplicationLog, Channel, Net as _, Peers, Server, ServerTls, TcpNet};
use domicile_store::Backend;
use domicile_tests::abuse::peer::as_region;
use domicile_tests::world::moves::{attach, fetch, reaches, write};
use domicile_tests::world::{Outcome, PATIENCE, Patient, Practice, Tuning, World, Written, pause};
use domicile_transfer::arriving::{page_digest, row_digest};
use domicile_types::Ctx;
use futures::{Stream, stream};
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::{Request, Response, Status};

use super::peers::nothing_staged;

/// What the one between does to what passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tamper {
    /// A bit of a row is turned.
    FlipRow,
    /// A bit of a row is turned and its digest made to fit.
    ForgeRow,
    /// The last row does not come.
    CutPage,
    /// Two rows change places.
    SwapRows,
    /// A page of another transfer comes instead.
    SplicePage,
    /// A bit of a chunk is turned, and the object's digest left.
    FlipChunk,
    /// Two chunks change places.
    SwapChunks,
    /// The object ends early.
    CutObject,
}

#[derive(Clone)]
struct Between {
    source: TransferPeerServiceClient<Channel>,
    tamper: Arc<Mutex<Option<Tamper>>>,
    done: Arc<AtomicUsize>,
    /// The first page that passed whole.
    kept: Arc<Mutex<Option<Vec<pb::PullPageResponse>>>>,
}

type Parts<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Between {
    fn tampered(&self) {
        self.done.fetch_add(1, Ordering::SeqCst);
    }

    fn page(&self, mut parts: Vec<pb::PullPageResponse>) -> Vec<pb::PullPageResponse> {
        let tamper = *lock(&self.tamper);
        if tamper == Some(Tamper::SplicePage) {
            if let Some(other) = lock(&self.kept).clone() {
                self.tampered();
                return other;
            }
        } else if tamper.is_none() && parts.len() > 2 {
            lock(&self.kept).get_or_insert_with(|| parts.clone());
        }
        let rows = parts.iter_mut().find_map(|part| match &mut part.part {
            Some(pull_page_response::Part::Rows(rows)) if rows.rows.len() > 1 => Some(&mut rows.rows),
            _ => None,
        });
        let (Some(rows), Some(tamper)) = (rows, tamper) else { return parts };
        match tamper {
            Tamper::FlipRow | Tamper::ForgeRow => {
                let mut sealed = rows[0].sealed_payload.to_vec();
                sealed[3] ^= 1;
                rows[0].sealed_payload = sealed.into();
            }
            Tamper::CutPage => drop(rows.pop()),
            Tamper::SwapRows => {
                let last = rows.len() - 1;
                rows.swap(0, last);
            }
            _ => return parts,
        }
        if tamper == Tamper::ForgeRow {
            made_to_fit(&mut parts);
        }
        self.tampered();
        parts
    }

    fn object(&self, mut parts: Vec<pb::PullObjectResponse>) -> Vec<pb::PullObjectResponse> {
        let tamper = *lock(&self.tamper);
        let chunks: Vec<usize> = (0..parts.len())
            .filter(|at| matches!(parts[*at].part, Some(pull_object_response::Part::Chunk(_))))
            .collect();
        let (Some(tamper), [first, second, ..]) = (tamper, chunks.as_slice()) else { return parts };
        match tamper {
            Tamper::FlipChunk => {
                if let Some(pull_object_response::Part::Chunk(chunk)) = &mut parts[*first].part {
                    let mut sealed = chunk.to_vec();
                    sealed[9] ^= 1;
                    *chunk = sealed.into();
                }
            }
            Tamper::SwapChunks => parts.swap(*first, *second),
            Tamper::CutObject => parts.truncate(*second),
            _ => return parts,
        }
        self.tampered();
        parts
    }
}

/// Makes every digest of a page fit that needs no key.
fn made_to_fit(parts: &mut [pb::PullPageResponse]) {
    let mut whole = Vec::new();
    for part in parts {
        match &mut part.part {
            Some(pull_page_response::Part::Rows(rows)) => {
                for row in &mut rows.rows {
                    row.digest = row_digest(&row.sealed_header, &row.sealed_payload).to_vec().into();
                }
                whole.extend(rows.rows.clone());
            }
            Some(pull_page_response::Part::End(end)) => {
                end.digest = page_digest(&whole, end.cursor, end.revision).to_vec().into();
            }
            _ => {}
        }
    }
}

async fn gathered<T>(mut answer: tonic::Streaming<T>) -> Result<Vec<T>, Status> {
    let mut parts = Vec::new();
    while let Some(part) = answer.message().await? {
        parts.push(part);
    }
    Ok(parts)
}

fn streamed<T: Send + 'static>(parts: Vec<T>) -> Response<Parts<T>> {
    Response::new(Box::pin(stream::iter(parts.into_iter().map(Ok))))
}

#[tonic::async_trait]
impl TransferPeerService for Between {
    async fn preflight(
        &self,
        request: Request<pb::PreflightRequest>,
    ) -> Result<Response<pb::PreflightResponse>, Status> {
        self.source.clone().preflight(request.into_inner()).await
    }

    type PullPageStream = Parts<pb::PullPageResponse>;

    async fn pull_page(
        &self,
        request: Request<pb::PullPageRequest>,
    ) -> Result<Response<Self::PullPageStream>, Status> {
        let parts = gathered(self.source.clone().pull_page(request.into_inner()).await?.into_inner()).await?;
        Ok(streamed(self.page(parts)))
    }

    type ListDigestsStream = Parts<pb::ListDigestsResponse>;

    async fn list_digests(
        &self,
        request: Request<pb::ListDigestsRequest>,
    ) -> Result<Response<Self::ListDigestsStream>, Status> {
        let answer = self.source.clone().list_digests(request.into_inner()).await?;
        Ok(streamed(gathered(answer.into_inner()).await?))
    }

    type PullObjectStream = Parts<pb::PullObjectResponse>;

    async fn pull_object(
        &self,
        request: Request<pb::PullObjectRequest>,
    ) -> Result<Response<Self::PullObjectStream>, Status> {
        let answer = self.source.clone().pull_object(request.into_inner()).await?;
        Ok(streamed(self.object(gathered(answer.into_inner()).await?)))
    }

    async fn get_key_release(
        &self,
        request: Request<pb::GetKeyReleaseRequest>,
    ) -> Result<Response<pb::GetKeyReleaseResponse>, Status> {
        self.source.clone().get_key_release(request.into_inner()).await
    }
}

/// Two regions of which the destination reaches the source through the one between.
struct Scene {
    world: World,
    practice: Practice,
    between: Between,
    _running: DropGuard,
}

impl Scene {
    async fn new() -> Outcome<Self> {
        let tuning = Tuning { transfer: "freeze_lag_rows = 0".to_owned(), faults: BTreeMap::new() };
        let mut world = World::start(Backend::Sqlite, &["eu", "ca"], &tuning).await?;
        let between = Between {
            source: TransferPeerServiceClient::new(as_region(&world, "ca", "eu")?)
                .max_decoding_message_size(64 * 1024 * 1024),
            tamper: Arc::default(),
            done: Arc::default(),
            kept: Arc::default(),
        };
        let settings = RegionSettings::load(&world.home("eu").join("config.toml"))?;
        let listener = TcpNet.listen("127.0.0.1:0".parse()?).await?;
        let address = listener.local_address()?;
        let server = Server::peers(
            Ctx::system(),
            Limits::default(),
            Peers::of_region(&settings),
            Arc::new(ApplicationLog),
        )
        .add_service(TransferPeerServiceServer::new(between.clone()))
        .await;
        let shutdown = CancellationToken::new();
        tokio::spawn(server.serve(listener, ServerTls::peers(&settings.peers)?, shutdown.clone()));
        world.stop("ca").await?;
        let file = world.home("ca").join("config.toml");
        let mut config: toml::Table = std::fs::read_to_string(&file)?.parse()?;
        let peers = config.get_mut("peer").and_then(toml::Value::as_array_mut).ok_or("no peers")?;
        for peer in peers.iter_mut().filter_map(toml::Value::as_table_mut) {
            peer.insert("endpoint".to_owned(), format!("https://{address}").into());
        }
        std::fs::write(&file, toml::to_string(&config)?)?;
        world.restart("ca").await?;
        let practice = world.practice("damm", "eu", &["ca"]).await?;
        Ok(Self { world, practice, between, _running: shutdown.drop_guard() })
    }

    async fn patient(&self, name: &str) -> Outcome<(Patient, Written, String)> {
        let patient = self.world.patient("eu", &self.practice, name).await?;
        let mut written = Written::default();
        written.fill(&self.practice.home, &patient.subject, 8, name).await?;
        let item = attach(&self.practice.home, &patient.subject, &vec![5; 3_000_000]).await?;
        Ok((patient, written, item))
    }

    /// Consents while the one between tampers, and waits until it has done so a few times.
    async fn tampered(&self, patient: &Patient, tamper: Tamper) -> Outcome<domicile_tests::world::Moving> {
        let moving = patient.ask("ca").await?;
        *lock(&self.between.tamper) = Some(tamper);
        let before = self.between.done.load(Ordering::SeqCst);
        patient.consent(&moving).await?;
        let until = Instant::now() + PATIENCE;
        while self.between.done.load(Ordering::SeqCst) < before + 2 {
            if Instant::now() > until {
                return Err(format!("{tamper:?}: nothing passes").into());
            }
            pause().await;
        }
        Ok(moving)
    }

    /// The source is whole and the record is nowhere else.
    async fn intact(&self, patient: &Patient, written: &Written) -> Outcome<()> {
        written.read_back(&self.practice.home, &patient.subject).await?;
        assert!(self.world.sign_in("ca", &patient.login).await.is_err(), "nobody has arrived");
        Ok(())
    }
}

/// While somebody tampers nothing moves on; taken back, nothing of it stays.
#[tokio::test]
async fn what_was_tampered_with_is_not_kept() {
    not_kept().await.unwrap();
}

async fn not_kept() -> Outcome<()> {
    let scene = Scene::new().await?;
    // A page of somebody else's, for the one that splices.
    let (other, _, _) = scene.patient("other").await?;
    let first = other.ask("ca").await?;
    other.consent(&first).await?;
    arrived(&scene, &other, &first.id).await?;
    let all = [
        Tamper::FlipRow,
        Tamper::CutPage,
        Tamper::SwapRows,
        Tamper::SplicePage,
        Tamper::FlipChunk,
        Tamper::SwapChunks,
        Tamper::CutObject,
    ];
    for (number, tamper) in all.into_iter().enumerate() {
        let (patient, written, _) = scene.patient(&format!("p{number}")).await?;
        let moving = scene.tampered(&patient, tamper).await?;
        scene.intact(&patient, &written).await?;
        write(&scene.practice.home, &patient.subject, "goes on").await?;
        patient.withdraw(&moving).await.map_err(|error| format!("{tamper:?}: {error}"))?;
        patient.reaches(&moving.id, TransferState::Aborted).await?;
        *lock(&scene.between.tamper) = None;
        scene.intact(&patient, &written).await?;
        scene.world.verify(["eu", "ca"], &moving.id).await?;
    }
    let log = scene.world.log("ca")?;
    assert!(log.contains("DOM-TRANSFER-015"), "the log says what was found");
    staged_objects(&scene).await
}

/// Once nobody tampers any more the transfer goes on by itself and arrives whole; also where a forger had made
/// the digests fit, which the comparison of all rows finds.
#[tokio::test]
async fn what_was_tampered_with_comes_again() {
    comes_again().await.unwrap();
}

async fn comes_again() -> Outcome<()> {
    let scene = Scene::new().await?;
    for (number, tamper) in [Tamper::CutObject, Tamper::SwapRows, Tamper::ForgeRow].into_iter().enumerate() {
        let (patient, written, item) = scene.patient(&format!("q{number}")).await?;
        let moving = if tamper == Tamper::ForgeRow {
            forged(&scene, &patient).await?
        } else {
            scene.tampered(&patient, tamper).await?
        };
        scene.intact(&patient, &written).await?;
        *lock(&scene.between.tamper) = None;
        arrived(&scene, &patient, &moving.id).await?;
        let there = scene.world.sign_in("ca", &scene.practice.login).await?;
        written.read_back(&there, &patient.subject).await?;
        assert!(fetch(&there, &patient.subject, &item).await? == vec![5; 3_000_000], "{tamper:?}");
        scene.world.verify(["eu", "ca"], &moving.id).await?;
    }
    Ok(())
}

/// A forged row passes once: it is staged, and found before the release.
async fn forged(scene: &Scene, patient: &Patient) -> Outcome<domicile_tests::world::Moving> {
    let moving = patient.ask("ca").await?;
    *lock(&scene.between.tamper) = Some(Tamper::ForgeRow);
    let before = scene.between.done.load(Ordering::SeqCst);
    patient.consent(&moving).await?;
    let until = Instant::now() + PATIENCE;
    while scene.between.done.load(Ordering::SeqCst) == before && Instant::now() < until {
        pause().await;
    }
    Ok(moving)
}

async fn arrived(scene: &Scene, patient: &Patient, transfer: &str) -> Outcome<()> {
    let until = Instant::now() + PATIENCE;
    let client = loop {
        match scene.world.sign_in("ca", &patient.login).await {
            Ok(client) => break client,
            Err(error) if Instant::now() > until => return Err(error),
            Err(_) => pause().await,
        }
    };
    reaches(&client, transfer, TransferState::Closed).await?;
    Ok(())
}

/// Of the objects that came only those of the record that arrived are there.
async fn staged_objects(scene: &Scene) -> Outcome<()> {
    let folder = scene.world.home("ca").join("objects");
    let until = Instant::now() + PATIENCE;
    loop {
        let left = super::peers::files(&folder)?.len();
        if left == 1 {
            return Ok(());
        }
        if Instant::now() > until {
            return nothing_staged(&scene.world).await;
        }
        pause().await;
    }
}
