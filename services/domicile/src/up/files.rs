//! Folders and files that only their owner can use.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use domicile_cli::failure::{Failure, Result};

/// Makes a folder, mode 0700; one that exists must be closed to others.
pub(crate) fn folder(path: &Path) -> Result<()> {
    let failed = |cause: io::Error| Failure::file(path, &cause);
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed)?;
    let mode = std::fs::metadata(path).map_err(failed)?.permissions().mode();
    if mode & 0o077 != 0 {
        let what = format!("{}: others can enter it", path.display());
        return Err(Failure::local(what, "It will hold keys: use a new folder, or set its mode to 0700."));
    }
    Ok(())
}

/// Writes a file, mode 0600, whole or not at all: beside it first, then over it.
pub(crate) fn replace(path: &Path, content: &[u8]) -> Result<()> {
    let beside = path.with_extension("new");
    let written = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside);
    written
        .and_then(|mut file| file.write_all(content).and_then(|()| file.sync_all()))
        .and_then(|()| std::fs::rename(&beside, path))
        .map_err(|cause| Failure::file(path, &cause))
}

/// Reads a text file; `None` when there is none.
pub(crate) fn read(path: &Path) -> Result<Option<String>> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(cause) => Err(Failure::file(path, &cause)),
    }
}

/// Reads a TOML file; `None` when there is none.
pub(crate) fn read_toml<T: serde::de::DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let Some(text) = read(path)? else { return Ok(None) };
    // The parser's text may quote the file, and with it a password: it goes no further.
    let parsed = toml::from_str(&text).map_err(|_| {
        let what = format!("{}: not in the form this release writes", path.display());
        Failure::local(what, "Put back the file, or start on a new folder.")
    })?;
    Ok(Some(parsed))
}

/// Writes a TOML file, mode 0600.
pub(crate) fn replace_toml<T: serde::Serialize>(path: &Path, value: &T) -> Result<()> {
    let text = toml::to_string_pretty(value)
        .map_err(|_| Failure::local(format!("{}: cannot be written", path.display()), "Report this."))?;
    replace(path, text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_and_folders_are_private() {
        let temporary = tempfile::tempdir().unwrap();
        let path = temporary.path().join("a/b");
        folder(&path).unwrap();
        folder(&path).unwrap();
        let file = path.join("secret.toml");
        replace(&file, b"first").unwrap();
        replace(&file, b"second").unwrap();
        assert_eq!(read(&file).unwrap().unwrap(), "second");
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(&file)), (0o700, 0o600));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        assert!(folder(&path).is_err());
    }
}
