//! The key service: the region's root key, which never leaves it.

use async_trait::async_trait;
use domicile_types::{PracticeId, RegionId, Result, TransferId};
use zeroize::Zeroizing;

use crate::Key32;

/// What a wrapped key is for. A key wrapped for one purpose does not unwrap for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Purpose {
    /// Wraps record keys of one practice, or of clients' own items.
    PracticeKey,
    /// Seals a record on its way.
    Travel,
    /// The private half of an attempt's HPKE key pair.
    HpkePrivate,
    /// Finds accounts by e-mail address.
    BlindIndex,
    /// Seals accounts' fields.
    Accounts,
    /// Names actors in the audit log.
    ActorPseudonym,
    /// Signs statements.
    StatementKey,
    /// Signs checkpoints.
    CheckpointKey,
}

impl Purpose {
    /// Every purpose.
    pub const ALL: &[Self] = &[
        Self::PracticeKey,
        Self::Travel,
        Self::HpkePrivate,
        Self::BlindIndex,
        Self::Accounts,
        Self::ActorPseudonym,
        Self::StatementKey,
        Self::CheckpointKey,
    ];

    /// The name in encryption contexts and tables.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PracticeKey => "practice-key",
            Self::Travel => "travel",
            Self::HpkePrivate => "hpke-private",
            Self::BlindIndex => "blind-index",
            Self::Accounts => "accounts",
            Self::ActorPseudonym => "actor-pseudonym",
            Self::StatementKey => "statement-key",
            Self::CheckpointKey => "checkpoint-key",
        }
    }
}

/// The encryption context: a key unwraps only in the context it was wrapped in. It stands in clear in
/// a key service's own log, so it names no client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyContext {
    /// The region.
    pub region: RegionId,
    /// The practice whose key it is.
    pub practice: Option<PracticeId>,
    /// The transfer whose key it is.
    pub transfer: Option<TransferId>,
    /// What it is for.
    pub purpose: Purpose,
}

impl KeyContext {
    /// A context of the region alone.
    #[must_use]
    pub const fn region(region: RegionId, purpose: Purpose) -> Self {
        Self { region, practice: None, transfer: None, purpose }
    }

    /// The same, of one practice; `None` for clients' own items.
    #[must_use]
    pub fn practice(self, practice: Option<PracticeId>) -> Self {
        Self { practice, ..self }
    }

    /// The same, of one transfer.
    #[must_use]
    pub fn transfer(self, transfer: TransferId) -> Self {
        Self { transfer: Some(transfer), ..self }
    }

    /// Names and values in a fixed order, as a cloud's key service takes them.
    #[must_use]
    pub fn pairs(&self) -> Vec<(&'static str, String)> {
        let mut pairs = vec![("purpose", self.purpose.as_str().to_owned())];
        pairs.extend(self.practice.map(|practice| ("practice", practice.to_string())));
        pairs.push(("region", self.region.to_string()));
        pairs.extend(self.transfer.map(|transfer| ("transfer", transfer.to_string())));
        pairs
    }

    /// The pairs as associated data: each name and value behind its length.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = b"domicile/key-context/1".to_vec();
        for (name, value) in self.pairs() {
            for text in [name, value.as_str()] {
                out.extend_from_slice(&(text.len() as u64).to_be_bytes());
                out.extend_from_slice(text.as_bytes());
            }
        }
        out
    }
}

/// A fresh key, in clear and wrapped.
#[derive(Debug)]
pub struct DataKey {
    /// The key.
    pub plain: Key32,
    /// The key as it is stored.
    pub wrapped: Vec<u8>,
}

/// Which root key a service uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyInfo {
    /// The key's name or address; not secret.
    pub id: String,
    /// The kind of service, such as `local` or `aws`.
    pub provider: &'static str,
}

/// A service that wraps keys under a root key it never hands out. Every method may be called at any
/// time from many tasks, and is safe to cancel.
///
/// All fail with [`domicile_types::Code::KeyUnavailable`] when the service does not answer, and
/// with [`domicile_types::Code::KeyDenied`] when it refuses: no permission, another context, or bytes
/// it did not make.
#[async_trait]
pub trait KeyService: Send + Sync {
    /// Makes a fresh 256-bit key.
    async fn generate_data_key(&self, context: &KeyContext) -> Result<DataKey>;

    /// Wraps a secret of at most 4 KiB.
    async fn wrap(&self, context: &KeyContext, plain: &[u8]) -> Result<Vec<u8>>;

    /// Unwraps what this service wrapped in the same context.
    async fn unwrap(&self, context: &KeyContext, wrapped: &[u8]) -> Result<Zeroizing<Vec<u8>>>;

    /// Which key it uses.
    fn describe(&self) -> KeyInfo;

    /// Whether it answers now.
    async fn health(&self) -> Result<()>;
}

/// The longest secret [`KeyService::wrap`] takes, in bytes (AWS KMS: 4,096).
pub const MAX_WRAP: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contexts_differ_in_every_part() {
        let ctx = domicile_types::Ctx::system();
        let region = |name: &str| RegionId::new(name).unwrap();
        let base = KeyContext::region(region("eu"), Purpose::Travel);
        let others = [
            KeyContext::region(region("us"), Purpose::Travel),
            KeyContext::region(region("eu"), Purpose::HpkePrivate),
            base.clone().practice(Some(PracticeId::generate(&ctx))),
            base.clone().transfer(TransferId::generate(&ctx)),
        ];
        for other in &others {
            assert_ne!(base.encode(), other.encode());
        }
        let encoded = base.encode();
        assert_eq!(encoded, base.practice(None).encode());
    }

    #[test]
    fn purposes_have_names_of_their_own() {
        let mut names: Vec<_> = Purpose::ALL.iter().map(|purpose| purpose.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Purpose::ALL.len());
    }
}
