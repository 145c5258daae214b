//! Objectives of a route: what was counted, and its part of the status.
//!
//! The record is persisted in `status`. It is rewritten with every change of the route's state, so that a restart loses
//! no part of an outage, and otherwise once an hour at most.
// ADR-0150: Objectives are measured coarsely, from what really happened.

use std::time::Duration;

use super::RouteEntry;
use super::drills::DRILL;
use super::status::time_of_failover;
use crate::controller::status::{Conditions, is_delivering};
use mail_failover_api::conditions::{condition, reason};
use mail_failover_api::{
    MailRouteStatus, ObjectiveRecordStatus, ObjectiveStatus, RouteObjectivesStatus, TransitionKind, TransitionStatus,
};
use mail_failover_core::engine::{Assessment, Attempts, FailoverTimes, Measure, ObjectiveRecord, RecordPart, assess};
use mail_failover_core::model::{BackendDeliveries, Objectives, Timestamp};
use mail_failover_resolve::time::{micro_time, timestamp};
use mail_failover_resolve::words;

/// Shortest time between two writes of measurements alone.
const COARSELY: Duration = Duration::from_hours(1);

/// Record of a route's objectives.
#[derive(Debug, Default)]
pub(super) struct ObjectiveTracker {
    /// `None` until the status was read that has what was counted before this process began.
    record: Option<ObjectiveRecord>,
    /// True if deliveries were counted since the status was written.
    has_news: bool,
}

impl ObjectiveTracker {
    /// Takes note of the route's state now. Returns what was counted; `None` without objectives.
    pub(super) fn measure(
        &mut self,
        objectives: &Objectives,
        status: Option<&MailRouteStatus>,
        now: Timestamp,
    ) -> Option<Measurement> {
        if objectives.is_empty() {
            self.record = None;
            return None;
        }
        let record = self.record.get_or_insert_with(|| restored(status));
        // Before the first choice nobody expects mail to leave.
        record.advance(now, objectives.window, status.and_then(is_delivering).unwrap_or(true));
        Some(Measurement { objectives: *objectives, record: record.clone(), at: now })
    }

    /// Counts what an agent reports of a backend. Reports have totals since the agent's process began; `earlier` is the
    /// one of the same process before. Returns true if the route has to be looked at for it.
    pub(super) fn count(
        &mut self,
        now: Timestamp,
        objectives: &Objectives,
        earlier: Option<&BackendDeliveries>,
        reported: &BackendDeliveries,
    ) -> bool {
        let Some(record) = self.record.as_mut().filter(|_| !objectives.is_empty()) else { return false };
        // Nothing in a first report tells what of its totals an earlier leader has counted.
        let Some(earlier) = earlier else { return false };
        let since = |of: fn(&BackendDeliveries) -> u64| of(reported).saturating_sub(of(earlier));
        let attempts = Attempts {
            accepted: since(|deliveries| deliveries.sent),
            deferred: since(|deliveries| deliveries.deferred),
            possible_duplicates: since(|deliveries| deliveries.possible_duplicates),
        };
        if attempts == Attempts::default() {
            return false;
        }
        record.count(now, objectives.window, attempts);
        !std::mem::replace(&mut self.has_news, true)
    }

    /// Takes note that the status was written.
    pub(super) fn written(&mut self) {
        self.has_news = false;
    }
}

impl RouteEntry {
    /// Forgets what this process has counted: another leader may have gone on.
    pub(in crate::controller) fn forget_objectives(&mut self) {
        self.objectives = ObjectiveTracker::default();
        self.measured = None;
    }
}

/// Counts up to a time.
#[derive(Clone, Debug)]
pub(super) struct Measurement {
    objectives: Objectives,
    record: ObjectiveRecord,
    at: Timestamp,
}

impl Measurement {
    /// Judges what was counted, together with these transitions.
    fn judged(&self, history: &[TransitionStatus]) -> RouteObjectivesStatus {
        let Self { objectives, record, at } = self;
        let (mut failovers, mut overtaken_at) = (vec![], None);
        // Newest first.
        for transition in history {
            failovers.extend(times(transition, overtaken_at, objectives.recovery_time, *at));
            overtaken_at = Some(timestamp(&transition.decided_at));
        }
        RouteObjectivesStatus {
            at: micro_time(*at),
            window: words(objectives.window),
            results: assess(objectives, record, &failovers, *at).iter().map(result).collect(),
            possible_duplicates: count(record.sum(*at, objectives.window).possible_duplicates),
            record: record.parts().iter().map(part).collect(),
        }
    }
}

