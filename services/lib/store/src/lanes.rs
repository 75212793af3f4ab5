//! The numbers of the audit log's writers. A process writes in several *lanes*, each a writer of its own
//! to the log, and a lane has one transaction at a time: so within a lane numbers commit in their order,
//! and a process that dies leaves no gap, only a lane that ends. A gap in the log always means that an
//! entry is missing.

use std::sync::{Arc, Mutex};

use domicile_evidence::entry::{Entry, Outcome};
use domicile_evidence::event::{EventType, Purpose};
use domicile_types::{Ctx, EventId, Role};
use tokio::sync::Notify;
use uuid::Uuid;

use crate::tx::lock;

/// This process as a writer of the log.
pub(crate) struct Writer {
    origin: String,
    policy_version: u32,
    id: Uuid,
    epoch: u64,
    lanes: Mutex<Lanes>,
    pub(crate) wake: Notify,
}

#[derive(Default)]
struct Lanes {
    made: u16,
    idle: Vec<Lane>,
    lost: Vec<Lost>,
}

/// One sequence of numbers; who holds it may use the next ones.
#[derive(Clone, Copy)]
struct Lane {
    id: Uuid,
    last: u64,
}

/// A lane whose last numbers may or may not be in the log. It is not used again before they are, be it
/// as void entries.
pub(crate) struct Lost {
    lane: Lane,
    numbers: Vec<(EventId, u64)>,
}

/// Numbers drawn for entries, and their lane. Dropped, also by a task that dies, it leaves void entries.
pub(crate) struct Drawn {
    writer: Arc<Writer>,
    held: Option<(Lost, u64)>,
}

impl Writer {
    pub(crate) fn new(origin: String, policy_version: u32, id: Uuid, epoch: u64) -> Self {
        Self { origin, policy_version, id, epoch, lanes: Mutex::default(), wake: Notify::new() }
    }

    /// Numbers entries in a lane that nobody uses.
    pub(crate) fn draw(self: &Arc<Self>, entries: &mut [Entry]) -> Drawn {
        let mut lane = self.lane();
        let before = lane.last;
        let mut numbers = Vec::with_capacity(entries.len());
        for entry in entries {
            lane.last += 1;
            entry.writer = lane.id;
            entry.writer_sequence = lane.last;
            numbers.push((entry.event_id, lane.last));
        }
        Drawn { writer: Arc::clone(self), held: Some((Lost { lane, numbers }, before)) }
    }

    fn lane(&self) -> Lane {
        let mut lanes = lock(&self.lanes);
        lanes.idle.pop().unwrap_or_else(|| {
            let number = lanes.made;
            lanes.made = number.wrapping_add(1);
            // The process's id with the lane's number in its last two bytes.
            let mut bytes = self.id.into_bytes();
            bytes[14..].copy_from_slice(&number.to_be_bytes());
            Lane { id: Uuid::from_bytes(bytes), last: 0 }
        })
    }

    /// What is lost, and void entries for it. They bear the lost entries' own event ids: should a commit
    /// without an answer have happened after all, the log takes whichever of the two comes first and
    /// drops the other.
    pub(crate) fn take_lost(&self, ctx: &Ctx) -> (Vec<Lost>, Vec<Entry>) {
        let lost = std::mem::take(&mut lock(&self.lanes).lost);
        let mut voids = Vec::new();
        for Lost { lane, numbers } in &lost {
            for (event_id, number) in numbers {
                let blank = self.blank(ctx, *event_id);
                voids.push(Entry { writer: lane.id, writer_sequence: *number, ..blank });
            }
        }
        (lost, voids)
    }

    /// The void entries are durable: their lanes may go on.
    pub(crate) fn settled(&self, lost: Vec<Lost>) {
        lock(&self.lanes).idle.extend(lost.into_iter().map(|lost| lost.lane));
    }

    /// They are not; they stay due.
    pub(crate) fn unsettled(&self, lost: Vec<Lost>) {
        lock(&self.lanes).lost.extend(lost);
    }

    /// Whether void entries are due.
    pub(crate) fn owes(&self) -> bool {
        !lock(&self.lanes).lost.is_empty()
    }

    /// An entry that says nothing yet.
    pub(crate) fn blank(&self, ctx: &Ctx, event_id: EventId) -> Entry {
        Entry {
            origin: self.origin.clone(),
            event: EventType::AuditVoid,
            event_id,
            nonce: ctx.random(),
            written_at: ctx.now(),
            sequenced_at: None,
            writer: self.id,
            writer_epoch: self.epoch,
            writer_sequence: 0,
            actor: None,
            role: Role::System,
            purpose: Purpose::Operations,
            subject: None,
            resource: None,
            item: None,
            transfer: None,
            outcome: Outcome::Ok,
            policy_version: self.policy_version,
            request: None,
            detail_commit: None,
            statement: None,
        }
    }
}

impl Drawn {
    /// The entries are durable.
    pub(crate) fn keep(mut self) {
        if let Some((Lost { lane, .. }, _)) = self.held.take() {
            lock(&self.writer.lanes).idle.push(lane);
        }
    }

    /// The entries are certainly not in the database: their numbers are drawn again.
    pub(crate) fn undo(mut self) {
        if let Some((Lost { lane, .. }, before)) = self.held.take() {
            lock(&self.writer.lanes).idle.push(Lane { last: before, ..lane });
        }
    }
}

impl Drop for Drawn {
    fn drop(&mut self) {
        if let Some((lost, _)) = self.held.take() {
            lock(&self.writer.lanes).lost.push(lost);
            self.writer.wake.notify_one();
        }
    }
}
