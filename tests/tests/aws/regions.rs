//! Two regions as processes whose keys are in KMS and whose objects are in S3: a record and its files are
//! written, read back, and moved from one to the other.

use std::collections::BTreeMap;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::Path;

use domicile_proto::transfer::v1::TransferState;
use domicile_tests::aws::{ACCESS_KEY, Kind, REGION};
use domicile_tests::world::moves::{attach, count, fetch, reaches, write};
use domicile_tests::world::{Outcome, World, Written, executable, run_with};
use domicile_types::Code;

use super::multipart::{completes, puts, sends_part};
use super::proxy::{Deed, Notices, Proxy};
use super::{Cloud, id};

/// A region's key and bucket.
struct Place {
    bucket: String,
    key: String,
}

impl Place {
    async fn new(cloud: &Cloud) -> Self {
        Self { bucket: cloud.bucket_with_versions().await, key: cloud.key().await }
    }

    /// The files that tell `up` of it.
    fn files(&self, region: &str, endpoint: &str) -> Outcome<[((String, String), toml::Table); 2]> {
        let keys = format!(
            "provider = \"aws\"\nkey_id = \"{}\"\nendpoint = \"{endpoint}\"\nattempt = \"10s\"",
            self.key
        );
        let keys = format!("{keys}\ntotal = \"30s\"");
        let objects = format!(
            "provider = \"s3\"\nbucket = \"{}\"\nregion = \"{REGION}\"\nendpoint = \"{endpoint}\"\n\
             path_style = true\nprefix = \"{region}\"\npart_bytes = 5242880",
            self.bucket
        );
        let name = |file: &str| (region.to_owned(), file.to_owned());
        Ok([(name("keys.toml"), keys.parse()?), (name("objects.toml"), objects.parse()?)])
    }
}

/// The executable, with credentials where the SDK's own chain looks for them first.
fn with_credentials(folder: &Path) -> Outcome<std::path::PathBuf> {
    let path = folder.join("domicile-with-credentials");
    let (id, secret) = ACCESS_KEY;
    let script = format!(
        "#!/bin/sh\nexport AWS_ACCESS_KEY_ID='{id}' AWS_SECRET_ACCESS_KEY='{secret}'\nexec '{}' \"$@\"\n",
        executable()?.display()
    );
    std::fs::write(&path, script)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700))?;
    Ok(path)
}

/// A deployment of regions in these places, all reached through one address.
async fn launch(places: &[(&str, &Place)], endpoint: &str, within: &Path) -> Outcome<World> {
    let mut files = BTreeMap::new();
    for (region, place) in places {
        files.extend(place.files(region, endpoint)?);
    }
    let plan = domicile_tests::world::Plan {
        executable: with_credentials(within)?,
        within: within.to_owned(),
        regions: places.iter().map(|(region, _)| ((*region).to_owned(), None)).collect(),
        absent: Vec::new(),
        coordinator: true,
        settings: toml::Table::new(),
    };
    World::launch_with(plan, &files).await
}

async fn a_record_lives_and_moves(kind: Kind) -> Outcome<()> {
    let cloud = Cloud::new(kind);
    let (eu, ca) = (Place::new(&cloud).await, Place::new(&cloud).await);
    let within = tempfile::tempdir()?;
    let mut world = launch(&[("eu", &eu), ("ca", &ca)], &cloud.server.endpoint(), within.path()).await?;
    for region in ["eu", "ca"] {
        assert!(!world.home(region).join("kms.json").exists(), "no key file is made beside KMS");
    }
    let practice = world.practice("anders", "eu", &["ca"]).await?;
    let patient = world.patient("eu", &practice, "clara").await?;
    let mut written = Written::default();
    written.fill(&practice.home, &patient.subject, 20, "before").await?;
    let small = attach(&practice.home, &patient.subject, b"a small file").await?;
    let large: Vec<u8> = (0..3_000_000_u32).flat_map(u32::to_le_bytes).take(11_000_000).collect();
    let attached = attach(&practice.home, &patient.subject, &large).await?;
    assert_eq!(fetch(&practice.home, &patient.subject, &attached).await?, large);
    assert_eq!(cloud.versions(&eu.bucket).await, 2);

    // What is in memory is gone with the process: the next one asks KMS.
    world.kill("eu").await?;
    world.restart("eu").await?;
    assert_eq!(fetch(&practice.home, &patient.subject, &attached).await?, large);

    let moving = patient.ask("ca").await?;
    patient.consent(&moving).await?;
    let operator = world.operator("ca").await?;
    reaches(&operator, &moving.id, TransferState::Closed).await?;
    let there = world.sign_in("ca", &practice.login).await?;
    written.read_back(&there, &patient.subject).await?;
    assert_eq!(fetch(&there, &patient.subject, &attached).await?, large);
    assert_eq!(fetch(&there, &patient.subject, &small).await?, b"a small file");
    // The old bucket has no version of it, the new one the record's objects and nothing of the journey.
    assert_eq!((cloud.versions(&eu.bucket).await, cloud.unfinished(&eu.bucket).await), (0, 0));
    assert_eq!((cloud.versions(&ca.bucket).await, cloud.unfinished(&ca.bucket).await), (2, 0));
    world.verify(["eu", "ca"], &moving.id).await?;
    Ok(())
}

