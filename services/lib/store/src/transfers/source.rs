//! Decisions over source rows.

use std::sync::Arc;

use domicile_evidence::event::EventType;
use domicile_evidence::keys::Signer;
use domicile_evidence::statement::SignedStatement;
use domicile_transfer_protocol::source::{ConsentChange, NewTransfer, ResidencyChange, Standing, request};
use domicile_transfer_protocol::store::{
    Driver, NewConsent, Request, Row as TransferRow, SourceDecision, Work,
};
use domicile_transfer_protocol::{Numbers, ResidencyFacts, Source, SourceChange, SourceFacts};
use domicile_types::{Actor, AuditScope, Code, Error, Result, Role, SubjectId, TransferId};

use super::{SqlTransfers, accept, emit, fence, not_found};
use crate::queries::residency::{self, Residence};
use crate::queries::{access, consent, transfer};
use crate::{AuditFacts, Scope, Tx};

/// What a decision needs besides its facts.
struct Deciding {
    transfer: TransferId,
    subject: SubjectId,
    driver: Option<Driver>,
    scope: Arc<AuditScope>,
    /// Whether a person asked: then the request's own event is recorded too.
    person: bool,
    consent: Option<NewConsent>,
    decision: SourceDecision,
    signer: Arc<dyn Signer>,
    work: Option<Work>,
}

impl SqlTransfers {
    pub(super) async fn source_decide(
        &self,
        name: &'static str,
        transfer: TransferId,
        driver: Option<Driver>,
        scope: Option<Arc<AuditScope>>,
        consent: Option<NewConsent>,
        decision: SourceDecision,
    ) -> Result<(Source, Option<SignedStatement>)> {
        let TransferRow::Source(row) = self.row(transfer).await?.ok_or_else(not_found)? else {
            return Err(not_found());
        };
        let person = scope.is_some();
        let scope = scope.unwrap_or_else(|| self.system_scope(transfer));
        let deciding = Arc::new(Deciding {
            transfer,
            subject: row.subject,
            driver,
            scope: Arc::clone(&scope),
            person,
            consent,
            decision,
            signer: Arc::clone(&self.signer),
            work: self.work,
        });
        let subject = Scope::Move { subject: Some(row.subject) };
        let decided = self
            .store
            .write(name, subject, &scope, move |tx| {
                let deciding = Arc::clone(&deciding);
                Box::pin(async move { deciding.run(tx).await })
            })
            .await?;
        self.measure_freeze(row.state, &decided.0, decided.1.is_some()).await;
        Ok(decided)
    }

    /// One transfer as it stands.
    pub(super) async fn row(&self, id: TransferId) -> Result<Option<TransferRow>> {
        self.store.read("transfer_find", Scope::Transfers, move |tx| Box::pin(transfer::find(tx, id))).await
    }

    pub(super) async fn source_request(
        &self,
        asked: Request,
        scope: Option<Arc<AuditScope>>,
    ) -> Result<Source> {
        let scope = scope.unwrap_or_else(|| self.system_scope(asked.transfer));
        let signer = Arc::clone(&self.signer);
        let from = self.store.region().clone();
        let numbers = Numbers { offer_open: self.options.offer_open, ..Numbers::default() };
        let asked = Arc::new(asked);
        let subject = Scope::Move { subject: Some(asked.subject) };
        self.store
            .write("transfer_request", subject, &scope, move |tx| {
                let (asked, signer, from) = (Arc::clone(&asked), Arc::clone(&signer), from.clone());
                let numbers = numbers.clone();
                Box::pin(async move {
                    let mut home = residency::lock(tx, asked.subject).await?.ok_or_else(not_found)?;
                    if let Some(TransferRow::Source(known)) =
                        transfer::by_key(tx, asked.subject, &asked.idempotency).await?
                    {
                        let same = known.to == asked.to;
                        return if same { Ok(*known) } else { Err(Error::new(Code::IdempotencyMismatch)) };
                    }
                    may_request(tx, &asked, &home).await?;
                    home.attempt += 1;
                    home.freeze = 0;
                    residency::set(tx, &home).await?;
                    let new = NewTransfer {
                        transfer: asked.transfer,
                        attempt: home.attempt,
                        subject: asked.subject,
                        account: asked.account,
                        from,
                        to: asked.to.clone(),
                        now: tx.now(),
                    };
                    let change = request(new, &numbers);
                    let mut row = change.row;
                    transfer::insert_source(tx, &row, &asked.idempotency).await?;
                    if let Some(body) = &change.emit {
                        let id = (row.transfer, row.attempt);
                        emit(tx, signer.as_ref(), id, &mut row.lanes, body, Some(row.subject)).await?;
                    }
                    transfer::save_source(tx, &row).await?;
                    Ok(row)
                })
            })
            .await
    }
}

async fn may_request(tx: &Tx, asked: &Request, home: &Residence) -> Result<()> {
    if transfer::any_open(tx, asked.subject).await? {
        return Err(Error::new(Code::TransferOpen));
    }
    if access::held(tx, asked.subject).await? {
        return Err(Error::new(Code::LegalHold));
    }
    if home.standing == residency::Standing::Active {
        return Ok(());
    }
    match &home.moved_to {
        Some(region) => Err(Error::new(Code::RecordMoved).moved_to(region.clone(), home.epoch)),
        None => Err(Error::new(Code::TransferState).at("residency")),
    }
}

