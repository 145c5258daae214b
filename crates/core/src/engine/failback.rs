//! Return to a preferred backend, at once or in steps.

use std::sync::Arc;

use super::decision::DecisionBuilder;
use super::{Candidate, Hold, HoldReason, Ramp, TransitionReason, holds};
use crate::model::{Policy, Strategy};

impl DecisionBuilder<'_> {
    /// Moves the mail to a more preferred backend, if one has recovered and no hold is in force.
    pub(super) fn return_to_preferred(&mut self, policy: &Policy) {
        let lead_rank = self.members.first().map_or(0, |lead| self.rank(lead));
        if self.memory.ramp.is_some() {
            return;
        }
        let better: Vec<&Candidate> = match self.situation.strategy {
            Strategy::ActivePassive => self.ranked[..lead_rank.min(self.ranked.len())].to_vec(),
            Strategy::ActiveActive => {
                self.ranked.iter().filter(|candidate| !self.is_member(candidate)).copied().collect()
            }
        };
        let (mut ready, mut held) = (vec![], vec![]);
        for candidate in better.into_iter().filter(|candidate| candidate.is_sound()) {
            let (strategy, drift) = (self.situation.strategy, self.situation.drift);
            match holds::on_return(policy, strategy, &self.memory, candidate, self.now(), drift) {
                Some(hold) => held.push(hold),
                None => ready.push(candidate),
            }
        }
        let Some(first) = ready.first() else {
            // The one that ends first; one without an end comes last.
            if let Some(hold) = held.into_iter().min_by_key(|hold| hold.until.map_or((1, None), |at| (0, Some(at)))) {
                self.hold(hold);
            }
            return;
        };
        let joining: Vec<Arc<str>> = match self.situation.strategy {
            Strategy::ActivePassive => vec![first.name.clone()],
            Strategy::ActiveActive => ready.iter().map(|candidate| candidate.name.clone()).collect(),
        };
        let evidence = Some(first.since);
        let is_ramped = !policy.failback.ramp.is_empty();
        let mut members = self.members.clone();
        match self.situation.strategy {
            Strategy::ActivePassive if is_ramped => members.insert(0, first.name.clone()),
            Strategy::ActivePassive => members.clone_from(&joining),
            Strategy::ActiveActive => members.extend(joining.iter().cloned()),
        }
        let from = self.members.first().cloned();
        self.move_to(members, from.as_ref(), TransitionReason::Recovered, evidence);
        if is_ramped {
            self.memory.ramp = Some(Ramp { to: joining, step: 0, since: self.now() });
        }
    }

    /// Advances a return in steps once its present step is over and its backends are sound.
    pub(super) fn advance_ramp(&mut self) {
        if self.memory.pause.is_some() {
            return;
        }
        let (policy, Some(ramp)) = (self.situation.policy, self.memory.ramp.clone()) else { return };
        let step = policy.failback.ramp.get(ramp.step);
        let ends_at = step.map_or(self.now(), |step| ramp.since + step.duration);
        let is_well = ramp.to.iter().filter_map(|name| self.find(name)).all(Candidate::is_sound);
        if !is_well {
            self.hold.get_or_insert(Hold::open(HoldReason::Ramp));
        } else if ends_at > self.now() {
            self.hold.get_or_insert(Hold::until(HoldReason::Ramp, ends_at));
            self.set_timeout(ends_at);
        } else if ramp.step + 1 < policy.failback.ramp.len() {
            let next = Ramp { step: ramp.step + 1, since: self.now(), ..ramp };
            let ends_at = next.since + policy.failback.ramp[next.step].duration;
            self.memory.ramp = Some(next);
            self.hold.get_or_insert(Hold::until(HoldReason::Ramp, ends_at));
            self.set_timeout(ends_at);
        } else {
            self.memory.ramp = None;
            if self.situation.strategy == Strategy::ActivePassive {
                self.members.truncate(1);
            }
        }
    }
}
