//! Source: erasing what has moved. Keys first, then rows and objects, then a scan that must find nothing.

use std::sync::Arc;

use domicile_objects::ObjectPrefix;
use domicile_transfer_protocol::source::Certificate;
use domicile_transfer_protocol::{Source, SourceFacts, State, TransferStore};
use domicile_types::{Code, Error, Result, TransferId};

use super::Transfers;

/// Rows erased in one transaction.
const BATCH: u32 = 2_000;

impl<S: TransferStore> Transfers<S> {
    /// Erases in the background; may be cut off anywhere and repeated.
    pub(super) fn start_erase(&self, transfer: TransferId) {
        let this = self.clone();
        self.background(transfer, "erase", async move {
            let Some(held) = this.work_if_free(transfer).await? else { return Ok(()) };
            held.erase(transfer).await
        });
    }

    async fn erase(&self, transfer: TransferId) -> Result<()> {
        let row = self.source(transfer).await?;
        if row.state != State::Rekeyed {
            return Ok(());
        }
        // Listed before the transaction that sees that the record is still to be erased, and that this process
        // may: however long it stands still after it, nothing of a record that has come back is among them.
        let keys = self.keyring.subject_keys(row.subject).await?;
        let names = self.objects.list(&ObjectPrefix::objects(row.subject)).await?;
        let counted = keys.count();
        let decision = Arc::new(move |facts: &SourceFacts| facts.begin_shred(counted));
        let row = self.store.decide_source("transfer_erase_begin", transfer, None, None, decision).await?;
        self.ctx.faults.hit("erase.before_keys");
        self.keyring.destroy_subject(row.subject, &keys).await?;
        self.drop_travel_key(transfer).await?;
        self.ctx.faults.hit("erase.after_keys");
        let dropping = self.replicas.drop_keys(&[row.subject.uuid(), transfer.uuid()]).await?;
        for name in &names {
            self.objects.delete(name).await?;
        }
        while self.store.erase(transfer, BATCH).await? > 0 {}
        // Invariant 9: no key in any process's memory either.
        self.replicas.dropped(dropping).await?;
        self.ctx.faults.hit("erase.before_scan");
        self.scan(&row).await?;
        let claim = row.staged.as_ref().ok_or_else(|| Error::new(Code::TransferState))?;
        let certificate = Certificate {
            rows: claim.rows,
            objects: claim.objects,
            keys: row.keys_to_destroy.unwrap_or(counted),
            provable_at: self.ctx.now().plus(self.options.settings.key_backups),
        };
        let decision = Arc::new(move |facts: &SourceFacts| match facts.row.state {
            State::Rekeyed => facts.shredded(&certificate).map(Some),
            _ => Ok(None),
        });
        self.store.decide_source("transfer_shredded", transfer, None, None, decision).await?;
        Ok(())
    }

    /// Nothing of the subject may be left: no row, no object, no key.
    async fn scan(&self, row: &Source) -> Result<()> {
        let remains = self.store.remains(row.subject).await?;
        let objects = self.objects.list(&ObjectPrefix::objects(row.subject)).await?.len();
        let keys = self.keyring.subject_key_count(row.subject).await?;
        if remains.tables.is_empty() && objects == 0 && keys == 0 {
            return Ok(());
        }
        tracing::error!(transfer = %row.transfer, tables = ?remains.tables, objects, keys, "the scan after the erasure found something");
        Err(Error::new(Code::EraseIncomplete))
    }
}
