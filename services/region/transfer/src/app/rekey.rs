//! Destination: sealing everything again under fresh record keys the source never knew.

use std::sync::Arc;

use bytes::Bytes;
use domicile_crypto::object::{ObjectPlace, ObjectSealer};
use domicile_crypto::travel::{Opener, Unit};
use domicile_crypto::{Key32, TransferKey, aad, seal, sha256};
use domicile_objects::{ObjectName, ObjectPrefix};
use domicile_transfer_protocol::rows::{RekeyedRow, SourceObject, StagedObject, TravellingRow};
use domicile_transfer_protocol::{Destination, DestinationFacts, Digest, State, TransferStore};
use domicile_types::ids::uuid_v4;
use domicile_types::{Code, Ctx, Error, PageId, PracticeId, RegionId, Result, SubjectId, TransferId};
use futures::stream::{self, StreamExt as _};
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use super::adopt::openers;
use super::streams::{Route, first_chunk, frame, opener};
use super::work::apart;
use super::{Transfers, parallel};

/// Rows sealed again in one transaction.
const BATCH: u32 = 2_000;
/// Staged rows and pages dropped in one transaction.
const PURGE_BATCH: u32 = 2_000;
/// Bytes a travel chunk has beyond its plaintext.
const TRAVEL_CHUNK: u64 = (domicile_crypto::object::CHUNK + domicile_crypto::travel::OVERHEAD) as u64;

impl<S: TransferStore> Transfers<S> {
    /// Seals everything again in the background, then signs once a backup covers it.
    pub(super) fn start_rekey(&self, transfer: TransferId) {
        let this = self.clone();
        self.background(transfer, "rekey", async move {
            let Some(held) = this.work_if_free(transfer).await? else { return Ok(()) };
            held.rekey(transfer).await
        });
    }

    async fn rekey(&self, transfer: TransferId) -> Result<()> {
        let row = self.destination(transfer).await?;
        if row.state != State::Adopted {
            return Ok(());
        }
        tokio::try_join!(self.rekey_rows(&row), self.rekey_objects(&row))?;
        if let Some(subject) = row.subject {
            self.sweep_copies(subject).await?;
        }
        if self.store.any_travelling(transfer).await? {
            return Err(Error::new(Code::Conflict).at("travelling"));
        }
        // The source's copy is still whole, and what travelled still opens.
        self.prove(&self.destination(transfer).await?).await?;
        self.ctx.faults.hit("rekey.before_key_drop");
        // Nothing here needs them any more: what travelled can be opened by nobody from now on.
        self.keyring.destroy_transfer_key(transfer, TransferKey::Travel).await?;
        self.keyring.destroy_transfer_key(transfer, TransferKey::HpkePrivate).await?;
        let dropping = self.replicas.drop_keys(&[transfer.uuid()]).await?;
        let objects = self.drop_staging(transfer).await?;
        let staged = row.staged.as_ref().ok_or_else(|| Error::new(Code::TransferState))?;
        tracing::debug!(%transfer, objects, "staging is empty");
        self.replicas.dropped(dropping).await?;
        let backup = self.store.backed_up(transfer).await?;
        let (rows, objects) = (staged.rows, staged.objects);
        let decision = Arc::new(move |facts: &DestinationFacts| match facts.row.state {
            State::Adopted => facts.rekeyed(rows, objects, backup).map(Some),
            _ => Ok(None),
        });
        self.store.decide_destination("transfer_rekeyed", transfer, None, decision).await?;
        Ok(())
    }

    async fn rekey_rows(&self, row: &Destination) -> Result<()> {
        let mut rows = self.store.travelling(row.transfer, None, BATCH).await?;
        if rows.is_empty() {
            return Ok(());
        }
        let key = self.travel_key(row.transfer).await?;
        let openers = Arc::new(openers(row, &key, &self.store.staged_pages(row.transfer).await?)?);
        // Again from the first page for what a page had beyond one batch.
        while !rows.is_empty() {
            self.rekey_pages(row.transfer, &openers, rows).await?;
            rows = self.store.travelling(row.transfer, None, BATCH).await?;
        }
        Ok(())
    }

