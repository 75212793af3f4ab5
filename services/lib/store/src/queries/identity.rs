//! Practices, accounts, sessions, enrolments.
//!
//! A client's account and sessions are reached from [`Scope::Subject`](crate::Scope::Subject), staff's
//! from [`Scope::Account`](crate::Scope::Account) or, for whole practices,
//! [`Scope::System`](crate::Scope::System); what is found by a hash from
//! [`Scope::Lookup`](crate::Scope::Lookup).

use domicile_types::{AccountId, Code, Error, PracticeId, RegionId, Result, Role, SubjectId, Timestamp};

use crate::value::{Bind, Bound, Column, FromRow, Row};
use crate::{Tx, values};

/// Where an account stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccountState {
    /// Has a code and no password yet.
    Invited,
    /// May sign in.
    Active,
    /// May not sign in any more.
    Closed,
}

impl AccountState {
    const ALL: [Self; 3] = [Self::Invited, Self::Active, Self::Closed];

    /// The name in the table.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Invited => "invited",
            Self::Active => "active",
            Self::Closed => "closed",
        }
    }
}

impl Column for AccountState {
    fn read(row: &Row, name: &str) -> Result<Option<Self>> {
        let Some(text) = row.maybe::<String>(name)? else { return Ok(None) };
        let state = Self::ALL.into_iter().find(|state| state.as_str() == text);
        state.map(Some).ok_or_else(|| Error::new(Code::Internal).at(format!("column {name}")))
    }
}

impl Bind for AccountState {
    fn bind(self) -> Bound {
        self.as_str().bind()
    }
    fn null() -> Bound {
        <&str as Bind>::null()
    }
}

/// Who decides about a practice's data (P3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataRole {
    /// The practice: the operator is its processor or business associate.
    Controller,
    /// The operator.
    Operator,
}

impl DataRole {
    /// The name in tables and messages.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Controller => "controller",
            Self::Operator => "operator",
        }
    }

    /// Finds a role by its name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Controller, Self::Operator].into_iter().find(|role| role.as_str() == name)
    }
}

/// A person's account.
#[derive(Clone)]
pub struct Account {
    /// The account.
    pub account_id: AccountId,
    /// What the person may do.
    pub role: Role,
    /// The practice of practitioners and administrators.
    pub practice_id: Option<PracticeId>,
    /// The record, of a client.
    pub subject_id: Option<SubjectId>,
    /// The sealed e-mail address.
    pub email_sealed: Option<Vec<u8>>,
    /// The sealed name.
    pub name_sealed: Option<Vec<u8>>,
    /// The password's Argon2id hash in PHC form.
    pub password_phc: Option<String>,
    /// When the invitation ends.
    pub invite_expires: Option<Timestamp>,
    /// Where the account stands.
    pub state: AccountState,
}

impl FromRow for Account {
    fn from_row(row: &Row) -> Result<Self> {
        Ok(Self {
            account_id: row.get("account_id")?,
            role: row.get("role")?,
            practice_id: row.maybe("practice_id")?,
            subject_id: row.maybe("subject_id")?,
            email_sealed: row.maybe("email_sealed")?,
            name_sealed: row.maybe("name_sealed")?,
            password_phc: row.maybe("password_phc")?,
            invite_expires: row.maybe("invite_expires")?,
            state: row.get("state")?,
        })
    }
}

/// An account that is invited.
#[derive(Clone)]
pub struct NewAccount {
    /// The account.
    pub account_id: AccountId,
    /// What the person may do.
    pub role: Role,
    /// The practice of practitioners and administrators.
    pub practice_id: Option<PracticeId>,
    /// The record, of a client.
    pub subject_id: Option<SubjectId>,
    /// The blind index of the e-mail address.
    pub email_index: [u8; 32],
    /// The sealed e-mail address.
    pub email_sealed: Vec<u8>,
    /// The sealed name.
    pub name_sealed: Vec<u8>,
    /// The invitation code's SHA-256.
    pub invite_hash: [u8; 32],
    /// When the invitation ends.
    pub invite_expires: Timestamp,
}

