//! The decision about a route's mail. [`decide`] reads as a table of contents.

use std::sync::Arc;

use super::departure::Departure;
use super::drill::{self, Advance};
use super::explanation::{self, Explanation};
use super::memory::IdUse;
use super::placement::{self, Carrier};
use super::requests::{self, Granted, RequestRefused, RequestedMove};
use super::{
    Candidate, Capacity, DrillInputs, Eligibility, Health, Hold, HoldReason, MAX_ANSWERED, Memory, Request,
    RequestAnswer, State, Transition, TransitionKind, TransitionReason, holds,
};
use crate::model::{ClockDrift, Policy, Route, Strategy, Timestamp};

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
        let policy = self.situation.policy;
        if let Some(pause) = self.memory.pause.clone() {
            return self.stay_paused(pause.until);
        }
        if self.members.is_empty() {
            return self.choose_first();
        }
        let departures = self.departures();
        if let Some(switch) = self.memory.switch.clone() {
            let departs = departures.iter().any(|departure| departure.member == switch.to);
            // Force overrides health. Residency and sender domains yield to nothing.
            let is_forbidden = departures.iter().any(Departure::is_exclusion);
            // A backend whose object is gone is not what the person meant.
            if !is_forbidden && !switch.is_forced && !departs && self.hold_unusable() {
                return;
            }
            if !is_forbidden && (switch.is_forced || !departs) {
                return self.hold(Hold { reason: HoldReason::Switched, until: switch.until });
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

    /// Makes the first choice: the most preferred backend that can deliver, once every backend preferred to it is
    /// known to be unable. The preferred one if none can.
    fn choose_first(&mut self) {
        match self.first_choice() {
            FirstChoice::Wait(until) => {
                // ADR-0008: The first choice waits for evidence.
                let reason = if self.is_withdrawing() { HoldReason::Withdrawn } else { HoldReason::AwaitingEvidence };
                self.hold(Hold { reason, until });
            }
            FirstChoice::Nobody => {
                let reason = if self.is_withdrawing() { HoldReason::Withdrawn } else { HoldReason::NoneHealthy };
                self.hold(Hold::open(reason));
            }
            FirstChoice::Members(members) => {
                if !self.is_any_eligible(&members) {
                    self.hold(Hold::open(HoldReason::NoneHealthy));
                }
                self.members = members;
                self.memory.since = self.now();
            }
        }
    }

    /// Chooses as if no mail had gone anywhere before.
    pub(super) fn first_choice(&self) -> FirstChoice {
        let ranked = self.ranked.iter().copied();
        let in_service: Vec<&Candidate> =
            ranked.filter(|candidate| candidate.eligibility == Eligibility::InService).collect();
        first_of(&in_service, self.situation.strategy, self.now())
    }

    /// Returns the members of a choice among the backends that are known to be alive.
    fn able_members(&self) -> Vec<Arc<str>> {
        let is_sound = self.ranked.iter().any(|candidate| candidate.is_sound());
        let able = self.ranked.iter().filter(|one| one.is_sound() || (!is_sound && one.is_eligible()));
        let able = able.map(|candidate| candidate.name.clone());
        match self.situation.strategy {
            Strategy::ActivePassive => able.take(1).collect(),
            Strategy::ActiveActive => able.collect(),
        }
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

    /// Splits the mail over the members. Returns the percentage that no backend takes.
    fn place(&mut self) -> u8 {
        if self.memory.pause.is_some() && !self.is_moved {
            let Self { memory, ranked, .. } = self;
            let is_excluded = |name: &str| ranked.iter().any(|one| *one.name == *name && is_excluded(one));
            memory.shares.retain(|share| !is_excluded(&share.backend));
            return 100_u8.saturating_sub(memory.shares.iter().map(|share| share.percent).sum());
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
        let step = self.situation.policy.failback.ramp.get(ramp.step);
        step.map_or(100, |step| step.percent)
    }

    /// Ends an approval whose recovery is over.
    fn end_approval(&mut self) {
        let Self { memory, ranked, members, .. } = self;
        memory.approved_at.take_if(|at| {
            let mut returning = ranked.iter().filter(|candidate| !members.contains(&candidate.name));
            !returning.any(|candidate| candidate.is_sound() && candidate.since <= *at)
        });
    }

    fn conclude(mut self) -> Decision {
        self.end_approval();
        let unplaced = self.place();
        self.memory.state = self.state();
        self.memory.held_by = self.hold.map(|hold| hold.reason);
        self.memory.held_until = self.hold.and_then(|hold| hold.until);
        drill::begin_due(&mut self);
        if let Some(begun) = self.memory.drill.as_mut().filter(|_| self.before.drill.is_none()) {
            // It was asked for before this decision was made: mail returns to where this decision leads.
            (begun.shares, begun.since) = (self.memory.shares.clone(), self.memory.since);
        }
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
            let is_withdrawn = self.hold.is_some_and(|hold| hold.reason == HoldReason::Withdrawn);
            return if is_withdrawn { State::NoneHealthy } else { State::Unknown };
        }
        if self.memory.pause.is_some() {
            return State::Paused;
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
            Health::Unknown => candidate.unseen_failure.is_none() && self.before.state != State::NoneHealthy,
            Health::Unhealthy => candidate.is_answering_again(),
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
        let told = told.into_iter().filter(|(is_so, _)| *is_so).map(|(_, notice)| notice);
        told.chain(drill::notices(self.before, &self.memory)).collect()
    }
}

/// First choice of a route's backends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum FirstChoice {
    /// These, the leading one first.
    Members(Vec<Arc<str>>),
    /// Evidence is missing; without an end until some comes.
    Wait(Option<Timestamp>),
    /// No backend is in service.
    Nobody,
}

/// Chooses the first backends of a route: the most preferred that is sound, or with `ActiveActive` all that are; else
/// the one that is alive; else one that answers some probe; else one that answers every probe again; the preferred one
/// if all are dead. A backend of which nothing is known is waited for, for a grace.
fn first_of(in_service: &[&Candidate], strategy: Strategy, now: Timestamp) -> FirstChoice {
    let mut awaited = None;
    for candidate in in_service {
        let known_by = candidate.since + holds::FIRST_CHOICE_GRACE;
        if candidate.health == Health::Unknown && known_by > now {
            awaited = Some(awaited.map_or(known_by, |earlier: Timestamp| earlier.min(known_by)));
        }
        if candidate.is_sound() && strategy == Strategy::ActivePassive {
            break;
        }
    }
    if awaited.is_some() {
        return FirstChoice::Wait(awaited);
    }
    let is_able: [fn(&Candidate) -> bool; 4] =
        [Candidate::is_sound, Candidate::is_eligible, Candidate::is_answering, Candidate::is_answering_again];
    for is_able in is_able {
        let able = in_service.iter().filter(|candidate| is_able(candidate)).map(|candidate| candidate.name.clone());
        let able: Vec<_> = match strategy {
            Strategy::ActivePassive => able.take(1).collect(),
            Strategy::ActiveActive => able.collect(),
        };
        if !able.is_empty() {
            return FirstChoice::Members(able);
        }
    }
    match in_service.first() {
        None => FirstChoice::Nobody,
        Some(_) if in_service.iter().any(|candidate| candidate.health == Health::Unknown) => {
            // Mail that has nowhere to go is no better off than with a backend that half of the replicas reach.
            let disputed = in_service.iter().find(|candidate| candidate.is_disputed);
            disputed.map_or(FirstChoice::Wait(None), |disputed| FirstChoice::Members(vec![disputed.name.clone()]))
        }
        Some(preferred) => FirstChoice::Members(vec![preferred.name.clone()]),
    }
}

pub(super) fn is_excluded(candidate: &Candidate) -> bool {
    matches!(candidate.eligibility, Eligibility::Excluded(_))
}

#[cfg(test)]
#[path = "decision_holds_tests.rs"]
mod holds_tests;
#[cfg(test)]
#[path = "last_resort_tests.rs"]
mod last_resort_tests;
#[cfg(test)]
#[path = "decision_pool_tests.rs"]
mod pool_tests;
#[cfg(test)]
#[path = "decision_requests_tests.rs"]
mod requests_tests;
#[cfg(test)]
#[path = "decision_tests.rs"]
mod tests;
