//! AWS KMS and S3 through their SDKs, against two servers of this machine, and against a proxy that throws
//! in what goes wrong. What each server shows stands in docs/conformance.md, which is checked here.
#![cfg(test)]

mod key_faults;
mod keys;
mod multipart;
mod object_faults;
mod proxy;
mod regions;
mod table;
mod versions;

use aws_sdk_s3::types::{BucketLocationConstraint, BucketVersioningStatus, CreateBucketConfiguration};
use bytes::Bytes;
use domicile_config::cloud::{AwsKeySettings, S3Settings};
use domicile_kms::AwsKeys;
use domicile_objects::{ObjectName, ObjectStore, S3};
use domicile_tests::aws::{ACCESS_KEY, Kind, REGION, Server};
use domicile_types::{Ctx, Result};
use futures::stream::{self, BoxStream, StreamExt as _, TryStreamExt as _};

/// One server, seen with an administrator's eyes.
struct Cloud {
    server: &'static Server,
    kms: aws_sdk_kms::Client,
    s3: aws_sdk_s3::Client,
    ctx: Ctx,
}

impl Cloud {
    fn new(kind: Kind) -> Self {
        let server = Server::shared(kind).unwrap();
        let (id, secret) = ACCESS_KEY;
        let kms = aws_sdk_kms::Config::builder()
            .behavior_version(aws_sdk_kms::config::BehaviorVersion::latest())
            .region(aws_sdk_kms::config::Region::new(REGION))
            .credentials_provider(aws_sdk_kms::config::Credentials::new(id, secret, None, None, "test"))
            .endpoint_url(server.endpoint());
        let s3 = aws_sdk_s3::Config::builder()
            .behavior_version(aws_sdk_s3::config::BehaviorVersion::latest())
            .region(aws_sdk_s3::config::Region::new(REGION))
            .credentials_provider(aws_sdk_s3::config::Credentials::new(id, secret, None, None, "test"))
            .force_path_style(true)
            .endpoint_url(server.endpoint());
        Self {
            server,
            kms: aws_sdk_kms::Client::from_conf(kms.build()),
            s3: aws_sdk_s3::Client::from_conf(s3.build()),
            ctx: Ctx::system(),
        }
    }

    /// A fresh symmetric key; its ARN.
    async fn key(&self) -> String {
        let usage = aws_sdk_kms::types::KeyUsageType::EncryptDecrypt;
        let made = self.kms.create_key().key_usage(usage).send().await.unwrap();
        made.key_metadata.unwrap().arn.unwrap()
    }

    /// A fresh bucket.
    async fn bucket(&self) -> String {
        self.make_bucket(false).await
    }

    /// A fresh bucket with Object Lock, and so with versions.
    async fn bucket_with_lock(&self) -> String {
        self.make_bucket(true).await
    }

    /// A fresh bucket with versions.
    async fn bucket_with_versions(&self) -> String {
        let bucket = self.bucket().await;
        let versions = aws_sdk_s3::types::VersioningConfiguration::builder();
        let versions = versions.status(BucketVersioningStatus::Enabled).build();
        let set = self.s3.put_bucket_versioning().bucket(&bucket).versioning_configuration(versions);
        set.send().await.unwrap();
        bucket
    }

    async fn make_bucket(&self, lock: bool) -> String {
        let bucket = format!("test-{:032x}", u128::from_be_bytes(self.ctx.random()));
        let place = BucketLocationConstraint::from(REGION);
        let place = CreateBucketConfiguration::builder().location_constraint(place).build();
        let made = self.s3.create_bucket().bucket(&bucket).create_bucket_configuration(place);
        made.set_object_lock_enabled_for_bucket(lock.then_some(true)).send().await.unwrap();
        bucket
    }

    /// How many uploads are begun and neither complete nor given up.
    async fn unfinished(&self, bucket: &str) -> usize {
        let answer = self.s3.list_multipart_uploads().bucket(bucket).send().await.unwrap();
        answer.uploads().len()
    }

    /// How many versions and delete markers a bucket has.
    async fn versions(&self, bucket: &str) -> usize {
        let answer = self.s3.list_object_versions().bucket(bucket).send().await.unwrap();
        answer.versions().len() + answer.delete_markers().len()
    }

    /// The product's key service with this key.
    async fn service(&self, key: &str) -> AwsKeys {
        open_keys(&keys(key, &self.server.endpoint())).await.unwrap()
    }

    /// The product's object store in this bucket.
    async fn store(&self, bucket: &str) -> S3 {
        open_bucket(&objects(bucket, &self.server.endpoint())).await.unwrap()
    }
}

/// Settings of a key, quick to give up.
fn keys(key: &str, endpoint: &str) -> AwsKeySettings {
    toml::from_str(&format!(
        "key_id = \"{key}\"\nregion = \"{REGION}\"\nendpoint = \"{endpoint}\"\nattempts = 3\n\
         connect = \"1s\"\nattempt = \"2s\"\ntotal = \"10s\"\n"
    ))
    .unwrap()
}

/// Settings of a bucket, quick to give up.
fn objects(bucket: &str, endpoint: &str) -> S3Settings {
    toml::from_str(&format!(
        "bucket = \"{bucket}\"\nregion = \"{REGION}\"\nendpoint = \"{endpoint}\"\npath_style = true\n\
         prefix = \"objects-of/this-region\"\npart_bytes = 5242880\nattempts = 3\nconnect = \"2s\"\n\
         attempt = \"5s\"\ntotal = \"20s\"\n"
    ))
    .unwrap()
}

/// The id at the end of a key's ARN: moto takes no ARN where a key is disabled.
fn id(arn: &str) -> &str {
    arn.rsplit('/').next().unwrap_or(arn)
}

async fn open_keys(settings: &AwsKeySettings) -> Result<AwsKeys> {
    AwsKeys::open_as(settings, ACCESS_KEY.0, ACCESS_KEY.1).await
}

async fn open_bucket(settings: &S3Settings) -> Result<S3> {
    S3::open_as(settings, ACCESS_KEY.0, ACCESS_KEY.1, &Ctx::system()).await
}

fn name(text: &str) -> ObjectName {
    ObjectName::new(text).unwrap()
}

/// Bytes that differ everywhere, so that a shifted or repeated piece shows.
fn content(length: usize) -> Bytes {
    (0..u32::try_from(length).unwrap()).map(|at| at.wrapping_mul(0x9E37_79B9).to_be_bytes()[0]).collect()
}

/// Content as an upload brings it.
fn pieces(content: &Bytes, each: usize) -> BoxStream<'static, Result<Bytes>> {
    let content = content.clone();
    let starts = (0..content.len()).step_by(each);
    let pieces: Vec<_> = starts.map(|at| Ok(content.slice(at..content.len().min(at + each)))).collect();
    stream::iter(pieces).boxed()
}

async fn read(store: &S3, name: &ObjectName) -> Result<Bytes> {
    let pieces: Vec<Bytes> = store.read(name).await?.try_collect().await?;
    Ok(pieces.concat().into())
}
