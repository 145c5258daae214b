//! One `MailRoute`: from the verdicts about its backends to a decision, from the decision to its outputs and its status.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::backend::BackendEntry;
use super::backoff::{Backoff, WriteBudget};
use super::events;
use super::known::{Known, unreadable_rejection};
use super::resolve::{self, Rejection};
use super::route_status::{Applied, Drafting, memory};
use super::status::patch;
use super::step::{Step, Subject, WriteOutcome};
use crate::api::{MailRoute, MailRouteStatus};
use crate::engine::{Candidate, Decision, Health, Standing, decide};
use crate::model::{EvidenceClass, ObjectKey, Policy, Route, Thresholds, Timestamp};
use crate::output::{Observed, OutputKey, OutputKind, Owner, Target, Write, desired, writes};

/// A refused output is tried again after so long: whoever is in the way may be gone, and not everything in the way is watched.
const REFUSAL_RETRY: Duration = Duration::from_secs(30);

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
    /// Whether every backend has been heard of at least once since this process began.
    is_observed: bool,
    refused: BTreeMap<OutputKey, Refusal>,
    published: BTreeSet<String>,
    budget: Option<WriteBudget>,
    output_backoff: Backoff,
    pub(super) backoff: Backoff,
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
        self.policy.map(|policy| policy.thresholds).unwrap_or_default()
    }

    /// Where its mail goes, as far as is persisted.
    pub(super) fn active(&self) -> Option<&str> {
        self.status()?.active.first().map(|active| active.backend.as_str())
    }

    /// Its status as it is known.
    pub(super) fn status(&self) -> Option<&MailRouteStatus> {
        self.object.as_ref()?.readable()?.status.as_ref()
    }

    /// Every object it wants to own.
    pub(super) fn claims(&self, key: &ObjectKey) -> Vec<OutputKey> {
        let Some(route) = &self.usable else { return vec![] };
        let of = |kind, name: &Arc<str>| (kind, key.sibling(name.clone()));
        let services = route.services.iter().map(|output| of(OutputKind::Service, &output.name));
        services.chain(route.config_maps.iter().map(|output| of(OutputKind::ConfigMap, &output.name))).collect()
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
    ) {
        for (key, outcome) in outcomes {
            match outcome {
                WriteOutcome::Observed(_) | WriteOutcome::Gone => {
                    self.refused.remove(key);
                }
                WriteOutcome::Refused { reason, message } => {
                    let rejection = Rejection { reason, message: message.clone() };
                    self.refused.insert(key.clone(), Refusal { rejection, until: now + REFUSAL_RETRY });
                }
            }
        }
        match error {
            Some(error) => self.output_backoff.fail(now, error),
            None => self.output_backoff.succeed(),
        }
    }

    /// These Events are published.
    pub(super) fn events_published(&mut self, names: impl IntoIterator<Item = String>) {
        self.published.extend(names);
    }

    /// A status was written: what is known is now this.
    pub(super) fn status_written(&mut self, resource_version: String, status: MailRouteStatus) {
        if let Some(Known::Readable(object)) = &mut self.object {
            object.metadata.resource_version = Some(resource_version);
            let still: BTreeSet<_> = status.pending_events.iter().map(|event| event.name.clone()).collect();
            self.published.retain(|name| still.contains(name));
            object.status = Some(status);
        }
    }

    /// The next missing step: confirm, decide, write the outputs, publish, write the rest of the status.
    pub(super) fn next(&mut self, subject: &Subject, around: &Surroundings<'_>) -> Next {
        let now = around.now;
        if !self.is_confirmed {
            return Next { step: Some((Step::Confirm, None)), wake_at: None };
        }
        let Some(object) = self.object.as_ref().and_then(Known::readable) else { return Next::default() };
        if !self.is_observed {
            let Some(route) = &self.usable else {
                return self.next_status(subject, around, None, Applied::Waiting, vec![]);
            };
            let keys = route.backends.iter().map(|name| subject.key.sibling(name.clone()));
            let unheard = keys
                .filter_map(|key| around.backends.get(&key))
                .any(|backend| backend.is_pending() || (backend.usable.is_some() && !backend.evidence.is_observed()));
            if unheard {
                return Next::default();
            }
            self.is_observed = true;
        }
        let Some(route) = self.usable.clone() else {
            return self.next_status(subject, around, None, Applied::Waiting, vec![]);
        };
        let before = object.status.clone().unwrap_or_default();
        let memory = memory(&before);
        let candidates = self.candidates(subject, &route, around);
        let decision = decide(now, self.policy.as_ref(), &candidates, &memory);
        let is_news = decision.memory.active != memory.active || !decision.announcements.is_empty();
        if is_news {
            if decision.transition.is_some() {
                self.budget = None;
            }
            return self.next_status(subject, around, Some(&decision), Applied::Waiting, candidates);
        }
        let owner = Owner { key: subject.key.clone(), uid: object.metadata.uid.clone().unwrap_or_default() };
        let is_being_deleted = object.metadata.deletion_timestamp.is_some();
        let (mut writes, refusals, is_known) = self.plan(&owner, &route, decision.memory.active.as_deref(), around);
        // The garbage collector takes away what a route under deletion owns: making it anew would be a race with it.
        writes.retain(|write| !is_being_deleted || !matches!(write, Write::Create(_)));
        let refusal_ends = self.refused.values().map(|refusal| refusal.until).min();
        let mut wake_at = [decision.wake_at, refusal_ends].into_iter().flatten().min();
        let mut applied = Applied::Waiting;
        if writes.is_empty() {
            if !refusals.is_empty() {
                applied = Applied::Refused(refusals);
            } else if is_known {
                applied = Applied::Applied;
            }
        } else if let Some(until) = self.output_backoff.until(now) {
            wake_at = Some(wake_at.map_or(until, |at| at.min(until)));
            applied = Applied::Failing(self.output_backoff.error().unwrap_or_default().to_owned());
        } else {
            match self.budget.get_or_insert_with(|| WriteBudget::full(now)).take(now) {
                Ok(()) => {
                    let step = Step::WriteOutputs { owner_uid: owner.uid, writes };
                    return Next { step: Some((step, None)), wake_at };
                }
                Err(until) => {
                    wake_at = Some(wake_at.map_or(until, |at| at.min(until)));
                    applied = Applied::Failing("somebody else keeps changing the outputs back".to_owned());
                }
            }
        }
        let outstanding: Vec<_> =
            before.pending_events.iter().filter(|event| !self.published.contains(&event.name)).collect();
        if !outstanding.is_empty() && !matches!(applied, Applied::Failing(_)) {
            let events = outstanding
                .into_iter()
                .map(|event| events::event(subject, &owner.uid, around.instance, event))
                .collect();
            return Next { step: Some((Step::PublishEvents(events), None)), wake_at };
        }
        let next = self.next_status(subject, around, Some(&decision), applied, candidates);
        Next { wake_at, ..next }
    }

    /// The writes that lead the outputs to `active`, what stands in their way, and whether where they should lead is known at all.
    fn plan(
        &self,
        owner: &Owner,
        route: &Route,
        active: Option<&str>,
        around: &Surroundings<'_>,
    ) -> (Vec<Write>, Vec<Rejection>, bool) {
        let entry = active.and_then(|name| around.backends.get(&owner.key.sibling(name)));
        let backend = entry.and_then(|entry| entry.usable.clone());
        let target = match (active, entry, &backend) {
            (Some(name), Some(entry), Some(backend)) => {
                Some(Target { name, backend, addresses: entry.addresses(self.thresholds()) })
            }
            (_, _, _) => None,
        };
        let desired = desired(owner, route, target.as_ref());
        let is_known = target.is_some() && (desired.endpoints_known || route.services.is_empty());
        let rivals: BTreeMap<_, _> =
            desired.claims.iter().filter_map(|key| (around.rival)(key).map(|rival| (key.clone(), rival))).collect();
        let standing = self.refused.iter().filter(|(_, refusal)| refusal.until > around.now);
        let refused: BTreeMap<_, _> = standing.map(|(key, refusal)| (key.clone(), refusal.rejection.clone())).collect();
        let mut refusals: Vec<_> = rivals.iter().map(|(key, rival)| claimed(key, rival)).collect();
        refusals.extend(
            refused.iter().filter(|(key, _)| !rivals.contains_key(key)).map(|(_, rejection)| rejection.clone()),
        );
        let is_refused = |key: &OutputKey| rivals.contains_key(key) || refused.contains_key(key);
        (writes(owner, desired, around.observed, is_refused), refusals, is_known)
    }

    fn candidates(&self, subject: &Subject, route: &Route, around: &Surroundings<'_>) -> Vec<Candidate> {
        let candidate = |name: &Arc<str>| {
            let entry = around.backends.get(&subject.key.sibling(name.clone()));
            let verdict = entry.and_then(|entry| entry.evidence.verdict(self.thresholds()));
            let usable = entry.and_then(|entry| entry.usable.as_deref());
            // A backend that was deleted may keep the mail it carries, and be left when it fails; it is never gone to.
            let is_gone = entry.is_none_or(|entry| entry.object.is_none()) && self.active() != Some(&**name);
            Candidate {
                name: name.clone(),
                standing: match usable {
                    Some(_) if is_gone => Standing::Unusable,
                    Some(backend) if backend.suspended => Standing::Suspended,
                    Some(_) => Standing::InService,
                    None => Standing::Unusable,
                },
                health: verdict.as_ref().map_or(Health::Unknown, |verdict| verdict.health),
                since: verdict.as_ref().map_or(around.now, |verdict| verdict.since),
                class: verdict.as_ref().map_or(EvidenceClass::Inconclusive, |verdict| verdict.class),
                first_failure_at: verdict.and_then(|verdict| verdict.first_failure_at),
            }
        };
        route.backends.iter().map(candidate).collect()
    }

    /// What is wrong with what the spec refers to, or with the spec itself.
    fn problems(&self, subject: &Subject, around: &Surroundings<'_>) -> Vec<Rejection> {
        let names = self.usable.iter().flat_map(|route| route.backends.iter());
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

    fn next_status(
        &self,
        subject: &Subject,
        around: &Surroundings<'_>,
        decision: Option<&Decision>,
        applied: Applied,
        candidates: Vec<Candidate>,
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
            backends: around.backends,
        };
        let status = drafting.status(decision, &applied, &candidates);
        let wake_at = decision.and_then(|decision| decision.wake_at);
        let Some(patch) = patch(&before, &status) else { return Next { step: None, wake_at } };
        let resource_version = object.metadata.resource_version.clone().unwrap_or_default();
        Next { step: Some((Step::WriteStatus { resource_version, patch }, Some(status))), wake_at }
    }
}

fn claimed(key: &OutputKey, rival: &ObjectKey) -> Rejection {
    let (field, kind) = match key.0 {
        OutputKind::Service | OutputKind::EndpointSlice => ("spec.outputs[].service.name", "Service"),
        OutputKind::ConfigMap => ("spec.outputs[].configMap.name", "ConfigMap"),
    };
    let message =
        format!("{kind} {} belongs to MailRoute {}, which had it first; choose another name", key.1.name, rival.name);
    Rejection::new("OutputClaimed", field, &message)
}
