//! Objectives of a route, measured: time in which no mail could leave, attempts to deliver, times of failovers.
//!
//! A record has a bounded number of parts, so that it has room in `status`. Nothing here is an input to a decision.
// ADR-0150: Objectives are measured coarsely, from what really happened.

use std::time::Duration;

use crate::model::{Objectives, Share, Timestamp};

/// Parts of a window. The oldest leaves as a whole, so a window is kept to a thirtieth.
const PARTS: u32 = 30;
/// Most parts of a record. More than a window has, because a shorter window begins parts of its own.
pub const MAX_PARTS: usize = 40;
/// Percentage of what an objective allows from which on it is at risk.
const AT_RISK: u32 = 75;

/// Events of a route in one part of the window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecordPart {
    /// Start of the part.
    pub since: Timestamp,
    /// Time in it in which no mail could leave.
    pub undeliverable: Duration,
    /// Attempts to deliver that a backend accepted, as agents and relays report.
    pub accepted: u64,
    /// Attempts that failed or were put off by a backend.
    pub deferred: u64,
    /// Messages that may be delivered twice.
    pub possible_duplicates: u64,
}

/// Attempts to deliver that are counted at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attempts {
    /// Attempts that a backend accepted.
    pub accepted: u64,
    /// Attempts that failed or were put off.
    pub deferred: u64,
    /// Messages that may be delivered twice.
    pub possible_duplicates: u64,
}

/// Recent history of a route, in parts; oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObjectiveRecord {
    parts: Vec<RecordPart>,
    /// Time up to which the present outage is counted; `None` while mail can leave.
    counted_until: Option<Timestamp>,
}

impl ObjectiveRecord {
    /// Restores a record. An outage under way is counted from `undeliverable_since`.
    pub fn restore(parts: impl IntoIterator<Item = RecordPart>, undeliverable_since: Option<Timestamp>) -> Self {
        let mut parts: Vec<_> = parts.into_iter().take(MAX_PARTS).collect();
        parts.sort_by_key(|part| part.since);
        Self { parts, counted_until: undeliverable_since }
    }

    /// Returns the parts in which something happened, oldest first.
    pub fn parts(&self) -> &[RecordPart] {
        &self.parts
    }

    /// Takes note that mail can leave, or cannot, from `now` on. Counts the time of an outage until then.
    pub fn advance(&mut self, now: Timestamp, window: Duration, is_delivering: bool) {
        if let Some(mut from) = self.counted_until {
            let from_window = now - window;
            from = from.max(from_window);
            while from < now {
                let end = (start_of_part(from, window) + part_of(window)).min(now);
                self.part(from, window).undeliverable += end.since(from);
                from = end;
            }
        }
        self.counted_until = (!is_delivering).then_some(now);
        self.forget(now, window);
    }

    /// Counts attempts to deliver.
    pub fn count(&mut self, now: Timestamp, window: Duration, attempts: Attempts) {
        let Attempts { accepted, deferred, possible_duplicates } = attempts;
        let part = self.part(now, window);
        part.accepted = part.accepted.saturating_add(accepted);
        part.deferred = part.deferred.saturating_add(deferred);
        part.possible_duplicates = part.possible_duplicates.saturating_add(possible_duplicates);
        self.forget(now, window);
    }

    /// Returns the sum of the window that ends `now`.
    pub fn sum(&self, now: Timestamp, window: Duration) -> RecordPart {
        let begin = now - window;
        let of_window = self.parts.iter().filter(|part| part.since + part_of(window) > begin);
        of_window.fold(RecordPart { since: begin, ..RecordPart::default() }, |sum, part| RecordPart {
            since: begin,
            undeliverable: sum.undeliverable + part.undeliverable,
            accepted: sum.accepted.saturating_add(part.accepted),
            deferred: sum.deferred.saturating_add(part.deferred),
            possible_duplicates: sum.possible_duplicates.saturating_add(part.possible_duplicates),
        })
    }

    fn part(&mut self, at: Timestamp, window: Duration) -> &mut RecordPart {
        let since = start_of_part(at, window);
        let index = match self.parts.binary_search_by_key(&since, |part| part.since) {
            Ok(index) => index,
            Err(index) => {
                self.parts.insert(index, RecordPart { since, ..RecordPart::default() });
                index
            }
        };
        &mut self.parts[index]
    }

    fn forget(&mut self, now: Timestamp, window: Duration) {
        self.parts.retain(|part| part.since + part_of(window) > now - window);
        let excess = self.parts.len().saturating_sub(MAX_PARTS);
        self.parts.drain(..excess);
    }
}

fn part_of(window: Duration) -> Duration {
    (window / PARTS).max(Duration::from_secs(1))
}

fn start_of_part(at: Timestamp, window: Duration) -> Timestamp {
    let part = i64::try_from(part_of(window).as_micros()).unwrap_or(i64::MAX);
    Timestamp::from_micros(at.as_micros().div_euclid(part).saturating_mul(part))
}

