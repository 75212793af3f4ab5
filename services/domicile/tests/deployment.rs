//! `domicile up`, `domicile demo` and the command line as people use them: real processes.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "what is not as expected fails the test")]

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;

const DOMICILE: &str = env!("CARGO_BIN_EXE_domicile");
/// How long anything here may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// A running `up`; ended, however the test ends.
struct Up {
    child: Child,
    folder: PathBuf,
    told: Value,
}

impl Up {
    fn start(folder: &Path) -> Self {
        let mut child = Command::new(DOMICILE)
            .args(["up", "--json", "--regions", "eu,ca", "--data"])
            .arg(folder)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut stdout = std::io::BufReader::new(child.stdout.take().unwrap());
        std::io::BufRead::read_line(&mut stdout, &mut line).unwrap();
        let told = serde_json::from_str(&line).expect("`up` tells how to reach the regions");
        Self { child, folder: folder.to_path_buf(), told }
    }

    fn signal(&self, signal: &str) {
        kill(signal, &self.child.id().to_string());
    }

    fn pid(&self, process: &str) -> String {
        std::fs::read_to_string(self.folder.join(process).join("pid")).unwrap()
    }

    fn domicile(&self, arguments: &[&str], input: &str) -> Output {
        let mut child = Command::new(DOMICILE)
            .arg("--data")
            .arg(&self.folder)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    }

    /// The JSON answer of a command that succeeds.
    fn json(&self, arguments: &[&str], input: &str) -> Value {
        let output = self.domicile(&[&["--json"], arguments].concat(), input);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {error}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    fn password(&self, region: &str, role: &str) -> String {
        let text = std::fs::read_to_string(self.folder.join("credentials.toml")).unwrap();
        let table: toml::Table = text.parse().unwrap();
        table[region][role]["password"].as_str().unwrap().to_owned()
    }

    fn sign_in(&self, profile: &str, region: &str, email: &str, password: &str) -> Value {
        let arguments =
            ["--profile", profile, "--region", region, "sign-in", "--email", email, "--password-stdin"];
        self.json(&arguments, password)
    }

    fn sign_in_staff(&self, region: &str, role: &str) {
        let email = format!("{role}@{region}.domicile.local");
        self.sign_in(role, region, &email, &self.password(region, role));
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn kill(signal: &str, pid: &str) {
    let sent = Command::new("kill").args([signal, pid]).status().unwrap();
    assert!(sent.success());
}

fn runs(pid: &str) -> bool {
    // A process that has ended and is not yet waited for has no command line.
    std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| !line.is_empty())
}

/// Waits until something holds; asks often, and fails when it never does.
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let held = runtime.block_on(async {
        tokio::time::timeout(PATIENCE, async {
            while !holds() {
                tokio::time::sleep(Duration::from_millis(25)).await;
            }
        })
        .await
    });
    assert!(held.is_ok(), "{what}");
}

#[test]
fn a_deployment_goes_on_where_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let up = Up::start(&data);
    assert_eq!(up.told["regions"].as_array().unwrap().len(), 2);
    up.sign_in_staff("eu", "operator");

    // One folder, one deployment at a time.
    let second = Command::new(DOMICILE).args(["up", "--data"]).arg(&data).output().unwrap();
    assert_eq!(second.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&second.stderr).contains("another `domicile up` runs"));

    // A region that dies is started again and knows what it knew.
    let first = up.pid("eu");
    kill("-9", &first);
    until("the region serves again", || {
        up.pid("eu") != first && up.domicile(&["--region", "eu", "health"], "").status.success()
    });
    let who = up.json(&["--profile", "operator", "--region", "eu", "whoami"], "");
    assert_eq!(who["role"], "operator");

    // Whoever kills `up` leaves no orphan.
    let children: Vec<_> = ["eu", "ca", "coordinator"].iter().map(|name| up.pid(name)).collect();
    up.signal("-9");
    until("no orphan is left", || !children.iter().any(|pid| runs(pid)));
    drop(up);

    let mut again = Up::start(&data);
    let who = again.json(&["--profile", "operator", "--region", "eu", "whoami"], "");
    assert_eq!(who["role"], "operator");
    again.signal("-INT");
    assert_eq!(again.child.wait().unwrap().code(), Some(0));
    assert!(!data.join("eu/pid").exists());
}

