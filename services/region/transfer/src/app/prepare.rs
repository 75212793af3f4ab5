//! The keys of an attempt: the destination's key pair, the source's travel key.

use std::sync::Arc;

use domicile_crypto::TransferKey;
use domicile_crypto::hpke;
use domicile_crypto::travel::SUITE;
use domicile_transfer_protocol::store::Driver;
use domicile_transfer_protocol::{DestinationFacts, SourceFacts, State, TransferStore};
use domicile_types::{Result, TransferId};

use super::Transfers;

impl<S: TransferStore> Transfers<S> {
    /// Destination: makes the attempt's key pair. The private half is wrapped and committed before the
    /// public half is signed; a pair whose public half was never signed is replaced.
    pub(super) async fn prepare_alone(&self, transfer: TransferId, driver: Driver) -> Result<()> {
        if self.destination(transfer).await?.state != State::Consented {
            return Ok(());
        }
        let pair = hpke::generate()?;
        self.keyring.store_transfer_key(transfer, TransferKey::HpkePrivate, &pair.private).await?;
        self.ctx.faults.hit("prepare.after_key");
        // Another driver may have stored its pair first: sign the public half of the one that is kept.
        let kept = self.keyring.load_transfer_key(transfer, TransferKey::HpkePrivate).await?;
        let public = hpke::public_of(&kept)?;
        let decision = Arc::new(move |facts: &DestinationFacts| match facts.row.state {
            State::Consented => facts.prepared(SUITE, public.clone()).map(Some),
            _ => Ok(None),
        });
        let decided =
            self.store.decide_destination("transfer_prepare", transfer, Some(driver), decision).await;
        // An abort that came between: its key must not outlive it.
        if self.destination(transfer).await?.abort.is_some() {
            self.keyring.destroy_transfer_key(transfer, TransferKey::HpkePrivate).await?;
        }
        decided.map(drop)
    }

    /// Source: makes the travel key, wrapped and committed before any row is sealed under it.
    pub(super) async fn open_copy(&self, transfer: TransferId, driver: Driver) -> Result<()> {
        let row = self.source(transfer).await?;
        if row.state != State::Consented {
            return Ok(());
        }
        let key: [u8; 32] = self.ctx.random();
        self.keyring.store_transfer_key(transfer, TransferKey::Travel, &key).await?;
        self.ctx.faults.hit("open_copy.after_key");
        let decision = Arc::new(|facts: &SourceFacts| match facts.row.state {
            State::Consented => facts.open_copy().map(Some),
            _ => Ok(None),
        });
        let decided =
            self.store.decide_source("transfer_open_copy", transfer, Some(driver), None, decision).await;
        // A withdrawal that came between: its key must not outlive it.
        self.after_abort(&self.source(transfer).await?).await?;
        decided.map(drop)
    }
}
