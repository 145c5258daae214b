//! The decision about a route's mail. [`decide`] reads as a table of contents.

mod conclusion;
mod first_choice;
#[cfg(test)]
mod holds_tests;
#[cfg(test)]
mod last_resort_tests;
#[cfg(test)]
mod pool_tests;
#[cfg(test)]
mod requests_tests;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use super::departure::Departure;
use super::drill::{self, Advance};
use super::explanation::Explanation;
use super::memory::IdUse;
use super::requests::{self, Granted, RequestRefused, RequestedMove};
use super::{
    Candidate, Capacity, DrillInputs, Eligibility, Hold, HoldReason, MAX_ANSWERED, Memory, Request, RequestAnswer,
    Transition, TransitionKind, TransitionReason,
};
use crate::model::{ClockDrift, Policy, Route, Strategy, Timestamp};
use first_choice::FirstChoice;

/// Everything a decision depends on besides what the route remembers.
#[derive(Clone, Copy, Debug)]
pub struct Situation<'a> {
    /// Time of the decision.
    pub now: Timestamp,
    /// Lead of the wall clock, by which windows open.
    pub drift: ClockDrift,
    /// The policy in force; [`Policy::default`] while there is none that can be used.
    pub policy: &'a Policy,
    /// The way mail is spread over the backends.
    pub strategy: Strategy,
    /// Regions whose backends are preferred, the best first.
    pub preferred_regions: &'a [Arc<str>],
    /// The route's backends in the order of its list.
    pub candidates: &'a [Candidate],
    /// True if the failures that the route meets are rather those of our own network (`FailureDomains::is_storm`).
    pub is_storm: bool,
    /// The latest request of a person, answered or not.
    pub request: Option<&'a Request>,
    /// Knowledge of drills; `None` where none are run.
    pub drill: Option<DrillInputs<'a>>,
}

/// Change that people should hear of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// The route moved: see the decision's transition.
    Moved,
    /// No backend can deliver any more.
    NoneHealthy,
    /// Mail can leave again.
    Recovered,
    /// A request is answered: see the memory's request.
    RequestAnswered,
    /// A drill has begun: see the memory's drill.
    DrillBegan,
    /// A drill is over, or was skipped: see the memory's drills.
    DrillEnded,
}

/// Result of a decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// State to persist; `memory.shares` says how the mail is split. Without shares no backend is chosen yet, unless
    /// [`Decision::is_withdrawn`].
    pub memory: Memory,
    /// The move that was decided just now.
    pub transition: Option<Transition>,
    /// Reason for which the route stays although it would move, with the end if it has one.
    pub hold: Option<Hold>,
    /// True if mail goes to the preferred backend, or with `ActiveActive` to all that the route may use.
    pub is_preferred: bool,
    /// Percentage of the mail that no backend takes.
    pub unplaced: u8,
    /// Changes that people should hear of.
    pub notices: Vec<Notice>,
    /// Time to decide again without new evidence.
    pub next_timeout: Option<Timestamp>,
    /// The reasons for this decision, and what would change it.
    pub explanation: Explanation,
}

impl Decision {
    /// Returns true if the mail may go nowhere: Services must not lead to any backend, and those that do must cease.
    ///
    /// There are then no shares. Without shares and without this no backend is chosen yet, and outputs stay as they
    /// are.
    pub fn is_withdrawn(&self) -> bool {
        self.memory.held_by == Some(HoldReason::Withdrawn)
    }

    /// Returns true if mail may go to the candidate without another decision: it is in service and alive, and no
    /// switch, pause or policy keeps the mail elsewhere.
    pub fn is_standby(&self, candidate: &Candidate) -> bool {
        let is_held = self.memory.pause.is_some() || self.memory.switch.as_ref().is_some_and(|switch| switch.is_forced);
        candidate.is_eligible() && !is_held
    }

    /// Returns true if one message at a time may try a candidate that real mail has condemned: it is in service, no
    /// switch, pause or setting keeps messages from going on to another backend, and another one carries the mail.
    // ADR-0119: Acquit at the depth of the accusation.
    pub fn may_be_tried(&self, candidate: &Candidate, route: &Route) -> bool {
        let is_held = self.memory.pause.is_some() || self.memory.switch.as_ref().is_some_and(|switch| switch.is_forced);
        let carries = self.memory.shares.iter().any(|share| share.backend == candidate.name);
        route.alternates && candidate.eligibility == Eligibility::InService && !is_held && !carries
    }

