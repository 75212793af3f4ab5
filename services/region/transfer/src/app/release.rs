//! Source: the release. Everything is computed and sealed beforehand; the transaction only compares and
//! commits.

use std::sync::Arc;

use domicile_crypto::travel::{Sealer, Unit};
use domicile_crypto::{Key32, SubjectSecret, aad, hpke, open, sha256};
use domicile_proto::transfer::v1::GetKeyReleaseResponse;
use domicile_transfer_protocol::release::{Chunk, KeyRelease};
use domicile_transfer_protocol::rows::{ConsentEventRow, ControlRows, SecretRow};
use domicile_transfer_protocol::source::ReleaseInputs;
use domicile_transfer_protocol::store::Driver;
use domicile_transfer_protocol::{Digest, Source, SourceFacts, State, TransferStore};
use domicile_types::{Code, Ctx, Error, RegionId, Result, Role, SubjectId, Timestamp, TransferId};

use super::Transfers;
use super::streams::{Route, stored_head};
use crate::convert;

/// Control rows sealed in pieces of this many bytes.
const CONTROL_PIECE: usize = 512 * 1024;
/// The largest key release; it is refused before the point of no return, not after it.
const MOST_RELEASE: usize = 48 * 1024 * 1024;
/// How often control rows may change between sealing and committing before the step gives up for now.
const TRIES: u32 = 5;

impl<S: TransferStore> Transfers<S> {
    /// Compares the roots and completes the transfer. The root is of this freeze: the record stands
    /// still, and the transaction refuses when it does not.
    pub(super) async fn release(&self, transfer: TransferId, driver: Driver) -> Result<()> {
        for _ in 0..TRIES {
            let row = self.source(transfer).await?;
            if row.state != State::Staged {
                return Ok(());
            }
            match self.try_release(&row, driver).await {
                Err(error) if error.code() == Code::Conflict => {}
                Err(error) if error.code() == Code::RootMismatch => {
                    return self.roots_differ(transfer, driver).await;
                }
                other => return other,
            }
        }
        Err(Error::new(Code::Conflict).at("release"))
    }

    async fn try_release(&self, row: &Source, driver: Driver) -> Result<()> {
        let root = self.store.source_manifest(row.transfer).await?.root()?;
        if row.staged.as_ref().is_none_or(|staged| staged.root != root) {
            return Err(Error::new(Code::RootMismatch));
        }
        let control = self.control_rows(row).await?;
        let release = self.seal_release(row, &control).await?;
        if release.encode().len() > MOST_RELEASE {
            return Err(Error::new(Code::TooLarge).at("control rows"));
        }
        let key_release =
            serde_json::to_vec(&release).map_err(|cause| Error::new(Code::Internal).because(cause))?;
        let inputs = ReleaseInputs {
            freeze: row.freeze,
            root,
            control_revision: control.control_revision,
            key_release_digest: Digest(sha256(&release.encode())),
            key_release,
        };
        self.ctx.faults.hit("released.before_commit");
        let decision = Arc::new(move |facts: &SourceFacts| match facts.row.state {
            State::Released => Ok(None),
            _ => facts.release(&inputs).map(Some),
        });
        self.store.decide_source("transfer_release", row.transfer, Some(driver), None, decision).await?;
        self.ctx.faults.hit("released.after_commit");
        Ok(())
    }

    async fn roots_differ(&self, transfer: TransferId, driver: Driver) -> Result<()> {
        let numbers = self.numbers().clone();
        let decision = Arc::new(move |facts: &SourceFacts| match facts.row.state {
            State::Staged => facts.mismatch(&numbers),
            _ => Ok(None),
        });
        let row =
            self.store.decide_source("transfer_mismatch", transfer, Some(driver), None, decision).await?;
        self.after_abort(&row).await
    }

    /// The control rows with what only this region can open: e-mail address, name, travelling secrets.
    async fn control_rows(&self, row: &Source) -> Result<ControlRows> {
        let mut control = self.store.control_rows(row.subject).await?;
        if let (Some(sealed), Some(account)) =
            (self.store.account_sealed(row.subject).await?, &mut control.account)
        {
            let key = self.keyring.find_account_key(row.subject).await?;
            account.email = open_field(&self.region, &key, &sealed, "email", sealed.email.as_deref())?;
            account.name = open_field(&self.region, &key, &sealed, "name", sealed.name.as_deref())?;
        }
        control.secrets = self.travelling_secrets(row.subject).await?;
        complete_consent(&mut control, row, self.ctx.now());
        Ok(control)
    }

    /// The fingerprint key and the pseudonym key. Each log's pseudonym is derived from that one key and the
    /// region's name, so the destination can still answer who looked in the record's former regions.
    async fn travelling_secrets(&self, subject: SubjectId) -> Result<Vec<SecretRow>> {
        let mut secrets = Vec::new();
        for secret in SubjectSecret::ALL {
            let key = self.keyring.subject_secret(subject, *secret).await?;
            secrets.push(SecretRow { purpose: secret.as_str().to_owned(), key: key.expose().to_vec() });
        }
        Ok(secrets)
    }

