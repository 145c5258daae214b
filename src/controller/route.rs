//! One `MailRoute`: from the verdicts about its backends to a decision, from the decision to its outputs and its status.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::backend::BackendEntry;
use super::backoff::{Retry, WriteBudget};
use super::events;
use super::known::{Known, unreadable_rejection};
use super::route_status::{Actuation, Drafting};
use super::status::patch;
use super::step::{Step, Subject, WriteOutcome};
use crate::output::{self, Briefed, Briefing, Observed, Obstacle, OutputKey, Owner, Target, Write, desired, writes};
use mail_failover_api::{MailRoute, MailRouteStatus};
use mail_failover_contract::document::OperatorEndpoint;
use mail_failover_core::engine::{Candidate, Decision, HoldReason, Memory, Share, Situation, Transition, decide};
use mail_failover_core::model::{Member, ObjectKey, Policy, Route, SwitchedMail, Thresholds, Timestamp};
use mail_failover_resolve::request;
use mail_failover_resolve::route_memory::memory;
use mail_failover_resolve::{self as resolve, Rejection};

/// A refused output is tried again after so long: whoever is in the way may be gone, and not everything in the way is watched.
const REFUSAL_RETRY: Duration = Duration::from_secs(30);
/// So long after a route is made, what it refers to may be on its way: a manifest's objects are applied one after another, and watches of
/// different kinds keep no order among each other.
const NEW: Duration = Duration::from_secs(3);

/// Everything known about one route.
#[derive(Debug, Default)]
pub(super) struct RouteEntry {
    pub(super) object: Option<Known<MailRoute>>,
    /// The last good version.
    pub(super) usable: Option<Arc<Route>>,
    /// What is wrong with the present version.
    rejection: Option<Rejection>,
    /// The last good version of the policy it refers to.
    policy: Option<Policy>,
    policy_problem: Option<Rejection>,
    /// Whether it was read afresh since this replica became the leader.
    pub(super) is_confirmed: bool,
    /// The latest transition told of by an output for which the route was read afresh.
    confirmed_for: Option<i64>,
    /// Whether every backend has been heard of at least once since this process began.
    is_observed: bool,
    /// The transition that an agent has carried out, and when its first message was out.
    first_delivery: Option<(i64, Timestamp)>,
    /// Whether any answer of a standby, even one that changes no verdict, may let it move.
    pub(super) awaits_confirmation: bool,
    refused: BTreeMap<OutputKey, Refusal>,
    published: BTreeSet<String>,
    /// What its agents are told beyond where mail goes, which changes without a decision.
    told: Told,
    budget: Option<WriteBudget>,
    output_backoff: Retry,
    pub(super) backoff: Retry,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Told {
    standbys: Vec<Arc<str>>,
    operators: Vec<OperatorEndpoint>,
}

#[derive(Debug)]
struct Refusal {
    rejection: Rejection,
    until: Timestamp,
}

/// What a route is looked at with.
pub(super) struct Surroundings<'a> {
    pub(super) now: Timestamp,
    pub(super) instance: &'a str,
    pub(super) backends: &'a BTreeMap<ObjectKey, BackendEntry>,
    pub(super) observed: &'a Observed,
    /// Every failure domain of the fleet fails at once.
    pub(super) is_storm: bool,
    /// Where agents report.
    pub(super) operators: &'a [OperatorEndpoint],
    /// The other route that has the better claim to an output, if there is one.
    pub(super) rival: &'a dyn Fn(&OutputKey) -> Option<ObjectKey>,
}

/// What is to be done now, and when to look again.
#[derive(Debug, Default)]
pub(super) struct Next {
    pub(super) step: Option<(Step, Option<MailRouteStatus>)>,
    pub(super) wake_at: Option<Timestamp>,
}

