//! First passwords, proofs and changes.

use std::sync::Arc;

use domicile_evidence::event::EventType;
use domicile_store::queries::identity::{self, Account, AccountState};
use domicile_store::queries::{residency, session};
use domicile_store::{AuditFacts, Scope, Tx};
use domicile_types::{AccountId, AuditScope, Code, Error, Result, SubjectId, Timestamp};

use super::password::Password;
use super::sign_in::caller;
use super::{Identity, actor, known, own, owner, secret};

impl Identity {
    /// Proves the caller's password again. Answers until when a step may count on it.
    ///
    /// # Errors
    /// [`Code::SignInFailed`]; [`Code::Overloaded`] after several failures in a row.
    pub(crate) async fn reauthenticate(
        &self,
        scope: &Arc<AuditScope>,
        password: String,
    ) -> Result<Timestamp> {
        let password = Password::new(password, "password")?;
        let token = scope.actor.session.ok_or_else(|| Error::new(Code::Unauthenticated))?;
        let (account, phc) = self.prove_caller(scope, password).await?;
        let id = account.account_id;
        let proved = self.0.store.write("session.prove", own(&account), scope, move |tx| {
            let phc = phc.clone();
            Box::pin(async move {
                if !identity::account_lock(tx, id, &phc).await? || !session::session_prove(tx, token).await? {
                    return Err(Error::new(Code::Unauthenticated));
                }
                tx.audit(AuditFacts::ok())?;
                Ok(tx.now())
            })
        });
        Ok(proved.await?.plus(self.0.settings.fresh))
    }

    /// Changes the caller's password and ends every other session of the account (P49).
    ///
    /// # Errors
    /// [`Code::SignInFailed`] for a wrong old password, [`Code::PasswordWeak`], [`Code::Conflict`] when another
    /// change came first, [`Code::RecordMoved`] once the record has left.
    pub(crate) async fn change_password(
        &self,
        scope: &Arc<AuditScope>,
        old: String,
        new: String,
    ) -> Result<()> {
        let same = old == new;
        let (old, new) = (Password::new(old, "old_password")?, Password::new(new, "new_password")?);
        let token = scope.actor.session.ok_or_else(|| Error::new(Code::Unauthenticated))?;
        let (account, old_phc) = self.prove_caller(scope, old).await?;
        if same {
            return Err(Error::new(Code::PasswordWeak).at("new_password"));
        }
        self.check(&account, &new, "new_password").await?;
        let new_phc = self.0.passwords.hash(new).await?;
        let (id, subject) = (account.account_id, account.subject_id);
        let changed = self.0.store.write("account.password_change", own(&account), scope, move |tx| {
            let (old, new) = (old_phc.clone(), new_phc.clone());
            Box::pin(change(tx, id, subject, old, new, token))
        });
        changed.await
    }

    /// Sets the first password of an invited account.
    ///
    /// # Errors
    /// [`Code::InvitationInvalid`] for a wrong, used or expired code, [`Code::PasswordWeak`].
    pub(crate) async fn activate(
        &self,
        request: &Arc<AuditScope>,
        code: &str,
        password: String,
    ) -> Result<AccountId> {
        let invalid = || Error::new(Code::InvitationInvalid);
        let password = Password::new(password, "password")?;
        let code = secret::hash(code).ok_or_else(invalid)?;
        let account = self.find_invited(code).await?.ok_or_else(invalid)?;
        if let Some(subject) = account.subject_id {
            request.concerns(subject);
        }
        if account.invite_expires.is_none_or(|expires| expires <= self.0.ctx.now()) {
            return Err(invalid());
        }
        self.check(&account, &password, "password").await?;
        let phc = self.0.passwords.hash(password).await?;
        let scope = known(request, actor(&account));
        let (id, subject) = (account.account_id, account.subject_id);
        let activated = self.0.store.write("account.activate", own(&account), &scope, move |tx| {
            let phc = phc.clone();
            Box::pin(async move {
                control(tx, subject).await?;
                if !identity::account_activate(tx, id, code, &phc).await? {
                    return Err(Error::new(Code::InvitationInvalid));
                }
                session::session_end_others(tx, id, None).await?;
                tx.audit(AuditFacts::ok())
            })
        });
        activated.await?;
        request.mark_recorded();
        Ok(id)
    }

    async fn find_invited(&self, code: [u8; 32]) -> Result<Option<Account>> {
        let read = self.0.store.read("account.by_invitation", Scope::Lookup(code), move |tx| {
            Box::pin(identity::account_by_invitation(tx, code))
        });
        read.await
    }

    /// The caller's account, once the password is proved.
    async fn prove_caller(&self, scope: &AuditScope, password: Password) -> Result<(Account, String)> {
        let id = scope.actor.account()?;
        let key = domicile_crypto::sha256(id.as_bytes());
        self.0.throttle.admit(key).await?;
        let read = self
            .0
            .store
            .read("account.get", caller(&scope.actor)?, move |tx| Box::pin(identity::account_get(tx, id)));
        let account = read.await?.filter(|account| account.state == AccountState::Active);
        let account = account.ok_or_else(|| Error::new(Code::Unauthenticated))?;
        let phc = account.password_phc.clone().ok_or_else(|| Error::new(Code::Unauthenticated))?;
        if !self.0.passwords.verify(password, Some(phc.clone())).await? {
            return Err(Error::new(Code::SignInFailed));
        }
        self.0.throttle.forgive(key).await?;
        Ok((account, phc))
    }

    /// The password rule, which needs the account's own address.
    async fn check(&self, account: &Account, password: &Password, field: &'static str) -> Result<()> {
        let sealed = account.email_sealed.as_deref();
        let sealed = sealed.ok_or_else(|| Error::new(Code::Internal).at("account without an address"))?;
        let email = self.0.fields.open_email(owner(account), sealed).await?;
        password.check(self.0.settings.password_min, email.expose(), field)
    }
}

/// A client's sign-in is a control row of the record: it moves, and stays writable while the record is frozen.
async fn control(tx: &Tx, subject: Option<SubjectId>) -> Result<()> {
    match subject {
        Some(subject) => residency::control_touch(tx, subject).await.map(drop),
        None => Ok(()),
    }
}

async fn change(
    tx: &Tx,
    id: AccountId,
    subject: Option<SubjectId>,
    old: String,
    new: String,
    token: [u8; 32],
) -> Result<()> {
    control(tx, subject).await?;
    if !identity::account_password_change(tx, id, &old, &new).await? {
        return Err(Error::new(Code::Conflict).at("old_password"));
    }
    if !session::session_prove(tx, token).await? {
        return Err(Error::new(Code::Unauthenticated));
    }
    if session::session_end_others(tx, id, Some(token)).await? > 0 {
        tx.audit(AuditFacts::ok().event(EventType::IdentitySessionEnded))?;
    }
    tx.audit(AuditFacts::ok())
}
