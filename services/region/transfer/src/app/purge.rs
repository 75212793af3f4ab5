//! Destination: purging an aborted attempt, on the source's signed Aborting alone.

use std::sync::Arc;

use domicile_crypto::TransferKey;
use domicile_transfer_protocol::{DestinationFacts, State, TransferStore};
use domicile_types::{Result, TransferId};

use super::Transfers;

impl<S: TransferStore> Transfers<S> {
    /// Destroys the private key, then every staged row and object, then signs and leaves a tombstone.
    pub(super) async fn purge_alone(&self, transfer: TransferId) -> Result<()> {
        if self.destination(transfer).await?.state != State::Aborting {
            return Ok(());
        }
        self.keyring.destroy_transfer_key(transfer, TransferKey::HpkePrivate).await?;
        self.ctx.faults.hit("purge.after_key");
        self.drop_staging(transfer).await?;
        let decision = Arc::new(|facts: &DestinationFacts| match facts.row.state {
            State::Aborting => facts.purged().map(Some),
            _ => Ok(None),
        });
        self.store.decide_destination("transfer_purged", transfer, None, decision).await?;
        Ok(())
    }

    /// What a purged attempt must not have: a key made or a file finished while it was purged. Repeatable.
    pub(crate) async fn after_purge(&self, transfer: TransferId) -> Result<()> {
        self.keyring.destroy_transfer_key(transfer, TransferKey::HpkePrivate).await?;
        self.drop_staging(transfer).await.map(drop)
    }
}
