//! Filling a record, and reading all of it back.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use domicile_cli::app::fresh_key;
use domicile_cli::client::{answer, patiently};
use domicile_cli::failure::{Failure, Result};
use domicile_cli::{Client, upload};
use domicile_proto::records::v1::payload::Kind;
use domicile_proto::records::v1::{
    Attachment, ChatMessage, DownloadObjectRequest, ExportFhirRequest, Goal, ImportHeader, Item, ItemDraft,
    ListItemsRequest, Message, Note, Payload, PutItemRequest, Reflection, Session, UploadHeader,
};
use domicile_types::{Ctx, Error};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// Requests under way at a time.
const AT_ONCE: usize = 16;
/// How long one write may wait for its turn.
const PATIENCE: Duration = Duration::from_secs(30);
/// Items of one page when reading back.
const PAGE: u32 = 200;

/// Everything a practitioner and the client see of a record, by item id.
pub(super) type Snapshot = BTreeMap<String, Item>;

/// An attachment as it went up.
pub(super) struct Upload {
    pub(super) item: String,
    pub(super) content: Bytes,
}

/// A bundle as it went in.
pub(super) struct Imported {
    pub(super) item: String,
    pub(super) resources: u32,
    pub(super) bundle: serde_json::Value,
}

/// Writes `count` items, the practitioner's and the client's own, several at a time; `tick` after each.
pub(super) async fn fill(
    (practitioner, person): (&Client, &Client),
    subject: &str,
    count: u64,
    ctx: &Ctx,
    tick: impl Fn(),
) -> Result<()> {
    let free = Arc::new(Semaphore::new(AT_ONCE));
    let mut writes = JoinSet::new();
    for number in 0..count {
        let (own, draft) = draft(number, ctx);
        let client = if own { person.clone() } else { practitioner.clone() };
        let request = PutItemRequest {
            subject_id: subject.to_owned(),
            idempotency_key: fresh_key(ctx),
            draft: Some(draft),
        };
        let free = Arc::clone(&free);
        writes.spawn(async move {
            let _turn = free.acquire().await;
            put(&client, request).await
        });
    }
    while let Some(written) = writes.join_next().await {
        written.map_err(|_| Failure::local("a write ended early", "Report this."))??;
        tick();
    }
    Ok(())
}

/// Writes an item, waiting while the region asks to wait.
pub(super) async fn put(client: &Client, request: PutItemRequest) -> Result<Item, Error> {
    let payload = request.draft.as_ref().and_then(|draft| draft.payload.clone());
    let response = patiently(PATIENCE, || {
        let (mut records, request) = (client.records(), request.clone());
        async move { answer(records.put_item(request)).await }
    });
    Ok(Item { header: response.await?.header, payload })
}

/// The item of a number, and whether it is the client's own.
fn draft(number: u64, ctx: &Ctx) -> (bool, ItemDraft) {
    const WEEK: i64 = 7 * 24 * 3_600 * 1_000_000;
    let week = i64::try_from(number / 6).unwrap_or(0);
    let occurred_at_micros = ctx.now().micros().saturating_sub(WEEK.saturating_mul(week));
    let text = format!("Made-up words number {number}. {}", "They stand for what was said. ".repeat(15));
    let (own, kind) = match number % 6 {
        0 => (false, Kind::Session(Session { modality: "video".to_owned(), summary: text })),
        1 => (false, Kind::Note(Note { title: format!("Session {week}"), text, template: String::new() })),
        2 => (true, Kind::Reflection(Reflection { text })),
        3 => (false, Kind::ChatMessage(ChatMessage { text })),
        4 => (false, Kind::Goal(Goal { text })),
        _ => (true, Kind::Message(Message { title: format!("Question {week}"), text })),
    };
    (
        own,
        ItemDraft { occurred_at_micros, payload: Some(Payload { kind: Some(kind) }), ..ItemDraft::default() },
    )
}

