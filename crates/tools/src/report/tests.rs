use std::time::Duration;

use serde_json::json;

use super::collect::Collected;
use super::event::ReportedEvent;
use super::page::{Block, page};
use super::prometheus::{PrometheusAnswers, PrometheusError, note, samples};
use super::render::{html, markdown};
use crate::manifests::{Objects, parse};
use mail_failover_core::model::{ObjectKey, Timestamp};

const DUMP: &str = include_str!("../../tests/data/report/shop.yaml");

fn at(text: &str) -> Timestamp {
    Timestamp::from_micros(text.parse::<jiff::Timestamp>().unwrap().as_microsecond())
}

/// Noon of the last day, and thirty days before.
fn period() -> (Timestamp, Timestamp) {
    let until = at("2026-11-30T12:00:00Z");
    (until - Duration::from_hours(24 * 30), until)
}

fn collected() -> Collected {
    let manifests = parse("shop.yaml", DUMP).unwrap();
    let Objects { routes, backends, .. } = Objects::of(&manifests).unwrap();
    let events = manifests.iter().filter_map(|manifest| ReportedEvent::of_dump(manifest.value())).collect();
    Collected { routes, backends, events, events_missing: None, prometheus: None }
}

fn text(collected: &Collected) -> String {
    let (since, until) = period();
    markdown(&page(collected, since, until))
}

