//! Closing: each region takes in the other log's checkpoint over the transfer's last statement.

use std::sync::Arc;

use domicile_evidence::closing::ClosingProof;
use domicile_transfer_protocol::store::Row;
use domicile_transfer_protocol::{DestinationFacts, Digest, Lanes, SourceFacts, State, TransferStore};
use domicile_types::{Code, Error, RegionId, Result, TransferId};

use super::Transfers;

impl<S: TransferStore> Transfers<S> {
    /// This log's proof over this region's last statement of a transfer.
    ///
    /// # Errors
    /// [`Code::NotFound`] when there is none.
    pub async fn closing_proof(&self, transfer: TransferId) -> Result<ClosingProof> {
        let row = self.store.find(transfer).await?;
        let tip = row.map(|row| super::control::lanes(&row).own_tip());
        self.closing.proof(transfer, tip.ok_or_else(|| Error::new(Code::NotFound).at("transfer"))?).await
    }

    /// Checks the other log's proof and closes this side.
    pub(super) async fn close(&self, row: Row, proof: ClosingProof) -> Result<()> {
        let (transfer, state, peer, tip) = facts(&row);
        if state != State::Shredded {
            return Ok(());
        }
        self.check_proof(&peer, tip, &proof)?;
        self.store.keep_checkpoint(transfer, proof.checkpoint).await?;
        self.keep_own_checkpoint(transfer).await?;
        match row {
            Row::Source(_) => {
                let decision = Arc::new(|facts: &SourceFacts| match facts.row.state {
                    State::Shredded => facts.close().map(Some),
                    _ => Ok(None),
                });
                self.store.decide_source("transfer_close", transfer, None, None, decision).await?;
            }
            Row::Destination(_) => {
                let decision = Arc::new(|facts: &DestinationFacts| match facts.row.state {
                    State::Shredded => facts.close().map(Some),
                    _ => Ok(None),
                });
                self.store.decide_destination("transfer_close", transfer, None, decision).await?;
            }
        }
        Ok(())
    }

    /// Our own checkpoint goes into the receipt beside the other's.
    async fn keep_own_checkpoint(&self, transfer: TransferId) -> Result<()> {
        let own = self.closing_proof(transfer).await?;
        self.store.keep_checkpoint(transfer, own.checkpoint).await
    }

    /// The note is signed by the other log, the entry is under its root, and the entry is the statement we
    /// hold as the other lane's last.
    fn check_proof(&self, peer: &RegionId, tip: Option<Digest>, proof: &ClosingProof) -> Result<()> {
        let refuse = |place: &'static str| Error::new(Code::StatementInvalid).at(place);
        let keys = self.peers.keys(peer)?;
        let (_, entry) =
            proof.verify(&keys.checkpoint).map_err(|cause| refuse("closing proof").because(cause))?;
        let stated = entry.statement.map(|statement| Digest(statement.digest));
        if stated.is_some() && stated == tip { Ok(()) } else { Err(refuse("entry")) }
    }
}

fn facts(row: &Row) -> (TransferId, State, RegionId, Option<Digest>) {
    let tip = |lanes: &Lanes| lanes.peer_tip();
    match row {
        Row::Source(row) => (row.transfer, row.state, row.to.clone(), tip(&row.lanes)),
        Row::Destination(row) => (row.transfer, row.state, row.from.clone(), tip(&row.lanes)),
    }
}
