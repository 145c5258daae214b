use serde_json::{Value, json};

use super::*;

fn parsed(spec: &Value) -> Result<Policy, Rejection> {
    policy(&serde_json::from_value(spec.clone()).unwrap())
}

#[test]
fn a_policy_that_says_nothing_is_the_default() {
    let empty = json!({"failure": {"deliveries": {}}, "recovery": {}, "hold": {}, "failback": {}, "objectives": {}, "breaker": {}});
    for spec in [json!({}), empty] {
        assert_eq!(parsed(&spec), Ok(Policy::default()), "{spec}");
    }
}

#[test]
fn a_policy_that_says_everything_is_taken_at_its_word() {
    let spec = json!({
        "failure": {"consecutive": 3, "lasting": "15s", "window": {"duration": "1m", "minimumSamples": 20, "failurePercent": 50},
            "latency": {"percentile": 95, "above": "1.5s", "for": "90s"},
            "immediately": ["AccountPaused", "AuthenticationRefused"],
            "deliveries": {"consecutive": 5, "lasting": "90s"}},
        "recovery": {"consecutive": 5, "stableFor": "2m"},
        "hold": {"cooldown": "5m", "minimumStay": "2m", "budget": {"switches": 3, "per": "2h"}},
        "whenNoneHealthy": "Preferred",
        "failback": {"mode": "Manual", "after": "30m",
            "windows": [{"schedule": "0 2 * * *", "timeZone": "Europe/Berlin", "duration": "2h"}, {"schedule": "30 12 * * 1-5", "duration": "1m"}],
            "ramp": [{"percent": 10, "for": "5m"}, {"percent": 50, "for": "10m"}]},
        "objectives": {"recoveryTime": "30s", "deliveryTime": "5s", "successPercent": 98, "availability": "99.95", "window": "168h"},
        "breaker": {"consecutive": 2, "firstPause": "10s", "longestPause": "2m"},
        "drills": {"stay": "30s"},
    });
    let seconds = Duration::from_secs;
    let expected = Policy {
        thresholds: Thresholds {
            failure: 3,
            lasting: Some(seconds(15)),
            recovery: 5,
            stable_for: seconds(120),
            window: Some(FailureWindow { duration: seconds(60), minimum_samples: 20, failure_percent: 50 }),
            latency: Some(LatencyLimit { percentile: 95, above: Duration::from_millis(1500), held_for: seconds(90) }),
            immediate: [EvidenceClass::AuthenticationRefused, EvidenceClass::AccountPaused].into_iter().collect(),
        },
        hold: HoldPolicy {
            cooldown: seconds(300),
            minimum_stay: seconds(120),
            budget: Budget { switches: 3, per: seconds(7200) },
        },
        when_none_healthy: WhenNoneHealthy::Preferred,
        failback: Failback {
            mode: FailbackMode::Manual,
            after: seconds(1800),
            windows: vec![
                CronWindow::new("0 2 * * *", "Europe/Berlin", seconds(7200)).unwrap(),
                CronWindow::new("30 12 * * 1-5", "UTC", seconds(60)).unwrap(),
            ],
            ramp: vec![
                RampStep { percent: 10, duration: seconds(300) },
                RampStep { percent: 50, duration: seconds(600) },
            ],
        },
        objectives: Objectives {
            recovery_time: Some(seconds(30)),
            delivery_time: Some(seconds(5)),
            success: Some(Share::from_parts_per_million(980_000)),
            availability: Some(Share::from_parts_per_million(999_500)),
            window: Duration::from_hours(168),
        },
        deliveries: DeliveryThresholds { consecutive: 5, lasting: seconds(90) },
        breaker: Breaker { consecutive: 2, first_pause: seconds(10), longest_pause: seconds(120) },
        drills: mail_failover_core::model::Drills { stay: seconds(30), ..Default::default() },
    };
    assert_eq!(parsed(&spec), Ok(expected));
}

#[test]
fn one_failure_about_account_allowance_or_login_is_enough_unless_the_list_says_otherwise() {
    let immediate = |failure: Value| {
        let policy = parsed(&json!({ "failure": failure })).unwrap();
        policy.thresholds.immediate.iter().map(EvidenceClass::as_str).collect::<Vec<_>>()
    };
    assert_eq!(immediate(json!({})), ["QuotaExhausted", "AuthenticationRefused", "AccountPaused"]);
    assert_eq!(immediate(json!({"immediately": []})), Vec::<&str>::new());
    assert_eq!(immediate(json!({"immediately": ["Reputation"]})), ["Reputation"]);
}

#[test]
fn each_immediate_class_of_the_schema_is_the_evidence_class_of_that_name() {
    let names = [
        "AuthenticationRefused",
        "AccountPaused",
        "QuotaExhausted",
        "Reputation",
        "Permanent",
        "CertificateInvalid",
        "Unresolvable",
    ];
    for name in names {
        let policy = parsed(&json!({"failure": {"immediately": [name]}})).unwrap();
        let classes: Vec<_> = policy.thresholds.immediate.iter().map(EvidenceClass::as_str).collect();
        assert_eq!(classes, [name]);
    }
}

/// A policy whose third failback window is this one.
fn third_window(window: &Value) -> Value {
    let sound = json!({"schedule": "0 2 * * *", "duration": "1h"});
    json!({"failback": {"windows": [sound, sound, window]}})
}

