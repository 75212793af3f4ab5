//! Traces, metrics and logs for an operator's collector, over OTLP (protobuf over HTTP).
//!
//! Off until [`start`] is called: no thread, no connection, and every function here returns after one
//! look at a flag. What leaves is chosen by allow-list (P8): names of RPCs, states, steps, codes and
//! numbers; never a request's content, an id, an address or an error's text.
//!
//! Other crates record through the small functions of [`metrics`] and [`trace`] and see no type of
//! OpenTelemetry. Sockets and TLS are not here: whoever starts telemetry hands in a [`Collector`].

mod allowed;
mod logs;
pub mod metrics;
mod pipeline;
mod queue;
pub mod trace;
mod wire;

pub use pipeline::{Settings, Telemetry, start};
pub use wire::Collector;
