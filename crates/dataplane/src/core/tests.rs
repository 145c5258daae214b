use std::time::Duration;

use mail_failover_contract::routing::parse;
use mail_failover_core::model::{Effect, ReplyRule, ReplyRules};
use mail_failover_replies::{About, Answered, Rulebook};
use proptest::prelude::*;

use super::*;
use crate::reading::Sender;

const SECOND: Duration = Duration::from_secs(1);

pub(super) fn at(seconds: f64) -> Timestamp {
    Timestamp::from_micros(1_700_000_000_000_000) + Duration::from_secs_f64(seconds)
}

/// Backends `a`, `b`, … at ports 1, 2, …, each with its share and whether it is a standby and an alternate. The fields
/// replace those of the default thresholds.
fn routing(transition: i64, backends: &[(u8, bool)], fields: &serde_json::Value) -> Routing {
    let backend = |(number, (percent, standby)): (usize, &(u8, bool))| {
        let name = ["a", "b", "c", "d"][number];
        serde_json::json!({"name": name, "percent": percent, "standby": standby, "alternate": standby, "host": "127.0.0.1", "port": number + 1, "tls": {"mode": "None"}})
    };
    let mut whole = serde_json::json!({"consecutive": 10, "lastingMilliseconds": 50_000, "immediately": ["AccountPaused"],
        "cooldownMilliseconds": 600_000});
    whole.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    let document = serde_json::json!({
        "apiVersion": "agent.mailfailover.io/v1alpha1", "route": {"namespace": "shop", "name": "orders", "uid": "u"},
        "decision": {"transition": transition}, "deliveries": whole,
        "backends": backends.iter().enumerate().map(backend).collect::<Vec<_>>(),
    });
    parse(&document.to_string()).unwrap()
}

fn usual(transition: i64, backends: &[(u8, bool)]) -> Routing {
    routing(transition, backends, &serde_json::json!({}))
}

pub(super) fn started(routing: Routing) -> AgentCore {
    let mut core = AgentCore::new(None);
    core.handle(at(0.0), CoreInput::Routing(routing));
    core
}

pub(super) fn delivery(backend: u16, class: EvidenceClass, message: u64, took: Duration) -> CoreInput {
    let place = Place { host: "127.0.0.1".into(), port: Some(backend + 1), backend: None };
    let disposition = if class == EvidenceClass::Ok { Disposition::Sent } else { Disposition::Deferred };
    let summary = class.as_str().into();
    let (age, recipient, refusal, logged) = (took, 0, None, None);
    let delivery =
        Delivery { place, class, disposition, took, message, recipient, age, refusal, summary, logged, stage: None };
    CoreInput::LogEvent(LogEvent::Delivery(delivery))
}

/// Sends `per_second` messages a second, all of that class, from one second to another.
fn send(core: &mut AgentCore, backend: u16, class: EvidenceClass, from: f64, to: f64, per_second: f64) {
    let (mut now, end) = (at(from), at(to));
    while now < end {
        let message = now.as_micros().unsigned_abs();
        core.handle(now, delivery(backend, class, message, Duration::from_millis(5)));
        now = now + Duration::from_secs_f64(1.0 / per_second);
    }
}

pub(super) fn percents(core: &AgentCore) -> Vec<u8> {
    core.answers().unwrap().percents.clone()
}

pub(super) fn switches(core: &mut AgentCore) -> Vec<SwitchOrder> {
    core.poll().into_iter().filter_map(order_of).collect()
}

fn order_of(action: CoreAction) -> Option<SwitchOrder> {
    match action {
        CoreAction::Switch(order) => Some(order),
        CoreAction::Publish(_) | CoreAction::Remember(_) | CoreAction::Report => None,
    }
}

/// Share of the messages that try each backend first.
fn carried(core: &AgentCore) -> Vec<u8> {
    core.answers().unwrap().carried()
}

