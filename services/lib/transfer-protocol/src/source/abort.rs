//! Withdrawal, expiry, failure, cancellation: everything that ends a transfer before it completes.

use domicile_evidence::statement::{AbortReason, Body};
use domicile_types::{Code, Error, Result};

use super::{ConsentChange, ResidencyChange, SourceChange, SourceFacts, Standing};
use crate::state::State;

impl SourceFacts {
    /// Ends the transfer. One transaction ends the consent and unfreezes; the travel key is destroyed
    /// right after it. `None` when it is ending or has ended already: the same answer again.
    ///
    /// # Errors
    /// [`Code::TransferComplete`] from Released on: withdrawn and released exclude each other.
    pub fn abort(&self, reason: AbortReason) -> Result<Option<SourceChange>> {
        if matches!(self.row.state, State::Aborting | State::Aborted) {
            return Ok(None);
        }
        if !self.row.state.withdrawable() {
            return Err(Error::new(Code::TransferComplete));
        }
        let mut row = self.moved_to(State::Aborting, None);
        row.abort = Some(reason);
        row.paused = false;
        row.freeze_deadline = None;
        row.staged = None;
        let consent = self.consent.as_ref().filter(|consent| consent.active).map(|_| match reason {
            AbortReason::Withdrawn => ConsentChange::Withdraw,
            _ => ConsentChange::Expire,
        });
        let frozen = self.residency.standing == Standing::Frozen;
        Ok(Some(SourceChange {
            emit: Some(Body::Aborting { reason }),
            consent,
            residency: frozen.then_some(ResidencyChange::Unfreeze),
            ..SourceChange::row(row)
        }))
    }

    /// Ends the transfer when its deadline or its consent's time is over; `None` while they hold.
    ///
    /// # Errors
    /// None that a caller could mend.
    pub fn expire(&self) -> Result<Option<SourceChange>> {
        let past = self.row.deadline.is_some_and(|deadline| deadline <= self.now);
        let lapsed = self.consent.as_ref().is_some_and(|consent| consent.expires_at <= self.now);
        if self.row.state.withdrawable() && (past || lapsed) {
            self.abort(AbortReason::Expired)
        } else {
            Ok(None)
        }
    }
}

/// Abort reasons as words in the row.
pub(crate) mod reason {
    use domicile_evidence::statement::AbortReason;
    use serde::{Deserialize, Deserializer, Serializer};

    #[expect(clippy::ref_option, reason = "serde's signature")]
    pub(crate) fn serialize<S: Serializer>(reason: &Option<AbortReason>, out: S) -> Result<S::Ok, S::Error> {
        match reason {
            Some(reason) => out.serialize_some(reason.name()),
            None => out.serialize_none(),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<Option<AbortReason>, D::Error> {
        let Some(text) = Option::<String>::deserialize(input)? else { return Ok(None) };
        let known = AbortReason::parse(&text);
        known.map(Some).ok_or_else(|| serde::de::Error::custom("unknown abort reason"))
    }
}
