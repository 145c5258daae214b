use std::time::Duration;

use proptest::prelude::*;
use proptest::strategy::Strategy as Generator;

use super::*;
use crate::engine::testing::{Fleet, MARKS, at};
use crate::engine::{Capacity, Request, RequestAction};
use crate::model::{CronWindow, DrillBudget, Drills, Objectives, Policy};

/// A route with drills; every output follows a second after each decision.
struct Rehearsal {
    fleet: Fleet,
    times: Vec<TransitionTimes>,
    applies: bool,
    has_agents: bool,
    delivers: bool,
    blocked: BlockedDrill,
    rounds: Vec<WholeRound>,
    elsewhere: DrillObstacles,
    observers: Agreement,
}

impl Rehearsal {
    /// `a` leads, three failures ten seconds apart are a failure, and mail stays with the standby for a minute.
    fn of(text: &str) -> Self {
        let mut rehearsal = Self {
            fleet: Fleet::of(text).on("a"),
            times: vec![],
            applies: true,
            has_agents: false,
            delivers: true,
            blocked: BlockedDrill::default(),
            rounds: vec![],
            elsewhere: DrillObstacles::NONE,
            observers: Agreement { voters: 3, unhealthy: 0 },
        };
        rehearsal.settle(1000);
        rehearsal
    }

    fn policy(&mut self) -> &mut Policy {
        self.fleet.policy.as_mut().unwrap()
    }

    fn settle(&mut self, seconds: u64) -> Decision {
        let now = at(seconds);
        let inputs = DrillInputs {
            elsewhere: &self.elsewhere,
            times: &self.times,
            has_agents: self.has_agents,
            blocked: self.blocked,
            rounds: &self.rounds,
            observers: self.observers,
        };
        let decision = self.fleet.decide_with(seconds, Some(inputs));
        self.fleet.memory = decision.memory.clone();
        for transition in &self.fleet.memory.history {
            if !self.times.iter().any(|known| known.id == transition.id) {
                let applied_at = self.applies.then(|| now + Duration::from_secs(1));
                let out_at = (self.delivers && self.has_agents).then(|| now + Duration::from_secs(2));
                self.times.push(TransitionTimes { id: transition.id, applied_at, first_delivery_at: out_at });
            }
        }
        decision
    }

    /// Settles each second.
    fn run(&mut self, seconds: std::ops::RangeInclusive<u64>) {
        for second in seconds {
            self.settle(second);
        }
    }

    fn ask(&mut self, mode: DrillMode) {
        let id = self.fleet.memory.request.as_ref().map_or(1, |answer| answer.id.parse().unwrap_or(0) + 1);
        let action = RequestAction::Drill { mode: Some(mode), duration: None, is_forced: false };
        self.fleet.ask(&id.to_string(), action);
    }

    fn answer(&self) -> (bool, &str) {
        let answer = self.fleet.memory.request.as_ref().unwrap();
        (answer.is_done, answer.message.as_str())
    }

    fn result(&self) -> (&'static str, String) {
        let record = &self.fleet.memory.drills.records[0];
        (record.outcome.as_str(), record.reason.to_string())
    }

    fn is_drilling(&self) -> bool {
        self.fleet.memory.drill.is_some()
    }
}

/// The memory without anything of drills and requests.
fn stripped(memory: &Memory) -> Memory {
    let mut stripped = match memory.leading_drill() {
        Some(drill) => memory.beside(drill),
        None => memory.clone(),
    };
    stripped.drill = None;
    stripped.drills = DrillLog::default();
    stripped.request = None;
    stripped.answered = vec![];
    // A drill interrupts what holds a return.
    stripped.held_since = None;
    stripped.history.retain(|transition| transition.reason != TransitionReason::Drill);
    for transition in &mut stripped.history {
        transition.id = 0;
    }
    stripped
}

