//! Sessions: found by the SHA-256 of their token, which nobody can turn back into the token.
//!
//! A lookup runs in [`Scope::Lookup`](crate::Scope::Lookup); changes in the account's own scope.

use domicile_types::{AccountId, PracticeId, RegionId, Result, Role, SubjectId, Timestamp};

use crate::value::{FromRow, Row};
use crate::{Scope, Store, Tx, values};

/// A session that has not been ended, of an account that may sign in. Idle and absolute ends are the caller's to check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// The account.
    pub account_id: AccountId,
    /// What the person may do.
    pub role: Role,
    /// The practice of practitioners and administrators.
    pub practice_id: Option<PracticeId>,
    /// The record, of a client.
    pub subject_id: Option<SubjectId>,
    /// When it was last used, to the minute.
    pub last_seen_at: Timestamp,
    /// When it ends in any case.
    pub ends_at: Timestamp,
    /// When the person last proved their password.
    pub authenticated_at: Timestamp,
}

impl FromRow for Session {
    fn from_row(row: &Row) -> Result<Self> {
        Ok(Self {
            account_id: row.get("account_id")?,
            role: row.get("role")?,
            practice_id: row.maybe("practice_id")?,
            subject_id: row.maybe("subject_id")?,
            last_seen_at: row.get("last_seen_at")?,
            ends_at: row.get("ends_at")?,
            authenticated_at: row.get("authenticated_at")?,
        })
    }
}

/// Opens a session of an account that has just proved its password, and forgets those past their
/// absolute end.
///
/// # Errors
/// As [`Tx::execute`].
pub async fn session_open(
    tx: &Tx,
    token_hash: [u8; 32],
    account: AccountId,
    subject: Option<SubjectId>,
    ends_at: Timestamp,
) -> Result<()> {
    let forget = "DELETE FROM session WHERE account_id = $1 AND ends_at <= $2";
    tx.execute(forget, values![account, tx.now()]).await?;
    let sql = "INSERT INTO session (token_hash, account_id, subject_id, created_at, last_seen_at, ends_at, \
               authenticated_at) VALUES ($1, $2, $3, $4, $4, $5, $4)";
    tx.execute(sql, values![token_hash, account, subject, tx.now(), ends_at]).await.map(drop)
}

impl Store {
    /// The session of this token: what every request asks first, on PostgreSQL in one round trip.
    ///
    /// # Errors
    /// [`StoreUnavailable`](domicile_types::Code::StoreUnavailable).
    pub async fn session(&self, token_hash: [u8; 32]) -> Result<Option<Session>> {
        if let Some(rows) = self.asked("SELECT * FROM domicile_session($1)", values![token_hash]).await? {
            return rows.first().map(Session::from_row).transpose();
        }
        let scope = Scope::Lookup(token_hash);
        self.read("session.find", scope, move |tx| Box::pin(session_get(tx, token_hash))).await
    }
}

async fn session_get(tx: &Tx, token_hash: [u8; 32]) -> Result<Option<Session>> {
    let sql = "SELECT s.account_id, a.role, a.practice_id, a.subject_id, s.last_seen_at, s.ends_at, \
               s.authenticated_at FROM session s JOIN account a ON a.account_id = s.account_id \
               WHERE s.token_hash = $1 AND s.ended_at IS NULL AND a.state = 'active'";
    tx.one(sql, values![token_hash]).await
}

/// Where the record of this token's owner has moved to, and at which epoch: told to those alone whose
/// session was open when it left.
///
/// # Errors
/// As [`Tx::one`].
pub async fn session_moved(tx: &Tx, token_hash: [u8; 32]) -> Result<Option<(RegionId, u64)>> {
    struct Moved(RegionId, u64);
    impl FromRow for Moved {
        fn from_row(row: &Row) -> Result<Self> {
            Ok(Self(row.get("moved_to")?, row.get("epoch")?))
        }
    }
    let sql = "SELECT r.moved_to, r.epoch FROM tombstone_entitled t \
               JOIN residency r ON r.subject_id = t.subject_id \
               WHERE t.kind = 'session' AND t.hash = $1 AND r.standing IN ('Released', 'Departed') \
                 AND r.moved_to IS NOT NULL";
    let moved: Vec<Moved> = tx.all(sql, values![token_hash]).await?;
    Ok(moved.into_iter().next().map(|Moved(region, epoch)| (region, epoch)))
}

/// The session was just used.
///
/// # Errors
/// As [`Tx::execute`].
pub async fn session_touch(tx: &Tx, token_hash: [u8; 32]) -> Result<()> {
    let sql = "UPDATE session SET last_seen_at = $2 \
               WHERE token_hash = $1 AND ended_at IS NULL AND last_seen_at < $2";
    tx.execute(sql, values![token_hash, tx.now()]).await.map(drop)
}

/// The person has proved their password again. Answers false when the session has ended meanwhile.
///
/// # Errors
/// As [`Tx::execute`].
pub async fn session_prove(tx: &Tx, token_hash: [u8; 32]) -> Result<bool> {
    let sql = "UPDATE session SET authenticated_at = $2, last_seen_at = $2 \
               WHERE token_hash = $1 AND ended_at IS NULL";
    Ok(tx.execute(sql, values![token_hash, tx.now()]).await? == 1)
}

/// Ends one session.
///
/// # Errors
/// As [`Tx::execute`].
pub async fn session_end(tx: &Tx, token_hash: [u8; 32]) -> Result<bool> {
    let sql = "UPDATE session SET ended_at = $2 WHERE token_hash = $1 AND ended_at IS NULL";
    Ok(tx.execute(sql, values![token_hash, tx.now()]).await? == 1)
}

/// Ends every session of an account but `kept`. Answers how many.
///
/// # Errors
/// As [`Tx::execute`].
pub async fn session_end_others(tx: &Tx, account: AccountId, kept: Option<[u8; 32]>) -> Result<u64> {
    let sql = "UPDATE session SET ended_at = $3 \
               WHERE account_id = $1 AND ended_at IS NULL AND token_hash IS DISTINCT FROM $2";
    tx.execute(sql, values![account, kept, tx.now()]).await
}
