//! Conclusions that the core draws from its present state: the order of the lists, and the switches that follow.

use std::sync::Arc;
use std::time::Duration;

use mail_failover_core::model::{DrillState, Timestamp};

use super::drill::OtherWays;
use super::{
    AgentCore, BackendState, Cause, CoreAction, CoreMemory, Delivery, Disposition, InForce, SavedBreaker, SavedDay,
    SwitchOrder, SwitchView, change, traffic,
};
use crate::answers::{Answers, Trial};
use crate::refused::RefusedBackends;

/// Least time between two reloads for breakers that open.
// Each reload makes Postfix start its processes anew.
pub(super) const BETWEEN_FREEINGS: Duration = Duration::from_secs(15);
/// Time after which no refused message waits for a backend whose breaker is open, while another one works.
// A bounce cannot be taken back. A blip of a minute is over by then, and the next trial has shown it: by the default policy trials
// begin 5, 15, 35 and 75 s after the breaker has opened. After an outage of all backends each has as long to come back.
const LOST_AFTER: Duration = Duration::from_mins(2);

impl InForce {
    /// Returns for each backend whether its breaker is open.
    fn open(&self) -> Vec<bool> {
        self.traffic.iter().map(|traffic| traffic.breaker.open_since().is_some()).collect()
    }

    /// Returns for each backend whether no refused message waits for it. Where every way is open or spent, their refusals
    /// are no message's, and none is lost.
    // ADR-0075: What waits without another backend.
    fn lost(&self, now: Timestamp) -> Vec<bool> {
        self.lost_at().map(|lost_at| lost_at.is_some_and(|at| at <= now)).collect()
    }

    /// Returns the time at which the next backend is lost.
    pub(super) fn next_lost(&self) -> Option<Timestamp> {
        let known = self.lost_at().zip(&self.answers.lost).filter(|(_, is_lost)| !**is_lost);
        known.filter_map(|(lost_at, _)| lost_at).min()
    }

    /// Returns for each backend the time at which it is lost, if it stays as it is.
    fn lost_at(&self) -> impl Iterator<Item = Option<Timestamp>> {
        let working_since = self.working_since.filter(|_| self.is_any_working());
        self.traffic.iter().map(move |traffic| Some(traffic.breaker.open_since()?.max(working_since?) + LOST_AFTER))
    }

    /// Takes note if any backend works.
    fn note_working(&mut self, now: Timestamp) {
        self.working_since = if self.is_any_working() { self.working_since.or(Some(now)) } else { None };
    }

    /// Returns true if mail may leave by a backend whose breaker is not open.
    fn is_any_working(&self) -> bool {
        let mut backends = self.routing.backends.iter().zip(&self.traffic).zip(&self.days);
        backends.any(|((backend, traffic), day)| {
            let is_alternate = backend.standby && !day.is_spent(backend.messages_per_day);
            (backend.percent > 0 || is_alternate) && traffic.breaker.open_since().is_none()
        })
    }

    /// Returns for each backend whether it has taken as many messages as its limits of a day allow.
    fn spent(&self) -> Vec<bool> {
        let backends = self.routing.backends.iter().zip(&self.days);
        backends.map(|(backend, day)| day.is_spent(backend.messages_per_day)).collect()
    }

    /// Returns true if a good part of what a backend may take has been used since that was saved.
    fn want_saving(&mut self) -> bool {
        let mut wants = false;
        for (backend, day) in self.routing.backends.iter().zip(&mut self.days) {
            wants |= day.wants_saving(backend.messages_per_day);
        }
        wants
    }

    /// Returns the trials under way.
    fn trials(&self) -> Vec<Arc<Trial>> {
        self.traffic.iter().filter_map(|traffic| traffic.breaker.trial()).collect()
    }

    /// Returns the ways out for mail other than these backends, which a drill refuses since then.
    fn other_ways(&self, refused: &RefusedBackends, since: Timestamp) -> OtherWays {
        let spent = self.spent();
        let (mut is_any_known, mut carries, mut has_alternates, mut ways, mut failing) = (false, false, false, 0, 0);
        for (at, backend) in self.routing.backends.iter().enumerate() {
            let is_alternate = backend.alternate && (backend.percent > 0 || backend.standby) && !spent[at];
            if refused.contains(&backend.name) {
                is_any_known = true;
                carries |= backend.percent > 0;
            } else if backend.percent > 0 || is_alternate {
                has_alternates |= is_alternate;
                ways += 1;
                failing += usize::from(self.traffic[at].fails_since(since));
            }
        }
        if !is_any_known || ways == 0 || (carries && !has_alternates) {
            OtherWays::None
        } else if failing == ways {
            OtherWays::Failing
        } else {
            OtherWays::Open
        }
    }