#[test]
fn a_record_moves_from_the_command_line() {
    let folder = tempfile::tempdir().unwrap();
    let up = Up::start(&folder.path().join("data"));
    for (region, role) in [("eu", "operator"), ("ca", "operator"), ("eu", "compliance"), ("ca", "compliance")]
    {
        up.sign_in_staff(region, role);
    }
    let eu = |profile, arguments: &[&str], input: &str| {
        up.json(&[&["--region", "eu", "--profile", profile], arguments].concat(), input)
    };
    let ca = |profile, arguments: &[&str], input: &str| {
        up.json(&[&["--region", "ca", "--profile", profile], arguments].concat(), input)
    };
    let activate = |run: &dyn Fn(&'static str, &[&str], &str) -> Value, code: &Value, password: &str| {
        let input = format!("{}\n{password}\n", code.as_str().unwrap());
        run("nobody", &["account", "activate", "--password-stdin"], &input);
    };

    // A practice in the EU, known in Canada.
    let practice = ["practice", "create", "--name", "P", "--admin-email", "a@p.example", "--admin-name", "A"];
    let created = eu("operator", &practice, "");
    let (clinician, client) = ("a fine long password", "another fine long password");
    activate(&eu, &created["invitation"], clinician);
    up.sign_in("clinician", "eu", "a@p.example", clinician);
    let policy = std::fs::read_to_string(up.folder.join("regions/eu.toml")).unwrap();
    let policy: toml::Table = policy.parse().unwrap();
    eu("clinician", &["practice", "agree", policy["agreement"]["version"].as_str().unwrap()], "");
    let enrolment = folder.path().join("enrolment");
    let file = enrolment.to_str().unwrap();
    eu("clinician", &["practice", "enrolment", "--destinations", "ca", "--out", file], "");
    let accepted = ca("operator", &["practice", "accept-enrolment", file], "");
    activate(&ca, &accepted["invitations"][0]["code"], clinician);
    up.sign_in("clinician", "ca", "a@p.example", clinician);

    // A client with a record.
    let person = eu("clinician", &["client", "create", "--email", "c@c.example", "--name", "C"], "");
    let record = person["subject_id"].as_str().unwrap();
    activate(&eu, &person["invitation"], client);
    up.sign_in("client", "eu", "c@c.example", client);
    let note = r#"{"title":"First","text":"made-up words"}"#;
    let item = eu("clinician", &["item", "put", "note", "--subject", record], note);
    let upload = folder.path().join("letter.bin");
    std::fs::write(&upload, vec![7_u8; 2_500_000]).unwrap();
    let upload = ["object", "upload", upload.to_str().unwrap(), "--subject", record];
    let uploaded = eu("client", &upload, "");

    // The move.
    let asked = eu("client", &["transfer", "request", "ca"], "");
    let transfer = asked["transfer_id"].as_str().unwrap();
    until("the offer is there", || {
        eu("client", &["transfer", "status", transfer], "")["state"] == "TRANSFER_STATE_PREFLIGHTED"
    });
    let offer = eu("client", &["transfer", "offer", transfer], "");
    assert_eq!(offer["blockers"].as_array().unwrap().len(), 0);
    let digest = offer["digest"].as_str().unwrap();
    let consent = ["transfer", "consent", transfer, "--offer", digest, "--password-stdin"];
    eu("client", &consent, client);
    until("the transfer is closed", || {
        let status = eu("operator", &["transfer", "status", transfer], "");
        status["state"] == "TRANSFER_STATE_CLOSED"
    });

    // Canada has it, the EU says so.
    let id = item["item_id"].as_str().unwrap();
    let read = ca("clinician", &["item", "get", id, "--subject", record], "");
    assert_eq!(read["payload"]["note"]["text"], "made-up words");
    let content = folder.path().join("content");
    let attachment = uploaded["header"]["item_id"].as_str().unwrap();
    let file = content.to_str().unwrap();
    ca("clinician", &["object", "download", attachment, "--subject", record, "--out", file], "");
    assert_eq!(std::fs::read(&content).unwrap(), vec![7_u8; 2_500_000]);
    let moved =
        ["--json", "--region", "eu", "--profile", "clinician", "record", "summary", "--subject", record];
    let moved = up.domicile(&moved, "");
    assert_eq!(moved.status.code(), Some(5));
    let error: Value = serde_json::from_slice(&moved.stderr).unwrap();
    assert_eq!(
        (&error["error"]["code"], &error["error"]["moved_to"]),
        (&"DOM-RECORD-005".into(), &"ca".into())
    );

    // Both logs, offline; and one that somebody has touched.
    let case = folder.path().join("case");
    let (bundles, policy) = (case.to_str().unwrap(), up.folder.join("policy.json"));
    let bundle = ["audit", "bundle", "--regions", "eu,ca", "--transfer", transfer, "--out", bundles];
    up.json(&[&["--profile", "compliance"], &bundle[..]].concat(), "");
    let (left, right) = (case.join("eu.bundle"), case.join("ca.bundle"));
    let files = [left.to_str().unwrap(), right.to_str().unwrap()];
    let verify = ["--policy", policy.to_str().unwrap(), "--transfer", transfer];
    let verify = [&["audit", "verify"], &files[..], &verify].concat();
    let proven = up.json(&verify, "");
    assert_eq!(proven["comparisons"][0]["steps"].as_array().unwrap().len(), 11);
    let mut bytes = std::fs::read(&left).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&left, bytes).unwrap();
    let altered = up.domicile(&verify, "").status.code().unwrap();
    assert!([3, 10].contains(&altered), "{altered}");
}

#[test]
fn the_demonstration_holds() {
    let demo = Command::new(DOMICILE).args(["demo", "--json"]).output().unwrap();
    let error = String::from_utf8_lossy(&demo.stderr);
    let told: Value = serde_json::from_slice(&demo.stdout).unwrap_or_else(|_| panic!("{error}"));
    assert_eq!((demo.status.code(), &told["held"]), (Some(0), &Value::Bool(true)), "{told}");
}

/// The release, and the commit when whoever built it named one.
#[test]
fn the_executable_says_what_it_is() {
    let said = Command::new(DOMICILE).arg("--version").output().unwrap();
    let commit = option_env!("DOMICILE_COMMIT").filter(|commit| !commit.is_empty());
    let source = commit.map_or("no commit named".to_owned(), |commit| format!("commit {commit}"));
    let expected = format!("domicile {} ({source})\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(String::from_utf8(said.stdout).unwrap(), expected);
}
