//! Measurements. Each function records one thing, and does nothing while telemetry is off.

pub mod catalogue;
mod instruments;
mod process;

use std::future::Future;
use std::time::Duration;

use domicile_types::{Code, Result};
use opentelemetry::KeyValue;
use tokio::time::Instant;

pub(crate) use instruments::{Queues, open};

use instruments::Instruments;

/// An RPC by its declared name: values of a closed set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Method {
    /// `package.Service/Method`.
    pub path: &'static str,
    /// `package.Service`.
    pub service: &'static str,
    /// `Method`.
    pub method: &'static str,
}

impl Method {
    /// Whatever is asked for and not declared.
    pub const OTHER: Self = Self { path: "other", service: "other", method: "other" };

    /// The RPC of a declared path, `/package.Service/Method`.
    #[must_use]
    pub fn declared(path: &'static str) -> Self {
        let path = path.trim_start_matches('/');
        let Some((service, method)) = path.split_once('/') else { return Self::OTHER };
        Self { path, service, method }
    }
}

/// Counts an RPC as being answered until it is dropped.
#[derive(Debug)]
pub struct Active {
    method: Method,
    listener: &'static str,
}

impl Active {
    /// From now on.
    #[must_use]
    pub fn begin(method: Method, listener: &'static str) -> Self {
        let active = Self { method, listener };
        active.add(1);
        active
    }

    fn add(&self, change: i64) {
        let Some(on) = Instruments::on() else { return };
        let Method { service, method, .. } = self.method;
        on.rpc_active.add(
            change,
            &[
                KeyValue::new("rpc.service", service),
                KeyValue::new("rpc.method", method),
                KeyValue::new("domicile.listener", self.listener),
            ],
        );
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.add(-1);
    }
}

/// An RPC was answered with this gRPC status.
pub fn rpc_served(method: Method, listener: &'static str, status: i32, took: Duration) {
    if let Some(on) = Instruments::on() {
        let [system, service, name, status] = rpc(method, status);
        let listener = KeyValue::new("domicile.listener", listener);
        on.rpc_server.record(millis(took), &[system, service, name, status, listener]);
    }
}

/// Another process answered an RPC with this gRPC status. `peer` is a configured name.
pub fn rpc_called(method: Method, peer: &str, status: i32, took: Duration) {
    if let Some(on) = Instruments::on() {
        let [system, service, name, status] = rpc(method, status);
        let peer = KeyValue::new("domicile.peer", peer.to_owned());
        on.rpc_client.record(millis(took), &[system, service, name, status, peer]);
    }
}

fn rpc(Method { service, method, .. }: Method, status: i32) -> [KeyValue; 4] {
    [
        KeyValue::new("rpc.system", "grpc"),
        KeyValue::new("rpc.service", service),
        KeyValue::new("rpc.method", method),
        KeyValue::new("rpc.grpc.status_code", i64::from(status)),
    ]
}

fn millis(took: Duration) -> f64 {
    took.as_secs_f64() * 1_000.0
}

/// How many transfers stand in a state of a side of this region, and how long the oldest has.
pub fn transfers(side: &'static str, state: &'static str, count: u64, oldest: Duration) {
    if let Some(on) = Instruments::on() {
        let attributes =
            [KeyValue::new("domicile.transfer.side", side), KeyValue::new("domicile.transfer.state", state)];
        on.transfers.record(count, &attributes);
        on.transfer_age.record(oldest.as_secs_f64(), &attributes);
    }
}

/// How many transfers do not advance.
pub fn stuck(count: u64) {
    if let Some(on) = Instruments::on() {
        on.stuck.record(count, &[]);
    }
}

/// How a freeze ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freeze {
    /// The record was released.
    Released,
    /// Writes resumed here.
    Unfrozen,
}

/// A record's writes were refused for this long.
pub fn froze(ended: Freeze, lasted: Duration) {
    if let Some(on) = Instruments::on() {
        let outcome = match ended {
            Freeze::Released => "released",
            Freeze::Unfrozen => "unfrozen",
        };
        on.freeze.record(lasted.as_secs_f64(), &[KeyValue::new("domicile.outcome", outcome)]);
    }
}

/// Measures a step of a transfer at this region.
///
/// # Errors
/// Those of the step.
pub async fn step<T>(name: &'static str, work: impl Future<Output = Result<T>>) -> Result<T> {
    timed(work, |on, took, outcome| {
        on.step.record(took, &[KeyValue::new("domicile.transfer.step", name), outcome]);
    })
    .await
}

/// The audit entries that wait, and the age of the oldest.
pub fn outbox(entries: u64, oldest: Duration) {
    if let Some(on) = Instruments::on() {
        on.outbox.record(entries, &[]);
        on.outbox_age.record(oldest.as_secs_f64(), &[]);
    }
}

