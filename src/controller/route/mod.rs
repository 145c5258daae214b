//! One `MailRoute`: from the verdicts about its backends to a decision, from the decision to its outputs and its
//! status.

mod context;
mod decide;
mod dns;
mod drills;
mod held;
mod installations;
mod kept;
mod notices;
mod objectives;
mod outputs;
mod progress;
mod status;
mod webhooks;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::action::Action;
use super::backend::BackendEntry;
use super::cached::Cached;
use super::events;
use super::lane::Lane;
use super::reconcile::{PlannedAction, Reconciled};
use super::retry::{Retry, WriteBudget};
use crate::output::OutputKey;
use mail_failover_api::conditions::reason;
use mail_failover_api::{MailRoute, MailRouteStatus, OutputStatus};
use mail_failover_core::engine::{Drill, StandbyLooks};
use mail_failover_core::model::{
    BackendDeliveries, FailbackMode, Objectives, Policy, ResourceVersion, Route, SwitchedMail, Thresholds, Timestamp,
    Uid,
};
use mail_failover_resolve::{self as resolve, Rejection};

pub(super) use context::{Claimed, RouteContext};
use decide::Decided;
pub(super) use dns::PlannedDnsCall;
use dns::{DnsFreshness, DnsRecords};
pub(super) use drills::{DRILL, DrillContext, ended_drill};
pub(super) use installations::{InstallationContext, rivals, yields};
pub(super) use kept::{KEPT_FOR_LONG, KeptTotal, LongKept};
pub(super) use notices::Retold;
use objectives::{Measurement, ObjectiveTracker};
use outputs::{LastReported, OutputsPlan, RefusedOutput, output_status, owner};
use progress::ProgressState;
use status::{OutputsState, StatusBuilder};
pub(super) use webhooks::PlannedCall;
use webhooks::Webhooks;

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
    /// The policy in force; `None` before the first look.
    policy: Option<Policy>,
    policy_problem: Option<Rejection>,
    /// True once it was read afresh since this replica became the leader. Nothing is written for it before.
    pub(super) is_confirmed: bool,
    /// Latest transition named by an output for which the route was read afresh.
    confirmed_for: Option<i64>,
    /// True once every backend was observed since this process began.
    is_observed: bool,
    /// Transition that an agent has carried out, and the time of the first message on the new way.
    first_delivery: Option<(i64, Timestamp)>,
    /// Mail that has waited for long beside an agent; `None` until an agent has reported.
    kept: Option<LongKept>,
    /// True while any answer of a standby, even one that changes no verdict, may let the route move.
    pub(super) awaits_answer: bool,
    /// True while the route waits for a standby to answer.
    awaits_confirmation: bool,
    /// Looks at the standbys while that lasts.
    standby_looks: StandbyLooks,
    refused: BTreeMap<OutputKey, RefusedOutput>,
    published: BTreeSet<String>,
    last_reported: LastReported,
    budget: Option<WriteBudget>,
    output_retry: Retry,
    /// The latest transition that every output follows, and the time at which that was seen first.
    applied: Option<(i64, Timestamp)>,
    /// Backends that each output leads to, once all are written.
    output_status: Option<Vec<OutputStatus>>,
    webhooks: Webhooks,
    dns: DnsRecords,
    objectives: ObjectiveTracker,
    /// The drill under way, as it was decided or read last.
    drill: Option<Drill>,
    /// Objectives as measured at the latest reconcile.
    measured: Option<Measurement>,
}

