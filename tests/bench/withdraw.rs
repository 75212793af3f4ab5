//! How soon a withdrawal is acknowledged while the destination is down.

use clap::Args;
use domicile_proto::transfer::v1::TransferState;
use domicile_tests::world::Outcome;
use tokio::time::Instant;

use crate::journey::Journey;
use crate::latency::{Latencies, millis};
use crate::out::{Common, Measured};
use crate::record::{Record, Shape};
use crate::stage::{MOVING, Stage};

/// Copies are slow, so that every transfer is under way when the destination dies.
const SETTINGS: &str = "[transfer]\nbytes_per_second = 65536\ntransfers_at_once = 64\n";

/// What is asked for.
#[derive(Args, Clone, Debug)]
pub(crate) struct WithdrawArgs {
    /// Transfers.
    #[arg(long, default_value_t = 60)]
    pub(crate) transfers: usize,
}

/// Measures and shows.
pub(crate) async fn run(common: &Common, args: &WithdrawArgs) -> Outcome<Vec<Measured>> {
    let mut stage = Stage::open(common, SETTINGS).await?;
    let shape = Shape { items: 20, attachments: 1, attachment_bytes: 2 * 1024 * 1024 };
    // Filled before the first consent: none may be done before the destination dies.
    let mut records = Vec::new();
    for number in 0..args.transfers {
        records.push(Record::filled(&stage, &format!("withdraws{number}"), shape).await?);
    }
    let mut moving: Vec<(Record, Journey)> = Vec::new();
    for record in records {
        let journey = record.consent(MOVING[1]).await?;
        moving.push((record, journey));
    }
    stage.world.kill(MOVING[1]).await?;
    let mut latencies = Latencies::default();
    for (record, journey) in &moving {
        let withdrawn = domicile_tests::world::Moving { id: journey.id.clone(), offer: Default::default() };
        let began = Instant::now();
        record.patient.withdraw(&withdrawn).await?;
        latencies.add(began.elapsed());
        record.patient.reaches(&journey.id, TransferState::Aborting).await?;
    }
    stage.world.restart(MOVING[1]).await?;
    for (record, journey) in &moving {
        record.patient.reaches(&journey.id, TransferState::Aborted).await?;
        record.whole(&stage).await?;
    }
    stage.close().await?;
    let [p50, p99, longest] = [500, 990, 1_000].map(|at| millis(latencies.quantile(at)));
    let lines = vec![("p50, p99, longest (ms)".to_owned(), format!("{p50} {p99} {longest}"))];
    let name = format!("{} withdrawals with the destination down", latencies.count());
    Ok(vec![Measured { name, lines, json: latencies.json() }])
}
