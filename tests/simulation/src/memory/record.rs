//! Records: what people write and read, what moves besides items, and what is erased.

use std::time::Duration;

use domicile_transfer_protocol::release::Head;
use domicile_transfer_protocol::rows::{
    AccountRow, ConsentEventRow, ConsentRow, ControlRows, HoldRow, KindTotal, ObjectRow, Remains, StagedRow,
    Totals,
};
use domicile_transfer_protocol::source::Standing;
use domicile_transfer_protocol::store::SealedAccount;
use domicile_types::{
    AccountId, Code, Error, ItemHeader, ItemId, ObjectId, PracticeId, RegionId, Result, SubjectId, Timestamp,
    TransferId, Visibility,
};

use super::db::{Account, Db, Home, Item, Object};
use super::tables::serves;
use super::{MemoryTransfers, Tx};

/// No upload takes longer.
const UPLOAD_TIME: Duration = Duration::from_secs(3_600);

/// A record with its client's account, at home here.
#[derive(Clone)]
pub struct NewRecord {
    /// Whose.
    pub subject: SubjectId,
    /// Their account.
    pub account: AccountId,
    /// The sealed e-mail address.
    pub email_sealed: Option<Vec<u8>>,
    /// Its blind index.
    pub email_index: Option<[u8; 32]>,
}

/// A version of an item to be written; its revision is the store's.
#[derive(Clone)]
pub struct NewItem {
    /// The header.
    pub header: ItemHeader,
    /// The sealed payload.
    pub sealed: Vec<u8>,
}

/// An object whose upload begins.
#[derive(Clone, Copy, Debug)]
pub struct NewObject {
    /// The object.
    pub object: ObjectId,
    /// Whose.
    pub subject: SubjectId,
    /// Plaintext length in bytes.
    pub length: u64,
    /// Chunks.
    pub chunks: u32,
    /// The version of the record key.
    pub key_version: u32,
}

impl MemoryTransfers {
    /// Opens a record here.
    ///
    /// # Errors
    /// [`Code::Conflict`] when it is known.
    pub async fn open_record(&self, new: NewRecord) -> Result<()> {
        self.change("record_open", move |tx| tx.open_record(new)).await
    }

    /// Writes a version of an item; the same idempotency key again is answered as the first time.
    ///
    /// # Errors
    /// [`Code::RecordFrozen`], [`Code::RecordArriving`], [`Code::RecordMoved`], [`Code::VersionConflict`].
    pub async fn write_item(&self, new: NewItem) -> Result<u32> {
        self.change("record_write", move |tx| tx.write_item(new)).await
    }

    /// An item's version that an idempotency key wrote.
    ///
    /// # Errors
    /// As all methods.
    pub async fn written_under(&self, subject: SubjectId, key: String) -> Result<Option<ItemHeader>> {
        self.look("record_by_key", move |tx| {
            let named = |header: &ItemHeader| header.idempotency.as_ref().is_some_and(|idem| idem.key == key);
            Ok(tx.db.items_of(subject).find(|item| named(&item.header)).map(|item| item.header.clone()))
        })
        .await
    }

    /// An item as a reader is served it: the newest version or the named one.
    ///
    /// # Errors
    /// [`Code::NotFound`], [`Code::RecordArriving`], [`Code::RecordMoved`].
    pub async fn read_item(
        &self,
        subject: SubjectId,
        item: ItemId,
        version: Option<u32>,
        reads: Duration,
    ) -> Result<Item> {
        self.look("record_read", move |tx| {
            let absent = || Error::new(Code::NotFound);
            let home = tx.db.homes.get(&subject).ok_or_else(absent)?;
            serves(home, tx.now, reads)?;
            let wanted = |item: &Item| match version {
                Some(version) => item.header.version == version,
                None => item.current,
            };
            let mut all = tx.db.items_of(subject);
            let found = all.find(|row| row.header.item_id == item && wanted(row));
            found.map(|item| item.as_ref().clone()).ok_or_else(absent)
        })
        .await
    }

    /// An object's row, as a reader is served it.
    ///
    /// # Errors
    /// As [`Self::read_item`].
    pub async fn read_object(&self, subject: SubjectId, id: ObjectId, reads: Duration) -> Result<Object> {
        self.look("object_read", move |tx| {
            let absent = || Error::new(Code::NotFound);
            let home = tx.db.homes.get(&subject).ok_or_else(absent)?;
            serves(home, tx.now, reads)?;
            let found = tx.db.objects.get(&id).filter(|object| object.subject == subject && object.complete);
            found.cloned().ok_or_else(absent)
        })
        .await
    }

