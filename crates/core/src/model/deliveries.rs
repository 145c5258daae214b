use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::{DrilledMail, EvidenceClass, ObjectKey, Stage, Timestamp};

/// Process beside an MTA that reports the deliveries of one route's mail.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Agent {
    /// The `MailRoute` whose mail it is.
    pub route: ObjectKey,
    /// Name of the pod or host, unique among the agents of the route.
    pub name: Arc<str>,
}

/// Verdict of an agent about its deliveries by one backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeliveryVerdict {
    /// Deliveries by the backend fail.
    Failing(FailingDeliveries),
    /// Deliveries by the backend have met nothing but requests for less, for minutes.
    Throttled(ThrottledDeliveries),
    /// Deliveries by the backend succeed.
    Passing,
    /// Too few deliveries lately for a verdict.
    Silent,
}

/// Stage at which a delivery failed. Later stages are greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DeliveryStage {
    /// A step of the session that a probe can take as well.
    Session(Stage),
    /// The message itself and the reply to it, which no probe meets (RFC 5321 §4.1.1.4).
    Data,
}

impl DeliveryStage {
    const DATA: &'static str = "DATA";

    /// Name in reports, status and messages: `AUTH`, `MAIL`, `DATA`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Session(stage) => stage.as_str(),
            Self::Data => Self::DATA,
        }
    }

    /// The stage of that name, if there is one.
    pub fn from_name(name: &str) -> Option<Self> {
        if name == Self::DATA { Some(Self::Data) } else { Stage::from_name(name).map(Self::Session) }
    }
}

/// A run of deliveries that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailingDeliveries {
    /// Class of the failures.
    pub class: EvidenceClass,
    /// One line for people, printable, without mail addresses.
    pub message: Arc<str>,
    /// Time of the first failure.
    pub first_failure_at: Timestamp,
    /// Time of the latest failure.
    pub last_failure_at: Timestamp,
    /// Deepest stage at which one failed; `None` if the agent does not tell.
    pub stage: Option<DeliveryStage>,
}

/// Deliveries that met nothing but requests for less.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ThrottledDeliveries {
    /// Latest reply, one line for people, printable, without mail addresses.
    pub message: Arc<str>,
    /// Time of the first such reply since the last success.
    pub first_at: Timestamp,
    /// Time of the latest one.
    pub last_at: Timestamp,
}

/// Deliveries of an agent by one backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendDeliveries {
    /// Verdict about the deliveries.
    pub verdict: DeliveryVerdict,
    /// True if messages that are meant for the backend try another one first: its breaker is open.
    pub is_bypassed: bool,
    /// Messages that the backend took since the agent's process began.
    pub sent: u64,
    /// Messages that are tried again later.
    pub deferred: u64,
    /// Messages that were returned to their senders.
    pub bounced: u64,
    /// Messages that may arrive twice.
    pub possible_duplicates: u64,
    /// Messages among `sent` that the backend took although it had no share of the route's mail.
    pub diverted: u64,
}

impl BackendDeliveries {
    /// Counts of an agent for a backend that has had no message of it.
    pub fn none() -> Self {
        let verdict = DeliveryVerdict::Silent;
        Self { verdict, is_bypassed: false, sent: 0, deferred: 0, bounced: 0, possible_duplicates: 0, diverted: 0 }
    }
}

/// Mail in the queue of the MTA beside an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueuedMail {
    /// Number of messages that wait to be sent.
    pub messages: u64,
    /// Time at which the oldest of them came in; `None` if none waits, or it is not known.
    pub oldest_at: Option<Timestamp>,
}

/// Messages that wait beside an agent because a backend refuses them by a 5xx that is not known to be about them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptMail {
    /// Number of messages, each counted for each recipient.
    pub messages: u64,
    /// Time at which the oldest of them came in.
    pub oldest_at: Timestamp,
    /// Subject of the latest refusal of the oldest: a name such as `Quota`.
    pub about: Arc<str>,
    /// Backend that refused the oldest last.
    pub backend: Arc<str>,
}

/// Report of an agent about a switch that it carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SwitchedMail {
    /// The route's transition that it carried out; none for one that the agent made by itself.
    pub transition: Option<i64>,
    /// Messages in the queue before it.
    pub queue_before: u64,
    /// Messages in the queue when it was last counted.
    pub queue_after: u64,
    /// Time of the first message that the new backend took.
    pub first_delivery_at: Option<Timestamp>,
    /// Time from the start of the switch to that message.
    pub first_delivery_after: Option<Duration>,
    /// Messages under way that may arrive twice.
    pub possible_duplicates: u64,
}

/// Report of an agent about its deliveries and its latest switch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentReport {
    /// The agent that reports.
    pub agent: Agent,
    /// `metadata.uid` of the route.
    pub route_uid: String,
    /// Id of the agent's process: another one means that the agent has begun anew.
    pub process: Arc<str>,
    /// Increases with each report of a process.
    pub sequence: u64,
    /// True if it tells backends of one host and port apart: it is a relay.
    pub tells_accounts_apart: bool,
    /// Deliveries by the backend's name.
    pub backends: BTreeMap<Arc<str>, BackendDeliveries>,
    /// The latest switch, if there was one.
    pub last_switch: Option<SwitchedMail>,
    /// Messages that wait although a backend refuses them, if there are any.
    pub kept: Option<KeptMail>,
    /// Mail in the queue; `None` if the agent does not tell.
    pub queue: Option<QueuedMail>,
    /// Latest drill that it was told of, if there was one.
    pub drill: Option<DrilledMail>,
}
