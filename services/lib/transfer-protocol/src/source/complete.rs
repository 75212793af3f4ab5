//! Released and everything after it: forward only.

use domicile_evidence::statement::Body;
use domicile_types::{Code, Error, Result, Timestamp};

use super::{ConsentChange, ResidencyChange, SourceChange, SourceFacts, Standing, wrong_state};
use crate::digest::Digest;
use crate::state::State;

/// What was sealed and computed before the releasing transaction began.
#[derive(Clone, Debug)]
pub struct ReleaseInputs {
    /// Under which freeze the root was computed.
    pub freeze: u32,
    /// The source's own root over its live tables joined to the stored digests.
    pub root: Digest,
    /// The control rows' revision at which they were sealed.
    pub control_revision: u64,
    /// The sealed key release and control rows.
    pub key_release: Vec<u8>,
    /// Its SHA-256.
    pub key_release_digest: Digest,
}

/// What the source says about what it erased.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// Versions of items erased.
    pub rows: u64,
    /// Objects erased.
    pub objects: u64,
    /// Keys destroyed.
    pub keys: u64,
    /// When the last backup that holds a destroyed key expires.
    pub provable_at: Timestamp,
}

impl SourceFacts {
    /// **Released**: completion, in one transaction. Exactly one of this and a withdrawal wins, because
    /// both change the same consent row.
    ///
    /// # Errors
    /// The consent's codes; [`Code::LegalHold`]; [`Code::RootMismatch`] when the roots differ;
    /// [`Code::Conflict`] when the freeze or the control rows changed since the inputs were made.
    pub fn release(&self, inputs: &ReleaseInputs) -> Result<SourceChange> {
        self.require(State::Staged)?;
        self.active_consent()?;
        if self.held {
            return Err(Error::new(Code::LegalHold));
        }
        let staged = self.row.staged.as_ref().ok_or_else(|| wrong_state(self.row.state))?;
        let same_freeze = inputs.freeze == self.row.freeze && staged.freeze == self.row.freeze;
        let still = self.residency.standing == Standing::Frozen
            && Some(self.residency.revision) == self.row.final_revision
            && staged.final_revision == self.residency.revision;
        if !same_freeze || !still || inputs.control_revision != self.residency.control_revision {
            return Err(Error::new(Code::Conflict));
        }
        if staged.root != inputs.root {
            return Err(Error::new(Code::RootMismatch));
        }
        let consent = self.row.consent.as_ref().ok_or_else(|| Error::new(Code::ConsentMissing))?;
        let epoch = self.residency.epoch.saturating_add(1);
        let body = Body::Released {
            freeze: self.row.freeze,
            final_revision: self.residency.revision,
            root: inputs.root.0,
            epoch,
            key_release_digest: inputs.key_release_digest.0,
            consent_digest: consent.digest.0,
        };
        let mut row = self.moved_to(State::Released, None);
        row.epoch = Some(epoch);
        row.freeze_deadline = None;
        Ok(SourceChange {
            emit: Some(body),
            consent: Some(ConsentChange::Complete),
            residency: Some(ResidencyChange::Release { epoch }),
            key_release: Some(inputs.key_release.clone()),
            ..SourceChange::row(row)
        })
    }

    pub(super) fn adopted(&self, epoch: u64) -> Result<SourceChange> {
        self.require(State::Released)?;
        self.require_epoch(epoch)?;
        let row = self.moved_to(State::Adopted, None);
        let residency = Some(ResidencyChange::Moved { to: self.row.to.clone() });
        Ok(SourceChange { residency, ..SourceChange::row(row) })
    }

    pub(super) fn rekeyed(&self, epoch: u64) -> Result<SourceChange> {
        self.require(State::Adopted)?;
        self.require_epoch(epoch)?;
        Ok(SourceChange::row(self.moved_to(State::Rekeyed, None)))
    }

    fn require_epoch(&self, epoch: u64) -> Result<()> {
        if self.row.epoch == Some(epoch) {
            Ok(())
        } else {
            Err(Error::new(Code::StatementInvalid).at("epoch"))
        }
    }

    /// Whether the source's copy may be destroyed: a valid Rekeyed is here, no hold, and the record is
    /// this transfer's to erase (the late shred of an earlier move finds another epoch or standing).
    ///
    /// # Errors
    /// [`Code::TransferState`], [`Code::LegalHold`].
    pub fn may_shred(&self) -> Result<()> {
        self.require_running()?;
        self.require(State::Rekeyed)?;
        if self.held {
            return Err(Error::new(Code::LegalHold));
        }
        let mine =
            self.residency.standing == Standing::Released && self.row.epoch == Some(self.residency.epoch);
        if mine { Ok(()) } else { Err(Error::new(Code::TransferState).at("epoch")) }
    }

    /// Notes how many keys there were before the first is destroyed, so that the certificate is right
    /// also when the erasure is cut off and repeated. `None` when that is noted.
    ///
    /// # Errors
    /// As [`Self::may_shred`].
    pub fn begin_shred(&self, keys: u64) -> Result<Option<SourceChange>> {
        self.may_shred()?;
        if self.row.keys_to_destroy.is_some() {
            return Ok(None);
        }
        let mut row = self.row.clone();
        row.keys_to_destroy = Some(keys);
        Ok(Some(SourceChange::row(row)))
    }

    /// The copy is destroyed and a scan found nothing: only the tombstone stays.
    ///
    /// # Errors
    /// As [`Self::may_shred`].
    pub fn shredded(&self, certificate: &Certificate) -> Result<SourceChange> {
        self.may_shred()?;
        let row = self.moved_to(State::Shredded, None);
        let body = Body::Shredded {
            epoch: self.residency.epoch,
            rows: certificate.rows,
            objects: certificate.objects,
            keys: certificate.keys,
            unreadable_at: self.now,
            provable_at: certificate.provable_at,
            method: METHOD.to_owned(),
        };
        Ok(SourceChange {
            emit: Some(body),
            residency: Some(ResidencyChange::Depart { to: self.row.to.clone() }),
            ..SourceChange::row(row)
        })
    }

    /// Both logs tell the same story and each holds the other's checkpoint.
    ///
    /// # Errors
    /// [`Code::TransferState`] unless Shredded.
    pub fn close(&self) -> Result<SourceChange> {
        self.require(State::Shredded)?;
        Ok(SourceChange::row(self.moved_to(State::Closed, None)))
    }
}

/// NIST SP 800-88 Rev. 1, cryptographic erase and clear.
const METHOD: &str = "nist-800-88/cryptographic-erase+clear";
