//! What each step says.

use domicile_types::RegionId;
use domicile_types::ids::ConsentId;
use domicile_types::time::Timestamp;

use super::Step;
use crate::cbor::{Reader, Writer};
use crate::entry::uuid;
use crate::invalid::Invalid;

const WHAT: &str = "statement body";

/// Why an attempt ended before Released.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AbortReason {
    /// The client withdrew.
    Withdrawn,
    /// The offer, the consent or a state's time ran out.
    Expired,
    /// It could not be done.
    Failed,
    /// An operator ended it.
    Cancelled,
}

impl AbortReason {
    /// Every reason.
    pub const ALL: &[Self] = &[Self::Withdrawn, Self::Expired, Self::Failed, Self::Cancelled];

    /// The stable number.
    #[must_use]
    pub const fn number(self) -> u16 {
        match self {
            Self::Withdrawn => 1,
            Self::Expired => 2,
            Self::Failed => 3,
            Self::Cancelled => 4,
        }
    }

    /// The name, in tables and on screens.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Withdrawn => "withdrawn",
            Self::Expired => "expired",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// Finds a reason by its name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|reason| reason.name() == name)
    }

    fn from_number(number: u16) -> Option<Self> {
        Self::ALL.iter().copied().find(|reason| reason.number() == number)
    }
}

/// What a step says, one variant a step. Names the transfer and its keys, never the person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// The client has asked for a move.
    Requested {
        /// From.
        source: RegionId,
        /// To.
        destination: RegionId,
        /// Until when the offer may be accepted.
        expires_at: Timestamp,
    },
    /// Source: the offer stands. Destination: it would take the record.
    Preflighted {
        /// The offer's digest; only the source knows it.
        offer_digest: Option<[u8; 32]>,
        /// How many kinds of items were looked at.
        kinds: u32,
        /// The protocol version agreed on.
        protocol: u16,
    },
    /// The client has consented to exactly one offer.
    Consented {
        /// The consent.
        consent: ConsentId,
        /// SHA-256 of the consent receipt.
        consent_digest: [u8; 32],
        /// The offer's digest.
        offer_digest: [u8; 32],
        /// The notice's version.
        notice_version: String,
        /// To.
        destination: RegionId,
        /// Until when the transfer must be complete.
        expires_at: Timestamp,
    },
    /// Destination: the attempt's public key. Source: the copy is open; the key is empty.
    Copying {
        /// The sealing suite.
        suite: u16,
        /// The destination's HPKE public key; empty from the source.
        hpke_public: Vec<u8>,
    },
    /// The record is held still.
    Frozen {
        /// The freeze's number.
        freeze: u32,
        /// The last revision.
        final_revision: u64,
    },
    /// The record is writable again.
    Unfrozen {
        /// The freeze's number.
        freeze: u32,
    },
    /// Everything up to the final revision is at the destination.
    Staged {
        /// The freeze's number.
        freeze: u32,
        /// The last revision.
        final_revision: u64,
        /// Rows.
        rows: u64,
        /// Objects.
        objects: u64,
        /// Bytes as they travelled.
        bytes: u64,
        /// Merkle root over the digests.
        root: [u8; 32],
    },
    /// The transfer is complete.
    Released {
        /// The freeze's number.
        freeze: u32,
        /// The last revision.
        final_revision: u64,
        /// The root both sides computed.
        root: [u8; 32],
        /// The destination's epoch.
        epoch: u64,
        /// SHA-256 of the key release.
        key_release_digest: [u8; 32],
        /// SHA-256 of the consent receipt.
        consent_digest: [u8; 32],
    },
    /// The destination serves the record.
    Adopted {
        /// Its epoch.
        epoch: u64,
        /// Rows.
        rows: u64,
        /// The root.
        root: [u8; 32],
    },
    /// Everything is sealed under the destination's own keys and covered by a backup.
    Rekeyed {
        /// The epoch.
        epoch: u64,
        /// Rows.
        rows: u64,
        /// Objects.
        objects: u64,
        /// SHA-256 of the backup's manifest.
        backup_digest: [u8; 32],
    },
    /// The source has erased the record: the certificate's facts.
    Shredded {
        /// The epoch that was released.
        epoch: u64,
        /// Rows erased.
        rows: u64,
        /// Objects erased.
        objects: u64,
        /// Keys destroyed.
        keys: u64,
        /// Since when nothing here can read it.
        unreadable_at: Timestamp,
        /// From when no backup of the key store can bring it back.
        provable_at: Timestamp,
        /// How, by NIST SP 800-88.
        method: String,
    },
    /// The source has ended the attempt.
    Aborting {
        /// Why.
        reason: AbortReason,
    },
    /// The destination has purged the attempt.
    Aborted {
        /// Why.
        reason: AbortReason,
    },
}

