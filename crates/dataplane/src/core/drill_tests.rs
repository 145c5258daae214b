//! Tests of drills in virtual time: what is refused, for how long, and what a drill leaves behind.

use std::time::Duration;

use mail_failover_contract::routing::{Routing, parse};
use mail_failover_core::model::{DrillState, EvidenceClass, Timestamp};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::tests::{at, delivery, started, switches};
use super::*;

const MILLISECOND: Duration = Duration::from_millis(1);

/// Backends `a`, `b` and `c`; the first has the mail, and all are alternates. `more` is merged into the document.
fn document(more: &Value) -> Value {
    let backend = |(number, name): (usize, &&str)| {
        json!({"name": name, "percent": if number == 0 { 100 } else { 0 }, "standby": true, "alternate": true,
            "host": "127.0.0.1", "port": number + 1, "tls": {"mode": "None"}})
    };
    let backends: Vec<_> = ["a", "b", "c"].iter().enumerate().map(backend).collect();
    let mut document = json!({
        "apiVersion": "agent.mailfailover.io/v1alpha1", "route": {"namespace": "shop", "name": "orders", "uid": "u"},
        "decision": {"transition": 1}, "backends": backends,
        "deliveries": {"consecutive": 10, "lastingMilliseconds": 50_000, "immediately": ["AccountPaused"],
            "cooldownMilliseconds": 600_000},
    });
    document.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    document
}

fn routing(more: &Value) -> Routing {
    parse(&document(more).to_string()).unwrap()
}

/// The usual document with a drill of the first backend for ten minutes.
fn drilled(id: &str) -> Routing {
    routing(&json!({"drill": {"id": id, "backends": ["a"], "forSeconds": 600}}))
}

fn quiet() -> Routing {
    routing(&json!({}))
}

fn follow(core: &mut AgentCore, seconds: f64, routing: Routing) {
    core.handle(at(seconds), CoreInput::Routing(routing));
}

/// The backends that a message tries, as letters.
fn order(core: &AgentCore) -> String {
    let answers = core.answers().unwrap();
    answers.ways_for_recipient("x@example.net").iter().map(|backend| backend.name.to_string()).collect()
}

fn state(core: &AgentCore) -> DrillState {
    core.view().unwrap().drill.unwrap().mail.state
}

fn deliver(core: &mut AgentCore, seconds: f64, backend: u16, class: EvidenceClass) {
    let message = at(seconds).as_micros().unsigned_abs();
    core.handle(at(seconds), delivery(backend, class, message, MILLISECOND));
}

/// A failure after which the message went on to another backend.
fn pass_on(core: &mut AgentCore, seconds: f64, backend: u16) {
    let message = at(seconds).as_micros().unsigned_abs();
    let CoreInput::LogEvent(LogEvent::Delivery(failed)) =
        delivery(backend, EvidenceClass::ConnectionRefused, message, MILLISECOND)
    else {
        unreachable!("that is what it makes")
    };
    let passed_on = Delivery { disposition: Disposition::PassedOn, ..failed };
    core.handle(at(seconds), CoreInput::LogEvent(LogEvent::Delivery(passed_on)));
}

/// The memory as the disk has it.
fn saved(core: &mut AgentCore) -> CoreMemory {
    let memories = core.poll().into_iter().filter_map(|action| match action {
        CoreAction::Remember(memory) => Some(memory),
        CoreAction::Publish(_) | CoreAction::Switch(_) | CoreAction::Report => None,
    });
    serde_json::from_str(&serde_json::to_string(&memories.last().expect("it is saved")).unwrap()).unwrap()
}

#[test]
fn a_drill_leaves_its_backend_out_and_nothing_of_it_is_evidence() {
    let mut core = started(quiet());
    core.poll();
    follow(&mut core, 1.0, drilled("d1"));
    assert_eq!((order(&core), core.answers().unwrap().carried()), ("bc".to_owned(), vec![0, 100, 0]));
    let actions = core.poll();
    assert!(actions.contains(&CoreAction::Report), "{actions:?}");
    let causes = actions.iter().filter_map(|action| match action {
        CoreAction::Switch(order) => Some((order.cause.clone(), order.transition(1), order.lost.clone())),
        CoreAction::Publish(_) | CoreAction::Remember(_) | CoreAction::Report => None,
    });
    assert_eq!(causes.collect::<Vec<_>>(), [(Cause::Drill { state: DrillState::Refusing }, None, vec!["a".into()])]);
    // One that was on its way to it, and two by the standby.
    let late = delivery(0, EvidenceClass::Ok, 1, Duration::from_secs(1));
    core.handle(at(1.5), late);
    deliver(&mut core, 3.0, 1, EvidenceClass::Ok);
    deliver(&mut core, 4.0, 1, EvidenceClass::Ok);
    let view = core.view().unwrap();
    let DrillView { mail, backends, ends_at } = view.drill.unwrap();
    assert_eq!((mail.state, mail.carried, mail.let_through), (DrillState::Refusing, 2, 0));
    assert_eq!(mail.first_delivery_after, Some(Duration::from_secs(2)));
    assert_eq!((backends, ends_at), (vec!["a".into()], at(601.0)));
    assert!(mail.refused >= 1, "the answer above");
    let refused: Vec<_> =
        view.backends.iter().map(|backend| (backend.is_refused, backend.breaker, backend.failing.is_some())).collect();
    assert_eq!(refused, [(true, None, false), (false, None, false), (false, None, false)]);
    assert!(core.verdicts().iter().all(|verdict| verdict.verdict.troubled_by().is_none()));
}

