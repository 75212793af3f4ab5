//! Certificates of the simulated processes: made once for all simulations of a test run.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::OnceLock;

use domicile_config::{PeersListener, SpiffeId};
use domicile_rpc::Pem;
use domicile_rpc::client::ClientIdentity;
use domicile_types::{Code, Error, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType, string::Ia5String,
};

use super::world::REGIONS;

/// The trust domain of every simulation.
pub(super) const DOMAIN: &str = "simulation.example";

/// One process's files.
pub(super) struct Files {
    folder: PathBuf,
    name: String,
}

impl Files {
    pub(super) fn authority(&self) -> Pem {
        Pem::file(self.folder.join("authority.pem"))
    }

    pub(super) fn identity(&self) -> ClientIdentity {
        ClientIdentity {
            certificate: Pem::file(self.folder.join(format!("{}.pem", self.name))),
            key: Pem::file(self.folder.join(format!("{}.key", self.name))),
        }
    }

    pub(super) fn listener(&self, port: u16) -> PeersListener {
        PeersListener {
            listen: SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)),
            certificate: self.folder.join(format!("{}.pem", self.name)),
            key: self.folder.join(format!("{}.key", self.name)),
            authority: self.folder.join("authority.pem"),
            trust_domain: DOMAIN.to_owned(),
        }
    }
}

/// The name in the coordinators' certificate; there may be any number of them.
pub(super) fn coordinator() -> Result<SpiffeId> {
    SpiffeId::coordinator(DOMAIN).ok_or_else(|| Error::new(Code::Internal).at("spiffe"))
}

/// The files of a host's process.
pub(super) fn of(host: &str) -> Result<Files> {
    static MADE: OnceLock<Option<tempfile::TempDir>> = OnceLock::new();
    let made = MADE.get_or_init(|| make().ok()).as_ref();
    let folder = made.ok_or_else(|| Error::new(Code::Internal).at("certificates"))?.path().to_path_buf();
    let name = if host.starts_with("coordinator") { "coordinator" } else { host };
    Ok(Files { folder, name: name.to_owned() })
}

type Made<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn make() -> Made<tempfile::TempDir> {
    let folder = tempfile::tempdir()?;
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "Simulated authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let key = KeyPair::generate()?;
    std::fs::write(folder.path().join("authority.pem"), params.self_signed(&key)?.pem())?;
    let issuer = Issuer::new(params, key);
    for name in REGIONS {
        leaf(&folder, &issuer, name, super::region::spiffe(name)?.as_str())?;
    }
    leaf(&folder, &issuer, "coordinator", coordinator()?.as_str())?;
    Ok(folder)
}

fn leaf(folder: &tempfile::TempDir, issuer: &Issuer<'_, KeyPair>, name: &str, spiffe: &str) -> Made<()> {
    let mut params = CertificateParams::new(vec![name.to_owned()])?;
    params.subject_alt_names.push(SanType::URI(Ia5String::try_from(spiffe)?));
    params.distinguished_name.push(DnType::CommonName, name);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, issuer)?;
    private(&folder.path().join(format!("{name}.key")), &key.serialize_pem())?;
    std::fs::write(folder.path().join(format!("{name}.pem")), certificate.pem())?;
    Ok(())
}

fn private(path: &std::path::Path, text: &str) -> std::io::Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut file = std::fs::OpenOptions::new().create_new(true).write(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())
}
