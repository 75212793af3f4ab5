//! Certificates made on the spot.

use std::path::{Path, PathBuf};

use domicile_config::{PeersListener, PeopleListener};
use domicile_rpc::{ClientIdentity, Pem};
use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    SanType, date_time_ymd,
};

pub(crate) const TRUST_DOMAIN: &str = "domicile.test";

/// A certificate authority.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate with its key, PEM.
pub(crate) struct Issued {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

/// What a certificate says.
pub(crate) struct Names(CertificateParams);

impl Names {
    pub(crate) fn none() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.is_ca = IsCa::ExplicitNoCa;
        Self(params)
    }

    pub(crate) fn host(name: &str) -> Self {
        let mut names = Self::none();
        names.0.subject_alt_names = CertificateParams::new(vec![name.to_owned()]).unwrap().subject_alt_names;
        names
    }

    pub(crate) fn spiffe(path: &str) -> Self {
        Self::none().and_uri(&spiffe(path))
    }

    pub(crate) fn and_uri(mut self, uri: &str) -> Self {
        self.0.subject_alt_names.push(SanType::URI(Ia5String::try_from(uri).unwrap()));
        self
    }

    pub(crate) fn expired(mut self) -> Self {
        self.0.not_before = date_time_ymd(2019, 1, 1);
        self.0.not_after = date_time_ymd(2020, 1, 1);
        self
    }

    pub(crate) fn for_servers_only(mut self) -> Self {
        self.0.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self
    }

    pub(crate) fn called(mut self, common_name: &str) -> Self {
        self.0.distinguished_name.push(DnType::CommonName, common_name);
        self
    }
}

pub(crate) fn spiffe(path: &str) -> String {
    format!("spiffe://{TRUST_DOMAIN}/{path}")
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.distinguished_name.push(DnType::CommonName, "test authority");
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    pub(crate) fn issue(&self, Names(names): Names) -> Issued {
        let key = KeyPair::generate().unwrap();
        let certificate = names.signed_by(&key, &self.0).unwrap();
        Issued { certificate: certificate.pem(), key: key.serialize_pem() }
    }
}

impl Issued {
    pub(crate) fn identity(&self) -> ClientIdentity {
        ClientIdentity { certificate: Pem::text(&self.certificate), key: Pem::text(&self.key) }
    }

    /// Replaces both files, each at once, as a certificate manager does.
    pub(crate) fn write(&self, folder: &Path, name: &str) {
        replace(&folder.join(format!("{name}.pem")), &self.certificate);
        replace(&folder.join(format!("{name}.key")), &self.key);
    }
}

pub(crate) fn replace(path: &Path, text: &str) {
    let new = PathBuf::from(format!("{}.new", path.display()));
    std::fs::write(&new, text).unwrap();
    std::fs::rename(&new, path).unwrap();
}

pub(crate) fn people_listener(folder: &Path) -> PeopleListener {
    PeopleListener {
        listen: "127.0.0.1:0".parse().unwrap(),
        certificate: folder.join("people.pem"),
        key: folder.join("people.key"),
    }
}

pub(crate) fn peers_listener(folder: &Path) -> PeersListener {
    PeersListener {
        listen: "127.0.0.1:0".parse().unwrap(),
        certificate: folder.join("peers.pem"),
        key: folder.join("peers.key"),
        authority: folder.join("authority.pem"),
        trust_domain: TRUST_DOMAIN.to_owned(),
    }
}
