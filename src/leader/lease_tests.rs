use super::*;

const SECOND: Duration = Duration::from_secs(1);
const MOMENT: Duration = Duration::from_nanos(1);
const TIMING: Timing = Timing { lease_duration: Duration::from_secs(15), renew_deadline: Duration::from_secs(10) };

fn machine() -> LeaseMachine {
    LeaseMachine::new("us".to_owned(), TIMING)
}

fn record(holder: &str, version: u64) -> LeaseRecord {
    LeaseRecord {
        uid: uid("uid"),
        resource_version: resource_version(version),
        holder: holder.to_owned(),
        renewed: i64::try_from(version).ok(),
        transitions: 3,
        duration: 15 * SECOND,
    }
}

fn uid(text: &str) -> Uid {
    Uid::parse(Some(text)).expect("it is not empty")
}

fn resource_version(version: u64) -> ResourceVersion {
    ResourceVersion::parse(Some(&version.to_string())).expect("it is not empty")
}

fn over(version: u64) -> (Uid, ResourceVersion) {
    (uid("uid"), resource_version(version))
}

fn take(over: Option<(Uid, ResourceVersion)>, transitions: i32) -> LeaseWrite {
    LeaseWrite { over, holder: "us".to_owned(), transitions, takes: true }
}

/// A machine that took the lease at version 1 with a write sent at this time.
fn leader(sent: Duration) -> LeaseMachine {
    let mut machine = machine();
    machine.handle(sent, LeaseEvent::Read(None));
    let write = take(None, 0);
    assert_eq!(machine.poll(sent), LeaseAction::Write(write.clone()));
    assert_eq!(
        machine.handle(sent + SECOND, LeaseEvent::Written { sent, write: write.clone(), record: record("us", 1) }),
        Then::Later
    );
    machine
}

#[test]
fn nothing_is_written_before_the_lease_was_looked_at() {
    assert_eq!(machine().poll(SECOND), LeaseAction::Read);
}

#[test]
fn what_nobody_holds_is_taken_at_once() {
    for (seen, want) in [
        (None, take(None, 0)),
        (Some(record("", 7)), take(Some(over(7)), 4)),
        // A write of ours that we had no answer to, or an earlier claim that has lapsed.
        (Some(record("us", 7)), take(Some(over(7)), 4)),
    ] {
        let mut machine = machine();
        assert_eq!(machine.handle(SECOND, LeaseEvent::Read(seen.clone())), Then::Now, "{seen:?}");
        assert_eq!(machine.poll(SECOND), LeaseAction::Write(want), "{seen:?}");
    }
}

#[test]
fn a_record_that_does_not_change_is_taken_after_the_lease_duration_and_not_before() {
    let mut machine = machine();
    for now in [1, 3, 9, 15] {
        assert_eq!(machine.handle(now * SECOND, LeaseEvent::Read(Some(record("them", 7)))), Then::Later, "{now}");
    }
    assert_eq!(machine.poll((16 * SECOND).saturating_sub(MOMENT)), LeaseAction::Read);
    assert_eq!(machine.poll(16 * SECOND), LeaseAction::Write(take(Some(over(7)), 4)));
}

#[test]
fn any_change_of_the_record_starts_the_wait_again() {
    let before = || record("them", 7);
    for changed in [
        LeaseRecord { resource_version: resource_version(8), ..before() },
        LeaseRecord { renewed: Some(8), ..before() },
        LeaseRecord { holder: "others".to_owned(), ..before() },
        LeaseRecord { transitions: 4, ..before() },
        LeaseRecord { uid: uid("another"), ..before() },
    ] {
        let mut machine = machine();
        machine.handle(SECOND, LeaseEvent::Read(Some(before())));
        machine.handle(10 * SECOND, LeaseEvent::Read(Some(changed.clone())));
        assert_eq!(machine.poll(24 * SECOND), LeaseAction::Read, "{changed:?}");
        assert!(matches!(machine.poll(25 * SECOND), LeaseAction::Write(_)), "{changed:?}");
    }
}

