//! Objects in a directory of the local file system.
//!
//! An object is written to a file of its own under `.incoming`, made durable, and linked to its name: the
//! link is what creates it, and fails when the name is taken. Several processes may use a directory: each
//! writes in a folder of its own under `.incoming` and holds a lock beside it, and a start removes the
//! folders whose lock nobody holds.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt};
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use domicile_types::{Code, Ctx, Error, Result};
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use tokio::fs::{self, DirBuilder, File};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{MAX_RANGE, ObjectName, ObjectPrefix, ObjectStore};

/// Where objects are written before they have a name; no object's name can begin so.
const INCOMING: &str = ".incoming";

/// What the lock beside a process's folder is called.
const LOCK: &str = "lock";

/// Bytes read at once.
const PIECE: usize = 256 * 1024;

/// Times a link is tried when a delete takes the directory away under it.
const LINK_TRIES: u32 = 16;

/// An object store in a directory.
#[derive(Debug)]
pub struct Directory {
    root: PathBuf,
    ctx: Ctx,
    incoming: PathBuf,
    /// Held as long as this process may write.
    _lock: std::fs::File,
}

impl Directory {
    /// Opens the directory, makes it if needed, and removes what a crash left half written.
    ///
    /// # Errors
    /// [`Code::ObjectStoreUnavailable`] when the directory cannot be used.
    pub async fn open(root: &Path, ctx: &Ctx) -> Result<Self> {
        let all = root.join(INCOMING);
        make_directories(&all).await.map_err(unavailable)?;
        let own = hex::encode(ctx.random::<16>());
        let incoming = all.join(&own);
        let joining = tokio::task::spawn_blocking(move || join(&all, &own));
        let lock = joining.await.map_err(|lost| Error::new(Code::Internal).because(lost))?;
        Ok(Self { root: root.to_owned(), ctx: ctx.clone(), incoming, _lock: lock.map_err(unavailable)? })
    }

    fn path(&self, name: &ObjectName) -> PathBuf {
        self.root.join(name.as_str())
    }

    async fn file(&self, name: &ObjectName) -> Result<File> {
        let file = File::open(self.path(name)).await.map_err(missing_or_unavailable)?;
        let facts = file.metadata().await.map_err(unavailable)?;
        if facts.is_file() { Ok(file) } else { Err(Error::new(Code::ObjectMissing)) }
    }

    async fn write(&self, path: &Path, mut content: BoxStream<'_, Result<Bytes>>) -> Result<u64> {
        // Opened at once and not on another thread, where it could come after the caller went away and the
        // file was removed.
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
        let mut file = File::from_std(file.map_err(unavailable)?);
        let mut length = 0_u64;
        while let Some(piece) = content.try_next().await? {
            file.write_all(&piece).await.map_err(unavailable)?;
            length += piece.len() as u64;
        }
        file.flush().await.map_err(unavailable)?;
        file.sync_all().await.map_err(unavailable)?;
        Ok(length)
    }

    /// Gives a written file its name. A delete may take an emptied directory away just then: again.
    async fn link(&self, from: &Path, to: &Path) -> Result<()> {
        let parent = to.parent().unwrap_or(&self.root);
        for _ in 0..LINK_TRIES {
            make_directories(parent).await.map_err(unavailable)?;
            match fs::hard_link(from, to).await {
                Ok(()) => return sync_directory(parent).await.map_err(unavailable),
                Err(cause) if cause.kind() == io::ErrorKind::AlreadyExists => {
                    return Err(Error::new(Code::ObjectExists));
                }
                Err(cause) if cause.kind() == io::ErrorKind::NotFound && is_file(from).await => {}
                Err(cause) => return Err(unavailable(cause)),
            }
        }
        Err(Error::new(Code::ObjectStoreUnavailable).at("object directory"))
    }

    /// Removes directories that a delete left empty: their names would tell of who was here.
    async fn prune(&self, mut directory: &Path) {
        while directory != self.root && fs::remove_dir(directory).await.is_ok() {
            let Some(parent) = directory.parent() else { return };
            directory = parent;
        }
    }
}

