//! Durations as people write them in settings: `500ms`, `15s`, `15min`, `72h`, `7d`.

use std::time::Duration;

use serde::{Deserialize, Deserializer, de::Error as _};

/// The longest duration a setting may name, a hundred years: any instant plus it is an instant.
const LONGEST: Duration = Duration::from_secs(36_525 * 86_400);

/// Parses a duration: a whole number and a unit (`ms`, `s`, `min`, `h`, `d`); a hundred years at most.
pub(crate) fn duration(text: &str) -> Option<Duration> {
    let split = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(split);
    let number: u64 = number.parse().ok()?;
    let millis = match unit.trim() {
        "ms" => 1,
        "s" => 1_000,
        "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    number.checked_mul(millis).map(Duration::from_millis).filter(|found| *found <= LONGEST)
}

/// For `#[serde(deserialize_with)]`.
pub(crate) fn read<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(from)?;
    duration(&text).ok_or_else(|| D::Error::custom("not a duration such as 500ms, 15s, 15min, 72h or 7d"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_nonsense_is_not() {
        assert_eq!(duration("500ms"), Some(Duration::from_millis(500)));
        assert_eq!(duration("15 min"), Some(Duration::from_secs(900)));
        assert_eq!(duration("7d"), Some(Duration::from_secs(604_800)));
        for wrong in
            ["", "s", "15", "-1s", "1.5s", "1w", "36526d", "99999999999999999999d", "18446744073709551615d"]
        {
            assert_eq!(duration(wrong), None, "{wrong}");
        }
    }
}
