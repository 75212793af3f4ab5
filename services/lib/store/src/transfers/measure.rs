//! How long freezes last, as telemetry shows it.

use domicile_evidence::statement::Step;
use domicile_telemetry::{metrics, trace};
use domicile_transfer_protocol::{Source, State};
use domicile_types::{Timestamp, TransferId};

use super::SqlTransfers;
use crate::{Scope, values};

impl SqlTransfers {
    /// Records a freeze that this decision ended. `emitted` says that the decision was taken now and not
    /// before; what cannot be measured is not worth an error.
    pub(super) async fn measure_freeze(&self, before: State, after: &Source, emitted: bool) {
        let frozen = |state| matches!(state, State::Frozen | State::Staged);
        if !trace::is_on() || !emitted || !frozen(before) || frozen(after.state) {
            return;
        }
        let Some(began) = self.frozen_at(after.transfer).await else { return };
        let ended = match after.state {
            State::Released => metrics::Freeze::Released,
            _ => metrics::Freeze::Unfrozen,
        };
        metrics::froze(ended, after.changed_at.since(began));
    }

    /// When the last freeze began: the time of its statement.
    async fn frozen_at(&self, transfer: TransferId) -> Option<Timestamp> {
        let found = self.store.read("observe_freeze", Scope::Transfers, move |tx| {
            Box::pin(async move {
                let sql = "SELECT MAX(at) AS value FROM statement WHERE transfer_id = $1 AND step = $2";
                tx.scalar::<Timestamp>(sql, values![transfer, Step::Frozen.name()]).await
            })
        });
        found.await.ok().flatten()
    }
}