#[test]
fn an_observed_drill_moves_by_the_policy_stays_and_restores_and_nothing_else_is_remembered() {
    let mut rehearsal = Rehearsal::of("a+ b+");
    let before = rehearsal.fleet.memory.clone();
    rehearsal.ask(DrillMode::Observed);
    let begun = rehearsal.settle(1001);
    assert_eq!(begun.notices, [Notice::RequestAnswered, Notice::DrillBegan]);
    assert!(rehearsal.answer().0, "{:?}", rehearsal.answer());
    rehearsal.run(1002..=1020);
    assert_eq!(rehearsal.fleet.shares(), "a100", "two failures are not enough");
    rehearsal.settle(1021);
    let moved = rehearsal.settle(1022);
    assert_eq!((rehearsal.fleet.shares(), moved.memory.state), ("b100".to_owned(), State::FailedOver));
    let transition = moved.transition.unwrap();
    assert_eq!((transition.reason, transition.first_evidence_at), (TransitionReason::Drill, Some(at(1001))));
    assert!(!moved.notices.contains(&Notice::Moved), "nobody is told of a failover: {:?}", moved.notices);
    assert!(moved.explanation.summary().contains("a drill (Observed) of a is under way"));
    rehearsal.run(1023..=1081);
    assert_eq!(rehearsal.fleet.shares(), "b100");
    let restored = rehearsal.settle(1082);
    assert_eq!((rehearsal.fleet.shares(), restored.is_preferred), ("a100".to_owned(), true));
    let ended = rehearsal.settle(1084);
    assert_eq!(ended.notices, [Notice::DrillEnded]);
    let record = ended.memory.drills.records[0].clone();
    assert_eq!((record.outcome, &*record.reason), (DrillOutcome::Passed, "WithinObjective"));
    let DrillTimes { detected_at, decided_at, applied_at, .. } = record.times;
    assert_eq!(detected_at, Some(at(1021) + Duration::from_millis(5)));
    assert_eq!((decided_at, applied_at, record.restored_at), (Some(at(1022)), Some(at(1023)), Some(at(1083))));
    assert!(
        record.message.contains("detected after 20.0 s, decided after 21.0 s, applied after 22.0 s"),
        "{}",
        record.message
    );
    assert_eq!(ended.memory.drills.passed_at, Some(at(1084)));
    assert_eq!(stripped(&ended.memory), stripped(&before));
}

#[test]
fn each_time_is_compared_with_its_objective() {
    for (recovery, delivery, result) in [
        (Some(30), Some(30), ("Passed", "WithinObjective")),
        (Some(21), None, ("Failed", "ObjectiveMissed")),
        (None, Some(22), ("Failed", "ObjectiveMissed")),
    ] {
        let mut rehearsal = Rehearsal::of("a+ b+");
        rehearsal.has_agents = true;
        rehearsal.policy().objectives = Objectives {
            recovery_time: recovery.map(Duration::from_secs),
            delivery_time: delivery.map(Duration::from_secs),
            ..Objectives::NONE
        };
        rehearsal.ask(DrillMode::Observed);
        rehearsal.run(1001..=1100);
        assert_eq!(rehearsal.result(), (result.0, result.1.to_owned()), "{recovery:?} {delivery:?}");
    }
}

#[test]
fn a_drill_that_cannot_go_on_ends_at_its_limit_and_says_at_which_step() {
    type Change = fn(&mut Rehearsal);
    let cases: [(Change, &str); 5] = [
        (|rehearsal| rehearsal.policy().thresholds.failure = 1000, "NotDetected"),
        (|rehearsal| rehearsal.fleet.candidates[1].confirmed_at = Some(at(0)), "NotDecided"),
        (|rehearsal| rehearsal.applies = false, "NotApplied"),
        (
            |rehearsal| {
                rehearsal.has_agents = true;
                rehearsal.delivers = false;
            },
            "WithinObjective",
        ),
        (
            |rehearsal| {
                rehearsal.has_agents = true;
                rehearsal.delivers = false;
                rehearsal.policy().objectives.delivery_time = Some(Duration::from_mins(1));
            },
            "NotDelivered",
        ),
    ];
    for (change, reason) in cases {
        let mut rehearsal = Rehearsal::of("a+ b+");
        change(&mut rehearsal);
        rehearsal.ask(DrillMode::Observed);
        rehearsal.run(1001..=1600);
        assert!(rehearsal.is_drilling(), "{reason}: it has ten minutes");
        rehearsal.run(1601..=1725);
        assert!(!rehearsal.is_drilling());
        assert_eq!((rehearsal.result().1.as_str(), rehearsal.fleet.shares()), (reason, "a100".to_owned()));
    }
}

