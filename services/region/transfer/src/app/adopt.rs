//! Destination: opening the key, taking the record over.

use std::collections::BTreeMap;
use std::sync::Arc;

use domicile_crypto::travel::{Opener, TravelHeader, Unit};
use domicile_crypto::{Key32, SubjectSecret, TransferKey, aad, blind, hpke, seal, sha256};
use domicile_kms::RegionKey;
use domicile_proto::transfer::v1::{GetKeyReleaseRequest, SealedHeader};
use domicile_transfer_protocol::manifest::{Manifest, ObjectEntry, RowEntry};
use domicile_transfer_protocol::release::KeyRelease;
use domicile_transfer_protocol::rows::{AdoptedRow, ControlRows, StagedObject, StagedPage, StagedRow};
use domicile_transfer_protocol::store::{Adoption, Driver};
use domicile_transfer_protocol::{Destination, DestinationFacts, State, TransferStore};
use domicile_types::{Code, Error, ItemHeader, PageId, Result, SubjectId, TransferId};
use prost::Message as _;

use super::Transfers;
use super::streams::{Route, first_chunk, frame, opener};
use super::work::apart;
use crate::convert;

impl<S: TransferStore> Transfers<S> {
    /// Opens the key release and takes the record over: headers, control rows, residency and statement
    /// in one transaction. Payloads stay as they travelled until they are sealed again.
    pub(super) async fn adopt_alone(&self, transfer: TransferId, driver: Driver) -> Result<()> {
        self.guard(transfer, driver).await?;
        let row = self.destination(transfer).await?;
        let Some(released) = row.released.filter(|_| row.state == State::Released) else { return Ok(()) };
        let release = self.fetch_release(&row).await?;
        let private = self.keyring.load_transfer_key(transfer, TransferKey::HpkePrivate).await?;
        let key = open_release(&row, &private, &release)?;
        let control = open_control(&row, &key, &release)?;
        let staged = self.store.staged_headers(transfer).await?;
        self.check_root(&row, &staged).await?;
        let rows = self.open_headers(&row, &key, control.subject, staged).await?;
        // Committed before its first use here: the payloads are read under it until they are sealed again.
        self.keyring.store_transfer_key(transfer, TransferKey::Travel, key.expose()).await?;
        self.keep_secrets(&control).await?;
        let adoption = self.adoption(rows, control, released.epoch).await?;
        let (subject, count) = (adoption.control.subject, adoption.rows.len() as u64);
        let decision = Arc::new(move |facts: &DestinationFacts| match facts.row.state {
            State::Adopted => Ok(None),
            _ => facts.adopted(subject, count).map(Some),
        });
        self.ctx.faults.hit("adopted.before_commit");
        self.store.adopt(transfer, adoption, decision).await?;
        self.ctx.faults.hit("adopted.after_commit");
        Ok(())
    }

    async fn fetch_release(&self, row: &Destination) -> Result<KeyRelease> {
        let request = GetKeyReleaseRequest { transfer_id: row.transfer.to_string(), attempt: row.attempt };
        self.ctx.faults.before("peer.key_release");
        let answer = self.peers.client(&row.from)?.get_key_release(request).await;
        self.ctx.faults.after("peer.key_release");
        convert::read_key_release(answer.map_err(|status| convert::peer_error(&status))?.into_inner())
    }

    async fn check_root(&self, row: &Destination, staged: &[StagedRow]) -> Result<()> {
        check_root(row, staged, &self.store.staged_objects(row.transfer).await?)
    }

    async fn open_headers(
        &self,
        row: &Destination,
        key: &Key32,
        subject: SubjectId,
        rows: Vec<StagedRow>,
    ) -> Result<Vec<AdoptedRow>> {
        let pages = self.store.staged_pages(row.transfer).await?;
        let openers = openers(row, key, &pages)?;
        apart(move || open_rows(&openers, &rows, subject)).await
    }

    /// Secrets that travel with the record: kept before the record is served.
    async fn keep_secrets(&self, control: &ControlRows) -> Result<()> {
        for secret in &control.secrets {
            let damaged = || Error::new(Code::ChunkDamaged).at("secret");
            let purpose = SubjectSecret::parse(&secret.purpose).ok_or_else(damaged)?;
            let key = Key32::from_slice(&secret.key)?;
            self.keyring.set_subject_secret(control.subject, purpose, &key).await?;
        }
        Ok(())
    }

    async fn adoption(&self, rows: Vec<AdoptedRow>, control: ControlRows, epoch: u64) -> Result<Adoption> {
        let account = control.account.as_ref();
        let (mut email_sealed, mut name_sealed, mut email_index) = (None, None, None);
        if let Some(account) = account {
            let key = self.keyring.account_key(control.subject).await?;
            let sealed = |field: &str, text: &str| {
                seal(
                    &key,
                    &self.ctx,
                    &aad::account_field(&self.region, account.account, field),
                    text.as_bytes(),
                )
            };
            email_sealed = account.email.as_deref().map(|email| sealed("email", email)).transpose()?;
            name_sealed = account.name.as_deref().map(|name| sealed("name", name)).transpose()?;
            if let Some(email) = account.email.as_deref() {
                let index = self.keyring.region_key(RegionKey::BlindIndex).await?;
                email_index = Some(blind::index(&index, "email", email));
            }
        }
        Ok(Adoption {
            rows: Arc::new(rows),
            control: Arc::new(control),
            epoch,
            email_sealed,
            name_sealed,
            email_index,
        })
    }
}