#[test]
fn a_blip_under_heavy_traffic_is_no_verdict_and_an_outage_is_one() {
    for lasting in [8.0, 28.0, 45.0] {
        let mut core = started(usual(1, &[(100, false), (0, true)]));
        send(&mut core, 0, EvidenceClass::Ok, 1.0, 10.0, 200.0);
        send(&mut core, 0, EvidenceClass::ConnectionRefused, 10.0, 10.0 + lasting, 200.0);
        assert_eq!((troubles(&core), carried(&core)), (vec![], vec![0, 100]), "{lasting}");
        send(&mut core, 0, EvidenceClass::Ok, 10.0 + lasting, 100.0, 200.0);
        assert_eq!((troubles(&core), carried(&core)), (vec![None], vec![100, 0]), "{lasting}");
    }
    let mut core = started(usual(1, &[(100, false), (0, true)]));
    send(&mut core, 0, EvidenceClass::ConnectionRefused, 10.0, 59.9, 200.0);
    assert_eq!(troubles(&core), []);
    send(&mut core, 0, EvidenceClass::ConnectionRefused, 59.9, 60.1, 200.0);
    assert_eq!(troubles(&core), [Some(EvidenceClass::ConnectionRefused)]);
    assert_eq!(percents(&core), [100, 0], "the route is the operator's");
}

#[test]
fn one_message_to_a_paused_account_opens_the_breaker_frees_what_was_deferred_and_is_told() {
    let mut core = started(usual(1, &[(100, false), (0, true)]));
    core.poll();
    core.handle(at(1.0), delivery(0, EvidenceClass::AccountPaused, 1, SECOND / 10));
    assert_eq!((percents(&core), carried(&core)), (vec![100, 0], vec![0, 100]));
    let actions = core.poll();
    assert!(actions.contains(&CoreAction::Report), "{actions:?}");
    let orders: Vec<_> = actions.into_iter().filter_map(order_of).collect();
    assert_eq!(orders.len(), 1);
    assert_eq!(orders[0].cause, Cause::Opened { backend: "a".into(), class: EvidenceClass::AccountPaused });
    assert_eq!((&orders[0].gained[..], &orders[0].lost[..]), (&[][..], &["a".into()][..]));
    assert_eq!(troubles(&core), [Some(EvidenceClass::AccountPaused)]);
}

#[test]
fn messages_that_went_on_within_the_attempt_need_no_reload() {
    let mut core = started(usual(1, &[(100, false), (0, true)]));
    core.poll();
    let CoreInput::LogEvent(LogEvent::Delivery(refused)) = delivery(0, EvidenceClass::AccountPaused, 1, SECOND / 10)
    else {
        unreachable!("that is what it makes")
    };
    let passed_on = Delivery { disposition: Disposition::PassedOn, ..refused };
    core.handle(at(1.0), CoreInput::LogEvent(LogEvent::Delivery(passed_on)));
    assert_eq!((carried(&core), switches(&mut core)), (vec![0, 100], vec![]));
}

#[test]
fn the_first_message_of_a_new_decision_is_timed_and_not_one_that_was_on_its_way() {
    let mut core = started(usual(1, &[(100, false), (0, true)]));
    core.handle(at(1.0), CoreInput::Routing(usual(2, &[(0, false), (100, true)])));
    core.handle(at(1.2), delivery(1, EvidenceClass::Ok, 2, SECOND));
    assert_eq!(core.first_delivery(), None);
    core.handle(at(1.3), delivery(1, EvidenceClass::Ok, 3, SECOND / 10));
    assert_eq!(core.first_delivery(), Some(Duration::from_millis(300)));
}

#[test]
fn one_message_to_many_recipients_is_one_failure() {
    let fields = serde_json::json!({"consecutive": 3, "lastingMilliseconds": 0});
    let mut core = started(routing(1, &[(100, false), (0, true)], &fields));
    for recipient in 0..50 {
        core.handle(at(1.0 + f64::from(recipient) / 1000.0), delivery(0, EvidenceClass::Temporary, 7, SECOND / 10));
    }
    assert_eq!((troubles(&core), carried(&core)), (vec![], vec![100, 0]));
    core.handle(at(31.0), delivery(0, EvidenceClass::Temporary, 7, SECOND / 10));
    core.handle(at(32.0), delivery(0, EvidenceClass::Temporary, 8, SECOND / 10));
    assert_eq!((troubles(&core), carried(&core)), (vec![Some(EvidenceClass::Temporary)], vec![0, 100]));
}

