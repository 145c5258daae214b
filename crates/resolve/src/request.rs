//! What a person asks of a route: the annotation `mailfailover.io/request`, read into the engine's words.
//!
//! An annotation, and not a field of `spec`, so that no `GitOps` tool reverts an incident response. This module never rules on a request.

use std::sync::Arc;
use std::time::Duration;

use kube::ResourceExt;
use serde::Deserialize;

use mail_failover_api::MailRoute;
use mail_failover_core::engine::{Request, RequestAction};

/// The annotation.
pub const REQUEST_ANNOTATION: &str = "mailfailover.io/request";
/// The API's bound on `status.request.id`, in bytes.
const MAX_ID: usize = 64;
const EXAMPLE: &str = r#"{"id":"2026-11-24-1","action":"Switch","to":"sendgrid","for":"2h"}"#;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Written {
    id: String,
    action: String,
    to: Option<String>,
    r#for: Option<kube::core::Duration>,
    force: Option<bool>,
    /// For people and for the log of whoever writes it.
    #[serde(rename = "reason")]
    _reason: Option<String>,
}

/// What is asked of this route, if anything.
pub fn of(route: &MailRoute) -> Option<Request> {
    route.annotations().get(REQUEST_ANNOTATION).map(|text| parse(text))
}

/// The request that a text holds. One that cannot be read is a request, too, to be refused; without an id of its own its text is the id.
pub fn parse(text: &str) -> Request {
    let written: Written = match serde_json::from_str(text) {
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
    Request { id: written.id.as_str().into(), action: action(&written).unwrap_or_else(RequestAction::Malformed) }
}

fn action(written: &Written) -> Result<RequestAction, String> {
    let Written { id: _, action, to, r#for, force, _reason: _ } = written;
    let duration = match r#for {
        None => None,
        Some(given) if given.is_negative() => return Err("\"for\" must not be negative".to_owned()),
        Some(given) => Some(Duration::from(*given)),
    };
    let stray = |field: &str| format!("\"{field}\" has no meaning with the action {action}; leave it out");
    let none = |is_given: bool, field| if is_given { Err(stray(field)) } else { Ok(()) };
    match action.as_str() {
        "Switch" => {
            let to = to.as_deref().filter(|to| !to.is_empty());
            let to = to.ok_or(r#"a Switch needs "to", the name of a backend of the route"#)?;
            Ok(RequestAction::Switch { to: to.into(), duration, is_forced: force.unwrap_or(false) })
        }
        "Pause" => {
            none(to.is_some(), "to")?;
            none(force.is_some(), "force")?;
            Ok(RequestAction::Pause { duration })
        }
        "Failback" | "Resume" | "ApproveFailback" => {
            none(to.is_some(), "to")?;
            none(duration.is_some(), "for")?;
            none(force.is_some(), "force")?;
            Ok(match action.as_str() {
                "Failback" => RequestAction::Failback,
                "Resume" => RequestAction::Resume,
                _ => RequestAction::ApproveFailback,
            })
        }
        other => Err(format!(
            "this version does not know the action {other}; use Switch, Failback, Pause, Resume or ApproveFailback"
        )),
    }
}

fn truncated(text: &str) -> Arc<str> {
    super::text::truncated(text, MAX_ID).into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

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
            (r#"{"id":"1","action":"Resume","who":"me"}"#, "unknown field `who`"),
        ];
        for (text, expected) in cases {
            let RequestAction::Malformed(why) = parse(text).action else { panic!("{text} was read") };
            assert!(why.contains(expected), "{text}: {why}");
        }
    }

    proptest! {
        #[test]
        fn no_text_is_too_strange(text in any::<String>()) {
            prop_assert!(parse(&text).id.len() <= MAX_ID);
        }
    }
}
