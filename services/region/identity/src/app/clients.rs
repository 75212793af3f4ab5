//! New clients: account, record and care relationship in one transaction.

use std::sync::Arc;

use domicile_store::queries::identity::{self, AccountState, NewAccount};
use domicile_store::queries::residency::RegionChoice;
use domicile_store::queries::{access, residency};
use domicile_store::{AuditFacts, Scope, Tx};
use domicile_types::{AccountId, Actor, AuditScope, Code, Error, PracticeId, Result, Role, SubjectId};

use super::fields::Owner;
use super::text::{self, Email};
use super::{Identity, Invited, only, practice_of};

/// A client, their record and their invitation.
pub(crate) struct NewClient {
    pub(crate) subject: SubjectId,
    pub(crate) invited: Invited,
}

/// The record's first rows besides the account.
#[derive(Clone, Copy)]
struct Opening {
    subject: SubjectId,
    choice: RegionChoice,
    practitioner: AccountId,
    practice: PracticeId,
}

impl Identity {
    /// Creates a client in the caseload of a practitioner of the caller's practice: the caller's own
    /// unless another is named, which only an administrator may.
    ///
    /// # Errors
    /// [`Code::AgreementMissing`] until the practice has signed (P46), [`Code::AccountExists`],
    /// [`Code::NotFound`] for a practitioner of another practice, [`Code::InvalidRequest`].
    pub(crate) async fn create_client(
        &self,
        scope: &Arc<AuditScope>,
        person: (&str, &str),
        practitioner: Option<AccountId>,
        choice: RegionChoice,
    ) -> Result<NewClient> {
        only(&scope.actor, &[Role::Practitioner, Role::PracticeAdmin])?;
        let (email, name) = (Email::new(person.0, "email")?, text::name(person.1, "name")?);
        let practice = practice_of(&scope.actor)?;
        if self.practice(practice).await?.agreement_version.is_none() {
            return Err(Error::new(Code::AgreementMissing));
        }
        let practitioner = self.carer(&scope.actor, practice, practitioner).await?;
        // Refused before any key is made for a record that will not be.
        self.free(&email).await?;
        let opening = Opening { subject: SubjectId::generate(&self.0.ctx), choice, practitioner, practice };
        let owner = Owner { account: AccountId::generate(&self.0.ctx), subject: Some(opening.subject) };
        let (row, invited) = self.invite(owner, Role::Client, None, &email, &name).await?;
        let created =
            self.0.store.write("client.create", Scope::Subject(opening.subject), scope, move |tx| {
                Box::pin(open(tx, opening, row.clone()))
            });
        if let Err(refused) = created.await {
            self.unmake(opening.subject, &refused).await;
            return Err(refused);
        }
        scope.concerns(opening.subject);
        Ok(NewClient { subject: opening.subject, invited })
    }

    /// Destroys the keys of a record that another took the address of. After any other failure nobody
    /// knows whether the record is there, so its keys stay.
    async fn unmake(&self, subject: SubjectId, refused: &Error) {
        if refused.code() != Code::AccountExists {
            return;
        }
        let keyring = &self.0.fields.keyring;
        let destroyed =
            async { keyring.destroy_subject(subject, &keyring.subject_keys(subject).await?).await };
        if let Err(error) = destroyed.await {
            tracing::warn!(?error, "keys of a record that was not created are left");
        }
    }

    async fn carer(
        &self,
        actor: &Actor,
        practice: PracticeId,
        named: Option<AccountId>,
    ) -> Result<AccountId> {
        let own = actor.account()?;
        let Some(named) = named.filter(|named| *named != own) else { return Ok(own) };
        only(actor, &[Role::PracticeAdmin])?;
        let read = self
            .0
            .store
            .read("practitioner.get", Scope::System, move |tx| Box::pin(identity::account_get(tx, named)));
        let found = read.await?.filter(|account| {
            account.practice_id == Some(practice)
                && account.state != AccountState::Closed
                && matches!(account.role, Role::Practitioner | Role::PracticeAdmin)
        });
        found
            .map(|account| account.account_id)
            .ok_or_else(|| Error::new(Code::NotFound).at("practitioner_id"))
    }

    async fn free(&self, email: &Email) -> Result<()> {
        let index = self.0.fields.index(email).await?;
        let read = self.0.store.read("account.by_email", Scope::Lookup(index), move |tx| {
            Box::pin(identity::account_by_email(tx, index))
        });
        match read.await? {
            Some(_) => Err(Error::new(Code::AccountExists).at("email")),
            None => Ok(()),
        }
    }
}

async fn open(tx: &Tx, opening: Opening, row: NewAccount) -> Result<()> {
    let Opening { subject, choice, practitioner, practice } = opening;
    let fresh = residency::open(tx, subject, choice, tx.now()).await?;
    if !fresh || !identity::account_insert(tx, &row).await? {
        return Err(Error::new(Code::AccountExists).at("email"));
    }
    access::care_open(tx, subject, practitioner, practice, tx.now()).await?;
    tx.audit(AuditFacts::ok().subject(subject))
}
