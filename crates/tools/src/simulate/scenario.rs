//! Scenario file: the events that happen to a fleet, with their times, and the expected results.
//!
//! The schema is strict: an unknown field or an impossible value is refused with line and field. This module never
//! reads a manifest.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use serde::de::{self, Deserializer};
use serde::{Deserialize, Serialize};
use serde_saphyr::Spanned;

use mail_failover_core::model::Timestamp;

/// Scenario as it is written down.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Scenario {
    /// Title in one line, the heading of table and chart.
    pub title: String,
    /// Subject, source and lesson of the scenario, in prose.
    #[serde(default)]
    pub description: Option<String>,
    /// Files and folders with manifests, relative to this file; those of the command line are added.
    #[serde(default)]
    pub manifests: Vec<PathBuf>,
    /// Start in RFC 3339, by which windows, warm-up and quotas go. 2026-01-01T00:00:00Z when absent.
    #[serde(default)]
    pub start: Option<Moment>,
    /// Duration of the simulation.
    pub duration: ScenarioDuration,
    /// Seed of all chance; 0 when absent.
    #[serde(default)]
    pub seed: u64,
    /// Names of the replicas that probe; the first one decides. One, `replica-0`, when absent.
    #[serde(default)]
    pub observers: Vec<String>,
    /// Duration of a round of a probe where no event changes it. 100 ms when absent.
    #[serde(default)]
    pub latency: Option<ScenarioDuration>,
    /// Events in any order.
    #[serde(default)]
    pub events: Vec<Spanned<Event>>,
    /// Expected results. An expectation that is not met is reported, and the exit code is 1.
    #[serde(default)]
    pub expect: Vec<Spanned<Expectation>>,
}

/// Event that happens to backends or to a route.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Event {
    /// Time of the event after the start.
    pub at: ScenarioDuration,
    /// Duration of the event; until the end when absent.
    #[serde(default)]
    pub r#for: Option<ScenarioDuration>,
    /// Backend that is hit: its name, or `namespace/name`.
    #[serde(default)]
    pub backend: Option<String>,
    /// Failure domain whose backends are hit.
    #[serde(default)]
    pub failure_domain: Option<String>,
    /// True if every backend is hit.
    #[serde(default)]
    pub all: bool,
    /// Observer that alone sees the event: a fault of its own network, which does not concern mail.
    #[serde(default)]
    pub observer: Option<String>,
    /// Percentage of the rounds that are hit, at random; all when absent.
    #[serde(default)]
    pub percent: Option<u8>,
    /// Party that notices a reply: the probes that reach its stage (when absent), or the mail itself.
    #[serde(default)]
    pub seen_by: Option<SeenBy>,
    /// Reply of the server to a command.
    #[serde(default)]
    pub answers: Option<CommandReply>,
    /// Fault of the server or the network, other than a reply.
    #[serde(default)]
    pub fault: Option<ScenarioFault>,
    /// Time by which rounds take longer; mail leaves all the same.
    #[serde(default)]
    pub latency: Option<ScenarioDuration>,
    /// Number of messages that may still be sent today.
    #[serde(default)]
    pub quota_left: Option<u32>,
    /// True if a person takes the backend out of service, false if the backend returns to service.
    #[serde(default)]
    pub suspended: Option<bool>,
    /// Request of a person about a route.
    #[serde(default)]
    pub request: Option<Ask>,
}

/// Reply to a command, in place of success.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct CommandReply {
    /// Stage of the dialogue that gets the reply.
    pub stage: ReplyStage,
    /// Text of the reply: `454 4.7.0 Temporary authentication failure`.
    pub reply: String,
}

/// Stage of a dialogue that a server answers.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
pub enum ReplyStage {
    /// Greeting of the server after the connection.
    Banner,
    /// The command EHLO of the client.
    #[serde(rename = "EHLO")]
    Ehlo,
    /// The command STARTTLS of the client.
    #[serde(rename = "STARTTLS")]
    StartTls,
    /// The command AUTH of the client.
    #[serde(rename = "AUTH")]
    Auth,
    /// The command MAIL FROM of the client.
    #[serde(rename = "MAIL")]
    Mail,
    /// The command RCPT TO of the client.
    #[serde(rename = "RCPT")]
    Rcpt,
    /// The command DATA, or the end of the message.
    #[serde(rename = "DATA")]
    Data,
}

