//! What one service of a region asks of another, answered by the other: they do not know each other.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use domicile_audit::Closing;
use domicile_config::RegionSettings;
use domicile_config::policy::Party;
use domicile_crypto::Zeroizing;
use domicile_evidence::closing::ClosingProof;
use domicile_evidence::policy::LogKeys;
use domicile_identity::Identity;
use domicile_proto::transfer::v1::transfer_peer_service_client::TransferPeerServiceClient;
use domicile_records::TravelReader;
use domicile_rpc::client::ClientIdentity;
use domicile_rpc::{AuditSink, Channel, Endpoint, Net, Pem, ServerIdentity, connect};
use domicile_store::queries::item::Travelling;
use domicile_store::queries::object::Object;
use domicile_store::transfers::SqlTransfers;
use domicile_store::{AuditFacts, Store};
use domicile_transfer::Transfers;
use domicile_transfer::ports;
use domicile_transfer_protocol::Digest;
use domicile_transfer_protocol::release::Head;
use domicile_transfer_protocol::rows::StagedRow;
use domicile_types::{AuditScope, Code, Error, ItemHeader, PracticeId, RegionId, Result, TransferId};
use futures::stream::{self, BoxStream, StreamExt as _};

/// The largest answer of another region: a key release, which the source keeps below 48 MiB.
const LARGEST_ANSWER: usize = 64 * 1024 * 1024;

/// Records the requests whose change did not write its own entry.
pub(super) struct StoreSink(pub(super) Store);

#[async_trait]
impl AuditSink for StoreSink {
    async fn record(&self, scope: &AuditScope, outcome: Result<(), Code>) -> Result<()> {
        let copy = AuditScope::new(scope.event, scope.actor.clone(), scope.request);
        scope.subject().into_iter().for_each(|subject| copy.concerns(subject));
        scope.item().into_iter().for_each(|item| copy.touches(item));
        scope.transfer().into_iter().for_each(|transfer| copy.moves(transfer));
        self.0.audit_now(&copy, AuditFacts::outcome(outcome)).await?;
        scope.mark_recorded();
        Ok(())
    }
}

/// The other regions: a channel to each and its pinned keys.
pub(super) struct PeerRegions(BTreeMap<RegionId, PeerRegion>);

struct PeerRegion {
    channel: Channel,
    operator: Party,
    keys: ports::PeerKeys,
}

/// Who runs a region, as notices name them (P3).
pub(super) fn operator(settings: &RegionSettings, region: &RegionId) -> Party {
    let operator = settings.operator_of(region);
    Party { region: region.clone(), name: operator.name.clone(), contact: operator.contact.clone() }
}

impl PeerRegions {
    /// Channels to every configured region; nothing is connected yet.
    pub(super) fn connect(
        settings: &RegionSettings,
        keys: &BTreeMap<RegionId, LogKeys>,
        net: &Arc<dyn Net>,
    ) -> Result<Self> {
        let mut regions = BTreeMap::new();
        for peer in &settings.peer {
            let Some(keys) = keys.get(&peer.region) else { continue };
            let endpoint = Endpoint {
                uri: peer.endpoint.clone(),
                server: ServerIdentity::Spiffe(peer.spiffe.clone()),
                authority: Pem::file(&settings.peers.authority),
                identity: Some(ClientIdentity {
                    certificate: Pem::file(&settings.peers.certificate),
                    key: Pem::file(&settings.peers.key),
                }),
            };
            let keys =
                ports::PeerKeys { statement: *keys.statement.key(), checkpoint: keys.checkpoint.clone() };
            let (channel, operator) = (connect(endpoint, Arc::clone(net))?, operator(settings, &peer.region));
            regions.insert(peer.region.clone(), PeerRegion { channel, operator, keys });
        }
        Ok(Self(regions))
    }

    fn find(&self, region: &RegionId) -> Result<&PeerRegion> {
        self.0.get(region).ok_or_else(|| Error::new(Code::TransferNotAllowed).at("destination"))
    }
}

impl ports::Peers for PeerRegions {
    fn client(&self, region: &RegionId) -> Result<TransferPeerServiceClient<Channel>> {
        let client = TransferPeerServiceClient::new(self.find(region)?.channel.clone());
        Ok(client.max_decoding_message_size(LARGEST_ANSWER))
    }

    fn operator(&self, region: &RegionId) -> Result<Party> {
        Ok(self.find(region)?.operator.clone())
    }

    fn keys(&self, region: &RegionId) -> Result<ports::PeerKeys> {
        Ok(self.find(region)?.keys.clone())
    }
}

/// This region's log, for transfers.
pub(super) struct LogClosing(pub(super) Closing);

#[async_trait]
impl ports::Closing for LogClosing {
    async fn proof(&self, transfer: TransferId, statement: [u8; 32]) -> Result<ClosingProof> {
        self.0.of_statement(transfer, statement).await
    }
}

/// Practices' enrolments, for transfers.
pub(super) struct Enrolled(pub(super) Identity);

#[async_trait]
impl ports::Enrolments for Enrolled {
    async fn instructs(&self, practice: PracticeId, destination: &RegionId) -> Result<bool> {
        self.0.practice_instructs(practice, destination).await
    }

    async fn known(&self, practice: PracticeId) -> Result<bool> {
        self.0.practice_known(practice).await
    }
}

/// Opens what has been adopted and is not sealed again yet, for records.
pub(super) struct Travel(pub(super) Transfers<SqlTransfers>);

#[async_trait]
impl TravelReader for Travel {
    async fn item(&self, header: &ItemHeader, travelling: Travelling) -> Result<Zeroizing<Vec<u8>>> {
        let head =
            Head { header: travelling.page_header, salt: travelling.salt, commitment: travelling.commitment };
        let row = StagedRow {
            item: header.item_id,
            version: header.version,
            revision: travelling.revision,
            page: travelling.page,
            position: travelling.position,
            last: travelling.last,
            digest: Digest(travelling.digest),
            sealed_header: travelling.sealed_header,
            sealed_payload: travelling.sealed_payload,
            object: header.object_id,
        };
        self.0.read_travelling(travelling.transfer, &head, &row).await.map_err(damaged)
    }

    async fn object(&self, object: &Object) -> Result<BoxStream<'static, Result<Bytes>>> {
        let missing = || Error::new(Code::ObjectMissing).at("object");
        let transfer = object.transfer.filter(|_| object.travelling).ok_or_else(missing)?;
        let (transfers, id, chunks) = (self.0.clone(), object.object, object.chunks);
        // The first chunk tells whether the content is still in travel form, before anything is answered.
        let first = transfers.read_travelling_chunk(transfer, id, 0, chunks).await.map_err(damaged)?;
        let rest = stream::iter(1..chunks).then(move |index| {
            let transfers = transfers.clone();
            async move {
                let chunk = transfers.read_travelling_chunk(transfer, id, index, chunks).await;
                chunk.map(|chunk| bytes(&chunk)).map_err(damaged)
            }
        });
        let first = stream::once(async move { Ok(bytes(&first)) });
        Ok(first.chain(rest).boxed())
    }
}

fn bytes(chunk: &Zeroizing<Vec<u8>>) -> Bytes {
    Bytes::copy_from_slice(chunk)
}

/// What did not open is damaged content for whoever reads a record.
fn damaged(error: Error) -> Error {
    match error.code() {
        Code::ChunkDamaged => Error::new(Code::ContentDamaged).at("travelling content").because(error),
        _ => error,
    }
}
