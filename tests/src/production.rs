//! PostgreSQL as in production: a cluster of its own for each region, with an authority and a server
//! certificate of its own, TLS 1.3 and scram or no connection at all.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use domicile_types::Ctx;
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType,
};
use tokio::process::{Child, ChildStdin, Command};
use tokio::time::{Instant, timeout};

use crate::postgres::{binary, free_port, psql};
use crate::world::{Outcome, pause};

/// What differs from PostgreSQL's defaults; the rest is in its own file, so that a test can change it.
const SETTINGS: &str = "\
listen_addresses = '127.0.0.1'
fsync = on
max_connections = 200
shared_buffers = 32MB
password_encryption = 'scram-sha-256'
ssl = on
ssl_min_protocol_version = 'TLSv1.3'
";
/// Nobody comes in without TLS.
const ACCESS: &str = "hostssl all all 127.0.0.1/32 scram-sha-256\n\
                      hostssl replication postgres 127.0.0.1/32 scram-sha-256\n";
/// The roles of a region's operator; see docs/operations.md.
const ROLES: [&str; 4] = ["domicile_owner", "domicile_app", "domicile_sequencer", "domicile_keys"];
/// How long the server may take to start or to stop.
const PATIENCE: Duration = Duration::from_secs(90);

/// An authority that signs server certificates.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Its own certificate, PEM.
    pub certificate: String,
}

impl Authority {
    /// A fresh one.
    ///
    /// # Errors
    /// When none can be made.
    pub fn fresh() -> Outcome<Self> {
        let mut params = CertificateParams::default();
        // Of its own name: a bundle holds several.
        let name = format!("Test authority {:016x}", u64::from_be_bytes(Ctx::system().random()));
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?.pem();
        Ok(Self { issuer: Issuer::new(params, key), certificate })
    }

    /// A server's certificate under these names, and its key, PEM.
    ///
    /// # Errors
    /// For names that no certificate can hold.
    pub fn server(&self, names: &[&str]) -> Outcome<(String, String)> {
        self.leaf(names, None)
    }

    /// A peer's certificate: of this machine, and with a SPIFFE ID; and its key, PEM.
    ///
    /// # Errors
    /// For a name that no certificate can hold.
    pub fn peer(&self, spiffe: &str) -> Outcome<(String, String)> {
        self.leaf(&["localhost", "127.0.0.1"], Some(spiffe))
    }

    fn leaf(&self, names: &[&str], spiffe: Option<&str>) -> Outcome<(String, String)> {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names)?;
        if let Some(spiffe) = spiffe {
            params.subject_alt_names.push(SanType::URI(spiffe.try_into()?));
        }
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok((certificate.pem(), key.serialize_pem()))
    }
}

/// A running cluster; it ends with this value, or with this process.
pub struct Cluster {
    home: PathBuf,
    port: u16,
    password: String,
    /// Who signs its certificates.
    pub authority: Authority,
    supervisor: Child,
    /// Closing it ends the server.
    pipe: Option<ChildStdin>,
}

impl Cluster {
    /// Makes a cluster and starts it.
    ///
    /// # Errors
    /// When PostgreSQL is not there or does not start.
    pub async fn start() -> Outcome<Self> {
        let home = tempfile::Builder::new().prefix("domicile-production-").tempdir()?.keep();
        // The server's own user passes through.
        std::fs::set_permissions(&home, std::fs::Permissions::from_mode(0o755))?;
        let password = format!("{:032x}", u128::from_be_bytes(Ctx::system().random()));
        private(&home.join("password"), &password)?;
        let authority = Authority::fresh()?;
        std::fs::write(home.join("ca.crt"), &authority.certificate)?;
        let (certificate, key) = authority.server(&["localhost", "127.0.0.1"])?;
        private(&home.join("server.key"), &key)?;
        std::fs::write(home.join("server.crt"), certificate)?;
        let files = home.display();
        let tls = format!("ssl_cert_file = '{files}/server.crt'\nssl_key_file = '{files}/server.key'\n");
        std::fs::write(home.join("settings"), format!("{SETTINGS}{tls}"))?;
        std::fs::write(home.join("pg_hba.conf"), ACCESS)?;
        let script = home.join("cluster.sh");
        std::fs::write(&script, include_str!("production.sh"))?;
        let port = free_port()?;
        let bin = binary("initdb")?;
        let log = std::fs::File::create(home.join("log"))?;
        let mut command = Command::new("sh");
        command.arg(&script).arg(&home).arg(bin.parent().ok_or("no folder of programs")?);
        command.arg(port.to_string());
        command.stdin(Stdio::piped()).stdout(log.try_clone()?).stderr(log);
        let mut supervisor = command.spawn()?;
        let pipe = supervisor.stdin.take();
        let cluster = Self { home, port, password, authority, supervisor, pipe };
        cluster.wait().await?;
        for role in ROLES {
            cluster.sql("postgres", &format!("CREATE ROLE {role} LOGIN PASSWORD '{}'", cluster.password))?;
        }
        // As docs/operations.md asks, for the copy of the log to be seen.
        cluster.sql("postgres", "GRANT pg_read_all_stats TO domicile_app, domicile_keys")?;
        cluster.sql("postgres", "CREATE DATABASE domicile OWNER domicile_owner")?;
        Ok(cluster)
    }

