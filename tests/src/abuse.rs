//! What callers send who mean no good: requests byte by byte, and HTTP/2 frame by frame.

pub mod peer;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use domicile_evidence::entry::Entry;
use domicile_rpc::{Channel, Io, Net as _, TcpNet};
use domicile_store::{FromRow, Row, Scope, Store, values};
use http_body_util::BodyExt as _;
use prost::bytes::Bytes;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;
use tonic::Status;
use tonic::body::Body;
use tower::Service as _;

use crate::world::Outcome;

/// How long a listener may take to close what it has to close.
const PATIENCE: Duration = Duration::from_secs(20);

/// Sends a request as it is given and answers its status: `Ok` where there was none.
///
/// # Errors
/// When the connection breaks before there is an answer.
pub async fn raw(channel: &Channel, path: &str, headers: &[(&str, &str)], body: Body) -> Outcome<Status> {
    let mut request = http::Request::post(format!("https://localhost{path}"));
    let usual = [("content-type", "application/grpc"), ("te", "trailers")];
    for (name, value) in usual.iter().filter(|(name, _)| headers.iter().all(|(own, _)| own != name)) {
        request = request.header(*name, *value);
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let answer = channel.clone().call(request.body(body)?).await?;
    if let Some(status) = Status::from_header_map(answer.headers()) {
        return Ok(status);
    }
    let collected = answer.into_body().collect().await?;
    let trailers = collected.trailers().cloned().unwrap_or_default();
    Ok(Status::from_header_map(&trailers).unwrap_or_else(|| Status::unknown("no status")))
}

/// One gRPC message in its frame; `flag` 1 says that it is compressed.
#[must_use]
pub fn framed(flag: u8, message: &[u8]) -> Bytes {
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes();
    [&[flag], length.as_slice(), message].concat().into()
}

/// A body that is all there at once.
#[must_use]
pub fn whole(content: Bytes) -> Body {
    Body::new(http_body_util::Full::new(content))
}

/// A body that begins like this and never goes on.
#[must_use]
pub fn unfinished(content: Bytes) -> Body {
    use futures::{StreamExt as _, stream};
    let first = stream::iter([Ok::<_, Status>(http_body::Frame::data(content))]);
    Body::new(http_body_util::StreamBody::new(first.chain(stream::pending())))
}

/// The audit entries of a store that no sequencer empties, oldest first.
///
/// # Errors
/// When they cannot be read.
pub async fn entries(store: &Store) -> Outcome<Vec<Entry>> {
    let read = store.read("test.outbox", Scope::System, |tx| {
        let sql = "SELECT entry FROM audit_outbox ORDER BY writer_sequence";
        Box::pin(async move { tx.all::<Encoded>(sql, values![]).await })
    });
    read.await?.iter().map(|row| Entry::decode(&row.0).map_err(Into::into)).collect()
}

struct Encoded(Vec<u8>);

impl FromRow for Encoded {
    fn from_row(row: &Row) -> domicile_types::Result<Self> {
        row.get("entry").map(Self)
    }
}

/// A connection that says what a test wants, past any HTTP/2 library.
pub struct Wire(TlsStream<Box<dyn Io>>);

/// A frame (RFC 9113 §4.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Its type.
    pub kind: u8,
    /// Its flags.
    pub flags: u8,
    /// Its stream; 0 for the connection.
    pub stream: u32,
    /// What it carries.
    pub payload: Vec<u8>,
}

/// Types of frames (RFC 9113 §6).
pub mod kind {
    /// A piece of a body.
    pub const DATA: u8 = 0;
    /// The head of a request.
    pub const HEADERS: u8 = 1;
    /// A stream is ended early.
    pub const RESET: u8 = 3;
    /// Settings of a side.
    pub const SETTINGS: u8 = 4;
    /// A question whether the other side is there.
    pub const PING: u8 = 6;
    /// The connection is ended.
    pub const GOAWAY: u8 = 7;
    /// More of a head.
    pub const CONTINUATION: u8 = 9;
}

/// The head is whole.
pub const END_HEADERS: u8 = 4;
/// No body follows.
pub const END_STREAM: u8 = 1;
/// An answer to settings or to a ping.
pub const ACK: u8 = 1;

