use mail_failover_api::MailRouteStatus;
use mail_failover_core::engine::testing::Fleet;
use mail_failover_core::engine::{
    Agreement, BlockedDrill, DrillInputs, DrillObstacles, RequestAction, TransitionTimes,
};
use serde_json::json;

use super::*;
use crate::policy;
use crate::route_memory::{memory, remember};

fn resolved(spec: &serde_json::Value) -> Result<Drills, Rejection> {
    policy(&serde_json::from_value(json!({ "drills": spec })).unwrap()).map(|policy| policy.drills)
}

#[test]
fn drills_have_the_documented_defaults_and_what_is_written() {
    assert_eq!(resolved(&json!({})).unwrap(), Drills::default());
    assert_eq!(policy(&api::FailoverPolicySpec::default()).unwrap().drills, Drills::default());
    let written = resolved(&json!({
        "schedule": "0 4 * * 1", "timeZone": "Europe/Berlin", "within": "2h", "mode": "Blocked", "stay": "30s",
        "longest": "5m", "budget": { "drills": 2, "per": "168h" },
    }));
    let window = CronWindow::new("0 4 * * 1", "Europe/Berlin", Duration::from_hours(2)).unwrap();
    assert_eq!(
        written.unwrap(),
        Drills {
            window: Some(window),
            mode: DrillMode::Blocked,
            stay: Duration::from_secs(30),
            longest: Duration::from_mins(5),
            budget: DrillBudget { drills: 2, per: Duration::from_hours(168) },
        }
    );
}

#[test]
fn a_defect_names_its_field() {
    for (spec, field, words) in [
        (json!({ "schedule": "0 4 30 2 *" }), "spec.drills.schedule", "never comes"),
        (json!({ "schedule": "61 4 * * *" }), "spec.drills.schedule", "no crontab"),
        (json!({ "schedule": "0 4 * * 1", "timeZone": "Europe/Atlantis" }), "spec.drills.timeZone", "Europe/Berlin"),
        (json!({ "stay": "10m" }), "spec.drills.stay", "not shorter"),
        (json!({ "schedule": "0 4 * * 1", "within": "5m" }), "spec.drills.longest", "within its window"),
        (json!({ "longest": "2h" }), "spec.drills.longest", "3600s"),
        (json!({ "budget": { "drills": 6, "per": "1h" } }), "spec.drills.budget.drills", "5"),
    ] {
        let Rejection { message, .. } = resolved(&spec).unwrap_err();
        assert!(message.contains(field) && message.contains(words), "{message}");
    }
}

#[test]
fn a_drill_is_overdue_after_two_windows_in_which_none_has_passed() {
    let at = |text: &str| timestamp(&serde_json::from_value(json!(text)).unwrap());
    let window = CronWindow::new("0 4 * * 1", "UTC", Duration::from_hours(1)).unwrap();
    let now = at("2026-12-01T12:00:00.000000Z");
    let mut log = DrillLog { scheduled_since: Some(now), ..DrillLog::default() };
    let next = Some(at("2026-12-07T04:00:00.000000Z"));
    assert_eq!(schedule_of(&window, &log, now), (next, Some(at("2026-12-14T05:00:00.000000Z"))));
    log.passed_at = Some(at("2026-12-07T04:05:00.000000Z"));
    let (_, overdue_at) = schedule_of(&window, &log, at("2026-12-08T00:00:00.000000Z"));
    assert_eq!(overdue_at, Some(at("2026-12-21T05:00:00.000000Z")));
}

/// A drill from its request to its end: after each decision a successor that reads the status remembers the same.
#[test]
fn nothing_of_a_drill_is_lost_between_a_decision_and_its_status() {
    for mode in [DrillMode::Observed, DrillMode::Blocked, DrillMode::Shadow] {
        let mut fleet = Fleet::of("a+ b+").on("a");
        let mut status = MailRouteStatus::default();
        fleet.decide(100);
        let settle = |fleet: &mut Fleet, status: &mut MailRouteStatus, seconds: u64| {
            let times: Vec<_> = fleet.memory.history.iter().map(|transition| transition.id).collect();
            let times = times.into_iter().map(|id| TransitionTimes {
                id,
                applied_at: Some(Timestamp::from_micros(1)),
                first_delivery_at: None,
            });
            let times: Vec<_> = times.collect();
            let inputs = DrillInputs {
                elsewhere: &DrillObstacles::NONE,
                times: &times,
                has_agents: false,
                blocked: BlockedDrill::default(),
                rounds: &[],
                observers: Agreement::default(),
            };
            let decision = fleet.decide_with(seconds, Some(inputs));
            let before = std::mem::take(status);
            remember(&decision.memory, &before, status);
            *status = serde_json::from_str(&serde_json::to_string(&status).unwrap()).unwrap();
            assert_eq!(memory(status), decision.memory, "{mode:?} at {seconds}");
            fleet.memory = memory(status);
        };
        settle(&mut fleet, &mut status, 100);
        fleet.ask("1", RequestAction::Drill { mode: Some(mode), duration: None, is_forced: false });
        for seconds in [101, 110, 121, 122, 150, 200, 701, 702, 900] {
            settle(&mut fleet, &mut status, seconds);
        }
        assert_eq!(fleet.memory.drills.records.len(), 1, "{mode:?}");
    }
}
