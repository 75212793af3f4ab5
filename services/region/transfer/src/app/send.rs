//! Source: pages of sealed rows.

use domicile_crypto::travel::{Sealer, TravelHead, Unit};
use domicile_crypto::{Key32, aad, open};
use domicile_evidence::statement::AbortReason;
use domicile_proto::transfer::v1::TravelRow;
use domicile_transfer_protocol::manifest::RowEntry;
use domicile_transfer_protocol::rows::{FeedRow, SentRow};
use domicile_transfer_protocol::{Digest, Source, TransferStore};
use domicile_types::{Code, Ctx, Error, ItemHeader, ItemId, PageId, RegionId, Result, TransferId};
use prost::Message as _;

use super::Transfers;
use super::streams::{Route, first_chunk, frame, opener, row_digest, stored_head};
use super::work::apart;
use crate::convert;

/// A page, sealed, its digests stored.
pub struct SentPage {
    /// Its head.
    pub head: TravelHead,
    /// Its rows.
    pub rows: Vec<TravelRow>,
    /// The revision up to which the destination now has everything.
    pub cursor: u64,
    /// The record's revision.
    pub revision: u64,
}

/// What the destination asks for.
pub struct PageWanted {
    /// The region that asks, by its certificate.
    pub from: RegionId,
    /// The transfer.
    pub transfer: TransferId,
    /// The attempt.
    pub attempt: u64,
    /// Rows past this revision.
    pub after: u64,
    /// At most this many rows.
    pub rows: u32,
    /// Named rows instead.
    pub only: Vec<(ItemId, u32)>,
}

/// Rows a destination may name at once; small, because their sizes are not known beforehand.
pub(super) const MOST_NAMED: usize = 50;

/// A row with the key its payload is sealed under.
pub struct Keyed {
    /// The row.
    pub row: FeedRow,
    /// The record key.
    pub key: Key32,
}

/// A page's head, its rows, and what is stored of them.
pub type SealedPage = (TravelHead, Vec<TravelRow>, Vec<SentRow>);

impl<S: TransferStore> Transfers<S> {
    /// The source row of a transfer towards the asking region, in the attempt it names.
    ///
    /// # Errors
    /// [`Code::NotFound`] for anybody but the transfer's destination; [`Code::AttemptStale`]; the
    /// consent's codes.
    pub(super) async fn sending(
        &self,
        from: &RegionId,
        transfer: TransferId,
        attempt: u64,
    ) -> Result<Source> {
        let row = self.source(transfer).await?;
        if row.to != *from {
            return Err(Error::new(Code::NotFound).at("transfer"));
        }
        if row.attempt != attempt {
            return Err(Error::new(Code::AttemptStale));
        }
        match row.abort {
            None => {}
            Some(AbortReason::Expired) => return Err(Error::new(Code::ConsentExpired)),
            Some(_) => return Err(Error::new(Code::ConsentWithdrawn)),
        }
        let consent = row.consent.as_ref().ok_or_else(|| Error::new(Code::ConsentMissing))?;
        if consent.expires_at <= self.ctx.now() {
            return Err(Error::new(Code::ConsentExpired));
        }
        if !row.state.copies() {
            return Err(Error::new(Code::TransferState).at(row.state.as_str()));
        }
        Ok(row)
    }

    /// Seals the next page for the way. The digests stand, and the consent was active, in one
    /// transaction before the first byte leaves.
    ///
    /// # Errors
    /// As [`Self::sending`]; [`Code::ContentDamaged`] when a stored row does not open.
    pub async fn send_page(&self, wanted: PageWanted) -> Result<SentPage> {
        let row = self.sending(&wanted.from, wanted.transfer, wanted.attempt).await?;
        let (rows, cursor, revision) = self.wanted_rows(&row, &wanted).await?;
        let key = self.travel_key(row.transfer).await?;
        let mut keyed = Vec::with_capacity(rows.len());
        for row in rows {
            let h = &row.header;
            let key = self.keyring.record_key_at(h.subject_id, h.practice_id, h.key_version).await?;
            keyed.push(Keyed { row, key });
        }
        let header = Route::of_source(&row)?.header(Unit::Page(PageId::generate(&self.ctx)));
        let (ctx, region) = (self.ctx.clone(), self.region.clone());
        let turn = self.inner.turns.take().await?;
        let sealing = apart(move || seal_page(&ctx, &region, &key, &header, &keyed));
        let (head, rows, sent) = sealing.await?;
        drop(turn);
        self.ctx.faults.hit("page.before_record");
        self.store.record_sent(wanted.transfer, sent, !wanted.only.is_empty()).await?;
        Ok(SentPage { head, rows, cursor, revision })
    }