impl Wire {
    /// Shakes hands and no more; `identity` is a client's chain and key, PEM.
    ///
    /// # Errors
    /// When the listener refuses.
    pub async fn shake(
        address: SocketAddr,
        authority: &str,
        identity: Option<(&str, &str)>,
    ) -> Outcome<Self> {
        let mut roots = rustls::RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(authority.as_bytes()) {
            roots.add(certificate?)?;
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(roots);
        let mut config = match identity {
            Some((chain, key)) => {
                let chain = CertificateDer::pem_slice_iter(chain.as_bytes()).collect::<Result<_, _>>()?;
                builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(key.as_bytes())?)?
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        let io = TcpNet.connect(&address.ip().to_string(), address.port()).await?;
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        Ok(Self(connector.connect(ServerName::try_from("localhost")?, io).await?))
    }

    /// Shakes hands and greets as HTTP/2 asks: the preface and empty settings.
    ///
    /// # Errors
    /// When the listener refuses.
    pub async fn open(address: SocketAddr, authority: &str) -> Outcome<Self> {
        let mut wire = Self::shake(address, authority, None).await?;
        wire.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await?;
        wire.send(kind::SETTINGS, 0, 0, &[]).await?;
        Ok(wire)
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// When the connection is gone.
    pub async fn write(&mut self, bytes: &[u8]) -> Outcome<()> {
        self.0.write_all(bytes).await?;
        Ok(self.0.flush().await?)
    }

    /// Sends a frame.
    ///
    /// # Errors
    /// When the connection is gone.
    pub async fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Outcome<()> {
        self.write(&frame(kind, flags, stream, payload)).await
    }

    /// The next frame; `None` once the connection is closed.
    ///
    /// # Errors
    /// When nothing comes for too long.
    pub async fn next(&mut self) -> Outcome<Option<Frame>> {
        let mut head = [0; 9];
        if timeout(PATIENCE, self.0.read_exact(&mut head)).await?.is_err() {
            return Ok(None);
        }
        let [a, b, c, kind, flags, stream @ ..] = head;
        let mut payload = vec![0; usize::try_from(u32::from_be_bytes([0, a, b, c]))?];
        if timeout(PATIENCE, self.0.read_exact(&mut payload)).await?.is_err() {
            return Ok(None);
        }
        let stream = u32::from_be_bytes(stream) & 0x7fff_ffff;
        Ok(Some(Frame { kind, flags, stream, payload }))
    }

    /// Everything the other side says until it closes; pings and settings are answered when `polite`.
    ///
    /// # Errors
    /// When it does not close in time.
    pub async fn until_closed(&mut self, polite: bool) -> Outcome<Vec<Frame>> {
        let mut seen = Vec::new();
        while let Some(frame) = self.next().await? {
            if polite && frame.flags & ACK == 0 && matches!(frame.kind, kind::SETTINGS | kind::PING) {
                let payload = if frame.kind == kind::PING { frame.payload.as_slice() } else { &[] };
                // A connection that is being closed no longer takes answers.
                drop(self.send(frame.kind, ACK, 0, payload).await);
            }
            seen.push(frame);
        }
        Ok(seen)
    }
}

/// A frame's bytes.
#[must_use]
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Header fields as a block (RFC 7541 §6.2.3: literals that no table keeps).
#[must_use]
pub fn fields(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0x10);
        for text in [name, value] {
            length(&mut block, text.len());
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}

/// A request's fields.
#[must_use]
pub fn request(path: &str, more: &[(&str, &str)]) -> Vec<u8> {
    let mut all = vec![
        (":method", "POST"),
        (":scheme", "https"),
        (":authority", "localhost"),
        (":path", path),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ];
    all.extend_from_slice(more);
    fields(&all)
}

/// An integer with a prefix of seven bits (RFC 7541 §5.1).
fn length(block: &mut Vec<u8>, mut value: usize) {
    let byte = |value: usize| u8::try_from(value & 0x7f).unwrap_or_default();
    if value < 0x7f {
        return block.push(byte(value));
    }
    block.push(0x7f);
    value -= 0x7f;
    while value >= 0x80 {
        block.push(byte(value) | 0x80);
        value >>= 7;
    }
    block.push(byte(value));
}