    /// Returns the state of each backend, as far as it decides how refusals are read.
    fn states(&self, answers: &Answers) -> Vec<BackendState> {
        let backends = self.routing.backends.iter().zip(&self.traffic).enumerate();
        let states = backends.map(|(at, (backend, traffic))| BackendState {
            name: backend.name.clone(),
            is_usable: answers.is_waited_for(at),
            failures: traffic.failures(),
        });
        states.collect()
    }
}

impl AgentCore {
    /// Draws all conclusions from the present state.
    pub(super) fn reconsider(&mut self, now: Timestamp) {
        if let Some(in_force) = &mut self.in_force {
            let routing = in_force.routing.clone();
            for (backend, traffic) in routing.backends.iter().zip(&mut in_force.traffic) {
                traffic.set_on_trial(now, backend.trial && backend.percent == 0, &routing);
                traffic.handle_timeout(now, &routing);
                traffic.breaker.handle_timeout(now, &backend.name);
            }
            for day in &mut in_force.days {
                day.handle_timeout(now);
            }
            in_force.note_working(now);
        }
        self.drills.handle_timeout(now);
        self.consider_drill();
        self.reorder(now);
        self.free_when_due(now);
        self.report_news();
    }

    /// Draws the conclusion for the drill under way from the other ways out.
    fn consider_drill(&mut self) {
        if let (Some(in_force), Some((since, refused))) = (&self.in_force, self.drills.under_way()) {
            let others = in_force.other_ways(refused, since);
            self.drills.consider(others);
        }
    }

    /// Takes a delivery of the backend at this position into account for the drill under way.
    // ADR-0165: A drill leaves its backend out of the lists, and ends by itself.
    pub(super) fn note_drilled(&mut self, now: Timestamp, at: usize, delivery: &Delivery) {
        let (Some(in_force), Some((since, refused))) = (&self.in_force, self.drills.refusing()) else { return };
        let (backend, began_at) = (in_force.routing.backends[at].name.clone(), now - delivery.took);
        match delivery.disposition {
            Disposition::Sent => self.drills.sent(now, began_at, &backend),
            // The message would have tried the refused backend next. It must not wait for the drill.
            Disposition::Deferred if began_at >= since && !refused.contains(&backend) && traffic::fails(delivery) => {
                self.drills.lift();
            }
            Disposition::Deferred | Disposition::Bounced | Disposition::PassedOn => {}
        }
    }

    /// Publishes the order of the lists, if a breaker or what is left of a day has changed it.
    fn reorder(&mut self, now: Timestamp) {
        let Some(in_force) = &mut self.in_force else { return };
        let before = in_force.answers.clone();
        let is_open_news = in_force.open() != before.open;
        let is_lost_news = in_force.lost(now) != before.lost;
        let is_spent_news = in_force.spent() != before.spent;
        let wants_saving = in_force.want_saving();
        let is_drill_news = self.drills.refusing().map(|(_, refused)| refused) != before.refused.as_ref();
        if is_open_news || is_lost_news || is_spent_news || is_drill_news || in_force.trials() != before.trials {
            // No switch but for a drill: the shares stay as they are.
            self.update_answers(now, Some(&before), Cause::Operator);
        }
        if is_open_news || wants_saving || self.drills.take_unsaved() {
            self.actions.push(CoreAction::Remember(self.memory()));
        }
    }

    /// Notes that the MTA holds messages for a backend whose breaker has opened: it is silent, or they were deferred.
    /// `before` are the answers until then.
    // Deliveries under way hold the MTA's slots for that list until their timeout, and deferred messages wait for
    // minutes, though another backend comes first now. So they do at an alternate that has carried another one's mail.
    pub(super) fn wants_freeing(&mut self, at: usize, disposition: Disposition, before: &Answers) {
        let Some(in_force) = &mut self.in_force else { return };
        let Some(run) = in_force.traffic[at].run() else { return };
        // What an alternate defers that came last in a list has met every other backend of it.
        let came_first = before.percents[at] > 0 || before.carried()[at] > 0;
        if run.is_silent() || (disposition == Disposition::Deferred && came_first) {
            in_force.freeing.get_or_insert((at, run.class));
        }
    }

