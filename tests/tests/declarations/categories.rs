//! Every field of every message says which category of data it holds (P1).

use std::collections::BTreeSet;

use prost_reflect::{DescriptorPool, FieldDescriptor, Value};

use super::{HEAD, files, none, pool, wrong};

const OPTION: &str = "domicile.options.v1.data";

/// The number of the field's category; 0 when it declares none.
fn category(pool: &DescriptorPool, field: &FieldDescriptor) -> i32 {
    let option = pool.get_extension_by_name(OPTION).unwrap();
    match field.options().get_extension(&option).as_ref() {
        Value::EnumNumber(number) => *number,
        _ => 0,
    }
}

fn undeclared(pool: &DescriptorPool) -> Vec<String> {
    let mut found = Vec::new();
    let ours: BTreeSet<_> = files(pool).map(|file| file.name().to_owned()).collect();
    // Nested messages too; map entries are the field's own declaration.
    for message in pool.all_messages().filter(|message| ours.contains(message.parent_file().name())) {
        if message.is_map_entry() {
            continue;
        }
        for field in message.fields().filter(|field| category(pool, field) == 0) {
            found.push(format!("{} declares no category", field.full_name()));
        }
    }
    found
}

/// P1: every field of every message carries its category.
#[test]
fn every_field_declares_its_category() {
    none(&undeclared(&pool()));
}

/// P1: the nine categories of the notice and those the other notices add are all there.
#[test]
fn the_categories_are_those_of_the_notices() {
    let pool = pool();
    let categories = pool.get_enum_by_name("domicile.options.v1.DataCategory").unwrap();
    let names: Vec<_> = categories.values().map(|value| value.name().to_owned()).collect();
    for name in [
        "ACCOUNT",
        "BOOKING",
        "SESSION_CONTENT",
        "INTAKE",
        "GOALS",
        "REFERRALS",
        "TECHNICAL",
        "FINANCIAL",
        "MESSAGES",
        "ASSESSMENTS",
        "CONSENTS",
        "SUPERVISION",
        "TRANSCRIPTS",
    ] {
        assert!(names.contains(&format!("DATA_CATEGORY_{name}")), "{name}");
    }
}

/// P1: tables and messages speak of the same categories.
#[test]
fn the_tables_use_the_same_categories() {
    let pool = pool();
    let categories = pool.get_enum_by_name("domicile.options.v1.DataCategory").unwrap();
    for table in domicile_store::datamap::TABLES {
        for (column, category) in table.columns {
            let name = format!("DATA_CATEGORY_{}", category.as_str());
            let known = categories.values().any(|value| value.name() == name);
            assert!(known, "{}.{column} has the category {name}", table.name);
        }
    }
}

#[test]
fn a_field_without_category_is_found() {
    let text = format!(
        "{HEAD}message Wrong {{\n  string a = 1;\n  string b = 2 [(options.v1.data) = DATA_CATEGORY_UNSPECIFIED];\n  \
         string c = 3 [(options.v1.data) = DATA_CATEGORY_ACCOUNT];\n  message Inner {{ string d = 1; }}\n  \
         oneof kind {{ string e = 4; }}\n}}\n"
    );
    let found = undeclared(&wrong(&text));
    assert_eq!(found.len(), 4, "{found:?}");
    assert!(found.iter().all(|found| !found.contains("Wrong.c")));
}
