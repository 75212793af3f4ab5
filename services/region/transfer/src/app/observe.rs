//! Steps as telemetry shows them: how long each took, in the transfer's own trace.

use std::future::Future;

use domicile_telemetry::{metrics, trace};
use domicile_transfer_protocol::plan::Ask;
use domicile_types::{Result, TransferId};
use tracing::Instrument as _;

/// A step that the coordinator asked for, measured.
pub(super) async fn asked(
    ask: Ask,
    transfer: TransferId,
    work: impl Future<Output = Result<()>>,
) -> Result<()> {
    background(name(ask), transfer, work).await
}

/// A step that runs on by itself, measured.
pub(super) fn background(
    name: &'static str,
    transfer: TransferId,
    work: impl Future<Output = Result<()>>,
) -> impl Future<Output = Result<()>> {
    metrics::step(name, work).instrument(trace::transfer(name, transfer))
}

/// Asking for a long step only starts it: it is measured under its own name once it runs.
const fn name(ask: Ask) -> &'static str {
    match ask {
        Ask::Deliver => "deliver",
        Ask::Preflight => "preflight",
        Ask::Prepare => "prepare",
        Ask::OpenCopy => "open-copy",
        Ask::Pull => "start-pull",
        Ask::Freeze => "freeze",
        Ask::Stage => "stage",
        Ask::Release => "release",
        Ask::Adopt => "adopt",
        Ask::Rekey => "start-rekey",
        Ask::Shred => "start-erase",
        Ask::Close => "close",
        Ask::Abort => "abort",
        Ask::Purge => "purge",
    }
}
