use std::sync::Arc;

use super::{Candidate, Decision, Eligibility, State};
use crate::model::EvidenceClass;

/// Backend that keeps mail which cannot leave by it, though another one might take over.
#[derive(Clone, Copy, Debug)]
pub struct HeldCarrier<'a> {
    /// Name of the backend that keeps the mail.
    pub backend: &'a Arc<str>,
    /// Evidence against the backend; `None` if it is no longer in the route's list: nobody looks at it for the route.
    pub class: Option<EvidenceClass>,
    /// Backend to switch to: one that can deliver, otherwise one in service.
    pub to: Option<&'a Arc<str>>,
    /// True if that one can deliver.
    pub is_to_alive: bool,
}

impl Decision {
    /// Returns the backend that keeps mail which cannot leave by it; `None` if there is none, or if no backend can
    /// deliver. Mail of a backend for which `is_bypassed` is true leaves by another way all the same.
    pub fn held_carrier<'a>(
        &'a self,
        candidates: &'a [Candidate],
        is_bypassed: impl Fn(&Arc<str>) -> bool,
    ) -> Option<HeldCarrier<'a>> {
        if self.memory.state == State::NoneHealthy {
            return None;
        }
        let carriers = self.memory.shares.iter().filter(|share| share.percent > 0).map(|share| &share.backend);
        let (backend, class) = carriers.filter(|backend| !is_bypassed(backend)).find_map(|backend| match candidates
            .iter()
            .find(|candidate| candidate.name == *backend)
        {
            None => Some((backend, None)),
            Some(carrier) => carrier
                .is_held_dead()
                .then(|| (backend, Some(carrier.unseen_failure.map_or(carrier.class, |unseen| unseen.class)))),
        })?;
        let mut others = candidates.iter().filter(|other| other.name != *backend);
        let able = others.clone().find(|other| other.is_eligible());
        let to = able.or_else(|| others.find(|other| other.eligibility == Eligibility::InService));
        Some(HeldCarrier { backend, class, to: to.map(|to| &to.name), is_to_alive: able.is_some() })
    }

    /// Returns the state as people are shown it: that of the memory, or Holding if mail stays with a backend that cannot
    /// deliver.
    pub fn shown_state(&self, candidates: &[Candidate], is_bypassed: impl Fn(&Arc<str>) -> bool) -> State {
        self.held_carrier(candidates, is_bypassed).map_or(self.memory.state, |_| State::Holding)
    }
}

impl Candidate {
    /// Returns true if mail that stays with the backend is held there: it cannot deliver, and the route may use it.
    fn is_held_dead(&self) -> bool {
        let is_usable = matches!(self.eligibility, Eligibility::InService | Eligibility::Suspended);
        is_usable && self.is_dead()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::testing::{Fleet, at};
    use crate::engine::{HoldReason, Pause, RequestAction};

    fn nobody(_: &Arc<str>) -> bool {
        false
    }

    /// State that is shown, the backend that keeps the mail, and the one to switch to.
    fn shown(fleet: &Fleet, decision: &Decision) -> (State, Option<(String, Option<String>)>) {
        let held = decision.held_carrier(&fleet.candidates, nobody);
        let held = held.map(|held| (held.backend.to_string(), held.to.map(ToString::to_string)));
        (decision.shown_state(&fleet.candidates, nobody), held)
    }

    #[expect(clippy::unnecessary_wraps, reason = "as `shown` has it")]
    fn some(backend: &str, to: Option<&str>) -> Option<(String, Option<String>)> {
        Some((backend.to_owned(), to.map(str::to_owned)))
    }

    #[test]
    fn mail_that_is_held_on_a_dead_backend_shows_as_holding() {
        let mut fleet = Fleet::of("a+ b+").on("a");
        fleet.memory.pause = Some(Pause { since: at(0), until: None });
        assert_eq!(shown(&fleet, &fleet.decide(10)), (State::Paused, None));
        fleet.set("a", "-", 20);
        assert_eq!(shown(&fleet, &fleet.decide(20)), (State::Holding, some("a", Some("b"))));
        let paused = fleet.decide(20);
        assert_eq!(
            paused.shown_state(&fleet.candidates, |name| **name == *"a"),
            State::Paused,
            "agents lead it elsewhere"
        );
        fleet.set("b", "-", 30);
        assert_eq!(shown(&fleet, &fleet.decide(30)), (State::Holding, some("a", Some("b"))), "a person forces it");
        fleet.memory.pause = None;
        assert_eq!(shown(&fleet, &fleet.decide(40)), (State::NoneHealthy, None));
    }

    #[test]
    fn a_carrier_that_has_left_the_list_during_a_pause_shows_as_holding() {
        let mut fleet = Fleet::of("a+ b+").on("b");
        fleet.ask("1", RequestAction::Pause { duration: None });
        fleet.settle(10);
        fleet.candidates.retain(|candidate| *candidate.name == *"a");
        let decision = fleet.settle(20);
        assert_eq!((fleet.shares().as_str(), decision.memory.held_by), ("b100", Some(HoldReason::Paused)));
        assert_eq!(shown(&fleet, &decision), (State::Holding, some("b", Some("a"))));
        assert!(decision.held_carrier(&fleet.candidates, nobody).unwrap().class.is_none());
        fleet.ask("2", RequestAction::Resume);
        let resumed = fleet.settle(30);
        assert_eq!((fleet.shares().as_str(), shown(&fleet, &resumed)), ("a100", (State::Preferred, None)));
    }
}
