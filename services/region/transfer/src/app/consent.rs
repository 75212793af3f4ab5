//! Requesting, consenting, withdrawing.

use std::sync::Arc;

use domicile_crypto::sha256;
use domicile_evidence::statement::{AbortReason, SignedStatement};
use domicile_transfer_protocol::rows::{ConsentEventRow, ConsentRow};
use domicile_transfer_protocol::source::ConsentGiven;
use domicile_transfer_protocol::store::{Driver, NewConsent, Request};
use domicile_transfer_protocol::{Digest, Source, SourceFacts, TransferStore};
use domicile_types::{
    AccountId, Actor, AuditScope, Code, ConsentId, Error, RegionId, Result, Timestamp, TransferId,
};

use super::{Offer, Transfers};

/// What a client accepted, as they named it.
#[derive(Clone, Debug)]
pub struct GivenConsent {
    /// The offer's digest.
    pub offer: Digest,
    /// The destination.
    pub destination: RegionId,
    /// The text's version.
    pub notice_version: String,
    /// The text's language.
    pub locale: String,
    /// Whether to keep a forwarding locator.
    pub locator: bool,
    /// The separate authorization for psychotherapy notes.
    pub psychotherapy: bool,
}

/// A consent's bound facts, hashed length-prefixed.
struct Bound<'a> {
    id: ConsentId,
    row: &'a Source,
    account: AccountId,
    given: &'a GivenConsent,
    notice: Digest,
    at: Timestamp,
    expires_at: Timestamp,
}

impl Bound<'_> {
    fn digest(&self) -> Digest {
        let attempt = self.row.attempt.to_be_bytes();
        let at = self.at.micros().to_be_bytes();
        let expires = self.expires_at.micros().to_be_bytes();
        let flags = [u8::from(self.given.psychotherapy), u8::from(self.given.locator)];
        let parts: [&[u8]; 13] = [
            b"domicile/consent/1",
            self.id.as_bytes(),
            self.row.transfer.as_bytes(),
            &attempt,
            self.account.as_bytes(),
            self.row.from.as_str().as_bytes(),
            self.row.to.as_str().as_bytes(),
            self.given.offer.as_bytes(),
            self.given.notice_version.as_bytes(),
            self.notice.as_bytes(),
            &at,
            &expires,
            &flags,
        ];
        let mut bytes = Vec::with_capacity(256);
        for part in parts {
            bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
            bytes.extend_from_slice(part);
        }
        Digest(sha256(&bytes))
    }
}

impl<S: TransferStore> Transfers<S> {
    /// The client asks for a move of their own record.
    ///
    /// # Errors
    /// [`Code::TransferNotAllowed`] for a pair the regions do not allow; what the store refuses.
    pub async fn request(&self, scope: Arc<AuditScope>, to: RegionId, idempotency: String) -> Result<Source> {
        let subject = scope.actor.subject()?;
        let account = scope.actor.account()?;
        scope.concerns(subject);
        if self.policies.allowed(&self.region, &to).is_none() {
            return Err(Error::new(Code::TransferNotAllowed).at(self.elsewhere(&to)));
        }
        self.peers.client(&to)?;
        if !(16..=64).contains(&idempotency.len()) {
            return Err(Error::new(Code::InvalidRequest).at("idempotency_key"));
        }
        let transfer = TransferId::generate(&self.ctx);
        scope.moves(transfer);
        let request = Request { transfer, subject, account, to, idempotency };
        let row = self.store.request(request, Some(scope)).await?;
        self.changed(row.transfer);
        Ok(row)
    }

    /// A region that is not among those a record may move to from here, and those that are.
    fn elsewhere(&self, to: &RegionId) -> String {
        let allowed = self.policies.destinations(&self.region);
        let allowed: Vec<_> =
            allowed.filter(|region| self.peers.client(region).is_ok()).map(RegionId::as_str).collect();
        format!("{to}: from {} a record may move to {}", self.region, allowed.join(", "))
    }

    /// The source row of the caller's own transfer; another's is not found.
    pub(super) async fn own_source(&self, actor: &Actor, transfer: TransferId) -> Result<Source> {
        let subject = actor.subject()?;
        let row = self.source(transfer).await?;
        if row.subject == subject { Ok(row) } else { Err(Error::new(Code::NotFound).at("transfer")) }
    }

    /// The offer of the caller's own transfer, if there is one yet.
    ///
    /// # Errors
    /// [`Code::NotFound`] for another's transfer; [`Code::OfferNotReady`].
    pub async fn offer(&self, scope: &AuditScope, transfer: TransferId) -> Result<(Source, Option<Offer>)> {
        let row = self.own_source(&scope.actor, transfer).await?;
        scope.concerns(row.subject);
        scope.moves(transfer);
        let text = self.store.offer(transfer).await?;
        Ok((row, text.as_deref().map(Offer::read).transpose()?))
    }

