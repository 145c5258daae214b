use super::*;

const REASON: &str = "CallsFail";

/// A backend that an output is to lead to.
#[derive(Clone, Debug, PartialEq)]
struct LeadsTo(&'static str);

impl DesiredState for LeadsTo {
    fn name(&self) -> String {
        format!("to {}", self.0)
    }

    fn active(&self) -> Vec<OutputShare> {
        vec![OutputShare { backend: self.0.to_owned(), percent: 100 }]
    }
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_micros(seconds * 1_000_000)
}

fn fresh() -> Progress<LeadsTo> {
    Progress::new(Duration::from_secs(1), Duration::from_mins(1))
}

fn status(progress: &Progress<LeadsTo>) -> OutputStatus {
    progress.status("Kind", "output", "somewhere".to_owned())
}

/// The same progress in a process that begins afterwards.
fn restarted(progress: &Progress<LeadsTo>) -> Progress<LeadsTo> {
    fresh().restored(&status(progress), REASON)
}

#[test]
fn an_output_is_applied_once_it_was_seen_in_the_state_that_is_wanted() {
    let mut progress = fresh();
    assert!(progress.is_applied(), "nothing is wanted yet");
    progress.want(LeadsTo("a"));
    assert!(!progress.is_applied());
    progress.begun(1, LeadsTo("a"));
    progress.want(LeadsTo("b"));
    let ended = progress.ended(1).unwrap();
    progress.reach(at(5), &ended);
    assert_eq!((progress.reached(), progress.is_applied()), (Some("to a"), false), "b is wanted meanwhile");
    progress.reach(at(6), &LeadsTo("b"));
    assert!(progress.is_applied());
    let status = status(&progress);
    assert_eq!((status.wanted.as_deref(), status.applied.as_deref()), (Some("to b"), Some("to b")));
    assert_eq!((status.active[0].backend.as_str(), status.applied_at), ("b", Some(micro_time(at(6)))));
}

#[test]
fn one_call_is_under_way_and_only_its_own_end_counts() {
    let mut progress = fresh();
    progress.want(LeadsTo("a"));
    progress.begun(7, LeadsTo("a"));
    assert_eq!(progress.ended(6), None, "a call of an earlier term");
    assert!(progress.is_under_way());
    assert_eq!(progress.ended(7), Some(LeadsTo("a")));
    assert_eq!((progress.is_under_way(), progress.ended(7)), (false, None));
}

#[test]
fn a_failure_lasts_until_a_success_and_pauses_grow_until_then() {
    let mut progress = fresh();
    progress.want(LeadsTo("a"));
    let mut pauses = vec![];
    for second in [10, 20, 30] {
        let retry_at = progress.next_attempt(at(second), 0.5);
        progress.fail(at(second), REASON, &format!("call at {second}")).pause(retry_at, None);
        assert_eq!(progress.paused_until(at(second)), Some(retry_at));
        pauses.push(retry_at.since(at(second)));
    }
    assert!(pauses.is_sorted() && pauses[0] < pauses[2], "{pauses:?}");
    let failure = progress.failure().unwrap();
    assert_eq!((failure.reason, failure.calls.since, failure.calls.message.as_str()), (REASON, at(10), "call at 30"));
    progress.succeed();
    assert_eq!((progress.failure(), progress.paused_until(at(30))), (None, None));
    assert!(progress.next_attempt(at(40), 0.5).since(at(40)) < pauses[2], "pauses begin again");
}

#[test]
fn another_state_waits_for_no_pause_but_for_one_that_was_asked_for() {
    for (not_before, expected) in [(None, None), (Some(at(90)), Some(at(90)))] {
        let mut progress = fresh();
        progress.want(LeadsTo("a"));
        progress.fail(at(10), REASON, "refused").pause(at(60), not_before);
        progress.want(LeadsTo("b"));
        assert_eq!(progress.paused_until(at(11)), expected);
        assert_eq!(restarted(&progress).paused_until(at(11)), expected, "and a restart ends no such pause either");
    }
}

#[test]
fn a_restart_remembers_what_was_reached_and_since_when_calls_fail() {
    let mut progress = fresh();
    progress.want(LeadsTo("a"));
    progress.reach(at(5), &LeadsTo("a"));
    progress.want(LeadsTo("b"));
    progress.fail(at(10), REASON, "refused");
    let mut again = restarted(&progress);
    again.want(LeadsTo("b"));
    assert_eq!(status(&again), status(&progress));
    assert_eq!(again.failure(), progress.failure());
    assert!(!again.is_applied());
    again.want(LeadsTo("a"));
    assert!(again.is_applied(), "nothing has to be done for it");
}

#[test]
fn a_failure_of_any_output_comes_before_those_that_are_pending() {
    let failing = |name: &str| ProgressState::Failing(vec![Rejection::new(REASON, name, "fails")]);
    let pending = |name: &str| ProgressState::Pending(vec![name.to_owned()]);
    assert_eq!(ProgressState::Applied.and(ProgressState::Applied), ProgressState::Applied);
    assert_eq!(pending("a").and(ProgressState::Applied), pending("a"));
    assert_eq!(pending("a").and(pending("b")), ProgressState::Pending(vec!["a".to_owned(), "b".to_owned()]));
    assert_eq!(pending("a").and(failing("b")), failing("b"));
    let ProgressState::Failing(both) = failing("a").and(failing("b")) else { panic!("both fail") };
    assert_eq!(both.len(), 2);
}
