//! Enrolments: a practice's agreement and standing instruction for other regions, signed at home and
//! accepted there ahead of any transfer (transfer.md, "Preflighted").

use std::collections::BTreeSet;
use std::sync::Arc;

use domicile_evidence::enrolment::{Enrolment, Practitioner, SignedEnrolment};
use domicile_store::queries::identity::{
    self, Account, AccountState, DataRole, NewAccount, Practice, StoredEnrolment,
};
use domicile_store::{AuditFacts, Scope, Tx};
use domicile_types::{Actor, AuditScope, Code, Error, PracticeId, RegionId, Result, Role};

use super::fields::Owner;
use super::text::{self, Email};
use super::{Identity, Invited, only, owner, practice_of};

/// A practice and its people, as an accepted enrolment brings them.
#[derive(Clone)]
struct Guests {
    practice: PracticeId,
    home: RegionId,
    name_sealed: Vec<u8>,
    enrolment: StoredEnrolment,
    made_at: domicile_types::Timestamp,
    people: Vec<NewAccount>,
}

impl Identity {
    /// The practice's enrolment, signed by this region. Naming destinations gives the practice's
    /// standing instruction anew; naming none repeats the instruction that stands. The instruction is the
    /// practice's own to give, or the operator's where the operator is the controller (P3).
    ///
    /// # Errors
    /// [`Code::AgreementMissing`], [`Code::NotFound`], [`Code::Forbidden`],
    /// [`Code::TransferNotAllowed`] for a region the policy has no outbound transfer to.
    pub(crate) async fn enrolment(
        &self,
        scope: &Arc<AuditScope>,
        practice: Option<PracticeId>,
        destinations: BTreeSet<RegionId>,
    ) -> Result<SignedEnrolment> {
        only(&scope.actor, &[Role::PracticeAdmin, Role::Operator])?;
        let practice = self.enrolling(&scope.actor, practice).await?;
        let agreement =
            practice.agreement_version.clone().ok_or_else(|| Error::new(Code::AgreementMissing))?;
        let destinations = self.instruction(&scope.actor, &practice, destinations).await?;
        let id = practice.practice_id;
        let enrolment = Enrolment {
            practice: id,
            name: self.0.fields.open_practice(id, &practice.name_sealed).await?.into_inner(),
            home: self.0.region.clone(),
            destinations: destinations.into_iter().collect(),
            practitioners: self.practitioners(id).await?,
            agreement_version: agreement,
            at: self.0.ctx.now(),
        };
        let signed = SignedEnrolment::sign(self.0.signer.as_ref(), &enrolment);
        let (origin, kept) = (self.0.region.clone(), signed.clone());
        let stored = self.0.store.write("enrolment.sign", Scope::System, scope, move |tx| {
            let (origin, kept) = (origin.clone(), kept.clone());
            Box::pin(async move {
                identity::enrolment_put(tx, id, &origin, &kept.content, &kept.signature).await?;
                tx.audit(AuditFacts::ok())
            })
        });
        stored.await?;
        Ok(signed)
    }

    /// Accepts another region's enrolment: the practice is a guest here, and each of its practitioners
    /// without a credential is invited, under the ids they have at home. Those a later enrolment no longer
    /// names are closed.
    ///
    /// # Errors
    /// [`Code::StatementInvalid`] unless the practice's home region signed it, [`Code::TransferNotAllowed`] when it
    /// does not name this region, [`Code::Conflict`] for one older than the accepted one or an id that
    /// belongs to others here, [`Code::AccountExists`] for an address that does.
    pub(crate) async fn accept(
        &self,
        scope: &Arc<AuditScope>,
        signed: SignedEnrolment,
    ) -> Result<(PracticeId, Vec<Invited>)> {
        only(&scope.actor, &[Role::Operator])?;
        let enrolment = self.verify(&signed)?;
        let practice = enrolment.practice;
        let (guests, codes) = self.guests(&enrolment, signed).await?;
        let accepted = self.0.store.write_serializable("enrolment.accept", Scope::System, scope, move |tx| {
            Box::pin(accept(tx, guests.clone()))
        });
        let invited = accepted.await?;
        let codes = codes.into_iter().filter(|code| invited.contains(&code.account)).collect();
        Ok((practice, codes))
    }

