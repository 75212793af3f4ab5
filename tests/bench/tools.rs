//! Programs that the comparisons need.

use std::process::Stdio;

use domicile_tests::world::Outcome;
use tokio::process::Command;

/// Makes sure that programs are there: installs the packages of the same names where there is apt.
pub(crate) async fn ensure(names: &[&str]) -> Outcome<()> {
    let missing: Vec<&str> = names.iter().copied().filter(|name| !there(name)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    if there("apt-get") {
        let mut command = Command::new("apt-get");
        command.args(["install", "-y", "-qq", "--no-install-recommends"]).args(&missing);
        command.env("DEBIAN_FRONTEND", "noninteractive").stdin(Stdio::null()).output().await?;
    }
    if missing.iter().all(|name| there(name)) {
        Ok(())
    } else {
        Err(format!("install {} and start again", missing.join(", ")).into())
    }
}

fn there(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(name).is_file())
}

/// Runs a script of bash in which every part of a pipeline must end well; gives what it prints.
pub(crate) async fn bash(script: &str, arguments: &[&str]) -> Outcome<String> {
    let mut command = Command::new("bash");
    command.args(["-euo", "pipefail", "-c", script, "bash"]).args(arguments).stdin(Stdio::null());
    let done = command.output().await?;
    if done.status.success() {
        Ok(String::from_utf8_lossy(&done.stdout).trim().to_owned())
    } else {
        Err(format!("{script}: {}", String::from_utf8_lossy(&done.stderr)).into())
    }
}
