//! What a region needs and does not get: room on its disk, its database, its keys. A clear error, nothing
//! acknowledged is lost, and it goes on by itself. And what it must not leave: a core.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use domicile_proto::records::v1::PutItemRequest;
use domicile_rpc::{Net as _, TcpNet, from_status};
use domicile_store::Backend;
use domicile_tests::world::moves::{attach, note};
use domicile_tests::world::{
    Outcome, PATIENCE, Patient, Practice, Tuning, World, Written, executable, pause,
};
use domicile_types::{Class, Code};
use tokio::process::Command;
use tokio::time::Instant;

/// Room of the small disk, and of what lies on it to be taken away.
const DISK: &str = "24m";
const BALLAST: &str = "6";

async fn world(backend: Backend) -> Outcome<(World, Practice, Patient, Written)> {
    let world = World::start(backend, &["eu", "ca"], &Tuning::default()).await?;
    let practice = world.practice("not", "eu", &["ca"]).await?;
    let patient = world.patient("eu", &practice, "nele").await?;
    let mut written = Written::default();
    written.fill(&practice.home, &patient.subject, 5, "safe").await?;
    Ok((world, practice, patient, written))
}

/// Writes one note, once.
async fn put(practice: &Practice, patient: &Patient, text: &str) -> Result<String, domicile_types::Error> {
    let request = PutItemRequest {
        subject_id: patient.subject.clone(),
        idempotency_key: World::key(),
        draft: Some(note(text)),
    };
    let client = practice.home.with_deadline(Duration::from_secs(20));
    match client.records().put_item(request).await {
        Ok(answer) => Ok(answer.into_inner().header.unwrap_or_default().item_id),
        Err(status) => Err(from_status(&status)),
    }
}

/// Writes until it is taken again, and reads everything back that ever was acknowledged.
async fn recovers(
    world: &World,
    practice: &Practice,
    patient: &Patient,
    written: &mut Written,
) -> Outcome<()> {
    let until = Instant::now() + PATIENCE;
    loop {
        match put(practice, patient, "after").await {
            Ok(item) => {
                written.0.insert(item, "after".to_owned());
                break;
            }
            Err(error) if Instant::now() > until => return Err(error.into()),
            Err(_) => pause().await,
        }
    }
    let mut lost = Vec::new();
    for (item, text) in &written.0 {
        let one = Written([(item.clone(), text.clone())].into());
        if let Err(error) = one.read_back(&practice.home, &patient.subject).await {
            lost.push(format!("{}: {error}", text.chars().take(12).collect::<String>()));
        }
    }
    assert!(lost.is_empty(), "of {} items: {lost:?}", written.0.len());
    world.export("eu", "").await?;
    Ok(())
}

/// The region on a disk of its own that fills up: the message says that nothing was changed, what was written
/// before is read, and with room again it writes, without a restart.
#[tokio::test]
async fn a_full_disk() {
    full_disk().await.unwrap();
}

async fn full_disk() -> Outcome<()> {
    let (mut world, practice, patient, mut written) = world(Backend::Sqlite).await?;
    world.stop("eu").await?;
    let home = world.home("eu");
    let free = world.folder.join("free");
    let mut region = on_a_small_disk(&home, &free)?;
    serving(&world).await?;
    let practice = signed_in_again(&world, practice).await?;
    let mut refusals = Vec::new();
    for number in 0..60 {
        let text = format!("{number} {}", "x".repeat(400_000));
        match put(&practice, &patient, &text).await {
            Ok(item) => drop(written.0.insert(item, text)),
            Err(error) => {
                refusals.push(error.code());
                assert_eq!(error.class(), Class::Unavailable, "{error}");
            }
        }
        if refusals.len() > 3 {
            break;
        }
    }
    assert!(refusals.len() > 3, "the disk did not fill up");
    let upload = attach(&practice.home, &patient.subject, &vec![3; 4 << 20]).await.err();
    assert!(upload.is_some(), "an upload needs room too");
    std::fs::write(&free, b"")?;
    recovers(&world, &practice, &patient, &mut written).await?;
    region.kill().await?;
    Ok(())
}

