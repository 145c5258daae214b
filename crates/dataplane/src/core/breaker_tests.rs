//! Tests of the breakers, in virtual time: of single events, and of mail that follows the lists.

use std::collections::BTreeMap;
use std::time::Duration;

use mail_failover_contract::routing::{BreakerPolicy, Routing, parse};
use mail_failover_core::model::{EvidenceClass, Timestamp};

use super::tests::{at, delivery, percents, started, switches};
use super::*;

const MILLISECOND: Duration = Duration::from_millis(1);
/// Time that a silent backend costs a message, as `agent postfix-config` sets it.
const GREETING: Duration = Duration::from_secs(20);

/// Three backends by the default policy; all are alternates, and the first is decided.
fn alternates() -> Routing {
    let backend = |(number, name): (usize, &&str)| {
        serde_json::json!({"name": name, "percent": if number == 0 { 100 } else { 0 }, "standby": true, "alternate": true,
            "host": "127.0.0.1", "port": number + 1, "tls": {"mode": "None"}})
    };
    let backends: Vec<_> = ["a", "b", "c"].iter().enumerate().map(backend).collect();
    let document = serde_json::json!({
        "apiVersion": "agent.mailfailover.io/v1alpha1", "route": {"namespace": "shop", "name": "orders", "uid": "u"},
        "decision": {"transition": 1}, "backends": backends,
        "deliveries": {"consecutive": 10, "lastingMilliseconds": 50_000, "immediately": ["AccountPaused"],
            "cooldownMilliseconds": 600_000},
    });
    parse(&document.to_string()).unwrap()
}

/// The backends that a message to this recipient tries, as letters.
fn order(core: &AgentCore, recipient: &str) -> String {
    let answers = core.answers().unwrap();
    answers.ways_for_recipient(recipient).iter().map(|backend| backend.name.to_string()).collect()
}

fn fail(core: &mut AgentCore, seconds: f64, class: EvidenceClass, message: u64) {
    core.handle(at(seconds), passed_on(0, class, message, MILLISECOND));
}

/// A delivery that failed, after which the message went on to another backend.
fn passed_on(backend: u16, class: EvidenceClass, message: u64, took: Duration) -> CoreInput {
    let CoreInput::LogEvent(LogEvent::Delivery(failed)) = delivery(backend, class, message, took) else {
        unreachable!("that is what it makes")
    };
    let disposition = if class == EvidenceClass::Ok { failed.disposition } else { Disposition::PassedOn };
    CoreInput::LogEvent(LogEvent::Delivery(Delivery { disposition, ..failed }))
}

#[test]
fn a_backend_that_keeps_failing_is_tried_last_and_nothing_is_decided() {
    let mut core = started(alternates());
    core.poll();
    for message in 0..3 {
        assert_eq!(order(&core, "x@example.net"), "abc");
        fail(&mut core, 1.0, EvidenceClass::ConnectionRefused, message);
    }
    assert_eq!(order(&core, "x@example.net"), "bca");
    assert_eq!(switches(&mut core), [], "a message that meets it goes on by itself");
    let view = core.view().unwrap();
    assert_eq!(percents(&core), [100, 0, 0]);
    assert_eq!(view.backends[0].breaker, Some(BreakerView { since: at(1.0), next_trial_at: Some(at(6.0)) }));
    assert_eq!(core.verdicts(), []);
}

#[test]
fn two_silences_are_enough_and_what_waits_for_them_is_freed() {
    let mut core = started(alternates());
    core.poll();
    fail(&mut core, 20.0, EvidenceClass::NoAnswer, 1);
    assert_eq!(order(&core, "x@example.net"), "abc");
    fail(&mut core, 20.1, EvidenceClass::NoAnswer, 2);
    assert_eq!(order(&core, "x@example.net"), "bca");
    let orders = switches(&mut core);
    let causes: Vec<_> = orders.iter().map(|order| order.cause.clone()).collect();
    assert_eq!(causes, [Cause::Opened { backend: "a".into(), class: EvidenceClass::NoAnswer }]);
    // Those that were under way free nothing more.
    for message in 3..23 {
        fail(&mut core, 21.0, EvidenceClass::NoAnswer, message);
    }
    assert_eq!(switches(&mut core), []);
}

