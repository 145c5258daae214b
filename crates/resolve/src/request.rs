//! A person's request to a route: the annotation `mailfailover.io/request`, read into the engine's types.
//!
//! An annotation, and not a field of `spec`, so that no `GitOps` tool reverts an incident response. This module never
//! decides on a request.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use kube::ResourceExt;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use mail_failover_api::MailRoute;
use mail_failover_core::engine::{Request, RequestAction};
use mail_failover_core::model::text::visible;
use mail_failover_core::model::{DrillMode, ObjectKey};

/// Name of the annotation that holds a request.
pub const REQUEST_ANNOTATION: &str = "mailfailover.io/request";
/// Bound on a request, in bytes. The operator keeps no more of an annotation.
pub const MAX_REQUEST: usize = 4096;
/// The API's bound on `status.request.id`, in bytes.
const MAX_ID: usize = 64;
/// The API's bound on `status.request.reason`, in bytes.
const MAX_REASON: usize = 256;
/// The API's bound on `status.request.askedBy`, in bytes.
const MAX_MANAGER: usize = 128;
/// Longest duration of a request; a longer one lasts as long.
const LONGEST: Duration = Duration::from_hours(24 * 3660);
const EXAMPLE: &str = r#"{"id":"2026-11-24-1","action":"Switch","to":"sendgrid","for":"2h"}"#;

/// Request by which a person lifts a hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy<'a> {
    /// Ends a pause.
    Resume,
    /// Returns at once, or ends a requested switch.
    Failback,
    /// Lets a Manual failback begin.
    ApproveFailback,
    /// Moves the mail.
    Switch {
        /// Backend that it moves to.
        to: &'a str,
        /// True if that backend is not known to be alive.
        is_forced: bool,
    },
}

