//! What operators may do: hold, let go on, end. Each is audited here, in the source region.

use std::sync::Arc;

use domicile_evidence::statement::AbortReason;
use domicile_transfer_protocol::{Source, SourceFacts, TransferStore};
use domicile_types::{AuditScope, Code, Error, Result, TransferId};

use super::Transfers;

impl<S: TransferStore> Transfers<S> {
    /// Holds a transfer. Never stops a deadline or a freeze's budget.
    ///
    /// # Errors
    /// [`Code::PauseRefused`] from Frozen to Adopted; [`Code::InvalidRequest`] without a reason.
    pub async fn pause(&self, scope: Arc<AuditScope>, transfer: TransferId, reason: &str) -> Result<Source> {
        let why = reason.to_owned();
        let decision = Arc::new(move |facts: &SourceFacts| facts.pause(&why).map(Some));
        self.operate(scope, transfer, reason, decision).await
    }

    /// Lets a held transfer go on.
    ///
    /// # Errors
    /// [`Code::TransferState`] at rest; [`Code::InvalidRequest`] without a reason.
    pub async fn resume(&self, scope: Arc<AuditScope>, transfer: TransferId, reason: &str) -> Result<Source> {
        let why = reason.to_owned();
        let decision = Arc::new(move |facts: &SourceFacts| facts.resume(&why).map(Some));
        self.operate(scope, transfer, reason, decision).await
    }

    /// Ends a transfer that has not completed.
    ///
    /// # Errors
    /// [`Code::TransferComplete`] from Released on; [`Code::InvalidRequest`] without a reason.
    pub async fn cancel(&self, scope: Arc<AuditScope>, transfer: TransferId, reason: &str) -> Result<Source> {
        check_reason(reason)?;
        scope.moves(transfer);
        self.source(transfer).await?;
        tracing::info!(%transfer, reason, "an operator ends a transfer");
        self.abort(transfer, AbortReason::Cancelled, None, Some(scope)).await
    }

    async fn operate(
        &self,
        scope: Arc<AuditScope>,
        transfer: TransferId,
        reason: &str,
        decision: domicile_transfer_protocol::store::SourceDecision,
    ) -> Result<Source> {
        check_reason(reason)?;
        scope.moves(transfer);
        let row = self.store.decide_source("transfer_operate", transfer, None, Some(scope), decision).await?;
        self.changed(transfer);
        Ok(row)
    }
}

/// A reason is a word or two for the audit's detail: bounded, of plain characters.
fn check_reason(reason: &str) -> Result<()> {
    let plain = |c: char| c.is_ascii_alphanumeric() || " -_./#:,".contains(c);
    let fits = (3..=120).contains(&reason.len()) && reason.chars().all(plain);
    if fits { Ok(()) } else { Err(Error::new(Code::InvalidRequest).at("reason")) }
}
