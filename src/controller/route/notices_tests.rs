use serde_json::{Value, json};

use super::*;

fn status(json: Value) -> MailRouteStatus {
    serde_json::from_value(json).unwrap()
}

fn condition(type_: &str, status: &str, reason: &str) -> Value {
    json!({"type": type_, "status": status, "reason": reason, "message": format!("{type_} is {status}"),
        "lastTransitionTime": "2026-11-30T00:00:00Z"})
}

/// A route that leaves by its preferred backend, with a standby.
fn sound() -> Value {
    json!({"state": "Preferred", "backends": [{"name": "a", "health": "Healthy", "reason": "Ok"},
        {"name": "b", "health": "Healthy", "reason": "Ok"}], "active": [{"backend": "a", "percent": 100}],
        "conditions": [condition("Ready", "True", "Delivering"), condition("Redundant", "True", "StandbyHealthy"),
            condition("FailedOver", "False", "Preferred"), condition("OutputsApplied", "True", "Applied")]})
}

fn transition(id: i64, kind: &str, from: &str, to: &str) -> Value {
    json!({"id": id, "kind": kind, "from": from, "to": to, "reason": "NoAnswer", "decidedAt": "2026-11-30T00:01:00Z",
        "firstEvidenceAt": "2026-11-30T00:00:10Z"})
}

/// The same route on its standby.
fn failed_over(id: i64) -> Value {
    let mut status = sound();
    status["state"] = json!("FailedOver");
    status["conditions"][1] = condition("Redundant", "False", "NoStandby");
    status["conditions"][2] = condition("FailedOver", "True", "NoAnswer");
    status["history"] = json!([transition(id, "Failover", "a", "b")]);
    status
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_micros((1_796_000_000 + seconds) * 1_000_000)
}

/// Follows statuses one after another, none of whose notifications is taken; returns what each of them adds.
fn told(statuses: Vec<Value>) -> (Vec<Vec<String>>, MailRouteStatus) {
    let uid = Uid::parse(Some("u-1")).unwrap();
    let mut before = MailRouteStatus::default();
    let mut all = vec![];
    for (number, json) in statuses.into_iter().enumerate() {
        let mut after = status(json);
        let now = at(i64::try_from(number).unwrap() * 10);
        let notices = Notices {
            uid: &uid,
            now,
            first_alarm_at: now,
            before: &before,
            after: &after,
            transition_note: None,
            is_taken: &|_| false,
        };
        let (pending, ongoing) = notices.build();
        let known = |one: &PendingNotification| before.pending_notifications.iter().any(|known| known.id == one.id);
        let new = pending.iter().filter(|one| !known(one)).map(described);
        all.push(new.collect());
        (after.pending_notifications, after.ongoing) = (pending, ongoing);
        before = after;
    }
    (all, before)
}

fn described(one: &PendingNotification) -> String {
    let end = if one.resolved { " ends" } else { "" };
    format!("{}{end}: {} {}", one.occasion, one.about.as_deref().unwrap_or("-"), one.backend.as_deref().unwrap_or("-"))
}

#[test]
fn a_failover_begins_what_the_return_to_the_preferred_backend_ends() {
    let mut back = sound();
    back["history"] = json!([transition(2, "Failback", "b", "a")]);
    let (all, last) = told(vec![sound(), failed_over(1), failed_over(1), back]);
    let expected: [&[&str]; 4] = [&[], &["Failover: Failover a"], &[], &["Failback ends: Failover a"]];
    assert_eq!(all, expected);
    assert!(last.ongoing.is_empty(), "a failover says itself that no standby is left: {:?}", last.ongoing);
}

#[test]
fn a_second_failover_is_told_under_the_same_incident_and_a_partial_return_ends_nothing() {
    let mut second = failed_over(2);
    second["history"][0] = transition(2, "Failover", "b", "c");
    let mut partial = failed_over(3);
    partial["history"][0] = transition(3, "Failback", "c", "b");
    let (all, last) = told(vec![sound(), failed_over(1), second, partial]);
    let expected: [&[&str]; 4] = [&[], &["Failover: Failover a"], &["Failover: Failover a"], &["Failback: - -"]];
    assert_eq!(all, expected);
    assert_eq!(last.ongoing.len(), 1);
    // The edit of a spec that makes the present backend the preferred one.
    let (all, _) = told(vec![sound(), failed_over(1), sound()]);
    assert_eq!(all[2], ["Failback ends: Failover a"]);
}

#[test]
fn a_missed_objective_is_told_once_until_it_is_met_again() {
    let mut missed = sound();
    let conditions = missed["conditions"].as_array_mut().unwrap();
    conditions.push(condition("ObjectivesMet", "False", "ObjectiveMissed"));
    let mut at_risk = sound();
    let conditions = at_risk["conditions"].as_array_mut().unwrap();
    conditions.push(condition("ObjectivesMet", "True", "ObjectiveAtRisk"));
    let (all, last) = told(vec![at_risk.clone(), missed.clone(), missed, at_risk]);
    let expected: [&[&str]; 4] =
        [&[], &["ObjectiveMissed: ObjectiveMissed -"], &[], &["Recovery ends: ObjectiveMissed -"]];
    assert_eq!(all, expected);
    assert!(last.ongoing.is_empty());
}

