//! Conclusion of a decision: the shares, the state, and what people should hear of.

use std::sync::Arc;

use super::{Decision, DecisionBuilder, Notice, is_excluded};
use crate::engine::placement::{self, Carrier};
use crate::engine::{Candidate, Eligibility, Health, HoldReason, State, drill, explanation};
use crate::model::Strategy;

impl<'a> DecisionBuilder<'a> {
    pub(super) fn conclude(mut self) -> Decision {
        self.end_approval();
        let unplaced = self.place();
        self.memory.state = self.state();
        self.memory.held_by = self.hold.map(|hold| hold.reason);
        self.memory.held_until = self.hold.and_then(|hold| hold.until);
        let goes_on = self.memory.held_by == self.before.held_by;
        let held_since = self.before.held_since.filter(|_| goes_on).unwrap_or(self.now()).min(self.now());
        self.memory.held_since = self.hold.map(|_| held_since);
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

    /// Ends an approval whose recovery is over.
    fn end_approval(&mut self) {
        let Self { memory, ranked, members, .. } = self;
        memory.approved_at.take_if(|at| {
            let mut returning = ranked.iter().filter(|candidate| !members.contains(&candidate.name));
            !returning.any(|candidate| candidate.is_sound() && candidate.since <= *at)
        });
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
            // The leading backend was removed from the list, and no other can take over: its share stays, and what it did
            // not take has nowhere to go.
            self.memory.shares.retain(|share| self.members.contains(&share.backend));
            let staying: u8 = self.memory.shares.iter().map(|share| share.percent).sum();
            return if self.members.is_empty() { 0 } else { 100_u8.saturating_sub(staying) };
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
