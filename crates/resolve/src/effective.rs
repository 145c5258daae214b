//! The values of a policy that are in force, defaults filled in, for people.

use std::time::Duration;

use mail_failover_api::EffectivePolicy;
use mail_failover_core::model::{FailbackMode, Policy, WhenNoneHealthy};

/// Returns the values in force for `status.effective`.
pub fn effective(policy: &Policy) -> EffectivePolicy {
    let Policy { thresholds, hold, when_none_healthy, failback, objectives: _, deliveries, breaker: _, drills: _ } =
        policy;
    let immediately: Vec<_> = thresholds.immediate.iter().map(|class| class.as_str().to_owned()).collect();
    EffectivePolicy {
        failures: i32::try_from(thresholds.failure).unwrap_or(i32::MAX),
        lasting: thresholds.lasting.map(words),
        immediately,
        failed_deliveries: format!("{} over {}", deliveries.consecutive, words(deliveries.lasting)),
        recoveries: i32::try_from(thresholds.recovery).unwrap_or(i32::MAX),
        cooldown: words(hold.cooldown),
        minimum_stay: words(hold.minimum_stay),
        budget: format!("{} per {}", hold.budget.switches, words(hold.budget.per)),
        when_none_healthy: match when_none_healthy {
            WhenNoneHealthy::Hold => "Hold",
            WhenNoneHealthy::Preferred => "Preferred",
        }
        .to_owned(),
        failback: match failback.mode {
            FailbackMode::Automatic => "Automatic",
            FailbackMode::Manual => "Manual",
        }
        .to_owned(),
        failback_after: words(failback.after),
    }
}

/// Formats a duration as Kubernetes does: `1h30m`, `10s`, `500ms`.
pub fn words(duration: Duration) -> String {
    let whole = duration.as_secs();
    let parts =
        [(whole / 3600, "h"), (whole / 60 % 60, "m"), (whole % 60, "s"), (duration.subsec_millis().into(), "ms")];
    let written = parts.iter().filter(|(count, _)| *count > 0).map(|(count, unit)| format!("{count}{unit}"));
    let text = written.collect::<Vec<_>>().concat();
    if text.is_empty() { "0s".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_policy_shows_the_documented_defaults() {
        let EffectivePolicy { failures, lasting, failed_deliveries, recoveries, cooldown, budget, failback, .. } =
            effective(&Policy::default());
        assert_eq!((failures, lasting, recoveries), (6, None, 10));
        assert_eq!([failed_deliveries, cooldown, budget, failback], ["10 over 50s", "10m", "6 per 1h", "Automatic"]);
        assert_eq!(words(Duration::from_millis(5_400_500)), "1h30m500ms");
    }
}