    /// Registers an object before its first byte.
    ///
    /// # Errors
    /// As [`Self::write_item`]; [`Code::Conflict`] when it is known.
    pub async fn begin_object(&self, new: NewObject) -> Result<()> {
        self.change("object_begin", move |tx| tx.begin_object(new)).await
    }

    /// The object's content is whole: the item that describes it is written with it.
    ///
    /// # Errors
    /// As [`Self::write_item`]; [`Code::NotFound`] when the intent is gone.
    pub async fn finish_object(&self, object: ObjectId, new: NewItem) -> Result<u32> {
        self.change("object_finish", move |tx| {
            let item = new.header.item_id;
            let version = tx.write_item(new)?;
            let row = tx.db.objects.get_mut(&object).ok_or_else(|| Error::new(Code::NotFound))?;
            (row.complete, row.item) = (true, Some(item));
            Ok(version)
        })
        .await
    }

    /// Places or releases a legal hold.
    ///
    /// # Errors
    /// [`Code::RecordArriving`], [`Code::RecordMoved`], [`Code::NotFound`].
    pub async fn hold(
        &self,
        subject: SubjectId,
        reference: String,
        by: AccountId,
        stands: bool,
    ) -> Result<()> {
        self.change("hold", move |tx| {
            tx.control_touch(subject)?;
            let now = tx.now;
            let open = |((whose, name, _), hold): &(&(SubjectId, String, Timestamp), &mut HoldRow)| {
                *whose == subject && *name == reference && hold.released_at.is_none()
            };
            let mut standing = tx.db.holds.iter_mut().filter(open).map(|(_, hold)| hold).peekable();
            if !stands {
                standing.for_each(|hold| hold.released_at = Some(now));
            } else if standing.peek().is_none() {
                drop(standing);
                let hold = HoldRow {
                    reference: reference.clone(),
                    placed_by: by,
                    placed_at: now,
                    released_at: None,
                };
                tx.db.holds.insert((subject, reference, now), hold);
            }
            Ok(())
        })
        .await
    }
}

impl Db {
    /// A record at home here, and its client's account.
    pub(super) fn settle(&mut self, subject: SubjectId, account: AccountId, now: Timestamp) {
        let home = Home {
            epoch: 1,
            standing: Standing::Active,
            moved_to: None,
            revision: 0,
            control_revision: 0,
            attempt: 0,
            freeze: 0,
            choice: "client",
            changed_at: now,
        };
        self.homes.insert(subject, home);
        let row = Account {
            subject: Some(subject),
            email_index: None,
            email_sealed: None,
            name_sealed: None,
            password_phc: None,
            invite_hash: None,
            invite_expires: None,
            state: "active".to_owned(),
            created_at: now,
        };
        self.accounts.insert(account, row);
    }
}

