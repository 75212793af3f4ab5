//! A collector: OTLP, protobuf over HTTP, on this machine; keeps every byte it gets.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use domicile_tests::world::Outcome;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// How it answers one path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Takes what it gets.
    Takes,
    /// Refuses it: 503.
    Refuses,
    /// Says nothing, for ever.
    Silent,
}

/// One message it got.
#[derive(Clone)]
pub(crate) struct Message {
    pub(crate) path: String,
    /// Names and values of the headers, as one text.
    pub(crate) headers: String,
    pub(crate) body: Bytes,
}

#[derive(Default)]
struct Kept {
    messages: Mutex<Vec<Message>>,
    connections: AtomicUsize,
}

/// The collector.
#[derive(Clone)]
pub(crate) struct Receiver {
    kept: Arc<Kept>,
    address: SocketAddr,
}

impl Receiver {
    /// Listens on a free port; `answer` tells by the path how to answer.
    pub(crate) async fn start(answer: fn(&str) -> Answer) -> Outcome<Self> {
        Self::listen(answer, None).await
    }

    /// The same behind TLS, with a certificate of the authority whose PEM is answered.
    pub(crate) async fn secured() -> Outcome<(Self, String)> {
        let (authority, tls) = certificates()?;
        Ok((Self::listen(|_| Answer::Takes, Some(tls)).await?, authority))
    }

    async fn listen(answer: fn(&str) -> Answer, tls: Option<TlsAcceptor>) -> Outcome<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let this = Self { kept: Arc::default(), address };
        let kept = Arc::clone(&this.kept);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                kept.connections.fetch_add(1, Ordering::SeqCst);
                let (kept, tls) = (Arc::clone(&kept), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => serve(stream, kept, answer).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                serve(stream, kept, answer).await;
                            }
                        }
                    }
                });
            }
        });
        Ok(this)
    }

    /// What to write as the endpoint.
    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Its port.
    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// Connections it was asked for.
    pub(crate) fn connections(&self) -> usize {
        self.kept.connections.load(Ordering::SeqCst)
    }

    /// Everything it got.
    pub(crate) fn messages(&self) -> Vec<Message> {
        self.kept.messages.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn serve<T>(stream: T, kept: Arc<Kept>, answer: fn(&str) -> Answer)
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request| handle(request, Arc::clone(&kept), answer));
    http1::Builder::new().serve_connection(TokioIo::new(stream), service).await.ok();
}

async fn handle(
    request: Request<Incoming>,
    kept: Arc<Kept>,
    answer: fn(&str) -> Answer,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path().to_owned();
    let headers = format!("{:?}", request.headers());
    let Ok(body) = request.into_body().collect().await else {
        return Ok(status(StatusCode::BAD_REQUEST));
    };
    let message = Message { path: path.clone(), headers, body: body.to_bytes() };
    kept.messages.lock().unwrap_or_else(PoisonError::into_inner).push(message);
    match answer(&path) {
        Answer::Takes => Ok(status(StatusCode::OK)),
        Answer::Refuses => Ok(status(StatusCode::SERVICE_UNAVAILABLE)),
        Answer::Silent => std::future::pending().await,
    }
}

fn status(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::new()));
    *response.status_mut() = status;
    response
}

fn certificates() -> Outcome<(String, TlsAcceptor)> {
    let mut root = CertificateParams::new(Vec::new())?;
    root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let root_key = KeyPair::generate()?;
    let authority = root.self_signed(&root_key)?.pem();
    let issuer = Issuer::new(root, root_key);
    let key = KeyPair::generate()?;
    let own = CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()])?;
    let own = own.signed_by(&key, &issuer)?;
    let chain = vec![CertificateDer::from(own.der().to_vec())];
    let key = PrivateKeyDer::try_from(key.serialize_der())?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    Ok((authority, TlsAcceptor::from(Arc::new(config))))
}