    /// Returns true if single messages may go to the candidate when the backend that they were sent to does not take
    /// them: it is a standby, Healthy, not asking for less mail, and within its limits with all of the route's mail.
    // ADR-0115: A message tries the standbys within one attempt.
    pub fn is_alternate(&self, candidate: &Candidate, route: &Route) -> bool {
        route.alternates
            && self.is_standby(candidate)
            && candidate.is_sound()
            && !candidate.is_throttled
            && candidate.capacity.percent == Capacity::FULL.percent
    }
}

/// Decides where the mail of a route goes.
pub fn decide(situation: &Situation<'_>, memory: &Memory) -> Decision {
    let (memory, is_over, timeout) = match drill::advance(situation, memory) {
        Advance::Goes(decision) => return *decision,
        Advance::Rests { memory, is_over, timeout } => (memory, is_over, timeout),
    };
    let mut decision = ordinary(situation, &memory);
    decision.notices.extend(is_over.then_some(Notice::DrillEnded));
    decision.next_timeout = [decision.next_timeout, timeout].into_iter().flatten().min();
    decision
}

/// Decides where the mail of a route goes, without the drill under way.
pub(super) fn ordinary(situation: &Situation<'_>, memory: &Memory) -> Decision {
    let mut builder = DecisionBuilder::begin(situation, memory);
    builder.end_expired();
    let order = builder.answer_request();
    builder.choose_members(order);
    builder.advance_ramp();
    builder.conclude()
}

/// State of a decision while it is made.
pub(super) struct DecisionBuilder<'a> {
    pub(super) situation: &'a Situation<'a>,
    /// Candidates in order of preference.
    pub(super) ranked: Vec<&'a Candidate>,
    pub(super) before: &'a Memory,
    pub(super) memory: Memory,
    /// Backends that carry the mail, the leading one first.
    pub(super) members: Vec<Arc<str>>,
    /// True once this decision has replaced `members`.
    is_moved: bool,
    pub(super) transition: Option<Transition>,
    pub(super) hold: Option<Hold>,
    next_timeout: Option<Timestamp>,
}

impl<'a> DecisionBuilder<'a> {
    fn begin(situation: &'a Situation<'a>, before: &'a Memory) -> Self {
        let mut ranked: Vec<_> = situation.candidates.iter().collect();
        ranked.sort_by_key(|candidate| candidate.region_rank(situation.preferred_regions));
        let members = before.shares.iter().filter(|share| !share.is_overflow).map(|share| share.backend.clone());
        Self {
            situation,
            ranked,
            before,
            memory: before.clone(),
            members: members.collect(),
            is_moved: false,
            transition: None,
            hold: None,
            next_timeout: None,
        }
    }

    pub(super) fn now(&self) -> Timestamp {
        self.situation.now
    }

