//! The policies whose false alarms are counted, with their probes.

use std::time::Duration;

use mail_failover_core::model::{HoldPolicy, Policy, Thresholds};

/// A policy and the frequency of its observations.
#[derive(Clone, Debug)]
pub struct Profile {
    pub name: &'static str,
    pub policy: Policy,
    pub interval: Duration,
    pub timeout: Duration,
}

impl Profile {
    /// The defaults of a route without `policyRef` and of a backend without `probes`.
    pub fn default_policy() -> Self {
        Self {
            name: "default",
            policy: Policy::default(),
            interval: Duration::from_secs(10),
            timeout: Duration::from_secs(5),
        }
    }

    /// The policy of `examples/quickstart.yaml`, with a timeout of a second.
    pub fn fast() -> Self {
        let defaults = Policy::default();
        Self {
            name: "fast",
            policy: Policy {
                thresholds: Thresholds { failure: 3, lasting: None, recovery: 5, ..Thresholds::default() },
                hold: HoldPolicy {
                    cooldown: Duration::from_secs(5),
                    minimum_stay: Duration::from_secs(2),
                    ..defaults.hold
                },
                failback: mail_failover_core::model::Failback { after: Duration::from_secs(5), ..defaults.failback },
                ..defaults
            },
            interval: Duration::from_millis(200),
            timeout: Duration::from_secs(1),
        }
    }

    /// The defaults, but for failures that are confirmed at once and count after 10 s.
    pub fn confirming() -> Self {
        let mut profile = Self::default_policy();
        profile.name = "lasting 10s";
        profile.policy.thresholds.lasting = Some(Duration::from_secs(10));
        profile
    }

    /// The time from the beginning of an outage within which it must be left: the promised time,
    /// and an interval for the phase of the probes.
    pub fn deadline(&self) -> Duration {
        let thresholds = self.policy.thresholds;
        let until_failed = thresholds.lasting.unwrap_or(self.interval * thresholds.failure);
        until_failed + self.timeout + Duration::from_secs(1) + self.interval
    }
}
