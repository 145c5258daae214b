//! Report of an agent to the operator: the JSON that the agent sends by POST to [`PATH`]. No I/O, no clock.
//!
//! Every time is an age in milliseconds as of the sending, because the clocks of agents are not compared with ours.
//! Every report is complete, so that the next one makes up for a lost one. Readers ignore unknown fields.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::document::{API_VERSION, RouteReference};
use mail_failover_core::model::text::visible;
use mail_failover_core::model::{DeliveryStage, DrillState, EvidenceClass, SharedError};

/// Path of the endpoint that takes reports.
pub const PATH: &str = "/v1alpha1/reports";
/// Audience of the tokens that agents show.
// ADR-0050: The API server identifies agents.
pub const AUDIENCE: &str = "mail-failover-operator";
/// Longest report in bytes; a hundred backends with the longest messages fit.
pub const MAX_BYTES: usize = 128 * 1024;
/// Largest number of backends in a report, the same as in a route.
pub const MAX_BACKENDS: usize = 100;
/// Longest name of an agent in bytes, the same as of a pod.
pub const MAX_NAME: usize = 253;
/// Longest message in bytes, after the replacement of addresses and ids.
pub const MAX_MESSAGE: usize = 256;
/// Largest age; a larger one counts as this.
const MAX_AGE: Duration = Duration::from_hours(24);

/// Report of one agent about its deliveries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeliveryReport {
    /// Version of the report: `agent.mailfailover.io/v1alpha1`, as in the document that the agent follows.
    pub api_version: String,
    /// Route whose mail the agent delivers.
    pub route: RouteReference,
    /// Name of the agent, unique among the agents of the route: the pod's, or the host's.
    pub agent: String,
    /// Random id of the agent's process; counts begin anew with it.
    pub process: String,
    /// Sequence number within the process. A report that a later one has overtaken is ignored.
    pub sequence: u64,
    /// True if the sender tells backends of one host and port apart, as relays do. An agent beside an MTA does not.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub tells_accounts_apart: bool,
    /// Deliveries at each backend.
    pub backends: Vec<BackendReport>,
    /// Latest switch of this process, if there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_switch: Option<ReportedSwitch>,
    /// Messages that backends refuse by a 5xx and that wait, if there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<KeptReport>,
    /// Mail in the queue; absent if it could not be looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<QueueReport>,
    /// Latest drill that the document has ordered, if there was one since the agent's first start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drill: Option<DrillReport>,
}

/// Drill that the agent carries out or has carried out. Nothing of it is evidence about a backend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DrillReport {
    /// Id of the drill, as in the document.
    pub id: String,
    /// Name of a [`DrillState`].
    // A newer agent may know more of them, and an older operator must not refuse the whole report for it.
    pub state: String,
    /// Attempts that were refused: messages of a relay, or answers to an MTA, that left a refused backend out.
    #[serde(default)]
    pub refused: u64,
    /// Messages that other backends took while it refused.
    #[serde(default)]
    pub carried: u64,
    /// Messages that went to a refused backend all the same, because nothing else was left for them.
    #[serde(default)]
    pub let_through: u64,
    /// Age of the drill: the time since the agent first saw its id, in milliseconds.
    pub begun_milliseconds: u64,
    /// Time from its beginning to the first message that another backend took, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_delivery_milliseconds: Option<u64>,
}

/// Messages that wait because a backend refuses them by a 5xx that is not known to be about them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KeptReport {
    /// Number of messages, each counted for each recipient.
    pub messages: u64,
    /// Age of the oldest message, in milliseconds.
    pub oldest_milliseconds: u64,
    /// Subject of the latest refusal of the oldest, such as `Quota`: one word.
    pub about: String,
    /// Backend that refused the oldest last.
    pub backend: String,
}

/// Deliveries at one backend, and the verdict on them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BackendReport {
    /// Name of the `SendingBackend`.
    pub name: String,
    /// Verdict on the latest deliveries.
    // An agent of an earlier version calls it `word`.
    #[serde(alias = "word")]
    pub verdict: ReportedVerdict,
    /// Failure of the latest deliveries; set with `Failing`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<FailureReport>,
    /// Throttling, if deliveries have met nothing else for minutes; set with `Silent` or `Passing`.
    // Not a verdict of its own: an older operator would refuse the whole report.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub throttling: Option<ThrottlingReport>,
    /// True if messages that are meant for this backend try another one first: its breaker is open.
    // An agent that leaves a backend altogether calls it `left`.
    #[serde(default, alias = "left")]
    pub bypassed: bool,
    /// Counts of deliveries since the process began.
    #[serde(default)]
    pub deliveries: DeliveryCounts,
}

