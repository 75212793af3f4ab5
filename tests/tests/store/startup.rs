//! A region refuses a database that does not protect what it must, and says what is wrong.

use domicile_store::{Backend, migrate};
use domicile_tests::postgres::Postgres;
use domicile_tests::stores::Region;
use domicile_types::{Code, Ctx};

use crate::Bench;

crate::on_both!(migrating_again_changes_nothing);

async fn migrating_again_changes_nothing(bench: Bench) {
    let settings = &bench.region.settings;
    let owner = bench.region.postgres().map_or_else(|| settings.url.clone(), |db| db.url("domicile_owner"));
    let subject = bench.subject();
    bench.make_residency(subject).await;
    let (one, two) =
        tokio::join!(migrate(&owner, &settings.keys_url, false), migrate(&owner, &settings.keys_url, false),);
    one.unwrap();
    two.unwrap();
    bench.region.store(&bench.ctx).await.unwrap();
    bench.keys().await;
    assert_eq!(crate::revision(&bench.store, subject).await, 0);
}

/// What the superuser may have done wrong, and what the refusal names.
const WRONG: &[(&str, Code, &str)] = &[
    ("ALTER ROLE domicile_wrong SUPERUSER", Code::DatabaseRoleUnsafe, "superuser"),
    ("ALTER ROLE domicile_wrong BYPASSRLS", Code::DatabaseRoleUnsafe, "bypasses row-level security"),
    ("ALTER ROLE domicile_wrong CREATEROLE", Code::DatabaseRoleUnsafe, "create roles"),
    ("GRANT domicile_owner TO domicile_wrong", Code::DatabaseRoleUnsafe, "owns"),
    ("ALTER TABLE job_lease OWNER TO domicile_wrong", Code::DatabaseRoleUnsafe, "owns job_lease"),
    ("ALTER TABLE item NO FORCE ROW LEVEL SECURITY", Code::DatabaseRoleUnsafe, "item does not force"),
    ("ALTER TABLE consent DISABLE ROW LEVEL SECURITY", Code::DatabaseRoleUnsafe, "consent does not force"),
    ("CREATE TABLE notes (subject_id uuid)", Code::DatabaseRoleUnsafe, "notes does not force"),
    ("DROP POLICY session_subject ON session", Code::DatabaseRoleUnsafe, "policy session_subject on session"),
    (
        "ALTER POLICY item_subject ON item USING (true)",
        Code::DatabaseRoleUnsafe,
        "policy item_subject on item",
    ),
    (
        "ALTER POLICY item_caseload_add ON item WITH CHECK (true)",
        Code::DatabaseRoleUnsafe,
        "item_caseload_add",
    ),
    ("ALTER POLICY session_lookup ON session TO domicile_wrong", Code::DatabaseRoleUnsafe, "session_lookup"),
    ("CREATE POLICY open ON item FOR SELECT USING (true)", Code::DatabaseRoleUnsafe, "policy open on item"),
    ("GRANT DELETE ON audit_entry TO domicile_app", Code::DatabaseRoleUnsafe, "DELETE on audit_entry"),
    (
        "GRANT UPDATE (entry) ON audit_outbox TO domicile_app",
        Code::DatabaseRoleUnsafe,
        "UPDATE on audit_outbox",
    ),
    ("REVOKE INSERT ON audit_outbox FROM domicile_app", Code::DatabaseRoleUnsafe, "INSERT on audit_outbox"),
    ("DELETE FROM seaql_migrations", Code::SchemaOutdated, ""),
    ("INSERT INTO seaql_migrations VALUES ('9999_later', 0)", Code::SchemaOutdated, ""),
];

