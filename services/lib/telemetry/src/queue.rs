//! Bounded queues in front of the exporters: what does not fit is counted and dropped; nobody waits.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use opentelemetry::{Context, InstrumentationScope};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::logs::{BatchLogProcessor, LogBatch, LogExporter, LogProcessor, SdkLogRecord};
use opentelemetry_sdk::trace::{BatchSpanProcessor, Span, SpanData, SpanExporter, SpanProcessor};

use crate::allowed;

/// Counts what waits, and turns away what is too much.
#[derive(Debug)]
pub(crate) struct Gate {
    signal: &'static str,
    limit: usize,
    waiting: AtomicUsize,
    dropped: AtomicU64,
    failed: AtomicU64,
    sent: AtomicU64,
    silent: AtomicBool,
}

impl Gate {
    /// A gate that lets `limit` entries wait.
    pub(crate) fn new(signal: &'static str, limit: usize) -> Arc<Self> {
        Arc::new(Self {
            signal,
            limit,
            waiting: AtomicUsize::new(0),
            dropped: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            silent: AtomicBool::new(false),
        })
    }

    /// Entries that found the queue full.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Entries that the collector did not take.
    pub(crate) fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    /// Entries that the collector took.
    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    fn enter(&self) -> bool {
        let more = |waiting| (waiting < self.limit).then_some(waiting + 1);
        let entered = self.waiting.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).is_ok();
        if !entered {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        entered
    }

    fn leave(&self, entries: usize, taken: bool) {
        let fewer = |waiting: usize| Some(waiting.saturating_sub(entries));
        self.waiting.fetch_update(Ordering::AcqRel, Ordering::Acquire, fewer).ok();
        let counter = if taken { &self.sent } else { &self.failed };
        counter.fetch_add(u64::try_from(entries).unwrap_or(u64::MAX), Ordering::Relaxed);
        if self.silent.swap(!taken, Ordering::Relaxed) == taken {
            self.tell(taken);
        }
    }

    /// Told once when it begins and once when it ends, whatever comes between.
    fn tell(&self, taken: bool) {
        let (signal, dropped, failed) = (self.signal, self.dropped(), self.failed());
        if taken {
            tracing::info!(signal, dropped, failed, "the telemetry collector answers again");
        } else {
            tracing::warn!(signal, dropped, failed, "the telemetry collector does not take what is sent");
        }
    }
}

/// Spans on their way into the queue.
#[derive(Debug)]
pub(crate) struct GatedSpans {
    pub(crate) inner: BatchSpanProcessor,
    pub(crate) gate: Arc<Gate>,
}

impl SpanProcessor for GatedSpans {
    fn on_start(&self, span: &mut Span, context: &Context) {
        self.inner.on_start(span, context);
    }

    fn on_end(&self, span: SpanData) {
        if span.span_context.is_sampled() && self.gate.enter() {
            self.inner.on_end(span);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

/// Log records on their way into the queue.
#[derive(Debug)]
pub(crate) struct GatedLogs {
    pub(crate) inner: BatchLogProcessor,
    pub(crate) gate: Arc<Gate>,
}

impl LogProcessor for GatedLogs {
    fn emit(&self, record: &mut SdkLogRecord, scope: &InstrumentationScope) {
        if self.gate.enter() {
            self.inner.emit(record, scope);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

/// An exporter that tells the gate what came of each batch. Every span passes the allow-list here, last
/// thing before it leaves.
#[derive(Debug)]
pub(crate) struct Told<E> {
    pub(crate) inner: E,
    pub(crate) gate: Arc<Gate>,
}

impl<E: SpanExporter> SpanExporter for Told<E> {
    fn export(&self, mut batch: Vec<SpanData>) -> impl Future<Output = OTelSdkResult> + Send {
        batch.iter_mut().for_each(allowed::redact);
        let entries = batch.len();
        async move {
            let exported = self.inner.export(batch).await;
            self.gate.leave(entries, exported.is_ok());
            exported
        }
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

impl<E: LogExporter> LogExporter for Told<E> {
    async fn export(&self, batch: LogBatch<'_>) -> OTelSdkResult {
        let entries = batch.iter().count();
        let exported = self.inner.export(batch).await;
        self.gate.leave(entries, exported.is_ok());
        exported
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use opentelemetry::KeyValue;
    use opentelemetry::trace::{Span as _, Status, Tracer as _, TracerProvider as _};
    use opentelemetry_sdk::trace::SdkTracerProvider;

    use super::*;

    #[derive(Clone, Debug, Default)]
    struct Kept(Arc<Mutex<Vec<SpanData>>>);

    impl SpanExporter for Kept {
        async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
            self.0.lock().unwrap().extend(batch);
            Ok(())
        }
    }

    #[test]
    fn whatever_a_span_was_given_only_the_list_leaves() {
        let kept = Kept::default();
        let told = Told { inner: kept.clone(), gate: Gate::new("traces", 8) };
        let provider = SdkTracerProvider::builder().with_simple_exporter(told).build();
        let mut span = provider.tracer("test").start("Anna's appointment");
        span.set_attribute(KeyValue::new("rpc.method", "PutItem"));
        span.set_attribute(KeyValue::new("domicile.peer", "Anna Schmidt"));
        span.set_attribute(KeyValue::new("subject", "anna"));
        span.add_event("Anna called", Vec::new());
        span.set_status(Status::error("no such client: Anna"));
        span.end();
        let exported = kept.0.lock().unwrap().pop().unwrap();
        assert_eq!(exported.attributes, [KeyValue::new("rpc.method", "PutItem")]);
        assert!(!format!("{exported:?}").to_lowercase().contains("anna"), "{exported:?}");
    }

    #[test]
    fn what_does_not_fit_is_counted_and_what_left_makes_room() {
        let gate = Gate::new("traces", 2);
        assert_eq!([gate.enter(), gate.enter(), gate.enter()], [true, true, false]);
        assert_eq!((gate.dropped(), gate.sent(), gate.failed()), (1, 0, 0));
        gate.leave(2, false);
        assert!(gate.enter());
        gate.leave(1, true);
        assert_eq!((gate.dropped(), gate.sent(), gate.failed()), (1, 1, 2));
    }
}
