use super::*;
use AddressFinding::{Answers, Fails, TurnsAway};
use IdleAction::{Close, LeaveOut, Look, Open};
use IdleEnd::{Closed, Reset, ServiceNotAvailable};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_mins(1);
const INTERVAL: Duration = Duration::from_secs(10);

fn address(last: u8) -> SocketAddr {
    ([192, 0, 2, last], 25).into()
}

/// The sessions, with a clock.
struct Trial {
    sessions: IdleSessions,
    now: Instant,
    random: f64,
}

impl Trial {
    fn new() -> Self {
        Self { sessions: IdleSessions::default(), now: Instant::now(), random: 0.0 }
    }

    fn actions(&mut self) -> Vec<IdleAction> {
        std::iter::from_fn(|| self.sessions.poll()).collect()
    }

    fn handle(&mut self, input: IdleInput) -> Vec<IdleAction> {
        self.sessions.handle(self.now, self.random, input);
        self.actions()
    }

    /// A look of a target that began now and is over.
    fn found(&mut self, target: u64, last: u8, finding: AddressFinding) -> Vec<IdleAction> {
        let (began, address) = (self.now, address(last));
        self.handle(IdleInput::Found { target, interval: INTERVAL, began, address, finding })
    }

    fn over(&mut self, number: u64, how: SessionOver) -> Vec<IdleAction> {
        self.handle(IdleInput::Over { number, how })
    }

    fn ended(&mut self, number: u64, end: IdleEnd) -> Vec<IdleAction> {
        self.over(number, SessionOver::ByServer(end))
    }

    /// Lets time pass, with a look of target 1 at address 1 at each interval. Returns what happens at which time.
    fn pass(&mut self, time: Duration, finding: AddressFinding) -> Vec<(Duration, IdleAction)> {
        let (began, until) = (self.now, self.now + time);
        let mut next_round = self.now + INTERVAL;
        let mut happened = vec![];
        while let Some(at) =
            self.sessions.next_timeout().into_iter().chain([next_round]).min().filter(|next| *next <= until)
        {
            self.now = at;
            self.sessions.handle_timeout(at);
            if at == next_round {
                next_round += INTERVAL;
                let found = self.found(1, 1, finding);
                happened.extend(found.into_iter().map(|action| (at - began, action)));
            }
            happened.extend(self.actions().into_iter().map(|action| (at - began, action)));
        }
        self.now = until;
        happened
    }
}

#[test]
fn an_address_that_answers_has_one_session_over_all_targets() {
    let mut trial = Trial::new();
    assert_eq!(trial.found(1, 1, Answers), [Open { number: 1, target: 1, address: address(1) }]);
    assert_eq!(trial.found(2, 1, Answers), []);
    assert_eq!(trial.found(1, 2, Answers), [Open { number: 2, target: 1, address: address(2) }]);
    assert_eq!(trial.found(1, 3, Fails), []);
    assert_eq!(trial.found(1, 4, TurnsAway), []);
    // All who watch it look when it ends.
    assert_eq!(trial.ended(1, Closed), [Look { target: 1 }, Look { target: 2 }]);
}

#[test]
fn the_end_of_a_session_asks_for_one_look_and_a_server_that_fails_then_has_a_session_once_it_answers() {
    let mut trial = Trial::new();
    trial.found(1, 1, Answers);
    trial.now += SECOND;
    assert_eq!(trial.ended(1, Reset), [Look { target: 1 }]);
    assert_eq!(trial.found(1, 1, Fails), []);
    trial.now += SECOND;
    assert_eq!(trial.found(1, 1, Fails), []);
    trial.now += SECOND;
    assert_eq!(trial.found(1, 1, Answers), [Open { number: 2, target: 1, address: address(1) }]);
}

#[test]
fn a_look_that_began_before_the_end_says_nothing_about_it() {
    let mut trial = Trial::new();
    trial.found(1, 1, Answers);
    let began = trial.now + SECOND;
    trial.now += 2 * SECOND;
    trial.ended(1, Closed);
    let before = IdleInput::Found { target: 1, interval: INTERVAL, began, address: address(1), finding: Answers };
    assert_eq!(trial.handle(before), []);
    // Nor does one that is older than what is known.
    trial.now += SECOND;
    assert_eq!(trial.found(1, 1, Fails), []);
    let before = IdleInput::Found { target: 1, interval: INTERVAL, began, address: address(1), finding: Answers };
    assert_eq!(trial.handle(before), []);
}

#[test]
fn the_ends_of_a_server_s_sessions_in_one_moment_ask_for_two_looks() {
    let mut trial = Trial::new();
    for last in 1..=5 {
        trial.found(1, last, Answers);
    }
    assert_eq!(trial.ended(1, Closed), [Look { target: 1 }]);
    for number in 2..=5 {
        trial.now += Duration::from_millis(1);
        assert_eq!(trial.ended(number, Closed), []);
    }
    let due = trial.sessions.next_timeout().unwrap();
    assert!(due - trial.now < GATHERING);
    trial.now = due;
    trial.sessions.handle_timeout(due);
    assert_eq!(trial.actions(), [Look { target: 1 }]);
}

