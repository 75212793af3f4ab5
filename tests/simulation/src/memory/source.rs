//! Decisions over source rows.

use std::sync::Arc;

use domicile_evidence::event::EventType;
use domicile_evidence::statement::{Body, SignedStatement, Statement, VERSION};
use domicile_transfer_protocol::rows::{ConsentEventRow, ConsentRow};
use domicile_transfer_protocol::source::{ConsentChange, NewTransfer, ResidencyChange, Standing, request};
use domicile_transfer_protocol::store::{Driver, NewConsent, Request, Row, SourceDecision};
use domicile_transfer_protocol::{ConsentFacts, Lanes, Numbers, Source, SourceChange, SourceFacts};
use domicile_types::{AuditScope, Code, Error, Result, Role, SubjectId, TransferId};

use super::db::{Home, Transfer};
use super::tables::facts;
use super::{MemoryTransfers, Tx, conflict, not_found};

/// What a decision needs besides its facts.
struct Deciding {
    transfer: TransferId,
    subject: SubjectId,
    driver: Option<Driver>,
    scope: Arc<AuditScope>,
    person: bool,
    consent: Option<NewConsent>,
    decision: SourceDecision,
}

impl MemoryTransfers {
    pub(super) async fn source_decide(
        &self,
        name: &'static str,
        transfer: TransferId,
        driver: Option<Driver>,
        scope: Option<Arc<AuditScope>>,
        consent: Option<NewConsent>,
        decision: SourceDecision,
    ) -> Result<(Source, Option<SignedStatement>)> {
        let found = self.look("transfer_find", move |tx| Ok(tx.find(transfer))).await?;
        let Some(Row::Source(row)) = found else { return Err(not_found()) };
        let person = scope.is_some();
        let scope = scope.unwrap_or_else(|| self.system_scope(transfer));
        let deciding = Deciding { transfer, subject: row.subject, driver, scope, person, consent, decision };
        self.change(name, move |tx| deciding.run(tx)).await
    }

    pub(super) async fn source_request(
        &self,
        asked: Request,
        scope: Option<Arc<AuditScope>>,
    ) -> Result<Source> {
        let scope = scope.unwrap_or_else(|| self.system_scope(asked.transfer));
        let offer_open = self.parts.options.offer_open;
        let numbers = Numbers { offer_open, ..Numbers::default() };
        self.transact("transfer_request", true, move |tx| tx.request(asked, &scope, &numbers)).await
    }
}

