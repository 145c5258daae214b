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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_as_in_kubernetes() {
        assert_eq!(duration("1m30s").unwrap(), Duration::from_secs(90));
        assert!(duration("-1s").unwrap_err().to_string().contains("negative"));
        assert!(duration("soon").unwrap_err().to_string().contains("500ms"));
    }
}
