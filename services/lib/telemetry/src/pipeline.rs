//! Starting and ending: providers, exporters on threads of their own, bounded queues.

use std::sync::Arc;
use std::time::Duration;

use domicile_types::{Code, Error, Result};
use opentelemetry::KeyValue;
use opentelemetry::logs::LoggerProvider as _;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::{
    LogExporter, MetricExporter, Protocol, SpanExporter, WithExportConfig as _, WithHttpConfig as _,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::logs::{BatchConfigBuilder as LogBatches, BatchLogProcessor, SdkLoggerProvider};
use opentelemetry_sdk::metrics::{PeriodicReader, SdkMeterProvider};
use opentelemetry_sdk::trace::{BatchConfigBuilder as SpanBatches, BatchSpanProcessor, SdkTracerProvider};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tracing_subscriber::filter::{FilterExt as _, filter_fn};
use tracing_subscriber::layer::Layer;
use tracing_subscriber::{EnvFilter, Registry};

use crate::logs::LogLayer;
use crate::metrics::{self, Queues};
use crate::queue::{Gate, GatedLogs, GatedSpans, Told};
use crate::trace::{self, TARGET};
use crate::wire::{Collector, Wire};

/// What telemetry is told at its start.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `region`, `coordinator` or `cli`.
    pub role: &'static str,
    /// The region's name, if it has one.
    pub region: Option<String>,
    /// A random name of this process, which tells replicas apart.
    pub instance: String,
    /// `production` or `development`.
    pub environment: &'static str,
    /// The release.
    pub version: &'static str,
    /// The share of traces that are sent, 0 to 1.
    pub trace_share: f64,
    /// How often metrics are sent.
    pub interval: Duration,
    /// How long spans and logs may gather before they are sent.
    pub delay: Duration,
    /// How long one message may take.
    pub timeout: Duration,
    /// Spans, and log records, that may wait.
    pub queue: usize,
    /// How long the end of the process waits for what is left.
    pub shutdown: Duration,
}

/// Telemetry at work.
pub struct Telemetry {
    spans: SdkTracerProvider,
    metrics: SdkMeterProvider,
    logs: SdkLoggerProvider,
    queues: Queues,
    shutdown: Duration,
}

/// Starts three exporters, each on a thread of its own. Nothing connects before there is something to
/// send.
///
/// # Errors
/// [`Code::Internal`] when an exporter cannot be made.
pub fn start(settings: &Settings, collector: &Arc<dyn Collector>) -> Result<Telemetry> {
    let wire =
        || Wire { collector: Arc::clone(collector), runtime: Handle::current(), limit: settings.timeout };
    let resource = resource(settings);
    let queues =
        Queues { spans: Gate::new("traces", settings.queue), logs: Gate::new("logs", settings.queue) };
    let spans = SdkTracerProvider::builder()
        .with_resource(resource.clone())
        .with_sampler(trace::sampler(settings.trace_share))
        .with_span_processor(spans(settings, wire(), &queues.spans)?)
        .build();
    let logs = SdkLoggerProvider::builder()
        .with_resource(resource.clone())
        .with_log_processor(logs(settings, wire(), &queues.logs)?)
        .build();
    let exporter = MetricExporter::builder()
        .with_http()
        .with_http_client(wire())
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(place("metrics"))
        .with_timeout(settings.timeout)
        .build()
        .map_err(|cause| Error::new(Code::Internal).at("telemetry").because(cause))?;
    let reader = PeriodicReader::builder(exporter).with_interval(settings.interval).build();
    let meters = SdkMeterProvider::builder().with_resource(resource).with_reader(reader).build();
    metrics::open(&meters, &queues);
    trace::switch(true);
    Ok(Telemetry { spans, metrics: meters, logs, queues, shutdown: settings.shutdown })
}

impl Telemetry {
    /// What the process's subscriber needs: spans of [`trace`], and the events that `filter` lets pass
    /// and that are this program's own.
    #[must_use]
    pub fn layer(&self, filter: EnvFilter) -> Box<dyn Layer<Registry> + Send + Sync> {
        let ours = filter_fn(|meta| meta.is_span() && meta.target() == TARGET);
        let spans = tracing_opentelemetry::layer()
            .with_tracer(self.spans.tracer("domicile"))
            .with_context_activation(false)
            .with_tracked_inactivity(false)
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            .with_level(false)
            .with_filter(ours.clone());
        let events = filter_fn(|meta| meta.is_event() && meta.target().starts_with("domicile")).and(filter);
        let logs = LogLayer::new(self.logs.logger("domicile")).with_filter(events.or(ours));
        Box::new(spans.and_then(logs))
    }

