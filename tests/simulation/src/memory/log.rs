//! The region's audit log: entries in order, and proofs under a signed head.

use std::collections::BTreeMap;
use std::sync::Arc;

use domicile_evidence::checkpoint::Checkpoint;
use domicile_evidence::closing::ClosingProof;
use domicile_evidence::entry::{Entry, Outcome, StatementRef};
use domicile_evidence::event::{EventType, Purpose};
use domicile_evidence::merkle::{Coordinate, Frontier, Hash, ProofPlan, leaf_hash};
use domicile_evidence::note::NoteSigner;
use domicile_types::{AuditScope, Code, Error, EventId, Result, Role, SubjectId, TransferId};
use uuid::Uuid;

use super::{Db, MemoryTransfers, Parts, Tx};

/// The one writer of a log in memory.
const WRITER: Uuid = Uuid::from_u128(1);

impl Tx<'_> {
    /// Records a step of a transfer with the statement it stands for.
    pub(super) fn log_step(
        &mut self,
        scope: &AuditScope,
        event: EventType,
        statement: StatementRef,
        subject: Option<SubjectId>,
    ) -> Result<()> {
        let transfer = statement.transfer;
        self.log(scope, Some(event), Some("transfer"), subject, Some(transfer), Some(statement))
    }

    /// Records an event; `None` for the request's own.
    pub(super) fn log(
        &mut self,
        scope: &AuditScope,
        event: Option<EventType>,
        resource: Option<&str>,
        subject: Option<SubjectId>,
        transfer: Option<TransferId>,
        statement: Option<StatementRef>,
    ) -> Result<()> {
        let event = event.or_else(|| EventType::parse(scope.event));
        let event =
            event.ok_or_else(|| Error::new(Code::Internal).at(format!("audit event {}", scope.event)))?;
        let ctx = &self.parts.ctx;
        let entry = Entry {
            origin: self.parts.log.name().to_owned(),
            event,
            event_id: EventId::generate(ctx),
            nonce: ctx.random(),
            written_at: self.now,
            sequenced_at: Some(self.now),
            writer: WRITER,
            writer_epoch: 1,
            writer_sequence: self.db.log.len() as u64 + 1,
            actor: scope.actor.account.map(|account| *account.as_bytes()),
            role: scope.actor.role,
            purpose: usual_purpose(scope.actor.role),
            subject: subject.map(|subject| *subject.as_bytes()),
            resource: resource.map(str::to_owned),
            item: scope.item(),
            transfer: transfer.or_else(|| scope.transfer()),
            outcome: Outcome::Ok,
            policy_version: 1,
            request: Some(scope.request),
            detail_commit: None,
            statement,
        };
        self.db.log.push(Arc::new(entry));
        scope.mark_recorded();
        Ok(())
    }
}

const fn usual_purpose(role: Role) -> Purpose {
    match role {
        Role::Anonymous => Purpose::Security,
        Role::Client => Purpose::ClientRequest,
        Role::Practitioner => Purpose::Treatment,
        Role::PracticeAdmin | Role::Operator | Role::System => Purpose::Operations,
        Role::Compliance => Purpose::Oversight,
        Role::Region | Role::Coordinator => Purpose::Transfer,
    }
}

impl MemoryTransfers {
    /// A checkpoint over the whole log, and the proof that it covers the entry of a statement.
    ///
    /// # Errors
    /// [`Code::AuditUnavailable`] when no entry stands for the statement.
    pub async fn closing_proof(&self, transfer: TransferId, statement: [u8; 32]) -> Result<ClosingProof> {
        self.look("audit_prove", move |tx| prove(tx.db, tx.parts, transfer, statement)).await
    }
}

fn prove(db: &Db, parts: &Parts, transfer: TransferId, statement: [u8; 32]) -> Result<ClosingProof> {
    let names = |entry: &Arc<Entry>| {
        entry.statement.as_ref().is_some_and(|of| of.transfer == transfer && of.digest == statement)
    };
    let index = db.log.iter().position(names).ok_or_else(|| Error::new(Code::AuditUnavailable))?;
    let entry = db.log.get(index).ok_or_else(|| Error::new(Code::AuditUnavailable))?.encode();
    let (frontier, nodes) = tree(db)?;
    let (index, size) = (index as u64, db.log.len() as u64);
    let plan = ProofPlan::inclusion(index, size).map_err(internal)?;
    let hashes: Option<Vec<Hash>> = plan.coordinates().iter().map(|at| nodes.get(at).copied()).collect();
    let hashes = hashes.ok_or_else(|| Error::new(Code::AuditUnavailable).at("nodes"))?;
    let proof = plan.combine(&hashes).map_err(internal)?;
    let head = Checkpoint { origin: parts.log.name().to_owned(), size, root: frontier.root() };
    let signer = NoteSigner::new(&parts.log, parts.checkpoints.as_ref()).map_err(internal)?;
    let checkpoint = head.sign(&signer).map_err(internal)?.to_string();
    Ok(ClosingProof { checkpoint, index, entry, proof })
}

fn tree(db: &Db) -> Result<(Frontier, BTreeMap<Coordinate, Hash>)> {
    let (mut frontier, mut nodes) = (Frontier::new(), BTreeMap::new());
    for entry in &db.log {
        for node in frontier.append(leaf_hash(&entry.encode())).map_err(internal)? {
            nodes.insert(node.at, node.hash);
        }
    }
    Ok((frontier, nodes))
}

fn internal(cause: domicile_evidence::invalid::Invalid) -> Error {
    Error::new(Code::Internal).because(cause)
}
