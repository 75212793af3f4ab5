//! TLS 1.3 alone, HTTP/2 alone, one provider (aws-lc-rs), hybrid post-quantum key exchange first.

use std::sync::{Arc, Mutex, PoisonError, RwLock};

use domicile_config::{PeersListener, PeopleListener, SpiffeId};
use domicile_types::{Code, Error, Result};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, verify_server_cert_signed_by_trust_anchor};
use rustls::crypto::aws_lc_rs::{self, kx_group};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::{NoServerSessionStorage, ParsedCertificate, WebPkiClientVerifier};
use rustls::sign::SingleCertAndKey;
use rustls::version::TLS13;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme,
};

use crate::client::{ClientIdentity, ServerIdentity};
use crate::material::{Pem, Stamp, certified, roots};
use crate::peers::spiffe_id;

const HTTP2: &[u8] = b"h2";

/// A listener's certificates. Changed files are taken up at the next handshake, without a restart;
/// files that do not fit together are not, and the last good ones stay.
#[derive(Clone)]
pub struct ServerTls(Arc<Reloaded<ServerConfig>>);

impl ServerTls {
    /// For people's clients.
    ///
    /// # Errors
    /// [`Code::ConfigurationInvalid`] when a file cannot be read or does not fit.
    pub fn people(settings: &PeopleListener) -> Result<Self> {
        let (certificate, key) = (Pem::file(&settings.certificate), Pem::file(&settings.key));
        Self::new(vec![certificate, key], |pem| server_config(&pem[0], &pem[1], None))
            .map_err(within("people"))
    }

    /// For peers: whoever connects shows a certificate of the authority.
    ///
    /// # Errors
    /// [`Code::ConfigurationInvalid`] when a file cannot be read or does not fit.
    pub fn peers(settings: &PeersListener) -> Result<Self> {
        let files = [&settings.certificate, &settings.key, &settings.authority].map(Pem::file);
        Self::new(files.to_vec(), |pem| server_config(&pem[0], &pem[1], Some(&pem[2])))
            .map_err(within("peers"))
    }

    fn new(pem: Vec<Pem>, build: fn(&[Pem]) -> Result<ServerConfig>) -> Result<Self> {
        Reloaded::new(pem, Box::new(build)).map(|config| Self(Arc::new(config)))
    }

    pub(crate) fn current(&self) -> Arc<ServerConfig> {
        self.0.current()
    }

    /// Takes changed files up now; whether what is in use is what the files hold.
    #[must_use]
    pub fn up_to_date(&self) -> bool {
        self.0.current();
        self.0.is_current()
    }
}

fn within(listener: &'static str) -> impl Fn(Error) -> Error {
    move |error| {
        let place = format!("{listener}.{}", error.place().unwrap_or_default());
        error.at(place)
    }
}

type Build<T> = Box<dyn Fn(&[Pem]) -> Result<T> + Send + Sync>;

/// Something built from PEM files, built again when they change.
pub(crate) struct Reloaded<T> {
    pem: Vec<Pem>,
    build: Build<T>,
    last: RwLock<(Vec<Option<Stamp>>, Arc<T>)>,
    /// The files that did not fit, so that they are complained of once.
    refused: Mutex<Option<Vec<Option<Stamp>>>>,
}

impl<T> Reloaded<T> {
    pub(crate) fn new(pem: Vec<Pem>, build: Build<T>) -> Result<Self> {
        let stamps = stamps(&pem);
        let built = Arc::new(build(&pem)?);
        Ok(Self { pem, build, last: RwLock::new((stamps, built)), refused: Mutex::new(None) })
    }

    /// What the files hold now, or the last that was good.
    pub(crate) fn current(&self) -> Arc<T> {
        let stamps = stamps(&self.pem);
        let last = self.last.read().unwrap_or_else(PoisonError::into_inner);
        if last.0 == stamps {
            return Arc::clone(&last.1);
        }
        drop(last);
        self.rebuild(stamps)
    }

    /// Whether what is in use was built from the files as they are.
    fn is_current(&self) -> bool {
        self.last.read().unwrap_or_else(PoisonError::into_inner).0 == stamps(&self.pem)
    }

    fn rebuild(&self, stamps: Vec<Option<Stamp>>) -> Arc<T> {
        let built = (self.build)(&self.pem);
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        let mut last = self.last.write().unwrap_or_else(PoisonError::into_inner);
        match built {
            Ok(built) => {
                tracing::info!("certificates changed");
                *last = (stamps, Arc::new(built));
                *refused = None;
            }
            // Not taken for read: half-written files are looked at again at the next handshake.
            Err(error) => {
                if refused.as_ref() != Some(&stamps) {
                    tracing::error!(?error, "new certificates do not fit; the old ones stay in use");
                    *refused = Some(stamps);
                }
            }
        }
        Arc::clone(&last.1)
    }
}

fn stamps(pem: &[Pem]) -> Vec<Option<Stamp>> {
    pem.iter().map(Pem::stamp).collect()
}

fn provider() -> Arc<CryptoProvider> {
    let mut provider = aws_lc_rs::default_provider();
    provider.kx_groups =
        vec![kx_group::X25519MLKEM768, kx_group::X25519, kx_group::SECP256R1, kx_group::SECP384R1];
    Arc::new(provider)
}

fn unusable(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::new(Code::ConfigurationInvalid).at("certificate").because(cause)
}

fn server_config(certificate: &Pem, key: &Pem, authority: Option<&Pem>) -> Result<ServerConfig> {
    let provider = provider();
    let own = certified(certificate, key, &provider)?;
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&TLS13])
        .map_err(unusable)?;
    let builder = match authority {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(roots(authority)?, provider);
            builder.with_client_cert_verifier(verifier.build().map_err(unusable)?)
        }
    };
    let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(own)));
    config.alpn_protocols = vec![HTTP2.to_vec()];
    // No resumption: a resumed session would skip the look at the certificate.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// A client's configuration for one server.
pub(crate) fn client_config(
    server: &ServerIdentity,
    authority: &Pem,
    identity: Option<&ClientIdentity>,
) -> Result<ClientConfig> {
    let provider = provider();
    let roots = roots(authority)?;
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&TLS13])
        .map_err(unusable)?;
    let builder = match server {
        ServerIdentity::Dns(_) => builder.with_root_certificates(roots),
        ServerIdentity::Spiffe(name) => {
            let algorithms = provider.signature_verification_algorithms;
            let verifier = SpiffeVerifier { name: name.clone(), roots, algorithms };
            builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier))
        }
    };
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some(identity) => {
            let own = certified(&identity.certificate, &identity.key, &provider)?;
            builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(own)))
        }
    };
    config.alpn_protocols = vec![HTTP2.to_vec()];
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// Takes a server whose certificate the authority signed and whose SPIFFE ID is the expected one,
/// whole; the host's name says nothing about who a peer is.
#[derive(Debug)]
struct SpiffeVerifier {
    name: SpiffeId,
    roots: Arc<RootCertStore>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for SpiffeVerifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let parsed = ParsedCertificate::try_from(leaf)?;
        verify_server_cert_signed_by_trust_anchor(
            &parsed,
            &self.roots,
            intermediates,
            now,
            self.algorithms.all,
        )?;
        match spiffe_id(leaf) {
            Some(name) if name == self.name => Ok(ServerCertVerified::assertion()),
            _ => Err(CertificateError::NotValidForName.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _leaf: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, leaf, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
