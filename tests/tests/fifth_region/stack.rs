//! The systemd units and the settings beside them, as an operator installs them on a machine.

use std::fs;
use std::path::{Path, PathBuf};

use domicile_tests::world::{Outcome, executable, run};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType};

use super::{example, root};

/// What every unit says, whatever it runs: no core (P8), no rights, nothing to write but its own folder.
const HARDENED: [&str; 10] = [
    "LimitCORE=0",
    "NoNewPrivileges=yes",
    "CapabilityBoundingSet=",
    "ProtectSystem=strict",
    "ProtectHome=yes",
    "PrivateTmp=yes",
    "PrivateDevices=yes",
    "MemoryDenyWriteExecute=yes",
    "SystemCallFilter=@system-service",
    "UMask=0077",
];

fn unit(name: &str) -> Outcome<String> {
    Ok(fs::read_to_string(root("infra/systemd").join(name))?)
}

/// The values of a key of a unit.
fn values<'a>(unit: &'a str, key: &'a str) -> impl Iterator<Item = &'a str> {
    unit.lines().filter_map(move |line| line.strip_prefix(key)?.strip_prefix('='))
}

/// `/etc/domicile` of a machine, below a folder of the test.
struct Machine {
    _files: tempfile::TempDir,
    etc: PathBuf,
}

impl Machine {
    fn new() -> Outcome<Self> {
        let files = tempfile::tempdir()?;
        let etc = files.path().join("etc/domicile");
        fs::create_dir_all(etc.join("regions"))?;
        for folder in [root("regions"), example()] {
            for entry in fs::read_dir(folder)? {
                let entry = entry?;
                fs::copy(entry.path(), etc.join("regions").join(entry.file_name()))?;
            }
        }
        let machine = Self { _files: files, etc };
        machine.install("nz", "spiffe://example.org/region/nz")?;
        machine.install("coordinator", "spiffe://example.org/coordinator")?;
        Ok(machine)
    }

    /// The settings of a process, with certificates and secrets beside them.
    fn install(&self, process: &str, spiffe: &str) -> Outcome<()> {
        let home = self.etc.join(process);
        fs::create_dir_all(home.join("secrets"))?;
        fs::copy(root(&format!("infra/systemd/examples/{process}.toml")), home.join("config.toml"))?;
        for role in ["app", "sequencer", "keys"] {
            let url =
                format!("postgres://domicile_{role}:secret@db.example.org/domicile?sslmode=verify-full");
            fs::write(home.join(format!("secrets/{role}-url")), url)?;
        }
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        let authority = params.self_signed(&key)?.pem();
        fs::write(home.join("ca.pem"), &authority)?;
        let issuer = Issuer::from_ca_cert_pem(&authority, key)?;
        for name in ["people", "peer"] {
            let mut params = CertificateParams::new(vec![format!("{process}.example.org")])?;
            params.subject_alt_names.push(SanType::URI(spiffe.try_into()?));
            let key = KeyPair::generate()?;
            fs::write(home.join(format!("{name}.pem")), params.signed_by(&key, &issuer)?.pem())?;
            fs::write(home.join(format!("{name}.key")), key.serialize_pem())?;
        }
        Ok(())
    }

    /// A command of a unit, on this machine; a role is only checked.
    async fn runs(&self, command: &str) -> Outcome<String> {
        let command = command.replace("%i", "nz").replace("/etc/domicile", &self.etc.display().to_string());
        let mut words = command.split_whitespace();
        let program = words.next().ok_or("no command")?;
        assert_eq!(Path::new(program).file_name(), executable()?.file_name(), "{program}");
        let mut words: Vec<_> = words.collect();
        if !words.contains(&"--check") {
            words.push("--check");
        }
        run(&words).await
    }
}

#[tokio::test]
async fn the_units_start_what_the_examples_configure() -> Outcome<()> {
    let machine = Machine::new()?;
    for (name, said) in
        [("domicile-region@.service", "nz"), ("domicile-coordinator.service", "us, eu, ca, au, nz")]
    {
        let unit = unit(name)?;
        let commands: Vec<_> = values(&unit, "ExecStartPre").chain(values(&unit, "ExecStart")).collect();
        assert_eq!(commands.len(), 2, "{name} checks, then starts");
        assert!(commands[0].ends_with("--check") && !commands[1].ends_with("--check"));
        for command in commands {
            let printed = machine.runs(command).await?;
            assert!(printed.contains(said), "{name}: {printed}");
        }
    }
    let printed = machine.runs("domicile region --config /etc/domicile/nz/config.toml").await?;
    assert!(printed.contains("may send to         eu, ca, au"), "{printed}");
    assert!(printed.contains("may receive from    eu, ca, au"), "{printed}");
    Ok(())
}

/// The stack does not start without the file, nor with one of them broken, and says which.
#[tokio::test]
async fn a_stack_without_its_file_does_not_start() -> Outcome<()> {
    let machine = Machine::new()?;
    let command = "domicile region --config /etc/domicile/nz/config.toml --check";
    for (file, place) in
        [("regions/eu.toml", "eu.toml"), ("nz/peer.pem", "peers."), ("nz/people.key", "people.")]
    {
        let path = machine.etc.join(file);
        let kept = fs::read(&path)?;
        fs::write(&path, "")?;
        let refused = machine.runs(command).await.expect_err(file).to_string();
        assert!(refused.contains("DOM-CONFIG-") && refused.contains(place), "{place}: {refused}");
        fs::write(&path, kept)?;
    }
    fs::remove_file(machine.etc.join("regions/nz.toml"))?;
    let refused = machine.runs(command).await.expect_err("no policy").to_string();
    assert!(refused.contains("nz.toml"), "{refused}");
    Ok(())
}

#[test]
fn every_unit_is_hardened() -> Outcome<()> {
    for name in ["domicile-region@.service", "domicile-coordinator.service", "domicile-migrate@.service"] {
        let unit = unit(name)?;
        for line in HARDENED {
            assert!(unit.lines().any(|found| found == line), "{name}: {line}");
        }
        assert!(!unit.contains("User=root"), "{name}");
    }
    Ok(())
}