/// Settings that name another database or role than there is are at fault, and say which.
#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_database_or_role_is_named() {
    let mut region = Region::fresh("eu", Backend::Postgres).await.unwrap();
    let right = region.settings.url.clone();
    let name = right.rsplit('/').next().unwrap().split('?').next().unwrap();
    for (wrong, place) in [
        (right.replace(&format!("/{name}"), "/nowhere"), "no such database"),
        (right.replace("//domicile_app:", "//domicile_nobody:"), "role"),
    ] {
        assert_ne!(wrong, right);
        region.settings.url = wrong;
        let refused = region.store(&Ctx::system()).await.map(drop).unwrap_err();
        assert_eq!(refused.code(), Code::ConfigurationInvalid, "{refused:?}");
        assert!(refused.place().unwrap().contains(place), "{refused:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unsafe_database_is_refused() {
    let cluster = Postgres::shared().unwrap();
    for (wrong, code, place) in WRONG {
        let mut region = Region::fresh("eu", Backend::Postgres).await.unwrap();
        let database = region.postgres().unwrap();
        // A service role of this test's own: roles are the whole cluster's.
        let role = format!("wrong_{:032x}", u128::from_be_bytes(Ctx::system().random()));
        let url = database.url("domicile_app");
        let password = url.split_once("domicile_app:").unwrap().1.split_once('@').unwrap().0;
        database
            .admin(&format!("CREATE ROLE {role} LOGIN PASSWORD '{password}' IN ROLE domicile_app"))
            .unwrap();
        let own_url = url.replace("//domicile_app:", &format!("//{role}:"));
        region.settings.url = own_url;
        let before = region.store(&Ctx::system()).await;
        region.postgres().unwrap().admin(&wrong.replace("domicile_wrong", &role)).unwrap();
        let refused = region.store(&Ctx::system()).await.map(drop);
        let clean =
            format!("REASSIGN OWNED BY {role} TO domicile_owner; DROP OWNED BY {role}; DROP ROLE {role}");
        region.postgres().unwrap().admin(&clean).unwrap();
        before.map(drop).unwrap();
        let refused = refused.expect_err(wrong);
        assert_eq!(refused.code(), *code, "{wrong}: {refused:?}");
        assert!(refused.place().unwrap_or_default().contains(place), "{wrong}: {refused:?}");
    }
    drop(cluster);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_owner_serves_as_none_of_the_roles() {
    let mut region = Region::fresh("eu", Backend::Postgres).await.unwrap();
    let ctx = Ctx::system();
    let owner = region.postgres().unwrap().url("domicile_owner");
    region.settings.keys_url.clone_from(&owner);
    assert_eq!(region.keys(&ctx).await.map(drop).unwrap_err().code(), Code::DatabaseRoleUnsafe);
    let sequencer = region.settings.sequencer_url.replace(owner.clone());
    assert_eq!(region.store(&ctx).await.map(drop).unwrap_err().code(), Code::DatabaseRoleUnsafe);
    region.settings.sequencer_url = sequencer;
    region.settings.url = owner;
    assert_eq!(region.store(&ctx).await.map(drop).unwrap_err().code(), Code::DatabaseRoleUnsafe);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_database_is_outdated() {
    let cluster = Postgres::shared().unwrap();
    let empty = cluster.empty().unwrap();
    let mut region = Region::fresh("eu", Backend::Postgres).await.unwrap();
    region.settings.url = empty.url("domicile_app");
    region.settings.keys_url = empty.url("domicile_keys");
    let ctx = Ctx::system();
    assert_eq!(region.store(&ctx).await.map(drop).unwrap_err().code(), Code::SchemaOutdated);
    assert_eq!(region.keys(&ctx).await.map(drop).unwrap_err().code(), Code::SchemaOutdated);
    let mut region = Region::fresh("eu", Backend::Sqlite).await.unwrap();
    let missing = region.folder().unwrap().join("missing.sqlite");
    region.settings.url = format!("sqlite://{}", missing.display());
    assert!(region.store(&ctx).await.is_err());
    assert!(!missing.exists(), "only migrate makes files");
}

#[tokio::test]
async fn production_wants_postgresql_over_tls() {
    let ctx = Ctx::system();
    let mut region = Region::fresh("eu", Backend::Sqlite).await.unwrap();
    region.settings.production = true;
    assert_eq!(region.store(&ctx).await.map(drop).unwrap_err().code(), Code::ConfigurationUnsafe);
    assert_eq!(region.keys(&ctx).await.map(drop).unwrap_err().code(), Code::ConfigurationUnsafe);
    let mut region = Region::fresh("eu", Backend::Postgres).await.unwrap();
    region.settings.production = true;
    assert_eq!(region.store(&ctx).await.map(drop).unwrap_err().code(), Code::ConfigurationUnsafe);
    // Another machine is never spoken to in clear.
    region.settings.production = false;
    region.settings.url = "postgres://domicile_app:secret@database.example/domicile".to_owned();
    let refused = region.store(&ctx).await.map(drop).unwrap_err();
    assert_eq!(refused.code(), Code::ConfigurationUnsafe);
    assert!(!format!("{refused} {refused:?} {:?}", region.settings).contains("secret"));
}

/// P7: in production the connection is TLS 1.3 to a server whose certificate is checked, or it is not made.
#[tokio::test(flavor = "multi_thread")]
async fn production_speaks_tls_1_3_to_a_verified_server() {
    let ctx = Ctx::system();
    let mut region = Region::fresh("eu", Backend::Postgres).await.unwrap();
    let url = |region: &Region, role| region.postgres().unwrap().verified_url(role).unwrap();
    region.settings.production = true;
    region.settings.url = url(&region, "domicile_app");
    region.settings.sequencer_url = Some(url(&region, "domicile_sequencer"));
    region.settings.keys_url = url(&region, "domicile_keys");
    let store = region.store(&ctx).await.unwrap();
    region.keys(&ctx).await.unwrap();
    store.sequence("test.sequence", |_| Box::pin(async { Ok(()) })).await.unwrap();
    // The same server under a name that its certificate does not hold.
    let other = region.settings.url.replace("127.0.0.1", "127.0.0.2");
    let verified = std::mem::replace(&mut region.settings.url, other);
    assert_eq!(region.store(&ctx).await.map(drop).unwrap_err().code(), Code::StoreUnavailable);
    region.settings.url = verified;
    // The same server, but no better than TLS 1.2.
    let admin = |sql: &str| region.postgres().unwrap().admin(sql).unwrap();
    admin("ALTER SYSTEM SET ssl_max_protocol_version = 'TLSv1.2'");
    admin("SELECT pg_reload_conf()");
    let refused = tokio::time::timeout(std::time::Duration::from_secs(30), async {
        loop {
            if let Err(refused) = region.store(&ctx).await {
                return refused.code();
            }
        }
    });
    let refused = refused.await;
    admin("ALTER SYSTEM RESET ssl_max_protocol_version");
    admin("SELECT pg_reload_conf()");
    assert_eq!(refused.unwrap(), Code::ConfigurationUnsafe);
}
