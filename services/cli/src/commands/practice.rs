//! Practices.

use std::path::PathBuf;

use clap::Subcommand;
use domicile_proto::identity::v1::{
    AcceptEnrolmentRequest, CreatePracticeRequest, Enrolment, GetEnrolmentRequest, SignAgreementRequest,
};
use serde_json::Value;

use crate::app::App;
use crate::client::answer;
use crate::failure::{Failure, Result};
use crate::{files, json, text};

const ENROLMENT: &str = "domicile.identity.v1.Enrolment";

/// Practices.
#[derive(Subcommand, Debug)]
pub enum PracticeCommand {
    /// For operators: create a practice and its first administrator.
    Create {
        /// The practice's name.
        #[arg(long)]
        name: String,
        /// The administrator's e-mail address.
        #[arg(long)]
        admin_email: String,
        /// The administrator's name.
        #[arg(long)]
        admin_name: String,
        /// Who decides about the data: the practice (`controller`), or the region's `operator`.
        #[arg(long, default_value = "controller", value_parser = ["controller", "operator"])]
        data_role: String,
    },
    /// For administrators: sign the region's agreement, before the first client is stored.
    Agree {
        /// The agreement's version, as the region's policy names it.
        version: String,
    },
    /// Fetch your practice's enrolment, signed by this region, for other regions.
    #[command(after_help = "\
Examples:
  domicile --region eu practice enrolment --destinations ca --out practice.enrolment
  domicile --region ca practice accept-enrolment practice.enrolment")]
    Enrolment {
        /// The practice; your own when left out.
        #[arg(long, value_name = "PRACTICE")]
        practice: Option<String>,
        /// Regions the practice has an agreement and a standing instruction for.
        #[arg(long, value_delimiter = ',', required = true)]
        destinations: Vec<String>,
        /// Where to write it; `-` for standard output.
        #[arg(long, default_value = "-")]
        out: PathBuf,
    },
    /// For operators: accept an enrolment from the practice's home region.
    AcceptEnrolment {
        /// The enrolment's file; `-` for standard input.
        file: PathBuf,
    },
}

impl PracticeCommand {
    pub(super) async fn run(self, app: &App) -> Result<()> {
        match self {
            Self::Create { name, admin_email, admin_name, data_role } => {
                create(app, CreatePracticeRequest { name, admin_email, admin_name, data_role }).await
            }
            Self::Agree { version } => agree(app, version).await,
            Self::Enrolment { practice, destinations, out } => {
                let practice_id = practice.unwrap_or_default();
                enrolment(app, GetEnrolmentRequest { practice_id, destinations }, out).await
            }
            Self::AcceptEnrolment { file } => accept(app, file).await,
        }
    }
}

async fn create(app: &App, request: CreatePracticeRequest) -> Result<()> {
    let response = answer(app.client()?.identity().create_practice(request)).await?;
    app.out.answer(
        || json::of("domicile.identity.v1.CreatePracticeResponse", &response),
        || {
            text::fields(&[
                ("practice", response.practice_id.clone()),
                ("administrator", response.admin_account_id.clone()),
                ("invitation", response.invitation.clone()),
            ])
        },
    )
}

async fn agree(app: &App, version: String) -> Result<()> {
    let response = answer(app.client()?.identity().sign_agreement(SignAgreementRequest { version })).await?;
    app.out.answer(
        || json::of("domicile.identity.v1.SignAgreementResponse", &response),
        || format!("Signed {}.", text::time(response.signed_at_micros)),
    )
}

async fn enrolment(app: &App, request: GetEnrolmentRequest, out: PathBuf) -> Result<()> {
    let response = answer(app.client()?.identity().get_enrolment(request)).await?;
    let enrolment = response.enrolment.unwrap_or_default();
    let content = json::of(ENROLMENT, &enrolment).to_string();
    if files::is_standard(&out) {
        return app.out.bytes(format!("{content}\n").as_bytes());
    }
    files::write(&out, content.as_bytes())?;
    app.out.answer(|| serde_json::json!({ "file": out }), || format!("Wrote {}.", out.display()))
}

async fn accept(app: &App, file: PathBuf) -> Result<()> {
    let content = files::read(&file)?;
    let value: Value = serde_json::from_slice(&content)
        .map_err(|_| Failure::Usage(format!("{}: not an enrolment", file.display())))?;
    let enrolment: Enrolment = json::parse(ENROLMENT, &value)?;
    let request = AcceptEnrolmentRequest { enrolment: Some(enrolment) };
    let response = answer(app.client()?.identity().accept_enrolment(request)).await?;
    app.out.answer(
        || json::of("domicile.identity.v1.AcceptEnrolmentResponse", &response),
        || {
            let rows: Vec<_> = response
                .invitations
                .iter()
                .map(|invitation| vec![invitation.account_id.clone(), invitation.code.clone()])
                .collect();
            let known = format!("Practice {} is known here.\n", response.practice_id);
            if rows.is_empty() { known } else { known + &text::table(&["account", "invitation"], &rows) }
        },
    )
}
