//! The region's own clock over its transfers: deadlines, consents' times, freeze budgets. Never the
//! coordinator's and never the destination's.

use std::sync::Arc;
use std::time::Duration;

use domicile_transfer_protocol::store::{Listing, Row};
use domicile_transfer_protocol::{Source, SourceFacts, State, TransferStore};
use domicile_types::{Code, Result, TransferId};
use tokio::time::{Instant, MissedTickBehavior};

use crate::Transfers;

/// How often the clock looks. A freeze ends at most this much after its budget.
const TICK: Duration = Duration::from_millis(100);
/// How often ended attempts are looked through again.
const SWEEP: Duration = Duration::from_secs(60);
/// How far back a process looks when it starts.
const AFTER_A_CRASH: Duration = Duration::from_secs(7 * 24 * 3_600);

impl<S: TransferStore> Transfers<S> {
    /// Runs until cancelled: drop the future to stop. First repairs what a crash may have left: keys of
    /// aborted attempts.
    pub async fn run_clock(&self) {
        self.sweep(AFTER_A_CRASH).await;
        let mut ticks = tokio::time::interval(TICK);
        let mut swept = Instant::now();
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if swept.elapsed() >= SWEEP {
                swept = Instant::now();
                self.sweep(SWEEP * 10).await;
            }
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

    /// Destroys what an ended attempt must not leave behind, where a crash came between its end and that.
    async fn sweep(&self, past: Duration) {
        let since = self.ctx.now().minus(past);
        let rows = match self.store.list(Listing::Everything, true).await {
            Ok(rows) => rows,
            Err(error) => {
                tracing::warn!(code = error.code().as_str(), cause = ?error, "ended attempts could not be looked through");
                return;
            }
        };
        for row in rows {
            match row {
                Row::Source(row) if row.abort.is_some() && row.changed_at >= since => {
                    self.clean_up(&row).await;
                }
                Row::Destination(row) if row.state == State::Aborted && row.changed_at >= since => {
                    self.clean_up_there(row.transfer).await;
                }
                _ => {}
            }
        }
    }

    async fn clean_up(&self, row: &Source) {
        if let Err(error) = self.after_abort(row).await {
            let code = error.code().as_str();
            tracing::warn!(transfer = %row.transfer, code, cause = ?error, "an ended attempt is not cleaned up yet");
        }
    }

    async fn clean_up_there(&self, transfer: TransferId) {
        if let Err(error) = self.after_purge(transfer).await {
            tracing::warn!(%transfer, code = error.code().as_str(), cause = ?error, "a purged attempt is not cleaned up yet");
        }
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
        self.notify(transfer);
        // Dropping many digests must not hold up another record's freeze.
        let this = self.clone();
        tokio::spawn(async move { this.clean_up(&row).await });
        Ok(())
    }
}
