//! Who has access: care relationships, grants, legal holds. These are control rows: they stay writable
//! while the record is frozen.

use std::sync::Arc;

use domicile_proto::records::v1 as pb;
use domicile_store::queries::identity::{self, AccountState};
use domicile_store::queries::scoped::Reader;
use domicile_store::queries::{access, item, residency};
use domicile_store::{AuditFacts, Scope, Tx};
use domicile_transfer_protocol::rows::{CareRow, GrantRow};
use domicile_types::{
    AccountId, AuditScope, Code, Error, GrantId, ItemId, PracticeId, Result, Role, SubjectId, Timestamp,
};
use futures::future::BoxFuture;

use super::draft::subject;
use super::{Records, Side, Who};
use crate::wire::{id, invalid, maybe_id, maybe_time};

/// A year: no grant lasts longer.
const LONGEST_GRANT: std::time::Duration = std::time::Duration::from_secs(366 * 86_400);
/// Letters of a legal hold's reference at most.
const REFERENCE: usize = 64;

/// A practitioner as the region knows them.
#[derive(Clone, Copy)]
struct Practitioner {
    practice: PracticeId,
    /// Whether the practice has signed this region's agreement (P46).
    agreed: bool,
}

impl Records {
    /// Grants a practitioner access beyond the caseload, with scope and expiry (P10). The client grants
    /// the record or an item; a practice's administrator an item of the practice, to the practice's own.
    ///
    /// # Errors
    /// [`Code::NotFound`], [`Code::Forbidden`], [`Code::RecordMoved`].
    pub async fn grant_access(
        &self,
        audit: &Arc<AuditScope>,
        request: pb::GrantAccessRequest,
    ) -> Result<pb::GrantAccessResponse> {
        let subject = subject(&request.subject_id)?;
        let practitioner: AccountId = id("practitioner_id", &request.practitioner_id)?;
        let item: Option<ItemId> = maybe_id("item_id", &request.item_id)?;
        let expires_at = self.expiry(request.expires_at_micros)?;
        let manager = self.manager(audit, subject).await?;
        let known = self.practitioner(practitioner).await?;
        if let Side::Carer(practice) = manager.side {
            let own = known.practice == practice && item.is_some();
            own.then_some(()).ok_or_else(|| Error::new(Code::Forbidden).at("client"))?;
        }
        let grant = GrantRow {
            grant: GrantId::generate(self.ctx()),
            practitioner,
            item,
            given_by: manager.account,
            given_at: self.now(),
            expires_at,
            revoked_at: None,
        };
        let answer = pb::GrantAccessResponse { grant_id: grant.grant.to_string() };
        self.control(audit, "grant.give", subject, move |tx| {
            let grant = grant.clone();
            Box::pin(async move {
                if let Some(item) = grant.item {
                    grantable(tx, &manager, item).await?;
                }
                access::grant_insert_many(tx, subject, &[grant]).await
            })
        })
        .await?;
        Ok(answer)
    }

    /// Ends a grant: the client any, an administrator one of the practice's items.
    ///
    /// # Errors
    /// As [`Records::grant_access`].
    pub async fn revoke_grant(
        &self,
        audit: &Arc<AuditScope>,
        request: pb::RevokeGrantRequest,
    ) -> Result<pb::RevokeGrantResponse> {
        let subject = subject(&request.subject_id)?;
        let grant: GrantId = id("grant_id", &request.grant_id)?;
        let manager = self.manager(audit, subject).await?;
        let now = self.now();
        self.control(audit, "grant.revoke", subject, move |tx| {
            Box::pin(async move {
                let known = access::grant_get(tx, subject, grant).await?;
                let known = known.ok_or_else(|| Error::new(Code::NotFound))?;
                if let Side::Carer(_) = manager.side {
                    grantable(tx, &manager, known.item.ok_or_else(|| Error::new(Code::NotFound))?).await?;
                }
                access::grant_revoke(tx, subject, grant, now).await
            })
        })
        .await?;
        Ok(pb::RevokeGrantResponse {})
    }