#[test]
fn a_holder_that_counts_on_a_longer_lease_is_given_that_time_within_reason() {
    for (duration, unchanged_for) in [(0, 15), (5, 15), (60, 60), (1_000_000, 300)] {
        let mut machine = machine();
        machine.handle(
            Duration::ZERO,
            LeaseEvent::Read(Some(LeaseRecord { duration: duration * SECOND, ..record("them", 7) })),
        );
        assert_eq!(machine.poll((unchanged_for * SECOND).saturating_sub(MOMENT)), LeaseAction::Read, "{duration}");
        assert!(matches!(machine.poll(unchanged_for * SECOND), LeaseAction::Write(_)), "{duration}");
    }
}

#[test]
fn a_deleted_lease_is_waited_for_by_those_who_have_seen_it() {
    // Ours or nobody's: somebody else may have taken it unseen before it was deleted.
    for holder in ["them", "us", ""] {
        let mut machine = machine();
        machine.handle(SECOND, LeaseEvent::Read(Some(record(holder, 7))));
        assert_eq!(machine.handle(3 * SECOND, LeaseEvent::Read(None)), Then::Later, "{holder:?}");
        assert_eq!(machine.handle(9 * SECOND, LeaseEvent::Read(None)), Then::Later, "{holder:?}");
        assert_eq!(machine.poll(18 * SECOND), LeaseAction::Write(take(None, 4)), "{holder:?}");
    }
}

#[test]
fn a_deleted_lease_is_created_again_by_its_holder_in_the_same_term() {
    let mut machine = leader(Duration::ZERO);
    let before = machine.held(2 * SECOND).expect("it leads");
    machine.handle(2 * SECOND, LeaseEvent::Outdated);
    assert_eq!(machine.handle(2 * SECOND, LeaseEvent::Read(None)), Then::Now);
    let write = LeaseWrite { over: None, holder: "us".to_owned(), transitions: 0, takes: false };
    assert_eq!(machine.poll(2 * SECOND), LeaseAction::Write(write.clone()));
    machine.handle(3 * SECOND, LeaseEvent::Written { sent: 2 * SECOND, write: write.clone(), record: record("us", 9) });
    let held = machine.held(3 * SECOND).expect("it leads");
    assert_eq!((held.term, held.deadline), (before.term, 12 * SECOND));
}

#[test]
fn the_claim_counts_from_when_the_write_was_sent() {
    let mut machine = leader(20 * SECOND);
    assert_eq!(machine.held(22 * SECOND).map(|held| held.deadline), Some(30 * SECOND));
    let LeaseAction::Write(renewal) = machine.poll(22 * SECOND) else { panic!("a holder renews") };
    assert_eq!(renewal, LeaseWrite { over: Some(over(1)), holder: "us".to_owned(), transitions: 0, takes: false });
    machine.handle(
        29 * SECOND,
        LeaseEvent::Written { sent: 22 * SECOND, write: renewal.clone(), record: record("us", 2) },
    );
    assert_eq!(machine.held(29 * SECOND).map(|held| held.deadline), Some(32 * SECOND));
    assert_eq!(machine.held(32 * SECOND), None);
}

#[test]
fn a_late_answer_does_not_bring_a_lapsed_claim_back() {
    let mut machine = leader(Duration::ZERO);
    let first = machine.held(SECOND).expect("it leads");
    let LeaseAction::Write(renewal) = machine.poll(9 * SECOND) else { panic!("a holder renews") };
    // The process was frozen from 9 s to 11 s; the claim had ended at 10 s.
    assert_eq!(
        machine.handle(
            11 * SECOND,
            LeaseEvent::Written { sent: 9 * SECOND, write: renewal.clone(), record: record("us", 2) }
        ),
        Then::Now
    );
    assert_eq!(machine.held(11 * SECOND), None);
    let LeaseAction::Write(again) = machine.poll(11 * SECOND) else { panic!("the record is its own") };
    assert!(again.takes);
    machine
        .handle(11 * SECOND, LeaseEvent::Written { sent: 11 * SECOND, write: again.clone(), record: record("us", 3) });
    assert!(machine.held(11 * SECOND).is_some_and(|held| held.term > first.term));
}

