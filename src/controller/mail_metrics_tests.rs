use prometheus_client::encoding::text::encode;
use serde_json::{Value, json};

use super::*;

/// Lines of what is exposed, without comments and the prefix.
fn shown(show: impl FnOnce(&MailMetrics)) -> Vec<String> {
    let mut registry = Registry::default();
    show(&MailMetrics::new(&mut registry));
    let mut text = String::new();
    encode(&mut text, &registry).unwrap();
    let samples = text.lines().filter_map(|line| line.strip_prefix("mail_failover_"));
    let mut lines: Vec<_> = samples.map(str::to_owned).collect();
    lines.sort();
    lines
}

fn route() -> ObjectKey {
    ObjectKey::new("shop", "orders")
}

fn backend() -> ObjectKey {
    ObjectKey::new("shop", "ses")
}

fn route_status(status: Value) -> MailRouteStatus {
    serde_json::from_value(status).unwrap()
}

fn backend_status(health: &str, reason: &str) -> SendingBackendStatus {
    serde_json::from_value(json!({ "health": health, "reason": reason })).unwrap()
}

fn condition(type_: &str, status: &str) -> Value {
    json!({ "type": type_, "status": status, "reason": "R", "message": "", "lastTransitionTime": "2026-11-30T00:00:00Z" })
}

