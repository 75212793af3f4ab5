//! A channel to one server: connects when first used and again when needed.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use domicile_config::SpiffeId;
use domicile_types::{Code, Error, Result};
use futures::future::BoxFuture;
use http::header::AUTHORIZATION;
use http::{HeaderValue, Request, Response, Uri};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::body::Body;
use tower::Service;

use crate::material::Pem;
use crate::net::{Io, Net};
use crate::tls::{Reloaded, client_config};

const CONNECT: Duration = Duration::from_secs(5);
const KEEPALIVE: Duration = Duration::from_secs(15);
const KEEPALIVE_ANSWER: Duration = Duration::from_secs(10);
const STREAM_WINDOW: u32 = 2 * 1024 * 1024;
const CONNECTION_WINDOW: u32 = 8 * 1024 * 1024;

/// Who a server must prove to be.
#[derive(Clone, Debug)]
pub enum ServerIdentity {
    /// The host of this name, or IP address, as its certificate names it.
    Dns(String),
    /// The peer of this name, whatever its host is called.
    Spiffe(SpiffeId),
}

/// The certificate a client shows.
#[derive(Clone)]
pub struct ClientIdentity {
    /// The chain.
    pub certificate: Pem,
    /// Its private key.
    pub key: Pem,
}

/// Where and whom to call.
#[derive(Clone)]
pub struct Endpoint {
    /// `https://host:port`.
    pub uri: String,
    /// Who must answer.
    pub server: ServerIdentity,
    /// The authority that signed the server's certificate.
    pub authority: Pem,
    /// What to show; peers ask for it, people's listeners do not.
    pub identity: Option<ClientIdentity>,
}

/// Makes a channel. Nothing is connected yet; certificates and authority are checked now, and read
/// again when their files change.
///
/// # Errors
/// [`Code::ConfigurationInvalid`] for an address that is not `https://host:port`, or certificates that do not fit.
pub fn connect(endpoint: Endpoint, net: Arc<dyn Net>) -> Result<Channel> {
    let wrong = |place: &'static str| Error::new(Code::ConfigurationInvalid).at(place);
    let uri: Uri = endpoint.uri.parse().map_err(|_| wrong("endpoint"))?;
    let (Some("https"), Some(host), Some(port)) = (uri.scheme_str(), uri.host(), uri.port_u16()) else {
        return Err(wrong("endpoint"));
    };
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let name = match &endpoint.server {
        ServerIdentity::Dns(name) => name.clone(),
        ServerIdentity::Spiffe(_) => host.clone(),
    };
    let name = ServerName::try_from(name).map_err(|_| wrong("server name"))?;
    let Endpoint { server, authority, identity, .. } = endpoint;
    let mut files = vec![authority.clone()];
    files.extend(identity.iter().flat_map(|own| [own.certificate.clone(), own.key.clone()]));
    let build = move |_: &[Pem]| client_config(&server, &authority, identity.as_ref());
    let tls = Reloaded::new(files, Box::new(build))?;
    let connector = Connector { net, host, port, name, tls: Arc::new(tls) };
    let inner = transport(uri).connect_with_connector_lazy(connector);
    Ok(Channel { inner, bearer: None, deadline: None })
}

fn transport(uri: Uri) -> tonic::transport::Endpoint {
    tonic::transport::Endpoint::from(uri)
        .connect_timeout(CONNECT)
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE_ANSWER)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
}

/// A connection that opens itself, for generated clients: `XClient::new(channel)`. Clones share it.
#[derive(Clone)]
pub struct Channel {
    inner: tonic::transport::Channel,
    bearer: Option<HeaderValue>,
    deadline: Option<HeaderValue>,
}

impl Channel {
    /// The same connection, with a session's token on every call.
    ///
    /// # Errors
    /// [`Code::InvalidRequest`] for a token that cannot be sent.
    pub fn bearer(mut self, token: &str) -> Result<Self> {
        let value = HeaderValue::try_from(format!("Bearer {token}"));
        let mut value = value.map_err(|_| Error::new(Code::InvalidRequest).at("token"))?;
        value.set_sensitive(true);
        self.bearer = Some(value);
        Ok(self)
    }

    /// The same connection, with a deadline on every call that names none of its own. It bounds the
    /// time until the answer begins, not a stream that follows.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        let millis = deadline.as_millis().clamp(1, 99_999_999);
        self.deadline = HeaderValue::try_from(format!("{millis}m")).ok();
        self
    }
}

impl Service<Request<Body>> for Channel {
    type Response = Response<Body>;
    type Error = tonic::transport::Error;
    type Future = tonic::transport::channel::ResponseFuture;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let headers = request.headers_mut();
        if let Some(bearer) = &self.bearer {
            headers.insert(AUTHORIZATION, bearer.clone());
        }
        if let Some(deadline) = &self.deadline {
            headers.entry("grpc-timeout").or_insert_with(|| deadline.clone());
        }
        self.inner.call(request)
    }
}

/// Opens TLS connections to one server.
#[derive(Clone)]
struct Connector {
    net: Arc<dyn Net>,
    host: String,
    port: u16,
    name: ServerName<'static>,
    tls: Arc<Reloaded<ClientConfig>>,
}

impl Connector {
    async fn open(self) -> std::io::Result<TokioIo<TlsStream<Box<dyn Io>>>> {
        let io = self.net.connect(&self.host, self.port).await?;
        let stream = TlsConnector::from(self.tls.current()).connect(self.name, io).await?;
        if stream.get_ref().1.alpn_protocol() != Some(b"h2") {
            return Err(std::io::Error::other("the server does not speak HTTP/2"));
        }
        Ok(TokioIo::new(stream))
    }
}

impl Service<Uri> for Connector {
    type Response = TokioIo<TlsStream<Box<dyn Io>>>;
    type Error = std::io::Error;
    type Future = BoxFuture<'static, std::io::Result<Self::Response>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        Box::pin(self.clone().open())
    }
}