/// The measurements to write: the fresh ones if the hour is over, if the route's state or transitions have changed, or if
/// they are about other objectives; else the ones in the status.
pub(super) fn coarse(
    measurement: Option<&Measurement>,
    before: &MailRouteStatus,
    status: &MailRouteStatus,
) -> Option<RouteObjectivesStatus> {
    let fresh = measurement?.judged(&status.history);
    let Some(written) = &before.objectives else { return Some(fresh) };
    let is_same = RouteObjectivesStatus { at: written.at.clone(), ..fresh.clone() } == *written;
    let is_due = timestamp(&fresh.at) >= timestamp(&written.at) + COARSELY;
    let has_moved = before.state != status.state || before.last_transition != status.last_transition;
    let is_fresh = !is_same && (is_due || has_moved || targets(&fresh) != targets(written));
    Some(if is_fresh { fresh } else { written.clone() })
}

/// The time at which fresh measurements may be written; `None` if they are those that stand there.
pub(super) fn next_write(measurement: Option<&Measurement>, status: Option<&MailRouteStatus>) -> Option<Timestamp> {
    let status = status?;
    let (fresh, written) = (measurement?.judged(&status.history), status.objectives.as_ref()?);
    let is_same = RouteObjectivesStatus { at: written.at.clone(), ..fresh } == *written;
    (!is_same).then(|| timestamp(&written.at) + COARSELY)
}

/// Sets the condition that sums up what is written of the objectives.
pub(super) fn set_condition(conditions: &mut Conditions<'_>, objectives: Option<&RouteObjectivesStatus>) {
    let Some(RouteObjectivesStatus { window, results, .. }) = objectives else { return };
    let in_state = |state: &str| results.iter().filter(|one| one.state == state).map(sentence).collect::<Vec<_>>();
    let (missed, at_risk, met) = (in_state("Missed"), in_state("AtRisk"), in_state("Met"));
    let (is_met, reason, told) = if !missed.is_empty() {
        (Some(false), reason::OBJECTIVE_MISSED, missed)
    } else if !at_risk.is_empty() {
        (Some(true), reason::OBJECTIVE_AT_RISK, at_risk)
    } else if met.is_empty() {
        (None, reason::NOT_MEASURED, vec!["nothing was measured".to_owned()])
    } else {
        (Some(true), reason::WITHIN_OBJECTIVE, met)
    };
    let message = format!("over {window}: {}", told.join("; "));
    conditions.set(condition::OBJECTIVES_MET, is_met, reason, &message);
}

fn sentence(result: &ObjectiveStatus) -> String {
    let ObjectiveStatus { objective, target, measured, error_budget_percent, .. } = result;
    let measured = measured.as_deref().unwrap_or("nothing");
    let budget = error_budget_percent.map_or_else(String::new, |left| format!(", {left}% of the error budget is left"));
    format!("{objective} {measured}, and {target} is demanded{budget}")
}

fn targets(status: &RouteObjectivesStatus) -> (&str, Vec<(&str, &str)>) {
    let results = status.results.iter().map(|one| (one.objective.as_str(), one.target.as_str()));
    (&status.window, results.collect())
}

/// The times of a failover that evidence led to; `None` for any other transition. One that not every output has followed
/// has taken until the next decision. Without one it counts as soon as it is longer than the objective.
fn times(
    transition: &TransitionStatus,
    overtaken_at: Option<Timestamp>,
    objective: Option<Duration>,
    now: Timestamp,
) -> Option<FailoverTimes> {
    let is_by_evidence = transition.kind == TransitionKind::Failover && transition.reason != DRILL;
    let began_at = transition.first_evidence_at.as_ref().filter(|_| is_by_evidence).map(timestamp)?;
    let unfinished = match overtaken_at {
        Some(overtaken_at) => Some(overtaken_at.since(began_at)),
        // It may still be in time.
        None => Some(now.since(began_at)).filter(|so_far| objective.is_some_and(|most| *so_far > most)),
    };
    Some(FailoverTimes {
        decided_at: timestamp(&transition.decided_at),
        recovery: time_of_failover(transition).or(unfinished),
        delivery: transition.first_delivery_at.as_ref().map(|out| timestamp(out).since(began_at)),
    })
}

fn result(assessment: &Assessment) -> ObjectiveStatus {
    let Assessment { objective, state, target, measured, budget_left } = assessment;
    ObjectiveStatus {
        objective: objective.as_str().to_owned(),
        state: state.as_str().to_owned(),
        target: text(target),
        measured: measured.as_ref().map(text),
        error_budget_percent: *budget_left,
    }
}

fn text(measure: &Measure) -> String {
    match measure {
        Measure::Time(time) => words(*time),
        Measure::Share(share) => share.to_string(),
    }
}

