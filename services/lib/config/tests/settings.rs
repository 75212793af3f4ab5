//! Settings: a whole example loads, everything wrong is refused by its key, no secret is shown.
#![expect(clippy::unwrap_used, reason = "a test may fail")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use domicile_config::region::{KeySettings, RegionSettings};
use domicile_config::{CoordinatorSettings, Environment};
use domicile_types::{Code, Error, RegionId};
use proptest::prelude::*;

const REGION: &str = r#"
environment = "development"
region = "eu"
policies = "regions"

[operator]
name = "Example Health Cooperative"
contact = "privacy@example.org"

[people]
listen = "127.0.0.1:0"
certificate = "tls/people.pem"
key = "tls/people.key"

[peers]
listen = "127.0.0.1:0"
certificate = "tls/peers.pem"
key = "tls/peers.key"
authority = "/etc/domicile/authority.pem"
trust_domain = "domicile.example"

[database]
url = "sqlite://data/eu.db"
keys_url = "sqlite://data/eu-keys.db"
backup_directory = "backups"

[keys]
provider = "local"
file = "keys/eu.json"

[objects]
provider = "directory"
path = "objects"

[signing]
statement_key = "keys/statement.key"
checkpoint_key = "keys/checkpoint.key"

[coordinator]
spiffe = "spiffe://domicile.example/coordinator"

[[peer]]
region = "ca"
endpoint = "https://127.0.0.1:7443"
spiffe = "spiffe://domicile.example/region/ca"
statement_key = "ca+1+AAAA"
checkpoint_key = "ca+2+BBBB"

[transfer]
freeze_budget = "1500ms"
"#;

const COORDINATOR: &str = r#"
environment = "development"
operators = ["spiffe://domicile.example/operator/ann"]
poll = "500ms"

[operator]
name = "Example Health Cooperative"
contact = "privacy@example.org"

[peers]
listen = "127.0.0.1:0"
certificate = "tls/peers.pem"
key = "tls/peers.key"
authority = "tls/authority.pem"
trust_domain = "domicile.example"

[[region]]
region = "eu"
endpoint = "https://127.0.0.1:7441"
spiffe = "spiffe://domicile.example/region/eu"

[[region]]
region = "ca"
endpoint = "https://127.0.0.1:7442"
spiffe = "spiffe://domicile.example/region/ca"
"#;

struct Written(tempfile::TempDir);

fn write(text: &str) -> Written {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("domicile.toml"), text).unwrap();
    Written(folder)
}

impl Written {
    fn file(&self) -> PathBuf {
        self.0.path().join("domicile.toml")
    }
}

fn load(text: &str, environment: &[(&str, &str)]) -> Result<RegionSettings, Error> {
    let pairs = environment.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    RegionSettings::load_with(&write(text).file(), pairs)
}

fn refused(text: &str, environment: &[(&str, &str)]) -> (Code, String) {
    let error = load(text, environment).unwrap_err();
    (error.code(), error.place().unwrap_or_default().to_owned())
}

fn changed(from: &str, to: &str) -> String {
    assert!(REGION.contains(from), "{from}");
    REGION.replacen(from, to, 1)
}

#[test]
fn the_whole_loads_with_the_designs_defaults() {
    let written = write(REGION);
    let settings = RegionSettings::load_with(&written.file(), vec![]).unwrap();
    assert_eq!(settings.environment, Environment::Development);
    assert_eq!(settings.people.certificate, written.0.path().join("tls/people.pem"));
    assert_eq!(settings.peers.authority, Path::new("/etc/domicile/authority.pem"));
    assert_eq!(settings.database.backup_directory, Some(written.0.path().join("backups")));
    let KeySettings::Local { file } = &settings.keys else { unreachable!("as the example says") };
    assert_eq!(file, &written.0.path().join("keys/eu.json"));
    assert_eq!(settings.transfer.freeze_budget, Duration::from_millis(1_500));
    assert_eq!(settings.transfer.offer_open, Duration::from_secs(7 * 86_400));
    assert_eq!(settings.transfer.freeze_lag_rows, 64);
    assert_eq!(settings.sessions.idle, Duration::from_secs(900));
    assert_eq!(settings.limits.message_bytes, 4 * 1024 * 1024);
    let ca = RegionId::new("ca").unwrap();
    assert_eq!(settings.peer(&ca).unwrap().spiffe.as_str(), "spiffe://domicile.example/region/ca");
    assert_eq!(settings.operator_of(&ca).name, "Example Health Cooperative");
}

