//! One `MailRoute`: from the verdicts about its backends to a decision, from the decision to its outputs and its
//! status.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::action::{Action, ResourceRef, WriteOutcome};
use super::backend::BackendEntry;
use super::cached::Cached;
use super::events;
use super::reconcile::{PlannedAction, Reconciled};
use super::retry::{Retry, WriteBudget};
use super::route_status::{OutputsState, StatusBuilder};
use crate::output::{self, Briefed, Briefing, Observed, Obstacle, OutputKey, Owner, Target, Write, desired, writes};
use mail_failover_api::conditions::reason;
use mail_failover_api::{MailRoute, MailRouteStatus};
use mail_failover_contract::document::OperatorEndpoint;
use mail_failover_core::engine::{Candidate, Decision, HoldReason, Memory, Situation, Transition, decide};
use mail_failover_core::model::{
    Backend, Member, ObjectKey, Policy, ResourceVersion, Route, SwitchedMail, Thresholds, Timestamp, Uid,
};
use mail_failover_resolve::request;
use mail_failover_resolve::route_memory::memory;
use mail_failover_resolve::{self as resolve, Rejection};

/// Pause before a refused output is tried again.
// The object in the way may be gone, and not every such object is watched.
const REFUSAL_RETRY: Duration = Duration::from_secs(30);
/// Age below which a route counts as new.
// The objects that it refers to may be on their way: a manifest's objects are applied one after another, and watches of
// different kinds keep no order among each other.
// ADR-0065: A new route waits three seconds for its references.
const NEW: Duration = Duration::from_secs(3);

/// State of one route.
#[derive(Debug, Default)]
pub(super) struct RouteEntry {
    pub(super) object: Option<Cached<MailRoute>>,
    /// Last good version of the spec.
    pub(super) usable: Option<Arc<Route>>,
    /// Defect of the present version of the spec.
    rejection: Option<Rejection>,
    /// Last good version of the policy that the spec names.
    policy: Option<Policy>,
    policy_problem: Option<Rejection>,
    /// True once it was read afresh since this replica became the leader.
    pub(super) is_confirmed: bool,
    /// Latest transition named by an output for which the route was read afresh.
    confirmed_for: Option<i64>,
    /// True once every backend was observed since this process began.
    is_observed: bool,
    /// Transition that an agent has carried out, and the time of the first message on the new way.
    first_delivery: Option<(i64, Timestamp)>,
    /// True while any answer of a standby, even one that changes no verdict, may let the route move.
    pub(super) awaits_confirmation: bool,
    refused: BTreeMap<OutputKey, RefusedOutput>,
    published: BTreeSet<String>,
    last_reported: LastReported,
    budget: Option<WriteBudget>,
    output_retry: Retry,
    pub(super) retry: Retry,
}

/// The part of its agents' document that changes without a decision.
#[derive(Debug, Default, PartialEq, Eq)]
struct LastReported {
    standbys: Vec<Arc<str>>,
    operators: Vec<OperatorEndpoint>,
}

/// An output that is left alone for a while.
#[derive(Debug)]
struct RefusedOutput {
    rejection: Rejection,
    until: Timestamp,
}

/// Everything beside its own entry that the reconcile of a route depends on.
pub(super) struct RouteContext<'a> {
    pub(super) now: Timestamp,
    pub(super) resource: &'a ResourceRef,
    pub(super) instance: &'a str,
    pub(super) backends: &'a BTreeMap<ObjectKey, BackendEntry>,
    pub(super) observed: &'a Observed,
    /// True if every failure domain of the fleet fails at once.
    pub(super) is_storm: bool,
    /// Addresses to which agents report.
    pub(super) operators: &'a [OperatorEndpoint],
    /// Looks up another route that has the better right to an output.
    pub(super) rival: &'a dyn Fn(&OutputKey) -> Option<ObjectKey>,
}

impl<'a> RouteContext<'a> {
    fn backend(&self, name: &Arc<str>) -> Option<&'a BackendEntry> {
        self.backends.get(&self.resource.key.sibling(name.clone()))
    }

    fn usable_backend(&self, name: &Arc<str>) -> Option<(&'a BackendEntry, &'a Backend)> {
        let entry = self.backend(name)?;
        Some((entry, entry.usable.as_deref()?))
    }
}

