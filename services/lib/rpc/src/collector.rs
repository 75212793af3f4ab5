//! The way to a telemetry collector: HTTP/1.1 over TLS 1.3, or in plain text to this machine alone.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use domicile_config::TelemetrySettings;
use domicile_telemetry::Collector;
use domicile_types::{Code, Error, Result};
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use http::uri::{Authority, Scheme};
use http::{HeaderValue, Request, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio_rustls::TlsConnector;

use crate::client::ServerIdentity;
use crate::material::Pem;
use crate::net::{Io, Net};
use crate::tls::{Reloaded, client_config};

/// What is read of an answer; OTLP's are a few bytes.
const ANSWER: usize = 64 * 1024;

/// Connections to one collector; kept while they last.
struct Otlp {
    net: Arc<dyn Net>,
    authority: Authority,
    host: String,
    port: u16,
    tls: Option<(ServerName<'static>, Arc<Reloaded<ClientConfig>>)>,
    authorization: Option<HeaderValue>,
    idle: Mutex<Vec<SendRequest<Full<Bytes>>>>,
}

/// The collector that the settings name, if they name one. Nothing is connected yet.
///
/// # Errors
/// Configuration errors: an endpoint, authority or header that does not fit.
pub fn collector(settings: &TelemetrySettings, net: Arc<dyn Net>) -> Result<Option<Arc<dyn Collector>>> {
    let Some(endpoint) = &settings.endpoint else { return Ok(None) };
    let wrong = |place: &'static str| Error::new(Code::ConfigurationInvalid).at(place);
    let uri: Uri = endpoint.parse().map_err(|_| wrong("telemetry.endpoint"))?;
    let (Some(authority), Some(port)) = (uri.authority(), uri.port_u16()) else {
        return Err(wrong("telemetry.endpoint"));
    };
    let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
    let tls = match (uri.scheme() == Some(&Scheme::HTTPS), &settings.authority) {
        (true, Some(file)) => Some(secured(&host, Pem::file(file))?),
        (true, None) => return Err(Error::new(Code::ConfigurationMissing).at("telemetry.authority")),
        (false, _) => None,
    };
    let authorization = settings.authorization.as_ref().map(|secret| {
        let mut value =
            HeaderValue::try_from(secret.reveal()?.as_str()).map_err(|_| wrong("telemetry.authorization"))?;
        value.set_sensitive(true);
        Ok::<_, Error>(value)
    });
    Ok(Some(Arc::new(Otlp {
        net,
        authority: authority.clone(),
        host,
        port,
        tls,
        authorization: authorization.transpose()?,
        idle: Mutex::default(),
    })))
}

fn secured(host: &str, authority: Pem) -> Result<(ServerName<'static>, Arc<Reloaded<ClientConfig>>)> {
    let name = ServerName::try_from(host.to_owned())
        .map_err(|_| Error::new(Code::ConfigurationInvalid).at("telemetry.endpoint"))?;
    let (server, file) = (ServerIdentity::Dns(host.to_owned()), authority.clone());
    let build = move |_: &[Pem]| {
        let mut config = client_config(&server, &file, None)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    };
    Ok((name, Arc::new(Reloaded::new(vec![authority], Box::new(build))?)))
}

impl Otlp {
    fn kept(&self) -> Option<SendRequest<Full<Bytes>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    async fn connection(&self) -> io::Result<SendRequest<Full<Bytes>>> {
        while let Some(mut kept) = self.kept() {
            if !kept.is_closed() && kept.ready().await.is_ok() {
                return Ok(kept);
            }
        }
        let io = self.net.connect(&self.host, self.port).await?;
        match &self.tls {
            None => open(io).await,
            Some((name, tls)) => {
                open(Box::new(TlsConnector::from(tls.current()).connect(name.clone(), io).await?)).await
            }
        }
    }
}

async fn open(io: Box<dyn Io>) -> io::Result<SendRequest<Full<Bytes>>> {
    let (sender, connection) = handshake(TokioIo::new(io)).await.map_err(io::Error::other)?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection to the collector ended");
        }
    });
    Ok(sender)
}

#[async_trait]
impl Collector for Otlp {
    async fn post(&self, path: &str, content_type: &str, body: Bytes) -> io::Result<u16> {
        let mut request = Request::post(path)
            .header(HOST, self.authority.as_str())
            .header(CONTENT_TYPE, content_type)
            .body(Full::new(body))
            .map_err(io::Error::other)?;
        if let Some(value) = &self.authorization {
            request.headers_mut().insert(AUTHORIZATION, value.clone());
        }
        let mut sender = self.connection().await?;
        let answer = sender.send_request(request).await.map_err(io::Error::other)?;
        let status = answer.status().as_u16();
        // Read to its end, or the connection could not be used again.
        Limited::new(answer.into_body(), ANSWER).collect().await.map_err(io::Error::other)?;
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(sender);
        Ok(status)
    }
}
