//! The table of docs/limits.md names tests that exist, and every limit that there is.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use domicile_config::{Limits, RecordSettings};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn page() -> String {
    std::fs::read_to_string(root().join("docs/limits.md")).unwrap()
}

/// Names of functions in the sources of tests, with the file's path.
fn functions() -> BTreeSet<(String, String)> {
    let mut open = vec![root().join("tests/tests"), root().join("services")];
    let mut found = BTreeSet::new();
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let place = path.display().to_string();
                let place = place.split_once("/../").map_or(place.clone(), |(_, rest)| rest.to_owned());
                let text = std::fs::read_to_string(&path).unwrap();
                for rest in text.split("fn ").skip(1) {
                    let name: String =
                        rest.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
                    found.insert((place.clone(), name));
                }
            }
        }
    }
    found
}

/// What a page names as tests, `path::function`, and that is nowhere.
fn missing(page: &str, functions: &BTreeSet<(String, String)>) -> Vec<String> {
    let named = page.split('`').skip(1).step_by(2).filter(|word| word.contains(".rs::"));
    let named = named.filter_map(|word| word.split_once("::"));
    let gone = named.filter(|(place, name)| !functions.contains(&((*place).to_owned(), (*name).to_owned())));
    gone.map(|(place, name)| format!("{place}::{name}")).collect()
}

#[test]
fn every_test_named_exists() {
    let (page, functions) = (page(), functions());
    assert!(page.matches(".rs::").count() > 40, "the table names few tests");
    assert_eq!(missing(&page, &functions), Vec::<String>::new());
    assert_eq!(missing("`tests/tests/abuse/table.rs::nothing`", &functions).len(), 1);
}

/// Every row of bad input names at least one test.
#[test]
fn every_row_is_shown() {
    let page = page();
    let table = page.split_once("\n## Bad input\n").map(|(_, rest)| rest).unwrap();
    let rows: Vec<_> =
        table.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| input")).collect();
    assert!(rows.len() >= 30, "{} rows", rows.len());
    let bare: Vec<_> = rows.iter().filter(|row| !row.contains(".rs::")).collect();
    assert!(bare.is_empty(), "{bare:#?}");
}

#[test]
fn every_limit_is_told() {
    let page = page();
    for (section, settings) in [
        ("limits", format!("{:#?}", Limits::default())),
        ("records", format!("{:#?}", RecordSettings::default())),
    ] {
        let fields = settings.lines().filter_map(|line| line.strip_prefix("    ")?.split_once(':'));
        let fields: Vec<_> = fields.filter(|(name, _)| !name.starts_with(' ')).collect();
        assert!(fields.len() >= 5);
        for (name, _) in fields {
            assert!(page.contains(&format!("| `{section}.{name}` |")), "{section}.{name} is not told");
        }
    }
}
