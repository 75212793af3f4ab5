//! How long requests took.

use std::time::Duration;

use serde_json::{Value, json};

/// Measured durations.
#[derive(Clone, Debug, Default)]
pub(crate) struct Latencies(Vec<Duration>);

impl Latencies {
    /// Adds one.
    pub(crate) fn add(&mut self, one: Duration) {
        self.0.push(one);
    }

    /// Adds all of another.
    pub(crate) fn join(&mut self, mut other: Self) {
        self.0.append(&mut other.0);
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// The duration that `per_mille` of a thousand do not exceed, by nearest rank; zero when there is none.
    pub(crate) fn quantile(&self, per_mille: usize) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let rank = (sorted.len() * per_mille).div_ceil(1_000).max(1);
        sorted.get(rank - 1).copied().unwrap_or_default()
    }

    /// p50, p99 and the longest, in milliseconds.
    pub(crate) fn json(&self) -> Value {
        json!({
            "count": self.count(),
            "p50_ms": millis(self.quantile(500)),
            "p99_ms": millis(self.quantile(990)),
            "max_ms": millis(self.quantile(1_000)),
        })
    }
}

/// Milliseconds with three decimals.
pub(crate) fn millis(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1_000_000.0).round() / 1_000.0
}

/// The middle of some figures; of an even number the lower one of both in the middle.
pub(crate) fn median(figures: &[f64]) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len().saturating_sub(1) / 2).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_of_the_nearest_rank() {
        let mut all = Latencies::default();
        assert_eq!(all.quantile(990), Duration::ZERO);
        for one in (1..=200).rev() {
            all.add(Duration::from_millis(one));
        }
        let at = |per_mille| all.quantile(per_mille).as_millis();
        assert_eq!([at(0), at(500), at(990), at(1_000)], [1, 100, 198, 200]);
    }

    #[test]
    fn the_median_is_a_figure_that_was_measured() {
        assert_eq!(median(&[3.0, 1.0, 2.0]).to_bits(), 2.0_f64.to_bits());
        assert_eq!(median(&[4.0, 1.0]).to_bits(), 1.0_f64.to_bits());
        assert!(median(&[]).is_nan());
    }
}
