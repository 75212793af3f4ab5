//! What this service asks of others; the executable wires them.

use async_trait::async_trait;
use bytes::Bytes;
use domicile_crypto::Zeroizing;
use domicile_store::queries::item::Travelling;
use domicile_store::queries::object::Object;
use domicile_types::{ItemHeader, Result};
use futures::stream::BoxStream;

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
