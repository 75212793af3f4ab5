//! The audit service's scenarios on PostgreSQL; its own tests run them on SQLite.

#[path = "../../services/region/audit/tests/scenarios/mod.rs"]
mod scenarios;

use domicile_store::Backend;
use domicile_tests::stores::Region;
use scenarios::site::Site;

macro_rules! on_postgres {
    ($group:ident, $name:ident) => {
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            let region = Region::fresh("eu", Backend::Postgres).await.expect("a database");
            let folder = tempfile::tempdir().expect("a folder");
            scenarios::$group::$name(Site::new(&region.settings, folder.path())).await;
        }
    };
}

audit_scenarios!(on_postgres);
