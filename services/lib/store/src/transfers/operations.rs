//! The trait's operations, each delegating to one query or decision.

use std::collections::BTreeMap;
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
use domicile_transfer_protocol::{Destination, Digest, Received, Source, TransferStore};
use domicile_types::{
    AuditScope, Code, Error, ItemId, ObjectId, PageId, RegionId, Result, SubjectId, Timestamp, TransferId,
};
use futures::future::BoxFuture;
use uuid::Uuid;

use super::destination::Staging;
use super::erasure::{self, Erasing};
use super::parts::{adopted, feed_rows, fenced, may_send, source_object, whose};
use super::{SqlTransfers, job, not_found};
use crate::queries::object;
use crate::queries::{consent, item, lease, residency, staging, statement, transfer};
use crate::{AuditFacts, Scope, Tx, values};

impl SqlTransfers {
    async fn look<T, F>(&self, name: &'static str, scope: Scope, f: F) -> Result<T>
    where
        T: Send + 'static,
        F: for<'c> Fn(&'c Tx) -> BoxFuture<'c, Result<T>> + Send + Sync + 'static,
    {
        self.store.read(name, scope, f).await
    }

    async fn change<T, F>(&self, name: &'static str, scope: Scope, f: F) -> Result<T>
    where
        T: Send + 'static,
        F: for<'c> Fn(&'c Tx) -> BoxFuture<'c, Result<T>> + Send + Sync + 'static,
    {
        self.store.write_unaudited(name, scope, fenced(self.work, f)).await
    }

    async fn source_row(&self, id: TransferId) -> Result<Source> {
        match self.row(id).await? {
            Some(Row::Source(row)) => Ok(*row),
            _ => Err(not_found()),
        }
    }

    async fn subject_of(&self, id: TransferId) -> Result<SubjectId> {
        let subject = match self.row(id).await? {
            Some(Row::Source(row)) => Some(row.subject),
            Some(Row::Destination(row)) => row.subject,
            None => None,
        };
        subject.ok_or_else(not_found)
    }
}

#[async_trait]
impl TransferStore for SqlTransfers {
    async fn work_take(&self, id: TransferId, holder: Uuid, lasts: Duration) -> Result<Option<Work>> {
        let taken = self.store.write_unaudited("transfer_work", Scope::System, move |tx| {
            Box::pin(async move {
                lease::relaxed(tx).await?;
                lease::take(tx, &job(id), holder, tx.now().plus(lasts), tx.now()).await
            })
        });
        Ok(taken.await?.map(|token| Work { transfer: id, holder, token }))
    }

    async fn work_renew(&self, work: Work, lasts: Duration) -> Result<bool> {
        let renewed = self.store.write_unaudited("transfer_work_renew", Scope::System, move |tx| {
            Box::pin(async move {
                lease::relaxed(tx).await?;
                let until = tx.now().plus(lasts);
                lease::renew(tx, &job(work.transfer), work.holder, work.token, until).await
            })
        });
        renewed.await
    }

    async fn work_end(&self, work: Work) -> Result<()> {
        let end = self.store.write_unaudited("transfer_work_end", Scope::System, move |tx| {
            Box::pin(async move {
                lease::relaxed(tx).await?;
                lease::forget(tx, &job(work.transfer), work.holder).await
            })
        });
        end.await
    }

    async fn work_held(&self, id: TransferId) -> Result<bool> {
        let look = self.look("transfer_work_held", Scope::System, move |tx| {
            Box::pin(async move { lease::held(tx, &job(id), tx.now()).await })
        });
        look.await
    }

    fn under(&self, work: Work) -> Self {
        Self { work: Some(work), ..self.clone() }
    }

    async fn open(&self) -> Result<Vec<Row>> {
        self.look("transfers_open", Scope::Transfers, |tx| Box::pin(transfer::open(tx))).await
    }

    async fn find(&self, transfer: TransferId) -> Result<Option<Row>> {
        self.row(transfer).await
    }

