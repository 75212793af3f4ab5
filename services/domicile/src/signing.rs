//! The region's two signing keys, and the names they sign under.

use std::sync::Arc;

use domicile_cli::failure::Result;
use domicile_config::region::{KeySettings, SigningSettings};
use domicile_crypto::{KeyService, Purpose, SigningKey};
use domicile_evidence::keys::{PublicKey, Signer, VerifierKey};
use domicile_evidence::policy::LogKeys;
use domicile_kms::{AwsKeys, LocalKeys, signing};
use domicile_types::{Code, Ctx, Error, RegionId};

/// The name of a region's audit log: the origin of its checkpoints and the name of the key that signs
/// them (C2SP tlog-checkpoint).
pub(crate) fn log_origin(trust_domain: &str, region: &RegionId) -> String {
    format!("{trust_domain}/{region}")
}

/// The name a region signs statements and enrolments under.
fn statements_name(trust_domain: &str, region: &RegionId) -> String {
    format!("{trust_domain}/{region}/statements")
}

/// A signing key as `evidence` wants it.
pub(crate) struct RegionSigner(SigningKey);

impl Signer for RegionSigner {
    fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message)
    }

    fn public(&self) -> PublicKey {
        PublicKey::new(self.0.public())
    }
}

/// Both keys of a region, with the names and public halves others pin.
pub(crate) struct SigningKeys {
    /// Signs statements and enrolments.
    pub(crate) statement: Arc<RegionSigner>,
    /// Signs checkpoints.
    pub(crate) checkpoint: Arc<RegionSigner>,
    /// What peers and auditors pin.
    pub(crate) public: LogKeys,
}

/// The region's key service.
pub(crate) async fn key_service(settings: &KeySettings, ctx: &Ctx) -> Result<Arc<dyn KeyService>> {
    let service: Arc<dyn KeyService> = match settings {
        KeySettings::Local { file } => Arc::new(LocalKeys::open(file, ctx)?),
        KeySettings::Aws(aws) => Arc::new(AwsKeys::open(aws).await?),
    };
    Ok(Arc::new(domicile_kms::Measured(service)))
}

impl SigningKeys {
    /// Opens the keys in their sealed files; makes those that are missing.
    pub(crate) async fn open(
        region: &RegionId,
        domain: &str,
        files: &SigningSettings,
        service: &dyn KeyService,
        ctx: &Ctx,
    ) -> Result<Self> {
        let open = async |path, purpose| {
            let key = signing::open_or_create(path, service, region, purpose, ctx).await?;
            Ok::<_, Error>(Arc::new(RegionSigner(key)))
        };
        let statement = open(&files.statement_key, Purpose::StatementKey).await?;
        let checkpoint = open(&files.checkpoint_key, Purpose::CheckpointKey).await?;
        let public = LogKeys {
            checkpoint: named(&log_origin(domain, region), &checkpoint)?,
            statement: named(&statements_name(domain, region), &statement)?,
        };
        Ok(Self { statement, checkpoint, public })
    }
}

fn named(name: &str, key: &RegionSigner) -> Result<VerifierKey, Error> {
    VerifierKey::new(name, key.public())
        .map_err(|cause| Error::new(Code::ConfigurationInvalid).at("peers.trust_domain").because(cause))
}
