//! What a region checks before it serves: that the database protects what it must. Each refusal names
//! the role or table at fault.

use std::collections::BTreeSet;

use domicile_types::{Code, Error, Result};
use sea_orm::DatabaseConnection;

use crate::migrate;
use crate::protection::{GRANTS, POLICIES, protected, query, standing};
use crate::settings::Backend;

/// Checks the data's database.
pub(crate) async fn data(connection: &DatabaseConnection, backend: Backend) -> Result<()> {
    if backend == Backend::Postgres {
        role(connection).await?;
    }
    migrate::current::<migrate::Data>(connection).await?;
    if backend == Backend::Postgres {
        privileges(connection).await?;
        row_security(connection).await?;
        policies(connection).await?;
    }
    Ok(())
}

/// Checks the sequencer's connection: its role may own nothing either.
pub(crate) async fn sequencer(connection: &DatabaseConnection) -> Result<()> {
    role(connection).await
}

/// Checks the key store's database.
pub(crate) async fn keys(connection: &DatabaseConnection, backend: Backend) -> Result<()> {
    if backend == Backend::Postgres {
        role(connection).await?;
    }
    migrate::current::<migrate::Keys>(connection).await
}

fn unsafe_because(what: impl Into<String>) -> Error {
    Error::new(Code::DatabaseRoleUnsafe).at(what)
}

/// A role that owns a table, or may act as one that does, can lift every protection.
async fn role(connection: &DatabaseConnection) -> Result<()> {
    let sql = "SELECT rolsuper AS super, rolbypassrls AS bypass, rolcreaterole AS roles FROM pg_roles \
               WHERE rolname = current_user";
    let rows = query(connection, sql, Vec::new()).await?;
    let row = rows.first().ok_or_else(|| unsafe_because("the role is unknown"))?;
    for (column, what) in [
        ("super", "the role is a superuser"),
        ("bypass", "the role bypasses row-level security"),
        ("roles", "the role can create roles"),
    ] {
        if row.get(column)? {
            return Err(unsafe_because(what));
        }
    }
    let sql = "SELECT c.relname::text AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
               WHERE n.nspname IN ('public', 'domicile_keys') AND c.relkind IN ('r', 'p', 'v', 'm') \
                 AND pg_has_role(current_user, c.relowner, 'MEMBER') \
               UNION ALL SELECT n.nspname::text FROM pg_namespace n \
               WHERE n.nspname IN ('public', 'domicile_keys') AND pg_has_role(current_user, n.nspowner, 'MEMBER') \
               UNION ALL SELECT d.datname::text FROM pg_database d \
               WHERE d.datname = current_database() AND pg_has_role(current_user, d.datdba, 'MEMBER') LIMIT 1";
    match query(connection, sql, Vec::new()).await?.first() {
        Some(row) => Err(unsafe_because(format!("the role owns {}", row.get::<String>("name")?))),
        None => Ok(()),
    }
}

/// No more and no less than declared.
async fn privileges(connection: &DatabaseConnection) -> Result<()> {
    let sql = "SELECT c.relname::text AS name, p.privilege AS privilege FROM pg_class c \
               JOIN pg_namespace n ON n.oid = c.relnamespace \
               CROSS JOIN (VALUES ('SELECT'), ('INSERT'), ('UPDATE'), ('DELETE'), ('TRUNCATE'), ('TRIGGER')) \
                 AS p (privilege) \
               WHERE n.nspname = 'public' AND c.relkind IN ('r', 'p') \
                 AND (has_table_privilege(c.oid, p.privilege) \
                   OR p.privilege = 'UPDATE' AND has_any_column_privilege(c.oid, 'UPDATE'))";
    let mut has = BTreeSet::new();
    for row in query(connection, sql, Vec::new()).await? {
        has.insert((row.get::<String>("name")?, row.get::<String>("privilege")?));
    }
    let wanted: BTreeSet<(String, String)> = GRANTS
        .iter()
        .flat_map(|(table, grant)| grant.privileges().iter().map(|p| ((*table).to_owned(), (*p).to_owned())))
        .collect();
    match has.symmetric_difference(&wanted).next() {
        Some((table, privilege)) => Err(unsafe_because(format!("{privilege} on {table}"))),
        None => Ok(()),
    }
}

/// Every table that holds something of a record or a transfer forces row-level security.
async fn row_security(connection: &DatabaseConnection) -> Result<()> {
    let sql = "SELECT c.relname::text AS name, c.relrowsecurity AND c.relforcerowsecurity AS forced, \
                 EXISTS (SELECT 1 FROM pg_attribute a WHERE a.attrelid = c.oid AND NOT a.attisdropped \
                   AND a.attname IN ('subject_id', 'transfer_id')) AS tenant \
               FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
               WHERE n.nspname = 'public' AND c.relkind IN ('r', 'p')";
    let mut expected: BTreeSet<&str> = protected().collect();
    for row in query(connection, sql, Vec::new()).await? {
        let name: String = row.get("name")?;
        let listed = expected.remove(name.as_str());
        let tenant = row.get::<bool>("tenant")? && !name.starts_with("audit_");
        if (listed || tenant) && !row.get::<bool>("forced")? {
            return Err(unsafe_because(format!("{name} does not force row-level security")));
        }
    }
    match expected.first() {
        Some(table) => Err(unsafe_because(format!("{table} is missing"))),
        None => Ok(()),
    }
}

/// Exactly the declared policies, each as it was made: a missing one hides rows, an unknown or altered
/// one may show them.
async fn policies(connection: &DatabaseConnection) -> Result<()> {
    let standing = standing(connection).await?;
    let wrong = |table: &str, name: &str| Err(unsafe_because(format!("policy {name} on {table}")));
    for known in &standing {
        if !known.unchanged() || !POLICIES.iter().any(|policy| known.is(policy)) {
            return wrong(&known.table, &known.name);
        }
    }
    match POLICIES.iter().find(|policy| !standing.iter().any(|known| known.is(policy))) {
        Some(policy) => wrong(policy.table, policy.name),
        None => Ok(()),
    }
}