impl Remedy<'_> {
    /// Returns the shell command that makes this request of a route.
    pub fn command(&self, route: &ObjectKey) -> String {
        let request = match self {
            Self::Resume => r#""action":"Resume""#.to_owned(),
            Self::Failback => r#""action":"Failback""#.to_owned(),
            Self::ApproveFailback => r#""action":"ApproveFailback""#.to_owned(),
            Self::Switch { to, is_forced: false } => format!(r#""action":"Switch","to":"{to}""#),
            Self::Switch { to, is_forced: true } => format!(r#""action":"Switch","to":"{to}","force":true"#),
        };
        let ObjectKey { namespace, name } = route;
        format!(
            "kubectl -n {namespace} annotate --overwrite mailroute {name} \
             {REQUEST_ANNOTATION}='{{\"id\":\"'$(date +%s)'\",{request}}}'"
        )
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RequestAnnotation {
    #[serde(deserialize_with = "text_or_number")]
    id: String,
    action: String,
    to: Option<String>,
    r#for: Option<String>,
    force: Option<bool>,
    mode: Option<String>,
    /// Note of the person who asks, for those who read the answer.
    reason: Option<String>,
}

/// Reads an id; `$(date +%s)` without quotation marks is a number.
fn text_or_number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    match Value::deserialize(deserializer)? {
        Value::String(text) => Ok(text),
        Value::Number(number) => Ok(number.to_string()),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => {
            Err(D::Error::custom("\"id\" must be a text or a number"))
        }
    }
}

/// The request to a route, if it has one.
pub fn of(route: &MailRoute) -> Option<Request> {
    let text = route.annotations().get(REQUEST_ANNOTATION)?;
    Some(Request { asked_by: manager_of(route), ..parse(text) })
}

/// The manager of the annotation with the request, if exactly one has it.
fn manager_of(route: &MailRoute) -> Option<Arc<str>> {
    let field = format!("f:{REQUEST_ANNOTATION}");
    let has_it = |entry: &&ManagedFieldsEntry| {
        let fields = entry.fields_v1.as_ref().and_then(|fields| fields.0.pointer("/f:metadata/f:annotations"));
        fields.is_some_and(|annotations| annotations.get(&field).is_some())
    };
    let mut managers = route.metadata.managed_fields.iter().flatten().filter(has_it);
    let manager = managers.next()?.manager.as_deref()?;
    if managers.next().is_some() {
        return None;
    }
    Some(super::text::truncated(&visible(manager), MAX_MANAGER).into())
}

/// The request in a text. A text that cannot be read is a request to be refused; without an id of its own the text is
/// the id.
pub fn parse(text: &str) -> Request {
    Request { digest: digest(text).into(), ..read(text) }
}

/// Returns the 64-bit FNV-1a digest of a text in hexadecimal digits: the same in every version, and nobody's secret.
fn digest(text: &str) -> String {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in text.bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    format!("{hash:016x}")
}

fn read(text: &str) -> Request {
    if text.len() > MAX_REQUEST {
        let why =
            format!("the annotation {REQUEST_ANNOTATION} has more than {MAX_REQUEST} bytes; write it like {EXAMPLE}");
        return Request::new(truncated(text), RequestAction::Malformed(why));
    }
    let written: RequestAnnotation = match serde_json::from_str(text) {
        Ok(written) => written,
        Err(error) => {
            let why = format!("the annotation {REQUEST_ANNOTATION} cannot be read: {error}; write it like {EXAMPLE}");
            return Request::new(truncated(text), RequestAction::Malformed(why));
        }
    };
    if written.id.is_empty() || written.id.len() > MAX_ID {
        let why = format!("\"id\" must have 1 to {MAX_ID} bytes");
        return Request::new(truncated(&written.id), RequestAction::Malformed(why));
    }
    if visible(&written.id) != written.id {
        let why = "\"id\" has characters that are not shown; use letters, digits and hyphens".to_owned();
        return Request::new(truncated(&written.id), RequestAction::Malformed(why));
    }
    let action = action(&written).unwrap_or_else(|error| RequestAction::Malformed(error.to_string()));
    let reason = written.reason.as_deref().map(str::trim).filter(|reason| !reason.is_empty());
    let reason = reason.map(|reason| super::text::truncated(&visible(reason), MAX_REASON).into());
    Request { reason, ..Request::new(written.id.as_str(), action) }
}

/// Defect of a request, with the remedy.
#[derive(Debug, thiserror::Error)]
enum RequestError {
    #[error("\"for\" is {0:?}, which is no duration; write it like 30m, 2h, 1d or \"2 hours\"")]
    Duration(String),
    #[error(r#"a Switch needs "to", the name of a backend of the route"#)]
    NoTarget,
    #[error("\"{field}\" has no meaning with the action {action}; leave it out")]
    StrayField { field: &'static str, action: String },
    #[error("\"mode\" is {0:?}; use Observed, Blocked or Shadow")]
    Mode(String),
    #[error("this version does not know the action {0}; use Switch, Failback, Pause, Resume, ApproveFailback or Drill")]
    UnknownAction(String),
}

fn action(written: &RequestAnnotation) -> Result<RequestAction, RequestError> {
    let RequestAnnotation { id: _, action, to, r#for, force, mode, reason: _ } = written;
    let duration = match r#for {
        None => None,
        Some(given) => Some(duration(given).ok_or_else(|| RequestError::Duration(truncated(given).to_string()))?),
    };
    let stray = |field| RequestError::StrayField { field, action: action.clone() };
    match action.as_str() {
        "Drill" if to.is_some() => return Err(stray("to")),
        "Drill" => {
            let mode = match mode.as_deref() {
                None => None,
                Some(mode) => {
                    Some(mode.parse::<DrillMode>().map_err(|_| RequestError::Mode(truncated(mode).to_string()))?)
                }
            };
            return Ok(RequestAction::Drill { mode, duration, is_forced: force.unwrap_or(false) });
        }
        _ if mode.is_some() => return Err(stray("mode")),
        "Switch" => {
            let to = to.as_deref().filter(|to| !to.is_empty()).ok_or(RequestError::NoTarget)?;
            return Ok(RequestAction::Switch { to: to.into(), duration, is_forced: force.unwrap_or(false) });
        }
        "Pause" | "Failback" | "Resume" | "ApproveFailback" => {}
        other => return Err(RequestError::UnknownAction(other.to_owned())),
    }
    let takes_duration = action == "Pause";
    // ADR-0019: Failback has no force.
    for (is_given, field) in
        [(to.is_some(), "to"), (duration.is_some() && !takes_duration, "for"), (force.is_some(), "force")]
    {
        if is_given {
            return Err(stray(field));
        }
    }
    Ok(match action.as_str() {
        "Pause" => RequestAction::Pause { duration },
        "Failback" => RequestAction::Failback,
        "Resume" => RequestAction::Resume,
        _ => RequestAction::ApproveFailback,
    })
}

/// Reads a duration as people write it: `2h`, `1h30m`, `1.5h`, `2 hours`, `1 day and 30 min`; `None` for anything else.
fn duration(text: &str) -> Option<Duration> {
    let mut rest = text.trim();
    let mut whole = Duration::ZERO;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let end = rest.find(|letter: char| !letter.is_ascii_digit() && letter != '.')?;
        let number: f64 = rest[..end].parse().ok()?;
        rest = rest[end..].trim_start();
        let end = rest.find(|letter: char| !letter.is_alphabetic()).unwrap_or(rest.len());
        let seconds = match rest[..end].to_lowercase().as_str() {
            "ms" | "millisecond" | "milliseconds" => 0.001,
            "s" | "sec" | "secs" | "second" | "seconds" => 1.0,
            "m" | "min" | "mins" | "minute" | "minutes" => 60.0,
            "h" | "hr" | "hrs" | "hour" | "hours" => 3600.0,
            "d" | "day" | "days" => 86_400.0,
            "w" | "week" | "weeks" => 604_800.0,
            _ => return None,
        };
        whole = whole.checked_add(Duration::try_from_secs_f64(number * seconds).ok()?)?;
        rest = rest[end..].trim_start_matches([' ', ',']);
        rest = rest.strip_prefix("and ").unwrap_or(rest).trim_start();
    }
    Some(whole.min(LONGEST))
}

fn truncated(text: &str) -> Arc<str> {
    super::text::truncated(text, MAX_ID).into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_remedy_is_a_command_whose_request_the_operator_understands() {
        let route = ObjectKey::new("shop", "orders");
        for (remedy, action) in [
            (Remedy::Resume, RequestAction::Resume),
            (Remedy::Failback, RequestAction::Failback),
            (Remedy::ApproveFailback, RequestAction::ApproveFailback),
            (
                Remedy::Switch { to: "sendgrid", is_forced: true },
                RequestAction::Switch { to: "sendgrid".into(), duration: None, is_forced: true },
            ),
            (
                Remedy::Switch { to: "sendgrid", is_forced: false },
                RequestAction::Switch { to: "sendgrid".into(), duration: None, is_forced: false },
            ),
        ] {
            let command = remedy.command(&route);
            let (before, request) = command.split_once('=').unwrap();
            assert_eq!(before, "kubectl -n shop annotate --overwrite mailroute orders mailfailover.io/request");
            // As a shell reads it.
            let request = request.trim_matches('\'').replace("'$(date +%s)'", "1790000000");
            let parsed = parse(&request);
            assert_eq!((&*parsed.id, parsed.action), ("1790000000", action), "{command}");
        }
    }

    #[test]
    fn each_action_is_read_with_what_belongs_to_it() {
        let cases = [
            (
                r#"{"id":"1","action":"Switch","to":"b","for":"2h","reason":"maintenance"}"#,
                RequestAction::Switch { to: "b".into(), duration: Some(Duration::from_hours(2)), is_forced: false },
            ),
            (
                r#"{"id":"1","action":"Switch","to":"b","force":true}"#,
                RequestAction::Switch { to: "b".into(), duration: None, is_forced: true },
            ),
            (r#"{"id":"1","action":"Failback"}"#, RequestAction::Failback),
            (
                r#"{"id":"1","action":"Pause","for":"90s"}"#,
                RequestAction::Pause { duration: Some(Duration::from_secs(90)) },
            ),
            (r#"{"id":"1","action":"Resume"}"#, RequestAction::Resume),
            (r#"{"id":1,"action":"Resume"}"#, RequestAction::Resume),
            (r#"{"id":"1","action":"ApproveFailback"}"#, RequestAction::ApproveFailback),
            (r#"{"id":"1","action":"Drill"}"#, RequestAction::Drill { mode: None, duration: None, is_forced: false }),
            (
                r#"{"id":"1","action":"Drill","mode":"Blocked","for":"5m","force":true}"#,
                RequestAction::Drill {
                    mode: Some(DrillMode::Blocked),
                    duration: Some(Duration::from_mins(5)),
                    is_forced: true,
                },
            ),
        ];
        for (text, action) in cases {
            let parsed = parse(text);
            assert_eq!((&*parsed.id, parsed.action), ("1", action), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_read_says_why() {
        let cases = [
            ("", "cannot be read"),
            ("{}", "missing field `id`"),
            (r#"{"id":"1","action":"Switch"}"#, "\"to\""),
            (r#"{"id":"1","action":"Failback","to":"b"}"#, "\"to\" has no meaning"),
            (r#"{"id":"1","action":"Resume","for":"1h"}"#, "\"for\" has no meaning"),
            (
                r#"{"id":"1","action":"Pause","for":"-1h"}"#,
                "\"for\" is \"-1h\", which is no duration; write it like 30m",
            ),
            (r#"{"id":"1","action":"Pause","for":"2 huors"}"#, "no duration"),
            (r#"{"id":"1","action":"Pause","for":"90"}"#, "no duration"),
            (r#"{"id":"1","action":"Pause","for":""}"#, "no duration"),
            (r#"{"id":["1"],"action":"Pause"}"#, "\"id\" must be a text or a number"),
            (r#"{"id":"1","action":"Rehearse"}"#, "does not know the action Rehearse"),
            (r#"{"id":"1","action":"Drill","mode":"Loud"}"#, "use Observed, Blocked or Shadow"),
            (r#"{"id":"1","action":"Drill","to":"b"}"#, "\"to\" has no meaning"),
            (r#"{"id":"1","action":"Resume","mode":"Shadow"}"#, "\"mode\" has no meaning"),
            (r#"{"id":"","action":"Resume"}"#, "1 to 64"),
            (r#"{"id":"\u001b[2J\u202eX","action":"Resume"}"#, "not shown"),
            (r#"{"id":"1","action":"Resume","who":"me"}"#, "unknown field `who`"),
            (
                &format!(r#"{{"id":"1","action":"Resume","reason":"{}"}}"#, "x".repeat(MAX_REQUEST)),
                "more than 4096 bytes",
            ),
        ];
        for (text, expected) in cases {
            let RequestAction::Malformed(why) = parse(text).action else { panic!("{text} was read") };
            assert!(why.contains(expected), "{text}: {why}");
        }
    }

    #[test]
    fn durations_are_read_in_the_words_that_people_use() {
        for (text, seconds) in [
            ("90s", 90),
            ("1h30m", 5400),
            ("1.5h", 5400),
            ("2 hours", 7200),
            ("1 Hour, 30 minutes", 5400),
            ("45 min", 2700),
            ("1 day and 2 h", 93_600),
            ("1w", 604_800),
            ("9999999 weeks", 24 * 3660 * 3600),
        ] {
            assert_eq!(duration(text), Some(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "h", "2", "2 moons", "2h!", "1..5h", "NaN h", "2 h 3"] {
            assert_eq!(duration(text), None, "{text:?}");
        }
    }

    #[test]
    fn who_wrote_a_request_is_its_one_manager() {
        let asked_by = |entries: Value| {
            let route = serde_json::json!({"apiVersion": "mailfailover.io/v1alpha1", "kind": "MailRoute",
                "spec": {"backends": [{"name": "a"}], "outputs": [{"configMap": {"name": "c", "format": "Env"}}]},
                "metadata": {"name": "orders", "annotations": {REQUEST_ANNOTATION: r#"{"id":"1","action":"Resume"}"#},
                    "managedFields": entries}});
            of(&serde_json::from_value(route).unwrap()).unwrap().asked_by
        };
        let entry = |manager: &str, annotation: &str| {
            serde_json::json!({"manager": manager, "operation": "Update",
            "fieldsV1": {"f:metadata": {"f:annotations": {".": {}, format!("f:{annotation}"): {}}}}})
        };
        let annotate = entry("kubectl-annotate", REQUEST_ANNOTATION);
        let others = [entry("argocd-controller", "x"), annotate.clone()];
        assert_eq!(asked_by(others.to_vec().into()).as_deref(), Some("kubectl-annotate"));
        assert_eq!(asked_by(vec![annotate, entry("helm", REQUEST_ANNOTATION)].into()), None);
        assert_eq!(asked_by(Value::Null), None);
    }

    #[test]
    fn the_reason_is_kept_and_another_text_has_another_digest() {
        let text = r#"{"id":"1","action":"Resume","reason":" INC-42 \u001b[2J"}"#;
        let request = parse(text);
        let reason = request.reason.as_deref().unwrap();
        assert!(reason.starts_with("INC-42") && !reason.contains('\u{1b}'), "{reason:?}");
        assert_eq!(request.digest.len(), 16);
        assert_eq!(request.digest, parse(text).digest);
        assert_ne!(request.digest, parse(r#"{"id":"1","action":"Resume"}"#).digest);
        let long = parse(&format!(r#"{{"id":"1","action":"Resume","reason":"{}"}}"#, "x".repeat(2000)));
        assert!(long.reason.unwrap().len() <= MAX_REASON);
    }

    proptest! {
        #[test]
        fn no_text_is_too_strange(text in any::<String>()) {
            let id = parse(&text).id;
            prop_assert!(id.len() <= MAX_ID && visible(&id) == *id, "{id:?}");
        }
    }
}
