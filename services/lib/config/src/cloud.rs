//! A region's keys in AWS KMS and its objects in S3.

use std::time::Duration;

use domicile_types::{Code, Error, Result};
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};

use crate::shared::{Environment, ensure, filled};
use crate::units;

/// The smallest part of a multipart upload that S3 takes, in bytes.
const PART_MIN: u64 = 5 << 20;
/// The largest part this service makes: it holds two of an upload in memory.
const PART_MAX: u64 = 512 << 20;

/// A symmetric key of AWS KMS. Credentials come from the SDK's own chain: environment, profile, web
/// identity, ECS or EC2.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AwsKeySettings {
    /// The key's ARN, or its id beside `region`. No alias: one that is pointed at another key would leave
    /// everything wrapped before unreadable.
    pub key_id: String,
    /// The AWS region the key is in; an ARN says it already.
    #[serde(default)]
    pub region: Option<String>,
    /// Another address than AWS's own, such as a VPC endpoint's.
    #[serde(default)]
    pub endpoint: Option<String>,
    /// Times a call is tried at most.
    #[serde(default = "four", deserialize_with = "number")]
    pub attempts: u32,
    /// How long a connection may take to stand.
    #[serde(default = "one_second", deserialize_with = "units::read")]
    pub connect: Duration,
    /// How long one try may take.
    #[serde(default = "three_seconds", deserialize_with = "units::read")]
    pub attempt: Duration,
    /// How long a call may take with all its tries and the waits between them.
    #[serde(default = "ten_seconds", deserialize_with = "units::read")]
    pub total: Duration,
}

/// A bucket. Credentials come from the SDK's own chain, as for [`AwsKeySettings`].
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct S3Settings {
    /// The bucket's name.
    pub bucket: String,
    /// What every key begins with, without the slash after it: for a bucket that holds other things too.
    #[serde(default)]
    pub prefix: Option<String>,
    /// The AWS region the bucket is in.
    pub region: String,
    /// Another address than AWS's own: a VPC endpoint, or another maker's S3.
    #[serde(default)]
    pub endpoint: Option<String>,
    /// Whether the bucket's name goes into the path instead of the host.
    #[serde(default, deserialize_with = "flag")]
    pub path_style: bool,
    /// Bytes of one part of a multipart upload; an object that fits in one is sent at once.
    #[serde(default = "eight_mebibytes", deserialize_with = "number")]
    pub part_bytes: u64,
    /// Times a request is tried at most.
    #[serde(default = "four", deserialize_with = "number")]
    pub attempts: u32,
    /// How long a connection may take to stand.
    #[serde(default = "three_seconds", deserialize_with = "units::read")]
    pub connect: Duration,
    /// How long one try may take, and how long a download may stand still.
    #[serde(default = "thirty_seconds", deserialize_with = "units::read")]
    pub attempt: Duration,
    /// How long a request may take with all its tries and the waits between them.
    #[serde(default = "two_minutes", deserialize_with = "units::read")]
    pub total: Duration,
}

impl AwsKeySettings {
    /// The key's AWS region; `None` where the settings name none.
    #[must_use]
    pub fn aws_region(&self) -> Option<&str> {
        self.arn_region().or(self.region.as_deref())
    }

    /// `arn:partition:kms:region:account:key/id`.
    fn arn_region(&self) -> Option<&str> {
        let mut parts = self.key_id.strip_prefix("arn:")?.split(':').skip(1);
        parts.next().filter(|service| *service == "kms")?;
        parts.next().filter(|region| !region.is_empty())
    }

    pub(crate) fn check(&self, environment: Environment) -> Result<()> {
        filled("keys.key_id", &self.key_id)?;
        ensure("keys.key_id", plain(&self.key_id) && !self.key_id.contains("alias/"))?;
        ensure("keys.key_id", !self.key_id.starts_with("arn:") || self.arn_region().is_some())?;
        // A multi-Region key can be copied to other countries by whoever may call ReplicateKey.
        if environment == Environment::Production && self.key_id.contains("mrk-") {
            return Err(Error::new(Code::ConfigurationUnsafe).at("keys.key_id"));
        }
        let region =
            self.aws_region().ok_or_else(|| Error::new(Code::ConfigurationMissing).at("keys.region"))?;
        filled("keys.region", region)?;
        ensure("keys.region", self.region.as_deref().is_none_or(|named| named == region))?;
        endpoint("keys.endpoint", self.endpoint.as_deref(), environment)?;
        tries("keys", self.attempts, [self.connect, self.attempt, self.total])
    }
}

