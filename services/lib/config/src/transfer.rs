//! The numbers of a transfer (all with the design's defaults).

use std::time::Duration;

use domicile_types::Result;
use serde::Deserialize;

use crate::shared::ensure;
use crate::units;

/// Deadlines, budgets and rates of transfers.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TransferSettings {
    /// How long an offer may be accepted.
    #[serde(deserialize_with = "units::read")]
    pub offer_open: Duration,
    /// From consent until the transfer must have completed.
    #[serde(deserialize_with = "units::read")]
    pub consent_valid: Duration,
    /// How old a password proof may be when consent is given.
    #[serde(deserialize_with = "units::read")]
    pub fresh_authentication: Duration,
    /// Rows not yet at the destination with which a freeze may begin.
    pub freeze_lag_rows: u64,
    /// How long a freeze may last.
    #[serde(deserialize_with = "units::read")]
    pub freeze_budget: Duration,
    /// How often a transfer may be frozen.
    pub freeze_tries: u32,
    /// The pause after the first freeze that ran out; doubles each time.
    #[serde(deserialize_with = "units::read")]
    pub freeze_pause: Duration,
    /// How often source and destination may disagree about the rows.
    pub mismatches: u32,
    /// How long a driver's lease lasts.
    #[serde(deserialize_with = "units::read")]
    pub lease: Duration,
    /// How long a replica's lease on a transfer's work lasts; it is renewed at a third of it. Another replica
    /// takes over so long after one has died.
    #[serde(deserialize_with = "units::read")]
    pub work_lease: Duration,
    /// How long after its last sign of life a replica may use keys in its memory. An erasure after one has
    /// died waits for so long. Signs of life are given ten times as often. Not below 2 s.
    #[serde(deserialize_with = "units::read")]
    pub key_hold: Duration,
    /// How long the source answers reads after Released when it hears nothing.
    #[serde(deserialize_with = "units::read")]
    pub source_reads: Duration,
    /// When a transfer past Released that does not advance is called stuck.
    #[serde(deserialize_with = "units::read")]
    pub stuck_after: Duration,
    /// How long a forwarding locator is kept, if the client wishes one.
    #[serde(deserialize_with = "units::read")]
    pub forwarding_locator: Duration,
    /// Rows of one page, 1 to 2,000.
    pub page_rows: u32,
    /// Bytes of one page at which it ends early.
    pub page_bytes: u64,
    /// Objects pulled side by side.
    pub objects_at_once: usize,
    /// Bytes a second that one pair of regions may copy; 0 for no limit.
    pub bytes_per_second: u64,
    /// Transfers that one pair of regions may copy at once.
    pub transfers_at_once: usize,
    /// How long wrapped record keys stay in the backups of the key store: after it, erased content is
    /// provably unreadable.
    #[serde(deserialize_with = "units::read")]
    pub key_backups: Duration,
}

impl Default for TransferSettings {
    fn default() -> Self {
        const HOUR: u64 = 3_600;
        const DAY: u64 = 24 * HOUR;
        Self {
            offer_open: Duration::from_secs(7 * DAY),
            consent_valid: Duration::from_secs(72 * HOUR),
            fresh_authentication: Duration::from_secs(300),
            freeze_lag_rows: 64,
            freeze_budget: Duration::from_secs(2),
            freeze_tries: 10,
            freeze_pause: Duration::from_millis(500),
            mismatches: 3,
            lease: Duration::from_secs(15),
            work_lease: Duration::from_secs(5),
            key_hold: Duration::from_secs(20),
            source_reads: Duration::from_secs(60),
            stuck_after: Duration::from_secs(300),
            forwarding_locator: Duration::from_secs(365 * DAY),
            page_rows: 2_000,
            page_bytes: 2 * 1024 * 1024,
            objects_at_once: 4,
            bytes_per_second: 0,
            transfers_at_once: 8,
            key_backups: Duration::from_secs(7 * DAY),
        }
    }
}

impl TransferSettings {
    pub(crate) fn check(&self) -> Result<()> {
        ensure("transfer.page_rows", (1..=2_000).contains(&self.page_rows))?;
        ensure("transfer.page_bytes", (64 * 1024..=64 * 1024 * 1024).contains(&self.page_bytes))?;
        ensure("transfer.objects_at_once", (1..=64).contains(&self.objects_at_once))?;
        ensure("transfer.transfers_at_once", (1..=1_024).contains(&self.transfers_at_once))?;
        ensure("transfer.freeze_tries", self.freeze_tries > 0)?;
        ensure("transfer.mismatches", self.mismatches > 0)?;
        ensure("transfer.key_hold", self.key_hold >= Duration::from_secs(2))?;
        let waits = [
            ("transfer.offer_open", self.offer_open),
            ("transfer.consent_valid", self.consent_valid),
            ("transfer.fresh_authentication", self.fresh_authentication),
            ("transfer.freeze_budget", self.freeze_budget),
            ("transfer.freeze_pause", self.freeze_pause),
            ("transfer.lease", self.lease),
            ("transfer.work_lease", self.work_lease),
        ];
        waits.into_iter().try_for_each(|(key, wait)| ensure(key, !wait.is_zero()))
    }
}
