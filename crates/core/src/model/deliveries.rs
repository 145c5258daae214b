use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::{EvidenceClass, ObjectKey, Timestamp};

/// A process beside an MTA that tells what real mail of one route meets.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Agent {
    /// The `MailRoute` whose mail it is.
    pub route: ObjectKey,
    /// Its name, unique among the agents of the route: the pod's, or the host's.
    pub name: Arc<str>,
}

/// What an agent says of its deliveries by one backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Word {
    /// They fail.
    Failing(FailingDeliveries),
    /// They succeed.
    Passing,
    /// There were too few of them lately to say anything.
    Silent,
}

/// A run of deliveries that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailingDeliveries {
    /// What they met.
    pub class: EvidenceClass,
    /// One line for people, printable, without mail addresses.
    pub message: Arc<str>,
    /// When the first of them failed.
    pub first_failure_at: Timestamp,
    /// When the latest failed.
    pub last_failure_at: Timestamp,
}

/// What an agent knows of its deliveries by one backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendDeliveries {
    /// What they come to.
    pub word: Word,
    /// Whether the agent has left the backend by itself.
    pub is_left: bool,
    /// Messages that the backend took, since the agent's process began.
    pub sent: u64,
    /// Messages that are tried again later.
    pub deferred: u64,
    /// Messages that were returned to their senders.
    pub bounced: u64,
    /// Messages that may arrive twice.
    pub possible_duplicates: u64,
}

/// What an agent has made of a switch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SwitchedMail {
    /// The route's transition that it carried out; none for one that the agent made by itself.
    pub transition: Option<i64>,
    /// Messages in the queue before it.
    pub queue_before: u64,
    /// Messages in the queue when it was last counted.
    pub queue_after: u64,
    /// When the new backend took its first message.
    pub first_delivery_at: Option<Timestamp>,
    /// How long after the switch began that was.
    pub first_delivery_after: Option<Duration>,
    /// Messages under way that may arrive twice.
    pub possible_duplicates: u64,
}

/// All that an agent has to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentReport {
    /// Who.
    pub agent: Agent,
    /// `metadata.uid` of the route.
    pub route_uid: String,
    /// Another one means that the agent has begun anew.
    pub process: Arc<str>,
    /// Increases with each report of a process.
    pub sequence: u64,
    /// By the backend's name.
    pub backends: BTreeMap<Arc<str>, BackendDeliveries>,
    /// The latest switch.
    pub last_switch: Option<SwitchedMail>,
}
