//! Traces, metrics and logs for an operator's collector, over OTLP. Off unless an endpoint is set.