/// A process of the region whose folder is copied onto a small disk that it alone sees. Once `free` exists,
/// something else on that disk makes room.
fn on_a_small_disk(home: &Path, free: &Path) -> Outcome<tokio::process::Child> {
    let script = "set -e; home=$1; copy=$1.copy; free=$2; program=$3; \
                  cp -a \"$home\" \"$copy\"; mount -t tmpfs -o size=$4,mode=700 none \"$home\"; \
                  cp -a \"$copy\"/. \"$home\"; dd if=/dev/zero of=\"$home/ballast\" bs=1M count=$5 2>/dev/null; \
                  (while [ ! -e \"$free\" ]; do sleep 0.1; done; rm \"$home/ballast\") & \
                  exec \"$program\" region --config \"$home/config.toml\"";
    let log = std::fs::OpenOptions::new().append(true).open(home.join("log"))?;
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount", "sh", "-c", script, "sh"]);
    command.arg(home).arg(free).arg(executable()?).args([DISK, BALLAST]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).kill_on_drop(true);
    Ok(command.spawn()?)
}

async fn serving(world: &World) -> Outcome<()> {
    let client = world.anyone("eu")?;
    let until = Instant::now() + PATIENCE;
    while client.health(Duration::from_secs(2)).await.is_err() {
        if Instant::now() > until {
            return Err(format!("it does not serve: {}", world.log("eu")?).into());
        }
        pause().await;
    }
    Ok(())
}

async fn signed_in_again(world: &World, practice: Practice) -> Outcome<Practice> {
    let home = world.sign_in("eu", &practice.login).await?;
    Ok(Practice { home, ..practice })
}

/// A way to the database that can be cut.
struct Way {
    address: SocketAddr,
    to: SocketAddr,
    tasks: Arc<Mutex<Vec<tokio::task::AbortHandle>>>,
}

impl Way {
    async fn open(to: SocketAddr, at: SocketAddr) -> Outcome<Self> {
        let mut listener = TcpNet.listen(at).await?;
        let address = listener.local_address()?;
        let tasks: Arc<Mutex<Vec<tokio::task::AbortHandle>>> = Arc::default();
        let own = Arc::clone(&tasks);
        let accepting = tokio::spawn(async move {
            while let Ok((mut from, _)) = listener.accept().await {
                let passing = tokio::spawn(async move {
                    if let Ok(mut there) = TcpNet.connect(&to.ip().to_string(), to.port()).await {
                        tokio::io::copy_bidirectional(&mut from, &mut there).await.ok();
                    }
                });
                own.lock().unwrap_or_else(PoisonError::into_inner).push(passing.abort_handle());
            }
        });
        tasks.lock().unwrap_or_else(PoisonError::into_inner).push(accepting.abort_handle());
        Ok(Self { address, to, tasks })
    }

    fn cut(&self) {
        self.tasks
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .for_each(tokio::task::AbortHandle::abort);
    }

    async fn again(&self) -> Outcome<Self> {
        let until = Instant::now() + PATIENCE;
        loop {
            match Self::open(self.to, self.address).await {
                Ok(way) => return Ok(way),
                Err(error) if Instant::now() > until => return Err(error),
                Err(_) => pause().await,
            }
        }
    }
}

/// Every connection to the database breaks and none comes up: requests are refused with the advice to come
/// again, health says so, and once the database is back the region serves without a restart.
#[tokio::test]
async fn the_database_is_down() {
    no_database().await.unwrap();
}

