//! Common parts of all three statuses: conditions, and patches that hold no more than the difference.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use serde::Serialize;
use serde_json::{Map, Value};

use mail_failover_api::conditions::{condition, reason};
use mail_failover_api::{Health, MailRouteStatus, RouteState, TransitionKind};
use mail_failover_core::model::Timestamp;
use mail_failover_resolve::Rejection;
use mail_failover_resolve::text::{MAX_MESSAGE, truncated};
use mail_failover_resolve::time::time;

/// Builder of the conditions of one object, from those that it has.
pub(super) struct Conditions<'a> {
    existing: &'a [Condition],
    built: Vec<Condition>,
    generation: i64,
    now: Timestamp,
}

impl<'a> Conditions<'a> {
    pub(super) fn new(existing: &'a [Condition], generation: i64, now: Timestamp) -> Self {
        Self { existing, built: vec![], generation, now }
    }

    /// Adds a condition; its transition time moves only when its status does.
    pub(super) fn set(&mut self, type_: &str, status: Option<bool>, reason: &str, message: &str) {
        let status = status.map_or("Unknown", |status| if status { "True" } else { "False" });
        let earlier = self.existing.iter().find(|condition| condition.type_ == type_ && condition.status == status);
        self.built.push(Condition {
            type_: type_.to_owned(),
            status: status.to_owned(),
            reason: reason.to_owned(),
            message: truncated(message, MAX_MESSAGE),
            observed_generation: Some(self.generation),
            last_transition_time: earlier
                .map_or_else(|| time(self.now), |earlier| earlier.last_transition_time.clone()),
        });
    }

    /// Keeps an existing condition as it is.
    pub(super) fn keep(&mut self, type_: &str) {
        self.built.extend(self.existing.iter().find(|condition| condition.type_ == type_).cloned());
    }

    /// Adds `Stalled`, which kstatus reads as "will not progress by itself", if there is a rejection.
    pub(super) fn set_stalled(&mut self, rejections: &[Rejection]) {
        if let Some(first) = rejections.first() {
            // ADR-0007: Stalled only if the object itself must change.
            self.set(condition::STALLED, Some(true), first.reason, &joined(rejections));
        }
    }

    pub(super) fn build(mut self) -> Vec<Condition> {
        self.built.sort_by(|a, b| a.type_.cmp(&b.type_));
        self.built
    }
}

/// Returns true if the mail of a route can leave; `None` before the first choice, when nobody expects it to.
pub(super) fn is_delivering(status: &MailRouteStatus) -> Option<bool> {
    if status.active.is_empty() && status.state != Some(RouteState::NoneHealthy) {
        return None;
    }
    let ready = status.conditions.iter().find(|one| one.type_ == condition::READY && one.status == "False");
    let stands_still =
        [reason::HELD_ON_DEAD_BACKEND, reason::AWAITING_CONFIRMATION, reason::NONE_HEALTHY, reason::MAIL_WAITS];
    let is_held = ready.is_some_and(|ready| stands_still.contains(&ready.reason.as_str()));
    // What was left works no more than a hold on it; a return leaves one that works, and so does a drill.
    let last = status.last_transition.as_ref().filter(|last| last.reason != reason::DRILL);
    let is_left_behind = ready.is_some_and(|ready| ready.reason == reason::ADDRESSES_UNKNOWN)
        && last.is_some_and(|last| last.kind == TransitionKind::Failover);
    Some(!is_held && !is_left_behind && !stays_with_the_dead(status) && status.state != Some(RouteState::NoneHealthy))
}

/// Returns true if mail is held on a backend that is Unhealthy or no longer in the list, whatever `Ready` says first.
fn stays_with_the_dead(status: &MailRouteStatus) -> bool {
    // Without verdicts nothing was decided.
    if status.state != Some(RouteState::Holding) || status.backends.is_empty() {
        return false;
    }
    let carriers = status.active.iter().filter(|active| active.percent > 0);
    let mut undiverted = carriers.filter(|active| status.diverted.iter().all(|other| other.backend != active.backend));
    undiverted.any(|active| {
        let known = status.backends.iter().find(|known| known.name == active.backend);
        known.is_none_or(|known| known.health == Health::Unhealthy)
    })
}

