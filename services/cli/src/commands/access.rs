//! Who may see a record.

use clap::Subcommand;
use domicile_proto::records::v1::{
    CloseCareRequest, GrantAccessRequest, ListAccessRequest, ListAccessResponse, OpenCareRequest,
    RevokeGrantRequest,
};
use serde_json::json;

use crate::app::App;
use crate::client::answer;
use crate::failure::Result;
use crate::{json, text, when};

/// Who may see a record.
#[derive(Subcommand, Debug)]
pub enum AccessCommand {
    /// Grant a practitioner access beyond the caseload, for a time.
    Grant {
        /// The practitioner's account.
        practitioner: String,
        /// Until when: a time, or a span such as `30d`.
        #[arg(long, value_name = "TIME")]
        until: String,
        /// One item only.
        #[arg(long)]
        item: Option<String>,
        /// The record; your own when left out.
        #[arg(long, value_name = "RECORD")]
        subject: Option<String>,
    },
    /// End a grant.
    Revoke {
        /// The grant.
        grant: String,
        /// The record; your own when left out.
        #[arg(long, value_name = "RECORD")]
        subject: Option<String>,
    },
    /// List care relationships and grants.
    List {
        /// The record; your own when left out.
        #[arg(long, value_name = "RECORD")]
        subject: Option<String>,
    },
    /// Add a practitioner to the client's care.
    OpenCare {
        /// The practitioner's account.
        practitioner: String,
        /// The record; your own when left out.
        #[arg(long, value_name = "RECORD")]
        subject: Option<String>,
    },
    /// End a care relationship.
    CloseCare {
        /// The practitioner's account.
        practitioner: String,
        /// The record; your own when left out.
        #[arg(long, value_name = "RECORD")]
        subject: Option<String>,
    },
}

impl AccessCommand {
    pub(super) async fn run(self, app: &App) -> Result<()> {
        let mut records = app.client()?.records();
        match self {
            Self::Grant { practitioner, until, item, subject } => {
                let request = GrantAccessRequest {
                    subject_id: app.subject(subject.as_ref())?,
                    practitioner_id: practitioner,
                    item_id: item.unwrap_or_default(),
                    expires_at_micros: when::instant(&until, app.ctx.now())?,
                };
                let grant = answer(records.grant_access(request)).await?.grant_id;
                app.out.answer(|| json!({ "grant_id": grant }), || format!("grant  {grant}"))
            }
            Self::Revoke { grant, subject } => {
                let subject_id = app.subject(subject.as_ref())?;
                answer(records.revoke_grant(RevokeGrantRequest { subject_id, grant_id: grant })).await?;
                app.out.answer(|| json!({ "revoked": true }), || "The grant has ended.".to_owned())
            }
            Self::List { subject } => {
                let subject_id = app.subject(subject.as_ref())?;
                let response = answer(records.list_access(ListAccessRequest { subject_id })).await?;
                let value = || json::of("domicile.records.v1.ListAccessResponse", &response);
                app.out.answer(value, || list_text(&response))
            }
            Self::OpenCare { practitioner, subject } => {
                let subject_id = app.subject(subject.as_ref())?;
                answer(records.open_care(OpenCareRequest { subject_id, practitioner_id: practitioner }))
                    .await?;
                app.out.answer(|| json!({ "open": true }), || "The care relationship is open.".to_owned())
            }
            Self::CloseCare { practitioner, subject } => {
                let subject_id = app.subject(subject.as_ref())?;
                answer(records.close_care(CloseCareRequest { subject_id, practitioner_id: practitioner }))
                    .await?;
                app.out.answer(|| json!({ "open": false }), || "The care relationship has ended.".to_owned())
            }
        }
    }
}

fn list_text(response: &ListAccessResponse) -> String {
    let care: Vec<_> = response
        .care
        .iter()
        .map(|care| {
            let (from, to) = (text::time(care.started_at_micros), text::time(care.ended_at_micros));
            vec![care.practitioner_id.clone(), care.practice_id.clone(), from, to]
        })
        .collect();
    let grants: Vec<_> = response
        .grants
        .iter()
        .map(|grant| {
            let scope = if grant.item_id.is_empty() { "record".to_owned() } else { grant.item_id.clone() };
            let (until, ended) = (text::time(grant.expires_at_micros), text::time(grant.revoked_at_micros));
            vec![grant.grant_id.clone(), grant.practitioner_id.clone(), scope, until, ended]
        })
        .collect();
    let mut out = text::table(&["in care of", "practice", "since", "ended"], &care);
    if !grants.is_empty() {
        out.push('\n');
        out.push_str(&text::table(&["grant", "practitioner", "to", "until", "revoked"], &grants));
    }
    out
}