#[test]
fn a_drill_ends_by_itself_and_its_id_never_begins_again() {
    let mut core = started(drilled("d1"));
    assert_eq!(core.next_timeout(), Some(at(600.0)));
    core.handle_timeout(at(599.9));
    assert_eq!(order(&core), "bc");
    core.poll();
    core.handle_timeout(at(600.0));
    assert_eq!((order(&core), state(&core)), ("abc".to_owned(), DrillState::Over));
    assert!(core.poll().contains(&CoreAction::Report));
    follow(&mut core, 700.0, drilled("d1"));
    follow(&mut core, 701.0, quiet());
    follow(&mut core, 702.0, drilled("d1"));
    assert_eq!(order(&core), "abc");
    follow(&mut core, 703.0, drilled("d2"));
    assert_eq!(order(&core), "bc", "another drill");
    follow(&mut core, 704.0, drilled("d1"));
    assert_eq!((order(&core), state(&core)), ("abc".to_owned(), DrillState::Over));
    follow(&mut core, 705.0, drilled("d2"));
    assert_eq!(order(&core), "abc", "another drill has ended it");
}

#[test]
fn a_document_without_the_drill_ends_it_at_once_and_one_that_lengthens_it_does_not() {
    let mut core = started(drilled("d1"));
    let longer = routing(&json!({"drill": {"id": "d1", "backends": ["a"], "forSeconds": 6000}}));
    follow(&mut core, 10.0, longer);
    assert_eq!(core.next_timeout(), Some(at(600.0)));
    core.poll();
    follow(&mut core, 20.0, quiet());
    assert_eq!((order(&core), state(&core)), ("abc".to_owned(), DrillState::Over));
    let orders = switches(&mut core);
    assert_eq!(
        orders.iter().map(|order| &order.cause).collect::<Vec<_>>(),
        [&Cause::Drill { state: DrillState::Over }]
    );
}

#[test]
fn a_restart_neither_ends_nor_lengthens_a_drill_nor_begins_one_again() {
    let mut core = started(drilled("d1"));
    let memory = saved(&mut core);
    let mut again = AgentCore::new(Some(memory.clone()));
    follow(&mut again, 300.0, drilled("d1"));
    assert_eq!((order(&again), again.next_timeout()), ("bc".to_owned(), Some(at(600.0))));
    let (before, after) = (core.answers().unwrap(), again.answers().unwrap());
    assert_eq!(change::mark(&before), change::mark(&after), "no switch is carried out twice");
    // Its time is over while it is away.
    let mut late = AgentCore::new(Some(memory.clone()));
    follow(&mut late, 601.0, drilled("d1"));
    assert_eq!((order(&late), state(&late)), ("abc".to_owned(), DrillState::Over));
    // A clock that has gone back: nobody knows how much of it is left.
    let mut back = AgentCore::new(Some(memory));
    back.handle(at(0.0) - Duration::from_secs(10), CoreInput::Routing(drilled("d1")));
    assert_eq!((order(&back), state(&back)), ("abc".to_owned(), DrillState::Over));
    // It was lifted before the end.
    deliver(&mut core, 5.0, 1, EvidenceClass::ConnectionRefused);
    let mut lifted = AgentCore::new(Some(saved(&mut core)));
    follow(&mut lifted, 10.0, drilled("d1"));
    assert_eq!((order(&lifted), state(&lifted)), ("abc".to_owned(), DrillState::Lifted));
}

