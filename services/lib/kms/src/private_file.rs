//! Files only their owner may read.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use domicile_types::{Code, Ctx, Error, Result};
use rustix::fs::OFlags;
use zeroize::Zeroizing;

/// Only the owner reads and writes.
const MODE: u32 = 0o600;

/// The bits of group and others.
const OTHERS: u32 = 0o077;

/// No key file is longer, in bytes.
const LONGEST: u64 = 64 * 1024;

/// Reads a file, or `None` when there is none.
///
/// # Errors
/// [`Code::KeyFileUnsafe`] when it is a link, no plain file, another's, or open to group or others;
/// [`Code::KeyUnavailable`] when it cannot be read.
pub(crate) fn read(path: &Path) -> Result<Option<Zeroizing<Vec<u8>>>> {
    let no_follow = i32::try_from(OFlags::NOFOLLOW.bits()).unwrap_or(0);
    let file = match OpenOptions::new().read(true).custom_flags(no_follow).open(path) {
        Ok(file) => file,
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(cause) if cause.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) => {
            return Err(not_safe(path, "it is a link"));
        }
        Err(cause) => return Err(unavailable(cause)),
    };
    check(path, &file)?;
    let mut bytes = Zeroizing::new(Vec::new());
    file.take(LONGEST).read_to_end(&mut bytes).map_err(unavailable)?;
    Ok(Some(bytes))
}

/// Judges the opened file, not the path: nobody can put another in its place in between.
fn check(path: &Path, file: &File) -> Result<()> {
    let facts = file.metadata().map_err(unavailable)?;
    if !facts.is_file() {
        return Err(not_safe(path, "it is no plain file"));
    }
    if facts.uid() != rustix::process::geteuid().as_raw() {
        return Err(not_safe(path, "it belongs to another user"));
    }
    if facts.mode() & OTHERS != 0 {
        return Err(not_safe(path, "its mode lets group or others in"));
    }
    Ok(())
}

/// Creates a file with this content, durably and at once: a crash leaves all of it or none. `false` when
/// there is one already, which stays as it is.
///
/// # Errors
/// [`Code::KeyUnavailable`] when it cannot be written.
pub(crate) fn create(path: &Path, content: &[u8], ctx: &Ctx) -> Result<bool> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let directory = directory.unwrap_or(Path::new("."));
    fs::create_dir_all(directory).map_err(unavailable)?;
    let temporary = Temporary(directory.join(format!(".key-{}", hex::encode(ctx.random::<8>()))));
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(MODE).open(&temporary.0).map_err(unavailable)?;
    file.write_all(content).and_then(|()| file.sync_all()).map_err(unavailable)?;
    match fs::hard_link(&temporary.0, path) {
        Ok(()) => {}
        Err(cause) if cause.kind() == io::ErrorKind::AlreadyExists => return Ok(false),
        Err(cause) => return Err(unavailable(cause)),
    }
    drop(temporary);
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(unavailable)?;
    Ok(true)
}

/// A file that goes when this does.
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        // What cannot be removed has the mode 0600 like the key file itself.
        fs::remove_file(&self.0).unwrap_or_default();
    }
}

fn unavailable(cause: io::Error) -> Error {
    Error::new(Code::KeyUnavailable).at("key file").because(cause)
}

fn not_safe(path: &Path, why: &str) -> Error {
    Error::new(Code::KeyFileUnsafe).at("key file").because(format!("{}: {why}", path.display()))
}
