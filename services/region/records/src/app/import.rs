//! Importing a FHIR bundle: an item for the bundle and one for each entry, all or nothing.

use std::sync::Arc;

use domicile_crypto::{Key32, Zeroizing, sha256};
use domicile_proto::records::v1 as pb;
use domicile_store::queries::item::{self, Version};
use domicile_store::{AuditFacts, OnConflict, Tx};
use domicile_types::{
    AuditScope, Code, Ctx, Error, Idempotency, ItemHeader, ItemId, RegionId, Result, Timestamp,
};
use futures::StreamExt as _;

use super::draft::{blank, owner, retained, subject};
use super::intake::Memory;
use super::json::{self, Bundle};
use super::put::{begin, fingerprint, seal_payload};
use super::upload::Content;
use super::{Records, Settings, Who};
use crate::kinds;
use crate::wire::idempotency_key;

impl Records {
    /// Imports a bundle.
    ///
    /// # Errors
    /// [`Code::FhirInvalid`] with the place of what is wrong, [`Code::TooLarge`]; else as
    /// [`Records::put_item`]. Nothing is imported then.
    pub async fn import_fhir(
        &self,
        audit: &Arc<AuditScope>,
        header: pb::ImportHeader,
        content: Content,
    ) -> Result<pb::ImportFhirResponse> {
        let subject = subject(&header.subject_id)?;
        let who = Who::of(&audit.actor, subject)?;
        let key = idempotency_key(header.idempotency_key)?;
        match self.import(audit, who, key, content).await {
            Ok(imported) => Ok(imported),
            Err(error) => Err(self.elsewhere(&audit.actor, subject, error).await),
        }
    }

    async fn import(
        &self,
        audit: &Arc<AuditScope>,
        who: Who,
        key: String,
        content: Content,
    ) -> Result<pb::ImportFhirResponse> {
        let practice = who.carer().map(|carer| carer.practice);
        let keys = self.write_keys(&who, practice, false).await?;
        audit.concerns(who.subject);
        let _place = self.inner.intake.enter(who.subject)?;
        let mut memory = self.inner.intake.memory();
        let text = gather(content, self.settings().bounds.import_bytes, &mut memory).await?;
        let idempotency =
            Idempotency { key, fingerprint: fingerprint(&keys.fingerprint, "import", &who, &sha256(&text)) };
        if let Some(before) = self.by_key(&who, &idempotency).await? {
            audit.touches(before.item_id);
            return self.imported(&before).await;
        }
        let bundle = blocking(move || json::cut(&text)).await?;
        let uses = bundle.entries.len() as u64 + 1;
        let record = self.inner.keyring.record_key_for(who.subject, practice, uses).await?;
        let sealer = Sealer {
            who,
            record,
            region: self.region().clone(),
            ctx: self.ctx().clone(),
            now: self.now(),
            settings: self.settings().clone(),
        };
        let named = idempotency.clone();
        let versions = Arc::new(blocking(move || sealer.versions(&bundle, named)).await?);
        let rows = Arc::clone(&versions);
        let written = self.store().write("fhir.import", who.scope(), audit, move |tx| {
            let rows = Arc::clone(&rows);
            Box::pin(async move { put_all(tx, who, &rows).await })
        });
        match written.await {
            Ok(bundle) => Ok(pb::ImportFhirResponse {
                bundle_item_id: bundle.to_string(),
                resources: u32::try_from(versions.len() - 1).unwrap_or(u32::MAX),
            }),
            Err(error) if error.code() == Code::Conflict => {
                self.imported(&self.replay(&who, &idempotency, error).await?).await
            }
            Err(error) => Err(error),
        }
    }