#[test]
fn a_silent_backend_without_an_alternate_is_not_reloaded_for() {
    let mut routing = alternates();
    for backend in &mut routing.backends {
        backend.alternate = false;
    }
    let mut core = started(routing);
    core.poll();
    for message in 0..3 {
        fail(&mut core, 20.0, EvidenceClass::NoAnswer, message);
    }
    assert_eq!((switches(&mut core), order(&core, "x@example.net")), (vec![], "a".to_owned()));
}

#[test]
fn one_message_at_a_time_tries_it_again_with_pauses_that_grow_until_one_succeeds() {
    let mut core = started(alternates());
    for message in 0..3 {
        fail(&mut core, 1.0, EvidenceClass::ConnectionRefused, message);
    }
    let mut now = 1.0;
    for (number, pause) in [5.0, 10.0, 20.0, 40.0, 60.0, 60.0].into_iter().enumerate() {
        // Since then nothing waits for it: a timer of its own.
        let lost_at = 121.0;
        if (now..now + pause).contains(&lost_at) {
            assert_eq!(core.next_timeout(), Some(at(lost_at)), "trial {number}");
            core.handle_timeout(at(lost_at));
        }
        assert_eq!(core.next_timeout(), Some(at(now + pause)), "trial {number}");
        core.handle_timeout(at(now + pause - 0.1));
        assert_eq!(order(&core, "early@example.net"), "bca");
        now += pause;
        core.handle_timeout(at(now));
        // Failures of attempts that began before say nothing about the trial.
        core.handle(at(now + 0.1), delivery(0, EvidenceClass::NoAnswer, 500, GREETING));
        assert_eq!(order(&core, "trial@example.net"), "abc", "trial {number}");
        assert_eq!(order(&core, "other@example.net"), "bca", "one at a time");
        now += 1.0;
        fail(&mut core, now, EvidenceClass::ConnectionRefused, 1000 + number as u64);
        assert_eq!(order(&core, "after@example.net"), "bca");
    }
    core.handle_timeout(at(now + 60.0));
    assert_eq!(order(&core, "trial@example.net"), "abc");
    core.handle(at(now + 61.0), delivery(0, EvidenceClass::Ok, 2000, MILLISECOND));
    assert_eq!(order(&core, "other@example.net"), "abc");
    assert_eq!(core.view().unwrap().backends[0].breaker, None);
}

/// A core whose first backend is open, and gives a trial from second 6 on.
fn half_open() -> AgentCore {
    let mut core = started(alternates());
    for message in 0..3 {
        fail(&mut core, 1.0, EvidenceClass::ConnectionRefused, message);
    }
    core.handle_timeout(at(6.0));
    core
}

// Postfix asks before each session. Where it has begun one, the message may hang at the backend.
#[test]
fn a_trial_whose_message_hangs_is_given_to_another_one_after_three_minutes() {
    let mut core = half_open();
    assert_eq!(order(&core, "lost@example.net"), "abc");
    core.answers().unwrap().session_begins("a");
    for seconds in [7.0, 60.0, 185.9] {
        core.handle_timeout(at(seconds));
        assert_eq!(order(&core, "next@example.net"), "bca", "{seconds}");
    }
    assert_eq!(core.next_timeout(), Some(at(186.0)));
    core.handle_timeout(at(186.0));
    assert_eq!(order(&core, "next@example.net"), "abc");
}

// smtpd(8) asks for the sender, and for recipients that it refuses afterwards: neither is a delivery.
#[test]
fn a_question_that_no_session_follows_holds_the_trial_for_ten_seconds() {
    let mut core = half_open();
    assert_eq!(order(&core, "sender@example.org"), "abc");
    // A session with another backend is not of the trial.
    core.answers().unwrap().session_begins("b");
    core.handle_timeout(at(7.0));
    assert_eq!((order(&core, "next@example.net"), core.next_timeout()), ("bca".to_owned(), Some(at(17.0))));
    core.handle_timeout(at(17.0));
    assert_eq!(order(&core, "next@example.net"), "abc");
    assert_eq!(order(&core, "sender@example.org"), "bca", "one at a time");
}

