//! Destination: pulling pages until it is close behind.

use domicile_crypto::travel::{TravelHeader, Unit};
use domicile_proto::transfer::v1::pull_page_response::Part;
use domicile_proto::transfer::v1::{PageEnd, PullPageRequest, RowKey, TravelHead as HeadMessage, TravelRow};
use domicile_transfer_protocol::release::Head;
use domicile_transfer_protocol::rows::{StagedPage, StagedRow};
use domicile_transfer_protocol::{Destination, DestinationFacts, Digest, State, TransferStore};
use domicile_types::{Code, Error, ItemId, ObjectId, PageId, Result, TransferId};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

use super::Transfers;
use super::streams::{Route, page_digest, row_digest};
use crate::convert;

/// Rows a page may have at most, whatever the source says.
const MOST_ROWS: usize = 2_000;
/// How often, while pages come, it is looked for objects they refer to.
const OBJECTS_LOOK: Duration = Duration::from_millis(100);

/// A page as it came, its digests checked.
pub struct Page {
    /// Its head.
    pub head: Head,
    /// Its rows.
    pub rows: Vec<StagedRow>,
    /// Its end.
    pub end: PageEnd,
}

/// A page that arrives, message by message.
#[derive(Default)]
pub struct ArrivingPage {
    head: Option<HeadMessage>,
    rows: Vec<TravelRow>,
}

impl ArrivingPage {
    /// The next message; the page when it was the last one.
    ///
    /// # Errors
    /// [`Code::ChunkDamaged`] for a message out of order, too many rows, and what [`checked_page`] refuses.
    pub fn take_in(&mut self, part: Option<Part>, route: &Route) -> Result<Option<Page>> {
        match part {
            Some(Part::Head(part)) if self.head.is_none() => self.head = Some(part),
            Some(Part::Rows(part)) if self.head.is_some() && self.rows.len() <= MOST_ROWS => {
                self.rows.extend(part.rows);
            }
            Some(Part::End(end)) => return checked_page(route, self.head.take(), &self.rows, end).map(Some),
            _ => return Err(damaged("order")),
        }
        Ok(None)
    }
}

impl<S: TransferStore> Transfers<S> {
    /// Pulls in the background until few rows and no object are missing; repeatable, stops when the
    /// transfer leaves Copying.
    pub(super) fn start_pull(&self, transfer: TransferId) {
        let this = self.clone();
        self.background(transfer, "pull", async move {
            let row = this.destination(transfer).await?;
            let _place = this.pace(&row.from).place().await?;
            // Another replica that has the lease is at it.
            let Some(held) = this.work_if_free(transfer).await? else { return Ok(()) };
            held.sweep_staging(transfer).await?;
            held.pull_until_close(transfer).await
        });
    }

    async fn pull_until_close(&self, transfer: TransferId) -> Result<()> {
        let row = self.destination(transfer).await?;
        let (pages, over) = watch::channel(false);
        let rows = async {
            self.pull_rows(transfer).await?;
            // The objects' side looks a last time for what the last rows refer to.
            pages.send_replace(true);
            Ok(())
        };
        tokio::try_join!(rows, self.pull_objects_behind(&row, over)).map(|((), ())| ())
    }

    /// Pulls pages until few rows are missing. While one is stored the next is on its way.
    async fn pull_rows(&self, transfer: TransferId) -> Result<()> {
        let mut ahead = None;
        loop {
            let row = self.destination(transfer).await?;
            if row.state != State::Copying {
                return Ok(());
            }
            if row.compare {
                self.compare(&row).await?;
                ahead = None;
                continue;
            }
            let page = match ahead.take() {
                Some(page) => page,
                None => self.fetch_page(&row, row.cursor, Vec::new()).await?,
            };
            let (cursor, revision) = (page.end.cursor, page.end.revision);
            let lag = revision.saturating_sub(cursor);
            let next = async {
                if lag > self.numbers().freeze_lag_rows {
                    return self.fetch_page(&row, cursor, Vec::new()).await.map(Some);
                }
                Ok(None)
            };
            let (kept, next) = tokio::join!(self.keep_paced(&row, page), next);
            let kept = kept?;
            if kept.revision.saturating_sub(kept.cursor) <= self.numbers().freeze_lag_rows {
                return Ok(());
            }
            ahead = next?;
            self.changed(transfer);
        }
    }

    /// Pulls objects as soon as rows refer to them, until the rows are here.
    async fn pull_objects_behind(&self, row: &Destination, mut over: watch::Receiver<bool>) -> Result<()> {
        loop {
            let last = *over.borrow_and_update();
            self.pull_objects(row).await?;
            if last || over.has_changed().is_err() {
                return Ok(());
            }
            drop(tokio::time::timeout(OBJECTS_LOOK, over.changed()).await);
        }
    }

    /// Pulls up to a revision: the last rows under a freeze.
    pub(super) async fn pull_up_to(&self, transfer: TransferId, revision: u64) -> Result<()> {
        loop {
            let row = self.destination(transfer).await?;
            if row.compare {
                self.compare(&row).await?;
            }
            if row.cursor >= revision {
                return self.pull_objects(&row).await;
            }
            self.pull_page(&row).await?;
        }
    }

