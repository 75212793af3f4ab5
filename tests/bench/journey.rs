//! One transfer as people see it: watched at both regions from consent to the end.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use domicile_cli::Client;
use domicile_cli::client::answer;
use domicile_cli::upload::next;
use domicile_proto::transfer::v1::{TransferState, WatchTransferRequest};
use domicile_tests::world::{Outcome, pause};
use tokio::time::{Instant, timeout};

use crate::stage::Stage;

/// How long a transfer may take.
const LONGEST: Duration = Duration::from_secs(1_200);

/// A transfer that has its consent.
#[derive(Clone, Debug)]
pub(crate) struct Journey {
    /// The transfer.
    pub(crate) id: String,
    /// The source.
    pub(crate) from: &'static str,
    /// The destination.
    pub(crate) to: &'static str,
    /// When the client was told that the consent is given.
    pub(crate) consented: Instant,
}

/// When states were first told by either region.
#[derive(Default)]
struct Told(Mutex<BTreeMap<i32, Instant>>);

/// How long it took from the consent.
pub(crate) struct Times {
    /// Until the destination said that it is home.
    pub(crate) adopted: Duration,
    /// Until both regions said that the transfer is closed.
    pub(crate) closed: Duration,
    /// Until each state was first told by either region.
    pub(crate) states: BTreeMap<TransferState, Duration>,
}

impl Journey {
    /// Watches until the transfer is closed in both regions.
    pub(crate) async fn follow(&self, stage: &Stage) -> Outcome<Times> {
        let (source, destination) = (stage.operator(self.from)?, stage.operator(self.to)?);
        let told = Told::default();
        let there = async {
            let adopted = self.until(destination, TransferState::Adopted, &told).await?;
            Ok((adopted, self.until(destination, TransferState::Closed, &told).await?))
        };
        let here = self.until(source, TransferState::Closed, &told);
        let watched = timeout(LONGEST, async { tokio::try_join!(there, here) }).await;
        let ((adopted, closed_there), closed_here) =
            watched.map_err(|_| format!("transfer {} does not end", self.id))??;
        let since = |moment: Instant| moment.duration_since(self.consented);
        let seen = told.0.into_inner().unwrap_or_else(PoisonError::into_inner);
        let states = seen.into_iter().filter_map(|(state, at)| Some((state.try_into().ok()?, since(at))));
        let closed = since(closed_there.max(closed_here));
        Ok(Times { adopted: since(adopted), closed, states: states.collect() })
    }

    /// Watches until the destination says that it is home.
    pub(crate) async fn adopted(&self, stage: &Stage) -> Outcome<Instant> {
        let told = Told::default();
        let watched = self.until(stage.operator(self.to)?, TransferState::Adopted, &told);
        timeout(LONGEST, watched).await.map_err(|_| format!("transfer {} does not arrive", self.id))?
    }

    /// When a region says that the transfer is in a state or past it.
    async fn until(&self, operator: &Client, state: TransferState, seen: &Told) -> Outcome<Instant> {
        loop {
            let request = WatchTransferRequest { transfer_id: self.id.clone() };
            // The destination knows the transfer only once it is asked to prepare.
            if let Ok(mut watch) = answer(operator.transfers().watch_transfer(request)).await {
                while let Ok(Some(told)) = next(&mut watch).await {
                    let told = told.transfer.unwrap_or_default();
                    if matches!(told.state(), TransferState::Aborting | TransferState::Aborted) {
                        return Err(format!("transfer {} was aborted: {}", self.id, told.stuck_cause).into());
                    }
                    let now = Instant::now();
                    let mut seen = seen.0.lock().unwrap_or_else(PoisonError::into_inner);
                    seen.entry(told.state).or_insert(now);
                    if told.state >= state.into() {
                        return Ok(now);
                    }
                }
            }
            pause().await;
        }
    }
}