/// Times of a failover that evidence led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FailoverTimes {
    /// Time of the decision.
    pub decided_at: Timestamp,
    /// Time from the first evidence until every output led elsewhere; of one that an output has not followed the time that
    /// it has taken at least. `None` while nothing is known.
    pub recovery: Option<Duration>,
    /// Time from the first evidence until the first message was out; `None` without a report.
    pub delivery: Option<Duration>,
}

/// Objective of a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::IntoStaticStr)]
pub enum Objective {
    /// `recoveryTime`.
    RecoveryTime,
    /// `deliveryTime`.
    DeliveryTime,
    /// `successPercent`.
    Success,
    /// `availability`.
    Availability,
}

impl Objective {
    /// Returns the CamelCase name.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// State of an objective.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, strum::IntoStaticStr)]
pub enum ObjectiveState {
    /// Nothing was measured in the window.
    Unknown,
    /// It is met, with room.
    Met,
    /// It is met, and three quarters of what it allows are used.
    AtRisk,
    /// It is missed.
    Missed,
}

impl ObjectiveState {
    /// Returns the CamelCase name.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// Measurement of an objective.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// A time: of an objective the longest that it allows, else the longest that was measured.
    Time(Duration),
    /// A share: of an objective the least that it allows, else the one that was measured.
    Share(Share),
}

/// Judgement of one objective.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Assessment {
    /// Objective that is judged.
    pub objective: Objective,
    /// State of the objective.
    pub state: ObjectiveState,
    /// Value that the objective demands.
    pub target: Measure,
    /// Measured value; `None` if nothing was measured.
    pub measured: Option<Measure>,
    /// Rest of the error budget in percent, negative when it is overspent; `None` for times.
    pub budget_left: Option<i32>,
}

/// Judges the objectives of a route, in the order of [`Objective`].
pub fn assess(
    objectives: &Objectives,
    record: &ObjectiveRecord,
    failovers: &[FailoverTimes],
    now: Timestamp,
) -> Vec<Assessment> {
    let Objectives { recovery_time, delivery_time, success, availability, window } = *objectives;
    let lately = failovers.iter().filter(|failover| failover.decided_at > now - window);
    let sum = record.sum(now, window);
    let mut assessments = vec![];
    if let Some(target) = recovery_time {
        let slowest = lately.clone().filter_map(|failover| failover.recovery).max();
        assessments.push(of_time(Objective::RecoveryTime, target, slowest));
    }
    if let Some(target) = delivery_time {
        let slowest = lately.filter_map(|failover| failover.delivery).max();
        assessments.push(of_time(Objective::DeliveryTime, target, slowest));
    }
    if let Some(target) = success {
        let attempts = sum.accepted.saturating_add(sum.deferred);
        assessments.push(of_share(Objective::Success, target, sum.deferred, attempts));
    }
    if let Some(target) = availability {
        let [missing, whole] =
            [sum.undeliverable, window].map(|time| u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
        assessments.push(of_share(Objective::Availability, target, missing.min(whole), whole));
    }
    assessments
}

fn of_time(objective: Objective, target: Duration, slowest: Option<Duration>) -> Assessment {
    let state = match slowest {
        None => ObjectiveState::Unknown,
        Some(slowest) if slowest > target => ObjectiveState::Missed,
        Some(slowest) if slowest > target * AT_RISK / 100 => ObjectiveState::AtRisk,
        Some(_) => ObjectiveState::Met,
    };
    let (target, measured) = (Measure::Time(target), slowest.map(Measure::Time));
    Assessment { objective, state, target, measured, budget_left: None }
}

/// Judges a share by what is missing of the whole.
fn of_share(objective: Objective, target: Share, missing: u64, whole: u64) -> Assessment {
    if whole == 0 {
        let (state, target) = (ObjectiveState::Unknown, Measure::Share(target));
        return Assessment { objective, state, target, measured: None, budget_left: None };
    }
    // In millionths of what is counted, so that nothing is rounded: missing of the whole, against what is allowed of it.
    let (spent, budget) = (u128::from(missing) * 1_000_000, u128::from(whole) * u128::from(target.rest()));
    let state = if spent > budget {
        ObjectiveState::Missed
    } else if spent * 100 > budget * u128::from(AT_RISK) {
        ObjectiveState::AtRisk
    } else {
        ObjectiveState::Met
    };
    let used = i32::try_from(spent * 100 / budget.max(1)).unwrap_or(i32::MAX);
    Assessment {
        objective,
        state,
        target: Measure::Share(target),
        measured: Some(Measure::Share(Share::of(whole - missing, whole))),
        budget_left: Some(100_i32.saturating_sub(used)),
    }
}

#[cfg(test)]
#[path = "objectives_tests.rs"]
mod tests;
