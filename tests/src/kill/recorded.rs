//! Deployments as one release left them, a transfer in each state: what the next release must go on from.
//! `just record-fixtures` makes them; they lie in `tests/data/recorded`. Every key in them was made for them
//! and opens nothing else, every name and text is made up.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Path, PathBuf};

use domicile_proto::transfer::v1::{PauseTransferRequest, ResumeTransferRequest};
use domicile_store::Backend;
use domicile_types::Ctx;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use serde_json::{Value, json};

use super::arena::{Arena, REGIONS};
use super::cell::{rest, settled};
use super::database::Database;
use super::invariants::{Before, End};
use super::journey;
use super::points::Role;
use super::steering::Steering;
use crate::world::{Moving, Outcome, PATIENCE, Patient, Tuning, World, Written};

/// A deployment to record: where everybody is killed, and in which states that leaves the transfer.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// What it is called.
    pub name: &'static str,
    /// In which region the transfer is cut off, and at which point; nowhere where it waits or rests.
    pub at: Option<(Role, &'static str)>,
    /// The source's state and the destination's; the latter empty where that one knows of nothing yet.
    pub states: (&'static str, &'static str),
    /// How the transfer ends once it goes on.
    pub end: End,
}

const fn cut(
    name: &'static str,
    role: Role,
    point: &'static str,
    states: (&'static str, &'static str),
) -> Moment {
    Moment { name, at: Some((role, point)), states, end: End::Closed }
}

const fn aborted(name: &'static str, role: Role, point: &'static str, there: &'static str) -> Moment {
    Moment { name, at: Some((role, point)), states: ("aborting", there), end: End::Aborted }
}

const fn at_rest(name: &'static str, both: &'static str, end: End) -> Moment {
    Moment { name, at: None, states: (both, both), end }
}

use Role::{Destination, Source};

/// Every state of the source and of the destination, and some things that lie between two of them.
pub const MOMENTS: &[Moment] = &[
    cut("requested", Source, "transfer_request.after", ("requested", "")),
    cut("invited", Destination, "transfer_invite.after", ("requested", "requested")),
    at_rest("preflighted", "preflighted", End::Closed),
    cut("consented", Source, "transfer_consent.after", ("consented", "preflighted")),
    cut("consent-known", Destination, "receive_consented.after", ("consented", "consented")),
    cut("prepared", Destination, "transfer_prepare.after", ("consented", "copying")),
    cut("copying", Source, "transfer_open_copy.after", ("copying", "copying")),
    cut("pulled", Destination, "transfer_page.after", ("copying", "copying")),
    at_rest("paused", "copying", End::Closed),
    cut("frozen", Source, "transfer_freeze.after", ("frozen", "copying")),
    cut("freeze-known", Destination, "receive_frozen.after", ("frozen", "frozen")),
    cut("answered", Destination, "transfer_stage.after", ("frozen", "staged")),
    cut("staged", Source, "receive_staged.after", ("staged", "staged")),
    cut("released", Source, "transfer_release.after", ("released", "staged")),
    cut("release-known", Destination, "receive_released.after", ("released", "released")),
    cut("adopted", Destination, "transfer_adopt.after", ("released", "adopted")),
    cut("adoption-known", Source, "receive_adopted.after", ("adopted", "adopted")),
    cut("half-rekeyed", Destination, "transfer_rekey.after", ("adopted", "adopted")),
    cut("rekeyed", Destination, "transfer_rekeyed.after", ("adopted", "rekeyed")),
    cut("rekeying-known", Source, "receive_rekeyed.after", ("rekeyed", "rekeyed")),
    cut("half-erased", Source, "keys.subject_destroy.after", ("rekeyed", "rekeyed")),
    cut("shredded", Source, "transfer_shredded.after", ("shredded", "rekeyed")),
    cut("erasure-known", Destination, "receive_shredded.after", ("shredded", "shredded")),
    at_rest("closed", "closed", End::Closed),
    aborted("aborting", Source, "transfer_abort.after", "copying"),
    aborted("abort-known", Destination, "receive_aborting.after", "aborting"),
    aborted("purged", Destination, "transfer_purged.after", "aborted"),
    at_rest("aborted", "aborted", End::Aborted),
];

