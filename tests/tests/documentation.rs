//! What the documentation says is so: tables and columns, settings and their defaults, commands, links.

#![expect(clippy::unwrap_used, reason = "a test that cannot read the documentation fails")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Parser;
use domicile_cli::{Command, Global};
use domicile_config::{CoordinatorSettings, RegionSettings};
use domicile_store::datamap::{TABLES, Table, Travel};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap()
}

fn none(violations: &[String]) {
    assert!(violations.is_empty(), "\n  {}\n", violations.join("\n  "));
}

/// The pages written by hand, by path.
fn pages() -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    for folder in ["", "docs", "docs/adr", "docs/errors", "docs/runbooks"] {
        for entry in std::fs::read_dir(root().join(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "md") {
                found.insert(path.clone(), std::fs::read_to_string(path).unwrap());
            }
        }
    }
    assert!(found.len() > 20, "the pages were not found");
    found
}

/// Code blocks of a page that begin with this fence.
fn blocks<'a>(text: &'a str, fence: &'a str) -> impl Iterator<Item = &'a str> {
    let blocks = text.split("\n```").skip(1).step_by(2);
    blocks.filter_map(move |block| block.strip_prefix(fence)?.strip_prefix('\n'))
}

/// Tables and columns that the page leaves out, or of which it says another fate.
fn undocumented(page: &str, tables: &[Table]) -> Vec<String> {
    let mut found = Vec::new();
    for table in tables {
        let heading = format!("\n### `{}`\n", table.name);
        let Some((_, section)) = page.split_once(&heading) else {
            found.push(format!("{} is not described", table.name));
            continue;
        };
        let section = section.split("\n#").next().unwrap_or_default();
        let fate = match table.travel {
            Travel::Move(_) => ["Moves", "A client's row moves"],
            Travel::Derive(_) => ["Derived", "Derived"],
            Travel::Stay(_) => ["Stays", "Stays"],
            Travel::None(_) => ["Goes", "Goes"],
        };
        if !fate.iter().any(|fate| section.starts_with(fate)) {
            found.push(format!("{}: it is {:?}", table.name, table.travel));
        }
        for (column, _) in table.columns.iter().filter(|(name, _)| !section.contains(&format!("`{name}`"))) {
            found.push(format!("{}.{column} is not described", table.name));
        }
    }
    found
}

/// What stands in clear is documented column by column, as the data map has it.
#[test]
fn every_table_and_column_is_described() {
    none(&undocumented(&read("docs/data-model.md"), TABLES));
}

#[test]
fn a_table_that_is_not_described_is_found() {
    let page = "\n### `item`\nStays. `item_id`\n\n### `other`\n`version`";
    let found = undocumented(page, TABLES);
    assert!(found.contains(&"item: it is Move(\"the record\")".to_owned()));
    assert!(found.contains(&"item.version is not described".to_owned()));
    assert!(found.contains(&"residency is not described".to_owned()));
    assert!(!found.contains(&"item.item_id is not described".to_owned()));
}

/// A block of the settings' page, by its first line.
fn example(name: &str) -> String {
    let page = read("docs/operations.md");
    let first = format!("# {name}\n");
    blocks(&page, "toml").find_map(|block| block.strip_prefix(&first)).unwrap().to_owned()
}

fn written(folder: &Path, text: &str) -> PathBuf {
    std::fs::create_dir_all(folder.join("secrets")).unwrap();
    for role in ["app", "sequencer", "keys", "owner"] {
        let url = format!("postgres://{role}:secret@db.example.org/domicile?sslmode=verify-full\n");
        std::fs::write(folder.join(format!("secrets/{role}-url")), url).unwrap();
    }
    let path = folder.join("settings.toml");
    std::fs::write(&path, text).unwrap();
    path
}

