//! The last signed head, kept outside the database: what shows that the database was set back.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use domicile_evidence::merkle::Hash;
use domicile_types::{Code, Error, Result};

/// The first line of a head's file.
const TITLE: &str = "domicile-head 1";

/// A size and its root, as they were signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// How many entries.
    pub size: u64,
    /// The root.
    pub root: Hash,
}

/// Where the last signed head is kept. It must not be restored together with the database.
#[async_trait]
pub trait SignedHead: Send + Sync {
    /// The last signed head; `None` before the first.
    ///
    /// # Errors
    /// [`Code::AuditUnavailable`] when it cannot be read, [`Code::AuditCorrupt`] when it is damaged.
    async fn load(&self) -> Result<Option<Head>>;

    /// Puts `next` in the place of `expected`, durable when this returns.
    ///
    /// # Errors
    /// [`Code::Conflict`] when another head stands there, [`Code::AuditUnavailable`] when it cannot be
    /// written; then `next` must not be published.
    async fn swap(&self, expected: Option<Head>, next: Head) -> Result<()>;
}

/// A head in a file of its own, for a region of one process; replicas have a
/// [`SharedHead`](crate::SharedHead).
#[derive(Clone, Debug)]
pub struct FileHead(PathBuf);

impl FileHead {
    /// A head in this file, which need not be there yet; its folder must.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }
}

#[async_trait]
impl SignedHead for FileHead {
    async fn load(&self) -> Result<Option<Head>> {
        let path = self.0.clone();
        blocking(move || read(&path)).await
    }

    async fn swap(&self, expected: Option<Head>, next: Head) -> Result<()> {
        let path = self.0.clone();
        blocking(move || {
            // Held until it is dropped: two sequencers swap one after the other.
            let guard = File::create(path.with_extension("lock")).map_err(unavailable)?;
            guard.lock().map_err(unavailable)?;
            if read(&path)? != expected {
                return Err(Error::new(Code::Conflict).at("signed head"));
            }
            replace(&path, &next).map_err(unavailable)
        })
        .await
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|lost| Error::new(Code::Internal).because(lost))?
}

fn unavailable(error: io::Error) -> Error {
    Error::new(Code::AuditUnavailable).at("signed head").because(error)
}

fn read(path: &Path) -> Result<Option<Head>> {
    match fs::read_to_string(path) {
        Ok(text) => parse(&text).map(Some).ok_or_else(|| Error::new(Code::AuditCorrupt).at("signed head")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(unavailable(error)),
    }
}

fn parse(text: &str) -> Option<Head> {
    let lines: Vec<&str> = text.lines().collect();
    let [TITLE, size, root] = lines.as_slice() else { return None };
    let root = hex::decode(root).ok()?.try_into().ok()?;
    Some(Head { size: size.parse().ok()?, root })
}

fn replace(path: &Path, head: &Head) -> io::Result<()> {
    let fresh = path.with_extension("new");
    let mut file = File::create(&fresh)?;
    write!(file, "{TITLE}\n{}\n{}\n", head.size, hex::encode(head.root))?;
    file.sync_all()?;
    fs::rename(&fresh, path)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Head = Head { size: 1, root: [1; 32] };
    const TWO: Head = Head { size: 2, root: [2; 32] };

    #[tokio::test]
    async fn a_head_is_swapped_only_from_what_stands_there() {
        let folder = tempfile::tempdir().unwrap();
        let head = FileHead::new(folder.path().join("log.head"));
        assert_eq!(head.load().await.unwrap(), None);
        head.swap(None, ONE).await.unwrap();
        assert_eq!(head.swap(None, TWO).await.unwrap_err().code(), Code::Conflict);
        assert_eq!(head.swap(Some(TWO), ONE).await.unwrap_err().code(), Code::Conflict);
        head.swap(Some(ONE), TWO).await.unwrap();
        assert_eq!(FileHead::new(folder.path().join("log.head")).load().await.unwrap(), Some(TWO));
    }

    #[tokio::test]
    async fn a_damaged_or_unreachable_head_is_an_error_and_never_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.head");
        for damaged in ["", "domicile-head 1\n1\n", "domicile-head 1\nx\n00\n", "something\n1\n00\n"] {
            fs::write(&path, damaged).unwrap();
            assert_eq!(FileHead::new(&path).load().await.unwrap_err().code(), Code::AuditCorrupt);
        }
        let nowhere = FileHead::new(folder.path().join("no/such/folder"));
        assert_eq!(nowhere.swap(None, ONE).await.unwrap_err().code(), Code::AuditUnavailable);
    }
}