    async fn list(&self, listing: Listing, resting: bool) -> Result<Vec<Row>> {
        self.look("transfers_list", Scope::Transfers, move |tx| {
            Box::pin(transfer::list(tx, listing, resting))
        })
        .await
    }

    async fn lease(&self, id: TransferId, holder: Uuid) -> Result<Option<u64>> {
        let lasts = self.options.lease;
        self.change("transfer_lease", Scope::Transfers, move |tx| {
            Box::pin(transfer::lease(tx, id, holder, tx.now().plus(lasts)))
        })
        .await
    }

    async fn statements(&self, id: TransferId, origin: RegionId, after: u64) -> Result<Vec<SignedStatement>> {
        self.look("statements", Scope::Transfers, move |tx| {
            let origin = origin.clone();
            Box::pin(async move { statement::lane(tx, id, &origin, after).await })
        })
        .await
    }

    async fn keep_checkpoint(&self, id: TransferId, note: String) -> Result<()> {
        let scope = self.system_scope(id);
        let note = Arc::new(note);
        self.store
            .write("transfer_checkpoint", Scope::Transfers, &scope, move |tx| {
                let note = Arc::clone(&note);
                Box::pin(async move {
                    let sql = "INSERT INTO transfer_checkpoint (transfer_id, note, at) VALUES ($1, $2, $3) \
                               ON CONFLICT DO NOTHING";
                    if tx.execute(sql, values![id, note.as_str(), tx.now()]).await? > 0 {
                        let facts =
                            AuditFacts::ok().event(EventType::AuditCheckpointPeer).transfer(id).nobody();
                        tx.audit(facts)?;
                    }
                    Ok(())
                })
            })
            .await
    }