#[test]
fn what_is_over_before_it_was_told_is_not_told_and_a_delay_is_kept() {
    let mut lost = sound();
    lost["conditions"][1] = condition("Redundant", "False", "NoStandby");
    let (all, last) = told(vec![sound(), lost.clone()]);
    assert_eq!(all[1], ["StandbyLost: StandbyLost -"]);
    assert_eq!(timestamp(&last.pending_notifications[0].at), at(10 + 60));
    let (all, last) = told(vec![sound(), lost.clone(), sound()]);
    assert!(all[2].is_empty() && last.pending_notifications.is_empty() && last.ongoing.is_empty());
    let mut slow = vec![sound(), lost.clone()];
    slow.extend(vec![lost; 7]);
    slow.push(sound());
    let (all, _) = told(slow);
    assert_eq!(all[9], ["Recovery ends: StandbyLost -"]);
}

/// The same route, with mail held on a backend that cannot deliver.
fn held(hold: &str, reason: &str) -> Value {
    let mut held = sound();
    held["state"] = json!("Holding");
    held["waitingFor"] = json!({"reason": hold});
    held["conditions"][0] = condition("Ready", "False", reason);
    held
}

#[test]
fn a_momentary_hold_is_not_told_and_a_lasting_one_is() {
    for hold in ["AwaitingConfirmation", "Cooldown"] {
        let lasting = held(hold, "HeldOnDeadBackend");
        let (all, _) = told(vec![sound(), held("AwaitingConfirmation", "AwaitingConfirmation"), lasting, sound()]);
        let expected: [&[&str]; 4] =
            [&[], &[], &["NotDelivering: NotDelivering a"], &["Recovery ends: NotDelivering a"]];
        assert_eq!(all, expected, "{hold}");
    }
}

#[test]
fn trouble_of_the_operator_and_mail_that_is_kept_are_told() {
    let mut unwritten = sound();
    unwritten["conditions"][3] = condition("OutputsApplied", "False", "OutputConflict");
    let (all, _) = told(vec![sound(), unwritten]);
    assert_eq!(all[1], ["OperatorTrouble: OperatorTrouble -"]);
    for (type_, bad, reason) in [
        ("WebhooksApplied", "False", "WebhookFailing"),
        ("DnsApplied", "False", "DnsFailing"),
        ("InstallationConflict", "True", "SeveralInstallations"),
    ] {
        let mut failing = sound();
        failing["conditions"].as_array_mut().unwrap().push(condition(type_, bad, reason));
        let (all, last) = told(vec![sound(), failing]);
        assert_eq!(all[1], ["OperatorTrouble: OperatorTrouble -"], "{type_}");
        assert_eq!(last.pending_notifications[0].why, format!("{type_} is {bad}"));
    }
    let mut kept = sound();
    kept["conditions"].as_array_mut().unwrap().push(condition("MailKept", "True", "Quota"));
    let (all, last) = told(vec![sound(), kept]);
    assert_eq!(
        (all[1][0].as_str(), last.pending_notifications[0].why.as_str()),
        ("NotDelivering: NotDelivering -", "MailKept is True")
    );
}

fn answer_of_a(backend: &str, reason: &str) -> Option<String> {
    (backend == "a" && reason == "NoAnswer").then(|| "no answer within 5s".to_owned())
}

/// What is told again of the only thing that lasts after these statuses.
fn retold(statuses: Vec<Value>) -> (String, Vec<String>) {
    let (_, last) = told(statuses);
    assert_eq!(last.ongoing.len(), 1, "{:?}", last.ongoing);
    let Retold { why, to } = Retold::of(&last, &last.ongoing[0], answer_of_a);
    (why, to)
}

#[test]
fn what_is_told_again_says_why_it_lasts_and_where_mail_goes() {
    let mut over = failed_over(1);
    over["active"] = json!([{"backend": "b", "percent": 100}]);
    let to_b = vec!["b".to_owned()];
    let moved = retold(vec![sound(), over.clone(), over.clone()]);
    assert_eq!(moved, ("a → b: NoAnswer (no answer within 5s)".to_owned(), to_b.clone()));
    // The edit of a spec: nothing has failed.
    over["history"] = json!([]);
    assert_eq!(retold(vec![sound(), over]), ("FailedOver is True".to_owned(), to_b));
    let mut missed = sound();
    missed["conditions"].as_array_mut().unwrap().push(condition("ObjectivesMet", "False", "ObjectiveMissed"));
    assert_eq!(retold(vec![sound(), missed]), ("ObjectivesMet is False".to_owned(), vec![]));
}

#[test]
fn what_a_message_tells_is_dropped() {
    let uid = Uid::parse(Some("u-1")).unwrap();
    let (_, before) = told(vec![sound(), failed_over(1)]);
    let after = status(failed_over(1));
    let taken = before.pending_notifications[0].id.clone();
    let notices = Notices {
        uid: &uid,
        now: at(30),
        first_alarm_at: at(0),
        before: &before,
        after: &after,
        transition_note: None,
        is_taken: &|id| id == taken,
    };
    let (pending, ongoing) = notices.build();
    assert_eq!((pending.len(), ongoing.len()), (0, 1));
}
