//! The requests of service accounts, read from the API server's audit log.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use mail_failover_operator::rbac::RbacRule;
use serde_json::Value;

/// Audits everything that service accounts ask for, without bodies, and nothing else. An entry is
/// written before the answer.
pub(super) const POLICY: &str = r#"{"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived"],
"rules": [{"level": "Metadata", "userGroups": ["system:serviceaccounts"]}, {"level": "None"}]}"#;

/// A right that a call needs, in the terms of RBAC.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Right {
    /// The API group; empty for the core group.
    pub api_group: String,
    /// The resource, with its subresource: `mailroutes/status`.
    pub resource: String,
    pub verb: String,
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { api_group, resource, verb } = self;
        let group = if api_group.is_empty() { "" } else { "." };
        write!(f, "{verb} {resource}{group}{api_group}")
    }
}

/// The rights that rules grant.
pub fn granted<'a>(rules: impl IntoIterator<Item = &'a RbacRule>) -> BTreeSet<Right> {
    let mut rights = BTreeSet::new();
    for rule in rules {
        for resource in rule.resources {
            rights.extend(rule.verbs.iter().map(|verb| Right {
                api_group: rule.api_group.to_owned(),
                resource: (*resource).to_owned(),
                verb: (*verb).to_owned(),
            }));
        }
    }
    rights
}

/// A call to the API server, read from the audit log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// The right that it needs.
    pub right: Right,
    /// The namespace; empty for the cluster.
    pub namespace: String,
    /// The name of the object; empty for all.
    pub name: String,
    /// True if the caller had the right.
    pub is_allowed: bool,
    /// The path and the query.
    pub uri: String,
}

/// The calls of a user, oldest first.
pub(super) fn calls(log: &Path, user: &str) -> Result<Vec<Call>> {
    let text = fs::read_to_string(log).with_context(|| log.display().to_string())?;
    // The last line may be incomplete.
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let entries = whole.lines().map(|line| serde_json::from_str::<Value>(line).with_context(|| line.to_owned()));
    let entries = entries.collect::<Result<Vec<_>>>()?;
    Ok(entries.iter().filter(|entry| entry["user"]["username"] == user).map(call).collect())
}

fn text_of(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn call(entry: &Value) -> Call {
    let object = &entry["objectRef"];
    let resource = match object["subresource"].as_str() {
        Some(subresource) => format!("{}/{subresource}", text_of(&object["resource"])),
        None => text_of(&object["resource"]),
    };
    Call {
        right: Right { api_group: text_of(&object["apiGroup"]), resource, verb: text_of(&entry["verb"]) },
        namespace: text_of(&object["namespace"]),
        name: text_of(&object["name"]),
        is_allowed: entry["annotations"]["authorization.k8s.io/decision"] == "allow",
        uri: text_of(&entry["requestURI"]),
    }
}