    /// The answer of an import that was done before.
    async fn imported(&self, bundle: &ItemHeader) -> Result<pb::ImportFhirResponse> {
        let damaged = || Error::new(Code::ContentDamaged);
        let version = Version { header: bundle.clone(), current: true, sealed: None };
        let payload = self.open(&self.with_payload(version).await?).await?;
        let Some(pb::payload::Kind::FhirResource(resource)) = payload.kind else { return Err(damaged()) };
        Ok(pb::ImportFhirResponse { bundle_item_id: bundle.item_id.to_string(), resources: resource.entries })
    }
}

/// The whole import in one transaction, its revisions reserved at once.
async fn put_all(tx: &Tx, who: Who, versions: &[Version]) -> Result<ItemId> {
    let count = versions.len() as u64;
    let writing = begin(tx, &who, count).await?;
    let first = writing.revision - count;
    let mut numbered = versions.iter().zip(1..).map(|(version, at)| {
        let mut version = version.clone();
        version.header.revision = first + at;
        version
    });
    let bundle = numbered.next().ok_or_else(|| Error::new(Code::Internal))?;
    let id = bundle.header.item_id;
    if !item::insert(tx, bundle).await? {
        return Err(Error::new(Code::Conflict).at("idempotency_key"));
    }
    item::insert_many(tx, numbered.collect(), OnConflict::Fail).await?;
    tx.audit(AuditFacts::ok().subject(who.subject).item(id).resource("fhir_resource"))?;
    Ok(id)
}

/// Everything to seal a bundle with, away from the threads that serve.
struct Sealer {
    who: Who,
    record: (u32, Key32),
    region: RegionId,
    ctx: Ctx,
    now: Timestamp,
    settings: Settings,
}

impl Sealer {
    /// The bundle's version, then its entries' in their order.
    fn versions(&self, bundle: &Bundle, idempotency: Idempotency) -> Result<Vec<Version>> {
        let entries = u32::try_from(bundle.entries.len()).map_err(|_| too_large("entry".to_owned()))?;
        let envelope = kinds::bundle_payload(bundle.envelope.clone().into_bytes(), entries);
        let mut first = self.seal(None, envelope, "bundle")?;
        first.header.idempotency = Some(idempotency);
        let parent = first.header.item_id;
        let mut versions = Vec::with_capacity(bundle.entries.len() + 1);
        versions.push(first);
        for (entry, at) in bundle.entries.iter().zip(0_u32..) {
            let payload =
                kinds::entry_payload(entry.resource_type.clone(), at, entry.json.clone().into_bytes());
            versions.push(self.seal(Some(parent), payload, &format!("entry[{at}]"))?);
        }
        Ok(versions)
    }

    fn seal(&self, parent: Option<ItemId>, mut payload: pb::Payload, place: &str) -> Result<Version> {
        let kind = kinds::prepare(&mut payload)?;
        let (practice_id, practitioner_id) = owner(&self.who, None);
        let mut header = ItemHeader {
            item_id: ItemId::generate(&self.ctx),
            practice_id,
            practitioner_id,
            parent_id: parent,
            state: kind.state("")?.to_owned(),
            ..blank(&self.who, kind, self.now)
        };
        header.retain_until = retained(&header, &self.settings);
        let sealed = seal_payload(&self.region, &self.ctx, &self.record, header, &payload);
        let (header, sealed) = sealed.map_err(|error| error.at(place))?;
        Ok(Version { header, current: true, sealed: Some(sealed) })
    }
}

/// The whole text, in memory and nowhere else.
async fn gather(mut content: Content, most: usize, memory: &mut Memory) -> Result<Zeroizing<Vec<u8>>> {
    let mut text = Zeroizing::new(Vec::new());
    while let Some(piece) = content.next().await.transpose()? {
        if text.len() + piece.len() > most {
            return Err(too_large("content".to_owned()));
        }
        memory.hold(text.len() + piece.len())?;
        text.extend_from_slice(&piece);
    }
    Ok(text)
}

fn too_large(place: String) -> Error {
    Error::new(Code::TooLarge).at(place)
}

/// Work that would keep a serving thread busy.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|_| Error::new(Code::Internal).at("import"))?
}
