//! What both regions' logs say, verified offline, and what the old region still holds.

use std::path::PathBuf;

use domicile_cli::client::answer;
use domicile_cli::commands::audit::export;
use domicile_cli::commands::transfer::receipt_text;
use domicile_cli::commands::verify::verify;
use domicile_cli::failure::{Failure, Result};
use domicile_cli::{Client, text};
use domicile_evidence::policy::Policy;
use domicile_evidence::statement::{Body, SignedStatement, Statement, Step};
use domicile_proto::records::v1::GetSummaryRequest;
use domicile_proto::transfer::v1::{GetReceiptRequest, GetReceiptResponse};
use domicile_types::{Error, RegionId, TransferId};

use super::people::Person;
use super::stage::Stage;

/// Exports both regions' logs, verifies them with files alone, and shows the transfer's steps side by side.
pub(super) async fn logs(stage: &Stage<'_>, transfer_id: &str, ended: &str) -> Result<()> {
    let mut bundles = Vec::new();
    for region in [&stage.source, &stage.destination] {
        bundles.push(bundle(stage, region, transfer_id).await?);
    }
    let policy = policy(stage)?;
    let transfer: TransferId =
        transfer_id.parse().map_err(|_| Failure::local("the transfer's id is not a UUID", "Report this."))?;
    let found = verify(&bundles, Some(&policy), Some(transfer), stage.app.ctx.now())?;
    for report in &found.reports {
        stage.say(&format!("{report}"))?;
        stage.check(report.exit_code() == 0, format!("the log of {} verifies offline", report.region))?;
    }
    for comparison in &found.comparisons {
        stage.say(&format!("\n{comparison}"))?;
        stage.check(comparison.exit_code() == 0 && comparison.rests, "both logs tell the same story")?;
        let last = comparison.steps.iter().any(|step| step.step == ended && step.same);
        stage.check(last, format!("both logs hold the step `{ended}`"))?;
    }
    stage.check(found.comparisons.len() == 1, "the logs were compared step by step")
}

async fn bundle(stage: &Stage<'_>, region: &RegionId, transfer_id: &str) -> Result<PathBuf> {
    let compliance = stage.compliance(region).await?;
    let path = stage.deployment.layout().folder().join(format!("{transfer_id}.{region}.bundle"));
    let mut file = std::fs::File::create(&path).map_err(|cause| Failure::file(&path, &cause))?;
    let length = export(&compliance, &path, transfer_id.to_owned(), &mut file).await?;
    stage.say(&format!("  Exported the log of {region}, {}.", text::size(length)))?;
    Ok(path)
}

fn policy(stage: &Stage<'_>) -> Result<Policy> {
    let path = stage.deployment.layout().audit_policy();
    let text = std::fs::read_to_string(&path).map_err(|cause| Failure::file(&path, &cause))?;
    Policy::parse(&text).map_err(|_| Failure::local("policy.json is not a policy", "Start on a new folder."))
}

/// Shows that the old region says where the record is, and nothing else.
pub(super) async fn moved(stage: &Stage<'_>, practitioner: &Client, person: &Person) -> Result<()> {
    let request = GetSummaryRequest { subject_id: person.subject.clone() };
    let asked = answer(practitioner.records().get_summary(request.clone())).await;
    let held = asked.err().is_some_and(|error| says_moved(stage, &error));
    let (old, new) = (&stage.source, &stage.destination);
    stage.check(held, format!("{old} answers the practitioner: MOVED to {new}, epoch 2"))?;
    let asked = answer(person.at_source.records().get_summary(request)).await;
    let held = asked.err().is_some_and(|error| says_moved(stage, &error));
    stage.check(held, format!("{old} answers the client's old session the same"))?;
    let objects = stage.deployment.layout().region(&stage.source).join("objects");
    let left = count_files(&objects).map_err(|cause| Failure::file(&objects, &cause))?;
    stage.check(left == 0, format!("{} has no object left in its store", stage.source))
}

fn says_moved(stage: &Stage<'_>, error: &Error) -> bool {
    error.moved().is_some_and(|(region, epoch)| *region == stage.destination && *epoch == 2)
}

/// Files under a folder that hold something.
pub(super) fn count_files(folder: &std::path::Path) -> std::io::Result<usize> {
    let mut count = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        // Locks of processes are empty; what is sealed never is.
        count +=
            if metadata.is_dir() { count_files(&entry.path())? } else { usize::from(metadata.len() > 0) };
    }
    Ok(count)
}

/// Fetches and shows the client's receipt, and checks the certificate of erasure in it.
pub(super) async fn receipt(stage: &Stage<'_>, person: &Client, transfer_id: &str) -> Result<()> {
    let request = GetReceiptRequest { transfer_id: transfer_id.to_owned() };
    let receipt = answer(person.transfers().get_receipt(request)).await?;
    let shown: String = receipt_text(&receipt).lines().map(|line| format!("  {line}\n")).collect();
    stage.say(&shown)?;
    times(stage, &receipt)?;
    let Some(Body::Shredded { rows, objects, keys, unreadable_at, provable_at, method, .. }) =
        certificate(stage, &receipt)?
    else {
        return stage.check(false, "the receipt holds a certificate of erasure");
    };
    stage.say(&text::fields(&[
        ("  erased", format!("{rows} rows, {objects} objects, {keys} keys by {method}")),
        ("  unreadable", format!("since {}", text::time(unreadable_at.micros()))),
        (
            "  provable",
            format!(
                "from {}, when the key store's last backup has expired",
                text::time(provable_at.micros())
            ),
        ),
    ]))?;
    stage.check(keys > 0 && rows > 0, "the certificate of erasure is signed by the old region")?;
    stage.check(!receipt.stays_behind.is_empty(), "the receipt says what stays behind")?;
    stage.check(receipt.checkpoints.len() >= 2, "both regions' signed checkpoints are in the receipt")
}

/// How long the move took, by the signed statements' own times.
fn times(stage: &Stage<'_>, receipt: &GetReceiptResponse) -> Result<()> {
    let statements: Vec<_> =
        receipt.statements.iter().filter_map(|signed| Statement::decode(&signed.statement).ok()).collect();
    let last = |step| statements.iter().filter(|statement| statement.step == step).map(|s| s.at).max();
    let took = |from, to| {
        let (from, to) = (last(from)?, last(to)?);
        Some(format!("{:.2} s", to.since(from).as_secs_f64()))
    };
    let held_still = took(Step::Frozen, Step::Adopted).unwrap_or_default();
    stage.say(&text::fields(&[
        ("  consent to completion", took(Step::Consented, Step::Released).unwrap_or_default()),
        ("  writes waited at most", held_still),
        ("  consent to erasure", took(Step::Consented, Step::Shredded).unwrap_or_default()),
    ]))
}

/// The source's last statement, Shredded, checked against its pinned key.
fn certificate(stage: &Stage<'_>, receipt: &GetReceiptResponse) -> Result<Option<Body>> {
    let policy = policy(stage)?;
    let Some(keys) = policy.logs.get(&stage.source) else { return Ok(None) };
    let bodies = receipt.statements.iter().filter_map(|signed| {
        let signature = signed.signature.as_ref().try_into().ok()?;
        let signed =
            SignedStatement { statement: signed.statement.to_vec(), body: signed.body.to_vec(), signature };
        signed.verify(keys.statement.key()).ok().map(|verified| verified.body)
    });
    Ok(bodies.filter(|body| matches!(body, Body::Shredded { .. })).last())
}
