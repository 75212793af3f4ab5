//! Between messages and the protocol's types.

use std::collections::BTreeMap;

use bytes::Bytes;
use domicile_evidence::statement::SignedStatement;
use domicile_proto::transfer::v1 as pb;
use domicile_transfer_protocol::Versions;
use domicile_transfer_protocol::release::{Chunk, Head, KeyRelease};
use domicile_types::{
    AccountId, Code, Error, Idempotency, ItemHeader, ItemId, ObjectId, OccasionId, PracticeId, Result,
    SubjectId, Timestamp, Visibility,
};
use tonic::Status;

/// Bytes of a message field.
pub(crate) fn bytes(bytes: &[u8]) -> Bytes {
    Bytes::copy_from_slice(bytes)
}

/// What another region answered; a region that cannot be reached is [`Code::PeerSilent`].
pub(crate) fn peer_error(status: &Status) -> Error {
    if status.metadata().get("domicile-code").is_some() {
        domicile_rpc::status::from_status(status)
    } else {
        Error::new(Code::PeerSilent).because(status.to_string())
    }
}

/// Kinds with their highest schema versions as messages.
pub(crate) fn kinds(kinds: BTreeMap<String, u32>) -> Vec<pb::KindVersion> {
    kinds.into_iter().map(|(kind, schema)| pb::KindVersion { kind, schema }).collect()
}

/// What a region speaks and understands, or needs, from a message. Of a kind named twice the highest counts.
pub(crate) fn versions(protocol: u32, kinds: Vec<pb::KindVersion>) -> Versions {
    let mut highest = BTreeMap::new();
    for pb::KindVersion { kind, schema } in kinds {
        let known = highest.entry(kind).or_insert(schema);
        *known = schema.max(*known);
    }
    Versions { protocol, kinds: highest }
}

/// A statement as a message.
pub(crate) fn statement(signed: SignedStatement) -> pb::SignedStatement {
    pb::SignedStatement {
        statement: signed.statement.into(),
        body: signed.body.into(),
        signature: bytes(&signed.signature),
    }
}

/// A statement from a message.
///
/// # Errors
/// [`Code::StatementInvalid`] when the signature is not 64 bytes.
pub fn signed(message: &pb::SignedStatement) -> Result<SignedStatement> {
    SignedStatement::from_parts(message.statement.to_vec(), message.body.to_vec(), &message.signature)
        .ok_or_else(|| Error::new(Code::StatementInvalid).at("signature"))
}

/// A head as a message.
pub(crate) fn head(head: &Head) -> pb::TravelHead {
    pb::TravelHead {
        header: bytes(&head.header),
        salt: bytes(&head.salt),
        commitment: bytes(&head.commitment),
    }
}

/// The key release as a message.
#[must_use]
pub fn key_release(release: KeyRelease) -> pb::GetKeyReleaseResponse {
    pb::GetKeyReleaseResponse {
        encapsulated: release.encapsulated.into(),
        sealed_key: release.sealed_key.into(),
        control_head: Some(head(&release.control_head)),
        control_chunks: release.control_chunks.into_iter().map(|chunk| chunk.0.into()).collect(),
    }
}

/// The key release from a message.
///
/// # Errors
/// [`Code::ChunkDamaged`] when the control rows have no head.
pub fn read_key_release(message: pb::GetKeyReleaseResponse) -> Result<KeyRelease> {
    let head = message.control_head.ok_or_else(|| Error::new(Code::ChunkDamaged).at("control head"))?;
    Ok(KeyRelease {
        encapsulated: message.encapsulated.to_vec(),
        sealed_key: message.sealed_key.to_vec(),
        control_head: Head {
            header: head.header.to_vec(),
            salt: head.salt.to_vec(),
            commitment: head.commitment.to_vec(),
        },
        control_chunks: message.control_chunks.into_iter().map(|chunk| Chunk(chunk.to_vec())).collect(),
    })
}

/// An item's header as it is sealed for the way.
pub(crate) fn sealed_header(header: &ItemHeader) -> pb::SealedHeader {
    let micros = |at: Option<Timestamp>| at.map(Timestamp::micros);
    pb::SealedHeader {
        item_id: bytes(header.item_id.as_bytes()),
        version: header.version,
        subject_id: bytes(header.subject_id.as_bytes()),
        revision: header.revision,
        kind: header.kind.clone(),
        schema: header.schema.into(),
        practice_id: header.practice_id.map(|id| bytes(id.as_bytes())),
        practitioner_id: header.practitioner_id.map(|id| bytes(id.as_bytes())),
        author_id: bytes(header.author_id.as_bytes()),
        parent_id: header.parent_id.map(|id| bytes(id.as_bytes())),
        occasion_id: header.occasion_id.map(|id| bytes(id.as_bytes())),
        object_id: header.object_id.map(|id| bytes(id.as_bytes())),
        occurred_at: header.occurred_at.micros(),
        starts_at: micros(header.starts_at),
        ends_at: micros(header.ends_at),
        signed_at: micros(header.signed_at),
        retain_until: micros(header.retain_until),
        state: header.state.clone(),
        visibility: header.visibility.as_str().to_owned(),
        bytes: header.bytes,
        idempotency_key: header.idempotency.as_ref().map(|known| known.key.clone()),
        idempotency_fingerprint: header.idempotency.as_ref().map(|known| bytes(&known.fingerprint)),
        written_at: header.written_at.micros(),
    }
}

/// The header from its sealed form; its digest and key version are this region's to fill in.
pub(crate) fn read_sealed_header(message: pb::SealedHeader) -> Option<ItemHeader> {
    let idempotency = match (message.idempotency_key, message.idempotency_fingerprint) {
        (Some(key), Some(print)) => Some(Idempotency { key, fingerprint: print.as_ref().try_into().ok()? }),
        (None, None) => None,
        _ => return None,
    };
    Some(ItemHeader {
        item_id: ItemId::from_slice(&message.item_id)?,
        version: message.version,
        subject_id: SubjectId::from_slice(&message.subject_id)?,
        revision: message.revision,
        kind: message.kind,
        schema: u16::try_from(message.schema).ok()?,
        practice_id: maybe(message.practice_id, PracticeId::from_slice)?,
        practitioner_id: maybe(message.practitioner_id, AccountId::from_slice)?,
        author_id: AccountId::from_slice(&message.author_id)?,
        parent_id: maybe(message.parent_id, ItemId::from_slice)?,
        occasion_id: maybe(message.occasion_id, OccasionId::from_slice)?,
        object_id: maybe(message.object_id, ObjectId::from_slice)?,
        occurred_at: Timestamp::from_micros(message.occurred_at),
        starts_at: message.starts_at.map(Timestamp::from_micros),
        ends_at: message.ends_at.map(Timestamp::from_micros),
        signed_at: message.signed_at.map(Timestamp::from_micros),
        retain_until: message.retain_until.map(Timestamp::from_micros),
        state: message.state,
        visibility: Visibility::parse(&message.visibility)?,
        bytes: message.bytes,
        digest: [0; 32],
        key_version: 0,
        idempotency,
        written_at: Timestamp::from_micros(message.written_at),
    })
}

/// An optional id: absent is fine, malformed is not.
#[expect(clippy::option_option, reason = "absent and malformed are told apart")]
fn maybe<T>(bytes: Option<Bytes>, read: fn(&[u8]) -> Option<T>) -> Option<Option<T>> {
    match bytes {
        None => Some(None),
        Some(bytes) => read(&bytes).map(Some),
    }
}
