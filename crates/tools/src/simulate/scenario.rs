//! The scenario file: what happens to a fleet, when, and what is expected to come of it.
//!
//! A strict schema: what is unknown or makes no sense is refused with line and field. This module never looks at a manifest.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use serde::de::{self, Deserializer};
use serde::{Deserialize, Serialize};
use serde_saphyr::Spanned;

use mail_failover_core::model::Timestamp;

/// A scenario as it is written down.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Scenario {
    /// One line for people, the heading of table and chart.
    pub title: String,
    /// What it is about, where it comes from, what is to be seen.
    #[serde(default)]
    pub description: Option<String>,
    /// Files and folders with manifests, relative to this file; those of the command line come on top.
    #[serde(default)]
    pub manifests: Vec<PathBuf>,
    /// When it begins, RFC 3339; windows, warm-up and quotas go by it. 2026-01-01T00:00:00Z when absent.
    #[serde(default)]
    pub start: Option<Moment>,
    /// How long it lasts.
    pub duration: Span,
    /// Of all that is left to chance. 0 when absent.
    #[serde(default)]
    pub seed: u64,
    /// Who probes; the first one decides. One, `replica-0`, when absent.
    #[serde(default)]
    pub observers: Vec<String>,
    /// How long a round of a probe takes where no event says otherwise. 100 ms when absent.
    #[serde(default)]
    pub latency: Option<Span>,
    /// What happens.
    #[serde(default)]
    pub events: Vec<Spanned<Event>>,
    /// What is expected to come of it; an expectation that fails is told, and the exit code is 1.
    #[serde(default)]
    pub expect: Vec<Spanned<Expectation>>,
}

/// Something that happens.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Event {
    /// When, after the start.
    pub at: Span,
    /// For so long; to the end when absent.
    #[serde(default)]
    pub r#for: Option<Span>,
    /// To which backend: its name, or `namespace/name`.
    #[serde(default)]
    pub backend: Option<String>,
    /// To every backend of this failure domain.
    #[serde(default)]
    pub failure_domain: Option<String>,
    /// To every backend.
    #[serde(default)]
    pub all: bool,
    /// Only as this observer sees it: then it is its network, and mail is not concerned.
    #[serde(default)]
    pub observer: Option<String>,
    /// So many of a hundred rounds are hit, at random; all when absent.
    #[serde(default)]
    pub percent: Option<u8>,
    /// Who notices a reply: the probes that come as far as its stage (when absent), or the mail itself.
    #[serde(default)]
    pub seen_by: Option<SeenBy>,
    /// A reply to a command.
    #[serde(default)]
    pub answers: Option<Answers>,
    /// Something that is no reply.
    #[serde(default)]
    pub fault: Option<Fault>,
    /// Rounds take so much longer; mail leaves all the same.
    #[serde(default)]
    pub latency: Option<Span>,
    /// So many messages may still be sent today.
    #[serde(default)]
    pub quota_left: Option<u32>,
    /// A person takes it out of service (`true`), or back (`false`).
    #[serde(default)]
    pub suspended: Option<bool>,
    /// A person asks something of a route.
    #[serde(default)]
    pub request: Option<Ask>,
}

/// A reply where a command is answered with it instead of with success.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Answers {
    /// What is answered.
    pub stage: Stage,
    /// `454 4.7.0 Temporary authentication failure`.
    pub reply: String,
}

/// Where in a dialogue a reply comes.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
pub enum Stage {
    /// The greeting.
    Banner,
    /// EHLO.
    #[serde(rename = "EHLO")]
    Ehlo,
    /// STARTTLS.
    #[serde(rename = "STARTTLS")]
    StartTls,
    /// AUTH.
    #[serde(rename = "AUTH")]
    Auth,
    /// MAIL FROM.
    #[serde(rename = "MAIL")]
    Mail,
    /// RCPT TO.
    #[serde(rename = "RCPT")]
    Rcpt,
    /// DATA, or the end of the message.
    #[serde(rename = "DATA")]
    Data,
}

/// Who notices a reply.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
pub enum SeenBy {
    /// The probes that come as far.
    Probes,
    /// The mail itself, at the rate at which it leaves there, as if the operator were told by whoever sends it. This version is not.
    Traffic,
}

