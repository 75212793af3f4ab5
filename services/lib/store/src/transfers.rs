//! [`TransferStore`] on this region's database: each operation one named transaction.

use std::sync::Arc;
use std::time::Duration;

use domicile_evidence::event::EventType;
use domicile_evidence::keys::Signer;
use domicile_evidence::statement::{Body, SignedStatement, Statement, VERSION};
use domicile_transfer_protocol::lanes::{Lanes, Received};
use domicile_transfer_protocol::store::Work;
use domicile_types::{Actor, AuditScope, Code, Error, RequestId, Result, SubjectId, TransferId};

use crate::queries::{lease, statement};
use crate::{AuditFacts, Backups, Store, Tx};

mod adoption;
mod destination;
mod erasure;
mod measure;
mod operations;
mod parts;
mod source;

/// This region's transfers on its database.
#[derive(Clone)]
pub struct SqlTransfers {
    store: Store,
    signer: Arc<dyn Signer>,
    options: Options,
    backups: Backups,
    work: Option<Work>,
}

/// Durations the store itself looks at.
#[derive(Clone, Debug)]
pub struct Options {
    /// How long an offer may be accepted.
    pub offer_open: Duration,
    /// How long a lease lasts.
    pub lease: Duration,
    /// When a transfer past Released that does not advance is due for a look.
    pub stuck_after: Duration,
    /// How long a forwarding locator is kept.
    pub locator: Duration,
}

impl SqlTransfers {
    /// Transfers over a store; `signer` holds this region's statement key.
    #[must_use]
    pub fn new(store: Store, signer: Arc<dyn Signer>, options: Options, backups: Backups) -> Self {
        Self { store, signer, options, backups, work: None }
    }

    /// The audit scope of a step nobody at a keyboard asked for.
    fn system_scope(&self, transfer: TransferId) -> Arc<AuditScope> {
        let request = RequestId::generate(self.store.ctx());
        let scope = AuditScope::new(EventType::TransferStep.name(), Actor::system(), request);
        scope.moves(transfer);
        scope
    }
}

/// The name of the lease on a transfer's work.
fn job(transfer: TransferId) -> String {
    format!("transfer.{transfer}")
}

/// Refuses a change whose holder has lost the lease; whoever takes it meanwhile waits for this commit.
async fn fence(tx: &Tx, work: Option<Work>) -> Result<()> {
    match work {
        Some(work) => lease::share(tx, &job(work.transfer), work.holder, work.token).await,
        None => Ok(()),
    }
}

/// Takes in the other region's statement: its row, and this log's entry of it.
async fn accept(tx: &Tx, received: &Received, subject: Option<SubjectId>) -> Result<()> {
    statement::insert(tx, &received.statement, &received.signed).await?;
    tx.audit(step_facts(&received.statement, subject))
}

/// Signs this region's next statement, with its row and its log entry.
async fn emit(
    tx: &Tx,
    signer: &dyn Signer,
    (transfer, attempt): (TransferId, u64),
    lanes: &mut Lanes,
    body: &Body,
    subject: Option<SubjectId>,
) -> Result<SignedStatement> {
    let draft = Statement {
        version: VERSION,
        transfer,
        attempt,
        origin: tx.region().clone(),
        sequence: lanes.own_sequence() + 1,
        step: body.step(),
        at: tx.now(),
        body_digest: [0; 32],
        prev: lanes.own_tip(),
        seen: lanes.seen(),
    };
    let signed = SignedStatement::sign(signer, draft, body);
    let read = signed.read().map_err(|cause| Error::new(Code::Internal).because(cause))?;
    lanes.push_own(read.digest.into());
    statement::insert(tx, &read.statement, &signed).await?;
    tx.audit(step_facts(&read.statement, subject))?;
    Ok(signed)
}

fn step_facts(statement: &Statement, subject: Option<SubjectId>) -> AuditFacts {
    let facts = AuditFacts::ok()
        .event(statement.step.event())
        .resource("transfer")
        .transfer(statement.transfer)
        .statement(statement.reference());
    match subject {
        Some(subject) => facts.subject(subject),
        None => facts.nobody(),
    }
}

fn not_found() -> Error {
    Error::new(Code::NotFound).at("transfer")
}