/// A decision, with the candidates that it was made from.
struct Decided {
    decision: Decision,
    candidates: Vec<Candidate>,
    /// True if `status` says already what outputs and later decisions follow from.
    is_persisted: bool,
}

/// Difference between the outputs as they are and as they should be.
struct OutputsPlan {
    /// Writes to make now.
    writes: Vec<Write>,
    state: OutputsState,
    /// Time at which more writes may be possible.
    next_timeout: Option<Timestamp>,
}

impl RouteEntry {
    /// Parses the spec again.
    pub(super) fn resolve(&mut self) {
        let Some(object) = &self.object else { return };
        match object.readable_or_rejected().and_then(|object| resolve::route(&object.spec)) {
            Ok(route) => {
                self.rejection = None;
                if self.usable.as_deref() != Some(&route) {
                    self.usable = Some(Arc::new(route));
                    self.refused.clear();
                }
            }
            Err(rejection) => self.rejection = Some(rejection),
        }
    }

    /// Name of the policy in the spec; `None` for the defaults.
    pub(super) fn policy_name(&self) -> Option<&str> {
        let spec = &self.readable()?.spec;
        spec.policy_ref.as_ref().map(|reference| reference.name.as_str())
    }

    /// Takes over the policy as it is now; one that cannot be used leaves the last good one in force.
    // ADR-0006: A missing policy leaves the last good one in force.
    pub(super) fn adopt_policy(&mut self, policy: Result<Policy, Rejection>) {
        match policy {
            Ok(policy) => {
                self.policy = Some(policy);
                self.policy_problem = None;
            }
            Err(rejection) => self.policy_problem = Some(rejection),
        }
    }

    /// The thresholds that judge its backends.
    pub(super) fn thresholds(&self) -> Thresholds {
        self.policy.as_ref().map(|policy| policy.thresholds).unwrap_or_default()
    }

    /// Time after the latest failed delivery for which its agents' verdict that deliveries fail counts.
    pub(super) fn cooldown(&self) -> Duration {
        self.policy.as_ref().map_or_else(|| Policy::default().hold.cooldown, |policy| policy.hold.cooldown)
    }

    /// Returns true if it has outputs for agents.
    pub(super) fn has_agents(&self) -> bool {
        self.usable.as_ref().is_some_and(|route| !route.agents.is_empty())
    }

    /// The service accounts under which its agents run.
    pub(super) fn agents_accounts(&self) -> BTreeSet<Arc<str>> {
        let agents = self.usable.iter().flat_map(|route| &route.agents);
        agents.map(|output| output.service_account.clone()).collect()
    }

    /// Takes note of an agent's switch. Returns true if it is the first to report the first delivery after the latest
    /// transition.
    pub(super) fn note_first_delivery(&mut self, switched: &SwitchedMail) -> bool {
        let (Some(id), Some(at)) = (switched.transition, switched.first_delivery_at) else { return false };
        let last = self.status().and_then(|status| status.last_transition.as_ref());
        let is_awaited = last.is_some_and(|last| last.id == id && last.first_delivery_at.is_none());
        let is_first = self.first_delivery.is_none_or(|(known, _)| known != id);
        if is_awaited && is_first {
            self.first_delivery = Some((id, at));
        }
        is_awaited && is_first
    }

    /// The backend that carries most of its mail, as far as is persisted.
    pub(super) fn active(&self) -> Option<&str> {
        self.status()?.active.first().map(|active| active.backend.as_str())
    }

    /// Returns true if a backend carries mail, as far as is persisted.
    fn carries(&self, backend: &str) -> bool {
        self.status().is_some_and(|status| status.active.iter().any(|active| active.backend == backend))
    }

    fn readable(&self) -> Option<&MailRoute> {
        self.object.as_ref()?.readable()
    }

    pub(super) fn status(&self) -> Option<&MailRouteStatus> {
        self.readable()?.status.as_ref()
    }

    /// Every object that it wants to own.
    pub(super) fn owned_keys(&self, key: &ObjectKey) -> Vec<OutputKey> {
        self.usable.iter().flat_map(|route| output::owned_keys(route, key)).collect()
    }