impl Body {
    /// The step that says it.
    #[must_use]
    pub const fn step(&self) -> Step {
        match self {
            Self::Requested { .. } => Step::Requested,
            Self::Preflighted { .. } => Step::Preflighted,
            Self::Consented { .. } => Step::Consented,
            Self::Copying { .. } => Step::Copying,
            Self::Frozen { .. } => Step::Frozen,
            Self::Unfrozen { .. } => Step::Unfrozen,
            Self::Staged { .. } => Step::Staged,
            Self::Released { .. } => Step::Released,
            Self::Adopted { .. } => Step::Adopted,
            Self::Rekeyed { .. } => Step::Rekeyed,
            Self::Shredded { .. } => Step::Shredded,
            Self::Aborting { .. } => Step::Aborting,
            Self::Aborted { .. } => Step::Aborted,
        }
    }

    /// The body's one encoding.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let map = Writer::new();
        match self {
            Self::Requested { source, destination, expires_at } => {
                map.put(1, source.as_str()).put(2, destination.as_str()).put(3, *expires_at)
            }
            Self::Preflighted { offer_digest, kinds, protocol } => {
                map.maybe(1, *offer_digest).put(2, *kinds).put(3, *protocol)
            }
            Self::Consented {
                consent,
                consent_digest,
                offer_digest,
                notice_version,
                destination,
                expires_at,
            } => map
                .put(1, consent.as_bytes())
                .put(2, consent_digest)
                .put(3, offer_digest)
                .put(4, notice_version.as_str())
                .put(5, destination.as_str())
                .put(6, *expires_at),
            Self::Copying { suite, hpke_public } => map.put(1, *suite).put(2, hpke_public.as_slice()),
            Self::Frozen { freeze, final_revision } => map.put(1, *freeze).put(2, *final_revision),
            Self::Unfrozen { freeze } => map.put(1, *freeze),
            Self::Staged { freeze, final_revision, rows, objects, bytes, root } => map
                .put(1, *freeze)
                .put(2, *final_revision)
                .put(3, *rows)
                .put(4, *objects)
                .put(5, *bytes)
                .put(6, root),
            Self::Released { freeze, final_revision, root, epoch, key_release_digest, consent_digest } => map
                .put(1, *freeze)
                .put(2, *final_revision)
                .put(3, root)
                .put(4, *epoch)
                .put(5, key_release_digest)
                .put(6, consent_digest),
            Self::Adopted { epoch, rows, root } => map.put(1, *epoch).put(2, *rows).put(3, root),
            Self::Rekeyed { epoch, rows, objects, backup_digest } => {
                map.put(1, *epoch).put(2, *rows).put(3, *objects).put(4, backup_digest)
            }
            Self::Shredded { epoch, rows, objects, keys, unreadable_at, provable_at, method } => map
                .put(1, *epoch)
                .put(2, *rows)
                .put(3, *objects)
                .put(4, *keys)
                .put(5, *unreadable_at)
                .put(6, *provable_at)
                .put(7, method.as_str()),
            Self::Aborting { reason } | Self::Aborted { reason } => map.put(1, reason.number()),
        }
        .encode()
    }

    /// Reads what a step says; only its one encoding is accepted.
    ///
    /// # Errors
    /// When the bytes are not a body of this step.
    pub fn decode(step: Step, bytes: &[u8]) -> Result<Self, Invalid> {
        let mut map = Reader::decode(WHAT, bytes)?;
        let body = match step {
            Step::Requested => Self::Requested {
                source: region(&mut map, 1)?,
                destination: region(&mut map, 2)?,
                expires_at: map.timestamp(3)?,
            },
            Step::Preflighted => Self::Preflighted {
                offer_digest: map.maybe(1, Reader::fixed)?,
                kinds: map.unsigned(2)?,
                protocol: map.unsigned(3)?,
            },
            Step::Consented => Self::Consented {
                consent: uuid(&mut map, 1).map(ConsentId::from_uuid)?,
                consent_digest: map.fixed(2)?,
                offer_digest: map.fixed(3)?,
                notice_version: map.text(4, 64)?,
                destination: region(&mut map, 5)?,
                expires_at: map.timestamp(6)?,
            },
            Step::Copying => Self::Copying { suite: map.unsigned(1)?, hpke_public: public(&mut map, 2)? },
            Step::Frozen => Self::Frozen { freeze: map.unsigned(1)?, final_revision: map.unsigned(2)? },
            Step::Unfrozen => Self::Unfrozen { freeze: map.unsigned(1)? },
            Step::Staged => Self::Staged {
                freeze: map.unsigned(1)?,
                final_revision: map.unsigned(2)?,
                rows: map.unsigned(3)?,
                objects: map.unsigned(4)?,
                bytes: map.unsigned(5)?,
                root: map.fixed(6)?,
            },
            Step::Released => Self::Released {
                freeze: map.unsigned(1)?,
                final_revision: map.unsigned(2)?,
                root: map.fixed(3)?,
                epoch: map.unsigned(4)?,
                key_release_digest: map.fixed(5)?,
                consent_digest: map.fixed(6)?,
            },
            Step::Adopted => {
                Self::Adopted { epoch: map.unsigned(1)?, rows: map.unsigned(2)?, root: map.fixed(3)? }
            }
            Step::Rekeyed => Self::Rekeyed {
                epoch: map.unsigned(1)?,
                rows: map.unsigned(2)?,
                objects: map.unsigned(3)?,
                backup_digest: map.fixed(4)?,
            },
            Step::Shredded => Self::Shredded {
                epoch: map.unsigned(1)?,
                rows: map.unsigned(2)?,
                objects: map.unsigned(3)?,
                keys: map.unsigned(4)?,
                unreadable_at: map.timestamp(5)?,
                provable_at: map.timestamp(6)?,
                method: map.text(7, 128)?,
            },
            Step::Aborting => Self::Aborting { reason: reason(&mut map, 1)? },
            Step::Aborted => Self::Aborted { reason: reason(&mut map, 1)? },
        };
        map.finish()?;
        Ok(body)
    }
}

fn region(map: &mut Reader, key: u64) -> Result<RegionId, Invalid> {
    map.parsed(key, |text| RegionId::new(text).ok())
}

fn reason(map: &mut Reader, key: u64) -> Result<AbortReason, Invalid> {
    let number = map.unsigned(key)?;
    AbortReason::from_number(number).ok_or(Invalid::form(WHAT, "no such reason"))
}

/// A public key of any suite: at most 2 KiB.
fn public(map: &mut Reader, key: u64) -> Result<Vec<u8>, Invalid> {
    let bytes = map.bytes(key)?;
    if bytes.len() <= 2048 { Ok(bytes) } else { Err(Invalid::new(WHAT, crate::Fault::TooLarge)) }
}
