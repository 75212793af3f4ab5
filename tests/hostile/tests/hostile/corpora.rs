//! The kept corpora through the fuzz targets, so that the targets never rot; and that each target is there.

use std::path::{Path, PathBuf};

use domicile_hostile::seeds;
use domicile_hostile::targets::{TARGETS, run};

/// Bytes all corpora together may have.
const KEPT: usize = 256 * 1024;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn corpus(target: &str) -> PathBuf {
    root().join("tests/fuzz/corpus").join(target)
}

/// The files of a folder, by name.
fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|cause| panic!("{}: {cause}", folder.display()));
    let mut files: Vec<_> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file())
        .map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read(&path).unwrap()))
        .collect();
    files.sort();
    files
}

/// Whole values of a target that lie elsewhere in the repository.
fn elsewhere(target: &str) -> Vec<(String, Vec<u8>)> {
    match target {
        "region_policy" => files(&root().join("regions")),
        "fhir" => files(&root().join("tests/data")),
        _ => Vec::new(),
    }
}

#[test]
fn the_kept_corpora_are_answered_and_reach_what_is_whole() {
    let (mut total, mut table) = (0, String::new());
    for (target, _) in TARGETS {
        let kept = files(&corpus(target));
        total += kept.iter().map(|(_, bytes)| bytes.len()).sum::<usize>();
        let all: Vec<_> = kept.into_iter().chain(elsewhere(target)).collect();
        let taken = all.iter().filter(|(_, bytes)| run(target, bytes)).count();
        assert!(taken > 0, "{target}: of {} inputs none is whole", all.len());
        table.push_str(&format!("{target}: {} inputs, {taken} of them whole\n", all.len()));
    }
    assert!(total <= KEPT, "the corpora have {total} bytes: minimise them");
    print!("{table}");
}

/// The seeds that a program makes are those that are kept: formats that change change them.
#[test]
fn seeds_are_as_they_are_made() {
    for (target, name, bytes) in seeds::all() {
        let file = corpus(target).join(format!("seed-{name}"));
        if std::env::var_os("DOMICILE_BLESS").is_some() {
            std::fs::create_dir_all(corpus(target)).unwrap();
            std::fs::write(&file, &bytes).unwrap();
        }
        let kept = std::fs::read(&file).unwrap_or_else(|cause| panic!("{}: {cause}", file.display()));
        // An HPKE envelope is another one each time.
        assert!(kept == bytes || target == "key_release", "{target}/{name} is made otherwise now");
    }
}

#[test]
fn every_target_has_its_program() {
    let manifest = std::fs::read_to_string(root().join("tests/fuzz/Cargo.toml")).unwrap();
    let manifest: toml::Table = manifest.parse().unwrap();
    let programs: Vec<&str> =
        manifest["bin"].as_array().unwrap().iter().map(|bin| bin["name"].as_str().unwrap()).collect();
    let names: Vec<&str> = TARGETS.iter().map(|(name, _)| *name).collect();
    assert_eq!(programs, names);
    for name in names {
        let program = root().join(format!("tests/fuzz/fuzz_targets/{name}.rs"));
        let program = std::fs::read_to_string(program).unwrap();
        assert!(program.contains(&format!("targets::run(\"{name}\", data)")), "{name} runs another target");
    }
}