    /// Ends the pause of a refused output.
    // An object that was in the way has changed.
    pub(super) fn forget_refusal(&mut self, key: &OutputKey) {
        self.refused.remove(key);
    }

    /// Takes note of the outcomes of writes.
    pub(super) fn outputs_written(&mut self, outcomes: &[(OutputKey, WriteOutcome)], now: Timestamp) {
        for (key, outcome) in outcomes {
            match outcome {
                WriteOutcome::Observed(_) | WriteOutcome::Gone => {
                    self.refused.remove(key);
                }
                WriteOutcome::Refused { reason, message } => {
                    let rejection = match &self.usable {
                        Some(route) => Rejection::new(reason, output::field(route, key), message),
                        None => Rejection { reason, message: message.clone() },
                    };
                    self.refused.insert(key.clone(), RefusedOutput { rejection, until: now + REFUSAL_RETRY });
                }
            }
        }
    }

    /// The pauses after failed writes of outputs.
    // They are not those of the whole route: its status must go on to say what fails.
    pub(super) fn output_retry(&mut self) -> &mut Retry {
        &mut self.output_retry
    }

    /// Takes note of Events that were published.
    pub(super) fn events_published(&mut self, names: impl IntoIterator<Item = String>) {
        self.published.extend(names);
    }

    /// Takes over a status that was written.
    pub(super) fn status_written(&mut self, resource_version: &ResourceVersion, status: MailRouteStatus) {
        if let Some(object) = self.object.as_mut().and_then(|cached| cached.superseded_by(resource_version)) {
            let still: BTreeSet<_> = status.pending_events.iter().map(|event| event.name.clone()).collect();
            self.published.retain(|name| still.contains(name));
            object.status = Some(status);
        }
    }

    /// The next missing action, and the time of the next reconcile: at a timer of the decision, or when evidence gets
    /// stale.
    pub(super) fn reconcile(&mut self, cx: &RouteContext<'_>) -> Reconciled<MailRouteStatus> {
        let reconciled = match self.precondition(cx) {
            Ok((uid, route)) => self.reconcile_usable(cx, &uid, &route),
            Err(reconciled) => reconciled,
        };
        reconciled.and_at(self.next_change_of_evidence(cx))
    }

    /// Status, outputs, Events, the rest of the status: the first of these that is not as decided.
    fn reconcile_usable(&mut self, cx: &RouteContext<'_>, uid: &Uid, route: &Route) -> Reconciled<MailRouteStatus> {
        let decided = self.decide(cx, route);
        let next_timeout = decided.decision.next_timeout;
        // ADR-0001: Write status before outputs.
        if !decided.is_persisted {
            return Reconciled::from(self.persist_decision(cx, &decided)).and_at(next_timeout);
        }
        let outputs = self.compare_outputs(cx, uid, route, &decided);
        let action = write_outputs(uid, &outputs)
            .or_else(|| self.publish_events(cx, uid, &outputs))
            .or_else(|| self.write_status(cx, Some(&decided), &outputs.state));
        Reconciled::from(action).and_at(next_timeout).and_at(outputs.next_timeout)
    }

    /// The route as it is to be decided about; the error is what comes before any decision.
    fn precondition(&mut self, cx: &RouteContext<'_>) -> Result<(Uid, Arc<Route>), Reconciled<MailRouteStatus>> {
        if !self.is_confirmed {
            return Err(PlannedAction::new(Action::Confirm).into());
        }
        let Some((uid, object)) = self.object.as_ref().and_then(|cached| Some((cached.uid(), cached.readable()?)))
        else {
            return Err(Reconciled::idle());
        };
        let uid = uid.clone();
        if let Some(until) = self.awaits_references_until(object, cx) {
            return Err(Reconciled::at(until));
        }
        let Some(route) = self.usable.clone() else {
            return Err(self.write_status(cx, None, &OutputsState::Waiting).into());
        };
        if !self.is_every_backend_observed(&route, cx) {
            return Err(Reconciled::idle());
        }
        if self.is_outdated(&uid, cx) {
            return Err(PlannedAction::new(Action::Confirm).into());
        }
        Ok((uid, route))
    }

