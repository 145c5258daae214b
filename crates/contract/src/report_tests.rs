use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::testing::example;

fn parse(report: &Value) -> Result<DeliveryReport, String> {
    DeliveryReport::parse(report.to_string().as_bytes()).map_err(|refusal| refusal.to_string())
}

#[test]
fn a_report_survives_the_way() {
    let report = parse(&example()).unwrap();
    assert_eq!(report.backends[0].failure.as_ref().unwrap().class(), EvidenceClass::AccountPaused);
    assert_eq!(DeliveryReport::parse(&serde_json::to_vec(&report).unwrap()), Ok(report));
}

#[test]
fn fields_of_a_newer_agent_are_no_error_and_its_classes_count_neither_way() {
    let mut newer = example();
    newer["mood"] = json!("good");
    newer["backends"][0]["failure"]["class"] = json!("Sulking");
    let report = parse(&newer).unwrap();
    assert_eq!(report.backends[0].failure.as_ref().unwrap().class(), EvidenceClass::Inconclusive);
}

#[test]
fn a_drill_is_reported_and_a_state_of_a_newer_agent_is_over() {
    let mut drilled = example();
    drilled["drill"] = json!({"id": "drill-7", "state": "Refusing", "refused": 3, "begunMilliseconds": 10});
    let report = parse(&drilled).unwrap();
    assert_eq!(DeliveryReport::parse(&serde_json::to_vec(&report).unwrap()), Ok(report.clone()));
    assert_eq!(report.drill.unwrap().state(), DrillState::Refusing);
    drilled["drill"]["state"] = json!("Dreaming");
    assert_eq!(parse(&drilled).unwrap().drill.unwrap().state(), DrillState::Over);
    drilled["drill"]["id"] = json!("two words");
    assert!(parse(&drilled).unwrap_err().starts_with("drill.id: "));
}

#[test]
fn a_report_of_an_earlier_agent_says_word_for_verdict() {
    let mut earlier = example();
    for backend in earlier["backends"].as_array_mut().unwrap() {
        let verdict = backend.as_object_mut().unwrap().remove("verdict").unwrap();
        backend["word"] = verdict;
    }
    assert_eq!(parse(&earlier), parse(&example()));
}

#[test]
fn what_cannot_be_used_is_named() {
    for (pointer, value, wanted) in [
        ("/apiVersion", json!("v9"), "apiVersion \"v9\" is not"),
        ("/agent", json!(""), "agent: use 1 to 253"),
        ("/agent", json!("x".repeat(254)), "agent: use 1 to 253"),
        ("/process", json!("a\nb"), "process: use 1 to 253"),
        ("/sequence", json!(-1), "sequence: invalid value"),
        ("/backends/0/verdict", json!("Dying"), "backends[0].verdict: unknown variant"),
        ("/backends/0/failure", Value::Null, "backends[0].failure: it is needed"),
        ("/backends/0/failure/firstMilliseconds", json!("1"), "backends[0].failure.firstMilliseconds: invalid type"),
    ] {
        let mut report = example();
        *report.pointer_mut(pointer).unwrap() = value;
        let refusal = parse(&report).expect_err(pointer);
        assert!(refusal.contains(wanted), "{pointer}: {refusal}");
    }
    for (field, value) in [("about", "two words"), ("about", ""), ("backend", "a\nb"), ("backend", "")] {
        let mut report = example();
        report["kept"] = json!({"messages": 1, "oldestMilliseconds": 1, "about": "Quota", "backend": "ses-eu"});
        assert!(parse(&report).is_ok());
        report["kept"][field] = json!(value);
        assert!(parse(&report).unwrap_err().starts_with(&format!("kept.{field}: it is no name")));
    }
    let mut report = example();
    report["backends"] = json!(vec![json!({"name": "x", "verdict": "Silent"}); 101]);
    assert_eq!(parse(&report).unwrap_err(), "backends: there are 101; 100 are allowed");
}

#[test]
fn messages_tell_of_no_person_and_of_no_message() {
    for (text, wanted) in [
        ("554 5.7.1 <anna@shop.example>: rejected", "554 5.7.1 <address> rejected"),
        ("451 4.3.0 queued as 4bXy2k1zQ9z6", "451 4.3.0 queued as <id>"),
        ("450 (3F2A1B4C5D): try\r\nlater", "450 (<id>): try later"),
        ("host smtp1.ses-eu.example[192.0.2.1] said: 421", "host smtp1.ses-eu.example[192.0.2.1] said: 421"),
        ("Sending paused for this account", "Sending paused for this account"),
        ("550 \u{202e}gnp.exe\u{200b} \x1b[31m", "550 \\u{202e}gnp.exe\\u{200b} \\u{1b}[31m"),
    ] {
        assert_eq!(printable(text), wanted);
    }
}

#[test]
fn nothing_is_older_than_a_day() {
    assert_eq!(age(5), Duration::from_millis(5));
    assert_eq!(age(u64::MAX), MAX_AGE);
}

proptest! {
    #[test]
    fn any_text_becomes_one_short_printable_line(text in "\\PC{0,40}|[ -~\\x00-\\x1f]{0,600}|(.*@.*)|(?s:.){0,60}") {
        let line = printable(&text);
        prop_assert!(line.len() <= MAX_MESSAGE && !line.contains('@') && visible(&line) == line, "{line:?}");
        prop_assert_eq!(printable(&line), line.clone());
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = DeliveryReport::parse(&bytes);
    }
}
