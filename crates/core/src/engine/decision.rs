//! The decision about a route's mail. [`decide`] reads as a table of contents.

use std::sync::Arc;

use super::explanation::{self, Explanation};
use super::placement::{self, Carrier};
use super::requests::{self, Order};
use super::{
    Answer, Candidate, Health, Hold, HoldReason, MAX_HISTORY, Memory, Request, Standing, State, Transition,
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
pub enum Announcement {
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
    pub announcements: Vec<Announcement>,
    /// Time to decide again without new evidence.
    pub wake_at: Option<Timestamp>,
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
    let mut course = Course::begin(situation, memory);
    course.end_what_is_over();
    let order = course.answer_request();
    course.settle(order);
    course.advance_ramp();
    course.conclude()
}

/// State of a decision while it is made.
pub(super) struct Course<'a> {
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
    wake_at: Option<Timestamp>,
}

impl<'a> Course<'a> {
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
            wake_at: None,
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

    pub(super) fn wake_at(&mut self, at: Timestamp) {
        if at > self.now() {
            self.wake_at = Some(self.wake_at.map_or(at, |earlier| earlier.min(at)));
        }
    }

    pub(super) fn hold(&mut self, hold: Hold) {
        self.hold = Some(hold);
    }

    fn end_what_is_over(&mut self) {
        let now = self.now();
        let is_over = |until: Option<Timestamp>| until.is_some_and(|until| until <= now);
        if self.memory.pause.as_ref().is_some_and(|pause| is_over(pause.until)) {
            self.memory.pause = None;
        }
        if self.memory.switch.as_ref().is_some_and(|switch| is_over(switch.until)) {
            self.memory.switch = None;
        }
    }

    /// Answers the request once, by its id.
    fn answer_request(&mut self) -> Option<Order> {
        let request = self.situation.request?;
        if self.before.request.as_ref().is_some_and(|answer| answer.id == request.id) {
            return None;
        }
        let (now, policy) = (self.now(), self.situation.policy);
        let ruling = requests::rule(request, &self.ranked, policy, &mut self.memory, now);
        let (order, message, is_done) = match ruling {
            Ok((order, message)) => (order, message, true),
            Err(message) => (None, message, false),
        };
        self.memory.request =
            Some(Answer { id: request.id.clone(), action: request.action.as_str().into(), is_done, message, at: now });
        order
    }

