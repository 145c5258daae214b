//! Everything the controller knows, and what follows from it. No I/O: time and inputs are arguments, steps are returned.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use k8s_openapi::api::core::v1::{ConfigMap, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::{Resource, ResourceExt};

use super::backend::{self, BackendEntry, ProbeChange};
use super::events::{self, Telling};
use super::facts::Facts;
use super::input::{Change, Input, Source, Unreadable};
use super::known::{Known, note, unreadable_rejection, unreadable_status};
use super::metrics::Metrics;
use super::policy::PolicyEntry;
use super::references::{Reference, References};
use super::resolve::{CaKey, Rejection, ca_key};
use super::route::{Next, RouteEntry, Surroundings};
use super::step::{Done, Step, StepError, StepResult, Subject, SubjectKind, Task, WriteOutcome};
use super::time::timestamp;
use crate::api::{
    FailoverPolicy, FailoverPolicyStatus, MailRoute, MailRouteStatus, SendingBackend, SendingBackendStatus,
};
use crate::model::{EvidenceClass, ObjectKey, Policy, ProbeReport, Thresholds, Timestamp};
use crate::output::{Observed, Output, OutputKey};

/// So many steps may be under way at once; a part of them is kept for routes, which must not wait behind ten thousand backends.
const MAX_STEPS: usize = 48;
const MAX_STEPS_OF_OTHERS: usize = 16;

/// What holds for the whole process.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How this replica is named in Events.
    pub instance: String,
    /// The cluster's DNS domain: `cluster.local`.
    pub cluster_domain: String,
}

/// What is to be done outside.
#[derive(Debug, Default)]
pub struct Effects {
    /// Steps to carry out, at most one per subject; each is answered with [`Input::Done`].
    pub steps: Vec<Task>,
    /// What to probe and what no more.
    pub probes: Vec<ProbeChange>,
    /// Which certificates to read and which no more.
    pub cas: Vec<CaChange>,
}

/// Which CA's certificates are needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CaChange {
    /// Read these and keep them fresh.
    Use(CaKey),
    /// Nobody needs these any more.
    Drop(CaKey),
}

/// What a step will have made of the status once it is done.
#[derive(Debug)]
enum Written {
    Policy(FailoverPolicyStatus),
    Backend(SendingBackendStatus),
    /// With what the status was when the step began: the echo of the write may be here before its answer.
    Route {
        before: Box<Option<MailRouteStatus>>,
        after: Box<MailRouteStatus>,
    },
}

/// A step under way.
#[derive(Debug)]
struct UnderWay {
    id: u64,
    written: Option<Written>,
    events: Vec<String>,
}

/// Everything the controller knows.
#[derive(Debug)]
pub struct World {
    settings: Settings,
    metrics: Metrics,
    synced: BTreeSet<Source>,
    is_leading: bool,
    backends: BTreeMap<ObjectKey, BackendEntry>,
    policies: BTreeMap<ObjectKey, PolicyEntry>,
    routes: BTreeMap<ObjectKey, RouteEntry>,
    routes_by_uid: BTreeMap<String, ObjectKey>,
    claims: BTreeMap<OutputKey, BTreeSet<ObjectKey>>,
    facts: Facts,
    references: References,
    observed: Observed,
    /// What has to be looked at again.
    dirty: BTreeSet<Subject>,
    /// When to look again without a reason.
    timers: BTreeSet<(Timestamp, Subject)>,
    timer_of: BTreeMap<Subject, Timestamp>,
    under_way: BTreeMap<Subject, UnderWay>,
    last_task: u64,
    /// Objects that cannot be read and about which people have been told: the object's version counts, not ours.
    told: BTreeMap<Subject, (String, i64, String)>,
    pending: Effects,
}

impl World {
    /// A world in which nothing is known.
    pub fn new(settings: Settings, metrics: Metrics) -> Self {
        Self {
            facts: Facts::new(&settings.cluster_domain),
            settings,
            metrics,
            synced: BTreeSet::new(),
            is_leading: false,
            backends: BTreeMap::new(),
            policies: BTreeMap::new(),
            routes: BTreeMap::new(),
            routes_by_uid: BTreeMap::new(),
            claims: BTreeMap::new(),
            references: References::default(),
            observed: Observed::default(),
            dirty: BTreeSet::new(),
            timers: BTreeSet::new(),
            timer_of: BTreeMap::new(),
            under_way: BTreeMap::new(),
            last_task: 0,
            told: BTreeMap::new(),
            pending: Effects::default(),
        }
    }

