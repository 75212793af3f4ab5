//! `TransferService`: for clients, operators and compliance staff.

use std::pin::Pin;

use domicile_proto::transfer::v1 as pb;
use domicile_proto::transfer::v1::transfer_service_server::TransferService;
use domicile_transfer_protocol::rows::Progress;
use domicile_transfer_protocol::{Digest, TransferStore};
use domicile_types::{Code, Error, TransferId};
use futures::Stream;
use tokio::sync::broadcast::error::RecvError;
use tonic::{Request, Response, Status};

use super::{encode, parse, status};
use crate::app::{GivenConsent, Transfers};
use crate::convert;

/// `TransferService` over a region's transfers.
pub struct PeopleService<S>(pub Transfers<S>);

type Answer<T> = Result<Response<T>, Status>;

fn only_row(row: &domicile_transfer_protocol::Source) -> Option<pb::Transfer> {
    Some(encode::source(row, Progress::default()))
}

#[tonic::async_trait]
impl<S: TransferStore> TransferService for PeopleService<S> {
    async fn request_transfer(
        &self,
        request: Request<pb::RequestTransferRequest>,
    ) -> Answer<pb::RequestTransferResponse> {
        let scope = domicile_rpc::scope(&request).map_err(status)?;
        let body = request.into_inner();
        let to = parse(&body.destination, "destination")?;
        let row = self.0.request(scope, to, body.idempotency_key).await.map_err(status)?;
        Ok(Response::new(pb::RequestTransferResponse { transfer: only_row(&row) }))
    }

    async fn get_offer(&self, request: Request<pb::GetOfferRequest>) -> Answer<pb::GetOfferResponse> {
        let scope = domicile_rpc::scope(&request).map_err(status)?;
        let body = request.into_inner();
        let (row, offer) =
            self.0.offer(&scope, parse(&body.transfer_id, "transfer_id")?).await.map_err(status)?;
        let offer = encode::offer(&row, offer.as_ref(), &body.locale).map_err(status)?;
        Ok(Response::new(pb::GetOfferResponse { offer: Some(offer) }))
    }

    async fn give_consent(
        &self,
        request: Request<pb::GiveConsentRequest>,
    ) -> Answer<pb::GiveConsentResponse> {
        let scope = domicile_rpc::scope(&request).map_err(status)?;
        let body = request.into_inner();
        let given = GivenConsent {
            offer: Digest::from_slice(&body.offer_digest)
                .ok_or_else(|| status(Error::new(Code::InvalidRequest).at("offer_digest")))?,
            destination: parse(&body.destination, "destination")?,
            notice_version: body.notice_version,
            locale: body.locale,
            locator: body.forwarding_locator,
            psychotherapy: body.psychotherapy_authorized,
        };
        let transfer = parse(&body.transfer_id, "transfer_id")?;
        let (row, receipt) = self.0.consent(scope, transfer, given).await.map_err(status)?;
        let consent = row.consent.ok_or_else(|| status(Error::new(Code::ConsentMissing)))?;
        Ok(Response::new(pb::GiveConsentResponse {
            consent_id: consent.id.to_string(),
            receipt: Some(convert::statement(receipt)),
            expires_at_micros: consent.expires_at.micros(),
        }))
    }

    async fn withdraw_consent(
        &self,
        request: Request<pb::WithdrawConsentRequest>,
    ) -> Answer<pb::WithdrawConsentResponse> {
        let scope = domicile_rpc::scope(&request).map_err(status)?;
        let transfer = parse(&request.get_ref().transfer_id, "transfer_id")?;
        let row = self.0.withdraw(scope, transfer).await.map_err(status)?;
        Ok(Response::new(pb::WithdrawConsentResponse {
            withdrawn_at_micros: row.changed_at.micros(),
            transfer: only_row(&row),
        }))
    }

    async fn list_consents(
        &self,
        request: Request<pb::ListConsentsRequest>,
    ) -> Answer<pb::ListConsentsResponse> {
        let scope = domicile_rpc::scope(&request).map_err(status)?;
        let (rows, events) = self.0.consents(&scope).await.map_err(status)?;
        Ok(Response::new(pb::ListConsentsResponse { events: encode::consents(&rows, &events) }))
    }

    async fn get_transfer(
        &self,
        request: Request<pb::GetTransferRequest>,
    ) -> Answer<pb::GetTransferResponse> {
        let scope = domicile_rpc::scope(&request).map_err(status)?;
        let transfer = parse(&request.get_ref().transfer_id, "transfer_id")?;
        let found = self.0.status(&scope, transfer).await.map_err(status)?;
        Ok(Response::new(pb::GetTransferResponse { transfer: Some(encode::transfer(&found)) }))
    }

