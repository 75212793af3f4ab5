//! Items and records.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use domicile_proto::records::v1::{
    GetItemRequest, GetSummaryRequest, ItemDraft, ItemHeader, ListItemsRequest, ListVersionsRequest, Payload,
    PutItemRequest, PutJointItemRequest,
};
use serde_json::{Value, json};

use crate::app::App;
use crate::client::{answer, patiently};
use crate::failure::{Failure, Result};
use crate::{files, json, text, when};

const PAYLOAD: &str = "domicile.records.v1.Payload";
/// How long a write waits for a frozen record before it gives up.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(10);

/// Items.
#[derive(Subcommand, Debug)]
pub enum ItemCommand {
    /// Write an item: a new one, or a new version of one.
    #[command(after_help = "\
The content is JSON of the kind's message and comes from a file or standard input, never from the
command line. A write that meets a record held still for a move is repeated by itself.

Examples:
  echo '{\"title\":\"First session\",\"text\":\"…\"}' | domicile item put note --subject $RECORD
  domicile item put note --subject $RECORD --item $ITEM --based-on 1 --state signed --from note.json")]
    Put(PutArgs),
    /// Read an item, the newest version or a named one.
    Get {
        /// The item.
        item: String,
        /// The version; the newest when left out.
        #[arg(long, default_value_t = 0)]
        version: u32,
        /// The record; your own when left out.
        #[arg(long, value_name = "RECORD")]
        subject: Option<String>,
    },
    /// List items, newest first.
    List(ListArgs),
    /// List every version of an item, newest first.
    Versions {
        /// The item.
        item: String,
        /// The record; your own when left out.
        #[arg(long, value_name = "RECORD")]
        subject: Option<String>,
    },
}

/// What is written.
#[derive(Args, Debug)]
pub struct PutArgs {
    /// The kind, such as `note`.
    kind: String,
    /// The record; your own when left out. Several records make a joint session.
    #[arg(long, value_name = "RECORD")]
    subject: Vec<String>,
    /// The content, a JSON file; `-` for standard input.
    #[arg(long, value_name = "FILE", default_value = "-")]
    from: PathBuf,
    /// The item to write a new version of.
    #[arg(long, requires = "based_on")]
    item: Option<String>,
    /// The version the change is based on.
    #[arg(long, requires = "item", default_value_t = 0)]
    based_on: u32,
    /// The item this one hangs on.
    #[arg(long)]
    parent: Option<String>,
    /// The state to bring it to, such as `signed`.
    #[arg(long, default_value = "")]
    state: String,
    /// Who sees it: shared, practitioner, client_private or psychotherapy.
    #[arg(long, default_value = "")]
    visibility: String,
    /// When it happened; now when left out.
    #[arg(long, value_name = "TIME")]
    occurred: Option<String>,
    /// When it starts.
    #[arg(long, value_name = "TIME")]
    starts: Option<String>,
    /// When it ends.
    #[arg(long, value_name = "TIME")]
    ends: Option<String>,
    /// Repeat a write under its first key; a fresh one when left out.
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
}

/// Which items.
#[derive(Args, Debug)]
pub struct ListArgs {
    /// The record; your own when left out.
    #[arg(long, value_name = "RECORD")]
    subject: Option<String>,
    /// Only this kind.
    #[arg(long, default_value = "")]
    kind: String,
    /// At most this many, 1 to 500.
    #[arg(long, default_value_t = 50)]
    limit: u32,
    /// Go on after this page.
    #[arg(long, value_name = "TOKEN", default_value = "")]
    after: String,
    /// With content.
    #[arg(long)]
    payloads: bool,
}

/// A record as a whole.
#[derive(Subcommand, Debug)]
pub enum RecordCommand {
    /// What the record holds, by kind, and how it stands.
    Summary {
        /// The record; your own when left out.
        #[arg(long, value_name = "RECORD")]
        subject: Option<String>,
    },
}

