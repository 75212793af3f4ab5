//! Reading items.

use std::sync::Arc;

use domicile_proto::records::v1 as pb;
use domicile_store::queries::item::{self, Listing, Version};
use domicile_store::queries::residency::{self, Residence, Standing};
use domicile_types::{AuditScope, Code, Error, ItemId, Result, SubjectId, Timestamp};

use super::draft::subject;
use super::{Records, Who};
use crate::kinds;
use crate::wire::{self, id, invalid};

/// Items of a page unless the caller says otherwise.
const PAGE: u32 = 50;
/// Payload bytes of a page at most, so that it fits one message; one item fits in any case.
const PAGE_BYTES: u64 = 3 << 20;

impl Records {
    /// One item, the newest or a named version.
    ///
    /// # Errors
    /// [`Code::NotFound`] for what is not there or not for the caller, [`Code::ContentDamaged`].
    pub async fn get_item(
        &self,
        audit: &Arc<AuditScope>,
        request: pb::GetItemRequest,
    ) -> Result<pb::GetItemResponse> {
        let item: ItemId = id("item_id", &request.item_id)?;
        let version = (request.version > 0).then_some(request.version);
        let subject = subject(&request.subject_id)?;
        let found = self.served(audit, subject, item, version).await?;
        let payload = self.open(&found).await?;
        let item = pb::Item { header: Some(wire::header(&found.header)), payload: Some(payload) };
        Ok(pb::GetItemResponse { item: Some(item) })
    }

    /// One version as the caller may see it.
    pub(super) async fn served(
        &self,
        audit: &Arc<AuditScope>,
        subject: SubjectId,
        item: ItemId,
        version: Option<u32>,
    ) -> Result<Version> {
        let who = Who::of(&audit.actor, subject)?;
        let served = self.settings().released_reads;
        let read = self.store().read("item.get", who.scope(), move |tx| {
            Box::pin(item::get_served(tx, subject, who.reader(), item, version, served))
        });
        let found = self.or_elsewhere(audit, subject, read.await).await?;
        audit.touches(item);
        Ok(found)
    }

    /// A record's items, newest first.
    ///
    /// # Errors
    /// As [`Records::get_item`].
    pub async fn list_items(
        &self,
        audit: &Arc<AuditScope>,
        request: pb::ListItemsRequest,
    ) -> Result<pb::ListItemsResponse> {
        let subject = subject(&request.subject_id)?;
        let who = Who::of(&audit.actor, subject)?;
        let listing = listing(&request, self.settings().bounds.page_items)?;
        let (limit, payloads) = (listing.limit, listing.payloads);
        let served = self.settings().released_reads;
        let read = self.store().read("item.list", who.scope(), move |tx| {
            let listing = listing.clone();
            Box::pin(async move {
                residency::read_check(tx, subject, who.reader(), served).await?;
                let mut found = item::list(tx, subject, who.reader(), &listing).await?;
                let whole = found.len() < limit as usize;
                if !payloads {
                    return Ok((found, whole));
                }
                let cut = fitting(&found);
                let whole = whole && cut == found.len();
                found.truncate(cut);
                Ok((with_payloads(tx, subject, found).await?, whole))
            })
        });
        let (found, whole) = self.or_elsewhere(audit, subject, read.await).await?;
        let next =
            found.last().filter(|_| !whole).map(|last| token(&last.header.occurred_at, last.header.item_id));
        let opened = if payloads { self.open_all(subject, &found).await? } else { Vec::new() };
        let mut opened = opened.into_iter();
        let items = found
            .iter()
            .map(|version| pb::Item { header: Some(wire::header(&version.header)), payload: opened.next() })
            .collect();
        Ok(pb::ListItemsResponse { items, next_page_token: next.unwrap_or_default() })
    }

    /// Every version of one item the caller may see, newest first.
    ///
    /// # Errors
    /// As [`Records::get_item`].
    pub async fn list_versions(
        &self,
        audit: &Arc<AuditScope>,
        request: pb::ListVersionsRequest,
    ) -> Result<pb::ListVersionsResponse> {
        let item: ItemId = id("item_id", &request.item_id)?;
        let subject = subject(&request.subject_id)?;
        let who = Who::of(&audit.actor, subject)?;
        let served = self.settings().released_reads;
        let read = self.store().read("item.history", who.scope(), move |tx| {
            Box::pin(async move {
                residency::read_check(tx, subject, who.reader(), served).await?;
                let found = item::history(tx, subject, who.reader(), item).await?;
                if found.is_empty() { Err(Error::new(Code::NotFound)) } else { Ok(found) }
            })
        });
        let found = self.or_elsewhere(audit, subject, read.await).await?;
        audit.touches(item);
        let versions = found.iter().map(|version| wire::header(&version.header)).collect();
        Ok(pb::ListVersionsResponse { versions })
    }