#[test]
fn a_decision_for_a_backend_whose_breaker_is_open_begins_with_it_anew() {
    let mut core = started(usual(1, &[(100, false), (0, true)]));
    core.handle(at(1.0), delivery(0, EvidenceClass::AccountPaused, 1, SECOND / 10));
    core.handle(at(20.0), CoreInput::Routing(usual(2, &[(0, true), (100, true)])));
    assert_eq!(carried(&core), [0, 100]);
    core.handle(at(30.0), CoreInput::Routing(usual(3, &[(100, true), (0, true)])));
    assert_eq!(carried(&core), [100, 0], "who decides anew knows better");
    core.handle(at(31.0), delivery(0, EvidenceClass::AccountPaused, 2, SECOND * 2));
    assert_eq!(carried(&core), [100, 0], "it began before");
    core.handle(at(33.0), delivery(0, EvidenceClass::AccountPaused, 3, SECOND));
    assert_eq!(carried(&core), [0, 100]);
}

#[test]
fn without_an_alternate_mail_stays_and_goes_when_there_is_one() {
    let mut core = started(usual(1, &[(100, false), (0, false)]));
    core.poll();
    core.handle(at(1.0), delivery(0, EvidenceClass::AccountPaused, 1, SECOND / 10));
    assert_eq!((carried(&core), switches(&mut core)), (vec![100, 0], vec![]));
    core.handle(at(2.0), CoreInput::Routing(usual(1, &[(100, false), (0, true)])));
    assert_eq!(carried(&core), [0, 100]);
}

#[test]
fn the_share_of_an_open_breaker_goes_to_the_first_alternate() {
    let mut core = started(usual(1, &[(60, false), (20, false), (20, true), (0, true)]));
    core.handle(at(1.0), delivery(0, EvidenceClass::AccountPaused, 1, SECOND / 10));
    assert_eq!(carried(&core), [0, 20, 80, 0]);
    core.handle(at(2.0), delivery(2, EvidenceClass::AccountPaused, 2, SECOND / 10));
    assert_eq!(carried(&core), [0, 20, 0, 80]);
    core.handle(at(3.0), delivery(3, EvidenceClass::AccountPaused, 3, SECOND / 10));
    assert_eq!(carried(&core), [60, 20, 20, 0], "where all fail, the operator's order stays");
}

#[test]
fn breakers_that_open_one_after_the_other_reload_at_most_every_fifteen_seconds() {
    let mut core = started(usual(1, &[(100, true), (0, true), (0, true)]));
    core.poll();
    core.handle(at(1.0), delivery(0, EvidenceClass::AccountPaused, 1, SECOND / 10));
    assert_eq!(switches(&mut core).len(), 1);
    core.handle(at(2.0), delivery(0, EvidenceClass::Ok, 2, SECOND / 10));
    core.handle(at(3.0), delivery(0, EvidenceClass::AccountPaused, 3, SECOND / 10));
    assert_eq!(switches(&mut core), []);
    core.handle_timeout(at(15.9));
    assert_eq!(switches(&mut core), []);
    core.handle_timeout(at(16.0));
    assert_eq!(switches(&mut core).len(), 1, "what was deferred is not forgotten");
}

#[test]
fn a_restart_does_not_send_the_next_messages_to_what_did_not_answer() {
    let mut core = started(usual(1, &[(100, false), (0, true)]));
    core.handle(at(1.0), delivery(0, EvidenceClass::AccountPaused, 1, SECOND / 10));
    let memories = core.poll().into_iter().filter_map(|action| match action {
        CoreAction::Remember(memory) => Some(memory),
        CoreAction::Publish(_) | CoreAction::Switch(_) | CoreAction::Report => None,
    });
    let memory: CoreMemory = serde_json::from_str(&serde_json::to_string(&memories.last().unwrap()).unwrap()).unwrap();
    let mut again = AgentCore::new(Some(memory.clone()));
    again.handle(at(5.0), CoreInput::Routing(usual(1, &[(100, false), (0, true)])));
    assert_eq!((carried(&again), troubles(&again)), (vec![0, 100], vec![Some(EvidenceClass::AccountPaused)]));
    assert_eq!(again.view().unwrap().backends[0].breaker.unwrap().next_trial_at, Some(at(10.0)));
    let (before, after) = (core.answers().unwrap(), again.answers().unwrap());
    assert_eq!(change::mark(&before), change::mark(&after), "no switch is carried out twice");
    // A clock that was a day ahead keeps nothing open for a day.
    let mut ahead = memory;
    let saved = &mut ahead.open[0];
    for time in [&mut saved.since, &mut saved.first_at, &mut saved.last_at] {
        *time += 86_400_000_000;
    }
    let mut again = AgentCore::new(Some(ahead));
    again.handle(at(5.0), CoreInput::Routing(usual(1, &[(100, false), (0, true)])));
    assert_eq!(again.view().unwrap().backends[0].breaker.unwrap().since, at(5.0));
}

