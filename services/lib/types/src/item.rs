//! The header of an item: what stands beside the sealed payload, in clear.

use crate::ids::{AccountId, ItemId, ObjectId, OccasionId, PracticeId, SubjectId};
use crate::time::Timestamp;

/// Who sees an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Visibility {
    /// The client and the caseload.
    Shared,
    /// The caseload's practitioners, not the client.
    Practitioner,
    /// The client alone (P13).
    ClientPrivate,
    /// Psychotherapy notes (45 CFR 164.501): their author alone.
    Psychotherapy,
}

impl Visibility {
    /// The name in tables and messages.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Shared => "shared",
            Self::Practitioner => "practitioner",
            Self::ClientPrivate => "client_private",
            Self::Psychotherapy => "psychotherapy",
        }
    }

    /// Finds a visibility by its name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Shared, Self::Practitioner, Self::ClientPrivate, Self::Psychotherapy]
            .into_iter()
            .find(|visibility| visibility.as_str() == name)
    }
}

/// The idempotency key of the write that made a version, and the keyed fingerprint of its body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Idempotency {
    /// The caller's key, 16 to 64 characters.
    pub key: String,
    /// HMAC-SHA-256 of the request's body under the subject's fingerprint key.
    pub fingerprint: [u8; 32],
}

/// One version of one item, without its payload. Each version is immutable once written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ItemHeader {
    /// The item.
    pub item_id: ItemId,
    /// The item's own counter, from 1.
    pub version: u32,
    /// Whose record.
    pub subject_id: SubjectId,
    /// The record's own counter at this version.
    pub revision: u64,
    /// The kind's name.
    pub kind: String,
    /// The version of the kind's payload message.
    pub schema: u16,
    /// The practice; `None` for the client's own items.
    pub practice_id: Option<PracticeId>,
    /// The practitioner it belongs to.
    pub practitioner_id: Option<AccountId>,
    /// Who wrote this version.
    pub author_id: AccountId,
    /// The item it hangs on.
    pub parent_id: Option<ItemId>,
    /// The joint session.
    pub occasion_id: Option<OccasionId>,
    /// The large object it describes.
    pub object_id: Option<ObjectId>,
    /// When it happened.
    pub occurred_at: Timestamp,
    /// When it starts.
    pub starts_at: Option<Timestamp>,
    /// When it ends.
    pub ends_at: Option<Timestamp>,
    /// When it was signed.
    pub signed_at: Option<Timestamp>,
    /// Until when it must be kept.
    pub retain_until: Option<Timestamp>,
    /// The state within its kind.
    pub state: String,
    /// Who sees it.
    pub visibility: Visibility,
    /// Length of the payload in bytes.
    pub bytes: u64,
    /// SHA-256 of the sealed payload.
    pub digest: [u8; 32],
    /// The version of the record key it is sealed under.
    pub key_version: u32,
    /// The write that made it.
    pub idempotency: Option<Idempotency>,
    /// When this version was written.
    pub written_at: Timestamp,
}

/// The kinds this release understands, with the highest schema version of each. A record that holds
/// another kind or a later version is refused at preflight.
pub const KINDS: &[(&str, u16)] = &[
    ("account", 1),
    ("assessment", 1),
    ("attachment", 1),
    ("booking", 1),
    ("chat_message", 1),
    ("fhir_resource", 1),
    ("form_response", 1),
    ("goal", 1),
    ("goal_progress", 1),
    ("highlight", 1),
    ("message", 1),
    ("note", 1),
    ("payment", 1),
    ("referral", 1),
    ("reflection", 1),
    ("session", 1),
    ("transcript", 1),
    ("voice_note", 1),
];