    /// Whether everything there is has been listed once.
    pub fn is_synced(&self) -> bool {
        self.synced.len() == Source::ALL.len()
    }

    /// When to call [`World::settle`] again although nothing happened.
    pub fn wake_at(&self) -> Option<Timestamp> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// Takes something that happened into account.
    pub fn take(&mut self, now: Timestamp, input: Input) {
        match input {
            Input::Backend(change) => self.take_backend(now, change),
            Input::Policy(change) => self.take_policy(now, change),
            Input::Route(change) => self.take_route(now, change),
            Input::Service(change) => self.take_service(now, change),
            Input::EndpointSlice(change) => self.take_slice(now, change),
            Input::ConfigMap(change) => self.take_config_map(change),
            Input::Synced(source) => self.take_synced(now, source),
            Input::Report(report) => self.take_report(&report),
            Input::Ca(key, answer) => {
                let reference = Reference::Ca(key.clone());
                if self.references.is_used(&reference) {
                    self.facts.note_ca(key, answer);
                    self.resolve_users(now, &reference);
                }
            }
            Input::Leading(is_leading) => self.take_leading(is_leading),
            Input::Done(done) => self.take_done(now, *done),
        }
    }

    /// What is to be done now.
    pub fn settle(&mut self, now: Timestamp) -> Effects {
        while let Some((at, subject)) = self.timers.first().cloned() {
            if at > now {
                break;
            }
            self.clear_timer(&subject);
            self.dirty.insert(subject);
        }
        if self.is_leading && self.is_synced() {
            // Routes first: a status of a backend can wait, mail cannot.
            for kind in [SubjectKind::Route, SubjectKind::Backend, SubjectKind::Policy] {
                self.settle_kind(now, kind);
            }
        }
        self.metrics.waiting_subjects.set(i64::try_from(self.dirty.len()).unwrap_or(i64::MAX));
        std::mem::take(&mut self.pending)
    }

    fn settle_kind(&mut self, now: Timestamp, kind: SubjectKind) {
        let limit = if kind == SubjectKind::Route { MAX_STEPS } else { MAX_STEPS_OF_OTHERS };
        let first = Subject { kind, key: ObjectKey::new("", "") };
        let mut from = Bound::Included(first);
        while let Some(subject) =
            self.dirty.range((from, Bound::Unbounded)).next().filter(|next| next.kind == kind).cloned()
        {
            if self.under_way.len() >= limit {
                self.metrics.step_limit_reached.inc();
                return;
            }
            // One that has a step under way is looked at again when that is done.
            if !self.under_way.contains_key(&subject) {
                self.dirty.remove(&subject);
                self.look_at(now, &subject);
            }
            from = Bound::Excluded(subject);
        }
    }

    fn look_at(&mut self, now: Timestamp, subject: &Subject) {
        if let Some(until) = self.backoff_of(subject).and_then(|backoff| backoff.until(now)) {
            self.set_timer(subject, until);
            return;
        }
        if let Some(unreadable) = self.unreadable(subject) {
            if let Some(step) = self.tell_unreadable(now, subject, &unreadable) {
                self.begin(subject, step, None);
            }
            return;
        }
        match subject.kind {
            SubjectKind::Policy => {
                let Some(entry) = self.policies.get(&subject.key) else { return };
                let users = self.references.users(&Reference::Policy(subject.key.clone()));
                if let Some((step, status)) = entry.next_step(users, now) {
                    self.begin(subject, step, status.map(Written::Policy));
                }
            }
            SubjectKind::Backend => {
                let Some(entry) = self.backends.get(&subject.key) else { return };
                if let Some((step, status)) = entry.next_step(subject, &self.settings.instance, now) {
                    self.begin(subject, step, status.map(Written::Backend));
                }
            }
            SubjectKind::Route => {
                // Taken out while it is looked at, so that it may change while the rest of the world is read.
                let Some(mut entry) = self.routes.remove(&subject.key) else { return };
                let age = entry_age(&entry);
                let before = entry.status().cloned();
                let Next { step, wake_at } = entry.next(
                    subject,
                    &Surroundings {
                        now,
                        instance: &self.settings.instance,
                        backends: &self.backends,
                        observed: &self.observed,
                        rival: &|key| self.rival(&subject.key, &age, key),
                    },
                );
                self.routes.insert(subject.key.clone(), entry);
                if let Some(at) = wake_at {
                    self.set_timer(subject, at);
                }
                if let Some((step, status)) = step {
                    let written =
                        status.map(|after| Written::Route { before: Box::new(before), after: Box::new(after) });
                    self.begin(subject, step, written);
                }
            }
        }
    }

