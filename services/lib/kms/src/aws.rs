//! A key service on AWS KMS: one symmetric key of one AWS region, which never leaves it.
//!
//! The context of every call is KMS's encryption context, so KMS itself refuses another one and its log
//! names region, purpose, practice and transfer. A call is tried again, with a jittered wait, while it is
//! throttled or unanswered: within the attempts and the time of the settings. What KMS refuses is refused
//! at once.
//!
//! What comes out of here is wiped when it is dropped; the SDK's own buffers are not.

mod failure;

use std::future::Future;

use async_trait::async_trait;
use aws_config::default_provider::credentials::DefaultCredentialsChain;
use aws_sdk_kms::config::retry::{RetryConfig, RetryPartition};
use aws_sdk_kms::config::timeout::TimeoutConfig;
use aws_sdk_kms::config::{BehaviorVersion, Region, SharedCredentialsProvider};
use aws_sdk_kms::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_kms::operation::RequestId;
use aws_sdk_kms::primitives::Blob;
use aws_sdk_kms::types::{DataKeySpec, KeySpec, KeyState, KeyUsageType};
use aws_sdk_kms::{Client, Config};
use domicile_config::cloud::AwsKeySettings;
use domicile_crypto::service::MAX_WRAP;
use domicile_crypto::{DataKey, Key32, KeyContext, KeyInfo, KeyService};
use domicile_types::{Code, Error, Result};
use tracing::instrument::WithSubscriber;
use tracing::subscriber::NoSubscriber;
use zeroize::Zeroizing;

use self::failure::{Call, explain};

/// The longest ciphertext KMS takes, in bytes (AWS KMS API reference, Decrypt).
const MAX_CIPHERTEXT: usize = 6144;

/// The first wait between two tries, at most; it doubles.
const FIRST_WAIT: std::time::Duration = std::time::Duration::from_millis(100);
/// The longest wait between two tries.
const LONGEST_WAIT: std::time::Duration = std::time::Duration::from_secs(2);

/// One key of AWS KMS.
#[derive(Clone, Debug)]
pub struct AwsKeys {
    client: Client,
    key_id: String,
}

impl AwsKeys {
    /// A client with credentials of the SDK's own chain; asks KMS whether the key can be used.
    ///
    /// # Errors
    /// [`Code::KeyUnavailable`] when KMS does not answer; [`Code::KeyDenied`] when the key cannot be used:
    /// its place says why.
    pub async fn open(settings: &AwsKeySettings) -> Result<Self> {
        let chain = DefaultCredentialsChain::builder().region(region(settings)).build().await;
        Self::with(settings, SharedCredentialsProvider::new(chain)).await
    }

    /// As [`Self::open`], with an access key at hand: for tests, whose process has no credentials.
    ///
    /// # Errors
    /// As [`Self::open`].
    #[cfg(any(test, feature = "testing"))]
    pub async fn open_as(settings: &AwsKeySettings, id: &str, secret: &str) -> Result<Self> {
        let credentials = aws_sdk_kms::config::Credentials::new(id, secret, None, None, "test");
        Self::with(settings, SharedCredentialsProvider::new(credentials)).await
    }

    async fn with(settings: &AwsKeySettings, credentials: SharedCredentialsProvider) -> Result<Self> {
        let tries = RetryConfig::standard()
            .with_max_attempts(settings.attempts)
            .with_initial_backoff(FIRST_WAIT)
            .with_max_backoff(LONGEST_WAIT);
        let times = TimeoutConfig::builder()
            .connect_timeout(settings.connect)
            .operation_attempt_timeout(settings.attempt)
            .operation_timeout(settings.total);
        // Built by hand: the SDK's shared configuration would let the environment name another endpoint.
        let mut config = Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(region(settings))
            .credentials_provider(credentials)
            .retry_config(tries)
            // A budget of tries of its own: the SDK's would be shared with other clients of the process.
            .retry_partition(RetryPartition::custom("domicile-kms").build())
            .timeout_config(times.build());
        config.set_endpoint_url(settings.endpoint.clone());
        let service = Self { client: Client::from_conf(config.build()), key_id: settings.key_id.clone() };
        service.health().await?;
        Ok(service)
    }
}

impl AwsKeys {
    /// Whether an ARN is this key's: KMS refuses another one's ciphertext, and names the key it used.
    fn is_own(&self, arn: &str) -> bool {
        arn == self.key_id || arn.rsplit_once('/').is_some_and(|(_, id)| id == self.key_id)
    }
}

