//! What the coordinator may ask: look, carry statements in, take the next step.

use domicile_evidence::closing::ClosingProof;
use domicile_evidence::statement::{AbortReason, Body, SignedStatement};
use domicile_transfer_protocol::plan::Ask;
use domicile_transfer_protocol::store::{Driver, Row};
use domicile_transfer_protocol::{
    Destination, DestinationFacts, Lanes, Received, Source, SourceFacts, State, TransferStore, plan,
};
use domicile_types::{Code, Error, RegionId, Result, Timestamp, TransferId};
use std::sync::Arc;
use uuid::Uuid;

use super::{Transfers, observe};

/// A transfer as this region shows it to the coordinator.
#[derive(Clone, Debug)]
pub struct View {
    /// The transfer.
    pub transfer: TransferId,
    /// The attempt.
    pub attempt: u64,
    /// Whether this region is the source.
    pub is_source: bool,
    /// From.
    pub from: RegionId,
    /// To.
    pub to: RegionId,
    /// What the plan looks at.
    pub plan: plan::View,
    /// The present freeze's number.
    pub freeze: u32,
    /// Source: when the state must have changed.
    pub deadline: Option<Timestamp>,
}

/// What the coordinator brings and asks for.
pub struct Advance {
    /// The transfer.
    pub transfer: TransferId,
    /// The attempt and the fencing token.
    pub driver: Driver,
    /// The other region's statements, in order.
    pub statements: Vec<SignedStatement>,
    /// The step.
    pub ask: Ask,
    /// For [`Ask::Close`]: the other log's proof.
    pub proof: Option<ClosingProof>,
    /// Why the other region cannot advance, as it said.
    pub peer_cause: Option<Code>,
}

impl<S: TransferStore> Transfers<S> {
    /// Every transfer of this region that does not rest.
    ///
    /// # Errors
    /// The store's.
    pub async fn open_views(&self) -> Result<Vec<View>> {
        let mut views = Vec::new();
        for row in self.store.open().await? {
            views.push(self.view(&row).await?);
        }
        Ok(views)
    }

    /// One transfer, if this region knows it.
    ///
    /// # Errors
    /// The store's.
    pub async fn find_view(&self, transfer: TransferId) -> Result<Option<View>> {
        match self.store.find(transfer).await? {
            Some(row) => self.view(&row).await.map(Some),
            None => Ok(None),
        }
    }

    async fn view(&self, row: &Row) -> Result<View> {
        match row {
            Row::Source(row) => self.source_view(row).await,
            Row::Destination(row) => self.destination_view(row).await,
        }
    }

    async fn source_view(&self, row: &Source) -> Result<View> {
        let (mut revision, mut close) = (0, false);
        let works = row.state == State::Rekeyed && self.worked_on(row.transfer).await?;
        if row.state == State::Copying {
            revision = self.store.revision(row.subject).await?;
            let unsent = self.store.unsent(row.transfer).await?;
            close = unsent.rows <= self.numbers().freeze_lag_rows && unsent.objects == 0;
        }
        Ok(View {
            transfer: row.transfer,
            attempt: row.attempt,
            is_source: true,
            from: row.from.clone(),
            to: row.to.clone(),
            plan: plan::View {
                state: row.state,
                own_sequence: row.lanes.own_sequence(),
                peer_sequence: row.lanes.peer_sequence(),
                close,
                busy: works || self.busy(row.transfer),
                cursor: 0,
                revision,
                objects_missing: 0,
                compare: false,
                paused: row.paused,
                refused: row.stuck.clone(),
                freeze_not_before: row.freeze_not_before,
            },
            freeze: row.freeze,
            deadline: row.deadline,
        })
    }

    async fn destination_view(&self, row: &Destination) -> Result<View> {
        let copies = row.state == State::Copying;
        let works = (copies || row.state == State::Adopted) && self.worked_on(row.transfer).await?;
        let missing = if copies { self.store.missing_objects(row.transfer).await?.len() as u64 } else { 0 };
        Ok(View {
            transfer: row.transfer,
            attempt: row.attempt,
            is_source: false,
            from: row.from.clone(),
            to: row.to.clone(),
            plan: plan::View {
                state: row.state,
                own_sequence: row.lanes.own_sequence(),
                peer_sequence: row.lanes.peer_sequence(),
                close: false,
                busy: works || self.busy(row.transfer),
                cursor: row.cursor,
                revision: row.revision,
                objects_missing: missing,
                compare: row.compare,
                paused: false,
                refused: row.refused.clone(),
                freeze_not_before: Timestamp::EPOCH,
            },
            freeze: row.frozen.map_or(0, |frozen| frozen.freeze),
            deadline: None,
        })
    }