/// The consent of a recorded transfer must not run out before the release that reads it. The freeze does, as
/// it would.
const ENDLESS: &str = "offer_open = \"36500d\"\nconsent_valid = \"36500d\"\n";
/// Nobody waits long for the leases of those who were killed.
const LEASES: &str = "lease = \"2s\"\nwork_lease = \"2s\"\nkey_hold = \"2s\"\n";
/// Sealed bytes cannot be packed: a small attachment.
const ATTACHED: usize = 2_000;
/// What is kept of a region: its databases, objects and keys. Settings and certificates are made anew.
const KEPT: [&str; 7] =
    ["data.db", "keys.db", "kms.json", "statement.key", "checkpoint.key", "checkpoint.head", "objects"];
/// What is known of the record beside them.
const FACTS: &str = "facts.json";
/// Paths of somebody's machine begin with one of these folders.
const FOLDERS: [&str; 4] = ["tmp", "home", "root", "var"];
/// Why an operator holds the transfer.
const REASON: &str = "recorded";

impl Moment {
    /// The moment of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        MOMENTS.iter().find(|moment| moment.name == name).copied()
    }

    /// Its file in a folder.
    #[must_use]
    pub fn file(&self, folder: &Path) -> PathBuf {
        folder.join(format!("{}.tar.gz", self.name))
    }
}

/// Where this repository keeps what this release records.
#[must_use]
pub fn folder() -> PathBuf {
    all().join(env!("CARGO_PKG_VERSION"))
}

fn all() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data/recorded")
}

/// The folders of every release whose recordings this repository keeps.
///
/// # Errors
/// When they cannot be listed.
pub fn releases() -> Outcome<Vec<PathBuf>> {
    let entries = std::fs::read_dir(all())?.map(|entry| Ok(entry?.path()));
    entries.filter(|path: &Outcome<PathBuf>| path.as_ref().is_ok_and(|path| path.is_dir())).collect()
}