    fn begin(&mut self, subject: &Subject, step: Step, written: Option<Written>) {
        let events = match &step {
            Step::PublishEvents(events) => events.iter().filter_map(|event| event.metadata.name.clone()).collect(),
            Step::Confirm | Step::WriteStatus { .. } | Step::WriteOutputs { .. } => vec![],
        };
        self.last_task += 1;
        self.under_way.insert(subject.clone(), UnderWay { id: self.last_task, written, events });
        self.pending.steps.push(Task { id: self.last_task, subject: subject.clone(), step });
    }

    /// The other route that has the better claim to an output: the one that owns it; where nobody does, the oldest.
    fn rival(&self, route: &ObjectKey, age: &Age, key: &OutputKey) -> Option<ObjectKey> {
        let claimants = self.claims.get(key)?;
        let owner = self.observed.get(key).and_then(|object| crate::output::route_uid(object.metadata()));
        let owner = owner.and_then(|uid| self.routes_by_uid.get(uid));
        if let Some(owner) = owner.filter(|owner| claimants.contains(*owner) || *owner == route) {
            return (owner != route).then(|| owner.clone());
        }
        let others = claimants.iter().filter(|other| *other != route);
        let aged = others.filter_map(|other| Some((entry_age(self.routes.get(other)?), other)));
        aged.filter(|(other, _)| other < age).min().map(|(_, other)| other.clone())
    }

    // --- custom resources ---

    fn take_backend(&mut self, now: Timestamp, change: Change<SendingBackend>) {
        let Some((key, known)) = identified(change) else { return };
        let Some(known) = known else { return self.backend_deleted(&key) };
        let entry = self.backends.entry(key.clone()).or_default();
        if note(&mut entry.object, known) && self.is_synced() {
            self.refresh_backend(now, &key);
        }
    }

    fn backend_deleted(&mut self, key: &ObjectKey) {
        if let Some(entry) = self.backends.get_mut(key) {
            entry.object = None;
        }
        self.set_references(&subject(SubjectKind::Backend, key), BTreeSet::new());
        self.touch_users(&Reference::Backend(key.clone()));
        self.told.remove(&subject(SubjectKind::Backend, key));
        self.drop_unneeded_backend(key);
    }

    /// A deleted backend is forgotten unless a route's mail goes there.
    fn drop_unneeded_backend(&mut self, key: &ObjectKey) {
        if self.backends.get(key).is_none_or(|entry| entry.object.is_some()) {
            return;
        }
        let mut users = self.references.users(&Reference::Backend(key.clone()));
        let carries_mail =
            users.any(|user| self.routes.get(&user.key).is_some_and(|route| route.active() == Some(&*key.name)));
        if !carries_mail && let Some(entry) = self.backends.remove(key) {
            self.pending.probes.extend(entry.all_probes_gone(key));
        }
    }

    /// Works out again what a backend means: its spec or something it refers to changed.
    fn refresh_backend(&mut self, now: Timestamp, key: &ObjectKey) {
        let subject = subject(SubjectKind::Backend, key);
        let spec = self.backends.get(key).and_then(|entry| Some(entry.object.as_ref()?.readable()?.spec.clone()));
        if let Some(spec) = spec {
            let ca = ca_key(key, &spec).map(Reference::Ca);
            let service = spec.service.as_ref().map(|service| Reference::Service(key.sibling(service.name.as_str())));
            self.set_references(&subject, ca.into_iter().chain(service).collect());
        }
        if let Some(entry) = self.backends.get_mut(key) {
            entry.resolve(key, &self.facts, now);
        }
        self.track(now, key);
        if let Some(entry) = self.backends.get_mut(key) {
            self.pending.probes.extend(entry.probe_changes(key));
        }
        self.touch_users(&Reference::Backend(key.clone()));
        self.dirty.insert(subject);
    }

