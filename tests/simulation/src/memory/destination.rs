//! Decisions over destination rows.

use std::sync::Arc;

use domicile_transfer_protocol::rows::{AccountRow, StagedPage, StagedRow};
use domicile_transfer_protocol::source::Standing;
use domicile_transfer_protocol::store::{Adoption, DestinationDecision, Driver, Row};
use domicile_transfer_protocol::{Destination, DestinationChange, DestinationFacts, Lanes, Received, State};
use domicile_types::{AccountId, AuditScope, Code, Error, Result, TransferId};

use super::db::{Account, Home, Item, Object, Transfer};
use super::{MemoryTransfers, Tx, conflict, not_found};

/// A page with its rows, to be taken in with a decision.
pub(super) struct Staging {
    pub(super) page: StagedPage,
    pub(super) rows: Vec<StagedRow>,
    pub(super) range: Option<(u64, u64)>,
}

impl MemoryTransfers {
    pub(super) async fn destination_decide(
        &self,
        name: &'static str,
        id: TransferId,
        driver: Option<Driver>,
        staging: Option<Staging>,
        decision: DestinationDecision,
    ) -> Result<Destination> {
        let scope = self.system_scope(id);
        let decide = move |tx: &mut Tx<'_>| {
            let row = tx.destination(id, driver)?;
            let facts = DestinationFacts { row, now: tx.now };
            let Some(change) = decision(&facts)? else { return Ok(facts.row) };
            if let Some(staging) = staging {
                tx.stage(id, staging)?;
            }
            tx.apply_destination(change, None, &scope)
        };
        self.change(name, decide).await
    }

    pub(super) async fn destination_invite(
        &self,
        received: Received,
        decision: DestinationDecision,
    ) -> Result<Destination> {
        let scope = self.system_scope(received.statement.transfer);
        let invite = move |tx: &mut Tx<'_>| tx.invite(&received, &decision, &scope);
        self.transact("transfer_invite", true, invite).await
    }

    pub(super) async fn destination_adopt(
        &self,
        id: TransferId,
        adoption: Adoption,
        decision: DestinationDecision,
    ) -> Result<Destination> {
        let scope = self.system_scope(id);
        self.change("transfer_adopt", move |tx| tx.adopt(id, &adoption, &decision, &scope)).await
    }
}