#[async_trait]
impl ObjectStore for Directory {
    async fn create(&self, name: &ObjectName, content: BoxStream<'_, Result<Bytes>>) -> Result<u64> {
        let path = self.path(name);
        if fs::try_exists(&path).await.map_err(unavailable)? {
            return Err(Error::new(Code::ObjectExists));
        }
        let unique = hex::encode(self.ctx.random::<16>());
        let incoming = Incoming(self.incoming.join(unique));
        let length = self.write(&incoming.0, content).await?;
        self.ctx.faults.hit("object.before_link");
        self.ctx.faults.before("object.create");
        self.link(&incoming.0, &path).await?;
        self.ctx.faults.hit("object.after_link");
        self.ctx.faults.after("object.create");
        Ok(length)
    }

    async fn read(&self, name: &ObjectName) -> Result<BoxStream<'static, Result<Bytes>>> {
        let file = self.file(name).await?;
        Ok(stream::try_unfold(file, |mut file| async move {
            let mut piece = BytesMut::with_capacity(PIECE);
            let read = file.read_buf(&mut piece).await.map_err(unavailable)?;
            Ok((read > 0).then(|| (piece.freeze(), file)))
        })
        .boxed())
    }

    async fn read_range(&self, name: &ObjectName, offset: u64, length: u64) -> Result<Bytes> {
        let too_large = || Error::new(Code::TooLarge).at("range");
        if length > MAX_RANGE {
            return Err(too_large());
        }
        let capacity = usize::try_from(length).map_err(|_| too_large())?;
        let path = self.path(name);
        // One visit to the pool of blocking threads, not one a call.
        let reading = tokio::task::spawn_blocking(move || read_at(&path, offset, capacity));
        let range = reading.await.map_err(|cause| Error::new(Code::Internal).because(cause))??;
        if range.is_empty() && length > 0 {
            Err(Error::new(Code::ObjectIncomplete))
        } else {
            Ok(range.into())
        }
    }

    async fn length(&self, name: &ObjectName) -> Result<u64> {
        let facts = fs::metadata(self.path(name)).await.map_err(missing_or_unavailable)?;
        if facts.is_file() { Ok(facts.len()) } else { Err(Error::new(Code::ObjectMissing)) }
    }

    async fn delete(&self, name: &ObjectName) -> Result<()> {
        let path = self.path(name);
        let parent = path.parent().unwrap_or(&self.root);
        self.ctx.faults.before("object.delete");
        match fs::remove_file(&path).await {
            Ok(()) => sync_directory(parent).await.map_err(unavailable)?,
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => {}
            Err(cause) => return Err(unavailable(cause)),
        }
        self.prune(parent).await;
        self.ctx.faults.after("object.delete");
        Ok(())
    }

    async fn list(&self, prefix: &ObjectPrefix) -> Result<Vec<ObjectName>> {
        let mut names = Vec::new();
        let mut waiting = vec![prefix.as_str().to_owned()];
        while let Some(directory) = waiting.pop() {
            let mut entries = match fs::read_dir(self.root.join(&directory)).await {
                Ok(entries) => entries,
                Err(cause) if is_no_directory(&cause) => continue,
                Err(cause) => return Err(unavailable(cause)),
            };
            while let Some(entry) = entries.next_entry().await.map_err(unavailable)? {
                let Some(path) = path_of(&directory, &entry) else { continue };
                match entry.file_type().await {
                    Ok(kind) if kind.is_dir() => waiting.push(path.as_str().to_owned()),
                    Ok(_) => names.push(path),
                    Err(cause) if cause.kind() == io::ErrorKind::NotFound => {}
                    Err(cause) => return Err(unavailable(cause)),
                }
            }
        }
        names.sort();
        Ok(names)
    }
}

/// Makes a process's folder, with its lock, and removes those of processes that have ended.
fn join(all: &Path, own: &str) -> io::Result<std::fs::File> {
    let opened = |path: &Path| OpenOptions::new().create(true).append(true).mode(0o600).open(path);
    // One at a time: nobody sees a lock that is made and not yet held.
    let joining = opened(&all.join(LOCK))?;
    joining.lock()?;
    for entry in std::fs::read_dir(all)? {
        let path = entry?.path();
        if path.is_dir() {
            let lock = path.with_extension(LOCK);
            if opened(&lock)?.try_lock().is_ok() {
                std::fs::remove_dir_all(&path)?;
                std::fs::remove_file(&lock)?;
            }
        } else if path.extension().is_none() && !path.ends_with(LOCK) {
            std::fs::remove_file(&path)?;
        }
    }
    let folder = all.join(own);
    let lock = opened(&folder.with_extension(LOCK))?;
    lock.lock()?;
    std::fs::DirBuilder::new().mode(0o700).create(&folder)?;
    Ok(lock)
}