    /// Judges a backend by the thresholds of the routes that use it; by the defaults when none does.
    fn track(&mut self, now: Timestamp, key: &ObjectKey) {
        let users = self.references.users(&Reference::Backend(key.clone()));
        let mut thresholds: BTreeSet<_> =
            users.filter_map(|user| self.routes.get(&user.key)).map(RouteEntry::thresholds).collect();
        if thresholds.is_empty() {
            thresholds.insert(Thresholds::default());
        }
        let Some(entry) = self.backends.get_mut(key) else { return };
        if entry.track(&thresholds, now) {
            self.dirty.insert(subject(SubjectKind::Backend, key));
        }
    }

    fn take_policy(&mut self, now: Timestamp, change: Change<FailoverPolicy>) {
        let Some((key, known)) = identified(change) else { return };
        let subject = subject(SubjectKind::Policy, &key);
        match known {
            None => {
                self.policies.remove(&key);
                self.told.remove(&subject);
            }
            Some(known) => {
                let entry = self.policies.entry(key.clone()).or_default();
                if !note(&mut entry.object, known) {
                    return;
                }
            }
        }
        if self.is_synced() {
            self.dirty.insert(subject);
            for user in self.users(&Reference::Policy(key)) {
                self.refresh_policy_of(now, &user.key);
            }
        }
    }

    fn take_route(&mut self, now: Timestamp, change: Change<MailRoute>) {
        let Some((key, known)) = identified(change) else { return };
        let Some(known) = known else { return self.route_deleted(now, &key) };
        let uid = known.uid().to_owned();
        if self.routes.get(&key).and_then(|entry| entry.object.as_ref()).is_some_and(|known| known.uid() != uid) {
            // Deleted and made anew between two looks: another route of the same name.
            self.route_deleted(now, &key);
        }
        let entry = self.routes.entry(key.clone()).or_default();
        let left = entry.active().map(str::to_owned);
        if !note(&mut entry.object, known) {
            return;
        }
        self.routes_by_uid.insert(uid, key.clone());
        // Whoever decided it, this replica or the leader.
        if let Some(left) = left {
            self.drop_unneeded_backend(&key.sibling(left));
        }
        if self.is_synced() {
            self.refresh_route(now, &key);
        }
    }

    fn route_deleted(&mut self, now: Timestamp, key: &ObjectKey) {
        let subject = subject(SubjectKind::Route, key);
        if let Some(entry) = self.routes.remove(key) {
            self.set_claims(key, &entry.claims(key), &[]);
            if let Some(known) = &entry.object {
                self.routes_by_uid.remove(known.uid());
            }
        }
        self.clear_timer(&subject);
        self.told.remove(&subject);
        self.metrics.forget_route(key);
        for reference in self.set_references(&subject, BTreeSet::new()) {
            self.route_reference_changed(now, &reference);
        }
    }

    /// Works out again what a route means.
    fn refresh_route(&mut self, now: Timestamp, key: &ObjectKey) {
        let subject = subject(SubjectKind::Route, key);
        let Some(entry) = self.routes.get_mut(key) else { return };
        let claimed_before = entry.claims(key);
        entry.resolve();
        let claims = entry.claims(key);
        // An unreadable route keeps its last good version, and with it what that refers to.
        let references = entry.usable.as_ref().map(|route| {
            let backends = route.backends.iter().map(|name| Reference::Backend(key.sibling(name.clone())));
            let policy = entry.policy_name().map(|name| Reference::Policy(key.sibling(name)));
            backends.chain(policy).collect::<BTreeSet<_>>()
        });
        self.set_claims(key, &claimed_before, &claims);
        let changed = references.map(|references| self.set_references(&subject, references)).unwrap_or_default();
        self.refresh_policy_of(now, key);
        for reference in changed {
            self.route_reference_changed(now, &reference);
        }
        self.dirty.insert(subject);
    }

    /// A route began or ceased to refer to something.
    fn route_reference_changed(&mut self, now: Timestamp, reference: &Reference) {
        match reference {
            Reference::Backend(key) => {
                self.track(now, key);
                self.drop_unneeded_backend(key);
            }
            Reference::Policy(key) => {
                self.dirty.insert(subject(SubjectKind::Policy, key));
            }
            Reference::Service(_) | Reference::Ca(_) => {}
        }
    }

