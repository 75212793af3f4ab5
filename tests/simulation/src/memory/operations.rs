//! The trait's operations, each delegating to a query or a decision.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use domicile_evidence::event::EventType;
use domicile_evidence::statement::SignedStatement;
use domicile_transfer_protocol::manifest::{Manifest, RowEntry};
use domicile_transfer_protocol::rows::{
    ConsentEventRow, ConsentRow, ControlRows, Feed, FeedRow, Progress, RekeyedRow, Remains, SentObject,
    SentRow, SourceObject, StagedObject, StagedPage, StagedRow, StagedTotals, Totals, TravellingRow,
};
use domicile_transfer_protocol::source::Unsent;
use domicile_transfer_protocol::store::{
    Adoption, DestinationDecision, Driver, Listing, NewConsent, Request, Row, SealedAccount, SourceDecision,
    Work,
};
use domicile_transfer_protocol::{
    Destination, DestinationFacts, Digest, Received, Source, State, TransferStore,
};
use domicile_types::{
    AuditScope, Code, Error, ItemId, ObjectId, PageId, RegionId, Result, SubjectId, Timestamp, TransferId,
};
use uuid::Uuid;

use super::db::{Job, Object, Transfer};
use super::destination::Staging;
use super::{MemoryTransfers, Tx, not_found, travel};

/// At most this many are listed.
const LISTED: usize = 500;

impl Tx<'_> {
    fn subject_of(&self, id: TransferId) -> Result<SubjectId> {
        self.db.transfers.get(&id).and_then(|kept| kept.subject()).ok_or_else(not_found)
    }

    fn may_pull(&self, id: TransferId) -> Result<()> {
        DestinationFacts { row: self.destination(id, None)?, now: self.now }.may_pull()
    }
}

#[async_trait]
impl TransferStore for MemoryTransfers {
    async fn work_take(&self, id: TransferId, holder: Uuid, lasts: Duration) -> Result<Option<Work>> {
        self.transact("transfer_work", true, move |tx| {
            let until = tx.now.plus(lasts);
            let token = match tx.db.jobs.get(&id) {
                None => 1,
                Some(job) if job.holder == holder => job.token,
                Some(job) if job.until < tx.now => job.token + 1,
                Some(_) => return Ok(None),
            };
            tx.db.jobs.insert(id, Job { holder, token, until });
            Ok(Some(Work { transfer: id, holder, token }))
        })
        .await
    }

    async fn work_renew(&self, work: Work, lasts: Duration) -> Result<bool> {
        self.transact("transfer_work_renew", true, move |tx| {
            let until = tx.now.plus(lasts);
            let held = tx.db.jobs.get_mut(&work.transfer);
            let held = held.filter(|job| job.holder == work.holder && job.token == work.token);
            Ok(held.map(|job| job.until = until).is_some())
        })
        .await
    }

    async fn work_end(&self, work: Work) -> Result<()> {
        self.transact("transfer_work_end", true, move |tx| {
            if tx.db.jobs.get(&work.transfer).is_some_and(|job| job.holder == work.holder) {
                tx.db.jobs.remove(&work.transfer);
            }
            Ok(())
        })
        .await
    }

    async fn work_held(&self, id: TransferId) -> Result<bool> {
        let held = move |tx: &mut Tx<'_>| Ok(tx.db.jobs.get(&id).is_some_and(|job| job.until >= tx.now));
        self.look("transfer_work_held", held).await
    }

    fn under(&self, work: Work) -> Self {
        Self { work: Some(work), ..self.clone() }
    }

    async fn open(&self) -> Result<Vec<Row>> {
        self.look("transfers_open", |tx| {
            let open = tx.db.transfers.values().filter(|kept| !kept.state().rests());
            Ok(open.map(|kept| kept.shown()).collect())
        })
        .await
    }

    async fn find(&self, transfer: TransferId) -> Result<Option<Row>> {
        self.look("transfer_find", move |tx| Ok(tx.find(transfer))).await
    }

