//! A region that joins a deployment that runs, step by step as docs/operations.md ("A new region") tells an
//! operator: nothing of `domicile up` is used.

use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use domicile_cli::client::answer;
use domicile_cli::place::{ClientFile, FILE, RegionPlace};
use domicile_proto::identity::v1::{AcceptEnrolmentRequest, GetEnrolmentRequest};
use domicile_store::Backend;
use domicile_types::Ctx;
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, Issuer, KeyPair, SanType,
};
use toml::{Table, Value};

use super::{Outcome, Practice, Tuning, World, run};
use crate::stores::Region;

/// The trust domain of what `up` has prepared.
const TRUST_DOMAIN: &str = "domicile.local";

/// What the others need to know of a region that joins.
struct Newcomer {
    name: String,
    peers_port: u16,
    people_port: u16,
    statement_key: String,
    checkpoint_key: String,
}

impl World {
    /// A region joins: its policy, folder, certificates, database, keys and first accounts are made; the
    /// coordinator and the others learn of it one after another, each with a restart.
    ///
    /// # Errors
    /// When a step of it fails.
    pub async fn join(&mut self, backend: Backend, name: &str, policy: &Path) -> Outcome<()> {
        std::fs::copy(policy, self.folder.join("regions").join(format!("{name}.toml")))?;
        let others: Vec<_> = ClientFile::read(&self.folder)?.regions.into_keys().collect();
        let mut newcomer = self.furnish(name, &others)?;
        let database = match backend {
            Backend::Postgres => Some(Region::fresh(name, backend).await?),
            Backend::Sqlite => None,
        };
        self.settle(name, database.as_ref(), &Tuning::default())?;
        self.owned_by(name, database.as_ref())?;
        self.databases.extend(database.map(|database| (name.to_owned(), database)));

        let config = self.home(name).join("config.toml").display().to_string();
        run(&["migrate", "--config", &config]).await?;
        let keys = run(&["keys", "init", "--config", &config, "--json"]).await?;
        let keys: serde_json::Value = serde_json::from_str(&keys)?;
        let key = |name: &str| keys[name].as_str().map(str::to_owned).ok_or("no key");
        newcomer.statement_key = key("statement_key")?;
        newcomer.checkpoint_key = key("checkpoint_key")?;
        run(&["region", "--config", &config, "--check"]).await?;

        self.spawn(name, None)?;
        self.published(&newcomer)?;
        self.serving(name).await?;
        self.introduce("coordinator", "region", newcomer.as_coordinated())?;
        self.stop("coordinator").await?;
        self.restart("coordinator").await?;
        for other in &others {
            self.introduce(other, "peer", newcomer.as_peer())?;
            self.stop(other).await?;
            self.restart(other).await?;
        }
        self.first_accounts(name).await
    }

    /// Folder, certificates and settings of a region that knows these others.
    fn furnish(&self, name: &str, others: &[String]) -> Outcome<Newcomer> {
        let home = self.home(name);
        for folder in ["objects", "backups"] {
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(home.join(folder))?;
        }
        self.certify(&home, name)?;
        let newcomer = Newcomer {
            name: name.to_owned(),
            peers_port: free_port()?,
            people_port: free_port()?,
            statement_key: String::new(),
            checkpoint_key: String::new(),
        };
        let mut settings = self.settings(others.first().ok_or("nobody is there")?)?;
        settings.insert("region".to_owned(), name.into());
        listen(&mut settings, "people", newcomer.people_port)?;
        listen(&mut settings, "peers", newcomer.peers_port)?;
        let path = |file: &str| home.join(file).display().to_string();
        let mut database = Table::new();
        for (key, file) in [("url", "data.db"), ("keys_url", "keys.db")] {
            database.insert(key.to_owned(), format!("sqlite://{}", path(file)).into());
        }
        database.insert("backup_directory".to_owned(), path("backups").into());
        settings.insert("database".to_owned(), database.into());
        table(&mut settings, "objects")?.insert("path".to_owned(), path("objects").into());
        let peers = others.iter().map(|other| self.peer(other, others)).collect::<Outcome<Vec<_>>>()?;
        settings.insert("peer".to_owned(), peers.into());
        std::fs::write(home.join("config.toml"), toml::to_string(&settings)?)?;
        Ok(newcomer)
    }

    /// How a third region has pinned `name`: what its operator would hand over.
    fn peer(&self, name: &str, others: &[String]) -> Outcome<Value> {
        let third = others.iter().find(|other| *other != name).ok_or("no third region")?;
        let settings = self.settings(third)?;
        let peers = settings.get("peer").and_then(Value::as_array).ok_or("no peers")?;
        let found = peers.iter().find(|peer| peer.get("region").and_then(Value::as_str) == Some(name));
        Ok(found.ok_or("not a peer")?.clone())
    }

    fn settings(&self, name: &str) -> Outcome<Table> {
        Ok(std::fs::read_to_string(self.home(name).join("config.toml"))?.parse()?)
    }

    /// The schema's owner, for `domicile migrate`; SQLite files have none.
    fn owned_by(&self, name: &str, database: Option<&Region>) -> Outcome<()> {
        let Some(database) = database.and_then(Region::postgres) else { return Ok(()) };
        let mut settings = self.settings(name)?;
        let owner = database.url("domicile_owner");
        table(&mut settings, "database")?.insert("owner_url".to_owned(), owner.into());
        std::fs::write(self.home(name).join("config.toml"), toml::to_string(&settings)?)?;
        Ok(())
    }