/// What goes wrong with KMS or S3 reaches the person who asked as a code, changes nothing, and is over when
/// it is over.
#[tokio::test]
async fn a_region_outlives_trouble_with_kms_and_s3() {
    let cloud = Cloud::new(Kind::MiniStack);
    let (eu, ca) = (Place::new(&cloud).await, Place::new(&cloud).await);
    let proxy = Proxy::new(cloud.server.port()).await;
    let within = tempfile::tempdir().unwrap();
    let world = launch(&[("eu", &eu), ("ca", &ca)], &proxy.endpoint(), within.path()).await.unwrap();
    let practice = world.practice("anders", "eu", &[]).await.unwrap();
    let patient = world.patient("eu", &practice, "clara").await.unwrap();
    let (home, subject) = (&practice.home, &patient.subject);

    // The practice's first item needs its first key.
    cloud.kms.disable_key().key_id(id(&eu.key)).send().await.unwrap();
    assert_eq!(write(home, subject, "refused").await.unwrap_err().code(), Code::KeyDenied);
    cloud.kms.enable_key().key_id(id(&eu.key)).send().await.unwrap();
    let throttled = r#"{"__type":"ThrottlingException"}"#;
    proxy.first(usize::MAX, Deed::Answer(400, throttled), |seen| seen.operation == "GenerateDataKey");
    assert_eq!(write(home, subject, "refused").await.unwrap_err().code(), Code::KeyUnavailable);
    proxy.judge(|_| Deed::Pass);
    assert_eq!(count(home, subject).await.unwrap(), 0);
    write(home, subject, "accepted").await.unwrap();

    let large: Vec<u8> = (0..2_000_000_u32).flat_map(u32::to_le_bytes).collect();
    let denied = Deed::Answer(403, "<Error><Code>AccessDenied</Code></Error>");
    let faults: [(&[u8], Deed, Notices, &str); 4] = [
        (&large[..1_000], Deed::Answer(503, "busy"), puts, "DOM-OBJECT-001"),
        (&large, Deed::CutRequest(1_000_000), sends_part, "DOM-OBJECT-001"),
        (&large, Deed::Answer(500, "broken"), completes, "DOM-OBJECT-001"),
        (&large, denied, sends_part, "DOM-OBJECT-004"),
    ];
    for (content, deed, fits, code) in faults {
        proxy.first(usize::MAX, deed.clone(), fits);
        let refused = attach(home, subject, content).await.unwrap_err().to_string();
        assert!(refused.contains(code), "{deed:?}: {refused}");
        proxy.judge(|_| Deed::Pass);
        assert_eq!(
            (cloud.versions(&eu.bucket).await, cloud.unfinished(&eu.bucket).await),
            (0, 0),
            "{deed:?}"
        );
    }
    let attached = attach(home, subject, &large).await.unwrap();
    assert_eq!(fetch(home, subject, &attached).await.unwrap(), large);
}

/// Nobody starts without credentials; who starts it is told what is missing.
#[tokio::test]
async fn without_credentials_nothing_starts() {
    let within = tempfile::tempdir().unwrap();
    let path = within.path().join("domicile-without-credentials");
    let nothing = "env -i AWS_EC2_METADATA_DISABLED=true HOME=/nonexistent";
    let script = format!("#!/bin/sh\nexec {nothing} '{}' \"$@\"\n", executable().unwrap().display());
    std::fs::write(&path, script).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
    let home = within.path().join("deployment").join("eu");
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&home).unwrap();
    let key = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab";
    std::fs::write(home.join("keys.toml"), format!("provider = \"aws\"\nkey_id = \"{key}\"\n")).unwrap();
    let folder = within.path().join("deployment").display().to_string();
    let prepared = run_with(&path, &["up", "--data", &folder, "--regions", "eu,ca", "--prepare"]).await;
    let said = prepared.unwrap_err().to_string();
    assert!(said.contains("DOM-KEY-001") && said.contains("credentials"), "{said}");
}

#[tokio::test]
async fn a_record_lives_and_moves_on_moto() {
    a_record_lives_and_moves(Kind::Moto).await.unwrap();
}

#[tokio::test]
async fn a_record_lives_and_moves_on_ministack() {
    a_record_lives_and_moves(Kind::MiniStack).await.unwrap();
}
