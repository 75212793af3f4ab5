//! The destination region's row: what it takes in from the source's lane, what it signs.

use domicile_evidence::statement::{AbortReason, Body};
use domicile_types::{Code, ConsentId, Error, RegionId, Result, SubjectId, Timestamp, TransferId};
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::lanes::{Arrival, Lanes, Received};
use crate::source::{StagedClaim, wrong_state};
use crate::state::State;
use crate::versions::{PROTOCOL_VERSION, spoken};

/// One transfer as its destination region holds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Destination {
    /// The transfer.
    pub transfer: TransferId,
    /// The subject's counter of transfers.
    pub attempt: u64,
    /// From.
    pub from: RegionId,
    /// To: this region.
    pub to: RegionId,
    /// Where it stands.
    pub state: State,
    /// Why it ended, when it did.
    #[serde(with = "crate::source::reason")]
    pub abort: Option<AbortReason>,
    /// The statements.
    pub lanes: Lanes,
    /// The highest fencing token seen.
    pub token: u64,
    /// When the request arrived.
    pub requested_at: Timestamp,
    /// When the state last changed.
    pub changed_at: Timestamp,
    /// Why this region cannot advance: an error code.
    pub refused: Option<String>,
    /// The consent, as the source's statement names it.
    pub consent: Option<ConsentSeen>,
    /// The public half of the attempt's key pair.
    pub hpke_public: Option<Vec<u8>>,
    /// The revision up to which every row is here.
    pub cursor: u64,
    /// The source's revision at the last page.
    pub revision: u64,
    /// Whether the source fell back, so that rows are compared before the next pull.
    pub compare: bool,
    /// The source's present freeze.
    pub frozen: Option<FreezeSeen>,
    /// What was signed under it.
    pub staged: Option<StagedClaim>,
    /// The source's Released.
    pub released: Option<ReleasedSeen>,
    /// Whose record; known from the key release on.
    pub subject: Option<SubjectId>,
    /// The source's certificate, when it has erased its copy.
    pub provable_at: Option<Timestamp>,
}

/// The source's Consented.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsentSeen {
    /// The consent.
    pub id: ConsentId,
    /// SHA-256 of everything it binds.
    pub digest: Digest,
    /// Until when it holds.
    pub expires_at: Timestamp,
}

/// The source's Frozen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FreezeSeen {
    /// Its number.
    pub freeze: u32,
    /// The record's revision under it.
    pub final_revision: u64,
}

/// The source's Released.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleasedSeen {
    /// The root both sides hold.
    pub root: Digest,
    /// The record's epoch here.
    pub epoch: u64,
    /// SHA-256 of the key release.
    pub key_release: Digest,
}

/// What a transaction of the destination saw.
#[derive(Clone, Debug)]
pub struct DestinationFacts {
    /// The row.
    pub row: Destination,
    /// The present instant.
    pub now: Timestamp,
}

/// What to commit in the transaction.
#[derive(Clone, Debug)]
pub struct DestinationChange {
    /// The row afterwards, without the statement to be signed.
    pub row: Destination,
    /// The other region's statement taken in.
    pub accept: Option<Received>,
    /// What to sign.
    pub emit: Option<Body>,
    /// Whether to leave a tombstone that refuses late messages.
    pub tombstone: bool,
}

impl DestinationChange {
    /// Only the row changes.
    #[must_use]
    pub fn row(row: Destination) -> Self {
        Self { row, accept: None, emit: None, tombstone: false }
    }
}

/// A transfer that comes to this region: from the source's Requested.
///
/// # Errors
/// [`Code::StatementInvalid`] when it is no first statement of a transfer to `here` from its origin.
pub fn invited(here: &RegionId, received: Received, now: Timestamp) -> Result<DestinationChange> {
    let Body::Requested { source, destination, .. } = &received.body else {
        return Err(Error::new(Code::StatementInvalid).at("step"));
    };
    if destination != here || *source != received.statement.origin || source == here {
        return Err(Error::new(Code::StatementInvalid).at("regions"));
    }
    let mut row = Destination {
        transfer: received.statement.transfer,
        attempt: received.statement.attempt,
        from: source.clone(),
        to: destination.clone(),
        state: State::Requested,
        abort: None,
        lanes: Lanes::default(),
        token: 0,
        requested_at: now,
        changed_at: now,
        refused: None,
        consent: None,
        hpke_public: None,
        cursor: 0,
        revision: 0,
        compare: false,
        frozen: None,
        staged: None,
        released: None,
        subject: None,
        provable_at: None,
    };
    row.lanes.accept(&received)?;
    Ok(DestinationChange { accept: Some(received), ..DestinationChange::row(row) })
}

