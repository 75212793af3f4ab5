//! The instruments behind the functions, made once when telemetry starts.

use std::sync::{Arc, OnceLock};

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Gauge, Histogram, Meter, MeterProvider as _, UpDownCounter};
use opentelemetry_sdk::metrics::SdkMeterProvider;

use super::catalogue::{self as is, Metric};
use super::process;
use crate::queue::Gate;

/// Milliseconds of an RPC.
const RPC: &[f64] =
    &[1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1_000.0, 2_000.0, 5_000.0, 10_000.0, 30_000.0];
/// Seconds of a call to a neighbour: a database, a key service, an object store.
const NEAR: &[f64] = &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// Seconds of a freeze: the budget is two.
const FREEZE: &[f64] = &[0.01, 0.025, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0];
/// Seconds of a step, which may copy a whole record.
const STEP: &[f64] = &[0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3_600.0];

static INSTRUMENTS: OnceLock<Instruments> = OnceLock::new();

/// The counts of the exporters' queues.
pub(crate) struct Queues {
    pub(crate) spans: Arc<Gate>,
    pub(crate) logs: Arc<Gate>,
}

pub(super) struct Instruments {
    pub(super) rpc_server: Histogram<f64>,
    pub(super) rpc_active: UpDownCounter<i64>,
    pub(super) rpc_client: Histogram<f64>,
    pub(super) transfers: Gauge<u64>,
    pub(super) transfer_age: Gauge<f64>,
    pub(super) stuck: Gauge<u64>,
    pub(super) freeze: Histogram<f64>,
    pub(super) step: Histogram<f64>,
    pub(super) outbox: Gauge<u64>,
    pub(super) outbox_age: Gauge<f64>,
    pub(super) sequencer: Gauge<f64>,
    pub(super) tree: Gauge<u64>,
    pub(super) key_cache: Counter<u64>,
    pub(super) key_cache_size: Gauge<u64>,
    pub(super) kms: Histogram<f64>,
    pub(super) pool: Gauge<u64>,
    pub(super) pool_max: Gauge<u64>,
    pub(super) pool_pending: UpDownCounter<i64>,
    pub(super) pool_wait: Histogram<f64>,
    pub(super) retries: Counter<u64>,
    pub(super) objects: Histogram<f64>,
    pub(super) serving: Gauge<u64>,
    pub(super) region_up: Gauge<u64>,
    pub(super) certificate: Gauge<i64>,
    pub(super) backup: Gauge<f64>,
}

impl Instruments {
    /// The instruments, once telemetry has started.
    pub(super) fn on() -> Option<&'static Self> {
        INSTRUMENTS.get()
    }

    fn new(make: &Make) -> Self {
        Self {
            rpc_server: make.histogram(&is::RPC_SERVER, RPC),
            rpc_active: make.up_down(&is::RPC_ACTIVE),
            rpc_client: make.histogram(&is::RPC_CLIENT, RPC),
            transfers: make.whole(&is::TRANSFERS),
            transfer_age: make.part(&is::TRANSFER_AGE),
            stuck: make.whole(&is::STUCK),
            freeze: make.histogram(&is::FREEZE, FREEZE),
            step: make.histogram(&is::STEP, STEP),
            outbox: make.whole(&is::OUTBOX),
            outbox_age: make.part(&is::OUTBOX_AGE),
            sequencer: make.part(&is::SEQUENCER),
            tree: make.whole(&is::TREE),
            key_cache: make.counter(&is::KEY_CACHE),
            key_cache_size: make.whole(&is::KEY_CACHE_SIZE),
            kms: make.histogram(&is::KMS, NEAR),
            pool: make.whole(&is::POOL),
            pool_max: make.whole(&is::POOL_MAX),
            pool_pending: make.up_down(&is::POOL_PENDING),
            pool_wait: make.histogram(&is::POOL_WAIT, NEAR),
            retries: make.counter(&is::RETRIES),
            objects: make.histogram(&is::OBJECTS, NEAR),
            serving: make.whole(&is::SERVING),
            region_up: make.whole(&is::REGION_UP),
            certificate: make.signed(&is::CERTIFICATE),
            backup: make.part(&is::BACKUP),
        }
    }
}

/// Makes the instruments. A second call changes nothing.
pub(crate) fn open(provider: &SdkMeterProvider, queues: &Queues) {
    let make = Make(provider.meter("domicile"));
    let instruments = Instruments::new(&make);
    // Counters say 0 before anything has happened: an alert on their increase needs the first value.
    instruments.retries.add(0, &[]);
    make.process();
    make.queue(&queues.spans, &is::SPANS_SENT, &is::SPANS_DROPPED);
    make.queue(&queues.logs, &is::LOGS_SENT, &is::LOGS_DROPPED);
    INSTRUMENTS.set(instruments).ok();
}

struct Make(Meter);

impl Make {
    fn histogram(&self, metric: &Metric, bounds: &[f64]) -> Histogram<f64> {
        let made = self.0.f64_histogram(metric.name).with_unit(metric.unit).with_description(metric.what);
        made.with_boundaries(bounds.to_vec()).build()
    }

    fn up_down(&self, metric: &Metric) -> UpDownCounter<i64> {
        self.0.i64_up_down_counter(metric.name).with_unit(metric.unit).with_description(metric.what).build()
    }

    fn counter(&self, metric: &Metric) -> Counter<u64> {
        self.0.u64_counter(metric.name).with_unit(metric.unit).with_description(metric.what).build()
    }

    fn whole(&self, metric: &Metric) -> Gauge<u64> {
        self.0.u64_gauge(metric.name).with_unit(metric.unit).with_description(metric.what).build()
    }

    fn part(&self, metric: &Metric) -> Gauge<f64> {
        self.0.f64_gauge(metric.name).with_unit(metric.unit).with_description(metric.what).build()
    }

    fn signed(&self, metric: &Metric) -> Gauge<i64> {
        self.0.i64_gauge(metric.name).with_unit(metric.unit).with_description(metric.what).build()
    }

    /// What the process itself says, read when it is asked for.
    fn process(&self) {
        let (memory, uptime) = (is::MEMORY, is::UPTIME);
        let made = self.0.u64_observable_gauge(memory.name).with_unit(memory.unit);
        made.with_description(memory.what)
            .with_callback(|seen| {
                if let Some(bytes) = process::resident() {
                    seen.observe(bytes, &[]);
                }
            })
            .build();
        let began = tokio::time::Instant::now();
        let made = self.0.f64_observable_gauge(uptime.name).with_unit(uptime.unit);
        made.with_description(uptime.what)
            .with_callback(move |seen| seen.observe(began.elapsed().as_secs_f64(), &[]))
            .build();
    }

    fn queue(&self, gate: &Arc<Gate>, sent: &Metric, dropped: &Metric) {
        let told = Arc::clone(gate);
        let made = self.0.u64_observable_counter(sent.name).with_unit(sent.unit);
        made.with_description(sent.what)
            .with_callback(move |seen| {
                seen.observe(told.sent(), &[]);
                seen.observe(told.failed(), &[KeyValue::new("error.type", "export_failed")]);
            })
            .build();
        let told = Arc::clone(gate);
        let made = self.0.u64_observable_counter(dropped.name).with_unit(dropped.unit);
        made.with_description(dropped.what)
            .with_callback(move |seen| {
                seen.observe(told.dropped(), &[KeyValue::new("error.type", "queue_full")]);
            })
            .build();
    }
}