#[test]
fn a_record_of_somebody_else_ends_the_claim_at_once() {
    for holder in ["them", ""] {
        let mut machine = leader(Duration::ZERO);
        machine.handle(2 * SECOND, LeaseEvent::Outdated);
        assert_eq!(machine.poll(2 * SECOND), LeaseAction::Read);
        machine.handle(2 * SECOND, LeaseEvent::Read(Some(record(holder, 5))));
        assert_eq!(machine.held(2 * SECOND), None, "{holder:?}");
    }
}

#[test]
fn an_annotation_on_the_lease_does_not_cost_the_claim() {
    let mut machine = leader(Duration::ZERO);
    machine.handle(2 * SECOND, LeaseEvent::Outdated);
    assert_eq!(machine.handle(2 * SECOND, LeaseEvent::Read(Some(record("us", 5)))), Then::Now);
    assert_eq!(machine.held(2 * SECOND).map(|held| held.term), Some(1));
    assert!(
        matches!(machine.poll(2 * SECOND), LeaseAction::Write(LeaseWrite { over: Some((_, version)), takes: false, .. }) if version.as_str() == "5")
    );
}

#[test]
fn vacating_ends_the_claim_before_the_write_is_sent() {
    let mut machine = leader(Duration::ZERO);
    let write = machine.vacate().expect("the lease is its own");
    assert_eq!(write, LeaseWrite { over: Some(over(1)), holder: String::new(), transitions: 3, takes: false });
    assert_eq!(machine.held(SECOND), None);
    machine.handle(SECOND, LeaseEvent::Written { sent: SECOND, write: write.clone(), record: record("", 2) });
    assert_eq!(machine.vacate(), None);
}

#[test]
fn what_is_not_its_own_is_not_vacated() {
    let mut machine = machine();
    assert_eq!(machine.vacate(), None);
    machine.handle(SECOND, LeaseEvent::Read(Some(record("them", 1))));
    assert_eq!(machine.vacate(), None);
}

fn given_to(successor: &str, version: u64, transitions: i32) -> LeaseAction {
    let (over, holder) = (Some(over(version)), successor.to_owned());
    LeaseAction::Write(LeaseWrite { over, holder, transitions, takes: false })
}

/// Renews the claim by a write that is sent and answered at this time.
fn renew(machine: &mut LeaseMachine, now: Duration, version: u64) {
    let LeaseAction::Write(write) = machine.poll(now) else { panic!("a holder renews") };
    assert_eq!(write.holder, "us", "it keeps the lease at {now:?}");
    machine.handle(now, LeaseEvent::Written { sent: now, write, record: record("us", version) });
}

#[test]
fn a_holder_gives_the_lease_to_the_fitter_replica_and_its_claim_ends_before_that_is_written() {
    let mut machine = leader(Duration::ZERO);
    for second in 2..16 {
        machine.set_successor(second * SECOND, Some("them"));
        renew(&mut machine, second * SECOND, u64::from(second));
    }
    // Its term began at 1 s.
    machine.set_successor(16 * SECOND, Some("others"));
    assert_eq!(machine.poll(16 * SECOND), given_to("others", 15, 0), "to the one that is fit now");
    assert_eq!(machine.held(16 * SECOND), None);
    let LeaseAction::Write(write) = given_to("others", 15, 0) else { unreachable!() };
    let written = LeaseEvent::Written { sent: 16 * SECOND, write, record: record("others", 16) };
    assert_eq!(machine.handle(16 * SECOND, written), Then::Later);
    assert_eq!(machine.poll(17 * SECOND), LeaseAction::Read, "it is a candidate");
    assert_eq!(machine.poll((31 * SECOND).saturating_sub(MOMENT)), LeaseAction::Read);
    assert!(matches!(machine.poll(31 * SECOND), LeaseAction::Write(_)), "the other one has not taken it");
}