#[test]
fn what_the_schema_cannot_see_is_rejected_with_the_field_and_the_remedy() {
    let rejected = [
        (
            json!({"schedule": "0 2 * * *", "timeZone": "Europe/Atlantis", "duration": "1h"}),
            "spec.failback.windows[2].timeZone: the IANA time zone database has no `Europe/Atlantis`; use a name such as Europe/Berlin",
        ),
        (
            json!({"schedule": "61 2 * * *", "duration": "1h"}),
            "spec.failback.windows[2].schedule: `61 2 * * *` is no crontab of five fields: ",
        ),
        (
            json!({"schedule": "0 2 * * * *", "duration": "1h"}),
            "spec.failback.windows[2].schedule: `0 2 * * * *` is no crontab of five fields: ",
        ),
        (
            json!({"schedule": "0 2 30 2 *", "duration": "1h"}),
            "spec.failback.windows[2].schedule: `0 2 30 2 *` names a day that never comes; correct the day or the month",
        ),
    ];
    for (window, expected) in rejected {
        let rejection = parsed(&third_window(&window)).unwrap_err();
        assert_eq!(rejection.reason, "InvalidSpec");
        assert!(rejection.is_of_spec());
        assert!(rejection.message.starts_with(expected), "{}", rejection.message);
        assert!(!rejection.message.contains('\n'), "{}", rejection.message);
    }
}

#[test]
fn what_an_old_schema_lets_pass_is_rejected_all_the_same() {
    let window = |field: &str, value: Value| {
        let mut window = json!({"duration": "1m", "minimumSamples": 20, "failurePercent": 50});
        window[field] = value;
        json!({"failure": {"window": window}})
    };
    let latency = |field: &str, value: Value| {
        let mut latency = json!({"percentile": 95, "above": "5s", "for": "1m"});
        latency[field] = value;
        json!({"failure": {"latency": latency}})
    };
    let budget = |switches: i32, per: &str| json!({"hold": {"budget": {"switches": switches, "per": per}}});
    let ramp = |first: i32, second: i32, time: &str| json!({"failback": {"ramp": [{"percent": first, "for": "1m"}, {"percent": second, "for": time}]}});
    let rejected = [
        (json!({"failure": {"consecutive": 0}}), "spec.failure.consecutive: 0 is not between 1 and 1000"),
        (json!({"failure": {"lasting": "2h"}}), "spec.failure.lasting: 7200s is not between 0ns and 3600s"),
        (json!({"recovery": {"consecutive": -1}}), "spec.recovery.consecutive: -1 is not between 1 and 1000"),
        (window("duration", json!("0s")), "spec.failure.window.duration: 0ns is not between 1s and 86400s"),
        (window("minimumSamples", json!(0)), "spec.failure.window.minimumSamples: 0 is not between 1 and 10000"),
        (window("failurePercent", json!(300)), "spec.failure.window.failurePercent: 300 is not between 1 and 100"),
        (latency("percentile", json!(100)), "spec.failure.latency.percentile: 100 is not between 1 and 99"),
        (latency("above", json!("0s")), "spec.failure.latency.above: 0ns is not between 1ns and 300s"),
        (latency("for", json!("25h")), "spec.failure.latency.for: 90000s is not between 1s and 86400s"),
        (budget(11, "1h"), "spec.hold.budget.switches: 11 is not between 1 and 10"),
        (budget(1, "0s"), "spec.hold.budget.per: 0ns is not between 1s and 604800s"),
        (
            third_window(&json!({"schedule": "0 2 * * *", "duration": "1s"})),
            "spec.failback.windows[2].duration: 1s is not between 60s and 604800s",
        ),
        (ramp(10, 100, "1m"), "spec.failback.ramp[1].percent: 100 is not between 1 and 99"),
        (
            ramp(10, 10, "1m"),
            "spec.failback.ramp[1].percent: 10 is no more than in the step before; percentages increase",
        ),
        (ramp(10, 20, "0s"), "spec.failback.ramp[1].for: 0ns is not between 1s and 604800s"),
        (
            json!({"objectives": {"availability": "100"}}),
            "spec.objectives.availability: `100` is no percentage from 50 to below 100; write it like 99.9",
        ),
        (json!({"objectives": {"window": "1m"}}), "spec.objectives.window: 60s is not between 3600s and 7776000s"),
        (
            json!({"objectives": {"recoveryTime": "0s"}}),
            "spec.objectives.recoveryTime: 0ns is not between 1s and 86400s",
        ),
        (
            json!({"failure": {"deliveries": {"consecutive": 0}}}),
            "spec.failure.deliveries.consecutive: 0 is not between 1 and 1000",
        ),
        (json!({"breaker": {"consecutive": 0}}), "spec.breaker.consecutive: 0 is not between 1 and 1000"),
        (
            json!({"breaker": {"firstPause": "2m"}}),
            "spec.breaker.firstPause: 120s exceeds spec.breaker.longestPause, 60s",
        ),
        (
            json!({"failure": {"deliveries": {"lasting": "61m"}}}),
            "spec.failure.deliveries.lasting: 3660s is not between 0ns and 3600s",
        ),
    ];
    for (spec, expected) in rejected {
        assert_eq!(parsed(&spec), Err(Rejection { reason: "InvalidSpec", message: expected.to_owned() }), "{spec}");
    }
}

#[test]
fn the_time_that_failures_span_follows_from_their_number_unless_it_is_given() {
    let thresholds = |failure| {
        let spec = serde_json::from_value(json!({"failure": failure})).unwrap();
        let thresholds = policy(&spec).unwrap().thresholds;
        (thresholds.failure, thresholds.must_last(Duration::from_secs(10)).as_secs())
    };
    assert_eq!(thresholds(json!({})), (6, 50));
    assert_eq!(thresholds(json!({"consecutive": 3})), (3, 20));
    assert_eq!(thresholds(json!({"lasting": "15s"})), (6, 15));
    assert_eq!(thresholds(json!({"consecutive": 3, "lasting": "0s"})), (3, 0));
}