/// The examples are read as they stand, and the defaults shown are the defaults.
#[test]
fn the_settings_shown_are_accepted_and_the_defaults_are_true() {
    let folder = tempfile::tempdir().unwrap();
    let required = example("region");
    let short = RegionSettings::load_with(&written(folder.path(), &required), Vec::new()).unwrap();

    let whole = merged(&required, &example("region: defaults"));
    let whole = RegionSettings::load_with(&written(folder.path(), &whole), Vec::new()).unwrap();
    assert_eq!(format!("{short:#?}"), format!("{whole:#?}"));

    let coordinator = written(folder.path(), &example("coordinator"));
    CoordinatorSettings::load_with(&coordinator, Vec::new()).unwrap();
}

/// One TOML text over another, by section.
fn merged(base: &str, over: &str) -> String {
    let mut whole: toml::Table = base.parse().unwrap();
    for (section, values) in over.parse::<toml::Table>().unwrap() {
        let place = whole.entry(section).or_insert_with(|| toml::Table::new().into());
        place.as_table_mut().unwrap().extend(values.as_table().unwrap().clone());
    }
    toml::to_string(&whole).unwrap()
}

/// The same with keys in AWS KMS and objects in S3; every setting of the two is shown.
#[test]
fn the_settings_shown_for_aws_are_accepted_and_the_defaults_are_true() {
    let folder = tempfile::tempdir().unwrap();
    let aws = example("region: AWS");
    let mut base: toml::Table = example("region").parse().unwrap();
    for section in ["keys", "objects"] {
        assert!(base.remove(section).is_some());
    }
    let required = merged(&toml::to_string(&base).unwrap(), &aws);
    let defaults = example("region: AWS, defaults");
    let load = |text: &str| RegionSettings::load_with(&written(folder.path(), text), Vec::new()).unwrap();
    let (short, whole) = (load(&required), load(&merged(&required, &defaults)));
    assert_eq!(format!("{short:#?}"), format!("{whole:#?}"));
    let lines = format!("{:#?}\n{:#?}", short.keys, short.objects);
    let fields = lines.lines().filter_map(|line| line.strip_prefix("        ")?.split_once(':'));
    let fields = fields.map(|(field, _)| field).filter(|field| !field.starts_with(' '));
    let shown = |field: &str| {
        let is_it = |line: &str| line.trim_start_matches("# ").starts_with(&format!("{field} = "));
        defaults.lines().chain(aws.lines()).any(is_it)
    };
    let fields: Vec<_> = fields.collect();
    assert!(fields.len() > 15, "{fields:?}");
    none(&fields.into_iter().filter(|field| !shown(field)).map(str::to_owned).collect::<Vec<_>>());
}

