//! FHIR R4 bundles.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use clap::Subcommand;
use domicile_proto::records::v1::{ExportFhirRequest, ImportHeader};

use crate::app::App;
use crate::failure::Result;
use crate::{files, json, text, upload};

/// FHIR R4 bundles.
#[derive(Subcommand, Debug)]
pub enum FhirCommand {
    /// Import a transaction or collection bundle: all of it or nothing.
    Import {
        /// The bundle's JSON file; `-` for standard input.
        file: PathBuf,
        /// The record; your own when left out.
        #[arg(long, value_name = "RECORD")]
        subject: Option<String>,
        /// Repeat an import under its first key; a fresh one when left out.
        #[arg(long, value_name = "KEY")]
        idempotency_key: Option<String>,
    },
    /// Export an imported bundle, as it came in.
    Export {
        /// The item that stands for the bundle, as the import named it.
        bundle: String,
        /// Where to write it; `-` for standard output.
        #[arg(long, default_value = "-")]
        out: PathBuf,
        /// The record; your own when left out.
        #[arg(long, value_name = "RECORD")]
        subject: Option<String>,
    },
}

impl FhirCommand {
    pub(super) async fn run(self, app: &App) -> Result<()> {
        match self {
            Self::Import { file, subject, idempotency_key } => {
                import(app, &file, subject, app.key(idempotency_key.as_ref())).await
            }
            Self::Export { bundle, out, subject } => export(app, bundle, &out, subject).await,
        }
    }
}

async fn import(app: &App, file: &Path, subject: Option<String>, idempotency_key: String) -> Result<()> {
    let client = app.client()?.with_deadline(std::time::Duration::from_secs(600));
    let content = Bytes::from(files::read(file)?);
    let header = ImportHeader { subject_id: app.subject(subject.as_ref())?, idempotency_key };
    let response = upload::import_fhir(&client, header, &content).await?;
    app.out.answer(
        || json::of("domicile.records.v1.ImportFhirResponse", &response),
        || {
            text::fields(&[
                ("bundle", response.bundle_item_id.clone()),
                ("resources", response.resources.to_string()),
            ])
        },
    )
}

async fn export(app: &App, bundle_item_id: String, out: &Path, subject: Option<String>) -> Result<()> {
    let client = app.client()?.with_deadline(std::time::Duration::from_secs(600));
    let request = ExportFhirRequest { subject_id: app.subject(subject.as_ref())?, bundle_item_id };
    let mut content = Vec::new();
    upload::export_fhir(&client, request, |piece| {
        content.extend_from_slice(piece);
        Ok(())
    })
    .await?;
    if files::is_standard(out) {
        return app.out.bytes(&content);
    }
    files::write(out, &content)?;
    app.out.answer(
        || serde_json::json!({ "file": out, "length": content.len() }),
        || format!("Wrote {}, {}.", out.display(), text::size(content.len() as u64)),
    )
}
