//! What an agent tells the operator: the JSON that it POSTs to [`PATH`]. No I/O, no clock.
//!
//! Every time is an age in milliseconds as of the sending: the clocks of agents are not compared with ours. Every report holds all that the
//! agent has to say, so that one that was lost is made good by the next. Readers ignore fields that they do not know.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::document::{API_VERSION, RouteReference};
use mail_failover_core::model::EvidenceClass;

/// Where reports are taken.
pub const PATH: &str = "/v1alpha1/reports";
/// The audience of the tokens that agents show.
pub const AUDIENCE: &str = "mail-failover-operator";
/// A longer report is refused; a hundred backends with the longest messages fit.
pub const MAX_BYTES: usize = 128 * 1024;
/// The bound on the backends of a report: that of a route's.
pub const MAX_BACKENDS: usize = 100;
/// The longest name of an agent: that of a pod.
pub const MAX_NAME: usize = 253;
/// The longest message, in bytes.
pub const MAX_MESSAGE: usize = 256;
/// Nothing is older: what is said to be counts as this old.
const MAX_AGE: Duration = Duration::from_hours(24);

/// What an agent knows of its deliveries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// `agent.mailfailover.io/v1alpha1`, as in the document that the agent follows.
    pub api_version: String,
    /// Whose mail it is.
    pub route: RouteReference,
    /// The agent's name, unique among those of the route: the pod's, or the host's.
    pub agent: String,
    /// Chosen at random when the agent's process began: counts begin anew with it.
    pub process: String,
    /// Increases with each report of a process. One that is overtaken by a later one says nothing.
    pub sequence: u64,
    /// What is known of each backend.
    pub backends: Vec<BackendReport>,
    /// The latest switch that this process has made, if it has made one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_switch: Option<SwitchReport>,
}

/// What real mail met at one backend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BackendReport {
    /// Name of the `SendingBackend`.
    pub name: String,
    /// What that comes to.
    pub word: Word,
    /// What failing deliveries met; with `Failing`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<FailureReport>,
    /// Whether the agent has left this backend by itself.
    #[serde(default)]
    pub left: bool,
    /// Deliveries since the process began.
    #[serde(default)]
    pub deliveries: DeliveryCounts,
}

/// What deliveries by a backend come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Word {
    /// They fail.
    Failing,
    /// They succeed.
    Passing,
    /// There were too few lately to say anything.
    Silent,
}

/// A run of failed deliveries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FailureReport {
    /// One of the classes of `status.reason` of a `SendingBackend`.
    pub class: String,
    /// One line for people, without mail addresses and queue ids (see [`printable`]); at most [`MAX_MESSAGE`] bytes.
    pub message: String,
    /// How long ago the first of the run failed.
    pub first_milliseconds: u64,
    /// How long ago the latest failed.
    pub last_milliseconds: u64,
}

/// Deliveries by their end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DeliveryCounts {
    /// The backend took the message.
    pub sent: u64,
    /// It is tried again later.
    pub deferred: u64,
    /// It was returned to its sender.
    pub bounced: u64,
    /// The backend may have taken it without our hearing of it: it may arrive twice.
    pub possible_duplicates: u64,
}

/// A switch of the MTA to another backend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SwitchReport {
    /// The decision of the operator that it carried out; one that the agent made by itself has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transition: Option<i64>,
    /// Messages in the queue before it.
    pub queue_before: u64,
    /// Messages in the queue when it was last counted.
    pub queue_after: u64,
    /// The first message that the new backend took.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_delivery: Option<FirstDelivery>,
    /// Messages under way when it happened that may arrive twice.
    #[serde(default)]
    pub possible_duplicates: u64,
}

/// The first message that left on the new way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FirstDelivery {
    /// How long after the switch began.
    pub after_milliseconds: u64,
    /// How long ago that is.
    pub age_milliseconds: u64,
}

/// Why a report is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It is no such document.
    #[error("it cannot be read: {0}")]
    Unreadable(String),
    /// It is of a version that this operator does not know.
    #[error("apiVersion {0:?} is not {API_VERSION:?}; run an operator of the agent's version")]
    Version(String),
    /// A field has a value that cannot be used.
    #[error("{field}: {reason}")]
    Field {
        /// Its path.
        field: String,
        /// Why.
        reason: String,
    },
}

impl Report {
    /// Reads a report and checks its bounds; messages are made [`printable`], whatever the sender made of them.
    ///
    /// # Errors
    /// [`Refusal`], which names the field.
    pub fn parse(text: &[u8]) -> Result<Self, Refusal> {
        let json = &mut serde_json::Deserializer::from_slice(text);
        let mut report: Self =
            serde_path_to_error::deserialize(json).map_err(|error| Refusal::Unreadable(error.to_string()))?;
        if report.api_version != API_VERSION {
            return Err(Refusal::Version(report.api_version));
        }
        let field = |field: &str, reason: String| Err(Refusal::Field { field: field.to_owned(), reason });
        for (name, value) in [("agent", &report.agent), ("process", &report.process)] {
            if !is_name(value) {
                return field(name, format!("use 1 to {MAX_NAME} letters, digits, dots, hyphens and underscores"));
            }
        }
        if report.backends.len() > MAX_BACKENDS {
            return field("backends", format!("there are {}; {MAX_BACKENDS} are allowed", report.backends.len()));
        }
        for (index, backend) in report.backends.iter_mut().enumerate() {
            if backend.word == Word::Failing && backend.failure.is_none() {
                return field(&format!("backends[{index}].failure"), "it is needed with the word Failing".to_owned());
            }
            if let Some(failure) = &mut backend.failure {
                failure.message = printable(&failure.message);
            }
        }
        Ok(report)
    }
}

impl FailureReport {
    /// Its class; one that is not known here counts neither way.
    pub fn class(&self) -> EvidenceClass {
        EvidenceClass::from_name(&self.class).unwrap_or(EvidenceClass::Inconclusive)
    }

    /// Its message, to be shared.
    pub fn message(&self) -> Arc<str> {
        self.message.as_str().into()
    }
}

/// An age, within the bound.
pub fn age(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds).min(MAX_AGE)
}

fn is_name(text: &str) -> bool {
    let is_letter = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '.' | '-' | '_');
    !text.is_empty() && text.len() <= MAX_NAME && text.chars().all(is_letter)
}

/// A reply of a server as it may be shown to anybody: one line, printable, mail addresses and ids of messages replaced, at most
/// [`MAX_MESSAGE`] bytes.
pub fn printable(text: &str) -> String {
    let clean: String = text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect();
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

/// A word without what tells of a person or a message.
fn anonymous(word: &str) -> String {
    if word.contains('@') {
        return "<address>".to_owned();
    }
    let core = word.trim_matches(|letter: char| !letter.is_ascii_alphanumeric());
    if is_message_id(core) { word.replacen(core, "<id>", 1) } else { word.to_owned() }
}

/// Ids of queues are long, of letters and digits mixed (`4bXy2k1zQ9z6`, `3F2A1B4C5D`, `01000190-aa…`); words, codes and host names are not.
fn is_message_id(word: &str) -> bool {
    let is_mixed =
        word.bytes().any(|byte| byte.is_ascii_digit()) && word.bytes().any(|byte| byte.is_ascii_alphabetic());
    let is_plain = word.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    word.len() >= 10 && is_mixed && is_plain
}

#[cfg(test)]
#[path = "report_tests.rs"]
mod tests;
