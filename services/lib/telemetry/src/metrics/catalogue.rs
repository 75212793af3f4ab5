//! Every metric this program exports. docs/telemetry.md lists the same, and dashboards and alerts use no
//! other (tests hold both).
//!
//! Names are those of OpenTelemetry's semantic conventions where there are any.

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A count that only grows.
    Counter,
    /// A count that grows and falls.
    UpDownCounter,
    /// A value as it was last seen.
    Gauge,
    /// How values are spread.
    Histogram,
}

/// One metric.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// Its unit (UCUM).
    pub unit: &'static str,
    /// What it is.
    pub kind: Kind,
    /// Its attributes. Their values come from closed sets.
    pub attributes: &'static [&'static str],
    /// What it tells.
    pub what: &'static str,
}

impl Metric {
    /// The metric's name in Prometheus, as the OpenTelemetry specification maps it; of a histogram the
    /// stem of `_bucket`, `_sum` and `_count`.
    #[must_use]
    pub fn prometheus(&self) -> String {
        let unit = match self.unit {
            "s" => "_seconds",
            "ms" => "_milliseconds",
            "By" => "_bytes",
            _ => "",
        };
        let total = if self.kind == Kind::Counter { "_total" } else { "" };
        format!("{}{unit}{total}", self.name.replace('.', "_"))
    }
}

macro_rules! catalogue {
    ($($id:ident = $kind:ident $name:literal $unit:literal [$($attribute:literal),*] $what:literal;)*) => {
        $(
            #[doc = $what]
            pub const $id: Metric = Metric {
                name: $name,
                unit: $unit,
                kind: Kind::$kind,
                attributes: &[$($attribute),*],
                what: $what,
            };
        )*

        /// All of them.
        pub const ALL: &[Metric] = &[$($id),*];
    };
}

catalogue! {
    RPC_SERVER = Histogram "rpc.server.duration" "ms"
        ["rpc.system", "rpc.service", "rpc.method", "rpc.grpc.status_code", "domicile.listener"]
        "How long answers to RPCs took, until their last byte.";
    RPC_ACTIVE = UpDownCounter "domicile.rpc.server.active_requests" "{request}"
        ["rpc.service", "rpc.method", "domicile.listener"]
        "RPCs being answered.";
    RPC_CLIENT = Histogram "rpc.client.duration" "ms"
        ["rpc.system", "rpc.service", "rpc.method", "rpc.grpc.status_code", "domicile.peer"]
        "How long answers of other regions took, until their last byte.";
    TRANSFERS = Gauge "domicile.transfer.count" "{transfer}"
        ["domicile.transfer.side", "domicile.transfer.state"]
        "Transfers that are not at rest, by this region's side and the state.";
    TRANSFER_AGE = Gauge "domicile.transfer.oldest_age" "s"
        ["domicile.transfer.side", "domicile.transfer.state"]
        "How long the oldest of them has been in its state; 0 when there is none.";
    STUCK = Gauge "domicile.transfer.stuck" "{transfer}" []
        "Transfers past Released that do not advance, or that are marked stuck.";
    FREEZE = Histogram "domicile.transfer.freeze.duration" "s" ["domicile.outcome"]
        "How long writes of a record were refused, by how the freeze ended: released or unfrozen.";
    STEP = Histogram "domicile.transfer.step.duration" "s"
        ["domicile.transfer.step", "domicile.outcome"]
        "How long this region worked on a step of a transfer.";
    OUTBOX = Gauge "domicile.audit.outbox.entries" "{entry}" []
        "Audit entries that are durable but not yet in the log's tree.";
    OUTBOX_AGE = Gauge "domicile.audit.outbox.oldest_age" "s" []
        "The age of the oldest of them; 0 when there is none.";
    SEQUENCER = Gauge "domicile.audit.checkpoint.age" "s" []
        "The age of the log's latest signed checkpoint.";
    TREE = Gauge "domicile.audit.tree.size" "{entry}" []
        "Entries under the log's latest signed checkpoint.";
    KEY_CACHE = Counter "domicile.key_cache.lookups" "{lookup}" ["domicile.outcome"]
        "Looks into the cache of record keys: hit or miss.";
    KEY_CACHE_SIZE = Gauge "domicile.key_cache.entries" "{key}" []
        "Record keys in the cache.";
    KMS = Histogram "domicile.kms.request.duration" "s"
        ["domicile.kms.operation", "domicile.outcome"]
        "How long the key service took, by operation and outcome: ok or an error's code.";
    POOL = Gauge "db.client.connection.count" "{connection}"
        ["db.client.connection.pool.name", "db.client.connection.state"]
        "Database connections: used or idle.";
    POOL_MAX = Gauge "db.client.connection.max" "{connection}" ["db.client.connection.pool.name"]
        "Database connections at most.";
    POOL_PENDING = UpDownCounter "db.client.connection.pending_requests" "{request}"
        ["db.client.connection.pool.name"]
        "Transactions that wait for a connection or for the database's answer to BEGIN.";
    POOL_WAIT = Histogram "db.client.connection.wait_time" "s" ["db.client.connection.pool.name"]
        "How long transactions waited for a connection and for the database's answer to BEGIN.";
    RETRIES = Counter "domicile.store.retries" "{retry}" []
        "Transactions that lost a race and were run again.";
    OBJECTS = Histogram "domicile.objects.request.duration" "s"
        ["domicile.objects.operation", "domicile.outcome"]
        "How long the object store took, by operation and outcome: ok or an error's code.";
    SERVING = Gauge "domicile.region.serving" "{region}" []
        "Whether the region's databases answer and it says that it serves: 1 or 0.";
    REGION_UP = Gauge "domicile.coordinator.region_up" "{region}" ["domicile.peer"]
        "Whether a region answered the coordinator when it last looked: 1 or 0.";
    CERTIFICATE = Gauge "domicile.certificate.remaining" "s" ["domicile.listener"]
        "How long the listener's certificate is still valid; negative once it is over.";
    BACKUP = Gauge "domicile.backup.age" "s" []
        "The age of the latest online backup; reported once there is one.";
    MEMORY = Gauge "process.memory.usage" "By" []
        "Resident memory of the process.";
    UPTIME = Gauge "process.uptime" "s" []
        "How long the process has been running.";
    SPANS_SENT = Counter "otel.sdk.exporter.span.exported" "{span}" ["error.type"]
        "Spans that the collector took, or did not (export_failed).";
    SPANS_DROPPED = Counter "otel.sdk.processor.span.processed" "{span}" ["error.type"]
        "Spans that found the queue full (queue_full).";
    LOGS_SENT = Counter "otel.sdk.exporter.log.exported" "{log_record}" ["error.type"]
        "Log records that the collector took, or did not (export_failed).";
    LOGS_DROPPED = Counter "otel.sdk.processor.log.processed" "{log_record}" ["error.type"]
        "Log records that found the queue full (queue_full).";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_map_to_prometheus() {
        let names: std::collections::BTreeSet<_> = ALL.iter().map(|metric| metric.name).collect();
        assert_eq!(names.len(), ALL.len());
        assert_eq!(RPC_SERVER.prometheus(), "rpc_server_duration_milliseconds");
        assert_eq!(RETRIES.prometheus(), "domicile_store_retries_total");
        assert_eq!(MEMORY.prometheus(), "process_memory_usage_bytes");
        assert_eq!(STUCK.prometheus(), "domicile_transfer_stuck");
    }
}
