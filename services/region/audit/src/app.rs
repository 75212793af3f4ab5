//! What may be asked of the log.

use std::sync::Arc;

use domicile_evidence::closing::ClosingProof;
use domicile_evidence::entry::Pseudonym;
use domicile_evidence::keys::VerifierKey;
use domicile_evidence::note::NoteSigner;
use domicile_evidence::policy::{LogKeys, LogPolicy};
use domicile_store::queries::audit::{self, CheckpointRow, EntryRow};
use domicile_store::{AuditFacts, Pseudonyms, Scope, Store};
use domicile_types::{AuditScope, Code, Error, RegionId, Result, TransferId};

use crate::export::{self, Bundle};
use crate::jobs::inclusion;
use crate::jobs::sequencer::Sequencer;

/// The most entries one answer holds.
const MOST: u32 = 1_000;
/// How many it holds when nobody says.
const USUAL: u32 = 100;

/// Who this log is among its peers.
#[derive(Clone)]
pub struct LogIdentity {
    /// The region.
    pub region: RegionId,
    /// The statement key's public half.
    pub statement: VerifierKey,
    /// The peers' pinned keys.
    pub peers: Vec<(RegionId, LogKeys)>,
    /// How many witnesses cosign; 0 in a deployment without witnesses, which is signed and shown.
    pub quorum: u32,
}

/// The audit service.
pub struct App {
    store: Store,
    sequencer: Sequencer,
    pseudonyms: Arc<dyn Pseudonyms>,
    identity: LogIdentity,
    policy: String,
}

impl App {
    /// Over the region's database, the process's sequencer and the key that knows pseudonyms.
    ///
    /// # Errors
    /// [`Code::AuditCorrupt`] when the log's origin cannot be signed.
    pub fn new(
        store: Store,
        sequencer: Sequencer,
        pseudonyms: Arc<dyn Pseudonyms>,
        identity: LogIdentity,
    ) -> Result<Self> {
        let origin = sequencer.log().name().to_owned();
        let policy = LogPolicy { origin, quorum: identity.quorum };
        let policy = policy.sign(&NoteSigner::new(sequencer.log(), sequencer.signer())?)?.to_string();
        Ok(Self { store, sequencer, pseudonyms, identity, policy })
    }

    /// Entries from an index on, of one transfer or of all, and the log's size.
    ///
    /// # Errors
    /// [`Code::InvalidRequest`] for a limit above 1,000.
    pub async fn entries(
        &self,
        start: u64,
        limit: u32,
        transfer: Option<TransferId>,
    ) -> Result<(Vec<EntryRow>, u64)> {
        let limit = bounded(limit)?;
        let read = self.store.read("audit.list", Scope::System, move |tx| {
            Box::pin(async move {
                let size = audit::log_size(tx).await?;
                let entries = match transfer {
                    Some(transfer) => audit::entry_list_transfer(tx, transfer, start, limit).await?,
                    None => audit::entry_list(tx, start, size, limit).await?,
                };
                Ok((entries, size))
            })
        });
        read.await
    }

    /// Entries about the caller's own record from an index on.
    ///
    /// # Errors
    /// [`Code::Forbidden`] when the caller is no client, [`Code::InvalidRequest`] for a limit above
    /// 1,000, the key store's errors.
    pub async fn own_entries(&self, scope: &AuditScope, start: u64, limit: u32) -> Result<Vec<EntryRow>> {
        let subject = scope.actor.subject()?;
        scope.concerns(subject);
        let limit = bounded(limit)?;
        let name: Pseudonym = self.pseudonyms.subject(subject).await?;
        let read = self.store.read("audit.own", Scope::System, move |tx| {
            Box::pin(audit::entry_list_subject(tx, name, start, limit))
        });
        read.await
    }

    /// The newest checkpoint, over everything that is in the log now.
    ///
    /// # Errors
    /// [`Code::AuditUnavailable`] when none could be signed in time.
    pub async fn checkpoint(&self) -> Result<CheckpointRow> {
        self.sequencer.checkpoint_now().await
    }

    /// The proof that an entry is under the newest checkpoint.
    ///
    /// # Errors
    /// [`Code::NotFound`] when the log has no such entry; as [`App::checkpoint`].
    pub async fn proof(&self, index: u64) -> Result<ClosingProof> {
        let checkpoint = self.checkpoint().await?;
        let size = checkpoint.size;
        if index >= size {
            return Err(Error::new(Code::NotFound).at("index"));
        }
        let read = self.store.read("audit.prove", Scope::System, move |tx| {
            Box::pin(async move {
                let entry = audit::entry_list(tx, index, size, 1).await?.pop();
                let entry = entry.ok_or_else(|| Error::new(Code::AuditCorrupt).at("entry"))?;
                Ok((entry.entry, inclusion(tx, index, size).await?))
            })
        });
        let (entry, proof) = read.await?;
        Ok(ClosingProof { checkpoint: checkpoint.note, index, entry, proof })
    }

    /// The bundle of the whole log, as file content in pieces. The export is itself an entry of it.
    ///
    /// # Errors
    /// [`Code::AuditUnavailable`] when the export could not be recorded or no checkpoint signed.
    pub async fn export(&self, scope: &Arc<AuditScope>, about: Option<TransferId>) -> Result<Bundle> {
        if let Some(transfer) = about {
            scope.moves(transfer);
        }
        self.store.audit_now(scope, AuditFacts::ok()).await?;
        let head = self.checkpoint().await?;
        Ok(export::start(self.store.clone(), self.facts(about), head))
    }

    fn facts(&self, about: Option<TransferId>) -> export::Facts {
        let keys =
            LogKeys { checkpoint: self.sequencer.log().clone(), statement: self.identity.statement.clone() };
        export::Facts {
            region: self.identity.region.clone(),
            keys,
            peers: self.identity.peers.clone(),
            policy: self.policy.clone(),
            about,
        }
    }
}

fn bounded(limit: u32) -> Result<u64> {
    match limit {
        0 => Ok(u64::from(USUAL)),
        limit if limit <= MOST => Ok(u64::from(limit)),
        _ => Err(Error::new(Code::InvalidRequest).at("limit")),
    }
}
