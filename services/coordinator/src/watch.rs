//! Listening to a region's changes, and polling it besides.

use std::time::Duration;

use domicile_proto::transfer::v1 as pb;
use domicile_types::{RegionId, Result, TransferId};
use futures::StreamExt as _;
use tokio::time::MissedTickBehavior;

use crate::Coordinator;
use crate::regions::peer_error;

/// The pause after a region's change stream ended before it is opened again.
const REOPEN: Duration = Duration::from_millis(500);

impl Coordinator {
    /// Wakes drivers for one region's transfers, for ever.
    pub(crate) async fn watch(self, region: RegionId) {
        tokio::join!(self.listen(&region), self.poll(&region));
    }

    async fn listen(&self, region: &RegionId) {
        loop {
            if let Err(error) = self.listen_once(region).await {
                tracing::debug!(%region, code = error.code().as_str(), cause = ?error, "a region's changes cannot be heard");
            }
            tokio::time::sleep(REOPEN).await;
        }
    }

    async fn listen_once(&self, region: &RegionId) -> Result<()> {
        let request = pb::WatchChangesRequest {};
        let answer = self.0.regions.control(region)?.watch_changes(request).await;
        let mut changes = answer.map_err(|status| peer_error(&status))?.into_inner();
        while let Some(change) = changes.next().await {
            let change = change.map_err(|status| peer_error(&status))?;
            if let Ok(transfer) = change.transfer_id.parse() {
                self.wake(region, transfer);
            }
        }
        Ok(())
    }

    async fn poll(&self, region: &RegionId) {
        let mut ticks = tokio::time::interval(self.0.poll);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let looked = self.look(region).await;
            self.note_region(region, looked.is_ok());
            domicile_telemetry::metrics::region_up(region.as_str(), looked.is_ok());
            if let Err(error) = looked {
                tracing::debug!(%region, code = error.code().as_str(), cause = ?error, "a region does not answer");
            }
        }
    }

    async fn look(&self, region: &RegionId) -> Result<()> {
        let answer = self.0.regions.control(region)?.list_open(pb::ListOpenRequest {}).await;
        for view in answer.map_err(|status| peer_error(&status))?.into_inner().views {
            if let Ok(transfer) = view.transfer_id.parse::<TransferId>() {
                self.wake(region, transfer);
            }
        }
        Ok(())
    }
}
