//! `domicile migrate` while replicas serve: writers hardly notice, a replica of an older release goes on
//! but does not start again, and one of a newer release starts only afterwards.

use std::time::Duration;

use domicile_tests::world::replicas::Replicated;
use domicile_tests::world::{Outcome, Tuning};

use crate::clusters;
use crate::rolling::{Writer, meanwhile};

/// The longest a write may wait for a migration's locks; each try of it holds one for 0.2 s at most.
const NOTICED: Duration = Duration::from_secs(5);

async fn under_writes() -> Outcome<()> {
    let clusters = clusters(&["eu", "ca"]).await?;
    let mut world = Replicated::start(&clusters, &Tuning::default()).await?;
    let practice = world.practice("berg", "eu", &["ca"]).await?;
    let patient = world.patient("eu", &practice, "anna").await?;
    let client = world.sign_in("eu", &practice.login).await?;
    let writer = Writer::start(client, patient.subject.clone(), "one".to_owned());
    let reader = world.sign_in("eu", &practice.login).await?;
    let owner = |sql: &str| clusters["eu"].sql("domicile", sql);
    let locked = "SELECT count(*) FROM pg_policies WHERE schemaname = 'public'";
    let policies = owner(locked)?;

    // Nothing to do; then every policy to be made again, as after a release that changed them.
    world.migrate("eu").await?;
    meanwhile(&patient.subject, &reader, 5).await?;
    let forget = "DO $$ DECLARE p record; BEGIN FOR p IN SELECT * FROM pg_policies WHERE schemaname = 'public' \
                  LOOP EXECUTE format('COMMENT ON POLICY %I ON %I IS NULL', p.policyname, p.tablename); \
                  END LOOP; END $$";
    owner(forget)?;
    world.migrate("eu").await?;
    assert_eq!(owner(locked)?, policies);
    meanwhile(&patient.subject, &reader, 5).await?;

    // A later release's migration: additive, as docs/operations.md asks. Replicas that run go on.
    owner(
        "CREATE TABLE later (id BIGINT PRIMARY KEY); INSERT INTO seaql_migrations VALUES ('9999_later', 0)",
    )?;
    meanwhile(&patient.subject, &reader, 5).await?;
    // One of this release that ends does not start again, and says why; nor does its migrate change anything.
    world.terminate("eu", "a").await?;
    let refused = world.restart("eu", "a").await.expect_err("an older release on a newer schema");
    assert!(refused.to_string().contains("DOM-CONFIG-006"), "{refused}");
    let refused = world.migrate("eu").await.expect_err("an older release's migrate");
    assert!(refused.to_string().contains("DOM-CONFIG-006"), "{refused}");
    meanwhile(&patient.subject, &reader, 5).await?;
    owner("DROP TABLE later; DELETE FROM seaql_migrations WHERE version = '9999_later'")?;
    world.restart("eu", "a").await?;

    let (written, longest) = writer.end().await?;
    eprintln!("the longest write beside migrations took {longest:?}");
    assert!(longest < NOTICED, "{longest:?}");
    written.read_back(&reader, &patient.subject).await
}

/// The database of the release before this one: the new release starts after the migration only.
async fn from_the_release_before() -> Outcome<()> {
    let clusters = clusters(&["eu", "ca"]).await?;
    let mut world = Replicated::prepare(&clusters, &Tuning::default()).await?;
    let back = "DROP TABLE replica, key_drop, audit_demand, sign_in_try; \
                ALTER TABLE object DROP COLUMN copy_id; \
                DELETE FROM seaql_migrations WHERE version = '0002_replicas'";
    clusters["eu"].sql("domicile", back)?;
    let refused = world.restart("eu", "a").await.expect_err("a newer release on an older schema");
    assert!(refused.to_string().contains("DOM-CONFIG-006"), "{refused}");
    world.migrate("eu").await?;
    world.restart("eu", "a").await?;
    world.terminate("eu", "a").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_migration_runs_beside_replicas_that_serve() {
    under_writes().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_starts_on_its_own_schema_alone() {
    from_the_release_before().await.unwrap();
}
