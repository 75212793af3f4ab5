//! One transfer as people see it: watched at both regions from consent to the end.

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

/// How long it took from the consent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    /// Until the destination said that it is home.
    pub(crate) adopted: Duration,
    /// Until both regions said that the transfer is closed.
    pub(crate) closed: Duration,
}

impl Journey {
    /// Watches until the transfer is closed in both regions.
    pub(crate) async fn follow(&self, stage: &Stage) -> Outcome<Times> {
        let (source, destination) = (stage.operator(self.from)?, stage.operator(self.to)?);
        let there = async {
            let adopted = self.until(destination, TransferState::Adopted).await?;
            Ok((adopted, self.until(destination, TransferState::Closed).await?))
        };
        let here = self.until(source, TransferState::Closed);
        let watched = timeout(LONGEST, async { tokio::try_join!(there, here) }).await;
        let ((adopted, closed_there), closed_here) =
            watched.map_err(|_| format!("transfer {} does not end", self.id))??;
        let since = |moment: Instant| moment.duration_since(self.consented);
        Ok(Times { adopted: since(adopted), closed: since(closed_there.max(closed_here)) })
    }

    /// Watches until the destination says that it is home.
    pub(crate) async fn adopted(&self, stage: &Stage) -> Outcome<Instant> {
        let watched = self.until(stage.operator(self.to)?, TransferState::Adopted);
        timeout(LONGEST, watched).await.map_err(|_| format!("transfer {} does not arrive", self.id))?
    }

    /// When a region says that the transfer is in a state or past it.
    async fn until(&self, operator: &Client, state: TransferState) -> Outcome<Instant> {
        loop {
            let request = WatchTransferRequest { transfer_id: self.id.clone() };
            // The destination knows the transfer only once it is asked to prepare.
            if let Ok(mut watch) = answer(operator.transfers().watch_transfer(request)).await {
                while let Ok(Some(told)) = next(&mut watch).await {
                    let told = told.transfer.unwrap_or_default();
                    if matches!(told.state(), TransferState::Aborting | TransferState::Aborted) {
                        return Err(format!("transfer {} was aborted: {}", self.id, told.stuck_cause).into());
                    }
                    if told.state >= state.into() {
                        return Ok(Instant::now());
                    }
                }
            }
            pause().await;
        }
    }
}