#[test]
fn a_report_tells_each_time_of_each_transition_against_the_objectives() {
    let text = text(&collected());
    for line in [
        "From 2026-10-31T12:00:00Z to 2026-11-30T12:00:00Z. MailRoutes: 1. SendingBackends: 2.",
        "| shop/orders | FailedOver | 99.93% | 98.8% | 1 | 0 | 52.4 s | 3 |",
        "| shop/orders | RecoveryTime | 30s | 52.4s | Missed | – | 720h, at 2026-11-24T08:00:00Z |",
        "| shop/orders | Availability | 99.9% | 99.93% | Met | 30% | 720h, at 2026-11-24T08:00:00Z |",
        "| 2026-11-24T07:45:52Z | shop/orders | Failover ses-eu → sendgrid | NoAnswer | 52.0 s | 0.4 s | 0.6 s |",
        "| 2026-11-24T07:45:52Z | MailRoute shop/orders | Warning | FailedOver | ses-eu → sendgrid: NoAnswer |",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
}

#[test]
fn what_no_source_reaches_is_named() {
    let mut collected = collected();
    let told = text(&collected);
    assert!(told.contains("Prometheus was not asked"), "{told}");
    assert!(told.contains("Events before 2026-11-24T07:45:52Z: the API server keeps them for an hour"), "{told}");
    let status = collected.routes[0].status.as_mut().unwrap();
    let one = status.history[0].clone();
    status.history = vec![one; 10];
    let told = text(&collected);
    let forgotten = "Transitions of shop/orders before 2026-11-24T07:45:52Z: a route remembers its latest 10; they are not counted.";
    assert!(told.contains(forgotten), "{told}");
    collected.prometheus = Some(Err(PrometheusError::Refused("too many samples".to_owned())));
    assert!(text(&collected).contains("Prometheus was asked in vain: it refuses the question: too many samples."));
    let late = PrometheusAnswers { reaches_back_to: Some(at("2026-11-20T00:00:00Z")), ..PrometheusAnswers::default() };
    collected.prometheus = Some(Ok(late));
    assert!(text(&collected).contains("from 2026-11-20T00:00:00Z on only"));
}

/// The route with so many drills, a day apart, the latest of which began on the last day.
fn drilled(collected: &mut Collected, count: u32) {
    let drills = (0..count).map(|number| {
        let began_at = period().1 - Duration::from_hours(24) * number;
        json!({"id": number.to_string(), "mode": "Shadow", "trigger": "Schedule", "outcome": "Failed",
            "reason": "StandbyFailed", "message": format!("night {number}: 535 <no>"), "startedAt": began_at.to_string(),
            "endedAt": began_at.to_string()})
    });
    let history: Vec<_> = drills.collect();
    let status = collected.routes[0].status.as_mut().unwrap();
    status.drills = Some(serde_json::from_value(json!({"history": history})).unwrap());
}

#[test]
fn drills_are_told_and_those_that_a_route_has_forgotten_are_named() {
    let mut collected = collected();
    assert!(!text(&collected).contains("## Drills"));
    drilled(&mut collected, 2);
    let told = text(&collected);
    let row = r"| 2026-11-29T12:00:00Z | shop/orders | Shadow | Failed (StandbyFailed) | night 1: 535 \<no\> |";
    assert!(told.contains("## Drills") && told.contains(row), "{told}");
    assert!(!told.contains("Drills of shop/orders before"), "it remembers all of them: {told}");
    drilled(&mut collected, 5);
    let told = text(&collected);
    let forgotten =
        "Drills of shop/orders before 2026-11-26T12:00:00Z: a route remembers its latest 5; they are not counted.";
    assert!(told.contains(forgotten), "{told}");
    let drills = collected.routes[0].status.as_mut().unwrap().drills.as_mut().unwrap();
    drills.history[0].outcome = "Skipped".to_owned();
    assert!(!text(&collected).contains("Drills of shop/orders before"), "one was skipped: it displaces none");
    drilled(&mut collected, 5);
    let (_, until) = period();
    let told = markdown(&page(&collected, until - Duration::from_hours(12), until));
    assert!(told.contains("night 0") && !told.contains("night 1"), "{told}");
    assert!(!told.contains("Drills of shop/orders before"), "five reach back to the start of this time: {told}");
}

#[test]
fn a_share_of_another_time_than_the_reports_names_its_window() {
    let (_, until) = period();
    let told = markdown(&page(&collected(), until - Duration::from_hours(24), until));
    let row = "| shop/orders | FailedOver | 99.93% (over 720h) | 98.8% (over 720h) | 0 | 0 | – | 3 (over 720h) |";
    assert!(told.contains(row), "{told}");
}

#[test]
fn rows_that_a_table_has_no_room_for_are_counted_in_the_last_section() {
    let mut collected = collected();
    let mut routes = vec![];
    for number in 0..250 {
        let mut route = collected.routes[0].clone();
        route.metadata.name = Some(format!("r{number:03}"));
        route.status.as_mut().unwrap().objectives = None;
        routes.push(route);
    }
    collected.routes = routes;
    let told = text(&collected);
    assert!(told.contains("| shop/r199 | FailedOver") && !told.contains("| shop/r200 | FailedOver"), "the first ones");
    for line in [
        "| … 50 further rows are left out |",
        "| … 50 earlier rows are left out |",
        "- 50 rows of the section Routes: a table has 200.",
        "- 50 rows of the section Transitions: a table has 200.",
    ] {
        assert!(told.contains(line), "{line} is not in\n{told}");
    }
    let all = self::collected();
    assert!(!text(&all).contains("rows of the section"));
}

#[test]
fn prometheus_fills_in_what_status_has_forgotten() {
    let mut answers = PrometheusAnswers { reaches_back_to: Some(period().0), ..PrometheusAnswers::default() };
    let answer = |value: &str| {
        format!(
            r#"{{"status":"success","data":{{"resultType":"vector","result":[{{"metric":{{"namespace":"shop","route":"orders"}},"value":[1,"{value}"]}}]}}}}"#
        )
    };
    for sample in samples(&answer("0.9995")).unwrap() {
        note(&mut answers, &sample, |numbers| &mut numbers.availability);
    }
    for sample in samples(&answer("14")).unwrap() {
        note(&mut answers, &sample, |numbers| &mut numbers.failovers);
    }
    for sample in samples(&answer("NaN")).unwrap() {
        note(&mut answers, &sample, |numbers| &mut numbers.deferred);
    }
    assert_eq!(answers.routes[0].0, ObjectKey::new("shop", "orders"));
    let mut collected = collected();
    collected.prometheus = Some(Ok(answers));
    let told = text(&collected);
    assert!(told.contains("| shop/orders | FailedOver | 99.950% | 98.8% | 14 | 0 |"), "{told}");
    let refused = samples(r#"{"status":"error","errorType":"bad_data","error":"parse error"}"#).unwrap_err();
    assert_eq!(refused.to_string(), "it refuses the question: parse error");
    samples("<html>").unwrap_err();
}

#[test]
fn nobody_who_writes_a_status_writes_markup() {
    let mut collected = collected();
    collected.events[0].note = "<script>alert(1)</script> | x\n# y \u{202e}".to_owned();
    let (since, until) = period();
    let page = page(&collected, since, until);
    let html = html(&page);
    assert!(html.contains("&lt;script&gt;") && !html.contains("<script"), "{html}");
    assert!(!html.contains('\u{202e}'));
    let markdown = markdown(&page);
    assert!(markdown.contains(r"\<script\>alert(1)\</script\> \| x \# y"), "{markdown}");
}

#[test]
fn a_page_of_html_is_whole() {
    let (since, until) = period();
    let text = html(&page(&collected(), since, until));
    for tag in ["html", "body", "table", "ul", "h1", "h2"] {
        let (opened, closed) = (text.matches(&format!("<{tag}")).count(), text.matches(&format!("</{tag}>")).count());
        assert!(
            opened >= closed && closed > 0 && (tag == "html" || opened == closed || tag == "h2"),
            "{tag}: {opened} {closed}"
        );
    }
    assert!(text.contains(r#"<td class="Missed">Missed</td>"#));
    assert!(!text.contains("http"), "it refers to nothing outside");
}

#[test]
fn nothing_to_report_on_is_said() {
    let (since, until) = period();
    let page = page(&Collected::default(), since, until);
    assert!(matches!(page.last(), Some(Block::Paragraph(last)) if last.contains("no MailRoute")), "{page:?}");
}