#[test]
fn a_trial_that_nobody_takes_stays_and_the_one_who_takes_it_late_has_as_long() {
    let mut core = half_open();
    for seconds in [16.0, 26.0, 200.0] {
        core.handle_timeout(at(seconds));
        assert!(core.next_timeout().unwrap() > at(seconds), "{seconds}");
    }
    assert_eq!(order(&core, "late@example.net"), "abc");
    core.answers().unwrap().session_begins("a");
    core.handle_timeout(at(379.9));
    assert_eq!(order(&core, "next@example.net"), "bca");
    fail(&mut core, 380.0, EvidenceClass::NoAnswer, 9);
    assert_eq!(core.next_timeout(), Some(at(390.0)), "it counts as the trial's failure: a pause of 10 s");
}

#[test]
fn a_refused_recipient_ends_the_trial_and_the_next_message_has_it_at_once() {
    let mut core = half_open();
    assert_eq!(order(&core, "nobody@example.net"), "abc");
    core.answers().unwrap().session_begins("a");
    core.handle(at(6.5), passed_on(0, EvidenceClass::RecipientLevel, 9, MILLISECOND));
    assert_eq!(order(&core, "next@example.net"), "abc");
    assert_eq!(order(&core, "other@example.net"), "bca", "the breaker is still open");
    // Of an attempt that began before the trial.
    core.handle(at(6.6), passed_on(0, EvidenceClass::RecipientLevel, 10, GREETING));
    assert_eq!(order(&core, "other@example.net"), "bca");
    // A backend that asks for less is not asked at once.
    core.handle(at(7.0), passed_on(0, EvidenceClass::Throttled, 11, MILLISECOND));
    assert_eq!((order(&core, "other@example.net"), core.next_timeout()), ("bca".to_owned(), Some(at(12.0))));
}

#[test]
fn a_message_that_is_over_without_a_result_gives_its_trial_back() {
    let mut core = half_open();
    let answers = core.answers().unwrap();
    let first = &answers.routing.backends[0];
    answers.trials[0].prepare();
    assert_eq!(*answers.in_order(7, first, |_| true)[0].name, *"a");
    answers.session_begins("a");
    answers.message_ended(8);
    core.handle_timeout(at(20.0));
    assert_eq!(core.answers().unwrap().trials, answers.trials, "that was another message");
    answers.message_ended(7);
    core.handle_timeout(at(21.0));
    assert_eq!(core.next_timeout(), Some(at(22.0)), "its result may be on its way");
    core.handle_timeout(at(22.0));
    assert_ne!(core.answers().unwrap().trials, answers.trials);
}

#[test]
fn trials_that_fail_for_long_are_an_outage_though_failures_are_rare() {
    let mut core = started(alternates());
    for message in 0..3 {
        fail(&mut core, 1.0, EvidenceClass::ConnectionRefused, message);
    }
    for (trial, seconds) in [6.0, 17.0, 38.0].into_iter().enumerate() {
        core.handle_timeout(at(seconds));
        order(&core, "trial@example.net");
        fail(&mut core, seconds + 0.5, EvidenceClass::ConnectionRefused, 10 + trial as u64);
        assert_eq!(core.verdicts(), [], "{seconds}");
    }
    core.handle_timeout(at(79.0));
    order(&core, "trial@example.net");
    fail(&mut core, 79.5, EvidenceClass::ConnectionRefused, 20);
    assert_eq!(core.verdicts()[0].verdict.troubled_by(), Some(EvidenceClass::ConnectionRefused));
}

/// Result of a stream of messages that follow the agent's lists while the first backend fails for a while.
struct Stream {
    core: AgentCore,
    /// Messages by the time that they took.
    took: Vec<Duration>,
    /// Switches that are not for a breaker.
    moves: usize,
}