/// Records one deployment into a folder; the size of the file in bytes.
///
/// # Errors
/// When the transfer does not come to its moment, or something of this machine is in what would be kept.
pub async fn record(moment: &Moment, into: &Path) -> Outcome<u64> {
    let tuning = format!("{ENDLESS}{LEASES}");
    let mut arena = Arena::start_sized(Backend::Sqlite, &tuning, ATTACHED).await?;
    let before = Before::look(&arena).await?;
    let patient = arena.patient().await?;
    let held = match moment.at {
        Some((role, point)) => Some((steering(&arena, role)?, point)),
        None => None,
    };
    // Who is held does not answer: what the client asks for may never be answered.
    let standing = async {
        match &held {
            Some((steering, _)) => steering.reached(PATIENCE * 2).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        at = standing => drop(at.ok_or("the point is not reached")?),
        gone = goes(&arena, moment, &patient, held.as_ref()) => {
            gone?;
            if let Some((steering, _)) = &held {
                steering.reached(PATIENCE).await.ok_or("the point is not reached")?;
            }
        }
    }
    for name in ["coordinator", REGIONS[0], REGIONS[1]] {
        arena.world.kill(name).await?;
    }
    for region in REGIONS {
        // Into the files themselves, and nothing beside them.
        arena.database(region)?.ask("PRAGMA main.wal_checkpoint(TRUNCATE)").await?;
        arena.database(region)?.ask("PRAGMA domicile_keys.wal_checkpoint(TRUNCATE)").await?;
    }
    let databases = [arena.database(REGIONS[0])?.clone(), arena.database(REGIONS[1])?.clone()];
    let found = states(&databases).await?;
    if (found.0.as_str(), found.1.as_str()) != moment.states {
        return Err(format!("{} is {} and {}", moment.name, found.0, found.1).into());
    }
    let facts = facts(&arena, &before, &transfer(&databases).await?);
    pack(&arena.world.folder, &facts, &moment.file(into))
}

fn steering(arena: &Arena, role: Role) -> Outcome<Steering> {
    Ok(arena.steering(arena.process(role)).ok_or("nobody steers this process")?.clone())
}

/// The client, as far as the moment.
async fn goes(
    arena: &Arena,
    moment: &Moment,
    patient: &Patient,
    held: Option<&(Steering, &'static str)>,
) -> Outcome<()> {
    let (aborts, brake) = (moment.end == End::Aborted, steering(arena, Role::Coordinator)?);
    if let Some((steering, point)) = held.filter(|_| !aborts) {
        steering.order(&[point])?;
    }
    let braked = aborts || moment.name == "paused";
    if braked {
        brake.order(&["ask.freeze.before"])?;
    }
    let moving = journey::ask(patient, arena.to()).await?;
    if moment.name == "preflighted" {
        return Ok(());
    }
    journey::consent(patient, &moving).await?;
    if braked {
        brake.reached(PATIENCE).await.ok_or("the copy does not come to its end")?;
    }
    if moment.name == "paused" {
        return hold(arena, &moving).await;
    }
    if aborts {
        withdraws(patient, &moving, &brake, held).await?;
    }
    if held.is_none() {
        rest(&[arena.database(arena.from())?.clone(), arena.database(arena.to())?.clone()], &moving.id)
            .await?;
    }
    Ok(())
}

async fn hold(arena: &Arena, moving: &Moving) -> Outcome<()> {
    let operator = arena.operators.get(arena.from()).ok_or("no operator")?;
    let request = PauseTransferRequest { transfer_id: moving.id.clone(), reason: REASON.to_owned() };
    operator.transfers().pause_transfer(request).await?;
    Ok(())
}

async fn withdraws(
    patient: &Patient,
    moving: &Moving,
    brake: &Steering,
    held: Option<&(Steering, &'static str)>,
) -> Outcome<()> {
    if let Some((steering, point)) = held {
        steering.order(&[point])?;
    }
    journey::withdraw(patient, moving).await?;
    brake.release().await;
    Ok(())
}

/// The transfer's state in both databases.
///
/// # Errors
/// With what a database said.
pub async fn states(databases: &[Database; 2]) -> Outcome<(String, String)> {
    let sql = "SELECT state FROM transfer";
    Ok((databases[0].ask(sql).await?.concat(), databases[1].ask(sql).await?.concat()))
}

async fn transfer(databases: &[Database; 2]) -> Outcome<String> {
    let id = databases[0].ask("SELECT transfer_id FROM transfer").await?.concat();
    Ok(uuid::Uuid::parse_str(&id)?.to_string())
}

fn facts(arena: &Arena, before: &Before, transfer: &str) -> Value {
    json!({
        "release": env!("CARGO_PKG_VERSION"),
        "recorded_at": Ctx::system().now().micros(),
        "transfer": transfer,
        "subject": arena.subject(),
        "epoch": before.epoch,
        "items": before.items,
        "notes": arena.written.0,
        "attachment": { "item": arena.file.0, "bytes": arena.file.1.len() },
    })
}

fn pack(deployment: &Path, facts: &Value, to: &Path) -> Outcome<u64> {
    let own = deployment.display().to_string();
    let packed = GzEncoder::new(Vec::new(), Compression::best());
    let mut archive = tar::Builder::new(packed);
    put(&mut archive, FACTS, &serde_json::to_vec_pretty(facts)?)?;
    for region in REGIONS {
        for name in KEPT {
            let (mut open, mut files) = (vec![deployment.join(region).join(name)], BTreeSet::new());
            while let Some(path) = open.pop() {
                if path.is_dir() {
                    for entry in std::fs::read_dir(&path)? {
                        open.push(entry?.path());
                    }
                } else if path.exists() {
                    files.insert(path);
                }
            }
            for path in files {
                let content = std::fs::read(&path)?;
                let name = path.strip_prefix(deployment)?.display().to_string();
                if let Some(foreign) = foreign(&content, &[&own]) {
                    return Err(format!("{name} names a place of this machine: {foreign}").into());
                }
                put(&mut archive, &name, &content)?;
            }
        }
    }
    let packed = archive.into_inner()?.finish()?;
    std::fs::write(to, &packed)?;
    Ok(packed.len().try_into()?)
}

/// Without times, owners and the order of a folder: the same content packs alike.
fn put(archive: &mut tar::Builder<GzEncoder<Vec<u8>>>, name: &str, content: &[u8]) -> Outcome<()> {
    let mut header = tar::Header::new_ustar();
    header.set_size(content.len().try_into()?);
    header.set_mode(0o600);
    header.set_cksum();
    Ok(archive.append_data(&mut header, name, content)?)
}

/// A path of somebody's machine in what is kept: of a usual folder, of this repository, or one more.
fn foreign(content: &[u8], more: &[&str]) -> Option<String> {
    let usual = FOLDERS.iter().map(|folder| format!("/{folder}/"));
    let here = std::iter::once(env!("CARGO_MANIFEST_DIR")).chain(more.iter().copied()).map(str::to_owned);
    usual.chain(here).find(|word| {
        let word = word.as_bytes();
        content.windows(word.len()).any(|window| window == word)
    })
}

/// A recorded deployment, opened with the present executable.
pub struct Recorded {
    moment: Moment,
    world: World,
    databases: [Database; 2],
    facts: Value,
}

impl Recorded {
    /// Unpacks a deployment of a release's folder and makes settings and certificates around it; nothing runs yet.
    ///
    /// # Errors
    /// When the file is not there, is not whole, or names a place of somebody's machine.
    pub async fn open(release: &Path, moment: &Moment) -> Outcome<Self> {
        let mut facts = Value::Null;
        let fill = |deployment: &Path| {
            let file = moment.file(release);
            let packed = File::open(&file).map_err(|error| format!("{}: {error}", file.display()))?;
            tar::Archive::new(GzDecoder::new(packed)).unpack(deployment)?;
            facts = serde_json::from_slice(&std::fs::read(deployment.join(FACTS))?)?;
            if facts["recorded_at"].as_i64().is_none_or(|at| at > Ctx::system().now().micros()) {
                return Err("this machine's clock is before the recording".into());
            }
            for name in REGIONS.iter().flat_map(|region| KEPT.map(|name| format!("{region}/{name}"))) {
                let path = deployment.join(&name);
                let names = if path.is_file() { foreign(&std::fs::read(&path)?, &[]) } else { None };
                if let Some(place) = names {
                    return Err(format!("{name} names {place}").into());
                }
            }
            Ok(())
        };
        let tuning = Tuning { transfer: LEASES.to_owned(), ..Tuning::default() };
        let world = World::recorded(&REGIONS, &tuning, fill).await?;
        let databases = REGIONS.map(|region| {
            let home = world.home(region);
            Database::Sqlite { data: home.join("data.db"), keys: home.join("keys.db") }
        });
        Ok(Self { moment: *moment, world, databases, facts })
    }

    /// The states in which it was left: the source's, the destination's.
    ///
    /// # Errors
    /// With what a database said.
    pub async fn states(&self) -> Outcome<(String, String)> {
        states(&self.databases).await
    }

    /// Starts everything, sees the transfer end, and asks for every invariant as after a cell of the kill
    /// matrix.
    ///
    /// # Errors
    /// With what does not hold.
    pub async fn goes_on(mut self) -> Outcome<()> {
        self.world.resume(&REGIONS).await?;
        let transfer = self.text("transfer")?;
        let before = Before { items: self.items()?, epoch: self.facts["epoch"].as_u64().ok_or("no epoch")? };
        let (moment, databases) = (self.moment, self.databases.clone());
        let mut arena = self.arena().await?;
        if ["requested", "preflighted"].contains(&moment.states.0) {
            let patient = arena.patient().await?;
            let offered = patient.offered(&transfer).await?;
            journey::consent(&patient, &offered).await?;
        }
        if moment.name == "paused" {
            let operator = arena.operators.get(arena.from()).ok_or("no operator")?;
            let request = ResumeTransferRequest { transfer_id: transfer.clone(), reason: REASON.to_owned() };
            operator.transfers().resume_transfer(request).await?;
        }
        let end = rest(&databases, &transfer).await?;
        if end != moment.end {
            return Err(format!("{} ends {}", moment.name, end.as_str()).into());
        }
        settled(&arena, &transfer, end, &before, &BTreeSet::new()).await?;
        if end == End::Closed {
            arena.moved();
        }
        arena.read_back().await?;
        arena.world.verify(REGIONS, &transfer).await?;
        Ok(())
    }

    fn text(&self, name: &str) -> Outcome<String> {
        Ok(self.facts[name].as_str().ok_or_else(|| format!("no {name}"))?.to_owned())
    }

    fn items(&self) -> Outcome<BTreeSet<String>> {
        Ok(serde_json::from_value(self.facts["items"].clone())?)
    }

    async fn arena(self) -> Outcome<Arena> {
        let subject = self.text("subject")?;
        let notes: BTreeMap<String, String> = serde_json::from_value(self.facts["notes"].clone())?;
        let attachment = &self.facts["attachment"];
        let item = attachment["item"].as_str().ok_or("no attachment")?.to_owned();
        let bytes = attachment["bytes"].as_u64().ok_or("no size")?.try_into()?;
        Arena::resumed(self.world, self.databases, subject, Written(notes), (item, bytes)).await
    }
}
