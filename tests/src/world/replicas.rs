//! A deployment as in production: each region on a PostgreSQL cluster of its own, served by two replicas
//! behind a balancer.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::DirBuilderExt as _;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use domicile_cli::Client;
use domicile_cli::place::Place;
use domicile_rpc::{Net as _, TcpNet};
use tokio::process::Command;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{Outcome, PATIENCE, Process, Tuning, World, executable, pause, run};
use crate::postgres::free_port;
use crate::production::Cluster;

/// The replicas of each region.
pub const REPLICAS: [&str; 2] = ["a", "b"];

/// The deployment. Its processes are called `eu.a`, `eu.b`, `coordinator`.
pub struct Replicated {
    /// The deployment; the regions' addresses are the balancers'.
    pub world: World,
    regions: Vec<String>,
    people: BTreeMap<String, u16>,
    balancers: Vec<DropGuard>,
}

impl std::ops::Deref for Replicated {
    type Target = World;
    fn deref(&self) -> &World {
        &self.world
    }
}

impl Replicated {
    /// Prepares a deployment in production and starts it.
    ///
    /// # Errors
    /// When a part of it does not start.
    pub async fn start(clusters: &BTreeMap<&str, Cluster>, tuning: &Tuning) -> Outcome<Self> {
        let mut this = Self::prepare(clusters, tuning).await?;
        this.begin().await?;
        Ok(this)
    }

    /// Starts what has been prepared.
    ///
    /// # Errors
    /// When a part of it does not start.
    pub async fn begin(&mut self) -> Outcome<()> {
        for region in &self.regions.clone() {
            for replica in REPLICAS {
                self.spawn(region, replica, &[])?;
            }
        }
        self.world.spawn("coordinator", None)?;
        for region in &self.regions.clone() {
            for replica in REPLICAS {
                self.serving(region, replica).await?;
            }
            self.world.first_accounts(region).await?;
        }
        Ok(())
    }

