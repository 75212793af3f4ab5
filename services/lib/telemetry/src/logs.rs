//! Log events for the collector: the message, the level and the fields on the list, with the trace they
//! belong to.

use std::fmt;
use std::sync::OnceLock;

use opentelemetry::logs::{AnyValue, LogRecord as _, Logger as _, Severity};
use opentelemetry::trace::TraceContextExt as _;
use opentelemetry_sdk::logs::{SdkLogRecord, SdkLogger};
use tracing::dispatcher::WeakDispatch;
use tracing::field::{Field, Visit};
use tracing::{Dispatch, Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer};
use tracing_subscriber::registry::LookupSpan;

use crate::allowed;

/// Hands events to the logger. Messages are literals in the code (a test holds them to that), so their
/// text is the code's own.
pub(crate) struct LogLayer {
    logger: SdkLogger,
    dispatch: OnceLock<WeakDispatch>,
}

impl LogLayer {
    pub(crate) fn new(logger: SdkLogger) -> Self {
        Self { logger, dispatch: OnceLock::new() }
    }

    /// Puts the trace and the span that the event happened in into the record.
    fn place<S>(&self, record: &mut SdkLogRecord, event: &Event<'_>, context: &Context<'_, S>)
    where
        S: Subscriber + for<'span> LookupSpan<'span>,
    {
        let Some(dispatch) = self.dispatch.get().and_then(WeakDispatch::upgrade) else { return };
        let Some(scope) = context.event_scope(event) else { return };
        for span in scope {
            let Some(found) = tracing_opentelemetry::get_otel_context(&span.id(), &dispatch) else {
                continue;
            };
            let found = found.span().span_context().clone();
            if found.is_valid() {
                record.set_trace_context(found.trace_id(), found.span_id(), Some(found.trace_flags()));
                return;
            }
        }
    }
}

impl<S> Layer<S> for LogLayer
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    fn on_register_dispatch(&self, dispatch: &Dispatch) {
        self.dispatch.set(dispatch.downgrade()).ok();
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut record = self.logger.create_log_record();
        let level = *event.metadata().level();
        record.set_severity_number(severity(level));
        record.set_severity_text(level.as_str());
        record.set_target(event.metadata().target());
        event.record(&mut Fields(&mut record));
        self.place(&mut record, event, &context);
        self.logger.emit(record);
    }
}

const fn severity(level: Level) -> Severity {
    match level {
        Level::ERROR => Severity::Error,
        Level::WARN => Severity::Warn,
        Level::INFO => Severity::Info,
        Level::DEBUG => Severity::Debug,
        Level::TRACE => Severity::Trace,
    }
}

struct Fields<'a>(&'a mut SdkLogRecord);

impl Fields<'_> {
    fn add(&mut self, field: &Field, value: impl Into<AnyValue>) {
        if allowed::field(field.name()) {
            self.0.add_attribute(field.name(), value.into());
        }
    }
}

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.0.set_body(format!("{value:?}").into());
        } else if allowed::field(field.name())
            && let Some(text) = allowed::text(&format!("{value:?}"))
        {
            self.add(field, text);
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if let Some(text) = allowed::text(value) {
            self.add(field, text);
        }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, i64::try_from(value).unwrap_or(i64::MAX));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, value);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use opentelemetry::logs::LoggerProvider as _;
    use opentelemetry_sdk::error::OTelSdkResult;
    use opentelemetry_sdk::logs::{LogBatch, LogExporter, SdkLoggerProvider};
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    #[derive(Clone, Debug, Default)]
    struct Kept(Arc<Mutex<Vec<SdkLogRecord>>>);

    impl LogExporter for Kept {
        async fn export(&self, batch: LogBatch<'_>) -> OTelSdkResult {
            self.0.lock().unwrap().extend(batch.iter().map(|(record, _)| record.clone()));
            Ok(())
        }
    }

    #[test]
    fn only_fields_on_the_list_leave_and_only_names() {
        let kept = Kept::default();
        let provider = SdkLoggerProvider::builder().with_simple_exporter(kept.clone()).build();
        let subscriber = tracing_subscriber::registry().with(LogLayer::new(provider.logger("test")));
        tracing::subscriber::with_default(subscriber, || {
            let error = "Anna is not a number";
            tracing::warn!(code = "DOM-GENERAL-002", %error, cause = ?error, place = "anna", rows = 3_u64, "refused");
            tracing::info!(region = "Anna Schmidt", step = %"pull", ok = true, "told");
        });
        let records = kept.0.lock().unwrap();
        let seen: Vec<Vec<(String, AnyValue)>> = records
            .iter()
            .map(|record| {
                record.attributes_iter().map(|(key, value)| (key.to_string(), value.clone())).collect()
            })
            .collect();
        let text = |value: &'static str| AnyValue::from(value.to_owned());
        assert_eq!(
            seen[0],
            [("code".to_owned(), text("DOM-GENERAL-002")), ("rows".to_owned(), AnyValue::Int(3))]
        );
        assert_eq!(seen[1], [("step".to_owned(), text("pull"))]);
        assert_eq!(records[0].body(), Some(&text("refused")));
        assert_eq!(records[0].severity_number(), Some(Severity::Warn));
        assert!(!format!("{records:?}").to_lowercase().contains("anna"));
    }
}