const ACCOUNT: &str = "account_id, role, practice_id, subject_id, email_sealed, name_sealed, password_phc, \
                       invite_expires, state";

/// Adds an invited account. Answers false when the id, the record or the address has one already.
///
/// # Errors
/// As [`Tx::execute`].
pub async fn account_insert(tx: &Tx, account: &NewAccount) -> Result<bool> {
    let sql = "INSERT INTO account (account_id, role, practice_id, subject_id, email_index, email_sealed, \
               name_sealed, invite_hash, invite_expires, state, created_at, changed_at) \
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 'invited', $10, $10) ON CONFLICT DO NOTHING";
    let values = values![
        account.account_id,
        account.role,
        account.practice_id,
        account.subject_id,
        account.email_index,
        &account.email_sealed,
        &account.name_sealed,
        account.invite_hash,
        account.invite_expires,
        tx.now(),
    ];
    Ok(tx.execute(sql, values).await? == 1)
}

/// The account with this e-mail address.
///
/// # Errors
/// As [`Tx::one`].
pub async fn account_by_email(tx: &Tx, email_index: [u8; 32]) -> Result<Option<Account>> {
    tx.one(&format!("SELECT {ACCOUNT} FROM account WHERE email_index = $1"), values![email_index]).await
}

/// The account that waits for the code of this hash.
///
/// # Errors
/// As [`Tx::one`].
pub async fn account_by_invitation(tx: &Tx, invite_hash: [u8; 32]) -> Result<Option<Account>> {
    let sql = format!("SELECT {ACCOUNT} FROM account WHERE invite_hash = $1 AND state = 'invited'");
    tx.one(&sql, values![invite_hash]).await
}

/// An account by its id.
///
/// # Errors
/// As [`Tx::one`].
pub async fn account_get(tx: &Tx, account: AccountId) -> Result<Option<Account>> {
    tx.one(&format!("SELECT {ACCOUNT} FROM account WHERE account_id = $1"), values![account]).await
}

/// Locks an active account whose password hash is still this one. So nobody opens a session with a
/// password that a change at the same moment has replaced.
///
/// # Errors
/// As [`Tx::one`].
pub async fn account_lock(tx: &Tx, account: AccountId, password_phc: &str) -> Result<bool> {
    let sql = format!(
        "SELECT account_id AS value FROM account \
         WHERE account_id = $1 AND password_phc = $2 AND state = 'active'{}",
        tx.for_update()
    );
    Ok(tx.scalar::<AccountId>(&sql, values![account, password_phc]).await?.is_some())
}

/// Uses up an invitation: the account is active with this password. Answers false when the code is
/// used or expired by now.
///
/// # Errors
/// As [`Tx::execute`].
pub async fn account_activate(
    tx: &Tx,
    account: AccountId,
    invite_hash: [u8; 32],
    password_phc: &str,
) -> Result<bool> {
    let sql = "UPDATE account SET password_phc = $3, state = 'active', invite_hash = NULL, \
               invite_expires = NULL, changed_at = $4 \
               WHERE account_id = $1 AND invite_hash = $2 AND state = 'invited' AND invite_expires > $4";
    Ok(tx.execute(sql, values![account, invite_hash, password_phc, tx.now()]).await? == 1)
}

/// Replaces a password hash. Answers false when `old_phc` is no longer the present one.
///
/// # Errors
/// As [`Tx::execute`].
pub async fn account_password_change(
    tx: &Tx,
    account: AccountId,
    old_phc: &str,
    new_phc: &str,
) -> Result<bool> {
    let sql = "UPDATE account SET password_phc = $3, changed_at = $4 \
               WHERE account_id = $1 AND password_phc = $2 AND state = 'active'";
    Ok(tx.execute(sql, values![account, old_phc, new_phc, tx.now()]).await? == 1)
}

