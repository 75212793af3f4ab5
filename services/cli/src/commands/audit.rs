//! The audit log: look and export.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use domicile_evidence::entry::{Entry, Outcome};
use domicile_proto::audit::v1::{ExportBundleRequest, ListEntriesRequest, ListOwnEntriesRequest, LogEntry};
use serde_json::{Value, json};

use super::report::{self, ReportArgs};
use super::verify::{self, VerifyArgs};
use crate::app::App;
use crate::client::{Client, answer};
use crate::failure::{Failure, Result};
use crate::{files, text, upload};

/// The audit log.
#[derive(Subcommand, Debug)]
pub enum AuditCommand {
    /// Show entries of the log; for clients, those about their own record.
    #[command(after_help = "\
Examples:
  domicile --region eu audit show
  domicile --region eu audit show --start 0
  domicile --region eu audit show --transfer $TRANSFER
  domicile --region eu audit show --own")]
    Show {
        /// The first index; when left out the newest entries of the whole log, else from the first on.
        #[arg(long)]
        start: Option<u64>,
        /// At most this many, 1 to 1,000.
        #[arg(long, default_value_t = 100)]
        limit: u32,
        /// Only entries of this transfer.
        #[arg(long, default_value = "", conflicts_with = "own")]
        transfer: String,
        /// Entries about your own record.
        #[arg(long)]
        own: bool,
    },
    /// Export a bundle for offline verification: the whole log up to its newest checkpoint.
    #[command(after_help = "\
With several --regions, OUT is a folder and gets one bundle a region: what an auditor needs for one
transfer. You must be signed in, as compliance staff, at each of them.

Examples:
  domicile --region eu audit bundle --out eu.bundle
  domicile audit bundle --regions eu,ca --transfer $TRANSFER --out case-17/
  domicile audit verify case-17/*.bundle --policy policy.json --transfer $TRANSFER")]
    Bundle {
        /// Where to write it; `-` for standard output.
        #[arg(long)]
        out: PathBuf,
        /// The transfer the bundle is about.
        #[arg(long, default_value = "")]
        transfer: String,
        /// Regions of the deployment to export from, instead of --region.
        #[arg(long, value_delimiter = ',')]
        regions: Vec<String>,
    },
    /// Verify exported bundles offline: files alone, no region asked.
    Verify(VerifyArgs),
    /// Render one transfer's evidence as a page to read and to print, from exported bundles.
    Report(ReportArgs),
}

impl AuditCommand {
    pub(super) async fn run(self, app: &App) -> Result<()> {
        match self {
            Self::Show { start, limit, own: true, .. } => {
                let request = ListOwnEntriesRequest { start: start.unwrap_or(0), limit };
                let response = answer(app.client()?.audit().list_own_entries(request)).await?;
                entries(app, &response.entries, None)
            }
            Self::Show { start, limit, transfer, own: false } => {
                let client = app.client()?;
                let start = match start {
                    Some(start) => start,
                    None if transfer.is_empty() => newest(&client, limit).await?,
                    None => 0,
                };
                let request = ListEntriesRequest { start, limit, transfer_id: transfer };
                let response = answer(client.audit().list_entries(request)).await?;
                entries(app, &response.entries, Some(response.size))
            }
            Self::Bundle { out, transfer, regions } => bundle(app, &out, transfer, &regions).await,
            Self::Verify(args) => verify::run(app, &args),
            Self::Report(args) => report::run(app, &args),
        }
    }
}

/// Where the last `limit` entries begin.
async fn newest(client: &Client, limit: u32) -> Result<u64> {
    let request = ListEntriesRequest { start: 0, limit: 1, transfer_id: String::new() };
    let size = answer(client.audit().list_entries(request)).await?.size;
    Ok(size.saturating_sub(limit.into()))
}

fn entries(app: &App, entries: &[LogEntry], size: Option<u64>) -> Result<()> {
    app.out.answer(
        || json!({ "size": size, "entries": entries.iter().map(entry_json).collect::<Value>() }),
        || {
            let rows: Vec<_> = entries.iter().map(entry_row).collect();
            let headings = ["index", "when", "event", "role", "outcome", "item", "step"];
            let mut out = text::table(&headings, &rows);
            if let Some(size) = size {
                out.push_str(&format!("{} of {size} entries\n", entries.len()));
            }
            out
        },
    )
}

fn outcome(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Ok => "ok".to_owned(),
        Outcome::Denied(code) => format!("denied {}", code.as_str()),
        Outcome::Failed(code) => format!("failed {}", code.as_str()),
    }
}

fn entry_row(logged: &LogEntry) -> Vec<String> {
    let Ok(entry) = Entry::decode(&logged.entry) else {
        return vec![logged.index.to_string(), String::new(), "not readable".to_owned()];
    };
    let step = entry
        .statement
        .as_ref()
        .map(|statement| format!("{} {}/{}", statement.step.name(), statement.origin, statement.sequence));
    vec![
        logged.index.to_string(),
        text::time(entry.written_at.micros()),
        entry.event.name().to_owned(),
        entry.role.as_str().to_owned(),
        outcome(&entry.outcome),
        entry.item.map(|item| item.to_string()).unwrap_or_default(),
        step.unwrap_or_default(),
    ]
}

fn entry_json(logged: &LogEntry) -> Value {
    let Ok(entry) = Entry::decode(&logged.entry) else {
        return json!({ "index": logged.index, "readable": false });
    };
    json!({
        "index": logged.index,
        "event_id": entry.event_id.to_string(),
        "event": entry.event.name(),
        "action": entry.event.action().name(),
        "purpose": entry.purpose.name(),
        "written_at_micros": entry.written_at.micros(),
        "sequenced_at_micros": entry.sequenced_at.map(|at| at.micros()),
        "writer": entry.writer.to_string(),
        "writer_epoch": entry.writer_epoch,
        "writer_sequence": entry.writer_sequence,
        "role": entry.role.as_str(),
        "actor": entry.actor.map(hex::encode),
        "subject": entry.subject.map(hex::encode),
        "resource": entry.resource,
        "item": entry.item.map(|item| item.to_string()),
        "transfer": entry.transfer.map(|transfer| transfer.to_string()),
        "outcome": outcome(&entry.outcome),
        "request": entry.request.map(|request| request.to_string()),
        "statement": entry.statement.as_ref().map(|statement| json!({
            "origin": statement.origin.as_str(),
            "attempt": statement.attempt,
            "sequence": statement.sequence,
            "step": statement.step.name(),
            "digest": hex::encode(statement.digest),
        })),
    })
}

async fn bundle(app: &App, out: &Path, transfer: String, regions: &[String]) -> Result<()> {
    if regions.is_empty() {
        let written = export_to(&app.client()?, out, transfer).await?;
        if files::is_standard(out) {
            return Ok(());
        }
        return said(app, &[(out.to_path_buf(), written)]);
    }
    crate::sessions::make_private(out).map_err(|cause| Failure::file(out, &cause))?;
    let mut made = Vec::new();
    for region in regions {
        let path = out.join(format!("{region}.bundle"));
        let written = export_to(&app.client_of(region)?, &path, transfer.clone()).await?;
        made.push((path, written));
    }
    said(app, &made)
}

fn said(app: &App, made: &[(PathBuf, u64)]) -> Result<()> {
    app.out.answer(
        || made.iter().map(|(path, length)| json!({ "file": path, "length": length })).collect::<Value>(),
        || {
            let line = |(path, length): &(PathBuf, u64)| {
                format!("Wrote {}, {}.\n", path.display(), text::size(*length))
            };
            made.iter().map(line).collect()
        },
    )
}

async fn export_to(client: &Client, out: &Path, transfer: String) -> Result<u64> {
    if files::is_standard(out) {
        return export(client, out, transfer, &mut std::io::stdout()).await;
    }
    let mut file = files::create(out)?;
    let written = export(client, out, transfer, &mut file).await;
    if written.is_err() {
        // Half a bundle would only be found out at the audit.
        std::fs::remove_file(out).ok();
    }
    let written = written?;
    file.sync_all().map_err(|cause| Failure::file(out, &cause))?;
    Ok(written)
}

/// Streams a region's bundle into `to`; gives its length in bytes. `name` stands in errors.
///
/// # Errors
/// What the region answers, or that `to` cannot be written.
pub async fn export(
    client: &Client,
    name: &Path,
    transfer_id: String,
    to: &mut (dyn std::io::Write + Send),
) -> Result<u64> {
    let client = client.with_deadline(std::time::Duration::from_secs(600));
    let mut stream = answer(client.audit().export_bundle(ExportBundleRequest { transfer_id })).await?;
    let mut written = 0;
    while let Some(message) = upload::next(&mut stream).await? {
        to.write_all(&message.content).map_err(|cause| Failure::file(name, &cause))?;
        written += message.content.len() as u64;
    }
    to.flush().map_err(|cause| Failure::file(name, &cause))?;
    Ok(written)
}
