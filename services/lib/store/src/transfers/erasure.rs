//! Reading what moves besides items, and erasing what has moved.

use domicile_transfer_protocol::rows::{AccountRow, ControlRows, KindTotal, ObjectRow, Remains, Totals};
use domicile_transfer_protocol::store::SealedAccount;
use domicile_types::{AccountId, Code, Error, RegionId, Result, SubjectId, Timestamp, TransferId};

use crate::queries::object::{self, ObjectState};
use crate::queries::residency::{self, Entitled};
use crate::queries::scoped::Reader;
use crate::queries::{access, consent, item, staging};
use crate::{FromRow, Row, Tx, values};

/// What a record holds, for the offer.
pub(super) async fn totals(tx: &Tx, subject: SubjectId) -> Result<Totals> {
    let mut totals = Totals::default();
    for kind in item::counts(tx, subject, Reader::Whole).await? {
        totals
            .kinds
            .insert(kind.kind, KindTotal { schema: kind.schema, rows: kind.versions, bytes: kind.bytes });
    }
    let objects = object::list(tx, subject, ObjectState::Complete).await?;
    totals.objects = objects.len() as u64;
    totals.object_bytes = objects.iter().map(|object| object.length).sum();
    totals.practices = access::practices(tx, subject).await?;
    let private = "SELECT COUNT(*) AS value FROM item WHERE subject_id = $1 AND visibility = 'psychotherapy'";
    totals.psychotherapy = tx.scalar(private, values![subject]).await?.unwrap_or(0);
    totals.held = access::held(tx, subject).await?;
    totals.uploads_open = object::open_uploads(tx, subject).await?;
    Ok(totals)
}

/// The control rows, read in one transaction together with the counter they are at.
pub(super) async fn control_rows(tx: &Tx, subject: SubjectId) -> Result<ControlRows> {
    let home = residency::get(tx, subject).await?.ok_or_else(|| Error::new(Code::NotFound))?;
    let objects = object::list(tx, subject, ObjectState::Complete).await?;
    Ok(ControlRows {
        subject,
        attempt: home.attempt,
        region_choice: home.choice.as_str().to_owned(),
        revision: home.revision,
        control_revision: home.control_revision,
        account: tx.one::<Client>(ACCOUNT, values![subject]).await?.map(|client| client.0),
        care: access::care_list(tx, subject).await?,
        grants: access::grant_list(tx, subject).await?,
        holds: access::hold_list(tx, subject).await?,
        consents: consent::list(tx, subject).await?,
        events: consent::events(tx, subject).await?,
        secrets: Vec::new(),
        objects: objects
            .into_iter()
            .map(|object| ObjectRow {
                object: object.object,
                item: object.item,
                practice: object.practice,
                length: object.length,
                chunks: object.chunks,
            })
            .collect(),
    })
}

const ACCOUNT: &str = "SELECT account_id, password_phc, invite_hash, invite_expires, state, created_at \
                       FROM account WHERE subject_id = $1";

struct Client(AccountRow);

impl FromRow for Client {
    fn from_row(row: &Row) -> Result<Self> {
        let invite: Option<Vec<u8>> = row.maybe("invite_hash")?;
        Ok(Self(AccountRow {
            account: row.get("account_id")?,
            email: None,
            name: None,
            password_phc: row.maybe("password_phc")?,
            invite_hash: invite.map(hex::encode),
            invite_expires: row.maybe("invite_expires")?,
            state: row.get("state")?,
            created_at: row.get("created_at")?,
        }))
    }
}

impl FromRow for SealedAccount {
    fn from_row(row: &Row) -> Result<Self> {
        Ok(Self {
            account: row.get("account_id")?,
            email: row.maybe("email_sealed")?,
            name: row.maybe("name_sealed")?,
        })
    }
}

/// The sealed fields of the subject's account.
pub(super) async fn account_sealed(tx: &Tx, subject: SubjectId) -> Result<Option<SealedAccount>> {
    let sql = "SELECT account_id, email_sealed, name_sealed FROM account WHERE subject_id = $1";
    tx.one(sql, values![subject]).await
}

/// What the erasure needs to know of the transfer.
pub(super) struct Erasing {
    pub(super) transfer: TransferId,
    pub(super) subject: SubjectId,
    pub(super) to: RegionId,
    /// Until when a forwarding locator is kept, when the client asked for one.
    pub(super) locator: Option<Timestamp>,
}

/// Erases up to `limit` rows of the record; how many went. First notes who may be told where it is; rows
/// of items, then objects, then control rows, then the account and its sessions.
pub(super) async fn erase(tx: &Tx, erasing: &Erasing, limit: u32) -> Result<u64> {
    let subject = erasing.subject;
    remember(tx, erasing).await?;
    let gone =
        item::erase(tx, subject, limit).await? + staging::sent_drop(tx, erasing.transfer, limit).await?;
    if gone > 0 {
        return Ok(gone);
    }
    let mut gone = 0;
    for table in ERASED {
        gone += tx.execute(&format!("DELETE FROM {table} WHERE subject_id = $1"), values![subject]).await?;
    }
    crate::queries::transfer::keep_release(tx, erasing.transfer, None).await?;
    Ok(gone)
}

/// Tables of a subject that the source keeps nothing of. Consents and their history stay: the data map
/// says why.
const ERASED: &[&str] = &["object", "care_relationship", "access_grant", "legal_hold", "session", "account"];

/// Who may be told where the record is, and the forwarding locator if the client asked for it.
async fn remember(tx: &Tx, erasing: &Erasing) -> Result<()> {
    let subject = erasing.subject;
    let mut who: Vec<Entitled> =
        access::practices(tx, subject).await?.into_iter().map(Entitled::Practice).collect();
    let account = "SELECT account_id AS value FROM account WHERE subject_id = $1";
    who.extend(tx.scalar::<AccountId>(account, values![subject]).await?.map(Entitled::Account));
    let sessions =
        "SELECT token_hash FROM session WHERE subject_id = $1 AND ended_at IS NULL AND ends_at > $2";
    let sessions: Vec<Token> = tx.all(sessions, values![subject, tx.now()]).await?;
    who.extend(sessions.into_iter().map(|token| Entitled::Session(token.0)));
    residency::entitle(tx, subject, &who).await?;
    let Some(until) = erasing.locator else { return Ok(()) };
    let sql = "INSERT INTO forwarding_locator (email_index, region, expires_at) \
               SELECT email_index, $2, $3 FROM account WHERE subject_id = $1 AND email_index IS NOT NULL \
               ON CONFLICT (email_index) DO UPDATE SET region = excluded.region, expires_at = excluded.expires_at";
    tx.execute(sql, values![subject, &erasing.to, until]).await.map(drop)
}

struct Token([u8; 32]);

impl FromRow for Token {
    fn from_row(row: &Row) -> Result<Self> {
        row.get("token_hash").map(Self)
    }
}

/// What is left of the subject, in every table of which the data map says that nothing may be.
pub(super) async fn remains(tx: &Tx, subject: SubjectId) -> Result<Remains> {
    let mut remains = Remains::default();
    for table in crate::datamap::shredded() {
        let sql = format!("SELECT COUNT(*) AS value FROM {} WHERE subject_id = $1", table.name);
        let rows: u64 = tx.scalar(&sql, values![subject]).await?.unwrap_or(0);
        if rows > 0 {
            remains.tables.insert(table.name.to_owned(), rows);
        }
    }
    Ok(remains)
}
