//! A region whose records service people can call, and what tests say to it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use domicile_config::policy::Policies;
use domicile_config::{Limits, RecordSettings, TransferSettings};
use domicile_crypto::Zeroizing;
use domicile_objects::{Directory, ObjectName, ObjectStore as _};
use domicile_proto::identity::v1::CreatePractitionerRequest;
use domicile_proto::records::v1::records_service_client::RecordsServiceClient;
use domicile_proto::records::v1::{self as pb, payload};
use domicile_records::{Parts, Records, Settings, TravelReader};
use domicile_rpc::Channel;
use domicile_store::queries::item::Travelling;
use domicile_store::queries::object::Object;
use domicile_store::queries::residency::{self, Residence};
use domicile_store::{Backend, Scope};
use domicile_types::{Code, Error, ItemHeader, Result, SubjectId};
use futures::stream::BoxStream;
use prost::bytes::Bytes;
use tonic::Status;

use crate::people::People;
use crate::postgres::Failed;
use crate::region::{Bench, Practice};

/// A client of the records service.
pub type RecordsClient = RecordsServiceClient<Channel>;

/// A region with records.
pub struct RecordsBench {
    /// The region.
    pub region: Bench,
    /// The service.
    pub records: Records,
    /// The first operator's session.
    pub operator: String,
    /// The first compliance account's session.
    pub compliance: String,
    /// The listener of the records service.
    pub people: People,
    folder: tempfile::TempDir,
}

/// A client with a session.
pub struct Client {
    /// The record (UUID text).
    pub subject: String,
    /// The record.
    pub id: SubjectId,
    /// The session.
    pub token: String,
}

/// A practitioner with a session.
pub struct Carer {
    /// The account (UUID text).
    pub account: String,
    /// The session.
    pub token: String,
}

/// The folder of the regions' policies.
#[must_use]
pub fn policies() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../regions")
}

impl RecordsBench {
    /// A region of this name.
    ///
    /// # Errors
    /// When a part of it cannot be had.
    pub async fn new(name: &str, backend: Backend) -> Result<Self, Failed> {
        Self::bounded(name, backend, &RecordSettings::default(), Limits::default()).await
    }

    /// A region of this name within these bounds.
    ///
    /// # Errors
    /// When a part of it cannot be had.
    pub async fn bounded(
        name: &str,
        backend: Backend,
        bounds: &RecordSettings,
        limits: Limits,
    ) -> Result<Self, Failed> {
        let region = Bench::new(name, backend, &[]).await?;
        let folder = tempfile::tempdir().map_err(|error| Failed::Io("no temporary folder", error))?;
        let objects = Arc::new(Directory::open(folder.path(), region.store.ctx()).await?);
        let policies = Policies::load(&policies())?;
        let policy = policies.get(region.store.region())?;
        let records = Records::new(Parts {
            store: region.store.clone(),
            keyring: Arc::clone(&region.keyring),
            objects: objects.clone(),
            travel: Arc::new(Arrived(objects)),
            settings: Settings::new(&TransferSettings::default(), bounds, policy),
        });
        let server = People::bounded(&region.store, Arc::new(region.identity.clone()), limits);
        let people = People::serve(server.add_service(records.server()).await).await?;
        let [operator, compliance] = region.bootstrap().await?;
        Ok(Self { region, records, operator, compliance, people, folder })
    }

    /// The records service, with a session.
    ///
    /// # Errors
    /// For a token that cannot be sent.
    pub fn with(&self, token: &str) -> Result<RecordsClient> {
        Ok(RecordsServiceClient::new(self.people.with(token)?))
    }

    /// The object store's folder.
    #[must_use]
    pub fn objects(&self) -> &Path {
        self.folder.path()
    }

    /// A practice whose administrator is `name`, agreement signed.
    ///
    /// # Errors
    /// What the service answers.
    pub async fn practice(&self, name: &str) -> Result<Practice, Failed> {
        self.region.practice(&self.operator, &format!("{name}@practice.example")).await
    }

