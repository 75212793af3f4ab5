//! The region's own clock over its transfers: deadlines, consents' times, freeze budgets. Never the
//! coordinator's and never the destination's.

use std::sync::Arc;
use std::time::Duration;

use domicile_transfer_protocol::{SourceFacts, TransferStore};
use domicile_types::{Code, Result, TransferId};
use tokio::time::MissedTickBehavior;

use crate::Transfers;

/// How often the clock looks. A freeze ends at most this much after its budget.
const TICK: Duration = Duration::from_millis(100);

impl<S: TransferStore> Transfers<S> {
    /// Runs until cancelled: drop the future to stop. First repairs what a crash may have left: keys of
    /// aborted attempts.
    pub async fn run_clock(&self) {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if let Err(error) = self.tick().await {
                tracing::warn!(code = error.code().as_str(), cause = ?error, "the transfers' clock could not look");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }

    /// Looks once: ends what is over, lets go what was held too long, names what stands still.
    ///
    /// # Errors
    /// The store's, when it cannot look at all.
    pub async fn tick(&self) -> Result<()> {
        for transfer in self.store.due(self.ctx.now()).await? {
            if let Err(error) = self.tend(transfer).await {
                tracing::warn!(%transfer, code = error.code().as_str(), cause = ?error, "a due transfer could not be tended");
            }
        }
        Ok(())
    }

    async fn tend(&self, transfer: TransferId) -> Result<()> {
        let numbers = self.options.numbers.clone();
        let decision = Arc::new(move |facts: &SourceFacts| {
            if let Some(change) = facts.expire()? {
                return Ok(Some(change));
            }
            if let Some(change) = facts.budget(&numbers)? {
                return Ok(Some(change));
            }
            Ok(if facts.overdue(&numbers) && facts.row.stuck.is_none() {
                facts.stuck(Code::PeerSilent)
            } else {
                None
            })
        });
        let row = self.store.decide_source("transfer_tend", transfer, None, None, decision).await?;
        self.after_abort(&row).await?;
        self.notify(transfer);
        Ok(())
    }
}
