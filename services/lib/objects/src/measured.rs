//! An object store that is measured: every call's time and outcome. Of a read, the time until its first
//! byte can be asked for.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use domicile_telemetry::metrics;
use domicile_types::Result;
use futures::stream::BoxStream;

use crate::{ObjectName, ObjectPrefix, ObjectStore};

/// Measures the calls of the store within.
pub struct Measured(pub Arc<dyn ObjectStore>);

#[async_trait]
impl ObjectStore for Measured {
    async fn create(&self, name: &ObjectName, content: BoxStream<'_, Result<Bytes>>) -> Result<u64> {
        metrics::object("create", self.0.create(name, content)).await
    }

    async fn read(&self, name: &ObjectName) -> Result<BoxStream<'static, Result<Bytes>>> {
        metrics::object("read", self.0.read(name)).await
    }

    async fn read_range(&self, name: &ObjectName, offset: u64, length: u64) -> Result<Bytes> {
        metrics::object("read_range", self.0.read_range(name, offset, length)).await
    }

    async fn length(&self, name: &ObjectName) -> Result<u64> {
        metrics::object("length", self.0.length(name)).await
    }

    async fn delete(&self, name: &ObjectName) -> Result<()> {
        metrics::object("delete", self.0.delete(name)).await
    }

    async fn list(&self, prefix: &ObjectPrefix) -> Result<Vec<ObjectName>> {
        metrics::object("list", self.0.list(prefix)).await
    }
}