    /// The time until which nothing is decided or said about a new route that refers to objects that do not exist yet.
    fn awaits_references_until(&self, route: &MailRoute, cx: &RouteContext<'_>) -> Option<Timestamp> {
        let created = Timestamp::from_micros(route.metadata.creation_timestamp.as_ref()?.0.as_microsecond());
        // A creation in the future is that of an API server with another clock, which says nothing.
        let is_new = route.status.is_none() && created <= cx.now && cx.now < created + NEW;
        if !is_new {
            return None;
        }
        let problems = self.problems(cx);
        let mut reasons = problems.iter().map(|problem| problem.reason);
        let is_missing = reasons.any(|reason| matches!(reason, reason::POLICY_NOT_FOUND | reason::BACKEND_NOT_FOUND));
        is_missing.then_some(created + NEW)
    }

    /// Returns true once each backend was observed since this process began.
    fn is_every_backend_observed(&mut self, route: &Route, cx: &RouteContext<'_>) -> bool {
        let mut backends = route.backends.iter().filter_map(|member| cx.backend(&member.name));
        // Once true it stays so: a backend that is added to the list must not keep the mail on a dead one.
        self.is_observed |= !backends.any(BackendEntry::is_awaited);
        self.is_observed
    }

    /// Returns true if an output names a later transition than the cached route, once for each such transition.
    // The watch of routes may lag behind that of outputs.
    fn is_outdated(&mut self, uid: &Uid, cx: &RouteContext<'_>) -> bool {
        let known = self.status().and_then(|status| status.history.first()).map_or(0, |last| last.id);
        let newest = cx.observed.newest_transition(&owner(cx, uid)).filter(|newest| *newest > known);
        // Read afresh once; an output that still names more than its route is put right.
        let is_news = newest > self.confirmed_for;
        if is_news {
            self.confirmed_for = newest;
        }
        is_news
    }

    /// The time at which evidence about its backends changes by time alone.
    fn next_change_of_evidence(&self, cx: &RouteContext<'_>) -> Option<Timestamp> {
        let members = self.usable.iter().flat_map(|route| &route.backends);
        let backends = members.filter_map(|member| cx.backend(&member.name));
        backends.filter_map(|backend| backend.evidence.next_timeout(cx.now)).min()
    }

    fn decide(&mut self, cx: &RouteContext<'_>, route: &Route) -> Decided {
        let persisted = self.status().map(memory).unwrap_or_default();
        let request = self.readable().and_then(request::of);
        let candidates = self.candidates(cx, route);
        let decision = decide(
            &Situation {
                now: cx.now,
                policy: self.policy.as_ref(),
                strategy: route.strategy,
                preferred_regions: &route.preferred_regions,
                candidates: &candidates,
                is_storm: cx.is_storm,
                request: request.as_ref(),
            },
            &persisted,
        );
        self.awaits_confirmation = decision.memory.held_by == Some(HoldReason::AwaitingConfirmation);
        let is_persisted = is_persisted(&decision.memory, &persisted) && decision.notices.is_empty();
        Decided { decision, candidates, is_persisted }
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
        // A deleted backend may keep the mail that it carries, and be left when it fails; no mail moves to it.
        let is_gone = entry.is_none_or(|entry| entry.object.is_none()) && !self.carries(&member.name);
        let usable = entry.and_then(|entry| entry.usable.as_deref()).filter(|_| !is_gone);
        Candidate::new(member, usable, verdict.as_ref(), route, None, cx.now)
    }

    /// Writes a new decision into the status, before anything acts on it.
    fn persist_decision(&mut self, cx: &RouteContext<'_>, decided: &Decided) -> Option<PlannedAction<MailRouteStatus>> {
        self.budget = None;
        self.write_status(cx, Some(decided), &OutputsState::Waiting)
    }

