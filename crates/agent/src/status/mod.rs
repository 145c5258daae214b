//! What an agent says about itself at `/status`, for people and programs. It holds no secret.

mod command;
mod text;

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use command::print;
pub use text::text;

use crate::core::{BackendView, SwitchView, View};
use crate::credentials::Standing;
use crate::reporter::{self, ReporterStatus};
use mail_failover_core::model::Timestamp;

/// Everything. Times are RFC 3339.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// Of the agent.
    pub version: String,
    /// When this was said, by the agent's clock.
    pub now: String,
    /// Whether it answers.
    pub ready: bool,
    /// What it waits for, when it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting_for: Option<String>,
    /// What it answers from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub document: Option<DocumentStatus>,
    /// Where documents come from.
    pub sources: Vec<SourceStatus>,
    /// Where mail can go, in order of preference.
    pub backends: Vec<BackendStatus>,
    /// A backend that the agent would leave and does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<HeldStatus>,
    /// How often it may still move by itself at present.
    pub moves_left: u32,
    /// Where it sees what becomes of mail.
    pub mail_log: MailLogStatus,
    /// The latest switch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_switch: Option<SwitchStatus>,
    /// Messages that may have been sent twice, since the agent started.
    pub possible_duplicates: u64,
    /// What the operator hears of real mail.
    pub reports: ReportsStatus,
    /// What it keeps for its next start.
    pub state: StateStatus,
}

/// Postfix's log, without which the agent leaves no backend by itself and reports nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MailLogStatus {
    /// A path, or `its command's output`; empty when there is none.
    pub source: String,
    /// Why it is not read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// What the operator hears of real mail.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReportsStatus {
    /// Why nothing is reported, if so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nothing_sent: Option<String>,
    /// Each replica of the operator that is told.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub replicas: Vec<ReplicaStatus>,
}

/// How reports to one replica of the operator fare.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReplicaStatus {
    /// `address:port`.
    pub address: String,
    /// When it last took one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepted_at: Option<String>,
    /// What has gone wrong since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl ReportsStatus {
    /// As the reporter has it.
    pub fn of(ReporterStatus { nothing_sent, replicas }: ReporterStatus) -> Self {
        let replica = |(address, reporter::ReplicaStatus { accepted_at, error })| ReplicaStatus {
            address,
            accepted_at: accepted_at.map(rfc_3339),
            error,
        };
        Self { nothing_sent, replicas: replicas.into_iter().map(replica).collect() }
    }
}

/// The document in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DocumentStatus {
    /// `namespace/name` of the route.
    pub route: String,
    /// The decision's number.
    pub transition: i64,
    /// What it was, for people.
    pub summary: String,
    /// Where it came from.
    pub source: String,
    /// When it came.
    pub since: String,
    /// What this agent does not know of it: misspelt, or of a newer operator.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ignored: Vec<String>,
}

/// A source of documents.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SourceStatus {
    /// Which.
    pub source: String,
    /// How it stands.
    pub state: SourceState,
    /// In words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Since when.
    pub since: String,
    /// Why its latest document is not used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}

/// How a source stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SourceState {
    /// It has not said anything yet.
    Waiting,
    /// It is followed, and has a document.
    Following,
    /// It is followed, and has none.
    Missing,
    /// It is not reached.
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

/// A backend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BackendStatus {
    /// Its name.
    pub name: String,
    /// As Postfix has it.
    pub next_hop: String,
    /// The operator's share, in percent.
    pub decided_percent: u8,
    /// What it carries, in percent.
    pub carried_percent: u8,
    /// Whether the agent may go there by itself.
    pub standby: bool,
    /// Why the agent keeps away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left: Option<LeftStatus>,
    /// Failures since the last success.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failing: Option<FailingStatus>,
    /// When mail was last taken there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_success: Option<String>,
    /// Its login.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<CredentialsStatus>,
    /// Why the certificates of its authority are not there for Postfix.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authority_problem: Option<String>,
}

/// A backend that was left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LeftStatus {
    /// When.
    pub at: String,
    /// Not tried again before.
    pub until: String,
    /// For what.
    pub reason: String,
    /// The last failure in words.
    pub message: String,
}

/// Failures without a success between them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FailingStatus {
    /// How many.
    pub count: u32,
    /// Since when.
    pub since: String,
    /// What the latest was.
    pub reason: String,
    /// In words.
    pub message: String,
}

/// A login; what is in it is not told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CredentialsStatus {
    /// Name of the Secret.
    pub secret: String,
    /// How it stands.
    pub state: CredentialsState,
    /// What is wrong with its files.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// How a login stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CredentialsState {
    /// It is as the files have it.
    Loaded,
    /// The files cannot be read, and the last good one is in use.
    LastGood,
    /// There never was one: mail for the backend waits.
    Missing,
}

/// A backend that should be left and is not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HeldStatus {
    /// Which.
    pub backend: String,
    /// For what it should be left.
    pub reason: String,
    /// Why it is not.
    pub because: String,
}

/// A switch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SwitchStatus {
    /// Why.
    pub cause: String,
    /// When it was decided.
    pub at: String,
    /// `UnderWay`, `Done`, or `DoneBeforeTheStart` of the agent.
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
    /// What did not work.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub troubles: Vec<String>,
}

/// What is kept for the next start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StateStatus {
    /// Where.
    pub directory: String,
    /// Why it is not up to date; a restart without operator and API server would begin with what is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// As RFC 3339 has it, to the millisecond.
pub(super) fn rfc_3339(at: Timestamp) -> String {
    let at = jiff::Timestamp::from_millisecond(at.as_micros().div_euclid(1_000));
    at.unwrap_or(jiff::Timestamp::MAX).to_string()
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl BackendStatus {
    /// Without its login and its authority.
    pub(super) fn of(view: &BackendView) -> Self {
        let BackendView { name, next_hop, decided, carries, standby, left, failing, last_success } = view;
        Self {
            name: name.to_string(),
            next_hop: next_hop.clone(),
            decided_percent: *decided,
            carried_percent: *carries,
            standby: *standby,
            left: left.as_ref().map(|left| LeftStatus {
                at: rfc_3339(left.at),
                until: rfc_3339(left.until()),
                reason: left.class.as_str().to_owned(),
                message: left.summary.to_string(),
            }),
            failing: failing.as_ref().map(|run| FailingStatus {
                count: run.failures,
                since: rfc_3339(run.since),
                reason: run.class.as_str().to_owned(),
                message: run.summary.to_string(),
            }),
            last_success: last_success.map(rfc_3339),
            credentials: None,
            authority_problem: None,
        }
    }
}

impl CredentialsStatus {
    pub(super) fn of(secret: &str, standing: Standing) -> Self {
        let (state, message) = match standing {
            Standing::Loaded => (CredentialsState::Loaded, String::new()),
            Standing::LastGood { trouble } => (CredentialsState::LastGood, trouble),
            Standing::Missing { trouble } => (CredentialsState::Missing, trouble),
        };
        Self { secret: secret.to_owned(), state, message }
    }
}

impl HeldStatus {
    pub(super) fn of(view: &View) -> Option<Self> {
        let held = view.held.as_ref()?;
        Some(Self {
            backend: held.backend.to_string(),
            reason: held.class.as_str().to_owned(),
            because: held.why.as_str().to_owned(),
        })
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
