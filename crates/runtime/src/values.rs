//! Values of the command line as Kubernetes and RFC 3339 write them.

use std::str::FromStr;
use std::time::Duration;

use mail_failover_core::model::Timestamp;

/// A time as RFC 3339 has it: `2026-11-24T08:00:00Z`.
pub fn timestamp(text: &str) -> Result<Timestamp, String> {
    let parsed = text.parse::<jiff::Timestamp>();
    let parsed = parsed.map_err(|error| format!("{error}; use a time such as 2026-11-24T08:00:00Z"))?;
    Ok(Timestamp::from_micros(parsed.as_microsecond()))
}

/// A duration as Kubernetes and Go write it: `200ms`, `10s`, `1h30m`.
pub fn duration(text: &str) -> Result<Duration, String> {
    let remedy = "use a duration such as 500ms, 10s or 1m30s";
    let parsed = kube::core::Duration::from_str(text).map_err(|error| format!("{error}; {remedy}"))?;
    if parsed.is_negative() { Err(format!("it is negative; {remedy}")) } else { Ok(parsed.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_as_in_kubernetes() {
        assert_eq!(duration("1m30s"), Ok(Duration::from_secs(90)));
        assert!(duration("-1s").unwrap_err().contains("negative"));
        assert!(duration("soon").unwrap_err().contains("500ms"));
    }
}
