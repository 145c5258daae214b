//! Status of an agent at `/status`, for people and programs. It holds no secret.

mod command;
mod text;

use std::collections::BTreeMap;
use std::time::Duration;

use mail_failover_core::model::{LoginReference, QueuedMail, Timestamp};
use serde::{Deserialize, Serialize};

use mail_failover_dataplane::core::{BackendView, BreakerView, DrillView, KeptView, SwitchView};
use mail_failover_dataplane::credentials::LoginState;
use mail_failover_dataplane::reporter::{ReplicaReporting, ReporterStatus};

pub use command::print;
pub use text::text;

/// Whole status of an agent. Times are RFC 3339.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// Version of the agent.
    pub version: String,
    /// Time of the status, by the agent's clock.
    pub now: String,
    /// True if the agent answers Postfix.
    pub ready: bool,
    /// Missing condition, if it is not ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting_for: Option<String>,
    /// Document in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub document: Option<DocumentStatus>,
    /// Sources of documents.
    pub sources: Vec<SourceStatus>,
    /// Backends of the route, in order of preference.
    pub backends: Vec<BackendStatus>,
    /// State of reading the MTA's log.
    pub mail_log: MailLogStatus,
    /// Latest switch, if there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_switch: Option<SwitchStatus>,
    /// Messages that may have been sent twice, since the agent started.
    pub possible_duplicates: u64,
    /// Messages that backends refuse by a 5xx and that wait, if there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<KeptStatus>,
    /// Latest drill, if there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drill: Option<DrillStatus>,
    /// Mail in the queue, when it was last looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<QueueStatus>,
    /// Messages that backends without a share took, since the agent started.
    #[serde(default)]
    pub diverted: u64,
    /// Servers of the agent that cannot listen yet, each with the reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_served: Vec<String>,
    /// State of the reports to the operator.
    pub reports: ReportsStatus,
    /// State that is saved for the next start.
    pub state: StateStatus,
}

/// Postfix's log, without which no breaker opens and the agent reports nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MailLogStatus {
    /// Path, or `its command's output`; empty if there is none.
    pub source: String,
    /// Reason why it is not read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// Reason why what is read seems not to be understood, with the remedy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
}

/// State of the reports to the operator.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReportsStatus {
    /// Reason why nothing is reported at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nothing_sent: Option<String>,
    /// Replicas of the operator that are told.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub replicas: Vec<ReplicaStatus>,
}

/// State of the reports to one replica of the operator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReplicaStatus {
    /// Address, as `address:port`.
    pub address: String,
    /// Time at which the latest report was accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepted_at: Option<String>,
    /// Error since then, if there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl ReportsStatus {
    /// Converts the state of the reporter.
    pub fn of(ReporterStatus { nothing_sent, replicas }: ReporterStatus) -> Self {
        let mut told = vec![];
        for (address, ReplicaReporting { accepted_at, error }) in replicas {
            told.push(ReplicaStatus { address, accepted_at: accepted_at.map(rfc_3339), error });
        }
        Self { nothing_sent, replicas: told }
    }
}

/// The document in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DocumentStatus {
    /// Name of the route, as `namespace/name`.
    pub route: String,
    /// Id of the transition.
    pub transition: i64,
    /// Summary of the transition, for people.
    pub summary: String,
    /// Source of the document.
    pub source: String,
    /// Time at which it came.
    pub since: String,
    /// Fields that this agent does not know: misspelt, or of a newer operator.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ignored: Vec<String>,
}

/// A source of documents.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SourceStatus {
    /// Name of the source.
    pub source: String,
    /// State of the source.
    pub state: SourceState,
    /// Details of the state, in words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Start of the state.
    pub since: String,
    /// Reason why its latest document is not used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}

/// State of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SourceState {
    /// The source has not said anything yet.
    Waiting,
    /// The source is followed, and has a document.
    Following,
    /// The source is followed, and has no document.
    Missing,
    /// The source is not reached.
    Unreachable,
}

impl SourceState {
    /// A name for people and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "Waiting",
            Self::Following => "Following",
            Self::Missing => "Missing",
            Self::Unreachable => "Unreachable",
        }
    }
}

