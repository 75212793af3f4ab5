//! Between the wire and the services: calls that are lost, answered into the void, heard twice or again
//! much later. TCP does none of this to bytes; retries, proxies and load balancers do it to calls.

use std::sync::Arc;
use std::time::Duration;

use domicile_proto::transfer::v1 as pb;
use domicile_proto::transfer::v1::transfer_control_service_server::TransferControlService;
use domicile_proto::transfer::v1::transfer_peer_service_server::TransferPeerService;
use domicile_transfer::grpc::{ControlService, PeerService};
use domicile_types::TransferId;
use prost::Message;
use tonic::{Request, Response, Status};

use super::process::Process;
use crate::memory::MemoryTransfers;

/// What every text of the simulation's records begins with, to be found where it must not be.
pub(super) const CANARY: &str = "CANARY-of-the-record";

type Answer<T> = Result<Response<T>, Status>;

/// A region's control service as coordinators find it.
pub(super) struct Garbled {
    pub(super) inner: Arc<ControlService<MemoryTransfers>>,
    pub(super) process: Arc<Process>,
}

fn lost() -> Status {
    Status::unavailable("lost in the simulation")
}

fn again<T: Clone>(request: &Request<T>) -> Request<T> {
    let mut copy = Request::new(request.get_ref().clone());
    *copy.metadata_mut() = request.metadata().clone();
    *copy.extensions_mut() = request.extensions().clone();
    copy
}

impl Garbled {
    /// No plaintext of a record goes through a coordinator (12).
    fn nothing_to_read(&self, what: &str, message: &impl Message) {
        let bytes = message.encode_to_vec();
        let found = bytes.windows(CANARY.len()).any(|window| window == CANARY.as_bytes());
        if found {
            self.process.world.broken(format!("invariant 12: {what} holds plaintext of a record"));
        }
    }
}

#[tonic::async_trait]
impl TransferControlService for Garbled {
    async fn list_open(&self, request: Request<pb::ListOpenRequest>) -> Answer<pb::ListOpenResponse> {
        self.inner.list_open(request).await
    }

    async fn get_view(&self, request: Request<pb::GetViewRequest>) -> Answer<pb::GetViewResponse> {
        self.inner.get_view(request).await
    }

    type WatchChangesStream = <ControlService<MemoryTransfers> as TransferControlService>::WatchChangesStream;

    async fn watch_changes(
        &self,
        request: Request<pb::WatchChangesRequest>,
    ) -> Answer<Self::WatchChangesStream> {
        self.inner.watch_changes(request).await
    }

    async fn take_lease(&self, request: Request<pb::TakeLeaseRequest>) -> Answer<pb::TakeLeaseResponse> {
        let answer = self.inner.take_lease(request).await;
        if self.process.chance(&self.process.sky.garbled) { Err(lost()) } else { answer }
    }

    async fn advance(&self, request: Request<pb::AdvanceRequest>) -> Answer<pb::AdvanceResponse> {
        self.nothing_to_read("an order", request.get_ref());
        let garbled = &self.process.sky.garbled;
        if self.process.chance(garbled) {
            return Err(lost());
        }
        if self.process.chance(garbled) {
            let (late, inner) = (again(&request), Arc::clone(&self.inner));
            let after = Duration::from_millis(self.process.rng.below(40_000));
            let process = Arc::clone(&self.process);
            tokio::spawn(async move {
                tokio::time::sleep(after).await;
                let answer = inner.advance(late).await;
                process.world.tell(process.host, &format!("heard again: {}", outcome(&answer)));
            });
        }
        let answer = self.inner.advance(request).await;
        if let Ok(answer) = &answer {
            self.nothing_to_read("an answer", answer.get_ref());
        }
        if self.process.chance(garbled) { Err(lost()) } else { answer }
    }