    async fn checkpoints(&self, id: TransferId) -> Result<Vec<String>> {
        self.look("transfer_checkpoints", Scope::Transfers, move |tx| {
            Box::pin(async move {
                let sql = "SELECT note FROM transfer_checkpoint WHERE transfer_id = $1 ORDER BY at, note";
                tx.rows(sql, values![id]).await?.iter().map(|row| row.get("note")).collect()
            })
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
        let decided =
            self.source_decide("transfer_consent", transfer, None, scope, Some(consent), decision).await?;
        let signed = decided.1.ok_or_else(|| Error::new(Code::Internal).at("consent"))?;
        Ok((decided.0, signed))
    }

    async fn consents(&self, subject: SubjectId) -> Result<(Vec<ConsentRow>, Vec<ConsentEventRow>)> {
        self.look("consents", Scope::Subject(subject), move |tx| {
            Box::pin(
                async move { Ok((consent::list(tx, subject).await?, consent::events(tx, subject).await?)) },
            )
        })
        .await
    }

    async fn offer(&self, id: TransferId) -> Result<Option<String>> {
        self.look("transfer_offer", Scope::Transfers, move |tx| Box::pin(transfer::offer(tx, id))).await
    }

    async fn due(&self, now: Timestamp) -> Result<Vec<TransferId>> {
        let stood = now.minus(self.options.stuck_after);
        self.look("transfers_due", Scope::Transfers, move |tx| Box::pin(transfer::due(tx, now, stood))).await
    }

    async fn revision(&self, subject: SubjectId) -> Result<u64> {
        self.look("revision", whose(subject), move |tx| {
            Box::pin(async move { Ok(residency::get(tx, subject).await?.ok_or_else(not_found)?.revision) })
        })
        .await
    }

    async fn epoch(&self, subject: SubjectId) -> Result<u64> {
        self.look("epoch", whose(subject), move |tx| {
            Box::pin(async move { Ok(residency::get(tx, subject).await?.ok_or_else(not_found)?.epoch) })
        })
        .await
    }

    async fn totals(&self, subject: SubjectId) -> Result<Totals> {
        self.look("totals", whose(subject), move |tx| Box::pin(erasure::totals(tx, subject))).await
    }

    async fn feed(&self, subject: SubjectId, after: u64, rows: u32, bytes: u64) -> Result<Feed> {
        self.look("feed", whose(subject), move |tx| {
            Box::pin(async move {
                // The revision is read first: rows that commit meanwhile come with the next page.
                let home = residency::get(tx, subject).await?.ok_or_else(not_found)?;
                let (last, more) = staging::page_end(tx, subject, after, rows, bytes).await?;
                let Some(last) = last else {
                    return Ok(Feed {
                        rows: Vec::new(),
                        cursor: home.revision.max(after),
                        revision: home.revision,
                    });
                };
                let rows = feed_rows(item::feed_range(tx, subject, after, last).await?)?;
                let cursor = if more { last } else { home.revision.max(last) };
                Ok(Feed { rows, cursor, revision: home.revision.max(last) })
            })
        })
        .await
    }

    async fn feed_only(&self, subject: SubjectId, only: Vec<(ItemId, u32)>) -> Result<Vec<FeedRow>> {
        let only = Arc::new(only);
        self.look("feed_only", whose(subject), move |tx| {
            let only = Arc::clone(&only);
            Box::pin(async move { feed_rows(item::feed_only(tx, subject, &only).await?) })
        })
        .await
    }

    async fn source_object(&self, subject: SubjectId, object: ObjectId) -> Result<Option<SourceObject>> {
        let found =
            self.look("object", whose(subject), move |tx| Box::pin(object::get(tx, subject, object))).await?;
        Ok(found.as_ref().map(source_object))
    }

    async fn record_sent(&self, id: TransferId, rows: Vec<SentRow>, named: bool) -> Result<()> {
        let subject = self.subject_of(id).await?;
        let rows = Arc::new(rows);
        self.change("transfer_sent", whose(subject), move |tx| {
            let rows = Arc::clone(&rows);
            Box::pin(async move {
                may_send(tx, id, subject).await?;
                staging::sent_put(tx, id, &rows, named).await
            })
        })
        .await
    }

    async fn record_sent_object(&self, id: TransferId, object: SentObject) -> Result<()> {
        let subject = self.subject_of(id).await?;
        self.change("transfer_sent_object", whose(subject), move |tx| {
            Box::pin(async move {
                may_send(tx, id, subject).await?;
                staging::sent_object_put(tx, id, &object).await
            })
        })
        .await
    }

    async fn unsent(&self, id: TransferId) -> Result<Unsent> {
        let subject = self.subject_of(id).await?;
        self.look("unsent", whose(subject), move |tx| Box::pin(staging::unsent(tx, id, subject))).await
    }

    async fn source_manifest(&self, id: TransferId) -> Result<Manifest> {
        let subject = self.subject_of(id).await?;
        self.look("manifest", whose(subject), move |tx| {
            Box::pin(async move {
                let unsent = staging::unsent(tx, id, subject).await?;
                if unsent != Unsent::default() {
                    return Err(Error::new(Code::RootMismatch).at("a row has no digest"));
                }
                let rows = staging::live_rows(tx, id, subject).await?;
                Ok(Manifest { rows, objects: staging::live_objects(tx, id, subject).await? })
            })
        })
        .await
    }

    async fn sent_rows(&self, id: TransferId) -> Result<Vec<RowEntry>> {
        self.look("sent_rows", Scope::Transfers, move |tx| Box::pin(staging::sent_rows(tx, id))).await
    }

    async fn progress(&self, id: TransferId) -> Result<Progress> {
        let subject = self.subject_of(id).await?;
        self.look("progress", whose(subject), move |tx| Box::pin(staging::progress(tx, id, subject))).await
    }

    async fn control_rows(&self, subject: SubjectId) -> Result<ControlRows> {
        self.look("control_rows", whose(subject), move |tx| Box::pin(erasure::control_rows(tx, subject)))
            .await
    }

    async fn account_sealed(&self, subject: SubjectId) -> Result<Option<SealedAccount>> {
        self.look("account_sealed", whose(subject), move |tx| Box::pin(erasure::account_sealed(tx, subject)))
            .await
    }

    async fn key_release(&self, id: TransferId) -> Result<Option<Vec<u8>>> {
        self.look("key_release", Scope::Transfers, move |tx| Box::pin(transfer::release(tx, id))).await
    }

    async fn erase(&self, id: TransferId, limit: u32) -> Result<u64> {
        let row = self.source_row(id).await?;
        let locator = row.locator.then(|| row.changed_at.plus(self.options.locator));
        let erasing = Arc::new(Erasing { transfer: id, subject: row.subject, to: row.to, locator });
        self.change("transfer_erase", whose(row.subject), move |tx| {
            let erasing = Arc::clone(&erasing);
            Box::pin(async move { erasure::erase(tx, &erasing, limit).await })
        })
        .await
    }

    async fn remains(&self, subject: SubjectId) -> Result<Remains> {
        self.store.scrub().await?;
        self.look("remains", whose(subject), move |tx| Box::pin(erasure::remains(tx, subject))).await
    }

    async fn forget_sent(&self, id: TransferId) -> Result<()> {
        const LIMIT: u32 = 5_000;
        loop {
            let forget = "transfer_forget";
            if self
                .change(forget, Scope::Transfers, move |tx| Box::pin(staging::sent_drop(tx, id, LIMIT)))
                .await?
                == 0
            {
                return Ok(());
            }
        }
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
        let object = Arc::new(object);
        self.change("transfer_object", Scope::Transfers, move |tx| {
            let object = Arc::clone(&object);
            Box::pin(async move {
                let Some(Row::Destination(row)) = transfer::lock(tx, id).await? else {
                    return Err(not_found());
                };
                if !row.state.copies() {
                    return Err(Error::new(Code::TransferState).at(row.state.as_str()));
                }
                staging::stage_object(tx, id, &object).await
            })
        })
        .await
    }

    async fn missing_objects(&self, id: TransferId) -> Result<Vec<ObjectId>> {
        self.look("missing_objects", Scope::Transfers, move |tx| Box::pin(staging::missing_objects(tx, id)))
            .await
    }

    async fn staged_objects(&self, id: TransferId) -> Result<Vec<StagedObject>> {
        self.look("staged_objects", Scope::Transfers, move |tx| Box::pin(staging::objects(tx, id))).await
    }

    async fn staged_manifest(&self, id: TransferId) -> Result<(Manifest, StagedTotals)> {
        self.look("staged_manifest", Scope::Transfers, move |tx| {
            Box::pin(async move {
                let (rows, row_bytes) = staging::manifest_rows(tx, id).await?;
                let staged = staging::objects(tx, id).await?;
                let entry = |object: &StagedObject| domicile_transfer_protocol::manifest::ObjectEntry {
                    object: object.sent.object,
                    chunks: object.sent.chunks,
                    digest: object.sent.digest,
                };
                let totals = StagedTotals {
                    rows: rows.len() as u64,
                    bytes: row_bytes + staged.iter().map(|object| object.sent.length).sum::<u64>(),
                    objects: staged.len() as u64,
                };
                Ok((Manifest { rows, objects: staged.iter().map(entry).collect() }, totals))
            })
        })
        .await
    }

    async fn drop_staged(&self, id: TransferId, rows: Vec<(ItemId, u32)>) -> Result<()> {
        let rows = Arc::new(rows);
        self.change("transfer_drop_staged", Scope::Transfers, move |tx| {
            let rows = Arc::clone(&rows);
            Box::pin(async move {
                // What has been signed as staged is not taken away again.
                let Some(Row::Destination(row)) = transfer::lock(tx, id).await? else {
                    return Err(not_found());
                };
                domicile_transfer_protocol::DestinationFacts { row: *row, now: tx.now() }.may_pull()?;
                staging::staged_drop(tx, id, &rows).await
            })
        })
        .await
    }

    async fn collisions(&self, id: TransferId) -> Result<u64> {
        self.look("collisions", Scope::Transfers, move |tx| Box::pin(staging::collisions(tx, id))).await
    }

    async fn staged_pages(&self, id: TransferId) -> Result<Vec<StagedPage>> {
        self.look("staged_pages", Scope::Transfers, move |tx| Box::pin(staging::pages(tx, id))).await
    }

    async fn staged_headers(&self, id: TransferId) -> Result<Vec<StagedRow>> {
        self.look("staged_headers", Scope::Transfers, move |tx| Box::pin(staging::headers(tx, id))).await
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
        let subject = self.subject_of(id).await?;
        self.look("travelling", whose(subject), move |tx| {
            Box::pin(async move {
                let staged = staging::travelling(tx, id, after, limit).await?;
                let found = adopted(tx, subject, &staged).await?.into_iter();
                let mut headers: BTreeMap<_, _> =
                    found.map(|row| ((row.header.item_id, row.header.version), row.header)).collect();
                let join = |staged: StagedRow| {
                    let header = headers.remove(&(staged.item, staged.version));
                    let header =
                        header.ok_or_else(|| Error::new(Code::Internal).at("a staged row has no item"))?;
                    Ok(TravellingRow { header, staged })
                };
                staged.into_iter().map(join).collect()
            })
        })
        .await
    }

    async fn rekey(&self, id: TransferId, rows: Vec<RekeyedRow>) -> Result<()> {
        let subject = self.subject_of(id).await?;
        let rows = Arc::new(rows);
        self.change("transfer_rekey", whose(subject), move |tx| {
            let rows = Arc::clone(&rows);
            Box::pin(async move { staging::rekey(tx, id, subject, rows.as_ref().clone()).await })
        })
        .await
    }

    async fn travelling_objects(&self, id: TransferId) -> Result<Vec<(SourceObject, StagedObject)>> {
        let subject = self.subject_of(id).await?;
        self.look("travelling_objects", whose(subject), move |tx| {
            Box::pin(async move {
                let mut staged: BTreeMap<_, _> = staging::objects(tx, id)
                    .await?
                    .into_iter()
                    .map(|object| (object.sent.object, object))
                    .collect();
                let open = object::travelling(tx, subject).await?.into_iter();
                Ok(open.filter_map(|row| Some((source_object(&row), staged.remove(&row.object)?))).collect())
            })
        })
        .await
    }

    async fn any_travelling(&self, id: TransferId) -> Result<bool> {
        let subject = self.subject_of(id).await?;
        self.look("any_travelling", whose(subject), move |tx| {
            Box::pin(staging::any_travelling(tx, id, subject))
        })
        .await
    }

    async fn rekey_object(
        &self,
        id: TransferId,
        object: ObjectId,
        key_version: u32,
        copy: Uuid,
    ) -> Result<()> {
        let subject = self.subject_of(id).await?;
        self.change("transfer_rekey_object", whose(subject), move |tx| {
            Box::pin(async move {
                match object::resealed(tx, subject, object, key_version, copy).await? {
                    true => Ok(()),
                    false => Err(Error::new(Code::Conflict).at("object")),
                }
            })
        })
        .await
    }

    async fn object_copies(&self, subject: SubjectId) -> Result<Vec<(ObjectId, Option<Uuid>)>> {
        self.look("object_copies", whose(subject), move |tx| Box::pin(object::copies(tx, subject))).await
    }

    async fn purge(&self, id: TransferId, limit: u32) -> Result<u64> {
        self.change("transfer_purge", Scope::Transfers, move |tx| Box::pin(staging::purge(tx, id, limit)))
            .await
    }

    async fn backed_up(&self, _: TransferId) -> Result<Digest> {
        self.backups.take().await.map(Digest)
    }
}