    fn refresh_policy_of(&mut self, now: Timestamp, route: &ObjectKey) {
        let Some(entry) = self.routes.get(route) else { return };
        let before = entry.thresholds();
        let policy = match entry.policy_name() {
            None => Ok(Policy::default()),
            Some(name) => self.policy(&route.sibling(name)),
        };
        let Some(entry) = self.routes.get_mut(route) else { return };
        entry.adopt_policy(policy);
        let names = entry.usable.as_ref().map(|usable| usable.backends.clone()).unwrap_or_default();
        if entry.thresholds() != before {
            for name in names {
                self.track(now, &route.sibling(name));
            }
        }
        self.dirty.insert(subject(SubjectKind::Route, route));
    }

    fn policy(&self, key: &ObjectKey) -> Result<Policy, Rejection> {
        let field = "spec.policyRef.name";
        let kept = "until then the last good policy stays in force";
        let Some(entry) = self.policies.get(key).filter(|entry| entry.object.is_some()) else {
            let message = format!(
                "FailoverPolicy {} does not exist in namespace {}; create it or take the reference away; {kept}",
                key.name, key.namespace
            );
            return Err(Rejection::new("PolicyNotFound", field, &message));
        };
        let rejected = || format!("FailoverPolicy {} cannot be read; see its conditions; {kept}", key.name);
        entry.policy().ok_or_else(|| Rejection::new("PolicyRejected", field, &rejected()))
    }

    // --- what they refer to, and what they own ---

    fn take_service(&mut self, now: Timestamp, change: Change<Service>) {
        let key = match change {
            Change::Applied(service) => {
                let Some(key) = object_key(&*service) else { return };
                let changed = self.facts.note_service(&key, &service);
                self.note_output(Output::Service(service));
                if !changed {
                    return;
                }
                key
            }
            Change::Deleted(key) => {
                self.facts.forget_service(&key);
                self.forget_output(&(crate::output::OutputKind::Service, key.clone()));
                key
            }
            Change::Unreadable(unreadable) => return self.metrics.unreadable(Source::Services, &unreadable),
        };
        self.resolve_users(now, &Reference::Service(key));
    }

    fn take_slice(&mut self, now: Timestamp, change: Change<EndpointSlice>) {
        let service = match change {
            Change::Applied(slice) => {
                let Some(key) = object_key(&*slice) else { return };
                let service = self.facts.note_slice(&key, &slice);
                self.note_output(Output::EndpointSlice(slice));
                service
            }
            Change::Deleted(key) => {
                self.forget_output(&(crate::output::OutputKind::EndpointSlice, key.clone()));
                self.facts.forget_slice(&key)
            }
            Change::Unreadable(unreadable) => return self.metrics.unreadable(Source::EndpointSlices, &unreadable),
        };
        if let Some(service) = service {
            self.resolve_users(now, &Reference::Service(service));
        }
    }

    fn take_config_map(&mut self, change: Change<ConfigMap>) {
        match change {
            Change::Applied(config_map) => self.note_output(Output::ConfigMap(config_map)),
            Change::Deleted(key) => self.forget_output(&(crate::output::OutputKind::ConfigMap, key)),
            Change::Unreadable(unreadable) => self.metrics.unreadable(Source::ConfigMaps, &unreadable),
        }
    }

    fn note_output(&mut self, object: Output) {
        let key = object.key();
        let owner = self.observed.note(object);
        self.touch_owner_and_claimants(owner, &key);
    }

    fn forget_output(&mut self, key: &OutputKey) {
        let owner = self.observed.forget(key);
        self.touch_owner_and_claimants(owner, key);
    }

    fn touch_owner_and_claimants(&mut self, owner: Option<String>, key: &OutputKey) {
        let owner = owner.and_then(|uid| self.routes_by_uid.get(&uid)).cloned();
        let claimants = self.claims.get(key).into_iter().flatten().cloned();
        for route in claimants.chain(owner).collect::<Vec<_>>() {
            if let Some(entry) = self.routes.get_mut(&route) {
                entry.forget_refusal(key);
            }
            self.dirty.insert(subject(SubjectKind::Route, &route));
        }
    }

