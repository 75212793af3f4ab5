//! What an operator watches and nobody asks for: read on a bounded period, and only while telemetry is on.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use domicile_config::RegionSettings;
use domicile_rpc::valid_until;
use domicile_store::Store;
use domicile_store::observe::TransfersIn;
use domicile_telemetry::{metrics, trace};
use domicile_transfer_protocol::State;
use domicile_types::Result;
use tokio_util::sync::CancellationToken;

/// The sides a region can have in a transfer.
const SIDES: [&str; 2] = ["source", "destination"];

/// Looks at a region's database and files.
pub(super) struct Observer {
    store: Store,
    interval: Duration,
    stuck_after: Duration,
    certificates: [(&'static str, PathBuf); 2],
    backups: Option<PathBuf>,
}

impl Observer {
    /// An observer of this region.
    pub(super) fn new(settings: &RegionSettings, store: Store) -> Self {
        Self {
            store,
            interval: settings.telemetry.interval,
            stuck_after: settings.transfer.stuck_after,
            certificates: [
                ("people", settings.people.certificate.clone()),
                ("peers", settings.peers.certificate.clone()),
            ],
            backups: settings.database.backup_directory.clone(),
        }
    }

    /// Looks until `shutdown` is cancelled; at once when telemetry is off.
    pub(super) async fn run(self, shutdown: CancellationToken) {
        while trace::is_on() && !shutdown.is_cancelled() {
            let looked = self.look().await;
            if let Err(error) = &looked {
                tracing::warn!(code = error.code().as_str(), "the region could not be observed");
            }
            metrics::serving(looked.is_ok());
            // Half the period of sending: what is sent is never older than that.
            shutdown.run_until_cancelled(tokio::time::sleep(self.interval / 2)).await;
        }
    }

    async fn look(&self) -> Result<()> {
        self.certificates();
        for pool in self.store.pools() {
            metrics::pool(pool.name, pool.used, pool.idle, pool.most);
        }
        self.store.health().await?;
        self.transfers().await?;
        self.audit().await?;
        let now = self.store.ctx().now();
        if let Some(made) = self.store.backed_up(self.backups.as_deref()).await? {
            metrics::backup(now.since(made));
        }
        Ok(())
    }

    /// Every state of both sides, so that one nobody is in any more says so.
    async fn transfers(&self) -> Result<()> {
        let now = self.store.ctx().now();
        let found = self.store.transfers_by_state(self.stuck_after).await?;
        metrics::stuck(found.iter().map(|group| group.stuck).sum());
        let found: BTreeMap<(&str, &str), &TransfersIn> =
            found.iter().map(|group| ((group.side.as_str(), group.state.as_str()), group)).collect();
        for side in SIDES {
            for state in State::ALL.iter().filter(|state| !state.rests()) {
                match found.get(&(side, state.as_str())) {
                    Some(group) => {
                        metrics::transfers(side, state.as_str(), group.count, now.since(group.oldest));
                    }
                    None => metrics::transfers(side, state.as_str(), 0, Duration::ZERO),
                }
            }
        }
        Ok(())
    }

    async fn audit(&self) -> Result<()> {
        let now = self.store.ctx().now();
        let lag = self.store.audit_lag().await?;
        metrics::outbox(lag.waiting, lag.oldest.map_or(Duration::ZERO, |oldest| now.since(oldest)));
        if let Some((size, at)) = lag.signed {
            metrics::checkpoint(size, now.since(at));
        }
        Ok(())
    }

    fn certificates(&self) {
        let now = self.store.ctx().now();
        for (listener, file) in &self.certificates {
            // A file that cannot be read just now is being replaced; the next look finds it.
            if let Ok(until) = valid_until(file) {
                metrics::certificate(listener, until.seconds().saturating_sub(now.seconds()));
            }
        }
    }
}