    /// Chooses the backends that carry the mail.
    fn settle(&mut self, order: Option<Order>) {
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

    fn obey(&mut self, order: &Order) {
        self.memory.ramp = None;
        let members = match order {
            Order::SwitchTo(to) => vec![to.clone()],
            Order::FailBack => {
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
        let in_service = || self.ranked.iter().filter(|candidate| candidate.standing == Standing::InService);
        let is_known = |candidate: &&&Candidate| candidate.health != Health::Unknown;
        let members: Vec<_> = match self.situation.strategy {
            Strategy::ActivePassive => {
                let sound = in_service().find(|candidate| candidate.is_sound() || candidate.health == Health::Unknown);
                let chosen = sound.or_else(|| in_service().find(|candidate| candidate.is_eligible()));
                if chosen.is_some_and(|chosen| chosen.health == Health::Unknown) {
                    return self.hold(Hold::open(HoldReason::AwaitingEvidence));
                }
                chosen.or_else(|| in_service().next()).map(|chosen| chosen.name.clone()).into_iter().collect()
            }
            Strategy::ActiveActive => {
                if !in_service().all(|candidate| is_known(&candidate)) {
                    return self.hold(Hold::open(HoldReason::AwaitingEvidence));
                }
                let sound: Vec<_> = in_service().filter(|candidate| candidate.is_sound()).collect();
                let able = || in_service().filter(|candidate| candidate.is_eligible());
                let chosen = [sound, able().collect(), in_service().take(1).collect()];
                let chosen = chosen.into_iter().find(|chosen| !chosen.is_empty()).unwrap_or_default();
                chosen.into_iter().map(|candidate| candidate.name.clone()).collect()
            }
        };
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
        let ramp = self.memory.ramp.as_ref();
        let step = ramp.and_then(|ramp| self.situation.policy?.failback.ramp.get(ramp.step));
        let ramp_limit = |name: &Arc<str>| match (ramp, step) {
            (Some(ramp), Some(step)) if ramp.to.contains(name) => step.percent,
            (_, _) => 100,
        };
        let carrier = |candidate: &'a Candidate| Carrier {
            candidate,
            at_most: candidate.capacity.percent.min(ramp_limit(&candidate.name)),
        };
        let known: Vec<_> = self.members.iter().filter_map(|name| self.find(name)).collect();
        let others = self.ranked.iter().filter(|candidate| !self.is_member(candidate) && candidate.is_eligible());
        let mut others: Vec<_> = others.copied().collect();
        others.sort_by_key(|candidate| candidate.health != Health::Healthy);
        let members: Vec<_> = known.iter().map(|candidate| carrier(candidate)).collect();
        let overflow: Vec<_> = others.iter().map(|candidate| carrier(candidate)).collect();
        if members.is_empty() {
            // Removed from the list, and nobody else can take over: what led there stays.
            self.memory.shares.retain(|share| self.members.contains(&share.backend));
            return 0;
        }
        let placement = match self.situation.strategy {
            Strategy::ActivePassive => placement::in_order(&members, &overflow),
            Strategy::ActiveActive => placement::by_weight(&members, &overflow),
        };
        let changes = known.iter().chain(&others).filter_map(|candidate| candidate.capacity.until);
        changes.collect::<Vec<_>>().into_iter().for_each(|at| self.wake_at(at));
        self.memory.shares = placement.shares;
        placement.unplaced
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
        ends.into_iter().flatten().for_each(|at| self.wake_at(at));
        let announcements = self.announcements();
        let explanation = explanation::of(&self, unplaced);
        let is_preferred = self.is_preferred();
        Decision {
            memory: self.memory,
            transition: self.transition,
            hold: self.hold,
            is_preferred,
            unplaced,
            announcements,
            wake_at: self.wake_at,
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
        let was_dead = self.before.state == State::NoneHealthy;
        let can_deliver = |candidate: &Candidate| match candidate.health {
            Health::Healthy | Health::Degraded => true,
            // What nothing is known about does not end a NoneHealthy: that takes evidence.
            Health::Unknown => !was_dead,
            Health::Unhealthy => false,
        };
        let members = || self.members.iter().filter_map(|name| self.find(name));
        let held_by = self.hold.map(|hold| hold.reason);
        if !members().any(can_deliver)
            && (held_by == Some(HoldReason::StormBrake) || !self.ranked.iter().any(|one| one.is_eligible()))
        {
            return State::NoneHealthy;
        }
        let is_stuck = match self.lead() {
            None => true,
            Some(lead) => match lead.standing {
                Standing::Unusable | Standing::Excluded(_) => true,
                Standing::Suspended => held_by == Some(HoldReason::NoneHealthy),
                Standing::InService => false,
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

    fn is_preferred(&self) -> bool {
        let Some(first) = self.members.first() else { return false };
        let mut wanted = self.ranked.iter().filter(|candidate| !is_excluded(candidate));
        match self.situation.strategy {
            _ if self.memory.ramp.is_some() => false,
            Strategy::ActivePassive => wanted.next().is_some_and(|preferred| preferred.name == *first),
            Strategy::ActiveActive => wanted.all(|candidate| self.is_member(candidate)),
        }
    }

    fn announcements(&self) -> Vec<Announcement> {
        let (before, after) = (self.before.state, self.memory.state);
        let is_answered = self.memory.request != self.before.request;
        let told = [
            (is_answered, Announcement::RequestAnswered),
            (self.transition.is_some(), Announcement::Moved),
            (before != State::NoneHealthy && after == State::NoneHealthy, Announcement::NoneHealthy),
            (
                before == State::NoneHealthy
                    && matches!(after, State::Preferred | State::FailedOver | State::FailingBack),
                Announcement::Recovered,
            ),
        ];
        told.into_iter().filter(|(is_so, _)| *is_so).map(|(_, announcement)| announcement).collect()
    }
}

pub(super) fn is_excluded(candidate: &Candidate) -> bool {
    matches!(candidate.standing, Standing::Excluded(_))
}

#[cfg(test)]
#[path = "decision_tests.rs"]
mod tests;
