//! The source region's row: each method looks at the facts of one transaction and answers with the
//! change to commit in it, or refuses.

use domicile_evidence::statement::{AbortReason, Body};
use domicile_types::{AccountId, Code, ConsentId, Error, RegionId, Result, SubjectId, Timestamp, TransferId};
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::lanes::{Arrival, Lanes, Received};
use crate::numbers::Numbers;
use crate::state::State;
use crate::versions::{PROTOCOL_VERSION, spoken};

mod abort;
mod complete;
mod consent;
mod freeze;

pub(crate) use abort::reason;
pub use complete::{Certificate, ReleaseInputs};
pub use consent::{ConsentGiven, ConsentRef};
pub use freeze::Unsent;

/// One transfer as its source region holds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// The transfer.
    pub transfer: TransferId,
    /// The subject's counter of transfers, never reused.
    pub attempt: u64,
    /// Whose record.
    pub subject: SubjectId,
    /// Who asked.
    pub account: AccountId,
    /// From: this region.
    pub from: RegionId,
    /// To.
    pub to: RegionId,
    /// Where it stands.
    pub state: State,
    /// Why it ended, when it did.
    #[serde(with = "abort::reason")]
    pub abort: Option<AbortReason>,
    /// The statements.
    pub lanes: Lanes,
    /// The highest fencing token seen.
    pub token: u64,
    /// When it was asked for.
    pub requested_at: Timestamp,
    /// When the state last changed.
    pub changed_at: Timestamp,
    /// When the state must have changed.
    pub deadline: Option<Timestamp>,
    /// Held by an operator.
    pub paused: bool,
    /// Why it does not advance: an error code.
    pub stuck: Option<String>,
    /// What blocks the offer: error codes with a place.
    pub blockers: Vec<String>,
    /// The offer's digest.
    pub offer: Option<Digest>,
    /// The consent.
    pub consent: Option<ConsentRef>,
    /// The destination's public key for this attempt.
    pub hpke_public: Option<Vec<u8>>,
    /// The number of the last freeze.
    pub freeze: u32,
    /// When the present freeze must end.
    pub freeze_deadline: Option<Timestamp>,
    /// Not to be frozen again before this.
    pub freeze_not_before: Timestamp,
    /// Freezes that ran out.
    pub freeze_tries: u32,
    /// How often the roots differed.
    pub mismatches: u32,
    /// The record's revision under the present freeze.
    pub final_revision: Option<u64>,
    /// What the destination signed under the present freeze.
    pub staged: Option<StagedClaim>,
    /// The record's epoch after the move.
    pub epoch: Option<u64>,
    /// Whether the client asked for a forwarding locator.
    pub locator: bool,
    /// Keys counted when the erasure began.
    pub keys_to_destroy: Option<u64>,
    /// An operator's last reason for holding, resuming or ending it.
    pub operator_reason: Option<String>,
}

/// What the destination signed as staged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StagedClaim {
    /// Under which freeze.
    pub freeze: u32,
    /// Up to which revision.
    pub final_revision: u64,
    /// Versions of items.
    pub rows: u64,
    /// Objects.
    pub objects: u64,
    /// Sealed bytes.
    pub bytes: u64,
    /// The Merkle root over all digests.
    pub root: Digest,
}

/// What a transaction of the source saw, locked in the order consent, transfer, residency.
#[derive(Clone, Debug)]
pub struct SourceFacts {
    /// The row.
    pub row: Source,
    /// The consent, when one was given.
    pub consent: Option<ConsentFacts>,
    /// The record's residency; the row that every write of the record updates.
    pub residency: ResidencyFacts,
    /// Whether a legal hold covers the record.
    pub held: bool,
    /// The present instant.
    pub now: Timestamp,
}

