//! Tests of an agent that is killed while backends answer the end of messages, with a real Postfix under load: no message
//! is delivered twice, and none is lost.

use std::collections::BTreeSet;
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use crate::instance::{Instance, possible};
use crate::peers::{Behaviour, Sink, send};
use crate::process::{Agent, WAIT_TIMEOUT, all_of, decide_by_default, is_up};

const PRIMARY: &str = "127.0.0.4";
const STANDBY: &str = "127.0.0.5";
/// Time from the end of a message until the primary acknowledges it.
const THINKS: Duration = Duration::from_millis(150);
/// Messages of each of these rounds.
const MESSAGES: usize = 40;

/// Moment at which the agent is killed, relative to the final reply (250) to a message under way.
#[derive(Clone, Copy, Debug)]
enum Moment {
    Before,
    At,
    After,
}

/// Waits for the moment.
fn wait_for(moment: Moment, primary: &Sink) {
    let begun = Instant::now();
    let known = primary.received().len();
    let has_come = || match moment {
        Moment::Before => primary.offered() > primary.received().len(),
        Moment::At | Moment::After => primary.received().len() > known,
    };
    while !has_come() {
        assert!(begun.elapsed() < WAIT_TIMEOUT, "{moment:?}: no message is under way");
        thread::sleep(Duration::from_millis(1));
    }
    match moment {
        Moment::Before | Moment::At => {}
        Moment::After => thread::sleep(Duration::from_millis(20)),
    }
}

/// Hands messages in, each as often as it takes: without an agent Postfix asks to come later. Returns the recipients.
fn submit(instance: &Instance, name: &str) -> BTreeSet<String> {
    let begun = Instant::now();
    let recipients = (0..MESSAGES).map(|number| format!("{name}{number}@example.net"));
    recipients
        .inspect(|to| {
            while !send(instance.at(), to).starts_with("250") {
                assert!(begun.elapsed() < WAIT_TIMEOUT, "{to} is not accepted");
                thread::sleep(Duration::from_millis(20));
            }
        })
        .collect()
}

/// Sends messages while the agent is killed three times at this moment. `paused` is true for a primary that refuses
/// each message by 554 instead, which the agent leads on.
fn killed(moment: Moment, is_paused: bool) {
    let behaves = if is_paused { Behaviour::Paused(THINKS) } else { Behaviour::Takes(THINKS) };
    let primary = Sink::at(PRIMARY, behaves);
    let standby = Sink::at(STANDBY, Behaviour::Takes(Duration::from_millis(20)));
    let instance = Instance::beside_an_agent();
    decide_by_default(&instance, 1, [("primary", &primary), ("standby", &standby)]);
    instance.start();
    let log = instance.mail_log();
    let flags = ["--mail-log", log.to_str().unwrap()];
    let mut agent = Agent::start(&instance, &flags, &[]);
    agent.until("Postfix listens", || is_up(&instance));
    agent.until("the switch of the start is done", || agent.status().contains("done in"));
    let mut accepted = BTreeSet::new();
    for round in 0..3 {
        let name = format!("r{round}m");
        let sent;
        (agent, sent) = thread::scope(|scope| {
            let sending = scope.spawn(|| submit(&instance, &name));
            if is_paused {
                // What refuses is met by few messages.
                thread::sleep(THINKS * 2);
            } else {
                wait_for(moment, &primary);
            }
            // By SIGKILL.
            drop(agent);
            thread::sleep(Duration::from_millis(300));
            (Agent::start(&instance, &flags, &[]), sending.join().unwrap())
        });
        accepted.extend(sent);
    }
    let delivered = || all_of(&primary).union(&all_of(&standby)).cloned().collect::<BTreeSet<_>>();
    agent.until("all are delivered", || delivered() == accepted);
    let mut copies = primary.received();
    copies.extend(standby.received());
    assert_eq!(copies.len(), accepted.len(), "{moment:?}: none twice\n{}", fs::read_to_string(&log).unwrap());
    assert!(!fs::read_to_string(&log).unwrap().contains("status=bounced"));
}

#[test]
fn an_agent_that_is_killed_before_a_final_reply_makes_no_message_arrive_twice() {
    if possible() {
        killed(Moment::Before, false);
    }
}

#[test]
fn an_agent_that_is_killed_at_a_final_reply_makes_no_message_arrive_twice() {
    if possible() {
        killed(Moment::At, false);
    }
}

#[test]
fn an_agent_that_is_killed_after_a_final_reply_makes_no_message_arrive_twice() {
    if possible() {
        killed(Moment::After, false);
    }
}

#[test]
fn an_agent_that_is_killed_while_it_leads_refused_messages_on_loses_none_and_sends_none_twice() {
    if possible() {
        killed(Moment::Before, true);
    }
}
