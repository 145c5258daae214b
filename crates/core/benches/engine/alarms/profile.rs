//! The two policies whose false alarms are counted, with the probes that go with them.

use std::time::Duration;

use mail_failover_core::model::{HoldPolicy, Policy, Thresholds};

/// A policy and how often it is fed.
#[derive(Clone, Debug)]
pub struct Profile {
    pub name: &'static str,
    pub policy: Policy,
    pub interval: Duration,
    pub timeout: Duration,
}

impl Profile {
    /// What applies to a route without `policyRef` and to a backend without `probes`.
    pub fn default_policy() -> Self {
        Self {
            name: "default",
            policy: Policy::default(),
            interval: Duration::from_secs(10),
            timeout: Duration::from_secs(5),
        }
    }

    /// As in `examples/quickstart.yaml`, with a timeout of a second.
    pub fn fast() -> Self {
        let defaults = Policy::default();
        Self {
            name: "fast",
            policy: Policy {
                thresholds: Thresholds { failure: 3, recovery: 5, ..Thresholds::default() },
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

    /// Within so long of its beginning an outage must be left: what is promised, and an interval for the phase of the probes.
    pub fn deadline(&self) -> Duration {
        self.interval * self.policy.thresholds.failure + self.timeout + Duration::from_secs(1) + self.interval
    }
}