    fn set_claims(&mut self, route: &ObjectKey, before: &[OutputKey], after: &[OutputKey]) {
        for key in before.iter().filter(|key| !after.contains(key)) {
            if let Some(claimants) = self.claims.get_mut(key) {
                claimants.remove(route);
                let rivals: Vec<_> = claimants.iter().map(|rival| subject(SubjectKind::Route, rival)).collect();
                if rivals.is_empty() {
                    self.claims.remove(key);
                }
                self.dirty.extend(rivals);
            }
        }
        for key in after {
            self.claims.entry(key.clone()).or_default().insert(route.clone());
        }
    }

    // --- everything else ---

    fn take_synced(&mut self, now: Timestamp, source: Source) {
        let was_synced = self.is_synced();
        self.synced.insert(source);
        if was_synced || !self.is_synced() {
            return;
        }
        for key in self.routes.keys().cloned().collect::<Vec<_>>() {
            self.refresh_route(now, &key);
        }
        for key in self.backends.keys().cloned().collect::<Vec<_>>() {
            self.refresh_backend(now, &key);
            self.restore_verdict(&key);
        }
        self.dirty.extend(self.policies.keys().map(|key| subject(SubjectKind::Policy, key)));
    }

    /// Before anything is observed, verdicts are what the last leader wrote down: a soak goes on where it was.
    fn restore_verdict(&mut self, key: &ObjectKey) {
        let users = self.references.users(&Reference::Backend(key.clone()));
        let mut verdicts = vec![];
        for entry in users.filter_map(|user| self.routes.get(&user.key)) {
            let status = entry.object.as_ref().and_then(Known::readable).and_then(|route| route.status.as_ref());
            let backend = status.and_then(|status| status.backends.iter().find(|backend| *backend.name == *key.name));
            if let Some((backend, since)) = backend.and_then(|backend| Some((backend, backend.since.as_ref()?))) {
                let health = backend::engine_health(backend.health);
                verdicts.push((
                    entry.thresholds(),
                    health,
                    timestamp(since),
                    EvidenceClass::from_name(&backend.reason),
                ));
            }
        }
        let Some(entry) = self.backends.get_mut(key) else { return };
        let status = entry.object.as_ref().and_then(Known::readable).and_then(|object| object.status.clone());
        let own = status.as_ref().and_then(backend::persisted_verdict);
        if verdicts.is_empty()
            && let Some((health, since, class)) = own
        {
            verdicts.push((Thresholds::default(), health, since, Some(class)));
        }
        for (thresholds, health, since, class) in verdicts {
            let class = class.or(own.map(|(_, _, class)| class)).unwrap_or(EvidenceClass::Inconclusive);
            let message = backend::persisted_message(status.as_ref(), class.as_str());
            entry.evidence.restore(thresholds, health, since, class, &message);
        }
    }

    fn take_report(&mut self, report: &ProbeReport) {
        let key = &report.key.backend;
        let Some(entry) = self.backends.get_mut(key) else { return };
        if entry.observe(report) {
            self.touch_users(&Reference::Backend(key.clone()));
            self.dirty.insert(subject(SubjectKind::Backend, key));
        }
    }

    fn take_leading(&mut self, is_leading: bool) {
        self.is_leading = is_leading;
        // What an earlier term has begun is worked out again; its answers, should they still come, are no harm.
        self.under_way.clear();
        for entry in self.routes.values_mut() {
            entry.is_confirmed = false;
        }
        self.dirty.extend(self.routes.keys().map(|key| subject(SubjectKind::Route, key)));
        self.dirty.extend(self.backends.keys().map(|key| subject(SubjectKind::Backend, key)));
        self.dirty.extend(self.policies.keys().map(|key| subject(SubjectKind::Policy, key)));
    }