    async fn pull_page(&self, row: &Destination) -> Result<Destination> {
        let page = self.fetch_page(row, row.cursor, Vec::new()).await?;
        self.keep_paced(row, page).await
    }

    async fn keep_paced(&self, row: &Destination, page: Page) -> Result<Destination> {
        let bytes =
            page.rows.iter().map(|row| row.sealed_header.len() + row.sealed_payload.len()).sum::<usize>();
        let kept = self.keep_page(row.transfer, page).await?;
        // Never during a freeze: its budget is the client's.
        if kept.state == State::Copying {
            self.pace(&row.from).take(bytes as u64).await;
        }
        Ok(kept)
    }

    /// Pulls named rows again.
    pub(super) async fn pull_only(&self, row: &Destination, only: Vec<(ItemId, u32)>) -> Result<()> {
        let keys = only
            .iter()
            .map(|(item, version)| RowKey { item_id: convert::bytes(item.as_bytes()), version: *version });
        let page = self.fetch_page(row, 0, keys.collect()).await?;
        self.keep_page(row.transfer, page).await.map(drop)
    }

    async fn fetch_page(&self, row: &Destination, after: u64, only: Vec<RowKey>) -> Result<Page> {
        let request = PullPageRequest {
            transfer_id: row.transfer.to_string(),
            attempt: row.attempt,
            after_revision: after,
            max_rows: self.options.settings.page_rows,
            only,
        };
        self.ctx.faults.before("peer.pull_page");
        let answer = self.peers.client(&row.from)?.pull_page(request).await;
        self.ctx.faults.after("peer.pull_page");
        let mut stream = answer.map_err(|status| convert::peer_error(&status))?.into_inner();
        let (route, mut arriving) = (Route::of_destination(row)?, ArrivingPage::default());
        while let Some(message) = stream.message().await.map_err(|status| convert::peer_error(&status))? {
            if let Some(page) = arriving.take_in(message.part, &route)? {
                return Ok(page);
            }
        }
        Err(damaged("cut"))
    }

    async fn keep_page(&self, transfer: TransferId, page: Page) -> Result<Destination> {
        self.ctx.faults.hit("pull.before_stage");
        let staged = StagedPage { page: page_id(&page.rows, &self.ctx), head: page.head };
        let (cursor, revision) = (page.end.cursor, page.end.revision);
        let decision = Arc::new(move |facts: &DestinationFacts| facts.pulled(cursor, revision).map(Some));
        // A page by revision holds every row of its range; named rows do not (their page moves no cursor).
        let revisions = page.rows.iter().map(|row| row.revision);
        let range = if cursor > 0 { revisions.clone().min().zip(revisions.max()) } else { None };
        let row = self.store.stage(transfer, staged, page.rows, range, decision).await?;
        Ok(row)
    }
}

fn page_id(rows: &[StagedRow], ctx: &domicile_types::Ctx) -> PageId {
    rows.first().map_or_else(|| PageId::generate(ctx), |row| row.page)
}

/// Checks what can be checked without the key: every frame's digest, the order, the last row's mark.
fn checked_page(route: &Route, head: Option<HeadMessage>, rows: &[TravelRow], end: PageEnd) -> Result<Page> {
    let head = head.ok_or_else(|| damaged("head"))?;
    if usize::try_from(end.rows).ok() != Some(rows.len()) {
        return Err(damaged("count"));
    }
    if end.digest.as_ref() != page_digest(rows, end.cursor, end.revision).as_slice() {
        return Err(damaged("page"));
    }
    let head =
        Head { header: head.header.to_vec(), salt: head.salt.to_vec(), commitment: head.commitment.to_vec() };
    let page = TravelHeader::decode(&head.header)?;
    let Unit::Page(page) = page.unit else { return Err(damaged("unit")) };
    // Another transfer's page must not wait here until adoption finds it out.
    if route.header(Unit::Page(page)).encode() != head.header {
        return Err(damaged("route"));
    }
    let count = rows.len();
    let rows = rows.iter().enumerate();
    let rows = rows.map(|(position, row)| staged_row(page, position, position + 1 == count, row));
    Ok(Page { head, rows: rows.collect::<Result<_>>()?, end })
}

fn staged_row(page: PageId, position: usize, last: bool, row: &TravelRow) -> Result<StagedRow> {
    let digest = Digest::from_slice(&row.digest).ok_or_else(|| damaged("digest"))?;
    if digest.0 != row_digest(&row.sealed_header, &row.sealed_payload) || row.last != last {
        return Err(damaged("row"));
    }
    let object = if row.object_id.is_empty() {
        None
    } else {
        Some(ObjectId::from_slice(&row.object_id).ok_or_else(|| damaged("object id"))?)
    };
    Ok(StagedRow {
        item: ItemId::from_slice(&row.item_id).ok_or_else(|| damaged("item id"))?,
        version: row.version,
        revision: row.revision,
        page,
        position: u32::try_from(position).map_err(|_| damaged("position"))?,
        last,
        digest,
        sealed_header: row.sealed_header.to_vec(),
        sealed_payload: row.sealed_payload.to_vec(),
        object,
    })
}

pub(super) fn damaged(place: &str) -> Error {
    Error::new(Code::ChunkDamaged).at(place)
}
