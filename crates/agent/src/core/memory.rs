//! State that survives a restart. Without it, an agent that starts again would go back to a backend that it has just
//! left.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use mail_failover_contract::routing::RouteBackend;
use mail_failover_core::model::{EvidenceClass, Timestamp};

/// Ejections and moves, as the core saves them. Times are microseconds since the Unix epoch.
// The names on disk stay as they are: an agent of another version must be able to read them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CoreMemory {
    /// UID of the route that it belongs to.
    pub route_uid: String,
    /// The transition that was in force.
    pub transition: i64,
    /// Backends that were left.
    #[serde(rename = "left")]
    pub ejections: Vec<SavedEjection>,
    /// Times of the agent's own moves, the oldest first.
    pub moves: Vec<i64>,
    /// Backend that carries everything because none of the operator's choice is left.
    #[serde(rename = "refuge", default, skip_serializing_if = "Option::is_none")]
    pub fallback: Option<String>,
}

/// A backend that was left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SavedEjection {
    /// Name of the backend.
    pub backend: String,
    /// Next hop when the agent left it. If it has changed, this record no longer applies.
    pub next_hop: String,
    /// Time of the ejection.
    pub at: i64,
    /// Least time that the backend stays out.
    pub cooldown_microseconds: u64,
    /// Name of the [`EvidenceClass`] for which it was left.
    pub class: String,
    /// The last failure in words.
    pub summary: String,
}

/// Reason and time of an ejection: the backend is not used although the operator gives it a share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ejection {
    /// Time of the ejection.
    pub at: Timestamp,
    /// Least time that the backend stays out.
    pub cooldown: Duration,
    /// Class of the failures.
    pub class: EvidenceClass,
    /// The last failure in words.
    pub summary: Arc<str>,
}

impl Ejection {
    /// Returns the end of the cooldown. The backend is not tried again before.
    pub fn until(&self) -> Timestamp {
        self.at + self.cooldown
    }

    pub(super) fn saved(&self, backend: &RouteBackend) -> SavedEjection {
        let Self { at, cooldown, class, summary } = self;
        SavedEjection {
            backend: backend.name.to_string(),
            next_hop: backend.next_hop.to_string(),
            at: at.as_micros(),
            cooldown_microseconds: u64::try_from(cooldown.as_micros()).unwrap_or(u64::MAX),
            class: class.as_str().to_owned(),
            summary: summary.to_string(),
        }
    }
}

impl CoreMemory {
    pub(super) fn ejection_of(&self, backend: &RouteBackend) -> Option<Ejection> {
        let next_hop = backend.next_hop.to_string();
        let mut ejections = self.ejections.iter();
        let saved = ejections.find(|saved| saved.backend == *backend.name && saved.next_hop == next_hop)?;
        Some(Ejection {
            at: Timestamp::from_micros(saved.at),
            cooldown: Duration::from_micros(saved.cooldown_microseconds),
            // After a downgrade, the class may be one of a newer agent.
            class: EvidenceClass::from_name(&saved.class).unwrap_or(EvidenceClass::Temporary),
            summary: saved.summary.as_str().into(),
        })
    }
}
