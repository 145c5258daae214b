//! State that survives a restart. Without it, the first messages after a restart would wait for a silent backend again,
//! and a backend would get more messages a day than its limit.

use serde::{Deserialize, Serialize};

use mail_failover_contract::routing::RouteBackend;
use mail_failover_core::model::{DeliveryStage, EvidenceClass, Timestamp};

use super::allowance::HourCount;
use super::drill::SavedDrill;
use super::traffic::FailureRun;

/// Open breakers, counts of messages and drills, as the core saves them. Times are microseconds since the Unix epoch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CoreMemory {
    /// UID of the route that it belongs to.
    pub route_uid: String,
    /// Backends whose breaker is open.
    // The record of an agent that had none has no such field.
    #[serde(default)]
    pub open: Vec<SavedBreaker>,
    /// Messages that backends with a limit of a day have taken.
    #[serde(default)]
    pub days: Vec<SavedDay>,
    /// Latest drills, the one under way included.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub drills: Vec<SavedDrill>,
}

/// Messages that a backend took within a day.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SavedDay {
    /// Name of the backend.
    pub backend: String,
    /// Next hop when they were counted. If it has changed, this record no longer applies.
    pub next_hop: String,
    /// Messages of each hour.
    pub hours: Vec<HourCount>,
}

/// A breaker that is open, with the failures that opened it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SavedBreaker {
    /// Name of the backend.
    pub backend: String,
    /// Next hop when it opened. If it has changed, this record no longer applies.
    pub next_hop: String,
    /// Time at which it opened.
    pub since: i64,
    /// Number of failures in a row.
    pub failures: u32,
    /// Time of the first failure.
    pub first_at: i64,
    /// Time of the latest failure.
    pub last_at: i64,
    /// Name of the latest failure's [`EvidenceClass`].
    pub class: String,
    /// Name of the deepest stage at which one failed.
    #[serde(default)]
    pub stage: String,
    /// The latest failure in words.
    pub summary: String,
}

impl SavedBreaker {
    pub(super) fn of(backend: &RouteBackend, since: Timestamp, run: &FailureRun) -> Self {
        Self {
            backend: backend.name.to_string(),
            next_hop: backend.next_hop.to_string(),
            since: since.as_micros(),
            failures: run.failures,
            first_at: run.since.as_micros(),
            last_at: run.until.as_micros(),
            class: run.class.as_str().to_owned(),
            stage: run.stage.as_str().to_owned(),
            summary: run.summary.to_string(),
        }
    }

    /// Returns the time at which it opened and the failures, none of them later than `now`.
    // A clock that was wrong once must not keep it open for as long.
    pub(super) fn restored(&self, now: Timestamp) -> (Timestamp, FailureRun) {
        let past = |micros| Timestamp::from_micros(micros).min(now);
        // After a downgrade, the class may be one of a newer agent.
        let class = EvidenceClass::from_name(&self.class).unwrap_or(EvidenceClass::Temporary);
        let (first, last) = (past(self.first_at), past(self.last_at));
        let stage = DeliveryStage::from_name(&self.stage).unwrap_or(DeliveryStage::Data);
        (past(self.since), FailureRun::of(self.failures, first, last, class, stage, self.summary.as_str().into()))
    }
}

impl CoreMemory {
    pub(super) fn day_of(&self, backend: &RouteBackend) -> Option<&SavedDay> {
        let next_hop = backend.next_hop.to_string();
        self.days.iter().find(|saved| saved.backend == *backend.name && saved.next_hop == next_hop)
    }

    pub(super) fn breaker_of(&self, backend: &RouteBackend) -> Option<&SavedBreaker> {
        let next_hop = backend.next_hop.to_string();
        self.open.iter().find(|saved| saved.backend == *backend.name && saved.next_hop == next_hop)
    }
}
