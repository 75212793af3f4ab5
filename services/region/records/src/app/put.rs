//! Writing one item.

use std::sync::Arc;

use domicile_crypto::{Key32, SubjectSecret, Zeroizing, aad, hmac, seal, sha256};
use domicile_proto::records::v1 as pb;
use domicile_store::queries::{item, object, residency};
use domicile_store::{AuditFacts, Tx};
use domicile_types::{
    AuditScope, Code, Ctx, Error, Idempotency, ItemHeader, ItemId, ObjectId, OccasionId, PracticeId,
    RegionId, Result,
};
use prost::Message as _;

use super::draft::{Draft, PAYLOAD_BYTES, Place, subject};
use super::{Records, Who};
use crate::kinds;
use crate::wire::{self, idempotency_key, invalid};

/// Where an insert says that its idempotency key is taken.
const KEY_TAKEN: &str = "idempotency_key";

/// One item to write.
pub(super) struct Write {
    pub(super) who: Who,
    pub(super) key: String,
    /// What the idempotency key stands for: the request's name and its body.
    pub(super) request: (&'static str, Vec<u8>),
    pub(super) draft: Draft,
    pub(super) occasion: Option<OccasionId>,
    /// An upload's object, whose content is there.
    pub(super) object: Option<ObjectId>,
}

/// A version sealed and ready for its transaction.
struct Sealed {
    header: ItemHeader,
    kind: &'static str,
    payload: Vec<u8>,
}

/// What a draft meets in the record, read before anything is sealed.
#[derive(Default)]
struct Surroundings {
    previous: Option<item::Version>,
    parent: Option<ItemHeader>,
}

/// The keys of one write.
pub(super) struct WriteKeys {
    pub(super) record: (u32, Key32),
    pub(super) fingerprint: Key32,
}

impl Records {
    /// Writes an item: a new one, or a new version of one.
    ///
    /// # Errors
    /// [`Code::VersionConflict`], [`Code::ItemLocked`], [`Code::IdempotencyMismatch`],
    /// [`Code::RecordFrozen`], [`Code::RecordMoved`], [`Code::NotFound`] and what the kind refuses.
    pub async fn put_item(
        &self,
        audit: &Arc<AuditScope>,
        request: pb::PutItemRequest,
    ) -> Result<pb::PutItemResponse> {
        let subject = subject(&request.subject_id)?;
        let who = Who::of(&audit.actor, subject)?;
        let key = idempotency_key(request.idempotency_key)?;
        let body = request.draft.as_ref().map(prost::Message::encode_to_vec).unwrap_or_default();
        let draft = Draft::read(request.draft)?;
        refuse_new_object(&draft)?;
        let write = Write { who, key, request: ("put", body), draft, occasion: None, object: None };
        match self.write_item(audit, write).await {
            Ok(header) => Ok(pb::PutItemResponse { header: Some(wire::header(&header)) }),
            Err(error) => Err(self.elsewhere(&audit.actor, subject, error).await),
        }
    }

    /// Writes one item and answers its header; the same again for a repeated request.
    pub(super) async fn write_item(&self, audit: &Arc<AuditScope>, write: Write) -> Result<ItemHeader> {
        let Write { who, draft, .. } = &write;
        let settled = if draft.edits.is_some() || draft.parent.is_some() {
            Some(self.surroundings(who, draft).await?)
        } else {
            None
        };
        let practice = match (&settled, who.carer()) {
            (Some(Surroundings { previous: Some(previous), .. }), _) => previous.header.practice_id,
            (_, Some(carer)) => Some(carer.practice),
            (Some(Surroundings { parent: Some(parent), .. }), None) => parent.practice_id,
            (_, None) => None,
        };
        let keys = self.write_keys(who, practice, settled.is_some()).await?;
        audit.concerns(who.subject);
        let (name, body) = &write.request;
        let fingerprint = fingerprint(&keys.fingerprint, name, who, body);
        let idempotency = Idempotency { key: write.key.clone(), fingerprint };
        let attempt = self.attempt(audit, &write, settled.unwrap_or_default(), &keys, idempotency.clone());
        match attempt.await {
            Err(error) if replayable(&error) => {
                let before = self.replay(who, &idempotency, error).await?;
                audit.touches(before.item_id);
                Ok(before)
            }
            result => result,
        }
    }