    /// Takes or renews the lease in the source region; `None` when another holder has it.
    ///
    /// # Errors
    /// [`Code::NotFound`] where this region is not the source.
    pub async fn lease(&self, transfer: TransferId, holder: Uuid) -> Result<Option<u64>> {
        self.source(transfer).await?;
        self.store.lease(transfer, holder).await
    }

    /// This region's statements past a sequence number.
    ///
    /// # Errors
    /// The store's.
    pub async fn own_statements(&self, transfer: TransferId, after: u64) -> Result<Vec<SignedStatement>> {
        self.store.statements(transfer, self.region.clone(), after).await
    }

    /// Takes statements in and then a step. Every part may be repeated.
    ///
    /// # Errors
    /// [`Code::AttemptStale`], [`Code::TokenStale`], [`Code::StatementInvalid`], and what the step refuses.
    pub async fn advance(&self, mut advance: Advance) -> Result<(View, Vec<SignedStatement>)> {
        let transfer = advance.transfer;
        for statement in std::mem::take(&mut advance.statements) {
            self.take_in(transfer, statement).await?;
        }
        // A step outlives the call that asked for it: a deadline must not cut it in two.
        let (this, Advance { driver, ask, proof, peer_cause, .. }) = (self.clone(), advance);
        let outcome =
            self.inner.works.spawn(async move { this.step(transfer, driver, ask, proof).await }).await;
        let outcome = outcome.unwrap_or_else(|cause| Err(Error::new(Code::Internal).because(cause)));
        self.changed(transfer);
        self.note_outcome(transfer, &outcome).await?;
        outcome?;
        if let Some(cause) = peer_cause {
            self.note_cause(transfer, cause).await?;
        }
        let row =
            self.store.find(transfer).await?.ok_or_else(|| Error::new(Code::NotFound).at("transfer"))?;
        let acknowledged = lanes(&row).acknowledged();
        let statements = self.own_statements(transfer, acknowledged).await?;
        Ok((self.view(&row).await?, statements))
    }

    async fn take_in(&self, transfer: TransferId, signed: SignedStatement) -> Result<()> {
        let row = self.store.find(transfer).await?;
        let origin = match &row {
            Some(Row::Source(row)) => row.to.clone(),
            Some(Row::Destination(row)) => row.from.clone(),
            None => claimed_origin(&signed)?,
        };
        let received = Received::verify(signed, &self.peers.keys(&origin)?.statement)?;
        received.of(transfer, &origin)?;
        match row {
            None => self.invite(received).await.map(drop),
            Some(Row::Source(_)) => self.source_takes_in(transfer, received).await,
            Some(Row::Destination(_)) => {
                let name = receiving(&received.body);
                let decision = Arc::new(move |facts: &DestinationFacts| facts.receive(received.clone()));
                self.store.decide_destination(name, transfer, None, decision).await.map(drop)
            }
        }
    }

    async fn source_takes_in(&self, transfer: TransferId, received: Received) -> Result<()> {
        let adopted = matches!(received.body, Body::Adopted { .. });
        let name = receiving(&received.body);
        let decision = Arc::new(move |facts: &SourceFacts| facts.receive(received.clone()));
        let row = self.store.decide_source(name, transfer, None, None, decision).await?;
        if adopted {
            // The record is served elsewhere now: no process here has any more use for its keys.
            self.keyring.forget_subject(row.subject);
            self.replicas.drop_keys(&[row.subject.uuid()]).await?;
        }
        Ok(())
    }

    async fn step(
        &self,
        transfer: TransferId,
        driver: Driver,
        ask: Ask,
        proof: Option<ClosingProof>,
    ) -> Result<()> {
        observe::asked(ask, transfer, self.step_unmeasured(transfer, driver, ask, proof)).await
    }

    async fn step_unmeasured(
        &self,
        transfer: TransferId,
        driver: Driver,
        ask: Ask,
        proof: Option<ClosingProof>,
    ) -> Result<()> {
        match ask {
            Ask::Deliver => self.after_delivery(transfer).await,
            Ask::Preflight => self.preflight(transfer).await,
            Ask::Prepare => self.prepare(transfer, driver).await,
            Ask::OpenCopy => self.open_copy(transfer, driver).await,
            Ask::Pull => {
                self.guard(transfer, driver).await?;
                self.start_pull(transfer);
                Ok(())
            }
            Ask::Freeze => self.freeze(transfer, driver).await,
            Ask::Stage => self.stage(transfer, driver).await,
            Ask::Release => self.release(transfer, driver).await,
            Ask::Adopt => self.adopt(transfer, driver).await,
            Ask::Rekey => {
                self.guard(transfer, driver).await?;
                self.start_rekey(transfer);
                Ok(())
            }
            Ask::Shred => {
                self.guard(transfer, driver).await?;
                self.start_erase(transfer);
                Ok(())
            }
            Ask::Close => {
                let proof = proof.ok_or_else(|| Error::new(Code::InvalidRequest).at("peer_proof"))?;
                let row = self.store.find(transfer).await?.ok_or_else(|| Error::new(Code::NotFound))?;
                self.close(row, proof).await
            }
            Ask::Abort => self.abort(transfer, AbortReason::Failed, Some(driver), None).await.map(drop),
            Ask::Purge => self.purge(transfer).await,
        }
    }

