//! Who may touch which table, and which rows: grants and row-level security on PostgreSQL. `migrate`
//! sets them from these lists; a region checks at start that they stand.

use domicile_types::{Code, Error, Result};
use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, Statement, TransactionTrait as _};

use crate::failure;
use crate::migrate::KEYS_SCHEMA;
use crate::value::Row;
use crate::values;

/// The role a region runs as.
pub(crate) const APP: &str = "domicile_app";
/// The role of the audit log's sequencer.
pub(crate) const SEQUENCER: &str = "domicile_sequencer";
/// The role of the key store.
pub(crate) const KEYS: &str = "domicile_keys";

/// What the service role may do with a table.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Grant {
    /// Everything but truncating.
    Full,
    /// Add and look (P38).
    Append,
    /// Look.
    Look,
}

impl Grant {
    /// The privileges, as PostgreSQL names them.
    pub(crate) const fn privileges(self) -> &'static [&'static str] {
        match self {
            Self::Full => &["SELECT", "INSERT", "UPDATE", "DELETE"],
            Self::Append => &["SELECT", "INSERT"],
            Self::Look => &["SELECT"],
        }
    }
}

/// The service role's grants on every table of the data.
pub(crate) const GRANTS: &[(&str, Grant)] = &[
    ("practice", Grant::Full),
    ("enrolment", Grant::Full),
    ("account", Grant::Full),
    ("session", Grant::Full),
    ("residency", Grant::Full),
    ("tombstone_entitled", Grant::Full),
    ("item", Grant::Full),
    ("object", Grant::Full),
    ("care_relationship", Grant::Full),
    ("access_grant", Grant::Full),
    ("legal_hold", Grant::Full),
    ("consent", Grant::Full),
    ("consent_event", Grant::Append),
    ("forwarding_locator", Grant::Full),
    ("transfer", Grant::Full),
    ("statement", Grant::Append),
    ("sent_row", Grant::Full),
    ("sent_object", Grant::Full),
    ("staged_page", Grant::Full),
    ("staged_row", Grant::Full),
    ("staged_object", Grant::Full),
    ("transfer_checkpoint", Grant::Append),
    ("transfer_tombstone", Grant::Append),
    ("job_lease", Grant::Full),
    ("replica", Grant::Full),
    ("key_drop", Grant::Full),
    ("sign_in_try", Grant::Full),
    ("audit_demand", Grant::Full),
    ("audit_outbox", Grant::Append),
    ("audit_entry", Grant::Look),
    ("audit_node", Grant::Look),
    ("audit_checkpoint", Grant::Look),
    ("audit_writer", Grant::Append),
    ("seaql_migrations", Grant::Look),
];

/// The sequencer's grants; it alone adds to the tree, and removes from the outbox alone.
const SEQUENCER_GRANTS: &[(&str, &str)] = &[
    ("audit_outbox", "SELECT, DELETE"),
    ("audit_entry", "SELECT, INSERT"),
    ("audit_node", "SELECT, INSERT"),
    ("audit_checkpoint", "SELECT, INSERT, UPDATE (note, signed_at)"),
    ("audit_writer", "SELECT"),
    ("audit_demand", "SELECT"),
    ("job_lease", "SELECT, INSERT, UPDATE"),
];

/// A row-level security policy.
pub(crate) struct Policy {
    pub(crate) table: &'static str,
    pub(crate) name: &'static str,
    /// `ALL`, `SELECT`, `INSERT`, `UPDATE` or `DELETE`.
    pub(crate) command: &'static str,
    rows: &'static str,
}

const fn policy(
    table: &'static str,
    name: &'static str,
    command: &'static str,
    rows: &'static str,
) -> Policy {
    Policy { table, name, command, rows }
}

const SUBJECT: &str = "subject_id = domicile_subject()";
const TRANSFERS: &str = "domicile_transfers()";

/// Clients with whom the practitioner has an open care relationship. Asked of one row by its index: most
/// statements are about one record, and a caseload has hundreds. What is rarely asked is asked inside functions
/// ([`crate::migrate`]): a subquery in a policy is planned and set up by every statement on the table, whether it
/// comes to it or not, and its cost misleads the planner of joins.
macro_rules! cared_for {
    ($table:literal) => {
        concat!(
            "EXISTS (SELECT 1 FROM care_relationship r \
                WHERE r.practitioner_id = domicile_practitioner() AND r.ended_at IS NULL \
                  AND r.subject_id = ",
            $table,
            ".subject_id)"
        )
    };
}