/// Up to `length` bytes from `offset`; fewer where the file ends before.
fn read_at(path: &Path, offset: u64, length: usize) -> Result<Vec<u8>> {
    let file = std::fs::File::open(path).map_err(missing_or_unavailable)?;
    if !file.metadata().map_err(unavailable)?.is_file() {
        return Err(Error::new(Code::ObjectMissing));
    }
    let mut range = vec![0; length];
    let mut filled = 0;
    while let Some(rest) = range.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, offset.saturating_add(filled as u64)) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(cause) if cause.kind() == io::ErrorKind::Interrupted => {}
            Err(cause) if cause.kind() == io::ErrorKind::InvalidInput => {
                return Err(Error::new(Code::TooLarge).at("range"));
            }
            Err(cause) => return Err(unavailable(cause)),
        }
    }
    range.truncate(filled);
    Ok(range)
}

/// The entry's name under the root; `None` for what no object's name can be.
fn path_of(directory: &str, entry: &fs::DirEntry) -> Option<ObjectName> {
    let last = entry.file_name().into_string().ok()?;
    let path = if directory.is_empty() { last } else { format!("{directory}/{last}") };
    ObjectName::new(path).ok()
}

/// A file that goes when this does, also when the caller of `create` goes away: its link stays.
struct Incoming(PathBuf);

impl Drop for Incoming {
    fn drop(&mut self) {
        // What cannot be removed now is removed at the next start.
        std::fs::remove_file(&self.0).unwrap_or_default();
    }
}

/// Makes a directory and those above it, each durable in the one that holds it.
async fn make_directories(path: &Path) -> io::Result<()> {
    let mut absent = Vec::new();
    let mut at = path;
    while !fs::try_exists(at).await? {
        absent.push(at);
        let Some(parent) = at.parent().filter(|parent| !parent.as_os_str().is_empty()) else { break };
        at = parent;
    }
    for directory in absent.into_iter().rev() {
        match DirBuilder::new().mode(0o700).create(directory).await {
            Ok(()) => {}
            Err(cause) if cause.kind() == io::ErrorKind::AlreadyExists => {}
            // A delete took the one above away: the caller tries again.
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(cause) => return Err(cause),
        }
        if let Some(parent) = directory.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            sync_directory(parent).await?;
        }
    }
    Ok(())
}

async fn sync_directory(path: &Path) -> io::Result<()> {
    match File::open(path).await {
        Ok(directory) => directory.sync_all().await,
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(cause) => Err(cause),
    }
}

async fn is_file(path: &Path) -> bool {
    fs::metadata(path).await.is_ok_and(|facts| facts.is_file())
}

