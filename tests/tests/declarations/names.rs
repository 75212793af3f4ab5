//! Names as buf's standard lint rules have them.

use prost_reflect::{DescriptorPool, EnumDescriptor, FileDescriptor, MessageDescriptor, MethodDescriptor};

use super::{HEAD, files, none, pool, wrong};

fn wrong_names(pool: &DescriptorPool) -> Vec<String> {
    files(pool).flat_map(|file| in_file(&file)).collect()
}

fn in_file(file: &FileDescriptor) -> Vec<String> {
    let mut found = Vec::new();
    let package = file.package_name();
    let parts: Vec<&str> = package.split('.').collect();
    let fits = matches!(parts[..], ["domicile", name, version] if snake(name) && versioned(version));
    check(&mut found, fits, package, "is not domicile.<name>.v<number>");
    let folder = package.replace('.', "/");
    check(&mut found, file.name().starts_with(&format!("{folder}/")), file.name(), "is not in its folder");
    for message in file.messages() {
        in_message(&mut found, &message);
    }
    for one in file.enums() {
        in_enum(&mut found, &one);
    }
    for service in file.services() {
        let name = service.name();
        check(&mut found, pascal(name) && name.ends_with("Service"), service.full_name(), "is not …Service");
        for method in service.methods() {
            in_method(&mut found, &method);
        }
    }
    found
}

fn in_message(found: &mut Vec<String>, message: &MessageDescriptor) {
    check(found, pascal(message.name()), message.full_name(), "is not in PascalCase");
    for field in message.fields() {
        check(found, snake(field.name()), field.full_name(), "is not in snake_case");
    }
    for oneof in message.oneofs() {
        check(found, snake(oneof.name().trim_start_matches('_')), oneof.full_name(), "is not in snake_case");
    }
    for child in message.child_messages().filter(|child| !child.is_map_entry()) {
        in_message(found, &child);
    }
    for one in message.child_enums() {
        in_enum(found, &one);
    }
}

fn in_enum(found: &mut Vec<String>, one: &EnumDescriptor) {
    check(found, pascal(one.name()), one.full_name(), "is not in PascalCase");
    let prefix = upper(one.name());
    for value in one.values() {
        let name = value.name();
        let fits = name.starts_with(&format!("{prefix}_")) && upper_snake(name);
        check(found, fits, value.full_name(), "is not UPPER_SNAKE_CASE with the enum's name before it");
    }
    let zero = one.get_value(0).is_some_and(|value| value.name() == format!("{prefix}_UNSPECIFIED"));
    check(found, zero, one.full_name(), "has no _UNSPECIFIED of number 0");
}

/// A method has messages of its own, so that either can grow without the other.
fn in_method(found: &mut Vec<String>, method: &MethodDescriptor) {
    let name = method.name();
    check(found, pascal(name), method.full_name(), "is not in PascalCase");
    let request = method.input().name() == format!("{name}Request");
    check(found, request, method.full_name(), "does not take its own Request");
    let response = method.output().name() == format!("{name}Response");
    check(found, response, method.full_name(), "does not answer its own Response");
}

fn check(found: &mut Vec<String>, fits: bool, name: &str, what: &str) {
    if !fits {
        found.push(format!("{name} {what}"));
    }
}

fn pascal(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_uppercase())
        && name.bytes().all(|b| b.is_ascii_alphanumeric())
}

fn snake(name: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
    name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.bytes().all(allowed)
        && !name.contains("__")
        && !name.ends_with('_')
}

fn upper_snake(name: &str) -> bool {
    snake(&name.to_ascii_lowercase()) && name == name.to_ascii_uppercase()
}

fn versioned(name: &str) -> bool {
    let number = name.strip_prefix('v').unwrap_or_default();
    !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit())
}

/// `TransferState` as `TRANSFER_STATE`.
fn upper(name: &str) -> String {
    let mut upper = String::new();
    for letter in name.chars() {
        if letter.is_ascii_uppercase() && !upper.is_empty() {
            upper.push('_');
        }
        upper.push(letter.to_ascii_uppercase());
    }
    upper
}

#[test]
fn every_name_is_of_one_style() {
    none(&wrong_names(&pool()));
}

#[test]
fn each_wrong_name_is_found() {
    for (text, part) in [
        ("message wrong {}", "PascalCase"),
        ("message Wrong { string Name = 1; }", "snake_case"),
        ("message Wrong { message inner {} }", "PascalCase"),
        ("enum Kind { KIND_UNKNOWN = 0; }", "_UNSPECIFIED"),
        ("enum Kind { KIND_UNSPECIFIED = 0; OTHER = 1; }", "UPPER_SNAKE_CASE"),
        ("service Wrong {}", "…Service"),
        (
            "message A {} message GetResponse {} service AService { rpc Get(A) returns (GetResponse); }",
            "Request",
        ),
        (
            "message A {} message GetRequest {} service AService { rpc Get(GetRequest) returns (A); }",
            "Response",
        ),
    ] {
        let found = wrong_names(&wrong(&format!("{HEAD}{text}\n")));
        assert_eq!(found.len(), 1, "{text}: {found:?}");
        assert!(found[0].contains(part), "{text}: {found:?}");
    }
    assert!(wrong_names(&wrong(HEAD)).is_empty());
    let elsewhere = "syntax = \"proto3\";\npackage domicile.wrong;\n";
    assert!(!wrong_names(&wrong(elsewhere)).is_empty());
}
