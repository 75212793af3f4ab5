//! A deployment in one folder: prepared, started, kept running, stopped.

use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use domicile_cli::Client;
use domicile_cli::client::answer;
use domicile_cli::failure::{Failure, Result};
use domicile_cli::place::{ClientFile, Place};
use domicile_config::RegionSettings;
use domicile_identity::Person;
use domicile_proto::identity::v1::ActivateAccountRequest;
use domicile_rpc::client::ClientIdentity;
use domicile_rpc::{Channel, Endpoint, Pem, ServerIdentity, TcpNet};
use domicile_types::{Ctx, RegionId};
use tokio::time::{Instant, timeout};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use super::accounts::{Credential, Credentials, FirstAccounts};
use super::certificates::{Authority, TRUST_DOMAIN};
use super::child::Supervised;
use super::files;
use super::layout::Layout;
use super::policies::Texts;
use super::settings::{self, PublicKeys};
use super::state::State;
use crate::roles::{bootstrap, migrate};
use crate::signing::{self, SigningKeys};

/// How long a process may take to serve after its start.
const READY: Duration = Duration::from_secs(60);
/// How often a process may end during the start before it is given up.
const HOPELESS: u32 = 4;
/// How often it is asked.
const ASK: Duration = Duration::from_millis(50);

/// A deployment whose folder this process holds.
pub(crate) struct Deployment {
    layout: Layout,
    state: State,
    credentials: Credentials,
    coordinator: Option<Supervised>,
    regions: Vec<Supervised>,
    invitations: Vec<Invited>,
    _lock: File,
}

/// What a deployment should be; by default what its folder says, or all this release ships.
#[derive(Default)]
pub(crate) struct Wanted {
    /// Its regions: those it has, and those that join.
    pub(crate) regions: Option<Vec<RegionId>>,
    /// A folder of policies that stand in the place of those it has.
    pub(crate) policies: Option<PathBuf>,
    /// Numbers of transfers that differ from the defaults.
    pub(crate) transfer: toml::Table,
}

/// Somebody whose first password is still to be set.
struct Invited {
    region: RegionId,
    code: String,
    password: String,
}

impl Deployment {
    /// Takes a folder and makes in it all that is missing: ports, certificates, keys, settings,
    /// databases, first accounts. Nothing that is there is made again but what follows from the rest.
    pub(crate) async fn prepare(folder: &Path, wanted: Wanted, ctx: &Ctx) -> Result<Self> {
        files::folder(folder)?;
        let folder = folder.canonicalize().map_err(|cause| Failure::file(folder, &cause))?;
        let layout = Layout::new(folder);
        let lock = take(&layout)?;
        let texts = Texts::gather(&layout, wanted.policies.as_deref())?;
        let state = State::load(&layout, wanted.regions, &texts, ctx).await?;
        texts.write(&layout)?;
        certificates(&layout, &state, ctx)?;
        let keys = keys(&layout, &state, ctx).await?;
        settings::coordinator(&layout, &state)?;
        for region in state.regions.keys() {
            let written = settings::region(&layout, &state, region, &keys, &wanted.transfer);
            written.map_err(|failure| failure.of(region.as_str()))?;
        }
        let names: Vec<_> = state.regions.keys().cloned().collect();
        let mut credentials = Credentials::open(&layout, &names, ctx)?;
        let mut invitations = Vec::new();
        for region in &names {
            let invited = databases(&layout, region, &credentials, ctx).await;
            let invited = invited.map_err(|failure| failure.of(region.as_str()))?;
            if invited.is_empty() {
                credentials.known(&layout, region)?;
            }
            invitations.extend(invited);
        }
        settings::public_files(&layout, &state, keys)?;
        let (coordinator, regions) = (None, Vec::new());
        Ok(Self { layout, state, credentials, coordinator, regions, invitations, _lock: lock })
    }

    /// Starts every process and waits until each serves.
    pub(crate) async fn start(&mut self) -> Result<()> {
        for region in self.state.regions.keys() {
            self.regions.push(Supervised::start(region.as_str(), "region", self.layout.region(region))?);
        }
        self.coordinator = Some(Supervised::start("coordinator", "coordinator", self.layout.coordinator())?);
        let until = Instant::now() + READY;
        for region in self.state.regions.keys() {
            let client = Client::new(&self.place(region)?)?;
            let log = self.layout.region(region).log();
            self.ready(region.as_str(), &log, until, async || client.health(ASK * 20).await.is_ok()).await?;
        }
        let channel = self.coordinator_channel()?;
        let log = self.layout.coordinator().log();
        self.ready("coordinator", &log, until, async || serves(channel.clone()).await).await?;
        self.activate().await
    }

    /// Asks a process until it serves; gives up when it keeps ending.
    async fn ready(
        &self,
        name: &str,
        log: &Path,
        until: Instant,
        mut ask: impl AsyncFnMut() -> bool,
    ) -> Result<()> {
        while !ask().await {
            let mut processes = self.regions.iter().chain(&self.coordinator);
            let ends = processes.any(|process| process.name() == name && process.deaths() >= HOPELESS);
            if ends || Instant::now() >= until {
                let why = if ends {
                    "keeps ending".to_owned()
                } else {
                    format!("does not serve after {} s", READY.as_secs())
                };
                return Err(Failure::local(format!("{name} {why}"), format!("See {}.", log.display())));
            }
            tokio::time::sleep(ASK).await;
        }
        Ok(())
    }

