//! A channel to one server: connects when first used and again when needed.

mod connection;

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use domicile_config::SpiffeId;
use domicile_types::{Code, Error, Result};
use futures::future::BoxFuture;
use http::header::{AUTHORIZATION, USER_AGENT};
use http::uri::Authority;
use http::{HeaderMap, HeaderValue, Request, Response, Uri};
use rustls::pki_types::ServerName;
use tokio::time::timeout;
use tonic::Status;
use tonic::body::Body;
use tower::Service;
use tracing::Instrument as _;

use self::connection::{Connection, Connector};
use crate::guard::grpc_timeout;
use crate::material::Pem;
use crate::net::Net;
use crate::observe;
use crate::status::to_status;
use crate::tls::{Reloaded, client_config};

/// What a caller waits beyond its deadline, so that the server's own words about it arrive.
const SLACK: Duration = Duration::from_secs(1);
const AGENT: HeaderValue = HeaderValue::from_static(concat!("domicile/", env!("CARGO_PKG_VERSION")));

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
    let Endpoint { uri, server, authority, identity } = endpoint;
    let wrong = |place: &'static str| Error::new(Code::ConfigurationInvalid).at(place);
    let uri: Uri = uri.parse().map_err(|_| wrong("endpoint"))?;
    let (Some("https"), Some(address), Some(port)) = (uri.scheme_str(), uri.authority(), uri.port_u16())
    else {
        return Err(wrong("endpoint"));
    };
    let host = address.host().trim_start_matches('[').trim_end_matches(']').to_owned();
    let name = match &server {
        ServerIdentity::Dns(name) => name.clone(),
        ServerIdentity::Spiffe(_) => host.clone(),
    };
    let name = ServerName::try_from(name).map_err(|_| wrong("server name"))?;
    let peer = peer_name(&server);
    let mut files = vec![authority.clone()];
    files.extend(identity.iter().flat_map(|own| [own.certificate.clone(), own.key.clone()]));
    let build = move |_: &[Pem]| client_config(&server, &authority, identity.as_ref());
    let tls = Arc::new(Reloaded::new(files, Box::new(build))?);
    let connector = Connector { net, host, port, name, tls };
    let connection = Arc::new(Connection::new(connector));
    Ok(Channel { connection, address: address.clone(), peer, bearer: None, deadline: None })
}

/// A connection that opens itself, for generated clients: `XClient::new(channel)`. Clones share it.
///
/// Its error is a [`Status`] that carries a code of ours: [`Code::ServiceSilent`] when the server
/// cannot be reached or proves to be another, [`Code::DeadlineExceeded`] when it does not answer in time.
#[derive(Clone)]
pub struct Channel {
    connection: Arc<Connection>,
    address: Authority,
    /// Who answers, as measurements name them.
    peer: Arc<str>,
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

    fn address(&self, path: &Uri) -> Uri {
        let path = path.path_and_query().map_or("/", |path| path.as_str());
        let uri = Uri::builder().scheme("https").authority(self.address.clone()).path_and_query(path);
        uri.build().unwrap_or_default()
    }

    fn prepare(&self, request: &mut Request<Body>) {
        *request.uri_mut() = self.address(request.uri());
        let headers = request.headers_mut();
        headers.insert(USER_AGENT, AGENT);
        if let Some(bearer) = &self.bearer {
            headers.insert(AUTHORIZATION, bearer.clone());
        }
        if let Some(deadline) = &self.deadline {
            headers.entry("grpc-timeout").or_insert_with(|| deadline.clone());
        }
    }
}

/// A peer by the end of its configured name; whatever people call is a region to them.
fn peer_name(server: &ServerIdentity) -> Arc<str> {
    match server {
        ServerIdentity::Spiffe(name) => name.as_str().rsplit('/').next().unwrap_or_default().into(),
        ServerIdentity::Dns(_) => "region".into(),
    }
}

fn named_deadline(headers: &HeaderMap) -> Option<Duration> {
    grpc_timeout(headers.get("grpc-timeout")?.to_str().ok()?)
}

impl Service<Request<Body>> for Channel {
    type Response = Response<Body>;
    type Error = Status;
    type Future = BoxFuture<'static, Result<Response<Body>, Status>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        self.prepare(&mut request);
        let connection = Arc::clone(&self.connection);
        let deadline = named_deadline(request.headers());
        let watch = observe::called(&self.peer, &mut request);
        let span = watch.as_ref().map_or_else(tracing::Span::none, observe::Watch::span);
        let sent = async move {
            let sending = connection.send(request);
            let answer = match deadline {
                None => sending.await,
                Some(deadline) => timeout(deadline.saturating_add(SLACK), sending)
                    .await
                    .unwrap_or_else(|_| Err(Error::new(Code::DeadlineExceeded))),
            };
            observe::answered(watch, answer.map_err(to_status))
        };
        Box::pin(sent.instrument(span))
    }
}
