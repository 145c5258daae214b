//! Over real TLS, to a server of ours; what it is told is taken for granted there.

use std::io::Write as _;

use super::*;
use crate::model::EvidenceClass;
use crate::reports::tests::{Taking, start};

const SOON: Duration = Duration::from_secs(10);

fn backends(word: Word) -> BTreeMap<Arc<str>, BackendDeliveries> {
    let deliveries =
        BackendDeliveries { word, is_left: false, sent: 1, deferred: 2, bounced: 3, possible_duplicates: 4 };
    [("ses-eu".into(), deliveries)].into()
}

fn failing(now: Timestamp) -> Word {
    Word::Failing(FailingDeliveries {
        class: EvidenceClass::AccountPaused,
        message: "554 Sending paused for anna@shop.example".into(),
        first_failure_at: now - Duration::from_secs(2),
        last_failure_at: now - Duration::from_secs(1),
    })
}

fn state(operators: &[&Taking], word: Word) -> ReportState {
    ReportState {
        route: RouteReference { namespace: "shop".to_owned(), name: "orders".to_owned(), uid: "u".to_owned() },
        operators: operators.iter().map(|taking| taking.endpoint.clone()).collect(),
        backends: backends(word),
        last_switch: None,
    }
}

struct Reporting {
    reporter: Reporter,
    clock: Clock,
    token: tempfile::NamedTempFile,
    _end: tokio_util::sync::DropGuard,
}

fn reporting(heartbeat: Duration) -> Reporting {
    let mut token = tempfile::NamedTempFile::new().unwrap();
    token.write_all(b"postfix\n").unwrap();
    let (clock, shutdown) = (Clock::system(), CancellationToken::new());
    let settings = Settings { agent: "postfix-0".to_owned(), token_file: Some(token.path().to_owned()), heartbeat };
    let metrics = Metrics::new(&mut Registry::default());
    let (reporter, _task) = Reporter::start(settings, clock, metrics, shutdown.clone());
    Reporting { reporter, clock, token, _end: shutdown.drop_guard() }
}

#[tokio::test]
async fn news_goes_to_every_replica_at_once_and_everything_again_with_the_heartbeat() {
    let (mut one, mut two) = (start().await, start().await);
    let reporting = reporting(Duration::from_millis(600));
    let begun = Instant::now();
    reporting.reporter.publish(state(&[&one, &two], failing(reporting.clock.now())));
    for taking in [&mut one, &mut two] {
        let report = timeout(SOON, taking.reports.recv()).await.unwrap().unwrap();
        assert_eq!((&*report.agent.name, report.sequence), ("postfix-0", 1));
        let Word::Failing(failing) = &report.backends["ses-eu"].word else { panic!("{report:?}") };
        assert_eq!(failing.class, EvidenceClass::AccountPaused);
        assert_eq!(&*failing.message, "554 Sending paused for <address>");
        let age = Clock::system().now().since(failing.last_failure_at);
        assert!(age >= Duration::from_secs(1) && age < Duration::from_secs(4), "{age:?}");
        assert_eq!(report.backends["ses-eu"].possible_duplicates, 4);
    }
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(2), "{took:?}");
    let again = timeout(SOON, one.reports.recv()).await.unwrap().unwrap();
    assert_eq!(again.sequence, 2, "a heartbeat");
    assert!(begun.elapsed() > Duration::from_millis(500), "{:?}", begun.elapsed());
    let status = reporting.reporter.status();
    assert_eq!((status.nothing_sent, status.replicas.len()), (None, 2));
    assert!(status.replicas.values().all(|replica| replica.accepted_at.is_some() && replica.error.is_none()));
}

#[tokio::test]
async fn a_replica_that_is_gone_delays_no_other_and_is_told_when_it_is_back() {
    let mut there = start().await;
    let mut gone = start().await;
    let reporting = reporting(HEARTBEAT);
    // The token is good to one of them only when it is renewed.
    std::fs::write(reporting.token.path(), "secret-token").unwrap();
    gone.endpoint.certificate_sha256 = "0".repeat(64);
    reporting.reporter.publish(state(&[&there, &gone], Word::Passing));
    let refused = async {
        loop {
            let status = reporting.reporter.status();
            let errors: Vec<_> = status.replicas.values().filter_map(|replica| replica.error.clone()).collect();
            if errors.len() == 2 {
                return errors.join("\n");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let errors = timeout(SOON, refused).await.unwrap();
    assert!(errors.contains("401") && errors.contains("fingerprint") && !errors.contains("secret"), "{errors}");
    std::fs::write(reporting.token.path(), "postfix").unwrap();
    let report = timeout(SOON, there.reports.recv()).await.unwrap().unwrap();
    assert_eq!(report.backends["ses-eu"].word, Word::Passing);
    assert!(gone.reports.try_recv().is_err());
}

#[tokio::test]
async fn without_a_token_file_or_a_replica_the_status_says_so() {
    let metrics = Metrics::new(&mut Registry::default());
    let settings = Settings { agent: "a".to_owned(), token_file: None, heartbeat: HEARTBEAT };
    let (reporter, _task) = Reporter::start(settings, Clock::system(), metrics, CancellationToken::new());
    assert!(reporter.status().nothing_sent.unwrap().contains("--token-file"));
    let reporting = reporting(HEARTBEAT);
    assert!(reporting.reporter.status().nothing_sent.unwrap().contains("no document"));
    reporting.reporter.publish(state(&[], Word::Passing));
    let named = async {
        while !reporting.reporter.status().nothing_sent.is_some_and(|why| why.contains("names no replica")) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(SOON, named).await.unwrap();
}

#[test]
fn a_turn_is_news_and_a_count_is_none() {
    let now = Timestamp::from_micros(1_000_000_000);
    let state = |backends| ReportState {
        route: RouteReference { namespace: "shop".to_owned(), name: "orders".to_owned(), uid: "u".to_owned() },
        operators: vec![],
        backends,
        last_switch: None,
    };
    let passing = state(backends(Word::Passing));
    let mut counted = passing.clone();
    counted.backends.values_mut().for_each(|deliveries| deliveries.sent += 1);
    assert!(!counted.is_news_after(&passing));
    let failed = state(backends(failing(now)));
    assert!(failed.is_news_after(&passing) && passing.is_news_after(&failed));
    assert!(!state(backends(failing(now + Duration::from_secs(1)))).is_news_after(&failed), "a further failure");
    assert!(state(backends(Word::Silent)).is_news_after(&passing));
    let mut left = failed.clone();
    left.backends.values_mut().for_each(|deliveries| deliveries.is_left = true);
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
