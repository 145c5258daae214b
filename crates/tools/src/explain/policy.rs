//! Explanation of a policy: the values in force, where they come from, who uses them, and the command that changes each.
//! Pure.

use serde_json::{Value, json};

use super::source::UsedObject;
use super::text::section;
use mail_failover_api::{EffectivePolicy, FailoverPolicy};
use mail_failover_core::model::text::visible;
use mail_failover_core::model::{ObjectKey, Timestamp};
use mail_failover_resolve::{self as resolve, Rejection};

/// Explanation of a policy.
#[derive(Clone, Debug)]
pub struct PolicyExplanation {
    key: ObjectKey,
    at: Timestamp,
    effective: Option<EffectivePolicy>,
    notes: Vec<String>,
    values: Vec<String>,
    users: Vec<String>,
    commands: Vec<String>,
}

/// Setting of a policy: its path in the spec, its meaning, and its value.
struct Setting {
    path: &'static str,
    meaning: &'static str,
    value: Value,
}

impl PolicyExplanation {
    /// Explains the objects as of a time.
    pub(super) fn of(used: &UsedObject<FailoverPolicy>, at: Timestamp) -> Self {
        let UsedObject { key, object, routes } = used;
        let resolved = resolve::policy(&object.spec);
        let mut notes = vec![];
        let effective = match &resolved {
            Ok(policy) => Some(resolve::effective(policy)),
            Err(Rejection { message, .. }) => {
                notes.push(format!(
                    "it cannot be used as it is written, and its last good version stays in force: {message}"
                ));
                None
            }
        };
        let users = routes
            .iter()
            .flatten()
            .filter(|route| route.spec.policy_ref.as_ref().is_some_and(|reference| *reference.name == *key.name));
        let users: Vec<_> =
            users.map(|route| format!("route {}", route.metadata.name.as_deref().unwrap_or_default())).collect();
        match routes {
            None => notes.push("the routes of the namespace may not be listed: who uses it is not known".to_owned()),
            Some(_) if users.is_empty() => {
                notes.push("no route of the namespace uses it: nothing follows from it".to_owned());
            }
            Some(_) => {}
        }
        let spec = serde_json::to_value(&object.spec).unwrap_or_default();
        let settings = effective.as_ref().map(settings).unwrap_or_default();
        Self {
            key: key.clone(),
            at,
            values: settings.iter().map(|setting| setting.line(&spec)).collect(),
            commands: settings.iter().map(|setting| setting.command(key)).collect(),
            effective,
            notes,
            users,
        }
    }

    /// Renders the explanation as text with a final newline.
    pub(super) fn text(&self) -> String {
        let mut text = format!("FailoverPolicy {}, as of {}\n", visible(&self.key.to_string()), self.at);
        section(&mut text, "Note", &self.notes);
        section(&mut text, "In force", &self.values);
        section(&mut text, "Who uses it", &self.users);
        section(&mut text, "To change a value, in place of the one in force", &self.commands);
        text
    }

    /// Returns the explanation as JSON.
    pub(super) fn json(&self) -> Value {
        json!({
            "policy": { "namespace": &*self.key.namespace, "name": &*self.key.name },
            "at": self.at.to_string(),
            "effective": self.effective,
            "users": self.users,
            "notes": self.notes,
            "commands": self.commands,
        })
    }
}

fn settings(effective: &EffectivePolicy) -> Vec<Setting> {
    let EffectivePolicy {
        failures,
        lasting,
        immediately,
        failed_deliveries: _,
        recoveries,
        cooldown,
        minimum_stay,
        budget,
        when_none_healthy,
        failback,
        failback_after,
    } = effective;
    let (switches, per) = budget.split_once(" per ").unwrap_or((budget, ""));
    let mut settings = vec![
        Setting {
            path: "failure.consecutive",
            meaning: "failures in a row that make a backend Unhealthy",
            value: json!(failures),
        },
        Setting {
            path: "failure.immediately",
            meaning: "classes of which one failure is enough",
            value: json!(immediately),
        },
        Setting {
            path: "recovery.consecutive",
            meaning: "successes in a row that make it Healthy again",
            value: json!(recoveries),
        },
        Setting {
            path: "hold.cooldown",
            meaning: "pause after a move, before an unforced one",
            value: json!(cooldown),
        },
        Setting { path: "hold.minimumStay", meaning: "pause after an arrival", value: json!(minimum_stay) },
        Setting {
            path: "hold.budget",
            meaning: "most moves in a time",
            value: json!({ "switches": switches.parse::<i32>().unwrap_or_default(), "per": per }),
        },
        Setting {
            path: "whenNoneHealthy",
            meaning: "behaviour while nobody can deliver",
            value: json!(when_none_healthy),
        },
        Setting { path: "failback.mode", meaning: "who decides about a return", value: json!(failback) },
        Setting { path: "failback.after", meaning: "health before a return", value: json!(failback_after) },
    ];
    if let Some(lasting) = lasting {
        let meaning = "shortest time that those failures span";
        settings.insert(1, Setting { path: "failure.lasting", meaning, value: json!(lasting) });
    }
    settings
}

impl Setting {
    fn line(&self, spec: &Value) -> String {
        let pointer = format!("/{}", self.path.replace('.', "/"));
        let source = if spec.pointer(&pointer).is_some() { "" } else { " (default)" };
        let value = self.value.as_str().map_or_else(|| self.value.to_string(), str::to_owned);
        format!("{}: {value}{source}, {}", self.path, self.meaning)
    }

    fn command(&self, key: &ObjectKey) -> String {
        let nested = self.path.rsplit('.').fold(self.value.clone(), |inner, field| json!({ field: inner }));
        let patch = json!({ "spec": nested });
        format!("kubectl -n {} patch failoverpolicy {} --type merge -p '{patch}'", key.namespace, key.name)
    }
}
