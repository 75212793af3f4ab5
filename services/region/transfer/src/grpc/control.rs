//! `TransferControlService`: for the coordinator.

use std::pin::Pin;

use domicile_evidence::closing::ClosingProof;
use domicile_proto::transfer::v1 as pb;
use domicile_proto::transfer::v1::transfer_control_service_server::TransferControlService;
use domicile_transfer_protocol::TransferStore;
use domicile_transfer_protocol::plan::Ask;
use domicile_transfer_protocol::store::Driver;
use domicile_types::{Code, Error, TransferId};
use futures::{Stream, StreamExt as _, stream};
use tokio_stream::wrappers::BroadcastStream;
use tonic::{Request, Response, Status};
use uuid::Uuid;

use super::{encode, parse, status};
use crate::app::{Advance, Transfers};
use crate::convert;

/// `TransferControlService` over a region's transfers.
pub struct ControlService<S>(pub Transfers<S>);

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl<S: TransferStore> TransferControlService for ControlService<S> {
    async fn list_open(&self, _: Request<pb::ListOpenRequest>) -> Answer<pb::ListOpenResponse> {
        let views = self.0.open_views().await.map_err(status)?;
        Ok(Response::new(pb::ListOpenResponse { views: views.iter().map(encode::view).collect() }))
    }

    async fn get_view(&self, request: Request<pb::GetViewRequest>) -> Answer<pb::GetViewResponse> {
        let transfer = parse(&request.get_ref().transfer_id, "transfer_id")?;
        let view = self.0.find_view(transfer).await.map_err(status)?;
        Ok(Response::new(pb::GetViewResponse { view: view.as_ref().map(encode::view) }))
    }

    type WatchChangesStream = Pin<Box<dyn Stream<Item = Result<pb::WatchChangesResponse, Status>> + Send>>;

    async fn watch_changes(&self, _: Request<pb::WatchChangesRequest>) -> Answer<Self::WatchChangesStream> {
        let changes = BroadcastStream::new(self.0.changes());
        let open = self.0.open_views().await.map_err(status)?;
        let open = stream::iter(open.into_iter().map(|view| Ok(changed(view.transfer))));
        // Missed changes do not matter: the coordinator polls besides.
        let later = changes.filter_map(async |change| change.ok().map(|transfer| Ok(changed(transfer))));
        Ok(Response::new(Box::pin(open.chain(later))))
    }

    async fn take_lease(&self, request: Request<pb::TakeLeaseRequest>) -> Answer<pb::TakeLeaseResponse> {
        let body = request.into_inner();
        let holder: Uuid = parse(&body.holder, "holder")?;
        let token = self.0.lease(parse(&body.transfer_id, "transfer_id")?, holder).await.map_err(status)?;
        let lasts = self.0.options.numbers.lease.as_millis();
        let lasts_ms = u32::try_from(lasts).unwrap_or(u32::MAX);
        Ok(Response::new(pb::TakeLeaseResponse { token: token.unwrap_or(0), lasts_ms }))
    }

    async fn advance(&self, request: Request<pb::AdvanceRequest>) -> Answer<pb::AdvanceResponse> {
        let advance = read_advance(request.get_ref())?;
        domicile_rpc::scope(&request).map_err(status)?.moves(advance.transfer);
        let (view, statements) = self.0.advance(advance).await.map_err(status)?;
        let statements = statements.into_iter().map(convert::statement).collect();
        Ok(Response::new(pb::AdvanceResponse { view: Some(encode::view(&view)), statements }))
    }

    async fn get_statements(
        &self,
        request: Request<pb::GetStatementsRequest>,
    ) -> Answer<pb::GetStatementsResponse> {
        let body = request.into_inner();
        let transfer = parse(&body.transfer_id, "transfer_id")?;
        let statements = self.0.own_statements(transfer, body.after).await.map_err(status)?;
        let statements = statements.into_iter().map(convert::statement).collect();
        Ok(Response::new(pb::GetStatementsResponse { statements }))
    }

    async fn get_closing_proof(
        &self,
        request: Request<pb::GetClosingProofRequest>,
    ) -> Answer<pb::GetClosingProofResponse> {
        let transfer = parse(&request.get_ref().transfer_id, "transfer_id")?;
        let proof = self.0.closing_proof(transfer).await.map_err(status)?;
        Ok(Response::new(pb::GetClosingProofResponse { proof: Some(closing_proof(proof)) }))
    }
}

fn changed(transfer: TransferId) -> pb::WatchChangesResponse {
    pb::WatchChangesResponse { transfer_id: transfer.to_string() }
}

fn closing_proof(proof: ClosingProof) -> pb::ClosingProof {
    pb::ClosingProof {
        checkpoint: proof.checkpoint,
        index: proof.index,
        entry: proof.entry.into(),
        proof: proof.proof.iter().map(|hash| convert::bytes(hash)).collect(),
    }
}

fn read_proof(proof: &pb::ClosingProof) -> Result<ClosingProof, Status> {
    let hash = |bytes: &bytes::Bytes| {
        bytes.as_ref().try_into().map_err(|_| status(Error::new(Code::InvalidRequest).at("peer_proof.proof")))
    };
    Ok(ClosingProof {
        checkpoint: proof.checkpoint.clone(),
        index: proof.index,
        entry: proof.entry.to_vec(),
        proof: proof.proof.iter().map(hash).collect::<Result<_, _>>()?,
    })
}

fn read_advance(body: &pb::AdvanceRequest) -> Result<Advance, Status> {
    let statements = body.statements.iter().map(convert::signed);
    Ok(Advance {
        transfer: parse(&body.transfer_id, "transfer_id")?,
        driver: Driver { attempt: body.attempt, token: body.token },
        statements: statements.collect::<domicile_types::Result<_>>().map_err(status)?,
        ask: ask(body.step()),
        proof: body.peer_proof.as_ref().map(read_proof).transpose()?,
        // A code of a newer release says nothing here.
        peer_cause: Code::parse(&body.cause),
    })
}

const fn ask(step: pb::Step) -> Ask {
    match step {
        pb::Step::Unspecified => Ask::Deliver,
        pb::Step::Preflight => Ask::Preflight,
        pb::Step::Prepare => Ask::Prepare,
        pb::Step::OpenCopy => Ask::OpenCopy,
        pb::Step::Pull => Ask::Pull,
        pb::Step::Freeze => Ask::Freeze,
        pb::Step::Stage => Ask::Stage,
        pb::Step::Release => Ask::Release,
        pb::Step::Adopt => Ask::Adopt,
        pb::Step::Rekey => Ask::Rekey,
        pb::Step::Shred => Ask::Shred,
        pb::Step::Close => Ask::Close,
        pb::Step::Abort => Ask::Abort,
        pb::Step::Purge => Ask::Purge,
    }
}