    async fn get_statements(
        &self,
        request: Request<pb::GetStatementsRequest>,
    ) -> Answer<pb::GetStatementsResponse> {
        let answer = self.inner.get_statements(request).await;
        if let Ok(answer) = &answer {
            self.nothing_to_read("statements", answer.get_ref());
        }
        answer
    }

    async fn get_closing_proof(
        &self,
        request: Request<pb::GetClosingProofRequest>,
    ) -> Answer<pb::GetClosingProofResponse> {
        self.inner.get_closing_proof(request).await
    }
}

fn outcome<T>(answer: &Answer<T>) -> String {
    match answer {
        Ok(_) => "done".to_owned(),
        Err(status) => {
            let code = status.metadata().get("domicile-code").and_then(|code| code.to_str().ok());
            code.unwrap_or("refused").to_owned()
        }
    }
}

/// A region's peer service as other regions find it.
pub(super) struct GarbledPeer {
    pub(super) inner: PeerService<MemoryTransfers>,
    pub(super) process: Arc<Process>,
}

impl GarbledPeer {
    /// What leaves for another region has been consented to at some time, and its key has not left before
    /// the release (3 and 4).
    fn may_leave(&self, transfer: &str, key: bool) {
        let Some(region) = self.process.world.regions.get(self.process.host) else { return };
        let Ok(id) = transfer.parse::<TransferId>() else { return };
        let db = region.disk.look();
        let Some(kept) = db.transfers.get(&id) else { return };
        let consented = db.consents.values().any(|(_, consent)| consent.transfer == Some(id));
        let released = kept.state() >= domicile_transfer_protocol::State::Released;
        drop(db);
        if !consented {
            self.process.world.broken(format!("invariant 3: bytes of {transfer} leave without a consent"));
        }
        if key && !released {
            self.process
                .world
                .broken(format!("invariant 4: the key of {transfer} leaves before its release"));
        }
    }

    fn answered<T>(&self, answer: Answer<T>) -> Answer<T> {
        if self.process.chance(&self.process.sky.garbled) { Err(lost()) } else { answer }
    }
}

#[tonic::async_trait]
impl TransferPeerService for GarbledPeer {
    async fn preflight(&self, request: Request<pb::PreflightRequest>) -> Answer<pb::PreflightResponse> {
        let answer = self.inner.preflight(request).await;
        self.answered(answer)
    }

    type PullPageStream = <PeerService<MemoryTransfers> as TransferPeerService>::PullPageStream;

    async fn pull_page(&self, request: Request<pb::PullPageRequest>) -> Answer<Self::PullPageStream> {
        let transfer = request.get_ref().transfer_id.clone();
        let answer = self.inner.pull_page(request).await;
        if answer.is_ok() {
            self.may_leave(&transfer, false);
        }
        self.answered(answer)
    }

    type ListDigestsStream = <PeerService<MemoryTransfers> as TransferPeerService>::ListDigestsStream;

    async fn list_digests(
        &self,
        request: Request<pb::ListDigestsRequest>,
    ) -> Answer<Self::ListDigestsStream> {
        self.inner.list_digests(request).await
    }

    type PullObjectStream = <PeerService<MemoryTransfers> as TransferPeerService>::PullObjectStream;

    async fn pull_object(&self, request: Request<pb::PullObjectRequest>) -> Answer<Self::PullObjectStream> {
        let transfer = request.get_ref().transfer_id.clone();
        let answer = self.inner.pull_object(request).await;
        if answer.is_ok() {
            self.may_leave(&transfer, false);
        }
        self.answered(answer)
    }

    async fn get_key_release(
        &self,
        request: Request<pb::GetKeyReleaseRequest>,
    ) -> Answer<pb::GetKeyReleaseResponse> {
        let transfer = request.get_ref().transfer_id.clone();
        let answer = self.inner.get_key_release(request).await;
        if answer.is_ok() {
            self.may_leave(&transfer, true);
        }
        self.answered(answer)
    }
}
