//! Tests of the next backend within one attempt, with a real Postfix and the default policy: no message waits, and the
//! route stays where it is.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use crate::instance::{Instance, possible};
use crate::peers::{Behaviour, Sink, send};
use crate::process::{Agent, all_of, decide_by_default, is_up, submit};

const PRIMARY: &str = "127.0.0.2";
const STANDBY: &str = "127.0.0.3";
/// The longest that an attempt without any waiting may take on a busy machine. A retry of Postfix's takes minutes.
const ONE_ATTEMPT: Duration = Duration::from_secs(4);

/// Times that messages took from their arrival until they were sent, by Postfix's log.
fn delays(log: &str) -> Vec<Duration> {
    let sent = log.lines().filter(|line| line.contains("status=sent"));
    let delays = sent.map(|line| line.split_once(" delay=").unwrap().1.split_once(',').unwrap().0.parse().unwrap());
    delays.map(Duration::from_secs_f64).collect()
}

/// Messages arrive while the primary is broken, by the default policy. Returns the log and the agent's status.
fn through(primary: &Sink, set: &[&str], messages: usize) -> (String, String) {
    let standby = Sink::at(STANDBY, Behaviour::Takes(Duration::ZERO));
    let instance = Instance::beside_an_agent();
    for line in set {
        instance.set(line);
    }
    decide_by_default(&instance, 1, [("primary", primary), ("standby", &standby)]);
    instance.start();
    let agent = Agent::start(&instance, &["--mail-log", instance.mail_log().to_str().unwrap()], &[]);
    agent.until("Postfix listens", || is_up(&instance));
    agent.until("the switch of the start is done", || agent.status().contains("done in"));
    let accepted = submit(&instance, "m", messages);
    assert_eq!(accepted.len(), messages, "{}", agent.output());
    agent.until("all by the standby", || all_of(&standby) == accepted);
    assert_eq!(standby.received().len(), messages, "none twice");
    agent.until("the failures are seen", || agent.status().contains("in a row since"));
    (fs::read_to_string(instance.mail_log()).unwrap(), agent.status())
}

#[test]
fn each_message_that_the_primary_does_not_take_is_out_within_the_attempt_and_the_route_stays() {
    if !possible() {
        return;
    }
    for (fault, primary, class) in [
        ("turns away", Sink::at(PRIMARY, Behaviour::TurnsAway), "Temporary"),
        ("refuses connections", Sink::absent(PRIMARY), "ConnectionRefused"),
        ("tries later", Sink::at(PRIMARY, Behaviour::TriesLater), "Temporary"),
    ] {
        let (log, status) = through(&primary, &[], 40);
        let delays = delays(&log);
        let slowest = delays.iter().max().unwrap();
        println!("{fault}: the slowest of {} messages took {slowest:?}", delays.len());
        assert!(delays.len() == 40 && *slowest < ONE_ATTEMPT, "{fault}: {slowest:?}\n{log}");
        for unwanted in ["status=deferred", "status=bounced", "delivery temporarily suspended"] {
            assert!(!log.contains(unwanted), "{fault}: {unwanted}\n{log}");
        }
        // What the primary did is evidence, though every message went out.
        assert!(status.contains(class), "{fault}: {status}");
        assert!(status.contains("breaker open since"), "{fault}: {status}");
    }
}

#[test]
fn what_the_primary_refuses_by_5xx_is_out_by_the_next_backend_within_the_attempt() {
    if !possible() {
        return;
    }
    let primary = Sink::at(PRIMARY, Behaviour::Refuses);
    let (log, status) = through(&primary, &[], 40);
    let delays = delays(&log);
    let slowest = delays.iter().max().unwrap();
    println!("refuses by 554: the slowest of {} messages took {slowest:?}", delays.len());
    assert!(delays.len() == 40 && *slowest < ONE_ATTEMPT, "{slowest:?}\n{log}");
    assert!(log.contains("554-5.7.1 gobbledygook 454 (kept by mail-failover) 554 5.7.1 and balderdash"), "{log}");
    assert!(!log.contains("status=deferred") && !log.contains("status=bounced"), "{log}");
    assert!(!log.contains("lookup error"), "{log}");
    assert!(status.contains("Permanent 554") || status.contains("breaker open since"), "{status}");
}

