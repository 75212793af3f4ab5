//! The service as gRPC: decode, call, encode.

use std::sync::Arc;

use domicile_proto::audit::v1::audit_service_server::AuditService;
use domicile_proto::audit::v1::{
    ExportBundleRequest, ExportBundleResponse, GetCheckpointRequest, GetCheckpointResponse,
    GetInclusionProofRequest, GetInclusionProofResponse, ListEntriesRequest, ListEntriesResponse,
    ListOwnEntriesRequest, ListOwnEntriesResponse, LogEntry,
};
use domicile_rpc::{scope, to_status};
use domicile_store::queries::audit::EntryRow;
use domicile_types::{Code, Error, Result, TransferId};
use futures::StreamExt as _;
use futures::stream::BoxStream;
use tonic::{Request, Response, Status};

use crate::app::App;

/// The audit service behind its wrapper.
#[derive(Clone)]
pub struct AuditGrpc(Arc<App>);

impl AuditGrpc {
    /// Serves an app.
    #[must_use]
    pub const fn new(app: Arc<App>) -> Self {
        Self(app)
    }
}

#[tonic::async_trait]
impl AuditService for AuditGrpc {
    async fn list_entries(
        &self,
        request: Request<ListEntriesRequest>,
    ) -> Result<Response<ListEntriesResponse>, Status> {
        let ListEntriesRequest { start, limit, transfer_id } = request.into_inner();
        let transfer = transfer(&transfer_id).map_err(to_status)?;
        let (entries, size) = self.0.entries(start, limit, transfer).await.map_err(to_status)?;
        Ok(Response::new(ListEntriesResponse { entries: encode(entries), size }))
    }

    async fn list_own_entries(
        &self,
        request: Request<ListOwnEntriesRequest>,
    ) -> Result<Response<ListOwnEntriesResponse>, Status> {
        let scope = scope(&request).map_err(to_status)?;
        let ListOwnEntriesRequest { start, limit } = request.into_inner();
        let entries = self.0.own_entries(&scope, start, limit).await.map_err(to_status)?;
        Ok(Response::new(ListOwnEntriesResponse { entries: encode(entries) }))
    }

    async fn get_checkpoint(
        &self,
        _request: Request<GetCheckpointRequest>,
    ) -> Result<Response<GetCheckpointResponse>, Status> {
        let checkpoint = self.0.checkpoint().await.map_err(to_status)?.note;
        Ok(Response::new(GetCheckpointResponse { checkpoint }))
    }

    async fn get_inclusion_proof(
        &self,
        request: Request<GetInclusionProofRequest>,
    ) -> Result<Response<GetInclusionProofResponse>, Status> {
        let proven = self.0.proof(request.into_inner().index).await.map_err(to_status)?;
        Ok(Response::new(GetInclusionProofResponse {
            checkpoint: proven.checkpoint,
            entry: proven.entry,
            proof: proven.proof.iter().map(|hash| hash.to_vec()).collect(),
        }))
    }

    type ExportBundleStream = BoxStream<'static, Result<ExportBundleResponse, Status>>;

    async fn export_bundle(
        &self,
        request: Request<ExportBundleRequest>,
    ) -> Result<Response<Self::ExportBundleStream>, Status> {
        let scope = scope(&request).map_err(to_status)?;
        let about = transfer(&request.into_inner().transfer_id).map_err(to_status)?;
        let bundle = self.0.export(&scope, about).await.map_err(to_status)?;
        let piece = |content: bytes::Bytes| ExportBundleResponse { content: content.into() };
        Ok(Response::new(bundle.map(move |content| content.map(piece).map_err(to_status)).boxed()))
    }
}

fn transfer(text: &str) -> Result<Option<TransferId>> {
    if text.is_empty() {
        return Ok(None);
    }
    let parsed = text.parse().map_err(|_| Error::new(Code::InvalidRequest).at("transfer_id"));
    parsed.map(Some)
}

fn encode(entries: Vec<EntryRow>) -> Vec<LogEntry> {
    entries.into_iter().map(|row| LogEntry { index: row.index, entry: row.entry }).collect()
}
