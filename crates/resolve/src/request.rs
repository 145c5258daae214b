//! A person's request to a route: the annotation `mailfailover.io/request`, read into the engine's types.
//!
//! An annotation, and not a field of `spec`, so that no `GitOps` tool reverts an incident response. This module never
//! decides on a request.

use std::sync::Arc;
use std::time::Duration;

use kube::ResourceExt;
use serde::Deserialize;

use mail_failover_api::MailRoute;
use mail_failover_core::engine::{Request, RequestAction};
use mail_failover_core::model::ObjectKey;
use mail_failover_core::model::text::visible;

/// Name of the annotation that holds a request.
pub const REQUEST_ANNOTATION: &str = "mailfailover.io/request";
/// Bound on a request, in bytes. The operator keeps no more of an annotation.
pub const MAX_REQUEST: usize = 4096;
/// The API's bound on `status.request.id`, in bytes.
const MAX_ID: usize = 64;
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
    id: String,
    action: String,
    to: Option<String>,
    r#for: Option<kube::core::Duration>,
    force: Option<bool>,
    /// A note of the person who asks, which the operator ignores.
    #[serde(rename = "reason")]
    _reason: Option<String>,
}

/// The request to a route, if it has one.
pub fn of(route: &MailRoute) -> Option<Request> {
    route.annotations().get(REQUEST_ANNOTATION).map(|text| parse(text))
}

/// The request in a text. A text that cannot be read is a request to be refused; without an id of its own the text is
/// the id.
pub fn parse(text: &str) -> Request {
    if text.len() > MAX_REQUEST {
        let why =
            format!("the annotation {REQUEST_ANNOTATION} has more than {MAX_REQUEST} bytes; write it like {EXAMPLE}");
        return Request { id: truncated(text), action: RequestAction::Malformed(why) };
    }
    let written: RequestAnnotation = match serde_json::from_str(text) {
        Ok(written) => written,
        Err(error) => {
            let why = format!("the annotation {REQUEST_ANNOTATION} cannot be read: {error}; write it like {EXAMPLE}");
            return Request { id: truncated(text), action: RequestAction::Malformed(why) };
        }
    };
    if written.id.is_empty() || written.id.len() > MAX_ID {
        let why = format!("\"id\" must have 1 to {MAX_ID} bytes");
        return Request { id: truncated(&written.id), action: RequestAction::Malformed(why) };
    }
    if visible(&written.id) != written.id {
        let why = "\"id\" has characters that are not shown; use letters, digits and hyphens".to_owned();
        return Request { id: truncated(&written.id), action: RequestAction::Malformed(why) };
    }
    Request {
        id: written.id.as_str().into(),
        action: action(&written).unwrap_or_else(|error| RequestAction::Malformed(error.to_string())),
    }
}

/// Defect of a request, with the remedy.
#[derive(Debug, thiserror::Error)]
enum RequestError {
    #[error("\"for\" must not be negative")]
    NegativeDuration,
    #[error(r#"a Switch needs "to", the name of a backend of the route"#)]
    NoTarget,
    #[error("\"{field}\" has no meaning with the action {action}; leave it out")]
    StrayField { field: &'static str, action: String },
    #[error("this version does not know the action {0}; use Switch, Failback, Pause, Resume or ApproveFailback")]
    UnknownAction(String),
}

fn action(written: &RequestAnnotation) -> Result<RequestAction, RequestError> {
    let RequestAnnotation { id: _, action, to, r#for, force, _reason: _ } = written;
    let duration = match r#for {
        None => None,
        Some(given) if given.is_negative() => return Err(RequestError::NegativeDuration),
        Some(given) => Some(Duration::from(*given)),
    };
    match action.as_str() {
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
            return Err(RequestError::StrayField { field, action: action.clone() });
        }
    }
    Ok(match action.as_str() {
        "Pause" => RequestAction::Pause { duration },
        "Failback" => RequestAction::Failback,
        "Resume" => RequestAction::Resume,
        _ => RequestAction::ApproveFailback,
    })
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
            assert_eq!(parse(&request), Request { id: "1790000000".into(), action }, "{command}");
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
            (r#"{"id":"1","action":"ApproveFailback"}"#, RequestAction::ApproveFailback),
        ];
        for (text, action) in cases {
            assert_eq!(parse(text), Request { id: "1".into(), action }, "{text}");
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
            (r#"{"id":"1","action":"Pause","for":"-1h"}"#, "negative"),
            (r#"{"id":"1","action":"Drill"}"#, "does not know the action Drill"),
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

    proptest! {
        #[test]
        fn no_text_is_too_strange(text in any::<String>()) {
            let id = parse(&text).id;
            prop_assert!(id.len() <= MAX_ID && visible(&id) == *id, "{id:?}");
        }
    }
}