impl Tx<'_> {
    fn request(&mut self, asked: Request, scope: &AuditScope, numbers: &Numbers) -> Result<Source> {
        let subject = asked.subject;
        let mut home = self.home(subject)?;
        let known = self.db.transfers.values().find(|known| {
            known.subject() == Some(subject) && known.key.as_deref() == Some(asked.idempotency.as_str())
        });
        if let Some(Row::Source(known)) = known.map(|known| known.shown()) {
            let same = known.to == asked.to;
            return if same { Ok(*known) } else { Err(Error::new(Code::IdempotencyMismatch)) };
        }
        self.may_request(subject, &home)?;
        home.attempt += 1;
        home.freeze = 0;
        let attempt = home.attempt;
        self.set_home(subject, home);
        let new = NewTransfer {
            transfer: asked.transfer,
            attempt,
            subject,
            account: asked.account,
            from: self.parts.region.clone(),
            to: asked.to,
            now: self.now,
        };
        let change = request(new, numbers);
        let mut row = change.row;
        if self.db.transfers.contains_key(&row.transfer) {
            return Err(conflict("transfer"));
        }
        if let Some(body) = &change.emit {
            let id = (row.transfer, row.attempt);
            self.emit(id, &mut row.lanes, body, Some(subject), scope)?;
        }
        let kept = Transfer {
            row: Row::Source(Box::new(row.clone())),
            token: 0,
            lease: None,
            key: Some(asked.idempotency),
            offer: None,
            key_release: None,
            account: Some(asked.account),
        };
        self.db.transfers.insert(row.transfer, Arc::new(kept));
        self.save(row.transfer, Row::Source(Box::new(row.clone())))?;
        Ok(row)
    }

    fn may_request(&self, subject: SubjectId, home: &Home) -> Result<()> {
        let open = self.db.transfers.values().any(|known| {
            let state = known.state();
            known.subject() == Some(subject)
                && !state.rests()
                && state != domicile_transfer_protocol::State::Aborting
        });
        if open {
            return Err(Error::new(Code::TransferOpen));
        }
        if self.db.held(subject) {
            return Err(Error::new(Code::LegalHold));
        }
        if home.standing == Standing::Active {
            return Ok(());
        }
        match &home.moved_to {
            Some(region) => Err(Error::new(Code::RecordMoved).moved_to(region.clone(), home.epoch)),
            None => Err(Error::new(Code::TransferState).at("residency")),
        }
    }

    /// Signs this region's next statement, with its row and its log entry.
    pub(super) fn emit(
        &mut self,
        (transfer, attempt): (TransferId, u64),
        lanes: &mut Lanes,
        body: &Body,
        subject: Option<SubjectId>,
        scope: &AuditScope,
    ) -> Result<SignedStatement> {
        let draft = Statement {
            version: VERSION,
            transfer,
            attempt,
            origin: self.parts.region.clone(),
            sequence: lanes.own_sequence() + 1,
            step: body.step(),
            at: self.now,
            body_digest: [0; 32],
            prev: lanes.own_tip(),
            seen: lanes.seen(),
        };
        let signed = SignedStatement::sign(self.parts.statements.as_ref(), draft, body);
        let read = signed.read().map_err(|cause| Error::new(Code::Internal).because(cause))?;
        lanes.push_own(read.digest.into());
        let of = &read.statement;
        self.insert_statement((transfer, of.origin.clone(), of.sequence), signed.clone())?;
        self.log_step(scope, of.step.event(), of.reference(), subject)?;
        Ok(signed)
    }

    /// The consent of a transfer, as a decision sees it.
    pub(super) fn consent_of(
        &self,
        subject: SubjectId,
        transfer: TransferId,
    ) -> Result<Option<ConsentFacts>> {
        let mut all = self.db.consents.values();
        let found = all.find(|(whose, row)| *whose == subject && row.transfer == Some(transfer));
        found.map(|(_, row)| consent_facts(subject, row)).transpose()
    }

    fn end_consent(
        &mut self,
        deciding: &Deciding,
        row: &Source,
        change: ConsentChange,
        named: Option<SubjectId>,
    ) -> Result<()> {
        let Some(given) = &row.consent else { return Ok(()) };
        let actor = &deciding.scope.actor;
        let status = match change {
            ConsentChange::Withdraw => "withdrawn",
            ConsentChange::Expire => "expired",
            ConsentChange::Complete => "completed",
        };
        let now = self.now;
        let held = self.db.consents.get_mut(&given.id);
        let Some((_, held)) =
            held.filter(|(whose, row)| *whose == deciding.subject && row.status == "active")
        else {
            return Err(conflict("consent"));
        };
        status.clone_into(&mut held.status);
        held.ended_at = Some(now);
        self.add_event(deciding.subject, given.id, status, actor.account, actor.role);
        let event = match change {
            ConsentChange::Withdraw => return Ok(()),
            ConsentChange::Expire => EventType::ConsentExpired,
            ConsentChange::Complete => EventType::ConsentCompleted,
        };
        let transfer = Some(row.transfer);
        self.log(&deciding.scope, Some(event), Some("consent"), named, transfer, None)
    }

    fn add_event(
        &mut self,
        subject: SubjectId,
        consent: domicile_types::ConsentId,
        event: &str,
        actor: Option<domicile_types::AccountId>,
        role: Role,
    ) {
        let last = self.db.consent_events.range((consent, 0)..=(consent, u32::MAX)).next_back();
        let sequence = last.map_or(0, |((_, sequence), _)| *sequence) + 1;
        let row = ConsentEventRow {
            consent,
            sequence,
            event: event.to_owned(),
            actor,
            role: role.as_str().to_owned(),
            at: self.now,
        };
        self.db.consent_events.insert((consent, sequence), (subject, row));
    }

    fn give(&mut self, new: NewConsent) -> Result<()> {
        self.control_touch(new.subject)?;
        let (id, account) = (new.row.consent, new.row.account);
        self.db.consents.entry(id).or_insert((new.subject, new.row));
        if !self.db.consent_events.contains_key(&(id, 1)) {
            self.add_event(new.subject, id, "given", Some(account), Role::Client);
        }
        Ok(())
    }
}

