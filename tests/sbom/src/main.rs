//! Writes the bill of materials of `domicile` to standard output: `domicile-sbom [TARGET]`, in the repository.

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

/// The target of the machine this program was built for.
const DEFAULT_TARGET: &str = "x86_64-unknown-linux-gnu";

fn main() -> ExitCode {
    let target = std::env::args().nth(1).unwrap_or_else(|| DEFAULT_TARGET.to_owned());
    let mut out = std::io::stdout();
    let written = domicile_sbom::document(Path::new("."), &target)
        .map_err(|failed| failed.to_string())
        .and_then(|document| writeln!(out, "{document:#}").map_err(|cause| cause.kind().to_string()));
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            writeln!(std::io::stderr(), "domicile-sbom: {why}").ok();
            ExitCode::FAILURE
        }
    }
}
