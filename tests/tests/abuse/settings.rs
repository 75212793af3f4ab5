//! Settings that do not fit: refused before anything opens, each by the name of its key and never with its
//! value.

use std::path::PathBuf;
use std::process::Stdio;

use domicile_config::{CoordinatorSettings, RegionSettings};
use domicile_tests::world::{Outcome, executable};
use domicile_types::{Code, Error};
use toml::{Table, Value};

/// Values of another kind, empty, far below and far above.
fn wrong_values() -> Vec<Value> {
    let table = |key: &str| Value::Table(Table::from_iter([(key.to_owned(), Value::Boolean(true))]));
    vec![
        Value::Array(vec![Value::Integer(1), table("zq9canary")]),
        table("zq9canary"),
        Value::Boolean(true),
        Value::String(String::new()),
        Value::String("zq9canary \u{1b}[31m\r\n".to_owned()),
        Value::String("99999999999999999999d".to_owned()),
        Value::String("365000d".to_owned()),
        Value::String("0s".to_owned()),
        Value::Integer(0),
        Value::Integer(-1),
        Value::Integer(i64::MAX),
        Value::Float(f64::NAN),
    ]
}

/// What is taken although it looks strange, with the reason.
const TAKEN: &[(&str, &str)] = &[
    ("bytes_per_second", "0 is no limit, and any number is one"),
    ("freeze_lag_rows", "any number of rows"),
    ("freeze_tries", "any number but 0"),
    ("mismatches", "any number but 0"),
    ("grace", "0 waits for nobody"),
    ("source_reads", "0 ends reads at once"),
    ("stuck_after", "0 calls everything stuck"),
    ("forwarding_locator", "0 keeps none"),
    ("key_backups", "0 says that there are none"),
    ("trust_domain", "any host's name, also one of digits"),
    ("trace_share", "0 samples nothing"),
    ("filter", "checked when the log starts"),
    ("name", "any text that is not empty"),
    ("contact", "any text that is not empty"),
    ("path", "any path: what does not open is named then"),
    ("file", "any path"),
    ("policies", "any path"),
    ("certificate", "any path"),
    ("key", "any path"),
    ("authority", "any path"),
    ("backup_directory", "any path"),
    ("statement_key", "read when the region starts"),
    ("checkpoint_key", "read when the region starts"),
];

/// Every key of an example, as the path of tables and numbers that leads to it.
fn leaves(table: &Table, path: &[String], found: &mut Vec<Vec<String>>) {
    for (key, value) in table {
        let here = [path, std::slice::from_ref(key)].concat();
        match value {
            Value::Table(inner) => leaves(inner, &here, found),
            Value::Array(many) if matches!(many.first(), Some(Value::Table(_))) => {
                if let Some(Value::Table(first)) = many.first() {
                    leaves(first, &[here.as_slice(), &["0".to_owned()]].concat(), found);
                }
            }
            _ => found.push(here),
        }
    }
}

fn replaced(settings: &Table, path: &[String], value: &Value) -> Outcome<Table> {
    let mut changed = Value::Table(settings.clone());
    let mut place = &mut changed;
    for step in path {
        place = match place {
            Value::Table(table) => table.get_mut(step),
            Value::Array(array) => array.get_mut(step.parse::<usize>()?),
            _ => None,
        }
        .ok_or("no such key")?;
    }
    *place = value.clone();
    changed.as_table().cloned().ok_or_else(|| "no table".into())
}

/// The examples of the settings' page, one laid over the other.
fn examples() -> Outcome<(Table, Table)> {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/operations.md"))?;
    let block = |name: &str| -> Outcome<Table> {
        let start = format!("```toml\n# {name}\n");
        let text = page.split_once(&start).ok_or("no such example")?.1;
        Ok(text.split_once("\n```").ok_or("no end")?.0.parse()?)
    };
    let (mut region, defaults) = (block("region")?, block("region: defaults")?);
    for (section, values) in defaults {
        let place = region.entry(section).or_insert_with(|| Table::new().into());
        let values = values.as_table().cloned().ok_or("no table")?;
        place.as_table_mut().ok_or("no table")?.extend(values);
    }
    // Secrets in files are read at once; texts stand for them.
    for (key, role) in
        [("url", "app"), ("sequencer_url", "sequencer"), ("keys_url", "keys"), ("owner_url", "owner")]
    {
        let url = format!("postgres://{role}:hunter2@db/domicile?sslmode=verify-full");
        let database = region.get_mut("database").and_then(Value::as_table_mut).ok_or("no database")?;
        database.insert(key.to_owned(), url.into());
    }
    Ok((region, block("coordinator")?))
}

