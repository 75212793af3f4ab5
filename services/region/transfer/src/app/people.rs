//! What people see: status, lists, receipts.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use domicile_evidence::statement::SignedStatement;
use domicile_transfer_protocol::rows::Progress;
use domicile_transfer_protocol::store::{Listing, Row};
use domicile_transfer_protocol::{State, TransferStore};
use domicile_types::{AuditScope, Code, Error, Result, Role, SubjectId, TransferId};

use tokio::time::Instant;

use super::{Offer, Transfers};

/// A count of what has been copied is told again for so many times as long as it took: a large record's takes
/// a tenth of a processor at most, a small one's is fresh.
const SHARE: u32 = 10;
/// But never when it is older than this.
const OLDEST: Duration = Duration::from_secs(1);

/// What was counted lately, and until when it is told.
pub(super) type Counts = Mutex<BTreeMap<TransferId, (Instant, Progress)>>;

/// A transfer with its progress, counted at most a second ago.
#[derive(Clone, Debug)]
pub struct Status {
    /// The row.
    pub row: Row,
    /// How far copying is; only the source knows.
    pub progress: Progress,
}

/// Everything a client or an auditor takes away from a transfer.
pub struct Receipt {
    /// The transfer.
    pub status: Status,
    /// The offer that was accepted, where this region has it.
    pub offer: Option<Offer>,
    /// Both lanes, the source's first.
    pub statements: Vec<SignedStatement>,
    /// Checkpoints of both logs.
    pub checkpoints: Vec<String>,
    /// What stays in the source, and why, one sentence each: as the offer said, or as the source's
    /// policy says where this region does not have the offer.
    pub stays_behind: Vec<String>,
}

impl<S: TransferStore> Transfers<S> {
    /// One transfer, for the client whose record it moves, an operator or compliance staff.
    ///
    /// # Errors
    /// [`Code::NotFound`] for anybody else.
    pub async fn status(&self, scope: &AuditScope, transfer: TransferId) -> Result<Status> {
        let row = self.store.find(transfer).await?;
        let row =
            row.filter(|row| may_see(scope, row)).ok_or_else(|| Error::new(Code::NotFound).at("transfer"))?;
        scope.moves(transfer);
        if let Some(subject) = named(&row) {
            scope.concerns(subject);
        }
        self.with_progress(row).await
    }

    /// The caller's transfers, or every one of the region for operators and compliance staff.
    ///
    /// # Errors
    /// The store's.
    pub async fn list(&self, scope: &AuditScope, resting: bool) -> Result<Vec<Status>> {
        let listing = match scope.actor.role {
            Role::Client => Listing::Subject(scope.actor.subject()?),
            _ => Listing::Everything,
        };
        let mut all = Vec::new();
        for row in self.store.list(listing, resting).await? {
            all.push(self.with_progress(row).await?);
        }
        Ok(all)
    }

    async fn with_progress(&self, row: Row) -> Result<Status> {
        let progress = match &row {
            Row::Source(source) if source.state.copies() => self.counted(source.transfer).await?,
            Row::Source(source) => source.staged.as_ref().map(whole).unwrap_or_default(),
            Row::Destination(row) => row.staged.as_ref().map(whole).unwrap_or_default(),
        };
        Ok(Status { row, progress })
    }

    /// How far copying is, as it was counted lately: counting reads the whole record, and people look often.
    async fn counted(&self, transfer: TransferId) -> Result<Progress> {
        let lately = |counts: &BTreeMap<_, (Instant, Progress)>| {
            let (until, progress) = counts.get(&transfer)?;
            (Instant::now() < *until).then_some(*progress)
        };
        if let Some(progress) = lately(&self.inner.counts.lock().unwrap_or_else(PoisonError::into_inner)) {
            return Ok(progress);
        }
        let began = Instant::now();
        let progress = self.store.progress(transfer).await?;
        let (now, told) = (Instant::now(), began.elapsed().saturating_mul(SHARE).min(OLDEST));
        let mut counts = self.inner.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.retain(|_, (until, _)| now < *until);
        counts.insert(transfer, (now + told, progress));
        Ok(progress)
    }

    /// The receipt bundle; complete once the transfer is closed.
    ///
    /// # Errors
    /// [`Code::NotFound`] for anybody but the client and compliance staff.
    pub async fn receipt(&self, scope: &AuditScope, transfer: TransferId) -> Result<Receipt> {
        let status = self.status(scope, transfer).await?;
        let (from, to) = match &status.row {
            Row::Source(row) => (row.from.clone(), row.to.clone()),
            Row::Destination(row) => (row.from.clone(), row.to.clone()),
        };
        let offer = self.store.offer(transfer).await?.as_deref().map(Offer::read).transpose()?;
        let stays_behind = match &offer {
            // Nothing has left: the record is where it was, whole.
            _ if aborted(&status.row) => Vec::new(),
            Some(offer) => offer.stays_behind.clone(),
            None => self.policies.stays_behind(&from, "")?,
        };
        let mut statements = self.store.statements(transfer, from, 0).await?;
        statements.extend(self.store.statements(transfer, to, 0).await?);
        let checkpoints = self.store.checkpoints(transfer).await?;
        Ok(Receipt { status, offer, statements, checkpoints, stays_behind })
    }
}

fn whole(claim: &domicile_transfer_protocol::source::StagedClaim) -> Progress {
    Progress {
        rows_done: claim.rows,
        rows_total: claim.rows,
        objects_done: claim.objects,
        objects_total: claim.objects,
        bytes_done: claim.bytes,
        bytes_total: claim.bytes,
    }
}

fn aborted(row: &Row) -> bool {
    let state = match row {
        Row::Source(row) => row.state,
        Row::Destination(row) => row.state,
    };
    matches!(state, State::Aborting | State::Aborted)
}

fn subject_of(row: &Row) -> Option<SubjectId> {
    match row {
        Row::Source(row) => Some(row.subject),
        Row::Destination(row) => row.subject,
    }
}

/// Whom an audit entry may name: nobody once the source's keys are being destroyed, because naming would
/// make a new pseudonym key.
fn named(row: &Row) -> Option<SubjectId> {
    match row {
        Row::Source(row) => row.keys_to_destroy.is_none().then_some(row.subject),
        Row::Destination(row) => row.subject,
    }
}

fn may_see(scope: &AuditScope, row: &Row) -> bool {
    match scope.actor.role {
        Role::Operator | Role::Compliance => true,
        Role::Client => scope.actor.subject.is_some() && subject_of(row) == scope.actor.subject,
        _ => false,
    }
}