/// State of one backend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BackendStatus {
    /// Name of the backend.
    pub name: String,
    /// Next hop, as Postfix has it.
    pub next_hop: String,
    /// The operator's share, in percent.
    pub decided_percent: u8,
    /// Share of the messages that try it first, in percent.
    pub carried_percent: u8,
    /// True if the operator would send mail there now.
    pub standby: bool,
    /// Use for messages that another backend does not take: `Used`, `No`, `SetApart` by TLS from the first byte, or
    /// `Spent` when it has its messages of the day.
    #[serde(default)]
    pub alternate: String,
    /// Least time between two messages: this agent's part of the backend's limit. Absent for any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub least_interval_milliseconds: Option<u64>,
    /// Messages that may go there within 24 hours, this agent's part of the backend's limits. Absent for any number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub messages_per_day: Option<u64>,
    /// True if a drill refuses it now although it works.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub refused: bool,
    /// Breaker, if it is open: messages try the backend last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub breaker: Option<BreakerStatus>,
    /// Failures since the last success.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failing: Option<FailingStatus>,
    /// Time of the last success.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_success: Option<String>,
    /// State of its login.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<CredentialsStatus>,
    /// Reason why Postfix lacks the certificates of its authority.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authority_problem: Option<String>,
}

/// An open breaker: messages try the backend last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BreakerStatus {
    /// Time at which it opened.
    pub open_since: String,
    /// Time at which one message tries the backend first again; absent while one may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_trial: Option<String>,
}

/// Failures without a success between them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FailingStatus {
    /// Number of failures.
    pub count: u32,
    /// Time of the first failure.
    pub since: String,
    /// Class of the latest failure.
    pub reason: String,
    /// Summary of the latest failure.
    pub message: String,
}

/// State of a login. Nothing of its content is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CredentialsStatus {
    /// Name of the Secret, with the keys if they are not the usual ones.
    pub secret: String,
    /// State of the login.
    pub state: CredentialsState,
    /// Error of reading its files.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// State of a login.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CredentialsState {
    /// The login is the one in the files.
    Loaded,
    /// The files cannot be read, and the last good one is in use.
    LastGood,
    /// The login was never readable: mail for the backend waits.
    Missing,
}

/// Messages that backends refuse by a 5xx and that wait.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KeptStatus {
    /// Number of messages, each counted for each recipient.
    pub messages: u64,
    /// Time at which the oldest came in.
    pub oldest_since: String,
    /// Backend that refused the oldest last.
    pub oldest_at_backend: String,
    /// Number of messages by what their latest refusal is about.
    pub about: BTreeMap<String, u64>,
}

/// A drill, which refuses backends for a time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DrillStatus {
    /// Id of the drill.
    pub id: String,
    /// State: `Refusing`, `Idle` while no other backend may carry the mail, `Lifted` because every other one failed for
    /// real, or `Over`.
    pub state: String,
    /// Names of the backends.
    pub backends: Vec<String>,
    /// Time at which its id was first seen.
    pub since: String,
    /// Time at which it ends whatever happens.
    pub ends: String,
    /// Answers to Postfix that left a refused backend out.
    pub refused: u64,
    /// Messages that other backends took meanwhile.
    pub carried: u64,
    /// Messages that a refused backend took meanwhile, because nothing else was left for them.
    pub let_through: u64,
}

/// Mail in the queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct QueueStatus {
    /// Number of messages that wait to be sent.
    pub messages: u64,
    /// Time at which the oldest came in, if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest_since: Option<String>,
}

/// Progress of a switch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SwitchStatus {
    /// Reason for the switch.
    pub cause: String,
    /// Time of the decision.
    pub at: String,
    /// Progress: `UnderWay`, `Done`, or `DoneBeforeTheStart` of the agent.
    pub state: String,
    /// Milliseconds until Postfix was reloaded and told to flush.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub took_milliseconds: Option<u64>,
    /// Milliseconds until the first message was out on a new way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_delivery_milliseconds: Option<u64>,
    /// Messages in the queue before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queued_before: Option<u64>,
    /// Messages in the queue after.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queued_after: Option<u64>,
    /// Steps that did not work, each with its error.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub troubles: Vec<String>,
}