impl ItemCommand {
    pub(super) async fn run(self, app: &App) -> Result<()> {
        match self {
            Self::Put(args) => put(app, args).await,
            Self::Get { item, version, subject } => get(app, item, version, subject).await,
            Self::List(args) => list(app, args).await,
            Self::Versions { item, subject } => versions(app, item, subject).await,
        }
    }
}

/// Reads a kind's content as a payload.
fn payload(kind: &str, content: &[u8]) -> Result<Payload> {
    if json::kind_message(kind).is_none() {
        return Err(Failure::Usage(format!("no such kind; there are {}", json::kinds().join(", "))));
    }
    let content: Value =
        serde_json::from_slice(content).map_err(|_| Failure::Usage("the content is not JSON".to_owned()))?;
    json::parse(PAYLOAD, &json!({ kind: content }))
}

fn draft(app: &App, args: &PutArgs) -> Result<ItemDraft> {
    let now = app.ctx.now();
    Ok(ItemDraft {
        item_id: args.item.clone().unwrap_or_default(),
        based_on_version: args.based_on,
        parent_id: args.parent.clone().unwrap_or_default(),
        occurred_at_micros: when::optional(args.occurred.as_ref(), now)?,
        starts_at_micros: when::optional(args.starts.as_ref(), now)?,
        ends_at_micros: when::optional(args.ends.as_ref(), now)?,
        state: args.state.clone(),
        visibility: args.visibility.clone(),
        payload: Some(payload(&args.kind, &files::read(&args.from)?)?),
    })
}

async fn put(app: &App, args: PutArgs) -> Result<()> {
    if args.subject.len() > 1 {
        return put_joint(app, args).await;
    }
    let client = app.client()?;
    let request = PutItemRequest {
        subject_id: app.subject(args.subject.first())?,
        idempotency_key: app.key(args.idempotency_key.as_ref()),
        draft: Some(draft(app, &args)?),
    };
    let response = patiently(PATIENCE, || {
        let (mut records, request) = (client.records(), request.clone());
        async move { answer(records.put_item(request)).await }
    })
    .await?;
    let header = response.header.unwrap_or_default();
    app.out.answer(|| header_json(&header), || header_text(&header))
}

async fn put_joint(app: &App, args: PutArgs) -> Result<()> {
    let request = PutJointItemRequest {
        subject_ids: args.subject.clone(),
        idempotency_key: app.key(args.idempotency_key.as_ref()),
        draft: Some(draft(app, &args)?),
    };
    let response = answer(app.client()?.records().put_joint_item(request)).await?;
    app.out.answer(
        || json::of("domicile.records.v1.PutJointItemResponse", &response),
        || {
            let rows: Vec<_> = response
                .results
                .iter()
                .map(|result| {
                    let item = result.header.as_ref().map(|header| header.item_id.clone());
                    let failed = format!("{} {}", result.error_code, result.moved_to);
                    vec![result.subject_id.clone(), item.unwrap_or_else(|| failed.trim_end().to_owned())]
                })
                .collect();
            format!("occasion {}\n{}", response.occasion_id, text::table(&["record", "item"], &rows))
        },
    )
}

async fn get(app: &App, item_id: String, version: u32, subject: Option<String>) -> Result<()> {
    let request = GetItemRequest { subject_id: app.subject(subject.as_ref())?, item_id, version };
    let response = answer(app.client()?.records().get_item(request)).await?;
    let item = response.item.unwrap_or_default();
    app.out.answer(
        || json::of("domicile.records.v1.Item", &item),
        || {
            let header = item.header.as_ref().map(header_text).unwrap_or_default();
            let payload = item.payload.as_ref().map(|payload| json::of(PAYLOAD, payload)).unwrap_or_default();
            format!("{header}\n{}", content(&payload))
        },
    )
}

/// A payload's fields as people read them.
fn content(payload: &Value) -> String {
    let Some(fields) = payload.as_object().and_then(|kinds| kinds.values().next()).and_then(Value::as_object)
    else {
        return String::new();
    };
    let pairs: Vec<_> = fields
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str().map_or_else(|| value.to_string(), text::safe)))
        .collect();
    text::fields(&pairs)
}