    /// Compares the outputs with a decision.
    fn compare_outputs(&mut self, cx: &RouteContext<'_>, uid: &Uid, route: &Route, decided: &Decided) -> OutputsPlan {
        if !route.agents.is_empty() {
            self.note_reported(cx, decided);
        }
        let owner = owner(cx, uid);
        let targets = self.targets(cx, &decided.decision.memory);
        let default_policy = Policy::default();
        let briefing = Briefing {
            members: briefed(cx, decided),
            summary: decided.decision.memory.last_transition().map(Transition::summary).unwrap_or_default(),
            policy: self.policy.as_ref().unwrap_or(&default_policy),
            operators: cx.operators,
        };
        let desired = desired(&owner, route, &targets, &briefing);
        let is_target_known = !targets.is_empty() && (desired.endpoints_known || route.services.is_empty());

        let mut in_the_way = BTreeMap::new();
        for key in &desired.owned_keys {
            if let Some(rival) = (cx.rival)(key) {
                in_the_way.insert(key.clone(), claimed(route, key, &rival));
            }
        }
        let mut rejections: Vec<_> = in_the_way.values().cloned().collect();
        for Obstacle { reason, field, message } in &desired.obstacles {
            rejections.push(Rejection::new(reason, field, message));
        }
        for (key, refused) in self.refused.iter().filter(|(_, refused)| refused.until > cx.now) {
            if !in_the_way.contains_key(key) {
                rejections.push(refused.rejection.clone());
                in_the_way.insert(key.clone(), refused.rejection.clone());
            }
        }
        let mut writes = writes(&owner, desired, cx.observed, |key| in_the_way.contains_key(key));
        if self.readable().is_some_and(|object| object.metadata.deletion_timestamp.is_some()) {
            // The garbage collector takes away what a route under deletion owns: to create it anew would be a race.
            writes.retain(|write| !matches!(write, Write::Create(_)));
        }
        if writes.is_empty() {
            return self.without_writes(rejections, is_target_known);
        }
        self.within_budget(writes, cx.now)
    }

    /// Refills the write budget if agents have to be told anything new.
    // A change in what we tell agents is not another controller reverting our output.
    fn note_reported(&mut self, cx: &RouteContext<'_>, Decided { decision, candidates, .. }: &Decided) {
        let standbys = candidates.iter().filter(|candidate| decision.is_standby(candidate));
        let standbys = standbys.map(|candidate| candidate.name.clone()).collect();
        let reported = LastReported { standbys, operators: cx.operators.to_vec() };
        if self.last_reported != reported {
            self.last_reported = reported;
            self.budget = None;
        }
    }

    /// The backends that outputs lead to, with their addresses; none while the one that leads is not known.
    fn targets<'a>(&self, cx: &RouteContext<'a>, memory: &'a Memory) -> Vec<Target<'a>> {
        let transition = memory.last_transition().map_or(0, |last| last.id);
        let mut targets = vec![];
        for (index, share) in memory.shares.iter().enumerate() {
            if let Some((entry, backend)) = cx.usable_backend(&share.backend) {
                let addresses = entry.addresses(self.thresholds());
                targets.push(Target { percent: share.percent, transition, name: &share.backend, backend, addresses });
            } else if index == 0 {
                return vec![];
            }
        }
        targets
    }

    fn without_writes(&self, rejections: Vec<Rejection>, is_target_known: bool) -> OutputsPlan {
        let (state, next_timeout) = if !rejections.is_empty() {
            (OutputsState::Refused(rejections), self.refused.values().map(|refused| refused.until).min())
        } else if is_target_known {
            (OutputsState::Complete, None)
        } else {
            (OutputsState::Waiting, None)
        };
        OutputsPlan { writes: vec![], state, next_timeout }
    }

    /// The writes, unless the latest one failed or another controller reverts them.
    fn within_budget(&mut self, writes: Vec<Write>, now: Timestamp) -> OutputsPlan {
        if let Some(until) = self.output_retry.until(now) {
            let error = self.output_retry.error().unwrap_or("unknown").to_owned();
            return OutputsPlan { writes: vec![], state: OutputsState::Failing(error), next_timeout: Some(until) };
        }
        let budget = self.budget.get_or_insert_with(|| WriteBudget::full(now));
        match budget.take(now) {
            Ok(()) => OutputsPlan { writes, state: OutputsState::Waiting, next_timeout: None },
            Err(until) => {
                let state = OutputsState::Failing("somebody else keeps changing the outputs back".to_owned());
                OutputsPlan { writes: vec![], state, next_timeout: Some(until) }
            }
        }
    }

