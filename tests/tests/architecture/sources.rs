//! What a committed file may hold.

use super::none;
use super::workspace::{Source, files};

/// Lines of a file at most; a longer one wants to be two.
const LINES: usize = 600;
/// Files that are longer; must stay empty.
const LONGER: &[&str] = &[];
/// The rules' own files name what they forbid.
const RULES: &str = "tests/tests/architecture/";

/// Where all time is simulated: a sleep takes none.
const SIMULATED: &str = "tests/simulation/src/sim/";

/// Marks of unfinished work.
const UNFINISHED: &[&str] = &["TODO", "FIXME", "XXX", "HACK"];

/// Paths and hosts that belong to one machine or to a distributor of packages.
const PLACES: &[&str] = &[
    "/work/",
    "/root/",
    "/home/",
    "crates.io",
    "static.rust-lang.org",
    "sh.rustup.rs",
    "pypi.org",
    "npmjs",
    "docker.io",
    "ghcr.io",
    "deb.debian.org",
    "proxy.golang.org",
];

fn too_long(files: &[Source]) -> Vec<String> {
    let code = files.iter().filter(|file| {
        [".rs", ".py", ".proto", ".sql", ".sh", "/run"].iter().any(|ending| file.is(ending))
            && !LONGER.contains(&file.path.as_str())
    });
    let long = code.filter(|file| file.text.lines().count() >= LINES);
    long.map(|file| format!("{} has {} lines", file.path, file.text.lines().count())).collect()
}

fn unfinished(files: &[Source]) -> Vec<String> {
    let words = |text: &str| {
        let mut words = text.split(|c: char| !c.is_ascii_alphanumeric());
        words.any(|word| UNFINISHED.contains(&word))
    };
    lines(files, |file, line| !file.is("Cargo.lock") && words(line))
}

fn ignored(files: &[Source]) -> Vec<String> {
    lines(files, |file, line| {
        let line = line.trim_start();
        file.is(".rs") && (line.starts_with("#[ignore") || line.contains(", ignore"))
    })
}

/// Sleeps in tests, which await a condition with a deadline instead. A pause between two looks at a
/// condition, inside a loop, is none; nor is one under a paused clock: it takes no time.
fn sleeps(files: &[Source]) -> Vec<String> {
    let mut found = Vec::new();
    let files = files.iter().filter(|file| file.is(".rs") && !file.path.starts_with(SIMULATED));
    for file in files.filter(|file| !file.path.starts_with(RULES)) {
        let lines: Vec<&str> = file.text.lines().collect();
        let tests_begin = lines.iter().position(|line| line.starts_with("mod tests {"));
        let whole = file.path.contains("tests/") || file.is("tests.rs");
        for (at, line) in lines.iter().enumerate() {
            let code = line.trim_start();
            let in_tests = whole || tests_begin.is_some_and(|begin| begin < at);
            // A pause has one helper; its calls are judged like sleeps.
            let sleeps =
                ["sleep(", "pause()"].iter().any(|call| code.contains(call)) && !code.starts_with("//");
            if in_tests && sleeps && !code.contains("fn pause()") && !excused(&lines[..at], line) {
                found.push(format!("{}:{}: {code}", file.path, at + 1));
            }
        }
    }
    found
}

/// Whether a line stands in a loop, in the helper for pauses, or in a test under a paused clock. `above` is
/// what stands before it; code is formatted, so what encloses a line is indented less.
fn excused(above: &[&str], line: &str) -> bool {
    let indent = |line: &str| line.len() - line.trim_start().len();
    let mut depth = indent(line);
    for (at, line) in above.iter().enumerate().rev() {
        if line.trim().is_empty() || indent(line) >= depth {
            continue;
        }
        depth = indent(line);
        let code = line.trim_start();
        if ["while ", "for "].iter().any(|start| code.starts_with(start))
            || code.contains("loop {")
            || code.contains("fn pause()")
        {
            return true;
        }
        if code.contains("fn ") {
            let attributes = above[..at].iter().rev().take_while(|line| line.trim_start().starts_with("#["));
            return attributes.into_iter().any(|line| line.contains("start_paused = true"));
        }
    }
    false
}

