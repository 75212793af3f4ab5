//! The one connection behind a channel and its clones.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use domicile_types::{Code, Error, Result};
use http::{Request, Response};
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::sync::Mutex;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tonic::body::Body;

use crate::net::Net;
use crate::tls::Reloaded;

/// How long opening a connection may take, TLS and all.
const CONNECT: Duration = Duration::from_secs(5);
/// How often a connection is pinged, and how long the answer may take.
const KEEPALIVE: Duration = Duration::from_secs(15);
const KEEPALIVE_ANSWER: Duration = Duration::from_secs(10);
/// What one stream and one connection may have in flight: enough for a page of a transfer.
const STREAM_WINDOW: u32 = 2 * 1024 * 1024;
const CONNECTION_WINDOW: u32 = 8 * 1024 * 1024;
/// How often a request that never left is tried on a new connection.
const TRIES: usize = 3;

/// Opens TLS connections to one server.
pub(super) struct Connector {
    pub(super) net: Arc<dyn Net>,
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) name: ServerName<'static>,
    pub(super) tls: Arc<Reloaded<ClientConfig>>,
}

impl Connector {
    async fn open(&self) -> io::Result<SendRequest<Body>> {
        let io = self.net.connect(&self.host, self.port).await?;
        let stream = TlsConnector::from(self.tls.current()).connect(self.name.clone(), io).await?;
        if stream.get_ref().1.alpn_protocol() != Some(b"h2") {
            return Err(io::Error::other("the server does not speak HTTP/2"));
        }
        let mut http2 = Builder::new(TokioExecutor::new());
        http2
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .keep_alive_interval(KEEPALIVE)
            .keep_alive_timeout(KEEPALIVE_ANSWER)
            .keep_alive_while_idle(true);
        let (sender, connection) = http2.handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection ended");
            }
        });
        Ok(sender)
    }
}

/// A connection that is opened when there is none.
pub(super) struct Connection {
    connector: Connector,
    /// The open connection, if any; held while one is being opened, so that only one is.
    open: Mutex<Option<SendRequest<Body>>>,
    /// Attempts to open one that failed.
    failures: AtomicU64,
}

impl Connection {
    pub(super) fn new(connector: Connector) -> Self {
        Self { connector, open: Mutex::new(None), failures: AtomicU64::new(0) }
    }

    /// Sends a request. One that a closing connection never took goes over a new one: an aged
    /// connection, or a server that was started again, is not the caller's concern.
    pub(super) async fn send(&self, mut request: Request<Body>) -> Result<Response<Body>> {
        let mut tries = 1;
        loop {
            let mut sender = self.sender().await?;
            let mut failed = match sender.try_send_request(request).await {
                Ok(response) => return Ok(response.map(Body::new)),
                Err(failed) => failed,
            };
            match failed.take_message() {
                Some(unsent) if tries < TRIES => request = unsent,
                _ => return Err(Error::new(Code::ServiceSilent).because(failed.into_error())),
            }
            tries += 1;
        }
    }

    async fn sender(&self) -> Result<SendRequest<Body>> {
        let failures = self.failures.load(Ordering::Acquire);
        let mut open = self.open.lock().await;
        if let Some(sender) = open.as_ref().filter(|sender| !sender.is_closed()) {
            return Ok(sender.clone());
        }
        // Whoever waited while another's attempt failed shares its failure: a dead server must not be
        // waited for by one caller after the other.
        if self.failures.load(Ordering::Acquire) != failures {
            return Err(Error::new(Code::ServiceSilent).because("the connection could not be opened"));
        }
        let opened = timeout(CONNECT, self.connector.open())
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        match opened {
            Ok(sender) => Ok(open.insert(sender).clone()),
            Err(cause) => {
                self.failures.fetch_add(1, Ordering::AcqRel);
                Err(Error::new(unopened(&cause)).because(cause))
            }
        }
    }
}

/// Somebody answers whom the certificate does not show to be the server meant, or nobody does.
fn unopened(cause: &io::Error) -> Code {
    let tls = cause.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>());
    match tls {
        Some(rustls::Error::InvalidCertificate(_)) => Code::ServerNotTrusted,
        _ => Code::ServiceSilent,
    }
}
