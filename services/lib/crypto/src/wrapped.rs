//! The store of wrapped keys: apart from the data, with a short backup retention of its own
//! (data-model.md, "Keys").

use std::collections::BTreeSet;

use async_trait::async_trait;
use domicile_types::{PracticeId, Result, SubjectId, TransferId};

use crate::service::Purpose;

/// A wrapped key and its version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrappedKey {
    /// The version, from 1.
    pub version: u32,
    /// The key under its wrapping key.
    pub wrapped: Vec<u8>,
}

/// Where a record key stands: one per subject and practice, and one for the client's own items.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordKeyRow {
    /// The practice; `None` for the client's own items.
    pub practice: Option<PracticeId>,
    /// The version, from 1.
    pub version: u32,
    /// Uses reserved so far.
    pub uses: u64,
}

/// A secret of one subject that is no record key; it travels with the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SubjectSecret {
    /// Makes the subject's pseudonym in audit logs.
    Pseudonym,
    /// Makes the fingerprints of idempotent requests' bodies.
    Fingerprint,
}

impl SubjectSecret {
    /// Every secret.
    pub const ALL: &[Self] = &[Self::Pseudonym, Self::Fingerprint];

    /// The name in tables.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pseudonym => "pseudonym",
            Self::Fingerprint => "fingerprint",
        }
    }

    /// Finds a secret by its name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|secret| secret.as_str() == name)
    }
}

/// A key of one transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TransferKey {
    /// The travel key `K_t`.
    Travel,
    /// The private half of the attempt's HPKE key pair.
    HpkePrivate,
}

impl TransferKey {
    /// Every key.
    pub const ALL: &[Self] = &[Self::Travel, Self::HpkePrivate];

    /// What the key service is told it is for.
    #[must_use]
    pub const fn purpose(self) -> Purpose {
        match self {
            Self::Travel => Purpose::Travel,
            Self::HpkePrivate => Purpose::HpkePrivate,
        }
    }

    /// The name in tables.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        self.purpose().as_str()
    }
}

/// The record keys and secrets of a subject as they stood when they were listed, by their wrapped forms. Wrapping
/// is random, so each names one key: none made later is among them, whatever its version.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubjectKeys(BTreeSet<Vec<u8>>);

impl SubjectKeys {
    /// How many.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.len() as u64
    }

    /// Whether a key with this wrapped form is among them.
    #[must_use]
    pub fn contains(&self, wrapped: &[u8]) -> bool {
        self.0.contains(wrapped)
    }

    /// Their wrapped forms.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.0.iter().map(Vec::as_slice)
    }
}

impl FromIterator<Vec<u8>> for SubjectKeys {
    fn from_iter<I: IntoIterator<Item = Vec<u8>>>(wrapped: I) -> Self {
        Self(wrapped.into_iter().collect())
    }
}

/// Rows of wrapped keys. Every change is durable before its method returns. An insert never replaces:
/// it returns the row that stands, which another writer may have made first, and the caller uses that
/// one alone. So a key is committed before its first use, and all writers use the same.
///
/// All fail with [`domicile_types::Code::StoreUnavailable`] when the store does not answer.
#[async_trait]
pub trait WrappedKeys: Send + Sync {
    /// The newest wrapping key of a practice, or of clients' own items (`None`).
    async fn practice_key(&self, practice: Option<PracticeId>) -> Result<Option<WrappedKey>>;

    /// One version of a wrapping key.
    async fn practice_key_at(&self, practice: Option<PracticeId>, version: u32)
    -> Result<Option<WrappedKey>>;

    /// Inserts a wrapping key unless that version stands; returns the one that stands.
    async fn insert_practice_key(&self, practice: Option<PracticeId>, key: &WrappedKey)
    -> Result<WrappedKey>;

    /// The newest record key of a subject at a practice, or of the client's own items (`None`).
    async fn record_key(
        &self,
        subject: SubjectId,
        practice: Option<PracticeId>,
    ) -> Result<Option<WrappedKey>>;

    /// One version of a record key.
    async fn record_key_at(
        &self,
        subject: SubjectId,
        practice: Option<PracticeId>,
        version: u32,
    ) -> Result<Option<WrappedKey>>;

    /// Inserts a record key with no uses unless that version stands; returns the one that stands.
    async fn insert_record_key(
        &self,
        subject: SubjectId,
        practice: Option<PracticeId>,
        key: &WrappedKey,
    ) -> Result<WrappedKey>;

    /// Adds `uses` to a record key's count and returns the new total; `None` when there is no such key.
    async fn add_uses(
        &self,
        subject: SubjectId,
        practice: Option<PracticeId>,
        version: u32,
        uses: u64,
    ) -> Result<Option<u64>>;

    /// All record keys of a subject, by practice and version.
    async fn record_keys(&self, subject: SubjectId) -> Result<Vec<RecordKeyRow>>;

    /// A subject's secret.
    async fn subject_secret(&self, subject: SubjectId, secret: SubjectSecret) -> Result<Option<Vec<u8>>>;

    /// Inserts a subject's secret unless one stands; returns the one that stands.
    async fn insert_subject_secret(
        &self,
        subject: SubjectId,
        secret: SubjectSecret,
        wrapped: &[u8],
    ) -> Result<Vec<u8>>;

    /// Puts a subject's secret in the place of any that stands: the one that came with the record.
    async fn replace_subject_secret(
        &self,
        subject: SubjectId,
        secret: SubjectSecret,
        wrapped: &[u8],
    ) -> Result<()>;

    /// A transfer's key.
    async fn transfer_key(&self, transfer: TransferId, key: TransferKey) -> Result<Option<Vec<u8>>>;

    /// Inserts a transfer's key unless one stands; returns the one that stands.
    async fn insert_transfer_key(
        &self,
        transfer: TransferId,
        key: TransferKey,
        wrapped: &[u8],
    ) -> Result<Vec<u8>>;

    /// Destroys a transfer's key; whether there was one.
    async fn destroy_transfer_key(&self, transfer: TransferId, key: TransferKey) -> Result<bool>;

    /// A key of the region.
    async fn region_key(&self, purpose: Purpose) -> Result<Option<Vec<u8>>>;

    /// Inserts a key of the region unless one stands; returns the one that stands.
    async fn insert_region_key(&self, purpose: Purpose, wrapped: &[u8]) -> Result<Vec<u8>>;

    /// The record keys and secrets of a subject.
    async fn subject_keys(&self, subject: SubjectId) -> Result<SubjectKeys>;

    /// Destroys those of a subject's `keys` that still stand; how many.
    async fn destroy_subject(&self, subject: SubjectId, keys: &SubjectKeys) -> Result<u64>;

    /// How many record keys and secrets of a subject there are.
    async fn count_subject(&self, subject: SubjectId) -> Result<u64>;
}
