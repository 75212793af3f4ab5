//! What travels: digests at the source, sealed rows and objects at the destination.

use std::collections::BTreeMap;
use std::sync::Arc;

use domicile_transfer_protocol::SourceFacts;
use domicile_transfer_protocol::manifest::{Manifest, ObjectEntry, RowEntry};
use domicile_transfer_protocol::rows::{
    Feed, FeedRow, Progress, RekeyedRow, SentRow, StagedRow, StagedTotals, TravellingRow,
};
use domicile_transfer_protocol::source::Unsent;
use domicile_transfer_protocol::store::Row;
use domicile_types::{Code, Error, ItemId, ObjectId, PageId, Result, SubjectId, TransferId};

use super::db::Item;
use super::destination::Staging;
use super::tables::facts;
use super::{Tx, conflict, not_found};

/// How many revisions behind the last one sent is too far to count rows for.
const FAR: u64 = 1_000;

impl Tx<'_> {
    /// Refuses unless rows may be sent now.
    pub(super) fn may_send(&self, id: TransferId, subject: SubjectId) -> Result<()> {
        let consent = self.consent_of(subject, id)?;
        let Some(Row::Source(row)) = self.find(id) else { return Err(not_found()) };
        let residency = facts(&self.home(subject)?);
        SourceFacts { row: *row, consent, residency, held: false, now: self.now }.may_send()
    }

    pub(super) fn feed(&self, subject: SubjectId, after: u64, rows: u32, bytes: u64) -> Result<Feed> {
        let home = self.home(subject)?;
        let items = self.db.items_of(subject).filter(|item| item.header.revision > after);
        let mut items: Vec<_> = items.cloned().collect();
        items.sort_by_key(|item| item.header.revision);
        items.truncate(usize::try_from(rows).unwrap_or(usize::MAX));
        let full = u32::try_from(items.len()).is_ok_and(|count| count >= rows);
        let (mut kept, mut sum, mut more) = (Vec::new(), 0_u64, full);
        for item in items {
            sum = sum.saturating_add(item.header.bytes);
            if !kept.is_empty() && sum > bytes {
                more = true;
                break;
            }
            kept.push(feed_row(&item)?);
        }
        let Some(last) = kept.last().map(|row| row.header.revision) else {
            return Ok(Feed { rows: kept, cursor: home.revision.max(after), revision: home.revision });
        };
        let cursor = if more { last } else { home.revision.max(last) };
        Ok(Feed { rows: kept, cursor, revision: home.revision.max(last) })
    }

    pub(super) fn feed_only(&self, subject: SubjectId, only: &[(ItemId, u32)]) -> Result<Vec<FeedRow>> {
        let found = self.db.items_of(subject);
        let found = found.filter(|item| only.contains(&(item.header.item_id, item.header.version)));
        found.map(|item| feed_row(item)).collect()
    }

    pub(super) fn record_sent(&mut self, id: TransferId, rows: Vec<SentRow>, named: bool) -> Result<()> {
        let revisions = rows.iter().map(|row| row.revision);
        let range = revisions.clone().min().zip(revisions.max());
        self.db.sent_rows.retain(|(of, item, version), row| {
            let again = match range {
                _ if named => rows.iter().any(|new| (new.item, new.version) == (*item, *version)),
                Some((first, last)) => (first..=last).contains(&row.revision),
                None => false,
            };
            *of != id || !again
        });
        for row in rows {
            if self.db.sent_rows.insert((id, row.item, row.version), row).is_some() {
                return Err(conflict("sent_row"));
            }
        }
        Ok(())
    }

    pub(super) fn unsent(&self, id: TransferId, subject: SubjectId) -> Unsent {
        let Some(home) = self.db.homes.get(&subject) else { return Unsent::default() };
        let reached = self.db.sent_of(id).map(|row| row.revision).max().unwrap_or(0);
        let objects = self.db.objects.iter().filter(|(object, row)| {
            row.subject == subject && row.complete && !self.db.sent_objects.contains_key(&(id, **object))
        });
        let objects = objects.count() as u64;
        let rows = if objects > 0 || home.revision > reached + FAR {
            home.revision.saturating_sub(reached)
        } else {
            let (all, sent) = (self.db.items_of(subject).count(), self.db.sent_of(id).count());
            all.saturating_sub(sent) as u64
        };
        Unsent { rows, objects }
    }

    pub(super) fn source_manifest(&self, id: TransferId, subject: SubjectId) -> Result<Manifest> {
        if self.unsent(id, subject) != Unsent::default() {
            return Err(Error::new(Code::RootMismatch).at("a row has no digest"));
        }
        let live = self.db.items_of(subject).filter_map(|item| {
            let h = &item.header;
            let sent = self.db.sent_rows.get(&(id, h.item_id, h.version))?;
            (sent.revision == h.revision).then(|| entry(sent))
        });
        let objects = self.db.objects.iter().filter(|(_, row)| row.subject == subject && row.complete);
        let objects = objects.filter_map(|(object, _)| {
            let sent = self.db.sent_objects.get(&(id, *object))?;
            Some(ObjectEntry { object: *object, chunks: sent.chunks, digest: sent.digest })
        });
        Ok(Manifest { rows: live.collect(), objects: objects.collect() })
    }

    pub(super) fn progress(&self, id: TransferId, subject: SubjectId) -> Progress {
        let sent_objects = self.db.sent_objects.iter().filter(|((of, _), _)| *of == id);
        let (objects_done, object_bytes_done) =
            sent_objects.fold((0, 0), |(count, bytes), (_, object)| (count + 1, bytes + object.length));
        let complete = self.db.objects.values().filter(|row| row.subject == subject && row.complete);
        let (objects_total, object_bytes) =
            complete.fold((0, 0), |(count, bytes), object| (count + 1, bytes + object.length));
        let row_bytes = self.db.items_of(subject).map(|item| item.header.bytes).sum::<u64>();
        Progress {
            rows_done: self.db.sent_of(id).count() as u64,
            rows_total: self.db.items_of(subject).count() as u64,
            objects_done,
            objects_total,
            bytes_done: self.db.sent_of(id).map(|row| row.bytes).sum::<u64>() + object_bytes_done,
            bytes_total: row_bytes + object_bytes,
        }
    }

    /// Drops up to `limit` stored digests of rows, and those of objects; how many went.
    pub(super) fn sent_drop(&mut self, id: TransferId, limit: u32) -> u64 {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let keys = self.db.sent_rows.keys().filter(|(of, ..)| *of == id).take(limit);
        let keys: Vec<_> = keys.copied().collect();
        self.db.sent_rows.retain(|key, _| !keys.contains(key));
        let before = self.db.sent_objects.len();
        self.db.sent_objects.retain(|(of, _), _| *of != id);
        (keys.len() + before - self.db.sent_objects.len()) as u64
    }

    pub(super) fn stage(&mut self, id: TransferId, staging: Staging) -> Result<()> {
        if staging.rows.is_empty() {
            return Ok(());
        }
        if let Some((first, last)) = staging.range {
            self.db.staged_rows.retain(|(of, ..), row| *of != id || !(first..=last).contains(&row.revision));
        }
        if self.db.staged_pages.insert(staging.page.page, (id, staging.page)).is_some() {
            return Err(conflict("staged_page"));
        }
        for row in staging.rows {
            if self.db.staged_rows.insert((id, row.item, row.version), Arc::new(row)).is_some() {
                return Err(conflict("staged_row"));
            }
        }
        Ok(())
    }

    pub(super) fn missing_objects(&self, id: TransferId) -> Vec<ObjectId> {
        let wanted = self.db.staged_of(id).filter_map(|row| row.object);
        let missing = wanted.filter(|object| !self.db.staged_objects.contains_key(&(id, *object)));
        missing.collect::<std::collections::BTreeSet<_>>().into_iter().collect()
    }

    pub(super) fn staged_manifest(&self, id: TransferId) -> (Manifest, StagedTotals) {
        let rows: Vec<RowEntry> = self.db.staged_of(id).map(|row| staged_entry(row)).collect();
        let sealed = self.db.staged_of(id).map(|row| row.sealed_header.len() + row.sealed_payload.len());
        let objects = self.db.staged_objects_of(id).map(|staged| ObjectEntry {
            object: staged.sent.object,
            chunks: staged.sent.chunks,
            digest: staged.sent.digest,
        });
        let objects: Vec<_> = objects.collect();
        let lengths = self.db.staged_objects_of(id).map(|staged| staged.sent.length);
        let totals = StagedTotals {
            rows: rows.len() as u64,
            bytes: sealed.sum::<usize>() as u64 + lengths.sum::<u64>(),
            objects: objects.len() as u64,
        };
        (Manifest { rows, objects }, totals)
    }

    pub(super) fn collisions(&self, id: TransferId) -> u64 {
        let known: std::collections::BTreeSet<ItemId> = self.db.items.keys().map(|(item, _)| *item).collect();
        let items = self.db.staged_of(id).filter(|row| known.contains(&row.item)).count();
        let objects = self.db.staged_objects_of(id);
        let objects = objects.filter(|staged| self.db.objects.contains_key(&staged.sent.object)).count();
        (items + objects) as u64
    }

    /// Adopted rows of the first page that are still in travel form.
    pub(super) fn travelling(
        &self,
        id: TransferId,
        subject: SubjectId,
        after: Option<PageId>,
        limit: u32,
    ) -> Result<Vec<TravellingRow>> {
        let past = self.db.staged_of(id).map(|row| row.page).filter(|page| Some(*page) > after);
        let Some(page) = past.min() else { return Ok(Vec::new()) };
        let mut rows: Vec<_> = self.db.staged_of(id).filter(|row| row.page == page).cloned().collect();
        rows.sort_by_key(|row| row.position);
        rows.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        let headers: BTreeMap<_, _> = self
            .db
            .items_of(subject)
            .map(|item| ((item.header.item_id, item.header.version), &item.header))
            .collect();
        let join = |staged: Arc<StagedRow>| {
            let header = headers.get(&(staged.item, staged.version));
            let header = header.ok_or_else(|| Error::new(Code::Internal).at("a staged row has no item"))?;
            Ok(TravellingRow { header: (*header).clone(), staged: staged.as_ref().clone() })
        };
        rows.into_iter().map(join).collect()
    }

    pub(super) fn rekey(&mut self, id: TransferId, subject: SubjectId, rows: Vec<RekeyedRow>) {
        for row in rows {
            self.db.staged_rows.remove(&(id, row.item, row.version));
            let Some(item) = self.db.items.get_mut(&(row.item, row.version)) else { continue };
            if item.header.subject_id != subject || item.sealed.is_some() {
                continue;
            }
            let mut header = item.header.clone();
            (header.key_version, header.digest) = (row.key_version, row.digest.0);
            *item = Arc::new(Item { header, current: item.current, sealed: Some(row.sealed) });
        }
    }

    pub(super) fn any_travelling(&self, id: TransferId, subject: SubjectId) -> bool {
        self.db.staged_of(id).next().is_some()
            || self.db.items_of(subject).any(|item| item.sealed.is_none())
            || self.db.objects.values().any(|object| object.subject == subject && object.travelling)
    }

    /// Drops up to `limit` staged rows, then pages and objects; how many went.
    pub(super) fn purge(&mut self, id: TransferId, limit: u32) -> u64 {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let keys = self.db.staged_rows.keys().filter(|(of, ..)| *of == id).take(limit);
        let keys: Vec<_> = keys.copied().collect();
        keys.iter().for_each(|key| drop(self.db.staged_rows.remove(key)));
        if !keys.is_empty() {
            return keys.len() as u64;
        }
        let before = self.db.staged_pages.len() + self.db.staged_objects.len();
        self.db.staged_pages.retain(|_, (of, _)| *of != id);
        self.db.staged_objects.retain(|(of, _), _| *of != id);
        (before - self.db.staged_pages.len() - self.db.staged_objects.len()) as u64
    }
}

fn feed_row(item: &Item) -> Result<FeedRow> {
    let sealed = item.sealed.clone().ok_or_else(|| Error::new(Code::TransferState).at("travelling"))?;
    Ok(FeedRow { header: item.header.clone(), sealed })
}

pub(super) fn entry(sent: &SentRow) -> RowEntry {
    RowEntry { item: sent.item, version: sent.version, revision: sent.revision, digest: sent.digest }
}

fn staged_entry(row: &StagedRow) -> RowEntry {
    RowEntry { item: row.item, version: row.version, revision: row.revision, digest: row.digest }
}
