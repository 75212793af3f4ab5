//! Preflight: what would move, whether both regions can, and the offer.

use std::collections::BTreeMap;
use std::sync::Arc;

use domicile_config::policy::{NoticeFacts, Policies};
use domicile_evidence::statement::SignedStatement;
use domicile_proto::transfer::v1::{PreflightRequest, PreflightResponse};
use domicile_transfer_protocol::rows::Totals;
use domicile_transfer_protocol::{
    Destination, DestinationFacts, Received, Source, SourceFacts, State, TransferStore, Versions, destination,
};
use domicile_types::{AuditScope, Code, Error, PracticeId, RegionId, Result, TransferId};

use super::offer::KindOffer;
use super::{Offer, Transfers};
use crate::convert;

/// Bytes a second that a transfer moves on a small machine; only for the expected time of the offer.
const EXPECTED_BYTES_PER_SECOND: u64 = 40_000_000;
/// Rows a second, likewise.
const EXPECTED_ROWS_PER_SECOND: u64 = 10_000;
/// Rows a second that adoption opens during a freeze.
const EXPECTED_FREEZE_ROWS_PER_SECOND: u64 = 40_000;

/// A source's question at the destination.
pub struct Invitation {
    /// The region that asks, by its certificate.
    pub from: RegionId,
    /// The source's Requested.
    pub requested: SignedStatement,
    /// The protocol version the source speaks, and the kinds in the record.
    pub needed: Versions,
    /// The practices in the record.
    pub practices: Vec<PracticeId>,
}

impl<S: TransferStore> Transfers<S> {
    /// Source: gathers the totals, asks the destination, makes the offer. Blockers leave the transfer
    /// Requested, and the step is asked for again.
    pub(super) async fn preflight(&self, transfer: TransferId) -> Result<()> {
        let row = self.source(transfer).await?;
        if row.state != State::Requested {
            return Ok(());
        }
        let totals = self.store.totals(row.subject).await?;
        let mut blockers = self.local_blockers(&row, &totals).await?;
        let answer = self.ask_destination(&row, &totals).await?;
        blockers.extend(answer.blockers.iter().cloned());
        if answer.blockers.is_empty() {
            // What it says it understands counts, not that it found nothing.
            blockers
                .extend(lacking(&convert::versions(answer.protocol_version, answer.kinds), &needed(&totals)));
        }
        let statement = answer.preflighted.filter(|_| blockers.is_empty());
        let Some(statement) = statement else { return self.blocked(&row, blockers).await };
        let signed = convert::signed(&statement)?;
        let received = Received::verify(signed, &self.peers.keys(&row.to)?.statement)?;
        let offer = self.make_offer(&row, &totals)?;
        self.ctx.faults.hit("preflighted.before_commit");
        let offer = (offer.digest()?, offer.canonical()?);
        let kinds = u32::try_from(totals.kinds.len()).unwrap_or(u32::MAX);
        let numbers = self.numbers().clone();
        let decision = Arc::new(move |facts: &SourceFacts| {
            facts.preflighted(offer.clone(), kinds, received.clone(), &numbers).map(Some)
        });
        self.store.decide_source("transfer_preflighted", transfer, None, None, decision).await?;
        Ok(())
    }

    async fn blocked(&self, row: &Source, blockers: Vec<String>) -> Result<()> {
        if row.blockers == blockers {
            return Ok(());
        }
        let decision = Arc::new(move |facts: &SourceFacts| facts.blocked(blockers.clone()).map(Some));
        self.store.decide_source("transfer_blocked", row.transfer, None, None, decision).await?;
        Ok(())
    }

    async fn local_blockers(&self, row: &Source, totals: &Totals) -> Result<Vec<String>> {
        let mut blockers = Vec::new();
        if totals.held {
            blockers.push(Code::LegalHold.as_str().to_owned());
        }
        if totals.uploads_open > 0 {
            blockers.push(blocker(Code::TransferBlocked, "an upload is open"));
        }
        for practice in &totals.practices {
            if !self.enrolments.instructs(*practice, &row.to).await? {
                blockers.push(blocker(Code::AgreementMissing, &format!("practice {practice}")));
            }
        }
        Ok(blockers)
    }

    async fn ask_destination(&self, row: &Source, totals: &Totals) -> Result<PreflightResponse> {
        let own = self.store.statements(row.transfer, self.region.clone(), 0).await?;
        let requested = own.into_iter().next().ok_or_else(|| Error::new(Code::Internal))?;
        let needed = needed(totals);
        let request = PreflightRequest {
            transfer_id: row.transfer.to_string(),
            attempt: row.attempt,
            requested: Some(convert::statement(requested)),
            protocol_version: needed.protocol,
            kinds: convert::kinds(needed.kinds),
            rows_rounded: totals.rows().next_power_of_two(),
            bytes_rounded: totals.bytes().next_power_of_two(),
            practice_ids: totals.practices.iter().map(ToString::to_string).collect(),
        };
        self.ctx.faults.before("peer.preflight");
        let answer = self.peers.client(&row.to)?.preflight(request).await;
        self.ctx.faults.after("peer.preflight");
        Ok(answer.map_err(|status| convert::peer_error(&status))?.into_inner())
    }

