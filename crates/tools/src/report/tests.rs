use std::time::Duration;

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