impl DestinationFacts {
    fn moved_to(&self, state: State) -> Destination {
        let mut row = self.row.clone();
        row.state = state;
        row.changed_at = self.now;
        row.refused = None;
        row
    }

    fn require(&self, state: State) -> Result<()> {
        if self.row.state == state { Ok(()) } else { Err(wrong_state(self.row.state)) }
    }

    /// Takes in a statement of the source; `None` when it is known.
    ///
    /// # Errors
    /// [`Code::StatementInvalid`]; [`Code::AttemptStale`] for another attempt.
    pub fn receive(&self, received: Received) -> Result<Option<DestinationChange>> {
        if received.statement.attempt != self.row.attempt {
            return Err(Error::new(Code::AttemptStale));
        }
        let mut lanes = self.row.lanes.clone();
        if lanes.accept(&received)? == Arrival::Known {
            return Ok(None);
        }
        let mut row = self.apply(&received.body)?;
        row.lanes = lanes;
        Ok(Some(DestinationChange { accept: Some(received), ..DestinationChange::row(row) }))
    }

    fn apply(&self, body: &Body) -> Result<Destination> {
        match body {
            Body::Preflighted { protocol, .. }
                if matches!(self.row.state, State::Requested | State::Preflighted) =>
            {
                spoken(*protocol)?;
                Ok(self.row.clone())
            }
            Body::Consented { consent, consent_digest, expires_at, .. } => {
                self.require(State::Preflighted)?;
                let mut row = self.moved_to(State::Consented);
                row.consent = Some(ConsentSeen {
                    id: *consent,
                    digest: Digest(*consent_digest),
                    expires_at: *expires_at,
                });
                Ok(row)
            }
            Body::Frozen { freeze, final_revision } => {
                self.require(State::Copying)?;
                let mut row = self.moved_to(State::Frozen);
                row.frozen = Some(FreezeSeen { freeze: *freeze, final_revision: *final_revision });
                row.staged = None;
                Ok(row)
            }
            Body::Unfrozen { .. } if matches!(self.row.state, State::Frozen | State::Staged) => {
                let mut row = self.moved_to(State::Copying);
                row.refused = self.row.refused.clone();
                row.frozen = None;
                row.staged = None;
                row.compare = true;
                Ok(row)
            }
            Body::Released { freeze, root, epoch, key_release_digest, .. } => {
                self.released(*freeze, Digest(*root), *epoch, Digest(*key_release_digest))
            }
            Body::Shredded { provable_at, .. } => {
                self.require(State::Rekeyed)?;
                let mut row = self.moved_to(State::Shredded);
                row.provable_at = Some(*provable_at);
                Ok(row)
            }
            Body::Aborting { reason } if self.row.state.withdrawable() => {
                let mut row = self.moved_to(State::Aborting);
                row.abort = Some(*reason);
                Ok(row)
            }
            _ => Err(Error::new(Code::StatementInvalid).at("step")),
        }
    }

    fn released(&self, freeze: u32, root: Digest, epoch: u64, key_release: Digest) -> Result<Destination> {
        self.require(State::Staged)?;
        let staged = self.row.staged.as_ref();
        if !staged.is_some_and(|staged| staged.freeze == freeze && staged.root == root) {
            return Err(Error::new(Code::StatementInvalid).at("root"));
        }
        let mut row = self.moved_to(State::Released);
        row.released = Some(ReleasedSeen { root, epoch, key_release });
        Ok(row)
    }

    /// This region would take the record.
    ///
    /// # Errors
    /// [`Code::TransferState`] unless Requested.
    pub fn preflighted(&self, kinds: u32) -> Result<DestinationChange> {
        self.require(State::Requested)?;
        let body = Body::Preflighted { offer_digest: None, kinds, protocol: PROTOCOL_VERSION };
        Ok(DestinationChange {
            emit: Some(body),
            ..DestinationChange::row(self.moved_to(State::Preflighted))
        })
    }

    /// The attempt's key pair is made, its private half wrapped and committed.
    ///
    /// # Errors
    /// [`Code::TransferState`] unless Consented.
    pub fn prepared(&self, suite: u16, public: Vec<u8>) -> Result<DestinationChange> {
        self.require(State::Consented)?;
        let mut row = self.moved_to(State::Copying);
        row.hpke_public = Some(public.clone());
        let body = Body::Copying { suite, hpke_public: public };
        Ok(DestinationChange { emit: Some(body), ..DestinationChange::row(row) })
    }