/// Items of the practitioner's clients, and those that the account's owner granted them, one by one or the whole
/// record; never what is the client's alone (P13), psychotherapy notes for their author alone (45 CFR 164.501).
const CASELOAD_ITEM: &str = concat!(
    "domicile_practitioner() IS NOT NULL AND visibility <> 'client_private' ",
    "AND (visibility <> 'psychotherapy' OR author_id = domicile_practitioner()) AND (",
    cared_for!("item"),
    " OR domicile_granted(subject_id, item_id))"
);

/// Objects of items the practitioner sees, and uploads of a practice that have no item yet.
const CASELOAD_OBJECT: &str = concat!(
    "domicile_practitioner() IS NOT NULL AND (",
    "(item_id IS NULL AND practice_id IS NOT NULL AND (",
    cared_for!("object"),
    " OR domicile_granted(subject_id, NULL))) ",
    "OR EXISTS (SELECT 1 FROM item i WHERE i.item_id = object.item_id AND i.current))"
);

/// The counters that a write in the caseload, or under a grant for one item, raises.
const CASELOAD_RESIDENCY: &str = concat!(
    "domicile_practitioner() IS NOT NULL AND (",
    cared_for!("residency"),
    " OR domicile_granted_any(subject_id))"
);

/// Items and objects whose ids are about to arrive with a transfer: the destination must see that they are
/// taken, before the point of no return. Only where the transaction is about no record.
const COLLIDING_ITEM: &str =
    "domicile_transfers() AND domicile_subject() IS NULL AND domicile_staged_item(item_id)";
const COLLIDING_OBJECT: &str =
    "domicile_transfers() AND domicile_subject() IS NULL AND domicile_staged_object(object_id)";

/// Every policy. A table with a `subject_id` or a `transfer_id` has at least one, audit tables aside.
pub(crate) const POLICIES: &[Policy] = &[
    policy("account", "account_self", "ALL", "account_id = domicile_account()"),
    policy("account", "account_subject", "ALL", SUBJECT),
    policy(
        "account",
        "account_lookup",
        "SELECT",
        "email_index = domicile_lookup() OR invite_hash = domicile_lookup()",
    ),
    policy("account", "account_staff", "ALL", "domicile_system() AND subject_id IS NULL"),
    policy("session", "session_account", "ALL", "account_id = domicile_account()"),
    policy("session", "session_subject", "ALL", SUBJECT),
    policy("session", "session_lookup", "SELECT", "token_hash = domicile_lookup()"),
    policy("residency", "residency_subject", "ALL", SUBJECT),
    policy("residency", "residency_caseload_look", "SELECT", CASELOAD_RESIDENCY),
    policy(
        "residency",
        "residency_lookup",
        "SELECT",
        "domicile_lookup() IS NOT NULL AND domicile_entitled(subject_id)",
    ),
    policy("residency", "residency_caseload_write", "UPDATE", CASELOAD_RESIDENCY),
    policy("tombstone_entitled", "tombstone_entitled_subject", "ALL", SUBJECT),
    policy("tombstone_entitled", "tombstone_entitled_lookup", "SELECT", "hash = domicile_lookup()"),
    policy("item", "item_subject", "ALL", SUBJECT),
    policy("item", "item_caseload_look", "SELECT", CASELOAD_ITEM),
    policy("item", "item_caseload_add", "INSERT", CASELOAD_ITEM),
    policy("item", "item_caseload_write", "UPDATE", CASELOAD_ITEM),
    policy("item", "item_collision", "SELECT", COLLIDING_ITEM),
    policy("object", "object_collision", "SELECT", COLLIDING_OBJECT),
    policy("object", "object_subject", "ALL", SUBJECT),
    policy("object", "object_caseload_look", "SELECT", CASELOAD_OBJECT),
    policy("object", "object_caseload_add", "INSERT", CASELOAD_OBJECT),
    policy("object", "object_caseload_write", "UPDATE", CASELOAD_OBJECT),
    policy("care_relationship", "care_relationship_subject", "ALL", SUBJECT),
    policy(
        "care_relationship",
        "care_relationship_own",
        "SELECT",
        "practitioner_id = domicile_practitioner()",
    ),
    policy("access_grant", "access_grant_subject", "ALL", SUBJECT),
    policy("access_grant", "access_grant_own", "SELECT", "practitioner_id = domicile_practitioner()"),
    policy("legal_hold", "legal_hold_subject", "ALL", SUBJECT),
    policy("consent", "consent_subject", "ALL", SUBJECT),
    policy("consent_event", "consent_event_look", "SELECT", SUBJECT),
    policy("consent_event", "consent_event_add", "INSERT", SUBJECT),
    policy("transfer", "transfer_all", "ALL", TRANSFERS),
    policy("transfer", "transfer_subject", "ALL", SUBJECT),
    policy("transfer", "transfer_account", "SELECT", "account_id = domicile_account()"),
    policy("statement", "statement_all", "ALL", TRANSFERS),
    policy("sent_row", "sent_row_all", "ALL", TRANSFERS),
    policy("sent_object", "sent_object_all", "ALL", TRANSFERS),
    policy("staged_page", "staged_page_all", "ALL", TRANSFERS),
    policy("staged_row", "staged_row_all", "ALL", TRANSFERS),
    policy("staged_object", "staged_object_all", "ALL", TRANSFERS),
    policy("transfer_checkpoint", "transfer_checkpoint_all", "ALL", TRANSFERS),
    policy("transfer_tombstone", "transfer_tombstone_all", "ALL", TRANSFERS),
];

