//! For the transfer service: the proof that a statement is in this region's log under a signed head.

use domicile_evidence::closing::ClosingProof;
use domicile_evidence::merkle::Hash;
use domicile_store::{Scope, Store};
use domicile_types::{EventId, Result, TransferId};

use crate::jobs::inclusion;
use crate::jobs::sequencer::{Sequencer, Sought};

/// Makes closing proofs. Cheap to clone.
#[derive(Clone)]
pub struct Closing {
    store: Store,
    sequencer: Sequencer,
}

impl Closing {
    /// Over the region's database and the process's sequencer.
    #[must_use]
    pub const fn new(store: Store, sequencer: Sequencer) -> Self {
        Self { store, sequencer }
    }

    /// The proof of the entry of an event, with a checkpoint signed at once if need be.
    ///
    /// # Errors
    /// [`domicile_types::Code::AuditUnavailable`] when the entry is not in the log in time.
    pub async fn of_event(&self, event: EventId) -> Result<ClosingProof> {
        self.of(Sought::Event(event)).await
    }

    /// The proof of the entry that stands for the statement of this digest.
    ///
    /// # Errors
    /// As [`Closing::of_event`].
    pub async fn of_statement(&self, transfer: TransferId, digest: Hash) -> Result<ClosingProof> {
        self.of(Sought::Statement(transfer, digest)).await
    }

    async fn of(&self, sought: Sought) -> Result<ClosingProof> {
        let covered = self.sequencer.covering(sought).await?;
        let (index, size) = (covered.index, covered.size);
        let proof = self
            .store
            .read("audit.prove", Scope::System, move |tx| Box::pin(inclusion(tx, index, size)))
            .await?;
        Ok(ClosingProof { checkpoint: covered.note, index, entry: covered.entry, proof })
    }
}