/// What happens to a dialogue without a reply.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
pub enum Fault {
    /// Nothing listens.
    Refused,
    /// Packets vanish: nothing ever connects.
    NoAnswer,
    /// It connects, and then there is silence.
    NoBanner,
    /// The connection is reset before the greeting.
    Reset,
    /// What comes is no SMTP.
    Garbage,
    /// The handshake fails.
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

impl Fault {
    /// As it is written.
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

/// What a person asks of a route, as in the annotation.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Ask {
    /// Of which route: its name, or `namespace/name`.
    pub route: String,
    /// The same id is answered once.
    pub id: String,
    /// What.
    pub action: AskedAction,
    /// Switch: where to.
    #[serde(default)]
    pub to: Option<String>,
    /// Switch, Pause: for so long.
    #[serde(default)]
    pub r#for: Option<Span>,
    /// Switch: even if the backend is not healthy.
    #[serde(default)]
    pub force: bool,
}

/// What can be asked.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
pub enum AskedAction {
    /// Send the mail there.
    Switch,
    /// Return now.
    Failback,
    /// Move nothing.
    Pause,
    /// Move again.
    Resume,
    /// Let a Manual failback begin.
    ApproveFailback,
}

/// What is expected: something of a route or a backend, at a time, throughout a time, or at some moment within one.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Expectation {
    /// At this time.
    #[serde(default)]
    pub at: Option<Span>,
    /// From the first time up to the second, all the while.
    #[serde(default)]
    pub between: Option<[Span; 2]>,
    /// From some moment on between the first time and the second, and not before the first.
    #[serde(default)]
    pub within: Option<[Span; 2]>,
    /// Of this route.
    #[serde(default)]
    pub route: Option<String>,
    /// Of this backend.
    #[serde(default)]
    pub backend: Option<String>,
    /// The route's leading backend.
    #[serde(default)]
    pub active: Option<String>,
    /// Shares in percent; backends that are not named have none.
    #[serde(default)]
    pub shares: Option<BTreeMap<String, u8>>,
    /// Where the route stands.
    #[serde(default)]
    pub state: Option<String>,
    /// What holds it; `None` when nothing may.
    #[serde(default)]
    pub hold: Option<String>,
    /// So much of its mail, in percent, has nowhere to go.
    #[serde(default)]
    pub unplaced: Option<u8>,
    /// So many transitions are decided: up to `at`, or in the time of `between`.
    #[serde(default)]
    pub transitions: Option<usize>,
    /// The backend's verdict.
    #[serde(default)]
    pub health: Option<String>,
    /// Its reason.
    #[serde(default)]
    pub class: Option<String>,
}

/// A duration as Kubernetes and Go write it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        span(&text).map(Self).map_err(de::Error::custom)
    }
}

impl Serialize for Span {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.0.as_secs_f64())
    }
}

/// `90s`, `1h30m`, and days, which a scenario of a week wants: `7d`, `1d12h`.
///
/// # Errors
/// What to write instead.
pub fn span(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is no duration; write 500ms, 90s, 1h30m or 7d");
    let (days, rest) = match text.split_once('d') {
        Some((days, rest)) => (days.parse::<u32>().map_err(|_| wrong())?, rest),
        None => (0, text),
    };
    let rest = match rest {
        "" if text.contains('d') => Duration::ZERO,
        "0" => Duration::ZERO,
        rest => {
            let parsed = kube::core::Duration::from_str(rest).map_err(|_| wrong())?;
            if parsed.is_negative() {
                return Err(wrong());
            }
            Duration::from(parsed)
        }
    };
    Ok(Duration::from_hours(24) * days + rest)
}

/// A point in time, RFC 3339.
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

/// What is wrong with a scenario, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ScenarioError {
    /// The file, as it was named.
    pub file: String,
    /// Where in it.
    pub line: Option<u64>,
    /// `events[2].backend: …`.
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

/// Whether a file's text is meant as a scenario rather than as manifests: a single document without a `kind`.
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

/// Reads a scenario.
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