/// Sends messages at this rate for two minutes. From second 10 on, the first backend refuses (or is silent) for
/// `lasting`.
fn stream(lasting: Duration, pause: Duration, is_silent: bool) -> Stream {
    let mut stream = Stream { core: started(alternates()), took: vec![], moves: 0 };
    // The start.
    stream.core.poll();
    let (begin, outage) = (at(0.0), at(10.0)..at(10.0) + lasting);
    // Events by their time: what the log tells, and when.
    let mut log: BTreeMap<(Timestamp, u64, u8), CoreInput> = BTreeMap::new();
    let (mut now, mut message) = (begin, 0);
    while now < at(120.0) {
        while let Some(entry) = log.first_entry().filter(|entry| entry.key().0 <= now) {
            let time = entry.key().0;
            let event = entry.remove();
            stream.core.handle_timeout(time);
            stream.core.handle(time, event);
        }
        stream.core.handle_timeout(now);
        let answers = stream.core.answers().unwrap();
        let (mut time, mut hop) = (now, 0);
        for backend in answers.ways_for_recipient(&format!("user{message}@example.net")) {
            answers.session_begins(&backend.name);
            let fails = *backend.name == *"a" && outage.contains(&time);
            let class = match (fails, is_silent) {
                (false, _) => EvidenceClass::Ok,
                (true, false) => EvidenceClass::ConnectionRefused,
                (true, true) => EvidenceClass::NoAnswer,
            };
            time = time + if fails && is_silent { GREETING } else { MILLISECOND * 10 };
            let port = backend.next_hop.port - 1;
            log.insert((time, message, hop), passed_on(port, class, message, time.since(now)));
            hop += 1;
            if !fails {
                stream.took.push(time.since(now));
                break;
            }
        }
        message += 1;
        now = now + pause;
        let orders = switches(&mut stream.core);
        stream.moves += orders.iter().filter(|order| !matches!(order.cause, Cause::Opened { .. })).count();
    }
    assert_eq!(stream.took.len() as u64, message, "every message went out");
    stream
}

#[test]
fn a_thousand_blips_move_nothing_and_delay_nothing() {
    let mut random = 7_u64;
    for _ in 0..1000 {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let lasting = Duration::from_millis(1000 + (random >> 33) % 44_000);
        let pause = Duration::from_millis(300 + (random >> 20) % 900);
        let Stream { core, took, moves } = stream(lasting, pause, false);
        assert_eq!((percents(&core), moves), (vec![100, 0, 0], 0), "{lasting:?}");
        assert!(took.iter().all(|took| *took <= MILLISECOND * 30), "{lasting:?}");
        let carrying = core.view().unwrap().backends[0].breaker;
        assert_eq!(carrying, None, "{lasting:?}: it carries mail again");
    }
}

#[test]
fn a_silent_backend_costs_its_timeout_until_the_first_messages_have_met_it_and_then_only_trials() {
    let Stream { core, took, moves } = stream(Duration::from_secs(45), Duration::from_millis(200), true);
    assert_eq!((percents(&core), moves), (vec![100, 0, 0], 0));
    let slow = took.iter().filter(|took| **took >= GREETING).count();
    // Those of the first 20 s, and a few trials.
    assert!((100..110).contains(&slow), "{slow} of {}", took.len());
}

#[test]
fn the_policy_says_how_many_failures_open_it_and_how_often_it_is_tried() {
    let mut routing = alternates();
    routing.breaker =
        BreakerPolicy { consecutive: 1, first_pause: Duration::from_secs(2), longest_pause: Duration::from_secs(3) };
    let mut core = started(routing);
    fail(&mut core, 1.0, EvidenceClass::NoAnswer, 1);
    assert_eq!((order(&core, "x@example.net"), core.next_timeout()), ("bca".to_owned(), Some(at(3.0))));
    core.handle_timeout(at(3.0));
    order(&core, "trial@example.net");
    fail(&mut core, 4.0, EvidenceClass::NoAnswer, 2);
    assert_eq!(core.next_timeout(), Some(at(7.0)));
}

#[test]
fn what_real_mail_has_condemned_is_tried_ever_more_rarely_until_a_message_is_taken() {
    let mut routing = alternates();
    routing.backends[0].percent = 0;
    routing.backends[0].standby = false;
    routing.backends[0].alternate = false;
    routing.backends[0].trial = true;
    routing.backends[1].percent = 100;
    let mut core = started(routing.clone());
    let mut now = 0.0;
    for (number, pause) in [5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 320.0, 600.0, 600.0].into_iter().enumerate() {
        core.handle_timeout(at(now + pause - 0.1));
        assert_eq!(order(&core, "early@example.net"), "bc", "trial {number}");
        now += pause;
        core.handle_timeout(at(now));
        assert_eq!(order(&core, "trial@example.net"), "abc", "trial {number}");
        assert_eq!(order(&core, "other@example.net"), "bc");
        fail(&mut core, now, EvidenceClass::AccountPaused, number as u64);
        assert_eq!(core.verdicts()[0].verdict.troubled_by(), Some(EvidenceClass::AccountPaused));
    }
    core.handle_timeout(at(now + 600.0));
    order(&core, "trial@example.net");
    core.handle(at(now + 600.1), delivery(0, EvidenceClass::Ok, 100, MILLISECOND));
    assert_eq!(core.verdicts()[0].verdict.troubled_by(), None, "the operator is told");
    routing.backends[0].trial = false;
    core.handle(at(now + 601.0), CoreInput::Routing(routing));
    assert_eq!(core.view().unwrap().backends[0].breaker, None);
}