    pub(super) fn find(&self, name: &str) -> Option<&'a Candidate> {
        self.ranked.iter().find(|candidate| &*candidate.name == name).copied()
    }

    /// Returns the rank by preference, 0 for the most preferred. A backend outside the list ranks last.
    pub(super) fn rank(&self, name: &str) -> usize {
        self.ranked.iter().position(|candidate| &*candidate.name == name).unwrap_or(usize::MAX)
    }

    pub(super) fn is_member(&self, candidate: &Candidate) -> bool {
        self.members.contains(&candidate.name)
    }

    pub(super) fn set_timeout(&mut self, at: Timestamp) {
        if at > self.now() {
            self.next_timeout = Some(self.next_timeout.map_or(at, |earlier| earlier.min(at)));
        }
    }

    pub(super) fn hold(&mut self, hold: Hold) {
        self.hold = Some(hold);
    }

    /// Ends a pause or switch whose time is over.
    fn end_expired(&mut self) {
        let now = self.now();
        self.memory.pause.take_if(|pause| pause.until.is_some_and(|until| until <= now));
        self.memory.switch.take_if(|switch| switch.until.is_some_and(|until| until <= now));
    }

    /// Answers the request once, by its id. One of an id that was used before is refused: who reuses an id must hear
    /// that nothing is done.
    fn answer_request(&mut self) -> Option<RequestedMove> {
        let request = self.situation.request?;
        let now = self.now();
        // ADR-0152: Who uses a request's id again is told that nothing is done.
        let ruling = match self.before.use_of(request) {
            IdUse::Answered => return None,
            IdUse::Taken(answer) => Err(RequestRefused::id_taken(request, answer)),
            IdUse::Free => requests::rule(request, &self.ranked, self.situation, &mut self.memory),
        };
        let (order, message, is_done) = match ruling {
            Ok(Granted { order, message }) => (order, message, true),
            Err(refused) => (None, refused.to_string(), false),
        };
        if let Some(earlier) = self.memory.request.take().filter(|earlier| earlier.id != request.id) {
            self.memory.answered.retain(|id| *id != earlier.id && *id != request.id);
            self.memory.answered.insert(0, earlier.id);
            self.memory.answered.truncate(MAX_ANSWERED);
        }
        self.memory.request = Some(RequestAnswer {
            id: request.id.clone(),
            action: request.action.as_str().into(),
            is_done,
            message,
            reason: request.reason.clone(),
            digest: request.digest.clone(),
            asked_by: request.asked_by.clone(),
            at: now,
        });
        order
    }

    /// Chooses the backends that carry the mail.
    fn choose_members(&mut self, order: Option<RequestedMove>) {
        if let Some(order) = order {
            return self.obey(&order);
        }
        if let Some(pause) = self.memory.pause.clone() {
            return self.stay_paused(pause.until);
        }
        if self.members.is_empty() {
            return self.choose_first();
        }
        let removed = self.take_removed();
        self.stay_or_leave();
        if let (Some(from), None) = (removed, &self.transition) {
            let listed = self.members.clone();
            self.members.push(from.clone());
            self.move_to(listed, Some(&from), TransitionReason::RemovedFromRoute, None);
        }
    }

    /// Takes out of a pool the members that have left the list, and returns the first. A pool of no others keeps them.
    // What a person has removed is held up by nothing, and the others carry its share, dead or not.
    fn take_removed(&mut self) -> Option<Arc<str>> {
        let (listed, removed): (Vec<_>, Vec<_>) =
            self.members.iter().cloned().partition(|name| self.find(name).is_some());
        if self.situation.strategy != Strategy::ActiveActive || listed.is_empty() {
            return None;
        }
        self.members = listed;
        removed.into_iter().next()
    }

    /// Leaves the members that must not keep the mail, or returns to those that are preferred.
    fn stay_or_leave(&mut self) {
        let policy = self.situation.policy;
        let departures = self.departures();
        if let Some(switch) = self.memory.switch.clone() {
            let departure = departures.iter().find(|departure| departure.member == switch.to);
            // Residency and sender domains yield to nothing.
            let is_forbidden = departures.iter().any(Departure::is_exclusion);
            let is_left = departure.is_some_and(|departure| !switch.is_forced || !self.yields_to_force(departure));
            if !is_forbidden && !is_left {
                // A backend whose object is gone is not what the person meant.
                if !self.hold_unusable() {
                    self.hold(Hold { reason: HoldReason::Switched, until: switch.until });
                }
                return;
            }
            self.memory.switch = None;
        }
        if departures.is_empty() {
            if !self.hold_unusable() && !self.escape_slowness(policy) {
                self.return_to_preferred(policy);
            }
        } else {
            self.leave(policy, &departures);
        }
    }

    /// Moves nothing, apart from mail that its backend must not carry any more.
    fn stay_paused(&mut self, until: Option<Timestamp>) {
        if self.departures().iter().any(Departure::is_exclusion) {
            self.memory.switch = None;
            self.drop_excluded();
        }
        let is_withdrawn = self.members.is_empty() && self.is_withdrawing();
        self.hold(if is_withdrawn {
            Hold::open(HoldReason::Withdrawn)
        } else {
            Hold { reason: HoldReason::Paused, until }
        });
    }

    fn obey(&mut self, order: &RequestedMove) {
        self.memory.ramp = None;
        let members = match order {
            RequestedMove::SwitchTo(to) => vec![to.clone()],
            RequestedMove::FailBack => {
                let wanted = self.ranked.iter().filter(|candidate| !is_excluded(candidate));
                match self.situation.strategy {
                    Strategy::ActivePassive => wanted.take(1).map(|candidate| candidate.name.clone()).collect(),
                    Strategy::ActiveActive => wanted
                        .filter(|candidate| {
                            candidate.is_sound() || (self.is_member(candidate) && candidate.is_eligible())
                        })
                        .map(|candidate| candidate.name.clone())
                        .collect(),
                }
            }
        };
        self.move_to(members, None, TransitionReason::Requested, None);
    }

    pub(super) fn is_any_eligible(&self, members: &[Arc<str>]) -> bool {
        members.iter().filter_map(|name| self.find(name)).any(Candidate::is_eligible)
    }

    /// Returns true if a route without members is one whose mail may go nowhere: it was taken from a backend that must
    /// not carry it, or no backend of the list may.
    fn is_withdrawing(&self) -> bool {
        let may_nobody = !self.ranked.is_empty() && self.ranked.iter().all(|candidate| is_excluded(candidate));
        may_nobody || !self.before.shares.is_empty() || self.before.held_by == Some(HoldReason::Withdrawn)
    }

    /// Takes the mail away from members that must not carry it, whatever holds the route. Without another member it
    /// goes where a first choice would lead; nowhere if nobody may carry it.
    // ADR-0080: Residency and sender domains yield to nothing.
    pub(super) fn drop_excluded(&mut self) {
        let (excluded, staying): (Vec<_>, Vec<_>) =
            self.members.iter().cloned().partition(|name| self.find(name).is_some_and(is_excluded));
        let Some(first) = excluded.first() else { return };
        if !staying.is_empty() {
            return self.move_to(staying, Some(first), TransitionReason::Excluded, None);
        }
        let choice = match self.able_members() {
            able if able.is_empty() => self.first_choice(),
            able => FirstChoice::Members(able),
        };
        if let FirstChoice::Members(members) = choice {
            if !self.is_any_eligible(&members) {
                self.hold(Hold::open(HoldReason::NoneHealthy));
            }
            return self.move_to(members, Some(first), TransitionReason::Excluded, None);
        }
        self.members.clear();
        self.memory.ramp = None;
        self.is_moved = true;
        self.choose_first();
    }

    /// Moves the mail to `members`, the leading one first. `from` is the backend that gives it up; the present lead if
    /// `None`.
    pub(super) fn move_to(
        &mut self,
        mut members: Vec<Arc<str>>,
        from: Option<&Arc<str>>,
        reason: TransitionReason,
        first_evidence_at: Option<Timestamp>,
    ) {
        if self.situation.strategy == Strategy::ActiveActive {
            members.sort_by_key(|name| self.rank(name));
        }
        self.is_moved = members != self.members;
        let before = std::mem::replace(&mut self.members, members);
        if let Some(ramp) = &mut self.memory.ramp {
            ramp.to.retain(|name| self.members.contains(name));
        }
        if self.situation.strategy == Strategy::ActivePassive
            || self.memory.ramp.as_ref().is_some_and(|ramp| ramp.to.is_empty())
        {
            self.memory.ramp = None;
        }
        if !self.is_moved {
            return;
        }
        let (Some(first), Some(from)) = (self.members.first().cloned(), from.or(before.first()).cloned()) else {
            self.memory.since = self.now();
            return;
        };
        let joined = self.members.iter().find(|name| !before.contains(name));
        let to = match self.situation.strategy {
            Strategy::ActivePassive => first.clone(),
            Strategy::ActiveActive => {
                joined.or(self.members.iter().find(|name| **name != from)).cloned().unwrap_or(first.clone())
            }
        };
        let kind = match self.situation.strategy {
            Strategy::ActivePassive if self.rank(&to) < self.rank(&from) => TransitionKind::Failback,
            Strategy::ActiveActive if joined.is_some() && before.iter().all(|name| self.members.contains(name)) => {
                TransitionKind::Failback
            }
            Strategy::ActivePassive | Strategy::ActiveActive => TransitionKind::Failover,
        };
        let transition = Transition {
            id: self.before.next_transition_id(),
            kind,
            from,
            to,
            reason,
            first_evidence_at,
            decided_at: self.now(),
        };
        self.memory.approved_at = None;
        self.memory.since = self.now();
        self.memory.remember(transition.clone());
        self.transition = Some(transition);
    }

    pub(super) fn lead(&self) -> Option<&'a Candidate> {
        self.find(self.members.first()?)
    }
}

pub(super) fn is_excluded(candidate: &Candidate) -> bool {
    matches!(candidate.eligibility, Eligibility::Excluded(_))
}
