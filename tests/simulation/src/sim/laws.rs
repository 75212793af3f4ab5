//! The invariants of the move, asked of the stores themselves: of every commit while it happens, and of all
//! regions together after every step.

use std::collections::{BTreeMap, BTreeSet};

use domicile_transfer_protocol::source::Standing;
use domicile_transfer_protocol::store::Row;
use domicile_transfer_protocol::{Lanes, State};
use domicile_types::{SubjectId, TransferId};

use crate::memory::{Db, Transfer};

/// What has been seen that later steps are held against.
#[derive(Default)]
pub(super) struct Laws {
    /// What was broken, in words.
    pub(super) broken: Vec<String>,
    /// The highest epoch of each record in each region.
    epochs: BTreeMap<(&'static str, SubjectId), u64>,
    /// Transfers whose withdrawal was acknowledged.
    pub(super) withdrawn: BTreeSet<TransferId>,
    /// How many commits each law has looked at.
    pub(super) looked: u64,
    /// States that transfers have been in.
    pub(super) reached: BTreeSet<State>,
}

impl Laws {
    /// Holds one commit against the laws; answers what changed, in words.
    pub(super) fn committing(&mut self, host: &'static str, before: &Db, after: &Db) -> Vec<String> {
        self.looked += 1;
        let mut told = Vec::new();
        for (id, now) in &after.transfers {
            let was = before.transfers.get(id);
            if was.is_some_and(|was| std::sync::Arc::ptr_eq(was, now) || was.row == now.row) {
                continue;
            }
            told.extend(self.transfer(host, *id, was.map(AsRef::as_ref), now, before, after));
        }
        self.rows_leave_under_consent(host, before, after);
        self.epochs_rise(host, before, after);
        told
    }

    fn demand(&mut self, holds: bool, law: u32, host: &str, what: impl FnOnce() -> String) {
        if !holds {
            self.broken.push(format!("invariant {law} at {host}: {}", what()));
        }
    }

    fn transfer(
        &mut self,
        host: &'static str,
        id: TransferId,
        was: Option<&Transfer>,
        now: &Transfer,
        before: &Db,
        after: &Db,
    ) -> Option<String> {
        let (state, from) = (now.state(), was.map(Transfer::state));
        self.reached.insert(state);
        let role = match now.row {
            Row::Source(_) => "source",
            Row::Destination(_) => "destination",
        };
        self.demand(from.is_none_or(|from| !from.rests() || from == state), 6, host, || {
            format!("{role} of {id} was {from:?} and became {state:?}")
        });
        self.lanes_match(host, id, now, after);
        match &now.row {
            Row::Source(row) => self.source(host, row, from, was, now, (before, after)),
            Row::Destination(row) => self.destination(host, row, from, after),
        }
        (from != Some(state)).then(|| format!("{} {role} {state:?}", short(id)))
    }

    fn source(
        &mut self,
        host: &'static str,
        row: &domicile_transfer_protocol::Source,
        from: Option<State>,
        was: Option<&Transfer>,
        now: &Transfer,
        (before, after): (&Db, &Db),
    ) {
        let id = row.transfer;
        let released = row.state >= State::Released && row.abort.is_none();
        self.demand(now.key_release.is_none() || released, 4, host, || {
            format!("{id} has a key release in {:?}", row.state)
        });
        if row.state == State::Released && from != Some(State::Released) {
            let active = |db: &Db| {
                let given = row.consent.as_ref().and_then(|given| db.consents.get(&given.id));
                given.map(|(_, consent)| consent.status.clone())
            };
            let (then, ended) = (active(before), active(after));
            self.demand(
                then.as_deref() == Some("active") && ended.as_deref() == Some("completed"),
                4,
                host,
                || format!("{id} was released under a consent that was {then:?} and is {ended:?}"),
            );
            self.demand(now.key_release.is_some(), 11, host, || {
                format!("{id} was released without a key release")
            });
            self.demand(!self.withdrawn.contains(&id), 5, host, || {
                format!("{id} was released after its withdrawal")
            });
        }
        let had = was.is_some_and(|was| matches!(&was.row, Row::Source(row) if row.abort.is_some()));
        if row.abort.is_some() && !had {
            let home = after.homes.get(&row.subject).map(|home| home.standing);
            self.demand(home != Some(Standing::Frozen), 6, host, || {
                format!("{id} ended and left the record frozen")
            });
        }
        if row.state == State::Shredded && from != Some(State::Shredded) {
            self.nothing_left(host, row.subject, id, after);
        }
    }

    fn nothing_left(&mut self, host: &'static str, subject: SubjectId, id: TransferId, after: &Db) {
        let left = after.items_of(subject).count()
            + after.objects.values().filter(|row| row.subject == subject).count()
            + after.accounts.values().filter(|row| row.subject == Some(subject)).count()
            + after.sent_of(id).count();
        self.demand(left == 0, 9, host, || format!("{id} is shredded and {left} rows are left"));
        let home = after.homes.get(&subject);
        self.demand(home.is_some_and(|home| home.standing == Standing::Departed), 9, host, || {
            format!("{id} is shredded without a tombstone")
        });
    }