/// State that is saved for the next start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StateStatus {
    /// Directory of the state.
    pub directory: String,
    /// Reason why it is not up to date. A restart without operator and API server would begin with an older state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// Formats a time by RFC 3339, to the millisecond.
pub(super) fn rfc_3339(at: Timestamp) -> String {
    let at = jiff::Timestamp::from_millisecond(at.as_micros().div_euclid(1_000));
    at.unwrap_or(jiff::Timestamp::MAX).to_string()
}

pub(super) fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl BackendStatus {
    /// Converts the view of a backend, without its login and its authority.
    pub(super) fn of(view: &BackendView) -> Self {
        let BackendView {
            name,
            next_hop,
            decided,
            carries,
            standby,
            alternate,
            is_refused,
            breaker,
            failing,
            last_success,
        } = view;
        Self {
            name: name.to_string(),
            next_hop: next_hop.clone(),
            decided_percent: *decided,
            carried_percent: *carries,
            standby: *standby,
            alternate: alternate.as_str().to_owned(),
            refused: *is_refused,
            breaker: breaker.map(|BreakerView { since, next_trial_at }| BreakerStatus {
                open_since: rfc_3339(since),
                next_trial: next_trial_at.map(rfc_3339),
            }),
            failing: failing.as_ref().map(|run| FailingStatus {
                count: run.failures,
                since: rfc_3339(run.since),
                reason: run.class.as_str().to_owned(),
                message: run.summary.to_string(),
            }),
            last_success: last_success.map(rfc_3339),
            least_interval_milliseconds: None,
            messages_per_day: None,
            credentials: None,
            authority_problem: None,
        }
    }
}

impl CredentialsStatus {
    pub(super) fn of(secret: &LoginReference, state: LoginState) -> Self {
        let (state, message) = match state {
            LoginState::Loaded => (CredentialsState::Loaded, String::new()),
            LoginState::LastGood { trouble } => (CredentialsState::LastGood, trouble),
            LoginState::Missing { trouble } => (CredentialsState::Missing, trouble),
        };
        Self { secret: secret.to_string(), state, message }
    }
}

impl QueueStatus {
    pub(super) fn of(QueuedMail { messages, oldest_at }: QueuedMail) -> Self {
        Self { messages, oldest_since: oldest_at.map(rfc_3339) }
    }
}

impl KeptStatus {
    pub(super) fn of(view: &KeptView) -> Self {
        let KeptView { mail, by_about } = view;
        Self {
            messages: mail.messages,
            oldest_since: rfc_3339(mail.oldest_at),
            oldest_at_backend: mail.backend.to_string(),
            about: by_about.iter().map(|(about, count)| (about.to_string(), *count)).collect(),
        }
    }
}

impl DrillStatus {
    pub(super) fn of(view: &DrillView) -> Self {
        let DrillView { mail, backends, ends_at } = view;
        Self {
            id: mail.id.to_string(),
            state: mail.state.as_str().to_owned(),
            backends: backends.iter().map(ToString::to_string).collect(),
            since: rfc_3339(mail.began_at),
            ends: rfc_3339(*ends_at),
            refused: mail.refused,
            carried: mail.carried,
            let_through: mail.let_through,
        }
    }
}

impl SwitchStatus {
    pub(super) fn of(view: &SwitchView) -> Self {
        let report = view.report.as_ref();
        let state = match report {
            Some(report) if report.done_before => "DoneBeforeTheStart",
            Some(report) if report.took > Duration::ZERO => "Done",
            Some(_) | None => "UnderWay",
        };
        Self {
            cause: view.order.cause.to_string(),
            at: rfc_3339(view.order.at),
            state: state.to_owned(),
            took_milliseconds: report.filter(|_| state == "Done").map(|report| milliseconds(report.took)),
            first_delivery_milliseconds: view.first_delivery_after.map(milliseconds),
            queued_before: report.and_then(|report| report.queued_before),
            queued_after: report.and_then(|report| report.queued_after),
            troubles: report.map(|report| report.troubles.clone()).unwrap_or_default(),
        }
    }
}
