//! Values of the command line as Kubernetes and RFC 3339 write them.

use std::str::FromStr;
use std::time::Duration;

use mail_failover_core::model::Timestamp;

/// Errors of a value on the command line.
#[derive(Debug, thiserror::Error)]
pub enum ValueError {
    /// The value is no time as RFC 3339 has it.
    #[error("{0}; use a time such as 2026-11-24T08:00:00Z")]
    Timestamp(#[source] jiff::Error),
    /// The value is no duration as Kubernetes and Go write it.
    #[error("{0}; use a duration such as 500ms, 10s or 1m30s")]
    Duration(#[source] kube::core::duration::ParseError),
    /// The value is no duration of days or hours.
    #[error("use a duration such as 12h, 7d or 30d")]
    LongDuration,
    /// The duration is below zero.
    #[error("it is negative; use a duration such as 500ms, 10s or 1m30s")]
    Negative,
}

/// Parses a time as RFC 3339 has it: `2026-11-24T08:00:00Z`.
pub fn timestamp(text: &str) -> Result<Timestamp, ValueError> {
    let parsed = text.parse::<jiff::Timestamp>().map_err(ValueError::Timestamp)?;
    Ok(Timestamp::from_micros(parsed.as_microsecond()))
}

/// Parses a duration as Kubernetes and Go write it: `200ms`, `10s`, `1h30m`.
pub fn duration(text: &str) -> Result<Duration, ValueError> {
    let parsed = kube::core::Duration::from_str(text).map_err(ValueError::Duration)?;
    if parsed.is_negative() { Err(ValueError::Negative) } else { Ok(parsed.into()) }
}

/// Parses a duration of days, or one as Kubernetes writes it: `30d`, `12h`; more than zero, at most ten years.
pub fn long_duration(text: &str) -> Result<Duration, ValueError> {
    const DAY: Duration = Duration::from_hours(24);
    let parsed = match text.strip_suffix('d') {
        Some(days) => days.parse::<u32>().ok().and_then(|days| DAY.checked_mul(days)),
        None => duration(text).ok(),
    };
    parsed.filter(|given| !given.is_zero() && *given <= DAY * 3660).ok_or(ValueError::LongDuration)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_duration_may_be_in_days() {
        assert_eq!(long_duration("30d").unwrap(), Duration::from_hours(720));
        assert_eq!(long_duration("12h").unwrap(), Duration::from_hours(12));
        for wrong in ["0d", "-1d", "d", "99999d", "a month"] {
            assert!(long_duration(wrong).unwrap_err().to_string().contains("30d"), "{wrong}");
        }
    }

    #[test]
    fn durations_are_written_as_in_kubernetes() {
        assert_eq!(duration("1m30s").unwrap(), Duration::from_secs(90));
        assert!(duration("-1s").unwrap_err().to_string().contains("negative"));
        assert!(duration("soon").unwrap_err().to_string().contains("500ms"));
    }
}
