//! What each server shows: docs/conformance.md, held to what it shows now.

use std::collections::BTreeMap;
use std::path::Path;

use aws_sdk_kms::primitives::Blob;
use aws_sdk_kms::types::{DataKeyPairSpec, KeySpec, KeyUsageType, MessageType, SigningAlgorithmSpec};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use domicile_crypto::{KeyService, sha256};
use domicile_kms::{LocalKeys, conformance as keys};
use domicile_objects::{Directory, ObjectStore, conformance as objects};
use domicile_tests::aws::Kind;
use domicile_types::{Code, Ctx};

use super::keys::context;
use super::{Cloud, content, id, name, pieces, read};

/// What a row's check found: nothing, or what is wrong.
type Verdict = Result<(), String>;
type Rows = Vec<(&'static str, Verdict)>;

fn holds(true_: bool, what: &str) -> Verdict {
    if true_ { Ok(()) } else { Err(what.to_owned()) }
}

fn worked<T, E: std::fmt::Debug>(result: Result<T, E>, what: &str) -> Result<T, String> {
    result.map_err(|error| format!("{what}: {error:?}"))
}

/// A column of the page's table by its place, rows by name.
fn column(at: usize) -> BTreeMap<String, String> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("docs").join("conformance.md");
    let text = std::fs::read_to_string(page).unwrap();
    let lines = text.lines().filter(|line| line.starts_with("| "));
    let cells = lines.map(|line| line.trim_matches('|').split('|').map(str::trim).collect::<Vec<_>>());
    let rows = cells.filter(|cells| cells.len() == 4 && cells[0] != "row");
    rows.map(|cells| (cells[0].to_owned(), cells[at].to_owned())).filter(|(_, shown)| shown != "–").collect()
}

/// The page says of each row what was found, and of no other row anything.
fn compare(told: &BTreeMap<String, String>, found: &Rows) -> Vec<String> {
    let mut wrong = Vec::new();
    for (row, verdict) in found {
        match (told.get(*row).map(String::as_str), verdict) {
            (Some("yes"), Ok(())) | (Some("no"), Err(_)) => {}
            (told, verdict) => wrong.push(format!("{row}: the page says {told:?}, found {verdict:?}")),
        }
    }
    let known = |row: &String| found.iter().any(|(name, _)| name == row);
    wrong.extend(told.keys().filter(|row| !known(row)).map(|row| format!("{row}: nobody looks")));
    wrong
}

fn agrees(at: usize, found: &Rows) {
    let wrong = compare(&column(at), found);
    assert!(wrong.is_empty(), "docs/conformance.md is not true:\n{}", wrong.join("\n"));
}

#[tokio::test]
async fn the_embedded_implementations_show_every_row() {
    let folder = tempfile::tempdir().unwrap();
    let ctx = Ctx::system();
    let service = LocalKeys::open(&folder.path().join("keys.json"), &ctx).unwrap();
    let store = Directory::open(&folder.path().join("objects"), &ctx).await.unwrap();
    let mut found = Rows::from(keys::key_service_rows(&service, &ctx).await);
    found.extend(objects::object_store_rows(&store).await);
    agrees(1, &found);
    assert!(column(1).values().all(|shown| shown == "yes"));
}

#[tokio::test]
async fn moto_shows_what_the_page_says() {
    agrees(2, &rows(Kind::Moto).await);
}

#[tokio::test]
async fn ministack_shows_what_the_page_says() {
    agrees(3, &rows(Kind::MiniStack).await);
}

/// Every row is shown by something: what no server showed, nobody would have tested.
#[test]
fn every_row_is_shown_by_one_server_at_least() {
    let (moto, ministack) = (column(2), column(3));
    let shown = |row: &String| [&moto, &ministack].iter().any(|of| of.get(row).is_some_and(|it| it == "yes"));
    let dark: Vec<_> = moto.keys().chain(ministack.keys()).filter(|row| !shown(row)).collect();
    assert!(dark.is_empty(), "{dark:?}");
}

#[test]
fn an_untrue_page_is_found() {
    let told = |pairs: &[(&str, &str)]| {
        pairs.iter().map(|(row, shown)| ((*row).to_owned(), (*shown).to_owned())).collect::<BTreeMap<_, _>>()
    };
    let found: Rows = vec![("good", Ok(())), ("bad", Err("so".to_owned()))];
    assert!(compare(&told(&[("good", "yes"), ("bad", "no")]), &found).is_empty());
    assert_eq!(compare(&told(&[("good", "no"), ("bad", "yes")]), &found).len(), 2);
    assert_eq!(compare(&told(&[("good", "yes")]), &found).len(), 1);
    assert_eq!(compare(&told(&[("good", "yes"), ("bad", "no"), ("other", "yes")]), &found).len(), 1);
}

