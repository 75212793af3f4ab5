//! What operators see of the coordinator: it shows, it takes no orders.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::PoisonError;

use domicile_proto::coordinator::v1 as pb;
use domicile_proto::coordinator::v1::coordinator_service_server::CoordinatorService;
use domicile_transfer_protocol::plan::Next;
use domicile_types::{RegionId, TransferId};
use tonic::{Request, Response, Status};

use crate::Coordinator;
use crate::regions::RegionView;

/// What the coordinator last saw; only what does not rest.
#[derive(Default)]
pub(crate) struct Seen {
    transfers: BTreeMap<TransferId, pb::CoordinatedTransfer>,
    silent: BTreeSet<RegionId>,
}

/// `CoordinatorService` over a coordinator.
pub struct CoordinatorView(pub(crate) Coordinator);

impl Coordinator {
    /// Notes whether a region answers.
    pub(crate) fn note_region(&self, region: &RegionId, answers: bool) {
        let mut seen = self.0.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if answers {
            seen.silent.remove(region);
        } else {
            seen.silent.insert(region.clone());
        }
    }

    /// Notes what a transfer looks like and what comes next.
    pub(crate) fn note_transfer(
        &self,
        transfer: TransferId,
        source: &RegionView,
        destination: Option<&RegionView>,
        next: Next,
    ) {
        let mut seen = self.0.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(next, Next::Wait(domicile_transfer_protocol::plan::Wait::Rest)) {
            seen.transfers.remove(&transfer);
            return;
        }
        let shown = pb::CoordinatedTransfer {
            transfer_id: transfer.to_string(),
            source: source.source.to_string(),
            destination: source.destination.to_string(),
            source_state: source.plan.state.as_str().to_owned(),
            destination_state: destination.map_or("", |view| view.plan.state.as_str()).to_owned(),
            next: describe(next),
        };
        seen.transfers.insert(transfer, shown);
    }
}

fn describe(next: Next) -> String {
    match next {
        Next::Call { to, ask } => format!("{ask:?} at the {to:?}").to_lowercase(),
        Next::Wait(wait) => format!("waits for {wait:?}").to_lowercase(),
    }
}

#[tonic::async_trait]
impl CoordinatorService for CoordinatorView {
    async fn list_transfers(
        &self,
        _: Request<pb::ListTransfersRequest>,
    ) -> Result<Response<pb::ListTransfersResponse>, Status> {
        let seen = self.0.0.seen.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(Response::new(pb::ListTransfersResponse {
            transfers: seen.transfers.values().cloned().collect(),
            silent_regions: seen.silent.iter().map(ToString::to_string).collect(),
        }))
    }
}
