//! The decision about a route's mail. [`decide`] reads as a table of contents.

use std::sync::Arc;

use super::explanation::{self, Explanation};
use super::placement::{self, Carrier};
use super::requests::{self, Granted, RequestedMove};
use super::{
    Candidate, Eligibility, Health, Hold, HoldReason, MAX_HISTORY, Memory, Request, RequestAnswer, State, Transition,
    TransitionKind, TransitionReason,
};
use crate::model::{Policy, Strategy, Timestamp};

/// Everything a decision depends on besides what the route remembers.
#[derive(Clone, Copy, Debug)]
pub struct Situation<'a> {
    /// Time of the decision.
    pub now: Timestamp,
    /// The policy; `None` while it is invalid and no earlier good version is known. Nothing moves then.
    pub policy: Option<&'a Policy>,
    /// The way mail is spread over the backends.
    pub strategy: Strategy,
    /// Regions whose backends are preferred, the best first.
    pub preferred_regions: &'a [Arc<str>],
    /// The route's backends in the order of its list.
    pub candidates: &'a [Candidate],
    /// True if every failure domain of the fleet fails at once.
    pub is_storm: bool,
    /// The latest request of a person, answered or not.
    pub request: Option<&'a Request>,
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
}

/// Result of a decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// State to persist; `memory.shares` says how the mail is split.
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
    /// Returns true if mail may go to the candidate without another decision: it is in service and alive, and no
    /// switch, pause or policy keeps the mail elsewhere.
    pub fn is_standby(&self, candidate: &Candidate) -> bool {
        let is_held = self.memory.pause.is_some() || self.memory.switch.as_ref().is_some_and(|switch| switch.is_forced);
        candidate.is_eligible() && !is_held
    }
}

