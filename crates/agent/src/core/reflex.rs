//! Ejection of a backend without waiting for the operator, the return to it, and the switch that follows from either.

use std::sync::Arc;

use super::traffic::absence;
use super::{
    Action, Cause, Core, Held, InForce, Left, MAX_MOVES, Memory, SwitchOrder, SwitchView, Why, change, shares,
};
use crate::answers::Answers;
use mail_failover_contract::routing::Reflex;
use mail_failover_core::model::Timestamp;

/// Time of what is never due.
const NEVER: Timestamp = Timestamp::from_micros(i64::MAX);

impl Core {
    /// Draws all conclusions from the present state.
    pub(super) fn reconsider(&mut self, now: Timestamp) {
        if let Some(in_force) = &mut self.in_force {
            let reflex = in_force.routing.reflex;
            in_force.traffic.iter_mut().for_each(|traffic| traffic.lapse(now, &reflex));
        }
        self.return_to_what_was_left(now);
        self.leave_what_fails(now);
        self.report_news();
    }

    fn return_to_what_was_left(&mut self, now: Timestamp) {
        let Some(in_force) = &self.in_force else { return };
        let due = |at: &usize| self.returns_at(in_force, *at).is_some_and(|due| due <= now);
        let due: Vec<usize> = (0..in_force.left.len()).filter(due).collect();
        for at in due {
            let Some(in_force) = &mut self.in_force else { return };
            in_force.left[at] = None;
            let cause = Cause::Returned { backend: in_force.routing.backends[at].name.clone() };
            let before = in_force.answers.clone();
            self.settle(now, Some(&before), cause);
        }
    }

    /// Returns the time at which a backend that was left is tried again.
    pub(super) fn returns_at(&self, in_force: &InForce, at: usize) -> Option<Timestamp> {
        let left = in_force.left.get(at)?.as_ref()?;
        let wanted = in_force.routing.backends[at].percent > 0;
        // Not before it could be left again: mail would be caught there.
        let next_move = if wanted { self.next_move(&in_force.routing.reflex) } else { Timestamp::default() };
        Some(left.until().max(next_move))
    }

    fn leave_what_fails(&mut self, now: Timestamp) {
        // Each turn leaves one more backend, or ends it.
        while let Some((at, left)) = self.next_to_leave(now) {
            let Some(in_force) = &mut self.in_force else { return };
            let backend = in_force.routing.backends[at].name.clone();
            let cause = Cause::Left { backend, class: left.class };
            in_force.left[at] = Some(left);
            let before = in_force.answers.clone();
            self.moves.push_back(now);
            if self.moves.len() > MAX_MOVES {
                self.moves.pop_front();
            }
            self.settle(now, Some(&before), cause);
        }
    }

    /// Returns the next backend to leave, if one may be left. Notes the reason if one should be left and may not.
    fn next_to_leave(&mut self, now: Timestamp) -> Option<(usize, Left)> {
        let next_move = self.in_force.as_ref().map(|in_force| self.next_move(&in_force.routing.reflex))?;
        let in_force = self.in_force.as_mut()?;
        in_force.held = None;
        let reflex = &in_force.routing.reflex;
        for (at, traffic) in in_force.traffic.iter().enumerate() {
            if in_force.answers.percents[at] == 0 || in_force.left[at].is_some() {
                continue;
            }
            let Some(run) = traffic.run() else { continue };
            let Some(class) = run.condemns(reflex) else { continue };
            let mut left: Vec<bool> = in_force.left.iter().map(Option::is_some).collect();
            left[at] = true;
            let somewhere = shares::without(&in_force.routing, &left, in_force.refuge.as_deref());
            let why = match somewhere {
                Some(_) if next_move <= now => {
                    return Some((
                        at,
                        Left { at: now, cooldown: absence(reflex), class, summary: run.summary.clone() },
                    ));
                }
                Some(_) => Why::BudgetSpent,
                None => Why::NoStandby,
            };
            let backend = in_force.routing.backends[at].name.clone();
            in_force.held.get_or_insert(Held { backend, class, why });
        }
        None
    }

    /// Returns the time of the next move that the budget allows. It lies in the past if one is allowed now.
    pub(super) fn next_move(&self, reflex: &Reflex) -> Timestamp {
        let switches = usize::try_from(reflex.switches).unwrap_or(MAX_MOVES).min(MAX_MOVES);
        if switches == 0 {
            return NEVER;
        }
        // The oldest of as many as the budget has.
        let oldest = self.moves.len().checked_sub(switches).and_then(|at| self.moves.get(at));
        oldest.map_or_else(Timestamp::default, |at| *at + reflex.per)
    }

    /// Computes the answers for the MTA, and orders a switch if they have changed.
    pub(super) fn settle(&mut self, now: Timestamp, before: Option<&Arc<Answers>>, cause: Cause) {
        let Some(in_force) = &mut self.in_force else { return };
        let left: Vec<bool> = in_force.left.iter().map(Option::is_some).collect();
        let percents = match shares::without(&in_force.routing, &left, in_force.refuge.as_deref()) {
            Some((percents, refuge)) => {
                in_force.refuge = refuge;
                percents
            }
            // The routing is newer than the ejection and has no other backend.
            None => Answers::as_decided(in_force.routing.clone()).percents,
        };
        let answers = Arc::new(Answers { routing: in_force.routing.clone(), percents });
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
        self.actions.push(Action::Remember(self.memory()));
        self.actions.push(Action::Publish(answers.clone()));
        if before.is_some_and(|before| !change::differs(before, &answers)) {
            return;
        }
        self.orders += 1;
        let lost = before.map(|before| change::gained(Some(&answers), before)).unwrap_or_default();
        let order = SwitchOrder { number: self.orders, cause, at: now, mark: change::mark(&answers), gained, lost };
        self.last_switch = Some(SwitchView::of(order.clone(), self.possible_duplicates));
        self.actions.push(Action::Switch(order));
    }

    fn memory(&self) -> Memory {
        let Some(in_force) = &self.in_force else { return Memory::default() };
        let backends = in_force.routing.backends.iter().zip(&in_force.left);
        Memory {
            route_uid: in_force.routing.route_uid.to_string(),
            transition: in_force.routing.transition,
            left: backends.filter_map(|(backend, left)| Some(left.as_ref()?.remember(backend))).collect(),
            moves: self.moves.iter().map(|at| at.as_micros()).collect(),
            refuge: in_force.refuge.as_deref().map(str::to_owned),
        }
    }

    /// Orders a report if the verdict on any backend has changed.
    fn report_news(&mut self) {
        let words = self.words().into_iter().map(|word| (word.backend, word.opinion.failing_for())).collect::<Vec<_>>();
        if words != self.told {
            self.told = words;
            self.actions.push(Action::Report);
        }
    }
}
