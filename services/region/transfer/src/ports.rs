//! What transfers need from others; the executable wires them.

use async_trait::async_trait;
use domicile_config::policy::Party;
use domicile_evidence::closing::ClosingProof;
use domicile_evidence::keys::{PublicKey, VerifierKey};
use domicile_proto::transfer::v1::transfer_peer_service_client::TransferPeerServiceClient;
use domicile_rpc::client::Channel;
use domicile_types::{PracticeId, RegionId, Result, TransferId};
use uuid::Uuid;

/// The other regions.
pub trait Peers: Send + Sync {
    /// A client of a region's peer service.
    ///
    /// # Errors
    /// [`domicile_types::Code::TransferNotAllowed`] for a region nobody configured.
    fn client(&self, region: &RegionId) -> Result<TransferPeerServiceClient<Channel>>;

    /// Who runs a region, as notices name the recipient.
    ///
    /// # Errors
    /// As [`Peers::client`].
    fn operator(&self, region: &RegionId) -> Result<Party>;

    /// The keys pinned for a region.
    ///
    /// # Errors
    /// As [`Peers::client`].
    fn keys(&self, region: &RegionId) -> Result<PeerKeys>;
}

/// A region's pinned keys.
#[derive(Clone, Debug)]
pub struct PeerKeys {
    /// Signs its statements.
    pub statement: PublicKey,
    /// Signs its log's checkpoints.
    pub checkpoint: VerifierKey,
}

/// This region's audit log, for the closing of a transfer.
#[async_trait]
pub trait Closing: Send + Sync {
    /// A checkpoint that covers this region's own entry of a statement, and the proof that it does; waits
    /// until there is one.
    async fn proof(&self, transfer: TransferId, statement: [u8; 32]) -> Result<ClosingProof>;
}

/// Practices' enrolments.
#[async_trait]
pub trait Enrolments: Send + Sync {
    /// Whether a practice of this region has an agreement and a standing instruction for a destination.
    async fn instructs(&self, practice: PracticeId, destination: &RegionId) -> Result<bool>;
    /// Whether a practice, of this or another region, is known here.
    async fn known(&self, practice: PracticeId) -> Result<bool>;
}

/// The region's other processes: each holds unwrapped keys in its memory for a while.
#[async_trait]
pub trait Replicas: Send + Sync {
    /// Asks every other process to drop what it holds of these records or transfers; which asking it is.
    async fn drop_keys(&self, about: &[Uuid]) -> Result<Uuid>;
    /// Waits until every other process has done so, or can no longer hold anything.
    async fn dropped(&self, asking: Uuid) -> Result<()>;
}