    async fn attempt(
        &self,
        audit: &Arc<AuditScope>,
        write: &Write,
        around: Surroundings,
        keys: &WriteKeys,
        idempotency: Idempotency,
    ) -> Result<ItemHeader> {
        let place = Place {
            previous: around.previous.as_ref().map(|version| &version.header),
            parent: around.parent.as_ref(),
            occasion: write.occasion,
            object: write.object,
        };
        let fresh = ItemId::generate(self.ctx());
        let mut header = write.draft.header(&write.who, place, fresh, self.now(), self.settings())?;
        header.idempotency = Some(idempotency);
        let mut payload = write.draft.payload.clone();
        self.keep_object(&mut payload, around.previous).await?;
        let (header, payload) = seal_payload(self.region(), self.ctx(), &keys.record, header, &payload)?;
        let sealed = Arc::new(Sealed { header, kind: write.draft.kind.name, payload });
        let (who, object) = (write.who, write.object);
        self.store()
            .write("item.put", who.scope(), audit, move |tx| {
                let sealed = Arc::clone(&sealed);
                Box::pin(async move { put(tx, who, &sealed, object).await })
            })
            .await
    }

    /// Reads what an edit or an item with a parent meets, and whether it could be written at all.
    async fn surroundings(&self, who: &Who, draft: &Draft) -> Result<Surroundings> {
        let (who, edits, parent) = (*who, draft.edits, draft.parent);
        let with_payload = kinds::object_ref(&mut draft.payload.clone()).is_some();
        self.store()
            .read("item.surroundings", who.scope(), move |tx| {
                Box::pin(async move {
                    residency::write_check(tx, who.subject, who.carer()).await?;
                    let previous = match edits {
                        Some((item, _)) => Some(visible(tx, &who, item, with_payload).await?),
                        None => None,
                    };
                    let parent = match parent {
                        Some(parent) if edits.is_none() => {
                            Some(visible(tx, &who, parent, false).await?.header)
                        }
                        _ => None,
                    };
                    Ok(Surroundings { previous, parent })
                })
            })
            .await
    }

    /// The practice of the item a client's draft hangs on.
    pub(super) async fn parents_practice(&self, who: &Who, draft: &Draft) -> Result<Option<PracticeId>> {
        if draft.parent.is_none() {
            return Ok(None);
        }
        let around = self.surroundings(who, draft).await?;
        Ok(around.parent.and_then(|parent| parent.practice_id))
    }

    /// The keys to write with. Before keys are made for a record, it is seen that there is one here that
    /// the caller may write: an id made up, or of a record long gone, leaves no key behind.
    pub(super) async fn write_keys(
        &self,
        who: &Who,
        practice: Option<PracticeId>,
        checked: bool,
    ) -> Result<WriteKeys> {
        let keyring = &self.inner.keyring;
        if !checked {
            let secret = keyring.find_subject_secret(who.subject, SubjectSecret::Fingerprint).await?;
            let record = keyring.ready_record_key(who.subject, practice);
            if let (Some(fingerprint), Some(record)) = (secret, record) {
                return Ok(WriteKeys { record, fingerprint });
            }
            self.writable(who).await?;
        }
        let fingerprint = keyring.subject_secret(who.subject, SubjectSecret::Fingerprint).await?;
        let record = keyring.record_key(who.subject, practice).await?;
        Ok(WriteKeys { record, fingerprint })
    }

    /// That the caller could begin a write of the record now.
    pub(super) async fn writable(&self, who: &Who) -> Result<()> {
        let who = *who;
        let check = self.store().read("residency.write_check", who.scope(), move |tx| {
            Box::pin(async move { residency::write_check(tx, who.subject, who.carer()).await.map(drop) })
        });
        check.await
    }

    /// A new version of an item with an object keeps the object: the service alone names it.
    async fn keep_object(&self, payload: &mut pb::Payload, previous: Option<item::Version>) -> Result<()> {
        let Some(previous) = previous else { return Ok(()) };
        let Some(kept) = kinds::object_ref(payload) else { return Ok(()) };
        let mut before = self.open(&previous).await?;
        *kept = kinds::object_ref(&mut before).and_then(Option::take);
        Ok(())
    }

    /// What this idempotency key wrote before, if anything; the error otherwise.
    pub(super) async fn replay(
        &self,
        who: &Who,
        idempotency: &Idempotency,
        error: Error,
    ) -> Result<ItemHeader> {
        match self.by_key(who, idempotency).await? {
            Some(header) => Ok(header),
            None if error.place() == Some(KEY_TAKEN) => Err(Error::new(Code::IdempotencyMismatch)),
            None => Err(error),
        }
    }