    fn take_done(&mut self, now: Timestamp, done: Done) {
        let Done { id, subject, result } = done;
        if self.under_way.get(&subject).is_none_or(|under_way| under_way.id != id) {
            return;
        }
        let Some(UnderWay { id: _, written, events }) = self.under_way.remove(&subject) else { return };
        if result.is_err() {
            self.told.remove(&subject);
        }
        let error = match result {
            Ok(StepResult::Fresh(input)) => {
                self.take_fresh(now, &subject, *input);
                None
            }
            Ok(StepResult::StatusWritten { resource_version }) => {
                self.status_written(&subject, resource_version, written);
                None
            }
            Ok(StepResult::OutputsWritten { outcomes, error }) => {
                self.outputs_written(now, &subject, &outcomes, error.as_ref());
                None
            }
            Ok(StepResult::EventsPublished) => {
                match subject.kind {
                    SubjectKind::Policy => {}
                    SubjectKind::Backend => {
                        if let Some(entry) = self.backends.get_mut(&subject.key) {
                            entry.events_published(events);
                        }
                    }
                    SubjectKind::Route => {
                        if let Some(entry) = self.routes.get_mut(&subject.key) {
                            entry.events_published(events);
                        }
                    }
                }
                None
            }
            Err(error) => Some(error),
        };
        if let Some(backoff) = self.backoff_mut(&subject) {
            match error {
                None => backoff.succeed(),
                // The watch will say so too; until then there is nothing to be done about it.
                Some(StepError::Gone | StepError::ClaimLost | StepError::Api(_)) => {
                    backoff.fail(now, error.map(|error| error.to_string()).unwrap_or_default());
                }
            }
        }
        self.dirty.insert(subject);
    }

    fn take_fresh(&mut self, now: Timestamp, subject: &Subject, input: Input) {
        self.take(now, input);
        self.told.remove(subject);
        if let Some(entry) = self.routes.get_mut(&subject.key).filter(|_| subject.kind == SubjectKind::Route) {
            entry.is_confirmed = true;
        }
    }

    fn status_written(&mut self, subject: &Subject, resource_version: String, written: Option<Written>) {
        match written {
            Some(Written::Policy(status)) => {
                if let Some(entry) = self.policies.get_mut(&subject.key) {
                    entry.status_written(resource_version, status);
                }
            }
            Some(Written::Backend(status)) => {
                if let Some(entry) = self.backends.get_mut(&subject.key) {
                    entry.status_written(resource_version, status);
                }
            }
            Some(Written::Route { before, after }) => {
                if let Some(entry) = self.routes.get_mut(&subject.key) {
                    self.metrics.route_written(&subject.key, before.as_ref().as_ref(), &after);
                    let left = entry.active().map(str::to_owned);
                    entry.status_written(resource_version, *after);
                    if let Some(left) = left {
                        self.drop_unneeded_backend(&subject.key.sibling(left));
                    }
                }
            }
            // An object that cannot be read: its status is not ours to know.
            None => {}
        }
    }

    fn outputs_written(
        &mut self,
        now: Timestamp,
        subject: &Subject,
        outcomes: &[(OutputKey, WriteOutcome)],
        error: Option<&StepError>,
    ) {
        for (key, outcome) in outcomes {
            match outcome {
                WriteOutcome::Observed(output) => self.note_output(output.clone()),
                WriteOutcome::Gone => self.forget_output(key),
                WriteOutcome::Refused { .. } => {}
            }
        }
        if let Some(entry) = self.routes.get_mut(&subject.key) {
            entry.outputs_written(outcomes, error.map(ToString::to_string), now);
        }
    }

    fn unreadable(&self, subject: &Subject) -> Option<Unreadable> {
        fn of<K: Resource>(known: Option<&Known<K>>) -> Option<Unreadable> {
            match known {
                Some(Known::Unreadable(unreadable)) => Some(unreadable.clone()),
                Some(Known::Readable(_)) | None => None,
            }
        }
        match subject.kind {
            SubjectKind::Policy => of(self.policies.get(&subject.key)?.object.as_ref()),
            SubjectKind::Backend => of(self.backends.get(&subject.key)?.object.as_ref()),
            SubjectKind::Route => of(self.routes.get(&subject.key)?.object.as_ref()),
        }
    }

