//! Keys in AWS KMS and objects in S3: what may be set, what is refused, by its key.
#![cfg(test)]

use std::time::Duration;

use domicile_config::RegionSettings;
use domicile_config::region::{KeySettings, ObjectSettings};
use domicile_types::{Code, Error};

const REGION: &str = r#"
environment = "production"
region = "eu"
policies = "regions"

[operator]
name = "Example Health Cooperative"
contact = "privacy@example.org"

[people]
listen = "127.0.0.1:0"
certificate = "people.pem"
key = "people.key"

[peers]
listen = "127.0.0.1:0"
certificate = "peers.pem"
key = "peers.key"
authority = "authority.pem"
trust_domain = "domicile.example"

[database]
url = "postgres://service@db/eu"
sequencer_url = "postgres://sequencer@db/eu"
keys_url = "postgres://keys@db/eu"

[signing]
statement_key = "statement.key"
checkpoint_key = "checkpoint.key"

[coordinator]
spiffe = "spiffe://domicile.example/coordinator"
"#;

const KEYS: &str =
    "key_id = \"arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab\"";
const OBJECTS: &str = "bucket = \"domicile-eu\"\nregion = \"eu-central-1\"";

fn load(keys: &str, objects: &str, environment: &[(&str, &str)]) -> Result<RegionSettings, Error> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("domicile.toml");
    let cloud = format!("[keys]\nprovider = \"aws\"\n{keys}\n[objects]\nprovider = \"s3\"\n{objects}\n");
    std::fs::write(&file, format!("{REGION}{cloud}")).unwrap();
    let pairs = environment.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    RegionSettings::load_with(&file, pairs)
}

fn refused(keys: &str, objects: &str, environment: &[(&str, &str)]) -> (Code, String) {
    let error = load(keys, objects, environment).unwrap_err();
    (error.code(), error.place().unwrap_or_default().to_owned())
}

#[test]
fn keys_and_objects_load_with_their_defaults() {
    let settings = load(KEYS, OBJECTS, &[]).unwrap();
    let KeySettings::Aws(keys) = settings.keys else { panic!("another provider") };
    assert_eq!(keys.aws_region(), Some("eu-central-1"));
    assert_eq!(
        (keys.attempts, keys.attempt, keys.total),
        (4, Duration::from_secs(3), Duration::from_secs(10))
    );
    let ObjectSettings::S3(objects) = settings.objects else { panic!("another provider") };
    assert_eq!((objects.part_bytes, objects.path_style, objects.prefix), (8 << 20, false, None));
    assert_eq!((objects.attempt, objects.total), (Duration::from_secs(30), Duration::from_secs(120)));
}

#[test]
fn the_environment_lies_over_the_file() {
    let environment = [
        ("DOMICILE__KEYS__ATTEMPTS", "2"),
        ("DOMICILE__KEYS__ATTEMPT", "500ms"),
        ("DOMICILE__KEYS__CONNECT", "500ms"),
        ("DOMICILE__OBJECTS__PART_BYTES", "16777216"),
        ("DOMICILE__OBJECTS__PATH_STYLE", "true"),
    ];
    let settings = load(KEYS, OBJECTS, &environment).unwrap();
    let KeySettings::Aws(keys) = settings.keys else { panic!("another provider") };
    assert_eq!((keys.attempts, keys.attempt), (2, Duration::from_millis(500)));
    let ObjectSettings::S3(objects) = settings.objects else { panic!("another provider") };
    assert_eq!((objects.part_bytes, objects.path_style), (16 << 20, true));
    let unknown = refused(KEYS, OBJECTS, &[("DOMICILE__KEYS__ATEMPTS", "2")]);
    assert_eq!(unknown, (Code::ConfigurationUnknownKey, "keys.atempts".to_owned()));
}

#[test]
fn what_is_wrong_with_the_key_is_named() {
    let with = |line: &str| refused(&format!("{KEYS}\n{line}"), OBJECTS, &[]);
    assert_eq!(with("endpoit = \"x\""), (Code::ConfigurationUnknownKey, "keys.endpoit".to_owned()));
    assert_eq!(
        with("endpoint = \"http://127.0.0.1:1\""),
        (Code::ConfigurationUnsafe, "keys.endpoint".to_owned())
    );
    assert_eq!(with("region = \"us-east-1\""), (Code::ConfigurationInvalid, "keys.region".to_owned()));
    assert_eq!(with("attempts = 0"), (Code::ConfigurationInvalid, "keys.attempts".to_owned()));
    assert_eq!(with("total = \"1s\""), (Code::ConfigurationInvalid, "keys.attempt".to_owned()));
    assert_eq!(with("connect = \"1min\""), (Code::ConfigurationInvalid, "keys.connect".to_owned()));
    for wrong in ["ftp://host", "https://", "https://user@host", "host"] {
        let found = with(&format!("endpoint = \"{wrong}\""));
        assert_eq!(found, (Code::ConfigurationInvalid, "keys.endpoint".to_owned()), "{wrong}");
    }
    let key = |line: &str| refused(line, OBJECTS, &[]);
    assert_eq!(key(""), (Code::ConfigurationMissing, "keys.key_id".to_owned()));
    assert_eq!(key("key_id = \"1234abcd\""), (Code::ConfigurationMissing, "keys.region".to_owned()));
    let aliases =
        ["alias/domicile", "arn:aws:kms:eu-central-1:111122223333:alias/domicile", "arn:aws:s3:::bucket"];
    for wrong in aliases {
        let found = key(&format!("key_id = \"{wrong}\"\nregion = \"eu-central-1\""));
        assert_eq!(found, (Code::ConfigurationInvalid, "keys.key_id".to_owned()), "{wrong}");
    }
    let copied = key("key_id = \"mrk-1234abcd12ab34cd56ef1234567890ab\"\nregion = \"eu-central-1\"");
    assert_eq!(copied, (Code::ConfigurationUnsafe, "keys.key_id".to_owned()));
}

#[test]
fn what_is_wrong_with_the_bucket_is_named() {
    let with = |line: &str| refused(KEYS, &format!("{OBJECTS}\n{line}"), &[]);
    assert_eq!(with("path_stile = true"), (Code::ConfigurationUnknownKey, "objects.path_stile".to_owned()));
    assert_eq!(with("endpoint = \"http://s3\""), (Code::ConfigurationUnsafe, "objects.endpoint".to_owned()));
    for wrong in ["", "/", "a/", "../b", "a b", "ä"] {
        let found = with(&format!("prefix = \"{wrong}\""));
        assert_eq!(found, (Code::ConfigurationInvalid, "objects.prefix".to_owned()), "{wrong}");
    }
    for wrong in ["part_bytes = 5242879", "part_bytes = 536870913"] {
        assert_eq!(with(wrong), (Code::ConfigurationInvalid, "objects.part_bytes".to_owned()));
    }
    let bucket = |lines: &str| refused(KEYS, lines, &[]);
    assert_eq!(bucket("region = \"eu\""), (Code::ConfigurationMissing, "objects.bucket".to_owned()));
    assert_eq!(bucket("bucket = \"b\""), (Code::ConfigurationMissing, "objects.region".to_owned()));
}

/// A machine on a desk may speak to a server beside it in the clear.
#[test]
fn development_may_use_a_server_beside_it() {
    let development = [("DOMICILE__ENVIRONMENT", "development")];
    let keys = format!("{KEYS}\nendpoint = \"http://127.0.0.1:5000\"");
    let objects = format!("{OBJECTS}\nendpoint = \"http://127.0.0.1:5000\"\npath_style = true");
    load(&keys, &objects, &development).unwrap();
}