impl RouteEntry {
    /// Parses the spec again.
    pub(super) fn resolve(&mut self) {
        let resolved = match &self.object {
            None => return,
            Some(Known::Unreadable(unreadable)) => Err(unreadable_rejection(unreadable)),
            Some(Known::Readable(object)) => resolve::route(&object.spec),
        };
        match resolved {
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

    /// The policy that the spec names; `None` for the defaults.
    pub(super) fn policy_name(&self) -> Option<&str> {
        let spec = &self.object.as_ref()?.readable()?.spec;
        spec.policy_ref.as_ref().map(|reference| reference.name.as_str())
    }

    /// Takes the policy as it is now; one that cannot be used leaves the last good one in force.
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

    /// For how long after the latest failed delivery its agents' word that deliveries fail counts.
    pub(super) fn cooldown(&self) -> Duration {
        self.policy.as_ref().map_or_else(|| Policy::default().hold.cooldown, |policy| policy.hold.cooldown)
    }

    /// Whether it has outputs for agents.
    pub(super) fn has_agents(&self) -> bool {
        self.usable.as_ref().is_some_and(|route| !route.agents.is_empty())
    }

    /// The service accounts under which its agents run.
    pub(super) fn agents_accounts(&self) -> BTreeSet<Arc<str>> {
        let agents = self.usable.iter().flat_map(|route| &route.agents);
        agents.map(|output| output.service_account.clone()).collect()
    }

    /// An agent has switched. Returns whether it tells of the latest transition's first delivery, and is the first to do so.
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

    /// Where its mail goes, as far as is persisted.
    pub(super) fn active(&self) -> Option<&str> {
        self.status()?.active.first().map(|active| active.backend.as_str())
    }

    /// Whether mail goes there, as far as is persisted.
    fn carries(&self, backend: &str) -> bool {
        self.status().is_some_and(|status| status.active.iter().any(|active| active.backend == backend))
    }

    /// Its status as it is known.
    pub(super) fn status(&self) -> Option<&MailRouteStatus> {
        self.object.as_ref()?.readable()?.status.as_ref()
    }

    /// Every object it wants to own.
    pub(super) fn claims(&self, key: &ObjectKey) -> Vec<OutputKey> {
        self.usable.iter().flat_map(|route| output::claims(route, key)).collect()
    }

    /// Something changed about an object that was in the way.
    pub(super) fn forget_refusal(&mut self, key: &OutputKey) {
        self.refused.remove(key);
    }

    /// Outputs were written, up to the first error.
    pub(super) fn outputs_written(
        &mut self,
        outcomes: &[(OutputKey, WriteOutcome)],
        error: Option<String>,
        now: Timestamp,
        jitter: f64,
    ) {
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
                    self.refused.insert(key.clone(), Refusal { rejection, until: now + REFUSAL_RETRY });
                }
            }
        }
        match error {
            Some(error) => self.output_backoff.fail(now, error, jitter),
            None => self.output_backoff.succeed(),
        }
    }

    /// These Events are published.
    pub(super) fn events_published(&mut self, names: impl IntoIterator<Item = String>) {
        self.published.extend(names);
    }

    /// A status was written: what is known is now this.
    pub(super) fn status_written(&mut self, resource_version: &str, status: MailRouteStatus) {
        if let Some(object) = self.object.as_mut().and_then(|known| known.superseded_by(resource_version)) {
            let still: BTreeSet<_> = status.pending_events.iter().map(|event| event.name.clone()).collect();
            self.published.retain(|name| still.contains(name));
            object.status = Some(status);
        }
    }

    /// The next missing step, and when to look again: at a timer of the decision, or when evidence gets stale.
    pub(super) fn next(&mut self, subject: &Subject, around: &Surroundings<'_>) -> Next {
        let Next { step, wake_at } = self.next_step(subject, around);
        let route = self.usable.as_ref();
        let entries = route
            .iter()
            .flat_map(|route| &route.backends)
            .filter_map(|member| around.backends.get(&subject.key.sibling(member.name.clone())));
        let stale_at = entries.filter_map(|entry| entry.evidence.next_change_at(around.now)).min();
        Next { step, wake_at: [wake_at, stale_at].into_iter().flatten().min() }
    }

    /// The next missing step: confirm, decide, write the outputs, publish, write the rest of the status.
    fn next_step(&mut self, subject: &Subject, around: &Surroundings<'_>) -> Next {
        if !self.is_confirmed {
            return Next { step: Some((Step::Confirm, None)), wake_at: None };
        }
        let Some(object) = self.object.as_ref().and_then(Known::readable) else { return Next::default() };
        let owner = Owner { key: subject.key.clone(), uid: object.metadata.uid.clone().unwrap_or_default() };
        let is_being_deleted = object.metadata.deletion_timestamp.is_some();
        let before = object.status.clone().unwrap_or_default();
        let request = request::of(object);
        if let Some(until) = self.awaits_references_until(object, subject, around) {
            return Next { step: None, wake_at: Some(until) };
        }
        let Some(route) = self.usable.clone() else {
            return self.report(subject, around, None, &Actuation::Waiting, &[]);
        };
        if !self.has_heard_of_every_backend(subject, &route, around) {
            return Next::default();
        }

        let memory = memory(&before);
        if self.is_outdated(&owner, &memory, around) {
            return Next { step: Some((Step::Confirm, None)), wake_at: None };
        }
        let candidates = self.candidates(subject, &route, around);
        let decision = decide(
            &Situation {
                now: around.now,
                policy: self.policy.as_ref(),
                strategy: route.strategy,
                preferred_regions: &route.preferred_regions,
                candidates: &candidates,
                is_storm: around.is_storm,
                request: request.as_ref(),
            },
            &memory,
        );
        self.awaits_confirmation = decision.memory.held_by == Some(HoldReason::AwaitingConfirmation);
        if !is_persisted(&decision.memory, &memory) || !decision.announcements.is_empty() {
            self.budget = None;
            return self.report(subject, around, Some(&decision), &Actuation::Waiting, &candidates);
        }

        if !route.agents.is_empty() {
            self.note_told(&decision, &candidates, around);
        }
        let mut plan = self.plan(&owner, &route, &decision, &candidates, around);
        // The garbage collector takes away what a route under deletion owns: making it anew would be a race with it.
        plan.writes.retain(|write| !is_being_deleted || !matches!(write, Write::Create(_)));
        let (actuation, ends_at) = match self.actuate(plan, around.now) {
            Ok(writes) => {
                let step = Step::WriteOutputs { owner_uid: owner.uid, writes };
                return Next { step: Some((step, None)), wake_at: decision.wake_at };
            }
            Err(standing) => standing,
        };
        let wake_at = [decision.wake_at, ends_at].into_iter().flatten().min();

        let outstanding = before.pending_events.iter().filter(|event| !self.published.contains(&event.name));
        let outstanding: Vec<_> =
            outstanding.map(|event| events::event(subject, &owner.uid, around.instance, event)).collect();
        if !outstanding.is_empty() && !matches!(actuation, Actuation::Failing(_)) {
            return Next { step: Some((Step::PublishEvents(outstanding), None)), wake_at };
        }
        Next { wake_at, ..self.report(subject, around, Some(&decision), &actuation, &candidates) }
    }

    /// What is news of ours is nobody's undoing of what was written.
    fn note_told(&mut self, decision: &Decision, candidates: &[Candidate], around: &Surroundings<'_>) {
        let standbys = candidates.iter().filter(|candidate| decision.is_standby(candidate));
        let standbys = standbys.map(|candidate| candidate.name.clone()).collect();
        let told = Told { standbys, operators: around.operators.to_vec() };
        if self.told != told {
            self.told = told;
            self.budget = None;
        }
    }

    /// Whether an output tells of a later transition than what is known of the route: the watch of routes lags behind that of outputs. Each
    /// such transition is a reason to read the route afresh once; an output that claims more than its route is put right.
    fn is_outdated(&mut self, owner: &Owner, memory: &Memory, around: &Surroundings<'_>) -> bool {
        let known = memory.last_transition().map_or(0, |last| last.id);
        let newest = around.observed.newest_transition(owner).filter(|newest| *newest > known);
        let is_news = newest > self.confirmed_for;
        if is_news {
            self.confirmed_for = newest;
        }
        is_news
    }

    /// Whether each backend has been observed at least once since this process began; from then on this stays so, lest a backend that
    /// is added to the list keep a dead one from being left.
    fn has_heard_of_every_backend(&mut self, subject: &Subject, route: &Route, around: &Surroundings<'_>) -> bool {
        let keys = route.backends.iter().map(|member| subject.key.sibling(member.name.clone()));
        let is_unheard = |backend: &BackendEntry| {
            backend.is_pending() || (backend.usable.is_some() && !backend.evidence.is_observed())
        };
        self.is_observed |= !keys.filter_map(|key| around.backends.get(&key)).any(is_unheard);
        self.is_observed
    }

    /// The writes to do now; or how far the outputs are without any, and when that ends by itself.
    fn actuate(&mut self, plan: Plan, now: Timestamp) -> Result<Vec<Write>, (Actuation, Option<Timestamp>)> {
        let Plan { writes, refusals, is_target_known } = plan;
        if writes.is_empty() {
            let refusal_ends = self.refused.values().map(|refusal| refusal.until).min();
            return Err(match (refusals.is_empty(), is_target_known) {
                (false, _) => (Actuation::Refused(refusals), refusal_ends),
                (true, true) => (Actuation::Complete, None),
                (true, false) => (Actuation::Waiting, None),
            });
        }
        if let Some(until) = self.output_backoff.until(now) {
            let error = self.output_backoff.error().unwrap_or_default().to_owned();
            return Err((Actuation::Failing(error), Some(until)));
        }
        let budget = self.budget.get_or_insert_with(|| WriteBudget::full(now));
        budget.take(now).map(|()| writes).map_err(|until| {
            (Actuation::Failing("somebody else keeps changing the outputs back".to_owned()), Some(until))
        })
    }

    /// What leads the outputs where a decision says.
    fn plan<'a>(
        &self,
        owner: &Owner,
        route: &Route,
        decision: &'a Decision,
        candidates: &'a [Candidate],
        around: &Surroundings<'a>,
    ) -> Plan {
        let memory = &decision.memory;
        let transition = memory.last_transition().map_or(0, |last| last.id);
        let usable = |name: &Arc<str>| {
            let entry = around.backends.get(&owner.key.sibling(name.clone()))?;
            Some((entry, entry.usable.as_deref()?))
        };
        let target = |share: &'a Share| {
            let (entry, backend) = usable(&share.backend)?;
            let addresses = entry.addresses(self.thresholds());
            Some(Target { percent: share.percent, transition, name: &share.backend, backend, addresses })
        };
        let mut targets: Vec<_> = memory.shares.iter().map(target).collect();
        // Without the one that leads, nothing is known of where to lead.
        let targets =
            if targets.first().is_some_and(Option::is_some) { targets.drain(..).flatten().collect() } else { vec![] };
        let briefed = |candidate: &'a Candidate| {
            let (_, backend) = usable(&candidate.name)?;
            Some(Briefed { name: &candidate.name, backend, is_standby: decision.is_standby(candidate) })
        };
        let default_policy = Policy::default();
        let briefing = Briefing {
            members: candidates.iter().filter_map(briefed).collect(),
            summary: memory.last_transition().map(Transition::summary).unwrap_or_default(),
            policy: self.policy.as_ref().unwrap_or(&default_policy),
            operators: around.operators,
        };
        let desired = desired(owner, route, &targets, &briefing);
        let is_target_known = !targets.is_empty() && (desired.endpoints_known || route.services.is_empty());
        let rivals: BTreeMap<_, _> =
            desired.claims.iter().filter_map(|key| (around.rival)(key).map(|rival| (key.clone(), rival))).collect();
        let standing = self.refused.iter().filter(|(_, refusal)| refusal.until > around.now);
        let refused: BTreeMap<_, _> = standing.map(|(key, refusal)| (key.clone(), refusal.rejection.clone())).collect();
        let mut refusals: Vec<_> = rivals.iter().map(|(key, rival)| claimed(route, key, rival)).collect();
        refusals.extend(
            desired.obstacles.iter().map(|Obstacle { reason, field, message }| Rejection::new(reason, field, message)),
        );
        refusals.extend(
            refused.iter().filter(|(key, _)| !rivals.contains_key(key)).map(|(_, rejection)| rejection.clone()),
        );
        let is_refused = |key: &OutputKey| rivals.contains_key(key) || refused.contains_key(key);
        Plan { writes: writes(owner, desired, around.observed, is_refused), refusals, is_target_known }
    }

    /// Its backends, most preferred first.
    fn candidates(&self, subject: &Subject, route: &Route, around: &Surroundings<'_>) -> Vec<Candidate> {
        let candidate = |member: &Member| {
            let entry = around.backends.get(&subject.key.sibling(member.name.clone()));
            let verdict = entry.and_then(|entry| entry.evidence.verdict(self.thresholds(), around.now));
            // A backend that was deleted may keep the mail it carries, and be left when it fails; it is never gone to.
            let is_gone = entry.is_none_or(|entry| entry.object.is_none()) && !self.carries(&member.name);
            let usable = entry.and_then(|entry| entry.usable.as_deref()).filter(|_| !is_gone);
            Candidate::new(member, usable, verdict.as_ref(), route, None, around.now)
        };
        let mut candidates: Vec<_> = route.backends.iter().map(candidate).collect();
        candidates.sort_by_key(|candidate| candidate.region_rank(&route.preferred_regions));
        candidates
    }

    /// What is wrong with what the spec refers to, or with the spec itself.
    fn problems(&self, subject: &Subject, around: &Surroundings<'_>) -> Vec<Rejection> {
        let names = self.usable.iter().flat_map(|route| route.backends.iter().map(|member| &member.name));
        let missing = names.filter(|name| {
            let entry = around.backends.get(&subject.key.sibling((*name).clone()));
            entry.is_none_or(|entry| entry.object.is_none())
        });
        let missing = missing.map(|name| {
            let message = format!(
                "SendingBackend {name} does not exist in namespace {}; create it or take it out of the list",
                subject.key.namespace
            );
            Rejection::new("BackendNotFound", "spec.backends[].name", &message)
        });
        self.rejection.iter().cloned().chain(self.policy_problem.clone()).chain(missing).collect()
    }

    /// Until when nothing is decided or said about a new route that refers to what is not there yet. A creation in the future is that of an API
    /// server with another clock, which says nothing.
    fn awaits_references_until(
        &self,
        route: &MailRoute,
        subject: &Subject,
        around: &Surroundings<'_>,
    ) -> Option<Timestamp> {
        let created = Timestamp::from_micros(route.metadata.creation_timestamp.as_ref()?.0.as_microsecond());
        let is_new = route.status.is_none() && created <= around.now && around.now < created + NEW;
        let leads_nowhere = |problem: &Rejection| ["PolicyNotFound", "BackendNotFound"].contains(&problem.reason);
        (is_new && self.problems(subject, around).iter().any(leads_nowhere)).then_some(created + NEW)
    }

    /// The write that makes the status say this, if it does not yet.
    fn report(
        &self,
        subject: &Subject,
        around: &Surroundings<'_>,
        decision: Option<&Decision>,
        actuation: &Actuation,
        candidates: &[Candidate],
    ) -> Next {
        let Some(object) = self.object.as_ref().and_then(Known::readable) else { return Next::default() };
        let before = object.status.clone().unwrap_or_default();
        let drafting = Drafting {
            subject,
            generation: object.metadata.generation.unwrap_or_default(),
            now: around.now,
            before: &before,
            published: &self.published,
            problems: self.problems(subject, around),
            thresholds: self.thresholds(),
            strategy: self.usable.as_ref().map(|route| route.strategy),
            recovery_time: self.policy.as_ref().and_then(|policy| policy.objectives.recovery_time),
            first_delivery: self.first_delivery,
            backends: around.backends,
        };
        let status = drafting.status(decision, actuation, candidates);
        let wake_at = decision.and_then(|decision| decision.wake_at);
        let Some(patch) = patch(&before, &status) else { return Next { step: None, wake_at } };
        let resource_version = object.metadata.resource_version.clone().unwrap_or_default();
        Next { step: Some((Step::WriteStatus { resource_version, patch }, Some(status))), wake_at }
    }
}

/// Whether all that outputs and later decisions follow from stands in status already. What people read may follow.
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

/// What leads outputs where they should.
struct Plan {
    writes: Vec<Write>,
    /// What stands in the way.
    refusals: Vec<Rejection>,
    /// Whether where they should lead is known.
    is_target_known: bool,
}

fn claimed(route: &Route, key: &OutputKey, rival: &ObjectKey) -> Rejection {
    let (kind, name) = (key.0.as_str(), &key.1.name);
    let message = format!("{kind} {name} belongs to MailRoute {}, which had it first; choose another name", rival.name);
    Rejection::new("OutputClaimed", output::field(route, key), &message)
}