    /// What an abort leaves to do is done again whenever something is delivered to an aborted source.
    async fn after_delivery(&self, transfer: TransferId) -> Result<()> {
        match self.store.find(transfer).await? {
            Some(Row::Source(row)) => self.after_abort(&row).await,
            _ => Ok(()),
        }
    }

    async fn freeze(&self, transfer: TransferId, driver: Driver) -> Result<()> {
        let unsent = self.store.unsent(transfer).await?;
        let numbers = self.numbers().clone();
        let decision = Arc::new(move |facts: &SourceFacts| match facts.row.state {
            State::Copying => facts.freeze(unsent, &numbers).map(Some),
            _ => Ok(None),
        });
        self.store.decide_source("transfer_freeze", transfer, Some(driver), None, decision).await?;
        self.ctx.faults.hit("frozen.after_commit");
        Ok(())
    }

    /// Refuses a driver whose attempt or token is not current, before anything starts in the background.
    pub(super) async fn guard(&self, transfer: TransferId, driver: Driver) -> Result<()> {
        match self.store.find(transfer).await? {
            Some(Row::Source(row)) => driver.check(row.attempt, row.token),
            Some(Row::Destination(row)) => driver.check(row.attempt, row.token),
            None => Err(Error::new(Code::NotFound).at("transfer")),
        }
    }

    /// A region past the point of no return says why it stands still.
    pub(super) async fn note_outcome(&self, transfer: TransferId, outcome: &Result<()>) -> Result<()> {
        let Err(error) = outcome else { return Ok(()) };
        tracing::debug!(%transfer, code = error.code().as_str(), place = error.place(), cause = ?error, "a step was refused");
        match error.code() {
            // It came too late or twice: nothing stands in the way.
            Code::TransferState | Code::TokenStale => Ok(()),
            cause => self.note_cause(transfer, cause).await,
        }
    }

    /// Past the point of no return, names what stands in the way. Before it there is nothing to name: the
    /// deadline ends the transfer.
    async fn note_cause(&self, transfer: TransferId, cause: Code) -> Result<()> {
        let row = self.store.find(transfer).await?;
        let state = row.as_ref().map(state_of);
        if state.is_none_or(|state| state.withdrawable() || state.rests() || state == State::Aborting) {
            return Ok(());
        }
        if let Some(Row::Source(_)) = row {
            let decision = Arc::new(move |facts: &SourceFacts| {
                Ok(if facts.row.state.withdrawable() { None } else { facts.stuck(cause) })
            });
            return self
                .store
                .decide_source("transfer_stuck", transfer, None, None, decision)
                .await
                .map(drop);
        }
        let decision = Arc::new(move |facts: &DestinationFacts| {
            Ok(if facts.row.state.withdrawable() { None } else { facts.refuse(cause) })
        });
        self.store.decide_destination("transfer_stuck", transfer, None, decision).await.map(drop)
    }
}

const fn state_of(row: &Row) -> State {
    match row {
        Row::Source(row) => row.state,
        Row::Destination(row) => row.state,
    }
}

pub(super) fn lanes(row: &Row) -> &Lanes {
    match row {
        Row::Source(row) => &row.lanes,
        Row::Destination(row) => &row.lanes,
    }
}

/// Who a first statement says it is from; its signature is checked against that region's pinned key.
fn claimed_origin(signed: &SignedStatement) -> Result<RegionId> {
    let read = signed.read().map_err(|cause| Error::new(Code::StatementInvalid).because(cause))?;
    Ok(read.statement.origin)
}

/// The name of the transaction that takes a statement in.
const fn receiving(body: &Body) -> &'static str {
    match body {
        Body::Preflighted { .. } => "receive_preflighted",
        Body::Consented { .. } => "receive_consented",
        Body::Copying { .. } => "receive_copying",
        Body::Frozen { .. } => "receive_frozen",
        Body::Staged { .. } => "receive_staged",
        Body::Released { .. } => "receive_released",
        Body::Adopted { .. } => "receive_adopted",
        Body::Rekeyed { .. } => "receive_rekeyed",
        Body::Shredded { .. } => "receive_shredded",
        Body::Aborting { .. } => "receive_aborting",
        Body::Aborted { .. } => "receive_aborted",
        _ => "receive_other",
    }
}
