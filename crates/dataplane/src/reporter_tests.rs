//! Tests of news. `crates/mail-failover/tests/reports.rs` has the tests over real TLS.

use mail_failover_core::model::EvidenceClass;

use super::*;

fn backends(verdict: DeliveryVerdict) -> BTreeMap<Arc<str>, BackendDeliveries> {
    let deliveries = BackendDeliveries {
        verdict,
        is_bypassed: false,
        sent: 1,
        deferred: 2,
        bounced: 3,
        possible_duplicates: 4,
        diverted: 0,
    };
    [("ses-eu".into(), deliveries)].into()
}

fn failing(now: Timestamp) -> DeliveryVerdict {
    DeliveryVerdict::Failing(FailingDeliveries {
        class: EvidenceClass::AccountPaused,
        message: "554 Sending paused for anna@shop.example".into(),
        first_failure_at: now - Duration::from_secs(2),
        last_failure_at: now - Duration::from_secs(1),
        stage: None,
    })
}

#[test]
fn a_turn_is_news_and_a_count_is_none() {
    let now = Timestamp::from_micros(1_000_000_000);
    let state = |backends| ReportState {
        route: RouteReference { namespace: "shop".to_owned(), name: "orders".to_owned(), uid: "u".to_owned() },
        operators: vec![],
        backends,
        last_switch: None,
        kept: None,
        queue: None,
        drill: None,
    };
    let passing = state(backends(DeliveryVerdict::Passing));
    let mut counted = passing.clone();
    counted.backends.values_mut().for_each(|deliveries| deliveries.sent += 1);
    assert!(!counted.is_news_after(&passing));
    let failed = state(backends(failing(now)));
    assert!(failed.is_news_after(&passing) && passing.is_news_after(&failed));
    assert!(!state(backends(failing(now + Duration::from_secs(1)))).is_news_after(&failed), "a further failure");
    assert!(state(backends(DeliveryVerdict::Silent)).is_news_after(&passing));
    let mut left = failed.clone();
    left.backends.values_mut().for_each(|deliveries| deliveries.is_bypassed = true);
    assert!(left.is_news_after(&failed));
    let switched = |first_delivery_at| SwitchedMail {
        transition: Some(1),
        queue_before: 5,
        queue_after: 0,
        first_delivery_at,
        first_delivery_after: None,
        possible_duplicates: 0,
    };
    let before = ReportState { last_switch: Some(switched(None)), ..passing.clone() };
    let after = ReportState { last_switch: Some(switched(Some(now))), ..passing.clone() };
    assert!(before.is_news_after(&passing) && after.is_news_after(&before));
}

#[test]
fn throttling_is_told_beside_a_word_that_an_older_operator_understands() {
    let now = Timestamp::from_micros(1_000_000_000);
    let throttled = DeliveryVerdict::Throttled(ThrottledDeliveries {
        message: "454 slow down, anna@shop.example".into(),
        first_at: now - Duration::from_secs(301),
        last_at: now - Duration::from_secs(1),
    });
    let told = backend_report("ses-eu", &backends(throttled)["ses-eu"], now);
    assert_eq!((told.verdict, told.failure), (report::ReportedVerdict::Silent, None));
    let throttling = told.throttling.unwrap();
    assert_eq!((throttling.first_milliseconds, throttling.last_milliseconds), (301_000, 1_000));
    assert_eq!(throttling.message, "454 slow down, <address>");
}