async fn rows(kind: Kind) -> Rows {
    let cloud = Cloud::new(kind);
    let service = cloud.service(&cloud.key().await).await;
    let store = cloud.store(&cloud.bucket().await).await;
    let versioned = cloud.store(&cloud.bucket_with_versions().await).await;
    let mut found = Rows::from(keys::key_service_rows(&service, &cloud.ctx).await);
    found.push(("opens nothing that another key wrapped", another_key(&cloud).await));
    found.push(("refuses a disabled key", disabled_key(&cloud).await));
    found.push(("refuses a key that waits for its deletion", dying_key(&cloud).await));
    found.push(("re-encrypts under another context", re_encrypts(&cloud).await));
    found.push(("generates a key pair", key_pair(&cloud).await));
    found.push(("signs a digest as it is", signs_a_digest(&cloud).await));
    found.extend(objects::object_store_rows(&store).await);
    let suite = objects::object_store(&versioned).await;
    found.push(("passes the suite with versions", suite));
    found.push(("refuses a wrong SHA-256", wrong_checksum(&cloud).await));
    found.push(("refuses a part with a wrong SHA-256", wrong_checksum_of_a_part(&cloud).await));
    found.push(("tells the SHA-256 of what went up in parts", checksum_of_the_whole(&cloud).await));
    found.push(("keeps an object that is locked", keeps_a_locked_object(&cloud).await));
    found
}

async fn another_key(cloud: &Cloud) -> Verdict {
    let (one, two) = (cloud.service(&cloud.key().await).await, cloud.service(&cloud.key().await).await);
    let wrapped = worked(one.wrap(&context(), b"secret").await, "wrap")?;
    let opened = two.unwrap(&context(), &wrapped).await;
    holds(opened.is_err_and(|error| error.code() == Code::KeyDenied), "another key opened it")
}

/// With a key in this state neither wraps nor unwraps nor generates anything.
async fn refuses(service: &dyn KeyService, wrapped: &[u8]) -> Verdict {
    let refused = [
        service.unwrap(&context(), wrapped).await.err(),
        service.wrap(&context(), b"secret").await.err(),
        service.generate_data_key(&context()).await.err(),
    ];
    let denied = refused.iter().all(|error| error.as_ref().is_some_and(|it| it.code() == Code::KeyDenied));
    holds(denied, "a key in this state works")
}

async fn disabled_key(cloud: &Cloud) -> Verdict {
    let key = cloud.key().await;
    let service = cloud.service(&key).await;
    let wrapped = worked(service.wrap(&context(), b"secret").await, "wrap")?;
    worked(cloud.kms.disable_key().key_id(id(&key)).send().await, "disable")?;
    refuses(&service, &wrapped).await?;
    worked(cloud.kms.enable_key().key_id(id(&key)).send().await, "enable")?;
    worked(service.unwrap(&context(), &wrapped).await, "unwrap").map(drop)
}

async fn dying_key(cloud: &Cloud) -> Verdict {
    let key = cloud.key().await;
    let service = cloud.service(&key).await;
    let wrapped = worked(service.wrap(&context(), b"secret").await, "wrap")?;
    let scheduled = cloud.kms.schedule_key_deletion().key_id(id(&key)).pending_window_in_days(7).send().await;
    worked(scheduled, "schedule")?;
    refuses(&service, &wrapped).await
}

async fn re_encrypts(cloud: &Cloud) -> Verdict {
    let key = cloud.key().await;
    let plain = Blob::new(b"secret".as_slice());
    let sealed = cloud.kms.encrypt().key_id(&key).plaintext(plain).encryption_context("a", "1").send().await;
    let sealed = worked(sealed, "encrypt")?.ciphertext_blob.ok_or("no ciphertext")?;
    let moved = cloud.kms.re_encrypt().ciphertext_blob(sealed.clone()).destination_key_id(&key);
    let wrong = moved.clone().source_encryption_context("a", "2").send().await;
    holds(wrong.is_err(), "re-encrypted out of a wrong context")?;
    let moved = moved.source_encryption_context("a", "1").destination_encryption_context("b", "2");
    let moved = worked(moved.send().await, "re-encrypt")?.ciphertext_blob.ok_or("no ciphertext")?;
    let opened = cloud.kms.decrypt().ciphertext_blob(moved).encryption_context("b", "2").send().await;
    let opened = worked(opened, "decrypt")?.plaintext.ok_or("no plaintext")?;
    holds(opened.as_ref() == b"secret", "another plaintext")
}