/// The consent's row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsentFacts {
    /// The consent.
    pub id: ConsentId,
    /// Whose.
    pub subject: SubjectId,
    /// For which attempt.
    pub attempt: u64,
    /// For which destination.
    pub destination: RegionId,
    /// For which offer.
    pub offer: Digest,
    /// Neither withdrawn, expired nor used.
    pub active: bool,
    /// Until when it holds.
    pub expires_at: Timestamp,
}

/// The residency's row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResidencyFacts {
    /// The epoch.
    pub epoch: u64,
    /// The standing.
    pub standing: Standing,
    /// The record's revision.
    pub revision: u64,
    /// The control rows' revision.
    pub control_revision: u64,
}

/// Who serves the record, as one region's residency row says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Standing {
    /// Reads and writes.
    Active,
    /// Reads; writes wait.
    Frozen,
    /// Nothing is served yet.
    Incoming,
    /// Reads until the destination has adopted.
    Released,
    /// A tombstone.
    Departed,
}

/// What becomes of the consent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConsentChange {
    /// Withdrawn by the client.
    Withdraw,
    /// Its time is over, or the transfer failed or was cancelled.
    Expire,
    /// The transfer completed under it.
    Complete,
}

/// What becomes of the residency.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResidencyChange {
    /// Writes wait from here on.
    Freeze,
    /// Writes go on.
    Unfreeze,
    /// The record is the destination's.
    Release {
        /// The epoch it has there.
        epoch: u64,
    },
    /// The destination has adopted: reads are answered with MOVED.
    Moved {
        /// Where to.
        to: RegionId,
    },
    /// Erased: the tombstone.
    Depart {
        /// Where to.
        to: RegionId,
    },
}

/// What to commit in the transaction.
#[derive(Clone, Debug)]
pub struct SourceChange {
    /// The row afterwards, without the statement to be signed.
    pub row: Source,
    /// The other region's statement taken in.
    pub accept: Option<Received>,
    /// What to sign.
    pub emit: Option<Body>,
    /// What becomes of the consent.
    pub consent: Option<ConsentChange>,
    /// What becomes of the residency.
    pub residency: Option<ResidencyChange>,
    /// The sealed key release to keep for the destination.
    pub key_release: Option<Vec<u8>>,
    /// The offer's text to keep, whose digest the row names.
    pub offer: Option<String>,
}

impl SourceChange {
    /// Only the row changes.
    #[must_use]
    pub fn row(row: Source) -> Self {
        Self { row, accept: None, emit: None, consent: None, residency: None, key_release: None, offer: None }
    }
}

impl SourceFacts {
    /// The row in another state, with the instant noted.
    pub(crate) fn moved_to(&self, state: State, deadline: Option<Timestamp>) -> Source {
        let mut row = self.row.clone();
        row.state = state;
        row.changed_at = self.now;
        row.deadline = deadline;
        row.stuck = None;
        row
    }

    /// Refuses unless the row is in this state.
    pub(crate) fn require(&self, state: State) -> Result<()> {
        if self.row.state == state { Ok(()) } else { Err(wrong_state(self.row.state)) }
    }

    /// Refuses while an operator holds the transfer.
    pub(crate) fn require_running(&self) -> Result<()> {
        if self.row.paused { Err(Error::new(Code::TransferState).at("paused")) } else { Ok(()) }
    }

    /// The consent, if it is this client's, for this destination, offer and attempt, active and unexpired.
    ///
    /// # Errors
    /// One code for each way in which it is not.
    pub fn active_consent(&self) -> Result<&ConsentFacts> {
        let consent = self.consent.as_ref().ok_or_else(|| Error::new(Code::ConsentMissing))?;
        let row = &self.row;
        let same = consent.subject == row.subject
            && consent.attempt == row.attempt
            && consent.destination == row.to
            && Some(consent.offer) == row.offer
            && row.consent.as_ref().is_some_and(|known| known.id == consent.id);
        if !same {
            return Err(Error::new(Code::ConsentMismatch));
        }
        if !consent.active {
            return Err(Error::new(Code::ConsentWithdrawn));
        }
        if consent.expires_at <= self.now {
            return Err(Error::new(Code::ConsentExpired));
        }
        Ok(consent)
    }