/// Decides where the mail of a route goes.
pub fn decide(situation: &Situation<'_>, memory: &Memory) -> Decision {
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

    /// Answers the request once, by its id.
    fn answer_request(&mut self) -> Option<RequestedMove> {
        let request = self.situation.request?;
        if self.before.request.as_ref().is_some_and(|answer| answer.id == request.id) {
            return None;
        }
        let (now, policy) = (self.now(), self.situation.policy);
        let (order, message, is_done) = match requests::rule(request, &self.ranked, policy, &mut self.memory, now) {
            Ok(Granted { order, message }) => (order, message, true),
            Err(refused) => (None, refused.to_string(), false),
        };
        self.memory.request = Some(RequestAnswer {
            id: request.id.clone(),
            action: request.action.as_str().into(),
            is_done,
            message,
            at: now,
        });
        order
    }

    /// Chooses the backends that carry the mail.
    fn choose_members(&mut self, order: Option<RequestedMove>) {
        if let Some(order) = order {
            return self.obey(&order);
        }
        if let Some(pause) = &self.memory.pause {
            return self.hold(Hold { reason: HoldReason::Paused, until: pause.until });
        }
        let Some(policy) = self.situation.policy else {
            return self.hold(Hold::open(HoldReason::ConfigurationRejected));
        };
        if self.members.is_empty() {
            return self.choose_first();
        }
        let departures = self.departures();
        if let Some(switch) = &self.memory.switch {
            if switch.is_forced || !departures.iter().any(|departure| departure.member == switch.to) {
                return self.hold(Hold { reason: HoldReason::Switched, until: switch.until });
            }
            self.memory.switch = None;
        }
        if departures.is_empty() {
            if !self.escape_slowness(policy) {
                self.return_to_preferred(policy);
            }
        } else {
            self.leave(policy, &departures);
        }
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
                        .filter(|candidate| candidate.is_sound())
                        .map(|candidate| candidate.name.clone())
                        .collect(),
                }
            }
        };
        self.move_to(members, None, TransitionReason::Requested, None);
    }

    /// Makes the first choice: the most preferred backend that can deliver, once every backend preferred to it is
    /// known to be unable. The preferred one if none can.
    fn choose_first(&mut self) {
        let ranked = self.ranked.iter().copied();
        let in_service: Vec<&Candidate> =
            ranked.filter(|candidate| candidate.eligibility == Eligibility::InService).collect();
        let chosen = match self.situation.strategy {
            Strategy::ActivePassive => first_of(&in_service),
            Strategy::ActiveActive => all_of(&in_service),
        };
        let Some(chosen) = chosen else {
            // ADR-0008: The first choice waits for evidence.
            return self.hold(Hold::open(HoldReason::AwaitingEvidence));
        };
        let members: Vec<_> = chosen.into_iter().map(|candidate| candidate.name.clone()).collect();
        if members.is_empty() || !members.iter().filter_map(|name| self.find(name)).any(Candidate::is_eligible) {
            self.hold(Hold::open(HoldReason::NoneHealthy));
        }
        if !members.is_empty() {
            self.members = members;
            self.memory.since = self.now();
        }
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
            id: self.before.last_transition().map_or(0, |last| last.id).saturating_add(1),
            kind,
            from,
            to,
            reason,
            first_evidence_at,
            decided_at: self.now(),
        };
        self.memory.approved_at = None;
        self.memory.since = self.now();
        self.memory.history.insert(0, transition.clone());
        self.memory.history.truncate(MAX_HISTORY);
        self.transition = Some(transition);
    }

    pub(super) fn lead(&self) -> Option<&'a Candidate> {
        self.find(self.members.first()?)
    }

    /// Splits the mail over the members. Returns the percentage that no backend takes.
    fn place(&mut self) -> u8 {
        if self.memory.pause.is_some() && !self.is_moved {
            return 100_u8.saturating_sub(self.before.shares.iter().map(|share| share.percent).sum());
        }
        let known: Vec<_> = self.members.iter().filter_map(|name| self.find(name)).collect();
        let others = self.ranked.iter().filter(|candidate| !self.is_member(candidate) && candidate.is_eligible());
        let mut others: Vec<_> = others.copied().collect();
        others.sort_by_key(|candidate| candidate.health != Health::Healthy);
        let members: Vec<_> = known.iter().map(|candidate| self.carrier(candidate)).collect();
        let overflow: Vec<_> = others.iter().map(|candidate| self.carrier(candidate)).collect();
        if members.is_empty() {
            // The leading backend was removed from the list, and no other can take over: its share stays.
            self.memory.shares.retain(|share| self.members.contains(&share.backend));
            return 0;
        }
        let placement = match self.situation.strategy {
            Strategy::ActivePassive => placement::in_order(&members, &overflow),
            Strategy::ActiveActive => placement::by_weight(&members, &overflow),
        };
        for at in known.iter().chain(&others).filter_map(|candidate| candidate.capacity.until) {
            self.set_timeout(at);
        }
        self.memory.shares = placement.shares;
        placement.unplaced
    }

    fn carrier(&self, candidate: &'a Candidate) -> Carrier<'a> {
        Carrier { candidate, at_most: candidate.capacity.percent.min(self.ramp_limit(&candidate.name)) }
    }

    /// Returns the largest share that the present step of a return allows, in percent.
    fn ramp_limit(&self, name: &Arc<str>) -> u8 {
        let Some(ramp) = self.memory.ramp.as_ref().filter(|ramp| ramp.to.contains(name)) else { return 100 };
        let step = self.situation.policy.and_then(|policy| policy.failback.ramp.get(ramp.step));
        step.map_or(100, |step| step.percent)
    }

    fn conclude(mut self) -> Decision {
        let unplaced = self.place();
        self.memory.state = self.state();
        self.memory.held_by = self.hold.map(|hold| hold.reason);
        let ends = [
            self.hold.and_then(|hold| hold.until),
            self.memory.pause.as_ref().and_then(|pause| pause.until),
            self.memory.switch.as_ref().and_then(|switch| switch.until),
        ];
        ends.into_iter().flatten().for_each(|at| self.set_timeout(at));
        let notices = self.notices();
        let explanation = explanation::of(&self, unplaced);
        let is_preferred = self.is_preferred();
        Decision {
            memory: self.memory,
            transition: self.transition,
            hold: self.hold,
            is_preferred,
            unplaced,
            notices,
            next_timeout: self.next_timeout,
            explanation,
        }
    }

    fn state(&self) -> State {
        if self.members.is_empty() {
            return State::Unknown;
        }
        if self.memory.pause.is_some() {
            return State::Paused;
        }
        if self.situation.policy.is_none() {
            return State::Holding;
        }
        let held_by = self.hold.map(|hold| hold.reason);
        if !self.members.iter().filter_map(|name| self.find(name)).any(|member| self.can_deliver(member))
            && (held_by == Some(HoldReason::StormBrake) || !self.ranked.iter().any(|one| one.is_eligible()))
        {
            return State::NoneHealthy;
        }
        let is_stuck = match self.lead() {
            None => true,
            Some(lead) => match lead.eligibility {
                Eligibility::Unusable | Eligibility::Excluded(_) => true,
                Eligibility::Suspended => held_by == Some(HoldReason::NoneHealthy),
                Eligibility::InService => false,
            },
        };
        if is_stuck && self.memory.switch.is_none() {
            return State::Holding;
        }
        if self.memory.ramp.is_some() {
            return State::FailingBack;
        }
        if self.is_preferred() { State::Preferred } else { State::FailedOver }
    }

    fn can_deliver(&self, candidate: &Candidate) -> bool {
        match candidate.health {
            Health::Healthy | Health::Degraded => true,
            // A backend without evidence does not end a NoneHealthy.
            Health::Unknown => self.before.state != State::NoneHealthy,
            Health::Unhealthy => false,
        }
    }

    fn is_preferred(&self) -> bool {
        let Some(first) = self.members.first() else { return false };
        let mut wanted = self.ranked.iter().filter(|candidate| !is_excluded(candidate));
        match self.situation.strategy {
            _ if self.memory.ramp.is_some() => false,
            Strategy::ActivePassive => wanted.next().is_some_and(|preferred| preferred.name == *first),
            Strategy::ActiveActive => wanted.all(|candidate| self.is_member(candidate)),
        }
    }

    fn notices(&self) -> Vec<Notice> {
        let (before, after) = (self.before.state, self.memory.state);
        let is_answered = self.memory.request != self.before.request;
        let told = [
            (is_answered, Notice::RequestAnswered),
            (self.transition.is_some(), Notice::Moved),
            (before != State::NoneHealthy && after == State::NoneHealthy, Notice::NoneHealthy),
            (
                before == State::NoneHealthy
                    && matches!(after, State::Preferred | State::FailedOver | State::FailingBack),
                Notice::Recovered,
            ),
        ];
        told.into_iter().filter(|(is_so, _)| *is_so).map(|(_, notice)| notice).collect()
    }
}