#[test]
fn the_environment_lies_over_the_file() {
    let environment = [
        ("DOMICILE__DATABASE__MAX_CONNECTIONS", "3"),
        ("DOMICILE__DATABASE__URL", "sqlite://data/other.db"),
        ("DOMICILE__TRANSFER__FREEZE_BUDGET", "5s"),
        ("DOMICILE__OPERATOR__NAME", "12345"),
        ("PATH", "/bin"),
    ];
    let settings = load(REGION, &environment).unwrap();
    assert_eq!(settings.database.max_connections, 3);
    assert_eq!(settings.database.url.reveal().unwrap().as_str(), "sqlite://data/other.db");
    assert_eq!(settings.transfer.freeze_budget, Duration::from_secs(5));
    assert_eq!(settings.operator.name, "12345");
    let unknown = refused(REGION, &[("DOMICILE__DATABASE__ULR", "x")]);
    assert_eq!(unknown, (Code::ConfigurationUnknownKey, "database.ulr".to_owned()));
}

/// P3: no start without the operator's name and contact.
#[test]
fn an_unnamed_operator_does_not_start() {
    let missing = |text: String, key: &str| {
        assert_eq!(refused(&text, &[]), (Code::ConfigurationMissing, key.to_owned()));
    };
    missing(changed("contact = \"privacy@example.org\"", ""), "operator.contact");
    missing(changed("contact = \"privacy@example.org\"", "contact = \" \""), "operator.contact");
    missing(changed("name = \"Example Health Cooperative\"", ""), "operator.name");
    missing(
        changed("[operator]\nname = \"Example Health Cooperative\"\ncontact = \"privacy@example.org\"", ""),
        "operator",
    );
}

#[test]
fn what_is_wrong_is_named() {
    let invalid = |from: &str, to: &str, key: &str| {
        assert_eq!(refused(&changed(from, to), &[]), (Code::ConfigurationInvalid, key.to_owned()), "{to}");
    };
    invalid("region = \"eu\"", "region = \"E U\"", "region");
    invalid("\"1500ms\"", "\"1500\"", "transfer.freeze_budget");
    invalid("\"1500ms\"", "\"0ms\"", "transfer.freeze_budget");
    invalid("[[peer]]\nregion = \"ca\"", "[[peer]]\nregion = \"eu\"", "peer.region");
    invalid("https://127.0.0.1:7443", "http://127.0.0.1:7443", "peer.endpoint");
    invalid("https://127.0.0.1:7443", "https://127.0.0.1", "peer.endpoint");
    invalid("https://127.0.0.1:7443", "https://user@host:1", "peer.endpoint");
    invalid("spiffe://domicile.example/region/ca", "https://domicile.example/region/ca", "peer[0].spiffe");
    invalid(
        "spiffe://domicile.example/region/ca",
        "spiffe://domicile.example/coordinator",
        "coordinator.spiffe",
    );
    invalid("ca+2+BBBB", "ca+1+AAAA", "peer.checkpoint_key");
    invalid("sqlite://data/eu-keys.db", "sqlite://data/eu.db", "database.keys_url");
    invalid("sqlite://data/eu.db", "mysql://data", "database.url");
    invalid("provider = \"local\"", "provider = \"vault\"", "keys.provider");
    invalid("trust_domain = \"domicile.example\"", "trust_domain = \"Domicile\"", "peers.trust_domain");
    invalid("127.0.0.1:0", "localhost", "people.listen");
    invalid("[transfer]", "[sessions]\npassword_min = 8\n[transfer]", "sessions.password_min");
    let unknown = refused(&changed("[transfer]", "[transfer]\nfreze = 1"), &[]);
    assert_eq!(unknown, (Code::ConfigurationUnknownKey, "transfer.freze".to_owned()));
    let unknown = refused(&format!("colour = 1\n{REGION}"), &[]);
    assert_eq!(unknown, (Code::ConfigurationUnknownKey, "colour".to_owned()));
    let missing = refused(&changed("statement_key = \"ca+1+AAAA\"\n", ""), &[]);
    assert_eq!(missing, (Code::ConfigurationMissing, "peer[0].statement_key".to_owned()));
    let no_toml = refused("region = \"eu\"\nenvironment = ", &[]);
    assert_eq!(no_toml.0, Code::ConfigurationInvalid);
    assert!(no_toml.1.ends_with("domicile.toml, line 2: not TOML"), "{}", no_toml.1);
    let nowhere = RegionSettings::load(Path::new("/nowhere/domicile.toml")).unwrap_err();
    assert_eq!(
        (nowhere.code(), nowhere.place()),
        (Code::ConfigurationMissing, Some("/nowhere/domicile.toml"))
    );
}

