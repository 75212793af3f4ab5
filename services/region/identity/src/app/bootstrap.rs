//! The first accounts of a region.

use std::sync::Arc;

use domicile_store::queries::identity::{self, AccountState, NewAccount};
use domicile_store::{AuditFacts, Scope, Tx};
use domicile_types::{AccountId, Actor, AuditScope, Code, Error, RequestId, Result, Role};

use super::text::{self, Email};
use super::{Identity, Invited};

/// Somebody to invite.
pub struct Person {
    /// The e-mail address.
    pub email: String,
    /// The name.
    pub name: String,
}

/// One of the first accounts.
pub struct Bootstrapped {
    /// The account.
    pub account: AccountId,
    /// The invitation code, shown once; `None` when the account has its password already.
    pub invitation: Option<String>,
}

/// One of the first accounts, ready to be inserted.
#[derive(Clone)]
struct First {
    row: NewAccount,
    place: &'static str,
}

impl Identity {
    /// Creates the first operator and the first compliance account, invited. Run again for the same
    /// people it gives whoever has no password yet a fresh invitation and changes nothing else.
    ///
    /// # Errors
    /// [`Code::Conflict`] when others hold these roles, [`Code::AccountExists`] when somebody else has the
    /// address, [`Code::InvalidRequest`].
    pub async fn bootstrap(&self, operator: Person, compliance: Person) -> Result<[Bootstrapped; 2]> {
        let (operator, operator_code) = self.first(Role::Operator, &operator, "operator").await?;
        let (compliance, compliance_code) = self.first(Role::Compliance, &compliance, "compliance").await?;
        let request = RequestId::generate(&self.0.ctx);
        let scope: Arc<AuditScope> = AuditScope::new("identity.bootstrap", Actor::system(), request);
        let done = self.0.store.write_serializable("identity.bootstrap", Scope::System, &scope, move |tx| {
            let (operator, compliance) = (operator.clone(), compliance.clone());
            Box::pin(async move {
                let first = place(tx, &operator).await?;
                let second = place(tx, &compliance).await?;
                if first.1 || second.1 {
                    tx.audit(AuditFacts::ok())?;
                }
                Ok([first, second])
            })
        });
        let [first, second] = done.await?;
        Ok([bootstrapped(first, operator_code), bootstrapped(second, compliance_code)])
    }

    async fn first(&self, role: Role, person: &Person, place: &'static str) -> Result<(First, Invited)> {
        let (email, name) = (Email::new(&person.email, place)?, text::name(&person.name, place)?);
        let (row, invited) = self.invite_staff(role, None, &email, &name).await?;
        Ok((First { row, place }, invited))
    }
}

/// The account, and whether the code is its invitation now.
async fn place(tx: &Tx, first: &First) -> Result<(AccountId, bool)> {
    let First { row, place } = first;
    if let Some(known) = identity::account_by_email(tx, row.email_index).await? {
        if known.role != row.role || known.state == AccountState::Closed {
            return Err(Error::new(Code::AccountExists).at(*place));
        }
        let invited =
            identity::account_invite(tx, known.account_id, row.invite_hash, row.invite_expires).await?;
        return Ok((known.account_id, invited));
    }
    if identity::account_role_held(tx, row.role).await? {
        return Err(Error::new(Code::Conflict).at(*place));
    }
    if !identity::account_insert(tx, row).await? {
        return Err(Error::new(Code::AccountExists).at(*place));
    }
    Ok((row.account_id, true))
}

fn bootstrapped((account, invited): (AccountId, bool), code: Invited) -> Bootstrapped {
    Bootstrapped { account, invitation: invited.then_some(code.code) }
}
