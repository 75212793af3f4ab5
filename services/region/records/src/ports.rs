//! What this service asks of others; the executable wires them.

use async_trait::async_trait;
use bytes::Bytes;
use domicile_crypto::Zeroizing;
use domicile_store::queries::item::Travelling;
use domicile_store::queries::object::Object;
use domicile_types::{AccountId, ItemHeader, PracticeId, Result};
use futures::stream::BoxStream;

/// A practitioner as the region knows them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Practitioner {
    /// Their practice.
    pub practice: PracticeId,
    /// Whether the practice has signed this region's agreement (P46).
    pub agreed: bool,
}

/// Who works here. Implemented by the identity service.
#[async_trait]
pub trait People: Send + Sync {
    /// The practitioner with this account; `None` for any other account.
    ///
    /// # Errors
    /// [`domicile_types::Code::StoreUnavailable`].
    async fn practitioner(&self, account: AccountId) -> Result<Option<Practitioner>>;
}

/// Opens what has arrived with a transfer and is not sealed again yet. Implemented by the transfer service.
#[async_trait]
pub trait TravelReader: Send + Sync {
    /// The payload of one version, by its header in this region's table.
    ///
    /// # Errors
    /// [`domicile_types::Code::ContentDamaged`] when it does not open.
    async fn item(&self, header: &ItemHeader, travelling: Travelling) -> Result<Zeroizing<Vec<u8>>>;

    /// The content of one object, in pieces that were checked each.
    ///
    /// # Errors
    /// [`domicile_types::Code::ObjectMissing`] when its content is no longer in travel form; in the
    /// stream [`domicile_types::Code::ContentDamaged`].
    async fn object(&self, object: &Object) -> Result<BoxStream<'static, Result<Bytes>>>;
}
