//! Operators' commands.

use std::time::Duration;

use clap::Subcommand;
use domicile_proto::transfer::v1::{
    CancelTransferRequest, ListTransfersRequest, PauseTransferRequest, ResumeTransferRequest,
};
use domicile_types::{Code, Error};
use serde_json::{Value, json};

use super::transfer::show;
use crate::app::App;
use crate::client::{Client, answer};
use crate::failure::{Failure, Result};
use crate::place::ClientFile;
use crate::progress::state_name;
use crate::{json, text};

/// Every transfer of a region.
#[derive(Subcommand, Debug)]
#[command(after_help = "\
Reasons are kept with the audit detail: say why, name nobody.

Examples:
  domicile --region eu transfers list
  domicile --region eu transfers pause $TRANSFER --reason \"maintenance of the object store\"")]
pub enum TransfersCommand {
    /// List transfers, newest first.
    List {
        /// With those that are over.
        #[arg(long)]
        all: bool,
    },
    /// Hold a transfer; refused from frozen to adopted, and never stops a deadline.
    Pause {
        /// The transfer.
        transfer: String,
        /// Why, without names.
        #[arg(long)]
        reason: String,
    },
    /// Let a held transfer go on.
    Resume {
        /// The transfer.
        transfer: String,
        /// Why, without names.
        #[arg(long)]
        reason: String,
    },
    /// End a transfer that is not complete.
    Cancel {
        /// The transfer.
        transfer: String,
        /// Why, without names.
        #[arg(long)]
        reason: String,
    },
}

impl TransfersCommand {
    pub(super) async fn run(self, app: &App) -> Result<()> {
        let mut transfers = app.client()?.transfers();
        let transfer = match self {
            Self::List { all } => return list(app, all).await,
            Self::Pause { transfer, reason } => {
                let request = PauseTransferRequest { transfer_id: transfer, reason };
                answer(transfers.pause_transfer(request)).await?.transfer
            }
            Self::Resume { transfer, reason } => {
                let request = ResumeTransferRequest { transfer_id: transfer, reason };
                answer(transfers.resume_transfer(request)).await?.transfer
            }
            Self::Cancel { transfer, reason } => {
                let request = CancelTransferRequest { transfer_id: transfer, reason };
                answer(transfers.cancel_transfer(request)).await?.transfer
            }
        };
        show(app, &transfer.unwrap_or_default())
    }
}

async fn list(app: &App, include_resting: bool) -> Result<()> {
    let request = ListTransfersRequest { include_resting };
    let response = answer(app.client()?.transfers().list_transfers(request)).await?;
    app.out.answer(
        || json::of("domicile.transfer.v1.ListTransfersResponse", &response),
        || {
            let rows: Vec<_> = response
                .transfers
                .iter()
                .map(|transfer| {
                    let progress = transfer.progress.unwrap_or_default();
                    vec![
                        transfer.transfer_id.clone(),
                        format!("{} to {}", transfer.source, transfer.destination),
                        state_name(transfer.state()).to_owned(),
                        format!("{}/{}", progress.rows_done, progress.rows_total),
                        text::size(progress.bytes_done),
                        transfer.freezes.to_string(),
                        if transfer.paused { "held" } else { "" }.to_owned(),
                        transfer.stuck_cause.clone(),
                        text::time(transfer.changed_at_micros),
                    ]
                })
                .collect();
            let headings =
                ["transfer", "from, to", "state", "rows", "copied", "freezes", "held", "stuck", "changed"];
            text::table(&headings, &rows)
        },
    )
}

/// The health service's name for a region's audit log.
const AUDIT: &str = "domicile.audit";
/// How long a region may take to say how it is.
const WAIT: Duration = Duration::from_secs(5);

/// A part's state: well, not well, or why it does not say.
fn word(error: Option<Error>, well: &str) -> String {
    match error {
        None => well.to_owned(),
        Some(error) if error.code() == Code::StoreUnavailable => format!("not {well}"),
        Some(error) => error.code().as_str().to_owned(),
    }
}

/// Asks every region of the deployment, or the one named, whether it serves and whether its audit log is signed.
pub(super) async fn health(app: &App) -> Result<()> {
    let regions = match (&app.global.region, &app.global.endpoint) {
        (None, None) => ClientFile::read(&app.folder()?)?.regions.into_keys().collect(),
        _ => Vec::from([app.place()?.name]),
    };
    let mut rows = Vec::new();
    for region in regions {
        let place = if app.global.endpoint.is_some() { app.place()? } else { app.place_of(&region)? };
        let client = Client::new(&place)?;
        let state = word(client.health(WAIT).await.err(), "serving");
        // The log of a region that does not answer is not asked for.
        let log = match state.as_str() {
            "serving" => word(client.health_of(AUDIT, WAIT).await.err(), "signed"),
            _ => String::new(),
        };
        rows.push([region, state, log]);
    }
    app.out.answer(
        || {
            let shown = |[region, state, log]: &[String; 3]| json!({ "region": region, "state": state, "audit_log": log });
            rows.iter().map(shown).collect::<Value>()
        },
        || {
            let rows: Vec<_> = rows.iter().map(|row| row.to_vec()).collect();
            text::table(&["region", "state", "audit log"], &rows)
        },
    )?;
    let silent = rows.iter().any(|[_, state, log]| state != "serving" || log != "signed");
    if silent {
        Err(Failure::Status(crate::failure::exit_code(Code::StoreUnavailable.class())))
    } else {
        Ok(())
    }
}
