//! Cases with their files and what the first verifier finds in them.

use std::collections::BTreeMap;

use domicile_evidence::policy::Policy;
use domicile_evidence::report::Finding;
use domicile_evidence::verify::Demands;
use domicile_types::TransferId;
use domicile_types::time::Timestamp;
use serde::Serialize;

use crate::together::{State, Together, since, together};

/// The present of all cases that name no other, in microseconds since the Unix epoch.
pub const NOW: i64 = 1_800_000_100_000_000;

/// A finding's code and index.
pub type Place = (u8, Option<u64>);

/// The arguments of one verification and what must come of it.
#[derive(Clone, Debug, Serialize)]
pub struct Case {
    pub name: String,
    pub bundles: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transfer: Option<String>,
    /// The present, in microseconds since the Unix epoch.
    pub now: i64,
    pub exit: u8,
    /// The findings of each bundle, in their order.
    pub findings: Vec<Vec<Place>>,
    /// The findings of each comparison.
    pub comparisons: Vec<Vec<Place>>,
    /// How many signed checkpoints are written as evidence.
    pub evidence: usize,
    /// The file that the state must be afterwards; absent when it stays as it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keeps: Option<String>,
}

impl Case {
    pub fn new(name: &str, exit: u8, bundles: &[&str]) -> Self {
        Self {
            name: name.to_owned(),
            bundles: bundles.iter().map(|bundle| (*bundle).to_owned()).collect(),
            policy: Some("policy.json".to_owned()),
            state: None,
            transfer: None,
            now: NOW,
            exit,
            findings: Vec::new(),
            comparisons: Vec::new(),
            evidence: 0,
            keeps: None,
        }
    }

    pub fn policy(self, name: Option<&str>) -> Self {
        Self { policy: name.map(ToOwned::to_owned), ..self }
    }

    pub fn state(self, name: &str) -> Self {
        Self { state: Some(name.to_owned()), ..self }
    }

    pub fn transfer(self, transfer: &impl ToString) -> Self {
        Self { transfer: Some(transfer.to_string()), ..self }
    }

    pub fn now(self, now: i64) -> Self {
        Self { now, ..self }
    }

    /// Whether the case uses a file.
    pub fn names(&self, file: &str) -> bool {
        let options = [&self.policy, &self.state, &self.keeps];
        self.bundles.iter().chain(options.into_iter().flatten()).any(|name| name == file)
    }
}

#[derive(Debug)]
pub struct Manifest {
    pub about: &'static str,
    pub cases: Vec<Case>,
}

/// All cases with all their files, the manifest among them.
pub struct Vectors {
    pub files: BTreeMap<String, Vec<u8>>,
    pub manifest: Manifest,
}

impl Vectors {
    pub fn new() -> Self {
        let about = "Arguments of verifications and what must be found: exit code, and code and index of every \
                     finding, bundle by bundle and comparison by comparison. See docs/audit.md.";
        Self { files: BTreeMap::new(), manifest: Manifest { about, cases: Vec::new() } }
    }

    pub fn file(&mut self, name: &str, content: impl Into<Vec<u8>>) {
        assert!(self.files.insert(name.to_owned(), content.into()).is_none(), "{name} stands twice");
    }

    /// Takes a case in, with what the first verifier finds; its exit code must be the one expected.
    pub fn case(&mut self, mut case: Case) {
        match self.run(&case) {
            None => assert_eq!(case.exit, 2, "{}: usage", case.name),
            Some(found) => {
                let told: Vec<_> = found.reports.iter().map(|report| &report.findings).collect();
                assert_eq!(found.exit_code(), case.exit, "{}: {told:?} {:?}", case.name, found.comparisons);
                case.findings = found.reports.iter().map(|report| places(&report.findings)).collect();
                case.comparisons = found.comparisons.iter().map(|one| places(&one.findings)).collect();
                case.evidence = found.reports.iter().map(|report| report.evidence.len()).sum();
                if let (0, Some(state)) = (case.exit, &case.state) {
                    let mut kept: State = self.json(Some(state)).expect("a state").unwrap_or_default();
                    kept.extend(found.heads);
                    let name = format!("{}.kept.json", case.name);
                    self.file(&name, serde_json::to_vec_pretty(&kept).expect("JSON"));
                    case.keeps = Some(name);
                }
            }
        }
        self.manifest.cases.push(case);
    }

    /// A case with one bundle of its own.
    pub fn one(&mut self, exit: u8, name: &str, bundle: Vec<u8>) {
        let file = format!("{name}.bundle");
        self.file(&file, bundle);
        self.case(Case::new(name, exit, &[&file]));
    }

    pub fn finish(mut self) -> Self {
        let manifest = compact(&self.manifest);
        self.file("manifest.json", manifest);
        self
    }

    fn json<T: serde::de::DeserializeOwned>(&self, name: Option<&String>) -> Option<Option<T>> {
        let Some(content) = name.and_then(|name| self.files.get(name)) else { return Some(None) };
        serde_json::from_slice(content).ok()
    }

    /// As the command does it; `None` when that is usage.
    fn run(&self, case: &Case) -> Option<Together> {
        let policy: Option<Policy> = self.json(case.policy.as_ref())?;
        let state: Option<State> = self.json(case.state.as_ref())?;
        let transfer: Option<TransferId> = case.transfer.as_ref().map(|id| id.parse()).transpose().ok()?;
        let now = Some(Timestamp::from_micros(case.now));
        let state = state.unwrap_or_default();
        let demands = Demands { policy: policy.as_ref(), state: None, now, transfer };
        let bundles: Option<Vec<_>> = case.bundles.iter().map(|name| self.files.get(name)).collect();
        let verified = bundles?.into_iter().map(|bundle| since(bundle, demands, &state)).collect();
        together(verified, transfer).ok()
    }
}

fn places(findings: &[Finding]) -> Vec<Place> {
    findings.iter().map(|finding| (finding.code, finding.index)).collect()
}

/// The manifest with one case a line.
fn compact(manifest: &Manifest) -> String {
    let line = |case: &Case| serde_json::to_string(case).expect("JSON");
    let cases: Vec<_> = manifest.cases.iter().map(line).collect();
    let about = serde_json::to_string(manifest.about).expect("JSON");
    format!("{{\"about\": {about},\n\"cases\": [\n{}\n]}}\n", cases.join(",\n"))
}
