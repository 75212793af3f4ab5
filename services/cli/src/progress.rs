//! Progress on standard error, drawn only where somebody watches a terminal.

use std::time::Duration;

use domicile_proto::transfer::v1::{Progress, Transfer, TransferState};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A bar over bytes, for uploads and downloads.
#[must_use]
pub fn bytes(total: u64, label: &'static str, draws: bool) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(total), target(draws));
    bar.set_style(style("{msg} [{bar:30}] {bytes} of {total_bytes} at {bytes_per_sec}"));
    bar.set_message(label);
    bar
}

/// A bar over a count of things.
#[must_use]
pub fn count(total: u64, label: &'static str, draws: bool) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(total), target(draws));
    bar.set_style(style("{msg} [{bar:30}] {pos} of {len}"));
    bar.set_message(label);
    bar
}

/// A bar over one transfer: the state, then how much of the record is at the destination.
pub struct TransferBar(ProgressBar);

impl TransferBar {
    /// A bar that has seen nothing yet.
    #[must_use]
    pub fn new(draws: bool) -> Self {
        let bar = ProgressBar::with_draw_target(Some(1), target(draws));
        bar.set_style(style("{spinner} {prefix:<12} [{bar:30}] {msg}  {elapsed_precise}"));
        if draws {
            bar.enable_steady_tick(Duration::from_millis(100));
        }
        Self(bar)
    }

    /// Shows the transfer as it is now.
    pub fn show(&self, transfer: &Transfer) {
        let progress = transfer.progress.unwrap_or_default();
        self.0.set_length(1_000);
        self.0.set_position(permille(&progress));
        self.0.set_prefix(state_name(transfer.state()));
        self.0.set_message(format!(
            "{}/{} rows, {}/{} objects, {} of {}",
            progress.rows_done,
            progress.rows_total,
            progress.objects_done,
            progress.objects_total,
            crate::text::size(progress.bytes_done),
            crate::text::size(progress.bytes_total),
        ));
    }

    /// Writes a line above the bar, through `write`, without tearing it.
    pub fn suspend<T>(&self, write: impl FnOnce() -> T) -> T {
        self.0.suspend(write)
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        self.0.finish_and_clear();
    }
}

/// How long the bar is: rows and bytes count half each, for a few large objects would hide many rows.
/// The exact numbers stand beside it.
fn permille(progress: &Progress) -> u64 {
    let half = |done: u64, total: u64| done.min(total).saturating_mul(500).checked_div(total);
    let rows = half(progress.rows_done, progress.rows_total);
    let bytes = half(progress.bytes_done, progress.bytes_total);
    match (rows, bytes) {
        (Some(rows), Some(bytes)) => rows + bytes,
        (Some(half), None) | (None, Some(half)) => half * 2,
        (None, None) => 0,
    }
}

/// A state's name on screens: the words of the protocol, in lower case.
#[must_use]
pub fn state_name(state: TransferState) -> &'static str {
    match state {
        TransferState::Unspecified => "unknown",
        TransferState::Requested => "requested",
        TransferState::Preflighted => "preflighted",
        TransferState::Consented => "consented",
        TransferState::Copying => "copying",
        TransferState::Frozen => "frozen",
        TransferState::Staged => "staged",
        TransferState::Released => "released",
        TransferState::Adopted => "adopted",
        TransferState::Rekeyed => "rekeyed",
        TransferState::Shredded => "erased",
        TransferState::Closed => "closed",
        TransferState::Aborting => "aborting",
        TransferState::Aborted => "aborted",
    }
}

fn target(draws: bool) -> ProgressDrawTarget {
    if draws { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() }
}

/// A style; the plain one when the template does not parse (held by a test).
fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_counts_rows_and_bytes() {
        let progress = |rows_done, rows_total, bytes_done, bytes_total| {
            permille(&Progress { rows_done, rows_total, bytes_done, bytes_total, ..Progress::default() })
        };
        assert_eq!(progress(0, 0, 0, 0), 0);
        assert_eq!(progress(100, 200, 0, 1_000), 250);
        assert_eq!(progress(200, 200, 1_000, 1_000), 1_000);
        assert_eq!(progress(5, 10, 0, 0), 500);
        assert_eq!(progress(9, 3, u64::MAX, u64::MAX), 500 + u64::MAX.saturating_mul(500) / u64::MAX);
    }

    #[test]
    fn templates_parse() {
        for template in [
            "{msg} [{bar:30}] {bytes} of {total_bytes} at {bytes_per_sec}",
            "{msg} [{bar:30}] {pos} of {len}",
            "{spinner} {prefix:<12} [{bar:30}] {msg}  {elapsed_precise}",
        ] {
            assert!(ProgressStyle::with_template(template).is_ok());
        }
    }
}