    /// Whether a practice, of this or another region, has instructed moves to a destination: its own
    /// region always, others by the enrolment its own region has signed.
    ///
    /// # Errors
    /// [`Code::StoreUnavailable`].
    pub async fn practice_instructs(&self, practice: PracticeId, destination: &RegionId) -> Result<bool> {
        let found = match self.practice(practice).await {
            Err(absent) if absent.code() == Code::NotFound => return Ok(false),
            found => found?,
        };
        let home = &found.home_region;
        Ok(home == destination || self.enrolled(practice, home).await?.contains(destination))
    }

    async fn enrolling(&self, actor: &Actor, named: Option<PracticeId>) -> Result<Practice> {
        let id = match actor.role {
            Role::Operator => named.ok_or_else(|| Error::new(Code::InvalidRequest).at("practice_id"))?,
            _ => practice_of(actor)?,
        };
        // Another's practice looks like none.
        if named.is_some_and(|named| named != id) {
            return Err(Error::new(Code::NotFound).at("practice_id"));
        }
        let practice = self.practice(id).await?;
        if practice.home_region == self.0.region {
            Ok(practice)
        } else {
            Err(Error::new(Code::NotFound).at("practice_id"))
        }
    }

    async fn instruction(
        &self,
        actor: &Actor,
        practice: &Practice,
        asked: BTreeSet<RegionId>,
    ) -> Result<BTreeSet<RegionId>> {
        let standing = self.standing(practice.practice_id).await?;
        if asked.is_empty() {
            return Ok(standing);
        }
        let may = actor.role == Role::PracticeAdmin || practice.data_role == DataRole::Operator;
        if !may && !asked.is_subset(&standing) {
            return Err(Error::new(Code::Forbidden).at("destinations"));
        }
        if !asked.is_subset(&self.0.destinations) {
            return Err(Error::new(Code::TransferNotAllowed).at("destinations"));
        }
        Ok(if may { asked } else { standing })
    }

    async fn standing(&self, practice: PracticeId) -> Result<BTreeSet<RegionId>> {
        self.enrolled(practice, &self.0.region).await
    }

    /// The destinations of the enrolment that a region has signed for a practice.
    async fn enrolled(&self, practice: PracticeId, origin: &RegionId) -> Result<BTreeSet<RegionId>> {
        let region = origin.clone();
        let read = self.0.store.read("enrolment.get", Scope::System, move |tx| {
            let region = region.clone();
            Box::pin(async move { identity::enrolment_get(tx, practice, &region).await })
        });
        let Some(stored) = read.await? else { return Ok(BTreeSet::new()) };
        Ok(decode(&stored.content)?.destinations.into_iter().collect())
    }

    async fn practitioners(&self, practice: PracticeId) -> Result<Vec<Practitioner>> {
        let read = self.0.store.read("practitioner.list", Scope::System, move |tx| {
            Box::pin(identity::account_practice(tx, practice))
        });
        let mut named = Vec::new();
        for account in read.await?.iter().filter(|account| account.state != AccountState::Closed) {
            let (Some(email), Some(name)) = (&account.email_sealed, &account.name_sealed) else { continue };
            named.push(Practitioner {
                account: account.account_id,
                name: self.0.fields.open_name(owner(account), name).await?.into_inner(),
                email: self.0.fields.open_email(owner(account), email).await?.into_inner(),
            });
        }
        Ok(named)
    }

    fn verify(&self, signed: &SignedEnrolment) -> Result<Enrolment> {
        let home = decode(&signed.content)?.home;
        let unknown = || Error::new(Code::StatementInvalid).at("enrolment.home");
        let enrolment = signed.verify(self.0.peers.get(&home).ok_or_else(unknown)?)?;
        if !enrolment.destinations.contains(&self.0.region) {
            return Err(Error::new(Code::TransferNotAllowed).at("enrolment.destinations"));
        }
        Ok(enrolment)
    }