    fn destination(
        &mut self,
        host: &'static str,
        row: &domicile_transfer_protocol::Destination,
        from: Option<State>,
        after: &Db,
    ) {
        let id = row.transfer;
        if row.state == State::Aborted && from != Some(State::Aborted) {
            let held = after.staged_of(id).count() + after.staged_objects_of(id).count();
            self.demand(held == 0, 6, host, || format!("{id} is aborted and {held} staged rows are left"));
            self.demand(after.tombstones.contains_key(&id), 6, host, || format!("{id} has no tombstone"));
        }
        if row.state == State::Rekeyed && from != Some(State::Rekeyed) {
            let subject = row.subject;
            let open =
                subject.map(|subject| after.items_of(subject).filter(|item| item.sealed.is_none()).count());
            self.demand(open == Some(0), 8, host, || format!("{id} is re-keyed and {open:?} rows are not"));
        }
        if row.state >= State::Released && row.abort.is_none() {
            self.demand(!self.withdrawn.contains(&id), 5, host, || {
                format!("{id} went on after its withdrawal")
            });
        }
    }

    /// State, statements and audit entries stand and fall together (10 and 11).
    fn lanes_match(&mut self, host: &'static str, id: TransferId, now: &Transfer, after: &Db) {
        let (lanes, own, peer): (&Lanes, _, _) = match &now.row {
            Row::Source(row) => (&row.lanes, &row.from, &row.to),
            Row::Destination(row) => (&row.lanes, &row.to, &row.from),
        };
        for (origin, length) in [(own, lanes.own_sequence()), (peer, lanes.peer_sequence())] {
            let kept =
                after.statements.range((id, origin.clone(), 0)..=(id, origin.clone(), u64::MAX)).count()
                    as u64;
            let mut logged: Vec<u64> =
                after.logged(id, origin).into_iter().map(|(sequence, _)| sequence).collect();
            logged.sort_unstable();
            let whole = kept == length && logged.iter().copied().eq(1..=length);
            self.demand(whole, 11, host, || {
                format!("{id}: the row counts {length} statements of {origin}, {kept} are kept, the log has {logged:?}")
            });
        }
    }

    /// No digest of a row about to be sent without an active, unexpired consent (3).
    fn rows_leave_under_consent(&mut self, host: &'static str, before: &Db, after: &Db) {
        let fresh = after
            .sent_rows
            .iter()
            .filter(|(key, row)| before.sent_rows.get(*key).is_none_or(|was| was.digest != row.digest));
        let sending: BTreeSet<TransferId> = fresh.map(|((id, ..), _)| *id).collect();
        for id in sending {
            let Some(Row::Source(row)) = after.transfers.get(&id).map(|kept| &kept.row) else { continue };
            let given = row.consent.as_ref().and_then(|given| after.consents.get(&given.id));
            let fits = given.is_some_and(|(whose, consent)| {
                *whose == row.subject
                    && consent.status == "active"
                    && consent.attempt == row.attempt
                    && consent.destination.as_ref() == Some(&row.to)
            });
            self.demand(fits && row.abort.is_none(), 3, host, || {
                format!("{id} sends rows without an active consent")
            });
        }
    }

    fn epochs_rise(&mut self, host: &'static str, before: &Db, after: &Db) {
        for (subject, home) in &after.homes {
            let known = self.epochs.entry((host, *subject)).or_default();
            let was = *known;
            *known = was.max(home.epoch);
            let revision = before.homes.get(subject).map_or(0, |home| home.revision);
            let (epoch, now) = (home.epoch, home.revision);
            self.demand(epoch >= was, 1, host, || {
                format!("the epoch of {subject} fell from {was} to {epoch}")
            });
            self.demand(now >= revision, 1, host, || format!("the revision of {subject} fell"));
        }
    }

    /// At most one region takes writes for a record (1).
    pub(super) fn one_home(&mut self, regions: &[(&'static str, &Db)]) {
        let mut homes: BTreeMap<SubjectId, Vec<&'static str>> = BTreeMap::new();
        for (name, db) in regions {
            for (subject, home) in &db.homes {
                if matches!(home.standing, Standing::Active | Standing::Frozen) {
                    homes.entry(*subject).or_default().push(name);
                }
            }
        }
        for (subject, at) in homes {
            self.demand(at.len() <= 1, 1, "all", || format!("{subject} takes writes at {at:?}"));
        }
    }
}

/// An id as the event log shows it.
pub(super) fn short(id: TransferId) -> String {
    id.to_string().chars().take(8).collect()
}