impl Tx<'_> {
    /// The row, its driver checked.
    pub(super) fn destination(&self, id: TransferId, driver: Option<Driver>) -> Result<Destination> {
        let Some(Row::Destination(mut row)) = self.find(id) else { return Err(not_found()) };
        if let Some(driver) = driver {
            driver.check(row.attempt, row.token)?;
            row.token = driver.token;
        }
        Ok(*row)
    }

    fn invite(
        &mut self,
        received: &Received,
        decision: &DestinationDecision,
        scope: &AuditScope,
    ) -> Result<Destination> {
        let id = received.statement.transfer;
        match self.find(id) {
            Some(Row::Destination(row)) => {
                row.lanes.clone().accept(received)?;
                return Ok(*row);
            }
            Some(Row::Source(_)) => return Err(Error::new(Code::StatementInvalid).at("regions")),
            None => {}
        }
        let change = decision(&self.blank(received))?.ok_or_else(not_found)?;
        let row = change.row;
        let kept = Transfer {
            row: Row::Destination(Box::new(row.clone())),
            token: 0,
            lease: None,
            key: None,
            offer: None,
            key_release: None,
            account: None,
        };
        self.db.transfers.insert(id, Arc::new(kept));
        if let Some(received) = &change.accept {
            self.accept(received, None, scope)?;
        }
        Ok(row)
    }

    /// Facts for a transfer that has no row yet.
    fn blank(&self, received: &Received) -> DestinationFacts {
        let row = Destination {
            transfer: received.statement.transfer,
            attempt: received.statement.attempt,
            from: received.statement.origin.clone(),
            to: self.parts.region.clone(),
            state: State::Requested,
            abort: None,
            lanes: Lanes::default(),
            token: 0,
            requested_at: self.now,
            changed_at: self.now,
            refused: None,
            consent: None,
            hpke_public: None,
            cursor: 0,
            revision: 0,
            compare: false,
            frozen: None,
            staged: None,
            released: None,
            subject: None,
            provable_at: None,
        };
        DestinationFacts { row, now: self.now }
    }

    fn apply_destination(
        &mut self,
        change: DestinationChange,
        account: Option<AccountId>,
        scope: &AuditScope,
    ) -> Result<Destination> {
        let mut row = change.row;
        if let Some(received) = &change.accept {
            self.accept(received, row.subject, scope)?;
        }
        if let Some(body) = &change.emit {
            let id = (row.transfer, row.attempt);
            self.emit(id, &mut row.lanes, body, row.subject, scope)?;
        }
        if change.tombstone {
            self.db.tombstones.entry(row.transfer).or_insert(row.attempt);
        }
        if let (Some(account), Some(kept)) = (account, self.db.transfers.get_mut(&row.transfer)) {
            Arc::make_mut(kept).account = Some(account);
        }
        self.save(row.transfer, Row::Destination(Box::new(row.clone())))?;
        Ok(row)
    }

    fn adopt(
        &mut self,
        id: TransferId,
        adoption: &Adoption,
        decision: &DestinationDecision,
        scope: &AuditScope,
    ) -> Result<Destination> {
        let row = self.destination(id, None)?;
        let facts = DestinationFacts { row, now: self.now };
        let Some(change) = decision(&facts)? else { return Ok(facts.row) };
        let control = &adoption.control;
        let subject = control.subject;
        let home = self.home_here(adoption)?;
        self.set_home(subject, home);
        for row in adoption.rows.iter() {
            let header = row.header.clone();
            self.insert_item(Item { header, current: row.current, sealed: None })?;
        }
        for object in &control.objects {
            let row = Object {
                subject,
                item: object.item,
                practice: object.practice,
                length: object.length,
                chunks: object.chunks,
                key_version: 0,
                complete: true,
                travelling: true,
                transfer: Some(id),
                copy: None,
                registered_at: self.now,
            };
            self.insert_object(object.object, row)?;
        }
        self.insert_control(adoption)?;
        let account = control.account.as_ref().map(|account| account.account);
        self.apply_destination(change, account, scope)
    }

    /// The residency of the record here: over a tombstone of a lower epoch, or where nothing was.
    fn home_here(&self, adoption: &Adoption) -> Result<Home> {
        let control = &adoption.control;
        let before = self.db.homes.get(&control.subject);
        if before.is_some_and(|home| home.standing != Standing::Departed || home.epoch >= adoption.epoch) {
            return Err(Error::new(Code::TransferState).at("epoch"));
        }
        Ok(Home {
            epoch: adoption.epoch,
            standing: Standing::Active,
            moved_to: None,
            revision: control.revision,
            control_revision: control.control_revision,
            attempt: control.attempt.max(before.map_or(0, |home| home.attempt)),
            freeze: 0,
            choice: "client",
            changed_at: self.now,
        })
    }

    fn insert_control(&mut self, adoption: &Adoption) -> Result<()> {
        let control = &adoption.control;
        let subject = control.subject;
        if let Some(account) = &control.account {
            let email = adoption.email_index;
            if !self.try_account(account, adoption, email, true)
                && !self.try_account(account, adoption, None, false)
            {
                return Err(conflict("account"));
            }
        }
        for row in &control.care {
            self.db.care.entry((subject, row.practitioner, row.started_at)).or_insert_with(|| row.clone());
        }
        for row in &control.grants {
            self.db.grants.entry(row.grant).or_insert_with(|| (subject, row.clone()));
        }
        for row in &control.holds {
            let key = (subject, row.reference.clone(), row.placed_at);
            self.db.holds.entry(key).or_insert_with(|| row.clone());
        }
        for row in &control.consents {
            self.db.consents.entry(row.consent).or_insert_with(|| (subject, row.clone()));
        }
        for row in &control.events {
            let key = (row.consent, row.sequence);
            self.db.consent_events.entry(key).or_insert_with(|| (subject, row.clone()));
        }
        Ok(())
    }

    /// Inserts the account; `false` when something of it is taken.
    fn try_account(
        &mut self,
        account: &AccountRow,
        adoption: &Adoption,
        email_index: Option<[u8; 32]>,
        invited: bool,
    ) -> bool {
        let subject = Some(adoption.control.subject);
        let invite = account.invite_hash.clone().filter(|_| invited);
        let taken = self.db.accounts.iter().any(|(id, known)| {
            *id == account.account
                || known.subject == subject
                || (email_index.is_some() && known.email_index == email_index)
                || (invite.is_some() && known.invite_hash == invite)
        });
        if taken {
            return false;
        }
        let row = Account {
            subject,
            email_index,
            email_sealed: adoption.email_sealed.clone(),
            name_sealed: adoption.name_sealed.clone(),
            password_phc: account.password_phc.clone(),
            invite_hash: invite,
            invite_expires: account.invite_expires,
            state: account.state.clone(),
            created_at: account.created_at,
        };
        self.db.accounts.insert(account.account, row);
        true
    }
}
