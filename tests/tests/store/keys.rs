//! The key store.

use domicile_crypto::{Purpose, SubjectSecret, TransferKey, WrappedKey, WrappedKeys as _};
use domicile_types::{PracticeId, TransferId};

use crate::Bench;

crate::on_both!(
    the_first_key_of_a_version_stands,
    uses_add_up,
    secrets_and_transfer_keys,
    a_destroyed_record_has_no_keys,
    the_key_store_is_apart_from_the_data,
    the_key_store_passes_the_suite,
);

fn key(version: u32, content: &[u8]) -> WrappedKey {
    WrappedKey { version, wrapped: content.to_vec() }
}

async fn the_first_key_of_a_version_stands(bench: Bench) {
    let keys = bench.keys().await;
    let practice = Some(PracticeId::generate(&bench.ctx));
    for owner in [practice, None] {
        assert_eq!(keys.practice_key(owner).await.unwrap(), None);
        assert_eq!(keys.insert_practice_key(owner, &key(1, b"one")).await.unwrap(), key(1, b"one"));
        assert_eq!(keys.insert_practice_key(owner, &key(1, b"late")).await.unwrap(), key(1, b"one"));
        keys.insert_practice_key(owner, &key(2, b"two")).await.unwrap();
        assert_eq!(keys.practice_key(owner).await.unwrap(), Some(key(2, b"two")));
        assert_eq!(keys.practice_key_at(owner, 1).await.unwrap(), Some(key(1, b"one")));
        let subject = bench.subject();
        assert_eq!(keys.record_key(subject, owner).await.unwrap(), None);
        assert_eq!(keys.insert_record_key(subject, owner, &key(1, b"a")).await.unwrap(), key(1, b"a"));
        assert_eq!(keys.insert_record_key(subject, owner, &key(1, b"b")).await.unwrap(), key(1, b"a"));
        keys.insert_record_key(subject, owner, &key(2, b"c")).await.unwrap();
        assert_eq!(keys.record_key(subject, owner).await.unwrap(), Some(key(2, b"c")));
        assert_eq!(keys.record_key_at(subject, owner, 1).await.unwrap(), Some(key(1, b"a")));
        let rows = keys.record_keys(subject).await.unwrap();
        assert!(rows.iter().all(|row| row.practice == owner) && rows.len() == 2);
    }
    let racing = (0..16_u8).map(|n| {
        let keys = keys.clone();
        async move { keys.insert_region_key(Purpose::BlindIndex, &[n]).await.unwrap() }
    });
    let answers = futures::future::join_all(racing).await;
    assert!(answers.iter().all(|answer| *answer == answers[0]), "everybody goes on with the same key");
    assert_eq!(keys.region_key(Purpose::BlindIndex).await.unwrap(), Some(answers[0].clone()));
    assert_eq!(keys.region_key(Purpose::Accounts).await.unwrap(), None);
}

/// What holds for every store of wrapped keys.
async fn the_key_store_passes_the_suite(bench: Bench) {
    let keys = bench.keys().await;
    domicile_kms::conformance::wrapped_keys(&keys, &bench.ctx).await.unwrap();
}

async fn uses_add_up(bench: Bench) {
    let keys = bench.keys().await;
    let subject = bench.subject();
    assert_eq!(keys.add_uses(subject, None, 1, 10).await.unwrap(), None);
    keys.insert_record_key(subject, None, &key(1, b"k")).await.unwrap();
    let adding = (0..20).map(|_| keys.add_uses(subject, None, 1, 1 << 20));
    let totals = futures::future::try_join_all(adding).await.unwrap();
    assert_eq!(totals.iter().max(), Some(&Some(20 << 20)));
    assert_eq!(keys.record_keys(subject).await.unwrap()[0].uses, 20 << 20);
}

