//! Ejection of a backend without waiting for the operator, the return to it, and the switch that follows from either.

use std::sync::Arc;

use mail_failover_contract::routing::EjectionPolicy;
use mail_failover_core::model::{EvidenceClass, Timestamp};

use super::traffic::ejection_time;
use super::{
    AgentCore, BackendState, Cause, CoreAction, CoreMemory, Ejection, EjectionBlocker, InForce, MAX_MOVES,
    PendingEjection, SwitchOrder, SwitchView, change, shares,
};
use crate::answers::{Answers, Trial};

/// Time of what is never due.
const NEVER: Timestamp = Timestamp::from_micros(i64::MAX);

impl InForce {
    /// Returns for each backend whether its breaker is open.
    fn open(&self) -> Vec<bool> {
        self.traffic.iter().map(|traffic| traffic.breaker.open_since().is_some()).collect()
    }

    /// Returns the trials under way.
    fn trials(&self) -> Vec<Arc<Trial>> {
        self.traffic.iter().filter_map(|traffic| traffic.breaker.trial()).collect()
    }

    /// Returns the state of each backend, as far as it decides how refusals are read.
    fn states(&self, usable: &[bool]) -> Vec<BackendState> {
        let backends = self.routing.backends.iter().zip(&self.traffic).zip(usable);
        let states = backends.map(|((backend, traffic), usable)| BackendState {
            name: backend.name.clone(),
            is_usable: *usable,
            is_held: self.pending.as_ref().is_some_and(|pending| pending.backend == backend.name),
            failures: traffic.failures(),
        });
        states.collect()
    }
}

impl AgentCore {
    /// Draws all conclusions from the present state.
    pub(super) fn reconsider(&mut self, now: Timestamp) {
        if let Some(in_force) = &mut self.in_force {
            let policy = in_force.routing.reflex;
            for (backend, traffic) in in_force.routing.backends.iter().zip(&mut in_force.traffic) {
                traffic.handle_timeout(now, &policy);
                traffic.breaker.handle_timeout(now, &backend.name);
            }
        }
        self.return_to_ejected(now);
        self.eject_failing(now);
        self.reorder(now);
        self.report_news();
    }

    /// Publishes the order of the lists, if a breaker has changed it.
    fn reorder(&mut self, now: Timestamp) {
        let Some(in_force) = &self.in_force else { return };
        let before = in_force.answers.clone();
        if in_force.open() != before.open || in_force.trials() != before.trials {
            // No switch: the shares stay as they are.
            self.update_answers(now, Some(&before), Cause::Operator);
        }
    }

    /// Has the MTA give up what it is about to send to a silent backend whose breaker has opened, if another one comes
    /// first now.
    // The deliveries under way hold the MTA's slots for that list until their timeout.
    pub(super) fn free_slots(&mut self, now: Timestamp, at: usize) {
        let Some(in_force) = &self.in_force else { return };
        let answers = in_force.answers.clone();
        let Some(class) = in_force.traffic[at].run().map(|run| run.class) else { return };
        let backends = answers.routing.backends.iter().enumerate();
        let mut others = backends.filter(|(other, backend)| {
            *other != at && backend.alternate && answers.usable[*other] && !answers.open[*other]
        });
        let is_silent = class == EvidenceClass::NoAnswer;
        if !is_silent || answers.percents[at] == 0 || others.next().is_none() {
            return;
        }
        let backend = answers.routing.backends[at].name.clone();
        let cause = Cause::Opened { backend: backend.clone(), class };
        self.order_switch(now, cause, &answers, vec![], vec![backend]);
    }

    fn order_switch(
        &mut self,
        at: Timestamp,
        cause: Cause,
        answers: &Answers,
        gained: Vec<Arc<str>>,
        lost: Vec<Arc<str>>,
    ) {
        self.orders += 1;
        let order = SwitchOrder { number: self.orders, cause, at, mark: change::mark(answers), gained, lost };
        self.last_switch = Some(SwitchView::of(order.clone(), self.possible_duplicates));
        self.actions.push(CoreAction::Switch(order));
    }

    fn return_to_ejected(&mut self, now: Timestamp) {
        for at in self.due_returns(now) {
            let Some(in_force) = &mut self.in_force else { return };
            in_force.ejections[at] = None;
            let cause = Cause::Returned { backend: in_force.routing.backends[at].name.clone() };
            let before = in_force.answers.clone();
            self.update_answers(now, Some(&before), cause);
        }
    }

    fn due_returns(&self, now: Timestamp) -> Vec<usize> {
        let Some(in_force) = &self.in_force else { return vec![] };
        let backends = 0..in_force.ejections.len();
        backends.filter(|at| self.returns_at(in_force, *at).is_some_and(|due| due <= now)).collect()
    }

    /// Returns the time at which an ejected backend is tried again.
    pub(super) fn returns_at(&self, in_force: &InForce, at: usize) -> Option<Timestamp> {
        let ejection = in_force.ejections.get(at)?.as_ref()?;
        let wanted = in_force.routing.backends[at].percent > 0;
        // Not before it could be ejected again: mail would be caught there.
        let next_move = if wanted { self.next_move(&in_force.routing.reflex) } else { Timestamp::default() };
        Some(ejection.until().max(next_move))
    }