/// Uploads an attachment of `length` random bytes.
pub(super) async fn attach(
    client: &Client,
    subject: &str,
    name: &str,
    length: usize,
    ctx: &Ctx,
) -> Result<Upload> {
    let mut content = vec![0_u8; length];
    ctx.rng.fill(&mut content);
    let content = Bytes::from(content);
    let attachment = Attachment {
        file_name: name.to_owned(),
        media_type: "application/octet-stream".to_owned(),
        object: None,
    };
    let header = UploadHeader {
        subject_id: subject.to_owned(),
        idempotency_key: fresh_key(ctx),
        length: content.len() as u64,
        sha256: domicile_evidence::sha256(&content).to_vec(),
        draft: Some(ItemDraft {
            payload: Some(Payload { kind: Some(Kind::Attachment(attachment)) }),
            ..ItemDraft::default()
        }),
    };
    let response = upload::upload(client, header, upload::pieces(&content)).await?;
    let item = response.header.map(|header| header.item_id).unwrap_or_default();
    Ok(Upload { item, content })
}

/// Downloads an attachment and says whether it is what went up.
pub(super) async fn same_upload(client: &Client, subject: &str, uploaded: &Upload) -> Result<bool> {
    let request = DownloadObjectRequest { subject_id: subject.to_owned(), item_id: uploaded.item.clone() };
    let mut content = Vec::with_capacity(uploaded.content.len());
    upload::download(
        client,
        request,
        |_| {},
        |piece| {
            content.extend_from_slice(piece);
            Ok(())
        },
    )
    .await?;
    Ok(content == uploaded.content)
}

/// Imports a FHIR bundle from a file.
pub(super) async fn import(client: &Client, subject: &str, file: &Path, ctx: &Ctx) -> Result<Imported> {
    let content = std::fs::read(file).map_err(|cause| Failure::file(file, &cause))?;
    let bundle = serde_json::from_slice(&content)
        .map_err(|_| Failure::Usage(format!("{}: not a FHIR bundle in JSON", file.display())))?;
    let header = ImportHeader { subject_id: subject.to_owned(), idempotency_key: fresh_key(ctx) };
    let client = client.with_deadline(Duration::from_secs(120));
    let response = upload::import_fhir(&client, header, &Bytes::from(content)).await?;
    Ok(Imported { item: response.bundle_item_id, resources: response.resources, bundle })
}

/// Exports an imported bundle and says whether it is, as a JSON value, what went in.
pub(super) async fn same_bundle(client: &Client, subject: &str, imported: &Imported) -> Result<bool> {
    let request = ExportFhirRequest { subject_id: subject.to_owned(), bundle_item_id: imported.item.clone() };
    let mut content = Vec::new();
    upload::export_fhir(client, request, |piece| {
        content.extend_from_slice(piece);
        Ok(())
    })
    .await?;
    Ok(serde_json::from_slice::<serde_json::Value>(&content).is_ok_and(|bundle| bundle == imported.bundle))
}

/// Everything the practitioner and the client see of a record, content included.
pub(super) async fn snapshot(readers: [&Client; 2], subject: &str) -> Result<Snapshot> {
    let mut seen = Snapshot::new();
    for reader in readers {
        let mut page_token = String::new();
        loop {
            let request = ListItemsRequest {
                subject_id: subject.to_owned(),
                kind: String::new(),
                page_size: PAGE,
                page_token,
                with_payloads: true,
            };
            let page = answer(reader.records().list_items(request)).await?;
            for item in page.items {
                let id = item.header.as_ref().map(|header| header.item_id.clone()).unwrap_or_default();
                seen.insert(id, item);
            }
            page_token = page.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
    }
    Ok(seen)
}

/// How many of the items `expected` are not in `found` with the same header and the same content. How
/// long an item is kept may only have grown: the longer of both regions' rules counts.
pub(super) fn differences(expected: &Snapshot, found: &Snapshot) -> usize {
    expected.iter().filter(|(id, item)| !found.get(*id).is_some_and(|found| same(item, found))).count()
}

fn same(expected: &Item, found: &Item) -> bool {
    let (Some(before), Some(after)) = (&expected.header, &found.header) else { return false };
    let mut before = before.clone();
    let kept = after.retain_until_micros >= before.retain_until_micros;
    before.retain_until_micros = after.retain_until_micros;
    kept && before == *after && expected.payload == found.payload
}
