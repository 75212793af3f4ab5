//! Destination: after the source fell back, compare rows and pull the differing ones again.

use std::collections::BTreeMap;
use std::sync::Arc;

use domicile_proto::transfer::v1::ListDigestsRequest;
use domicile_transfer_protocol::{Destination, DestinationFacts, Digest, TransferStore};
use domicile_types::{ItemId, Result};

use super::Transfers;
use super::pull::damaged;
use super::send::MOST_NAMED;
use crate::convert;

impl<S: TransferStore> Transfers<S> {
    /// Drops rows whose digest is not the source's and pulls them again.
    pub(super) async fn compare(&self, row: &Destination) -> Result<()> {
        let theirs = self.their_digests(row).await?;
        let (ours, _) = self.store.staged_manifest(row.transfer).await?;
        let differing =
            ours.rows.iter().filter(|entry| theirs.get(&(entry.item, entry.version)) != Some(&entry.digest));
        let differing: Vec<(ItemId, u32)> = differing.map(|entry| (entry.item, entry.version)).collect();
        if !differing.is_empty() {
            tracing::warn!(transfer = %row.transfer, rows = differing.len(), "rows differ from the source and are pulled again");
            self.store.drop_staged(row.transfer, differing.clone()).await?;
        }
        let held: std::collections::BTreeSet<_> =
            ours.rows.iter().map(|entry| (entry.item, entry.version)).collect();
        let missing = theirs.keys().filter(|key| !held.contains(key)).copied();
        let wanted: Vec<(ItemId, u32)> = differing.into_iter().chain(missing).collect();
        for some in wanted.chunks(MOST_NAMED) {
            self.pull_only(row, some.to_vec()).await?;
        }
        let decision = Arc::new(|facts: &DestinationFacts| facts.compared().map(Some));
        self.store.decide_destination("transfer_compared", row.transfer, None, decision).await?;
        Ok(())
    }

    async fn their_digests(&self, row: &Destination) -> Result<BTreeMap<(ItemId, u32), Digest>> {
        let request = ListDigestsRequest { transfer_id: row.transfer.to_string(), attempt: row.attempt };
        self.ctx.faults.before("peer.digests");
        let answer = self.peers.client(&row.from)?.list_digests(request).await;
        self.ctx.faults.after("peer.digests");
        let mut stream = answer.map_err(|status| convert::peer_error(&status))?.into_inner();
        let mut digests = BTreeMap::new();
        while let Some(message) = stream.message().await.map_err(|status| convert::peer_error(&status))? {
            for entry in message.rows {
                let item = ItemId::from_slice(&entry.item_id).ok_or_else(|| damaged("item id"))?;
                let digest = Digest::from_slice(&entry.digest).ok_or_else(|| damaged("digest"))?;
                digests.insert((item, entry.version), digest);
            }
        }
        Ok(digests)
    }
}
