//! A deployment whose every process and database server can be killed at a named point, and one record that
//! moves back and forth in it.

use std::collections::{BTreeMap, BTreeSet};

use domicile_cli::Client;
use domicile_cli::client::answer;
use domicile_proto::identity::v1::SignInRequest;
use domicile_proto::records::v1::ListItemsRequest;
use domicile_proto::records::v1::payload::Kind;
use domicile_store::Backend;

use super::cluster::Cluster;
use super::database::Database;
use super::journey::insist;
use super::points::Role;
use super::steering::Steering;
use crate::region::PASSWORD;
use crate::world::moves::{attach, fetch};
use crate::world::{Login, Outcome, Patient, Plan, Tuning, World, Written, executable};

/// The two regions.
pub const REGIONS: [&str; 2] = ["eu", "ca"];
/// Leases and holds that a kill makes the others wait for are shorter than by default: a cell waits for each.
const TUNING: &str = "lease = \"2s\"\nwork_lease = \"2s\"\nkey_hold = \"2s\"\n";
/// Bytes of the attachment: three chunks.
const ATTACHED: usize = 150_000;
/// What the attachment is made of.
const BYTE: u8 = 9;
/// The practitioner's and the client's names.
const PRACTITIONER: &str = "kastner";
const CLIENT: &str = "quinn";
/// Words in every note, looked for where no payload may be.
const CANARY: &str = "quercus";

/// The deployment and its record.
pub struct Arena {
    /// The processes.
    pub world: World,
    databases: BTreeMap<&'static str, Database>,
    clusters: BTreeMap<&'static str, Cluster>,
    steering: BTreeMap<String, Steering>,
    patient: Patient,
    /// The practitioner, signed in in each region.
    treating: BTreeMap<&'static str, Client>,
    /// The regions' operators, signed in.
    pub operators: BTreeMap<&'static str, Client>,
    /// Where the record is: an index into [`REGIONS`].
    home: usize,
    /// What was acknowledged.
    pub written: Written,
    /// The attachment: its item and its content.
    pub file: (String, Vec<u8>),
}

impl Arena {
    /// Makes a deployment with one coordinator, and a record in the first region.
    ///
    /// # Errors
    /// When a part of it does not start.
    pub async fn start(backend: Backend) -> Outcome<Self> {
        Self::start_with(backend, TUNING).await
    }

    /// As [`Arena::start`], with other lines under `[transfer]`.
    ///
    /// # Errors
    /// When a part of it does not start.
    pub async fn start_with(backend: Backend, tuning: &str) -> Outcome<Self> {
        Self::start_sized(backend, tuning, ATTACHED).await
    }

    /// As [`Arena::start_with`], with an attachment of so many bytes.
    ///
    /// # Errors
    /// When a part of it does not start.
    pub async fn start_sized(backend: Backend, tuning: &str, attached: usize) -> Outcome<Self> {
        let (mut world, clusters) = match backend {
            Backend::Postgres => on_postgres(tuning).await?,
            Backend::Sqlite => on_sqlite(tuning).await?,
        };
        let databases = REGIONS.map(|region| (region, database(&world, clusters.get(region), region)));
        let mut steering = BTreeMap::new();
        for name in ["coordinator", REGIONS[0], REGIONS[1]] {
            steering.insert(name.to_owned(), Steering::prepare(&world.home(name))?);
            // From now on it can be steered.
            world.stop(name).await?;
            world.begin(name)?;
            comes_back(&mut world, name).await?;
        }
        let practice = world.practice(PRACTITIONER, REGIONS[0], &[REGIONS[1]]).await?;
        let patient = world.patient(REGIONS[0], &practice, CLIENT).await?;
        let mut written = Written::default();
        written.fill(&practice.home, &patient.subject, 6, CANARY).await?;
        let content = vec![BYTE; attached];
        let file = (attach(&practice.home, &patient.subject, &content).await?, content);
        let (mut treating, mut operators) = (BTreeMap::new(), BTreeMap::new());
        for region in REGIONS {
            treating.insert(region, world.sign_in(region, &practice.login).await?);
            operators.insert(region, world.operator(region).await?);
        }
        Ok(Self {
            world,
            databases: databases.into(),
            clusters,
            steering,
            patient,
            treating,
            operators,
            home: 0,
            written,
            file,
        })
    }