impl Tx<'_> {
    fn open_record(&mut self, new: NewRecord) -> Result<()> {
        if self.db.homes.contains_key(&new.subject) {
            return Err(super::conflict("residency"));
        }
        self.db.settle(new.subject, new.account, self.now);
        if let Some(account) = self.db.accounts.get_mut(&new.account) {
            (account.email_sealed, account.email_index) = (new.email_sealed, new.email_index);
        }
        Ok(())
    }

    fn write_item(&mut self, new: NewItem) -> Result<u32> {
        let NewItem { mut header, sealed } = new;
        let (subject, item) = (header.subject_id, header.item_id);
        header.revision = self.write_begin(subject)?;
        let key = header.idempotency.as_ref().map(|idem| idem.key.clone());
        let again = self.db.items_of(subject).find(|row| {
            let known = row.header.idempotency.as_ref().map(|idem| &idem.key);
            known.is_some() && known == key.as_ref()
        });
        if again.is_some() {
            // The caller looked before and found nothing: it looks again.
            return Err(super::conflict("idempotency key"));
        }
        let newest = self.db.items.range((item, 0)..=(item, u32::MAX)).next_back();
        if newest.map_or(0, |((_, version), _)| *version) + 1 != header.version {
            return Err(Error::new(Code::VersionConflict));
        }
        self.supersede(subject, item);
        let version = header.version;
        self.insert_item(Item { header, current: true, sealed: Some(sealed) })?;
        Ok(version)
    }

    fn begin_object(&mut self, new: NewObject) -> Result<()> {
        match self.db.homes.get(&new.subject) {
            Some(home) if home.standing == Standing::Active => {}
            home => return Err(super::tables::unwritable(home)),
        }
        let row = Object {
            subject: new.subject,
            item: None,
            practice: None,
            length: new.length,
            chunks: new.chunks,
            key_version: new.key_version,
            complete: false,
            travelling: false,
            transfer: None,
            copy: None,
            registered_at: self.now,
        };
        self.insert_object(new.object, row)
    }

    pub(super) fn totals(&self, subject: SubjectId) -> Totals {
        let mut totals = Totals::default();
        for item in self.db.items_of(subject) {
            let h = &item.header;
            let kind = totals.kinds.entry(h.kind.clone()).or_insert_with(KindTotal::default);
            kind.schema = kind.schema.max(h.schema);
            kind.rows += 1;
            kind.bytes += h.bytes;
            totals.psychotherapy += u64::from(h.visibility == Visibility::Psychotherapy);
        }
        let own = || self.db.objects.values().filter(|object| object.subject == subject);
        totals.objects = own().filter(|object| object.complete).count() as u64;
        totals.object_bytes = own().filter(|object| object.complete).map(|object| object.length).sum();
        let since = self.now.minus(UPLOAD_TIME);
        let open = own().filter(|object| !object.complete && object.registered_at >= since);
        totals.uploads_open = open.count() as u64;
        totals.practices = self.practices(subject);
        totals.held = self.db.held(subject);
        totals
    }

    fn practices(&self, subject: SubjectId) -> Vec<PracticeId> {
        let care =
            self.db.care.iter().filter(|((whose, ..), row)| *whose == subject && row.ended_at.is_none());
        let care = care.map(|(_, row)| row.practice);
        let items = self.db.items_of(subject).filter_map(|item| item.header.practice_id);
        care.chain(items).collect::<std::collections::BTreeSet<_>>().into_iter().collect()
    }

    pub(super) fn control_rows(&self, subject: SubjectId) -> Result<ControlRows> {
        let home = self.db.homes.get(&subject).ok_or_else(|| Error::new(Code::NotFound))?;
        let own = |whose: SubjectId| whose == subject;
        let account = self.db.accounts.iter().find(|(_, account)| account.subject == Some(subject));
        let care = self.db.care.iter().filter(|((whose, ..), _)| own(*whose)).map(|(_, row)| row.clone());
        let grants = self.db.grants.values().filter(|(whose, _)| own(*whose)).map(|(_, row)| row.clone());
        let holds = self.db.holds.iter().filter(|((whose, ..), _)| own(*whose)).map(|(_, row)| row.clone());
        let mut holds: Vec<_> = holds.collect();
        holds.sort_by(|one, other| (one.placed_at, &one.reference).cmp(&(other.placed_at, &other.reference)));
        let (consents, events) = self.consents(subject);
        let objects = self.db.objects.iter().filter(|(_, row)| own(row.subject) && row.complete);
        let objects = objects.map(|(object, row)| ObjectRow {
            object: *object,
            item: row.item,
            practice: row.practice,
            length: row.length,
            chunks: row.chunks,
        });
        Ok(ControlRows {
            subject,
            attempt: home.attempt,
            region_choice: home.choice.to_owned(),
            revision: home.revision,
            control_revision: home.control_revision,
            account: account.map(|(id, account)| account_row(*id, account)),
            care: care.collect(),
            grants: grants.collect(),
            holds,
            consents,
            events,
            secrets: Vec::new(),
            objects: objects.collect(),
        })
    }

    /// Consents, newest first, and their history in order.
    pub(super) fn consents(&self, subject: SubjectId) -> (Vec<ConsentRow>, Vec<ConsentEventRow>) {
        let rows = self.db.consents.values().filter(|(whose, _)| *whose == subject);
        let mut rows: Vec<_> = rows.map(|(_, row)| row.clone()).collect();
        rows.sort_by_key(|row| (std::cmp::Reverse(row.given_at), row.consent));
        let events = self.db.consent_events.values().filter(|(whose, _)| *whose == subject);
        (rows, events.map(|(_, row)| row.clone()).collect())
    }

    pub(super) fn account_sealed(&self, subject: SubjectId) -> Option<SealedAccount> {
        let (id, account) = self.db.accounts.iter().find(|(_, account)| account.subject == Some(subject))?;
        let (email, name) = (account.email_sealed.clone(), account.name_sealed.clone());
        Some(SealedAccount { account: *id, email, name })
    }

    /// Erases up to `limit` rows; first notes who may be told where the record is.
    pub(super) fn erase(
        &mut self,
        id: TransferId,
        (subject, to): (SubjectId, RegionId),
        locator: Option<Timestamp>,
        limit: u32,
    ) -> u64 {
        self.remember(subject, &to, locator);
        let most = usize::try_from(limit).unwrap_or(usize::MAX);
        let keys = self.db.items_of(subject).take(most);
        let keys: Vec<_> = keys.map(|item| (item.header.item_id, item.header.version)).collect();
        keys.iter().for_each(|key| drop(self.db.items.remove(key)));
        let gone = keys.len() as u64 + self.sent_drop(id, limit);
        if gone > 0 {
            return gone;
        }
        let rows = |tx: &Self| {
            let Db { objects, care, grants, holds, accounts, .. } = &*tx.db;
            objects.len() + care.len() + grants.len() + holds.len() + accounts.len()
        };
        let before = rows(self);
        self.db.objects.retain(|_, row| row.subject != subject);
        self.db.care.retain(|(whose, ..), _| *whose != subject);
        self.db.grants.retain(|_, (whose, _)| *whose != subject);
        self.db.holds.retain(|(whose, ..), _| *whose != subject);
        self.db.accounts.retain(|_, account| account.subject != Some(subject));
        if let Some(kept) = self.db.transfers.get_mut(&id) {
            std::sync::Arc::make_mut(kept).key_release = None;
        }
        (before - rows(self)) as u64
    }

    fn remember(&mut self, subject: SubjectId, to: &RegionId, locator: Option<Timestamp>) {
        for practice in self.practices(subject) {
            self.db.entitled.insert((subject, "practice", practice.uuid()));
        }
        let account = self.db.accounts.iter().find(|(_, account)| account.subject == Some(subject));
        let Some((id, index)) = account.map(|(id, account)| (*id, account.email_index)) else { return };
        self.db.entitled.insert((subject, "account", id.uuid()));
        if let (Some(until), Some(index)) = (locator, index) {
            self.db.locators.insert(index, (to.clone(), until));
        }
    }

    /// What is left of the subject, by table.
    pub(super) fn remains(&self, subject: SubjectId) -> Remains {
        let db = &*self.db;
        let counted = [
            ("item", db.items_of(subject).count()),
            ("object", db.objects.values().filter(|row| row.subject == subject).count()),
            ("care_relationship", db.care.keys().filter(|(whose, ..)| *whose == subject).count()),
            ("access_grant", db.grants.values().filter(|(whose, _)| *whose == subject).count()),
            ("legal_hold", db.holds.keys().filter(|(whose, ..)| *whose == subject).count()),
            ("account", db.accounts.values().filter(|row| row.subject == Some(subject)).count()),
        ];
        let left = counted.into_iter().filter(|(_, rows)| *rows > 0);
        Remains { tables: left.map(|(table, rows)| (table.to_owned(), rows as u64)).collect() }
    }
}

