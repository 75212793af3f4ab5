//! The live schema, to hold the map against.

use std::collections::BTreeMap;

use domicile_types::Result;

use crate::engine::{Mode, Plan};
use crate::settings::Backend;
use crate::{FromRow, KeyStore, Row, Scope, Store, values};

/// Tables and their columns, in order; the migrations' own table aside.
pub type Schema = BTreeMap<String, Vec<String>>;

const POSTGRES: &str = "SELECT c.relname::text AS of, a.attname::text AS name FROM pg_class c \
    JOIN pg_attribute a ON a.attrelid = c.oid \
    WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'f') \
      AND a.attnum > 0 AND NOT a.attisdropped AND c.relname <> 'seaql_migrations' ORDER BY c.relname, a.attnum";
const SQLITE: &str = "SELECT m.name AS \"of\", c.name AS name FROM sqlite_schema m \
    JOIN pragma_table_info(m.name) c WHERE m.type IN ('table', 'view') AND m.name NOT LIKE 'sqlite_%' \
      AND m.name <> 'seaql_migrations' ORDER BY m.name, c.cid";

struct Found(String, String);

impl FromRow for Found {
    fn from_row(row: &Row) -> Result<Self> {
        Ok(Self(row.get("of")?, row.get("name")?))
    }
}

async fn schema(engine: &std::sync::Arc<crate::engine::Engine>) -> Result<Schema> {
    let plan = Plan { name: "datamap.schema", mode: Mode::Read, scope: Scope::System, audit: None };
    let found = engine.run(plan, |tx| {
        let sql = if tx.backend() == Backend::Postgres { POSTGRES } else { SQLITE };
        Box::pin(tx.all::<Found>(sql, values![]))
    });
    let mut schema = Schema::new();
    for Found(table, column) in found.await? {
        schema.entry(table).or_default().push(column);
    }
    Ok(schema)
}

impl Store {
    /// The data's live tables and columns.
    ///
    /// # Errors
    /// [`StoreUnavailable`](domicile_types::Code::StoreUnavailable).
    pub async fn schema(&self) -> Result<Schema> {
        schema(&self.inner.engine).await
    }
}

impl KeyStore {
    /// The key store's live tables and columns.
    ///
    /// # Errors
    /// [`StoreUnavailable`](domicile_types::Code::StoreUnavailable).
    pub async fn schema(&self) -> Result<Schema> {
        schema(&self.engine).await
    }
}