#[test]
fn a_real_failure_aborts_it_and_restores_before_anything_else_is_decided() {
    for (name, mark, leads, reason) in [
        ("b", "-", "a100", "Unhealthy"),
        ("b", "%", "a100", "Throttled"),
        ("c", "=", "a100", "Unhealthy"),
        ("b", "~", "a100", "RouteChanged"),
        ("a", "-", "b100", "Unhealthy"),
    ] {
        let mut rehearsal = Rehearsal::of("a+ b+ c+");
        rehearsal.ask(DrillMode::Observed);
        rehearsal.run(1001..=1040);
        assert_eq!(rehearsal.fleet.shares(), "b100");
        rehearsal.fleet.set(name, mark, 1041);
        let decision = rehearsal.settle(1041);
        assert_eq!(rehearsal.fleet.shares(), leads, "{name}{mark}");
        let reasons: Vec<_> = decision.memory.history.iter().map(|transition| transition.reason).take(2).collect();
        if name == "a" {
            let real = TransitionReason::Failed(crate::model::EvidenceClass::NoAnswer);
            assert_eq!(reasons, [real, TransitionReason::Drill], "the failover is a real one, by its own evidence");
        } else {
            assert_eq!(reasons, [TransitionReason::Drill; 2]);
        }
        rehearsal.run(1042..=1044);
        assert_eq!(rehearsal.result(), ("Aborted", reason.to_owned()), "{name}{mark}");
    }
}

#[test]
fn a_storm_an_earlier_drill_and_a_lifted_block_abort_it_too() {
    type Change = fn(&mut Rehearsal);
    let cases: [(Change, &str); 3] = [
        (|rehearsal| rehearsal.elsewhere.moving = Some(DrillRefused::TooMany(1)), "TooMany"),
        (|rehearsal| rehearsal.fleet.is_storm = true, "Storm"),
        (|rehearsal| rehearsal.blocked.is_lifted = true, "Lifted"),
    ];
    for (change, reason) in cases {
        let mut rehearsal = Rehearsal::of("a+ b+");
        rehearsal.ask(DrillMode::Blocked);
        rehearsal.run(1001..=1010);
        assert!(rehearsal.fleet.memory.blocking_drill().is_some());
        change(&mut rehearsal);
        rehearsal.settle(1011);
        assert_eq!(rehearsal.result(), ("Aborted", reason.to_owned()));
        assert!(rehearsal.fleet.memory.blocking_drill().is_none());
    }
}

#[test]
fn a_drill_in_shadow_has_obstacles_of_its_own() {
    let mut rehearsal = Rehearsal::of("a+ b+");
    rehearsal.elsewhere.moving = Some(DrillRefused::TooMany(10));
    rehearsal.ask(DrillMode::Shadow);
    rehearsal.settle(1001);
    assert!(rehearsal.is_drilling(), "{:?}", rehearsal.answer());
    rehearsal.elsewhere = DrillObstacles { moving: None, shadow: Some(DrillRefused::TooMany(100)) };
    rehearsal.settle(1002);
    assert_eq!(rehearsal.result(), ("Aborted", "TooMany".to_owned()));
}

#[test]
fn nothing_begins_unless_everything_of_the_route_is_sound() {
    type Change = fn(&mut Rehearsal);
    let cases: [(&str, Change, &str); 12] = [
        ("a+ b-", |_| (), "b is Unhealthy"),
        ("a+ b?", |_| (), "b is Unknown"),
        ("a+ b%", |_| (), "b asks for less"),
        ("a+ b0", |_| (), "b is missing"),
        ("a+ b~", |_| (), "needs a standby"),
        ("a+", |_| (), "needs a standby"),
        ("a+ b+", |rehearsal| rehearsal.fleet.is_storm = true, "network is suspect"),
        (
            "a+ b+",
            |rehearsal| rehearsal.fleet.candidates[1].capacity = Capacity { percent: 60, until: None },
            "b takes 60 %",
        ),
        (
            "a+ b+",
            |rehearsal| {
                rehearsal.elsewhere.moving =
                    Some(DrillRefused::DomainBusy { route: "shop/other".into(), domain: "aws".into() });
            },
            "failure domain aws",
        ),
        (
            "a+ b+",
            |rehearsal| {
                rehearsal.fleet.memory.pause = Some(crate::engine::Pause { since: at(1), until: None });
            },
            "Paused",
        ),
        ("a+ b+", |rehearsal| rehearsal.fleet.memory.state = State::FailedOver, "the route is FailedOver"),
        (
            "a+ b+",
            |rehearsal| {
                rehearsal.policy().drills.window =
                    Some(CronWindow::new("0 4 * * *", "UTC", Duration::from_hours(1)).unwrap());
            },
            "\"force\": true",
        ),
    ];
    for (text, change, words) in cases {
        let mut rehearsal = Rehearsal::of(text);
        change(&mut rehearsal);
        rehearsal.ask(DrillMode::Observed);
        rehearsal.settle(1001);
        let (is_done, message) = rehearsal.answer();
        assert!(!is_done && message.contains(words), "{text}: {message}");
        assert!(!rehearsal.is_drilling());
    }
}