#[test]
fn a_message_that_both_backends_refuse_bounces_although_the_standby_is_idle() {
    if !possible() {
        return;
    }
    let [primary, standby] = [PRIMARY, STANDBY].map(|host| Sink::at(host, Behaviour::Takes(Duration::ZERO)));
    let instance = Instance::beside_an_agent();
    for line in ["minimal_backoff_time = 5s", "maximal_backoff_time = 5s", "queue_run_delay = 2s"] {
        instance.set(line);
    }
    decide_by_default(&instance, 1, [("primary", &primary), ("standby", &standby)]);
    instance.start();
    let agent = Agent::start(&instance, &["--mail-log", instance.mail_log().to_str().unwrap()], &[]);
    agent.until("Postfix listens", || is_up(&instance));
    agent.until("the switch of the start is done", || agent.status().contains("done in"));
    let log = || fs::read_to_string(instance.mail_log()).unwrap();
    assert!(send(instance.at(), "odd@example.net").starts_with("250"), "{}", agent.output());
    agent.until("it waits", || log().contains("status=deferred"));
    assert!(primary.offered() > 0 && standby.offered() > 0, "each was asked: {}", log());
    let others = submit(&instance, "m", 10);
    assert_eq!(others.len(), 10, "{}", agent.output());
    agent.until("it bounces", || log().contains("status=bounced"));
    agent.until("its sender is told", || primary.received().contains(&"a@example.com".to_owned()));
    agent.until("the others are out", || others.is_subset(&all_of(&primary)));
    assert_eq!(standby.received(), Vec::<String>::new(), "{}", log());
    let log = log();
    let bounced: Vec<_> = log.lines().filter(|line| line.contains("status=bounced")).collect();
    assert!(bounced.len() == 1 && bounced[0].contains("odd@example.net"), "{log}");
    assert!(bounced[0].contains("host 127.0.0.2[127.0.0.2] said: 554 5.7.1 gobbledygook"), "{log}");
}

#[test]
fn a_silent_primary_costs_the_first_messages_the_timeout_of_the_greeting_and_no_decision() {
    if !possible() {
        return;
    }
    let primary = Sink::at(PRIMARY, Behaviour::Hangs);
    let (log, status) = through(&primary, &["smtp_helo_timeout = 2s"], 5);
    let delays: BTreeSet<_> = delays(&log).into_iter().collect();
    assert!(delays.iter().all(|delay| *delay < Duration::from_secs(8)), "{delays:?}");
    assert!(!log.contains("status=deferred"), "{log}");
    assert!(status.contains("NoAnswer"), "{status}");
    assert!(status.contains("breaker open since") && status.contains("messages try primary last"), "{status}");
}

#[test]
fn what_waits_for_a_stalled_primary_is_freed_before_the_log_tells_of_any_delivery() {
    if !possible() {
        return;
    }
    let primary = Sink::at(PRIMARY, Behaviour::Hangs);
    let set = ["smtp_helo_timeout = 40s", "smtp_tls_policy_maps = socketmap:unix:mail-failover/socketmap:tls-policy"];
    let (log, status) = through(&primary, &set, 40);
    let delays = delays(&log);
    let early = delays.iter().filter(|delay| **delay < Duration::from_secs(30)).count();
    println!("{early} of {} messages were out before the first timeout", delays.len());
    // Postfix hands at most 20 to one list of next hops.
    assert!(early >= 20, "{delays:?}");
    assert!(status.contains("breaker open since") && !log.contains("status=deferred"), "{status}");
}
