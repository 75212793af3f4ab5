//! Large content.

use std::io::{Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{Context, Digest, SHA256};
use bytes::Bytes;
use clap::{Args, Subcommand};
use domicile_proto::records::v1::{
    Attachment, DownloadHeader, DownloadObjectRequest, ItemDraft, Payload, UploadHeader, VoiceNote,
    payload::Kind,
};
use domicile_types::{Code, Error};
use indicatif::ProgressBar;
use serde_json::json;
use tokio_stream::wrappers::ReceiverStream;

use crate::app::App;
use crate::failure::{Failure, Result};
use crate::{files, json, progress, text, upload};

/// Large content.
#[derive(Subcommand, Debug)]
pub enum ObjectCommand {
    /// Upload a file as an attachment, or as a voice note.
    Upload(UploadArgs),
    /// Download an object's content.
    Download {
        /// The item that describes it.
        item: String,
        /// Where to write it; `-` for standard output.
        #[arg(long)]
        out: PathBuf,
        /// The record; your own when left out.
        #[arg(long, value_name = "RECORD")]
        subject: Option<String>,
    },
}

/// What is uploaded.
#[derive(Args, Debug)]
pub struct UploadArgs {
    /// The file.
    file: PathBuf,
    /// The record; your own when left out.
    #[arg(long, value_name = "RECORD")]
    subject: Option<String>,
    /// Its media type.
    #[arg(long, default_value = "application/octet-stream")]
    media_type: String,
    /// It is a voice note of this many milliseconds.
    #[arg(long, value_name = "MS")]
    voice_note_ms: Option<u32>,
    /// The item it hangs on.
    #[arg(long)]
    parent: Option<String>,
    /// Who sees it.
    #[arg(long, default_value = "")]
    visibility: String,
    /// Repeat an upload under its first key; a fresh one when left out.
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
}

impl ObjectCommand {
    pub(super) async fn run(self, app: &App) -> Result<()> {
        match self {
            Self::Upload(args) => put(app, args).await,
            Self::Download { item, out, subject } => get(app, item, &out, subject).await,
        }
    }
}

/// The file's length and SHA-256; the file is left at its beginning.
fn measure(file: &mut std::fs::File, path: &Path) -> Result<(u64, Digest)> {
    let failed = |cause| Failure::file(path, &cause);
    let mut digest = Context::new(&SHA256);
    let mut buffer = vec![0_u8; upload::PIECE];
    let mut length = 0_u64;
    loop {
        let read = file.read(&mut buffer).map_err(failed)?;
        let Some(part) = buffer.get(..read).filter(|part| !part.is_empty()) else { break };
        digest.update(part);
        length += part.len() as u64;
    }
    file.rewind().map_err(failed)?;
    Ok((length, digest.finish()))
}

async fn put(app: &App, args: UploadArgs) -> Result<()> {
    let client = app.client()?.with_deadline(std::time::Duration::from_secs(600));
    let mut file = std::fs::File::open(&args.file).map_err(|cause| Failure::file(&args.file, &cause))?;
    let (length, sha256) = measure(&mut file, &args.file)?;
    let header = UploadHeader {
        subject_id: app.subject(args.subject.as_ref())?,
        idempotency_key: app.key(args.idempotency_key.as_ref()),
        length,
        sha256: sha256.as_ref().to_vec(),
        draft: Some(ItemDraft {
            parent_id: args.parent.clone().unwrap_or_default(),
            visibility: args.visibility.clone(),
            payload: Some(payload(&args)),
            ..ItemDraft::default()
        }),
    };
    let bar = progress::bytes(length, "upload", app.out.draws());
    let response = upload::upload(&client, header, read_pieces(file, bar.clone())).await;
    bar.finish_and_clear();
    let response = response?;
    app.out.answer(
        || json::of("domicile.records.v1.UploadObjectResponse", &response),
        || {
            let item = response.header.as_ref().map(|header| header.item_id.clone()).unwrap_or_default();
            text::fields(&[
                ("item", item),
                ("object", response.object_id.clone()),
                ("size", text::size(length)),
            ])
        },
    )
}

fn payload(args: &UploadArgs) -> Payload {
    let media_type = args.media_type.clone();
    let kind = match args.voice_note_ms {
        Some(duration_ms) => Kind::VoiceNote(VoiceNote { media_type, duration_ms, object: None }),
        None => {
            let file_name = args.file.file_name().map(|name| name.to_string_lossy().into_owned());
            Kind::Attachment(Attachment {
                file_name: file_name.unwrap_or_default(),
                media_type,
                object: None,
            })
        }
    };
    Payload { kind: Some(kind) }
}

/// Reads a file piece by piece on a thread of its own. When reading fails the stream ends early, and
/// the region refuses the upload because its length does not fit.
fn read_pieces(mut file: std::fs::File, bar: ProgressBar) -> ReceiverStream<Bytes> {
    let (sender, receiver) = tokio::sync::mpsc::channel(4);
    tokio::task::spawn_blocking(move || {
        loop {
            let mut piece = Vec::with_capacity(upload::PIECE);
            let read = (&mut file).take(upload::PIECE as u64).read_to_end(&mut piece);
            let length = piece.len() as u64;
            if read.is_err() || length == 0 || sender.blocking_send(piece.into()).is_err() {
                return;
            }
            bar.inc(length);
        }
    });
    ReceiverStream::new(receiver)
}

async fn get(app: &App, item_id: String, out: &Path, subject: Option<String>) -> Result<()> {
    let client = app.client()?.with_deadline(std::time::Duration::from_secs(600));
    let request = DownloadObjectRequest { subject_id: app.subject(subject.as_ref())?, item_id };
    let bar = progress::bytes(0, "download", app.out.draws());
    let head = |header: &DownloadHeader| bar.set_length(header.length);
    if files::is_standard(out) {
        let written = upload::download(&client, request, head, |piece| {
            bar.inc(piece.len() as u64);
            app.out.bytes(piece).map_err(|_| Error::new(Code::Conflict).at("standard output"))
        });
        written.await?;
        return Ok(());
    }
    let mut file = files::create(out)?;
    let written = upload::download(&client, request, head, |piece| {
        bar.inc(piece.len() as u64);
        file.write_all(piece).map_err(|cause| Error::new(Code::Internal).at("file").because(cause))
    });
    let written = written.await;
    bar.finish_and_clear();
    let header = match written {
        Ok(header) => header,
        Err(error) => {
            // Half a file would look like the whole one.
            std::fs::remove_file(out).ok();
            return Err(error.into());
        }
    };
    file.sync_all().map_err(|cause| Failure::file(out, &cause))?;
    app.out.answer(
        || json!({ "file": out, "length": header.length, "sha256": hex::encode(&header.sha256) }),
        || format!("Wrote {}, {}.", out.display(), text::size(header.length)),
    )
}