/// The latest signed checkpoint: entries under it, and its age.
pub fn checkpoint(size: u64, age: Duration) {
    if let Some(on) = Instruments::on() {
        on.tree.record(size, &[]);
        on.sequencer.record(age.as_secs_f64(), &[]);
    }
}

/// Somebody looked for a key in the cache.
pub fn key_cache(hit: bool) {
    if let Some(on) = Instruments::on() {
        let outcome = if hit { "hit" } else { "miss" };
        on.key_cache.add(1, &[KeyValue::new("domicile.outcome", outcome)]);
    }
}

/// Keys in the cache.
pub fn key_cache_size(entries: usize) {
    if let Some(on) = Instruments::on() {
        on.key_cache_size.record(u64::try_from(entries).unwrap_or(u64::MAX), &[]);
    }
}

/// Measures a call of the key service.
///
/// # Errors
/// Those of the call.
pub async fn kms<T>(operation: &'static str, work: impl Future<Output = Result<T>>) -> Result<T> {
    timed(work, |on, took, outcome| {
        on.kms.record(took, &[KeyValue::new("domicile.kms.operation", operation), outcome]);
    })
    .await
}

/// Measures a call of the object store.
///
/// # Errors
/// Those of the call.
pub async fn object<T>(operation: &'static str, work: impl Future<Output = Result<T>>) -> Result<T> {
    timed(work, |on, took, outcome| {
        on.objects.record(took, &[KeyValue::new("domicile.objects.operation", operation), outcome]);
    })
    .await
}

/// Awaits work and records how long it took and what came of it: `ok`, or the error's code.
async fn timed<T>(
    work: impl Future<Output = Result<T>>,
    record: impl FnOnce(&Instruments, f64, KeyValue),
) -> Result<T> {
    let Some(on) = Instruments::on() else { return work.await };
    let began = Instant::now();
    let done = work.await;
    let outcome = done.as_ref().err().map_or("ok", |error| Code::as_str(error.code()));
    record(on, began.elapsed().as_secs_f64(), KeyValue::new("domicile.outcome", outcome));
    done
}

/// A pool of database connections: how many are used, idle, and at most.
pub fn pool(name: &'static str, used: u64, idle: u64, most: u64) {
    if let Some(on) = Instruments::on() {
        let pool = || KeyValue::new("db.client.connection.pool.name", name);
        on.pool.record(used, &[pool(), KeyValue::new("db.client.connection.state", "used")]);
        on.pool.record(idle, &[pool(), KeyValue::new("db.client.connection.state", "idle")]);
        on.pool_max.record(most, &[pool()]);
    }
}

/// Measures the wait for a connection of a pool, and counts whoever waits.
pub async fn acquire<T>(name: &'static str, work: impl Future<Output = T>) -> T {
    let Some(on) = Instruments::on() else { return work.await };
    let waiting = Waiting::begin(on, name);
    let began = Instant::now();
    let done = work.await;
    on.pool_wait.record(began.elapsed().as_secs_f64(), &waiting.pool);
    done
}

struct Waiting {
    on: &'static Instruments,
    pool: [KeyValue; 1],
}

impl Waiting {
    fn begin(on: &'static Instruments, name: &'static str) -> Self {
        let pool = [KeyValue::new("db.client.connection.pool.name", name)];
        on.pool_pending.add(1, &pool);
        Self { on, pool }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.on.pool_pending.add(-1, &self.pool);
    }
}

/// A transaction lost a race and runs again.
pub fn retried() {
    if let Some(on) = Instruments::on() {
        on.retries.add(1, &[]);
    }
}

/// Whether the region's databases answer and it says that it serves.
pub fn serving(serves: bool) {
    if let Some(on) = Instruments::on() {
        on.serving.record(u64::from(serves), &[]);
    }
}

/// Whether a region answered the coordinator. `region` is a configured name.
pub fn region_up(region: &str, up: bool) {
    if let Some(on) = Instruments::on() {
        on.region_up.record(u64::from(up), &[KeyValue::new("domicile.peer", region.to_owned())]);
    }
}

/// Seconds until a listener's certificate ends; negative once it has.
pub fn certificate(listener: &'static str, remaining: i64) {
    if let Some(on) = Instruments::on() {
        on.certificate.record(remaining, &[KeyValue::new("domicile.listener", listener)]);
    }
}

/// The age of the latest backup.
pub fn backup(age: Duration) {
    if let Some(on) = Instruments::on() {
        on.backup.record(age.as_secs_f64(), &[]);
    }
}
