//! The data map and the live schema of both databases say the same (P1).

use domicile_store::datamap::{PREFIXES, Place, Schema, TABLES, Travel, shredded, table};

use crate::Bench;

crate::on_both!(the_live_schema_is_declared);

fn declared(place: Place) -> Schema {
    let tables = TABLES.iter().filter(|table| table.place == place);
    tables
        .map(|table| {
            let columns = table.columns.iter().map(|(name, _)| (*name).to_owned()).collect();
            (table.name.to_owned(), columns)
        })
        .collect()
}

async fn the_live_schema_is_declared(bench: Bench) {
    assert_eq!(bench.store.schema().await.unwrap(), declared(Place::Data));
    assert_eq!(bench.keys().await.schema().await.unwrap(), declared(Place::Keys));
}

#[test]
fn the_map_is_whole() {
    for table in TABLES {
        let (Travel::Move(why) | Travel::Derive(why) | Travel::Stay(why) | Travel::None(why)) = table.travel;
        assert!(!why.is_empty(), "{}", table.name);
    }
    let names: Vec<_> = shredded().map(|table| table.name).collect();
    let expected =
        ["account", "session", "item", "object", "care_relationship", "access_grant", "legal_hold"];
    assert_eq!(names, expected);
    assert!(table("item").unwrap().of_subject());
    assert_eq!(PREFIXES.len(), 3);
}