    async fn wanted_rows(&self, row: &Source, wanted: &PageWanted) -> Result<(Vec<FeedRow>, u64, u64)> {
        if wanted.only.len() > MOST_NAMED {
            return Err(Error::new(Code::TooLarge).at("only"));
        }
        if wanted.only.is_empty() {
            let rows = wanted.rows.clamp(1, self.options.settings.page_rows);
            let bytes = self.options.settings.page_bytes;
            let feed = self.store.feed(row.subject, wanted.after, rows, bytes).await?;
            Ok((feed.rows, feed.cursor, feed.revision))
        } else {
            let rows = self.store.feed_only(row.subject, wanted.only.clone()).await?;
            Ok((rows, 0, 0))
        }
    }

    /// The digests of every row sent so far.
    ///
    /// # Errors
    /// As [`Self::sending`].
    pub async fn sent_digests(
        &self,
        from: &RegionId,
        transfer: TransferId,
        attempt: u64,
    ) -> Result<Vec<RowEntry>> {
        self.sending(from, transfer, attempt).await?;
        self.store.sent_rows(transfer).await
    }
}

/// Opens stored rows and seals them for the way.
///
/// # Errors
/// [`Code::ContentDamaged`] when a stored row does not open.
pub fn seal_page(
    ctx: &Ctx,
    region: &RegionId,
    key: &Key32,
    header: &domicile_crypto::travel::TravelHeader,
    rows: &[Keyed],
) -> Result<SealedPage> {
    let (mut sealer, head) = Sealer::new(key, header, ctx)?;
    let check = opener(key, &stored_head(&head), header)?;
    let mut out = Vec::with_capacity(rows.len());
    let mut sent = Vec::with_capacity(rows.len());
    for (position, keyed) in rows.iter().enumerate() {
        let h = &keyed.row.header;
        let payload = open(&keyed.key, &aad::item(region, h), &keyed.row.sealed)?;
        let clear = travel_header(h);
        let frame = frame(h.item_id, h.version, h.revision);
        let last = position + 1 == rows.len();
        let sealed_header = sealer.seal_next(&clear, &frame, false)?;
        let sealed_payload = sealer.seal_next(&payload, &frame, last)?;
        let too_large = || Error::new(Code::TooLarge).at("page");
        let place = u32::try_from(position).ok().and_then(first_chunk);
        let chunk = place.ok_or_else(too_large)?;
        // What was sealed is opened again: a faulty seal must not be found at the destination.
        let same = check.open_at(chunk, false, &frame, &sealed_header)?.as_slice() == clear
            && check.open_at(chunk + 1, last, &frame, &sealed_payload)?.as_slice() == payload.as_slice();
        if !same {
            return Err(Error::new(Code::ChunkDamaged).at("own seal"));
        }
        let digest = row_digest(&sealed_header, &sealed_payload);
        sent.push(SentRow {
            item: h.item_id,
            version: h.version,
            revision: h.revision,
            digest: Digest(digest),
            bytes: h.bytes,
        });
        out.push(TravelRow {
            item_id: convert::bytes(h.item_id.as_bytes()),
            version: h.version,
            revision: h.revision,
            digest: convert::bytes(&digest),
            sealed_header: sealed_header.into(),
            sealed_payload: sealed_payload.into(),
            last,
            object_id: h.object_id.map_or_else(Default::default, |id| convert::bytes(id.as_bytes())),
        });
    }
    Ok((head, out, sent))
}

fn travel_header(header: &ItemHeader) -> Vec<u8> {
    convert::sealed_header(header).encode_to_vec()
}
