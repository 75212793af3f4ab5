//! Objects in a bucket of S3.
//!
//! An object that fits in one part is one conditional PUT; a larger one is a multipart upload, one part on
//! its way while the next is read, so that an upload holds two parts in memory whatever its length. Both
//! end with `If-None-Match: *`, which lets S3 choose the one winner, and every part and the whole carry a
//! SHA-256 that S3 checks.
//!
//! An object carries the id of the upload that made it. When the answer to an upload's last request is
//! lost, or a repeated request finds the name taken, the id says whether the object is this upload's own.
//!
//! In a bucket with versions, deleting means every version and every delete marker, and listing shows
//! every name that still has a version: what is erased must not be there to be restored.

mod create;
mod failure;
mod read;
mod remove;
mod upload;

use std::time::Duration;

use async_trait::async_trait;
use aws_config::default_provider::credentials::DefaultCredentialsChain;
use aws_sdk_s3::config::retry::{RetryConfig, RetryPartition};
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    BehaviorVersion, Region, RequestChecksumCalculation, ResponseChecksumValidation,
    SharedCredentialsProvider,
};
use aws_sdk_s3::primitives::DateTime;
use aws_sdk_s3::types::ObjectLockMode;
use aws_sdk_s3::{Client, Config};
use bytes::Bytes;
use domicile_config::cloud::S3Settings;
use domicile_types::{Code, Ctx, Error, Result};
use futures::stream::BoxStream;

use self::failure::{Call, explain};
use crate::{ObjectName, ObjectPrefix, ObjectStore};

/// The first wait between two tries, at most; it doubles.
const FIRST_WAIT: Duration = Duration::from_millis(100);
/// The longest wait between two tries.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// Under which name of its metadata an object carries the id of the upload that made it.
const UPLOAD: &str = "domicile-upload";

/// How strictly S3 keeps an object that is locked (S3 user guide, "Object Lock").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockMode {
    /// Nobody can remove it before its time, the account's owner neither.
    Compliance,
    /// Whoever may bypass governance can.
    Governance,
}

/// Locks every object at its creation. Not for what the product promises to erase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lock {
    /// How strictly.
    pub mode: LockMode,
    /// For how long from its creation.
    pub retention: Duration,
}

/// An object store in a bucket.
#[derive(Clone, Debug)]
pub struct S3 {
    client: Client,
    bucket: String,
    /// What every key begins with, with its slash; or nothing.
    prefix: String,
    part_bytes: usize,
    attempts: u32,
    attempt: Duration,
    lock: Option<Lock>,
    ctx: Ctx,
}

impl S3 {
    /// Opens a bucket with credentials of the SDK's own chain, and removes uploads that a crash left
    /// unfinished more than a day ago.
    ///
    /// # Errors
    /// [`Code::ObjectStoreUnavailable`] when S3 does not answer; [`Code::ObjectStoreDenied`] when the bucket
    /// cannot be used, its place says why. A bucket that locks its objects by default is refused: what
    /// is in it could not be erased.
    pub async fn open(settings: &S3Settings, ctx: &Ctx) -> Result<Self> {
        let chain = DefaultCredentialsChain::builder().region(region(settings)).build().await;
        Self::with(settings, SharedCredentialsProvider::new(chain), ctx).await
    }

    /// As [`Self::open`], with an access key at hand: for tests, whose process has no credentials.
    ///
    /// # Errors
    /// As [`Self::open`].
    #[cfg(any(test, feature = "testing"))]
    pub async fn open_as(settings: &S3Settings, id: &str, secret: &str, ctx: &Ctx) -> Result<Self> {
        let credentials = aws_sdk_s3::config::Credentials::new(id, secret, None, None, "test");
        Self::with(settings, SharedCredentialsProvider::new(credentials), ctx).await
    }

    async fn with(settings: &S3Settings, credentials: SharedCredentialsProvider, ctx: &Ctx) -> Result<Self> {
        let too_large = || Error::new(Code::ConfigurationInvalid).at("objects.part_bytes");
        let store = Self {
            client: Client::from_conf(config(settings, credentials)),
            bucket: settings.bucket.clone(),
            prefix: settings.prefix.as_ref().map(|prefix| format!("{prefix}/")).unwrap_or_default(),
            part_bytes: usize::try_from(settings.part_bytes).map_err(|_| too_large())?,
            attempts: settings.attempts,
            attempt: settings.attempt,
            lock: None,
            ctx: ctx.clone(),
        };
        store.check_bucket().await?;
        store.remove_unfinished().await?;
        Ok(store)
    }

