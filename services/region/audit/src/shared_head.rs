//! The last signed head in the object store, for a region of several replicas: each head is an object
//! of its own, made only if there is none of its size, and the greatest counts.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use domicile_objects::{ObjectName, ObjectPrefix, ObjectStore};
use domicile_types::{Code, Error, Result};
use futures::stream::{self, StreamExt as _};

use crate::head::{Head, SignedHead};

/// The prefix of every head. Its objects must not be put back together with the database.
const PREFIX: &str = "heads";
/// Bytes of a root.
const ROOT: u64 = 32;

/// A head in the region's object store.
#[derive(Clone)]
pub struct SharedHead(Arc<dyn ObjectStore>);

impl SharedHead {
    /// A head in this store.
    #[must_use]
    pub fn new(objects: Arc<dyn ObjectStore>) -> Self {
        Self(objects)
    }

    /// The names of all heads, in the order of their sizes.
    async fn names(&self) -> Result<Vec<(u64, ObjectName)>> {
        let names = self.0.list(&ObjectPrefix::new(PREFIX)?).await.map_err(unavailable)?;
        let size = |name: &ObjectName| name.as_str().rsplit('/').next()?.parse().ok();
        let mut heads = Vec::with_capacity(names.len());
        for name in names {
            let size = size(&name).ok_or_else(|| Error::new(Code::AuditCorrupt).at("signed head"))?;
            heads.push((size, name));
        }
        heads.sort();
        Ok(heads)
    }

    async fn read(&self, size: u64, name: &ObjectName) -> Result<Head> {
        let damaged = || Error::new(Code::AuditCorrupt).at("signed head");
        let content = self.0.read_range(name, 0, ROOT + 1).await.map_err(unavailable)?;
        Ok(Head { size, root: content.as_ref().try_into().map_err(|_| damaged())? })
    }
}

#[async_trait]
impl SignedHead for SharedHead {
    async fn load(&self) -> Result<Option<Head>> {
        match self.names().await?.last() {
            Some((size, name)) => self.read(*size, name).await.map(Some),
            None => Ok(None),
        }
    }

    async fn swap(&self, expected: Option<Head>, next: Head) -> Result<()> {
        let conflict = || Error::new(Code::Conflict).at("signed head");
        let before = self.names().await?;
        let last = match before.last() {
            Some((size, name)) => Some(self.read(*size, name).await?),
            None => None,
        };
        if last != expected || last.is_some_and(|last| last.size > next.size) {
            return Err(conflict());
        }
        let name = ObjectName::new(format!("{PREFIX}/{:020}", next.size))?;
        let content = stream::iter([Ok(Bytes::copy_from_slice(&next.root))]).boxed();
        match self.0.create(&name, content).await {
            Ok(_) => {}
            // Two signed the same size at the same time: well, if it was the same tree.
            Err(error) if error.code() == Code::ObjectExists => {
                if self.read(next.size, &name).await? != next {
                    return Err(conflict());
                }
            }
            Err(error) => return Err(unavailable(error)),
        }
        // Nobody who is in time takes a smaller one for the last: the greatest stays.
        for (_, older) in before.iter().filter(|(size, _)| *size < next.size) {
            if let Err(error) = self.0.delete(older).await {
                tracing::warn!(code = error.code().as_str(), "an older signed head was not removed yet");
            }
        }
        Ok(())
    }
}

fn unavailable(error: Error) -> Error {
    Error::new(Code::AuditUnavailable).at("signed head").because(error)
}

#[cfg(test)]
mod tests {
    use domicile_objects::Directory;
    use domicile_types::Ctx;

    use super::*;

    const ONE: Head = Head { size: 9, root: [1; 32] };
    const TWO: Head = Head { size: 10, root: [2; 32] };
    const THREE: Head = Head { size: 11, root: [3; 32] };

    async fn replicas(folder: &std::path::Path) -> [SharedHead; 2] {
        let ctx = Ctx::system();
        let one = Directory::open(folder, &ctx).await.unwrap();
        let two = Directory::open(folder, &ctx).await.unwrap();
        [SharedHead::new(Arc::new(one)), SharedHead::new(Arc::new(two))]
    }

    #[tokio::test]
    async fn replicas_swap_one_after_the_other() {
        let folder = tempfile::tempdir().unwrap();
        let [one, two] = replicas(folder.path()).await;
        assert_eq!(one.load().await.unwrap(), None);
        one.swap(None, ONE).await.unwrap();
        assert_eq!(two.load().await.unwrap(), Some(ONE));
        assert_eq!(two.swap(None, TWO).await.unwrap_err().code(), Code::Conflict);
        two.swap(Some(ONE), TWO).await.unwrap();
        assert_eq!(one.swap(Some(ONE), THREE).await.unwrap_err().code(), Code::Conflict);
        assert_eq!(two.swap(Some(TWO), ONE).await.unwrap_err().code(), Code::Conflict);
        one.swap(Some(TWO), THREE).await.unwrap();
        assert_eq!(one.names().await.unwrap().len(), 1, "older ones are gone");
    }

    #[tokio::test]
    async fn two_at_once_never_sign_two_trees_of_one_size() {
        let folder = tempfile::tempdir().unwrap();
        let [one, two] = replicas(folder.path()).await;
        let fork = Head { size: TWO.size, root: [9; 32] };
        one.swap(None, ONE).await.unwrap();
        let (a, b) = tokio::join!(one.swap(Some(ONE), TWO), two.swap(Some(ONE), fork));
        assert!(a.is_ok() != b.is_ok(), "{a:?} {b:?}");
        // The same tree twice is no fork.
        let (a, b) = {
            let last = one.load().await.unwrap();
            tokio::join!(one.swap(last, THREE), two.swap(last, THREE))
        };
        assert!(a.is_ok() || b.is_ok(), "{a:?} {b:?}");
        assert_eq!(two.load().await.unwrap(), Some(THREE));
    }

    #[tokio::test]
    async fn a_damaged_head_is_an_error_and_never_none() {
        let folder = tempfile::tempdir().unwrap();
        let [one, _] = replicas(folder.path()).await;
        std::fs::create_dir(folder.path().join("heads")).unwrap();
        std::fs::write(folder.path().join("heads/00000000000000000009"), [1; 31]).unwrap();
        assert_eq!(one.load().await.unwrap_err().code(), Code::AuditCorrupt);
    }
}