async fn list(app: &App, args: ListArgs) -> Result<()> {
    let request = ListItemsRequest {
        subject_id: app.subject(args.subject.as_ref())?,
        kind: args.kind,
        page_size: args.limit,
        page_token: args.after,
        with_payloads: args.payloads,
    };
    let response = answer(app.client()?.records().list_items(request)).await?;
    app.out.answer(
        || json::of("domicile.records.v1.ListItemsResponse", &response),
        || {
            let headers = response.items.iter().filter_map(|item| item.header.as_ref());
            let mut text = table(headers);
            if !response.next_page_token.is_empty() {
                text.push_str(&format!("More: --after {}\n", response.next_page_token));
            }
            text
        },
    )
}

async fn versions(app: &App, item_id: String, subject: Option<String>) -> Result<()> {
    let request = ListVersionsRequest { subject_id: app.subject(subject.as_ref())?, item_id };
    let response = answer(app.client()?.records().list_versions(request)).await?;
    app.out.answer(
        || json::of("domicile.records.v1.ListVersionsResponse", &response),
        || table(response.versions.iter()),
    )
}

fn table<'a>(headers: impl Iterator<Item = &'a ItemHeader>) -> String {
    let rows: Vec<_> = headers
        .map(|header| {
            vec![
                header.item_id.clone(),
                header.kind.clone(),
                header.version.to_string(),
                header.state.clone(),
                header.visibility.clone(),
                text::time(header.occurred_at_micros),
                text::size(header.bytes),
            ]
        })
        .collect();
    text::table(&["item", "kind", "version", "state", "visibility", "occurred", "size"], &rows)
}

fn header_json(header: &ItemHeader) -> Value {
    json::of("domicile.records.v1.ItemHeader", header)
}

fn header_text(header: &ItemHeader) -> String {
    text::fields(&[
        ("item", header.item_id.clone()),
        ("kind", header.kind.clone()),
        ("version", header.version.to_string()),
        ("revision", header.revision.to_string()),
        ("state", header.state.clone()),
        ("visibility", header.visibility.clone()),
        ("occurred", text::time(header.occurred_at_micros)),
        ("starts", text::time(header.starts_at_micros)),
        ("ends", text::time(header.ends_at_micros)),
        ("signed", text::time(header.signed_at_micros)),
        ("keep until", text::time(header.retain_until_micros)),
        ("author", header.author_id.clone()),
        ("practitioner", header.practitioner_id.clone()),
        ("practice", header.practice_id.clone()),
        ("parent", header.parent_id.clone()),
        ("occasion", header.occasion_id.clone()),
    ])
}

impl RecordCommand {
    pub(super) async fn run(self, app: &App) -> Result<()> {
        let Self::Summary { subject } = self;
        let request = GetSummaryRequest { subject_id: app.subject(subject.as_ref())? };
        let response = answer(app.client()?.records().get_summary(request)).await?;
        app.out.answer(
            || json::of("domicile.records.v1.GetSummaryResponse", &response),
            || {
                let rows: Vec<_> = response
                    .kinds
                    .iter()
                    .map(|kind| {
                        let sizes = [kind.items, kind.versions].map(|count| count.to_string());
                        let [items, versions] = sizes;
                        vec![kind.kind.clone(), items, versions, text::size(kind.bytes)]
                    })
                    .collect();
                let head = text::fields(&[
                    ("standing", response.standing.clone()),
                    ("epoch", response.epoch.to_string()),
                    ("revision", response.revision.to_string()),
                    ("region chosen by", response.region_choice.clone()),
                ]);
                format!("{head}\n{}", text::table(&["kind", "items", "versions", "size"], &rows))
            },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_is_checked_before_it_is_sent() {
        assert!(payload("note", br#"{"title":"t","text":"x"}"#).is_ok());
        for (kind, content) in [("diary", "{}"), ("note", "[]"), ("note", "{"), ("note", r#"{"titel":"x"}"#)]
        {
            assert_eq!(payload(kind, content.as_bytes()).err().unwrap().exit_code(), 2);
        }
    }
}
