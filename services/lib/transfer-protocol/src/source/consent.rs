//! The client's consent to one offer.

use domicile_evidence::statement::Body;
use domicile_types::{AccountId, Code, ConsentId, Error, RegionId, Result, Timestamp};
use serde::{Deserialize, Serialize};

use super::{SourceChange, SourceFacts, Standing};
use crate::digest::Digest;
use crate::numbers::Numbers;
use crate::state::State;

/// The consent a transfer runs under.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsentRef {
    /// The consent.
    pub id: ConsentId,
    /// SHA-256 of everything the consent binds.
    pub digest: Digest,
    /// Until when the transfer must have completed.
    pub expires_at: Timestamp,
}

/// What the client accepted, as they named it.
#[derive(Clone, Debug)]
pub struct ConsentGiven {
    /// A fresh id.
    pub id: ConsentId,
    /// Who gives it.
    pub account: AccountId,
    /// When the person last proved their credential.
    pub authenticated_at: Option<Timestamp>,
    /// The digest of the offer they were shown.
    pub offer: Digest,
    /// The destination they were shown.
    pub destination: RegionId,
    /// The text's version they were shown.
    pub notice_version: String,
    /// The text's version the offer holds.
    pub offered_version: String,
    /// SHA-256 of everything the consent binds.
    pub digest: Digest,
    /// Whether to keep a forwarding locator.
    pub locator: bool,
    /// Until when the transfer must have completed.
    pub expires_at: Timestamp,
}

impl SourceFacts {
    /// The client, freshly authenticated, accepts exactly the present offer.
    ///
    /// # Errors
    /// [`Code::FreshSignInNeeded`], [`Code::OfferNotReady`], [`Code::OfferStale`], [`Code::ConsentMismatch`]
    /// (another destination), [`Code::ConsentExpired`] (the offer's time is over), [`Code::LegalHold`].
    pub fn consent(&self, given: &ConsentGiven, numbers: &Numbers) -> Result<SourceChange> {
        if given.account != self.row.account {
            return Err(Error::new(Code::ConsentMismatch));
        }
        if self.row.state == State::Requested {
            return Err(Error::new(Code::OfferNotReady));
        }
        self.require(State::Preflighted)?;
        let fresh = given
            .authenticated_at
            .is_some_and(|at| at.plus(numbers.fresh_authentication) > self.now && at <= self.now);
        if !fresh {
            return Err(Error::new(Code::FreshSignInNeeded));
        }
        if given.destination != self.row.to {
            return Err(Error::new(Code::ConsentMismatch).at("destination"));
        }
        if Some(given.offer) != self.row.offer || given.notice_version != given.offered_version {
            return Err(Error::new(Code::OfferStale));
        }
        if self.row.deadline.is_some_and(|deadline| deadline <= self.now) {
            return Err(Error::new(Code::ConsentExpired).at("offer"));
        }
        if self.held {
            return Err(Error::new(Code::LegalHold));
        }
        if self.residency.standing != Standing::Active {
            return Err(Error::new(Code::TransferState).at("residency"));
        }
        let expires_at = given.expires_at.min(self.now.plus(numbers.consent_valid));
        let mut row = self.moved_to(State::Consented, Some(expires_at));
        row.consent = Some(ConsentRef { id: given.id, digest: given.digest, expires_at });
        row.locator = given.locator;
        let body = Body::Consented {
            consent: given.id,
            consent_digest: given.digest.0,
            offer_digest: given.offer.0,
            notice_version: given.notice_version.clone(),
            destination: self.row.to.clone(),
            expires_at,
        };
        Ok(SourceChange { emit: Some(body), ..SourceChange::row(row) })
    }
}
