//! Signing keys in sealed files: wrapped by the key service, beside their public half.

use std::path::Path;

use domicile_crypto::{KeyContext, KeyService, Purpose, SigningKey};
use domicile_types::{Code, Ctx, Error, RegionId, Result};
use serde::{Deserialize, Serialize};

use crate::private_file;

/// The format this release writes and reads.
const FORMAT: u32 = 1;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SigningFile {
    format: u32,
    purpose: String,
    #[serde(with = "hex::serde")]
    public: [u8; 32],
    #[serde(with = "hex::serde")]
    wrapped: Vec<u8>,
}

/// Opens the signing key in a sealed file; makes one when there is no file. `purpose` is
/// [`Purpose::StatementKey`] or [`Purpose::CheckpointKey`]; a file of one does not open as the other.
/// Blocks on the file system: for start-up.
///
/// # Errors
/// [`Code::KeyFileUnsafe`] when others may read the file; [`Code::KeyDenied`] when it is no such file or
/// the key service refuses it; [`Code::KeyUnavailable`] when file or service do not answer.
pub async fn open_or_create(
    path: &Path,
    service: &dyn KeyService,
    region: &RegionId,
    purpose: Purpose,
    ctx: &Ctx,
) -> Result<SigningKey> {
    let context = KeyContext::region(region.clone(), purpose);
    if private_file::read(path)?.is_none() {
        let content = fresh(service, &context, ctx).await?;
        private_file::create(path, &content, ctx)?;
    }
    let content =
        private_file::read(path)?.ok_or_else(|| Error::new(Code::KeyUnavailable).at("signing key"))?;
    let file: SigningFile = serde_json::from_slice(&content).map_err(|_| refused())?;
    if file.format != FORMAT || file.purpose != purpose.as_str() {
        return Err(refused());
    }
    let key = SigningKey::from_pkcs8(&service.unwrap(&context, &file.wrapped).await?)?;
    if key.public() == file.public { Ok(key) } else { Err(refused()) }
}

async fn fresh(service: &dyn KeyService, context: &KeyContext, ctx: &Ctx) -> Result<Vec<u8>> {
    let (key, pkcs8) = SigningKey::generate(ctx)?;
    let file = SigningFile {
        format: FORMAT,
        purpose: context.purpose.as_str().to_owned(),
        public: key.public(),
        wrapped: service.wrap(context, &pkcs8).await?,
    };
    serde_json::to_vec_pretty(&file).map_err(|_| refused())
}

fn refused() -> Error {
    Error::new(Code::KeyDenied).at("signing key")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::LocalKeys;

    #[tokio::test]
    async fn opens_again_what_it_made_and_for_that_purpose_alone() {
        let ctx = Ctx::system();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("statement.key");
        let service = LocalKeys::in_memory(&ctx);
        let eu = RegionId::new("eu").unwrap();
        let us = RegionId::new("us").unwrap();
        let made = open_or_create(&path, &service, &eu, Purpose::StatementKey, &ctx).await.unwrap();
        let again = open_or_create(&path, &service, &eu, Purpose::StatementKey, &ctx).await.unwrap();
        assert_eq!(made.public(), again.public());
        for (region, purpose) in [(&eu, Purpose::CheckpointKey), (&us, Purpose::StatementKey)] {
            let error = open_or_create(&path, &service, region, purpose, &ctx).await.unwrap_err();
            assert_eq!(error.code(), Code::KeyDenied);
        }
        let stranger = LocalKeys::in_memory(&ctx);
        let error = open_or_create(&path, &stranger, &eu, Purpose::StatementKey, &ctx).await.unwrap_err();
        assert_eq!(error.code(), Code::KeyDenied);
    }
}