    /// A practitioner of the practice whose administrator has this session, signed in.
    ///
    /// # Errors
    /// What the service answers.
    pub async fn practitioner(&self, admin: &str, name: &str) -> Result<Carer, Status> {
        let email = format!("{name}@practice.example");
        let request = CreatePractitionerRequest { email: email.clone(), name: name.to_owned() };
        let mut identity =
            self.region.signed_in(admin).map_err(|error| Status::internal(error.to_string()))?;
        let created = identity.create_practitioner(request).await?.into_inner();
        let token = self.region.join(&created.invitation, &email).await?;
        Ok(Carer { account: created.account_id, token })
    }

    /// A client in the caseload of whoever has this session, signed in.
    ///
    /// # Errors
    /// What the service answers.
    pub async fn client(&self, carer: &str, name: &str) -> Result<Client, Status> {
        let email = format!("{name}@mail.example");
        let created = self.region.client(carer, &email).await?;
        let token = self.region.join(&created.invitation, &email).await?;
        let id = created.subject_id.parse().map_err(|_| Status::internal("an id that is none"))?;
        Ok(Client { subject: created.subject_id, id, token })
    }

    /// Changes a record's residency by hand.
    ///
    /// # Errors
    /// What the store answers.
    pub async fn residence(&self, subject: SubjectId, change: fn(&mut Residence)) -> Result<()> {
        self.region
            .store
            .write_unaudited("test.residence", Scope::Subject(subject), move |tx| {
                Box::pin(async move {
                    let mut home =
                        residency::lock(tx, subject).await?.ok_or_else(|| Error::new(Code::NotFound))?;
                    change(&mut home);
                    home.changed_at = tx.now();
                    residency::set(tx, &home).await
                })
            })
            .await
    }
}

/// Opens what a test laid down as though a transfer had brought it, unsealed: payloads in their staged
/// rows, objects under their staging names.
struct Arrived(Arc<Directory>);

#[async_trait]
impl TravelReader for Arrived {
    async fn item(&self, header: &ItemHeader, travelling: Travelling) -> Result<Zeroizing<Vec<u8>>> {
        if travelling.revision != header.revision || travelling.page_header != b"page" {
            return Err(Error::new(Code::ContentDamaged));
        }
        Ok(Zeroizing::new(travelling.sealed_payload))
    }
    async fn object(&self, object: &Object) -> Result<BoxStream<'static, Result<Bytes>>> {
        let transfer = object.transfer.ok_or_else(|| Error::new(Code::ObjectMissing))?;
        self.0.read(&ObjectName::staging(transfer, object.object, b"salt")).await
    }
}

/// A draft of a new item.
#[must_use]
pub fn draft(kind: payload::Kind) -> pb::ItemDraft {
    pb::ItemDraft { payload: Some(pb::Payload { kind: Some(kind) }), ..Default::default() }
}

/// A draft of a note.
#[must_use]
pub fn note(text: &str) -> pb::ItemDraft {
    let note = pb::Note { title: "Session 4".to_owned(), text: text.to_owned(), template: String::new() };
    draft(payload::Kind::Note(note))
}

/// A draft of a reflection.
#[must_use]
pub fn reflection(text: &str) -> pb::ItemDraft {
    draft(payload::Kind::Reflection(pb::Reflection { text: text.to_owned() }))
}

/// The same draft as a new version of an item.
#[must_use]
pub fn edit(mut draft: pb::ItemDraft, of: &pb::ItemHeader) -> pb::ItemDraft {
    draft.item_id.clone_from(&of.item_id);
    draft.based_on_version = of.version;
    draft
}

/// A request to write a draft.
#[must_use]
pub fn put(subject: &str, key: &str, draft: pb::ItemDraft) -> pb::PutItemRequest {
    pb::PutItemRequest {
        subject_id: subject.to_owned(),
        idempotency_key: format!("test-key-{key:-<12}"),
        draft: Some(draft),
    }
}

/// A request to read an item's newest version.
#[must_use]
pub fn get(of: &pb::ItemHeader) -> pb::GetItemRequest {
    pb::GetItemRequest { subject_id: of.subject_id.clone(), item_id: of.item_id.clone(), version: 0 }
}