#[test]
fn limits_of_the_standby_are_no_obstacle_to_a_look_at_it() {
    let mut rehearsal = Rehearsal::of("a+ b+");
    rehearsal.fleet.candidates[1].capacity = Capacity { percent: 60, until: None };
    rehearsal.ask(DrillMode::Shadow);
    rehearsal.settle(1001);
    assert!(rehearsal.answer().0, "{:?}", rehearsal.answer());
}

#[test]
fn force_overrides_the_window_and_nothing_else() {
    let window = CronWindow::new("0 4 * * *", "UTC", Duration::from_hours(1)).unwrap();
    for (text, is_done) in [("a+ b+", true), ("a+ b-", false)] {
        let mut rehearsal = Rehearsal::of(text);
        rehearsal.policy().drills.window = Some(window.clone());
        let action = RequestAction::Drill { mode: None, duration: None, is_forced: true };
        rehearsal.fleet.ask("1", action);
        rehearsal.settle(1001);
        assert_eq!(rehearsal.answer().0, is_done, "{:?}", rehearsal.answer());
    }
}

#[test]
fn the_budget_of_drills_is_one_of_its_own() {
    let mut rehearsal = Rehearsal::of("a+ b+");
    rehearsal.policy().drills.budget = DrillBudget { drills: 1, per: Duration::from_hours(1) };
    rehearsal.policy().hold.budget.switches = 1;
    rehearsal.policy().hold.budget.per = Duration::from_hours(24);
    rehearsal.ask(DrillMode::Observed);
    rehearsal.run(1001..=1100);
    assert_eq!(rehearsal.result().0, "Passed");
    rehearsal.ask(DrillMode::Observed);
    rehearsal.settle(1101);
    assert!(rehearsal.answer().1.contains("spec.drills.budget"), "{:?}", rehearsal.answer());
    // The failover that the policy allows is still there, without a cooldown.
    rehearsal.fleet.set("a", "-", 1102);
    rehearsal.settle(1102);
    assert_eq!(rehearsal.fleet.shares(), "b100");
}

#[test]
fn a_schedule_begins_one_drill_for_each_opening_and_what_never_may_begin_is_skipped() {
    let mut rehearsal = Rehearsal::of("a+ b+");
    let window = CronWindow::new("0 4 * * *", "UTC", Duration::from_hours(1)).unwrap();
    rehearsal.policy().drills = Drills { window: Some(window), mode: DrillMode::Observed, ..Drills::default() };
    let four = 4 * 3600;
    let before = rehearsal.settle(2000);
    assert_eq!(before.next_timeout, Some(at(four)), "it wakes when it is due");
    let begun = rehearsal.settle(four);
    assert_eq!(begun.notices, [Notice::DrillBegan]);
    rehearsal.run(four + 1..=four + 90);
    assert_eq!((rehearsal.result().0, rehearsal.fleet.memory.drills.records.len()), ("Passed", 1));
    rehearsal.settle(four + 1800);
    assert!(!rehearsal.is_drilling(), "once for each opening");
    // The next day something is wrong until it is too late.
    let day = 86_400;
    rehearsal.fleet.set("b", "-", day + 1000);
    rehearsal.settle(day + four);
    let waiting = rehearsal.fleet.memory.drills.waiting.clone().unwrap();
    assert_eq!((&*waiting.reason, waiting.until), ("Unhealthy", at(day + four + 3600)));
    rehearsal.fleet.set("b", "+", day + four + 3001);
    rehearsal.settle(day + four + 3001);
    let waiting = rehearsal.fleet.memory.drills.waiting.clone().unwrap();
    assert_eq!(&*waiting.reason, "OutsideWindow", "it could not end within it any more");
    let skipped = rehearsal.settle(day + four + 3600);
    assert_eq!(skipped.notices, [Notice::DrillEnded]);
    assert_eq!(rehearsal.result(), ("Skipped", "OutsideWindow".to_owned()));
    assert_eq!(rehearsal.fleet.memory.drills.waiting, None);
}

