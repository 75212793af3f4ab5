//! The one layer around every service: caller, role, time, audit.

use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use domicile_config::{Limits, SpiffeId};
use domicile_types::{Actor, AuditScope, Class, Code, Ctx, Error, RequestId, Result, Role};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue, Request, Response};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::body::Body;
use tonic::service::Routes;
use tower::Service as _;
use tracing::Instrument as _;

use crate::audit::{AuditSink, Sessions};
use crate::body::{Download, Upload};
use crate::peers::Peers;
use crate::rules::{Rpc, UNAUDITED, find};
use crate::status::{REQUEST, outcome, refined, to_status};

/// The event under which refused peers are recorded.
const PEER_REFUSED: &str = "tls.peer_refused";
/// Services that show nothing about anybody and that anyone who reaches the listener may ask.
const OPEN: [&str; 2] = ["/grpc.health.v1.Health/", "/grpc.reflection.v1.ServerReflection/"];
/// Bytes of a session token at most.
const TOKEN_BYTES: usize = 256;

/// When the request's time is over.
#[derive(Clone, Copy, Debug)]
pub struct Deadline(Instant);

impl Deadline {
    /// The time that is left.
    #[must_use]
    pub fn left(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }
}

/// The audit scope of a request, as the guard made it.
///
/// # Errors
/// [`Code::Internal`] when the service is served without the guard.
pub fn scope<T>(request: &tonic::Request<T>) -> Result<Arc<AuditScope>> {
    request
        .extensions()
        .get::<Arc<AuditScope>>()
        .cloned()
        .ok_or_else(|| Error::new(Code::Internal).at("guard"))
}

/// The caller of a request, as the guard established it.
///
/// # Errors
/// [`Code::Internal`] when the service is served without the guard.
pub fn actor<T>(request: &tonic::Request<T>) -> Result<Actor> {
    scope(request).map(|scope| scope.actor.clone())
}

/// The request's deadline, to hand on to what it calls.
///
/// # Errors
/// [`Code::Internal`] when the service is served without the guard.
pub fn deadline<T>(request: &tonic::Request<T>) -> Result<Deadline> {
    request.extensions().get::<Deadline>().copied().ok_or_else(|| Error::new(Code::Internal).at("guard"))
}

/// What a connection's handshake showed; put into each request by the server, never by the caller.
#[derive(Clone, Debug, Default)]
pub(crate) struct Peer(pub(crate) Option<SpiffeId>);

/// Whom a listener serves.
#[derive(Clone)]
pub(crate) enum Callers {
    /// People, by session token.
    People(Arc<dyn Sessions>),
    /// Peers, by certificate.
    Peers(Arc<Peers>),
}

/// Everything between a connection and the services behind it.
#[derive(Clone)]
pub struct Guard(Arc<Inner>);

struct Inner {
    ctx: Ctx,
    limits: Limits,
    callers: Callers,
    sink: Arc<dyn AuditSink>,
    routes: Routes,
    closing: CancellationToken,
}

impl Guard {
    pub(crate) fn new(
        ctx: Ctx,
        limits: Limits,
        callers: Callers,
        sink: Arc<dyn AuditSink>,
        routes: Routes,
        closing: CancellationToken,
    ) -> Self {
        Self(Arc::new(Inner { ctx, limits, callers, sink, routes: routes.prepare(), closing }))
    }

    /// Which of a process's two listeners this is.
    pub(crate) fn listener(&self) -> &'static str {
        match self.0.callers {
            Callers::People(_) => "people",
            Callers::Peers(_) => "peers",
        }
    }

    /// Records a connection that was refused before its first request.
    pub(crate) async fn refused(&self) {
        let scope = AuditScope::new(PEER_REFUSED, Actor::anonymous(), RequestId::generate(&self.0.ctx));
        if let Err(error) = self.0.record(&scope, Err(Code::PeerUnknown)).await {
            tracing::error!(?error, "a refused peer could not be recorded");
        }
    }
}

impl tower::Service<Request<Body>> for Guard {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let inner = Arc::clone(&self.0);
        let id = RequestId::generate(&inner.ctx);
        let span = tracing::info_span!("rpc", path = request.uri().path(), request = %id, role = tracing::field::Empty);
        async move { Ok(inner.answer(request, id).await) }.instrument(span).boxed()
    }
}