/// Chooses the first backend of a route, most preferred first; `None` if evidence is missing.
fn first_of<'a>(in_service: &[&'a Candidate]) -> Option<Vec<&'a Candidate>> {
    for &candidate in in_service {
        if candidate.is_sound() {
            return Some(vec![candidate]);
        }
        if candidate.health == Health::Unknown {
            return None;
        }
    }
    let able = in_service.iter().find(|candidate| candidate.is_eligible());
    Some(able.or(in_service.first()).copied().into_iter().collect())
}

/// Chooses the first backends of an `ActiveActive` route: the sound ones, otherwise those that can deliver, otherwise
/// the preferred one; `None` if evidence is missing.
fn all_of<'a>(in_service: &[&'a Candidate]) -> Option<Vec<&'a Candidate>> {
    if in_service.iter().any(|candidate| candidate.health == Health::Unknown) {
        return None;
    }
    let sound: Vec<_> = in_service.iter().copied().filter(|candidate| candidate.is_sound()).collect();
    if !sound.is_empty() {
        return Some(sound);
    }
    let able: Vec<_> = in_service.iter().copied().filter(|candidate| candidate.is_eligible()).collect();
    if !able.is_empty() {
        return Some(able);
    }
    Some(in_service.iter().copied().take(1).collect())
}

pub(super) fn is_excluded(candidate: &Candidate) -> bool {
    matches!(candidate.eligibility, Eligibility::Excluded(_))
}

#[cfg(test)]
#[path = "decision_tests.rs"]
mod tests;
