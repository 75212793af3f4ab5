//! Runs the driver of the second verifier in one Python process.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A temporary folder, removed at the end.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new() -> Self {
        let path = std::env::temp_dir().join(format!("domicile-second-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a folder");
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

/// Python 3.9 with `cryptography`: the one of the path, or the distribution's.
fn python() -> &'static str {
    const FITS: &str = "import sys, cryptography; sys.exit(sys.version_info < (3, 9))";
    let fits = |python: &&&str| {
        let output = Command::new(**python).args(["-c", FITS]).output();
        output.is_ok_and(|output| output.status.success())
    };
    let found = ["python3", "/usr/bin/python3"].iter().find(fits).copied();
    found.expect(
        "the second verifier needs Python 3.9 with the package `cryptography`: bash tests/run installs them, \
         or apt-get install python3 python3-cryptography",
    )
}

/// Lets the driver hold the second verifier to the cases in a file; fails with what it prints.
pub fn agrees(kind: &str, cases: &Path) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let output = Command::new(python())
        .arg("-B")
        .arg(root.join("tests/second/drive.py"))
        .arg(root.join("../../../docs/verifier"))
        .args([kind.as_ref(), cases.as_os_str()])
        .output()
        .expect("Python starts");
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}{}", said(&output.stdout), said(&output.stderr));
}
