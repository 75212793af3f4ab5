//! Services that do what a test wants of them.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use domicile_proto::audit::v1 as audit;
use domicile_proto::audit::v1::audit_service_server::AuditService;
use domicile_rpc::{from_stream, scope, to_status};
use domicile_types::{Code, Error, RegionId};
use futures::future::BoxFuture;
use futures::stream::{self, Stream, StreamExt as _};
use http::{Request, Response};
use tokio::sync::Notify;
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::{Status, Streaming};

/// What `ListEntries` does, by the request's `start`.
pub(crate) const ANSWER: u64 = 0;
pub(crate) const PANIC: u64 = 1;
pub(crate) const ALREADY_RECORDED: u64 = 2;
pub(crate) const MISSING: u64 = 3;
pub(crate) const HANG: u64 = 4;
pub(crate) const MOVED: u64 = 5;
pub(crate) const WAIT: u64 = 6;
pub(crate) const FOREIGN_STATUS: u64 = 7;

/// An audit service with a switch for each case.
#[derive(Clone, Default)]
pub(crate) struct Cases {
    pub(crate) entered: Arc<Notify>,
    pub(crate) release: Arc<Notify>,
    pub(crate) calls: Arc<AtomicUsize>,
}

type Pieces = Pin<Box<dyn Stream<Item = Result<audit::ExportBundleResponse, Status>> + Send>>;

#[tonic::async_trait]
impl AuditService for Cases {
    async fn list_entries(
        &self,
        request: tonic::Request<audit::ListEntriesRequest>,
    ) -> Result<tonic::Response<audit::ListEntriesResponse>, Status> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        self.entered.notify_one();
        assert!(request.metadata().get("authorization").is_none(), "tokens stay in the layer");
        match request.get_ref().start {
            PANIC => panic!("Ann Example, born 1990"),
            ALREADY_RECORDED => scope(&request).map_err(to_status)?.mark_recorded(),
            MISSING => return Err(to_status(Error::new(Code::NotFound).at("item").because("Ann Example"))),
            HANG => std::future::pending().await,
            WAIT => self.release.notified().await,
            MOVED => {
                return Err(to_status(
                    Error::new(Code::RecordMoved).moved_to(RegionId::new("ca").unwrap(), 2),
                ));
            }
            FOREIGN_STATUS => {
                return Err(Status::internal("SELECT name FROM client WHERE name = 'Ann Example'"));
            }
            _ => {}
        }
        let size = u64::from(domicile_rpc::deadline(&request).map_err(to_status)?.left().subsec_nanos() > 0);
        Ok(tonic::Response::new(audit::ListEntriesResponse { entries: vec![], size }))
    }

    async fn list_own_entries(
        &self,
        _: tonic::Request<audit::ListOwnEntriesRequest>,
    ) -> Result<tonic::Response<audit::ListOwnEntriesResponse>, Status> {
        Ok(tonic::Response::new(audit::ListOwnEntriesResponse { entries: vec![] }))
    }

    async fn get_checkpoint(
        &self,
        request: tonic::Request<audit::GetCheckpointRequest>,
    ) -> Result<tonic::Response<audit::GetCheckpointResponse>, Status> {
        let actor = domicile_rpc::actor(&request).map_err(to_status)?;
        Ok(tonic::Response::new(audit::GetCheckpointResponse { checkpoint: format!("{actor:?}") }))
    }

    async fn get_inclusion_proof(
        &self,
        _: tonic::Request<audit::GetInclusionProofRequest>,
    ) -> Result<tonic::Response<audit::GetInclusionProofResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    type ExportBundleStream = Pieces;

    /// Two pieces, then silence without end.
    async fn export_bundle(
        &self,
        _: tonic::Request<audit::ExportBundleRequest>,
    ) -> Result<tonic::Response<Pieces>, Status> {
        let piece = || Ok(audit::ExportBundleResponse { content: vec![7; 1024] });
        Ok(tonic::Response::new(Box::pin(stream::iter([piece(), piece()]).chain(stream::pending()))))
    }
}

/// Answers every method of a service with an empty message, and counts.
#[derive(Clone, Default)]
pub(crate) struct Yes<const SERVICE: usize>(pub(crate) Arc<AtomicUsize>);

pub(crate) const SERVICES: [&str; 6] = [
    "domicile.identity.v1.IdentityService",
    "domicile.records.v1.RecordsService",
    "domicile.transfer.v1.TransferService",
    "domicile.transfer.v1.TransferControlService",
    "domicile.transfer.v1.TransferPeerService",
    "domicile.coordinator.v1.CoordinatorService",
];

impl<const SERVICE: usize> NamedService for Yes<SERVICE> {
    const NAME: &'static str = SERVICES[SERVICE];
}

impl<const SERVICE: usize> tower::Service<Request<Body>> for Yes<SERVICE> {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        self.0.fetch_add(1, Ordering::SeqCst);
        Box::pin(async move {
            let codec = tonic_prost::ProstCodec::<(), ()>::default();
            Ok(tonic::server::Grpc::new(codec).streaming(Empty, request).await)
        })
    }
}

/// Reads the whole request, then answers once.
struct Empty;

impl tonic::server::StreamingService<()> for Empty {
    type Response = ();
    type ResponseStream = Pin<Box<dyn Stream<Item = Result<(), Status>> + Send>>;
    type Future = BoxFuture<'static, Result<tonic::Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: tonic::Request<Streaming<()>>) -> Self::Future {
        Box::pin(async move {
            let mut messages = request.into_inner();
            while messages.message().await.map_err(|status| to_status(from_stream(&status)))?.is_some() {}
            let answer: Self::ResponseStream = Box::pin(stream::once(async { Ok(()) }));
            Ok(tonic::Response::new(answer))
        })
    }
}
