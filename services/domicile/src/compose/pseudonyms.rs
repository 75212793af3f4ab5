//! Who is who in the audit log.

use std::sync::Arc;

use async_trait::async_trait;
use domicile_crypto::blind;
use domicile_evidence::entry::Pseudonym;
use domicile_kms::{Keyring, RegionKey, SubjectSecret};
use domicile_store::Pseudonyms;
use domicile_types::{AccountId, Result, SubjectId};

/// Pseudonyms under the region's keys. A client's comes from a secret of their own, which travels with
/// the record and dies with its erasure: then nothing links the log to the person.
pub(crate) struct RegionPseudonyms(pub(crate) Arc<Keyring>);

#[async_trait]
impl Pseudonyms for RegionPseudonyms {
    async fn subject(&self, subject: SubjectId) -> Result<Pseudonym> {
        if let Some(key) = self.0.find_subject_secret(subject, SubjectSecret::Pseudonym).await? {
            return Ok(blind::pseudonym(&key, subject.as_bytes()));
        }
        if self.0.subject_key_count(subject).await? > 0 {
            let key = self.0.subject_secret(subject, SubjectSecret::Pseudonym).await?;
            return Ok(blind::pseudonym(&key, subject.as_bytes()));
        }
        // A record that is not here, or no longer: a secret made now would outlive the erasure.
        self.stranger(b"subject", subject.as_bytes()).await
    }

    async fn actor(&self, account: AccountId) -> Result<Pseudonym> {
        self.stranger(b"account", account.as_bytes()).await
    }
}

impl RegionPseudonyms {
    async fn stranger(&self, domain: &[u8], id: &[u8; 16]) -> Result<Pseudonym> {
        let key = self.0.region_key(RegionKey::ActorPseudonym).await?;
        Ok(blind::pseudonym(&key, &[domain, id].concat()))
    }
}
