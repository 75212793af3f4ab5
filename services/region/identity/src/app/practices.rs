//! Practices, their agreement and their practitioners.

use std::sync::Arc;

use domicile_store::queries::identity::{self, DataRole, NewAccount, Practice};
use domicile_store::{AuditFacts, Scope};
use domicile_types::{AccountId, AuditScope, Code, Error, Phi, PracticeId, Result, Role, Timestamp};

use super::fields::Owner;
use super::text::{self, Email};
use super::{Identity, only, practice_of, secret};

/// An invited account, and its code.
pub(crate) struct Invited {
    pub(crate) account: AccountId,
    /// Shown once.
    pub(crate) code: String,
}

/// A practice with its first administrator.
pub(crate) struct NewPractice {
    pub(crate) practice: PracticeId,
    pub(crate) admin: Invited,
}

impl Identity {
    /// Creates a practice at home in this region, with its first administrator, who is a practitioner too.
    ///
    /// # Errors
    /// [`Code::InvalidRequest`], [`Code::AccountExists`].
    pub(crate) async fn create_practice(
        &self,
        scope: &Arc<AuditScope>,
        name: &str,
        data_role: &str,
        admin: (&str, &str),
    ) -> Result<NewPractice> {
        only(&scope.actor, &[Role::Operator])?;
        let name = text::name(name, "name")?;
        let data_role =
            DataRole::parse(data_role).ok_or_else(|| Error::new(Code::InvalidRequest).at("data_role"))?;
        let (email, person) = (Email::new(admin.0, "admin_email")?, text::name(admin.1, "admin_name")?);
        let practice = PracticeId::generate(&self.0.ctx);
        let sealed = self.0.fields.seal_practice(practice, &name).await?;
        let (row, admin) = self.invite_staff(Role::PracticeAdmin, Some(practice), &email, &person).await?;
        let home = self.0.region.clone();
        let created = self.0.store.write("practice.create", Scope::System, scope, move |tx| {
            let (row, sealed, home) = (row.clone(), sealed.clone(), home.clone());
            Box::pin(async move {
                let fresh = identity::practice_insert(tx, practice, &sealed, &home, data_role).await?;
                if !fresh || !identity::account_insert(tx, &row).await? {
                    return Err(Error::new(Code::AccountExists).at("admin_email"));
                }
                tx.audit(AuditFacts::ok())
            })
        });
        created.await?;
        Ok(NewPractice { practice, admin })
    }

    /// Signs this region's agreement for the caller's practice (P46). Signing again keeps the first time.
    ///
    /// # Errors
    /// [`Code::InvalidRequest`] for another version than the region's present one.
    pub(crate) async fn sign_agreement(&self, scope: &Arc<AuditScope>, version: &str) -> Result<Timestamp> {
        only(&scope.actor, &[Role::PracticeAdmin])?;
        let (practice, by) = (practice_of(&scope.actor)?, scope.actor.account()?);
        let present = self.0.agreement.clone();
        if version.trim() != present {
            return Err(Error::new(Code::InvalidRequest).at("version"));
        }
        let signed = self.0.store.write("practice.agreement_sign", Scope::System, scope, move |tx| {
            let version = present.clone();
            Box::pin(async move {
                let at = identity::practice_agreement_sign(tx, practice, &version, by).await?;
                tx.audit(AuditFacts::ok())?;
                at.ok_or_else(|| Error::new(Code::NotFound).at("practice"))
            })
        });
        signed.await
    }

    /// Creates a practitioner of the caller's practice.
    ///
    /// # Errors
    /// [`Code::InvalidRequest`], [`Code::AccountExists`].
    pub(crate) async fn create_practitioner(
        &self,
        scope: &Arc<AuditScope>,
        email: &str,
        name: &str,
    ) -> Result<Invited> {
        only(&scope.actor, &[Role::PracticeAdmin])?;
        let practice = practice_of(&scope.actor)?;
        let (email, name) = (Email::new(email, "email")?, text::name(name, "name")?);
        let (row, invited) = self.invite_staff(Role::Practitioner, Some(practice), &email, &name).await?;
        let created = self.0.store.write("practitioner.create", Scope::System, scope, move |tx| {
            let row = row.clone();
            Box::pin(async move {
                if !identity::account_insert(tx, &row).await? {
                    return Err(Error::new(Code::AccountExists).at("email"));
                }
                tx.audit(AuditFacts::ok())
            })
        });
        created.await?;
        Ok(invited)
    }

    /// The row of a new member of staff, and the invitation.
    pub(super) async fn invite_staff(
        &self,
        role: Role,
        practice: Option<PracticeId>,
        email: &Email,
        name: &Phi<String>,
    ) -> Result<(NewAccount, Invited)> {
        let account = AccountId::generate(&self.0.ctx);
        self.invite(Owner { account, subject: None }, role, practice, email, name).await
    }

    /// The row of a new account, and the invitation.
    pub(super) async fn invite(
        &self,
        owner: Owner,
        role: Role,
        practice: Option<PracticeId>,
        email: &Email,
        name: &Phi<String>,
    ) -> Result<(NewAccount, Invited)> {
        let sealed = self.0.fields.seal_person(owner, email, name).await?;
        let (code, invite_hash) = secret::fresh(&self.0.ctx);
        let row = NewAccount {
            account_id: owner.account,
            role,
            practice_id: practice,
            subject_id: owner.subject,
            email_index: sealed.index,
            email_sealed: sealed.email,
            name_sealed: sealed.name,
            invite_hash,
            invite_expires: self.0.ctx.now().plus(self.0.settings.invitation),
        };
        Ok((row, Invited { account: owner.account, code }))
    }

    /// A practice that is known here.
    pub(super) async fn practice(&self, practice: PracticeId) -> Result<Practice> {
        let read = self
            .0
            .store
            .read("practice.get", Scope::System, move |tx| Box::pin(identity::practice_get(tx, practice)));
        read.await?.ok_or_else(|| Error::new(Code::NotFound).at("practice_id"))
    }
}