    fn eject_failing(&mut self, now: Timestamp) {
        // Each turn ejects one more backend, or is the last.
        while let Some((at, ejection)) = self.next_ejection(now) {
            let Some(in_force) = &mut self.in_force else { return };
            let backend = in_force.routing.backends[at].name.clone();
            let cause = Cause::Left { backend, class: ejection.class };
            in_force.ejections[at] = Some(ejection);
            let before = in_force.answers.clone();
            self.moves.push_back(now);
            if self.moves.len() > MAX_MOVES {
                self.moves.pop_front();
            }
            self.update_answers(now, Some(&before), cause);
        }
    }

    /// Returns the next backend to eject, if one may be ejected. Notes the reason if one should be and may not.
    fn next_ejection(&mut self, now: Timestamp) -> Option<(usize, Ejection)> {
        let next_move = self.in_force.as_ref().map(|in_force| self.next_move(&in_force.routing.reflex))?;
        let in_force = self.in_force.as_mut()?;
        in_force.pending = None;
        let policy = &in_force.routing.reflex;
        for (at, traffic) in in_force.traffic.iter().enumerate() {
            if in_force.answers.percents[at] == 0 || in_force.ejections[at].is_some() {
                continue;
            }
            let Some((run, class)) = traffic.run().zip(traffic.condemned(policy)) else { continue };
            let mut ejected = in_force.is_ejected();
            ejected[at] = true;
            let can_go = shares::without(&in_force.routing, &ejected, in_force.fallback.as_deref()).is_some();
            if can_go && next_move <= now {
                let cooldown = ejection_time(policy);
                return Some((at, Ejection { at: now, cooldown, class, summary: run.summary.clone() }));
            }
            let blocker = if can_go { EjectionBlocker::BudgetSpent } else { EjectionBlocker::NoStandby };
            let backend = in_force.routing.backends[at].name.clone();
            in_force.pending.get_or_insert(PendingEjection { backend, class, blocker });
        }
        None
    }

    /// Returns the time of the next move that the budget allows. It lies in the past if one is allowed now.
    pub(super) fn next_move(&self, policy: &EjectionPolicy) -> Timestamp {
        let switches = usize::try_from(policy.switches).unwrap_or(MAX_MOVES).min(MAX_MOVES);
        if switches == 0 {
            return NEVER;
        }
        // ADR-0057: The agent returns only within its budget.
        // The oldest of as many as the budget has.
        let oldest = self.moves.len().checked_sub(switches).and_then(|at| self.moves.get(at));
        oldest.map_or_else(Timestamp::default, |at| *at + policy.per)
    }

    /// Computes the answers for the MTA, and orders a switch if they have changed.
    pub(super) fn update_answers(&mut self, now: Timestamp, before: Option<&Arc<Answers>>, cause: Cause) {
        let Some(in_force) = &mut self.in_force else { return };
        let percents = match shares::without(&in_force.routing, &in_force.is_ejected(), in_force.fallback.as_deref()) {
            Some((percents, fallback)) => {
                in_force.fallback = fallback;
                percents
            }
            // The routing is newer than the ejection and has no other backend.
            None => Answers::as_decided(in_force.routing.clone()).percents,
        };
        let ejected = in_force.is_ejected();
        let backends = in_force.routing.backends.iter().zip(&percents).zip(ejected);
        let usable: Vec<_> =
            backends.map(|((backend, percent), ejected)| *percent > 0 || (backend.standby && !ejected)).collect();
        let learnt = Arc::new(self.refusals.learnt(&in_force.states(&usable)));
        let (open, trials) = (in_force.open(), in_force.trials());
        let answers = Arc::new(Answers { routing: in_force.routing.clone(), percents, usable, open, trials, learnt });
        let gained = change::gained(before.map(|before| &**before), &answers);
        for (backend, traffic) in answers.routing.backends.iter().zip(&mut in_force.traffic) {
            if gained.contains(&backend.name) {
                traffic.given(now);
            }
        }
        in_force.answers = answers.clone();
        if before == Some(&answers) {
            return;
        }
        self.actions.push(CoreAction::Remember(self.memory()));
        self.actions.push(CoreAction::Publish(answers.clone()));
        if before.is_some_and(|before| !change::differs(before, &answers)) {
            return;
        }
        let lost = before.map(|before| change::gained(Some(&answers), before)).unwrap_or_default();
        self.order_switch(now, cause, &answers, gained, lost);
    }

    /// Publishes what refusals have taught, if that is news.
    pub(super) fn relearn(&mut self, now: Timestamp) {
        let Some(in_force) = &self.in_force else { return };
        let before = in_force.answers.clone();
        if self.refusals.learnt(&in_force.states(&before.usable)) != *before.learnt {
            // No switch: the shares stay as they are.
            self.update_answers(now, Some(&before), Cause::Operator);
        }
    }

    fn memory(&self) -> CoreMemory {
        let Some(in_force) = &self.in_force else { return CoreMemory::default() };
        let backends = in_force.routing.backends.iter().zip(&in_force.ejections);
        CoreMemory {
            route_uid: in_force.routing.route_uid.to_string(),
            transition: in_force.routing.transition,
            ejections: backends.filter_map(|(backend, ejection)| Some(ejection.as_ref()?.saved(backend))).collect(),
            moves: self.moves.iter().map(|at| at.as_micros()).collect(),
            fallback: in_force.fallback.as_deref().map(str::to_owned),
        }
    }

    /// Orders a report if the verdict on any backend has changed.
    fn report_news(&mut self) {
        let verdicts: Vec<_> =
            self.verdicts().into_iter().map(|verdict| (verdict.backend, verdict.verdict.troubled_by())).collect();
        if verdicts != self.reported {
            self.reported = verdicts;
            self.actions.push(CoreAction::Report);
        }
    }
}