#[test]
fn a_lease_is_given_away_at_most_once_in_a_lease_duration_and_not_for_a_moments_suspicion() {
    let mut machine = leader(Duration::ZERO);
    for second in 2..41 {
        // Suspect for four seconds, again and again: less than half of the renew deadline.
        machine.set_successor(second * SECOND, (second % 5 != 0).then_some("them"));
        renew(&mut machine, second * SECOND, u64::from(second));
    }
    for second in 41..46 {
        machine.set_successor(second * SECOND, Some("them"));
        renew(&mut machine, second * SECOND, u64::from(second));
    }
    assert_eq!(machine.poll(46 * SECOND), given_to("them", 45, 0));
    // The other one gives it back at once.
    machine.handle(47 * SECOND, LeaseEvent::Outdated);
    machine.handle(47 * SECOND, LeaseEvent::Read(Some(record("us", 47))));
    renew(&mut machine, 48 * SECOND, 48);
    for second in 49..63 {
        renew(&mut machine, second * SECOND, u64::from(second));
    }
    assert_eq!(machine.poll(63 * SECOND), given_to("them", 62, 4));
}

#[test]
fn a_replica_that_finds_its_own_name_in_the_lease_takes_it_at_once() {
    let mut machine = machine();
    machine.handle(SECOND, LeaseEvent::Read(Some(record("them", 6))));
    assert_eq!(machine.handle(2 * SECOND, LeaseEvent::Read(Some(record("us", 7)))), Then::Now);
    assert_eq!(machine.poll(2 * SECOND), LeaseAction::Write(take(Some(over(7)), 4)));
}

#[test]
fn a_gift_that_was_not_heard_to_arrive_is_looked_at_before_anything_else_is_written() {
    let mut machine = leader(Duration::ZERO);
    machine.set_successor(2 * SECOND, Some("them"));
    for second in 3..16 {
        renew(&mut machine, second * SECOND, u64::from(second));
    }
    assert_eq!(machine.poll(16 * SECOND), given_to("them", 15, 0));
    machine.handle(16 * SECOND, LeaseEvent::Outdated);
    assert_eq!(machine.poll(16 * SECOND), LeaseAction::Read);
    machine.handle(17 * SECOND, LeaseEvent::Read(Some(record("us", 15))));
    let LeaseAction::Write(again) = machine.poll(17 * SECOND) else { panic!("it did not arrive") };
    assert!(again.takes, "a new term, in which it may give the lease away a lease duration later");
}

/// Several replicas with clocks of their own, a network that delays and loses, and processes that freeze, in virtual
/// time.
mod simulation {
    use std::collections::BTreeMap;

    use super::*;

    const RETRY: f64 = 2.0;

    enum Event {
        Turn,
        Arrives(LeaseAction, Duration, u64),
        Answer(Answer, u64),
        TimedOut(u64),
    }

    enum Answer {
        Read(Option<LeaseRecord>),
        Written(LeaseWrite, Duration, LeaseRecord),
        Refused,
    }

    struct Node {
        machine: LeaseMachine,
        rate: f64,
        offset: f64,
        frozen_until: f64,
        call: u64,
        writing: bool,
        stopped: bool,
        /// End of its claim by everybody's time.
        valid_until: f64,
    }

    impl Node {
        fn clock(&self, now: f64) -> Duration {
            Duration::from_secs_f64(self.offset + now * self.rate)
        }
    }

    struct Simulation {
        rng: fastrand::Rng,
        now: f64,
        nodes: Vec<Node>,
        lease: Option<LeaseRecord>,
        version: u64,
        events: BTreeMap<(u64, u64), (usize, Event)>,
        scheduled: u64,
        faults: bool,
        terms: usize,
    }