#[test]
fn drills_that_are_skipped_free_no_budget_and_displace_no_result() {
    let (day, four) = (86_400, 4 * 3600);
    for allowed in [1_u8, 5] {
        let mut rehearsal = Rehearsal::of("a+ b+");
        let window = CronWindow::new("0 4 * * *", "UTC", Duration::from_hours(1)).unwrap();
        let budget = DrillBudget { drills: allowed, per: Duration::from_hours(720) };
        rehearsal.policy().drills =
            Drills { window: Some(window), mode: DrillMode::Observed, budget, ..Drills::default() };
        rehearsal.settle(2000);
        for night in 0..u64::from(allowed) {
            let begins = night * day + four;
            rehearsal.run(begins..=begins + 90);
            assert_eq!((rehearsal.result().0, rehearsal.is_drilling()), ("Passed", false), "night {night}");
        }
        for night in u64::from(allowed)..20 {
            let begins = night * day + four;
            rehearsal.settle(begins);
            assert!(!rehearsal.is_drilling(), "{allowed} in thirty days, and this is night {night}");
            rehearsal.settle(begins + 3600);
            assert_eq!(rehearsal.result(), ("Skipped", "BudgetSpent".to_owned()));
        }
        let outcomes: Vec<_> = rehearsal.fleet.memory.drills.records.iter().map(|record| record.outcome).collect();
        let mut expected = vec![DrillOutcome::Passed; usize::from(allowed)];
        expected.insert(0, DrillOutcome::Skipped);
        assert_eq!(outcomes, expected);
    }
}

#[test]
fn what_a_person_asks_for_comes_first() {
    let mut rehearsal = Rehearsal::of("a+ b+");
    rehearsal.ask(DrillMode::Observed);
    rehearsal.run(1001..=1040);
    rehearsal.ask(DrillMode::Shadow);
    rehearsal.settle(1041);
    assert!(rehearsal.answer().1.contains("is under way"), "{:?}", rehearsal.answer());
    assert_eq!(rehearsal.fleet.shares(), "b100", "a second drill does not end the first one");
    rehearsal.fleet.ask("9", RequestAction::Failback);
    rehearsal.settle(1042);
    assert!(rehearsal.answer().0, "{:?}", rehearsal.answer());
    assert_eq!(rehearsal.fleet.shares(), "a100");
    rehearsal.settle(1044);
    assert_eq!(rehearsal.result(), ("Aborted", "Asked".to_owned()));
}

#[test]
fn one_whose_operator_was_away_ends_and_restores_at_its_return() {
    for mode in [DrillMode::Observed, DrillMode::Blocked] {
        let mut rehearsal = Rehearsal::of("a+ b+");
        rehearsal.ask(mode);
        rehearsal.run(1001..=1030);
        assert_eq!(rehearsal.fleet.shares(), "b100");
        // Everything that a process knows is the memory.
        let mut successor = Rehearsal::of("a+ b+");
        successor.fleet.memory = rehearsal.fleet.memory.clone();
        successor.times.clone_from(&rehearsal.times);
        successor.settle(9000);
        assert_eq!(successor.fleet.shares(), "a100");
        successor.settle(9002);
        assert!(!successor.is_drilling());
    }
}

#[test]
fn a_drill_in_shadow_waits_for_every_probe_of_the_standby_and_moves_nothing() {
    let round = |probe: &str, at: Option<(u64, Option<&str>)>| WholeRound {
        probe: probe.into(),
        period: Duration::from_secs(16),
        latest: at.map(|(seconds, failure)| (crate::engine::testing::at(seconds), failure.map(Into::into))),
    };
    for (rounds, unhealthy, result) in [
        (
            vec![round("auth", Some((1005, None))), round("job", Some((1010, None)))],
            0,
            Some(("Passed", "StandbyAnswered")),
        ),
        (vec![round("auth", Some((1005, None))), round("job", Some((900, None)))], 0, None),
        (
            vec![round("auth", Some((1005, Some("535 5.7.8 no")))), round("job", None)],
            0,
            Some(("Failed", "StandbyFailed")),
        ),
        (vec![round("auth", Some((1005, None)))], 1, Some(("Failed", "StandbyFailed"))),
        (vec![], 0, None),
    ] {
        let mut rehearsal = Rehearsal::of("a+ b+");
        rehearsal.ask(DrillMode::Shadow);
        rehearsal.settle(1001);
        rehearsal.rounds = rounds;
        rehearsal.observers.unhealthy = unhealthy;
        rehearsal.run(1002..=1030);
        assert_eq!((rehearsal.fleet.shares(), rehearsal.is_drilling()), ("a100".to_owned(), result.is_none()));
        if let Some((outcome, reason)) = result {
            assert_eq!(rehearsal.result(), (outcome, reason.to_owned()));
        } else {
            rehearsal.settle(1602);
            assert_eq!(rehearsal.result(), ("Failed", "NotObserved".to_owned()));
        }
        assert_eq!(rehearsal.fleet.memory.history, vec![]);
    }
}

