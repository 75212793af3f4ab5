//! The gRPC face of the service: decode, call, encode.

use bytes::Bytes;
use domicile_proto::records::v1 as pb;
use domicile_proto::records::v1::records_service_server::{RecordsService, RecordsServiceServer};
use domicile_rpc::{from_stream, scope, to_status};
use domicile_types::{Code, Error, Result};
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use tonic::{Request, Response, Status, Streaming};

use crate::Records;

/// An answer that comes in pieces.
type Pieces<T> = BoxStream<'static, Result<T, Status>>;
/// Pieces of an upload.
type Content = BoxStream<'static, Result<Bytes>>;

impl Records {
    /// The service as gRPC serves it.
    #[must_use]
    pub fn server(&self) -> RecordsServiceServer<Grpc> {
        RecordsServiceServer::new(Grpc(self.clone()))
    }
}

/// The handlers.
#[derive(Clone, Debug)]
pub struct Grpc(Records);

macro_rules! unary {
    ($self:ident . $method:ident ( $request:ident )) => {{
        let scope = scope(&$request).map_err(to_status)?;
        $self.0.$method(&scope, $request.into_inner()).await.map(Response::new).map_err(to_status)
    }};
}

#[tonic::async_trait]
impl RecordsService for Grpc {
    async fn put_item(
        &self,
        request: Request<pb::PutItemRequest>,
    ) -> Result<Response<pb::PutItemResponse>, Status> {
        unary!(self.put_item(request))
    }

    async fn put_joint_item(
        &self,
        request: Request<pb::PutJointItemRequest>,
    ) -> Result<Response<pb::PutJointItemResponse>, Status> {
        unary!(self.put_joint_item(request))
    }

    async fn get_item(
        &self,
        request: Request<pb::GetItemRequest>,
    ) -> Result<Response<pb::GetItemResponse>, Status> {
        unary!(self.get_item(request))
    }

    async fn list_items(
        &self,
        request: Request<pb::ListItemsRequest>,
    ) -> Result<Response<pb::ListItemsResponse>, Status> {
        unary!(self.list_items(request))
    }

    async fn list_versions(
        &self,
        request: Request<pb::ListVersionsRequest>,
    ) -> Result<Response<pb::ListVersionsResponse>, Status> {
        unary!(self.list_versions(request))
    }

    async fn get_summary(
        &self,
        request: Request<pb::GetSummaryRequest>,
    ) -> Result<Response<pb::GetSummaryResponse>, Status> {
        unary!(self.get_summary(request))
    }

    async fn upload_object(
        &self,
        request: Request<Streaming<pb::UploadObjectRequest>>,
    ) -> Result<Response<pb::UploadObjectResponse>, Status> {
        use pb::upload_object_request::Part;
        let scope = scope(&request).map_err(to_status)?;
        let mut parts = request.into_inner();
        let Some(Part::Header(header)) = first(&mut parts).await?.and_then(|message| message.part) else {
            return Err(headless());
        };
        let content = content(parts, |message| match message.part {
            Some(Part::Content(content)) => Some(content),
            _ => None,
        });
        self.0.upload_object(&scope, header, content).await.map(Response::new).map_err(to_status)
    }

    type DownloadObjectStream = Pieces<pb::DownloadObjectResponse>;

    async fn download_object(
        &self,
        request: Request<pb::DownloadObjectRequest>,
    ) -> Result<Response<Self::DownloadObjectStream>, Status> {
        use pb::download_object_response::Part;
        let scope = scope(&request).map_err(to_status)?;
        let (header, content) =
            self.0.download_object(&scope, request.into_inner()).await.map_err(to_status)?;
        let message = |part| pb::DownloadObjectResponse { part: Some(part) };
        let head = stream::iter([Ok(message(Part::Header(header)))]);
        let rest =
            content.map(move |piece| piece.map(|piece| message(Part::Content(piece))).map_err(to_status));
        Ok(Response::new(head.chain(rest).boxed()))
    }

    async fn import_fhir(
        &self,
        request: Request<Streaming<pb::ImportFhirRequest>>,
    ) -> Result<Response<pb::ImportFhirResponse>, Status> {
        use pb::import_fhir_request::Part;
        let scope = scope(&request).map_err(to_status)?;
        let mut parts = request.into_inner();
        let Some(Part::Header(header)) = first(&mut parts).await?.and_then(|message| message.part) else {
            return Err(headless());
        };
        let content = content(parts, |message| match message.part {
            Some(Part::Content(content)) => Some(Bytes::from(content)),
            _ => None,
        });
        self.0.import_fhir(&scope, header, content).await.map(Response::new).map_err(to_status)
    }

    type ExportFhirStream = Pieces<pb::ExportFhirResponse>;

    async fn export_fhir(
        &self,
        request: Request<pb::ExportFhirRequest>,
    ) -> Result<Response<Self::ExportFhirStream>, Status> {
        let scope = scope(&request).map_err(to_status)?;
        let content = self.0.export_fhir(&scope, request.into_inner()).await.map_err(to_status)?;
        let message = |piece: Bytes| pb::ExportFhirResponse { content: piece.to_vec() };
        Ok(Response::new(content.map(move |piece| piece.map(message).map_err(to_status)).boxed()))
    }

    async fn grant_access(
        &self,
        request: Request<pb::GrantAccessRequest>,
    ) -> Result<Response<pb::GrantAccessResponse>, Status> {
        unary!(self.grant_access(request))
    }

    async fn revoke_grant(
        &self,
        request: Request<pb::RevokeGrantRequest>,
    ) -> Result<Response<pb::RevokeGrantResponse>, Status> {
        unary!(self.revoke_grant(request))
    }

    async fn list_access(
        &self,
        request: Request<pb::ListAccessRequest>,
    ) -> Result<Response<pb::ListAccessResponse>, Status> {
        unary!(self.list_access(request))
    }

    async fn open_care(
        &self,
        request: Request<pb::OpenCareRequest>,
    ) -> Result<Response<pb::OpenCareResponse>, Status> {
        unary!(self.open_care(request))
    }

    async fn close_care(
        &self,
        request: Request<pb::CloseCareRequest>,
    ) -> Result<Response<pb::CloseCareResponse>, Status> {
        unary!(self.close_care(request))
    }

    async fn set_legal_hold(
        &self,
        request: Request<pb::SetLegalHoldRequest>,
    ) -> Result<Response<pb::SetLegalHoldResponse>, Status> {
        unary!(self.set_legal_hold(request))
    }
}

/// The first message of a stream.
async fn first<T>(parts: &mut Streaming<T>) -> Result<Option<T>, Status> {
    parts.message().await.map_err(|status| to_status(from_stream(&status)))
}

/// The content of the messages that follow; any other message is refused.
fn content<T: 'static + Send>(parts: Streaming<T>, part: fn(T) -> Option<Bytes>) -> Content {
    parts
        .map(move |message| match message {
            Ok(message) => part(message).ok_or_else(|| Error::new(Code::InvalidRequest).at("content")),
            Err(status) => Err(from_stream(&status)),
        })
        .boxed()
}

fn headless() -> Status {
    to_status(Error::new(Code::InvalidRequest).at("header"))
}