    /// Prepares a deployment in production: databases migrated, certificates and settings written.
    ///
    /// # Errors
    /// When a part of it cannot be made.
    pub async fn prepare(clusters: &BTreeMap<&str, Cluster>, tuning: &Tuning) -> Outcome<Self> {
        let world = World::empty(executable()?, tempfile::tempdir()?);
        for (region, cluster) in clusters {
            let home = world.home(region);
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&home)?;
            std::fs::write(home.join("database.toml"), toml::to_string(&cluster.table())?)?;
        }
        let names: Vec<&str> = clusters.keys().copied().collect();
        world.prepare(&names.join(",")).await?;
        let regions = names.iter().map(|&name| name.to_owned()).collect();
        let mut this = Self { world, regions, people: BTreeMap::new(), balancers: Vec::new() };
        for region in names {
            this.world.settle(region, None, tuning)?;
            this.divide(region).await?;
        }
        Ok(this)
    }

    /// Makes the settings of a region's replicas from the region's, and balancers on its addresses.
    async fn divide(&mut self, region: &str) -> Outcome<()> {
        let home = self.world.home(region);
        let mut settings: toml::Table = std::fs::read_to_string(home.join("config.toml"))?.parse()?;
        settings.insert("environment".to_owned(), "production".into());
        std::fs::write(home.join("config.toml"), toml::to_string(&settings)?)?;
        let mut backends: BTreeMap<&str, Vec<SocketAddr>> = BTreeMap::new();
        let mut addresses = BTreeMap::new();
        for replica in REPLICAS {
            let mut own = settings.clone();
            for listener in ["people", "peers"] {
                let table = own.get_mut(listener).and_then(toml::Value::as_table_mut).ok_or("no listener")?;
                let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?));
                let public = table.insert("listen".to_owned(), address.to_string().into());
                let public: SocketAddr =
                    public.as_ref().and_then(toml::Value::as_str).ok_or("no address")?.parse()?;
                addresses.insert(listener, public);
                backends.entry(listener).or_default().push(address);
                if listener == "people" {
                    self.people.insert(format!("{region}.{replica}"), address.port());
                }
            }
            std::fs::write(home.join(format!("{replica}.toml")), toml::to_string(&own)?)?;
        }
        for (listener, public) in addresses {
            let behind = backends.remove(listener).unwrap_or_default();
            self.balancers.push(balance(public, behind).await?);
        }
        Ok(())
    }

    /// Starts a replica.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn(&mut self, region: &str, replica: &str, environment: &[(&str, &str)]) -> Outcome<()> {
        let home = self.world.home(region);
        let name = format!("{region}.{replica}");
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(home.join(format!("{replica}.log")))?;
        let mut command = Command::new(executable()?);
        command.args(["region", "--supervised", "--config"]).arg(home.join(format!("{replica}.toml")));
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::from(log)).kill_on_drop(true);
        command.env("RUST_LOG", "info,domicile_transfer=debug,domicile_audit=debug");
        command.envs(environment.iter().copied());
        let mut child = command.spawn()?;
        let pipe = child.stdin.take();
        self.world.processes.insert(name, Process { child, pipe });
        Ok(())
    }

    /// Waits until a replica serves.
    ///
    /// # Errors
    /// When it ends or time is over.
    pub async fn serving(&mut self, region: &str, replica: &str) -> Outcome<()> {
        let name = format!("{region}.{replica}");
        let client = self.replica(region, replica)?;
        let until = Instant::now() + PATIENCE;
        while client.health(Duration::from_secs(2)).await.is_err() {
            let process = self.world.processes.get_mut(&name).ok_or("no such process")?;
            if let Some(status) = process.child.try_wait()? {
                return Err(
                    format!("{name} ended with {status}: {}", self.replica_log(region, replica)?).into()
                );
            }
            if Instant::now() > until {
                return Err(format!("{name} does not serve: {}", self.replica_log(region, replica)?).into());
            }
            pause().await;
        }
        Ok(())
    }

    /// Starts a replica again and waits until it serves.
    ///
    /// # Errors
    /// When it does not.
    pub async fn restart(&mut self, region: &str, replica: &str) -> Outcome<()> {
        self.spawn(region, replica, &[])?;
        self.serving(region, replica).await
    }

    /// Tells a replica to end (SIGTERM) and waits until it has.
    ///
    /// # Errors
    /// When it does not end well.
    pub async fn terminate(&mut self, region: &str, replica: &str) -> Outcome<()> {
        let mut process =
            self.world.processes.remove(&format!("{region}.{replica}")).ok_or("no such process")?;
        let pid = process.child.id().ok_or("it has ended")?.to_string();
        let told = Command::new("kill").args(["-TERM", &pid]).status().await?;
        let ended = tokio::time::timeout(PATIENCE, process.child.wait()).await??;
        drop(process.pipe.take());
        if told.success() && ended.success() {
            Ok(())
        } else {
            Err(format!("{region}.{replica}: {ended}").into())
        }
    }

    /// Ends a replica without warning (SIGKILL).
    ///
    /// # Errors
    /// When it does not run.
    pub async fn kill(&mut self, region: &str, replica: &str) -> Outcome<()> {
        self.world.kill(&format!("{region}.{replica}")).await
    }

    /// A connection to one replica, past the balancer, signed in as nobody.
    ///
    /// # Errors
    /// When there is no such replica.
    pub fn replica(&self, region: &str, replica: &str) -> Outcome<Client> {
        Ok(Client::new(&self.replica_place(region, replica)?)?)
    }

    /// Where one replica listens for people.
    ///
    /// # Errors
    /// When there is no such replica.
    pub fn replica_place(&self, region: &str, replica: &str) -> Outcome<Place> {
        let port = self.people.get(&format!("{region}.{replica}")).ok_or("no such replica")?;
        Ok(Place {
            name: region.to_owned(),
            endpoint: format!("https://127.0.0.1:{port}"),
            ca: self.world.folder.join("ca.pem"),
        })
    }

    /// What a replica has logged.
    ///
    /// # Errors
    /// When there is no log.
    pub fn replica_log(&self, region: &str, replica: &str) -> Outcome<String> {
        Ok(std::fs::read_to_string(self.world.home(region).join(format!("{replica}.log")))?)
    }

    /// Brings a region's databases to this release.
    ///
    /// # Errors
    /// When it does not end well.
    pub async fn migrate(&self, region: &str) -> Outcome<String> {
        let config = self.world.home(region).join("config.toml").display().to_string();
        run(&["migrate", "--config", &config]).await
    }
}

/// Hands each connection to the next backend that takes it, until dropped.
async fn balance(public: SocketAddr, backends: Vec<SocketAddr>) -> Outcome<DropGuard> {
    let mut listener = TcpNet.listen(public).await?;
    let (over, backends) = (CancellationToken::new(), Arc::<[SocketAddr]>::from(backends));
    let ends = over.clone();
    tokio::spawn(async move {
        let (next, mut open) = (AtomicUsize::new(0), JoinSet::new());
        while let Some(Ok((mut from, _))) = ends.run_until_cancelled(listener.accept()).await {
            let first = next.fetch_add(1, Ordering::Relaxed);
            let backends = Arc::clone(&backends);
            open.spawn(async move {
                for turn in 0..backends.len() {
                    let Some(backend) = backends.get((first + turn) % backends.len()) else { return };
                    if let Ok(mut to) = TcpNet.connect(&backend.ip().to_string(), backend.port()).await {
                        // Either side may go away at any moment.
                        drop(tokio::io::copy_bidirectional(&mut from, &mut to).await);
                        return;
                    }
                }
            });
        }
    });
    Ok(over.drop_guard())
}