async fn no_database() -> Outcome<()> {
    let (mut world, practice, patient, mut written) = world(Backend::Postgres).await?;
    world.stop("eu").await?;
    let file = world.home("eu").join("config.toml");
    let text = std::fs::read_to_string(&file)?;
    let port: u16 = text
        .split_once("@127.0.0.1:")
        .and_then(|(_, rest)| rest.split_once('/')?.0.parse().ok())
        .ok_or("no database on this machine")?;
    let way = Way::open(SocketAddr::from(([127, 0, 0, 1], port)), "127.0.0.1:0".parse()?).await?;
    let through = text.replace(&format!("@127.0.0.1:{port}/"), &format!("@{}/", way.address));
    std::fs::write(&file, through)?;
    world.restart("eu").await?;
    put(&practice, &patient, "before").await?;
    way.cut();
    for _ in 0..3 {
        let refused = put(&practice, &patient, "lost").await.err().ok_or("written without a database")?;
        // The last: where the caller's own deadline is shorter than the wait for the audit log.
        let known =
            [Code::StoreUnavailable, Code::AuditUnavailable, Code::AnswerLost, Code::DeadlineExceeded];
        assert!(known.contains(&refused.code()), "{refused}");
    }
    let anyone = world.anyone("eu")?;
    let until = Instant::now() + PATIENCE;
    while anyone.health(Duration::from_secs(2)).await.is_ok() {
        assert!(Instant::now() < until, "health does not tell");
        pause().await;
    }
    let _way = way.again().await?;
    recovers(&world, &practice, &patient, &mut written).await
}

/// A key file that is another region's, that others can read, that is none or that is gone: the region does not
/// start and says why, and nothing is changed; with the right one it goes on.
#[tokio::test]
async fn keys_that_are_denied() {
    denied().await.unwrap();
}

async fn denied() -> Outcome<()> {
    let (mut world, practice, patient, mut written) = world(Backend::Sqlite).await?;
    world.stop("eu").await?;
    let file = world.home("eu").join("kms.json");
    let good = std::fs::read(&file)?;
    let foreign = std::fs::read(world.home("ca").join("kms.json"))?;
    let mode = |bits| std::fs::set_permissions(&file, std::fs::Permissions::from_mode(bits));
    for (content, bits) in [
        (Some(foreign.clone()), 0o600),
        (Some(good.clone()), 0o644),
        (Some(b"{\"keys\": \"zq9canary".to_vec()), 0o600),
        (Some(Vec::new()), 0o600),
        (None, 0o600),
    ] {
        match &content {
            Some(content) => std::fs::write(&file, content).and_then(|()| mode(bits))?,
            None => std::fs::remove_file(&file)?,
        }
        let output = Command::new(executable()?)
            .args(["region", "--config"])
            .arg(world.home("eu").join("config.toml"))
            .stdin(Stdio::null())
            .output();
        let output = tokio::time::timeout(PATIENCE, output).await.map_err(|_| "it started")??;
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{told}");
        assert!(told.contains("DOM-KEY-") || told.contains("DOM-CONFIG-"), "{told}");
        assert!(!told.contains("zq9canary"), "{told}");
    }
    std::fs::write(&file, &good)?;
    mode(0o600)?;
    world.restart("eu").await?;
    let practice = signed_in_again(&world, practice).await?;
    recovers(&world, &practice, &patient, &mut written).await
}

/// A region that is aborted while it serves leaves no core, whatever its limits were when it was started.
#[tokio::test]
async fn an_aborted_process_leaves_no_core() {
    no_core().await.unwrap();
}

async fn no_core() -> Outcome<()> {
    let (mut world, practice, patient, _) = world(Backend::Sqlite).await?;
    world.stop("eu").await?;
    let home = world.home("eu");
    let script = "ulimit -c unlimited; exec \"$1\" region --config \"$2\"";
    let log = std::fs::OpenOptions::new().append(true).open(home.join("log"))?;
    let mut command = Command::new("sh");
    command.args(["-c", script, "sh"]).arg(executable()?).arg(home.join("config.toml")).current_dir(&home);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).kill_on_drop(true);
    let mut region = command.spawn()?;
    serving(&world).await?;
    let practice = signed_in_again(&world, practice).await?;
    put(&practice, &patient, "in memory").await?;
    let pid = region.id().ok_or("it has ended")?.to_string();
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits"))?;
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).ok_or("no such limit")?;
    let words: Vec<_> = core.split_whitespace().collect();
    assert_eq!(words[4..6], ["0", "0"], "{core}");
    let aborted = Command::new("kill").args(["-ABRT", &pid]).status().await?;
    assert!(aborted.success());
    let status = tokio::time::timeout(PATIENCE, region.wait()).await??;
    assert_eq!((status.signal(), status.core_dumped()), (Some(6), false));
    let cores = std::fs::read_dir(&home)?
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().contains("core"));
    assert_eq!(cores.count(), 0);
    Ok(())
}