#[test]
fn production_wants_postgresql() {
    let production = changed("\"development\"", "\"production\"");
    assert_eq!(refused(&production, &[]), (Code::ConfigurationUnsafe, "database.url".to_owned()));
    let urls = [
        ("DOMICILE__DATABASE__URL", "postgres://service@db/eu"),
        ("DOMICILE__DATABASE__KEYS_URL", "postgres://keys@db/eu"),
    ];
    assert_eq!(
        refused(&production, &urls),
        (Code::ConfigurationMissing, "database.sequencer_url".to_owned())
    );
    let all = [urls[0], urls[1], ("DOMICILE__DATABASE__SEQUENCER_URL", "postgres://sequencer@db/eu")];
    load(&production, &all).unwrap();
    let mixed = [urls[0], all[2], ("DOMICILE__DATABASE__KEYS_URL", "sqlite://keys.db")];
    assert_eq!(refused(&production, &mixed).0, Code::ConfigurationUnsafe);
}

/// P8: no secret in any print or error.
#[test]
fn secrets_stay_out_of_prints_and_errors() {
    let secret = "postgres://service:hunter2@db/eu";
    let settings = load(REGION, &[("DOMICILE__DATABASE__OWNER_URL", secret)]).unwrap();
    assert!(!format!("{settings:?}").contains("hunter2"));
    assert_eq!(settings.database.owner_url.unwrap().reveal().unwrap().as_str(), secret);
    for wrong in ["ftp://service:hunter2@db/eu", "hunter2"] {
        let error = load(REGION, &[("DOMICILE__DATABASE__URL", wrong)]).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hunter2"));
    }
    let error = load(&REGION.replacen("[keys]", "[keys]\nurl = \"hunter2", 1), &[]).unwrap_err();
    assert!(!format!("{error} {error:?}").contains("hunter2"));
}

#[test]
fn a_secret_may_lie_in_a_file_of_its_own() {
    let text = changed("url = \"sqlite://data/eu.db\"", "url = { file = \"secrets/url\" }");
    let written = write(&text);
    let missing = RegionSettings::load_with(&written.file(), vec![]).unwrap_err();
    assert_eq!((missing.code(), missing.place()), (Code::ConfigurationInvalid, Some("secret file")));
    std::fs::create_dir(written.0.path().join("secrets")).unwrap();
    std::fs::write(written.0.path().join("secrets/url"), "sqlite://data/eu.db\n").unwrap();
    let settings = RegionSettings::load_with(&written.file(), vec![]).unwrap();
    assert_eq!(settings.database.url.reveal().unwrap().as_str(), "sqlite://data/eu.db");
}

#[test]
fn the_coordinator_knows_whom_it_drives_and_nothing_else() {
    let written = write(COORDINATOR);
    let settings = CoordinatorSettings::load_with(&written.file(), vec![]).unwrap();
    assert_eq!(
        (settings.region.len(), settings.poll, settings.operators.len()),
        (2, Duration::from_millis(500), 1)
    );
    let code = |text: &str| {
        let error = CoordinatorSettings::load_with(&write(text).file(), vec![]).unwrap_err();
        (error.code(), error.place().unwrap_or_default().to_owned())
    };
    let database = COORDINATOR.replacen("[operator]", "[database]\nurl = \"sqlite://x\"\n[operator]", 1);
    assert_eq!(code(&database), (Code::ConfigurationUnknownKey, "database".to_owned()));
    let twice = COORDINATOR.replacen("region = \"ca\"", "region = \"eu\"", 1);
    assert_eq!(code(&twice), (Code::ConfigurationInvalid, "region".to_owned()));
    assert_eq!(code(&COORDINATOR.replacen("contact", "contract", 1)).0, Code::ConfigurationUnknownKey);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Garbage never panics and never echoes itself.
    #[test]
    fn garbage_is_refused(garbage in "\\PC{0,200}") {
        let error = load(&garbage, &[]).unwrap_err();
        prop_assert!(matches!(error.code(), Code::ConfigurationInvalid | Code::ConfigurationMissing | Code::ConfigurationUnknownKey));
    }
}
