//! Spans, and the trace context between processes (W3C Trace Context, `traceparent` alone).
//!
//! A context from outside is only ever a parent: it decides nothing. Its sampling flag is not obeyed,
//! `tracestate` and `baggage` are neither read nor sent.

use std::sync::atomic::{AtomicBool, Ordering};

use domicile_types::TransferId;
use http::HeaderMap;
use opentelemetry::propagation::{Extractor, TextMapPropagator as _};
use opentelemetry::trace::{
    Link, SpanContext, SpanId, SpanKind, TraceContextExt as _, TraceFlags, TraceId, TraceState,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_http::HeaderInjector;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{Sampler, SamplingResult, ShouldSample};
use sha2::{Digest as _, Sha256};
use tracing::field::Empty;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

pub use tracing::Span;

use crate::metrics::Method;

/// The target of the spans that are exported, and of no other.
pub const TARGET: &str = "domicile::trace";
/// Separates trace ids of transfers from every other digest.
const TRANSFER: &[u8] = b"domicile trace of a transfer v1\0";

static ON: AtomicBool = AtomicBool::new(false);

/// Whether spans go anywhere.
#[must_use]
pub fn is_on() -> bool {
    ON.load(Ordering::Relaxed)
}

pub(crate) fn switch(on: bool) {
    ON.store(on, Ordering::Relaxed);
}

/// A span around an RPC that this process answers, below the caller's span if it named one.
#[must_use]
pub fn serving(method: Method, listener: &'static str, headers: &HeaderMap) -> Span {
    if !is_on() {
        return Span::none();
    }
    let span = tracing::info_span!(
        target: TARGET, parent: None, "rpc",
        otel.name = method.path, otel.kind = "server", otel.status_code = Empty,
        rpc.system = "grpc", rpc.service = method.service, rpc.method = method.method,
        domicile.listener = listener, rpc.grpc.status_code = Empty,
    );
    if let Some(parent) = parent(headers) {
        adopt(&span, parent);
    }
    span
}

/// A span around an RPC that this process asks for; its context goes into the request's headers.
#[must_use]
pub fn calling(method: Method, peer: &str, headers: &mut HeaderMap) -> Span {
    if !is_on() {
        return Span::none();
    }
    let span = tracing::info_span!(
        target: TARGET, "rpc",
        otel.name = method.path, otel.kind = "client", otel.status_code = Empty,
        rpc.system = "grpc", rpc.service = method.service, rpc.method = method.method,
        domicile.peer = peer, rpc.grpc.status_code = Empty,
    );
    let context = span.context();
    if context.span().span_context().is_sampled() {
        TraceContextPropagator::new().inject_context(&context, &mut HeaderInjector(headers));
        headers.remove("tracestate");
    }
    span
}

/// Writes an RPC's gRPC status into its span.
pub fn answered(span: &Span, status: i32) {
    span.record("rpc.grpc.status_code", status);
    if status != 0 {
        span.record("otel.status_code", "ERROR");
    }
}

/// A span around one command of the command line; a transfer's own trace when it is about one.
#[must_use]
pub fn command(name: &'static str, transfer: Option<TransferId>) -> Span {
    if !is_on() {
        return Span::none();
    }
    let span = tracing::info_span!(
        target: TARGET, parent: None, "command",
        otel.name = name, domicile.command = name, otel.status_code = Empty,
    );
    if let Some(transfer) = transfer {
        adopt(&span, of_transfer(transfer));
    }
    span
}

/// A span around a step of a transfer, in the transfer's own trace: the same in every process that works
/// on it, without a word between them.
#[must_use]
pub fn transfer(step: &'static str, transfer: TransferId) -> Span {
    if !is_on() {
        return Span::none();
    }
    let span = tracing::info_span!(
        target: TARGET, parent: None, "transfer",
        otel.name = step, domicile.transfer.step = step, otel.status_code = Empty,
    );
    adopt(&span, of_transfer(transfer));
    span
}

/// The trace of a transfer, as 32 hexadecimal digits. A digest: the id cannot be had from it.
#[must_use]
pub fn transfer_trace(transfer: TransferId) -> String {
    of_transfer(transfer).trace_id().to_string()
}

fn of_transfer(transfer: TransferId) -> SpanContext {
    let digest = Sha256::new().chain_update(TRANSFER).chain_update(transfer.to_string()).finalize();
    let (mut trace, mut span) = ([0; 16], [0; 8]);
    trace.copy_from_slice(&digest[..16]);
    span.copy_from_slice(&digest[16..24]);
    let (trace, span) = (TraceId::from_bytes(trace), SpanId::from_bytes(span));
    SpanContext::new(trace, span, TraceFlags::SAMPLED, true, TraceState::NONE)
}

fn adopt(span: &Span, parent: SpanContext) {
    // A span that nobody records has no parent either.
    span.set_parent(Context::new().with_remote_span_context(parent)).ok();
}

/// The caller's span, if the request names one as the standard says.
fn parent(headers: &HeaderMap) -> Option<SpanContext> {
    let mut all = headers.get_all("traceparent").iter();
    let (Some(only), None) = (all.next(), all.next()) else { return None };
    let context =
        TraceContextPropagator::new().extract_with_context(&Context::new(), &Only(only.to_str().ok()?));
    let found = context.span().span_context().clone();
    found.is_valid().then_some(found)
}

/// Shows the propagator `traceparent` and nothing else.
struct Only<'a>(&'a str);

