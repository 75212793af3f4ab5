//! Certificates and keys: read from files, and read again when the files change.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use domicile_types::{Code, Error, Result};
use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

/// PEM text at hand, or in a file that is read again when it changes.
#[derive(Clone)]
pub enum Pem {
    /// The text.
    Text(Arc<[u8]>),
    /// The file.
    File(PathBuf),
}

impl Pem {
    /// PEM text at hand.
    #[must_use]
    pub fn text(pem: impl AsRef<[u8]>) -> Self {
        Self::Text(Arc::from(pem.as_ref()))
    }

    /// PEM in a file.
    #[must_use]
    pub fn file(path: impl AsRef<Path>) -> Self {
        Self::File(path.as_ref().to_owned())
    }

    fn read(&self) -> std::io::Result<Arc<[u8]>> {
        match self {
            Self::Text(text) => Ok(Arc::clone(text)),
            Self::File(path) => std::fs::read(path).map(Arc::from),
        }
    }

    /// What tells one state of the file from the next, without reading it.
    pub(crate) fn stamp(&self) -> Option<Stamp> {
        match self {
            Self::Text(_) => None,
            Self::File(path) => std::fs::metadata(path).ok().as_ref().map(Stamp::of),
        }
    }
}

/// A file's identity and age.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    inode: u64,
    changed: (i64, i64),
    length: u64,
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            inode: metadata.ino(),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
            length: metadata.len(),
        }
    }
}

fn broken(what: &'static str, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::new(Code::ConfigurationInvalid).at(what).because(cause)
}

/// A certificate chain with its key; refused when they do not belong together.
pub(crate) fn certified(
    certificate: &Pem,
    key: &Pem,
    provider: &CryptoProvider,
) -> Result<Arc<CertifiedKey>> {
    let chain = chain(certificate, "certificate")?;
    let text = key.read().map_err(|cause| broken("key", cause))?;
    let key = PrivateKeyDer::from_pem_slice(&text).map_err(|cause| broken("key", cause.to_string()))?;
    let certified = CertifiedKey::from_der(chain, key, provider).map_err(|cause| broken("key", cause))?;
    Ok(Arc::new(certified))
}

/// The roots in a PEM file.
pub(crate) fn roots(authority: &Pem) -> Result<Arc<RootCertStore>> {
    let mut store = RootCertStore::empty();
    for root in chain(authority, "authority")? {
        store.add(root).map_err(|cause| broken("authority", cause))?;
    }
    Ok(Arc::new(store))
}

pub(crate) fn chain(pem: &Pem, what: &'static str) -> Result<Vec<CertificateDer<'static>>> {
    let text = pem.read().map_err(|cause| broken(what, cause))?;
    let chain: std::result::Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match chain {
        Ok(chain) if chain.is_empty() => Err(broken(what, "no certificate in the file")),
        Ok(chain) => Ok(chain),
        Err(cause) => Err(broken(what, cause.to_string())),
    }
}