    async fn guests(&self, enrolment: &Enrolment, signed: SignedEnrolment) -> Result<(Guests, Vec<Invited>)> {
        let practice = enrolment.practice;
        let name = text::name(&enrolment.name, "enrolment.name")?;
        let (mut people, mut codes) = (Vec::new(), Vec::new());
        for person in &enrolment.practitioners {
            let email = Email::new(&person.email, "enrolment.practitioners.email")?;
            let name = text::name(&person.name, "enrolment.practitioners.name")?;
            let guest = Owner { account: person.account, subject: None };
            let (row, code) = self.invite(guest, Role::Practitioner, Some(practice), &email, &name).await?;
            people.push(row);
            codes.push(code);
        }
        let guests = Guests {
            practice,
            home: enrolment.home.clone(),
            name_sealed: self.0.fields.seal_practice(practice, &name).await?,
            enrolment: StoredEnrolment { content: signed.content, signature: signed.signature.to_vec() },
            made_at: enrolment.at,
            people,
        };
        Ok((guests, codes))
    }
}

fn decode(content: &[u8]) -> Result<Enrolment> {
    Enrolment::decode(content)
        .map_err(|cause| Error::new(Code::StatementInvalid).at("enrolment").because(cause))
}

/// Answers the accounts that are invited now.
async fn accept(tx: &Tx, guests: Guests) -> Result<BTreeSet<domicile_types::AccountId>> {
    let Guests { practice, home, name_sealed, enrolment, made_at, people } = guests;
    let conflict = |place: &'static str| Error::new(Code::Conflict).at(place);
    match identity::practice_lock(tx, practice).await? {
        Some(known) if known.home_region != home => return Err(conflict("enrolment.practice")),
        Some(_) => identity::practice_rename(tx, practice, &name_sealed).await.map(drop)?,
        None => {
            identity::practice_insert(tx, practice, &name_sealed, &home, DataRole::Controller)
                .await
                .map(drop)?;
        }
    }
    if let Some(earlier) = identity::enrolment_get(tx, practice, &home).await?
        && decode(&earlier.content)?.at > made_at
    {
        return Err(conflict("enrolment.at"));
    }
    identity::enrolment_put(tx, practice, &home, &enrolment.content, &enrolment.signature).await?;
    let mut invited = BTreeSet::new();
    for person in &people {
        if admit(tx, person).await? {
            invited.insert(person.account_id);
        }
    }
    dismiss(tx, practice, &people).await?;
    tx.audit(AuditFacts::ok())?;
    Ok(invited)
}

/// One guest practitioner; whether they hold a fresh invitation.
async fn admit(tx: &Tx, person: &NewAccount) -> Result<bool> {
    match identity::account_get(tx, person.account_id).await? {
        None if identity::account_insert(tx, person).await? => Ok(true),
        None => Err(Error::new(Code::AccountExists).at("enrolment.practitioners.email")),
        Some(known) if theirs(&known, person) => {
            identity::account_invite(tx, person.account_id, person.invite_hash, person.invite_expires).await
        }
        Some(_) => Err(Error::new(Code::Conflict).at("enrolment.practitioners.account")),
    }
}

fn theirs(known: &Account, person: &NewAccount) -> bool {
    known.practice_id == person.practice_id && known.role == Role::Practitioner
}

/// Closes whoever the practice no longer names.
async fn dismiss(tx: &Tx, practice: PracticeId, named: &[NewAccount]) -> Result<()> {
    let named: BTreeSet<_> = named.iter().map(|person| person.account_id).collect();
    for account in identity::account_practice(tx, practice).await? {
        if !named.contains(&account.account_id) {
            identity::account_close(tx, account.account_id).await?;
        }
    }
    Ok(())
}