    /// Sets the first passwords of the first accounts.
    async fn activate(&mut self) -> Result<()> {
        for Invited { region, code, password } in std::mem::take(&mut self.invitations) {
            let mut identity = Client::new(&self.place(&region)?)?.identity();
            answer(identity.activate_account(ActivateAccountRequest { code, password })).await?;
        }
        Ok(())
    }

    /// Ends every process: the coordinator first, so that nothing begins while the regions end.
    pub(crate) async fn stop(mut self) {
        if let Some(coordinator) = self.coordinator.take() {
            coordinator.stop().await;
        }
        let regions = std::mem::take(&mut self.regions);
        let stopping: Vec<_> = regions.into_iter().map(|region| tokio::spawn(region.stop())).collect();
        for region in stopping {
            region.await.ok();
        }
    }

    /// The regions.
    pub(crate) fn regions(&self) -> impl Iterator<Item = &RegionId> {
        self.state.regions.keys()
    }

    /// The folder and what lies in it.
    pub(crate) const fn layout(&self) -> &Layout {
        &self.layout
    }

    /// How people reach a region.
    pub(crate) fn place(&self, region: &RegionId) -> Result<Place> {
        let folder = self.layout.folder();
        ClientFile::read(folder)?.place(folder, region.as_str())
    }

    /// The first accounts of a region.
    pub(crate) fn accounts(&self, region: &RegionId) -> Result<&FirstAccounts> {
        let found = self.credentials.of(region);
        found.ok_or_else(|| {
            let file = self.layout.credentials();
            let what = format!("{} has no first accounts of region {region}", file.display());
            Failure::local(what, "Bring the file back: the region keeps no password that could be shown.")
        })
    }

    /// Regions whose first accounts have passwords that this folder does not know.
    pub(crate) fn unknown_passwords(&self) -> Vec<&RegionId> {
        self.state.regions.keys().filter(|region| self.credentials.of(region).is_none()).collect()
    }

    fn coordinator_channel(&self) -> Result<Channel> {
        let home = self.layout.coordinator();
        let endpoint = Endpoint {
            uri: settings::endpoint(self.state.coordinator),
            server: ServerIdentity::Spiffe(settings::coordinator_id()?),
            authority: Pem::file(self.layout.authority()),
            identity: Some(ClientIdentity {
                certificate: Pem::file(home.join("operator.pem")),
                key: Pem::file(home.join("operator.key")),
            }),
        };
        Ok(domicile_rpc::connect(endpoint, Arc::new(TcpNet))?)
    }
}

/// Takes the folder for this process alone; the lock goes with the process.
fn take(layout: &Layout) -> Result<File> {
    let path = layout.lock();
    let opened = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
    let lock = opened.map_err(|cause| Failure::file(&path, &cause))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => {
            let what = format!("another `domicile up` runs on {}", layout.folder().display());
            Err(Failure::local(what, "Use the one that runs, or name another folder with --data."))
        }
        Err(TryLockError::Error(cause)) => Err(Failure::file(&path, &cause)),
    }
}

fn certificates(layout: &Layout, state: &State, ctx: &Ctx) -> Result<()> {
    let authority = Authority::open(layout, ctx.now())?;
    for region in state.regions.keys() {
        let home = layout.region(region);
        for folder in [home.folder(), &home.join("objects"), &home.join("backups")] {
            files::folder(folder)?;
        }
        authority.people()?.write(home.folder(), "people")?;
        authority.peer(&settings::region_id(region)?)?.write(home.folder(), "peer")?;
    }
    let home = layout.coordinator();
    files::folder(home.folder())?;
    authority.peer(&settings::coordinator_id()?)?.write(home.folder(), "peer")?;
    authority.peer(&settings::operator_id()?)?.write(home.folder(), "operator")
}

/// Makes or opens every region's signing keys and gives their public halves.
async fn keys(layout: &Layout, state: &State, ctx: &Ctx) -> Result<PublicKeys> {
    let mut public = PublicKeys::new();
    for region in state.regions.keys() {
        let opened = opened(layout, region, ctx).await;
        public.insert(region.clone(), opened.map_err(|failure| failure.of(region.as_str()))?.public);
    }
    Ok(public)
}

async fn opened(layout: &Layout, region: &RegionId, ctx: &Ctx) -> Result<SigningKeys> {
    let (service, files) = settings::keys(layout, region)?;
    let service = signing::key_service(&service, ctx).await?;
    SigningKeys::open(region, TRUST_DOMAIN, &files, service.as_ref(), ctx).await
}

/// Brings a region's databases to this release and makes its first accounts.
async fn databases(
    layout: &Layout,
    region: &RegionId,
    credentials: &Credentials,
    ctx: &Ctx,
) -> Result<Vec<Invited>> {
    let settings = RegionSettings::load(&layout.region(region).config())?;
    migrate::migrate(&settings).await?;
    let Some(accounts) = credentials.of(region) else { return Ok(Vec::new()) };
    let person = |credential: &Credential, name: &str| Person {
        email: credential.email.clone(),
        name: format!("{name} of this machine"),
    };
    let (operator, compliance) = (&accounts.operator, &accounts.compliance);
    let first = (person(operator, "Operator"), person(compliance, "Compliance"));
    let made = bootstrap::bootstrap(settings, first.0, first.1, ctx).await?;
    let invited = made.into_iter().zip([operator, compliance]).filter_map(|(made, credential)| {
        let (region, password) = (region.clone(), credential.password.clone());
        Some(Invited { region, code: made.invitation?, password })
    });
    Ok(invited.collect())
}

async fn serves(channel: Channel) -> bool {
    let request = HealthCheckRequest { service: String::new() };
    matches!(timeout(ASK * 20, HealthClient::new(channel).check(request)).await, Ok(Ok(_)))
}
