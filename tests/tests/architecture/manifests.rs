//! What every manifest says.

use toml::{Table, Value};

use super::none;
use super::workspace::{members, root};

/// What is wrong in the manifest of one crate.
fn wrong_manifest(name: &str, manifest: &Table) -> Vec<String> {
    let mut wrong = Vec::new();
    let package = manifest.get("package").and_then(Value::as_table).cloned().unwrap_or_default();
    for key in ["version", "edition", "rust-version", "license", "publish"] {
        if inherited(package.get(key)).is_none() {
            wrong.push(format!("{name}: package.{key} is not the workspace's"));
        }
    }
    let lints = manifest.get("lints").and_then(Value::as_table).cloned().unwrap_or_default();
    let own_ban = lints.get("rust").and_then(|rust| rust.get("unsafe_code")).and_then(Value::as_str);
    let generated = name == "domicile-proto" && own_ban == Some("forbid");
    if inherited(Some(&Value::Table(lints.clone()))).is_none() && !generated {
        wrong.push(format!("{name}: the lints are not the workspace's"));
    }
    for section in ["dependencies", "dev-dependencies", "build-dependencies"] {
        for (dependency, value) in manifest.get(section).and_then(Value::as_table).into_iter().flatten() {
            if inherited(Some(value)).is_none() {
                wrong.push(format!("{name}: {dependency} is not the workspace's"));
            }
        }
    }
    wrong
}

fn inherited(value: Option<&Value>) -> Option<()> {
    value?.get("workspace")?.as_bool()?.then_some(())
}

fn read(path: &str) -> Table {
    std::fs::read_to_string(root().join(path)).unwrap().parse().unwrap()
}

#[test]
fn every_crate_takes_versions_and_lints_from_the_workspace() {
    let wrong: Vec<_> = members()
        .iter()
        .flat_map(|(name, folder)| wrong_manifest(name, &read(&format!("{folder}/Cargo.toml"))))
        .collect();
    none(&wrong);
}

#[test]
fn unsafe_code_is_forbidden_and_nothing_comes_from_git() {
    let workspace = read("Cargo.toml");
    let workspace = workspace["workspace"].as_table().unwrap();
    assert_eq!(workspace["lints"]["rust"]["unsafe_code"].as_str(), Some("forbid"));
    for lint in ["unwrap_used", "expect_used", "panic", "todo", "disallowed_methods", "allow_attributes"] {
        assert!(workspace["lints"]["clippy"].get(lint).is_some(), "{lint}");
    }
    let dependencies = workspace["dependencies"].as_table().unwrap();
    let git = dependencies.iter().filter(|(_, value)| value.get("git").is_some());
    none(&git.map(|(name, _)| format!("{name} comes from git")).collect::<Vec<_>>());
}

/// P37: nobody gets a build without the audit log unless they ask for it by name.
#[test]
fn the_build_without_audit_is_nobodys_default() {
    for (name, folder) in members() {
        let manifest = read(&format!("{folder}/Cargo.toml"));
        let features = manifest.get("features").and_then(Value::as_table).cloned().unwrap_or_default();
        assert!(features.get("default").is_none(), "{name} has default features");
        for (feature, turns_on) in &features {
            let turns_on = turns_on.to_string();
            assert!(feature == "bench-without-audit" || !turns_on.contains("bench-without-audit"), "{name}");
        }
        assert!(
            !manifest.get("dependencies").is_some_and(|on| on.to_string().contains("bench-without-audit"))
        );
    }
    for command in [".ci/run", "tests/run"] {
        let command = std::fs::read_to_string(root().join(command)).unwrap();
        assert!(!command.contains("all-features") && !command.contains("bench-without-audit"));
    }
}

#[test]
fn a_wrong_manifest_is_found() {
    let wrong: Table =
        "[package]\nname = \"x\"\nversion = \"1\"\n[dependencies]\nserde = \"1\"\n".parse().unwrap();
    let found = wrong_manifest("x", &wrong);
    assert_eq!(found.len(), 5 + 1 + 1, "{found:?}");
}