    /// Whether rows may be sent now: copying, consented, not held still by an operator.
    ///
    /// # Errors
    /// The consent's code, or [`Code::TransferState`].
    pub fn may_send(&self) -> Result<()> {
        self.require_running()?;
        self.active_consent()?;
        if self.row.state.copies() { Ok(()) } else { Err(wrong_state(self.row.state)) }
    }

    /// Takes in a statement of the destination.
    ///
    /// # Errors
    /// [`Code::StatementInvalid`] when signature, lane or content do not fit; [`Code::AttemptStale`] for another
    /// attempt.
    pub fn receive(&self, received: Received) -> Result<Option<SourceChange>> {
        if received.statement.attempt != self.row.attempt {
            return Err(Error::new(Code::AttemptStale));
        }
        let mut lanes = self.row.lanes.clone();
        if lanes.accept(&received)? == Arrival::Known {
            return Ok(None);
        }
        let mut change = self.apply(&received)?;
        change.row.lanes = lanes;
        change.accept = Some(received);
        Ok(Some(change))
    }

    fn apply(&self, received: &Received) -> Result<SourceChange> {
        let state = self.row.state;
        match &received.body {
            Body::Preflighted { protocol, .. } if state == State::Requested => {
                spoken(*protocol)?;
                Ok(SourceChange::row(self.row.clone()))
            }
            Body::Copying { hpke_public, .. } => {
                let mut row = self.row.clone();
                row.hpke_public = Some(hpke_public.clone());
                Ok(SourceChange::row(row))
            }
            Body::Staged { freeze, final_revision, rows, objects, bytes, root } => {
                let claim = StagedClaim {
                    freeze: *freeze,
                    final_revision: *final_revision,
                    rows: *rows,
                    objects: *objects,
                    bytes: *bytes,
                    root: Digest(*root),
                };
                Ok(self.staged(claim))
            }
            Body::Adopted { epoch, .. } => self.adopted(*epoch),
            Body::Rekeyed { epoch, .. } => self.rekeyed(*epoch),
            Body::Aborted { .. } if state == State::Aborting => {
                Ok(SourceChange::row(self.moved_to(State::Aborted, None)))
            }
            // A statement that crossed our own Aborting on the way: kept in the lane, without effect.
            Body::Preflighted { .. } if state == State::Aborting => Ok(SourceChange::row(self.row.clone())),
            _ => Err(Error::new(Code::StatementInvalid).at("step")),
        }
    }

    /// An operator holds the transfer.
    ///
    /// # Errors
    /// [`Code::PauseRefused`] from Frozen to Adopted and at rest.
    pub fn pause(&self, reason: &str) -> Result<SourceChange> {
        if !self.row.state.pausable() || self.row.state == State::Aborting {
            return Err(Error::new(Code::PauseRefused));
        }
        let mut row = self.row.clone();
        row.paused = true;
        row.operator_reason = Some(reason.to_owned());
        Ok(SourceChange::row(row))
    }

    /// An operator lets the transfer go on.
    ///
    /// # Errors
    /// [`Code::TransferState`] at rest.
    pub fn resume(&self, reason: &str) -> Result<SourceChange> {
        if self.row.state.rests() {
            return Err(wrong_state(self.row.state));
        }
        let mut row = self.row.clone();
        row.paused = false;
        row.operator_reason = Some(reason.to_owned());
        Ok(SourceChange::row(row))
    }

    /// Names why the transfer does not advance; `None` when that is already known.
    #[must_use]
    pub fn stuck(&self, cause: Code) -> Option<SourceChange> {
        if self.row.stuck.as_deref() == Some(cause.as_str()) || self.row.state.rests() {
            return None;
        }
        let mut row = self.row.clone();
        row.stuck = Some(cause.as_str().to_owned());
        Some(SourceChange::row(row))
    }

