//! `TransferPeerService`: for the other regions. The payload's only way.

use std::pin::Pin;

use domicile_proto::transfer::v1 as pb;
use domicile_proto::transfer::v1::transfer_peer_service_server::TransferPeerService;
use domicile_transfer_protocol::{TransferStore, Versions};
use domicile_types::{Code, Error, ItemId, ObjectId};
use futures::{Stream, StreamExt as _, stream};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::{calling_region, parse, status};
use crate::app::streams::page_digest;
use crate::app::{Invitation, ObjectPart, PageWanted, SentPage, Transfers};
use crate::convert;

/// `TransferPeerService` over a region's transfers.
pub struct PeerService<S>(pub Transfers<S>);

type Answer<T> = Result<Response<T>, Status>;
type Parts<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Sealed bytes of rows in one message; the message stays well under 4 MiB.
const ROWS_BYTES: usize = 1024 * 1024;
/// Digests in one message.
const DIGESTS: usize = 5_000;

#[tonic::async_trait]
impl<S: TransferStore> TransferPeerService for PeerService<S> {
    async fn preflight(&self, request: Request<pb::PreflightRequest>) -> Answer<pb::PreflightResponse> {
        let from = calling_region(&request)?;
        let scope = domicile_rpc::scope(&request).map_err(status)?;
        let body = request.into_inner();
        let requested = body.requested.ok_or_else(|| missing("requested"))?;
        let practices = body.practice_ids.iter().map(|id| parse(id, "practice_ids"));
        let invitation = Invitation {
            from,
            requested: convert::signed(&requested).map_err(status)?,
            needed: convert::versions(body.protocol_version, body.kinds),
            practices: practices.collect::<Result<_, _>>()?,
        };
        let (blockers, statement) = self.0.answer_preflight(&scope, invitation).await.map_err(status)?;
        let here = Versions::here();
        Ok(Response::new(pb::PreflightResponse {
            blockers,
            preflighted: statement.map(convert::statement),
            protocol_version: here.protocol,
            kinds: convert::kinds(here.kinds),
        }))
    }

    type PullPageStream = Parts<pb::PullPageResponse>;

    async fn pull_page(&self, request: Request<pb::PullPageRequest>) -> Answer<Self::PullPageStream> {
        let from = calling_region(&request)?;
        let body = request.into_inner();
        let wanted = PageWanted {
            from,
            transfer: parse(&body.transfer_id, "transfer_id")?,
            attempt: body.attempt,
            after: body.after_revision,
            rows: body.max_rows,
            only: body.only.iter().map(row_key).collect::<Result<_, _>>()?,
        };
        let page = self.0.send_page(wanted).await.map_err(status)?;
        Ok(Response::new(Box::pin(stream::iter(page_parts(page).into_iter().map(Ok)))))
    }

    type ListDigestsStream = Parts<pb::ListDigestsResponse>;

    async fn list_digests(
        &self,
        request: Request<pb::ListDigestsRequest>,
    ) -> Answer<Self::ListDigestsStream> {
        let from = calling_region(&request)?;
        let transfer = parse(&request.get_ref().transfer_id, "transfer_id")?;
        let rows = self.0.sent_digests(&from, transfer, request.get_ref().attempt).await.map_err(status)?;
        let digest = |row: &domicile_transfer_protocol::manifest::RowEntry| pb::RowDigest {
            item_id: convert::bytes(row.item.as_bytes()),
            version: row.version,
            digest: convert::bytes(row.digest.as_bytes()),
        };
        let parts = rows
            .chunks(DIGESTS)
            .map(|some| pb::ListDigestsResponse { rows: some.iter().map(digest).collect() });
        let parts: Vec<_> = parts.map(Ok).collect();
        Ok(Response::new(Box::pin(stream::iter(parts))))
    }

    type PullObjectStream = Parts<pb::PullObjectResponse>;

    async fn pull_object(&self, request: Request<pb::PullObjectRequest>) -> Answer<Self::PullObjectStream> {
        let from = calling_region(&request)?;
        let body = request.into_inner();
        let transfer = parse(&body.transfer_id, "transfer_id")?;
        let object = ObjectId::from_slice(&body.object_id).ok_or_else(|| missing("object_id"))?;
        let parts = self.0.send_object(&from, transfer, body.attempt, object).await.map_err(status)?;
        let parts = ReceiverStream::new(parts).map(|part| part.map(object_part).map_err(status));
        Ok(Response::new(Box::pin(parts)))
    }

    async fn get_key_release(
        &self,
        request: Request<pb::GetKeyReleaseRequest>,
    ) -> Answer<pb::GetKeyReleaseResponse> {
        let from = calling_region(&request)?;
        let transfer = parse(&request.get_ref().transfer_id, "transfer_id")?;
        let attempt = request.get_ref().attempt;
        self.0.key_release(&from, transfer, attempt).await.map(Response::new).map_err(status)
    }
}

fn missing(field: &'static str) -> Status {
    status(Error::new(Code::InvalidRequest).at(field))
}

fn row_key(key: &pb::RowKey) -> Result<(ItemId, u32), Status> {
    Ok((ItemId::from_slice(&key.item_id).ok_or_else(|| missing("only.item_id"))?, key.version))
}

fn travel_head(head: domicile_crypto::travel::TravelHead) -> pb::TravelHead {
    pb::TravelHead {
        header: head.header.into(),
        salt: convert::bytes(&head.salt),
        commitment: convert::bytes(&head.commitment),
    }
}

/// A page as it leaves, in messages.
#[must_use]
pub fn page_parts(page: SentPage) -> Vec<pb::PullPageResponse> {
    use pb::pull_page_response::Part;
    let count = u32::try_from(page.rows.len()).unwrap_or(u32::MAX);
    let digest = page_digest(&page.rows, page.cursor, page.revision);
    let digest = convert::bytes(&digest);
    let mut parts = vec![Part::Head(travel_head(page.head))];
    let (mut some, mut size) = (Vec::new(), 0);
    for row in page.rows {
        size += row.sealed_header.len() + row.sealed_payload.len() + 128;
        some.push(row);
        if size >= ROWS_BYTES {
            parts.push(Part::Rows(pb::TravelRows { rows: std::mem::take(&mut some) }));
            size = 0;
        }
    }
    if !some.is_empty() {
        parts.push(Part::Rows(pb::TravelRows { rows: some }));
    }
    parts.push(Part::End(pb::PageEnd { cursor: page.cursor, revision: page.revision, rows: count, digest }));
    parts.into_iter().map(|part| pb::PullPageResponse { part: Some(part) }).collect()
}

fn object_part(part: ObjectPart) -> pb::PullObjectResponse {
    use pb::pull_object_response::Part;
    let part = match part {
        ObjectPart::Head(head) => Part::Head(travel_head(head)),
        ObjectPart::Chunk(chunk) => Part::Chunk(chunk),
        ObjectPart::End(end) => Part::End(pb::ObjectEnd {
            chunks: end.chunks,
            digest: convert::bytes(end.digest.as_bytes()),
            length: end.length,
        }),
    };
    pb::PullObjectResponse { part: Some(part) }
}