#[test]
fn one_look_in_an_interval_is_the_most_in_the_long_run() {
    let mut trial = Trial::new();
    let (mut looks, mut left_out) = (0, 0);
    for number in 1..=600 {
        // A server that fails whenever its session has ended, and answers again at once.
        trial.found(1, 1, Answers);
        trial.now += Duration::from_millis(500);
        match trial.ended(number, Closed).as_slice() {
            [Look { target: 1 }] => looks += 1,
            [LeaveOut] => left_out += 1,
            other => panic!("{other:?}"),
        }
        trial.found(1, 1, Fails);
        trial.now += Duration::from_millis(500);
    }
    // 600 s are 60 intervals.
    assert!((60..=63).contains(&looks) && looks + left_out == 600, "{looks} looks, {left_out} left out");
}

#[test]
fn a_session_is_renewed_before_servers_usually_close_it() {
    for (random, lives) in [(0.0, 240), (0.999, 192)] {
        let mut trial = Trial { random, ..Trial::new() };
        trial.found(1, 1, Answers);
        let happened = trial.pass(200 * SECOND, Answers);
        let expected = if lives < 200 { vec![Close { number: 1 }] } else { vec![] };
        assert_eq!(happened.into_iter().map(|(_, action)| action).collect::<Vec<_>>(), expected, "{random}");
        trial.pass(50 * SECOND, Answers);
        // One at a time.
        assert_eq!(
            trial.over(1, SessionOver::Closed),
            [Open { number: 2, target: 1, address: address(1) }],
            "{random}"
        );
    }
}

#[test]
fn a_session_that_no_look_has_confirmed_is_not_renewed() {
    let mut trial = Trial::new();
    trial.found(1, 1, Answers);
    trial.now += LONGEST_LIFE;
    trial.sessions.handle_timeout(trial.now);
    assert_eq!(trial.actions(), [Close { number: 1 }]);
    assert_eq!(trial.over(1, SessionOver::Closed), []);
    trial.now += Duration::from_hours(1);
    assert_eq!(trial.found(1, 1, Answers), [Open { number: 2, target: 1, address: address(1) }]);
}

#[test]
fn a_rare_probe_has_a_session_between_its_looks_until_one_is_overdue() {
    let mut trial = Trial::new();
    let look = |trial: &Trial| IdleInput::Found {
        target: 1,
        interval: 10 * MINUTE,
        began: trial.now,
        address: address(1),
        finding: Answers,
    };
    let found = look(&trial);
    trial.handle(found);
    let mut number = 1;
    for minute in 1..=20 {
        trial.now += MINUTE;
        if minute == 10 {
            let found = look(&trial);
            assert_eq!(trial.handle(found), []);
        }
        trial.sessions.handle_timeout(trial.now);
        let closed = trial.actions();
        if minute % 4 == 0 {
            assert_eq!(closed, [Close { number }], "minute {minute}");
            let renewed = trial.over(number, SessionOver::Closed);
            number += 1;
            assert_eq!(renewed, [Open { number, target: 1, address: address(1) }], "minute {minute}");
        } else {
            assert_eq!(closed, [], "minute {minute}");
        }
    }
    // The look of minute 20 has not come, nor that of the next minutes.
    trial.now += 4 * MINUTE;
    trial.sessions.handle_timeout(trial.now);
    assert_eq!(trial.actions(), [Close { number }]);
    assert_eq!(trial.over(number, SessionOver::Closed), []);
}

#[test]
fn a_servers_own_idle_timeout_is_taken_over_from_its_421() {
    let mut trial = Trial::new();
    trial.found(1, 1, Answers);
    trial.now += MINUTE;
    assert_eq!(trial.ended(1, ServiceNotAvailable), [Look { target: 1 }]);
    assert_eq!(trial.found(1, 1, Answers), [Open { number: 2, target: 1, address: address(1) }]);
    let happened = trial.pass(MINUTE, Answers);
    assert_eq!(happened, [(45 * SECOND, Close { number: 2 })], "15 s before the server would");
}

#[test]
fn a_server_that_ends_its_sessions_early_although_it_answers_is_held_less_and_less_often() {
    for end in [Closed, Reset, ServiceNotAvailable] {
        let mut trial = Trial::new();
        let (mut number, mut looks) = (0, 0);
        let until = trial.now + Duration::from_hours(24);
        let mut ends = None;
        while trial.now < until {
            // A look each second, as of a server that is stressed and closes after 5 s.
            trial.now += SECOND;
            if ends.is_some_and(|at| trial.now >= at) {
                ends = None;
                looks += trial.ended(number, end).len();
            }
            for action in trial.found(1, 1, Answers) {
                let Open { number: opened, .. } = action else { panic!("{action:?}") };
                number = opened;
                ends = Some(trial.now + 5 * SECOND);
            }
        }
        // Pauses from half a minute to half an hour.
        assert!((48..=60).contains(&looks), "{end:?}: {looks}");
    }
}