/// Returns true if a condition is True.
pub(super) fn is_true(conditions: &[Condition], type_: &str) -> bool {
    conditions.iter().any(|condition| condition.type_ == type_ && condition.status == "True")
}

/// The message of a condition; empty without the condition.
pub(super) fn condition_message<'a>(conditions: &'a [Condition], type_: &str) -> &'a str {
    conditions.iter().find(|condition| condition.type_ == type_).map_or("", |condition| condition.message.as_str())
}

/// All rejections in one message.
pub(super) fn joined(rejections: &[Rejection]) -> String {
    let messages: Vec<_> = rejections.iter().map(|rejection| rejection.message.as_str()).collect();
    truncated(&messages.join("; "), MAX_MESSAGE)
}

/// The JSON merge patch (RFC 7386) that turns one status into another; `None` when they are equal.
pub(super) fn patch<S: Serialize>(from: &S, to: &S) -> Option<Value> {
    let (Ok(from), Ok(to)) = (serde_json::to_value(from), serde_json::to_value(to)) else { return None };
    let difference = difference(&from, &to)?;
    Some(Value::Object(Map::from_iter([("status".to_owned(), difference)])))
}

fn difference(from: &Value, to: &Value) -> Option<Value> {
    if from == to {
        return None;
    }
    let (Value::Object(from), Value::Object(to)) = (from, to) else { return Some(to.clone()) };
    let mut difference = Map::new();
    for key in from.keys().filter(|key| !to.contains_key(*key)) {
        difference.insert(key.clone(), Value::Null);
    }
    for (key, to) in to {
        let changed = from.get(key).map_or_else(|| Some(to.clone()), |from| self::difference(from, to));
        if let Some(changed) = changed {
            difference.insert(key.clone(), changed);
        }
    }
    Some(Value::Object(difference))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_patch_holds_what_changed_and_nothing_else() {
        let from = json!({"a": 1, "b": {"c": 1, "d": 2}, "gone": true, "list": [1]});
        let to = json!({"a": 1, "b": {"c": 1, "d": 3}, "list": [1, 2]});
        assert_eq!(patch(&from, &to), Some(json!({"status": {"b": {"d": 3}, "gone": null, "list": [1, 2]}})));
        assert_eq!(patch(&to, &to), None);
    }

    #[test]
    fn mail_that_a_drill_or_a_return_leaves_behind_can_leave() {
        for (kind, why, is_delivered) in
            [("Failover", "NoAnswer", false), ("Failover", reason::DRILL, true), ("Failback", "Preferred", true)]
        {
            let status: MailRouteStatus = serde_json::from_value(json!({
                "state": "FailedOver",
                "active": [{"backend": "b", "percent": 100}],
                "lastTransition": {"id": 1, "kind": kind, "from": "a", "to": "b", "reason": why,
                    "decidedAt": "2026-11-20T00:00:05.000000Z"},
                "conditions": [{"type": "Ready", "status": "False", "reason": reason::ADDRESSES_UNKNOWN, "message": "",
                    "lastTransitionTime": "2026-11-20T00:00:15Z"}],
            }))
            .unwrap();
            assert_eq!(is_delivering(&status), Some(is_delivered), "{kind} {why}");
        }
    }

    #[test]
    fn the_transition_time_of_a_condition_moves_only_with_its_status() {
        let at = |seconds: i64| Timestamp::from_micros(seconds * 1_000_000);
        let mut first = Conditions::new(&[], 1, at(10));
        first.set("Ready", Some(true), "A", "");
        let existing = first.build();
        let mut second = Conditions::new(&existing, 2, at(20));
        second.set("Ready", Some(true), "B", "");
        assert_eq!(second.build()[0].last_transition_time, time(at(10)));
        let mut third = Conditions::new(&existing, 3, at(30));
        third.set("Ready", Some(false), "C", "");
        assert_eq!(third.build()[0].last_transition_time, time(at(30)));
    }
}