// With pauses as long as failures last, each trial stands alone.
#[test]
fn of_what_is_condemned_each_failed_trial_is_told_whatever_its_class() {
    let mut routing = alternates();
    routing.backends[0].percent = 0;
    routing.backends[0].standby = false;
    routing.backends[0].alternate = false;
    routing.backends[0].trial = true;
    routing.backends[1].percent = 100;
    let mut core = started(routing);
    let mut now = 0.0;
    for (number, pause) in [5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 320.0, 600.0, 600.0, 600.0].into_iter().enumerate() {
        now += pause;
        core.handle_timeout(at(now));
        assert_eq!(order(&core, "trial@example.net"), "abc", "trial {number}");
        fail(&mut core, now, EvidenceClass::Permanent, number as u64);
        let troubled = core.verdicts().first().and_then(|verdict| verdict.verdict.troubled_by());
        assert_eq!(troubled, Some(EvidenceClass::Permanent), "trial {number}");
    }
}

#[test]
fn a_silent_alternate_that_carried_the_mail_of_an_open_backend_is_freed_too() {
    let mut core = started(alternates());
    core.poll();
    for message in 0..3 {
        fail(&mut core, 1.0, EvidenceClass::ConnectionRefused, message);
    }
    assert_eq!((order(&core, "x@example.net"), switches(&mut core)), ("bca".to_owned(), vec![]));
    core.handle(at(2.0), CoreInput::Stalled { backend: "b".into(), sessions: 20 });
    assert_eq!(order(&core, "x@example.net"), "cab");
    let causes: Vec<_> = switches(&mut core).into_iter().map(|order| order.cause).collect();
    assert_eq!(causes, [Cause::Opened { backend: "b".into(), class: EvidenceClass::NoAnswer }]);
    // Where nothing is left that comes before it, a reload changes nothing.
    core.handle(at(30.0), CoreInput::Stalled { backend: "c".into(), sessions: 20 });
    assert_eq!(switches(&mut core), []);
}

#[test]
fn what_an_alternate_defers_that_came_last_needs_no_reload() {
    let mut core = started(alternates());
    core.poll();
    for message in 0..3 {
        core.handle(at(1.0), delivery(1, EvidenceClass::Temporary, message, MILLISECOND));
    }
    assert_eq!((order(&core, "x@example.net"), switches(&mut core)), ("acb".to_owned(), vec![]));
}

#[test]
fn a_stall_opens_it_and_frees_what_waits_before_the_log_tells_and_is_no_verdict() {
    let mut core = started(alternates());
    core.poll();
    core.handle(at(10.0), CoreInput::Stalled { backend: "a".into(), sessions: 5 });
    assert_eq!(order(&core, "x@example.net"), "bca");
    let causes: Vec<_> = switches(&mut core).into_iter().map(|order| order.cause).collect();
    assert_eq!(causes, [Cause::Opened { backend: "a".into(), class: EvidenceClass::NoAnswer }]);
    assert_eq!((core.verdicts(), core.view().unwrap().backends[0].failing.as_ref().unwrap().failures), (vec![], 0));
    // Stalls in a row are not answered by reloads in a row.
    core.handle(at(11.0), delivery(0, EvidenceClass::Ok, 1, MILLISECOND));
    core.handle(at(12.0), CoreInput::Stalled { backend: "a".into(), sessions: 2 });
    assert_eq!((order(&core, "x@example.net"), switches(&mut core)), ("bca".to_owned(), vec![]));
    core.handle_timeout(at(25.0));
    assert_eq!(switches(&mut core).len(), 1);
}