impl Deciding {
    async fn run(&self, tx: &Tx) -> Result<(Source, Option<SignedStatement>)> {
        fence(tx, self.work).await?;
        let given = consent::lock_of_transfer(tx, self.subject, self.transfer).await?;
        let Some(TransferRow::Source(mut row)) = transfer::lock(tx, self.transfer).await? else {
            return Err(not_found());
        };
        if let Some(driver) = self.driver {
            driver.check(row.attempt, row.token)?;
            row.token = driver.token;
        }
        let home = residency::lock(tx, self.subject).await?.ok_or_else(not_found)?;
        let facts = SourceFacts {
            row: *row,
            consent: given,
            residency: residency_facts(&home),
            held: access::held(tx, self.subject).await?,
            now: tx.now(),
        };
        let change = (self.decision)(&facts)?;
        if self.person {
            tx.audit(AuditFacts::ok().subject(self.subject).transfer(self.transfer))?;
        }
        match change {
            None => Ok((facts.row, None)),
            Some(change) => self.apply(tx, change, home).await,
        }
    }

    async fn apply(
        &self,
        tx: &Tx,
        change: SourceChange,
        home: Residence,
    ) -> Result<(Source, Option<SignedStatement>)> {
        let mut row = change.row;
        // Once the keys are being destroyed the pseudonym key is gone: later entries name the transfer only.
        let named = row.keys_to_destroy.is_none().then_some(self.subject);
        if let Some(received) = &change.accept {
            accept(tx, received, named).await?;
        }
        if let Some(new) = &self.consent {
            self.give(tx, new).await?;
        }
        let mut signed = None;
        if let Some(body) = &change.emit {
            let id = (row.transfer, row.attempt);
            signed = Some(emit(tx, self.signer.as_ref(), id, &mut row.lanes, body, named).await?);
        }
        if let Some(end) = change.consent {
            self.end_consent(tx, &row, end, named).await?;
        }
        if let Some(to) = change.residency {
            residency::set(tx, &moved(home, &to, tx)).await?;
        }
        if let Some(offer) = &change.offer {
            transfer::keep_offer(tx, row.transfer, offer).await?;
        }
        if change.key_release.is_some() {
            transfer::keep_release(tx, row.transfer, change.key_release).await?;
        }
        transfer::save_source(tx, &row).await?;
        Ok((row, signed))
    }

    async fn give(&self, tx: &Tx, new: &NewConsent) -> Result<()> {
        residency::control_touch(tx, new.subject).await?;
        consent::insert_many(tx, new.subject, std::slice::from_ref(&new.row)).await?;
        let event = domicile_transfer_protocol::rows::ConsentEventRow {
            consent: new.row.consent,
            sequence: 1,
            event: "given".to_owned(),
            actor: Some(new.row.account),
            role: Role::Client.as_str().to_owned(),
            at: tx.now(),
        };
        consent::insert_events(tx, new.subject, &[event]).await
    }

    async fn end_consent(
        &self,
        tx: &Tx,
        row: &Source,
        change: ConsentChange,
        named: Option<SubjectId>,
    ) -> Result<()> {
        let Some(given) = &row.consent else { return Ok(()) };
        let Actor { role, account, .. } = &self.scope.actor;
        consent::end(tx, self.subject, given.id, change, (*account, *role)).await?;
        let event = match change {
            ConsentChange::Withdraw => return Ok(()),
            ConsentChange::Expire => EventType::ConsentExpired,
            ConsentChange::Complete => EventType::ConsentCompleted,
        };
        let facts = AuditFacts::ok().event(event).resource("consent").transfer(row.transfer);
        tx.audit(named.map_or_else(|| facts.clone().nobody(), |subject| facts.clone().subject(subject)))
    }
}

pub(super) fn residency_facts(home: &Residence) -> ResidencyFacts {
    ResidencyFacts {
        epoch: home.epoch,
        standing: match home.standing {
            residency::Standing::Active => Standing::Active,
            residency::Standing::Frozen => Standing::Frozen,
            residency::Standing::Incoming => Standing::Incoming,
            residency::Standing::Released => Standing::Released,
            residency::Standing::Departed => Standing::Departed,
        },
        revision: home.revision,
        control_revision: home.control_revision,
    }
}

/// The residency's row after a change. A record whose destination has adopted departs at once for every
/// reader; its rows and keys are erased later.
fn moved(mut home: Residence, change: &ResidencyChange, tx: &Tx) -> Residence {
    home.changed_at = tx.now();
    match change {
        ResidencyChange::Freeze => {
            home.standing = residency::Standing::Frozen;
            home.freeze += 1;
        }
        ResidencyChange::Unfreeze => home.standing = residency::Standing::Active,
        ResidencyChange::Release { epoch } => {
            home.standing = residency::Standing::Released;
            home.epoch = *epoch;
        }
        ResidencyChange::Moved { to } => {
            home.moved_to = Some(to.clone());
        }
        ResidencyChange::Depart { to } => {
            home.standing = residency::Standing::Departed;
            home.moved_to = Some(to.clone());
        }
    }
    home
}