/// Every setting with a default stands in the example: what `Debug` names and the page does not is missing.
#[test]
fn every_default_is_shown() {
    let folder = tempfile::tempdir().unwrap();
    let settings =
        RegionSettings::load_with(&written(folder.path(), &example("region")), Vec::new()).unwrap();
    let shown = example("region: defaults");
    let shown_of = |name: &str| shown.lines().any(|line| line.trim_start_matches("# ").starts_with(name));
    let sections = [
        format!("{:#?}", settings.transfer),
        format!("{:#?}", settings.records),
        format!("{:#?}", settings.sessions),
        format!("{:#?}", settings.limits),
        format!("{:#?}", settings.log),
        format!("{:#?}", settings.telemetry),
    ];
    let fields = sections.iter().flat_map(|section| section.lines()).filter_map(|line| {
        let field = line.strip_prefix("    ")?.split_once(':')?.0;
        (!field.starts_with(' ')).then(|| field.to_owned())
    });
    let missing: Vec<_> = fields.filter(|field| !shown_of(&format!("{field} = "))).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

/// The commands people and scripts use; those of processes are the executable's own.
#[derive(Parser)]
#[command(name = "domicile")]
struct CommandLine {
    #[command(flatten)]
    _global: Global,
    #[command(subcommand)]
    _command: Command,
}

/// Words of the executable itself.
const PROCESSES: &[&str] = &["region", "coordinator", "migrate", "keys", "bootstrap", "up", "demo", "…"];

/// Command lines in code blocks without a language.
fn commands(page: &str) -> Vec<Vec<String>> {
    let lines = blocks(page, "").flat_map(str::lines).map(str::trim);
    let lines = lines.filter(|line| line.starts_with("domicile "));
    lines.map(|line| words(line.split(" <").next().unwrap_or_default())).collect()
}

/// Words as a shell splits them, quoted ones whole; a comment ends the line.
fn words(line: &str) -> Vec<String> {
    let line = line.split(" # ").next().unwrap_or_default();
    let mut words = Vec::new();
    for (at, part) in line.split('"').enumerate() {
        if at % 2 == 1 {
            words.push(part.to_owned());
        } else {
            words.extend(part.split_whitespace().map(filled));
        }
    }
    words
}

/// A variable as a shell would have filled it: ids are UUIDs.
fn filled(word: &str) -> String {
    if word.starts_with('$') { "00000000-0000-4000-8000-000000000000".to_owned() } else { word.to_owned() }
}

fn unknown_commands(page: &str) -> Vec<String> {
    let mut found = Vec::new();
    for words in commands(page) {
        if words.get(1).is_some_and(|word| PROCESSES.contains(&word.as_str())) {
            continue;
        }
        if let Err(error) = CommandLine::try_parse_from(&words) {
            found.push(format!(
                "{}: {}",
                words.join(" "),
                error.to_string().lines().next().unwrap_or_default()
            ));
        }
    }
    found
}

#[test]
fn every_command_shown_exists() {
    let pages = pages();
    assert!(pages.values().map(|page| commands(page).len()).sum::<usize>() > 10);
    none(&pages.values().flat_map(|page| unknown_commands(page)).collect::<Vec<_>>());
}

/// Links to files of the repository that are not there.
fn dead_links(path: &Path, text: &str) -> Vec<String> {
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let files = targets.map(|target| target.split('#').next().unwrap_or_default());
    let files = files.filter(|target| !target.is_empty() && !target.contains("://"));
    let folder = path.parent().unwrap();
    let dead = files.filter(|target| !folder.join(target).exists());
    dead.map(|target| format!("{}: {target}", path.display())).collect()
}

#[test]
fn every_link_leads_somewhere() {
    none(&pages().iter().flat_map(|(path, text)| dead_links(path, text)).collect::<Vec<_>>());
}

/// Pages that comments in the code name and that are not there.
fn unknown_pages(text: &str, known: &[String]) -> Vec<String> {
    let page = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let words = text.split(|c: char| !page(c)).map(|word| word.trim_end_matches('.'));
    let pages = words.filter(|word| word.len() > 3 && word.ends_with(".md") && !word.starts_with('.'));
    pages.filter(|word| !known.iter().any(|page| page == word)).map(str::to_owned).collect()
}

#[test]
fn every_page_named_in_the_code_exists() {
    let known: Vec<String> =
        pages().keys().map(|path| path.file_name().unwrap().to_string_lossy().into_owned()).collect();
    let mut folders: Vec<_> = ["proto", "services", "regions"].map(|folder| root().join(folder)).into();
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if let Ok(text) = std::fs::read_to_string(&path) {
                let unknown = unknown_pages(&text, &known);
                found.extend(unknown.iter().map(|page| format!("{}: {page}", path.display())));
            }
        }
    }
    none(&found);
    assert_eq!(unknown_pages("// (nothing.md, \"Keys\"); docs/audit.md.", &known), ["nothing.md"]);
}

#[test]
fn a_wrong_command_and_a_dead_link_are_found() {
    let page = "\n```\ndomicile --region eu transfers stare\ndomicile up\n```\n";
    assert_eq!(unknown_commands(page).len(), 1);
    let good = "\n```\ndomicile --region eu transfers pause $T --reason \"two words\" # why\n```\n";
    assert!(unknown_commands(good).is_empty(), "{:?}", unknown_commands(good));
    let path = root().join("README.md");
    assert_eq!(dead_links(&path, "[a](docs/nothing.md) [b](Cargo.toml) [c](https://example.org)").len(), 1);
}