#[test]
fn a_backend_has_one_series_of_health_which_follows_it() {
    let lines = shown(|metrics| {
        metrics.show_backend(&backend(), &backend_status("Healthy", "Ok"), false);
        metrics.show_backend(&backend(), &backend_status("Unhealthy", "AccountPaused"), false);
    });
    let expected = r#"backend_health{namespace="shop",backend="ses",health="Unhealthy",reason="AccountPaused"} 1"#;
    assert_eq!(lines, [expected]);
    let lines =
        shown(|metrics| metrics.show_backend(&backend(), &backend_status("Unhealthy", "ConnectionRefused"), true));
    assert!(lines[0].contains(r#"health="Suspended""#), "planned maintenance alarms nobody: {lines:?}");
    let gone = shown(|metrics| {
        metrics.show_backend(&backend(), &backend_status("Healthy", "Ok"), false);
        metrics.forget_backend(&backend());
    });
    assert_eq!(gone, Vec::<String>::new());
}

#[test]
fn the_first_expiry_of_a_certificate_is_a_unix_time() {
    let mut status = backend_status("Healthy", "Ok");
    status.certificate_not_after = serde_json::from_value(json!("2027-01-15T08:00:00.500000Z")).unwrap();
    let lines = shown(|metrics| metrics.show_backend(&backend(), &status, false));
    let name = r#"backend_certificate_not_after_timestamp_seconds{namespace="shop",backend="ses"}"#;
    assert!(lines.contains(&format!("{name} 1800000000.5")), "{lines:?}");
    let without = shown(|metrics| {
        metrics.show_backend(&backend(), &status, false);
        metrics.show_backend(&backend(), &backend_status("Healthy", "Ok"), false);
    });
    assert!(!without.iter().any(|line| line.starts_with(name)), "{without:?}");
}

#[test]
fn shares_holds_and_conditions_of_a_route_are_those_of_its_latest_status() {
    let backends = json!([{ "name": "ses", "health": "Healthy", "reason": "Ok" }, { "name": "sendgrid", "health": "Unhealthy", "reason": "Ok" }]);
    let earlier = route_status(json!({
        "active": [{ "backend": "ses", "percent": 70 }, { "backend": "sendgrid", "percent": 30 }],
        "waitingFor": { "reason": "Ramp" }, "unplacedPercent": 5, "backends": backends,
        "conditions": [condition("Ready", "True"), condition("Redundant", "True")],
    }));
    let latest = route_status(json!({
        "active": [{ "backend": "ses", "percent": 100 }], "waitingFor": { "reason": "Cooldown" }, "backends": backends,
        "conditions": [condition("Ready", "True"), condition("Redundant", "False")],
    }));
    let lines = shown(|metrics| {
        metrics.show_route(&route(), &earlier);
        metrics.show_route(&route(), &latest);
    });
    assert_eq!(
        lines,
        [
            r#"condition{kind="MailRoute",namespace="shop",name="orders",type="Ready",status="True"} 1"#,
            r#"condition{kind="MailRoute",namespace="shop",name="orders",type="Redundant",status="False"} 1"#,
            r#"route_backend_share_ratio{namespace="shop",route="orders",backend="ses"} 1.0"#,
            r#"route_hold{namespace="shop",route="orders",reason="Cooldown"} 1"#,
            r#"route_redundant{namespace="shop",route="orders"} 0"#,
            r#"route_unplaced_ratio{namespace="shop",route="orders"} 0.0"#,
        ]
    );
    let gone = shown(|metrics| {
        metrics.show_route(&route(), &earlier);
        metrics.forget_route(&route());
    });
    assert_eq!(gone, Vec::<String>::new());
}

#[test]
fn a_route_with_one_backend_is_not_told_to_have_lost_its_standby() {
    let alone = route_status(json!({
        "active": [{ "backend": "ses", "percent": 100 }], "backends": [{ "name": "ses", "health": "Healthy", "reason": "Ok" }],
        "conditions": [condition("Redundant", "False")],
    }));
    let lines = shown(|metrics| metrics.show_route(&route(), &alone));
    assert!(!lines.iter().any(|line| line.starts_with("route_redundant")), "{lines:?}");
}

#[test]
fn each_time_of_a_transition_is_counted_once_when_it_becomes_known() {
    let at = |second: u32| format!("2026-11-30T08:00:{second:02}.000000Z");
    let transition = |fields: Value| -> TransitionStatus {
        let mut transition =
            json!({ "id": 1, "kind": "Failover", "from": "ses", "to": "b", "reason": "X", "decidedAt": at(10) });
        transition.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        serde_json::from_value(transition).unwrap()
    };
    let decided = transition(json!({ "firstEvidenceAt": at(4) }));
    let applied = transition(json!({ "firstEvidenceAt": at(4), "appliedAt": at(11) }));
    let delivered = transition(json!({ "firstEvidenceAt": at(4), "appliedAt": at(11), "firstDeliveryAt": at(12) }));
    let lines = shown(|metrics| {
        metrics.transition_written(&route(), None, &decided);
        metrics.transition_written(&route(), Some(&decided), &applied);
        metrics.transition_written(&route(), Some(&applied), &delivered);
        metrics.transition_written(&route(), Some(&delivered), &delivered);
    });
    for (name, sum) in [("detection", 6.0), ("actuation", 1.0), ("first_delivery", 2.0)] {
        let labels = r#"{namespace="shop",route="orders"}"#;
        for (what, value) in [("sum", format!("{sum:.1}")), ("count", "1".to_owned())] {
            let line = format!("route_{name}_duration_seconds_{what}{labels} {value}");
            assert!(lines.contains(&line), "{line} is not among {lines:#?}");
        }
    }
}

#[test]
fn objectives_are_shown_with_state_target_and_rest_of_the_budget() {
    let objectives = |state: &str, left: i32| {
        route_status(
            json!({ "objectives": { "at": "2026-11-30T08:00:00.000000Z", "window": "720h", "possibleDuplicates": 0, "results": [
            { "objective": "Availability", "state": state, "target": "99.9%", "measured": "99.95%", "errorBudgetPercent": left },
            { "objective": "RecoveryTime", "state": "Unknown", "target": "30s" }] } }),
        )
    };
    let lines = shown(|metrics| {
        metrics.show_route(&route(), &objectives("Met", 50));
        metrics.show_route(&route(), &objectives("Missed", -20));
    });
    let labels = r#"namespace="shop",route="orders",objective="Availability""#;
    for line in [
        format!(r#"route_objective{{{labels},state="Missed"}} 1"#),
        format!("route_objective_target_ratio{{{labels}}} 0.999"),
        format!("route_error_budget_remaining_ratio{{{labels}}} -0.2"),
    ] {
        assert!(lines.contains(&line), "{line} is not among {lines:#?}");
    }
    assert!(!lines.iter().any(|line| line.contains(r#"state="Met""#)), "{lines:?}");
    let gone = shown(|metrics| {
        metrics.show_route(&route(), &objectives("Met", 50));
        metrics.forget_route(&route());
    });
    assert_eq!(gone, Vec::<String>::new());
}

#[test]
fn a_drill_that_failed_is_shown_until_one_passes() {
    let drilled = |outcomes: &[&str]| {
        let results = outcomes.iter().enumerate().map(|(index, outcome)| {
            let at = "2026-11-30T08:00:00.000000Z";
            json!({ "id": format!("d{index}"), "mode": "Observed", "trigger": "Schedule", "outcome": outcome, "reason": "R",
                "message": "", "startedAt": at, "endedAt": at })
        });
        route_status(json!({ "drills": { "history": results.collect::<Vec<_>>() } }))
    };
    let outcomes = |latest_first: &[&str]| -> Vec<String> {
        let lines = shown(|metrics| {
            metrics.show_route(&route(), &drilled(&["Failed"]));
            metrics.show_route(&route(), &drilled(latest_first));
        });
        lines.into_iter().filter(|line| line.starts_with("route_drill_outcome")).collect()
    };
    let line =
        |outcome: &str| format!(r#"route_drill_outcome{{namespace="shop",route="orders",outcome="{outcome}"}} 1"#);
    assert_eq!(outcomes(&["Skipped", "Failed"]), [line("Failed")]);
    assert_eq!(outcomes(&["Skipped", "Aborted", "Failed", "Passed"]), [line("Failed")]);
    assert_eq!(outcomes(&["Skipped", "Passed", "Failed"]), [line("Passed")]);
    assert_eq!(outcomes(&["Skipped"]), Vec::<String>::new());
}