/// Verdict on deliveries at a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReportedVerdict {
    /// Deliveries failed in a row, as often as the policy wants.
    Failing,
    /// Deliveries succeed, or fail only now and then.
    Passing,
    /// Too few recent deliveries for a verdict.
    Silent,
}

/// Run of failed deliveries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FailureReport {
    /// Class of the failure, as in `status.reason` of a `SendingBackend`.
    pub class: String,
    /// Reply in one line, without mail addresses and queue ids (see [`printable`]); at most [`MAX_MESSAGE`] bytes.
    pub message: String,
    /// Age of the first failure of the run, in milliseconds.
    // ADR-0053: Reports hold ages and totals.
    pub first_milliseconds: u64,
    /// Age of the latest failure, in milliseconds.
    pub last_milliseconds: u64,
    /// Deepest stage at which one failed: `AUTH`, `DATA`. Absent if the agent knows none of that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<String>,
}

/// Deliveries that met nothing but replies that ask for less.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ThrottlingReport {
    /// Latest reply in one line, as [`FailureReport::message`].
    pub message: String,
    /// Age of the first such reply since the last success, in milliseconds.
    pub first_milliseconds: u64,
    /// Age of the latest one, in milliseconds.
    pub last_milliseconds: u64,
}

/// Counts of deliveries by their end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DeliveryCounts {
    /// Messages that the backend has taken.
    pub sent: u64,
    /// Attempts that failed and are tried again later.
    pub deferred: u64,
    /// Messages that were returned to their sender.
    pub bounced: u64,
    /// Messages that the backend may have taken without an answer, so that they may arrive twice.
    pub possible_duplicates: u64,
    /// Messages among `sent` that the backend took although it had no share of the route's mail.
    pub diverted: u64,
}

/// Mail in the queue of the MTA.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct QueueReport {
    /// Number of messages that wait to be sent.
    pub messages: u64,
    /// Age of the oldest of them, in milliseconds; absent if it is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest_milliseconds: Option<u64>,
}

/// Switch of the MTA to another backend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReportedSwitch {
    /// Id of the operator's decision that was carried out; absent if the agent decided by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transition: Option<i64>,
    /// Messages in the queue before the switch.
    pub queue_before: u64,
    /// Messages in the queue at the latest count.
    pub queue_after: u64,
    /// First message that the new backend took.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_delivery: Option<FirstDelivery>,
    /// Messages under way during the switch that may arrive twice.
    #[serde(default)]
    pub possible_duplicates: u64,
}

/// First message that left by the new route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FirstDelivery {
    /// Time from the switch to this delivery, in milliseconds.
    pub after_milliseconds: u64,
    /// Age of this delivery, in milliseconds.
    pub age_milliseconds: u64,
}

/// Reasons why a report is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidReport {
    /// The report is no JSON of this form.
    #[error("it cannot be read: {0}")]
    Unreadable(#[source] SharedError),
    /// The version is unknown to this operator.
    #[error("apiVersion {0:?} is not {API_VERSION:?}; run an operator of the agent's version")]
    Version(String),
    /// A field has a value that cannot be used.
    #[error("{field}: {reason}")]
    Field {
        /// Path of the field.
        field: String,
        /// Sentence that says what is wrong with the value.
        reason: String,
    },
}