#[test]
fn a_message_that_waits_because_the_standby_fails_lifts_the_drill_for_good() {
    for (class, is_lifted) in [
        (EvidenceClass::ConnectionRefused, true),
        (EvidenceClass::Temporary, true),
        (EvidenceClass::AccountPaused, true),
        (EvidenceClass::Throttled, true),
        (EvidenceClass::RecipientLevel, false),
        (EvidenceClass::Inconclusive, false),
    ] {
        let mut core = started(drilled("d1"));
        core.poll();
        deliver(&mut core, 5.0, 1, class);
        assert_eq!(state(&core) == DrillState::Lifted, is_lifted, "{class:?}");
        assert_eq!(order(&core).starts_with('a'), is_lifted, "{class:?}: {}", order(&core));
        let is_freed =
            switches(&mut core).iter().any(|order| order.cause == Cause::Drill { state: DrillState::Lifted });
        assert_eq!(is_freed, is_lifted, "what was deferred is sent again at once");
        deliver(&mut core, 6.0, 1, EvidenceClass::Ok);
        follow(&mut core, 7.0, drilled("d1"));
        assert_eq!(state(&core) == DrillState::Lifted, is_lifted, "{class:?}");
    }
}

#[test]
fn a_drill_is_lifted_when_every_other_way_has_failed_and_not_before() {
    let mut core = started(drilled("d1"));
    pass_on(&mut core, 5.0, 1);
    assert_eq!(state(&core), DrillState::Refusing, "c takes the message");
    deliver(&mut core, 6.0, 1, EvidenceClass::Ok);
    pass_on(&mut core, 7.0, 2);
    assert_eq!(state(&core), DrillState::Refusing, "b works again");
    pass_on(&mut core, 8.0, 1);
    assert_eq!(state(&core), DrillState::Lifted);
    // Where nobody answers the sessions that were begun, no delivery tells.
    let mut core = started(drilled("d1"));
    for backend in ["b", "c"] {
        core.handle(at(20.0), CoreInput::Stalled { backend: backend.into(), sessions: 4 });
    }
    assert_eq!(state(&core), DrillState::Lifted);
}

#[test]
fn failures_of_before_do_not_lift_a_drill_unless_the_breaker_is_open() {
    let mut core = started(quiet());
    pass_on(&mut core, 1.0, 1);
    pass_on(&mut core, 2.0, 2);
    follow(&mut core, 10.0, drilled("d1"));
    assert_eq!(state(&core), DrillState::Refusing);
    let mut core = started(quiet());
    for second in 1..4 {
        pass_on(&mut core, f64::from(second), 1);
        pass_on(&mut core, f64::from(second) + 0.1, 2);
    }
    follow(&mut core, 10.0, drilled("d1"));
    assert_eq!((state(&core), order(&core)), (DrillState::Lifted, "abc".to_owned()));
}

#[test]
fn without_another_way_nothing_is_refused_and_it_begins_when_there_is_one() {
    let drill = json!({"id": "d1", "backends": ["a"], "forSeconds": 600});
    let with = |change: fn(&mut Routing)| {
        let mut routing = routing(&json!({"drill": drill}));
        change(&mut routing);
        routing
    };
    let no_alternates =
        |routing: &mut Routing| routing.backends.iter_mut().for_each(|backend| backend.alternate = false);
    let mut core = started(with(no_alternates));
    assert_eq!((order(&core), state(&core)), ("a".to_owned(), DrillState::Idle));
    follow(&mut core, 1.0, with(|_| {}));
    assert_eq!((order(&core), state(&core)), ("bc".to_owned(), DrillState::Refusing));
    // Standbys that have their messages of the day.
    let mut spent = started(with(|routing| {
        routing.backends[1..].iter_mut().for_each(|backend| backend.messages_per_day = Some(1));
    }));
    assert_eq!(state(&spent), DrillState::Refusing);
    deliver(&mut spent, 1.0, 1, EvidenceClass::Ok);
    assert_eq!((order(&spent), state(&spent)), ("c".to_owned(), DrillState::Refusing));
    deliver(&mut spent, 2.0, 2, EvidenceClass::Ok);
    assert_eq!(
        (order(&spent), state(&spent)),
        ("a".to_owned(), DrillState::Idle),
        "limits are kept, and no mail waits"
    );
    // A name that nobody has.
    let unknown = routing(&json!({"drill": {"id": "d1", "backends": ["z"], "forSeconds": 600}}));
    assert_eq!(state(&started(unknown)), DrillState::Idle);
}

#[test]
fn a_message_that_nobody_else_may_carry_or_takes_goes_to_the_refused_backend() {
    let mut apart = drilled("d1");
    for backend in &mut apart.backends[1..] {
        backend.sender_domains = vec!["shop.example".into()];
    }
    let core = started(apart);
    let answers = core.answers().unwrap();
    let names = |sender: &str| {
        answers.ways_for_sender(sender).iter().map(|backend| backend.name.to_string()).collect::<String>()
    };
    assert_eq!((names("x@shop.example"), names("x@other.example")), ("bc".to_owned(), "a".to_owned()));
    // Where the operator has decided already, too: both others have refused the message to this recipient.
    let mut moved = drilled("d1");
    (moved.backends[0].percent, moved.backends[1].percent) = (0, 100);
    let mut answers = Answers::clone(&started(moved).answers().unwrap());
    let refused = ["b".into(), "c".into()].into();
    let avoided = [(crate::answers::recipient_hash("x@example.net"), refused)].into();
    answers.learnt = Arc::new(crate::answers::LearntRefusals { avoided, ..crate::answers::LearntRefusals::default() });
    let ways = answers.ways_for_recipient("x@example.net");
    assert_eq!(ways.iter().map(|backend| backend.name.to_string()).collect::<String>(), "a");
}