impl Policy {
    fn create(&self) -> String {
        let Self { table, name, command, rows } = self;
        let condition = match *command {
            "SELECT" | "DELETE" => format!("USING ({rows})"),
            "INSERT" => format!("WITH CHECK ({rows})"),
            _ => format!("USING ({rows}) WITH CHECK ({rows})"),
        };
        format!("CREATE POLICY {name} ON {table} AS PERMISSIVE FOR {command} TO PUBLIC {condition};")
    }
}

/// The tables under row-level security.
pub(crate) fn protected() -> impl Iterator<Item = &'static str> {
    let mut last = "";
    POLICIES.iter().filter_map(move |policy| {
        let first = policy.table != last;
        last = policy.table;
        first.then_some(policy.table)
    })
}

/// Refuses to go on without the three roles: who makes them is not the schema's owner.
pub(crate) async fn require_roles(connection: &impl ConnectionTrait) -> Result<()> {
    for role in [APP, SEQUENCER, KEYS] {
        let sql = "SELECT rolname::text AS value FROM pg_roles WHERE rolname = $1";
        if query(connection, sql, values![role]).await?.is_empty() {
            return Err(Error::new(Code::DatabaseRoleUnsafe).at(format!("the role {role} is missing")));
        }
    }
    Ok(())
}

/// The grants as SQL.
fn grants() -> String {
    let mut sql = String::new();
    let everybody = format!("PUBLIC, {APP}, {SEQUENCER}, {KEYS}");
    for schema in ["public", KEYS_SCHEMA] {
        sql.push_str(&format!("REVOKE ALL ON SCHEMA {schema} FROM {everybody};"));
        sql.push_str(&format!("REVOKE ALL ON ALL TABLES IN SCHEMA {schema} FROM {everybody};"));
    }
    sql.push_str(&format!("GRANT USAGE ON SCHEMA public TO {APP}, {SEQUENCER};"));
    sql.push_str(&format!("GRANT USAGE ON SCHEMA {KEYS_SCHEMA} TO {KEYS};"));
    sql.push_str(&format!(
        "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {KEYS_SCHEMA} TO {KEYS};"
    ));
    sql.push_str(&format!("REVOKE ALL ON {KEYS_SCHEMA}.seaql_migrations FROM {KEYS};"));
    sql.push_str(&format!("GRANT SELECT ON {KEYS_SCHEMA}.seaql_migrations TO {KEYS};"));
    for (table, grant) in GRANTS {
        sql.push_str(&format!("GRANT {} ON {table} TO {APP};", grant.privileges().join(", ")));
    }
    for (table, privileges) in SEQUENCER_GRANTS {
        sql.push_str(&format!("GRANT {privileges} ON {table} TO {SEQUENCER};"));
    }
    sql
}

/// One table's row-level security and policies as SQL, for a table that has none.
fn policies_of(table: &str) -> String {
    let mut sql = format!("ALTER TABLE {table} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;");
    for policy in POLICIES.iter().filter(|policy| policy.table == table) {
        sql.push_str(&policy.create());
    }
    sql
}

/// The grants and policies as SQL, for a database that has none.
pub(crate) fn text() -> String {
    let policies: String = protected().map(policies_of).collect();
    grants() + &policies
}

/// Sets the grants anew, as the owner; locks no table.
pub(crate) async fn grant(connection: &DatabaseConnection) -> Result<()> {
    let txn = connection.begin().await.map_err(failure::from_db)?;
    txn.execute_unprepared(&grants()).await.map_err(failure::from_db)?;
    txn.commit().await.map_err(failure::from_db)
}

