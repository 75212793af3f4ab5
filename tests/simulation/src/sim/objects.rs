//! Objects in memory: they survive the process, and calls for them fail as those of a real store do.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use domicile_objects::{MAX_RANGE, ObjectName, ObjectPrefix, ObjectStore};
use domicile_types::{Code, Error, Result};
use futures::stream::{self, BoxStream, StreamExt as _};

use super::process::Process;

/// A bucket: what is left when a process dies.
#[derive(Clone, Default)]
pub(crate) struct Bucket(Arc<Mutex<BTreeMap<ObjectName, Bytes>>>);

impl Bucket {
    pub(crate) fn look(&self) -> MutexGuard<'_, BTreeMap<ObjectName, Bytes>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A bucket as a process finds it; without one, as nothing fails.
pub(crate) struct MemoryObjects {
    pub(crate) bucket: Bucket,
    pub(super) process: Option<Arc<Process>>,
}

impl MemoryObjects {
    /// A bucket where nothing fails.
    #[cfg(test)]
    fn calm() -> Self {
        Self { bucket: Bucket::default(), process: None }
    }

    async fn call(&self, what: &str) -> Result<()> {
        let Some(process) = &self.process else { return Ok(()) };
        process.effect(what, 6).await;
        let fails = process.chance(&process.sky.torn);
        if fails { Err(Error::new(Code::ObjectStoreUnavailable).at("simulation")) } else { Ok(()) }
    }

    fn get(&self, name: &ObjectName) -> Result<Bytes> {
        self.bucket.look().get(name).cloned().ok_or_else(|| Error::new(Code::ObjectMissing))
    }
}

#[async_trait]
impl ObjectStore for MemoryObjects {
    async fn create(&self, name: &ObjectName, mut content: BoxStream<'_, Result<Bytes>>) -> Result<u64> {
        self.call("object begins").await?;
        let mut whole = Vec::new();
        while let Some(piece) = content.next().await {
            whole.extend_from_slice(&piece?);
            self.call("object piece").await?;
        }
        let length = whole.len() as u64;
        match self.bucket.look().entry(name.clone()) {
            std::collections::btree_map::Entry::Occupied(_) => return Err(Error::new(Code::ObjectExists)),
            std::collections::btree_map::Entry::Vacant(place) => drop(place.insert(whole.into())),
        }
        // The store has it, and its answer may be lost.
        self.call("object ends").await?;
        Ok(length)
    }

    async fn read(&self, name: &ObjectName) -> Result<BoxStream<'static, Result<Bytes>>> {
        self.call("object read").await?;
        let content = self.get(name)?;
        Ok(stream::iter([Ok(content)]).boxed())
    }

    async fn read_range(&self, name: &ObjectName, offset: u64, length: u64) -> Result<Bytes> {
        self.call("object range").await?;
        if length > MAX_RANGE {
            return Err(Error::new(Code::TooLarge).at("range"));
        }
        let content = self.get(name)?;
        let whole = content.len() as u64;
        if length > 0 && offset >= whole {
            return Err(Error::new(Code::ObjectIncomplete));
        }
        let place = |at: u64| usize::try_from(at.min(whole)).unwrap_or(usize::MAX);
        Ok(content.slice(place(offset)..place(offset.saturating_add(length))))
    }

    async fn length(&self, name: &ObjectName) -> Result<u64> {
        self.call("object length").await?;
        Ok(self.get(name)?.len() as u64)
    }

    async fn delete(&self, name: &ObjectName) -> Result<()> {
        self.call("object delete").await?;
        self.bucket.look().remove(name);
        Ok(())
    }

    async fn list(&self, prefix: &ObjectPrefix) -> Result<Vec<ObjectName>> {
        self.call("object list").await?;
        Ok(self.bucket.look().keys().filter(|name| name.is_under(prefix)).cloned().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_bucket_passes_the_suite_of_object_stores() {
        domicile_objects::conformance::object_store(&MemoryObjects::calm()).await.unwrap();
    }
}