    async fn seal_release(&self, row: &Source, control: &ControlRows) -> Result<KeyRelease> {
        let key = self.travel_key(row.transfer).await?;
        let epoch = self.store.epoch(row.subject).await?.saturating_add(1);
        seal_release(&self.ctx, row, &key, epoch, control)
    }

    /// The sealed key release, to the destination alone, once Released stands.
    ///
    /// # Errors
    /// [`Code::NotFound`] for anybody but the destination; [`Code::AttemptStale`]; [`Code::TransferState`];
    /// [`Code::ContentDamaged`] when what is stored is none any more.
    pub async fn key_release(
        &self,
        from: &RegionId,
        transfer: TransferId,
        attempt: u64,
    ) -> Result<GetKeyReleaseResponse> {
        let row = self.source(transfer).await?;
        if row.to != *from {
            return Err(Error::new(Code::NotFound).at("transfer"));
        }
        if row.attempt != attempt {
            return Err(Error::new(Code::AttemptStale));
        }
        let kept = self.store.key_release(transfer).await?;
        let kept = kept.ok_or_else(|| Error::new(Code::TransferState).at(row.state.as_str()))?;
        // The parser's own words could quote it: they are dropped.
        let release: KeyRelease =
            serde_json::from_slice(&kept).map_err(|_| Error::new(Code::ContentDamaged).at("key release"))?;
        Ok(convert::key_release(release))
    }
}

/// Seals the travel key for the destination's key of this attempt, and the control rows under it.
///
/// # Errors
/// [`Code::TransferState`] before the destination has staged; [`Code::ConsentMissing`]; [`Code::KeyDenied`] when
/// the destination's key is none.
pub fn seal_release(
    ctx: &Ctx,
    row: &Source,
    key: &Key32,
    epoch: u64,
    control: &ControlRows,
) -> Result<KeyRelease> {
    let staged = row.staged.as_ref().ok_or_else(|| Error::new(Code::TransferState))?;
    let public = row.hpke_public.as_ref().ok_or_else(|| Error::new(Code::TransferState))?;
    let consent = row.consent.as_ref().ok_or_else(|| Error::new(Code::ConsentMissing))?;
    let info = aad::key_release(&aad::KeyRelease {
        transfer: row.transfer,
        attempt: row.attempt,
        source: &row.from,
        destination: &row.to,
        epoch,
        root: staged.root.as_bytes(),
        consent_digest: consent.digest.as_bytes(),
    });
    let (encapsulated, sealed_key) = hpke::seal(public, &info, &[], key.expose())?;
    let header = Route::of_source(row)?.header(Unit::Control);
    let (mut sealer, head) = Sealer::new(key, &header, ctx)?;
    let clear = serde_json::to_vec(control).map_err(|cause| Error::new(Code::Internal).because(cause))?;
    let pieces: Vec<&[u8]> = clear.chunks(CONTROL_PIECE).collect();
    let mut control_chunks = Vec::with_capacity(pieces.len());
    for (index, piece) in pieces.iter().enumerate() {
        control_chunks.push(Chunk(sealer.seal_next(piece, &[], index + 1 == pieces.len())?));
    }
    Ok(KeyRelease { encapsulated, sealed_key, control_head: stored_head(&head), control_chunks })
}

/// The consent as it stands once the transfer is complete: in the new home it is used, not open.
fn complete_consent(control: &mut ControlRows, row: &Source, now: Timestamp) {
    let Some(given) = &row.consent else { return };
    for consent in control.consents.iter_mut().filter(|consent| consent.consent == given.id) {
        consent.status = "completed".to_owned();
        consent.ended_at = Some(now);
    }
    let lines = control.events.iter().filter(|event| event.consent == given.id);
    let last = lines.map(|event| event.sequence).max().unwrap_or(0);
    control.events.push(ConsentEventRow {
        consent: given.id,
        sequence: last + 1,
        event: "completed".to_owned(),
        actor: None,
        role: Role::System.as_str().to_owned(),
        at: now,
    });
}

/// A field of an account, in clear.
///
/// # Errors
/// [`Code::ContentDamaged`] when it does not open.
pub(super) fn open_field(
    region: &RegionId,
    key: &Key32,
    account: &domicile_transfer_protocol::store::SealedAccount,
    field: &str,
    sealed: Option<&[u8]>,
) -> Result<Option<String>> {
    let Some(sealed) = sealed else { return Ok(None) };
    let clear = open(key, &aad::account_field(region, account.account, field), sealed)?;
    let text =
        String::from_utf8(clear.to_vec()).map_err(|_| Error::new(Code::ContentDamaged).at("account"))?;
    Ok(Some(text))
}
