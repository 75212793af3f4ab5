//! Decisions over destination rows.

use std::sync::Arc;

use domicile_evidence::keys::Signer;
use domicile_transfer_protocol::rows::{StagedPage, StagedRow};
use domicile_transfer_protocol::store::{DestinationDecision, Driver, Row as TransferRow};
use domicile_transfer_protocol::{Destination, DestinationChange, DestinationFacts, Received, State};
use domicile_types::{AccountId, Code, Error, Result, TransferId};

use super::{SqlTransfers, accept, emit, fence, not_found};
use crate::queries::{staging, transfer};
use crate::{Scope, Tx};

/// A page with its rows, to be taken in with a decision.
pub(super) struct Staging {
    pub(super) page: StagedPage,
    pub(super) rows: Vec<StagedRow>,
    pub(super) range: Option<(u64, u64)>,
}

impl SqlTransfers {
    pub(super) async fn destination_decide(
        &self,
        name: &'static str,
        id: TransferId,
        driver: Option<Driver>,
        staging: Option<Staging>,
        decision: DestinationDecision,
    ) -> Result<Destination> {
        let scope = self.system_scope(id);
        let signer = Arc::clone(&self.signer);
        let staging = Arc::new(staging);
        let work = self.work;
        self.store
            .write(name, Scope::Transfers, &scope, move |tx| {
                let (signer, staging) = (Arc::clone(&signer), Arc::clone(&staging));
                let decision = Arc::clone(&decision);
                Box::pin(async move {
                    fence(tx, work).await?;
                    let row = locked(tx, id, driver).await?;
                    let facts = DestinationFacts { row, now: tx.now() };
                    let Some(change) = decision(&facts)? else { return Ok(facts.row) };
                    if let Some(staging) = staging.as_ref() {
                        staging::stage(tx, id, &staging.page, &staging.rows, staging.range).await?;
                    }
                    apply(tx, signer.as_ref(), change, None).await
                })
            })
            .await
    }

    pub(super) async fn destination_invite(
        &self,
        received: Received,
        decision: DestinationDecision,
    ) -> Result<Destination> {
        let id = received.statement.transfer;
        let scope = self.system_scope(id);
        let received = Arc::new(received);
        self.store
            .write("transfer_invite", Scope::Transfers, &scope, move |tx| {
                let (received, decision) = (Arc::clone(&received), Arc::clone(&decision));
                Box::pin(async move {
                    match transfer::lock(tx, id).await? {
                        Some(TransferRow::Destination(row)) => return known(*row, &received),
                        Some(TransferRow::Source(_)) => {
                            return Err(Error::new(Code::StatementInvalid).at("regions"));
                        }
                        None => {}
                    }
                    let change = decision(&blank(&received, tx))?.ok_or_else(not_found)?;
                    if !transfer::insert_destination(tx, &change.row).await? {
                        return Err(Error::new(Code::Conflict).at("transfer"));
                    }
                    if let Some(received) = &change.accept {
                        accept(tx, received, None).await?;
                    }
                    Ok(change.row)
                })
            })
            .await
    }
}

/// The first statement again: the same answer; another first statement of the same transfer is a fork.
fn known(row: Destination, received: &Received) -> Result<Destination> {
    let mut lanes = row.lanes.clone();
    lanes.accept(received)?;
    Ok(row)
}

/// Facts for a transfer that has no row yet: the decision makes it from the statement alone.
fn blank(received: &Received, tx: &Tx) -> DestinationFacts {
    let row = Destination {
        transfer: received.statement.transfer,
        attempt: received.statement.attempt,
        from: received.statement.origin.clone(),
        to: tx.region().clone(),
        state: State::Requested,
        abort: None,
        lanes: domicile_transfer_protocol::Lanes::default(),
        token: 0,
        requested_at: tx.now(),
        changed_at: tx.now(),
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
    DestinationFacts { row, now: tx.now() }
}

/// The row, locked, its driver checked.
pub(super) async fn locked(tx: &Tx, id: TransferId, driver: Option<Driver>) -> Result<Destination> {
    let Some(TransferRow::Destination(mut row)) = transfer::lock(tx, id).await? else {
        return Err(not_found());
    };
    if let Some(driver) = driver {
        driver.check(row.attempt, row.token)?;
        row.token = driver.token;
    }
    Ok(*row)
}

/// Commits a change of a destination row.
pub(super) async fn apply(
    tx: &Tx,
    signer: &dyn Signer,
    change: DestinationChange,
    account: Option<AccountId>,
) -> Result<Destination> {
    let mut row = change.row;
    if let Some(received) = &change.accept {
        accept(tx, received, row.subject).await?;
    }
    if let Some(body) = &change.emit {
        emit(tx, signer, (row.transfer, row.attempt), &mut row.lanes, body, row.subject).await?;
    }
    if change.tombstone {
        transfer::bury(tx, row.transfer, row.attempt).await?;
    }
    transfer::save_destination(tx, &row, account).await?;
    Ok(row)
}
