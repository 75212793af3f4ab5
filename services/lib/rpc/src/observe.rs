//! Traces and measures every RPC, on both sides, from the request to the answer's last byte. While
//! telemetry is off, requests and answers pass untouched.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use domicile_telemetry::metrics::{self, Active, Method};
use domicile_telemetry::trace::{self, Span};
use futures::future::BoxFuture;
use http::{HeaderMap, Request, Response};
use http_body::{Frame, SizeHint};
use tokio::time::Instant;
use tonic::body::Body;
use tonic::{Code, Status};
use tower::Service as _;
use tracing::Instrument as _;

use crate::guard::Guard;
use crate::rules::find;

/// RPCs of others that are served besides our own.
const OTHERS: [&str; 3] = [
    "/grpc.health.v1.Health/Check",
    "/grpc.health.v1.Health/Watch",
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
];

/// The RPC of a path. What is not declared has one name for all, whatever callers make up.
fn method(path: &str) -> Method {
    let other = || OTHERS.into_iter().find(|known| *known == path);
    let known = find(path).map(|rpc| rpc.rule.path).or_else(other);
    known.map_or(Method::OTHER, Method::declared)
}

/// Answers a request through the guard.
pub(crate) fn served(
    mut guard: Guard,
    request: Request<Body>,
) -> BoxFuture<'static, Result<Response<Body>, Infallible>> {
    if !trace::is_on() {
        return guard.call(request);
    }
    let (listener, method) = (guard.listener(), method(request.uri().path()));
    let span = trace::serving(method, listener, request.headers());
    let active = Active::begin(method, listener);
    let watch = Watch::begin(method, Side::Server(listener, active), span.clone());
    let answering = span.in_scope(|| guard.call(request));
    Box::pin(async move { answering.await.map(|answer| watch.over(answer)) }.instrument(span))
}

/// An RPC that this process asks for, until its answer is over; its trace goes into the request's headers.
pub(crate) fn called(peer: &Arc<str>, request: &mut Request<Body>) -> Option<Watch> {
    if !trace::is_on() {
        return None;
    }
    let method = method(request.uri().path());
    let span = trace::calling(method, peer, request.headers_mut());
    Some(Watch::begin(method, Side::Client(Arc::clone(peer)), span))
}

/// Watches over the answer to [`called`].
pub(crate) fn answered(
    watch: Option<Watch>,
    answer: Result<Response<Body>, Status>,
) -> Result<Response<Body>, Status> {
    let Some(mut watch) = watch else { return answer };
    match answer {
        Ok(answer) => Ok(watch.over(answer)),
        Err(status) => {
            watch.end(status.code());
            Err(status)
        }
    }
}

enum Side {
    Server(&'static str, #[expect(dead_code, reason = "counts while it is held")] Active),
    Client(Arc<str>),
}

/// One RPC under way. One that goes away unanswered counts as cancelled.
pub(crate) struct Watch {
    method: Method,
    side: Side,
    began: Instant,
    span: Span,
    told: bool,
}

impl Watch {
    fn begin(method: Method, side: Side, span: Span) -> Self {
        Self { method, side, began: Instant::now(), span, told: false }
    }

    /// The span that work for this RPC belongs to.
    pub(crate) fn span(&self) -> Span {
        self.span.clone()
    }

    fn over(mut self, answer: Response<Body>) -> Response<Body> {
        match status(answer.headers()) {
            Some(code) => {
                self.end(code);
                answer
            }
            None => answer.map(|inner| Body::new(Watched { inner, watch: self })),
        }
    }

    fn end(&mut self, code: Code) {
        if std::mem::replace(&mut self.told, true) {
            return;
        }
        let (code, took) = (code as i32, self.began.elapsed());
        trace::answered(&self.span, code);
        match &self.side {
            Side::Server(listener, _) => metrics::rpc_served(self.method, listener, code, took),
            Side::Client(peer) => metrics::rpc_called(self.method, peer, code, took),
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.end(Code::Cancelled);
    }
}

fn status(headers: &HeaderMap) -> Option<Code> {
    headers.get("grpc-status").map(|status| Code::from_bytes(status.as_bytes()))
}

/// An answer's body; its trailers say how the RPC ended.
struct Watched {
    inner: Body,
    watch: Watch,
}

impl http_body::Body for Watched {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(cx);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(code) = frame.trailers_ref().and_then(status) {
                    self.watch.end(code);
                }
            }
            Poll::Ready(Some(Err(status))) => self.watch.end(status.code()),
            Poll::Ready(None) => self.watch.end(Code::Unknown),
            Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_from_a_closed_set() {
        let put = method("/domicile.records.v1.RecordsService/PutItem");
        assert_eq!((put.service, put.method), ("domicile.records.v1.RecordsService", "PutItem"));
        assert_eq!(method("/grpc.health.v1.Health/Check").method, "Check");
        for made_up in
            ["/domicile.records.v1.RecordsService/Anna", "/x/y", "", "/grpc.health.v1.Health/Other"]
        {
            assert_eq!(method(made_up), Method::OTHER, "{made_up}");
        }
    }
}