#[test]
fn transitions_of_drills_displace_no_real_ones() {
    let mut memory = Memory::default();
    for id in 0..40 {
        let mut transition = crate::engine::testing::transition(id, "a", "b", 0);
        if id % 2 == 1 {
            transition.reason = TransitionReason::Drill;
        }
        memory.remember(transition);
    }
    let of_drills = memory.history.len() - memory.real_transitions().count();
    assert_eq!((memory.real_transitions().count(), of_drills), (10, 4));
    assert_eq!(memory.last_transition().map(|last| last.id), Some(39));
}

/// A change between two decisions: mostly none.
fn any_turn() -> impl Generator<Value = (u64, Option<[usize; 3]>, Option<RequestAction>, bool)> {
    let marks = prop_oneof![
        4 => Just(None),
        4 => Just(Some([0, 0, 0])),
        1 => Generator::prop_map(prop::array::uniform3(0..MARKS.len()), Some),
    ];
    let action = prop_oneof![
        30 => Just(None),
        4 => Just(Some(RequestAction::Drill { mode: Some(DrillMode::Blocked), duration: None, is_forced: true })),
        1 => Just(Some(RequestAction::Failback)),
        1 => Just(Some(RequestAction::Pause { duration: Some(Duration::from_secs(40)) })),
        1 => Just(Some(RequestAction::Switch { to: "c".into(), duration: Some(Duration::from_secs(90)), is_forced: false })),
    ];
    (1_u64..40, marks, action, prop::bool::weighted(0.02))
}

proptest! {
    /// Two routes live through the same, one of them with drills: apart from where a drill leads the mail for a while, they
    /// remember the same after every decision. So no drill changes what is decided later, and each one restores.
    #[test]
    fn a_route_with_drills_decides_as_its_twin_without(
        turns in prop::collection::vec(any_turn(), 1..120),
        is_pool in any::<bool>(),
        is_scheduled in any::<bool>(),
    ) {
        let mut rehearsal = Rehearsal::of("a+ b+ c+");
        let mut twin = Fleet::of("a+ b+ c+").on("a");
        if is_pool {
            twin = twin.active_active(&[1, 2, 3]);
        }
        let drills = Drills {
            window: is_scheduled.then(|| CronWindow::new("*/5 * * * *", "UTC", Duration::from_mins(5)).unwrap()),
            mode: DrillMode::Observed,
            longest: Duration::from_mins(3),
            budget: DrillBudget { drills: 5, per: Duration::from_secs(1) },
            ..Drills::default()
        };
        twin.settle(1000);
        rehearsal.fleet = twin.clone();
        rehearsal.policy().drills = drills;
        let mut now = 2000;
        for (id, (wait, marks, action, is_storm)) in turns.into_iter().enumerate() {
            now += wait;
            for (place, name) in ["a", "b", "c"].into_iter().enumerate() {
                if let Some(marks) = marks {
                    rehearsal.fleet.set(name, MARKS[marks[place]], now);
                    twin.set(name, MARKS[marks[place]], now);
                }
            }
            (rehearsal.fleet.is_storm, twin.is_storm) = (is_storm, is_storm);
            if let Some(action) = action {
                rehearsal.fleet.request = Some(Request::new(id.to_string(), action.clone()));
                let is_drill = matches!(action, RequestAction::Drill { .. });
                // The twin hears of everything else.
                if !is_drill {
                    twin.request = Some(Request::new(id.to_string(), action));
                }
            }
            let decision = rehearsal.settle(now);
            let of_twin = twin.settle(now);
            prop_assert_eq!(stripped(&decision.memory), stripped(&of_twin.memory));
            if let Some(drill) = decision.memory.leading_drill() {
                prop_assert!(drill.until > at(now), "it outlasts its time");
                prop_assert!(rehearsal.fleet.candidates.iter().all(|one| one.name == drill.backend || one.is_sound()
                    || !matches!(one.eligibility, crate::engine::Eligibility::InService)));
            }
            prop_assert!(decision.next_timeout.is_none_or(|next| next > at(now)), "a timer that has already ended");
        }
    }
}