    /// Whether rows may be taken in now.
    ///
    /// # Errors
    /// [`Code::TransferState`] unless Copying or Frozen.
    pub fn may_pull(&self) -> Result<()> {
        if matches!(self.row.state, State::Copying | State::Frozen) {
            Ok(())
        } else {
            Err(wrong_state(self.row.state))
        }
    }

    /// A page is here: the cursor moves on, never back.
    ///
    /// # Errors
    /// As [`Self::may_pull`].
    pub fn pulled(&self, cursor: u64, revision: u64) -> Result<DestinationChange> {
        self.may_pull()?;
        let mut row = self.row.clone();
        row.cursor = row.cursor.max(cursor);
        row.revision = row.revision.max(revision);
        Ok(DestinationChange::row(row))
    }

    /// The rows were compared with the source's; differing ones have been dropped and pulled again.
    ///
    /// # Errors
    /// As [`Self::may_pull`].
    pub fn compared(&self) -> Result<DestinationChange> {
        self.may_pull()?;
        let mut row = self.row.clone();
        row.compare = false;
        Ok(DestinationChange::row(row))
    }

    /// Everything up to the frozen revision is here: sign what is here.
    ///
    /// # Errors
    /// [`Code::TransferState`] unless Frozen under this very freeze with every row here.
    pub fn staged(&self, claim: StagedClaim) -> Result<DestinationChange> {
        self.require(State::Frozen)?;
        let frozen = self.row.frozen.ok_or_else(|| wrong_state(self.row.state))?;
        let fits = frozen.freeze == claim.freeze && frozen.final_revision == claim.final_revision;
        if !fits || self.row.cursor < frozen.final_revision {
            return Err(Error::new(Code::TransferState).at("freeze"));
        }
        let body = Body::Staged {
            freeze: claim.freeze,
            final_revision: claim.final_revision,
            rows: claim.rows,
            objects: claim.objects,
            bytes: claim.bytes,
            root: claim.root.0,
        };
        let mut row = self.moved_to(State::Staged);
        row.staged = Some(claim);
        Ok(DestinationChange { emit: Some(body), ..DestinationChange::row(row) })
    }

    /// This region is home: the record's rows stand in its tables in the same transaction.
    ///
    /// # Errors
    /// [`Code::TransferState`] unless Released.
    pub fn adopted(&self, subject: SubjectId, rows: u64) -> Result<DestinationChange> {
        self.require(State::Released)?;
        let released = self.row.released.ok_or_else(|| wrong_state(self.row.state))?;
        let mut row = self.moved_to(State::Adopted);
        row.subject = Some(subject);
        let body = Body::Adopted { epoch: released.epoch, rows, root: released.root.0 };
        Ok(DestinationChange { emit: Some(body), ..DestinationChange::row(row) })
    }

    /// Everything is sealed again under this region's own keys, and a backup covers it.
    ///
    /// # Errors
    /// [`Code::TransferState`] unless Adopted.
    pub fn rekeyed(&self, rows: u64, objects: u64, backup: Digest) -> Result<DestinationChange> {
        self.require(State::Adopted)?;
        let released = self.row.released.ok_or_else(|| wrong_state(self.row.state))?;
        let body = Body::Rekeyed { epoch: released.epoch, rows, objects, backup_digest: backup.0 };
        Ok(DestinationChange { emit: Some(body), ..DestinationChange::row(self.moved_to(State::Rekeyed)) })
    }

    /// Everything of an aborted attempt is gone: leave a tombstone and sign.
    ///
    /// # Errors
    /// [`Code::TransferState`] unless Aborting.
    pub fn purged(&self) -> Result<DestinationChange> {
        self.require(State::Aborting)?;
        let reason = self.row.abort.ok_or_else(|| wrong_state(self.row.state))?;
        Ok(DestinationChange {
            emit: Some(Body::Aborted { reason }),
            tombstone: true,
            ..DestinationChange::row(self.moved_to(State::Aborted))
        })
    }

    /// Both logs tell the same story and each holds the other's checkpoint.
    ///
    /// # Errors
    /// [`Code::TransferState`] unless Shredded.
    pub fn close(&self) -> Result<DestinationChange> {
        self.require(State::Shredded)?;
        Ok(DestinationChange::row(self.moved_to(State::Closed)))
    }

    /// Names why this region cannot advance; `None` when that is already known.
    #[must_use]
    pub fn refuse(&self, cause: Code) -> Option<DestinationChange> {
        if self.row.refused.as_deref() == Some(cause.as_str()) || self.row.state.rests() {
            return None;
        }
        let mut row = self.row.clone();
        row.refused = Some(cause.as_str().to_owned());
        Some(DestinationChange::row(row))
    }
}
