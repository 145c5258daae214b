//! What an election needs to know.

use std::time::Duration;

use super::lease::LONGEST_LEASE;

/// The shortest pause between two looks at the lease: the API server has other work.
const SHORTEST_RETRY: Duration = Duration::from_millis(100);

/// Which lease, who we are, and the times of the election.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The lease's namespace.
    pub namespace: String,
    /// The lease's name.
    pub name: String,
    /// Our name in the lease; no other process, and no later one of ours, may have the same (see [`unique_identity`]).
    pub identity: String,
    /// How long a record must be unchanged before its holder is taken for dead. Whole seconds, as the API has it.
    pub lease_duration: Duration,
    /// How long a claim lasts from when the last accepted renewal was sent.
    pub renew_deadline: Duration,
    /// From renewal to renewal, and from look to look.
    pub retry_period: Duration,
}

impl Settings {
    /// The customary times: 15 s, 10 s and 2 s.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>, identity: impl Into<String>) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
            identity: identity.into(),
            lease_duration: Duration::from_secs(15),
            renew_deadline: Duration::from_secs(10),
            retry_period: Duration::from_secs(2),
        }
    }

    /// Whether two replicas with these settings can never lead at the same time, and one will lead.
    pub fn validate(&self) -> Result<(), SettingsError> {
        let Self { namespace, name, identity, lease_duration, renew_deadline, retry_period } = self;
        for (what, value) in [("namespace", namespace), ("name", name), ("identity", identity)] {
            if value.is_empty() {
                return Err(SettingsError::Empty(what));
            }
        }
        if lease_duration.subsec_nanos() != 0 || lease_duration.is_zero() || *lease_duration > LONGEST_LEASE {
            return Err(SettingsError::LeaseDuration(*lease_duration));
        }
        // A quarter for clocks that run at different speeds and for a write that is on its way when the claim ends.
        if *renew_deadline + *renew_deadline / 4 > *lease_duration {
            return Err(SettingsError::RenewDeadline { renew: *renew_deadline, lease: *lease_duration });
        }
        if *retry_period < SHORTEST_RETRY || *retry_period * 2 > *renew_deadline {
            return Err(SettingsError::RetryPeriod { retry: *retry_period, renew: *renew_deadline });
        }
        Ok(())
    }
}

/// Settings with which an election would not be safe, or not end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// A name is missing.
    #[error("the lease's {0} is empty")]
    Empty(&'static str),
    /// The lease is too long, or not in whole seconds.
    #[error("the lease duration {0:?} must be between 1s and 5m, in whole seconds")]
    LeaseDuration(Duration),
    /// The leader would claim for too long.
    #[error(
        "the renew deadline {renew:?} is too long: with a quarter added it must not exceed the lease duration {lease:?}"
    )]
    RenewDeadline {
        /// The renew deadline.
        renew: Duration,
        /// The lease duration.
        lease: Duration,
    },
    /// One failed renewal would cost the leadership.
    #[error("the retry period {retry:?} must be at least 100ms and at most half of the renew deadline {renew:?}")]
    RetryPeriod {
        /// The retry period.
        retry: Duration,
        /// The renew deadline.
        renew: Duration,
    },
}

/// An identity that no other process has: the host's name, for people, and 64 random bits.
pub fn unique_identity(hostname: &str) -> String {
    // The API allows any text; a host's name is at most 253 characters (RFC 1035).
    let host: String = hostname.trim().chars().take(253).collect();
    format!("{host}_{:016x}", mail_failover_runtime::random::bits())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(lease: u64, renew: u64, retry: u64) -> Settings {
        Settings {
            lease_duration: Duration::from_millis(lease),
            renew_deadline: Duration::from_millis(renew),
            retry_period: Duration::from_millis(retry),
            ..Settings::new("mail", "operator", "a")
        }
    }

    #[test]
    fn times_must_leave_a_margin() {
        for (lease, renew, retry, valid) in [
            (15_000, 10_000, 2_000, true),
            (2_000, 1_600, 200, true),
            (2_000, 1_601, 200, false),
            (15_000, 15_000, 2_000, false),
            (1_500, 1_000, 200, false),
            (0, 0, 0, false),
            (300_000, 60_000, 2_000, true),
            (301_000, 60_000, 2_000, false),
            (15_000, 10_000, 5_000, true),
            (15_000, 10_000, 5_001, false),
            (15_000, 10_000, 99, false),
        ] {
            let result = settings(lease, renew, retry).validate();
            assert_eq!(result.is_ok(), valid, "{lease} {renew} {retry}: {result:?}");
        }
    }

    #[test]
    fn names_must_not_be_empty() {
        for (namespace, name, identity) in [("", "b", "c"), ("a", "", "c"), ("a", "b", "")] {
            Settings::new(namespace, name, identity).validate().expect_err("one is empty");
        }
    }

    #[test]
    fn identities_of_one_host_differ() {
        let (one, other) = (unique_identity("node-1\n"), unique_identity("node-1\n"));
        assert_ne!(one, other);
        assert!(one.starts_with("node-1_"), "{one}");
    }
}
