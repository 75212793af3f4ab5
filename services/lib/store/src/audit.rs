//! What goes into the audit log: a change's entry in the change's own transaction, a read's entry
//! durable before the read's bytes leave (P37).

use std::collections::BTreeMap;
use std::collections::btree_map::Entry as Place;
use std::sync::Arc;

use async_trait::async_trait;
use domicile_evidence::entry::{Entry, Outcome, Pseudonym, StatementRef};
use domicile_evidence::event::{EventType, Purpose};
use domicile_types::{
    AccountId, AuditScope, Code, Ctx, Error, EventId, ItemId, Result, Role, SubjectId, TransferId,
};

use crate::lanes::Writer;
use crate::tx::{Tx, lock};
use crate::value::Bound;
use crate::values;

/// Turns people into the pseudonyms of the audit log. Called before a transaction begins, never inside one.
#[async_trait]
pub trait Pseudonyms: Send + Sync {
    /// The pseudonym of a client, under the key that travels with the record and dies with its erasure.
    async fn subject(&self, subject: SubjectId) -> Result<Pseudonym>;
    /// The pseudonym of an account, under the region's key.
    async fn actor(&self, account: AccountId) -> Result<Pseudonym>;
}

/// What one entry says. What is not said here comes from the request's [`AuditScope`]: its event,
/// its record, its item, its transfer.
#[derive(Clone, Debug)]
pub struct AuditFacts {
    event: Option<EventType>,
    purpose: Option<Purpose>,
    outcome: Outcome,
    resource: Option<&'static str>,
    subject: Option<SubjectId>,
    nobody: bool,
    item: Option<ItemId>,
    transfer: Option<TransferId>,
    statement: Option<StatementRef>,
}

impl AuditFacts {
    /// The request was done.
    #[must_use]
    pub const fn ok() -> Self {
        Self::with(Outcome::Ok)
    }

    /// The request ended so.
    #[must_use]
    pub fn outcome(result: Result<(), Code>) -> Self {
        Self::with(Outcome::of(result))
    }

    const fn with(outcome: Outcome) -> Self {
        Self {
            event: None,
            purpose: None,
            outcome,
            resource: None,
            subject: None,
            nobody: false,
            item: None,
            transfer: None,
            statement: None,
        }
    }

    /// Another event than the request's.
    #[must_use]
    pub const fn event(mut self, event: EventType) -> Self {
        self.event = Some(event);
        self
    }

    /// Another purpose than the role's usual one.
    #[must_use]
    pub const fn purpose(mut self, purpose: Purpose) -> Self {
        self.purpose = Some(purpose);
        self
    }

    /// The kind of thing it was about: lower-case letters and underscores, such as `note`.
    #[must_use]
    pub const fn resource(mut self, kind: &'static str) -> Self {
        self.resource = Some(kind);
        self
    }

    /// Whose record, when the request's scope names another or none.
    #[must_use]
    pub const fn subject(mut self, subject: SubjectId) -> Self {
        self.subject = Some(subject);
        self
    }

    /// Names nobody, whatever the request's scope says.
    #[must_use]
    pub const fn nobody(mut self) -> Self {
        self.nobody = true;
        self
    }

    /// Which item.
    #[must_use]
    pub const fn item(mut self, item: ItemId) -> Self {
        self.item = Some(item);
        self
    }

    /// Which transfer.
    #[must_use]
    pub const fn transfer(mut self, transfer: TransferId) -> Self {
        self.transfer = Some(transfer);
        self
    }

    /// The signed statement the entry stands for; names its transfer too.
    #[must_use]
    pub fn statement(mut self, statement: StatementRef) -> Self {
        self.transfer = Some(statement.transfer);
        self.statement = Some(statement);
        self
    }

    pub(crate) fn whose(&self, scope: &AuditScope) -> Option<SubjectId> {
        if self.nobody { None } else { self.subject.or_else(|| scope.subject()) }
    }
}

/// What turns facts into entries.
pub(crate) struct Auditor {
    pub(crate) writer: Arc<Writer>,
    pub(crate) pseudonyms: Arc<dyn Pseudonyms>,
}

impl Auditor {
    /// Asks for the pseudonyms of the actor, of the request's record and of another.
    pub(crate) async fn names(&self, scope: &AuditScope, also: Option<SubjectId>) -> Result<Names> {
        let mut names = Names::default();
        if let Some(account) = scope.actor.account {
            names.actor = Some(self.pseudonyms.actor(account).await?);
        }
        for subject in scope.subject().into_iter().chain(also) {
            names.add(self.pseudonyms.as_ref(), subject).await?;
        }
        Ok(names)
    }
}

/// The pseudonyms one transaction may need.
#[derive(Default)]
pub(crate) struct Names {
    actor: Option<Pseudonym>,
    subjects: BTreeMap<SubjectId, Pseudonym>,
}

impl Names {
    pub(crate) async fn add(&mut self, pseudonyms: &dyn Pseudonyms, subject: SubjectId) -> Result<()> {
        if let Place::Vacant(place) = self.subjects.entry(subject) {
            place.insert(pseudonyms.subject(subject).await?);
        }
        Ok(())
    }
}

/// Why an entry could not be made.
pub(crate) enum Unready {
    /// This record's pseudonym is not known yet; it must be asked for outside the transaction.
    Subject(SubjectId),
    /// Anything else.
    Failed(Error),
}

/// Makes an entry, without its number yet.
pub(crate) fn entry(
    ctx: &Ctx,
    writer: &Writer,
    names: &Names,
    scope: &AuditScope,
    facts: AuditFacts,
) -> Result<Entry, Unready> {
    let subject = match facts.whose(scope) {
        Some(subject) => Some(*names.subjects.get(&subject).ok_or(Unready::Subject(subject))?),
        None => None,
    };
    let event = facts.event.or_else(|| EventType::parse(scope.event)).ok_or_else(|| {
        Unready::Failed(Error::new(Code::Internal).at(format!("audit event {}", scope.event)))
    })?;
    Ok(Entry {
        event,
        actor: names.actor,
        role: scope.actor.role,
        purpose: facts.purpose.unwrap_or_else(|| usual_purpose(scope.actor.role)),
        subject,
        resource: facts.resource.map(str::to_owned),
        item: facts.item.or_else(|| scope.item()),
        transfer: facts.transfer.or_else(|| scope.transfer()),
        outcome: facts.outcome,
        request: Some(scope.request),
        statement: facts.statement,
        ..writer.blank(ctx, EventId::generate(ctx))
    })
}

/// The usual reason of a role to act.
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

/// Makes the entries a transaction asked for.
pub(crate) fn entries(
    tx: &Tx,
    auditor: &Auditor,
    scope: &AuditScope,
    names: &Names,
) -> Result<Vec<Entry>, Unready> {
    let facts = std::mem::take(&mut *lock(&tx.facts));
    facts.into_iter().map(|facts| entry(tx.ctx(), &auditor.writer, names, scope, facts)).collect()
}

/// The columns of the outbox.
pub(crate) const OUTBOX: &[&str] = &[
    "event_id",
    "writer",
    "writer_epoch",
    "writer_sequence",
    "subject_pseudonym",
    "transfer_id",
    "entry",
    "at",
];

/// An entry's row in the outbox.
pub(crate) fn outbox_row(entry: &Entry) -> Vec<Bound> {
    values![
        entry.event_id,
        entry.writer,
        entry.writer_epoch,
        entry.writer_sequence,
        entry.subject,
        entry.transfer,
        entry.encode(),
        entry.written_at,
    ]
}
