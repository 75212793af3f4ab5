//! Adoption: everything that makes this region the record's home, in one transaction.

use std::sync::Arc;

use domicile_evidence::keys::Signer;
use domicile_transfer_protocol::rows::{AccountRow, ControlRows, ObjectRow};
use domicile_transfer_protocol::store::{Adoption, DestinationDecision};
use domicile_transfer_protocol::{Destination, DestinationFacts};
use domicile_types::{Code, Error, Result, TransferId};

use super::destination::{apply, locked};
use super::{SqlTransfers, fence};
use crate::queries::item::{self, Version};
use crate::queries::object::{self, Object, ObjectState};
use crate::queries::residency::{self, RegionChoice, Residence, Standing};
use crate::queries::{access, consent};
use crate::{OnConflict, Scope, Tx, values};

impl SqlTransfers {
    pub(super) async fn destination_adopt(
        &self,
        id: TransferId,
        adoption: Adoption,
        decision: DestinationDecision,
    ) -> Result<Destination> {
        let scope = self.system_scope(id);
        let signer = Arc::clone(&self.signer);
        let adoption = Arc::new(adoption);
        let subject = Scope::Move { subject: Some(adoption.control.subject) };
        let work = self.work;
        self.store
            .write("transfer_adopt", subject, &scope, move |tx| {
                let (adoption, decision) = (Arc::clone(&adoption), Arc::clone(&decision));
                let signer = Arc::clone(&signer);
                Box::pin(async move {
                    fence(tx, work).await?;
                    adopt(tx, signer.as_ref(), id, &adoption, &decision).await
                })
            })
            .await
    }
}

async fn adopt(
    tx: &Tx,
    signer: &dyn Signer,
    id: TransferId,
    adoption: &Adoption,
    decision: &DestinationDecision,
) -> Result<Destination> {
    let row = locked(tx, id, None).await?;
    let home = residency::lock(tx, adoption.control.subject).await?;
    let facts = DestinationFacts { row, now: tx.now() };
    let Some(change) = decision(&facts)? else { return Ok(facts.row) };
    let here = home_here(tx, home.as_ref(), adoption)?;
    residency::put(tx, &here).await?;
    insert_items(tx, adoption).await?;
    insert_objects(tx, id, adoption).await?;
    insert_control(tx, adoption).await?;
    let account = adoption.control.account.as_ref().map(|account| account.account);
    apply(tx, signer, change, account).await
}

/// The residency of the record here. A record that was here before left a tombstone of a lower epoch;
/// anything else refuses.
fn home_here(tx: &Tx, before: Option<&Residence>, adoption: &Adoption) -> Result<Residence> {
    let stale =
        before.is_some_and(|home| home.standing != Standing::Departed || home.epoch >= adoption.epoch);
    if stale {
        return Err(Error::new(Code::TransferState).at("epoch"));
    }
    let control = &adoption.control;
    Ok(Residence {
        subject: control.subject,
        epoch: adoption.epoch,
        standing: Standing::Active,
        moved_to: None,
        revision: control.revision,
        control_revision: control.control_revision,
        attempt: control.attempt.max(before.map_or(0, |home| home.attempt)),
        freeze: 0,
        choice: RegionChoice::Client,
        created_at: before.map_or_else(|| tx.now(), |home| home.created_at),
        changed_at: tx.now(),
    })
}

async fn insert_items(tx: &Tx, adoption: &Adoption) -> Result<()> {
    let rows = adoption.rows.iter();
    let rows =
        rows.map(|row| Version { header: row.header.clone(), current: row.current, sealed: None }).collect();
    item::insert_many(tx, rows, OnConflict::Fail).await.map(drop)
}

async fn insert_objects(tx: &Tx, id: TransferId, adoption: &Adoption) -> Result<()> {
    let subject = adoption.control.subject;
    let row = |row: &ObjectRow| Object {
        object: row.object,
        subject,
        item: row.item,
        practice: row.practice,
        length: row.length,
        chunks: row.chunks,
        key_version: 0,
        state: ObjectState::Complete,
        travelling: true,
        transfer: Some(id),
        copy: None,
        registered_at: tx.now(),
    };
    object::insert_many(tx, adoption.control.objects.iter().map(row).collect()).await
}

async fn insert_control(tx: &Tx, adoption: &Adoption) -> Result<()> {
    let control: &ControlRows = &adoption.control;
    let subject = control.subject;
    if let Some(account) = &control.account {
        insert_account(tx, account, adoption).await?;
    }
    access::care_insert_many(tx, subject, &control.care).await?;
    access::grant_insert_many(tx, subject, &control.grants).await?;
    access::hold_insert_many(tx, subject, &control.holds).await?;
    consent::insert_many(tx, subject, &control.consents).await?;
    consent::insert_events(tx, subject, &control.events).await
}

/// The account as it was, under this region's seals. Where another account has the address already, this
/// one waits without it until the person has proved both: no uniqueness here depends on sealed content.
/// Other people's accounts are invisible in this scope, so the index itself is asked, never a query.
async fn insert_account(tx: &Tx, account: &AccountRow, adoption: &Adoption) -> Result<()> {
    if try_account(tx, account, adoption, adoption.email_index, true).await?
        || try_account(tx, account, adoption, None, false).await?
    {
        return Ok(());
    }
    Err(Error::new(Code::Conflict).at("account"))
}

/// Inserts the account; `false` when something of it is taken.
async fn try_account(
    tx: &Tx,
    account: &AccountRow,
    adoption: &Adoption,
    email_index: Option<[u8; 32]>,
    invited: bool,
) -> Result<bool> {
    let sql = "INSERT INTO account (account_id, role, subject_id, email_index, email_sealed, name_sealed, \
               password_phc, invite_hash, invite_expires, state, created_at, changed_at) \
               VALUES ($1, 'client', $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) ON CONFLICT DO NOTHING";
    let invite = account.invite_hash.as_deref().filter(|_| invited).map(unhex).transpose()?;
    let values = values![
        account.account,
        adoption.control.subject,
        email_index,
        adoption.email_sealed.clone(),
        adoption.name_sealed.clone(),
        account.password_phc.clone(),
        invite,
        account.invite_expires,
        account.state.clone(),
        account.created_at,
        tx.now(),
    ];
    Ok(tx.execute(sql, values).await? == 1)
}

fn unhex(text: &str) -> Result<Vec<u8>> {
    hex::decode(text).map_err(|_| Error::new(Code::ChunkDamaged).at("invitation"))
}
