//! What a receiver got, decoded.

use std::collections::{BTreeMap, BTreeSet};

use domicile_tests::world::Outcome;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;

use crate::receiver::Receiver;

/// Names to values.
pub(crate) type Attributes = BTreeMap<String, String>;

/// A span, and the process it came from.
pub(crate) struct SeenSpan {
    pub(crate) process: Attributes,
    pub(crate) attributes: Attributes,
    pub(crate) span: Span,
}

/// A log record, and the process it came from.
pub(crate) struct SeenLog {
    pub(crate) process: Attributes,
    pub(crate) attributes: Attributes,
    pub(crate) body: String,
    pub(crate) trace: String,
}

/// The last value of one series of a metric.
#[derive(Clone, Debug)]
pub(crate) struct Series {
    pub(crate) process: Attributes,
    pub(crate) attributes: Attributes,
    pub(crate) unit: String,
    /// A number, or of a histogram its sum.
    pub(crate) value: f64,
    /// Of a histogram, how many values.
    pub(crate) count: u64,
}

/// Everything.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) spans: Vec<SeenSpan>,
    pub(crate) logs: Vec<SeenLog>,
    pub(crate) metrics: BTreeMap<String, Vec<Series>>,
}

impl Seen {
    /// Decodes what a receiver got so far.
    pub(crate) fn of(receiver: &Receiver) -> Outcome<Self> {
        let mut seen = Self::default();
        for message in receiver.messages() {
            let body = message.body;
            match message.path.as_str() {
                "/v1/traces" => seen.traces(ExportTraceServiceRequest::decode(body)?),
                "/v1/logs" => seen.logs(ExportLogsServiceRequest::decode(body)?),
                "/v1/metrics" => seen.metrics(ExportMetricsServiceRequest::decode(body)?),
                other => return Err(format!("nothing is sent to {other}").into()),
            }
        }
        Ok(seen)
    }

    fn traces(&mut self, request: ExportTraceServiceRequest) {
        for resource in request.resource_spans {
            let process = process(resource.resource.as_ref());
            for span in resource.scope_spans.into_iter().flat_map(|scope| scope.spans) {
                let attributes = attributes(&span.attributes);
                self.spans.push(SeenSpan { process: process.clone(), attributes, span });
            }
        }
    }

    fn logs(&mut self, request: ExportLogsServiceRequest) {
        for resource in request.resource_logs {
            let process = process(resource.resource.as_ref());
            for record in resource.scope_logs.into_iter().flat_map(|scope| scope.log_records) {
                self.logs.push(SeenLog {
                    process: process.clone(),
                    attributes: attributes(&record.attributes),
                    body: record.body.as_ref().map(text).unwrap_or_default(),
                    trace: hex(&record.trace_id),
                });
            }
        }
    }

    fn metrics(&mut self, request: ExportMetricsServiceRequest) {
        for resource in request.resource_metrics {
            let process = process(resource.resource.as_ref());
            for metric in resource.scope_metrics.into_iter().flat_map(|scope| scope.metrics) {
                let unit = metric.unit.clone();
                for (found, value, count) in points(metric.data) {
                    let series = Series {
                        process: process.clone(),
                        attributes: attributes(&found),
                        unit: unit.clone(),
                        value,
                        count,
                    };
                    let all = self.metrics.entry(metric.name.clone()).or_default();
                    all.retain(|known| {
                        known.process != series.process || known.attributes != series.attributes
                    });
                    all.push(series);
                }
            }
        }
    }

    /// The series of a metric whose attributes, or those of whose process, have all these values.
    pub(crate) fn series(&self, name: &str, with: &[(&str, &str)]) -> Vec<&Series> {
        let fits = |series: &&Series| {
            with.iter().all(|(key, value)| {
                let found = series.attributes.get(*key).or_else(|| series.process.get(*key));
                found.is_some_and(|found| found == value)
            })
        };
        self.metrics.get(name).into_iter().flatten().filter(fits).collect()
    }

    /// The spans of a trace.
    pub(crate) fn trace(&self, trace: &str) -> Vec<&SeenSpan> {
        self.spans.iter().filter(|seen| hex(&seen.span.trace_id) == trace).collect()
    }

    /// Every name and value of an attribute, of whatever kind.
    pub(crate) fn every_value(&self) -> BTreeSet<(String, String)> {
        let spans = self.spans.iter().flat_map(|span| &span.attributes);
        let logs = self.logs.iter().flat_map(|log| &log.attributes);
        let metrics = self.metrics.values().flatten().flat_map(|series| &series.attributes);
        let all = spans.chain(logs).chain(metrics);
        all.map(|(name, value)| (name.clone(), value.clone())).collect()
    }
}

type Point = (Vec<KeyValue>, f64, u64);

fn points(data: Option<Data>) -> Vec<Point> {
    let number = |point: opentelemetry_proto::tonic::metrics::v1::NumberDataPoint| {
        let value = match point.value {
            Some(number_data_point::Value::AsInt(value)) => value as f64,
            Some(number_data_point::Value::AsDouble(value)) => value,
            None => 0.0,
        };
        (point.attributes, value, 0)
    };
    match data {
        Some(Data::Gauge(gauge)) => gauge.data_points.into_iter().map(number).collect(),
        Some(Data::Sum(sum)) => sum.data_points.into_iter().map(number).collect(),
        Some(Data::Histogram(histogram)) => {
            let points = histogram.data_points.into_iter();
            points.map(|point| (point.attributes, point.sum.unwrap_or(0.0), point.count)).collect()
        }
        _ => Vec::new(),
    }
}

fn process(resource: Option<&Resource>) -> Attributes {
    resource.map(|resource| attributes(&resource.attributes)).unwrap_or_default()
}

fn attributes(pairs: &[KeyValue]) -> Attributes {
    let pair = |pair: &KeyValue| (pair.key.clone(), pair.value.as_ref().map(text).unwrap_or_default());
    pairs.iter().map(pair).collect()
}

fn text(value: &AnyValue) -> String {
    match &value.value {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::IntValue(value)) => value.to_string(),
        Some(Value::DoubleValue(value)) => value.to_string(),
        Some(Value::BoolValue(value)) => value.to_string(),
        other => format!("{other:?}"),
    }
}

/// Bytes as hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