/// Party that notices a reply.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
pub enum SeenBy {
    /// The probes that reach the reply's stage.
    Probes,
    /// The mail itself, at the rate at which it leaves: an agent beside the MTA judges and reports it, and has single
    /// messages try again what it has condemned.
    Traffic,
}

/// Fault that is no reply.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
pub enum ScenarioFault {
    /// Connections are refused: nothing listens.
    Refused,
    /// Packets vanish, so that no connection is made.
    NoAnswer,
    /// Silence after the connection, without a greeting.
    NoBanner,
    /// The connection is reset before the greeting.
    Reset,
    /// Bytes that are no SMTP.
    Garbage,
    /// The TLS handshake fails.
    TlsFailed,
    /// The certificate has expired.
    CertificateExpired,
    /// DNS answers that the name does not exist.
    Unresolvable,
    /// DNS does not answer; addresses that are known stay in use.
    ResolverSilent,
    /// The in-cluster Service has no ready endpoint.
    NoEndpoints,
    /// The observer has no socket to look with.
    OwnFailure,
}

impl ScenarioFault {
    /// Returns the fault as a scenario writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Refused => "Refused",
            Self::NoAnswer => "NoAnswer",
            Self::NoBanner => "NoBanner",
            Self::Reset => "Reset",
            Self::Garbage => "Garbage",
            Self::TlsFailed => "TlsFailed",
            Self::CertificateExpired => "CertificateExpired",
            Self::Unresolvable => "Unresolvable",
            Self::ResolverSilent => "ResolverSilent",
            Self::NoEndpoints => "NoEndpoints",
            Self::OwnFailure => "OwnFailure",
        }
    }
}

/// Request of a person about a route, as in the annotation.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Ask {
    /// Route in question: its name, or `namespace/name`.
    pub route: String,
    /// Id of the request; each id is answered once.
    pub id: String,
    /// Action that the person asks for.
    pub action: AskedAction,
    /// Backend to switch to (Switch).
    #[serde(default)]
    pub to: Option<String>,
    /// Duration of the request (Switch, Pause), or the longest duration of a Drill.
    #[serde(default)]
    pub r#for: Option<ScenarioDuration>,
    /// True if an unhealthy backend is accepted (Switch), or a time outside the windows of the policy (Drill).
    #[serde(default)]
    pub force: bool,
    /// Mode of a Drill: Observed, Blocked or Shadow. That of the policy when absent.
    #[serde(default)]
    pub mode: Option<String>,
}

/// Action that a person can ask for.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
pub enum AskedAction {
    /// Move the mail to a backend.
    Switch,
    /// Return to the preferred backend now.
    Failback,
    /// Stop all moves of the route.
    Pause,
    /// Allow moves of the route again.
    Resume,
    /// Let a Manual failback begin.
    ApproveFailback,
    /// Rehearse a failover.
    Drill,
}