    /// The offer's blockers as preflight found them; the transfer stays Requested.
    ///
    /// # Errors
    /// [`Code::TransferState`] unless Requested.
    pub fn blocked(&self, blockers: Vec<String>) -> Result<SourceChange> {
        self.require(State::Requested)?;
        let mut row = self.row.clone();
        row.blockers = blockers;
        Ok(SourceChange::row(row))
    }

    /// Nothing blocks: the offer stands, with the destination's own Preflighted taken in.
    ///
    /// # Errors
    /// [`Code::TransferState`] unless Requested; [`Code::StatementInvalid`] for the statement;
    /// [`Code::DestinationRefuses`] when it signs another protocol version.
    pub fn preflighted(
        &self,
        (offer, text): (Digest, String),
        kinds: u32,
        peer: Received,
        numbers: &Numbers,
    ) -> Result<SourceChange> {
        self.require(State::Requested)?;
        if let Body::Preflighted { protocol, .. } = &peer.body {
            spoken(*protocol)?;
        }
        let mut row = self.moved_to(State::Preflighted, Some(self.now.plus(numbers.offer_open)));
        // The driver may have delivered it before this region asked again.
        let accept = match row.lanes.accept(&peer)? {
            Arrival::Next => Some(peer),
            Arrival::Known => None,
        };
        row.blockers = Vec::new();
        row.offer = Some(offer);
        let body = Body::Preflighted { offer_digest: Some(offer.0), kinds, protocol: PROTOCOL_VERSION };
        Ok(SourceChange { accept, emit: Some(body), offer: Some(text), ..SourceChange::row(row) })
    }

    /// The travel key is made and committed: rows may travel.
    ///
    /// # Errors
    /// [`Code::TransferState`] unless Consented and the destination's key is here; the consent's codes.
    pub fn open_copy(&self) -> Result<SourceChange> {
        self.require_running()?;
        self.require(State::Consented)?;
        self.active_consent()?;
        if self.row.hpke_public.is_none() {
            return Err(Error::new(Code::TransferState).at("destination key"));
        }
        Ok(SourceChange::row(self.moved_to(State::Copying, self.row.deadline)))
    }
}

pub(crate) fn wrong_state(state: State) -> Error {
    Error::new(Code::TransferState).at(state.as_str())
}

/// A new transfer: the row and its first statement.
#[must_use]
pub fn request(new: NewTransfer, numbers: &Numbers) -> SourceChange {
    let deadline = new.now.plus(numbers.offer_open);
    let body =
        Body::Requested { source: new.from.clone(), destination: new.to.clone(), expires_at: deadline };
    let row = Source {
        transfer: new.transfer,
        attempt: new.attempt,
        subject: new.subject,
        account: new.account,
        from: new.from,
        to: new.to,
        state: State::Requested,
        abort: None,
        lanes: Lanes::default(),
        token: 0,
        requested_at: new.now,
        changed_at: new.now,
        deadline: Some(deadline),
        paused: false,
        stuck: None,
        blockers: Vec::new(),
        offer: None,
        consent: None,
        hpke_public: None,
        freeze: 0,
        freeze_deadline: None,
        freeze_not_before: Timestamp::EPOCH,
        freeze_tries: 0,
        mismatches: 0,
        final_revision: None,
        staged: None,
        epoch: None,
        locator: false,
        keys_to_destroy: None,
        operator_reason: None,
    };
    SourceChange { emit: Some(body), ..SourceChange::row(row) }
}

/// What a new transfer is made of.
#[derive(Clone, Debug)]
pub struct NewTransfer {
    /// The transfer.
    pub transfer: TransferId,
    /// The subject's next attempt.
    pub attempt: u64,
    /// Whose record.
    pub subject: SubjectId,
    /// Who asks.
    pub account: AccountId,
    /// From.
    pub from: RegionId,
    /// To.
    pub to: RegionId,
    /// The present instant.
    pub now: Timestamp,
}