impl DeliveryReport {
    /// Parses a report and checks its bounds. Messages are made [`printable`], even if the sender has done so.
    ///
    /// # Errors
    /// [`InvalidReport`], which names the field.
    pub fn parse(text: &[u8]) -> Result<Self, InvalidReport> {
        let json = &mut serde_json::Deserializer::from_slice(text);
        let mut report: Self = serde_path_to_error::deserialize(json)
            .map_err(|error| InvalidReport::Unreadable(SharedError::new(error)))?;
        if report.api_version != API_VERSION {
            return Err(InvalidReport::Version(report.api_version));
        }
        for (name, value) in [("agent", &report.agent), ("process", &report.process)] {
            if !is_name(value) {
                let reason = format!("use 1 to {MAX_NAME} letters, digits, dots, hyphens and underscores");
                return Err(InvalidReport::Field { field: name.to_owned(), reason });
            }
        }
        if report.backends.len() > MAX_BACKENDS {
            let reason = format!("there are {}; {MAX_BACKENDS} are allowed", report.backends.len());
            return Err(InvalidReport::Field { field: "backends".to_owned(), reason });
        }
        if let Some(kept) = &report.kept {
            let is_word = !kept.about.is_empty() && kept.about.chars().all(|letter| letter.is_ascii_alphabetic());
            for (field, is_fine) in [("kept.about", is_word), ("kept.backend", is_name(&kept.backend))] {
                if !is_fine || kept.about.len() > MAX_NAME {
                    let reason = "it is no name; run an agent of the operator's version".to_owned();
                    return Err(InvalidReport::Field { field: field.to_owned(), reason });
                }
            }
        }
        if let Some(drill) = &report.drill
            && !is_name(&drill.id)
        {
            let reason = "it is no id of a drill; run an agent of the operator's version".to_owned();
            return Err(InvalidReport::Field { field: "drill.id".to_owned(), reason });
        }
        for (index, backend) in report.backends.iter_mut().enumerate() {
            if backend.verdict == ReportedVerdict::Failing && backend.failure.is_none() {
                let field = format!("backends[{index}].failure");
                return Err(InvalidReport::Field { field, reason: "it is needed with the verdict Failing".to_owned() });
            }
            if let Some(failure) = &mut backend.failure {
                failure.message = printable(&failure.message);
            }
            if let Some(throttling) = &mut backend.throttling {
                throttling.message = printable(&throttling.message);
            }
        }
        Ok(report)
    }
}

impl DrillReport {
    /// Returns the state; [`DrillState::Over`] for one that this operator does not know.
    pub fn state(&self) -> DrillState {
        DrillState::from_name(&self.state).unwrap_or(DrillState::Over)
    }
}

impl FailureReport {
    /// Returns the class of evidence; an unknown class counts as inconclusive.
    pub fn class(&self) -> EvidenceClass {
        EvidenceClass::from_name(&self.class).unwrap_or(EvidenceClass::Inconclusive)
    }

    /// Returns the stage of the failures; `None` for one that this operator does not know.
    pub fn stage(&self) -> Option<DeliveryStage> {
        DeliveryStage::from_name(self.stage.as_deref()?)
    }

    /// Returns the message for shared use.
    pub fn message(&self) -> Arc<str> {
        self.message.as_str().into()
    }
}

/// Converts milliseconds to an age within the bound.
pub fn age(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds).min(MAX_AGE)
}

fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= MAX_NAME
        && text.chars().all(|letter| letter.is_ascii_alphanumeric() || matches!(letter, '.' | '-' | '_'))
}

/// Makes a server's reply fit for everyone: one line, printable, mail addresses and message ids replaced, at most
/// [`MAX_MESSAGE`] bytes.
pub fn printable(text: &str) -> String {
    let clean = visible(text);
    let mut line = String::with_capacity(clean.len().min(MAX_MESSAGE));
    for word in clean.split_whitespace() {
        let word = anonymous(word);
        if line.len() + 1 + word.len() > MAX_MESSAGE {
            break;
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(&word);
    }
    line
}

/// Replaces a word that identifies a person or a message.
fn anonymous(word: &str) -> String {
    if word.contains('@') {
        return "<address>".to_owned();
    }
    let core = word.trim_matches(|letter: char| !letter.is_ascii_alphanumeric());
    if is_message_id(core) { word.replacen(core, "<id>", 1) } else { word.to_owned() }
}

/// Returns true for an id of a queue: long, with letters and digits mixed (`4bXy2k1zQ9z6`, `3F2A1B4C5D`,
/// `01000190-aa…`), unlike words, codes and host names.
fn is_message_id(word: &str) -> bool {
    let is_mixed =
        word.bytes().any(|byte| byte.is_ascii_digit()) && word.bytes().any(|byte| byte.is_ascii_alphabetic());
    let is_plain = word.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    word.len() >= 10 && is_mixed && is_plain
}

#[cfg(test)]
#[path = "report_tests.rs"]
mod tests;