async fn key_pair(cloud: &Cloud) -> Verdict {
    let key = cloud.key().await;
    let request = cloud.kms.generate_data_key_pair().key_id(&key).key_pair_spec(DataKeyPairSpec::EccNistP256);
    let pair = worked(request.send().await, "generate")?;
    holds(pair.public_key.is_some() && pair.private_key_ciphertext_blob.is_some(), "half a pair")
}

/// A signature over a message's digest verifies over the message.
async fn signs_a_digest(cloud: &Cloud) -> Verdict {
    let key = cloud.kms.create_key().key_usage(KeyUsageType::SignVerify).key_spec(KeySpec::EccNistP256);
    let key = worked(key.send().await, "create")?.key_metadata.ok_or("no key")?.key_id;
    let algorithm = SigningAlgorithmSpec::EcdsaSha256;
    let digest = Blob::new(sha256(b"message").as_slice());
    let signed = cloud.kms.sign().key_id(&key).message(digest).message_type(MessageType::Digest);
    let signed = worked(signed.signing_algorithm(algorithm.clone()).send().await, "sign")?;
    let verified = cloud.kms.verify().key_id(&key).message(Blob::new(b"message".as_slice()));
    let verified = verified.message_type(MessageType::Raw).signing_algorithm(algorithm);
    let verified = verified.set_signature(signed.signature).send().await;
    holds(worked(verified, "verify")?.signature_valid, "another message was signed")
}

async fn wrong_checksum(cloud: &Cloud) -> Verdict {
    let bucket = cloud.bucket().await;
    let wrong = STANDARD.encode(sha256(b"another content"));
    let put = cloud.s3.put_object().bucket(&bucket).key("a").checksum_sha256(wrong);
    let put = put.body(content(10).into()).send().await;
    holds(put.is_err() && cloud.versions(&bucket).await == 0, "a wrong SHA-256 was taken")
}

async fn wrong_checksum_of_a_part(cloud: &Cloud) -> Verdict {
    let bucket = cloud.bucket().await;
    let begun = cloud.s3.create_multipart_upload().bucket(&bucket).key("a");
    let begun = begun.checksum_algorithm(aws_sdk_s3::types::ChecksumAlgorithm::Sha256).send().await;
    let id = worked(begun, "begin")?.upload_id.ok_or("no upload")?;
    let wrong = STANDARD.encode(sha256(b"another content"));
    let part = cloud.s3.upload_part().bucket(&bucket).key("a").upload_id(id).part_number(1);
    let part = part.checksum_sha256(wrong).body(content(10).into()).send().await;
    holds(part.is_err(), "a wrong SHA-256 of a part was taken")
}

/// What a region compares with what it sent, where it is told.
async fn checksum_of_the_whole(cloud: &Cloud) -> Verdict {
    let bucket = cloud.bucket().await;
    let store = cloud.store(&bucket).await;
    let content = content((5 << 20) + 10);
    worked(store.create(&name("large"), pieces(&content, 1 << 20)).await, "create")?;
    let asked = cloud.s3.head_object().bucket(&bucket).key("objects-of/this-region/large");
    let asked = asked.checksum_mode(aws_sdk_s3::types::ChecksumMode::Enabled).send().await;
    let told = worked(asked, "head")?.checksum_sha256.ok_or("no checksum")?;
    let digests = [sha256(&content[..5 << 20]), sha256(&content[5 << 20..])].concat();
    holds(told == format!("{}-2", STANDARD.encode(sha256(&digests))), "another checksum")
}

async fn keeps_a_locked_object(cloud: &Cloud) -> Verdict {
    use domicile_objects::s3::{Lock, LockMode};
    let bucket = cloud.bucket_with_lock().await;
    let lock = Lock { mode: LockMode::Compliance, retention: std::time::Duration::from_secs(86_400) };
    let store = cloud.store(&bucket).await.locked(lock);
    worked(store.create(&name("kept"), pieces(&content(10), 10)).await, "create")?;
    let deleted = store.delete(&name("kept")).await;
    holds(deleted.is_err_and(|error| error.code() == Code::ObjectStoreDenied), "it was deleted")?;
    holds(worked(read(&store, &name("kept")).await, "read")? == content(10), "another content")
}