#[test]
fn a_decision_of_the_operator_during_a_drill_is_a_switch_of_its_own() {
    let mut core = started(drilled("d1"));
    core.poll();
    let mut moved = drilled("d1");
    moved.transition = 2;
    (moved.backends[0].percent, moved.backends[1].percent) = (0, 100);
    follow(&mut core, 30.0, moved);
    let orders = switches(&mut core);
    assert_eq!(
        orders.iter().map(|order| (order.cause.clone(), order.transition(2))).collect::<Vec<_>>(),
        [(Cause::Operator, Some(2))]
    );
    assert_eq!((order(&core), state(&core)), ("bc".to_owned(), DrillState::Refusing), "a is no alternate meanwhile");
}

#[derive(Clone, Debug)]
enum Event {
    Delivered(u16, EvidenceClass, bool),
    Drilled(Option<u8>, bool),
    Waited,
}

fn any_event() -> impl Strategy<Value = Event> {
    let class = prop::sample::select(EvidenceClass::ALL.to_vec());
    prop_oneof![
        8 => (0..3_u16, class, any::<bool>()).prop_map(|(backend, class, passed)| Event::Delivered(backend, class, passed)),
        2 => (prop::option::of(0..4_u8), any::<bool>()).prop_map(|(drill, moved)| Event::Drilled(drill, moved)),
        1 => Just(Event::Waited),
    ]
}

proptest! {
    #[test]
    fn whatever_happens_a_drill_leaves_nothing_behind_and_every_message_has_a_way(
        events in prop::collection::vec((0..60_000_u64, any_event()), 0..200),
    ) {
        let (mut core, mut twin) = (started(quiet()), started(quiet()));
        let mut now = at(1.0);
        let mut first_seen: std::collections::BTreeMap<u8, Timestamp> = std::collections::BTreeMap::new();
        for (number, (pause, event)) in events.into_iter().enumerate() {
            now = now + Duration::from_millis(pause);
            match event {
                Event::Delivered(backend, class, passed) => {
                    let CoreInput::LogEvent(LogEvent::Delivery(given)) = delivery(backend, class, number as u64, MILLISECOND) else { unreachable!() };
                    let disposition = if passed && class != EvidenceClass::Ok { Disposition::PassedOn } else { given.disposition };
                    for core in [&mut core, &mut twin] {
                        core.handle(now, CoreInput::LogEvent(LogEvent::Delivery(Delivery { disposition, ..given.clone() })));
                    }
                }
                Event::Drilled(drill, moved) => {
                    let more = drill.map_or(json!({}), |id| json!({"drill": {"id": format!("d{id}"), "backends": ["a"], "forSeconds": 100}}));
                    let (mut with, mut without) = (routing(&more), quiet());
                    if moved {
                        for routing in [&mut with, &mut without] {
                            (routing.backends[0].percent, routing.backends[1].percent) = (0, 100);
                        }
                    }
                    if let Some(id) = drill {
                        first_seen.entry(id).or_insert(now);
                    }
                    core.handle(now, CoreInput::Routing(with));
                    twin.handle(now, CoreInput::Routing(without));
                }
                Event::Waited => {
                    core.handle_timeout(now);
                    twin.handle_timeout(now);
                }
            }
            let (answers, plain) = (core.answers().unwrap(), twin.answers().unwrap());
            prop_assert_eq!(&answers.open, &plain.open, "nothing of a drill enters a breaker");
            prop_assert_eq!(core.verdicts(), twin.verdicts(), "nor the evidence");
            // Whoever asks takes a trial, and its result is evidence.
            let asked = Answers { trials: vec![], ..Answers::clone(&answers) };
            let ways = asked.ways_for_recipient("x@example.net");
            prop_assert!(!ways.is_empty());
            let is_refusing = answers.refused.is_some();
            let may_still = first_seen.values().any(|since| now.since(*since) < Duration::from_secs(100));
            prop_assert!(!is_refusing || may_still, "a drill outlasts its time");
            prop_assert!(!is_refusing || ways.iter().all(|backend| *backend.name != *"a"), "it refuses");
        }
    }
}
