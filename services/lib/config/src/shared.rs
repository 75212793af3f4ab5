//! Settings that several roles share.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use domicile_types::{Code, Error, Result};
use serde::Deserialize;

use crate::{spiffe, units};

/// What a process is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Environment {
    /// A machine on a desk: SQLite is allowed, gRPC reflection is on.
    Development,
    /// Real people's records.
    Production,
}

/// Who runs the region, as people are told (P3).
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OperatorContact {
    /// The operator's name.
    pub name: String,
    /// An address that reaches them.
    pub contact: String,
}

impl OperatorContact {
    /// Both are told to people: neither may be empty. `key` is the section's name.
    pub(crate) fn check(&self, key: &str) -> Result<()> {
        filled(&format!("{key}.name"), &self.name)?;
        filled(&format!("{key}.contact"), &self.contact)
    }
}

/// The listener for people's clients: TLS 1.3.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PeopleListener {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The certificate chain, PEM.
    pub certificate: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
}

/// The listener for regions, the coordinator and operators' tools: TLS 1.3 with client certificates.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PeersListener {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The certificate chain, PEM; its leaf carries this process's SPIFFE ID.
    pub certificate: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
    /// The authority that signs peers' certificates, PEM.
    pub authority: PathBuf,
    /// The SPIFFE trust domain of the deployment.
    pub trust_domain: String,
}

impl PeopleListener {
    pub(crate) fn rebase(&mut self, base: &Path) {
        rebase(base, [&mut self.certificate, &mut self.key]);
    }
}

impl PeersListener {
    pub(crate) fn rebase(&mut self, base: &Path) {
        rebase(base, [&mut self.certificate, &mut self.key, &mut self.authority]);
    }

    pub(crate) fn check(&self) -> Result<()> {
        ensure("peers.trust_domain", spiffe::trust_domain(&self.trust_domain))
    }
}

/// What the process writes to its log.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogSettings {
    /// A filter in `tracing`'s form, such as `info,domicile=debug`.
    pub filter: String,
    /// The form of a line.
    pub format: LogFormat,
}

/// The form of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines.
    Json,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self { filter: "info".to_owned(), format: LogFormat::Text }
    }
}

/// Bounds of the gRPC servers. Whatever a caller does, these close it, and nobody else notices.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Bytes of one message, as sent and after decoding.
    pub message_bytes: usize,
    /// Bytes of one request's headers.
    pub header_bytes: u32,
    /// Connections of one listener at a time.
    pub connections: usize,
    /// Of those, connections from one client address at a time (an IPv6 address counts with its /64).
    pub connections_per_address: usize,
    /// Requests of one connection at a time.
    pub streams: u32,
    /// Stream resets by one caller that close its connection.
    pub resets: usize,
    /// How long a TLS handshake may take.
    #[serde(deserialize_with = "units::read")]
    pub handshake: Duration,
    /// A connection without a request for this long is closed, also one that never began one.
    #[serde(deserialize_with = "units::read")]
    pub connection_idle: Duration,
    /// After this age a connection takes no new requests.
    #[serde(deserialize_with = "units::read")]
    pub connection_age: Duration,
    /// How long requests in flight may go on after that, and after a shutdown began.
    #[serde(deserialize_with = "units::read")]
    pub grace: Duration,
    /// The deadline of a request that names none.
    #[serde(deserialize_with = "units::read")]
    pub deadline: Duration,
    /// The longest deadline a request may name.
    #[serde(deserialize_with = "units::read")]
    pub longest_deadline: Duration,
    /// The longest time between two pieces of a streamed request.
    #[serde(deserialize_with = "units::read")]
    pub stream_idle: Duration,
    /// How often a silent connection is pinged.
    #[serde(deserialize_with = "units::read")]
    pub keepalive: Duration,
    /// How long an answer to that ping may take.
    #[serde(deserialize_with = "units::read")]
    pub keepalive_answer: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            message_bytes: 4 * 1024 * 1024,
            header_bytes: 16 * 1024,
            connections: 1_024,
            connections_per_address: 256,
            streams: 256,
            resets: 100,
            handshake: Duration::from_secs(5),
            connection_idle: Duration::from_secs(5 * 60),
            connection_age: Duration::from_secs(30 * 60),
            grace: Duration::from_secs(10),
            deadline: Duration::from_secs(30),
            longest_deadline: Duration::from_secs(600),
            stream_idle: Duration::from_secs(30),
            keepalive: Duration::from_secs(20),
            keepalive_answer: Duration::from_secs(10),
        }
    }
}

impl Limits {
    /// Zero would close the service, a number past every use would be no bound.
    pub(crate) fn check(&self) -> Result<()> {
        let numbers = [
            ("limits.message_bytes", self.message_bytes, 1_024..=64 * 1024 * 1024),
            ("limits.header_bytes", self.header_bytes as usize, 1_024..=1024 * 1024),
            ("limits.connections", self.connections, 1..=65_536),
            ("limits.connections_per_address", self.connections_per_address, 1..=self.connections),
            ("limits.streams", self.streams as usize, 1..=10_000),
            ("limits.resets", self.resets, 1..=10_000),
        ];
        numbers.into_iter().try_for_each(|(key, number, bounds)| ensure(key, bounds.contains(&number)))?;
        let waits = [
            ("limits.handshake", self.handshake, MINUTE),
            ("limits.connection_idle", self.connection_idle, DAY),
            ("limits.connection_age", self.connection_age, DAY),
            ("limits.deadline", self.deadline, self.longest_deadline),
            ("limits.longest_deadline", self.longest_deadline, DAY),
            ("limits.stream_idle", self.stream_idle, DAY),
            ("limits.keepalive", self.keepalive, DAY),
            ("limits.keepalive_answer", self.keepalive_answer, DAY),
        ];
        waits.into_iter().try_for_each(|(key, wait, most)| ensure(key, !wait.is_zero() && wait <= most))?;
        ensure("limits.grace", self.grace <= DAY)
    }
}

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);

/// [`Code::ConfigurationInvalid`] at `key` unless `fits`.
pub(crate) fn ensure(key: &str, fits: bool) -> Result<()> {
    if fits { Ok(()) } else { Err(Error::new(Code::ConfigurationInvalid).at(key)) }
}

/// [`Code::ConfigurationMissing`] at `key` when there is no text.
pub(crate) fn filled(key: &str, text: &str) -> Result<()> {
    if text.trim().is_empty() { Err(Error::new(Code::ConfigurationMissing).at(key)) } else { Ok(()) }
}

/// Makes relative paths relative to `base`, the folder of the settings file.
pub(crate) fn rebase<'a>(base: &Path, paths: impl IntoIterator<Item = &'a mut PathBuf>) {
    for path in paths {
        *path = base.join(&*path);
    }
}