#[test]
fn the_record_of_an_agent_that_left_backends_is_no_obstacle() {
    let record = r#"{"routeUid": "u", "transition": 1, "left": [], "moves": [1], "refuge": "b"}"#;
    let memory: CoreMemory = serde_json::from_str(record).unwrap();
    assert_eq!(memory, CoreMemory { route_uid: "u".to_owned(), ..CoreMemory::default() });
}

#[test]
fn a_backend_that_has_its_messages_of_the_day_is_no_alternate_also_after_a_restart() {
    let mut limited = usual(1, &[(100, false), (0, true)]);
    limited.backends[1].messages_per_day = Some(40);
    let mut core = started(limited.clone());
    send(&mut core, 1, EvidenceClass::Ok, 1.0, 40.0, 1.0);
    assert_eq!(core.answers().unwrap().spent, [false, false]);
    send(&mut core, 1, EvidenceClass::Ok, 40.0, 42.0, 1.0);
    assert_eq!(core.answers().unwrap().spent, [false, true]);
    assert_eq!(core.view().unwrap().backends[1].alternate, AlternateUse::Spent);
    assert_eq!(awaited(&core), ["a"]);
    assert_eq!(switches(&mut core).len(), 1, "that of the start");
    // What another backend does not take cannot go there.
    send(&mut core, 0, EvidenceClass::ConnectionRefused, 43.0, 50.0, 1.0);
    assert_eq!(carried(&core), [100, 0]);

    let mut core = started(limited.clone());
    send(&mut core, 1, EvidenceClass::Ok, 1.0, 42.0, 1.0);
    let memory = core.poll().into_iter().rev().find_map(|action| match action {
        CoreAction::Remember(memory) => Some(memory),
        CoreAction::Publish(_) | CoreAction::Switch(_) | CoreAction::Report => None,
    });
    let memory: CoreMemory = serde_json::from_str(&serde_json::to_string(&memory.unwrap()).unwrap()).unwrap();
    let mut again = AgentCore::new(Some(memory));
    again.handle(at(60.0), CoreInput::Routing(limited));
    assert_eq!(again.answers().unwrap().spent, [false, true]);
    let freed = again.next_timeout().unwrap();
    assert_eq!(freed, at(1.0) + Duration::from_hours(25));
    again.handle_timeout(freed);
    assert_eq!(again.answers().unwrap().spent, [false, false]);
}

/// Backends that refused messages wait for.
fn awaited(core: &AgentCore) -> Vec<String> {
    core.answers().unwrap().awaited_backends().map(|backend| backend.name.to_string()).collect()
}

/// Lets time pass, by the timers alone.
fn wait_until(core: &mut AgentCore, seconds: f64) {
    while let Some(next) = core.next_timeout().filter(|next| *next <= at(seconds)) {
        core.handle_timeout(next);
    }
}

#[test]
fn no_refused_message_waits_for_a_backend_that_has_failed_for_two_minutes_beside_one_that_works() {
    let mut core = started(usual(1, &[(100, false), (0, true)]));
    for message in 0..3 {
        core.handle(at(1.0), delivery(1, EvidenceClass::ConnectionRefused, message, SECOND / 10));
    }
    wait_until(&mut core, 120.9);
    assert_eq!(
        (core.answers().unwrap().open.clone(), awaited(&core)),
        (vec![false, true], vec!["a".into(), "b".into()])
    );
    wait_until(&mut core, 121.0);
    assert_eq!(awaited(&core), ["a"]);
    // Where every one fails, their refusals are no message's.
    for message in 10..13 {
        core.handle(at(130.0), delivery(0, EvidenceClass::Permanent, message, SECOND / 10));
    }
    wait_until(&mut core, 200.0);
    assert_eq!(
        (core.answers().unwrap().open.clone(), awaited(&core)),
        (vec![true, true], vec!["a".into(), "b".into()])
    );
    core.handle(at(210.0), delivery(1, EvidenceClass::Ok, 20, SECOND / 10));
    assert_eq!(awaited(&core), ["a", "b"], "b works again, and a may be about to: both have failed together");
    wait_until(&mut core, 329.9);
    assert_eq!(awaited(&core), ["a", "b"]);
    wait_until(&mut core, 330.0);
    assert_eq!(awaited(&core), ["b"], "a has failed for two minutes beside b");
    // Another document changes nothing about that.
    core.handle(at(331.0), CoreInput::Routing(usual(1, &[(100, false), (0, true)])));
    assert_eq!(awaited(&core), ["b"]);
    core.handle(at(332.0), delivery(0, EvidenceClass::Ok, 21, SECOND / 10));
    assert_eq!(awaited(&core), ["a", "b"]);
}

