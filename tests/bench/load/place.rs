//! Where load is measured: a cluster of its own, or files, and one region process at a time.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use domicile_tests::world::{Outcome, Plan, World};

use super::worker::Worker;
use super::{Database, LoadArgs, Subjects};
use crate::cluster::Cluster;
use crate::out::Common;

/// The region everything happens in.
const REGION: &str = "eu";

/// A place for regions.
pub(crate) struct Place {
    within: PathBuf,
    cluster: Option<Cluster>,
    databases: AtomicU32,
}

/// One region process with a database of its own.
pub(crate) struct Region {
    world: World,
    database: String,
}

impl Place {
    /// Starts what the database needs.
    pub(crate) async fn open(common: &Common, database: Database) -> Outcome<Self> {
        let within = common.folder();
        let cluster = match database {
            Database::Postgres => Some(Cluster::start(&within).await?),
            Database::Sqlite => None,
        };
        Ok(Self { within, cluster, databases: AtomicU32::new(0) })
    }

    /// The PostgreSQL cluster, when it is one.
    pub(crate) const fn cluster(&self) -> Option<&Cluster> {
        self.cluster.as_ref()
    }

    /// Starts a region of this build, on a fresh database.
    pub(crate) async fn region(&self, executable: &Path) -> Outcome<Region> {
        let database = format!("bench{}", self.databases.fetch_add(1, Ordering::Relaxed));
        let table = self.cluster.as_ref().map(|cluster| cluster.database(&database)).transpose()?;
        let plan = Plan {
            executable: executable.to_owned(),
            within: self.within.clone(),
            regions: BTreeMap::from([(REGION.to_owned(), table)]),
            absent: vec!["ca".to_owned()],
            coordinator: false,
            settings: toml::Table::new(),
        };
        Ok(Region { world: World::launch(plan).await?, database })
    }

    /// Stops it all.
    pub(crate) async fn close(self) -> Outcome<()> {
        match self.cluster {
            Some(cluster) => cluster.stop().await,
            None => Ok(()),
        }
    }
}

impl Region {
    /// The region's process.
    pub(crate) fn pid(&self) -> Outcome<u32> {
        self.world.pid(REGION).ok_or_else(|| "the region has ended".into())
    }

    /// The name of its database.
    pub(crate) fn database(&self) -> &str {
        &self.database
    }

    /// Practitioners with their own connections and sessions, at work on records.
    pub(crate) async fn workers(&self, args: &LoadArgs) -> Outcome<Vec<Worker>> {
        let mut workers = Vec::new();
        let mut shared = None;
        for number in 0..args.clients {
            let name = format!("bench{number}");
            let (practice, patient) = match shared.take() {
                Some(both) => both,
                None => {
                    let practice = self.world.practice(&name, REGION, &[]).await?;
                    let patient = self.world.patient(REGION, &practice, &name).await?;
                    (practice, patient)
                }
            };
            let client = self.world.sign_in(REGION, &practice.login).await?;
            workers.push(Worker::new(number as u64, client, patient.subject.clone()));
            if args.subjects == Subjects::One {
                shared = Some((practice, patient));
            }
        }
        Ok(workers)
    }

    /// Stops the process and drops the database.
    pub(crate) async fn close(mut self, place: &Place) -> Outcome<()> {
        self.world.stop(REGION).await?;
        match place.cluster() {
            Some(cluster) => cluster.drop_database(&self.database),
            None => Ok(()),
        }
    }
}