    /// What this idempotency key wrote before.
    ///
    /// # Errors
    /// [`Code::IdempotencyMismatch`] when it was another request.
    pub(super) async fn by_key(&self, who: &Who, idempotency: &Idempotency) -> Result<Option<ItemHeader>> {
        let (who, key) = (*who, idempotency.key.clone());
        let found = self.store().read("item.by_key", who.scope(), move |tx| {
            let key = key.clone();
            Box::pin(async move { item::by_key(tx, who.subject, &key).await })
        });
        match found.await? {
            None => Ok(None),
            Some(found) if found.header.idempotency.as_ref() == Some(idempotency) => Ok(Some(found.header)),
            Some(_) => Err(Error::new(Code::IdempotencyMismatch)),
        }
    }
}

/// Seals one payload, and completes its header with key, length and digest.
///
/// # Errors
/// [`Code::TooLarge`] past [`PAYLOAD_BYTES`].
pub(super) fn seal_payload(
    region: &RegionId,
    ctx: &Ctx,
    (key_version, key): &(u32, Key32),
    mut header: ItemHeader,
    payload: &pb::Payload,
) -> Result<(ItemHeader, Vec<u8>)> {
    let plain = Zeroizing::new(payload.encode_to_vec());
    if plain.len() > PAYLOAD_BYTES {
        return Err(Error::new(Code::TooLarge).at("draft.payload"));
    }
    header.key_version = *key_version;
    header.bytes = plain.len() as u64;
    let sealed = seal(key, ctx, &aad::item(region, &header), &plain)?;
    header.digest = sha256(&sealed);
    Ok((header, sealed))
}

/// HMAC under the subject's fingerprint key of who asked what. Every part but the last is of a fixed length
/// or behind its length.
pub(super) fn fingerprint(key: &Key32, name: &str, who: &Who, body: &[u8]) -> [u8; 32] {
    let mut text = Vec::with_capacity(name.len() + body.len() + 33);
    text.push(u8::try_from(name.len()).unwrap_or(u8::MAX));
    text.extend_from_slice(name.as_bytes());
    text.extend_from_slice(who.subject.as_bytes());
    text.extend_from_slice(who.account.as_bytes());
    text.extend_from_slice(body);
    hmac(key, &text)
}

/// Begins the write: the revision to write, in the row a freeze changes.
pub(super) async fn begin(tx: &Tx, who: &Who, reserve: u64) -> Result<residency::Writing> {
    match who.carer() {
        None => residency::write_begin(tx, who.subject, reserve).await,
        Some(carer) => residency::write_begin_as(tx, who.subject, carer, reserve).await,
    }
}

/// The whole write: revision, versions, object, audit entry.
async fn put(tx: &Tx, who: Who, sealed: &Sealed, object: Option<ObjectId>) -> Result<ItemHeader> {
    let writing = begin(tx, &who, 1).await?;
    let mut header = sealed.header.clone();
    header.revision = writing.revision;
    let item = header.item_id;
    if header.version > 1 && !item::supersede(tx, who.subject, item, header.version - 1).await? {
        return Err(Error::new(Code::VersionConflict));
    }
    let version =
        item::Version { header: header.clone(), current: true, sealed: Some(sealed.payload.clone()) };
    if !item::insert(tx, version).await? {
        return Err(Error::new(Code::Conflict).at(KEY_TAKEN));
    }
    if let Some(object) = object
        && !object::complete(tx, who.subject, object, item).await?
    {
        return Err(Error::new(Code::ObjectIncomplete));
    }
    tx.audit(AuditFacts::ok().subject(who.subject).item(item).resource(sealed.kind))?;
    Ok(header)
}

async fn visible(tx: &Tx, who: &Who, item: ItemId, payload: bool) -> Result<item::Version> {
    let found = if payload {
        item::get(tx, who.subject, who.reader(), item, None).await?
    } else {
        item::head(tx, who.subject, who.reader(), item).await?
    };
    found.ok_or_else(|| Error::new(Code::NotFound))
}

/// Errors that a repeated request meets where the first succeeded.
fn replayable(error: &Error) -> bool {
    matches!(error.code(), Code::VersionConflict | Code::ItemLocked | Code::Conflict)
}

/// Attachments and voice notes come with their content, by upload.
fn refuse_new_object(draft: &Draft) -> Result<()> {
    let object = kinds::object_ref(&mut draft.payload.clone()).is_some();
    if object && draft.edits.is_none() { Err(invalid("draft.payload: use UploadObject")) } else { Ok(()) }
}