#[test]
fn a_backend_that_asks_for_less_is_throttled_for_a_minute_whatever_it_takes_meanwhile() {
    let mut core = started(usual(1, &[(100, false), (0, true)]));
    core.handle(at(1.0), delivery(0, EvidenceClass::Throttled, 1, SECOND / 10));
    core.handle(at(2.0), delivery(0, EvidenceClass::Ok, 2, SECOND / 10));
    assert!(core.is_throttled(at(60.9)) && !core.is_throttled(at(61.0)));
    assert_eq!(core.answers().unwrap().open, [false, false], "no breaker opens for that");
    core.handle(at(70.0), delivery(1, EvidenceClass::Throttled, 3, SECOND / 10));
    assert!(!core.is_throttled(at(70.0)), "no message tries it first");
}

#[test]
fn the_operator_is_told_when_a_verdict_turns_and_it_lapses_with_the_cooldown() {
    let mut core = started(usual(1, &[(100, false), (0, true)]));
    core.poll();
    core.handle(at(1.0), delivery(0, EvidenceClass::AccountPaused, 1, SECOND / 10));
    assert!(core.poll().contains(&CoreAction::Report));
    assert_eq!(core.verdicts()[0].backend, "a".into());
    core.handle(at(2.0), CoreInput::Routing(usual(2, &[(0, false), (100, false)])));
    core.handle_timeout(at(600.0));
    assert_eq!(core.verdicts().len(), 1);
    core.handle_timeout(at(601.1));
    assert_eq!(core.verdicts(), []);
}

#[test]
fn one_message_that_is_refused_again_and_again_is_one_failure() {
    let fields = serde_json::json!({"consecutive": 3, "lastingMilliseconds": 0});
    let mut core = started(routing(1, &[(100, false), (0, true)], &fields));
    for minute in 1..20 {
        core.handle(at(60.0 * f64::from(minute)), kept(0, 1, SECOND / 10));
    }
    assert_eq!((carried(&core), troubles(&core)), (vec![100, 0], vec![]));
    for message in 2..4 {
        core.handle(at(1200.0), kept(0, message, SECOND / 10));
    }
    assert_eq!(carried(&core), [0, 100], "three messages are three failures");
}

#[test]
fn an_older_decision_changes_nothing() {
    let mut core = started(usual(5, &[(0, true), (100, false)]));
    core.poll();
    let older = usual(4, &[(100, false), (0, true)]);
    let refused = core.accepts(&older);
    core.handle(at(1.0), CoreInput::Routing(older));
    assert_eq!(refused, Err(Refusal::Older { known: 5, offered: 4 }));
    assert_eq!((percents(&core), core.poll()), (vec![0, 100], vec![]));
}

#[test]
fn what_the_mta_cannot_see_is_no_switch() {
    let mut core = started(usual(1, &[(100, false), (0, true)]));
    core.poll();
    core.handle(at(1.0), CoreInput::Routing(usual(2, &[(100, false), (0, false)])));
    assert_eq!(switches(&mut core), []);
    core.handle(at(2.0), CoreInput::Routing(usual(3, &[(90, false), (10, false)])));
    let orders = switches(&mut core);
    assert_eq!(orders.iter().map(|order| &order.cause).collect::<Vec<_>>(), [&Cause::Operator]);
}

#[derive(Clone, Debug)]
enum Event {
    Delivered(u16, EvidenceClass, u64, u64),
    Offered(i64, Vec<(u8, bool)>),
    Waited,
}