impl Inner {
    async fn answer(&self, request: Request<Body>, id: RequestId) -> Response<Body> {
        let path = request.uri().path();
        let mut response = match find(path) {
            Some(rpc) => self.guarded(rpc, request, id).await,
            None if OPEN.iter().any(|service| path.starts_with(service)) => {
                self.run(request, self.closing.clone()).await
            }
            None => unimplemented().into_http(),
        };
        if let Ok(id) = HeaderValue::from_str(&id.to_string()) {
            response.headers_mut().insert(REQUEST, id);
        }
        response
    }

    async fn guarded(&self, rpc: Rpc, request: Request<Body>, id: RequestId) -> Response<Body> {
        let peer = request.extensions().get::<Peer>().cloned().unwrap_or_default();
        let (actor, permitted) = match self.caller(rpc, &peer, request.headers()).await {
            Ok(actor) => {
                let permitted = permit(rpc, &actor);
                (actor, permitted)
            }
            Err(error) => (Actor::anonymous(), Err(error)),
        };
        tracing::Span::current().record("role", actor.role.as_str());
        let event = if rpc.rule.audit == UNAUDITED { PEER_REFUSED } else { rpc.rule.audit };
        let scope = AuditScope::new(event, actor, id);
        let response = match permitted {
            Ok(()) => self.call(rpc, request, &scope).await,
            Err(error) => to_status(error).into_http(),
        };
        self.settle(rpc, &scope, response).await
    }

    /// Who calls. Nothing that a caller says about role or region is looked at.
    async fn caller(&self, rpc: Rpc, peer: &Peer, headers: &HeaderMap) -> Result<Actor> {
        match &self.callers {
            Callers::Peers(peers) => {
                let known = peer.0.as_ref().and_then(|name| peers.find(name));
                known.cloned().ok_or_else(|| Error::new(Code::PeerUnknown))
            }
            Callers::People(_) if rpc.allows(Role::Anonymous) => Ok(Actor::anonymous()),
            Callers::People(sessions) => match bearer(headers) {
                Some(token) => person(sessions.actor(token).await?),
                None => Err(Error::new(Code::Unauthenticated)),
            },
        }
    }

    async fn call(&self, rpc: Rpc, mut request: Request<Body>, scope: &Arc<AuditScope>) -> Response<Body> {
        let deadline = self.deadline(rpc, request.headers());
        request.headers_mut().remove(AUTHORIZATION);
        request.extensions_mut().insert(Arc::clone(scope));
        request.extensions_mut().insert(Deadline(deadline));
        if rpc.uploads {
            request = request.map(|body| Upload::wrap(body, self.limits.stream_idle));
        }
        let run = self.run(request, self.closing.clone());
        match timeout_at(deadline, run).await {
            Ok(response) => response,
            Err(_) => to_status(Error::new(Code::DeadlineExceeded)).into_http(),
        }
    }

    /// The service's answer. A panic in it is an internal error of this one request.
    async fn run(&self, request: Request<Body>, closing: CancellationToken) -> Response<Body> {
        let mut routes = self.routes.clone();
        let streams = find(request.uri().path()).is_none_or(|rpc| rpc.downloads);
        let answer = AssertUnwindSafe(async move { routes.call(request).await }).catch_unwind().await;
        match answer {
            Ok(Ok(response)) if streams => response.map(|body| Download::wrap(body, &closing)),
            Ok(Ok(response)) => response,
            Ok(Err(never)) => match never {},
            // The panic's text may quote what was being worked on: it goes nowhere.
            Err(_) => to_status(Error::new(Code::Internal).because("a handler panicked")).into_http(),
        }
    }

