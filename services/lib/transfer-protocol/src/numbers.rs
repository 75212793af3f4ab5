//! The protocol's numbers; every one is configuration, these are the defaults of the design.

use std::time::Duration;

/// Deadlines, budgets and limits of a transfer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Numbers {
    /// How long an offer may be accepted.
    pub offer_open: Duration,
    /// From consent until the transfer must have completed.
    pub consent_valid: Duration,
    /// How old a password proof may be when consent is given.
    pub fresh_authentication: Duration,
    /// Rows not yet at the destination with which a freeze may begin (and no object).
    pub freeze_lag_rows: u64,
    /// How long a freeze may last.
    pub freeze_budget: Duration,
    /// How often a transfer may be frozen.
    pub freeze_tries: u32,
    /// The pause after the first freeze that ran out; doubles each time.
    pub freeze_pause: Duration,
    /// How often source and destination may disagree about the rows.
    pub mismatches: u32,
    /// How long a driver's lease lasts.
    pub lease: Duration,
    /// How long the source answers reads after Released when it hears nothing.
    pub source_reads: Duration,
    /// When a transfer past Released that does not advance is called stuck.
    pub stuck_after: Duration,
}

impl Default for Numbers {
    fn default() -> Self {
        const HOUR: u64 = 3_600;
        Self {
            offer_open: Duration::from_secs(7 * 24 * HOUR),
            consent_valid: Duration::from_secs(72 * HOUR),
            fresh_authentication: Duration::from_secs(300),
            freeze_lag_rows: 64,
            freeze_budget: Duration::from_secs(2),
            freeze_tries: 10,
            freeze_pause: Duration::from_millis(500),
            mismatches: 3,
            lease: Duration::from_secs(15),
            source_reads: Duration::from_secs(60),
            stuck_after: Duration::from_secs(300),
        }
    }
}

impl Numbers {
    /// The pause before the freeze after `tries` freezes that ran out: doubling, at most a minute.
    #[must_use]
    pub fn pause_after(&self, tries: u32) -> Duration {
        let factor = 2_u32.saturating_pow(tries.saturating_sub(1).min(16));
        self.freeze_pause.saturating_mul(factor).min(Duration::from_secs(60))
    }
}