fn any_event() -> impl Strategy<Value = Event> {
    let class = prop::sample::select(EvidenceClass::ALL.to_vec());
    let shares = prop_oneof![Just([100, 0, 0]), Just([0, 100, 0]), Just([50, 50, 0]), Just([10, 20, 70])];
    prop_oneof![
        8 => (0..4_u16, class, 0..50_u64, 0..20_000_u64).prop_map(|(backend, class, message, took)| Event::Delivered(backend, class, message, took)),
        1 => (0..6_i64, shares, any::<[bool; 3]>()).prop_map(|(transition, shares, standby)| {
            Event::Offered(transition, shares.into_iter().zip(standby).collect())
        }),
        1 => Just(Event::Waited),
    ]
}

proptest! {
    #[test]
    fn whatever_happens_the_promises_hold(
        events in prop::collection::vec((0..40_000_u64, any_event()), 0..300), lasting in 0..30_000_u64, consecutive in 1..5_u32,
    ) {
        let fields = serde_json::json!({"lastingMilliseconds": lasting, "consecutive": consecutive, "cooldownMilliseconds": 60_000});
        let first = routing(0, &[(100, false), (0, true), (0, false)], &fields);
        let (mut core, mut twin) = (started(first.clone()), started(first));
        core.poll();
        let mut now = at(1.0);
        let mut freed: Option<Timestamp> = None;
        for (pause, event) in events {
            now = now + Duration::from_millis(pause);
            for core in [&mut core, &mut twin] {
                match &event {
                    Event::Delivered(backend, class, message, took) => core.handle(now, delivery(*backend, *class, *message, Duration::from_millis(*took))),
                    Event::Offered(transition, backends) => core.handle(now, CoreInput::Routing(routing(*transition, backends, &fields))),
                    Event::Waited => core.handle_timeout(now),
                }
            }
            let answers = core.answers().unwrap();
            let decided: Vec<_> = answers.routing.backends.iter().map(|backend| backend.percent).collect();
            prop_assert_eq!(&answers.percents, &decided, "the shares are the operator's");
            prop_assert_eq!(answers.carried().iter().map(|percent| u32::from(*percent)).sum::<u32>(), 100);
            prop_assert_eq!(&answers, &twin.answers().unwrap(), "it is deterministic");
            let verdicts = core.verdicts();
            let failing = verdicts.iter().filter_map(|verdict| verdict.verdict.troubled_by());
            prop_assert!(failing.filter(|class| *class != EvidenceClass::Throttled).all(|class| class.effect() == Effect::Failure));
            // A trial is taken by who asks first: both are asked.
            let _ = twin.answers().unwrap().ways_for_recipient("x@example.net");
            for backend in answers.ways_for_recipient("x@example.net") {
                prop_assert!(backend.percent > 0 || (backend.alternate && backend.standby), "{} is no place to go to", backend.name);
            }
            for order in switches(&mut core) {
                let Cause::Opened { .. } = order.cause else { continue };
                prop_assert!(freed.is_none_or(|before| before + conclusions::BETWEEN_FREEINGS <= now), "reloads too soon");
                freed = Some(now);
            }
            if let Some(next) = core.next_timeout() {
                now = next.max(now);
                core.handle_timeout(now);
                twin.handle_timeout(now);
                prop_assert!(core.next_timeout().is_none_or(|again| again > now), "a timer that is due again and again");
                let opened = switches(&mut core).into_iter().filter(|order| matches!(order.cause, Cause::Opened { .. }));
                freed = opened.last().map(|order| order.at).or(freed);
            }
        }
    }

    #[test]
    fn recipients_and_throttling_say_nothing_of_the_backend(count in 1..500_u64, throttled in any::<bool>()) {
        let class = if throttled { EvidenceClass::Throttled } else { EvidenceClass::RecipientLevel };
        let mut core = started(routing(1, &[(100, false), (0, true)], &serde_json::json!({"consecutive": 1, "lastingMilliseconds": 0, "immediately": []})));
        for number in 0..count {
            core.handle(at(0.0) + Duration::from_millis(number * 500), delivery(0, class, number, SECOND / 10));
        }
        prop_assert_eq!((core.answers().unwrap().carried(), core.verdicts()), (vec![100, 0], vec![]));
    }
}

/// A refusal by a 5xx that was made temporary.
fn kept(backend: u16, message: u64, took: Duration) -> CoreInput {
    let CoreInput::LogEvent(LogEvent::Delivery(delivery)) = delivery(backend, EvidenceClass::Permanent, message, took)
    else {
        unreachable!()
    };
    let refusal = Some(MessageRefusal { about: About::Unknown, text: 7 });
    CoreInput::LogEvent(LogEvent::Delivery(Delivery { refusal, recipient: message, ..delivery }))
}

