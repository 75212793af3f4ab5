//! Who is who in the audit log.

use std::sync::Arc;

use async_trait::async_trait;
use domicile_crypto::{Key32, blind};
use domicile_evidence::entry::Pseudonym;
use domicile_kms::{Keyring, RegionKey, SubjectSecret};
use domicile_store::Pseudonyms;
use domicile_types::{AccountId, RegionId, Result, SubjectId};

/// Pseudonyms under the region's keys. A client's comes from a secret of their own, which travels with
/// the record and dies with its erasure: then nothing links the log to the person.
pub(crate) struct RegionPseudonyms {
    pub(crate) keyring: Arc<Keyring>,
    pub(crate) region: RegionId,
}

#[async_trait]
impl Pseudonyms for RegionPseudonyms {
    async fn subject(&self, subject: SubjectId) -> Result<Pseudonym> {
        if let Some(key) = self.keyring.find_subject_secret(subject, SubjectSecret::Pseudonym).await? {
            return Ok(self.of_subject(&key, subject));
        }
        if self.keyring.subject_key_count(subject).await? > 0 {
            let key = self.keyring.subject_secret(subject, SubjectSecret::Pseudonym).await?;
            return Ok(self.of_subject(&key, subject));
        }
        // A record that is not here, or no longer: a secret made now would outlive the erasure.
        self.stranger(b"subject", subject.as_bytes()).await
    }

    async fn actor(&self, account: AccountId) -> Result<Pseudonym> {
        self.stranger(b"account", account.as_bytes()).await
    }
}

impl RegionPseudonyms {
    /// One key gives another pseudonym in each region's log: two logs cannot be joined by it, and who
    /// holds the key, the record's home, can still tell who looked in the regions before.
    fn of_subject(&self, key: &Key32, subject: SubjectId) -> Pseudonym {
        let place = [self.region.as_str().as_bytes(), b"/", subject.as_bytes().as_slice()].concat();
        blind::pseudonym(key, &place)
    }

    async fn stranger(&self, domain: &[u8], id: &[u8; 16]) -> Result<Pseudonym> {
        let key = self.keyring.region_key(RegionKey::ActorPseudonym).await?;
        Ok(blind::pseudonym(&key, &[domain, id].concat()))
    }
}