#[test]
fn a_server_with_too_few_places_gets_its_place_back() {
    let mut trial = Trial::new();
    trial.found(1, 1, Answers);
    trial.now += SECOND;
    assert_eq!(trial.found(2, 1, TurnsAway), [], "nobody knows of it yet");
    assert_eq!(trial.found(1, 1, TurnsAway), [Close { number: 1 }]);
    assert_eq!(trial.over(1, SessionOver::Closed), []);
    let opened = trial.pass(MINUTE, Answers);
    assert_eq!(opened.len(), 1, "{opened:?}");
    assert!(opened[0].0 >= 30 * SECOND, "{opened:?}");
    // The next time it has its place for longer.
    assert_eq!(trial.found(1, 1, TurnsAway), [Close { number: 2 }]);
    trial.over(2, SessionOver::Closed);
    assert_eq!(trial.pass(59 * SECOND, Answers), []);
}

#[test]
fn a_session_that_cannot_be_opened_is_tried_again_later_and_asks_for_no_look() {
    let mut trial = Trial::new();
    trial.found(1, 1, Answers);
    assert_eq!(trial.over(1, SessionOver::NotOpened), []);
    assert_eq!(trial.pass(29 * SECOND, Answers), []);
    assert_eq!(trial.pass(2 * SECOND, Answers).len(), 0);
    assert_eq!(trial.pass(10 * SECOND, Answers).len(), 1);
}

#[test]
fn without_a_place_a_session_is_asked_for_every_minute_however_often_there_was_none() {
    let mut trial = Trial { random: 0.999, ..Trial::new() };
    trial.found(1, 1, Answers);
    for before in 1..=20 {
        assert_eq!(trial.over(before, SessionOver::NoPlace), []);
        let opened = trial.pass(MINUTE + INTERVAL, Answers);
        let number = before + 1;
        let actions: Vec<_> = opened.iter().map(|(_, action)| *action).collect();
        assert_eq!(actions, [Open { number, target: 1, address: address(1) }]);
        assert!(opened[0].0 >= 30 * SECOND, "{opened:?}");
    }
}

#[test]
fn a_session_is_for_all_whose_looks_are_answered_at_its_address() {
    let mut trial = Trial::new();
    for (target, last, finding) in [(1, 1, Answers), (2, 1, Answers), (3, 1, Answers), (4, 2, Answers), (3, 1, Fails)] {
        trial.found(target, last, finding);
    }
    assert_eq!(trial.sessions.watchers(address(1)).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(trial.sessions.watchers(address(3)).count(), 0);
}

#[test]
fn sessions_are_closed_when_their_target_fails_goes_or_has_other_endpoints() {
    let mut trial = Trial::new();
    for (target, last) in [(1, 1), (1, 2), (1, 3), (2, 3), (2, 4)] {
        trial.found(target, last, Answers);
    }
    // What fails for one target may answer for another one, whose session it may be.
    trial.now += SECOND;
    assert_eq!(trial.found(2, 3, Fails), []);
    assert_eq!(trial.found(1, 1, Fails), [Close { number: 1 }]);
    let addresses = BTreeSet::from([address(1), address(3)]);
    assert_eq!(trial.handle(IdleInput::Endpoints { target: 1, addresses }), [Close { number: 2 }]);
    // Its end is no evidence any more.
    assert_eq!(trial.ended(2, Closed), []);
    trial.found(2, 3, Answers);
    assert_eq!(trial.handle(IdleInput::Gone { target: 1 }), [Close { number: 3 }]);
    assert_eq!(trial.over(3, SessionOver::Closed), [Open { number: 5, target: 2, address: address(3) }]);
    let mut closed = trial.handle(IdleInput::Gone { target: 2 });
    closed.sort_by_key(|action| if let Close { number } = action { *number } else { 0 });
    assert_eq!(closed, [Close { number: 4 }, Close { number: 5 }]);
    for number in [1, 4, 5] {
        assert_eq!(trial.over(number, SessionOver::Closed), []);
    }
    let left = &trial.sessions;
    assert!(left.addresses.is_empty() && left.targets.is_empty() && left.numbers.is_empty() && left.timers.is_empty());
}

#[test]
fn a_target_has_sixteen_sessions_at_most_and_those_that_answer_keep_theirs() {
    let mut trial = Trial::new();
    let mut opened = 0;
    for last in 1..=40 {
        opened += trial.found(1, last, Answers).len();
    }
    assert_eq!(opened, MAX_ADDRESSES);
    trial.now += SECOND;
    assert_eq!(trial.found(1, 7, Fails), [Close { number: 7 }]);
    assert_eq!(trial.found(1, 30, Answers), [Open { number: 17, target: 1, address: address(30) }]);
}
