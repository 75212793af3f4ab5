//! Where traces, metrics and logs are sent, if anywhere.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use domicile_types::{Code, Error, Result};
use serde::Deserialize;

use crate::region::endpoint;
use crate::shared::{ensure, rebase};
use crate::{Secret, load, units};

/// Telemetry. Off unless an endpoint is set.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TelemetrySettings {
    /// The collector's OTLP receiver for protobuf over HTTP: `https://host:port`, or `http://` to an
    /// address of this machine's loopback, such as `http://127.0.0.1:4318`.
    pub endpoint: Option<String>,
    /// The authority that signed the collector's certificate, PEM; needed with `https`.
    pub authority: Option<PathBuf>,
    /// The value of the `authorization` header, if the collector wants one.
    pub authorization: Option<Secret>,
    /// The share of traces that are sent, 0 to 1; the same in every process, or traces have holes.
    pub trace_share: f64,
    /// How often metrics are sent, and how often the databases are asked for gauges.
    #[serde(deserialize_with = "units::read")]
    pub interval: Duration,
    /// How long spans and log records gather before they are sent.
    #[serde(deserialize_with = "units::read")]
    pub delay: Duration,
    /// How long the collector may take to answer one message.
    #[serde(deserialize_with = "units::read")]
    pub timeout: Duration,
    /// Spans, and log records, that may wait; what does not fit is dropped and counted.
    pub queue: usize,
    /// How long the end of the process waits for what is left.
    #[serde(deserialize_with = "units::read")]
    pub shutdown: Duration,
}

impl Default for TelemetrySettings {
    fn default() -> Self {
        Self {
            endpoint: None,
            authority: None,
            authorization: None,
            trace_share: 1.0,
            interval: Duration::from_secs(15),
            delay: Duration::from_secs(1),
            timeout: Duration::from_secs(5),
            queue: 2_048,
            shutdown: Duration::from_secs(3),
        }
    }
}

/// The environment's part of a process without a settings file.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Alone {
    telemetry: TelemetrySettings,
}

impl TelemetrySettings {
    /// What the environment alone says (`DOMICILE__TELEMETRY__ENDPOINT`), for the command line, which has
    /// no settings file. `environment` replaces the process's own in tests.
    ///
    /// # Errors
    /// Configuration errors, each with the key's name.
    pub fn from_environment(environment: Option<Vec<(String, String)>>) -> Result<Self> {
        let mut settings = load::environment::<Alone>(environment)?.telemetry;
        settings.rebase(Path::new("."));
        settings.check()?;
        Ok(settings)
    }

    pub(crate) fn rebase(&mut self, base: &Path) {
        rebase(base, &mut self.authority);
        if let Some(secret) = &mut self.authorization {
            secret.rebase(base);
        }
    }

    pub(crate) fn check(&self) -> Result<()> {
        ensure("telemetry.trace_share", (0.0..=1.0).contains(&self.trace_share))?;
        ensure("telemetry.queue", (64..=1_000_000).contains(&self.queue))?;
        let waits = [
            ("telemetry.interval", self.interval),
            ("telemetry.delay", self.delay),
            ("telemetry.timeout", self.timeout),
            ("telemetry.shutdown", self.shutdown),
        ];
        waits.into_iter().try_for_each(|(key, wait)| ensure(key, !wait.is_zero()))?;
        ensure("telemetry.shutdown", self.shutdown <= Duration::from_secs(60))?;
        let Some(uri) = &self.endpoint else { return Ok(()) };
        if let Some(plain) = uri.strip_prefix("http://") {
            endpoint("telemetry.endpoint", &format!("https://{plain}"))?;
            // Names may lead anywhere: only addresses count.
            return if loopback(plain) { Ok(()) } else { Err(unsafe_endpoint()) };
        }
        endpoint("telemetry.endpoint", uri)?;
        let missing = || Error::new(Code::ConfigurationMissing).at("telemetry.authority");
        self.authority.as_ref().map(drop).ok_or_else(missing)
    }
}

/// Telemetry holds no PHI, but who works when is nobody's business on the way either (P7).
fn unsafe_endpoint() -> Error {
    Error::new(Code::ConfigurationUnsafe).at("telemetry.endpoint")
}

fn loopback(authority: &str) -> bool {
    let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(pairs: &[(&str, &str)]) -> Result<TelemetrySettings> {
        let pairs =
            pairs.iter().map(|(key, value)| (format!("DOMICILE__TELEMETRY__{key}"), (*value).to_owned()));
        TelemetrySettings::from_environment(Some(pairs.collect()))
    }

    fn refused(pairs: &[(&str, &str)]) -> (Code, String) {
        let error = with(pairs).unwrap_err();
        (error.code(), error.place().unwrap_or_default().to_owned())
    }

    #[test]
    fn nothing_is_sent_unless_told_where() {
        assert!(with(&[]).unwrap().endpoint.is_none());
        let on = with(&[("ENDPOINT", "http://127.0.0.1:4318"), ("TRACE_SHARE", "0.5"), ("INTERVAL", "2s")])
            .unwrap();
        assert_eq!(
            (on.endpoint.as_deref(), on.interval),
            (Some("http://127.0.0.1:4318"), Duration::from_secs(2))
        );
    }

    #[test]
    fn plain_text_stays_on_this_machine() {
        for fits in ["http://127.0.0.1:4318", "http://127.9.9.9:1", "http://[::1]:4318"] {
            assert!(with(&[("ENDPOINT", fits)]).is_ok(), "{fits}");
        }
        for wrong in [
            "http://localhost:4318",
            "http://10.0.0.1:4318",
            "http://collector.example:4318",
            "http://127.0.0.1.example:1",
        ] {
            let expected = (Code::ConfigurationUnsafe, "telemetry.endpoint".to_owned());
            assert_eq!(refused(&[("ENDPOINT", wrong)]), expected, "{wrong}");
        }
        for wrong in
            ["", "collector:4318", "ftp://127.0.0.1:4318", "http://127.0.0.1", "http://127.0.0.1:4318/path"]
        {
            let expected = (Code::ConfigurationInvalid, "telemetry.endpoint".to_owned());
            assert_eq!(refused(&[("ENDPOINT", wrong)]), expected, "{wrong}");
        }
    }

    #[test]
    fn a_collector_elsewhere_proves_who_it_is() {
        let endpoint = ("ENDPOINT", "https://collector.example:4318");
        assert_eq!(refused(&[endpoint]), (Code::ConfigurationMissing, "telemetry.authority".to_owned()));
        assert!(with(&[endpoint, ("AUTHORITY", "ca.pem")]).is_ok());
    }

    #[test]
    fn bounds_are_bounds() {
        for (key, value) in [("TRACE_SHARE", "1.1"), ("QUEUE", "1"), ("SHUTDOWN", "2min"), ("INTERVAL", "0s")]
        {
            assert_eq!(refused(&[(key, value)]).1, format!("telemetry.{}", key.to_ascii_lowercase()));
        }
    }
}