/// Sets one table's policies anew, as the owner, unless they stand as they must: the table is locked for
/// a moment.
pub(crate) async fn protect(connection: &DatabaseConnection, table: &str) -> Result<()> {
    let txn = connection.begin().await.map_err(failure::from_db)?;
    if !stands(&txn, table).await? {
        let mut sql = String::new();
        let old = "SELECT policyname::text AS name FROM pg_policies \
                   WHERE schemaname = 'public' AND tablename = $1";
        for row in query(&txn, old, values![table]).await? {
            sql.push_str(&format!("DROP POLICY \"{}\" ON {table};", row.get::<String>("name")?));
        }
        sql.push_str(&policies_of(table));
        txn.execute_unprepared(&sql).await.map_err(failure::from_db)?;
        seal(&txn, table).await?;
    }
    txn.commit().await.map_err(failure::from_db)
}

/// Whether a table forces row-level security with exactly the declared policies.
async fn stands(connection: &impl ConnectionTrait, table: &str) -> Result<bool> {
    let sql = "SELECT c.relrowsecurity AND c.relforcerowsecurity AS forced FROM pg_class c \
               JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = 'public' AND c.relname = $1";
    let rows = query(connection, sql, values![table]).await?;
    let forced = rows.first().is_some_and(|row| row.get("forced").unwrap_or(false));
    let standing = standing(connection).await?.into_iter().filter(|policy| policy.table == table);
    let standing: std::collections::BTreeSet<_> = standing.collect();
    let wanted = POLICIES.iter().filter(|policy| policy.table == table);
    let mut wanted: Vec<_> = wanted.collect();
    let same = standing.len() == wanted.len() && standing.iter().all(Standing::unchanged);
    wanted.retain(|policy| !standing.iter().any(|known| known.is(policy)));
    Ok(forced && same && wanted.is_empty())
}

/// A policy as it stands in the database. PostgreSQL keeps a policy's expression in its own words, so
/// beside each policy stands, as its comment, which declaration it was made of and a digest of those
/// words: a policy somebody altered by hand no longer fits.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Standing {
    pub(crate) table: String,
    pub(crate) name: String,
    words: String,
    comment: String,
}

impl Standing {
    /// Whether it was made of this declaration.
    pub(crate) fn is(&self, policy: &Policy) -> bool {
        self.table == policy.table
            && self.name == policy.name
            && self.comment.split(' ').next() == Some(&digest(&policy.create()))
    }

    /// Whether it is as it was made.
    pub(crate) fn unchanged(&self) -> bool {
        self.comment.split(' ').nth(1) == Some(&digest(&self.words))
    }
}

fn digest(text: &str) -> String {
    domicile_crypto::sha256(text.as_bytes()).iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

/// Every policy of the data, as it stands.
pub(crate) async fn standing(connection: &impl ConnectionTrait) -> Result<Vec<Standing>> {
    let sql = "SELECT p.tablename::text AS of, p.policyname::text AS name, \
                 concat_ws(' ', p.permissive, p.roles::text, p.cmd, p.qual, '/', p.with_check) AS words, \
                 COALESCE(obj_description(o.oid, 'pg_policy'), '') AS comment \
               FROM pg_policies p JOIN pg_policy o ON o.polname = p.policyname \
                 AND o.polrelid = format('%I.%I', p.schemaname, p.tablename)::regclass \
               WHERE p.schemaname = 'public'";
    let rows = query(connection, sql, Vec::new()).await?;
    let one = |row: &Row| {
        Ok(Standing {
            table: row.get("of")?,
            name: row.get("name")?,
            words: row.get("words")?,
            comment: row.get("comment")?,
        })
    };
    rows.iter().map(one).collect()
}

/// Notes beside each policy of a table what it was made of.
async fn seal(connection: &impl ConnectionTrait, table: &str) -> Result<()> {
    let mut sql = String::new();
    for known in standing(connection).await?.iter().filter(|known| known.table == table) {
        if let Some(policy) =
            POLICIES.iter().find(|policy| policy.table == table && policy.name == known.name)
        {
            let (made, words) = (digest(&policy.create()), digest(&known.words));
            sql.push_str(&format!("COMMENT ON POLICY {} ON {table} IS '{made} {words}';", policy.name));
        }
    }
    connection.execute_unprepared(&sql).await.map(drop).map_err(failure::from_db)
}

/// Rows of the catalogue.
pub(crate) async fn query(
    connection: &impl ConnectionTrait,
    sql: &str,
    values: Vec<crate::value::Bound>,
) -> Result<Vec<Row>> {
    let values = values.into_iter().map(|value| value.0);
    let statement = Statement::from_sql_and_values(DbBackend::Postgres, sql, values);
    let rows = connection.query_all_raw(statement).await.map_err(failure::from_db)?;
    Ok(rows.into_iter().map(Row).collect())
}