/// Gives an account without a password a new code; the old one is void. Answers false for an account
/// that is active.
///
/// # Errors
/// As [`Tx::execute`].
pub async fn account_invite(
    tx: &Tx,
    account: AccountId,
    invite_hash: [u8; 32],
    expires: Timestamp,
) -> Result<bool> {
    let sql = "UPDATE account SET invite_hash = $2, invite_expires = $3, state = 'invited', \
               password_phc = NULL, changed_at = $4 WHERE account_id = $1 AND state <> 'active'";
    Ok(tx.execute(sql, values![account, invite_hash, expires, tx.now()]).await? == 1)
}

/// Closes an account: nobody signs in with it any more, and its sessions answer nothing.
///
/// # Errors
/// As [`Tx::execute`].
pub async fn account_close(tx: &Tx, account: AccountId) -> Result<bool> {
    let sql = "UPDATE account SET state = 'closed', password_phc = NULL, invite_hash = NULL, \
               invite_expires = NULL, changed_at = $2 WHERE account_id = $1 AND state <> 'closed'";
    Ok(tx.execute(sql, values![account, tx.now()]).await? == 1)
}

/// Whether anybody has this role and may sign in, or is invited.
///
/// # Errors
/// As [`Tx::scalar`].
pub async fn account_role_held(tx: &Tx, role: Role) -> Result<bool> {
    let sql =
        "SELECT COUNT(*) AS value FROM account WHERE role = $1 AND subject_id IS NULL AND state <> 'closed'";
    Ok(tx.scalar::<i64>(sql, values![role]).await?.unwrap_or(0) > 0)
}

/// A practice's practitioners and administrators, closed accounts too, the oldest first.
///
/// # Errors
/// As [`Tx::all`].
pub async fn account_practice(tx: &Tx, practice: PracticeId) -> Result<Vec<Account>> {
    let sql = format!(
        "SELECT {ACCOUNT} FROM account WHERE practice_id = $1 AND subject_id IS NULL \
         ORDER BY created_at, account_id"
    );
    tx.all(&sql, values![practice]).await
}

/// Where a person who moved away is found, if they asked that their address lead on.
///
/// # Errors
/// As [`Tx::scalar`].
pub async fn account_forwarded(tx: &Tx, email_index: [u8; 32]) -> Result<Option<RegionId>> {
    let sql = "SELECT region AS value FROM forwarding_locator WHERE email_index = $1 AND expires_at > $2";
    tx.scalar(sql, values![email_index, tx.now()]).await
}

/// A practice.
#[derive(Clone)]
pub struct Practice {
    /// The practice.
    pub practice_id: PracticeId,
    /// Its sealed name.
    pub name_sealed: Vec<u8>,
    /// The region whose operator it is a customer of; elsewhere it is a guest.
    pub home_region: RegionId,
    /// Who decides about its data (P3).
    pub data_role: DataRole,
    /// The version of this region's agreement that it has signed (P46).
    pub agreement_version: Option<String>,
}

impl FromRow for Practice {
    fn from_row(row: &Row) -> Result<Self> {
        let data_role: String = row.get("data_role")?;
        let misfit = || Error::new(Code::Internal).at("column data_role");
        Ok(Self {
            practice_id: row.get("practice_id")?,
            name_sealed: row.get("name_sealed")?,
            home_region: row.get("home_region")?,
            data_role: DataRole::parse(&data_role).ok_or_else(misfit)?,
            agreement_version: row.maybe("agreement_version")?,
        })
    }
}

/// Adds a practice. Answers false when the id is taken.
///
/// # Errors
/// As [`Tx::execute`].
pub async fn practice_insert(
    tx: &Tx,
    practice: PracticeId,
    name_sealed: &[u8],
    home: &RegionId,
    data_role: DataRole,
) -> Result<bool> {
    let sql = "INSERT INTO practice (practice_id, name_sealed, home_region, data_role, created_at) \
               VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING";
    Ok(tx.execute(sql, values![practice, name_sealed, home, data_role.as_str(), tx.now()]).await? == 1)
}