    async fn list(&self, listing: Listing, resting: bool) -> Result<Vec<Row>> {
        self.look("transfers_list", move |tx| {
            let wanted = |kept: &&Arc<Transfer>| {
                let whose = match listing {
                    Listing::Subject(subject) => kept.subject() == Some(subject),
                    Listing::Everything => true,
                };
                whose && (resting || !kept.state().rests())
            };
            let mut rows: Vec<Row> =
                tx.db.transfers.values().filter(wanted).map(|kept| kept.shown()).collect();
            rows.sort_by_key(|row| std::cmp::Reverse(requested(row)));
            rows.truncate(LISTED);
            Ok(rows)
        })
        .await
    }

    async fn lease(&self, id: TransferId, holder: Uuid) -> Result<Option<u64>> {
        let lasts = self.parts.options.lease;
        self.change("transfer_lease", move |tx| {
            let (now, until) = (tx.now, tx.now.plus(lasts));
            let Some(kept) = tx.db.transfers.get_mut(&id).map(Arc::make_mut) else { return Ok(None) };
            let free = kept.lease.is_none_or(|(held_by, ends)| held_by == holder || ends < now);
            if !free || !matches!(kept.row, Row::Source(_)) {
                return Ok(None);
            }
            let same = kept.lease.is_some_and(|(held_by, ends)| held_by == holder && ends >= now);
            kept.token += u64::from(!same);
            kept.lease = Some((holder, until));
            Ok(Some(kept.token))
        })
        .await
    }

    async fn statements(&self, id: TransferId, origin: RegionId, after: u64) -> Result<Vec<SignedStatement>> {
        self.look("statements", move |tx| {
            let lane = tx.db.statements.range((id, origin.clone(), after + 1)..=(id, origin, u64::MAX));
            Ok(lane.map(|(_, signed)| signed.as_ref().clone()).collect())
        })
        .await
    }

    async fn keep_checkpoint(&self, id: TransferId, note: String) -> Result<()> {
        let scope = self.system_scope(id);
        self.transact("transfer_checkpoint", true, move |tx| {
            let (now, kept) = (tx.now, tx.db.checkpoints.entry(id).or_default());
            if kept.contains_key(&note) {
                return Ok(());
            }
            kept.insert(note, now);
            tx.log(&scope, Some(EventType::AuditCheckpointPeer), None, None, Some(id), None)
        })
        .await
    }

    async fn checkpoints(&self, id: TransferId) -> Result<Vec<String>> {
        self.look("transfer_checkpoints", move |tx| {
            let kept = tx.db.checkpoints.get(&id).into_iter().flatten();
            let mut kept: Vec<_> = kept.map(|(note, at)| (*at, note.clone())).collect();
            kept.sort();
            Ok(kept.into_iter().map(|(_, note)| note).collect())
        })
        .await
    }

    async fn request(&self, request: Request, scope: Option<Arc<AuditScope>>) -> Result<Source> {
        self.source_request(request, scope).await
    }

    async fn decide_source(
        &self,
        name: &'static str,
        transfer: TransferId,
        driver: Option<Driver>,
        scope: Option<Arc<AuditScope>>,
        decision: SourceDecision,
    ) -> Result<Source> {
        Ok(self.source_decide(name, transfer, driver, scope, None, decision).await?.0)
    }

    async fn consent(
        &self,
        transfer: TransferId,
        consent: NewConsent,
        scope: Option<Arc<AuditScope>>,
        decision: SourceDecision,
    ) -> Result<(Source, SignedStatement)> {
        let decided = self.source_decide("transfer_consent", transfer, None, scope, Some(consent), decision);
        let (row, signed) = decided.await?;
        Ok((row, signed.ok_or_else(|| Error::new(Code::Internal).at("consent"))?))
    }

    async fn consents(&self, subject: SubjectId) -> Result<(Vec<ConsentRow>, Vec<ConsentEventRow>)> {
        self.look("consents", move |tx| Ok(tx.consents(subject))).await
    }

