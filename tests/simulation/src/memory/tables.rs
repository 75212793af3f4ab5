//! What every change is made of: fences, residencies, and the keys that a table keeps unique.

use std::sync::Arc;
use std::time::Duration;

use domicile_transfer_protocol::lanes::Received;
use domicile_transfer_protocol::source::Standing;
use domicile_transfer_protocol::store::{Row, Work};
use domicile_transfer_protocol::{ResidencyFacts, State};
use domicile_types::{Code, Error, ItemId, RegionId, Result, SubjectId, TransferId};

use super::db::{Home, Item, Object, Transfer};
use super::{Tx, conflict, not_found};

/// When a write to a frozen record may be tried again.
const FROZEN_RETRY: Duration = Duration::from_millis(100);
/// When a request to an arriving record may be tried again.
const ARRIVING_RETRY: Duration = Duration::from_millis(200);

impl Tx<'_> {
    /// Refuses a change whose holder has lost the lease.
    pub(super) fn fence(&self, work: Option<Work>) -> Result<()> {
        let Some(work) = work else { return Ok(()) };
        let held = self.db.jobs.get(&work.transfer);
        if held.is_some_and(|job| job.holder == work.holder && job.token == work.token) {
            Ok(())
        } else {
            Err(Error::new(Code::TokenStale).at(format!("transfer.{}", work.transfer)))
        }
    }

    /// A record's residency.
    pub(super) fn home(&self, subject: SubjectId) -> Result<Home> {
        self.db.homes.get(&subject).cloned().ok_or_else(not_found)
    }

    /// Writes a residency's whole row.
    pub(super) fn set_home(&mut self, subject: SubjectId, home: Home) {
        self.db.homes.insert(subject, home);
    }

    /// Begins a write of the record: the revision to write.
    pub(super) fn write_begin(&mut self, subject: SubjectId) -> Result<u64> {
        match self.db.homes.get_mut(&subject) {
            Some(home) if home.standing == Standing::Active => {
                home.revision += 1;
                Ok(home.revision)
            }
            home => Err(unwritable(home.as_deref())),
        }
    }

    /// Begins a change of control rows, which is allowed while the record is frozen.
    pub(super) fn control_touch(&mut self, subject: SubjectId) -> Result<()> {
        match self.db.homes.get_mut(&subject) {
            Some(home) if matches!(home.standing, Standing::Active | Standing::Frozen) => {
                home.control_revision += 1;
                Ok(())
            }
            home => Err(unwritable(home.as_deref())),
        }
    }

    /// Inserts a version of an item; refuses when one of its keys is taken.
    pub(super) fn insert_item(&mut self, item: Item) -> Result<()> {
        let h = &item.header;
        let taken = self.db.items.values().any(|known| {
            let k = &known.header;
            let key =
                |header: &domicile_types::ItemHeader| header.idempotency.as_ref().map(|i| i.key.clone());
            let same_subject = k.subject_id == h.subject_id;
            (k.item_id == h.item_id && (k.version == h.version || (known.current && item.current)))
                || (same_subject && k.revision == h.revision)
                || (same_subject && key(h).is_some() && key(k) == key(h))
        });
        if taken {
            return Err(conflict("item"));
        }
        self.db.items.insert((h.item_id, h.version), Arc::new(item));
        Ok(())
    }

    /// Takes the mark of the newest version off.
    pub(super) fn supersede(&mut self, subject: SubjectId, item: ItemId) {
        for ((of, _), row) in &mut self.db.items {
            if *of == item && row.header.subject_id == subject && row.current {
                *row = Arc::new(Item { current: false, ..row.as_ref().clone() });
            }
        }
    }

    /// Inserts an object; refuses when it is known.
    pub(super) fn insert_object(&mut self, id: domicile_types::ObjectId, object: Object) -> Result<()> {
        if self.db.objects.contains_key(&id) {
            return Err(conflict("object"));
        }
        self.db.objects.insert(id, object);
        Ok(())
    }

    /// A transfer's row as it stands.
    pub(super) fn find(&self, transfer: TransferId) -> Option<Row> {
        self.db.transfers.get(&transfer).map(|kept| kept.shown())
    }

    /// Writes a transfer's row; a subject has one open transfer here that is not aborting.
    pub(super) fn save(&mut self, transfer: TransferId, row: Row) -> Result<()> {
        let Some(kept) = self.db.transfers.get_mut(&transfer).map(Arc::make_mut) else {
            return Err(not_found());
        };
        if let Row::Destination(row) = &row {
            kept.token = row.token;
        }
        kept.row = row;
        let counts = |kept: &Transfer| !kept.state().rests() && kept.state() != State::Aborting;
        let Some(subject) = kept.subject().filter(|_| counts(kept)) else { return Ok(()) };
        let open =
            self.db.transfers.values().filter(|other| other.subject() == Some(subject) && counts(other));
        if open.count() > 1 { Err(conflict("transfer")) } else { Ok(()) }
    }

    /// Keeps a statement of either lane.
    pub(super) fn insert_statement(
        &mut self,
        (transfer, origin, sequence): (TransferId, RegionId, u64),
        signed: domicile_evidence::statement::SignedStatement,
    ) -> Result<()> {
        let key = (transfer, origin, sequence);
        if self.db.statements.contains_key(&key) {
            return Err(conflict("statement"));
        }
        self.db.statements.insert(key, Arc::new(signed));
        Ok(())
    }

    /// Takes in the other region's statement: its row, and this log's entry of it.
    pub(super) fn accept(
        &mut self,
        received: &Received,
        subject: Option<SubjectId>,
        scope: &domicile_types::AuditScope,
    ) -> Result<()> {
        let of = &received.statement;
        self.insert_statement((of.transfer, of.origin.clone(), of.sequence), received.signed.clone())?;
        self.log_step(scope, of.step.event(), of.reference(), subject)
    }
}

/// Why a record cannot be written.
pub(super) fn unwritable(home: Option<&Home>) -> Error {
    let Some(home) = home else { return Error::new(Code::NotFound) };
    match home.standing {
        Standing::Active | Standing::Frozen => Error::new(Code::RecordFrozen).retry_after(FROZEN_RETRY),
        Standing::Incoming => arriving(),
        Standing::Released if home.moved_to.is_none() => arriving(),
        Standing::Released | Standing::Departed => moved(home),
    }
}

/// Whether a reader is served.
pub(super) fn serves(home: &Home, now: domicile_types::Timestamp, reads: Duration) -> Result<()> {
    match home.standing {
        Standing::Active | Standing::Frozen => Ok(()),
        Standing::Released if home.moved_to.is_some() => Err(moved(home)),
        Standing::Released if now <= home.changed_at.plus(reads) => Ok(()),
        Standing::Released | Standing::Incoming => Err(arriving()),
        Standing::Departed => Err(moved(home)),
    }
}

fn arriving() -> Error {
    Error::new(Code::RecordArriving).retry_after(ARRIVING_RETRY)
}

fn moved(home: &Home) -> Error {
    let error = Error::new(Code::RecordMoved);
    match &home.moved_to {
        Some(region) => error.moved_to(region.clone(), home.epoch),
        None => error,
    }
}

/// What a decision sees of a residency.
pub(super) fn facts(home: &Home) -> ResidencyFacts {
    ResidencyFacts {
        epoch: home.epoch,
        standing: home.standing,
        revision: home.revision,
        control_revision: home.control_revision,
    }
}
