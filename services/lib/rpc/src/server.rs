//! A listener with its services.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use domicile_config::Limits;
use domicile_types::{Code, Ctx, Error, Result};
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::service::Routes;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use crate::audit::{AuditSink, Sessions};
use crate::body::Answering;
use crate::doors::{Activity, Closed, Doors, Pass};
use crate::guard::{Callers, Guard, Peer};
use crate::net::{Io, Listener};
use crate::observe;
use crate::peers::{Peers, spiffe_id};
use crate::tls::ServerTls;

/// What one stream and one connection may have in flight: enough for a page of a transfer.
const STREAM_WINDOW: u32 = 2 * 1024 * 1024;
const CONNECTION_WINDOW: u32 = 8 * 1024 * 1024;
/// Refused handshakes that are recorded in a second; a flood beyond it is only counted.
const REFUSALS_A_SECOND: u32 = 10;
/// The pause after the operating system could not hand out a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A server for one listener: add services, then serve.
pub struct Server {
    ctx: Ctx,
    limits: Limits,
    callers: Callers,
    sink: Arc<dyn AuditSink>,
    routes: Routes,
    health: HealthReporter,
}

impl Server {
    /// A server for people's clients: sessions by bearer token.
    #[must_use]
    pub fn people(ctx: Ctx, limits: Limits, sessions: Arc<dyn Sessions>, sink: Arc<dyn AuditSink>) -> Self {
        Self::new(ctx, limits, Callers::People(sessions), sink)
    }

    /// A server for peers: known by their certificates.
    #[must_use]
    pub fn peers(ctx: Ctx, limits: Limits, peers: Peers, sink: Arc<dyn AuditSink>) -> Self {
        Self::new(ctx, limits, Callers::Peers(Arc::new(peers)), sink)
    }

    fn new(ctx: Ctx, limits: Limits, callers: Callers, sink: Arc<dyn AuditSink>) -> Self {
        let (health, service) = tonic_health::server::health_reporter();
        Self { ctx, limits, callers, sink, routes: Routes::new(service), health }
    }

    /// Adds a service; its health is SERVING until told otherwise. Only RPCs with a rule answer: one
    /// without is UNIMPLEMENTED, even when its service is here.
    pub async fn add_service<S>(mut self, service: S) -> Self
    where
        S: tower::Service<Request<Body>, Response = Response<Body>, Error = Infallible>
            + NamedService
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send + 'static,
    {
        self.health.set_service_status(S::NAME, ServingStatus::Serving).await;
        self.routes = self.routes.add_service(service);
        self
    }

    /// Tells the shape of every service to whoever asks; for development alone.
    ///
    /// # Errors
    /// [`Code::Internal`] when the descriptors of the build do not decode.
    pub fn reflection(mut self) -> Result<Self> {
        let service = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(domicile_proto::DESCRIPTORS)
            .build_v1()
            .map_err(|cause| Error::new(Code::Internal).at("reflection").because(cause))?;
        self.routes = self.routes.add_service(service);
        Ok(self)
    }

    /// A handle to change what health tells.
    #[must_use]
    pub fn health(&self) -> Health {
        Health(self.health.clone())
    }

    /// Serves until `shutdown` is cancelled, then lets requests in flight finish for the grace the
    /// limits name. Returns when no connection is left.
    pub async fn serve(self, listener: Box<dyn Listener>, tls: ServerTls, shutdown: CancellationToken) {
        let guard =
            Guard::new(self.ctx, self.limits.clone(), self.callers, self.sink, self.routes, shutdown.clone());
        let limits = Arc::new(self.limits);
        let shared = Shared { guard, tls, limits, shutdown, abandoned: CancellationToken::new() };
        shared.run(listener).await;
    }
}

/// What a listener's health tells, service by service.
#[derive(Clone)]
pub struct Health(HealthReporter);

impl Health {
    /// Says whether the service of this name (`package.Service`; empty for the whole process) serves.
    pub async fn set(&self, service: &str, serving: bool) {
        let status = if serving { ServingStatus::Serving } else { ServingStatus::NotServing };
        self.0.set_service_status(service, status).await;
    }
}

#[derive(Clone)]
struct Shared {
    guard: Guard,
    tls: ServerTls,
    limits: Arc<Limits>,
    shutdown: CancellationToken,
    abandoned: CancellationToken,
}