    /// Seals these rows of one page again, and those of each later page. While one page is stored the next is
    /// read and sealed.
    async fn rekey_pages(
        &self,
        transfer: TransferId,
        openers: &Arc<BTreeMap<PageId, Opener>>,
        rows: Vec<TravellingRow>,
    ) -> Result<()> {
        let page_of = |rows: &[TravellingRow]| rows.last().map(|row| row.staged.page);
        let Some(mut page) = page_of(&rows) else { return Ok(()) };
        let mut sealed = self.rekey_batch(openers, rows).await?;
        loop {
            let next = async {
                let rows = self.store.travelling(transfer, Some(page), BATCH).await?;
                let Some(page) = page_of(&rows) else { return Ok::<_, Error>(None) };
                Ok(Some((page, self.rekey_batch(openers, rows).await?)))
            };
            self.ctx.faults.hit("rekey.before_batch");
            let (stored, next) = tokio::join!(self.store.rekey(transfer, sealed), next);
            stored?;
            match next? {
                Some(next) => (page, sealed) = next,
                None => return Ok(()),
            }
        }
    }

    /// Seals rows again, on a thread that may take its time: nothing else on this one would go on meanwhile.
    async fn rekey_batch(
        &self,
        openers: &Arc<BTreeMap<PageId, Opener>>,
        rows: Vec<TravellingRow>,
    ) -> Result<Vec<RekeyedRow>> {
        let mut keys = RecordKeys::new();
        for row in &rows {
            let (subject, practice) = (row.header.subject_id, row.header.practice_id);
            if let Entry::Vacant(place) = keys.entry(practice) {
                place.insert(self.keyring.record_key_for(subject, practice, u64::from(BATCH)).await?);
            }
        }
        let (ctx, region, openers) = (self.ctx.clone(), self.region.clone(), Arc::clone(openers));
        let _turn = self.inner.turns.take().await?;
        apart(move || rows.into_iter().map(|row| seal_again(&ctx, &region, &openers, &keys, row)).collect())
            .await
    }

    async fn rekey_objects(&self, row: &Destination) -> Result<()> {
        let open = self.store.travelling_objects(row.transfer).await?;
        let work = open.into_iter().map(|(object, staged)| {
            let (this, row) = (self.clone(), row.clone());
            async move {
                let key = this.travel_key(row.transfer).await?;
                this.rekey_object(&row, &key, &object, &staged).await
            }
        });
        parallel::each(self.options.settings.objects_at_once, work).await
    }

    async fn rekey_object(
        &self,
        row: &Destination,
        key: &Key32,
        object: &SourceObject,
        staged: &StagedObject,
    ) -> Result<()> {
        let header = Route::of_destination(row)?.header(Unit::Object(object.object));
        let opener = opener(key, &staged.head, &header)?;
        let (version, record) = self
            .keyring
            .record_key_for(object.subject, object.practice, u64::from(staged.sent.chunks))
            .await?;
        let place = ObjectPlace {
            region: self.region.clone(),
            subject: object.subject,
            practice: object.practice,
            object: object.object,
            key_version: version,
        };
        let sealer = ObjectSealer::new(record, place);
        let from = ObjectName::staging(row.transfer, object.object, &staged.head.salt);
        // A fresh name: a run that was cut off, or one in another process that does not know yet that it
        // has lost the lease, is not in the way, and nobody ever deletes what another relies on.
        let copy = uuid_v4(self.ctx.rng.as_ref());
        let to = ObjectName::copy(object.subject, object.object, Some(copy));
        let chunks = staged.sent.chunks;
        let source = (opener, sealer, 0_u32);
        let this = self.clone();
        let stream = stream::try_unfold(source, move |(mut opener, mut sealer, index)| {
            let (this, from) = (this.clone(), from.clone());
            async move {
                if index == chunks {
                    return Ok(None);
                }
                let last = index + 1 == chunks;
                let offset = u64::from(index) * TRAVEL_CHUNK;
                let travelled = this.objects.read_range(&from, offset, TRAVEL_CHUNK).await?;
                let turn = this.inner.turns.take().await?;
                let plain = opener.open_next(&travelled, &[], last)?;
                let sealed = sealer.seal_next(&this.ctx, &plain, last)?;
                drop(turn);
                Ok::<_, Error>(Some((Bytes::from(sealed), (opener, sealer, index + 1))))
            }
        });
        self.objects.create(&to, stream.boxed()).await?;
        self.ctx.faults.hit("rekey.after_object");
        if let Err(error) = self.store.rekey_object(row.transfer, object.object, version, copy).await {
            // Unless the commit's answer was lost, the file is nobody's.
            if error.code() != Code::AnswerLost {
                self.objects.delete(&to).await?;
            }
            return Err(error);
        }
        Ok(())
    }

