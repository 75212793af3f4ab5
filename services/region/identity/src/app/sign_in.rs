//! Opening and closing sessions.

use std::sync::Arc;
use std::time::Duration;

use domicile_crypto::SubjectSecret;
use domicile_store::queries::identity::{self, Account, AccountState};
use domicile_store::queries::session;
use domicile_store::{AuditFacts, Scope};
use domicile_types::{Actor, AuditScope, Code, Error, RegionId, Result, Timestamp};
use tokio::time::Instant;

use super::password::Password;
use super::text::Email;
use super::{Identity, actor, known, own, secret};

/// A refusal takes at least this long, whatever it was refused for.
const REFUSAL: Duration = Duration::from_millis(250);

/// An open session.
pub(crate) struct SignedIn {
    /// The token, shown once.
    pub(crate) token: String,
    pub(crate) actor: Actor,
    pub(crate) ends_at: Timestamp,
}

/// What an address leads to.
struct Found {
    account: Option<Account>,
    forwarded: Option<RegionId>,
}

impl Identity {
    /// Opens a session. Refusals tell nothing of whether the address is known, neither by their text
    /// nor by their time.
    ///
    /// # Errors
    /// [`Code::SignInFailed`]; [`Code::Overloaded`] after several failures in a row, with the time to wait;
    /// [`Code::RecordMoved`] for a person who moved away and asked that their address lead on.
    pub(crate) async fn sign_in(
        &self,
        scope: &Arc<AuditScope>,
        email: &str,
        password: String,
    ) -> Result<SignedIn> {
        let started = Instant::now();
        let email = Email::new(email, "email")?;
        let password = Password::new(password, "password")?;
        let index = self.0.fields.index(&email).await?;
        self.0.throttle.admit(index).await?;
        let found = self.find_address(index).await?;
        if let Some(subject) = found.account.as_ref().and_then(|account| account.subject_id) {
            scope.concerns(subject);
        }
        match self.prove(&found, password).await {
            Ok((account, phc)) => {
                let opened = self.open_session(scope, account, phc).await?;
                self.0.throttle.forgive(index).await?;
                Ok(opened)
            }
            Err(refused) => {
                self.level(scope, started).await;
                Err(refused)
            }
        }
    }

    /// Ends the caller's session.
    ///
    /// # Errors
    /// [`Code::Unauthenticated`] without one.
    pub(crate) async fn sign_out(&self, scope: &Arc<AuditScope>) -> Result<()> {
        let token = scope.actor.session.ok_or_else(|| Error::new(Code::Unauthenticated))?;
        let ended = self.0.store.write("session.end", caller(&scope.actor)?, scope, move |tx| {
            Box::pin(async move {
                session::session_end(tx, token).await?;
                tx.audit(AuditFacts::ok())
            })
        });
        ended.await
    }

    async fn find_address(&self, index: [u8; 32]) -> Result<Found> {
        let read = self.0.store.read("account.by_email", Scope::Lookup(index), move |tx| {
            Box::pin(async move {
                Ok(Found {
                    account: identity::account_by_email(tx, index).await?,
                    forwarded: identity::account_forwarded(tx, index).await?,
                })
            })
        });
        read.await
    }

    /// The account behind a right password. The work is the same when there is none.
    async fn prove(&self, found: &Found, password: Password) -> Result<(Account, String)> {
        let active = found.account.as_ref().filter(|account| account.state == AccountState::Active);
        let phc = active.and_then(|account| account.password_phc.clone());
        let right = self.0.passwords.verify(password, phc.clone()).await?;
        match (active, phc, &found.forwarded) {
            (Some(account), Some(phc), _) if right => Ok((account.clone(), phc)),
            (None, _, Some(region)) => Err(Error::new(Code::RecordMoved).moved_to(region.clone(), 0)),
            _ => Err(Error::new(Code::SignInFailed)),
        }
    }

    async fn open_session(
        &self,
        request: &Arc<AuditScope>,
        account: Account,
        phc: String,
    ) -> Result<SignedIn> {
        let (token, hash) = secret::fresh(&self.0.ctx);
        let ends_at = self.0.ctx.now().plus(self.0.settings.absolute);
        let actor = actor(&account);
        let scope = known(request, actor.clone());
        let (id, subject) = (account.account_id, account.subject_id);
        let opened = self.0.store.write("session.open", own(&account), &scope, move |tx| {
            let phc = phc.clone();
            Box::pin(async move {
                // The password may have changed since it was verified.
                if !identity::account_lock(tx, id, &phc).await? {
                    return Err(Error::new(Code::SignInFailed));
                }
                session::session_open(tx, hash, id, subject, ends_at).await?;
                tx.audit(AuditFacts::ok())
            })
        });
        opened.await?;
        request.mark_recorded();
        Ok(SignedIn { token, actor, ends_at })
    }

    /// Lets a refusal take as long as any other. The record's pseudonym, which the audit entry of a
    /// known client needs and an unknown one does not, is fetched within that time.
    async fn level(&self, scope: &AuditScope, started: Instant) {
        if let Some(subject) = scope.subject()
            && let Err(error) = self.0.fields.keyring.subject_secret(subject, SubjectSecret::Pseudonym).await
        {
            tracing::warn!(?error, "a pseudonym's key is not at hand");
        }
        tokio::time::sleep_until(started + REFUSAL).await;
    }
}

/// The scope in which the caller's own account and sessions are changed.
pub(super) fn caller(actor: &Actor) -> Result<Scope> {
    let account = actor.account()?;
    Ok(actor.subject.map_or(Scope::Account(account), Scope::Subject))
}