    async fn wait(&self) -> Outcome<()> {
        let until = Instant::now() + PATIENCE;
        while let Err(error) = self.sql("postgres", "SELECT 1") {
            if self.home.join("failed").exists() || Instant::now() > until {
                let log = std::fs::read_to_string(self.home.join("log"))?;
                return Err(format!("PostgreSQL does not start: {error}\n{log}").into());
            }
            pause().await;
        }
        Ok(())
    }

    /// The region's `[database]` table.
    #[must_use]
    pub fn table(&self) -> toml::Table {
        let urls = ["url", "sequencer_url", "keys_url", "owner_url"].into_iter();
        let roles = ["domicile_app", "domicile_sequencer", "domicile_keys", "domicile_owner"];
        urls.zip(roles).map(|(key, role)| (key.to_owned(), self.url(role, "domicile").into())).collect()
    }

    /// The URL for a role and a database, over checked TLS.
    #[must_use]
    pub fn url(&self, role: &str, database: &str) -> String {
        let Self { port, password, home, .. } = self;
        let authority = home.join("ca.crt");
        format!(
            "postgres://{role}:{password}@127.0.0.1:{port}/{database}?sslmode=verify-full&sslrootcert={}",
            authority.display()
        )
    }

    /// Runs SQL as the superuser.
    ///
    /// # Errors
    /// With what the server said.
    pub fn sql(&self, database: &str, sql: &str) -> Outcome<String> {
        Ok(psql(&self.url("postgres", database), sql)?)
    }

    /// Waits until a record is at home in this region.
    ///
    /// # Errors
    /// When it does not come.
    pub async fn home_of(&self, subject: &str) -> Outcome<()> {
        let sql = format!("SELECT lower(standing) FROM residency WHERE subject_id = '{subject}'");
        let until = Instant::now() + PATIENCE;
        while self.sql("domicile", &sql)? != "active" {
            if Instant::now() > until {
                return Err("the record does not arrive".into());
            }
            pause().await;
        }
        Ok(())
    }

    /// Runs SQL as the superuser, over whatever the server offers now.
    ///
    /// # Errors
    /// With what the server said.
    pub fn sql_anyhow(&self, sql: &str) -> Outcome<String> {
        let Self { port, password, .. } = self;
        Ok(psql(&format!("postgres://postgres:{password}@127.0.0.1:{port}/postgres?sslmode=prefer"), sql)?)
    }

    /// Puts another certificate in the place of the server's.
    ///
    /// # Errors
    /// When the files cannot be written or the server does not read them.
    pub fn certify(&self, certificate: &str, key: &str) -> Outcome<()> {
        std::fs::write(self.home.join("server.crt"), certificate)?;
        // Written into the file that belongs to the server's user.
        OpenOptions::new()
            .write(true)
            .truncate(true)
            .open(self.home.join("server.key"))?
            .write_all(key.as_bytes())?;
        self.sql_anyhow("SELECT pg_reload_conf()").map(drop)
    }

    /// Lets people in who come without TLS, or no longer.
    ///
    /// # Errors
    /// When the file cannot be written or the server does not read it.
    pub fn open_to_all(&self, open: bool) -> Outcome<()> {
        let rules = if open { "host all all 127.0.0.1/32 scram-sha-256\n" } else { ACCESS };
        let file = self.home.join("data/pg_hba.conf");
        OpenOptions::new().write(true).truncate(true).open(file)?.write_all(rules.as_bytes())?;
        self.sql_anyhow("SELECT pg_reload_conf()").map(drop)
    }

    /// Stops the server and waits until its files are gone.
    ///
    /// # Errors
    /// When it does not end in time.
    pub async fn stop(mut self) -> Outcome<()> {
        drop(self.pipe.take());
        timeout(PATIENCE, self.supervisor.wait()).await??;
        Ok(())
    }
}

fn private(path: &Path, text: &str) -> Outcome<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    Ok(file.write_all(text.as_bytes())?)
}
