//! What processes cost, as the kernel counts it, and what machine this is.

use std::path::Path;

use domicile_tests::world::Outcome;

/// Clock ticks a second in /proc: fixed on Linux for every architecture this runs on.
const TICKS: f64 = 100.0;

/// Processor seconds of a process so far.
pub(crate) fn cpu(pid: u32) -> Outcome<f64> {
    let (own, _) = ticks(pid)?;
    Ok(own / TICKS)
}

/// Processor seconds of a process, of its children that live, and of those that have ended.
pub(crate) fn cpu_of_tree(pid: u32) -> Outcome<f64> {
    let (own, ended) = ticks(pid)?;
    let living: f64 =
        children(pid)?.into_iter().filter_map(|child| ticks(child).ok()).map(|(own, _)| own).sum();
    Ok((own + ended + living) / TICKS)
}

/// A process's own ticks and those of its children that have ended.
#[expect(clippy::cast_precision_loss, reason = "ticks of a run of minutes")]
fn ticks(pid: u32) -> Outcome<(f64, f64)> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name in parentheses may hold anything; utime is the 14th field, the 12th after it.
    let (_, rest) = stat.rsplit_once(')').ok_or("no process status")?;
    let fields: Vec<u64> =
        rest.split_whitespace().skip(11).take(4).filter_map(|one| one.parse().ok()).collect();
    let [user, system, ended_user, ended_system] = fields[..] else { return Err("no times".into()) };
    Ok(((user + system) as f64, (ended_user + ended_system) as f64))
}

/// The living children of a process: those that name it as their parent. Not every kernel lists them itself.
fn children(of: u32) -> Outcome<Vec<u32>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        // One that has ended meanwhile is nobody's child.
        let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
        let parent = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1));
        if parent == Some(&*of.to_string()) {
            found.push(pid);
        }
    }
    Ok(found)
}

/// A figure of /proc/PID/status in KiB, such as `VmRSS` or `VmHWM`.
pub(crate) fn memory_kib(pid: u32, figure: &str) -> Outcome<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    field(&status, figure).ok_or_else(|| format!("no {figure}").into())
}

/// Lets the kernel count a process's `VmHWM` from its present size.
pub(crate) fn forget_peak(pid: u32) -> Outcome<()> {
    Ok(std::fs::write(format!("/proc/{pid}/clear_refs"), "5")?)
}

fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.split_whitespace().next()?.parse().ok()
}

/// The processor's name.
pub(crate) fn processor() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = text.lines().find(|line| line.starts_with("model name"));
    name.and_then(|line| line.split_once(':')).map_or("unknown", |(_, name)| name.trim()).to_owned()
}

/// How many cores this process may use.
pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(0, std::num::NonZero::get)
}

/// Memory of the machine in MiB.
pub(crate) fn memory_mib() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    field(&text, "MemTotal").unwrap_or(0) / 1024
}

/// The file system and the device a folder lies on.
pub(crate) fn disk(folder: &Path) -> String {
    let Ok(folder) = folder.canonicalize() else { return "unknown".to_owned() };
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let mut best = ("", "unknown".to_owned());
    for line in mounts.lines() {
        let mut words = line.split(' ');
        let (Some(device), Some(place), Some(kind)) = (words.next(), words.next(), words.next()) else {
            continue;
        };
        if folder.starts_with(place) && place.len() >= best.0.len() {
            best = (place, format!("{kind} on {device}"));
        }
    }
    best.1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_seen() {
        let own = std::process::id();
        let peak = memory_kib(own, "VmHWM").unwrap();
        assert!(peak >= memory_kib(own, "VmRSS").unwrap() / 2 && peak > 0);
        assert!(cpu(own).unwrap() <= cpu_of_tree(own).unwrap());
        assert!(memory_kib(own, "VmNothing").is_err());
        let mut child =
            std::process::Command::new("cat").stdin(std::process::Stdio::piped()).spawn().unwrap();
        assert!(children(own).unwrap().contains(&child.id()));
        drop(child.stdin.take());
        assert!(child.wait().unwrap().success());
        assert!(cores() > 0 && memory_mib() > 0);
        assert!(disk(Path::new("/")).contains(" on "));
    }
}
