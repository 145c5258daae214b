use proptest::prelude::*;

use super::*;
use crate::engine::testing::at;

const WINDOW: Duration = Duration::from_hours(30);

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn only(objectives: Objectives, record: &ObjectiveRecord, failovers: &[FailoverTimes], now: u64) -> Assessment {
    let assessed = assess(&Objectives { window: WINDOW, ..objectives }, record, failovers, at(now));
    assert_eq!(assessed.len(), 1);
    assessed[0]
}

fn availability(parts_per_million: u32) -> Objectives {
    Objectives { availability: Some(Share::from_parts_per_million(parts_per_million)), ..Objectives::NONE }
}

#[test]
fn an_outage_counts_from_when_mail_could_not_leave_until_it_could() {
    let mut record = ObjectiveRecord::default();
    for (second, is_delivering) in [(0, true), (1000, false), (1030, false), (1060, true), (5000, true)] {
        record.advance(at(second), WINDOW, is_delivering);
    }
    assert_eq!(record.sum(at(5000), WINDOW).undeliverable, seconds(60));
    // 99.9 % of thirty hours leave 108 s.
    let met = only(availability(999_000), &record, &[], 5000);
    assert_eq!((met.state, met.budget_left), (ObjectiveState::Met, Some(45)));
    assert_eq!(met.measured, Some(Measure::Share(Share::from_parts_per_million(999_444))));
    for (second, is_delivering, state, left) in [
        (6000, false, ObjectiveState::Met, 45),
        (6030, false, ObjectiveState::AtRisk, 17),
        (6060, true, ObjectiveState::Missed, -11),
    ] {
        record.advance(at(second), WINDOW, is_delivering);
        let assessed = only(availability(999_000), &record, &[], second);
        assert_eq!((assessed.state, assessed.budget_left), (state, Some(left)), "{second}");
    }
    let later = 6060 + 31 * 3600;
    record.advance(at(later), WINDOW, true);
    assert_eq!(only(availability(999_000), &record, &[], later).state, ObjectiveState::Met, "the window has passed");
}

#[test]
fn an_outage_of_days_has_no_more_parts_than_there_is_room_for() {
    let mut record = ObjectiveRecord::default();
    record.advance(at(0), WINDOW, false);
    record.advance(at(100 * 3600), WINDOW, false);
    assert!(record.parts().len() <= MAX_PARTS, "{}", record.parts().len());
    assert!(record.sum(at(100 * 3600), WINDOW).undeliverable >= WINDOW);
    let assessed = only(availability(990_000), &record, &[], 100 * 3600);
    assert_eq!((assessed.state, assessed.measured), (ObjectiveState::Missed, Some(Measure::Share(Share::of(0, 1)))));
}

#[test]
fn what_a_restart_reads_back_goes_on_with_the_outage() {
    let mut record = ObjectiveRecord::default();
    record.advance(at(100), WINDOW, false);
    record.advance(at(160), WINDOW, false);
    let mut restored = ObjectiveRecord::restore(record.parts().iter().copied(), Some(at(160)));
    for record in [&mut record, &mut restored] {
        record.advance(at(200), WINDOW, true);
    }
    assert_eq!(record, restored);
    assert_eq!(restored.sum(at(200), WINDOW).undeliverable, seconds(100));
}

#[test]
fn success_is_what_backends_accept_of_all_attempts_and_unknown_without_any() {
    let objectives = Objectives { success: Some(Share::from_parts_per_million(980_000)), ..Objectives::NONE };
    let mut record = ObjectiveRecord::default();
    assert_eq!(only(objectives, &record, &[], 0).state, ObjectiveState::Unknown);
    for (accepted, deferred, state, left) in
        [(990, 10, ObjectiveState::Met, 50), (0, 7, ObjectiveState::AtRisk, 16), (0, 10, ObjectiveState::Missed, -32)]
    {
        record.count(at(0), WINDOW, Attempts { accepted, deferred, possible_duplicates: 1 });
        let assessed = only(objectives, &record, &[], 0);
        assert_eq!((assessed.state, assessed.budget_left), (state, Some(left)), "{accepted}/{deferred}");
    }
    assert_eq!(record.sum(at(0), WINDOW).possible_duplicates, 3);
}

#[test]
fn a_time_is_that_of_the_slowest_failover_of_the_window() {
    let objectives = Objectives { recovery_time: Some(seconds(40)), ..Objectives::NONE };
    let failover = |decided: u64, took: u64| FailoverTimes {
        decided_at: at(decided),
        recovery: Some(seconds(took)),
        delivery: None,
    };
    let record = ObjectiveRecord::default();
    let state = |failovers: &[FailoverTimes]| only(objectives, &record, failovers, 40 * 3600).state;
    assert_eq!(state(&[]), ObjectiveState::Unknown);
    assert_eq!(state(&[failover(20 * 3600, 30)]), ObjectiveState::Met);
    assert_eq!(state(&[failover(20 * 3600, 30), failover(21 * 3600, 31)]), ObjectiveState::AtRisk);
    assert_eq!(state(&[failover(20 * 3600, 41), failover(21 * 3600, 31)]), ObjectiveState::Missed);
    assert_eq!(state(&[failover(3600, 41)]), ObjectiveState::Unknown, "long ago");
    let delivery = Objectives { delivery_time: Some(seconds(5)), ..Objectives::NONE };
    let unreported = only(delivery, &record, &[failover(20 * 3600, 30)], 40 * 3600);
    assert_eq!(unreported.state, ObjectiveState::Unknown, "no agent has reported");
}

#[test]
fn shares_are_written_as_people_write_them() {
    for (parts, text) in
        [(999_000, "99.9%"), (980_000, "98%"), (999_950, "99.995%"), (1_000_000, "100%"), (5, "0.0005%")]
    {
        assert_eq!(Share::from_parts_per_million(parts).to_string(), text);
    }
}

proptest! {
    /// However often it is looked at, and however the parts fall: the sum is the time of the outages.
    #[test]
    fn looking_more_often_changes_nothing(turns in prop::collection::vec((1_u64..4000, any::<bool>(), 0_u64..5), 1..40)) {
        let (mut seldom, mut often) = (ObjectiveRecord::default(), ObjectiveRecord::default());
        let (mut now, mut down, mut expected) = (0, false, 0);
        for (length, is_delivering, looks) in turns {
            for look in 1..=looks {
                often.advance(at(now + length * look / (looks + 1)), WINDOW * 100, !down);
            }
            now += length;
            expected += if down { length } else { 0 };
            down = !is_delivering;
            seldom.advance(at(now), WINDOW * 100, is_delivering);
            often.advance(at(now), WINDOW * 100, is_delivering);
        }
        prop_assert_eq!(seldom.sum(at(now), WINDOW * 100).undeliverable, seconds(expected));
        prop_assert_eq!(often.sum(at(now), WINDOW * 100).undeliverable, seconds(expected));
    }
}
