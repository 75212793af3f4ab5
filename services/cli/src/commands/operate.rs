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

/// Asks every region of the deployment, or the one named, whether it serves.
pub(super) async fn health(app: &App) -> Result<()> {
    let regions = match (&app.global.region, &app.global.endpoint) {
        (None, None) => ClientFile::read(&app.folder()?)?.regions.into_keys().collect(),
        _ => Vec::from([app.place()?.name]),
    };
    let mut rows: Vec<(String, Option<Error>)> = Vec::new();
    for region in regions {
        let place = if app.global.endpoint.is_some() { app.place()? } else { app.place_of(&region)? };
        let answered = Client::new(&place)?.health(Duration::from_secs(5)).await;
        rows.push((region, answered.err()));
    }
    let state = |error: &Option<Error>| error.as_ref().map_or("serving", |error| error.code().as_str());
    app.out.answer(
        || {
            rows.iter()
                .map(|(region, error)| json!({ "region": region, "state": state(error) }))
                .collect::<Value>()
        },
        || {
            let rows: Vec<_> =
                rows.iter().map(|(region, error)| vec![region.clone(), state(error).to_owned()]).collect();
            text::table(&["region", "state"], &rows)
        },
    )?;
    let silent = rows.iter().any(|(_, error)| error.is_some());
    if silent {
        Err(Failure::Status(crate::failure::exit_code(Code::StoreUnavailable.class())))
    } else {
        Ok(())
    }
}