/// Backends that messages to this recipient avoid.
fn avoided(core: &AgentCore, recipient: u64) -> Vec<String> {
    let avoided = core.answers().unwrap().learnt.avoided.get(&recipient).cloned().unwrap_or_default();
    avoided.into_iter().map(|name| name.to_string()).collect()
}

#[test]
fn a_refused_message_goes_to_the_standby_and_the_route_stays() {
    let mut core = started(usual(1, &[(100, false), (0, true)]));
    core.handle(at(1.0), kept(0, 1, SECOND / 10));
    core.poll();
    core.handle(at(2.0), delivery(0, EvidenceClass::Ok, 2, SECOND / 10));
    assert_eq!(avoided(&core, 1), ["a"]);
    let actions = core.poll();
    assert!(actions.iter().any(|action| matches!(action, CoreAction::Publish(_))), "{actions:?}");
    assert!(!actions.iter().any(|action| matches!(action, CoreAction::Switch(_))), "{actions:?}");
    assert_eq!(percents(&core), [100, 0]);
    assert_eq!(core.view().unwrap().kept.unwrap().mail.messages, 1);
    core.handle(at(70.0), CoreInput::LogEvent(LogEvent::Gone(1)));
    assert_eq!((avoided(&core, 1), core.view().unwrap().kept), (vec![], None));
}

#[test]
fn the_rules_of_a_backend_decide_what_its_refusals_mean() {
    let document = |own: bool| {
        let mut routing = usual(1, &[(100, false), (0, true)]);
        if own {
            let words = vec!["letters of this week".into()];
            let (about, stages, codes, enhanced_codes) = ("Account".into(), vec![], vec![], vec![]);
            let rule = ReplyRule { name: "house".into(), about, stages, codes, enhanced_codes, words };
            let (rulebook, _) = Rulebook::new(&ReplyRules { rules: vec![rule], ..ReplyRules::default() });
            routing.backends[0].rulebook = Arc::new(rulebook);
        }
        routing
    };
    let refused = || {
        let CoreInput::LogEvent(LogEvent::Delivery(delivery)) =
            delivery(0, EvidenceClass::RecipientLevel, 1, Duration::from_millis(5))
        else {
            unreachable!("that is what it makes")
        };
        let text = "no more letters of this week".into();
        let (answered, sender) = (Some(Answered::Recipient), Sender::Other);
        let logged = Some(LoggedReply { answered, code: 550, text, sender });
        CoreInput::LogEvent(LogEvent::Delivery(Delivery { logged, summary: "550 no more".into(), ..delivery }))
    };
    for (own, expected) in [(false, [100, 0]), (true, [0, 100])] {
        let mut core = started(document(own));
        core.handle(at(1.0), refused());
        assert_eq!(carried(&core), expected, "with rules: {own}");
        if own {
            let orders = switches(&mut core);
            let Some(Cause::Opened { class, .. }) = orders.last().map(|order| &order.cause) else {
                panic!("{orders:?}")
            };
            assert_eq!(*class, EvidenceClass::AccountPaused);
        }
    }
}

/// A refusal of this text at the end of the data, which was made temporary.
fn refused_at_data(backend: u16, message: u64, text: &str) -> CoreInput {
    let CoreInput::LogEvent(LogEvent::Delivery(delivery)) = kept(backend, message, SECOND / 10) else {
        unreachable!("that is what it makes")
    };
    let (answered, sender) = (Some(Answered::Data), Sender::Other);
    let logged = Some(LoggedReply { answered, code: 554, text: text.into(), sender });
    CoreInput::LogEvent(LogEvent::Delivery(Delivery { logged, ..delivery }))
}

/// Reply of Amazon SES to a sender that is not verified.
const NOT_VERIFIED: &str = "Message rejected: Email address is not verified.";

#[test]
fn a_refusal_of_a_senders_identity_is_nothing_against_the_backend_and_is_still_kept() {
    for (text, carrying, told) in
        [(NOT_VERIFIED, [100, 0], vec![]), ("unexpected error", [0, 100], vec![Some(EvidenceClass::Permanent)])]
    {
        let mut core = started(usual(1, &[(100, false), (0, true)]));
        for message in 0..12_u32 {
            core.handle(at(1.0 + 5.0 * f64::from(message)), refused_at_data(0, message.into(), text));
        }
        assert_eq!((carried(&core), troubles(&core)), (carrying.to_vec(), told), "{text}");
        assert_eq!(core.view().unwrap().kept.unwrap().mail.messages, 12, "{text}");
    }
}