fn region(settings: &AwsKeySettings) -> Option<Region> {
    settings.aws_region().map(|name| Region::new(name.to_owned()))
}

/// Runs a call of the SDK unseen: at its finest level the SDK's own log tells of each call, and a variable of
/// the environment (`LOG_SENSITIVE_BODIES`) makes it show the answers, and with them keys in clear.
async fn quiet<T, E, F>(call: Call, operation: F) -> Result<T>
where
    F: Future<Output = Result<T, SdkError<E>>> + Send,
    E: ProvideErrorMetadata + RequestId + std::error::Error + 'static,
{
    operation.with_subscriber(NoSubscriber::default()).await.map_err(|error| explain(call, &error))
}

/// What an answer must have and has not: KMS does not do that.
fn incomplete(call: Call) -> Error {
    Error::new(Code::KeyUnavailable).at(call.name())
}

#[async_trait]
impl KeyService for AwsKeys {
    async fn generate_data_key(&self, context: &KeyContext) -> Result<DataKey> {
        let request = self.client.generate_data_key().key_id(&self.key_id).key_spec(DataKeySpec::Aes256);
        let request = request.set_encryption_context(Some(pairs(context)));
        let answer = quiet(Call::Generate, request.send()).await?;
        let missing = || incomplete(Call::Generate);
        let plain = Zeroizing::new(answer.plaintext.ok_or_else(missing)?.into_inner());
        let wrapped = answer.ciphertext_blob.ok_or_else(missing)?.into_inner();
        Ok(DataKey { plain: Key32::from_slice(&plain)?, wrapped })
    }

    async fn wrap(&self, context: &KeyContext, plain: &[u8]) -> Result<Vec<u8>> {
        if plain.len() > MAX_WRAP {
            return Err(Error::new(Code::TooLarge).at("secret"));
        }
        let request = self.client.encrypt().key_id(&self.key_id).plaintext(Blob::new(plain));
        let request = request.set_encryption_context(Some(pairs(context)));
        let answer = quiet(Call::Wrap, request.send()).await?;
        Ok(answer.ciphertext_blob.ok_or_else(|| incomplete(Call::Wrap))?.into_inner())
    }

    async fn unwrap(&self, context: &KeyContext, wrapped: &[u8]) -> Result<Zeroizing<Vec<u8>>> {
        if wrapped.is_empty() || wrapped.len() > MAX_CIPHERTEXT {
            return Err(Error::new(Code::KeyDenied).at("wrapped key"));
        }
        // With the key named, KMS opens nothing that another key wrapped.
        let request = self.client.decrypt().key_id(&self.key_id).ciphertext_blob(Blob::new(wrapped));
        let request = request.set_encryption_context(Some(pairs(context)));
        let answer = quiet(Call::Unwrap, request.send()).await?;
        if !answer.key_id.as_deref().is_some_and(|arn| self.is_own(arn)) {
            return Err(Error::new(Code::KeyDenied).at("wrapped key"));
        }
        let plain = answer.plaintext.ok_or_else(|| incomplete(Call::Unwrap))?;
        Ok(Zeroizing::new(plain.into_inner()))
    }

    fn describe(&self) -> KeyInfo {
        KeyInfo { id: self.key_id.clone(), provider: "aws" }
    }

    /// Asks for the key's state; a key that is disabled, waits for its deletion, is for something else or
    /// may be copied to other AWS regions cannot be used.
    async fn health(&self) -> Result<()> {
        let answer = quiet(Call::Describe, self.client.describe_key().key_id(&self.key_id).send()).await?;
        let key = answer.key_metadata.ok_or_else(|| incomplete(Call::Describe))?;
        let usable = key.key_usage == Some(KeyUsageType::EncryptDecrypt)
            && key.key_spec.is_none_or(|spec| spec == KeySpec::SymmetricDefault);
        let place = match key.key_state {
            Some(KeyState::Enabled) if !usable => "key usage",
            Some(KeyState::Enabled) if key.multi_region == Some(true) => "multi-Region key",
            Some(KeyState::Enabled) => return Ok(()),
            Some(KeyState::Disabled) => "key disabled",
            Some(KeyState::PendingDeletion | KeyState::PendingReplicaDeletion) => "key pending deletion",
            _ => "key state",
        };
        Err(Error::new(Code::KeyDenied).at(place))
    }
}

fn pairs(context: &KeyContext) -> std::collections::HashMap<String, String> {
    context.pairs().into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}
