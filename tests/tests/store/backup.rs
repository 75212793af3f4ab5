//! Backups that prove a record received is covered before its source destroys its keys.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use domicile_crypto::{WrappedKey, WrappedKeys as _};
use domicile_store::{Backend, Backups, Scope};
use domicile_types::{AccountId, Code, Visibility};

use crate::{Bench, revise};

/// A copy taken while writes go on opens, holds what was committed before, and its keys.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_copy_taken_under_load_opens() {
    let bench = Bench::new(Backend::Sqlite).await;
    let keys = bench.keys().await;
    let subject = bench.subject();
    bench.make_residency(subject).await;
    bench.make_item(subject, AccountId::generate(&bench.ctx), Visibility::Shared).await;
    let key = WrappedKey { version: 1, wrapped: b"wrapped".to_vec() };
    keys.insert_record_key(subject, None, &key).await.unwrap();
    let done = Arc::new(AtomicBool::new(false));
    let (store, stop) = (bench.store.clone(), Arc::clone(&done));
    let load = tokio::spawn(async move {
        while !stop.load(Ordering::SeqCst) {
            let scope = Scope::Subject(subject);
            store.write_unaudited("test.load", scope, move |tx| Box::pin(revise(tx, subject))).await.unwrap();
        }
    });
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("backups");
    let backups = Backups::new(&bench.store, &keys, &bench.region.settings, Some(directory.clone()));
    let mut digests = Vec::new();
    for _ in 0..5 {
        digests.push(backups.take().await.unwrap());
    }
    done.store(true, Ordering::SeqCst);
    load.await.unwrap();
    digests.dedup();
    assert_eq!(digests.len(), 5);
    let mut files: Vec<_> =
        std::fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert_eq!(files.len(), 6, "three copies of each are kept: {files:?}");
    let mut region = bench.region;
    let url = |end: &str| {
        let file = files.iter().rfind(|file| file.to_str().unwrap().ends_with(end)).unwrap();
        format!("sqlite://{}", file.display())
    };
    region.settings.url = url(".data.sqlite");
    region.settings.keys_url = url(".keys.sqlite");
    let restored = Bench { store: region.store(&bench.ctx).await.unwrap(), region, ctx: bench.ctx };
    assert_eq!(restored.count(Scope::Subject(subject), "item").await, 1);
    assert_eq!(restored.keys().await.record_key(subject, None).await.unwrap(), Some(key));
}

#[tokio::test]
async fn sqlite_without_a_directory_has_no_backup() {
    let bench = Bench::new(Backend::Sqlite).await;
    let keys = bench.keys().await;
    let backups = Backups::new(&bench.store, &keys, &bench.region.settings, None);
    assert_eq!(backups.take().await.unwrap_err().code(), Code::BackupMissing);
}

/// PostgreSQL answers with its position; a later one has another digest.
#[tokio::test]
async fn postgres_answers_with_its_position() {
    let bench = Bench::new(Backend::Postgres).await;
    let keys = bench.keys().await;
    let backups = Backups::new(&bench.store, &keys, &bench.region.settings, None);
    let before = backups.take().await.unwrap();
    bench.make_residency(bench.subject()).await;
    assert_ne!(backups.take().await.unwrap(), before);
}

#[tokio::test]
async fn health_names_the_backend() {
    for backend in [Backend::Postgres, Backend::Sqlite] {
        let bench = Bench::new(backend).await;
        let health = bench.store.health().await.unwrap();
        assert_eq!((health.backend, health.roles), (backend, backend == Backend::Postgres));
        assert!(health.sequencer);
    }
}
