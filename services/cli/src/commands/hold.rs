//! Legal holds.

use clap::Subcommand;
use domicile_proto::records::v1::SetLegalHoldRequest;
use serde_json::json;

use crate::app::App;
use crate::client::answer;
use crate::failure::Result;

/// For compliance staff: legal holds. A hold stops deletion and blocks a transfer.
#[derive(Subcommand, Debug)]
pub enum HoldCommand {
    /// Place a hold.
    Set {
        /// The record.
        subject: String,
        /// A case number, no names.
        reference: String,
    },
    /// Release a hold.
    Release {
        /// The record.
        subject: String,
        /// The case number it was placed under.
        reference: String,
    },
}

impl HoldCommand {
    pub(super) async fn run(self, app: &App) -> Result<()> {
        let (subject_id, reference, held) = match self {
            Self::Set { subject, reference } => (subject, reference, true),
            Self::Release { subject, reference } => (subject, reference, false),
        };
        let request = SetLegalHoldRequest { subject_id, reference, held };
        answer(app.client()?.records().set_legal_hold(request)).await?;
        let said = if held { "The hold stands." } else { "The hold is released." };
        app.out.answer(|| json!({ "held": held }), || said.to_owned())
    }
}