    /// The client consents to exactly one offer.
    ///
    /// # Errors
    /// One code for each way in which the consent does not fit; zero bytes have been sent.
    pub async fn consent(
        &self,
        scope: Arc<AuditScope>,
        transfer: TransferId,
        given: GivenConsent,
    ) -> Result<(Source, SignedStatement)> {
        let (row, offer) = self.offer(&scope, transfer).await?;
        let account = scope.actor.account()?;
        let offer = offer.ok_or_else(|| match row.blockers.as_slice() {
            [] => Error::new(Code::OfferNotReady),
            blockers => Error::new(Code::TransferBlocked).at(blockers.join(", ")),
        })?;
        if offer.psychotherapy && !given.psychotherapy {
            return Err(
                Error::new(Code::TransferBlocked).at("psychotherapy notes take their own authorization")
            );
        }
        let (locale, notice) = offer.notice(&given.locale);
        let now = self.ctx.now();
        let notice = Digest(sha256(notice.as_bytes()));
        let id = ConsentId::generate(&self.ctx);
        let expires_at = now.plus(self.numbers().consent_valid);
        let digest = Bound { id, row: &row, account, given: &given, notice, at: now, expires_at }.digest();
        let decided = ConsentGiven {
            id,
            account,
            authenticated_at: scope.actor.authenticated_at,
            offer: given.offer,
            destination: given.destination.clone(),
            notice_version: given.notice_version.clone(),
            offered_version: offer.notice_version.clone(),
            digest,
            locator: given.locator,
            expires_at,
        };
        let consent = ConsentRow {
            consent: id,
            account,
            purpose: "transfer".to_owned(),
            transfer: Some(transfer),
            attempt: row.attempt,
            source: row.from.clone(),
            destination: Some(given.destination),
            offer: Some(given.offer),
            digest,
            notice_version: given.notice_version,
            locale: locale.to_owned(),
            notice,
            status: "active".to_owned(),
            given_at: now,
            expires_at,
            ended_at: None,
            locator: given.locator,
        };
        let numbers = self.numbers().clone();
        let decision = Arc::new(move |facts: &_| {
            let facts: &SourceFacts = facts;
            facts.consent(&decided, &numbers).map(Some)
        });
        let consent = NewConsent { row: consent, subject: row.subject };
        let answer = self.store.consent(transfer, consent, Some(scope), decision).await?;
        self.changed(transfer);
        Ok(answer)
    }

    /// The client withdraws. Acknowledged by this region alone: what the destination holds can never be
    /// opened, because the travel key is gone before this answers.
    ///
    /// # Errors
    /// [`Code::TransferComplete`] from Released on.
    pub async fn withdraw(&self, scope: Arc<AuditScope>, transfer: TransferId) -> Result<Source> {
        let row = self.own_source(&scope.actor, transfer).await?;
        scope.concerns(row.subject);
        scope.moves(transfer);
        self.abort(transfer, AbortReason::Withdrawn, None, Some(scope)).await
    }

    /// Ends a transfer that has not completed, and destroys its travel key. Once begun it is finished,
    /// whoever goes away meanwhile.
    pub(crate) async fn abort(
        &self,
        transfer: TransferId,
        reason: AbortReason,
        driver: Option<Driver>,
        scope: Option<Arc<AuditScope>>,
    ) -> Result<Source> {
        let this = self.clone();
        let ending = tokio::spawn(async move {
            let decision = Arc::new(move |facts: &SourceFacts| facts.abort(reason));
            let row = this.store.decide_source("transfer_abort", transfer, driver, scope, decision).await?;
            this.ctx.faults.hit("aborting.before_key");
            this.after_abort(&row).await?;
            this.changed(transfer);
            Ok(row)
        });
        ending.await.unwrap_or_else(|cause| Err(Error::new(Code::Internal).because(cause)))
    }

    /// What follows an abort at the source: the travel key and the stored digests go. Repeatable.
    pub(crate) async fn after_abort(&self, row: &Source) -> Result<()> {
        if row.abort.is_none() {
            return Ok(());
        }
        if self.drop_travel_key(row.transfer).await? {
            // Nobody waits for it: what would send under the key is refused from now on.
            self.replicas.drop_keys(&[row.transfer.uuid()]).await?;
        }
        self.store.forget_sent(row.transfer).await
    }

    /// Every consent of the caller's record with its history, newest first.
    ///
    /// # Errors
    /// [`Code::Forbidden`] for anybody but a client.
    pub async fn consents(&self, scope: &AuditScope) -> Result<(Vec<ConsentRow>, Vec<ConsentEventRow>)> {
        let subject = scope.actor.subject()?;
        scope.concerns(subject);
        self.store.consents(subject).await
    }
}