impl Deciding {
    fn run(mut self, tx: &mut Tx<'_>) -> Result<(Source, Option<SignedStatement>)> {
        let given = tx.consent_of(self.subject, self.transfer)?;
        let Some(Row::Source(mut row)) = tx.find(self.transfer) else { return Err(not_found()) };
        if let Some(driver) = self.driver {
            driver.check(row.attempt, row.token)?;
            row.token = driver.token;
        }
        let home = tx.home(self.subject)?;
        let facts = SourceFacts {
            row: *row,
            consent: given,
            residency: facts(&home),
            held: tx.db.held(self.subject),
            now: tx.now,
        };
        let change = (self.decision)(&facts)?;
        if self.person {
            tx.log(&self.scope, None, None, Some(self.subject), Some(self.transfer), None)?;
        }
        match change {
            None => Ok((facts.row, None)),
            Some(change) => self.apply(tx, change, home),
        }
    }

    fn apply(
        &mut self,
        tx: &mut Tx<'_>,
        change: SourceChange,
        home: Home,
    ) -> Result<(Source, Option<SignedStatement>)> {
        let mut row = change.row;
        // Once the keys are being destroyed later entries name the transfer only.
        let named = row.keys_to_destroy.is_none().then_some(self.subject);
        if let Some(received) = &change.accept {
            tx.accept(received, named, &self.scope)?;
        }
        if let Some(new) = self.consent.take() {
            tx.give(new)?;
        }
        let mut signed = None;
        if let Some(body) = &change.emit {
            let id = (row.transfer, row.attempt);
            signed = Some(tx.emit(id, &mut row.lanes, body, named, &self.scope)?);
        }
        if let Some(end) = change.consent {
            tx.end_consent(self, &row, end, named)?;
        }
        if let Some(to) = change.residency {
            tx.set_home(self.subject, moved(home, &to, tx.now));
        }
        let Some(kept) = tx.db.transfers.get_mut(&row.transfer).map(Arc::make_mut) else {
            return Err(not_found());
        };
        if change.offer.is_some() {
            kept.offer = change.offer;
        }
        if change.key_release.is_some() {
            kept.key_release = change.key_release;
        }
        tx.save(row.transfer, Row::Source(Box::new(row.clone())))?;
        Ok((row, signed))
    }
}

fn consent_facts(subject: SubjectId, row: &ConsentRow) -> Result<ConsentFacts> {
    let lacks = |column: &str| Error::new(Code::Internal).at(format!("consent.{column}"));
    Ok(ConsentFacts {
        id: row.consent,
        subject,
        attempt: row.attempt,
        destination: row.destination.clone().ok_or_else(|| lacks("destination"))?,
        offer: row.offer.ok_or_else(|| lacks("offer_digest"))?,
        active: row.status == "active",
        expires_at: row.expires_at,
    })
}

/// The residency's row after a change.
fn moved(mut home: Home, change: &ResidencyChange, now: domicile_types::Timestamp) -> Home {
    home.changed_at = now;
    match change {
        ResidencyChange::Freeze => {
            home.standing = Standing::Frozen;
            home.freeze += 1;
        }
        ResidencyChange::Unfreeze => home.standing = Standing::Active,
        ResidencyChange::Release { epoch } => {
            home.standing = Standing::Released;
            home.epoch = *epoch;
        }
        ResidencyChange::Moved { to } => home.moved_to = Some(to.clone()),
        ResidencyChange::Depart { to } => {
            home.standing = Standing::Departed;
            home.moved_to = Some(to.clone());
        }
    }
    home
}