impl Extractor for Only<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        (key == "traceparent").then_some(self.0)
    }

    fn keys(&self) -> Vec<&str> {
        vec!["traceparent"]
    }
}

/// A share of the traces, chosen by their ids alone: every process chooses the same ones, and a caller's
/// flag changes nothing.
#[derive(Clone, Debug)]
struct Share(Sampler);

impl ShouldSample for Share {
    fn should_sample(
        &self,
        parent: Option<&Context>,
        trace: TraceId,
        name: &str,
        kind: &SpanKind,
        attributes: &[KeyValue],
        links: &[Link],
    ) -> SamplingResult {
        let known = parent.is_some_and(|parent| parent.span().span_context().is_valid());
        // Polls of peers, and whatever else nobody's work asked for, would drown the rest.
        let peer =
            |found: &KeyValue| found.key.as_str() == "domicile.listener" && found.value.as_str() == "peers";
        if !known && (*kind == SpanKind::Client || attributes.iter().any(peer)) {
            return Sampler::AlwaysOff.should_sample(parent, trace, name, kind, attributes, links);
        }
        self.0.should_sample(parent, trace, name, kind, attributes, links)
    }
}

/// The sampler: spans below one of this process's own follow it.
pub(crate) fn sampler(share: f64) -> Box<dyn ShouldSample> {
    let by_id = || Share(Sampler::TraceIdRatioBased(share));
    let sampler = Sampler::parent_based(by_id())
        .with_remote_parent_sampled(by_id())
        .with_remote_parent_not_sampled(by_id());
    Box::new(sampler)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(values: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append("traceparent", value.parse().unwrap());
        }
        headers.insert("tracestate", "vendor=anything".parse().unwrap());
        headers.insert("baggage", "name=Anna".parse().unwrap());
        headers
    }

    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";

    #[test]
    fn a_parent_is_taken_as_the_standard_says_and_nothing_beside_it() {
        let found = parent(&headers(&[GOOD])).unwrap();
        assert_eq!(found.trace_id().to_string(), "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(found.trace_state(), &TraceState::NONE);
        assert!(found.is_remote());
    }

    #[test]
    fn what_is_no_parent_is_nobody() {
        let zero = "00-00000000000000000000000000000000-b7ad6b7169203331-01";
        for wrong in
            ["", "00", "zz", zero, "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331", "ff-0af7-b7-01"]
        {
            assert!(parent(&headers(&[wrong])).is_none(), "{wrong}");
        }
        assert!(parent(&headers(&[GOOD, GOOD])).is_none(), "two are none");
    }

    #[test]
    fn a_transfer_has_one_trace_and_does_not_show_its_id() {
        let [one, two] = [1_u128, 2].map(|n| {
            let text = format!("{:08x}-0000-7000-8000-{:012x}", n, n);
            text.parse::<TransferId>().unwrap()
        });
        assert_eq!(transfer_trace(one), transfer_trace(one));
        assert_ne!(transfer_trace(one), transfer_trace(two));
        assert!(!one.to_string().replace('-', "").contains(&transfer_trace(one)[..8]));
    }
}
