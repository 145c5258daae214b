//! The decision about a route, from the verdicts about its backends.

use std::sync::Arc;

use super::drills::{DrillContext, DrillSights};
use super::held::HeldMail;
use super::{RouteContext, RouteEntry};
use crate::controller::backend::BackendEntry;
use mail_failover_core::engine::{
    Candidate, Decision, DrillInputs, Eligibility, Health, HoldReason, Memory, Notice, RequestAction, Situation, decide,
};
use mail_failover_core::model::{EvidenceClass, FailbackMode, Member, Policy, Route, Thresholds, Timestamp};
use mail_failover_resolve::request;
use mail_failover_resolve::route_memory::memory;

/// A decision, with the candidates that it was made from.
pub(super) struct Decided {
    pub(super) decision: Decision,
    pub(super) candidates: Vec<Candidate>,
    pub(super) thresholds: Thresholds,
    /// True if `status` says already what outputs and later decisions follow from.
    pub(super) is_persisted: bool,
}

impl RouteEntry {
    pub(super) fn decide(&mut self, cx: &RouteContext<'_>, route: &Route) -> Decided {
        let persisted = self.status().map(memory).unwrap_or_default();
        let request = self.readable().and_then(request::of);
        let candidates = self.candidates(cx, route);
        let defaults = Policy::default();
        let DrillSights { times, rounds, observers } = self.drill_sights(cx, &persisted);
        let DrillContext { elsewhere, blocked, has_agents } = cx.drill;
        let mut decision = decide(
            &Situation {
                now: cx.now,
                drift: cx.drift,
                policy: self.policy.as_ref().unwrap_or(&defaults),
                strategy: route.strategy,
                preferred_regions: &route.preferred_regions,
                candidates: &candidates,
                is_storm: cx.is_storm,
                request: request.as_ref(),
                drill: Some(DrillInputs {
                    elsewhere,
                    times: &times,
                    has_agents: *has_agents,
                    blocked: *blocked,
                    rounds: &rounds,
                    observers,
                }),
            },
            &persisted,
        );
        self.awaits_answer = decision.memory.awaits_answer();
        self.awaits_confirmation = decision.memory.held_by == Some(HoldReason::AwaitingConfirmation);
        let told_at = HeldMail::told_at(decision.hold, decision.memory.held_since).filter(|told_at| *told_at > cx.now);
        decision.next_timeout = decision.next_timeout.into_iter().chain(told_at).min();
        self.note_drill(&decision.memory);
        let is_persisted = if self.yields(cx) {
            // ADR-0190: Without a transition outputs are another installation's, and so is what people read. Two that see
            // otherwise would take it back in turns.
            let mut decided = decision.memory.clone();
            if decision.transition.is_none() && !persisted.shares.is_empty() {
                decided.shares.clone_from(&persisted.shares);
            }
            let is_view = |notice: &Notice| matches!(notice, Notice::NoneHealthy | Notice::Recovered);
            is_persisted(&decided, &persisted) && decision.notices.iter().all(is_view)
        } else {
            is_persisted(&decision.memory, &persisted) && decision.notices.is_empty()
        };
        Decided { decision, candidates, thresholds: self.thresholds(), is_persisted }
    }

    /// Returns the backends to look at now, because the mail waits for one of them to answer. `random` is at least 0 and
    /// less than 1.
    pub(in crate::controller) fn standbys_to_look_at(&mut self, now: Timestamp, random: f64) -> Vec<Arc<str>> {
        if !self.standby_looks.is_due(now, self.awaits_confirmation, random) {
            return vec![];
        }
        let carriers = self.status().map(|status| status.active.as_slice()).unwrap_or_default();
        let members = self.usable.iter().flat_map(|route| &route.backends).map(|member| member.name.clone());
        members.filter(|name| carriers.iter().all(|carrier| carrier.backend != **name)).collect()
    }

    /// The time of the next look at the standbys; `None` while nothing waits for them.
    pub(in crate::controller) fn next_look(&self) -> Option<Timestamp> {
        self.standby_looks.next_timeout()
    }

    /// The backends of the route, if a person asks for a return that has not been answered yet.
    pub(in crate::controller) fn members_asked_for(&self) -> Vec<Arc<str>> {
        let Some(request) = self.readable().and_then(request::of) else { return vec![] };
        let is_answered = self.status().map(memory).is_some_and(|memory| memory.has_answered(&request.id));
        let is_manual = self.policy.as_ref().is_some_and(|policy| policy.failback.mode == FailbackMode::Manual);
        let is_return = match request.action {
            RequestAction::Failback => true,
            RequestAction::ApproveFailback => is_manual,
            RequestAction::Switch { .. }
            | RequestAction::Pause { .. }
            | RequestAction::Resume
            | RequestAction::Drill { .. }
            | RequestAction::Malformed(_) => false,
        };
        let members = self.usable.iter().filter(|_| is_return && !is_answered).flat_map(|route| &route.backends);
        members.map(|member| member.name.clone()).collect()
    }

    /// The backends of the route, most preferred first.
    fn candidates(&self, cx: &RouteContext<'_>, route: &Route) -> Vec<Candidate> {
        let mut candidates: Vec<_> = route.backends.iter().map(|member| self.candidate(cx, route, member)).collect();
        candidates.sort_by_key(|candidate| candidate.region_rank(&route.preferred_regions));
        candidates
    }

    fn candidate(&self, cx: &RouteContext<'_>, route: &Route, member: &Member) -> Candidate {
        let entry = cx.backend(&member.name);
        let verdict = entry.and_then(|entry| entry.evidence.verdict(self.thresholds(), cx.now));
        // One that leads back to the route is alive when the route's own mail flows, and dies with it.
        let is_loop = cx.loops.contains(&member.name);
        let usable = entry.and_then(|entry| entry.usable.as_deref()).filter(|_| !is_loop);
        let mut candidate = Candidate::new(member, usable, verdict.as_ref(), route, None, cx.now);
        if let Some(usable) = usable {
            candidate = candidate.by_wall_clock(usable, route, cx.now, cx.drift);
        }
        // What was known of it before the operator lost sight of it brings no mail to it.
        if entry.is_some_and(BackendEntry::is_unseen) && candidate.is_eligible() {
            candidate.health = Health::Unknown;
            candidate.class = EvidenceClass::Inconclusive;
        }
        // It is left after a minute, or when it is seen to fail before that; no mail moves to it.
        // ADR-0083: What is missing holds up nothing.
        if entry.is_none_or(|entry| entry.object.is_none()) && candidate.eligibility == Eligibility::InService {
            candidate.eligibility = Eligibility::Unusable;
        }
        candidate
    }
}

/// Returns true if the status says already everything that outputs and later decisions follow from. Texts for people
/// may follow.
fn is_persisted(decided: &Memory, persisted: &Memory) -> bool {
    let Memory {
        shares,
        since,
        state: _,
        held_by: _,
        held_since: _,
        held_until: _,
        history,
        ramp,
        switch,
        pause,
        approved_at,
        request,
        answered,
        drill,
        drills,
    } = decided;
    *shares == persisted.shares
        && *since == persisted.since
        && *history == persisted.history
        && *ramp == persisted.ramp
        && *switch == persisted.switch
        && *pause == persisted.pause
        && *approved_at == persisted.approved_at
        && *request == persisted.request
        && *answered == persisted.answered
        && *drill == persisted.drill
        && *drills == persisted.drills
}
