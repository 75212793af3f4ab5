//! How bytes reach the collector: by whatever the process hands in.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{Request, Response, StatusCode};
use opentelemetry_http::{HttpClient, HttpError};
use tokio::runtime::Handle;
use tokio::time::timeout;

/// Sends one OTLP message to the collector. Sockets and TLS belong to `domicile-rpc`.
#[async_trait]
pub trait Collector: Send + Sync + 'static {
    /// Posts `body` to `path` (such as `/v1/traces`) of the collector and gives the answer's status.
    ///
    /// # Errors
    /// Whatever kept the message from being answered.
    async fn post(&self, path: &str, content_type: &str, body: Bytes) -> io::Result<u16>;
}

/// A [`Collector`] as the exporters want it. They run on threads of their own; the work is done on the
/// process's runtime, and ends after the time limit.
pub(crate) struct Wire {
    pub(crate) collector: Arc<dyn Collector>,
    pub(crate) runtime: Handle,
    pub(crate) limit: Duration,
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Wire")
    }
}

#[async_trait]
impl HttpClient for Wire {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let (collector, limit) = (Arc::clone(&self.collector), self.limit);
        let path = request.uri().path().to_owned();
        let content = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let content = content.unwrap_or("application/x-protobuf").to_owned();
        let body = request.into_body();
        let sent = self.runtime.spawn(async move {
            timeout(limit, collector.post(&path, &content, body))
                .await
                .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
        });
        let mut response = Response::new(Bytes::new());
        *response.status_mut() = StatusCode::from_u16(sent.await??)?;
        Ok(response)
    }
}