impl Shared {
    async fn run(self, mut listener: Box<dyn Listener>) {
        let tasks = TaskTracker::new();
        let doors = Arc::new(Doors::new(&self.limits));
        let refusals = Arc::new(Refusals::new(tasks.clone()));
        while let Some(accepted) = self.shutdown.run_until_cancelled(listener.accept()).await {
            match accepted {
                Ok((io, from)) => match doors.enter(from) {
                    Ok(pass) => {
                        let (doors, refusals) = (Arc::clone(&doors), Arc::clone(&refusals));
                        tasks.spawn(self.clone().connection(io, pass, doors, refusals));
                    }
                    Err(why) => doors.closed(why),
                },
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be taken");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        drop(listener);
        tasks.close();
        if timeout(self.limits.grace, tasks.wait()).await.is_err() {
            tracing::warn!("requests were still running after the grace and have been ended");
            self.abandoned.cancel();
            tasks.wait().await;
        }
    }

    async fn connection(self, io: Box<dyn Io>, _pass: Pass, doors: Arc<Doors>, refusals: Arc<Refusals>) {
        let handshake = TlsAcceptor::from(self.tls.current()).accept(io);
        match timeout(self.limits.handshake, handshake).await {
            Ok(Ok(stream)) => {
                if let Err(why) = self.serve(stream).await {
                    doors.closed(why);
                }
            }
            Ok(Err(error)) => {
                tracing::debug!(%error, "TLS handshake refused");
                if is_refused_certificate(&error) {
                    refusals.record(&self.guard);
                } else {
                    doors.closed(Closed::HandshakeWrong);
                }
            }
            Err(_) => doors.closed(Closed::HandshakeSlow),
        }
    }

    /// Serves a connection to its end; an end that is no ordinary one is told.
    async fn serve(self, stream: TlsStream<Box<dyn Io>>) -> Result<(), Closed> {
        if stream.get_ref().1.alpn_protocol() != Some(b"h2") {
            return Err(Closed::Protocol);
        }
        let peer = Peer(stream.get_ref().1.peer_certificates().and_then(|chain| spiffe_id(chain.first()?)));
        let guard = self.guard.clone();
        let activity = Activity::new();
        let requests = activity.clone();
        let service = service_fn(move |request: Request<Incoming>| {
            let busy = requests.begin();
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(peer.clone());
            let answer = observe::served(guard.clone(), request);
            async move { answer.await.map(|answer| answer.map(|body| Answering::wrap(body, busy))) }
        });
        let connection = self.http2().serve_connection(TokioIo::new(stream), service);
        let mut connection = std::pin::pin!(connection);
        tokio::select! {
            ended = connection.as_mut() => return ended.map_or_else(|error| broken(&error), Ok),
            () = self.ending() => connection.as_mut().graceful_shutdown(),
            () = activity.idle(self.limits.connection_idle) => {
                connection.as_mut().graceful_shutdown();
                // Whoever does not even take leave is cut off; a request that came meanwhile is not.
                tokio::select! {
                    ended = connection.as_mut() => return ended.map_err(|_| Closed::Idle),
                    () = activity.idle(self.limits.keepalive_answer) => return Err(Closed::Idle),
                    () = self.over() => return Err(Closed::Idle),
                }
            }
        }
        tokio::select! {
            _ = connection.as_mut() => {}
            () = self.over() => {}
        }
        Ok(())
    }

    /// When a connection takes no more requests: at its age, or when the server goes down.
    async fn ending(&self) {
        tokio::select! {
            () = sleep(self.limits.connection_age) => {}
            () = self.shutdown.cancelled() => {}
        }
    }

    /// When an ending connection's last requests are cut off: an aged one's may take as long as any
    /// request may, in a shutdown the grace counts.
    async fn over(&self) {
        tokio::select! {
            () = sleep(self.limits.longest_deadline) => {}
            () = self.abandoned.cancelled() => {}
        }
    }

    fn http2(&self) -> http2::Builder<TokioExecutor> {
        let mut http2 = http2::Builder::new(TokioExecutor::new());
        http2
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_concurrent_streams(self.limits.streams)
            .max_header_list_size(self.limits.header_bytes)
            .max_pending_accept_reset_streams(self.limits.resets)
            .max_local_error_reset_streams(self.limits.resets)
            .keep_alive_interval(self.limits.keepalive)
            .keep_alive_timeout(self.limits.keepalive_answer);
        http2
    }
}

/// A connection that a caller dropped is an ordinary end; one that our own limits closed is not.
fn broken(error: &hyper::Error) -> Result<(), Closed> {
    let cause = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
    tracing::debug!(cause, "a connection ended");
    match () {
        () if error.is_timeout() => Err(Closed::Silent),
        // The library's word for what it closed itself.
        () if cause.contains("error detected") => Err(Closed::Protocol),
        () => Ok(()),
    }
}

/// Whether the handshake failed for the caller's certificate, or for want of one; what is no handshake
/// at all (a port scan, plain text) is not worth an audit entry.
fn is_refused_certificate(error: &std::io::Error) -> bool {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>());
    matches!(cause, Some(rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented))
}

/// A bounded number of audit entries for refused handshakes.
struct Refusals {
    tasks: TaskTracker,
    window: std::sync::Mutex<(Instant, u32)>,
}

impl Refusals {
    fn new(tasks: TaskTracker) -> Self {
        Self { tasks, window: std::sync::Mutex::new((Instant::now(), 0)) }
    }

    fn record(&self, guard: &Guard) {
        let mut window = self.window.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if window.0.elapsed() >= Duration::from_secs(1) {
            *window = (Instant::now(), 0);
        }
        window.1 = window.1.saturating_add(1);
        if window.1 <= REFUSALS_A_SECOND {
            let guard = guard.clone();
            self.tasks.spawn(async move { guard.refused().await });
        }
    }
}
