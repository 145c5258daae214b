use prometheus_client::encoding::text::encode;

use super::*;
use mail_failover_api::conditions::reason;
use mail_failover_api::{ActiveBackend, DivertedStatus, RouteBackendStatus};

/// A line of what is exposed after `show`.
fn line(show: impl FnOnce(&Metrics), name: &str) -> Option<String> {
    let mut registry = Registry::default();
    show(&Metrics::new(&mut registry));
    let mut text = String::new();
    encode(&mut text, &registry).unwrap();
    text.lines().find(|line| line.starts_with(name)).map(str::to_owned)
}

fn status(state: RouteState, ready: Option<(&str, &str)>) -> MailRouteStatus {
    let conditions = ready.map(|(status, reason)| {
        let condition = serde_json::json!({ "type": condition::READY, "status": status, "reason": reason, "message": "",
            "lastTransitionTime": "2026-11-30T00:00:00Z" });
        serde_json::from_value(condition).unwrap()
    });
    let active = vec![ActiveBackend { backend: "ses".to_owned(), percent: 100, overflow: false }];
    MailRouteStatus { state: Some(state), active, conditions: conditions.into_iter().collect(), ..Default::default() }
}

/// The status with a verdict about the backend that carries the mail.
fn judged(status: MailRouteStatus, health: Health) -> MailRouteStatus {
    let backend = RouteBackendStatus { name: "ses".to_owned(), health, reason: String::new(), since: None };
    MailRouteStatus { backends: vec![backend], ..status }
}

/// The status while messages try the carrier last.
fn diverted(status: MailRouteStatus) -> MailRouteStatus {
    let since = mail_failover_resolve::time::micro_time(mail_failover_core::model::Timestamp::default());
    MailRouteStatus { diverted: vec![DivertedStatus { backend: "ses".to_owned(), since }], ..status }
}

/// The status while a backend that has left the list carries the mail.
fn removed(status: MailRouteStatus) -> MailRouteStatus {
    let active = vec![ActiveBackend { backend: "gone".to_owned(), percent: 100, overflow: false }];
    MailRouteStatus { active, ..status }
}

#[test]
fn a_route_delivers_unless_its_mail_stands_still() {
    let route = ObjectKey::new("shop", "orders");
    for (state, ready, expected) in [
        (RouteState::Preferred, Some(("True", "Preferred")), 1),
        (RouteState::FailedOver, None, 1),
        (RouteState::Holding, Some(("False", reason::HELD_ON_DEAD_BACKEND)), 0),
        (RouteState::Holding, Some(("False", reason::AWAITING_CONFIRMATION)), 0),
        (RouteState::Holding, Some(("False", "OutputsNotApplied")), 1),
        (RouteState::NoneHealthy, Some(("False", reason::NONE_HEALTHY)), 0),
        (RouteState::NoneHealthy, None, 0),
    ] {
        let shown =
            line(|metrics| metrics.show_route(&route, &status(state, ready)), "mail_failover_route_delivering{");
        let value = format!("mail_failover_route_delivering{{namespace=\"shop\",route=\"orders\"}} {expected}");
        assert_eq!(shown, Some(value), "{state:?} {ready:?}");
    }
    // Other defects may stand first in `Ready`.
    let missing = Some(("False", reason::BACKEND_NOT_FOUND));
    for (what, status, expected) in [
        ("dead", judged(status(RouteState::Holding, missing), Health::Unhealthy), 0),
        ("alive", judged(status(RouteState::Holding, missing), Health::Healthy), 1),
        ("passed by", diverted(judged(status(RouteState::Holding, missing), Health::Unhealthy)), 1),
        ("removed", removed(judged(status(RouteState::Holding, missing), Health::Healthy)), 0),
        ("left", judged(status(RouteState::FailedOver, missing), Health::Unhealthy), 1),
    ] {
        let shown = line(|metrics| metrics.show_route(&route, &status), "mail_failover_route_delivering{");
        let value = format!("mail_failover_route_delivering{{namespace=\"shop\",route=\"orders\"}} {expected}");
        assert_eq!(shown, Some(value), "{what}");
    }
    let unused =
        line(|metrics| metrics.show_route(&route, &MailRouteStatus::default()), "mail_failover_route_delivering{");
    assert_eq!(unused, None, "nobody expects mail before the first choice");
    let show = |metrics: &Metrics| {
        metrics.show_route(&route, &status(RouteState::Preferred, None));
        metrics.forget_route(&route, ["ses".into()].into_iter());
    };
    assert_eq!(line(show, "mail_failover_route_delivering{"), None, "a route that is gone");
}

#[test]
fn the_drift_of_the_clock_is_shown_in_seconds_and_with_its_sign() {
    for (micros, expected) in [(1_500_000, "1.5"), (-250_000, "-0.25"), (0, "0.0")] {
        let shown =
            line(|metrics| metrics.clock_drift(ClockDrift::from_micros(micros)), "mail_failover_clock_drift_seconds");
        assert_eq!(shown, Some(format!("mail_failover_clock_drift_seconds {expected}")));
    }
}
