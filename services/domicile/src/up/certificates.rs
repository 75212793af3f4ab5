//! Certificates of a deployment on one machine: an authority of its own, made once, and short-lived
//! certificates made at each start. For development: its private key lies in the folder.

use std::path::Path;

use domicile_cli::failure::{Failure, Result};
use domicile_config::SpiffeId;
use domicile_types::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, SanType, string::Ia5String,
};

use super::files;
use super::layout::Layout;

/// The trust domain of every deployment that `domicile up` makes.
pub(crate) const TRUST_DOMAIN: &str = "domicile.local";
/// Days a certificate lasts: the next start makes another.
const LEAF_DAYS: i64 = 90;
/// Days the authority lasts.
const AUTHORITY_DAYS: i64 = 3_650;

/// The authority that signs a deployment's certificates.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    now: Timestamp,
}

/// A certificate and its private key, PEM.
pub(crate) struct Leaf {
    certificate: String,
    key: String,
}

impl Authority {
    /// The folder's authority, made when there is none.
    pub(crate) fn open(layout: &Layout, now: Timestamp) -> Result<Self> {
        let kept = (files::read(&layout.authority())?, files::read(&layout.authority_key())?);
        let (certificate, key) = match kept {
            (Some(certificate), Some(key)) => (certificate, key),
            _ => {
                let (certificate, key) = make_authority(now).map_err(refused)?;
                files::replace(&layout.authority_key(), key.as_bytes())?;
                files::replace(&layout.authority(), certificate.as_bytes())?;
                (certificate, key)
            }
        };
        let key = KeyPair::from_pem(&key).map_err(refused)?;
        let issuer = Issuer::from_ca_cert_pem(&certificate, key).map_err(refused)?;
        Ok(Self { issuer, now })
    }

    /// A certificate for the people's listener: `localhost` and the loopback address.
    pub(crate) fn people(&self) -> Result<Leaf> {
        self.leaf(None, &[ExtendedKeyUsagePurpose::ServerAuth])
    }

    /// A certificate for a peer: its SPIFFE ID as the only URI.
    pub(crate) fn peer(&self, name: &SpiffeId) -> Result<Leaf> {
        self.leaf(Some(name), &[ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth])
    }

    fn leaf(&self, name: Option<&SpiffeId>, usages: &[ExtendedKeyUsagePurpose]) -> Result<Leaf> {
        let leaf = || {
            let mut params = CertificateParams::new(["localhost".to_owned(), "127.0.0.1".to_owned()])?;
            if let Some(name) = name {
                params.subject_alt_names.push(SanType::URI(Ia5String::try_from(name.as_str())?));
            }
            params.distinguished_name = called("Domicile on one machine");
            params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
            params.extended_key_usages = usages.to_vec();
            params.use_authority_key_identifier_extension = true;
            valid(&mut params, self.now, LEAF_DAYS);
            let key = KeyPair::generate()?;
            let certificate = params.signed_by(&key, &self.issuer)?;
            Ok(Leaf { certificate: certificate.pem(), key: key.serialize_pem() })
        };
        leaf().map_err(refused)
    }
}

impl Leaf {
    /// Writes `<name>.pem` and `<name>.key` into a folder.
    pub(crate) fn write(&self, folder: &Path, name: &str) -> Result<()> {
        files::replace(&folder.join(format!("{name}.key")), self.key.as_bytes())?;
        files::replace(&folder.join(format!("{name}.pem")), self.certificate.as_bytes())
    }
}

fn make_authority(now: Timestamp) -> std::result::Result<(String, String), rcgen::Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name = called("Domicile development authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    valid(&mut params, now, AUTHORITY_DAYS);
    let key = KeyPair::generate()?;
    Ok((params.self_signed(&key)?.pem(), key.serialize_pem()))
}

fn called(name: &str) -> DistinguishedName {
    let mut called = DistinguishedName::new();
    called.push(DnType::CommonName, name);
    called
}

/// From yesterday, for clocks that differ, for this many days.
fn valid(params: &mut CertificateParams, now: Timestamp, days: i64) {
    let at = |days: i64| {
        let seconds = now.seconds().saturating_add(days.saturating_mul(86_400));
        let date = jiff::Timestamp::from_second(seconds).unwrap_or_default();
        let date = date.to_zoned(jiff::tz::TimeZone::UTC).date();
        let month = u8::try_from(date.month()).unwrap_or(1);
        let day = u8::try_from(date.day()).unwrap_or(1);
        rcgen::date_time_ymd(date.year().into(), month, day)
    };
    params.not_before = at(-1);
    params.not_after = at(days);
}

#[expect(clippy::needless_pass_by_value, reason = "used as a mapping function")]
fn refused(cause: rcgen::Error) -> Failure {
    let advice = "Remove ca.pem and ca.key from the folder to have them made again.";
    Failure::local(format!("certificates: {cause}"), advice)
}

#[cfg(test)]
mod tests {
    use domicile_types::RegionId;

    use super::*;

    #[test]
    fn the_authority_is_made_once_and_signs_both_kinds() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path().to_path_buf());
        let now = Timestamp::from_micros(1_800_000_000_000_000);
        let first = Authority::open(&layout, now).unwrap();
        let kept = std::fs::read(layout.authority()).unwrap();
        Authority::open(&layout, now).unwrap();
        assert_eq!(std::fs::read(layout.authority()).unwrap(), kept);

        first.people().unwrap().write(folder.path(), "people").unwrap();
        let eu = SpiffeId::region(TRUST_DOMAIN, &RegionId::new("eu").unwrap()).unwrap();
        first.peer(&eu).unwrap().write(folder.path(), "peer").unwrap();
        assert!(folder.path().join("peer.pem").exists() && folder.path().join("people.key").exists());
    }
}
