//! Four regions and a coordinator as real processes, two of the regions on PostgreSQL clusters of their
//! own, and a practice that is at home in both.

use std::collections::BTreeMap;

use domicile_cli::Client;
use domicile_tests::world::{Outcome, Plan, Practice, World};

use crate::cluster::Cluster;
use crate::machine;
use crate::out::Common;

/// The regions between which records move; each has a cluster.
pub(crate) const MOVING: [&str; 2] = ["eu", "ca"];
/// The regions that look on, on SQLite.
const OTHERS: [&str; 2] = ["us", "au"];
/// The database of a region in its cluster.
pub(crate) const DATABASE: &str = "domicile";

/// A deployment at work.
pub(crate) struct Stage {
    /// The processes.
    pub(crate) world: World,
    /// The practice, at home in the first region.
    pub(crate) practice: Practice,
    clusters: BTreeMap<&'static str, Cluster>,
    practitioners: BTreeMap<&'static str, Client>,
    operators: BTreeMap<&'static str, Client>,
}

impl Stage {
    /// Starts it; `settings` are tables of every region's settings, as TOML text.
    pub(crate) async fn open(common: &Common, settings: &str) -> Outcome<Self> {
        let within = common.folder();
        let (mut clusters, mut regions) = (BTreeMap::new(), BTreeMap::new());
        for region in MOVING {
            let cluster = Cluster::start(&within).await?;
            regions.insert(region.to_owned(), Some(cluster.database(DATABASE)?));
            clusters.insert(region, cluster);
        }
        regions.extend(OTHERS.map(|region| (region.to_owned(), None)));
        let plan = Plan {
            executable: common.executable()?,
            within,
            regions,
            absent: Vec::new(),
            coordinator: true,
            settings: settings.parse()?,
        };
        let world = World::launch(plan).await?;
        let practice = world.practice("bench", MOVING[0], &MOVING[1..]).await?;
        let (mut practitioners, mut operators) = (BTreeMap::new(), BTreeMap::new());
        for region in MOVING {
            practitioners.insert(region, world.sign_in(region, &practice.login).await?);
            operators.insert(region, world.operator(region).await?);
        }
        Ok(Self { world, practice, clusters, practitioners, operators })
    }

    /// The practitioner, signed in at a region.
    pub(crate) fn practitioner(&self, region: &str) -> Outcome<&Client> {
        self.practitioners.get(region).ok_or_else(|| format!("no practitioner in {region}").into())
    }

    /// The operator, signed in at a region.
    pub(crate) fn operator(&self, region: &str) -> Outcome<&Client> {
        self.operators.get(region).ok_or_else(|| format!("no operator in {region}").into())
    }

    /// A region's cluster.
    pub(crate) fn cluster(&self, region: &str) -> Outcome<&Cluster> {
        self.clusters.get(region).ok_or_else(|| format!("no cluster in {region}").into())
    }

    /// Processor seconds so far of both regions, the coordinator and both clusters.
    pub(crate) fn cpu(&self) -> Outcome<BTreeMap<&'static str, f64>> {
        let mut spent = BTreeMap::new();
        for name in [MOVING[0], MOVING[1], "coordinator"] {
            let pid = self.world.pid(name).ok_or_else(|| format!("{name} has ended"))?;
            spent.insert(name, machine::cpu(pid)?);
        }
        for (region, cluster) in &self.clusters {
            let name = if *region == MOVING[0] { "eu's PostgreSQL" } else { "ca's PostgreSQL" };
            spent.insert(name, machine::cpu_of_tree(cluster.pid()?)?);
        }
        Ok(spent)
    }

    /// Stops everything.
    pub(crate) async fn close(self) -> Outcome<()> {
        let Self { mut world, practice, clusters, practitioners, operators } = self;
        drop((practice, practitioners, operators));
        world.kill("coordinator").await?;
        for region in MOVING.into_iter().chain(OTHERS) {
            world.kill(region).await?;
        }
        for cluster in clusters.into_values() {
            cluster.stop().await?;
        }
        Ok(())
    }
}