    async fn offer(&self, id: TransferId) -> Result<Option<String>> {
        let kept = move |tx: &mut Tx<'_>| Ok(tx.db.transfers.get(&id).and_then(|kept| kept.offer.clone()));
        self.look("transfer_offer", kept).await
    }

    async fn due(&self, now: Timestamp) -> Result<Vec<TransferId>> {
        let stood = now.minus(self.parts.options.stuck_after);
        self.look("transfers_due", move |tx| {
            let due = |kept: &Transfer| match &kept.row {
                Row::Source(row) => !row.state.rests() && is_due(row, now, stood),
                Row::Destination(_) => false,
            };
            let found = tx.db.transfers.iter().filter(|(_, kept)| due(kept));
            Ok(found.map(|(id, _)| *id).collect())
        })
        .await
    }

    async fn revision(&self, subject: SubjectId) -> Result<u64> {
        self.look("revision", move |tx| Ok(tx.home(subject)?.revision)).await
    }

    async fn epoch(&self, subject: SubjectId) -> Result<u64> {
        self.look("epoch", move |tx| Ok(tx.home(subject)?.epoch)).await
    }

    async fn totals(&self, subject: SubjectId) -> Result<Totals> {
        self.look("totals", move |tx| Ok(tx.totals(subject))).await
    }

    async fn feed(&self, subject: SubjectId, after: u64, rows: u32, bytes: u64) -> Result<Feed> {
        self.look("feed", move |tx| tx.feed(subject, after, rows, bytes)).await
    }

    async fn feed_only(&self, subject: SubjectId, only: Vec<(ItemId, u32)>) -> Result<Vec<FeedRow>> {
        self.look("feed_only", move |tx| tx.feed_only(subject, &only)).await
    }

    async fn source_object(&self, subject: SubjectId, object: ObjectId) -> Result<Option<SourceObject>> {
        self.look("object", move |tx| {
            let found = tx.db.objects.get(&object).filter(|row| row.subject == subject);
            Ok(found.map(|row| source_object(object, row)))
        })
        .await
    }

    async fn record_sent(&self, id: TransferId, rows: Vec<SentRow>, named: bool) -> Result<()> {
        self.change("transfer_sent", move |tx| {
            let subject = tx.subject_of(id)?;
            tx.may_send(id, subject)?;
            tx.record_sent(id, rows, named)
        })
        .await
    }

    async fn record_sent_object(&self, id: TransferId, object: SentObject) -> Result<()> {
        self.change("transfer_sent_object", move |tx| {
            let subject = tx.subject_of(id)?;
            tx.may_send(id, subject)?;
            tx.db.sent_objects.insert((id, object.object), object);
            Ok(())
        })
        .await
    }

    async fn unsent(&self, id: TransferId) -> Result<Unsent> {
        self.look("unsent", move |tx| Ok(tx.unsent(id, tx.subject_of(id)?))).await
    }

    async fn source_manifest(&self, id: TransferId) -> Result<Manifest> {
        self.look("manifest", move |tx| tx.source_manifest(id, tx.subject_of(id)?)).await
    }

    async fn sent_rows(&self, id: TransferId) -> Result<Vec<RowEntry>> {
        self.look("sent_rows", move |tx| Ok(tx.db.sent_of(id).map(travel::entry).collect())).await
    }

    async fn progress(&self, id: TransferId) -> Result<Progress> {
        self.look("progress", move |tx| Ok(tx.progress(id, tx.subject_of(id)?))).await
    }

    async fn control_rows(&self, subject: SubjectId) -> Result<ControlRows> {
        self.look("control_rows", move |tx| tx.control_rows(subject)).await
    }

    async fn account_sealed(&self, subject: SubjectId) -> Result<Option<SealedAccount>> {
        self.look("account_sealed", move |tx| Ok(tx.account_sealed(subject))).await
    }