/// A practice by its id.
///
/// # Errors
/// As [`Tx::one`].
pub async fn practice_get(tx: &Tx, practice: PracticeId) -> Result<Option<Practice>> {
    practice_find(tx, practice, "").await
}

/// A practice by its id, locked until the transaction ends.
///
/// # Errors
/// As [`Tx::one`].
pub async fn practice_lock(tx: &Tx, practice: PracticeId) -> Result<Option<Practice>> {
    practice_find(tx, practice, tx.for_update()).await
}

async fn practice_find(tx: &Tx, practice: PracticeId, lock: &str) -> Result<Option<Practice>> {
    let sql = format!(
        "SELECT practice_id, name_sealed, home_region, data_role, agreement_version FROM practice \
         WHERE practice_id = $1{lock}"
    );
    tx.one(&sql, values![practice]).await
}

/// Gives a practice another sealed name.
///
/// # Errors
/// As [`Tx::execute`].
pub async fn practice_rename(tx: &Tx, practice: PracticeId, name_sealed: &[u8]) -> Result<bool> {
    let sql = "UPDATE practice SET name_sealed = $2 WHERE practice_id = $1";
    Ok(tx.execute(sql, values![practice, name_sealed]).await? == 1)
}

/// The practice has signed this version of the region's agreement. Signing the same version again
/// keeps the first time. Answers when it was signed, or nothing for an unknown practice.
///
/// # Errors
/// As [`Tx::scalar`].
pub async fn practice_agreement_sign(
    tx: &Tx,
    practice: PracticeId,
    version: &str,
    by: AccountId,
) -> Result<Option<Timestamp>> {
    let sql = "UPDATE practice SET \
               agreement_at = CASE WHEN agreement_version = $2 THEN agreement_at ELSE $4 END, \
               agreement_by = CASE WHEN agreement_version = $2 THEN agreement_by ELSE $3 END, \
               agreement_version = $2 \
               WHERE practice_id = $1 RETURNING agreement_at AS value";
    tx.scalar(sql, values![practice, version, by, tx.now()]).await
}

/// A practice's enrolment as it was signed.
#[derive(Clone, PartialEq, Eq)]
pub struct StoredEnrolment {
    /// The enrolment's bytes.
    pub content: Vec<u8>,
    /// The home region's signature.
    pub signature: Vec<u8>,
}

impl FromRow for StoredEnrolment {
    fn from_row(row: &Row) -> Result<Self> {
        Ok(Self { content: row.get("content")?, signature: row.get("signature")? })
    }
}

/// Keeps an enrolment, in place of an earlier one of the same origin.
///
/// # Errors
/// As [`Tx::execute`].
pub async fn enrolment_put(
    tx: &Tx,
    practice: PracticeId,
    origin: &RegionId,
    content: &[u8],
    signature: &[u8],
) -> Result<()> {
    let sql = "INSERT INTO enrolment (practice_id, origin, content, signature, accepted_at) \
               VALUES ($1, $2, $3, $4, $5) ON CONFLICT (practice_id, origin) DO UPDATE SET \
               content = excluded.content, signature = excluded.signature, accepted_at = excluded.accepted_at";
    tx.execute(sql, values![practice, origin, content, signature, tx.now()]).await.map(drop)
}

/// The enrolment of a practice by its home region, `origin`: the region's own, or an accepted one.
///
/// # Errors
/// As [`Tx::one`].
pub async fn enrolment_get(
    tx: &Tx,
    practice: PracticeId,
    origin: &RegionId,
) -> Result<Option<StoredEnrolment>> {
    let sql = "SELECT content, signature FROM enrolment WHERE practice_id = $1 AND origin = $2";
    tx.one(sql, values![practice, origin]).await
}