    /// What a record holds, as the caller may see it.
    ///
    /// # Errors
    /// As [`Records::get_item`].
    pub async fn get_summary(
        &self,
        audit: &Arc<AuditScope>,
        request: pb::GetSummaryRequest,
    ) -> Result<pb::GetSummaryResponse> {
        let subject = subject(&request.subject_id)?;
        let who = Who::of(&audit.actor, subject)?;
        let served = self.settings().released_reads;
        let read = self.store().read("record.summary", who.scope(), move |tx| {
            Box::pin(async move {
                let home = residency::read_check(tx, subject, who.reader(), served).await?;
                Ok((home, item::counts(tx, subject, who.reader()).await?))
            })
        });
        let (home, counts): (Residence, _) = self.or_elsewhere(audit, subject, read.await).await?;
        let kinds = counts
            .into_iter()
            .map(|count| pb::KindCount {
                kind: count.kind,
                items: count.items,
                versions: count.versions,
                bytes: count.bytes,
            })
            .collect();
        Ok(pb::GetSummaryResponse {
            revision: home.revision,
            epoch: home.epoch,
            standing: standing(home.standing).to_owned(),
            region_choice: home.choice.as_str().to_owned(),
            kinds,
        })
    }

    /// Notes whose record was read; for an absent one says where it went, to those who may know.
    pub(super) async fn or_elsewhere<T>(
        &self,
        audit: &Arc<AuditScope>,
        subject: SubjectId,
        read: Result<T>,
    ) -> Result<T> {
        match read {
            Ok(found) => {
                audit.concerns(subject);
                Ok(found)
            }
            Err(error) => Err(self.elsewhere(&audit.actor, subject, error).await),
        }
    }
}

/// How many of the items fit one message, at least one.
fn fitting(found: &[Version]) -> usize {
    let mut bytes = 0;
    let fits = found.iter().take_while(|version| {
        bytes += version.header.bytes;
        bytes <= PAGE_BYTES
    });
    fits.count().max(1).min(found.len())
}

/// The same versions with their sealed payloads.
async fn with_payloads(
    tx: &domicile_store::Tx,
    subject: SubjectId,
    found: Vec<Version>,
) -> Result<Vec<Version>> {
    let named: Vec<_> = found.iter().map(|one| (one.header.item_id, one.header.version)).collect();
    let mut sealed: std::collections::BTreeMap<_, _> = item::feed_only(tx, subject, &named)
        .await?
        .into_iter()
        .map(|one| ((one.header.item_id, one.header.version), one))
        .collect();
    Ok(named.iter().filter_map(|named| sealed.remove(named)).collect())
}

fn listing(request: &pb::ListItemsRequest, most: u32) -> Result<Listing> {
    let limit = match request.page_size {
        0 => PAGE,
        size if size <= most => size,
        _ => return Err(invalid("page_size")),
    };
    let kind = match request.kind.as_str() {
        "" => None,
        name => Some(kinds::named(name)?.name.to_owned()),
    };
    let after = match request.page_token.as_str() {
        "" => None,
        token => Some(place(token).ok_or_else(|| invalid("page_token"))?),
    };
    Ok(Listing { kind, after, limit, payloads: request.with_payloads })
}

/// A place in a listing as text: the time and the id of the last item.
pub(crate) fn token(at: &Timestamp, item: ItemId) -> String {
    format!("{}.{item}", at.micros())
}

pub(crate) fn place(token: &str) -> Option<(Timestamp, ItemId)> {
    let (at, item) = token.split_once('.')?;
    Some((Timestamp::from_micros(at.parse().ok()?), item.parse().ok()?))
}

const fn standing(standing: Standing) -> &'static str {
    match standing {
        Standing::Active => "active",
        Standing::Frozen => "frozen",
        Standing::Released => "released",
        Standing::Incoming => "arriving",
        Standing::Departed => "moved",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_come_back_from_their_tokens() {
        let item: ItemId = "01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap();
        for at in [Timestamp::EPOCH, Timestamp::from_micros(-5), Timestamp::from_micros(i64::MAX)] {
            assert_eq!(place(&token(&at, item)), Some((at, item)));
        }
        for bad in ["x", ".", "1.", ".01890a5d-ac96-774b-bcce-b302099a8057", "1.2", "99999999999999999999.x"]
        {
            assert_eq!(place(bad), None);
        }
    }
}
