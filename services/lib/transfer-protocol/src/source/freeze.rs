//! Freezing, the destination's answer, and falling back.

use domicile_evidence::statement::Body;
use domicile_types::{Code, Error, Result};

use super::{ResidencyChange, SourceChange, SourceFacts, StagedClaim, Standing};
use crate::numbers::Numbers;
use crate::state::State;

/// What the source has not sent yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unsent {
    /// Versions of items without a stored travel digest.
    pub rows: u64,
    /// Objects without one.
    pub objects: u64,
}

impl SourceFacts {
    /// Holds the record still. The residency's row is the one every write updates and is locked here,
    /// so no write is in flight afterwards and the final revision is known.
    ///
    /// # Errors
    /// [`Code::TransferState`] unless Copying, close enough, due, and the destination holds Consented;
    /// the consent's codes; [`Code::LegalHold`].
    pub fn freeze(&self, unsent: Unsent, numbers: &Numbers) -> Result<SourceChange> {
        self.require_running()?;
        self.require(State::Copying)?;
        self.active_consent()?;
        if self.held {
            return Err(Error::new(Code::LegalHold));
        }
        if self.residency.standing != Standing::Active {
            return Err(Error::new(Code::TransferState).at("residency"));
        }
        if unsent.rows > numbers.freeze_lag_rows || unsent.objects > 0 {
            return Err(Error::new(Code::TransferState).at("lag"));
        }
        if self.row.freeze_not_before > self.now {
            return Err(Error::new(Code::TransferState).at("pause between freezes"));
        }
        let mut row = self.moved_to(State::Frozen, self.row.deadline);
        row.freeze = self.row.freeze.saturating_add(1);
        row.freeze_deadline = Some(self.now.plus(numbers.freeze_budget));
        row.final_revision = Some(self.residency.revision);
        row.staged = None;
        let body = Body::Frozen { freeze: row.freeze, final_revision: self.residency.revision };
        Ok(SourceChange {
            emit: Some(body),
            residency: Some(ResidencyChange::Freeze),
            ..SourceChange::row(row)
        })
    }

    /// The destination's answer. An answer of another freeze changes nothing.
    pub(super) fn staged(&self, claim: StagedClaim) -> SourceChange {
        if self.row.state != State::Frozen || claim.freeze != self.row.freeze {
            return SourceChange::row(self.row.clone());
        }
        let mut row = self.moved_to(State::Staged, self.row.deadline);
        row.staged = Some(claim);
        SourceChange::row(row)
    }

    /// Lets writes go on when the freeze's budget has run out; ends the transfer after the last try.
    /// `None` when there is nothing to do.
    ///
    /// # Errors
    /// None that a caller could mend.
    pub fn budget(&self, numbers: &Numbers) -> Result<Option<SourceChange>> {
        let frozen = matches!(self.row.state, State::Frozen | State::Staged);
        let over = self.row.freeze_deadline.is_some_and(|deadline| deadline <= self.now);
        if !frozen || !over {
            return Ok(None);
        }
        let tries = self.row.freeze_tries.saturating_add(1);
        if tries >= numbers.freeze_tries {
            return self.abort(domicile_evidence::statement::AbortReason::Failed);
        }
        let mut change = self.unfreeze();
        change.row.freeze_tries = tries;
        change.row.freeze_not_before = self.now.plus(numbers.pause_after(tries));
        Ok(Some(change))
    }

    /// The roots differ: back to copying, the differing rows are pulled again; ends the transfer after
    /// the last time.
    ///
    /// # Errors
    /// [`Code::TransferState`] unless Staged.
    pub fn mismatch(&self, numbers: &Numbers) -> Result<Option<SourceChange>> {
        self.require(State::Staged)?;
        let times = self.row.mismatches.saturating_add(1);
        if times >= numbers.mismatches {
            return self.abort(domicile_evidence::statement::AbortReason::Failed);
        }
        let mut change = self.unfreeze();
        change.row.mismatches = times;
        Ok(Some(change))
    }

    /// Whether the transfer has stood still for too long past the point of no return.
    #[must_use]
    pub fn overdue(&self, numbers: &Numbers) -> bool {
        let past =
            !self.row.state.withdrawable() && !self.row.state.rests() && self.row.state != State::Aborting;
        past && self.row.changed_at.plus(numbers.stuck_after) <= self.now
    }

    fn unfreeze(&self) -> SourceChange {
        let mut row = self.moved_to(State::Copying, self.row.deadline);
        row.freeze_deadline = None;
        row.final_revision = None;
        row.staged = None;
        let body = Body::Unfrozen { freeze: self.row.freeze };
        SourceChange {
            emit: Some(body),
            residency: Some(ResidencyChange::Unfreeze),
            ..SourceChange::row(row)
        }
    }
}