    /// Sends what is left and ends the exporters. Returns after the configured time at the latest,
    /// whatever the collector does; what was dropped or not taken is told in the process's log.
    pub async fn shutdown(self) {
        trace::switch(false);
        let Self { spans, metrics, logs, queues, shutdown } = self;
        // Metrics last: they tell what became of the others.
        let half = shutdown / 2;
        let first = [
            tokio::task::spawn_blocking(move || spans.shutdown_with_timeout(half).is_ok()),
            tokio::task::spawn_blocking(move || logs.shutdown_with_timeout(half).is_ok()),
        ];
        let mut complete = ended(first, half).await;
        let last = [tokio::task::spawn_blocking(move || metrics.shutdown_with_timeout(half).is_ok())];
        complete &= ended(last, half).await;
        for (signal, gate) in [("traces", &queues.spans), ("logs", &queues.logs)] {
            let (dropped, failed) = (gate.dropped(), gate.failed());
            if dropped > 0 || failed > 0 {
                tracing::warn!(signal, dropped, failed, "telemetry was not taken by the collector");
            }
        }
        if !complete {
            tracing::warn!("telemetry ended before everything was sent");
        }
    }
}

/// Whether all of them have ended well, after `limit` at the latest.
async fn ended<const N: usize>(tasks: [JoinHandle<bool>; N], limit: Duration) -> bool {
    let all = async {
        let mut all = true;
        for task in tasks {
            all &= task.await.unwrap_or(false);
        }
        all
    };
    tokio::time::timeout(limit, all).await.unwrap_or(false)
}

fn resource(settings: &Settings) -> Resource {
    let mut attributes = vec![
        KeyValue::new("service.name", "domicile"),
        KeyValue::new("service.version", settings.version),
        KeyValue::new("service.instance.id", settings.instance.clone()),
        KeyValue::new("deployment.environment.name", settings.environment),
        KeyValue::new("domicile.role", settings.role),
    ];
    attributes.extend(settings.region.clone().map(|region| KeyValue::new("domicile.region", region)));
    // Nothing from the environment: a resource is part of what leaves.
    Resource::builder_empty().with_attributes(attributes).build()
}

/// The exporter wants a whole address; the collector's own is known to the [`Collector`] alone.
fn place(signal: &str) -> String {
    format!("http://collector.invalid/v1/{signal}")
}

fn spans(settings: &Settings, wire: Wire, gate: &Arc<Gate>) -> Result<GatedSpans> {
    let exporter = SpanExporter::builder()
        .with_http()
        .with_http_client(wire)
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(place("traces"))
        .with_timeout(settings.timeout)
        .build()
        .map_err(|cause| Error::new(Code::Internal).at("telemetry").because(cause))?;
    let batches = SpanBatches::default()
        .with_max_queue_size(settings.queue)
        .with_scheduled_delay(settings.delay)
        .build();
    let told = Told { inner: exporter, gate: Arc::clone(gate) };
    let inner = BatchSpanProcessor::builder(told).with_batch_config(batches).build();
    Ok(GatedSpans { inner, gate: Arc::clone(gate) })
}

fn logs(settings: &Settings, wire: Wire, gate: &Arc<Gate>) -> Result<GatedLogs> {
    let exporter = LogExporter::builder()
        .with_http()
        .with_http_client(wire)
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(place("logs"))
        .with_timeout(settings.timeout)
        .build()
        .map_err(|cause| Error::new(Code::Internal).at("telemetry").because(cause))?;
    let batches = LogBatches::default()
        .with_max_queue_size(settings.queue)
        .with_scheduled_delay(settings.delay)
        .build();
    let told = Told { inner: exporter, gate: Arc::clone(gate) };
    let inner = BatchLogProcessor::builder(told).with_batch_config(batches).build();
    Ok(GatedLogs { inner, gate: Arc::clone(gate) })
}