/// Every key, with every wrong value: refused by its name, or taken for a reason.
#[test]
fn every_key_refuses_what_does_not_fit() {
    let (region, coordinator) = examples().unwrap();
    let load_region = |file: &PathBuf| RegionSettings::load_with(file, Vec::new()).map(drop);
    let load_coordinator = |file: &PathBuf| CoordinatorSettings::load_with(file, Vec::new()).map(drop);
    let none: Vec<String> = Vec::new();
    assert_eq!(every_key(&region, 60, &load_region).unwrap(), none);
    assert_eq!(every_key(&coordinator, 10, &load_coordinator).unwrap(), none);
}

fn every_key(
    whole: &Table,
    least: usize,
    load: &dyn Fn(&PathBuf) -> Result<(), Error>,
) -> Outcome<Vec<String>> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("settings.toml");
    let write = |table: &Table| -> Outcome<()> { Ok(std::fs::write(&file, toml::to_string(table)?)?) };
    write(whole)?;
    load(&file)?;
    let mut keys = Vec::new();
    leaves(whole, &[], &mut keys);
    assert!(keys.len() > least, "{} keys", keys.len());
    let mut strange = Vec::new();
    for key in &keys {
        let mut refusals = 0;
        for value in wrong_values() {
            write(&replaced(whole, key, &value)?)?;
            let Err(error) = load(&file) else {
                if !taken(key, &value) {
                    strange.push(format!("{key:?} takes {value}"));
                }
                continue;
            };
            refusals += 1;
            strange.extend(named(&error, key, &value));
        }
        if refusals < 3 && !TAKEN.iter().any(|(name, _)| key.last().is_some_and(|leaf| leaf == name)) {
            strange.push(format!("{key:?} takes nearly anything"));
        }
    }
    Ok(strange)
}

/// A refusal has a code of its own, names the key or one it must fit together with, and shows no value.
fn named(error: &Error, key: &[String], value: &Value) -> Option<String> {
    let told = format!("{error} {error:?}");
    assert!(!told.contains("zq9canary") && !told.contains("hunter2"), "{told}");
    let codes = [Code::ConfigurationInvalid, Code::ConfigurationMissing, Code::ConfigurationUnknownKey];
    assert!(codes.contains(&error.code()) || error.code() == Code::ConfigurationUnsafe, "{error:?}");
    let place = error.place().unwrap_or_default();
    let (leaf, section) = (key.last().map_or("", String::as_str), key.first().map_or("", String::as_str));
    let names = place.contains(leaf) || place.starts_with(section);
    (!names).then(|| format!("{key:?} = {value}: {place:?}"))
}

fn taken(key: &[String], value: &Value) -> bool {
    let leaf = key.last().map_or("", String::as_str);
    let known = TAKEN.iter().any(|(name, _)| *name == leaf);
    let text = matches!(value, Value::String(text) if text.is_empty());
    // The loader reads `true` as the number 1 and a text of digits as a number, as in the environment.
    known || leaf == "operators" && text || matches!(value, Value::Boolean(true))
}

/// Really started: the process ends with the code for a wrong command or request, names the key on standard
/// error, and has opened nothing.
#[tokio::test]
async fn a_wrong_setting_starts_nothing() {
    started().await.unwrap();
}

async fn started() -> Outcome<()> {
    let files = tempfile::tempdir()?;
    let folder = files.path().join("deployment");
    let path = folder.display().to_string();
    domicile_tests::world::run(&["up", "--data", &path, "--regions", "eu,ca", "--prepare"]).await?;
    let file = folder.join("eu/config.toml");
    let good: Table = std::fs::read_to_string(&file)?.parse()?;
    let changed = |path: &[&str], value: Option<Value>| -> Outcome<String> {
        let mut table = good.clone();
        let (last, tables) = path.split_last().ok_or("no key")?;
        let mut place = &mut table;
        for step in tables {
            place = place.get_mut(*step).and_then(Value::as_table_mut).ok_or("no table")?;
        }
        match value {
            Some(value) => place.insert((*last).to_owned(), value),
            None => place.remove(*last),
        };
        Ok(toml::to_string(&table)?)
    };
    for (text, key) in [
        (changed(&["operator", "contact"], None)?, "operator.contact"),
        (changed(&["operator", "contact"], Some("  ".into()))?, "operator.contact"),
        (changed(&["operator"], None)?, "operator"),
        (changed(&["people", "lisen"], Some("x".into()))?, "people.lisen"),
        (changed(&["region"], Some("zq9 canary".into()))?, "region"),
        (changed(&["environment"], Some("production".into()))?, "database.url"),
    ] {
        std::fs::write(&file, text)?;
        let output = tokio::process::Command::new(executable()?)
            .args(["region", "--config", &file.display().to_string()])
            .stdin(Stdio::null())
            .output()
            .await?;
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{key}");
        assert!(told.contains(key) && told.contains("DOM-CONFIG-"), "{key}: {told}");
        assert!(!told.contains("zq9"), "{told}");
    }
    Ok(())
}