#[test]
fn the_summary_of_a_refusal_names_the_rule_within_its_bound() {
    let summary: Arc<str> = "x".repeat(log_event::MAX_SUMMARY).into();
    let CoreInput::LogEvent(LogEvent::Delivery(delivery)) =
        delivery(0, EvidenceClass::Permanent, 1, Duration::from_millis(5))
    else {
        unreachable!("that is what it makes")
    };
    let (answered, sender) = (None, Sender::Other);
    let logged = Some(LoggedReply { answered, code: 554, text: "spent".into(), sender });
    let delivery =
        Delivery { logged, refusal: Some(MessageRefusal { about: About::Unknown, text: 7 }), summary, ..delivery };
    let rule = ReplyRule {
        name: "house".into(),
        about: "Quota".into(),
        stages: vec![],
        codes: vec![],
        enhanced_codes: vec![],
        words: vec!["spent".into()],
    };
    let (rulebook, _) = Rulebook::new(&ReplyRules { rules: vec![rule], ..ReplyRules::default() });
    let read = delivery.read_by(&rulebook);
    assert_eq!(read.class, EvidenceClass::QuotaExhausted);
    assert_eq!(read.refusal, Some(MessageRefusal { about: About::Quota, text: 7 }));
    assert!(read.summary.ends_with("x (by spec.replies[house])"), "{}", read.summary);
    assert_eq!(read.summary.chars().count(), log_event::MAX_SUMMARY);
}

fn troubles(core: &AgentCore) -> Vec<Option<EvidenceClass>> {
    core.verdicts().iter().map(|verdict| verdict.verdict.troubled_by()).collect()
}

#[test]
fn nothing_but_throttling_for_five_minutes_is_told_to_the_operator_and_moves_nothing_by_itself() {
    let mut core = started(usual(1, &[(100, false), (0, true)]));
    send(&mut core, 0, EvidenceClass::Ok, 1.0, 10.0, 1.0);
    core.poll();
    send(&mut core, 0, EvidenceClass::Throttled, 10.0, 309.0, 1.0);
    assert_eq!((core.poll(), troubles(&core)), (vec![], vec![None]), "a busy minute is no news");
    send(&mut core, 0, EvidenceClass::Throttled, 310.0, 312.0, 1.0);
    assert_eq!((core.poll(), troubles(&core)), (vec![CoreAction::Report], vec![Some(EvidenceClass::Throttled)]));
    let [BackendVerdict { verdict: TrafficVerdict::Throttled(run), .. }] = &core.verdicts()[..] else { panic!() };
    assert_eq!((run.since, run.until), (at(10.0), at(311.0)));
    assert_eq!(percents(&core), [100, 0]);
    send(&mut core, 0, EvidenceClass::Ok, 320.0, 321.0, 1.0);
    assert_eq!((core.poll(), troubles(&core)), (vec![CoreAction::Report], vec![None]), "a message was taken");
    // Time alone ends it, too: mail has moved away.
    send(&mut core, 0, EvidenceClass::Throttled, 330.0, 640.0, 1.0);
    assert_eq!(troubles(&core), [Some(EvidenceClass::Throttled)]);
    core.handle_timeout(at(1240.0));
    assert_eq!(troubles(&core), []);
}

#[test]
fn what_asks_our_own_log_ins_for_less_is_no_throttling_of_mail() {
    let mut core = started(usual(1, &[(100, false), (0, true)]));
    for second in 0..600 {
        let CoreInput::LogEvent(LogEvent::Delivery(mut delivery)) =
            delivery(0, EvidenceClass::Throttled, second, SECOND / 10)
        else {
            unreachable!()
        };
        let text = "4.7.0 Too many login attempts, please try again later".into();
        let answered = Some(Answered::Auth);
        delivery.logged = Some(LoggedReply { answered, code: 454, text, sender: Sender::default() });
        #[expect(clippy::cast_precision_loss, reason = "minutes")]
        core.handle(at(second as f64), CoreInput::LogEvent(LogEvent::Delivery(delivery)));
    }
    assert_eq!(troubles(&core), []);
}
