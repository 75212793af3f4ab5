//! Instants on the command line: RFC 3339, or a span from now such as `30d`.

use std::time::Duration;

use domicile_types::Timestamp;

use crate::failure::{Failure, Result};

/// An instant: `2027-01-31T09:00:00Z`, or `15min`, `72h`, `30d` from `now`.
///
/// # Errors
/// [`Failure::Usage`] for any other text.
pub fn instant(text: &str, now: Timestamp) -> Result<i64> {
    if let Some(span) = span(text) {
        return Ok(now.plus(span).micros());
    }
    let parsed: std::result::Result<jiff::Timestamp, _> = text.parse();
    parsed.map(jiff::Timestamp::as_microsecond).map_err(|_| {
        Failure::Usage(
            "times are written like 2027-01-31T09:00:00Z, or like 15min, 72h, 30d from now".to_owned(),
        )
    })
}

/// As [`instant`]; 0 (not given) for `None`.
///
/// # Errors
/// [`Failure::Usage`] for text that is no instant.
pub fn optional(text: Option<&String>, now: Timestamp) -> Result<i64> {
    text.map_or(Ok(0), |text| instant(text, now))
}

fn span(text: &str) -> Option<Duration> {
    let split = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(split);
    let seconds = match unit {
        "s" => 1,
        "min" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(seconds).map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_and_spans() {
        let now = Timestamp::from_micros(1_000_000);
        assert_eq!(instant("30s", now).unwrap(), 31_000_000);
        assert_eq!(instant("1970-01-01T00:00:02Z", now).unwrap(), 2_000_000);
        assert_eq!(optional(None, now).unwrap(), 0);
        for wrong in ["", "tomorrow", "30", "30y", "-1d"] {
            assert!(instant(wrong, now).is_err(), "{wrong}");
        }
    }
}
