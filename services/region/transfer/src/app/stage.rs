//! Destination: the last rows under a freeze, and the signature over everything that is here.

use std::sync::Arc;

use domicile_transfer_protocol::source::StagedClaim;
use domicile_transfer_protocol::store::Driver;
use domicile_transfer_protocol::{DestinationFacts, State, TransferStore};
use domicile_types::{Code, Error, Result, TransferId};

use super::Transfers;

impl<S: TransferStore> Transfers<S> {
    /// Pulls the last rows, computes the root over what is here, signs it. An id that belongs to other
    /// content here refuses, before the point of no return.
    pub(super) async fn stage_alone(&self, transfer: TransferId, driver: Driver) -> Result<()> {
        let row = self.destination(transfer).await?;
        let Some(frozen) = row.frozen.filter(|_| row.state == State::Frozen) else { return Ok(()) };
        self.pull_up_to(transfer, frozen.final_revision).await?;
        if self.store.collisions(transfer).await? > 0 {
            return self.refuse(transfer, Code::Collision).await;
        }
        let (mut manifest, totals) = self.store.staged_manifest(transfer).await?;
        let claim = StagedClaim {
            freeze: frozen.freeze,
            final_revision: frozen.final_revision,
            rows: totals.rows,
            objects: totals.objects,
            bytes: totals.bytes,
            root: manifest.root()?,
        };
        self.ctx.faults.hit("staged.before_commit");
        let decision = Arc::new(move |facts: &DestinationFacts| match facts.row.state {
            State::Staged => Ok(None),
            _ => facts.staged(claim.clone()).map(Some),
        });
        self.store.decide_destination("transfer_stage", transfer, Some(driver), decision).await?;
        Ok(())
    }

    /// Notes why this region cannot go on; the source ends the transfer.
    pub(super) async fn refuse(&self, transfer: TransferId, cause: Code) -> Result<()> {
        let decision = Arc::new(move |facts: &DestinationFacts| Ok(facts.refuse(cause)));
        self.store.decide_destination("transfer_refuse", transfer, None, decision).await?;
        self.changed(transfer);
        Err(Error::new(cause))
    }
}