    /// Makes the audit entry durable, then lets the answer go; without the entry there is none (P37).
    async fn settle(&self, rpc: Rpc, scope: &Arc<AuditScope>, response: Response<Body>) -> Response<Body> {
        let (outcome, response) = judged(response);
        let outcome = outcome.and_then(|()| scope.refused().map_or(Ok(()), Err));
        let refused = outcome
            .is_err_and(|code| matches!(code.class(), Class::PermissionDenied | Class::Unauthenticated));
        let wanted = rpc.rule.audit != UNAUDITED || refused;
        if !wanted || scope.is_recorded() {
            return response;
        }
        match self.record(scope, outcome).await {
            Ok(()) => {
                scope.mark_recorded();
                response
            }
            Err(error) => {
                tracing::error!(
                    ?error,
                    event = scope.event,
                    "the audit entry could not be written; no answer is given"
                );
                to_status(Error::new(Code::AuditUnavailable)).into_http()
            }
        }
    }

    async fn record(&self, scope: &AuditScope, outcome: Result<(), Code>) -> Result<()> {
        let writing = tokio::time::timeout(self.limits.deadline, self.sink.record(scope, outcome));
        writing.await.unwrap_or_else(|_| Err(Error::new(Code::AuditUnavailable)))
    }

    fn deadline(&self, rpc: Rpc, headers: &HeaderMap) -> Instant {
        let unnamed = if rpc.uploads { self.limits.longest_deadline } else { self.limits.deadline };
        let named = headers.get("grpc-timeout").and_then(|value| value.to_str().ok()).and_then(grpc_timeout);
        Instant::now() + named.unwrap_or(unnamed).min(self.limits.longest_deadline)
    }
}

/// A session is a person's, whatever the store says: no token makes a region or the coordinator.
fn person(actor: Actor) -> Result<Actor> {
    match actor.role {
        Role::Client | Role::Practitioner | Role::PracticeAdmin | Role::Operator | Role::Compliance => {
            Ok(actor)
        }
        Role::Anonymous | Role::Region | Role::Coordinator | Role::System => {
            Err(Error::new(Code::Unauthenticated))
        }
    }
}

/// Whether the caller's role may call the RPC.
fn permit(rpc: Rpc, actor: &Actor) -> Result<()> {
    if rpc.allows(actor.role) {
        Ok(())
    } else {
        Err(Error::new(Code::Forbidden).at(rpc.rule.roles.join(",")))
    }
}

/// The outcome of an answer, from its headers; refusals made below the handlers are put into our words.
fn judged(response: Response<Body>) -> (Result<(), Code>, Response<Body>) {
    match outcome(response.headers()) {
        None => (Ok(()), response),
        Some(Ok(code)) => (Err(code), response),
        Some(Err(status)) => match refined(&status) {
            Some(error) => (Err(error.code()), to_status(error).into_http()),
            // The library quotes the caller's own headers in such a refusal.
            None => (Err(Code::InvalidRequest), unimplemented().into_http()),
        },
    }
}

/// No such method, or a compression that nothing here takes apart: a bomb stays packed.
fn unimplemented() -> Status {
    Status::unimplemented("There is no such method here, or not in this encoding.")
}

/// The token of `authorization: Bearer …`.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (value, None) = (values.next()?, values.next()) else { return None };
    let token = value.to_str().ok()?.strip_prefix("Bearer ")?;
    (!token.is_empty() && token.len() <= TOKEN_BYTES).then_some(token)
}

/// A `grpc-timeout` header: at most eight digits and a unit.
pub(crate) fn grpc_timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if !(1..=8).contains(&digits.len()) || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3_600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_as_the_specification_says() {
        assert_eq!(grpc_timeout("250m"), Some(Duration::from_millis(250)));
        assert_eq!(grpc_timeout("99999999H"), Some(Duration::from_secs(99_999_999 * 3_600)));
        for wrong in ["", "m", "1", "123456789m", "-1m", "1x", "1 m", "1ä"] {
            assert_eq!(grpc_timeout(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn only_one_well_formed_token_counts() {
        let headers = |values: &[&str]| {
            let mut map = HeaderMap::new();
            for value in values {
                map.append(AUTHORIZATION, value.parse().unwrap());
            }
            map
        };
        assert_eq!(bearer(&headers(&["Bearer abc"])), Some("abc"));
        for wrong in [&[][..], &["abc"], &["Bearer "], &["Basic abc"], &["Bearer a", "Bearer b"]] {
            assert_eq!(bearer(&headers(wrong)), None);
        }
        assert_eq!(bearer(&headers(&[&format!("Bearer {}", "a".repeat(257))])), None);
    }
}