    fn make_offer(&self, row: &Source, totals: &Totals) -> Result<Offer> {
        let refuse = || Error::new(Code::TransferNotAllowed).at(row.to.as_str());
        let outbound = self.policies.allowed(&row.from, &row.to).ok_or_else(refuse)?;
        let policy = self.policies.get(&row.from)?;
        let expires_at = self.ctx.now().plus(self.numbers().offer_open);
        let facts = NoticeFacts {
            sender: self.operator.clone(),
            recipient: self.peers.operator(&row.to)?,
            items: totals.rows(),
            objects: totals.objects,
            bytes: totals.bytes(),
            offer_expires_at: expires_at,
            consent_valid: self.numbers().consent_valid,
        };
        let mut notices = BTreeMap::new();
        for locale in policy.notices.transfer.keys() {
            let text = notice_text(&self.policies, &facts, locale, totals.psychotherapy > 0)?;
            notices.insert(locale.to_string(), text);
        }
        let kinds = totals.kinds.iter();
        let kinds =
            kinds.map(|(kind, t)| (kind.clone(), KindOffer { rows: t.rows, bytes: t.bytes })).collect();
        Ok(Offer {
            transfer: row.transfer,
            attempt: row.attempt,
            source: row.from.clone(),
            destination: row.to.clone(),
            mechanism: outbound.mechanism.clone(),
            kinds,
            objects: totals.objects,
            object_bytes: totals.object_bytes,
            expected_ms: expected_ms(totals),
            expected_freeze_ms: 100 + totals.rows().saturating_mul(1_000) / EXPECTED_FREEZE_ROWS_PER_SECOND,
            expires_at,
            notice_version: policy.notices.version.clone(),
            notices,
            default_locale: policy.notices.default_locale.to_string(),
            stays_behind: self.policies.stays_behind(&row.from, "")?,
            psychotherapy: totals.psychotherapy > 0,
        })
    }

    /// Destination: whether this region would take the record. Leaves the transfer's row here, and its
    /// own Preflighted when nothing blocks. Repeatable: the same statement again. What blocks is an answer
    /// and no error; the log tells of it by the first blocker's code.
    ///
    /// # Errors
    /// [`Code::StatementInvalid`] when the Requested does not verify or is not the asking region's.
    pub async fn answer_preflight(
        &self,
        scope: &AuditScope,
        invitation: Invitation,
    ) -> Result<(Vec<String>, Option<SignedStatement>)> {
        let Invitation { from, requested, needed, practices } = invitation;
        let received = Received::verify(requested, &self.peers.keys(&from)?.statement)?;
        if received.statement.origin != from {
            return Err(Error::new(Code::StatementInvalid).at("origin"));
        }
        let transfer = received.statement.transfer;
        scope.moves(transfer);
        let row = self.invite(received).await?;
        let blockers = self.destination_blockers(&row, &needed, &practices).await?;
        if blockers.is_empty() && row.state == State::Requested {
            let kinds = u32::try_from(needed.kinds.len()).unwrap_or(u32::MAX);
            let decision = Arc::new(move |facts: &DestinationFacts| match facts.row.state {
                State::Requested => facts.preflighted(kinds).map(Some),
                _ => Ok(None),
            });
            self.store.decide_destination("transfer_accept", transfer, None, decision).await?;
        }
        self.changed(transfer);
        if let Some((code, _)) = blockers.first() {
            scope.refuses(*code);
            return Ok((blockers.into_iter().map(|(_, text)| text).collect(), None));
        }
        let own = self.store.statements(transfer, self.region.clone(), 0).await?;
        Ok((Vec::new(), own.into_iter().next()))
    }

    /// Takes in a transfer that comes here.
    pub(super) async fn invite(&self, received: Received) -> Result<Destination> {
        let here = self.region.clone();
        let again = received.clone();
        let now = self.ctx.now();
        let decision =
            Arc::new(move |_: &DestinationFacts| destination::invited(&here, again.clone(), now).map(Some));
        self.store.invite(received, decision).await
    }

    async fn destination_blockers(
        &self,
        row: &Destination,
        needed: &Versions,
        practices: &[PracticeId],
    ) -> Result<Vec<(Code, String)>> {
        let lacks = lacking(&Versions::here(), needed).into_iter();
        let mut blockers: Vec<_> = lacks.map(|text| (Code::DestinationRefuses, text)).collect();
        let block = |code: Code, place: &str| (code, blocker(code, place));
        if self.policies.allowed(&row.from, &row.to).is_none() {
            blockers.push(block(Code::TransferNotAllowed, row.from.as_str()));
        }
        for practice in practices {
            if !self.enrolments.known(*practice).await? {
                let place = format!("practice {practice} at the destination");
                blockers.push(block(Code::AgreementMissing, &place));
            }
        }
        Ok(blockers)
    }
}

fn blocker(code: Code, place: &str) -> String {
    format!("{} ({place})", code.as_str())
}

/// What a record needs of the region it goes to.
fn needed(totals: &Totals) -> Versions {
    let kinds = totals.kinds.iter();
    Versions::needed(kinds.map(|(kind, total)| (kind.clone(), total.schema.into())).collect())
}

fn lacking(there: &Versions, needed: &Versions) -> Vec<String> {
    there.lacks(needed).iter().map(|place| blocker(Code::DestinationRefuses, place)).collect()
}

fn expected_ms(totals: &Totals) -> u64 {
    let bytes = totals.bytes().saturating_mul(1_000) / EXPECTED_BYTES_PER_SECOND;
    let rows = totals.rows().saturating_mul(1_000) / EXPECTED_ROWS_PER_SECOND;
    1_000 + bytes + rows
}

/// The exact text in one language; where the law wants a separate authorization for psychotherapy notes,
/// it follows.
fn notice_text(
    policies: &Policies,
    facts: &NoticeFacts,
    locale: &str,
    psychotherapy: bool,
) -> Result<String> {
    let mut text = policies.transfer_notice(facts, locale)?.text;
    if let Some(extra) = policies.psychotherapy_notice(facts, locale).filter(|_| psychotherapy) {
        text.push_str("\n\n");
        text.push_str(&extra.text);
    }
    Ok(text)
}