    /// The same bucket, with every object locked at its creation: for what must stay.
    #[must_use]
    pub fn locked(mut self, lock: Lock) -> Self {
        self.lock = Some(lock);
        self
    }

    fn key(&self, name: &ObjectName) -> String {
        format!("{}{name}", self.prefix)
    }

    /// The name behind a key; `None` for what is not this store's.
    fn name(&self, key: &str) -> Option<ObjectName> {
        ObjectName::new(key.strip_prefix(&self.prefix)?).ok()
    }

    /// The lock of an object that is made now.
    fn lock_now(&self) -> (Option<ObjectLockMode>, Option<DateTime>) {
        let Some(lock) = self.lock else { return (None, None) };
        let mode = match lock.mode {
            LockMode::Compliance => ObjectLockMode::Compliance,
            LockMode::Governance => ObjectLockMode::Governance,
        };
        let until = self.ctx.clock.now().plus(lock.retention);
        (Some(mode), Some(DateTime::from_millis(until.millis())))
    }

    /// The bucket is there, and does not keep what is to be erased.
    async fn check_bucket(&self) -> Result<()> {
        let there = self.client.head_bucket().bucket(&self.bucket).send().await;
        there.map_err(|error| explain(Call::HeadBucket, &error))?;
        let asked = self.client.get_object_lock_configuration().bucket(&self.bucket).send().await;
        let lock = match asked {
            Ok(answer) => answer.object_lock_configuration,
            Err(error) if failure::has_no_lock(&error) => None,
            Err(error) => return Err(explain(Call::GetLock, &error)),
        };
        let by_default = lock.and_then(|lock| lock.rule).and_then(|rule| rule.default_retention);
        match by_default {
            Some(_) => Err(Error::new(Code::ObjectStoreDenied).at("default retention of the bucket")),
            None => Ok(()),
        }
    }
}

fn region(settings: &S3Settings) -> Region {
    Region::new(settings.region.clone())
}

/// Built by hand: the SDK's shared configuration would let the environment name another endpoint.
fn config(settings: &S3Settings, credentials: SharedCredentialsProvider) -> Config {
    let tries = RetryConfig::standard()
        .with_max_attempts(settings.attempts)
        .with_initial_backoff(FIRST_WAIT)
        .with_max_backoff(LONGEST_WAIT);
    let times = TimeoutConfig::builder()
        .connect_timeout(settings.connect)
        .operation_attempt_timeout(settings.attempt)
        .operation_timeout(settings.total);
    let mut config = Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(region(settings))
        .credentials_provider(credentials)
        .retry_config(tries)
        // A budget of tries of its own: the SDK's would be shared with other clients of the process.
        .retry_partition(RetryPartition::custom("domicile-s3").build())
        .timeout_config(times.build())
        .force_path_style(settings.path_style)
        // Each request brings its own SHA-256; what is read is sealed and proves itself.
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
    config.set_endpoint_url(settings.endpoint.clone());
    config.build()
}

#[async_trait]
impl ObjectStore for S3 {
    async fn create(&self, name: &ObjectName, content: BoxStream<'_, Result<Bytes>>) -> Result<u64> {
        self.create_object(name, content).await
    }

    async fn read(&self, name: &ObjectName) -> Result<BoxStream<'static, Result<Bytes>>> {
        self.read_object(name).await
    }

    async fn read_range(&self, name: &ObjectName, offset: u64, length: u64) -> Result<Bytes> {
        self.read_part(name, offset, length).await
    }

    async fn length(&self, name: &ObjectName) -> Result<u64> {
        Ok(self.head(name).await?.length)
    }

    async fn delete(&self, name: &ObjectName) -> Result<()> {
        self.delete_versions(name).await
    }

    async fn list(&self, prefix: &ObjectPrefix) -> Result<Vec<ObjectName>> {
        self.list_names(prefix).await
    }
}