    /// Adds a practitioner to the client's care: the client anyone's, an administrator their practice's.
    ///
    /// # Errors
    /// As [`Records::grant_access`]; [`Code::AgreementMissing`] (P46).
    pub async fn open_care(
        &self,
        audit: &Arc<AuditScope>,
        request: pb::OpenCareRequest,
    ) -> Result<pb::OpenCareResponse> {
        let subject = subject(&request.subject_id)?;
        let practitioner: AccountId = id("practitioner_id", &request.practitioner_id)?;
        let manager = self.manager(audit, subject).await?;
        let known = self.practitioner(practitioner).await?;
        if matches!(manager.side, Side::Carer(practice) if practice != known.practice) {
            return Err(Error::new(Code::Forbidden).at("client"));
        }
        if !known.agreed {
            return Err(Error::new(Code::AgreementMissing));
        }
        let now = self.now();
        self.control(audit, "care.open", subject, move |tx| {
            Box::pin(async move {
                access::care_open(tx, subject, practitioner, known.practice, now).await.map(drop)
            })
        })
        .await?;
        Ok(pb::OpenCareResponse {})
    }

    /// Ends a care relationship: the client any, a practitioner their own, an administrator their practice's.
    ///
    /// # Errors
    /// As [`Records::grant_access`].
    pub async fn close_care(
        &self,
        audit: &Arc<AuditScope>,
        request: pb::CloseCareRequest,
    ) -> Result<pb::CloseCareResponse> {
        let subject = subject(&request.subject_id)?;
        let practitioner: AccountId = id("practitioner_id", &request.practitioner_id)?;
        let manager = self.manager(audit, subject).await?;
        if audit.actor.role == Role::Practitioner && practitioner != manager.account {
            return Err(Error::new(Code::NotFound));
        }
        let practice = match manager.side {
            Side::Client => None,
            Side::Carer(practice) => Some(practice),
        };
        let now = self.now();
        self.control(audit, "care.close", subject, move |tx| {
            Box::pin(async move {
                let closed = access::care_close(tx, subject, practitioner, practice, now).await?;
                if closed { Ok(()) } else { Err(Error::new(Code::NotFound)) }
            })
        })
        .await?;
        Ok(pb::CloseCareResponse {})
    }

    /// Care relationships and grants: all of them for the client, those of their practice for an
    /// administrator, their own for a practitioner.
    ///
    /// # Errors
    /// As [`Records::get_item`].
    pub async fn list_access(
        &self,
        audit: &Arc<AuditScope>,
        request: pb::ListAccessRequest,
    ) -> Result<pb::ListAccessResponse> {
        let subject = subject(&request.subject_id)?;
        let manager = self.manager(audit, subject).await?;
        let served = self.settings().released_reads;
        let read = self.store().read("access.list", Scope::Subject(subject), move |tx| {
            Box::pin(async move {
                residency::read_check(tx, subject, Reader::Whole, served).await?;
                Ok((access::care_list(tx, subject).await?, access::grant_list(tx, subject).await?))
            })
        });
        let (mut care, mut grants) = self.or_elsewhere(audit, subject, read.await).await?;
        if audit.actor.role == Role::Practitioner {
            care.retain(|care| care.practitioner == manager.account);
            grants.retain(|grant| grant.practitioner == manager.account);
        } else if let Side::Carer(practice) = manager.side {
            care.retain(|care| care.practice == practice);
            let ours = |grant: &GrantRow| care.iter().any(|care| care.practitioner == grant.practitioner);
            grants.retain(|grant| grant.given_by == manager.account || ours(grant));
        }
        Ok(pb::ListAccessResponse {
            care: care.iter().map(care_message).collect(),
            grants: grants.iter().map(grant_message).collect(),
        })
    }

    /// Places or releases a legal hold; either is done already when it stands as asked.
    ///
    /// # Errors
    /// [`Code::NotFound`], [`Code::RecordMoved`].
    pub async fn set_legal_hold(
        &self,
        audit: &Arc<AuditScope>,
        request: pb::SetLegalHoldRequest,
    ) -> Result<pb::SetLegalHoldResponse> {
        let subject = subject(&request.subject_id)?;
        let by = audit.actor.account()?;
        let (reference, held) = (reference(request.reference)?, request.held);
        self.known(subject).await?;
        let now = self.now();
        self.control(audit, "hold.set", subject, move |tx| {
            let reference = reference.clone();
            Box::pin(async move {
                if held {
                    access::hold_place(tx, subject, &reference, by, now).await.map(drop)
                } else {
                    let released = access::hold_release(tx, subject, &reference, now).await?;
                    if released { Ok(()) } else { Err(Error::new(Code::NotFound).at("reference")) }
                }
            })
        })
        .await?;
        Ok(pb::SetLegalHoldResponse {})
    }