/// Expected fact about a route or a backend: at a time, throughout a span, or from some moment within a span.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Expectation {
    /// Time at which the fact is expected.
    #[serde(default)]
    pub at: Option<ScenarioDuration>,
    /// Span throughout which the fact is expected, from the first time up to the second.
    #[serde(default)]
    pub between: Option<[ScenarioDuration; 2]>,
    /// Span within which the fact is expected to begin, and not before the first time.
    #[serde(default)]
    pub within: Option<[ScenarioDuration; 2]>,
    /// Route that the fact is about.
    #[serde(default)]
    pub route: Option<String>,
    /// Backend that the fact is about.
    #[serde(default)]
    pub backend: Option<String>,
    /// Leading backend of the route.
    #[serde(default)]
    pub active: Option<String>,
    /// Shares in percent; a backend that is not named has none.
    #[serde(default)]
    pub shares: Option<BTreeMap<String, u8>>,
    /// State of the route, as in its status.
    #[serde(default)]
    pub state: Option<String>,
    /// Reason of the route's hold; `None` for no hold.
    #[serde(default)]
    pub hold: Option<String>,
    /// Percentage of the route's mail that has nowhere to go.
    #[serde(default)]
    pub unplaced: Option<u8>,
    /// Drill of the route: `Running`, the result of the latest one (`Passed`, `Failed`, `Aborted`, `Skipped`), or `None`.
    #[serde(default)]
    pub drill: Option<String>,
    /// Number of transitions up to `at`, or within `between`; a move by which a drill leads the mail away counts, too.
    #[serde(default)]
    pub transitions: Option<usize>,
    /// Health of the backend, as in its status.
    #[serde(default)]
    pub health: Option<String>,
    /// Class of evidence behind the backend's health.
    #[serde(default)]
    pub class: Option<String>,
}

/// Duration as Kubernetes and Go write it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ScenarioDuration(pub Duration);

impl<'de> Deserialize<'de> for ScenarioDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        span(&text).map(Self).map_err(de::Error::custom)
    }
}

impl Serialize for ScenarioDuration {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.0.as_secs_f64())
    }
}

/// Parses a duration: `90s`, `1h30m`, and also days, which a scenario of a week needs: `7d`, `1d12h`.
///
/// # Errors
/// [`InvalidSpan`], which says what to write instead.
pub fn span(text: &str) -> Result<Duration, InvalidSpan> {
    parsed_span(text).ok_or_else(|| InvalidSpan(text.to_owned()))
}

/// Error for a text that is no duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no duration; write 500ms, 90s, 1h30m or 7d")]
pub struct InvalidSpan(String);

fn parsed_span(text: &str) -> Option<Duration> {
    let (days, rest) = match text.split_once('d') {
        Some((days, rest)) => (days.parse::<u32>().ok()?, rest),
        None => (0, text),
    };
    let rest = match rest {
        "" if text.contains('d') => Duration::ZERO,
        "0" => Duration::ZERO,
        rest => {
            let parsed = kube::core::Duration::from_str(rest).ok()?;
            if parsed.is_negative() {
                return None;
            }
            Duration::from(parsed)
        }
    };
    Some(Duration::from_hours(24) * days + rest)
}

/// Point in time, RFC 3339.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment(pub Timestamp);

impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let parsed: jiff::Timestamp = text
            .parse()
            .map_err(|_| de::Error::custom(format!("`{text}` is no time; write 2026-01-01T00:00:00Z (RFC 3339)")))?;
        Ok(Self(Timestamp::from_micros(parsed.as_microsecond())))
    }
}

/// Error in a scenario, with its place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ScenarioError {
    /// File as it was named on the command line.
    pub file: String,
    /// Line in the file, counted from 1.
    pub line: Option<u64>,
    /// Field and problem: `events[2].backend: …`.
    pub message: String,
}

impl fmt::Display for ScenarioError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}: {}", self.file, self.message),
            None => write!(f, "{}: {}", self.file, self.message),
        }
    }
}

/// Returns true if a text is a scenario and not manifests: a single document without a `kind`.
pub fn is_scenario(text: &str) -> bool {
    #[derive(Deserialize)]
    struct Header {
        kind: Option<serde_json::Value>,
        duration: Option<serde_json::Value>,
        events: Option<serde_json::Value>,
    }
    serde_saphyr::from_str::<Header>(text)
        .is_ok_and(|header| header.kind.is_none() && (header.events.is_some() || header.duration.is_some()))
}

/// Parses a scenario file.
///
/// # Errors
/// The first thing that is wrong with it, with its line.
pub fn parse(file: &str, text: &str) -> Result<Scenario, ScenarioError> {
    let options = serde_saphyr::options! { with_snippet: false };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| ScenarioError {
        file: file.to_owned(),
        line: error.location().map(|location| location.line()),
        message: error.to_string(),
    })
}
