//! Consents and their append-only history (P16).

use domicile_transfer_protocol::rows::{ConsentEventRow, ConsentRow};
use domicile_transfer_protocol::source::ConsentChange;
use domicile_transfer_protocol::{ConsentFacts, Digest};
use domicile_types::{AccountId, Code, ConsentId, Error, Result, Role, SubjectId, TransferId};

use crate::{FromRow, OnConflict, Row, Tx, values};

const COLUMNS: &str = "consent_id, account_id, purpose, transfer_id, attempt, source, destination, offer_digest, \
                       consent_digest, notice_version, locale, notice_digest, status, given_at, expires_at, \
                       ended_at, locator";

fn digest(bytes: Option<[u8; 32]>) -> Option<Digest> {
    bytes.map(Digest)
}

impl FromRow for ConsentRow {
    fn from_row(row: &Row) -> Result<Self> {
        Ok(Self {
            consent: row.get("consent_id")?,
            account: row.get("account_id")?,
            purpose: row.get("purpose")?,
            transfer: row.maybe("transfer_id")?,
            attempt: row.get("attempt")?,
            source: row.get("source")?,
            destination: row.maybe("destination")?,
            offer: digest(row.maybe("offer_digest")?),
            digest: Digest(row.get("consent_digest")?),
            notice_version: row.get("notice_version")?,
            locale: row.get("locale")?,
            notice: Digest(row.get("notice_digest")?),
            status: row.get("status")?,
            given_at: row.get("given_at")?,
            expires_at: row.get("expires_at")?,
            ended_at: row.maybe("ended_at")?,
            locator: row.get("locator")?,
        })
    }
}

impl FromRow for ConsentEventRow {
    fn from_row(row: &Row) -> Result<Self> {
        Ok(Self {
            consent: row.get("consent_id")?,
            sequence: row.get("sequence")?,
            event: row.get("event")?,
            actor: row.maybe("actor")?,
            role: row.get("role")?,
            at: row.get("at")?,
        })
    }
}

/// Writes consents as they are: a new one, or those that came with a record.
///
/// # Errors
/// As [`Tx::execute`].
pub async fn insert_many(tx: &Tx, subject: SubjectId, consents: &[ConsentRow]) -> Result<()> {
    let columns = [
        "consent_id",
        "account_id",
        "purpose",
        "transfer_id",
        "attempt",
        "source",
        "destination",
        "offer_digest",
        "consent_digest",
        "notice_version",
        "locale",
        "notice_digest",
        "status",
        "given_at",
        "expires_at",
        "ended_at",
        "locator",
        "subject_id",
    ];
    let row = |row: &ConsentRow| {
        values![
            row.consent,
            row.account,
            row.purpose.clone(),
            row.transfer,
            row.attempt,
            &row.source,
            row.destination.as_ref(),
            row.offer.map(|digest| digest.0),
            row.digest.0,
            row.notice_version.clone(),
            row.locale.clone(),
            row.notice.0,
            row.status.clone(),
            row.given_at,
            row.expires_at,
            row.ended_at,
            row.locator,
            subject,
        ]
    };
    tx.insert_many("consent", &columns, consents.iter().map(row).collect(), OnConflict::Ignore)
        .await
        .map(drop)
}

/// Writes lines of history.
///
/// # Errors
/// As [`Tx::execute`].
pub async fn insert_events(tx: &Tx, subject: SubjectId, events: &[ConsentEventRow]) -> Result<()> {
    let columns = ["consent_id", "sequence", "subject_id", "event", "actor", "role", "at"];
    let row = |row: &ConsentEventRow| {
        values![row.consent, row.sequence, subject, row.event.clone(), row.actor, row.role.clone(), row.at]
    };
    tx.insert_many("consent_event", &columns, events.iter().map(row).collect(), OnConflict::Ignore)
        .await
        .map(drop)
}

/// The consent of a transfer, locked until the transaction ends: the first lock of every decision.
///
/// # Errors
/// As [`Tx::one`].
pub async fn lock_of_transfer(
    tx: &Tx,
    subject: SubjectId,
    transfer: TransferId,
) -> Result<Option<ConsentFacts>> {
    let sql = format!(
        "SELECT {COLUMNS} FROM consent WHERE subject_id = $1 AND transfer_id = $2{}",
        tx.for_update()
    );
    let row: Option<ConsentRow> = tx.one(&sql, values![subject, transfer]).await?;
    row.map(|row| facts(subject, row)).transpose()
}

fn facts(subject: SubjectId, row: ConsentRow) -> Result<ConsentFacts> {
    let lacks = |column: &str| Error::new(Code::Internal).at(format!("consent.{column}"));
    Ok(ConsentFacts {
        id: row.consent,
        subject,
        attempt: row.attempt,
        destination: row.destination.ok_or_else(|| lacks("destination"))?,
        offer: row.offer.ok_or_else(|| lacks("offer_digest"))?,
        active: row.status == "active",
        expires_at: row.expires_at,
    })
}

/// Every consent of a subject.
///
/// # Errors
/// As [`Tx::all`].
pub async fn list(tx: &Tx, subject: SubjectId) -> Result<Vec<ConsentRow>> {
    let sql =
        format!("SELECT {COLUMNS} FROM consent WHERE subject_id = $1 ORDER BY given_at DESC, consent_id");
    tx.all(&sql, values![subject]).await
}

/// The history of every consent of a subject.
///
/// # Errors
/// As [`Tx::all`].
pub async fn events(tx: &Tx, subject: SubjectId) -> Result<Vec<ConsentEventRow>> {
    let sql = "SELECT consent_id, sequence, event, actor, role, at FROM consent_event \
               WHERE subject_id = $1 ORDER BY consent_id, sequence";
    tx.all(sql, values![subject]).await
}

/// Ends a consent and adds the line that says so. The caller holds the lock.
///
/// # Errors
/// As [`Tx::execute`].
pub async fn end(
    tx: &Tx,
    subject: SubjectId,
    consent: ConsentId,
    change: ConsentChange,
    (actor, role): (Option<AccountId>, Role),
) -> Result<()> {
    let status = match change {
        ConsentChange::Withdraw => "withdrawn",
        ConsentChange::Expire => "expired",
        ConsentChange::Complete => "completed",
    };
    let sql = "UPDATE consent SET status = $3, ended_at = $4 \
               WHERE subject_id = $1 AND consent_id = $2 AND status = 'active'";
    if tx.execute(sql, values![subject, consent, status, tx.now()]).await? == 0 {
        return Err(Error::new(Code::Conflict).at("consent"));
    }
    let next = "SELECT COALESCE(MAX(sequence), 0) + 1 AS value FROM consent_event \
                WHERE subject_id = $1 AND consent_id = $2";
    let sequence: u32 = tx.scalar(next, values![subject, consent]).await?.unwrap_or(1);
    let event = ConsentEventRow {
        consent,
        sequence,
        event: status.to_owned(),
        actor,
        role: role.as_str().to_owned(),
        at: tx.now(),
    };
    insert_events(tx, subject, &[event]).await
}
