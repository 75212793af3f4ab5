//! Every scenario on SQLite.
#![expect(clippy::expect_used, reason = "a test says what it expected")]

mod scenarios;

use domicile_store::{Settings, migrate};
use scenarios::site::Site;

async fn fresh(folder: &std::path::Path) -> Settings {
    let url = |file: &str| format!("sqlite://{}", folder.join(file).display());
    let settings = Settings {
        region: scenarios::site::region("eu"),
        url: url("data.sqlite"),
        sequencer_url: None,
        keys_url: url("keys.sqlite"),
        max_connections: 4,
        acquire: std::time::Duration::from_secs(30),
        production: false,
        log_origin: "eu.test/log".into(),
        policy_version: 1,
    };
    migrate(&settings.url, &settings.keys_url, false).await.expect("migrates");
    settings
}

macro_rules! on_sqlite {
    ($group:ident, $name:ident) => {
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            let folder = tempfile::tempdir().unwrap();
            let settings = fresh(folder.path()).await;
            scenarios::$group::$name(Site::new(&settings, folder.path())).await;
        }
    };
}

audit_scenarios!(on_sqlite);