    /// Certificates for both listeners, signed by the deployment's authority.
    fn certify(&self, home: &Path, name: &str) -> Outcome<()> {
        let authority = std::fs::read_to_string(self.folder.join("ca.pem"))?;
        let key = KeyPair::from_pem(&std::fs::read_to_string(self.folder.join("ca.key"))?)?;
        let issuer = Issuer::from_ca_cert_pem(&authority, key)?;
        let spiffe = format!("spiffe://{TRUST_DOMAIN}/region/{name}");
        for (file, uri) in [("people", None), ("peer", Some(spiffe))] {
            let mut params = CertificateParams::new(["localhost".to_owned(), "127.0.0.1".to_owned()])?;
            params.distinguished_name = DistinguishedName::new();
            params.distinguished_name.push(DnType::CommonName, "a region that joins");
            params.use_authority_key_identifier_extension = true;
            params.extended_key_usages =
                vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
            if let Some(uri) = uri {
                params.subject_alt_names.push(SanType::URI(uri.try_into()?));
            }
            let key = KeyPair::generate()?;
            let certificate = params.signed_by(&key, &issuer)?;
            std::fs::write(home.join(format!("{file}.pem")), certificate.pem())?;
            std::fs::write(home.join(format!("{file}.key")), key.serialize_pem())?;
        }
        Ok(())
    }

    /// Adds an entry to a list of a process's settings.
    fn introduce(&self, to: &str, list: &str, entry: Table) -> Outcome<()> {
        let mut settings = self.settings(to)?;
        let entries = settings.entry(list).or_insert_with(|| Value::Array(Vec::new()));
        entries.as_array_mut().ok_or("not a list")?.push(entry.into());
        std::fs::write(self.home(to).join("config.toml"), toml::to_string(&settings)?)?;
        Ok(())
    }

    /// What people's clients and auditors are told of a region.
    fn published(&self, newcomer: &Newcomer) -> Outcome<()> {
        let mut clients = ClientFile::read(&self.folder)?;
        let place = RegionPlace { endpoint: local(newcomer.people_port), ca: "ca.pem".into() };
        clients.regions.insert(newcomer.name.clone(), place);
        std::fs::write(self.folder.join(FILE), toml::to_string(&clients)?)?;
        let file = self.folder.join("policy.json");
        let mut policy: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&file)?)?;
        policy["logs"][&newcomer.name] = serde_json::json!({
            "checkpoint": newcomer.checkpoint_key,
            "statement": newcomer.statement_key,
        });
        std::fs::write(&file, policy.to_string())?;
        Ok(())
    }

    /// A practice that is enrolled in some regions is enrolled in one more: its home signs the whole list
    /// anew, every region on it accepts.
    ///
    /// # Errors
    /// What the regions answer.
    pub async fn enrol_also(&self, practice: &Practice, known: &[&str], region: &str) -> Outcome<()> {
        let destinations = known.iter().chain([&region]).map(|&name| name.to_owned()).collect();
        let request = GetEnrolmentRequest { practice_id: String::new(), destinations };
        let enrolment = answer(practice.home.identity().get_enrolment(request)).await?.enrolment;
        for place in known.iter().chain([&region]) {
            let request = AcceptEnrolmentRequest { enrolment: enrolment.clone() };
            let accepted = answer(self.operator(place).await?.identity().accept_enrolment(request)).await?;
            for invited in accepted.invitations.iter().filter(|one| one.account_id == practice.account) {
                self.activate(place, &invited.code, &practice.login).await?;
            }
        }
        Ok(())
    }
}

impl Newcomer {
    /// A `[[peer]]` of another region.
    fn as_peer(&self) -> Table {
        let mut peer = self.as_coordinated();
        peer.insert("statement_key".to_owned(), self.statement_key.clone().into());
        peer.insert("checkpoint_key".to_owned(), self.checkpoint_key.clone().into());
        peer
    }

    /// A `[[region]]` of the coordinator.
    fn as_coordinated(&self) -> Table {
        let spiffe = format!("spiffe://{TRUST_DOMAIN}/region/{}", self.name);
        let pairs = [("region", self.name.clone()), ("endpoint", local(self.peers_port)), ("spiffe", spiffe)];
        pairs.into_iter().map(|(key, value)| (key.to_owned(), value.into())).collect()
    }
}

fn table<'a>(settings: &'a mut Table, name: &str) -> Outcome<&'a mut Table> {
    Ok(settings.get_mut(name).and_then(Value::as_table_mut).ok_or("no such table")?)
}

fn listen(settings: &mut Table, listener: &str, port: u16) -> Outcome<()> {
    table(settings, listener)?.insert("listen".to_owned(), format!("127.0.0.1:{port}").into());
    Ok(())
}

fn local(port: u16) -> String {
    format!("https://127.0.0.1:{port}")
}

/// A free port below those that outgoing connections are given.
fn free_port() -> Outcome<u16> {
    let ctx = Ctx::system();
    for _ in 0..200 {
        let port = 20_000 + u16::from_be_bytes(ctx.random()) % 12_000;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    Err("no free port".into())
}