fn account_row(id: AccountId, account: &Account) -> AccountRow {
    AccountRow {
        account: id,
        email: None,
        name: None,
        password_phc: account.password_phc.clone(),
        invite_hash: account.invite_hash.clone(),
        invite_expires: account.invite_expires,
        state: account.state.clone(),
        created_at: account.created_at,
    }
}

impl MemoryTransfers {
    /// Whether a write of the record could begin now.
    ///
    /// # Errors
    /// As [`Self::write_item`].
    pub async fn writable(&self, subject: SubjectId) -> Result<()> {
        self.look("record_writable", move |tx| match tx.db.homes.get(&subject) {
            Some(home) if home.standing == Standing::Active => Ok(()),
            home => Err(super::tables::unwritable(home)),
        })
        .await
    }

    /// Forgets every upload that did not end: of earlier processes, as this one begins.
    ///
    /// # Errors
    /// As all methods.
    pub async fn forget_uploads(&self) -> Result<()> {
        self.change("uploads_forget", |tx| {
            tx.db.objects.retain(|_, object| object.complete);
            Ok(())
        })
        .await
    }

    /// Forgets one upload that did not end.
    ///
    /// # Errors
    /// As all methods.
    pub async fn forget_upload(&self, id: ObjectId) -> Result<()> {
        self.change("upload_forget", move |tx| {
            tx.db.objects.retain(|object, row| *object != id || row.complete);
            Ok(())
        })
        .await
    }

    /// An adopted row that is still as it travelled, with its page's head.
    ///
    /// # Errors
    /// As all methods.
    pub async fn travelled(
        &self,
        item: ItemId,
        version: u32,
    ) -> Result<Option<(TransferId, Head, StagedRow)>> {
        self.look("record_travelled", move |tx| {
            let mut all = tx.db.staged_rows.iter();
            let found = all.find(|((_, of, at), _)| (*of, *at) == (item, version));
            let Some(((transfer, ..), row)) = found else { return Ok(None) };
            let head = tx.db.staged_pages.get(&row.page).map(|(_, page)| page.head.clone());
            Ok(head.map(|head| (*transfer, head, row.as_ref().clone())))
        })
        .await
    }
}
