//! Sealed objects: large content that lies beside the database. What comes here is ciphertext already;
//! the store knows names and lengths.

pub mod directory;
pub mod measured;
pub mod name;
pub mod s3;

#[cfg(any(test, feature = "testing"))]
pub mod conformance;

use async_trait::async_trait;
use bytes::Bytes;
use domicile_types::Result;
use futures::stream::BoxStream;

pub use directory::Directory;
pub use measured::Measured;
pub use name::{ObjectName, ObjectPrefix};
pub use s3::S3;

/// The most one [`ObjectStore::read_range`] returns, in bytes: a sealed chunk fits many times.
pub const MAX_RANGE: u64 = 8 << 20;

/// A store of immutable objects. An object is there whole or not at all; none is ever overwritten.
///
/// All fail with [`domicile_types::Code::ObjectStoreUnavailable`] when the store does not answer, and with
/// [`domicile_types::Code::ObjectStoreDenied`] when it refuses.
#[async_trait]
pub trait ObjectStore: Send + Sync {
    /// Stores an object durably and returns its length. Nothing is left behind when the stream fails, the
    /// store fails or the caller goes away. Of several at once under one name, one wins.
    ///
    /// # Errors
    /// [`domicile_types::Code::ObjectExists`] when there is an object of this name; the stream's own error.
    async fn create(&self, name: &ObjectName, content: BoxStream<'_, Result<Bytes>>) -> Result<u64>;

    /// Streams an object from its beginning, in pieces of the store's choosing.
    ///
    /// # Errors
    /// [`domicile_types::Code::ObjectMissing`] when there is none of this name.
    async fn read(&self, name: &ObjectName) -> Result<BoxStream<'static, Result<Bytes>>>;

    /// Reads `length` bytes from `offset`; fewer only when the object ends before, as its last chunk does.
    ///
    /// # Errors
    /// [`domicile_types::Code::ObjectMissing`] when there is none of this name;
    /// [`domicile_types::Code::ObjectIncomplete`] when it ends at or before `offset`; [`domicile_types::Code::TooLarge`] past
    /// [`MAX_RANGE`].
    async fn read_range(&self, name: &ObjectName, offset: u64, length: u64) -> Result<Bytes>;

    /// The object's length in bytes.
    ///
    /// # Errors
    /// [`domicile_types::Code::ObjectMissing`] when there is none of this name.
    async fn length(&self, name: &ObjectName) -> Result<u64>;

    /// Removes an object durably; one that is not there is removed already.
    ///
    /// # Errors
    /// As all methods.
    async fn delete(&self, name: &ObjectName) -> Result<()>;

    /// The names of all objects under a prefix, sorted. What `create` returned before is among them.
    ///
    /// # Errors
    /// As all methods.
    async fn list(&self, prefix: &ObjectPrefix) -> Result<Vec<ObjectName>>;
}
