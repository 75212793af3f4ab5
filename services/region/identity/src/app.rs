//! What the service decides; one module a task.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use domicile_config::region::SessionSettings;
use domicile_evidence::keys::{PublicKey, Signer};
use domicile_kms::Keyring;
use domicile_store::queries::identity::{self, Account};
use domicile_store::{Scope, Store};
use domicile_types::{Actor, AuditScope, Code, Ctx, Error, PracticeId, RegionId, Result, Role};

mod bootstrap;
mod clients;
mod enrolments;
mod fields;
mod password;
mod passwords;
mod practices;
mod secret;
mod sessions;
mod sign_in;
mod text;
mod throttle;

pub use bootstrap::{Bootstrapped, Person};
pub(crate) use clients::NewClient;
pub(crate) use practices::{Invited, NewPractice};

use fields::{Fields, Owner};
use password::Passwords;
use throttle::Throttle;

/// What the service is made of.
pub struct Parts {
    /// The region's database.
    pub store: Store,
    /// The region's keys.
    pub keyring: Arc<Keyring>,
    /// Signs enrolments with the region's statement key.
    pub signer: Arc<dyn Signer>,
    /// The statement keys pinned for the other regions.
    pub peers: BTreeMap<RegionId, PublicKey>,
    /// The version of this region's agreement with practices (P46), from its policy.
    pub agreement: String,
    /// The regions that this region's policy allows transfers to (P21).
    pub destinations: BTreeSet<RegionId>,
    /// Numbers of sessions and passwords.
    pub sessions: SessionSettings,
}

/// The identity service of one region; cheap to clone. It serves `domicile.identity.v1`, tells the
/// `rpc` layer who a session's token belongs to, and says what practices have instructed.
#[derive(Clone)]
pub struct Identity(Arc<Inner>);

struct Inner {
    region: RegionId,
    ctx: Ctx,
    store: Store,
    fields: Fields,
    signer: Arc<dyn Signer>,
    peers: BTreeMap<RegionId, PublicKey>,
    agreement: String,
    destinations: BTreeSet<RegionId>,
    settings: SessionSettings,
    passwords: Passwords,
    throttle: Throttle,
}

impl Identity {
    /// Puts the service together. Region, clock and randomness are the store's.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let Parts { store, keyring, signer, peers, agreement, destinations, sessions } = parts;
        let (region, ctx) = (store.region().clone(), store.ctx().clone());
        Self(Arc::new(Inner {
            fields: Fields { keyring, region: region.clone(), ctx: ctx.clone() },
            passwords: Passwords::new(ctx.clone()),
            throttle: Throttle::new(store.clone()),
            settings: sessions,
            region,
            ctx,
            store,
            signer,
            peers,
            agreement,
            destinations,
        }))
    }

    /// The region that answers.
    pub(crate) fn region(&self) -> &RegionId {
        &self.0.region
    }

    /// Whether a practice, of this or another region, is known here.
    ///
    /// # Errors
    /// [`Code::StoreUnavailable`].
    pub async fn practice_known(&self, practice: PracticeId) -> Result<bool> {
        let read = self.0.store.read("identity.practice_known", Scope::System, move |tx| {
            Box::pin(async move { Ok(identity::practice_get(tx, practice).await?.is_some()) })
        });
        read.await
    }
}

/// Whose fields they are.
fn owner(account: &Account) -> Owner {
    Owner { account: account.account_id, subject: account.subject_id }
}

/// The scope in which a person's own account and sessions are changed.
fn own(account: &Account) -> Scope {
    account.subject_id.map_or(Scope::Account(account.account_id), Scope::Subject)
}

/// An account as the one who acts.
fn actor(account: &Account) -> Actor {
    Actor {
        account: Some(account.account_id),
        practice: account.practice_id,
        subject: account.subject_id,
        ..Actor::of(account.role)
    }
}

/// The same request, once it is known who makes it. What is recorded under it counts for the request
/// through [`AuditScope::mark_recorded`].
fn known(scope: &AuditScope, actor: Actor) -> Arc<AuditScope> {
    let subject = actor.subject;
    let scope = AuditScope::new(scope.event, actor, scope.request);
    if let Some(subject) = subject {
        scope.concerns(subject);
    }
    scope
}

/// The caller's practice.
fn practice_of(actor: &Actor) -> Result<PracticeId> {
    actor.practice.ok_or_else(|| Error::new(Code::Forbidden).at("practice"))
}

/// Refuses every role but these; the `rpc` layer has done so already.
fn only(actor: &Actor, roles: &[Role]) -> Result<()> {
    if roles.contains(&actor.role) { Ok(()) } else { Err(Error::new(Code::Forbidden)) }
}