    type WatchTransferStream = Pin<Box<dyn Stream<Item = Result<pb::WatchTransferResponse, Status>> + Send>>;

    async fn watch_transfer(
        &self,
        request: Request<pb::WatchTransferRequest>,
    ) -> Answer<Self::WatchTransferStream> {
        let scope = domicile_rpc::scope(&request).map_err(status)?;
        let transfer: TransferId = parse(&request.get_ref().transfer_id, "transfer_id")?;
        let changes = self.0.changes();
        self.0.status(&scope, transfer).await.map_err(status)?;
        let state = Watch { transfers: self.0.clone(), scope, transfer, changes, last: None, over: false };
        Ok(Response::new(Box::pin(futures::stream::unfold(state, Watch::next))))
    }

    async fn list_transfers(
        &self,
        request: Request<pb::ListTransfersRequest>,
    ) -> Answer<pb::ListTransfersResponse> {
        let scope = domicile_rpc::scope(&request).map_err(status)?;
        let all = self.0.list(&scope, request.get_ref().include_resting).await.map_err(status)?;
        Ok(Response::new(pb::ListTransfersResponse { transfers: all.iter().map(encode::transfer).collect() }))
    }

    async fn get_receipt(&self, request: Request<pb::GetReceiptRequest>) -> Answer<pb::GetReceiptResponse> {
        let scope = domicile_rpc::scope(&request).map_err(status)?;
        let transfer = parse(&request.get_ref().transfer_id, "transfer_id")?;
        let receipt = self.0.receipt(&scope, transfer).await.map_err(status)?;
        encode::receipt(receipt).map(Response::new).map_err(status)
    }

    async fn pause_transfer(
        &self,
        request: Request<pb::PauseTransferRequest>,
    ) -> Answer<pb::PauseTransferResponse> {
        let scope = domicile_rpc::scope(&request).map_err(status)?;
        let body = request.into_inner();
        let transfer = parse(&body.transfer_id, "transfer_id")?;
        let row = self.0.pause(scope, transfer, &body.reason).await.map_err(status)?;
        Ok(Response::new(pb::PauseTransferResponse { transfer: only_row(&row) }))
    }

    async fn resume_transfer(
        &self,
        request: Request<pb::ResumeTransferRequest>,
    ) -> Answer<pb::ResumeTransferResponse> {
        let scope = domicile_rpc::scope(&request).map_err(status)?;
        let body = request.into_inner();
        let transfer = parse(&body.transfer_id, "transfer_id")?;
        let row = self.0.resume(scope, transfer, &body.reason).await.map_err(status)?;
        Ok(Response::new(pb::ResumeTransferResponse { transfer: only_row(&row) }))
    }

    async fn cancel_transfer(
        &self,
        request: Request<pb::CancelTransferRequest>,
    ) -> Answer<pb::CancelTransferResponse> {
        let scope = domicile_rpc::scope(&request).map_err(status)?;
        let body = request.into_inner();
        let transfer = parse(&body.transfer_id, "transfer_id")?;
        let row = self.0.cancel(scope, transfer, &body.reason).await.map_err(status)?;
        Ok(Response::new(pb::CancelTransferResponse { transfer: only_row(&row) }))
    }
}

/// A watch: the status now, then again at every change, until the transfer rests.
struct Watch<S> {
    transfers: Transfers<S>,
    scope: std::sync::Arc<domicile_types::AuditScope>,
    transfer: TransferId,
    changes: tokio::sync::broadcast::Receiver<TransferId>,
    last: Option<pb::Transfer>,
    over: bool,
}

/// Besides being told of changes, a watch looks this often: another replica's changes are not told here.
const LOOK: std::time::Duration = std::time::Duration::from_millis(250);

impl<S: TransferStore> Watch<S> {
    async fn next(mut self) -> Option<(Result<pb::WatchTransferResponse, Status>, Self)> {
        while !self.over {
            let found = match self.transfers.status(&self.scope, self.transfer).await {
                Ok(found) => encode::transfer(&found),
                Err(error) => {
                    self.over = true;
                    return Some((Err(status(error)), self));
                }
            };
            if self.last.as_ref() != Some(&found) {
                self.over = encode::rests(&found);
                self.last = Some(found.clone());
                return Some((Ok(pb::WatchTransferResponse { transfer: Some(found) }), self));
            }
            self.wait().await;
        }
        None
    }

    async fn wait(&mut self) {
        let transfer = self.transfer;
        let told = async {
            loop {
                match self.changes.recv().await {
                    Ok(changed) if changed != transfer => {}
                    Ok(_) | Err(RecvError::Lagged(_)) => return,
                    Err(RecvError::Closed) => std::future::pending().await,
                }
            }
        };
        // Whether told or by the clock: look again.
        drop(tokio::time::timeout(LOOK, told).await);
    }
}