    /// Who may manage access: the client; someone of a practice that cares for the client now.
    async fn manager(&self, audit: &Arc<AuditScope>, subject: SubjectId) -> Result<Who> {
        let who = Who::of(&audit.actor, subject)?;
        let read = self.store().read("access.manager", Scope::Subject(subject), move |tx| {
            Box::pin(async move {
                let practice = match who.side {
                    Side::Client => return Ok(true),
                    Side::Carer(practice) => practice,
                };
                access::care_of_practice(tx, subject, practice).await
            })
        });
        if read.await? {
            return Ok(who);
        }
        Err(self.elsewhere(&audit.actor, subject, Error::new(Code::NotFound)).await)
    }

    /// That there is such a record here at all: an id made up leaves no trace.
    async fn known(&self, subject: SubjectId) -> Result<()> {
        let read = self
            .store()
            .read("residency.get", Scope::Subject(subject), move |tx| Box::pin(residency::get(tx, subject)));
        read.await?.map(drop).ok_or_else(|| Error::new(Code::NotFound))
    }

    /// The practitioner with this account. Accounts of clients are out of reach here.
    async fn practitioner(&self, account: AccountId) -> Result<Practitioner> {
        let read = self.store().read("practitioner.get", Scope::System, move |tx| {
            Box::pin(async move {
                let found = identity::account_get(tx, account).await?.filter(|account| {
                    account.state != AccountState::Closed
                        && matches!(account.role, Role::Practitioner | Role::PracticeAdmin)
                });
                let Some(practice) = found.and_then(|account| account.practice_id) else { return Ok(None) };
                let known = identity::practice_get(tx, practice).await?;
                let agreed = known.is_some_and(|practice| practice.agreement_version.is_some());
                Ok(Some(Practitioner { practice, agreed }))
            })
        });
        read.await?.ok_or_else(|| Error::new(Code::NotFound).at("practitioner_id"))
    }

    /// Changes control rows, with the audit entry.
    async fn control<F>(
        &self,
        audit: &Arc<AuditScope>,
        name: &'static str,
        subject: SubjectId,
        change: F,
    ) -> Result<()>
    where
        F: for<'c> Fn(&'c Tx) -> BoxFuture<'c, Result<()>> + Send + Sync + 'static,
    {
        let change = Arc::new(change);
        let done = self.store().write(name, Scope::Subject(subject), audit, move |tx| {
            let change = Arc::clone(&change);
            Box::pin(async move {
                residency::control_touch(tx, subject).await?;
                change(tx).await?;
                tx.audit(AuditFacts::ok().subject(subject))
            })
        });
        let done = done.await;
        self.or_elsewhere(audit, subject, done).await
    }

    fn expiry(&self, micros: i64) -> Result<Timestamp> {
        let now = self.now();
        let at = maybe_time("expires_at_micros", micros)?;
        at.filter(|at| *at > now && *at <= now.plus(LONGEST_GRANT))
            .ok_or_else(|| invalid("expires_at_micros"))
    }
}

/// Whether this item may be granted: one the client sees, for the client; one of the practice's that is not
/// the client's alone, for its administrator.
async fn grantable(tx: &Tx, manager: &Who, item: ItemId) -> Result<()> {
    let reader = match manager.side {
        Side::Client => Reader::Client,
        Side::Carer(_) => Reader::Whole,
    };
    let found = item::head(tx, manager.subject, reader, item).await?;
    let fits = found.is_some_and(|found| match manager.side {
        Side::Client => true,
        Side::Carer(practice) => of_practice(&found.header, practice),
    });
    if fits { Ok(()) } else { Err(Error::new(Code::NotFound)) }
}

fn of_practice(header: &domicile_types::ItemHeader, practice: PracticeId) -> bool {
    use domicile_types::Visibility::{Practitioner, Shared};
    header.practice_id == Some(practice) && matches!(header.visibility, Shared | Practitioner)
}

fn reference(text: String) -> Result<String> {
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'/' | b'.');
    let fits = (1..=REFERENCE).contains(&text.len()) && text.bytes().all(letter);
    if fits { Ok(text) } else { Err(invalid("reference")) }
}

fn care_message(care: &CareRow) -> pb::Care {
    pb::Care {
        practitioner_id: care.practitioner.to_string(),
        practice_id: care.practice.to_string(),
        started_at_micros: care.started_at.micros(),
        ended_at_micros: care.ended_at.map_or(0, Timestamp::micros),
    }
}

fn grant_message(grant: &GrantRow) -> pb::Grant {
    pb::Grant {
        grant_id: grant.grant.to_string(),
        practitioner_id: grant.practitioner.to_string(),
        item_id: grant.item.map(|item| item.to_string()).unwrap_or_default(),
        expires_at_micros: grant.expires_at.micros(),
        revoked_at_micros: grant.revoked_at.map_or(0, Timestamp::micros),
    }
}
