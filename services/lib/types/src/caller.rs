//! Who asks, and what the request's audit entry will say.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use crate::Code;
use crate::error::{Error, Result};
use crate::ids::{AccountId, ItemId, PracticeId, RequestId, SubjectId, TransferId};
use crate::region::RegionId;
use crate::time::Timestamp;

/// A role. Operators never read clinical data (P12).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// Not signed in.
    Anonymous,
    /// A client: their own record.
    Client,
    /// A practitioner: their caseload.
    Practitioner,
    /// A practice's administrator: accounts and calendar, no notes outside their own caseload.
    PracticeAdmin,
    /// Runs the region: transfers, health, practices; no clinical data.
    Operator,
    /// Reads the audit log.
    Compliance,
    /// Another region, by its certificate.
    Region,
    /// The coordinator, by its certificate.
    Coordinator,
    /// The region's own background work.
    System,
}

impl Role {
    /// Every role.
    pub const ALL: &[Self] = &[
        Self::Anonymous,
        Self::Client,
        Self::Practitioner,
        Self::PracticeAdmin,
        Self::Operator,
        Self::Compliance,
        Self::Region,
        Self::Coordinator,
        Self::System,
    ];

    /// The role's name in tables, proto options and audit entries.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Anonymous => "anonymous",
            Self::Client => "client",
            Self::Practitioner => "practitioner",
            Self::PracticeAdmin => "practice_admin",
            Self::Operator => "operator",
            Self::Compliance => "compliance",
            Self::Region => "region",
            Self::Coordinator => "coordinator",
            Self::System => "system",
        }
    }

    /// Finds a role by its name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|role| role.as_str() == name)
    }
}

/// The caller of one request, as the `rpc` layer established it; never taken from what the caller says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor {
    /// The role.
    pub role: Role,
    /// The signed-in account.
    pub account: Option<AccountId>,
    /// The practice the account belongs to.
    pub practice: Option<PracticeId>,
    /// The client's own record, for a client.
    pub subject: Option<SubjectId>,
    /// The peer region, for [`Role::Region`].
    pub region: Option<RegionId>,
    /// When the person last proved their credential.
    pub authenticated_at: Option<Timestamp>,
    /// SHA-256 of the session token, for sign-out and the tombstone's list of entitled sessions.
    pub session: Option<[u8; 32]>,
}

impl Actor {
    /// Nobody in particular.
    #[must_use]
    pub const fn anonymous() -> Self {
        Self::of(Role::Anonymous)
    }

    /// The region's own background work.
    #[must_use]
    pub const fn system() -> Self {
        Self::of(Role::System)
    }

    /// An actor with nothing but a role.
    #[must_use]
    pub const fn of(role: Role) -> Self {
        Self {
            role,
            account: None,
            practice: None,
            subject: None,
            region: None,
            authenticated_at: None,
            session: None,
        }
    }

    /// The account, or [`Code::Unauthenticated`].
    ///
    /// # Errors
    /// When nobody is signed in.
    pub fn account(&self) -> Result<AccountId> {
        self.account.ok_or_else(|| Error::new(Code::Unauthenticated))
    }

    /// The client's own record, or [`Code::Forbidden`].
    ///
    /// # Errors
    /// When the caller is not a client.
    pub fn subject(&self) -> Result<SubjectId> {
        self.subject.ok_or_else(|| Error::new(Code::Forbidden).at("client"))
    }
}

/// What one request's audit entry will say. The `rpc` layer makes it, `app.rs` fills in whom and
/// what it concerns, the store marks it recorded when the entry is in the change's transaction, and
/// the layer records what is still unrecorded before the answer leaves (P37).
#[derive(Debug)]
pub struct AuditScope {
    /// The event's name from the RPC's declaration, such as `record.item.read`.
    pub event: &'static str,
    /// Who asks.
    pub actor: Actor,
    /// The request's id.
    pub request: RequestId,
    subject: OnceLock<SubjectId>,
    item: OnceLock<ItemId>,
    transfer: OnceLock<TransferId>,
    refused: OnceLock<Code>,
    recorded: AtomicBool,
}

impl AuditScope {
    /// A scope for one request.
    #[must_use]
    pub fn new(event: &'static str, actor: Actor, request: RequestId) -> Arc<Self> {
        Arc::new(Self {
            event,
            actor,
            request,
            subject: OnceLock::new(),
            item: OnceLock::new(),
            transfer: OnceLock::new(),
            refused: OnceLock::new(),
            recorded: AtomicBool::new(false),
        })
    }

    /// Notes whose record the request concerns; the first call counts.
    pub fn concerns(&self, subject: SubjectId) {
        self.subject.get_or_init(|| subject);
    }

    /// Notes which item the request concerns; the first call counts.
    pub fn touches(&self, item: ItemId) {
        self.item.get_or_init(|| item);
    }

    /// Notes which transfer the request concerns; the first call counts.
    pub fn moves(&self, transfer: TransferId) {
        self.transfer.get_or_init(|| transfer);
    }

    /// Notes that an answer which is no error says no all the same, as one with blockers does; the first call
    /// counts.
    pub fn refuses(&self, code: Code) {
        self.refused.get_or_init(|| code);
    }

    /// Why the answer says no, if it does.
    #[must_use]
    pub fn refused(&self) -> Option<Code> {
        self.refused.get().copied()
    }

    /// Whose record, if known.
    #[must_use]
    pub fn subject(&self) -> Option<SubjectId> {
        self.subject.get().copied()
    }

    /// Which item, if any.
    #[must_use]
    pub fn item(&self) -> Option<ItemId> {
        self.item.get().copied()
    }

    /// Which transfer, if any.
    #[must_use]
    pub fn transfer(&self) -> Option<TransferId> {
        self.transfer.get().copied()
    }

    /// The entry is durable: called by the store after the commit that holds it.
    pub fn mark_recorded(&self) {
        self.recorded.store(true, Ordering::Release);
    }

    /// Whether the entry is durable.
    #[must_use]
    pub fn is_recorded(&self) -> bool {
        self.recorded.load(Ordering::Acquire)
    }
}