fn is_no_directory(cause: &io::Error) -> bool {
    matches!(cause.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn missing_or_unavailable(cause: io::Error) -> Error {
    if is_no_directory(&cause) { Error::new(Code::ObjectMissing) } else { unavailable(cause) }
}

fn unavailable(cause: io::Error) -> Error {
    Error::new(Code::ObjectStoreUnavailable).because(cause)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance;
    use futures::FutureExt;

    async fn directory(root: &Path) -> Directory {
        Directory::open(root, &Ctx::system()).await.unwrap()
    }

    fn name(text: &str) -> ObjectName {
        ObjectName::new(text).unwrap()
    }

    fn once(content: &'static [u8]) -> BoxStream<'static, Result<Bytes>> {
        stream::iter([Ok(Bytes::from_static(content))]).boxed()
    }

    /// Files half written, in whichever process's folder.
    fn incoming(root: &Path) -> usize {
        let folders = std::fs::read_dir(root.join(INCOMING)).unwrap().map(|entry| entry.unwrap().path());
        folders.filter(|path| path.is_dir()).map(|path| std::fs::read_dir(path).unwrap().count()).sum()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn conforms() {
        let root = tempfile::tempdir().unwrap();
        conformance::object_store(&directory(root.path()).await).await.unwrap();
        assert_eq!(incoming(root.path()), 0);
    }

    #[tokio::test]
    async fn a_start_removes_what_a_crash_left_and_nothing_else() {
        let root = tempfile::tempdir().unwrap();
        let store = directory(root.path()).await;
        store.create(&name("objects/a/b"), once(b"kept")).await.unwrap();
        std::fs::write(store.incoming.join("0123"), b"half").unwrap();
        drop(store);
        let store = directory(root.path()).await;
        assert_eq!(incoming(root.path()), 0);
        assert_eq!(store.list(&ObjectPrefix::all()).await.unwrap(), [name("objects/a/b")]);
    }

    #[tokio::test]
    async fn a_crash_after_the_link_leaves_the_object_whole() {
        let root = tempfile::tempdir().unwrap();
        let store = directory(root.path()).await;
        let written = store.incoming.join("0123");
        drop(store);
        std::fs::write(&written, b"whole").unwrap();
        std::fs::hard_link(&written, root.path().join("a")).unwrap();
        let store = directory(root.path()).await;
        assert_eq!(incoming(root.path()), 0);
        assert_eq!(store.read_range(&name("a"), 0, 5).await.unwrap(), "whole");
    }

    #[tokio::test]
    async fn a_start_leaves_alone_what_another_process_writes() {
        let root = tempfile::tempdir().unwrap();
        let one = directory(root.path()).await;
        std::fs::write(one.incoming.join("0123"), b"under way").unwrap();
        let two = directory(root.path()).await;
        assert_eq!(incoming(root.path()), 1);
        two.create(&name("a"), once(b"x")).await.unwrap();
        one.create(&name("b"), once(b"x")).await.unwrap();
        drop((one, two));
        drop(directory(root.path()).await);
        assert_eq!(incoming(root.path()), 0);
    }

    #[tokio::test]
    async fn a_caller_that_goes_away_leaves_nothing() {
        let root = tempfile::tempdir().unwrap();
        let store = directory(root.path()).await;
        let never_ends = once(b"begun").chain(stream::pending()).boxed();
        let upload_name = name("a");
        let mut upload = Box::pin(store.create(&upload_name, never_ends));
        while incoming(root.path()) == 0 {
            assert!(upload.as_mut().now_or_never().is_none());
            tokio::task::yield_now().await;
        }
        drop(upload);
        assert_eq!(incoming(root.path()), 0);
        assert!(store.list(&ObjectPrefix::all()).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_delete_leaves_no_directory_that_names_the_subject() {
        let root = tempfile::tempdir().unwrap();
        let store = directory(root.path()).await;
        store.create(&name("objects/subject/one"), once(b"1")).await.unwrap();
        store.create(&name("objects/subject/two"), once(b"2")).await.unwrap();
        store.delete(&name("objects/subject/one")).await.unwrap();
        assert!(root.path().join("objects/subject").exists());
        store.delete(&name("objects/subject/two")).await.unwrap();
        assert!(!root.path().join("objects").exists());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn creates_survive_deletes_that_prune_beside_them() {
        let root = tempfile::tempdir().unwrap();
        let store = std::sync::Arc::new(directory(root.path()).await);
        let tasks = (0..4).map(|task| {
            let store = store.clone();
            tokio::spawn(async move {
                let name = name(&format!("objects/subject/{task}"));
                for _ in 0..50 {
                    store.create(&name, once(b"x")).await.unwrap();
                    store.delete(&name).await.unwrap();
                }
            })
        });
        for task in tasks.collect::<Vec<_>>() {
            task.await.unwrap();
        }
        assert!(store.list(&ObjectPrefix::all()).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn objects_are_for_their_owner_alone() {
        use std::os::unix::fs::MetadataExt;
        let root = tempfile::tempdir().unwrap();
        let store = directory(root.path()).await;
        store.create(&name("objects/a"), once(b"x")).await.unwrap();
        assert_eq!(std::fs::metadata(root.path().join("objects/a")).unwrap().mode() & 0o777, 0o600);
        assert_eq!(std::fs::metadata(root.path().join("objects")).unwrap().mode() & 0o777, 0o700);
    }

    #[tokio::test]
    async fn a_directory_is_no_object() {
        let root = tempfile::tempdir().unwrap();
        let store = directory(root.path()).await;
        store.create(&name("objects/a"), once(b"x")).await.unwrap();
        assert_eq!(store.length(&name("objects")).await.unwrap_err().code(), Code::ObjectMissing);
        assert_eq!(store.read(&name("objects")).await.err().unwrap().code(), Code::ObjectMissing);
        assert_eq!(store.length(&name("objects/a/b")).await.unwrap_err().code(), Code::ObjectMissing);
    }
}
