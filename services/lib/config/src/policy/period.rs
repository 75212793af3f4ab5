//! Periods of the calendar, as laws write them: `30 days`, `1 month`, `7 years`.

use domicile_types::Timestamp;
use jiff::{Span, tz::TimeZone};
use serde::Deserialize;

/// A whole number of one unit of the calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Period {
    /// How many.
    pub number: u32,
    /// Of what.
    pub unit: Unit,
}

/// A unit of the calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Unit {
    /// Minutes.
    Minutes,
    /// Hours.
    Hours,
    /// Days.
    Days,
    /// Months.
    Months,
    /// Years.
    Years,
}

impl Period {
    /// Parses a number and a unit, at most 200 years' worth.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (number, unit) = text.split_once(' ')?;
        let number: u32 = number.parse().ok()?;
        let (unit, most) = match unit {
            "minute" | "minutes" => (Unit::Minutes, 1_000_000),
            "hour" | "hours" => (Unit::Hours, 1_000_000),
            "day" | "days" => (Unit::Days, 73_000),
            "month" | "months" => (Unit::Months, 2_400),
            "year" | "years" => (Unit::Years, 200),
            _ => return None,
        };
        (number <= most).then_some(Self { number, unit })
    }

    /// The instant this long after another, by the calendar in UTC; a day that does not exist becomes
    /// the month's last.
    #[must_use]
    pub fn after(self, start: Timestamp) -> Timestamp {
        let number = i64::from(self.number);
        let span = match self.unit {
            Unit::Minutes => Span::new().try_minutes(number),
            Unit::Hours => Span::new().try_hours(number),
            Unit::Days => Span::new().try_days(number),
            Unit::Months => Span::new().try_months(number),
            Unit::Years => Span::new().try_years(number),
        };
        let end = span.and_then(|span| {
            let start = jiff::Timestamp::from_microsecond(start.micros())?.to_zoned(TimeZone::UTC);
            start.checked_add(span).map(|end| end.timestamp().as_microsecond())
        });
        // Past the calendar's end nothing expires.
        Timestamp::from_micros(end.unwrap_or(i64::MAX))
    }

    /// Days at least, to compare periods.
    pub(crate) fn days(self) -> u64 {
        let number = u64::from(self.number);
        match self.unit {
            Unit::Minutes => number / 1_440,
            Unit::Hours => number / 24,
            Unit::Days => number,
            Unit::Months => number * 365 / 12,
            Unit::Years => number * 365,
        }
    }
}

impl TryFrom<String> for Period {
    type Error = &'static str;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text).ok_or("not a period such as 30 days, 1 month or 7 years")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instant(text: &str) -> Timestamp {
        Timestamp::from_micros(text.parse::<jiff::Timestamp>().unwrap().as_microsecond())
    }

    #[test]
    fn the_calendar_counts() {
        let after = |period: &str, start: &str| Period::parse(period).unwrap().after(instant(start));
        assert_eq!(after("1 month", "2024-01-31T10:00:00Z"), instant("2024-02-29T10:00:00Z"));
        assert_eq!(after("7 years", "2024-02-29T00:00:00Z"), instant("2031-02-28T00:00:00Z"));
        assert_eq!(after("30 days", "2026-11-21T00:00:00Z"), instant("2026-12-21T00:00:00Z"));
        assert_eq!(after("15 minutes", "2026-11-21T00:00:00Z"), instant("2026-11-21T00:15:00Z"));
        assert_eq!(after("200 years", "9900-01-01T00:00:00Z").micros(), i64::MAX);
    }

    #[test]
    fn nonsense_is_refused() {
        for wrong in ["", "7", "years", "7 weeks", "-1 years", "201 years", "1.5 days", "7years", "7  years"]
        {
            assert_eq!(Period::parse(wrong), None, "{wrong}");
        }
    }
}