/// Opens the travel key: the release must be the one that the source's Released names, and its HPKE envelope
/// be bound to this transfer, attempt, root, epoch and consent.
///
/// # Errors
/// [`Code::StatementInvalid`] when it is another release; [`Code::ChunkDamaged`] when it does not open.
pub fn open_release(row: &Destination, private: &[u8], release: &KeyRelease) -> Result<Key32> {
    let released = row.released.ok_or_else(|| Error::new(Code::TransferState))?;
    if sha256(&release.encode()) != released.key_release.0 {
        return Err(Error::new(Code::StatementInvalid).at("key release"));
    }
    open_envelope(row, private, release)
}

/// Opens the HPKE envelope of a release, whose digest has been compared.
///
/// # Errors
/// [`Code::ChunkDamaged`] when it does not open for this transfer, attempt, root, epoch and consent.
pub fn open_envelope(row: &Destination, private: &[u8], release: &KeyRelease) -> Result<Key32> {
    let released = row.released.ok_or_else(|| Error::new(Code::TransferState))?;
    let consent = row.consent.as_ref().ok_or_else(|| Error::new(Code::ConsentMissing))?;
    let info = aad::key_release(&aad::KeyRelease {
        transfer: row.transfer,
        attempt: row.attempt,
        source: &row.from,
        destination: &row.to,
        epoch: released.epoch,
        root: released.root.as_bytes(),
        consent_digest: consent.digest.as_bytes(),
    });
    let key = hpke::open(private, &release.encapsulated, &info, &[], &release.sealed_key)?;
    Key32::from_slice(&key)
}

/// What is here now is what was signed and released: nothing has gone or changed since.
///
/// # Errors
/// [`Code::RootMismatch`] when it is not.
pub fn check_root(row: &Destination, rows: &[StagedRow], objects: &[StagedObject]) -> Result<()> {
    let row_entry = |row: &StagedRow| RowEntry {
        item: row.item,
        version: row.version,
        revision: row.revision,
        digest: row.digest,
    };
    let object_entry = |object: &StagedObject| ObjectEntry {
        object: object.sent.object,
        chunks: object.sent.chunks,
        digest: object.sent.digest,
    };
    let mut manifest = Manifest {
        rows: rows.iter().map(row_entry).collect(),
        objects: objects.iter().map(object_entry).collect(),
    };
    if row.released.map(|released| released.root) == Some(manifest.root()?) {
        Ok(())
    } else {
        Err(Error::new(Code::RootMismatch))
    }
}

/// Opens the control rows of a release.
///
/// # Errors
/// [`Code::ChunkDamaged`] when they do not open.
pub fn open_control(row: &Destination, key: &Key32, release: &KeyRelease) -> Result<ControlRows> {
    let header = Route::of_destination(row)?.header(Unit::Control);
    let mut opener = opener(key, &release.control_head, &header)?;
    let mut clear = Vec::new();
    for (index, chunk) in release.control_chunks.iter().enumerate() {
        let last = index + 1 == release.control_chunks.len();
        clear.extend_from_slice(&opener.open_next(&chunk.0, &[], last)?);
    }
    opener.finish()?;
    serde_json::from_slice(&clear).map_err(|_| Error::new(Code::ChunkDamaged).at("control rows"))
}

/// One opener a page, each checked against the route this transfer must have.
///
/// # Errors
/// [`Code::ChunkDamaged`] when a page is of another route or key.
pub fn openers(row: &Destination, key: &Key32, pages: &[StagedPage]) -> Result<BTreeMap<PageId, Opener>> {
    let route = Route::of_destination(row)?;
    let one = |page: &StagedPage| {
        let expected: TravelHeader = route.header(Unit::Page(page.page));
        Ok((page.page, opener(key, &page.head, &expected)?))
    };
    pages.iter().map(one).collect()
}

/// Opens the headers of staged rows.
///
/// # Errors
/// [`Code::ChunkDamaged`] when one does not open where it stands, or says another row than its frame.
pub fn open_rows(
    openers: &BTreeMap<PageId, Opener>,
    rows: &[StagedRow],
    subject: SubjectId,
) -> Result<Vec<AdoptedRow>> {
    let mut newest: BTreeMap<domicile_types::ItemId, u32> = BTreeMap::new();
    for row in rows {
        let version = newest.entry(row.item).or_default();
        *version = row.version.max(*version);
    }
    let open = |row: &StagedRow| {
        let header = open_header(openers, row, subject)?;
        Ok(AdoptedRow { current: newest.get(&row.item) == Some(&row.version), header })
    };
    rows.iter().map(open).collect()
}

fn open_header(
    openers: &BTreeMap<PageId, Opener>,
    row: &StagedRow,
    subject: SubjectId,
) -> Result<ItemHeader> {
    let damaged = || Error::new(Code::ChunkDamaged).at("header");
    let opener = openers.get(&row.page).ok_or_else(damaged)?;
    let chunk = first_chunk(row.position).ok_or_else(damaged)?;
    let clear =
        opener.open_at(chunk, false, &frame(row.item, row.version, row.revision), &row.sealed_header)?;
    let message = SealedHeader::decode(clear.as_slice()).map_err(|_| damaged())?;
    let header = convert::read_sealed_header(message).ok_or_else(damaged)?;
    let same = header.item_id == row.item
        && header.version == row.version
        && header.revision == row.revision
        && header.object_id == row.object
        && header.subject_id == subject;
    if same { Ok(header) } else { Err(damaged()) }
}