    /// Has the MTA take up again what it holds for a backend that comes last now, if another one comes first, and if
    /// that was not done just now.
    pub(super) fn free_when_due(&mut self, now: Timestamp) {
        let Some(in_force) = &mut self.in_force else { return };
        let Some((at, class)) = in_force.freeing else { return };
        let answers = in_force.answers.clone();
        if !answers.is_left_for_another(at) {
            in_force.freeing = None;
            return;
        }
        if self.freed_at.is_some_and(|freed| freed + BETWEEN_FREEINGS > now) {
            return;
        }
        in_force.freeing = None;
        self.freed_at = Some(now);
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

    /// Computes the answers for the MTA, and orders a switch if the shares have changed.
    pub(super) fn update_answers(&mut self, now: Timestamp, before: Option<&Arc<Answers>>, cause: Cause) {
        self.consider_drill();
        let refused = self.drills.refusing().map(|(_, refused)| refused.clone());
        let Some(in_force) = &mut self.in_force else { return };
        let decided = Answers::as_decided(in_force.routing.clone());
        let (open, lost, spent, trials) = (in_force.open(), in_force.lost(now), in_force.spent(), in_force.trials());
        let untaught = Answers { open, lost, spent, trials, refused, ..decided };
        let learnt = Arc::new(self.refusals.learnt(&in_force.states(&untaught)));
        let answers = Arc::new(Answers { learnt, ..untaught });
        let gained = change::gained(before.map(|before| &**before), &answers);
        let is_decision = before.is_none_or(|before| change::differs(before, &answers));
        if let Some(before) = before.filter(|_| is_decision) {
            // Who decides anew knows better than the failures of before.
            for (at, traffic) in in_force.traffic.iter_mut().enumerate() {
                let name = &answers.routing.backends[at].name;
                if gained.contains(name) && !before.carries_messages(name) {
                    traffic.given(now);
                }
            }
        }
        in_force.answers = answers.clone();
        if before == Some(&answers) {
            return;
        }
        self.actions.push(CoreAction::Publish(answers.clone()));
        let before_drill = before.and_then(|before| before.refused.as_ref());
        if is_decision {
            let lost = before.map(|before| change::gained(Some(&answers), before)).unwrap_or_default();
            self.order_switch(now, cause, &answers, gained, lost);
        } else if before_drill != answers.refused.as_ref() {
            // What is queued for a backend goes another way, too, and what was deferred is not left for minutes.
            let state = self.drills.state().unwrap_or(DrillState::Over);
            let names =
                |refused: Option<&Arc<RefusedBackends>>| refused.map_or(vec![], |refused| refused.names().to_vec());
            let (gained, lost) = (names(before_drill), names(answers.refused.as_ref()));
            self.order_switch(now, Cause::Drill { state }, &answers, gained, lost);
        }
    }

    /// Publishes what refusals have taught, if that is news.
    pub(super) fn relearn(&mut self, now: Timestamp) {
        let Some(in_force) = &self.in_force else { return };
        let before = in_force.answers.clone();
        if self.refusals.learnt(&in_force.states(&before)) != *before.learnt {
            // No switch: the shares stay as they are.
            self.update_answers(now, Some(&before), Cause::Operator);
        }
    }

    fn memory(&self) -> CoreMemory {
        let Some(in_force) = &self.in_force else { return CoreMemory::default() };
        let backends = in_force.routing.backends.iter().zip(&in_force.traffic);
        let open = backends.filter_map(|(backend, traffic)| {
            Some(SavedBreaker::of(backend, traffic.breaker.open_since()?, traffic.run()?))
        });
        let days = in_force.routing.backends.iter().zip(&in_force.days);
        let days = days.filter(|(backend, _)| backend.messages_per_day.is_some()).map(|(backend, day)| SavedDay {
            backend: backend.name.to_string(),
            next_hop: backend.next_hop.to_string(),
            hours: day.hours(),
        });
        CoreMemory {
            route_uid: in_force.routing.route_uid.to_string(),
            open: open.collect(),
            days: days.collect(),
            drills: self.drills.saved(),
        }
    }

    /// Orders a report if the verdict on any backend has changed.
    fn report_news(&mut self) {
        let verdicts: Vec<_> =
            self.verdicts().into_iter().map(|verdict| (verdict.backend, verdict.verdict.troubled_by())).collect();
        if self.drills.take_news() || verdicts != self.reported {
            self.reported = verdicts;
            self.actions.push(CoreAction::Report);
        }
    }
}
