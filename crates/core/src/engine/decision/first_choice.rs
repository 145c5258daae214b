//! First choice of the backends that carry a route's mail.

use std::sync::Arc;

use super::DecisionBuilder;
use crate::engine::{Candidate, Eligibility, Health, Hold, HoldReason, holds};
use crate::model::{Strategy, Timestamp};

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

impl DecisionBuilder<'_> {
    /// Makes the first choice: the most preferred backend that can deliver, once every backend preferred to it is
    /// known to be unable. The preferred one if none can.
    pub(super) fn choose_first(&mut self) {
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
    pub(super) fn able_members(&self) -> Vec<Arc<str>> {
        let is_sound = self.ranked.iter().any(|candidate| candidate.is_sound());
        let able = self.ranked.iter().filter(|one| one.is_sound() || (!is_sound && one.is_eligible()));
        let able = able.map(|candidate| candidate.name.clone());
        match self.situation.strategy {
            Strategy::ActivePassive => able.take(1).collect(),
            Strategy::ActiveActive => able.collect(),
        }
    }
}

/// Chooses the first backends of a route: the most preferred that is sound, or with `ActiveActive` all that are; else
/// the one that is alive; else one that answers some probe; else one that answers every probe again; the preferred one if all are dead. A backend of which
/// nothing is known is waited for, for a grace.
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