    /// Publishes the Events that the status lists as pending, unless the outputs that they report cannot be written.
    // ADR-0002: Publish Events under fixed names.
    fn publish_events(
        &self,
        cx: &RouteContext<'_>,
        uid: &Uid,
        outputs: &OutputsPlan,
    ) -> Option<PlannedAction<MailRouteStatus>> {
        if matches!(outputs.state, OutputsState::Failing(_)) {
            return None;
        }
        let pending = &self.status()?.pending_events;
        events::publication(cx.resource, uid, cx.instance, pending, &self.published).map(PlannedAction::new)
    }

    /// Defects of the spec, and of the objects that it refers to.
    fn problems(&self, cx: &RouteContext<'_>) -> Vec<Rejection> {
        let mut problems: Vec<_> = self.rejection.iter().chain(&self.policy_problem).cloned().collect();
        for member in self.usable.iter().flat_map(|route| &route.backends) {
            if cx.backend(&member.name).is_none_or(|entry| entry.object.is_none()) {
                let message = format!(
                    "SendingBackend {} does not exist in namespace {}; create it or take it out of the list",
                    member.name, cx.resource.key.namespace
                );
                // ADR-0005: A deleted backend keeps the mail that it carries.
                problems.push(Rejection::new(reason::BACKEND_NOT_FOUND, "spec.backends[].name", &message));
            }
        }
        problems
    }

    /// The write of the status for a decision and the state of the outputs; `None` if the status says so already.
    fn write_status(
        &self,
        cx: &RouteContext<'_>,
        decided: Option<&Decided>,
        outputs: &OutputsState,
    ) -> Option<PlannedAction<MailRouteStatus>> {
        let cached = self.object.as_ref()?;
        let object = cached.readable()?;
        let before = object.status.clone().unwrap_or_default();
        let builder = StatusBuilder {
            resource: cx.resource,
            generation: object.metadata.generation.unwrap_or_default(),
            now: cx.now,
            before: &before,
            published: &self.published,
            problems: self.problems(cx),
            thresholds: self.thresholds(),
            strategy: self.usable.as_ref().map(|route| route.strategy),
            recovery_time: self.policy.as_ref().and_then(|policy| policy.objectives.recovery_time),
            first_delivery: self.first_delivery,
            backends: cx.backends,
            decision: decided.map(|decided| &decided.decision),
            candidates: decided.map_or(&[], |decided| decided.candidates.as_slice()),
            outputs,
        };
        let status = builder.build();
        cached.status_write(&before, status)
    }
}

fn write_outputs(uid: &Uid, outputs: &OutputsPlan) -> Option<PlannedAction<MailRouteStatus>> {
    let OutputsPlan { writes, state: _, next_timeout: _ } = outputs;
    let action = Action::WriteOutputs { owner: uid.clone(), writes: writes.clone() };
    (!writes.is_empty()).then_some(PlannedAction::new(action))
}

/// The backends as its agents' document has them.
fn briefed<'a>(cx: &RouteContext<'a>, decided: &'a Decided) -> Vec<Briefed<'a>> {
    let mut members = vec![];
    for candidate in &decided.candidates {
        if let Some((_, backend)) = cx.usable_backend(&candidate.name) {
            let is_standby = decided.decision.is_standby(candidate);
            members.push(Briefed { name: &candidate.name, backend, is_standby });
        }
    }
    members
}

fn owner(cx: &RouteContext<'_>, uid: &Uid) -> Owner {
    Owner { key: cx.resource.key.clone(), uid: uid.to_string() }
}

/// Returns true if the status says already everything that outputs and later decisions follow from. Texts for people
/// may follow.
fn is_persisted(decided: &Memory, persisted: &Memory) -> bool {
    let Memory { shares, since, state: _, held_by: _, history, ramp, switch, pause, approved_at, request } = decided;
    *shares == persisted.shares
        && *since == persisted.since
        && *history == persisted.history
        && *ramp == persisted.ramp
        && *switch == persisted.switch
        && *pause == persisted.pause
        && *approved_at == persisted.approved_at
        && *request == persisted.request
}

fn claimed(route: &Route, key: &OutputKey, rival: &ObjectKey) -> Rejection {
    let (kind, name) = (key.0.as_str(), &key.1.name);
    let message = format!("{kind} {name} belongs to MailRoute {}, which had it first; choose another name", rival.name);
    Rejection::new(reason::OUTPUT_CLAIMED, output::field(route, key), &message)
}