impl S3Settings {
    pub(crate) fn check(&self, environment: Environment) -> Result<()> {
        filled("objects.bucket", &self.bucket)?;
        ensure("objects.bucket", plain(&self.bucket))?;
        filled("objects.region", &self.region)?;
        let prefix = self.prefix.as_deref().unwrap_or("objects");
        let segment = |part: &str| !part.is_empty() && !part.starts_with('.') && plain(part);
        ensure("objects.prefix", prefix.len() <= 256 && prefix.split('/').all(segment))?;
        ensure("objects.part_bytes", (PART_MIN..=PART_MAX).contains(&self.part_bytes))?;
        endpoint("objects.endpoint", self.endpoint.as_deref(), environment)?;
        tries("objects", self.attempts, [self.connect, self.attempt, self.total])
    }
}

/// Letters, digits and what ARNs, buckets and prefixes have between them.
fn plain(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b":/-_.".contains(&byte))
}

/// `https://host`, with a port or without; in development also `http://`.
fn endpoint(key: &str, uri: Option<&str>, environment: Environment) -> Result<()> {
    let Some(uri) = uri else { return Ok(()) };
    let secure = uri.strip_prefix("https://");
    let Some(place) = secure.or_else(|| uri.strip_prefix("http://")) else {
        return Err(Error::new(Code::ConfigurationInvalid).at(key));
    };
    ensure(key, !place.is_empty() && !place.contains(['@', '?', '#', ' ']))?;
    if environment == Environment::Production && secure.is_none() {
        return Err(Error::new(Code::ConfigurationUnsafe).at(key));
    }
    Ok(())
}

fn tries(section: &str, attempts: u32, [connect, attempt, total]: [Duration; 3]) -> Result<()> {
    let key = |name: &str| format!("{section}.{name}");
    ensure(&key("attempts"), (1..=20).contains(&attempts))?;
    ensure(&key("connect"), !connect.is_zero() && connect <= attempt)?;
    ensure(&key("attempt"), attempt <= total)?;
    ensure(&key("total"), total <= Duration::from_secs(3_600))
}

/// A value, or its text as the environment gives it: behind a `provider` the settings' own conversion
/// does not reach.
#[derive(Deserialize)]
#[serde(untagged)]
enum Given<T> {
    Value(T),
    Text(String),
}

fn given<'de, T, D>(from: D, parse: fn(&str) -> Option<T>) -> std::result::Result<T, D::Error>
where
    T: DeserializeOwned,
    D: Deserializer<'de>,
{
    match Given::<T>::deserialize(from)? {
        Given::Value(value) => Ok(value),
        Given::Text(text) => parse(&text).ok_or_else(|| D::Error::custom("another kind of value")),
    }
}

fn number<'de, T, D>(from: D) -> std::result::Result<T, D::Error>
where
    T: DeserializeOwned + std::str::FromStr,
    D: Deserializer<'de>,
{
    given(from, |text| text.parse().ok())
}

fn flag<'de, D: Deserializer<'de>>(from: D) -> std::result::Result<bool, D::Error> {
    given(from, |text| text.parse().ok())
}

const fn four() -> u32 {
    4
}

const fn eight_mebibytes() -> u64 {
    8 << 20
}

const fn one_second() -> Duration {
    Duration::from_secs(1)
}

const fn three_seconds() -> Duration {
    Duration::from_secs(3)
}

const fn ten_seconds() -> Duration {
    Duration::from_secs(10)
}

const fn thirty_seconds() -> Duration {
    Duration::from_secs(30)
}

const fn two_minutes() -> Duration {
    Duration::from_secs(120)
}