    async fn key_release(&self, id: TransferId) -> Result<Option<Vec<u8>>> {
        let kept =
            move |tx: &mut Tx<'_>| Ok(tx.db.transfers.get(&id).and_then(|kept| kept.key_release.clone()));
        self.look("key_release", kept).await
    }

    async fn erase(&self, id: TransferId, limit: u32) -> Result<u64> {
        let keeps = self.parts.options.locator;
        self.change("transfer_erase", move |tx| {
            let Some(Row::Source(row)) = tx.find(id) else { return Err(not_found()) };
            let locator = row.locator.then(|| row.changed_at.plus(keeps));
            Ok(tx.erase(id, (row.subject, row.to), locator, limit))
        })
        .await
    }

    async fn remains(&self, subject: SubjectId) -> Result<Remains> {
        self.look("remains", move |tx| Ok(tx.remains(subject))).await
    }

    async fn forget_sent(&self, id: TransferId) -> Result<()> {
        self.change("transfer_forget", move |tx| {
            tx.sent_drop(id, u32::MAX);
            Ok(())
        })
        .await
    }

    async fn invite(&self, received: Received, decision: DestinationDecision) -> Result<Destination> {
        self.destination_invite(received, decision).await
    }

    async fn decide_destination(
        &self,
        name: &'static str,
        transfer: TransferId,
        driver: Option<Driver>,
        decision: DestinationDecision,
    ) -> Result<Destination> {
        self.destination_decide(name, transfer, driver, None, decision).await
    }

    async fn stage(
        &self,
        transfer: TransferId,
        page: StagedPage,
        rows: Vec<StagedRow>,
        range: Option<(u64, u64)>,
        decision: DestinationDecision,
    ) -> Result<Destination> {
        let staging = Staging { page, rows, range };
        self.destination_decide("transfer_page", transfer, None, Some(staging), decision).await
    }

    async fn stage_object(&self, id: TransferId, object: StagedObject) -> Result<()> {
        self.change("transfer_object", move |tx| {
            let state = tx.destination(id, None)?.state;
            if !state.copies() {
                return Err(Error::new(Code::TransferState).at(state.as_str()));
            }
            tx.db.staged_objects.insert((id, object.sent.object), object);
            Ok(())
        })
        .await
    }

    async fn missing_objects(&self, id: TransferId) -> Result<Vec<ObjectId>> {
        self.look("missing_objects", move |tx| Ok(tx.missing_objects(id))).await
    }

    async fn staged_objects(&self, id: TransferId) -> Result<Vec<StagedObject>> {
        self.look("staged_objects", move |tx| Ok(tx.db.staged_objects_of(id).cloned().collect())).await
    }

    async fn staged_manifest(&self, id: TransferId) -> Result<(Manifest, StagedTotals)> {
        self.look("staged_manifest", move |tx| Ok(tx.staged_manifest(id))).await
    }

    async fn drop_staged(&self, id: TransferId, rows: Vec<(ItemId, u32)>) -> Result<()> {
        self.change("transfer_drop_staged", move |tx| {
            tx.may_pull(id)?;
            for (item, version) in rows {
                tx.db.staged_rows.remove(&(id, item, version));
            }
            Ok(())
        })
        .await
    }

    async fn collisions(&self, id: TransferId) -> Result<u64> {
        self.look("collisions", move |tx| Ok(tx.collisions(id))).await
    }

    async fn staged_pages(&self, id: TransferId) -> Result<Vec<StagedPage>> {
        self.look("staged_pages", move |tx| {
            let pages = tx.db.staged_pages.values().filter(|(of, _)| *of == id);
            Ok(pages.map(|(_, page)| page.clone()).collect())
        })
        .await
    }

    async fn staged_headers(&self, id: TransferId) -> Result<Vec<StagedRow>> {
        self.look("staged_headers", move |tx| {
            let bare =
                |row: &Arc<StagedRow>| StagedRow { sealed_payload: Vec::new(), ..row.as_ref().clone() };
            Ok(tx.db.staged_of(id).map(bare).collect())
        })
        .await
    }