fn placed(files: &[Source]) -> Vec<String> {
    lines(files, |file, line| !file.is("Cargo.lock") && PLACES.iter().any(|place| line.contains(place)))
}

/// Attributes that silence a lint without saying why.
fn silenced(files: &[Source]) -> Vec<String> {
    let mut found = Vec::new();
    for file in files.iter().filter(|file| file.is(".rs") && !file.path.starts_with(RULES)) {
        for (at, _) in file.text.match_indices("[allow(") {
            let attribute = file.text[at..].split(")]").next().unwrap_or_default();
            if !attribute.contains("reason = ") {
                found.push(format!("{}: #{attribute})]", file.path));
            }
        }
    }
    found
}

fn not_ours(files: &[Source]) -> Vec<String> {
    lines(files, |file, line| file.is(".rs") && line.contains("unsafe ") && line.contains('{'))
}

fn lines(files: &[Source], wrong: impl Fn(&Source, &str) -> bool) -> Vec<String> {
    let mut found = Vec::new();
    for file in files.iter().filter(|file| !file.path.starts_with(RULES)) {
        for (number, line) in file.text.lines().enumerate() {
            if wrong(file, line) {
                found.push(format!("{}:{}: {}", file.path, number + 1, line.trim()));
            }
        }
    }
    found
}

#[test]
fn no_file_is_too_long() {
    assert!(LONGER.is_empty());
    none(&too_long(&files()));
}

#[test]
fn nothing_is_left_unfinished() {
    none(&unfinished(&files()));
}

#[test]
fn no_test_is_ignored() {
    none(&ignored(&files()));
}

#[test]
fn no_test_sleeps_to_wait() {
    none(&sleeps(&files()));
}

#[test]
fn nothing_names_one_machine_or_a_distributor() {
    none(&placed(&files()));
}

#[test]
fn no_lint_is_silenced_without_a_reason() {
    none(&silenced(&files()));
}

#[test]
fn no_block_is_unsafe() {
    none(&not_ours(&files()));
}

#[test]
fn each_of_these_is_found() {
    let file = |text: &str| [Source::new("services/cli/src/x.rs", text)];
    let test = |text: &str| [Source::new("services/cli/tests/x.rs", text)];
    assert_eq!(too_long(&file(&"x\n".repeat(LINES))).len(), 1);
    assert!(too_long(&file(&"x\n".repeat(LINES - 1))).is_empty());
    assert_eq!(unfinished(&file("// TODO: later")).len(), 1);
    assert!(unfinished(&file("let todos = 1;")).is_empty());
    assert_eq!(ignored(&file("    #[ignore = \"slow\"]")).len(), 1);
    assert_eq!(sleeps(&test("#[tokio::test]\nfn x() {\n    tokio::time::sleep(wait).await;\n}")).len(), 1);
    let steered = "#[tokio::test(start_paused = true)]\nfn x() {\n    tokio::time::sleep(wait).await;\n}";
    assert!(sleeps(&test(steered)).is_empty());
    let looking =
        "#[tokio::test]\nfn x() {\n    while !there() {\n        tokio::time::sleep(wait).await;\n    }\n}";
    assert!(sleeps(&test(looking)).is_empty());
    assert!(sleeps(&file("tokio::time::sleep(wait).await;")).is_empty());
    assert_eq!(placed(&file("let path = \"/root/x\";")).len(), 1);
    assert_eq!(placed(&[Source::new("README.md", "see crates.io")]).len(), 1);
    assert_eq!(silenced(&file("#[allow(dead_code)]")).len(), 1);
    assert!(silenced(&file("#[allow(\n    dead_code,\n    reason = \"each uses a part\"\n)]")).is_empty());
    assert_eq!(not_ours(&file("unsafe { x() }")).len(), 1);
}