    impl Simulation {
        fn new(seed: u64, timing: Timing) -> Self {
            let mut rng = fastrand::Rng::with_seed(seed);
            let nodes = (0..3).map(|index| Node {
                machine: LeaseMachine::new(format!("node-{index}"), timing),
                rate: 0.9 + 0.2 * rng.f64(),
                offset: 1e6 * rng.f64(),
                frozen_until: 0.0,
                call: 0,
                writing: false,
                stopped: false,
                valid_until: 0.0,
            });
            let nodes: Vec<_> = nodes.collect();
            let mut simulation = Self {
                rng,
                now: 0.0,
                nodes,
                lease: None,
                version: 0,
                events: BTreeMap::new(),
                scheduled: 0,
                faults: true,
                terms: 0,
            };
            for index in 0..simulation.nodes.len() {
                let after = simulation.rng.f64() * RETRY;
                simulation.schedule(after, index, Event::Turn);
            }
            simulation
        }

        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "virtual time is positive and short"
        )]
        fn schedule(&mut self, after: f64, node: usize, event: Event) {
            self.scheduled += 1;
            self.events.insert((((self.now + after) * 1e9) as u64, self.scheduled), (node, event));
        }

        fn delay(&mut self) -> Option<f64> {
            match self.rng.u32(..100) {
                0..5 if self.faults => None,
                5..15 if self.faults => Some(self.rng.f64() * 20.0),
                _ => Some(self.rng.f64() * 0.05),
            }
        }

        #[expect(clippy::cast_precision_loss, reason = "virtual time is short")]
        fn run(&mut self, until: f64) -> Result<(), String> {
            while let Some(entry) = self.events.first_entry() {
                let at = entry.key().0 as f64 / 1e9;
                if at > until {
                    break;
                }
                let (index, event) = entry.remove();
                self.now = self.now.max(at);
                self.mischief(index);
                // The API server is never frozen.
                if self.nodes[index].frozen_until > self.now && !matches!(event, Event::Arrives(..)) {
                    let after = self.nodes[index].frozen_until - self.now;
                    self.schedule(after, index, event);
                    continue;
                }
                self.handle(index, event);
                self.check(index)?;
            }
            self.now = until;
            Ok(())
        }

        fn mischief(&mut self, index: usize) {
            if !self.faults {
                return;
            }
            if self.rng.u32(..60) == 0 {
                self.nodes[index].frozen_until = self.now + self.rng.f64() * 40.0;
            }
            // It takes another one for fitter, rightly or not.
            match self.rng.u32(..40) {
                0..4 => {
                    let successor = format!("node-{}", self.rng.usize(..self.nodes.len()));
                    let now = self.nodes[index].clock(self.now);
                    self.nodes[index].machine.set_successor(now, Some(&successor));
                }
                4 => self.nodes[index].machine.set_successor(Duration::ZERO, None),
                _ => {}
            }
            let all_saw_it = self.nodes.iter().all(|node| matches!(node.machine.sight, LeaseState::Present { .. }));
            if all_saw_it && self.rng.u32(..400) == 0 {
                self.lease = None;
            }
        }

        fn handle(&mut self, index: usize, event: Event) {
            let now = self.nodes[index].clock(self.now);
            match event {
                Event::Turn => {
                    let Node { machine, stopped, .. } = &mut self.nodes[index];
                    let call = if *stopped { leave(machine) } else { Some(machine.poll(now)) };
                    if let Some(call) = call {
                        self.send(index, call);
                    }
                }
                Event::Arrives(call, sent, number) => {
                    let answer = self.answer(call, sent);
                    if let Some(after) = self.delay() {
                        self.schedule(after, index, Event::Answer(answer, number));
                    }
                }
                Event::Answer(answer, number) if number == self.nodes[index].call => {
                    self.nodes[index].call += 1;
                    let machine = &mut self.nodes[index].machine;
                    let then = match answer {
                        Answer::Read(record) => machine.handle(now, LeaseEvent::Read(record)),
                        Answer::Written(write, sent, record) => {
                            machine.handle(now, LeaseEvent::Written { sent, write, record })
                        }
                        Answer::Refused => machine.handle(now, LeaseEvent::Outdated),
                    };
                    let after = match then {
                        Then::Now => 0.0,
                        Then::Later => RETRY * (0.9 + 0.2 * self.rng.f64()),
                    };
                    self.schedule(after, index, Event::Turn);
                }
                Event::TimedOut(number) if number == self.nodes[index].call => {
                    let node = &mut self.nodes[index];
                    node.call += 1;
                    if node.writing {
                        node.machine.handle(now, LeaseEvent::Outdated);
                    }
                    let after = self.rng.f64() * RETRY;
                    self.schedule(after, index, Event::Turn);
                }
                Event::Answer(..) | Event::TimedOut(_) => {}
            }
        }

        fn send(&mut self, index: usize, call: LeaseAction) {
            let node = &mut self.nodes[index];
            let sent = node.clock(self.now);
            node.writing = matches!(call, LeaseAction::Write(_));
            let number = node.call;
            self.schedule(5.0, index, Event::TimedOut(number));
            if let Some(after) = self.delay() {
                self.schedule(after, index, Event::Arrives(call, sent, number));
            }
        }

        fn answer(&mut self, call: LeaseAction, sent: Duration) -> Answer {
            let write = match call {
                LeaseAction::Read => return Answer::Read(self.lease.clone()),
                LeaseAction::Write(write) => write,
            };
            let have = self.lease.as_ref().map(|record| (record.uid.clone(), record.resource_version.clone()));
            if have != write.over {
                return Answer::Refused;
            }
            self.version += 1;
            let record = LeaseRecord {
                uid: have.map_or_else(|| uid(&format!("uid-{}", self.version)), |(uid, _)| uid),
                resource_version: resource_version(self.version),
                holder: write.holder.clone(),
                renewed: i64::try_from(self.version).ok(),
                transitions: write.transitions,
                duration: 15 * SECOND,
            };
            self.lease = Some(record.clone());
            Answer::Written(write, sent, record)
        }

        /// Checks that no two replicas hold a claim at once.
        fn check(&mut self, index: usize) -> Result<(), String> {
            let node = &mut self.nodes[index];
            let now = node.clock(self.now);
            let held = node.machine.held(now);
            let led = node.valid_until > self.now;
            node.valid_until = held.map_or(0.0, |held| (held.deadline.as_secs_f64() - node.offset) / node.rate);
            if held.is_some() && !led {
                self.terms += 1;
            }
            let leaders = self.nodes.iter().filter(|node| node.valid_until > self.now + 1e-6).count();
            if leaders > 1 { Err(format!("{leaders} leaders at {}", self.now)) } else { Ok(()) }
        }
    }

    /// Returns the call of a replica that is shutting down.
    fn leave(machine: &mut LeaseMachine) -> Option<LeaseAction> {
        machine.vacate().map(LeaseAction::Write).or(machine.stale.then_some(LeaseAction::Read))
    }

    /// Ten minutes with faults, then a minute without. Returns how many terms there were.
    fn simulate(seed: u64, timing: Timing) -> Result<usize, String> {
        let mut simulation = Simulation::new(seed, timing);
        simulation.run(600.0)?;
        simulation.faults = false;
        for node in &mut simulation.nodes {
            node.frozen_until = 0.0;
            node.machine.set_successor(Duration::ZERO, None);
        }
        simulation.run(660.0)?;
        let leaders = simulation.nodes.iter().filter(|node| node.valid_until > simulation.now).count();
        if leaders != 1 {
            return Err(format!("{leaders} leaders after a minute without faults"));
        }
        Ok(simulation.terms)
    }

    #[test]
    fn whatever_is_delayed_lost_frozen_or_deleted_two_never_lead_and_one_leads_in_the_end() {
        let mut terms = 0;
        for seed in 0..300 {
            terms += simulate(seed, TIMING).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        }
        assert!(terms > 1000, "the leadership changed hands {terms} times only");
    }

    #[test]
    fn the_simulation_finds_the_two_leaders_that_a_missing_margin_allows() {
        let careless = Timing { renew_deadline: 20 * SECOND, ..TIMING };
        assert!((0..300).any(|seed| simulate(seed, careless).is_err_and(|error| error.starts_with("2 leaders at"))));
    }

    #[test]
    fn a_vacated_lease_changes_hands_within_a_retry_period() {
        for seed in 0..100 {
            let mut simulation = Simulation::new(seed, TIMING);
            simulation.faults = false;
            simulation.run(30.0).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
            let leader =
                simulation.nodes.iter().position(|node| node.valid_until > simulation.now).expect("somebody leads");
            let call = leave(&mut simulation.nodes[leader].machine).expect("the lease is its own");
            simulation.send(leader, call);
            simulation.nodes[leader].stopped = true;
            simulation.nodes[leader].valid_until = 0.0;
            simulation.run(30.0 + RETRY * 1.1 + 0.5).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
            let next = simulation.nodes.iter().position(|node| node.valid_until > simulation.now);
            assert!(next.is_some_and(|next| next != leader), "seed {seed}: {next:?} after {leader}");
        }
    }
}