async fn secrets_and_transfer_keys(bench: Bench) {
    let keys = bench.keys().await;
    let subject = bench.subject();
    let secret = SubjectSecret::Pseudonym;
    assert_eq!(keys.insert_subject_secret(subject, secret, b"own").await.unwrap(), b"own");
    assert_eq!(keys.insert_subject_secret(subject, secret, b"late").await.unwrap(), b"own");
    keys.replace_subject_secret(subject, secret, b"travelled").await.unwrap();
    keys.replace_subject_secret(subject, SubjectSecret::Fingerprint, b"f").await.unwrap();
    assert_eq!(keys.subject_secret(subject, secret).await.unwrap(), Some(b"travelled".to_vec()));
    assert_eq!(keys.subject_secret(bench.subject(), secret).await.unwrap(), None);
    let transfer = TransferId::generate(&bench.ctx);
    let travel = TransferKey::Travel;
    assert_eq!(keys.insert_transfer_key(transfer, travel, b"t").await.unwrap(), b"t");
    assert_eq!(keys.insert_transfer_key(transfer, travel, b"u").await.unwrap(), b"t");
    assert_eq!(keys.transfer_key(transfer, TransferKey::HpkePrivate).await.unwrap(), None);
    assert!(keys.destroy_transfer_key(transfer, travel).await.unwrap());
    assert!(!keys.destroy_transfer_key(transfer, travel).await.unwrap());
    assert_eq!(keys.transfer_key(transfer, travel).await.unwrap(), None);
}

/// Destroyed means gone: not in the table, and on SQLite in no byte of its files.
async fn a_destroyed_record_has_no_keys(bench: Bench) {
    let keys = bench.keys().await;
    let (gone, kept) = (bench.subject(), bench.subject());
    let marker: [u8; 32] = bench.ctx.random();
    for subject in [gone, kept] {
        keys.insert_record_key(subject, None, &key(1, &marker)).await.unwrap();
        keys.insert_record_key(subject, None, &key(2, b"second")).await.unwrap();
        keys.insert_subject_secret(subject, SubjectSecret::Fingerprint, b"s").await.unwrap();
    }
    assert_eq!(keys.count_subject(gone).await.unwrap(), 3);
    let listed = keys.subject_keys(gone).await.unwrap();
    assert_eq!(keys.destroy_subject(gone, &listed).await.unwrap(), 3);
    assert_eq!(keys.destroy_subject(gone, &listed).await.unwrap(), 0);
    assert_eq!(keys.count_subject(gone).await.unwrap(), 0);
    assert_eq!(keys.count_subject(kept).await.unwrap(), 3);
    let Some(folder) = bench.region.folder() else { return };
    assert!(in_files(folder, kept.as_bytes()));
    assert!(!in_files(folder, gone.as_bytes()), "nothing of it in the file or its log");
    keys.destroy_subject(kept, &keys.subject_keys(kept).await.unwrap()).await.unwrap();
    assert!(!in_files(folder, &marker));
}

fn in_files(folder: &std::path::Path, needle: &[u8]) -> bool {
    std::fs::read_dir(folder).unwrap().any(|entry| {
        let content = std::fs::read(entry.unwrap().path()).unwrap();
        content.windows(needle.len()).any(|window| window == needle)
    })
}

/// On PostgreSQL each role sees its own schema alone; on SQLite there are two files, for their owner alone.
async fn the_key_store_is_apart_from_the_data(bench: Bench) {
    bench.keys().await.insert_region_key(Purpose::Accounts, b"k").await.unwrap();
    if let Some(database) = bench.region.postgres() {
        for (role, sql) in [
            ("domicile_app", "SELECT * FROM domicile_keys.record_key"),
            ("domicile_sequencer", "SELECT * FROM domicile_keys.record_key"),
            ("domicile_keys", "SELECT * FROM public.item"),
            ("domicile_keys", "SELECT * FROM public.audit_outbox"),
            ("domicile_keys", "TRUNCATE domicile_keys.region_key"),
            ("domicile_keys", "UPDATE domicile_keys.seaql_migrations SET version = ''"),
        ] {
            let said = database.sql(role, sql).unwrap_err().to_string();
            assert!(said.contains("permission denied"), "{role} {sql}: {said}");
        }
        assert_eq!(
            database.sql("domicile_keys", "SELECT count(*) FROM domicile_keys.region_key").unwrap(),
            "1"
        );
    } else {
        use std::os::unix::fs::PermissionsExt as _;
        for entry in std::fs::read_dir(bench.region.folder().unwrap()).unwrap() {
            let entry = entry.unwrap();
            let mode = entry.metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o077, 0, "{}", entry.path().display());
        }
    }
}