    /// Removes files of a record's objects that no row names: of runs that were cut off.
    async fn sweep_copies(&self, subject: SubjectId) -> Result<()> {
        // Names before rows: a row is there before an upload's content. A copy's row comes after its
        // content, but copies are made under the lease alone, which is held here.
        let names = self.objects.list(&ObjectPrefix::objects(subject)).await?;
        let known = self.store.object_copies(subject).await?;
        let known: BTreeSet<ObjectName> =
            known.into_iter().map(|(object, copy)| ObjectName::copy(subject, object, copy)).collect();
        for name in names.iter().filter(|name| !known.contains(name)) {
            self.objects.delete(name).await?;
        }
        Ok(())
    }

    /// Removes arrived files that no row names: of pulls that were cut off.
    pub(super) async fn sweep_staging(&self, transfer: TransferId) -> Result<()> {
        let names = self.objects.list(&ObjectPrefix::staging(transfer)).await?;
        if names.is_empty() {
            return Ok(());
        }
        let staged = self.store.staged_objects(transfer).await?;
        let known: BTreeSet<ObjectName> = staged
            .iter()
            .map(|staged| ObjectName::staging(transfer, staged.sent.object, &staged.head.salt))
            .collect();
        for name in names.iter().filter(|name| !known.contains(name)) {
            self.objects.delete(name).await?;
        }
        Ok(())
    }

    /// Drops everything staged: rows, pages, objects. Repeatable.
    pub(super) async fn drop_staging(&self, transfer: TransferId) -> Result<u64> {
        while self.store.purge(transfer, PURGE_BATCH).await? > 0 {}
        let names = self.objects.list(&ObjectPrefix::staging(transfer)).await?;
        for name in &names {
            self.objects.delete(name).await?;
        }
        Ok(names.len() as u64)
    }
}

/// Fresh record keys and their versions, one a practice.
pub type RecordKeys = BTreeMap<Option<PracticeId>, (u32, Key32)>;

/// Opens a payload as it travelled and seals it under this region's own key.
///
/// # Errors
/// [`Code::ChunkDamaged`] when it does not open where it stands.
pub fn seal_again(
    ctx: &Ctx,
    region: &RegionId,
    openers: &BTreeMap<PageId, Opener>,
    keys: &RecordKeys,
    travelling: TravellingRow,
) -> Result<RekeyedRow> {
    let TravellingRow { mut header, staged } = travelling;
    let damaged = || Error::new(Code::ChunkDamaged).at("payload");
    let opener = openers.get(&staged.page).ok_or_else(damaged)?;
    let chunk = first_chunk(staged.position).ok_or_else(damaged)? + 1;
    let frame = frame(staged.item, staged.version, staged.revision);
    let payload = opener.open_at(chunk, staged.last, &frame, &staged.sealed_payload)?;
    let key = keys.get(&header.practice_id);
    let (version, record) = key.ok_or_else(|| Error::new(Code::Internal).at("record key"))?;
    header.key_version = *version;
    let sealed = seal(record, ctx, &aad::item(region, &header), &payload)?;
    Ok(RekeyedRow {
        item: staged.item,
        version: staged.version,
        key_version: *version,
        digest: Digest(sha256(&sealed)),
        sealed,
    })
}
