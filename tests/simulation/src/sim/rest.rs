//! Everything together: what must hold of all regions after every step, and once everything has come to rest.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use domicile_crypto::{TransferKey, WrappedKeys as _, aad, open};
use domicile_kms::Keyring;
use domicile_objects::ObjectPrefix;
use domicile_transfer_protocol::source::Standing;
use domicile_transfer_protocol::store::Row;
use domicile_transfer_protocol::{Source, State};
use domicile_types::{Ctx, RegionId, SubjectId, TransferId};
use futures::executor::block_on;

use super::world::{Region, World, lock};
use crate::conformance::region as named;
use crate::memory::Db;

impl World {
    /// After a step in which anything was committed.
    pub(super) fn hold_together(&self, commits: &mut u64) {
        let now: u64 = self.regions.values().map(|region| region.disk.look().commits).sum();
        if now == *commits {
            return;
        }
        *commits = now;
        let dbs: Vec<_> = self.regions.iter().map(|(name, region)| (*name, region.disk.look())).collect();
        let looked: Vec<(&'static str, &Db)> = dbs.iter().map(|(name, db)| (*name, &**db)).collect();
        let mut laws = lock(&self.laws);
        laws.one_home(&looked);
    }

    /// Whether no transfer of any region is under way.
    pub(super) fn at_rest(&self) -> bool {
        self.regions.values().all(|region| {
            let db = region.disk.look();
            db.transfers.values().all(|kept| kept.state().rests())
        })
    }

    /// Time is over and something still moves (14).
    pub(super) fn no_rest(&self) {
        for (name, region) in &self.regions {
            let open: Vec<String> = {
                let db = region.disk.look();
                let open = db.transfers.iter().filter(|(_, kept)| !kept.state().rests());
                open.map(|(id, kept)| format!("{id} is {:?} at {name}", kept.state())).collect()
            };
            open.into_iter().for_each(|what| self.broken(format!("invariant 14: {what}")));
        }
        self.broken("invariant 14: the clients did not come to their end".to_owned());
    }

    /// Notes what was found.
    pub(super) fn count(&self, versions: usize, objects: usize) {
        self.versions.fetch_add(versions, Ordering::Relaxed);
        self.objects.fetch_add(objects, Ordering::Relaxed);
    }

    pub(super) fn found(&self) -> (usize, usize) {
        (self.versions.load(Ordering::Relaxed), self.objects.load(Ordering::Relaxed))
    }

    /// How many transfers ended closed and aborted, as their sources see them.
    pub(super) fn ended(&self) -> (usize, usize) {
        let (mut closed, mut aborted) = (0, 0);
        for region in self.regions.values() {
            for kept in
                region.disk.look().transfers.values().filter(|kept| matches!(kept.row, Row::Source(_)))
            {
                closed += usize::from(kept.state() == State::Closed);
                aborted += usize::from(kept.state() == State::Aborted);
            }
        }
        (closed, aborted)
    }

    /// Everything has come to rest: what each region must hold now, and what none may.
    pub(super) fn in_the_end(&self) {
        for (name, region) in &self.regions {
            let (transfers, homes) = {
                let db = region.disk.look();
                let homes: Vec<_> =
                    db.homes.iter().map(|(subject, home)| (*subject, home.standing)).collect();
                (db.transfers.clone(), homes)
            };
            for (id, kept) in &transfers {
                self.same_lanes(name, *id, &kept.row);
                match &kept.row {
                    Row::Destination(row) if row.state == State::Aborted => {
                        self.nothing_staged(name, region, *id);
                    }
                    Row::Destination(row) if row.state == State::Closed => {
                        self.nothing_staged(name, region, *id);
                    }
                    Row::Source(row) if row.state.rests() => {
                        self.no_key(name, region, *id, TransferKey::Travel);
                    }
                    _ => {}
                }
            }
            for (subject, standing) in homes {
                if standing == Standing::Departed {
                    self.nothing_of(name, region, subject);
                }
            }
            self.restores(name, region);
        }
    }

    /// Both logs hold the same statements of a transfer, each once (10).
    fn same_lanes(&self, name: &str, id: TransferId, row: &Row) {
        let (from, to) = match row {
            Row::Source(row) => (row.from.clone(), row.to.clone()),
            Row::Destination(_) => return,
        };
        let held = |at: &RegionId| {
            let region = self.regions.get(at.as_str())?;
            let db = region.disk.look();
            let lanes = [&from, &to].map(|origin| {
                let mut logged = db.logged(id, origin);
                logged.sort_unstable();
                logged
            });
            Some(lanes)
        };
        let (source, destination) = (held(&from), held(&to));
        if source != destination {
            self.broken(format!("invariant 10: {name} and {to} do not hold the same statements of {id}"));
        }
    }

    /// A source begins to destroy keys: the destination's latest backup holds the whole record, sealed under
    /// the destination's own keys (8).
    pub(super) fn backed_up(&self, row: &Source) {
        let Some(region) = self.regions.get(row.to.as_str()) else { return };
        let backup = region.disk.latest_backup().unwrap_or_default();
        let sealed = backup.items_of(row.subject).filter(|item| item.sealed.is_some()).count() as u64;
        let expected = row.staged.as_ref().map_or(u64::MAX, |staged| staged.rows);
        if sealed < expected {
            let id = row.transfer;
            self.broken(format!("invariant 8: {id} is erased, the backup has {sealed} of {expected} rows"));
        }
    }

    /// What the latest backup holds of records that are at home here opens with this region's keys (8).
    fn restores(&self, name: &'static str, region: &Region) {
        let (Some(backup), Ok(here)) = (region.disk.latest_backup(), named(name)) else { return };
        let (service, keys) = (Arc::clone(&region.service), Arc::clone(&region.keys) as _);
        let keyring = Keyring::new(service, keys, here.clone(), Ctx::system());
        let homes: Vec<_> = {
            let db = region.disk.look();
            let homes = db.homes.iter().filter(|(_, home)| home.standing == Standing::Active);
            homes.map(|(subject, _)| *subject).collect()
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        let Ok(runtime) = runtime else { return self.broken("there is no runtime".to_owned()) };
        for item in homes.iter().flat_map(|subject| backup.items_of(*subject)) {
            let (h, Some(sealed)) = (&item.header, &item.sealed) else { continue };
            let key = runtime.block_on(keyring.record_key_at(h.subject_id, h.practice_id, h.key_version));
            if key.and_then(|key| open(&key, &aad::item(&here, h), sealed)).is_err() {
                self.broken(format!("invariant 8: {} in the backup of {name} does not open", h.item_id));
            }
        }
    }

    fn no_key(&self, name: &str, region: &Region, id: TransferId, key: TransferKey) {
        if !matches!(block_on(region.keys.transfer_key(id, key)), Ok(None)) {
            self.broken(format!("invariant 6: {name} still has a key of {id}"));
        }
    }

    fn nothing_staged(&self, name: &str, region: &Region, id: TransferId) {
        let rows = {
            let db = region.disk.look();
            let pages = db.staged_pages.values().filter(|(of, _)| *of == id).count();
            db.staged_of(id).count() + db.staged_objects_of(id).count() + pages
        };
        let prefix = ObjectPrefix::staging(id);
        let files = region.bucket.look().keys().filter(|name| name.is_under(&prefix)).count();
        if rows + files > 0 {
            self.broken(format!("invariant 6: {name} holds {rows} rows and {files} files of {id}"));
        }
        self.no_key(name, region, id, TransferKey::HpkePrivate);
        self.no_key(name, region, id, TransferKey::Travel);
    }

    fn nothing_of(&self, name: &str, region: &Region, subject: SubjectId) {
        let prefix = ObjectPrefix::objects(subject);
        let files = region.bucket.look().keys().filter(|name| name.is_under(&prefix)).count();
        let keys = block_on(region.keys.count_subject(subject)).unwrap_or(u64::MAX);
        if files > 0 || keys > 0 {
            self.broken(format!("invariant 9: {name} has {files} files and {keys} keys of {subject}"));
        }
    }
}