/// Result that everything after it waits for.
type BeforeAll = Box<Reconciled<MailRouteStatus>>;

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

    /// Takes over the policy as it is now. One that does not exist means the defaults; one that
    /// cannot be used leaves the last good version in force.
    // Not the last good version of one that does not exist: a process that begins afterwards does not know it, and must
    // decide the same.
    // ADR-0086: Without a policy the defaults are in force.
    pub(super) fn adopt_policy(&mut self, policy: Result<Policy, Rejection>) {
        match policy {
            Ok(policy) => {
                self.policy = Some(policy);
                self.policy_problem = None;
            }
            Err(rejection) => {
                if rejection.reason == reason::POLICY_NOT_FOUND {
                    self.policy = Some(Policy::default());
                } else if self.policy.is_none() {
                    // Nobody can tell if it asks for windows or an approval.
                    let mut defaults = Policy::default();
                    defaults.failback.mode = FailbackMode::Manual;
                    self.policy = Some(defaults);
                }
                self.policy_problem = Some(rejection);
            }
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

    /// Returns true if every output of it is for agents.
    pub(super) fn has_only_agents(&self) -> bool {
        let usable = self.usable.as_ref();
        usable.is_some_and(|route| {
            let has_others = !route.services.is_empty()
                || !route.config_maps.is_empty()
                || !route.webhooks.is_empty()
                || !route.dns.is_empty();
            !route.agents.is_empty() && !has_others
        })
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

    /// Takes note of the mail that waits beside the agents. Returns true if that is news.
    pub(super) fn note_kept(&mut self, kept: LongKept) -> bool {
        self.kept.replace(kept.clone()) != Some(kept)
    }

    /// The backends that carry its mail, as far as is persisted.
    pub(super) fn active(&self) -> Vec<String> {
        let active = self.status().into_iter().flat_map(|status| &status.active);
        active.map(|active| active.backend.clone()).collect()
    }

    /// Returns true if a backend carries mail, as far as is persisted.
    pub(super) fn carries(&self, backend: &str) -> bool {
        self.status().is_some_and(|status| status.active.iter().any(|active| active.backend == backend))
    }

    fn readable(&self) -> Option<&MailRoute> {
        self.object.as_ref()?.readable()
    }

    pub(super) fn status(&self) -> Option<&MailRouteStatus> {
        self.readable()?.status.as_ref()
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
            self.objectives.written();
        }
    }

    /// The next missing action, and the time of the next reconcile: at a timer of the decision, or when evidence gets
    /// stale.
    pub(super) fn reconcile(&mut self, cx: &RouteContext<'_>) -> Reconciled<MailRouteStatus> {
        self.measure(cx.now);
        if !self.is_confirmed {
            // The cached status is taken anew each time: the watch may have caught up since the last look at it.
            self.forget_webhooks();
            self.forget_dns();
        }
        let reconciled = self.next_missing(cx).unwrap_or_else(|first| *first);
        let reconciled = if self.is_confirmed { reconciled } else { self.confirm_first(cx, reconciled) };
        let measured_at = objectives::next_write(self.measured.as_ref(), self.status());
        let measured_at = measured_at.filter(|_| !self.yields(cx));
        let evidence_at = self.next_change_of_evidence(cx);
        let reconciled = reconciled.and_at(evidence_at).and_at(self.next_day_of_limits(cx)).and_at(measured_at);
        reconciled.and_at(cx.installations.next)
    }

    /// Takes note that it was read afresh.
    pub(super) fn confirmed(&mut self) {
        if !std::mem::replace(&mut self.is_confirmed, true) {
            // What they remember comes from the status before.
            self.forget_webhooks();
            self.forget_dns();
        }
    }

    /// Puts a fresh read of the route in the place of everything that is to be written, told or called for it. What was
    /// decided is decided again after that. Without any of it, and without objectives to measure, the route is not read.
    // The cache may lag behind the last write of an earlier leader. Of a thousand routes most have nothing to write when
    // a leader begins: those whose mail must move wait for no reads of the others.
    fn confirm_first(
        &mut self,
        cx: &RouteContext<'_>,
        planned: Reconciled<MailRouteStatus>,
    ) -> Reconciled<MailRouteStatus> {
        let Reconciled { action, publication, next_timeout } = planned;
        let route = self.usable.as_deref();
        let is_zone_led = route.is_none_or(|route| self.dns.state(route, cx.now, false) == ProgressState::Applied);
        let has_webhooks = !self.webhooks.take_planned().is_empty();
        let has_zones = !self.dns.take_planned().is_empty();
        // Their policies tell only what a confirmed route has to tell.
        let has_notifications = self.status().is_some_and(|status| !status.pending_notifications.is_empty());
        let is_mail_led_elsewhere = has_webhooks || (has_zones && !is_zone_led);
        let of_calls = is_mail_led_elsewhere.then_some(Lane::Decision);
        let is_anything_else_due =
            has_zones || has_notifications || publication.is_some() || self.awaits_measurement(cx);
        let of_the_rest = is_anything_else_due.then_some(Lane::RouteStatus);
        let lanes = action.map(|action| action.lane).into_iter().chain(of_calls).chain(of_the_rest);
        // As urgent as the most urgent of them; a read takes no place of an output.
        let lane = lanes.min().map(|lane| lane.max(Lane::Decision));
        if lane.is_some() {
            // What it has changed in memory must not outlast a decision that is not carried out.
            self.adopt_drill();
            self.budget = None;
        }
        let confirm = lane.map(|lane| PlannedAction::<MailRouteStatus>::new(lane, Action::Confirm));
        Reconciled::from(confirm).and_at(next_timeout)
    }

    /// Returns true if another installation is to write what mail does not wait for.
    fn yields(&self, cx: &RouteContext<'_>) -> bool {
        self.status().is_some_and(|status| yields(&status.installations, &cx.installations.own))
    }

    /// Returns true if it has objectives that are not measured, and is this installation's to write.
    // Before that no write is missing for them.
    fn awaits_measurement(&self, cx: &RouteContext<'_>) -> bool {
        let has_objectives = self.policy.as_ref().is_some_and(|policy| !policy.objectives.is_empty());
        has_objectives && self.measured.is_none() && self.status().is_some() && !self.yields(cx)
    }

    fn measure(&mut self, now: Timestamp) {
        // What was counted so far stands in the status, and the watch may lag behind what an earlier leader has written.
        if !self.is_confirmed {
            return;
        }
        let objectives = self.policy.as_ref().map_or(Objectives::NONE, |policy| policy.objectives);
        let status = self.object.as_ref().and_then(|cached| cached.readable()?.status.as_ref());
        self.measured = self.objectives.measure(&objectives, status, now);
    }

    /// Counts what an agent reports of a backend. Returns true if the route has to be looked at for it.
    pub(super) fn count_deliveries(
        &mut self,
        now: Timestamp,
        earlier: Option<&BackendDeliveries>,
        reported: &BackendDeliveries,
    ) -> bool {
        let objectives = self.policy.as_ref().map_or(Objectives::NONE, |policy| policy.objectives);
        self.objectives.count(now, &objectives, earlier, reported)
    }

    /// End of the present day of a warm-up, if agents have a part of it.
    fn next_day_of_limits(&self, cx: &RouteContext<'_>) -> Option<Timestamp> {
        let route = self.usable.as_ref().filter(|route| !route.agents.is_empty())?;
        let backends = route.backends.iter().filter_map(|member| cx.usable_backend(&member.name));
        let warming = backends.filter_map(|(_, backend)| backend.limits.warm_up.as_ref()?.at(cx.drift.wall(cx.now)));
        warming.map(|(_, until)| cx.drift.at_wall(until)).min()
    }

    /// Status, outputs, Events, the rest of the status: the first write that is missing, as an error if others wait for
    /// it. Events are published beside the rest.
    fn next_missing(&mut self, cx: &RouteContext<'_>) -> Result<Reconciled<MailRouteStatus>, BeforeAll> {
        let (uid, route) = self.precondition(cx)?;
        let decided = self.decide(cx, &route);
        self.want_webhooks(&uid, &route, &decided);
        self.want_dns(&route, &decided);
        // ADR-0001: Write status before outputs.
        self.persist_decision(cx, &decided)?;
        // Beside the other outputs: neither waits for the other.
        let webhooks_timeout = self.plan_webhooks(cx, &route, &decided);
        let dns_timeout = self.plan_dns(cx, &uid, &route);
        let outputs = match self.write_outputs(cx, &uid, &route, &decided) {
            Ok(outputs) => outputs,
            Err(first) => return Err(Box::new(first.and_at(webhooks_timeout).and_at(dns_timeout))),
        };
        let events = self.publish_events(cx, &uid, &outputs);
        let rest = self.write_rest_of_status(cx, &decided, &outputs);
        Ok(events
            .and_act(rest)
            .and_at(decided.decision.next_timeout)
            .and_at(outputs.next_timeout)
            .and_at(webhooks_timeout)
            .and_at(dns_timeout))
    }

    /// Takes note of the time at which every output was first seen to follow the latest transition.
    fn note_applied(&mut self, cx: &RouteContext<'_>, outputs: &OutputsState) {
        let last = self.status().and_then(|status| status.history.first());
        let Some(id) = last.filter(|last| last.applied_at.is_none()).map(|last| last.id) else { return };
        if matches!(outputs, OutputsState::Complete) && self.applied.is_none_or(|(applied, _)| applied != id) {
            self.applied = Some((id, cx.now));
        }
    }

    /// The route as it is to be decided about; the error is what comes before any decision.
    fn precondition(&mut self, cx: &RouteContext<'_>) -> Result<(Uid, Arc<Route>), BeforeAll> {
        let Some((uid, object)) = self.object.as_ref().and_then(|cached| Some((cached.uid(), cached.readable()?)))
        else {
            return Err(Box::new(Reconciled::idle()));
        };
        let uid = uid.clone();
        if let Some(until) = self.awaits_references_until(object, cx) {
            return Err(Box::new(Reconciled::at(until)));
        }
        let Some(route) = self.usable.clone() else {
            return Err(Box::new(self.write_status(cx, Lane::RouteStatus, None, &OutputsState::Waiting).into()));
        };
        if !self.is_every_backend_observed(&route, cx) {
            return Err(Box::new(Reconciled::idle()));
        }
        if self.is_outdated(&uid, cx) {
            return Err(Box::new(PlannedAction::new(Lane::Decision, Action::Confirm).into()));
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

    /// Writes a new decision into the status, before anything acts on it.
    fn persist_decision(&mut self, cx: &RouteContext<'_>, decided: &Decided) -> Result<(), BeforeAll> {
        if decided.is_persisted {
            return Ok(());
        }
        self.budget = None;
        let write = self.write_status(cx, Lane::Decision, Some(decided), &OutputsState::Waiting);
        Err(Box::new(Reconciled::from(write).and_at(decided.decision.next_timeout)))
    }

    /// Brings the outputs where the decision says. Returns their state once no write is left to make now.
    fn write_outputs(
        &mut self,
        cx: &RouteContext<'_>,
        uid: &Uid,
        route: &Route,
        decided: &Decided,
    ) -> Result<OutputsPlan, BeforeAll> {
        let outputs = self.compare_outputs(cx, uid, route, decided);
        if let Some(action) = self.output_action(uid, &outputs) {
            let next = Reconciled::from(action).and_at(decided.decision.next_timeout);
            return Err(Box::new(next.and_at(outputs.next_timeout)));
        }
        let mut outputs = outputs;
        if matches!(outputs.state, OutputsState::Complete) {
            self.output_status = Some(output_status(route, &decided.decision.memory, &outputs.split));
            // ADR-0137: An awaited webhook is a part of applying, and no other output waits for one.
            let webhooks = self.webhooks.state(route, cx.now, true);
            outputs.state = match webhooks.and(self.dns.state(route, cx.now, true)) {
                ProgressState::Failing(rejections) => OutputsState::Unanswered(rejections),
                ProgressState::Pending(_) => OutputsState::Waiting,
                ProgressState::Applied => OutputsState::Complete,
            };
        }
        self.note_applied(cx, &outputs.state);
        Ok(outputs)
    }

    /// Notes what the receivers of webhooks are to accept, once there is anything to tell.
    fn want_webhooks(&mut self, uid: &Uid, route: &Route, decided: &Decided) {
        let is_decided = !decided.decision.memory.shares.is_empty() || decided.decision.is_withdrawn();
        let is_deleted = self.readable().is_some_and(|object| object.metadata.deletion_timestamp.is_some());
        if is_decided && !is_deleted {
            let before = self.object.as_ref().and_then(Cached::readable).and_then(|object| object.status.as_ref());
            self.webhooks.want(uid, route, &decided.decision.memory, before);
        }
    }

    fn plan_webhooks(&mut self, cx: &RouteContext<'_>, route: &Route, decided: &Decided) -> Option<Timestamp> {
        let object = self.object.as_ref().and_then(Cached::readable)?;
        let before = object.status.as_ref().filter(|_| object.metadata.deletion_timestamp.is_none())?;
        self.webhooks.plan(cx, route, &decided.decision.memory, before)
    }

    /// Notes where zones are to lead, once there is anywhere.
    fn want_dns(&mut self, route: &Route, decided: &Decided) {
        let before = self.object.as_ref().and_then(Cached::readable).and_then(|object| object.status.as_ref());
        self.dns.want(route, &decided.decision.memory, before);
    }

    fn plan_dns(&mut self, cx: &RouteContext<'_>, uid: &Uid, route: &Route) -> Option<Timestamp> {
        let object = self.object.as_ref().and_then(Cached::readable)?;
        // ADR-0141: Records outlive the route, and a route that nobody may carry.
        if object.metadata.deletion_timestamp.is_some() {
            return None;
        }
        self.dns.plan(cx, uid, route)
    }

    /// Publishes the pending Events, unless a publication is under way or must wait.
    fn publish_events(&self, cx: &RouteContext<'_>, uid: &Uid, outputs: &OutputsPlan) -> Reconciled<MailRouteStatus> {
        let publication = self.publication(cx, uid, outputs);
        let paused_until = cx.publishing.paused_until.filter(|_| publication.is_some());
        let publication = publication.filter(|_| cx.publishing.may_begin());
        let deferred_until = self.status().and_then(|status| events::next_due(&status.pending_events, cx.now));
        Reconciled::idle().and_publish(publication).and_at(paused_until).and_at(deferred_until)
    }

    /// Writes what follows from the outputs and the Events into the status.
    fn write_rest_of_status(
        &self,
        cx: &RouteContext<'_>,
        decided: &Decided,
        outputs: &OutputsPlan,
    ) -> Option<PlannedAction<MailRouteStatus>> {
        // One write then says all; Events that fail are not waited for.
        let is_awaited = cx.publishing.is_under_way && !cx.publishing.has_failed;
        if is_awaited {
            return None;
        }
        self.write_status(cx, Lane::RouteStatus, Some(decided), &outputs.state)
    }

    /// The Events that the status lists as pending, unless the outputs that they report cannot be written.
    // ADR-0002: Publish Events under fixed names.
    fn publication(&self, cx: &RouteContext<'_>, uid: &Uid, outputs: &OutputsPlan) -> Option<Action> {
        if matches!(outputs.state, OutputsState::Failing(_)) {
            return None;
        }
        let pending = &self.status()?.pending_events;
        events::publication(cx.resource, uid, cx.instance, pending, &self.published, cx.now)
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
                problems.push(Rejection::new(reason::BACKEND_NOT_FOUND, "spec.backends[].name", &message));
            } else if cx.loops.contains(&member.name) {
                let message = format!(
                    "SendingBackend {} leads back to this route through a Service that a route owns: it is no other way out and is not \
                     used; name the server itself, or take it out of the list",
                    member.name
                );
                problems.push(Rejection::new(reason::MAIL_LOOP, "spec.backends[].name", &message));
            }
        }
        problems
    }

    /// The write of the status for a decision and the state of the outputs; `None` if the status says so already.
    fn write_status(
        &self,
        cx: &RouteContext<'_>,
        lane: Lane,
        decided: Option<&Decided>,
        outputs: &OutputsState,
    ) -> Option<PlannedAction<MailRouteStatus>> {
        let cached = self.object.as_ref()?;
        let object = cached.readable()?;
        let before = object.status.clone().unwrap_or_default();
        let is_another_to_write = lane == Lane::RouteStatus && self.yields(cx);
        let builder = StatusBuilder {
            resource: cx.resource,
            generation: object.metadata.generation.unwrap_or_default(),
            first_alarm_at: events::first_alarm_at(&object.metadata, cx.now),
            now: cx.now,
            before: &before,
            published: &self.published,
            problems: self.problems(cx),
            thresholds: self.thresholds(),
            strategy: self.usable.as_ref().map(|route| route.strategy),
            objectives: self.measured.as_ref(),
            policy: self.policy.as_ref(),
            drift: cx.drift,
            recovery_time: self.policy.as_ref().and_then(|policy| policy.objectives.recovery_time),
            first_delivery: self.first_delivery,
            kept: self.kept.as_ref(),
            applied: self.applied,
            backends: cx.backends,
            decision: decided.map(|decided| &decided.decision),
            candidates: decided.map_or(&[], |decided| decided.candidates.as_slice()),
            outputs,
            output_status: self.output_status.clone(),
            webhooks: decided.and(self.usable.as_ref()).map(|route| self.webhooks.statuses(route)),
            webhooks_state: (self.usable.as_ref())
                .filter(|route| decided.is_some() && !route.webhooks.is_empty())
                .map(|route| self.webhooks.state(route, cx.now, false)),
            dns: decided.and(self.usable.as_ref()).map(|route| self.dns.statuses(route)),
            dns_state: (self.usable.as_ref())
                .filter(|route| decided.is_some() && !route.dns.is_empty())
                .map(|route| (self.dns.state(route, cx.now, false), DnsFreshness::of(route))),
            bypassed_by_agents: cx.bypassed_by_agents,
            is_mail_stuck: cx.is_mail_stuck,
            uid: cached.uid(),
            is_taken: cx.is_taken,
            installations: cx.installations,
        };
        let status = if is_another_to_write { builder.build_sign_of_life() } else { builder.build() };
        cached.status_write(lane, &before, status)
    }
}