    /// Takes over a deployment on SQLite that runs, with its record in the first region and nobody to steer.
    ///
    /// # Errors
    /// When somebody cannot sign in.
    pub async fn resumed(
        world: World,
        databases: [Database; 2],
        subject: String,
        written: Written,
        (item, attached): (String, usize),
    ) -> Outcome<Self> {
        let login = |name: &str| Login { email: name.to_owned(), password: PASSWORD.to_owned() };
        let practitioner = login(&format!("{PRACTITIONER}@practice.example"));
        let (mut treating, mut operators) = (BTreeMap::new(), BTreeMap::new());
        for region in REGIONS {
            treating.insert(region, world.sign_in(region, &practitioner).await?);
            operators.insert(region, world.operator(region).await?);
        }
        let client = world.anyone(REGIONS[0])?;
        let patient = Patient { login: login(&format!("{CLIENT}@client.example")), subject, client };
        Ok(Self {
            world,
            databases: REGIONS.into_iter().zip(databases).collect(),
            clusters: BTreeMap::new(),
            steering: BTreeMap::new(),
            patient,
            treating,
            operators,
            home: 0,
            written,
            file: (item, vec![BYTE; attached]),
        })
    }

    /// Where the record is.
    #[must_use]
    pub fn from(&self) -> &'static str {
        REGIONS[self.home]
    }

    /// Where it goes next.
    #[must_use]
    pub fn to(&self) -> &'static str {
        REGIONS[1 - self.home]
    }

    /// The record has moved.
    pub fn moved(&mut self) {
        self.home = 1 - self.home;
    }

    /// The record's id.
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.patient.subject
    }

    /// The process of a role in the next move.
    #[must_use]
    pub fn process(&self, role: Role) -> &'static str {
        match role {
            Role::Coordinator => "coordinator",
            Role::Source => self.from(),
            Role::Destination => self.to(),
        }
    }

    /// How a process is steered.
    #[must_use]
    pub fn steering(&self, process: &str) -> Option<&Steering> {
        self.steering.get(process)
    }

    /// A region's databases.
    ///
    /// # Errors
    /// For a region that is none of the two.
    pub fn database(&self, region: &str) -> Outcome<&Database> {
        Ok(self.databases.get(region).ok_or("no such region")?)
    }

    /// A region's database server, if it has one.
    ///
    /// # Errors
    /// Where the databases are files.
    pub fn cluster(&mut self, region: &str) -> Outcome<&mut Cluster> {
        Ok(self.clusters.get_mut(region).ok_or("no database server")?)
    }

    /// The practitioner, in a region.
    ///
    /// # Errors
    /// For a region that is none of the two.
    pub fn practitioner(&self, region: &str) -> Outcome<Client> {
        Ok(self.treating.get(region).ok_or("no such region")?.clone())
    }

    /// The client, freshly signed in where the record is.
    ///
    /// # Errors
    /// What the region answers.
    pub async fn patient(&self) -> Outcome<Patient> {
        let client = self.world.anyone(self.from())?;
        let Login { email, password } = self.patient.login.clone();
        let sign_in = || {
            let (client, request) =
                (client.clone(), SignInRequest { email: email.clone(), password: password.clone() });
            async move { answer(client.identity().sign_in(request)).await }
        };
        let client = client.with_token(&insist(sign_in).await?.token)?;
        Ok(Patient { client, ..self.patient.clone() })
    }

    /// Every acknowledged write is readable where the record is (invariant 2), and nothing else is there.
    ///
    /// # Errors
    /// Naming what is missing or too much.
    pub async fn read_back(&self) -> Outcome<()> {
        let reader = self.practitioner(self.from())?;
        let found = notes(&reader, self.subject()).await?;
        for (item, text) in &self.written.0 {
            if found.get(item) != Some(text) {
                return Err(format!("an acknowledged write is lost: item {item}").into());
            }
        }
        if found.len() != self.written.0.len() {
            return Err(format!("{} notes where {} were written", found.len(), self.written.0.len()).into());
        }
        if fetch(&reader, self.subject(), &self.file.0).await? != self.file.1 {
            return Err("the attachment is not whole".into());
        }
        Ok(())
    }

    /// Items and versions in a region's tables.
    ///
    /// # Errors
    /// With what the database said.
    pub async fn items(&self, region: &str) -> Outcome<BTreeSet<String>> {
        let sql = format!("SELECT item_id, version FROM item WHERE subject_id = @{}@", self.subject());
        Ok(self.database(region)?.ask(&sql).await?.into_iter().map(|line| line.replace('-', "")).collect())
    }

    /// Files of the record and of transfers under way in a region's folder of objects.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn files(&self, region: &str, transfer: &str) -> Outcome<usize> {
        let objects = self.world.home(region).join("objects");
        let named = |folder: &str, name: &str| {
            let folder = objects.join(folder);
            let plain = name.replace('-', "");
            [folder.join(name), folder.join(plain)].into_iter().filter(|path| path.exists()).count()
        };
        Ok(named("objects", self.subject()) + named("staging", transfer))
    }

    /// Whether the coordinator's files hold a word of a note (invariant 12).
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn coordinator_knows(&self) -> Outcome<bool> {
        for entry in std::fs::read_dir(self.world.home("coordinator"))? {
            let path = entry?.path();
            if path.is_file() && String::from_utf8_lossy(&std::fs::read(path)?).contains(CANARY) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The text of the next note.
    #[must_use]
    pub fn text(number: usize) -> String {
        format!("{CANARY} {number}")
    }
}

/// The notes that a reader sees: item id to text.
///
/// # Errors
/// What the region answers.
pub async fn notes(reader: &Client, subject: &str) -> Outcome<BTreeMap<String, String>> {
    let (mut found, mut page_token) = (BTreeMap::new(), String::new());
    loop {
        let request = ListItemsRequest {
            subject_id: subject.to_owned(),
            kind: "note".to_owned(),
            page_size: 200,
            page_token,
            with_payloads: true,
        };
        let list = || {
            let (reader, request) = (reader.clone(), request.clone());
            async move { answer(reader.records().list_items(request)).await }
        };
        let page = insist(list).await?;
        for item in page.items {
            let id = item.header.unwrap_or_default().item_id;
            if let Some(Kind::Note(note)) = item.payload.and_then(|payload| payload.kind) {
                found.insert(id, note.text);
            }
        }
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(found);
        }
    }
}