fn part(part: &RecordPart) -> ObjectiveRecordStatus {
    let RecordPart { since, undeliverable, accepted, deferred, possible_duplicates } = part;
    ObjectiveRecordStatus {
        since: micro_time(*since),
        undeliverable_millis: i64::try_from(undeliverable.as_millis()).unwrap_or(i64::MAX),
        accepted: count(*accepted),
        deferred: count(*deferred),
        possible_duplicates: count(*possible_duplicates),
    }
}

fn count(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// The record that a status has. An outage under way is counted from when the status was written last, which is when
/// it began or later.
fn restored(status: Option<&MailRouteStatus>) -> ObjectiveRecord {
    let Some(status) = status else { return ObjectiveRecord::default() };
    let ready = status.conditions.iter().find(|one| one.type_ == condition::READY);
    let began_at = ready.map(|ready| Timestamp::from_micros(ready.last_transition_time.0.as_microsecond()));
    let counted_until = status.objectives.as_ref().map(|objectives| timestamp(&objectives.at));
    let is_down = is_delivering(status) == Some(false);
    let since =
        began_at.filter(|_| is_down).map(|began_at| counted_until.map_or(began_at, |until| until.max(began_at)));
    let parts = status.objectives.iter().flat_map(|objectives| &objectives.record).map(|part| RecordPart {
        since: timestamp(&part.since),
        undeliverable: Duration::from_millis(u64::try_from(part.undeliverable_millis).unwrap_or(0)),
        accepted: u64::try_from(part.accepted).unwrap_or(0),
        deferred: u64::try_from(part.deferred).unwrap_or(0),
        possible_duplicates: u64::try_from(part.possible_duplicates).unwrap_or(0),
    });
    ObjectiveRecord::restore(parts, since)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use mail_failover_core::model::{DeliveryVerdict, Share};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_micros(second * 1_000_000)
    }

    fn totals(sent: u64, deferred: u64) -> BackendDeliveries {
        BackendDeliveries {
            verdict: DeliveryVerdict::Passing,
            is_bypassed: false,
            sent,
            deferred,
            bounced: 0,
            possible_duplicates: deferred,
            diverted: 0,
        }
    }

    #[test]
    fn the_totals_of_a_process_that_is_heard_for_the_first_time_are_where_counting_begins() {
        let objectives = Objectives { success: Some(Share::from_parts_per_million(980_000)), ..Objectives::NONE };
        let mut tracker = ObjectiveTracker::default();
        tracker.measure(&objectives, Some(&MailRouteStatus::default()), at(100));
        let before = totals(5_000_000, 7000);
        assert!(!tracker.count(at(101), &objectives, None, &before));
        assert!(tracker.count(at(111), &objectives, Some(&before), &totals(5_000_010, 7001)));
        let measured = tracker.measure(&objectives, Some(&MailRouteStatus::default()), at(112)).unwrap();
        let sum = measured.record.sum(at(112), objectives.window);
        assert_eq!((sum.accepted, sum.deferred, sum.possible_duplicates), (10, 1, 1));
    }

    #[test]
    fn a_failover_that_no_output_follows_counts_until_the_next_decision_or_once_it_is_too_long() {
        let failover = |id: i64, began: i64, applied: Option<i64>| -> TransitionStatus {
            let time = |second: i64| serde_json::to_value(micro_time(at(second))).unwrap();
            let mut transition = json!({
                "id": id, "kind": "Failover", "from": "a", "to": "b", "reason": "NoAnswer",
                "firstEvidenceAt": time(began), "decidedAt": time(began + 50),
            });
            transition["appliedAt"] = applied.map_or(Value::Null, time);
            serde_json::from_value(transition).unwrap()
        };
        let objectives = Objectives { recovery_time: Some(Duration::from_secs(90)), ..Objectives::NONE };
        let result = |history: &[TransitionStatus], now: i64| {
            let measurement = Measurement { objectives, record: ObjectiveRecord::default(), at: at(now) };
            let ObjectiveStatus { state, measured, .. } = measurement.judged(history).results.remove(0);
            (state, measured)
        };
        let open = failover(1, 1000, None);
        assert_eq!(result(std::slice::from_ref(&open), 1080), ("Unknown".to_owned(), None), "it may still be in time");
        let late = result(std::slice::from_ref(&open), 8200);
        assert_eq!(late, ("Missed".to_owned(), Some(words(Duration::from_hours(2)))));
        let next = failover(2, 4550, Some(4601));
        let overtaken = result(&[next, open], 8200);
        assert_eq!(overtaken, ("Missed".to_owned(), Some(words(Duration::from_hours(1)))));
    }
}
