//! Files on the command line; `-` is standard input or output.

use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use crate::failure::{Failure, Result};

/// Whether the path stands for standard input or output.
#[must_use]
pub fn is_standard(path: &Path) -> bool {
    path.as_os_str() == "-"
}

/// Reads a whole file, or standard input.
///
/// # Errors
/// When it cannot be read.
pub fn read(path: &Path) -> Result<Vec<u8>> {
    if !is_standard(path) {
        return std::fs::read(path).map_err(|cause| Failure::file(path, &cause));
    }
    let mut content = Vec::new();
    io::stdin().lock().read_to_end(&mut content).map_err(|cause| Failure::file(path, &cause))?;
    Ok(content)
}

/// Writes a new file that only its owner can read; an existing one is not overwritten.
///
/// # Errors
/// When it exists or cannot be written.
pub fn write(path: &Path, content: &[u8]) -> Result<()> {
    let mut file = create(path)?;
    file.write_all(content).and_then(|()| file.sync_all()).map_err(|cause| Failure::file(path, &cause))
}

/// Creates a new file that only its owner can read.
///
/// # Errors
/// When it exists or cannot be made.
pub fn create(path: &Path) -> Result<std::fs::File> {
    let opened = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    opened.map_err(|cause| Failure::file(path, &cause))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_never_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        write(&path, b"first").unwrap();
        assert!(write(&path, b"second").is_err());
        assert_eq!(read(&path).unwrap(), b"first");
    }
}
