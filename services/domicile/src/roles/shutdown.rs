//! When a process ends.

use domicile_cli::output::note;
use tokio::io::AsyncReadExt as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Cancelled on SIGTERM and SIGINT and, for a child of `up`, when the pipe on standard input closes:
/// then the parent is gone, however it went.
pub(crate) fn on_signals(supervised: bool) -> CancellationToken {
    let shutdown = CancellationToken::new();
    for kind in [SignalKind::terminate(), SignalKind::interrupt()] {
        match signal(kind) {
            Ok(mut signals) => {
                let shutdown = shutdown.clone();
                tokio::spawn(async move {
                    signals.recv().await;
                    shutdown.cancel();
                });
            }
            Err(cause) => note(&format!("signals cannot be received: {}", cause.kind())),
        }
    }
    if supervised {
        let shutdown = shutdown.clone();
        tokio::spawn(async move {
            let mut nothing = [0_u8; 64];
            let mut stdin = tokio::io::stdin();
            while matches!(stdin.read(&mut nothing).await, Ok(1..)) {}
            shutdown.cancel();
        });
    }
    shutdown
}