/// Times that a region which ends at its start, because its database does not answer yet, is started again.
const STARTS: usize = 6;

/// Waits until a process serves, and starts it again, as a supervisor does, when it ends at its start.
///
/// # Errors
/// With what it logged, when it does not come back.
pub async fn comes_back(world: &mut World, name: &str) -> Outcome<()> {
    if name.starts_with("coordinator") {
        return Ok(());
    }
    for _ in 1..STARTS {
        if world.serving(name).await.is_ok() {
            return Ok(());
        }
        // A process that still runs has not ended and has had its time.
        world.kill(name).await?;
        world.begin(name)?;
    }
    world.serving(name).await
}

type Deployment = (World, BTreeMap<&'static str, Cluster>);

async fn on_postgres(tuning: &str) -> Outcome<Deployment> {
    let starting = REGIONS.map(|region| async move { Outcome::Ok((region, Cluster::start().await?)) });
    let clusters: BTreeMap<&str, Cluster> =
        futures::future::try_join_all(starting).await?.into_iter().collect();
    let mut settings = toml::Table::new();
    settings.insert("transfer".to_owned(), toml::Value::Table(tuning.parse()?));
    let plan = Plan {
        executable: executable()?,
        within: std::env::temp_dir(),
        regions: clusters.iter().map(|(name, cluster)| ((*name).to_owned(), Some(cluster.table()))).collect(),
        absent: Vec::new(),
        coordinator: true,
        settings,
    };
    Ok((World::launch(plan).await?, clusters))
}

async fn on_sqlite(tuning: &str) -> Outcome<Deployment> {
    let tuning = Tuning { transfer: tuning.to_owned(), ..Tuning::default() };
    Ok((World::start(Backend::Sqlite, &REGIONS, &tuning).await?, BTreeMap::new()))
}

fn database(world: &World, cluster: Option<&Cluster>, region: &str) -> Database {
    let home = world.home(region);
    match cluster {
        Some(cluster) => Database::Postgres { url: cluster.admin("domicile") },
        None => Database::Sqlite { data: home.join("data.db"), keys: home.join("keys.db") },
    }
}
