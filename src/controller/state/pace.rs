//! Bounds on the writes that tell people something and that no mail waits for: one for each object, and one for all.
//!
//! What changes while an object's write is put off is not written one by one: the next write says how things are then.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::controller::action::ResourceRef;
use crate::controller::lane::Lane;
use crate::controller::retry::WriteBudget;
use mail_failover_core::model::Timestamp;

/// Writes at once, and the time in which one more becomes possible.
type Bound = (u32, Duration);

/// Bound on the writes of one object in a lane. Decisions, outputs and their retries have none: with them mail moves.
// ADR-0109: Writes that no mail waits for have a bound for each object and one for all.
fn of_object(lane: Lane) -> Option<Bound> {
    match lane {
        Lane::Outputs | Lane::Decision | Lane::Retry | Lane::Jobs => None,
        // It also says when the outputs of a switch were written.
        Lane::RouteStatus => Some((60, Duration::from_secs(2))),
        // A message has two: before it is told, and after.
        Lane::Notifications => Some((60, Duration::from_secs(5))),
        Lane::BackendStatus => Some((60, Duration::from_mins(1))),
        Lane::Events => Some((20, Duration::from_mins(1))),
    }
}

/// Bound on the writes of all objects in a lane. A thousand backends fail at once without being late.
fn of_all(lane: Lane) -> Option<Bound> {
    match lane {
        Lane::Outputs | Lane::Decision | Lane::Retry | Lane::Jobs | Lane::RouteStatus | Lane::Notifications => None,
        Lane::BackendStatus => Some((1000, Duration::from_millis(50))),
        Lane::Events => Some((1000, Duration::from_millis(100))),
    }
}

/// Budgets of writes.
#[derive(Debug, Default)]
pub(super) struct Pace {
    objects: BTreeMap<(ResourceRef, Lane), ObjectBudget>,
    all: BTreeMap<Lane, WriteBudget>,
}

#[derive(Debug)]
struct ObjectBudget {
    budget: WriteBudget,
    /// True once it was said that the budget is spent.
    is_noted: bool,
}

impl Pace {
    /// The time at which an object may write again in a lane, with true if that is new; `None` if it may now.
    pub(super) fn paused_until(
        &mut self,
        now: Timestamp,
        resource: &ResourceRef,
        lane: Lane,
    ) -> Option<(Timestamp, bool)> {
        let of_object = self.objects.get_mut(&(resource.clone(), lane))?;
        let until = of_object.budget.available(now).err()?;
        Some((until, !std::mem::replace(&mut of_object.is_noted, true)))
    }

    /// Returns true if any object may write in a lane.
    pub(super) fn is_open(&mut self, now: Timestamp, lane: Lane) -> bool {
        self.all.get_mut(&lane).is_none_or(|budget| budget.available(now).is_ok())
    }

    /// The time at which a lane opens that is closed for all; `None` if it is open.
    pub(super) fn opens_at(&self, lane: Lane) -> Option<Timestamp> {
        self.all.get(&lane)?.spent_until()
    }

    /// Notes a write that begins.
    pub(super) fn take(&mut self, now: Timestamp, resource: &ResourceRef, lane: Lane) {
        if let Some((burst, refill)) = of_object(lane) {
            let of_object = self
                .objects
                .entry((resource.clone(), lane))
                .or_insert_with(|| ObjectBudget { budget: WriteBudget::new(now, burst, refill), is_noted: false });
            of_object.is_noted = false;
            // It was asked before.
            let _ = of_object.budget.take(now);
        }
        if let Some((burst, refill)) = of_all(lane) {
            let _ = self.all.entry(lane).or_insert_with(|| WriteBudget::new(now, burst, refill)).take(now);
        }
    }

    /// Forgets the budgets of an object that is gone.
    pub(super) fn forget(&mut self, resource: &ResourceRef) {
        for lane in Lane::ALL {
            self.objects.remove(&(resource.clone(), lane));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mail_failover_core::model::ObjectKey;

    fn backend(name: &str) -> ResourceRef {
        ResourceRef::backend(&ObjectKey::new("shop", name))
    }

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_micros(0) + Duration::from_millis(millis)
    }

    #[test]
    fn an_object_that_writes_too_often_waits_and_keeps_no_other_waiting() {
        let (mut pace, flapping) = (Pace::default(), backend("flapping"));
        for _ in 0..20 {
            assert_eq!(pace.paused_until(at(0), &flapping, Lane::Events), None);
            pace.take(at(0), &flapping, Lane::Events);
        }
        assert_eq!(pace.paused_until(at(1), &flapping, Lane::Events), Some((at(60_000), true)));
        assert_eq!(pace.paused_until(at(2), &flapping, Lane::Events), Some((at(60_000), false)), "it is noted once");
        assert_eq!(pace.paused_until(at(1), &backend("calm"), Lane::Events), None);
        assert_eq!(pace.paused_until(at(1), &flapping, Lane::BackendStatus), None, "each lane has its own");
        assert_eq!(pace.paused_until(at(60_000), &flapping, Lane::Events), None);
        pace.take(at(60_000), &flapping, Lane::Events);
        assert_eq!(pace.paused_until(at(60_001), &flapping, Lane::Events), Some((at(120_000), true)));
        pace.forget(&flapping);
        assert_eq!(pace.paused_until(at(60_001), &flapping, Lane::Events), None);
    }

    #[test]
    fn all_objects_together_have_a_bound() {
        let mut pace = Pace::default();
        for number in 0..1000 {
            assert!(pace.is_open(at(0), Lane::BackendStatus), "{number}");
            pace.take(at(0), &backend(&number.to_string()), Lane::BackendStatus);
        }
        assert!(!pace.is_open(at(1), Lane::BackendStatus));
        assert_eq!(pace.opens_at(Lane::BackendStatus), Some(at(50)));
        assert!(pace.is_open(at(1), Lane::Events) && pace.opens_at(Lane::Events).is_none());
        // Twenty a second from then on.
        let mut written = 0;
        for millis in 0..10_000 {
            if pace.is_open(at(millis), Lane::BackendStatus) {
                pace.take(at(millis), &backend(&millis.to_string()), Lane::BackendStatus);
                written += 1;
            }
        }
        assert!((150..=200).contains(&written), "{written}");
    }

    #[test]
    fn nothing_that_mail_waits_for_is_ever_put_off() {
        let (mut pace, route) = (Pace::default(), ResourceRef::route(&ObjectKey::new("shop", "orders")));
        for lane in [Lane::Outputs, Lane::Decision, Lane::Retry, Lane::Jobs] {
            for _ in 0..10_000 {
                pace.take(at(0), &route, lane);
            }
            assert!(pace.is_open(at(0), lane) && pace.paused_until(at(0), &route, lane).is_none());
        }
    }
}