    /// Writes the reason into the status, then publishes an Event about it; each once for every generation of the object.
    fn tell_unreadable(&mut self, now: Timestamp, subject: &Subject, unreadable: &Unreadable) -> Option<Step> {
        let what = |stage: &str| (unreadable.uid.clone(), unreadable.generation, stage.to_owned());
        match self.told.get(subject) {
            Some(told) if *told == what("published") => None,
            Some(told) if *told == what("written") => {
                self.told.insert(subject.clone(), what("published"));
                let rejection = unreadable_rejection(unreadable);
                let mut event = events::pending(subject, Telling::ConfigurationRejected, now, None, &rejection.message);
                event.name = format!("{}.{}.{}.unreadable", subject.key.name, unreadable.uid, unreadable.generation);
                Some(Step::PublishEvents(vec![events::event(
                    subject,
                    &unreadable.uid,
                    &self.settings.instance,
                    &event,
                )]))
            }
            Some(_) | None => {
                self.told.insert(subject.clone(), what("written"));
                Some(unreadable_status(unreadable, now))
            }
        }
    }

    // --- bookkeeping ---

    /// Replaces what a subject refers to; certificates that are needed now or no more are asked for.
    fn set_references(&mut self, subject: &Subject, references: BTreeSet<Reference>) -> Vec<Reference> {
        let changed = self.references.set(subject, references);
        for reference in &changed {
            if let Reference::Ca(key) = reference {
                if self.references.is_used(reference) {
                    self.pending.cas.push(CaChange::Use(key.clone()));
                } else {
                    self.facts.forget_ca(key);
                    self.pending.cas.push(CaChange::Drop(key.clone()));
                }
            }
        }
        changed
    }

    fn users(&self, reference: &Reference) -> Vec<Subject> {
        self.references.users(reference).cloned().collect()
    }

    fn touch_users(&mut self, reference: &Reference) {
        let users = self.users(reference);
        self.dirty.extend(users);
    }

    fn resolve_users(&mut self, now: Timestamp, reference: &Reference) {
        if self.is_synced() {
            for user in self.users(reference) {
                self.refresh_backend(now, &user.key);
            }
        }
    }

    fn set_timer(&mut self, subject: &Subject, at: Timestamp) {
        if self.timer_of.get(subject).is_some_and(|known| *known <= at) {
            return;
        }
        self.clear_timer(subject);
        self.timers.insert((at, subject.clone()));
        self.timer_of.insert(subject.clone(), at);
    }

    fn clear_timer(&mut self, subject: &Subject) {
        if let Some(at) = self.timer_of.remove(subject) {
            self.timers.remove(&(at, subject.clone()));
        }
    }

    fn backoff_of(&self, subject: &Subject) -> Option<&super::backoff::Backoff> {
        match subject.kind {
            SubjectKind::Policy => self.policies.get(&subject.key).map(|entry| &entry.backoff),
            SubjectKind::Backend => self.backends.get(&subject.key).map(|entry| &entry.backoff),
            SubjectKind::Route => self.routes.get(&subject.key).map(|entry| &entry.backoff),
        }
    }

    fn backoff_mut(&mut self, subject: &Subject) -> Option<&mut super::backoff::Backoff> {
        match subject.kind {
            SubjectKind::Policy => self.policies.get_mut(&subject.key).map(|entry| &mut entry.backoff),
            SubjectKind::Backend => self.backends.get_mut(&subject.key).map(|entry| &mut entry.backoff),
            SubjectKind::Route => self.routes.get_mut(&subject.key).map(|entry| &mut entry.backoff),
        }
    }
}

/// Who came first: creation time in seconds, then uid.
type Age = (Option<i64>, String);

fn entry_age(entry: &RouteEntry) -> Age {
    let Some(known) = &entry.object else { return (None, String::new()) };
    let created = known.readable().and_then(|route| route.metadata.creation_timestamp.as_ref());
    (created.map(|created| created.0.as_second()), known.uid().to_owned())
}

fn subject(kind: SubjectKind, key: &ObjectKey) -> Subject {
    Subject { kind, key: key.clone() }
}

fn object_key<K: Resource>(object: &K) -> Option<ObjectKey> {
    Some(ObjectKey::new(object.namespace()?, object.name_any()))
}

/// The key of what changed, and what it is now; `None` when it is gone.
fn identified<K: Resource>(change: Change<K>) -> Option<(ObjectKey, Option<Known<K>>)> {
    match change {
        Change::Applied(object) => Some((object_key(&*object)?, Some(Known::Readable(object)))),
        Change::Unreadable(unreadable) => Some((unreadable.key.clone(), Some(Known::Unreadable(unreadable)))),
        Change::Deleted(key) => Some((key, None)),
    }
}