    async fn adopt(
        &self,
        transfer: TransferId,
        adoption: Adoption,
        decision: DestinationDecision,
    ) -> Result<Destination> {
        self.destination_adopt(transfer, adoption, decision).await
    }

    async fn travelling(
        &self,
        id: TransferId,
        after: Option<PageId>,
        limit: u32,
    ) -> Result<Vec<TravellingRow>> {
        self.look("travelling", move |tx| tx.travelling(id, tx.subject_of(id)?, after, limit)).await
    }

    async fn rekey(&self, id: TransferId, rows: Vec<RekeyedRow>) -> Result<()> {
        self.change("transfer_rekey", move |tx| {
            let subject = tx.subject_of(id)?;
            tx.rekey(id, subject, rows);
            Ok(())
        })
        .await
    }

    async fn travelling_objects(&self, id: TransferId) -> Result<Vec<(SourceObject, StagedObject)>> {
        self.look("travelling_objects", move |tx| {
            let subject = tx.subject_of(id)?;
            let open = tx.db.objects.iter().filter(|(_, row)| row.subject == subject && row.travelling);
            let join = |(object, row): (&ObjectId, &Object)| {
                let staged = tx.db.staged_objects.get(&(id, *object))?;
                Some((source_object(*object, row), staged.clone()))
            };
            Ok(open.filter_map(join).collect())
        })
        .await
    }

    async fn any_travelling(&self, id: TransferId) -> Result<bool> {
        self.look("any_travelling", move |tx| Ok(tx.any_travelling(id, tx.subject_of(id)?))).await
    }

    async fn rekey_object(
        &self,
        id: TransferId,
        object: ObjectId,
        key_version: u32,
        copy: Uuid,
    ) -> Result<()> {
        self.change("transfer_rekey_object", move |tx| {
            let subject = tx.subject_of(id)?;
            let row = tx.db.objects.get_mut(&object);
            let row = row.filter(|row| row.subject == subject && row.travelling);
            let row = row.ok_or_else(|| super::conflict("object"))?;
            (row.travelling, row.transfer, row.key_version, row.copy) =
                (false, None, key_version, Some(copy));
            Ok(())
        })
        .await
    }

    async fn object_copies(&self, subject: SubjectId) -> Result<Vec<(ObjectId, Option<Uuid>)>> {
        self.look("object_copies", move |tx| {
            let own = tx.db.objects.iter().filter(|(_, row)| row.subject == subject);
            Ok(own.map(|(object, row)| (*object, row.copy)).collect())
        })
        .await
    }

    async fn purge(&self, id: TransferId, limit: u32) -> Result<u64> {
        self.change("transfer_purge", move |tx| Ok(tx.purge(id, limit))).await
    }

    async fn backed_up(&self, transfer: TransferId) -> Result<Digest> {
        self.parts.weather.before("backup", true).await?;
        let commits = self.parts.disk.back_up();
        self.parts.weather.after("backup", true).await?;
        let text = format!("{} {transfer} {commits}", self.parts.region);
        Ok(Digest(domicile_crypto::sha256(text.as_bytes())))
    }
}

fn requested(row: &Row) -> Timestamp {
    match row {
        Row::Source(row) => row.requested_at,
        Row::Destination(row) => row.requested_at,
    }
}

/// Whether a source row's deadline or freeze is over, or it has stood still too long past Released.
fn is_due(row: &Source, now: Timestamp, stood: Timestamp) -> bool {
    let past = matches!(row.state, State::Released | State::Adopted | State::Rekeyed | State::Shredded);
    let over = |at: Option<Timestamp>| at.is_some_and(|at| at <= now);
    over(row.deadline)
        || over(row.freeze_deadline)
        || (past && row.stuck.is_none() && row.changed_at <= stood)
}

fn source_object(object: ObjectId, row: &Object) -> SourceObject {
    SourceObject {
        object,
        subject: row.subject,
        practice: row.practice,
        length: row.length,
        chunks: row.chunks,
        key_version: row.key_version,
        copy: row.copy,
    }
}
